"""The reliability diagram: what numpy counts stands where it should, and the verdict follows what is so."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metavox.calibration import brier_score, expected_calibration_error
from metavox.contracts import InputError
from metavox.evaluation.reliability import Answers, ReliabilityFigure, reliability_figure, reliability_summary
from metavox.statistics import clopper_pearson

F = ReliabilityFigure


def world(n: int, n_words: int = 5, seed: int = 0, surer: float = 1.0) -> Answers:
    """Answers that are right as often as they say at ``surer`` 1; above it they claim more, below it less."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, n_words + 1))
    true, told = (softmax(logits), softmax(surer * logits))
    due = (true.cumsum(1)[:, :-1] < rng.uniform(size=(n, 1))).sum(1)
    return Answers(told, due, 10, 3, "prototypes", "A")


def softmax(logits: np.ndarray) -> np.ndarray:
    found = np.exp(logits - logits.max(1, keepdims=True))
    return found / found.sum(1, keepdims=True)


def drawn(answers: Answers, n_bins: int = 10) -> ReliabilityFigure:
    figure = reliability_figure(answers, n_bins)
    assert figure is not None
    return figure


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 80),
    n_words=st.integers(1, 6),
    n_bins=st.integers(1, 12),
    surer=st.sampled_from([0.2, 1.0, 30.0]),
    seed=st.integers(0, 99),
)
def test_bins_count_as_numpy_counts_and_stand_inside(
    n: int, n_words: int, n_bins: int, surer: float, seed: int
) -> None:
    answers = world(n, n_words, seed, surer)
    figure = drawn(answers, n_bins)
    top = answers.probabilities.max(1)
    right = answers.probabilities.argmax(1) == answers.labels
    edges = np.arange(n_bins + 1) / n_bins
    counts, _ = np.histogram(top, edges)
    hits, _ = np.histogram(top[right], edges)
    sums, _ = np.histogram(top, edges, weights=top)
    full = counts > 0
    assert [b.n for b in figure.bins] == counts[full].tolist()
    assert [b.n_right for b in figure.bins] == hits[full].tolist()
    assert [b.confidence for b in figure.bins] == pytest.approx((sums[full] / counts[full]).tolist())
    assert figure.n == n
    assert figure.n_unknown == (answers.labels == n_words).sum()
    for b in figure.bins:
        exact = clopper_pearson(b.n_right, b.n)
        assert b.interval == (exact.low, exact.high)
        assert F.top <= b.y_high <= b.y <= b.y_low <= F.bottom
        assert b.low - 1e-9 <= b.confidence <= b.high + 1e-9
        assert F.left <= b.bar_x <= b.x + 1.5 <= b.bar_x + b.bar_width + 3 <= F.right + 1.5
        assert F.bars_top - 1e-9 <= b.bar_y < F.bars_bottom


def test_what_is_right_as_often_as_sure_stands_on_the_diagonal() -> None:
    found = np.tile([0.75, 0.25], (8, 1))
    figure = drawn(Answers(found, np.asarray([0, 0, 0, 1] * 2), 1, 3, "m", "A"))
    (only,) = figure.bins
    x0, y0, x1, y1 = figure.diagonal
    assert (only.y - y0) / (y1 - y0) == pytest.approx((only.x - x0) / (x1 - x0)) == pytest.approx(0.75)
    assert figure.ece == pytest.approx(0)


def test_bars_are_as_tall_as_their_counts_and_do_not_touch() -> None:
    figure = drawn(world(300))
    most = max(b.n for b in figure.bins)
    for b in figure.bins:
        assert b.bar_height / (F.bars_bottom - F.bars_top) == pytest.approx(b.n / most)
        assert b.bar_y + b.bar_height == pytest.approx(F.bars_bottom)
    for before, after in zip(figure.bins, figure.bins[1:], strict=False):
        assert before.bar_x + before.bar_width < after.bar_x


def test_empty_bins_are_left_out_and_one_bin_is_enough() -> None:
    sure = np.tile([0.96, 0.02, 0.02], (7, 1))
    figure = drawn(Answers(sure, np.zeros(7, int), 1, 3, "m", "A"))
    assert [(b.low, b.high, b.n) for b in figure.bins] == [(0.9, 1.0, 7)]
    whole = drawn(world(50), 1)
    assert [(b.low, b.high, b.n) for b in whole.bins] == [(0.0, 1.0, 50)]
    assert whole.ece == pytest.approx(abs(whole.confidence - whole.accuracy))
    with pytest.raises(InputError, match="0 bins"):
        reliability_figure(world(50), 0)


def test_the_numbers_are_those_of_the_calibration_room() -> None:
    answers = world(200)
    figure = drawn(answers)
    assert figure.ece == expected_calibration_error(answers.probabilities, answers.labels, 10)
    assert figure.brier == brier_score(answers.probabilities, answers.labels)
    shares = np.bincount(answers.labels, minlength=6) / 200
    assert figure.brier_of_shares == pytest.approx(brier_score(np.tile(shares, (200, 1)), answers.labels))
    told = reliability_summary(answers)
    assert (told["ece"], told["n"], told["n_enrolments"], told["model"]) == (figure.ece, 200, 10, "prototypes")


def test_true_probabilities_are_called_off_one_time_in_twenty() -> None:
    off = [(figure := drawn(world(150, seed=seed))).ece > figure.ece_if_true for seed in range(40)]
    assert np.mean(off) < 0.15  # 5 % of 40 is 2
    assert any("nothing here shows" in drawn(world(150, seed=seed)).verdict for seed in range(5))


@pytest.mark.parametrize(("surer", "verdict"), [(4.0, "too sure by"), (0.3, "not sure enough by")])
def test_probabilities_that_are_off_are_said_to_be_with_the_number(surer: float, verdict: str) -> None:
    figure = drawn(world(600, surer=surer))
    assert figure.ece > figure.ece_if_true
    gap = 100 * abs(figure.confidence - figure.accuracy)
    assert f"{verdict} {gap:.1f} points" in figure.verdict


def test_probabilities_that_are_off_both_ways_are_not_said_to_lean() -> None:
    found = np.repeat([[0.95, 0.05], [0.55, 0.45]], 100, axis=0)
    due = np.concatenate([np.arange(100) % 4 == 0, np.zeros(100)]).astype(int)
    assert "too sure in some bins and not sure enough in others" in drawn(Answers(found, due, 1, 3, "m", "A")).verdict


def test_the_same_answers_give_the_same_figure() -> None:
    assert drawn(world(90)) == drawn(world(90))


def test_nothing_asked_gives_no_figure() -> None:
    nothing = Answers(np.zeros((0, 4)), np.zeros(0, int), 0, 3, "m", "A")
    assert reliability_figure(nothing) is None
    assert reliability_summary(nothing) == {}


@pytest.mark.parametrize(
    ("found", "due", "message"),
    [
        (np.full((2, 2), 0.4), [0, 1], "no probabilities"),
        (np.asarray([[1.5, -0.5]]), [0], "no probabilities"),
        (np.asarray([[np.nan, 0.5]]), [0], "no probabilities"),
        (np.full((2, 2), 0.5), [0, 2], "columns 0 to 1"),
        (np.full((2, 2), 0.5), [-1, 0], "columns 0 to 1"),
    ],
)
def test_answers_that_are_none(found: np.ndarray, due: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Answers(found, np.asarray(due), 1, 3, "m", "A")
