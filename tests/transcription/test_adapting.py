"""Adapting a recogniser: what is held out, what all of it is used for in the end, and heads for other alphabets."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sequence_cases import FRONT_END, equal, net_of, talk, utterances, values_of

from metavox.contracts import InputError, State, Transcribed
from metavox.data.sentences import Sentences, open_sentences
from metavox.learners.sequence import FineTuned, Look, Tuning
from metavox.text.decode import greedy
from metavox.text.symbols import UNIVERSAL, Symbols
from metavox.transcription import adapting
from metavox.transcription.adapting import (
    MIN_TO_HOLD_OUT,
    Plan,
    Reached,
    adapt,
    heard,
    spelling_of,
    support_of,
    texts_of,
    with_symbols,
)
from metavox.transcription.models import Recognition, adapted, load_recogniser, save_adapted, save_recogniser
from metavox.transcription.spelling import Search

QUICK = Tuning(steps=12, lr=1e-2, batch_frames=200, n_looks=4, warmup=2)
PLAIN = Plan(QUICK, augment=False, precision="float32", held_out=0.25)
NATIVE = Symbols((" ", "a", "k", "ä", "я", "ർ"), "native", "xx")


def recognition(seed: int = 0, **changes: Any) -> Recognition:
    return Recognition(net_of(seed, **changes), Symbols(tuple("abcde"), "roman"), "tones", "0" * 64, {})


def universal(**changes: Any) -> Recognition:
    return Recognition(net_of(n_symbols=UNIVERSAL.size, **changes), UNIVERSAL, "tones", "0" * 64, {})


# ------------------------------------------------------------------------------------------------------------- adapt


@pytest.fixture
def learners(monkeypatch: pytest.MonkeyPatch) -> list[FineTuned]:
    """Every learner that is made."""
    made: list[FineTuned] = []

    class Spy(FineTuned):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            made.append(self)

    monkeypatch.setattr(adapting, "FineTuned", Spy)
    return made


@pytest.mark.parametrize("n", [0, 1, 2])
def test_too_few_recordings_are_refused(n: int) -> None:
    support = utterances(3)
    few = Transcribed(*(getattr(support, name)[:n] for name in ("inputs", "lengths", "targets", "target_lengths")))
    with pytest.raises(InputError, match=f"{n} transcribed recordings were given and 3 are the least"):
        adapt(recognition(), few, PLAIN)


def test_the_base_stays_as_it_is() -> None:
    base = recognition()
    before = values_of(base.net)
    state = adapt(base, utterances(14), replace(PLAIN, precision="bfloat16"))
    assert state
    assert equal(values_of(base.net), before)
    assert base.net.training_dtype == torch.float32
    assert not base.net.training
    assert all(value.requires_grad and value.grad is None for value in base.net.parameters())


def test_what_is_adapted_spells_better() -> None:
    base, support = recognition(), utterances(16)
    plan = replace(PLAIN, tuning=replace(QUICK, steps=60, lr=2e-2))
    state = adapt(base, support, plan)
    learner = FineTuned(base.net)
    assert learner.loss(state, utterances(8, seed=1)) < 0.5 * learner.loss({}, utterances(8, seed=1))


def test_few_recordings_are_all_learned_from_at_once(learners: list[FineTuned]) -> None:
    looks: list[Look] = []
    support = utterances(MIN_TO_HOLD_OUT - 1)
    state = adapt(recognition(), support, PLAIN, looks.append)
    assert [learner.tuning for learner in learners] == [replace(QUICK, held_out=0.0)]
    assert {look.held_out for look in looks} == {None}
    assert equal(state, FineTuned(net_of(), replace(QUICK, held_out=0.0)).adapt(support))


def test_more_are_held_out_first_and_then_used_for_as_many_steps(learners: list[FineTuned]) -> None:
    looks: list[Look] = []
    support = utterances(MIN_TO_HOLD_OUT)
    state = adapt(recognition(), support, PLAIN, looks.append)
    judged = [look for look in looks if look.held_out is not None]
    best = min(judged, key=lambda look: look.held_out)
    expected = [replace(QUICK, held_out=0.25), replace(QUICK, held_out=0.0, steps=best.step)]
    assert [learner.tuning for learner in learners] == expected
    assert len(judged) == 4
    assert len(looks) > 4
    assert equal(state, FineTuned(net_of(), expected[1]).adapt(support))


def test_a_plan_without_a_refit_keeps_the_best_look(learners: list[FineTuned]) -> None:
    support = utterances(MIN_TO_HOLD_OUT)
    state = adapt(recognition(), support, replace(PLAIN, refit=False))
    assert len(learners) == 1
    assert equal(state, FineTuned(net_of(), replace(QUICK, held_out=0.25)).adapt(support))


def test_a_plan_that_holds_nothing_out_learns_from_all(learners: list[FineTuned]) -> None:
    adapt(recognition(), utterances(MIN_TO_HOLD_OUT), replace(PLAIN, held_out=0.0))
    assert [learner.tuning.held_out for learner in learners] == [0.0]


def test_where_nothing_helps_nothing_is_changed(learners: list[FineTuned], monkeypatch: Any) -> None:
    monkeypatch.setattr(FineTuned, "loss", lambda self, state, batch: float(len(state)))  # any change is worse
    assert adapt(recognition(), utterances(MIN_TO_HOLD_OUT), PLAIN) == {}
    assert len(learners) == 1


def test_changes_and_precision_are_as_planned(learners: list[FineTuned]) -> None:
    plans = [PLAIN, replace(PLAIN, augment=True), replace(PLAIN, precision="bfloat16")]
    states: list[State] = [adapt(recognition(), utterances(4), plan) for plan in plans]
    assert [learner.change is not None for learner in learners] == [False, True, False]
    assert [learner.net.training_dtype for learner in learners] == [torch.float32, torch.float32, torch.bfloat16]
    assert not equal(states[0], states[1])
    assert not equal(states[0], states[2])
    assert equal(states[1], adapt(recognition(), utterances(4), plans[1]))


# -------------------------------------------------------------------------------------------------- other alphabets


def test_rows_of_a_head_follow_their_characters() -> None:
    base = universal()
    found = with_symbols(base, NATIVE)
    head, other = base.net.head, found.net.head
    place = {char: i for i, char in enumerate(UNIVERSAL.characters, 1)}
    assert other.weight.shape == (7, 12)
    for row, source in ((0, None), (1, " "), (2, "a"), (3, "k")):
        at = 0 if source is None else place[source]
        assert torch.equal(other.weight[row], head.weight[at])
        assert torch.equal(other.bias[row], head.bias[at])
    for char, letter in (("ä", "a"), ("я", "y"), ("ർ", "r")):
        assert UNIVERSAL.characters[NATIVE.nearest_roman(char) - 1] == letter
        row = NATIVE.characters.index(char) + 1
        assert torch.equal(other.weight[row], head.weight[place[letter]]), char
        assert torch.equal(other.bias[row], head.bias[place[letter]]), char


def test_a_character_without_a_sound_starts_from_the_mean_and_is_unlikely() -> None:
    base = universal()
    symbols = Symbols(("a", "്"), "native", "ml")  # a virama
    assert symbols.nearest_roman("്") is None
    found = with_symbols(base, symbols).net.head
    torch.testing.assert_close(found.weight[2], base.net.head.weight[1:].mean(0))
    assert float(found.bias[2].detach()) == float(base.net.head.bias[1:].min().detach())


def test_the_body_and_the_base_stay_and_the_same_alphabet_is_the_same_recogniser() -> None:
    base = universal()
    before = values_of(base.net)
    found = with_symbols(base, NATIVE)
    assert equal(values_of(base.net), before)
    assert with_symbols(base, UNIVERSAL) is base
    assert found.symbols == NATIVE
    assert found.net.config == base.net.config.model_copy(update={"n_symbols": 7})
    for name, value in values_of(found.net).items():
        if not name.startswith("head."):
            assert torch.equal(value, before[name])


@pytest.mark.xfail(strict=True, reason="the part is packed against the new head, and unpacked on the base's own")
def test_a_recogniser_with_another_alphabet_survives_its_folder(tmp_path: Path) -> None:
    save_recogniser(tmp_path / "base", universal())
    base = with_symbols(load_recogniser(tmp_path / "base"), NATIVE)
    mine = adapted(base, {"head.bias": base.net.head.bias.detach() + 1})
    save_adapted(tmp_path / "mine", mine)
    found = load_recogniser(tmp_path / "mine")
    torch.testing.assert_close(found.net.head.weight, mine.net.head.weight, rtol=0, atol=0.02)
    torch.testing.assert_close(found.net.head.bias, mine.net.head.bias, rtol=0, atol=0.02)


# ---------------------------------------------------------------------------------------------------- what is heard

TEXTS = ["tula rime", "sakko", "a fine day", "golun anti", "mumbo"]


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Sentences:
    root = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METAVOX_CACHE", str(root / "cache"))
        return open_sentences([talk(root / "said", TEXTS)], UNIVERSAL, FRONT_END)


def test_a_support_set_is_the_utterances_as_the_network_hears_them(sentences: Sentences) -> None:
    found = support_of(sentences, np.array([3, 1]), universal().net)
    own = sentences.batch(np.array([3, 1]), FRONT_END)
    assert torch.equal(found.inputs, own.inputs)
    assert torch.equal(found.targets, own.targets)


@pytest.mark.parametrize("batch", [1, 2, 16])
@pytest.mark.parametrize("with_encoding", [False, True])
def test_what_is_heard_stands_beside_what_was_said_in_the_order_asked_for(
    sentences: Sentences, batch: int, with_encoding: bool
) -> None:
    one = universal(condition=3)
    with torch.no_grad():
        one.net.head.weight.mul_(30)  # so that an untrained network says more than blanks
        one.net.head.bias[0] -= 5
    if with_encoding:
        one = replace(one, encoding=torch.tensor([5.0, -5.0, 5.0]))
    positions = np.array([4, 0, 2, 3])
    found = heard(one, sentences, positions, batch)
    assert found.said == tuple(TEXTS[i] for i in positions)
    texts = []
    for i in positions:
        inputs, lengths = sentences.features(np.array([i]), FRONT_END)
        with torch.no_grad():
            texts.append(" ".join(UNIVERSAL.decode(greedy(one.net(inputs, lengths, one.encoding)[0]).ids).split()))
    assert found.heard == tuple(texts)
    assert len(set(texts)) > 1
    assert all(texts)


def test_nothing_is_heard_of_nothing(sentences: Sentences) -> None:
    assert heard(universal(), sentences, np.zeros(0, np.int64)) == Reached((), ())


def test_errors_are_pooled_over_utterances() -> None:
    reached = Reached(("abcd", "ab cd ef gh"), ("abxd", "ab cd ef"))
    assert reached.cer == pytest.approx((1 + 3) / (4 + 11))
    assert reached.wer == pytest.approx((1 + 1) / (1 + 4))


# ------------------------------------------------------------------------------------------------ steps, runs, spelling


@pytest.mark.parametrize(("seconds", "steps"), [(0.0, 40), (60.0, 100), (260.0, 300), (3600.0, 300)])
def test_steps_follow_the_seconds_of_the_support(seconds: float, steps: int) -> None:
    plan = Plan(Tuning(steps=300), steps_per_s=1.0)
    assert plan.for_support(seconds).tuning.steps == steps
    assert Plan(Tuning(steps=300)).for_support(seconds).tuning.steps == 300


def test_a_support_is_adapted_to_for_as_many_steps_as_it_has_seconds_for(learners: list[FineTuned]) -> None:
    support = utterances(6)
    seconds = float(support.lengths.sum()) / 100
    adapt(recognition(), support, replace(PLAIN, held_out=0.0, tuning=Tuning(steps=99, lr=1e-3), steps_per_s=0.01))
    assert learners[0].tuning.steps == min(99, 40 + round(0.01 * seconds))


def test_several_runs_are_averaged_and_differ(learners: list[FineTuned]) -> None:
    support, plan = utterances(6), replace(PLAIN, held_out=0.0, n_runs=3)
    found = adapt(recognition(), support, plan)
    alone = [FineTuned(one.net, one.tuning, one.change).adapt(support) for one in learners[:3]]
    assert len({one.tuning.seed for one in learners[:3]}) == 3
    assert learners[0].tuning.seed == plan.tuning.seed
    for name, value in found.items():
        torch.testing.assert_close(value, torch.stack([state[name] for state in alone]).mean(0))
    assert not equal(alone[0], alone[1])


@pytest.mark.parametrize("wrong", [{"n_runs": 0}, {"steps_per_s": -1.0}, {"steps_per_s": float("inf")}])
def test_plans_of_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="give 1 or more and above 0"):
        Plan(**wrong)


def test_texts_of_a_support_are_those_that_were_said() -> None:
    texts = [(1, 2, 3), (4,), (5, 5)]
    assert texts_of(utterances(texts=texts)) == texts
    assert spelling_of(Plan(), texts) is None
    found = spelling_of(Plan(search=Search(order=2)), texts)
    assert found is not None
    assert (found.texts, found.search) == (tuple(texts), Search(order=2))
    assert with_symbols(replace(universal(), spelling=found), NATIVE).spelling is None
