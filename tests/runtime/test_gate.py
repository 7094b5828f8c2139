"""Commands that work for their owners: words, voices and a policy as one decision."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from refusals import said
from uttered import RATE_HZ, Verifier, clips, utter, word_voices

from metavox.calibration.fusion import Fusion, independent
from metavox.runtime.commands import CommandRecognizer
from metavox.runtime.gate import VoiceGate
from metavox.runtime.segments import stretches

ANNA, BEN, STRANGER = 1, 2, 3
WORDS = ("open", "close", "light", "door")
POLICY = {"default": "anyone", "words": {"open": ["anna"], "close": ["anna", "ben"], "door": "nobody"}}


@pytest.fixture(scope="module")
def house() -> CommandRecognizer:
    return CommandRecognizer("dtw", target=None, keep_audio=True).fit(*clips(ANNA, WORDS, (0, 1, 2)))


@pytest.fixture(scope="module")
def family() -> Verifier:
    return Verifier(anna=clips(ANNA, WORDS, (0, 1, 2))[0], ben=clips(BEN, WORDS, (0, 1, 2))[0])


@pytest.fixture(scope="module")
def gate(house: CommandRecognizer, family: Verifier) -> VoiceGate:
    return VoiceGate(house, family, POLICY)


def ask(gate: VoiceGate, person: int, word: str, take: int = 9) -> Any:
    return gate.decide([(utter(person, word, take), RATE_HZ)])[0]


def test_the_policy_decides_who_may_say_what(gate: VoiceGate) -> None:
    allowed = {(p, w) for p in (ANNA, BEN, STRANGER) for w in WORDS if ask(gate, p, w).allowed}
    assert allowed == {(ANNA, "open"), (ANNA, "close"), (BEN, "close")} | {(p, "light") for p in (ANNA, BEN, STRANGER)}


def test_a_decision_carries_both_parts_and_a_reason(gate: VoiceGate) -> None:
    yes, no = ask(gate, ANNA, "open"), ask(gate, BEN, "open")
    assert (yes.word, yes.speaker, yes.reason) == ("open", "anna", "")
    assert yes.word_part > 0
    assert yes.speaker_part > 0
    assert yes.llr >= yes.threshold
    assert (no.word, no.speaker, no.allowed) == ("open", "ben", False)
    assert no.word_part > 0 > no.speaker_part
    assert no.llr < no.threshold
    assert no.reason == "Only anna may say 'open', and the voice is more like ben's."
    assert ask(gate, STRANGER, "open").reason == "Only anna may say 'open', and the voice is not theirs."
    assert ask(gate, STRANGER, "close").reason == "Only anna or ben may say 'close', and the voice is not theirs."
    assert ask(gate, ANNA, "door").reason == "Nobody may say 'door'."
    unknown = ask(gate, ANNA, "unheard")
    assert (unknown.word, unknown.allowed) == (None, False)
    assert unknown.reason.startswith("No enrolled word was heard: the nearest, ")


def test_open_mode_asks_for_no_voice_and_keeps_the_threshold_of_the_recogniser(
    house: CommandRecognizer, family: Verifier
) -> None:
    gate = VoiceGate(house, family, POLICY, mode="open")
    takes, words = clips(STRANGER, (*WORDS, "unheard"), (5, 6))
    for decision, plain, word in zip(gate.decide(takes), house.decide(takes), words, strict=True):
        assert decision.allowed == (plain.label is not None and word != "door")
        assert decision.word == plain.label
        assert (decision.llr >= 0) == (plain.label is not None)
        assert decision.speaker_part is None


def test_where_owners_are_preferred_others_need_a_surer_word(house: CommandRecognizer, family: Verifier) -> None:
    only, biased = (VoiceGate(house, family, POLICY, mode=mode) for mode in ("owner-only", "owner-biased"))
    assert ask(biased, STRANGER, "open").allowed
    assert not ask(only, STRANGER, "open").allowed
    own, other = ask(biased, ANNA, "open"), ask(biased, STRANGER, "open")
    assert own.llr - own.word_part > other.llr - other.word_part
    assert own.llr - own.word_part <= np.log(0.9 / 0.5) + 1e-9
    assert not ask(biased, ANNA, "unheard").allowed


def test_a_stricter_threshold_refuses_more(house: CommandRecognizer, family: Verifier) -> None:
    gate = VoiceGate(house, family, {**POLICY, "threshold_llr": 20.0})
    assert not ask(gate, ANNA, "open").allowed
    assert ask(gate, STRANGER, "light").allowed, "a word that anybody may say has the recogniser's own threshold"


def test_the_voice_of_another_enrolled_speaker_counts_against(house: CommandRecognizer, family: Verifier) -> None:
    alone = VoiceGate(house, Verifier(anna=clips(ANNA, WORDS, (0, 1, 2))[0]), {**POLICY, "words": {"open": ["anna"]}})
    both = VoiceGate(house, family, POLICY)
    assert ask(both, BEN, "open").speaker_part < ask(alone, BEN, "open").speaker_part
    assert ask(both, ANNA, "open").speaker_part == pytest.approx(ask(alone, ANNA, "open").speaker_part)


def test_too_little_speech_tells_nobody(house: CommandRecognizer, family: Verifier, monkeypatch: Any) -> None:
    gate = VoiceGate(house, family, POLICY)
    heard = family.model_.hear([utter(ANNA, "open", 9)])
    short = replace(heard, speech_s=np.array([0.1]))
    monkeypatch.setattr(type(family.model_), "hear", lambda self, waves: short)
    decision = ask(gate, ANNA, "open")
    assert not decision.allowed
    assert decision.reason.startswith("There is 0.1 s of speech, and 0.15 s are needed")


# -------------------------------------------------------------------------------------------------- fusion and takes


def test_the_fusion_comes_with_the_model_of_voices(house: CommandRecognizer, family: Verifier) -> None:
    strict = replace(independent(), bias=(0.0, 50.0, 0.0))
    other = Verifier()
    other.voices_ = family.voices_
    other.model_ = replace(family.model_, about={"fusion": [strict.as_document()]})
    assert not ask(VoiceGate(house, other, POLICY), ANNA, "open").allowed
    assert ask(VoiceGate(house, other, POLICY, independent()), ANNA, "open").allowed


IN_WORD = Fusion(("word", "voice_in_word"), ((-1.0, 0.0), (0.0, -1.0), (-1.0, -1.0)), (0.0, 0.0, 0.0))


def test_takes_that_are_clips_of_a_voice_are_compared_in_the_very_word(
    house: CommandRecognizer, family: Verifier
) -> None:
    """Found by their vectors, or given; without them the fusion that needs less is used."""
    fusions = (IN_WORD, independent())
    kept = VoiceGate(house, family, POLICY, fusions)
    assert set(kept._in_word) == {"anna"}
    assert set(kept._in_word["anna"]) == set(WORDS)
    takes = {word: clips(ANNA, [word], (0, 1, 2))[0] for word in WORDS}
    given = VoiceGate(house, family, POLICY, fusions, own_takes={"anna": takes})
    found, same = ask(kept, ANNA, "open"), ask(given, ANNA, "open")
    assert found.llr == pytest.approx(same.llr, abs=1e-2), "takes are kept with 16 bits"
    heard = family.model_.hear([utter(ANNA, "open", 9)])
    own = family.model_.hear([utter(ANNA, "open", take) for take in (0, 1, 2)])
    values = {"word": np.array([same.word_part]), "voice_in_word": family.model_.llr([own], heard)[:, 0]}
    assert same.llr == pytest.approx(float(IN_WORD.llr(values)[0]), abs=1e-5)
    without = VoiceGate(house, family, POLICY, fusions, own_takes={})
    assert ask(without, ANNA, "open").llr == pytest.approx(ask(VoiceGate(house, family, POLICY), ANNA, "open").llr)


# ---------------------------------------------------------------------------------------------------------- streaming


def blocks(wave: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(wave), size):
        yield wave[start : start + size]


@pytest.mark.parametrize("size", [1_000, 48_000])
def test_a_stream_is_decided_as_its_stretches_are_alone(gate: VoiceGate, size: int) -> None:
    quiet = np.random.default_rng(0).standard_normal(RATE_HZ).astype(np.float32) * 1e-3
    said_so = [(ANNA, "open"), (BEN, "open"), (STRANGER, "light"), (ANNA, "unheard")]
    wave = np.concatenate([part for p, w in said_so for part in (utter(p, w, 9), quiet)])
    passages = list(gate.stream(blocks(wave, size)))
    cut = list(stretches([wave]))
    assert len(cut) == len(said_so)
    assert [one.decision for one in passages] == gate.decide([(one.wave, RATE_HZ) for one in cut])
    assert [one.decision.allowed for one in passages] == [True, False, True, False]
    assert [(one.start_s, one.end_s) for one in passages] == [(one.start_s, one.end_s) for one in cut]


def test_a_stretch_that_cannot_be_used_is_refused_with_the_reason(gate: VoiceGate, monkeypatch: Any) -> None:
    wave = np.pad(utter(ANNA, "open", 9), RATE_HZ)
    from metavox.errors import InputError

    def refuse(clips: Any) -> Any:
        raise InputError("It is unusable.")

    monkeypatch.setattr(gate, "decide", refuse)
    (one,) = gate.stream([wave])
    assert not one.decision.allowed
    assert one.decision.reason == "It is unusable."


# ----------------------------------------------------------------------------------------------------------- refusals


def test_what_does_not_fit_is_refused_at_once(house: CommandRecognizer, family: Verifier) -> None:
    for policy, sentence in (
        ({"default": "anyone", "words": {"opne": "nobody"}}, "did you mean 'open'?"),
        ({"default": "anyone", "words": {"open": ["bem"]}}, "did you mean 'ben'?"),
    ):
        assert sentence in said(lambda policy=policy: VoiceGate(house, family, policy))
    assert "'anna', which is not enrolled; enrolled are none." in said(lambda: VoiceGate(house, Verifier(), POLICY))
    assert "did you mean 'ben'?" in said(lambda: VoiceGate(house, family, POLICY, own_takes={"bem": {}}))
    takes = {"anna": {"opne": [(utter(ANNA, "open"), RATE_HZ)]}}
    assert "did you mean 'open'?" in said(lambda: VoiceGate(house, family, POLICY, own_takes=takes))
    nobody = VoiceGate(house, Verifier(), {"default": "anyone", "words": {"door": "nobody"}})
    decision = ask(nobody, ANNA, "open")
    assert (decision.allowed, decision.speaker) == (True, None)


def test_scores_without_calibration_are_no_ratios(house: CommandRecognizer, family: Verifier) -> None:
    bare = Verifier()
    bare.voices_, bare.model_ = family.voices_, replace(word_voices(), ratios=None)
    assert "no calibration" in said(lambda: VoiceGate(house, bare, POLICY))


def test_silence_is_refused(gate: VoiceGate) -> None:
    assert "silent" in said(lambda: gate.decide([(np.zeros(RATE_HZ, np.float32), RATE_HZ)]))
