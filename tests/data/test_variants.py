"""Whose voices are heard behind a clip, and what decides a variant."""

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sounds

from metavox.config import WaveConfig
from metavox.contracts import InputError, Utterance
from metavox.data.noise import Noise
from metavox.data.variants import Variants, Varying, require_fit

HZ = 16_000
NAMES = ("anna", "bela", None)
WORDS = ("tula", "rime", None)
CLIPS = [
    Utterance(f"{word}-{name}-{take}", Path(f"{word}-{name}-{take}.wav"), 1.0, label=word, speaker=name)
    for word, name, take in product(WORDS, NAMES, range(2))
]


def clip(position: int) -> np.ndarray:
    utterance = CLIPS[position]
    return sounds.say(utterance.label or "hale", utterance.speaker or "carl", position)


def varying(**changes: Any) -> Varying:
    return replace(Varying(Variants(1), CLIPS, clip, HZ, None), **changes)


def test_nobody_speaks_behind_the_same_word_or_the_same_voice() -> None:
    """Written out clip by clip: another speaker where both are named, another word wherever both are known."""
    found = varying()
    everyone = np.arange(len(CLIPS))
    for position, ours in enumerate(CLIPS):
        behind = found.may_be_behind(position, everyone)
        assert not behind[position]
        for other, theirs in enumerate(CLIPS):
            if ours.speaker and theirs.speaker:
                expected = ours.speaker != theirs.speaker and (ours.label != theirs.label or ours.label is None)
            else:
                expected = None not in (ours.label, theirs.label) and ours.label != theirs.label
            assert behind[other] == expected, (ours.id, theirs.id)


def test_the_word_of_a_text_counts_where_there_is_no_label() -> None:
    texts = [replace(u, label=None, text=(u.label or "").upper(), speaker=None) for u in CLIPS]
    behind = varying(utterances=texts).may_be_behind(0, np.arange(len(CLIPS)))
    assert [CLIPS[i].label for i in np.flatnonzero(behind)] == ["rime"] * 6


def test_talkers_are_clips_that_may_be_heard() -> None:
    found = varying()
    clips = found.talkers(0, np.random.default_rng(0))
    allowed = {clip(int(i)).tobytes() for i in np.flatnonzero(found.may_be_behind(0, np.arange(len(CLIPS))))}
    assert 1 < len(clips) <= 8
    assert {wave.tobytes() for wave in clips} <= allowed
    alone = [replace(u, speaker="anna") for u in CLIPS]
    assert varying(utterances=alone).talkers(0, np.random.default_rng(0)) == []


def test_a_variant_is_decided_by_content_seed_and_number() -> None:
    wave = WaveConfig(babble_share=0.0, noise_share=1.0)
    one = varying(asked=Variants(1, wave))
    np.testing.assert_array_equal(one(3, 1), one(3, 1))
    others = [one(3, 2), one(4, 1), varying(asked=Variants(1, wave, seed=1))(3, 1)]
    assert not any(np.array_equal(one(3, 1), other) for other in others)
    turned = varying(asked=Variants(1, wave), utterances=CLIPS[::-1], clip=lambda i: clip(len(CLIPS) - 1 - i))
    np.testing.assert_array_equal(turned(len(CLIPS) - 1 - 3, 1), one(3, 1))


def test_the_key_knows_everything_but_the_number_of_variants() -> None:
    noise = Noise((Path("a.wav"),), np.zeros(4, np.int16), np.array([[0, 4]]), "abc")
    same = [varying(), varying(asked=Variants(7)), varying(asked=Variants(1, noise=(Path("x"),)))]
    assert len({found.key() for found in same}) == 1
    others = [
        varying(asked=Variants(1, seed=2)),
        varying(asked=Variants(1, WaveConfig(speed=0.2))),
        varying(noise=noise),
        varying(noise=replace(noise, key="abd")),
        varying(utterances=[replace(u, speaker="anna") for u in CLIPS]),  # other people behind the same clips
        varying(utterances=[replace(u, label="tula") for u in CLIPS]),
    ]
    assert len({found.key() for found in [*same, *others]}) == 1 + len(others)


def test_what_cannot_go_well_is_told_before() -> None:
    lengths = np.array([8000, 30_000, *[16_000] * (len(CLIPS) - 2)])
    noise = Noise((Path("a.wav"),), np.zeros(4, np.int16), np.array([[0, 32_000]]), "abc")
    require_fit(Variants(1, WaveConfig(speed=0.05)), noise, CLIPS, lengths, HZ)
    with pytest.raises(InputError, match=r"a\.wav, lasts 2\.00 s, and tula-anna-1\.wav 1\.88 s, 2\.08 s at the"):
        require_fit(Variants(1, WaveConfig(speed=0.1)), noise, CLIPS, lengths, HZ)
    require_fit(Variants(1, WaveConfig(recorded_share=0.0)), noise, CLIPS, lengths * 2, HZ)
    with pytest.raises(InputError, match=r"shift_s of 0\.5 s would empty tula-anna-0\.wav, which lasts 0\.50 s"):
        require_fit(Variants(1, WaveConfig(shift_s=0.5)), None, CLIPS, lengths, HZ)
    with pytest.raises(InputError, match="Codec opus cannot be used at 11025 Hz"):
        require_fit(Variants(1), None, CLIPS, lengths, 11_025)
    require_fit(Variants(1, WaveConfig(codec_share=0.0)), None, CLIPS, lengths, 11_025)
