"""Negatives: cut and embedded as on a device, never of an enrolled word, never on both sides."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sets_of_numbers as numbers
import sounds
import torch
from sets_of_numbers import negatives, recording

from metavox.checkpoint import load_model
from metavox.contracts import Batch, InputError, Utterance
from metavox.data.fragments import fragments
from metavox.evaluation import negatives as evaluation_negatives
from metavox.evaluation.negatives import (
    DEVELOPMENT,
    TEST,
    Spoken,
    draw_sides,
    embedded,
    joined,
    open_source,
    split_by,
    split_recordings,
)
from metavox.features import prepare
from metavox.runtime.negatives import Negatives as Bundled

ALL = np.ones(60, bool)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Recordings without a manifest: two of several words with pauses, one word, and one of silence."""
    quiet = np.zeros(8_000, np.float32)
    for i in range(2):
        parts = [part for word in sounds.WORDS[3 * i : 3 * i + 3] for part in (sounds.say(word), quiet)]
        sounds.write(tmp_path / "talk" / f"long{i}.wav", np.concatenate(parts))
    sounds.write(tmp_path / "talk" / "word.wav", sounds.say("tula"))
    sounds.write(tmp_path / "talk" / "deep" / "silence.wav", np.zeros(16_000, np.float32))
    return tmp_path / "talk"


def test_pieces_are_cut_and_embedded_as_a_device_would(folder: Path) -> None:
    model = load_model("dtw")
    front_end = model.config.front_end
    seen: list[tuple[int, int]] = []
    source = open_source(folder, "talk")
    found = embedded(model.learner, [source], front_end, lambda done, total: seen.append((done, total)))
    assert seen == [(i, 4) for i in range(1, 5)]
    assert {utterance.corpus for utterance in found.utterances} == {"talk"}
    waves = {u.id: sounds.soundfile.read(u.path, dtype="float32")[0] for u in found.utterances}
    np.testing.assert_allclose(found.durations_s, [len(waves[u.id]) / 16_000 for u in found.utterances])
    piece = 0
    for number, utterance in enumerate(found.utterances):
        for start, end in fragments(waves[utterance.id], front_end):
            inputs, lengths = prepare(waves[utterance.id][start:end], front_end)
            frames, n_frames = model.learner.embed(Batch(inputs, lengths, torch.zeros(1, dtype=torch.long), 1))
            assert found.recording[piece] == number
            np.testing.assert_allclose(found.spans_s[piece], [start / 16_000, end / 16_000])
            own, n_own, common = found.chosen(np.asarray([piece]))
            assert int(n_own) == int(n_frames)
            torch.testing.assert_close(own, frames)
            torch.testing.assert_close(common, model.learner.commonness(frames, n_frames))
            piece += 1
    assert piece == len(found) >= 7
    silent = [i for i, u in enumerate(found.utterances) if u.id.startswith("deep")]
    assert not np.isin(found.recording, silent).any()  # it counts in the hours alone


def test_a_folder_a_word_keeps_its_labels(tmp_path: Path) -> None:
    sounds.word_folders(tmp_path / "words")
    assert {u.label for u in open_source(tmp_path / "words", "w").utterances} == set(sounds.WORDS[:4])


def test_a_folder_without_recordings_and_one_of_silence_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty holds no recording \(such as .wav or .flac\); name a folder"):
        open_source(tmp_path / "empty", "empty")
    sounds.write(tmp_path / "silent" / "a.wav", np.zeros(16_000, np.float32))
    model = load_model("dtw")
    with pytest.raises(InputError, match="hold nothing but silence"):
        embedded(model.learner, [open_source(tmp_path / "silent", "s")], model.config.front_end)


def test_a_recording_in_two_sources_is_refused(folder: Path) -> None:
    row = {"audio_filepath": "word.wav", "duration": 0.6, "text": "tula"}
    sources = [open_source(folder, "talk")]
    (folder / "manifest.jsonl").write_text(json.dumps(row) + "\n")
    sources.append(open_source(folder, "again"))
    model = load_model("dtw")
    with pytest.raises(InputError, match="is in talk and in again"):
        embedded(model.learner, sources, model.config.front_end)


# ------------------------------------------------------------------------------------------------- what is no negative

ENROLLED = [Utterance("e", Path("enrolled.wav"), 1.0, label="Yes", text="yes", lang="en")]


@pytest.mark.parametrize(
    ("facts", "usable"),
    [
        ({"label": "yes", "lang": "en"}, False),
        ({"label": "YES", "lang": "en-GB"}, False),
        ({"label": "yes"}, False),  # it may be in any language
        ({"label": "yes", "lang": "nl"}, True),
        ({"label": "yesterday", "lang": "en"}, True),
        ({"text": "I said yes, twice", "lang": "en"}, False),
        ({"text": "yesterday", "lang": "en"}, True),
        ({"text": "oui", "label": "no", "lang": "en"}, True),
        ({}, True),
    ],
)
def test_enrolled_words_are_no_negatives(facts: dict[str, str], usable: bool) -> None:
    assert Spoken([recording(0, **facts)]).none_of(ENROLLED).tolist() == [usable]


def test_words_of_several_parts_and_of_other_scripts_are_found() -> None:
    enrolled = [Utterance("e", Path("e.wav"), 1.0, label="lights on", text="বাতি", lang="bn")]
    others = [recording(i, text=text, lang="bn") for i, text in enumerate(["Lights  on!", "on lights", "ওই বাতি", "বা"])]
    assert Spoken(others).none_of(enrolled).tolist() == [False, True, False, True]


