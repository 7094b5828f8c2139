"""Thresholds against brute force, and decisions against thresholds."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metavox.calibration import calibrate, decide, enrolment_scores, reference_scores
from metavox.checkpoint import build
from metavox.config import EncoderConfig, LearnerConfig, ModelConfig
from metavox.contracts import Batch, Calibration, Draw, Episode, FrontEnd, InputError, Output

Scores = list[float]


def weighted_errors(threshold: float, target: Scores, nontarget: Scores, reference: dict[str, Scores] | None) -> float:
    """Second implementation: share of refused targets and of accepted nontargets, 10 takes' worth of reference."""
    total = 0.0
    for name, own, wrong in (
        ("target", target, lambda s: s < threshold),
        ("nontarget", nontarget, lambda s: s >= threshold),
    ):
        known = reference[name] if reference else []
        weights = [1.0] * len(own) + [10 / max(len(known), 1)] * len(known)
        total += sum(w for s, w in zip([*own, *known], weights, strict=True) if wrong(s)) / sum(weights)
    return total


def fewest_errors(target: Scores, nontarget: Scores, reference: dict[str, Scores] | None) -> float:
    scores = sorted({*target, *nontarget, *(s for v in (reference or {}).values() for s in v)})
    cuts = [scores[0] - 1, *scores, scores[-1] + 1, *((a + b) / 2 for a, b in pairwise(scores))]
    return min(weighted_errors(cut, target, nontarget, reference) for cut in cuts)


# Whole and half numbers, so that ties between the kinds are common.
some = st.lists(st.integers(-8, 8).map(lambda n: n / 2), min_size=1, max_size=12)


@settings(max_examples=300, deadline=None)
@given(target=some, nontarget=some, reference=st.none() | st.tuples(some, some))
def test_no_other_threshold_makes_fewer_errors(
    target: Scores, nontarget: Scores, reference: tuple[Scores, Scores] | None
) -> None:
    known = None if reference is None else {"target": reference[0], "nontarget": reference[1]}
    found = calibrate(np.asarray(target), np.asarray(nontarget), known)
    ours = weighted_errors(found.threshold, target, nontarget, known)
    assert ours <= fewest_errors(target, nontarget, known) + 1e-9
    assert (found.n_target, found.n_nontarget) == (len(target), len(nontarget))
    assert found.source == ("both" if known else "enrolment")


def test_the_threshold_lies_in_the_middle_of_the_gap() -> None:
    assert calibrate(np.asarray([5.0, 6.0]), np.asarray([1.0, 3.0])).threshold == 4.0


def test_the_reference_weighs_as_ten_takes() -> None:
    """With no targets below 0 in the reference, it takes many enrolled takes to move the threshold below it."""
    reference = {"target": [10.0] * 41, "nontarget": [0.0] * 41}
    few = calibrate(np.asarray([-5.0] * 2), np.asarray([-9.0] * 2), reference)
    many = calibrate(np.asarray([-5.0] * 100), np.asarray([-9.0] * 100), reference)
    assert few.threshold > 0 > many.threshold


@pytest.mark.parametrize(("target", "nontarget"), [([], [1.0]), ([1.0], []), ([], [])])
def test_too_little_is_refused_unless_the_model_knows_more(target: Scores, nontarget: Scores) -> None:
    with pytest.raises(InputError, match="record two takes of two words"):
        calibrate(np.asarray(target), np.asarray(nontarget))
    reference = {"target": [3.0, 4.0], "nontarget": [0.0, 1.0]}
    found = calibrate(np.asarray(target), np.asarray(nontarget), reference)
    assert found.source == ("both" if target or nontarget else "model")
    assert found.threshold <= 3.0


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.lists(st.integers(-5, 5), min_size=3, max_size=3), min_size=1, max_size=6),
    threshold=st.integers(-5, 5),
)
def test_a_word_is_said_exactly_where_its_score_reaches_the_threshold(rows: list[list[int]], threshold: int) -> None:
    scores = torch.tensor(rows, dtype=torch.float32)
    decisions = decide(Output(scores), ("a", "b", "c"), Calibration(float(threshold), 1, 1, "enrolment"))
    for row, decision in zip(rows, decisions, strict=True):
        assert decision.score == max(row)
        assert decision.scores == {"a": row[0], "b": row[1], "c": row[2]}
        assert decision.scores[decision.best] == decision.score
        assert decision.label == (decision.best if max(row) >= threshold else None)
        assert decision.threshold == threshold


# --------------------------------------------------------------------------------------------------- where scores come


@pytest.fixture
def learner():  # type: ignore[no-untyped-def]
    config = ModelConfig(
        front_end=FrontEnd(n_mels=16, normalize=False, n_frames=None),
        encoder=EncoderConfig(name="mfcc"),
        learner=LearnerConfig(name="dtw"),
    )
    return build(config)


def takes(labels: list[int], n_classes: int, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    words = torch.Generator().manual_seed(5)
    shapes = torch.randn(n_classes, 12, 16, generator=words) * 3
    inputs = torch.stack([shapes[label] + 0.5 * torch.randn(12, 16, generator=generator) for label in labels])
    return Batch(inputs, torch.full((len(labels),), 12), torch.tensor(labels), n_classes)


def part(batch: Batch, keep: list[int], labels: list[int], n_classes: int) -> Batch:
    return Batch(batch.inputs[keep], batch.lengths[keep], torch.tensor(labels), n_classes)


def test_enrolment_scores_are_those_of_an_enrolment_without_the_take(learner) -> None:  # type: ignore[no-untyped-def]
    """Oracle: enrol again without each take, and score it."""
    labels = [0, 0, 0, 1, 1, 2, 2]
    batch = takes(labels, 3)
    target, nontarget = enrolment_scores(learner, learner.adapt(batch))
    for i, label in enumerate(labels):
        rest = [j for j in range(len(labels)) if j != i]
        state = learner.adapt(part(batch, rest, [labels[j] for j in rest], 3))
        scores = learner.predict(state, part(batch, [i], [0], 3)).scores[0].detach()
        assert target[i] == pytest.approx(float(scores[label]), abs=1e-3)
        others = [float(score) for j, score in enumerate(scores) if j != label]
        assert nontarget[i] == pytest.approx(max(others), abs=1e-3)


def test_single_takes_and_single_words_give_only_what_they_can(learner) -> None:  # type: ignore[no-untyped-def]
    target, nontarget = enrolment_scores(learner, learner.adapt(takes([0, 1], 2)))
    assert (len(target), len(nontarget)) == (0, 2)
    target, nontarget = enrolment_scores(learner, learner.adapt(takes([0, 0, 0], 1)))
    assert (len(target), len(nontarget)) == (3, 0)


def test_reference_scores_are_quantiles_that_json_can_hold(learner) -> None:  # type: ignore[no-untyped-def]
    support, query = takes([0, 0, 1, 1, 2, 2], 3, 1), takes([0, 1, 2], 3, 2)
    nobody = Draw(("a", "b", "c"), np.arange(3), np.arange(6), np.arange(6), np.arange(3), np.arange(3))
    found = reference_scores(learner, [Episode(support, query, nobody)])
    scores = learner.predict(learner.adapt(support), query).scores.detach().double()
    own = scores.diagonal()
    assert found["target"][0] == pytest.approx(float(own.min()))
    assert found["target"][-1] == pytest.approx(float(own.max()))
    assert found["target"] == sorted(found["target"])
    assert len(found["nontarget"]) == len(found["target"]) == 41
    assert max(found["nontarget"]) < min(found["target"])
    assert isinstance(found["target"][3], float)
