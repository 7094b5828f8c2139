"""The diagnosis against closed forms: what is split adds up exactly, and members of known make show what they are."""

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import said
from scipy.special import log_softmax

from metavox.averaging.diagnosis import diagnose, diagnose_answers, squared_error_parts
from metavox.averaging.predictions import log_mean

SIZES = st.tuples(st.integers(2, 6), st.integers(1, 30), st.integers(2, 5))
SEEDS = st.integers(0, 2**32 - 1)


def drawn(size: tuple[int, int, int], seed: int, scale: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Log probabilities (K, N, C) and labels (N,)."""
    rng = np.random.default_rng(seed)
    return log_softmax(scale * rng.standard_normal(size), axis=-1), rng.integers(size[2], size=size[1])


def told_by(wrong: np.ndarray, labels: np.ndarray, n_classes: int, sure: float = 3.0) -> np.ndarray:
    """Log probabilities of members that name the next class where they are ``wrong`` (K, N)."""
    named = np.where(wrong, (labels + 1) % n_classes, labels)
    return log_softmax(sure * np.eye(n_classes)[named], axis=-1)


# ------------------------------------------------------------------------------------------------------ it adds up


@settings(deadline=None, max_examples=100)
@given(SIZES, SEEDS, st.sampled_from([0.1, 2.0, 50.0]))
def test_the_mean_loss_is_what_the_average_leaves_and_what_it_takes_away(
    size: tuple[int, int, int], seed: int, scale: float
) -> None:
    values, labels = drawn(size, seed, scale)
    found, rows = diagnose(values, labels), np.arange(size[1])
    assert found.bias is not None
    assert found.variance is not None
    mean_loss = float(-values[:, rows, labels].mean())
    assert found.bias + found.variance == pytest.approx(mean_loss, rel=1e-12, abs=1e-12)
    average = log_mean(values)
    assert found.bias == pytest.approx(float(-average[rows, labels].mean()), rel=1e-9, abs=1e-9)
    # The variance is the mean divergence of the members from the average, in which the truth has no part.
    divergence = float((np.exp(average)[None] * (average[None] - values)).sum(-1).mean())
    assert found.variance == pytest.approx(divergence, rel=1e-6, abs=1e-9)
    assert found.variance >= 0


@settings(deadline=None, max_examples=60)
@given(SIZES, SEEDS)
def test_shares_are_those_of_counting(size: tuple[int, int, int], seed: int) -> None:
    values, labels = drawn(size, seed)
    found, answers, n = diagnose(values, labels), values.argmax(2), size[1]
    wrong = [[int(a != label) for a, label in zip(one, labels, strict=True)] for one in answers]
    columns = list(zip(*wrong, strict=True))
    assert found.errors == pytest.approx([sum(one) / n for one in wrong])
    assert found.all_wrong == pytest.approx(sum(all(column) for column in columns) / n)
    assert found.some_right == pytest.approx(sum(0 < sum(column) < size[0] for column in columns) / n)
    pairs = [(i, j) for i in range(size[0]) for j in range(i)]
    disagreeing = [sum(a != b for a, b in zip(answers[i], answers[j], strict=True)) / n for i, j in pairs]
    assert found.disagreement == pytest.approx(sum(disagreeing) / len(pairs))
    averaged = float((log_mean(values).argmax(1) != labels).mean())
    mean_error = sum(found.errors) / size[0]
    assert found.expected_gain == pytest.approx(1 - averaged / mean_error if mean_error else 0.0)
    assert (found.n_members, found.n_items) == size[:2]


# -------------------------------------------------------------------------------------------- members of known make


def test_members_that_are_one_gain_nothing_and_the_warning_says_what_to_do() -> None:
    values, labels = drawn((1, 50, 4), 0)
    found = diagnose(np.repeat(values, 5, 0), labels)
    assert found.identical
    assert found.warning == (
        "these 5 models make identical predictions: averaging changes nothing; vary data, seed or architecture"
    )
    assert found.sentences() == [f"Warning: {found.warning}."]
    assert (found.variance, found.disagreement, found.expected_gain, found.some_right) == (0.0, 0.0, 0.0, 0.0)
    assert found.error_correlation == pytest.approx(1.0)
    assert found.all_wrong == pytest.approx(found.errors[0])


def test_members_that_name_alike_with_other_probabilities_are_not_one() -> None:
    values, labels = drawn((1, 50, 4), 0)
    other = diagnose(np.concatenate([values, log_softmax(2 * values, -1)]), labels)
    assert not other.identical
    assert other.warning is None
    assert other.disagreement == 0
    assert other.variance is not None
    assert other.variance > 0


def test_independent_mistakes_do_not_correlate_and_are_what_averaging_takes_away() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(10, size=20_000)
    apart = told_by(rng.random((9, 20_000)) < 0.3, labels, 10)
    shared = told_by(np.repeat(rng.random((1, 20_000)) < 0.3, 9, 0), labels, 10)
    one, other = diagnose(apart, labels), diagnose(shared, labels)
    assert one.error_correlation == pytest.approx(0, abs=0.02)
    assert other.error_correlation == pytest.approx(1)
    assert one.all_wrong == pytest.approx(0.3**9, abs=1e-3)
    assert one.disagreement == pytest.approx(2 * 0.3 * 0.7, abs=0.01)
    assert other.all_wrong == pytest.approx(0.3, abs=0.01)
    # Nine that err on 30 % each in the same wrong way are outvoted by five: a binomial tail.
    assert one.expected_gain == pytest.approx(1 - 0.0988 / 0.3, abs=0.02)
    assert other.expected_gain == 0


def test_a_member_that_errs_where_the_other_does_not_correlates_to_minus_1() -> None:
    labels = np.zeros(10, np.int64)
    wrong = np.arange(10) % 2 == np.arange(2)[:, None]
    found = diagnose(told_by(wrong, labels, 3), labels)
    assert found.error_correlation == pytest.approx(-1)
    assert (found.all_wrong, found.some_right, found.disagreement) == (0.0, 1.0, 1.0)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_member_without_or_with_nothing_but_mistakes_has_no_correlation(share: float) -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(4, size=40)
    wrong = np.stack([np.full(40, share == 1), rng.random(40) < 0.5])
    assert diagnose(told_by(wrong, labels, 4), labels).error_correlation is None


def test_the_average_may_do_worse_and_says_so() -> None:
    """Two of three err alike, surely, where the third is right."""
    labels = np.zeros(4, np.int64)
    wrong = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 1]], bool)
    found = diagnose(told_by(wrong, labels, 2), labels)
    assert found.expected_gain < 0
    assert any("no fewer errors than the mean member" in line for line in found.sentences())


def test_sentences_are_plain_and_name_the_figures() -> None:
    values, labels = drawn((3, 200, 4), 3)
    found = diagnose(values, labels)
    text = " ".join(found.sentences())
    assert all(line.endswith(".") and "\n" not in line for line in found.sentences())
    assert f"{100 * found.disagreement:.1f} %" in text
    assert f"{100 * found.all_wrong:.1f} %, which no average of these mends" in text
    assert f"correlate by {found.error_correlation:.2f}" in text
    assert "nats" in text


# ------------------------------------------------------------------------------------------------------- answers alone


@settings(deadline=None, max_examples=40)
@given(SIZES, SEEDS)
def test_answers_alone_tell_the_same_but_for_the_losses(size: tuple[int, int, int], seed: int) -> None:
    values, labels = drawn(size, seed)
    names = [chr(97 + c) for c in range(size[2])]

    def named(ids: np.ndarray) -> list[str]:
        return [names[i] for i in ids]

    averaged = named(log_mean(values).argmax(1))
    found = diagnose_answers([named(one.argmax(1)) for one in values], named(labels), averaged)
    whole = diagnose(values, labels)
    assert (found.bias, found.variance) == (None, None)
    for key in ("errors", "disagreement", "error_correlation", "all_wrong", "some_right"):
        assert getattr(found, key) == pytest.approx(getattr(whole, key))
    if not found.identical:
        assert found.expected_gain == pytest.approx(whole.expected_gain)
    assert not any("nats" in line for line in found.sentences())


def test_transcripts_that_are_alike_are_identical() -> None:
    found = diagnose_answers([["a b", "c"], ["a b", "c"]], ["a b", "d"], ["a b", "c"])
    assert found.identical
    assert found.warning is not None
    assert found.warning.startswith("these 2 models make identical predictions")


# ------------------------------------------------------------------------------------------------------- squared error


@settings(deadline=None, max_examples=50)
@given(st.integers(2, 8), st.integers(1, 20), SEEDS)
def test_the_squared_error_is_bias_and_variance_exactly(k: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    predictions, truth = rng.standard_normal((k, n)), rng.standard_normal(n)
    found = squared_error_parts(predictions, truth)
    assert found.bias2 + found.variance == pytest.approx(float(((predictions - truth) ** 2).mean()), rel=1e-10)
    assert found.bias2 == pytest.approx(float(((predictions.mean(0) - truth) ** 2).mean()))


def test_a_mean_of_independent_models_keeps_the_bias_and_has_a_share_of_the_variance() -> None:
    rng = np.random.default_rng(0)
    truth = np.zeros(4000)
    alone = 0.5 + rng.standard_normal((40, 4000))
    of_ten = alone.reshape(4, 10, 4000).mean(1)
    assert squared_error_parts(alone, truth).variance == pytest.approx(39 / 40, rel=0.02)
    assert squared_error_parts(of_ten, truth).variance == pytest.approx(3 / 4 / 10, rel=0.05)
    assert squared_error_parts(of_ten, truth).bias2 == pytest.approx(0.25 + 1 / 40, rel=0.05)


# ------------------------------------------------------------------------------------------------------------ refusals


def test_what_cannot_be_told_is_refused_in_one_sentence() -> None:
    values, labels = drawn((2, 5, 3), 0)
    assert "1 model was given to compare" in said(lambda: diagnose(values[:1], labels))
    assert "5 items were answered and 0 have a label" in said(lambda: diagnose_of(values, labels[:0]))
    assert "0 items were answered" in said(lambda: diagnose(values[:, :0], labels[:0]))
    assert "A label is 3 and there are 3 classes" in said(lambda: diagnose(values, labels * 0 + 3))
    assert "A label is -1 and there are 3 classes" in said(lambda: diagnose(values, labels * 0 - 1))
    assert "answered other items" in said(lambda: diagnose_answers([["a"], ["a", "b"]], ["a", "b"], ["a", "b"]))
    assert "answered other items" in said(lambda: diagnose_answers([["a"], ["a"]], ["a"], []))
    assert "0 model was given" in said(lambda: diagnose_answers([], [], []))
    assert "1 model was given" in said(lambda: squared_error_parts(values[:1, :, 0], labels.astype(float)))


def diagnose_of(values: np.ndarray, labels: np.ndarray) -> object:
    """Without the check of shapes that tests have and products have not."""
    return getattr(diagnose, "__wrapped__", diagnose)(values, labels)


def test_everything_known_is_a_number_or_says_nothing() -> None:
    found = diagnose(*drawn((3, 20, 4), 5))
    for one in fields(found):
        value = getattr(found, one.name)
        assert isinstance(value, int | float | tuple | bool)