def test_a_clip_of_the_episode_is_no_negative_of_it() -> None:
    assert Spoken([recording(0)]).none_of([replace(ENROLLED[0], path=recording(0).path, label="no")]).tolist() == [
        False
    ]


# ------------------------------------------------------------------------------------------------------------ two sides


@pytest.mark.parametrize("n_speakers", [0, 1, 3, 4, 9])
def test_no_recording_and_where_it_can_be_no_speaker_is_on_both_sides(n_speakers: int) -> None:
    who = [recording(i, speaker=f"s{i % n_speakers}" if n_speakers else None) for i in range(60)]
    found = negatives(who)
    assert split_by(found) == ("speaker" if n_speakers >= 4 else "recording")
    for seed in range(20):
        development, test = split_recordings(found, ALL, np.random.default_rng(seed))
        assert (development ^ test).all()
        sides = [{who[i].speaker for i in np.flatnonzero(side)} for side in (development, test)]
        if n_speakers >= 4:
            assert not sides[0] & sides[1]
            assert min(map(len, sides)) >= 2
        else:
            assert min(development.sum(), test.sum()) == 30


def test_every_set_is_shared_out_and_a_single_recording_is_on_one_side() -> None:
    who = [*(recording(i, "a", speaker=f"s{i}") for i in range(8)), *(recording(i, "b") for i in range(6))]
    found = negatives([*who, recording(0, "c")])
    assert split_by(found) == "speaker or recording"
    of_c = set()
    for seed in range(20):
        development, test = split_recordings(found, np.ones(15, bool), np.random.default_rng(seed))
        assert (development ^ test).all()
        assert [development[:8].sum(), development[8:14].sum()] == [4, 3]
        of_c.add(bool(development[14]))
    assert of_c == {True, False}


def test_what_is_meant_for_one_side_stays_there() -> None:
    roles = [DEVELOPMENT] * 20 + [TEST] * 40
    found = negatives(roles=roles)
    usable = ALL.copy()
    usable[:5] = False
    development, test = split_recordings(found, usable, np.random.default_rng(0))
    assert np.flatnonzero(development).tolist() == list(range(5, 20))
    assert np.flatnonzero(test).tolist() == list(range(20, 60))
    assert split_by(found) == "source"


def test_a_side_has_at_most_so_many_pieces_and_the_hours_that_they_stand_for() -> None:
    found = negatives()
    every = draw_sides(found, ALL, 10_000, 10_000, np.random.default_rng(3))
    assert sorted([*every.development, *every.test]) == list(range(len(found)))
    assert every.development_hours == pytest.approx(30 * 2.0 / 3600)
    few = draw_sides(found, ALL, 60, 60, np.random.default_rng(3))
    assert len(few.development) == len(few.test) == 60
    assert set(few.test) < set(every.test)
    assert few.test_hours == pytest.approx(every.test_hours * 60 / len(every.test))
    other = draw_sides(found, ALL, 60, 60, np.random.default_rng(4))
    assert set(other.test) != set(few.test)


def test_too_few_recordings_for_two_sides_are_refused() -> None:
    usable = np.zeros(60, bool)
    usable[7] = True
    with pytest.raises(InputError, match="1 of 60 negative recordings hold no enrolled word, too few"):
        draw_sides(negatives(), usable, 10, 10, np.random.default_rng(0))


def test_two_sets_become_one() -> None:
    first, second = numbers.negatives([recording(0), recording(1)], 2), numbers.negatives([recording(0, "other")], 3)
    longer = replace(second, frames=torch.cat([second.frames, second.frames + 1], 1), lengths=second.lengths + 1)
    both = joined(first, longer)
    assert both.recording.tolist() == [0, 0, 1, 1, 2, 2, 2]
    assert [u.corpus for u in both.utterances] == ["noises", "noises", "other"]
    torch.testing.assert_close(both.chosen(np.arange(4))[0], first.frames)
    torch.testing.assert_close(both.chosen(np.arange(4, 7))[0], longer.frames)


def test_those_of_a_model_are_for_development_only(monkeypatch: pytest.MonkeyPatch) -> None:
    model, source = load_model("dtw"), evaluation_negatives
    with pytest.raises(InputError, match="Model dtw comes without negatives"):
        source.models_own(model)
    frames = torch.randn(5, 9, 39, generator=torch.Generator().manual_seed(0)).half()
    lengths = torch.tensor([9, 4, 9, 9, 7])
    own = Bundled(frames, lengths, torch.tensor([7, 7, 3, 3, 9]), 1.5, "model", model.hash)
    monkeypatch.setattr(source, "negatives_of", lambda model: own)
    found = source.models_own(model)
    assert (found.roles.tolist(), found.recording.tolist()) == ([DEVELOPMENT] * 3, [1, 1, 0, 0, 2])
    assert found.durations_s.sum() == pytest.approx(1.5 * 3600)
    narrow = replace(found, frames=found.frames[:, :, :1])  # as wide as the numbers of the others
    both = joined(negatives([recording(i) for i in range(4)]), narrow)
    development, test = split_recordings(both, np.ones(7, bool), np.random.default_rng(0))
    assert development[4:].all()
    assert not test[4:].any()
