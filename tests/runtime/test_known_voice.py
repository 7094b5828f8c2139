"""A known voice helps: words and sentences as the likeliest speaker says them."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from refusals import said
from uttered import RATE_HZ, Verifier, clips, utter

from metavox.contracts import FrontEnd
from metavox.runtime.commands import CommandRecognizer
from metavox.runtime.known_voice import KnownVoices, likeliest, own_share, together, weighed
from metavox.runtime.transcriber import Transcriber
from metavox.text.symbols import UNIVERSAL

ANNA, BEN, STRANGER = 1, 2, 3
SOUNDS = ("open", "close", "light", "door")
MEANT = {"anna": {"open": "up", "close": "down"}, "ben": {"open": "down", "close": "up"}}
"""The same two sounds mean to Ben what they do not mean to Anna."""


def recognizer(person: int, name: str, takes: tuple[int, ...] = (0, 1, 2)) -> CommandRecognizer:
    heard, sounds = clips(person, SOUNDS, takes)
    return CommandRecognizer("dtw", target=None).fit(heard, [MEANT[name].get(sound, sound) for sound in sounds])


@pytest.fixture(scope="module")
def family() -> Verifier:
    return Verifier(**{name: clips(who, SOUNDS, (0, 1, 2))[0] for name, who in (("anna", ANNA), ("ben", BEN))})


@pytest.fixture(scope="module")
def commands() -> dict[str, CommandRecognizer]:
    return {"anna": recognizer(ANNA, "anna"), "ben": recognizer(BEN, "ben")}


@pytest.fixture(scope="module")
def house(family: Verifier, commands: dict[str, CommandRecognizer]) -> KnownVoices:
    return KnownVoices(family, commands=commands)


# ------------------------------------------------------------------------------------------------------------ commands


def test_a_word_means_what_its_speaker_means(house: KnownVoices) -> None:
    for name, who in (("anna", ANNA), ("ben", BEN)):
        for sound in SOUNDS:
            (decision,) = house.decide([(utter(who, sound, 9), RATE_HZ)])
            assert decision.word == MEANT[name].get(sound, sound)
            assert decision.speaker == name
            assert decision.speakers[name] > 0.5
            assert decision.probability == pytest.approx(decision.probabilities[decision.word])


def test_probabilities_are_some(house: KnownVoices) -> None:
    heard = clips(ANNA, SOUNDS, (5,))[0] + clips(STRANGER, (*SOUNDS, "unheard"), (5,))[0]
    for decision, word in zip(house.decide(heard), house.predict(heard), strict=True):
        assert decision.word == word
        total = sum(decision.probabilities.values())
        assert 0 <= total <= 1 + 1e-9
        assert 0 <= sum(decision.speakers.values()) <= 1 + 1e-9
        assert set(decision.probabilities) == {"up", "down", "light", "door"}
        none = 1 - total
        assert decision.probability == pytest.approx(max(none, *decision.probabilities.values()))


def test_an_unknown_voice_is_heard_as_everybody(family: Verifier, commands: dict[str, CommandRecognizer]) -> None:
    unsure = KnownVoices(family, commands=commands, p_known=1e-12)
    everybody = together(commands)
    heard = clips(STRANGER, SOUNDS, (4, 5))[0]
    found = unsure.decide(heard)
    plain = everybody.predict_proba(heard)
    for decision, row in zip(found, plain, strict=True):
        assert decision.speaker is None
        assert decision.word == decision.unaided
        assert [decision.probabilities[word] for word in sorted(decision.probabilities)] == pytest.approx(row, abs=1e-6)
    assert [decision.word for decision in found] == everybody.predict(heard)


def test_who_has_no_takes_is_heard_as_everybody(family: Verifier, commands: dict[str, CommandRecognizer]) -> None:
    annas = KnownVoices(family, commands={"anna": commands["anna"]}, everybody=together(commands))
    (decision,) = annas.decide([(utter(BEN, "light", 9), RATE_HZ)])
    assert (decision.word, decision.speaker) == ("light", "ben")
    assert decision.probability == pytest.approx(
        KnownVoices(family, everybody=together(commands)).decide([(utter(BEN, "light", 9), RATE_HZ)])[0].probability,
        abs=1e-3,
    )


def test_takes_together_are_those_of_all(commands: dict[str, CommandRecognizer]) -> None:
    everybody = together(commands)
    assert everybody.labels_ == ("up", "down", "light", "door")
    assert everybody.n_takes_ == {word: 6 for word in everybody.labels_}


def test_too_little_speech_is_nobodys(house: KnownVoices, monkeypatch: Any) -> None:
    model = house.verifier.model_
    short = replace(model.hear([utter(ANNA, "open", 9)]), speech_s=np.array([0.1]))
    monkeypatch.setattr(type(model), "hear", lambda self, waves: short)
    assert house.speakers([(utter(ANNA, "open", 9), RATE_HZ)]) == [{"anna": 0.0, "ben": 0.0}]


@given(st.integers(0, 4), st.integers(2, 6), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_weighed_answers_are_a_mixture(n_voices: int, n_answers: int, share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    of_all, own = rng.dirichlet(np.ones(n_answers)), rng.dirichlet(np.ones(n_answers), n_voices)
    weights = rng.dirichlet(np.ones(n_voices + 1))[:n_voices]
    found = weighed(of_all, own, weights, share)
    assert found.sum() == pytest.approx(1)
    assert (found >= np.minimum(of_all, own.min(axis=0, initial=1.0)) - 1e-12).all()
    assert weighed(of_all, own, np.zeros(n_voices), share) == pytest.approx(of_all)
    if n_voices:
        sure = np.eye(n_voices)[0]
        assert weighed(of_all, own, sure, 1.0) == pytest.approx(own[0])


def test_more_own_takes_count_more() -> None:
    assert [own_share(n, 3.0) for n in (1.0, 3.0, 9.0)] == [0.25, 0.5, 0.75]
    assert (own_share(2.0, 0.0), own_share(2.0, float("inf"))) == (1.0, 0.0)


def test_the_likeliest_is_nobody_where_that_is_likelier() -> None:
    assert likeliest({"anna": 0.4, "ben": 0.1}) is None
    assert likeliest({"anna": 0.5, "ben": 0.1}) == "anna"
    assert likeliest({"anna": 0.0}) is None


# ----------------------------------------------------------------------------------------------------------- sentences


class Says:
    """A recogniser that hears one word in everything."""

    front_end, symbols, frame_s = FrontEnd(n_frames=None), UNIVERSAL, 0.01

    def __init__(self, word: str) -> None:
        self.ids = self.symbols.encode(word, None)

    def log_probs(self, wave: np.ndarray) -> torch.Tensor:
        found = torch.full((4 * len(self.ids), self.symbols.size), -20.0)
        found[:, 0] = 0.0
        for place, symbol in enumerate(self.ids):
            found[4 * place + 2, 0], found[4 * place + 2, symbol] = -20.0, 0.0
        return found


def test_each_stretch_is_heard_by_its_speakers_recogniser(family: Verifier) -> None:
    wave = np.concatenate(
        [np.pad(np.concatenate([utter(who, "open", t) for t in (4, 5)]), RATE_HZ) for who in (ANNA, STRANGER, BEN)]
    )
    wave = wave + np.random.default_rng(0).standard_normal(len(wave)).astype(np.float32) * 1e-4
    house = KnownVoices(
        family,
        transcribers={"anna": Transcriber(Says("anna")), "ben": Transcriber(Says("ben"))},
        transcriber=Transcriber(Says("anybody")),
    )
    found = house.transcribe((wave.astype(np.float32), RATE_HZ))
    assert [segment.text for segment in found.transcript.segments] == [name or "anybody" for name in found.speakers]
    assert found.speakers[0] == "anna"
    assert found.speakers[-1] == "ben"
    alone = house.transcribe((wave[: len(wave) // 3].astype(np.float32), RATE_HZ))
    assert alone.transcript.text == "anna"


# ------------------------------------------------------------------------------------------------------------ refusals


def test_what_does_not_fit_is_refused(family: Verifier, commands: dict[str, CommandRecognizer]) -> None:
    assert "Nobody is enrolled" in said(lambda: KnownVoices(Verifier(), commands=commands))
    assert "Nothing is there to recognise with" in said(lambda: KnownVoices(family))
    assert "'carl' has no enrolled voice" in said(lambda: KnownVoices(family, commands={"carl": commands["anna"]}))
    assert "counts as -1 takes" in said(lambda: KnownVoices(family, commands=commands, prior_takes=-1.0))
    assert "counts as nan takes" in said(lambda: KnownVoices(family, commands=commands, prior_takes=float("nan")))
    assert "p_known is 1" in said(lambda: KnownVoices(family, commands=commands, p_known=1.0))
    assert "Nothing is enrolled yet" in said(lambda: KnownVoices(family, commands={"anna": CommandRecognizer("dtw")}))
    talk = KnownVoices(family, transcribers={"anna": Transcriber(Says("a"))}, transcriber=Transcriber(Says("b")))
    assert "No commands were given" in said(lambda: talk.decide([(utter(ANNA, "open"), RATE_HZ)]))
    assert "No transcribers" in said(
        lambda: KnownVoices(family, commands=commands).transcribe((utter(ANNA, "open"), RATE_HZ))
    )
    other = CommandRecognizer(replace(commands["ben"].model_, hash="0" * 64), target=None)
    mixed = {"anna": commands["anna"], "ben": other.fit(*clips(BEN, SOUNDS, (0, 1)))}
    assert "different models" in said(lambda: KnownVoices(family, commands=mixed))
