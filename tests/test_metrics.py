"""Metrics against second implementations: scikit-learn, jiwer, brute force over thresholds and alignments."""

import itertools
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metavox import metrics
from metavox.contracts import InputError
from metavox.metrics import (
    accuracy,
    act_dcf,
    auroc,
    cer,
    cllr,
    confusion,
    det_curve,
    edit_distance,
    eer,
    min_cllr,
    min_dcf,
    wer,
)

# Few distinct values, so that ties within and between the two kinds are common.
coarse = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=25)
fine = st.lists(st.floats(-50, 50), min_size=1, max_size=25)
scores = coarse | fine
separate = st.lists(st.integers(-5000, 5000).map(lambda x: x / 100), min_size=1, max_size=25)
words = st.lists(st.sampled_from("abcd"), max_size=12)


def normal_scores(n_target: int = 400, n_nontarget: int = 900, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(2, 1, n_target), rng.normal(0, 1, n_nontarget)


# --------------------------------------------------------------------------------------------------- classification


def test_accuracy_is_the_share_of_right_items() -> None:
    assert accuracy([1, 0, 1, 1]) == 0.75
    assert accuracy(np.array([True, False])) == 0.5
    for bad in ([], [math.nan], [2.0], [-0.5, 1.0]):
        with pytest.raises(InputError):
            accuracy(bad)


def test_confusion_agrees_with_sklearn() -> None:
    from sklearn.metrics import confusion_matrix

    true, predicted = np.random.default_rng(0).integers(0, 7, (2, 500))
    ours = confusion(true, predicted, 9)
    np.testing.assert_array_equal(ours, confusion_matrix(true, predicted, labels=range(9)))
    assert ours.trace() / ours.sum() == accuracy(true == predicted)


@pytest.mark.parametrize(
    ("true", "predicted", "message"),
    [
        ([], [], "at least one"),
        ([0, 1], [0], "2 true and 1 predicted"),
        ([0, 3], [0, 1], "true class is 3"),
        ([0, 1], [-1, 1], "predicted class is -1"),
        ([0.5], [0], "whole numbers"),
    ],
)
def test_confusion_refuses(true: list[float], predicted: list[float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        confusion(true, predicted, 3)


# -------------------------------------------------------------------------------------------------------- detection


def all_points(target: np.ndarray, nontarget: np.ndarray) -> list[tuple[float, float]]:
    """(FRR, FAR) at every threshold that matters, counted trial by trial."""
    thresholds = [*sorted({*target, *nontarget}), math.inf]
    return [(float(np.mean(target < t)), float(np.mean(nontarget >= t))) for t in thresholds]


@settings(deadline=None)
@given(scores, scores)
def test_det_curve_counts_trials(target: list[float], nontarget: list[float]) -> None:
    t, n = np.array(target), np.array(nontarget)
    curve = det_curve(t, n)
    np.testing.assert_allclose(np.stack([curve.frr, curve.far], 1), all_points(t, n), atol=1e-15)
    assert (np.diff(curve.thresholds) > 0).all()
    assert (curve.frr[0], curve.far[0], curve.frr[-1], curve.far[-1]) == (0, 1, 1, 0)


@settings(deadline=None)
@given(scores, scores)
def test_auroc_counts_pairs(target: list[float], nontarget: list[float]) -> None:
    wins = sum((t > n) + (t == n) / 2 for t, n in itertools.product(target, nontarget))
    assert auroc(target, nontarget) == pytest.approx(wins / (len(target) * len(nontarget)), abs=1e-12)


def test_auroc_agrees_with_sklearn() -> None:
    from sklearn.metrics import roc_auc_score

    target, nontarget = (np.round(x, 1) for x in normal_scores())
    labels = np.repeat([1, 0], [len(target), len(nontarget)])
    assert auroc(target, nontarget) == pytest.approx(roc_auc_score(labels, np.append(target, nontarget)), abs=1e-12)


@settings(deadline=None)
@given(scores, scores)
def test_eer_is_where_the_polyline_of_the_roc_meets_the_diagonal(target: list[float], nontarget: list[float]) -> None:
    t, n = np.array(target), np.array(nontarget)
    crossings = []
    for (frr0, far0), (frr1, far1) in itertools.pairwise(all_points(t, n)):
        if frr0 <= far0 and frr1 >= far1:
            low, high = 0.0, 1.0
            for _ in range(60):  # walk along the segment to the place where both errors are equal
                middle = (low + high) / 2
                below = frr0 + middle * (frr1 - frr0) < far0 + middle * (far1 - far0)
                low, high = (middle, high) if below else (low, middle)
            crossings.append(frr0 + low * (frr1 - frr0))
    rate = eer(t, n).rate
    assert crossings
    assert rate == pytest.approx(crossings[0], abs=1e-9)
    assert rate == pytest.approx(crossings[-1], abs=1e-9)


@settings(deadline=None)
@given(st.lists(st.floats(-50, 50), min_size=2, max_size=40, unique=True), st.data())
def test_eer_without_ties_is_the_smallest_larger_error(pool: list[float], data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, len(pool) - 1))
    t, n = np.array(pool[:cut]), np.array(pool[cut:])
    found = eer(t, n)
    assert found.rate == pytest.approx(min(max(point) for point in all_points(t, n)), abs=1e-12)
    at_threshold = max(float(np.mean(t < found.threshold)), float(np.mean(n >= found.threshold)))
    assert at_threshold == pytest.approx(found.rate, abs=1e-12)


@settings(deadline=None)
@given(scores, scores)
def test_eer_does_not_change_when_the_sides_swap(target: list[float], nontarget: list[float]) -> None:
    swapped = eer([-n for n in nontarget], [-t for t in target])
    assert swapped.rate == pytest.approx(eer(target, nontarget).rate, abs=1e-12)


def test_eer_of_known_cases() -> None:
    assert eer([3.0, 4.0], [1.0, 2.0]) == (0.0, 2.5)
    assert eer([1.0, 1.0], [1.0, 1.0, 1.0]).rate == 0.5
    assert eer([0.0], [1.0]).rate == 1.0
    assert eer([0.0, 2.0], [1.0]).rate == 0.5  # the convex hull of the ROC would promise 1/3
    target, nontarget = normal_scores(200_000, 200_000)
    assert eer(target, nontarget).rate == pytest.approx(0.158655, abs=2e-3)  # the normal tail beyond 1
    assert eer(target, nontarget).threshold == pytest.approx(1, abs=0.02)


@settings(deadline=None)
@given(fine, fine)
def test_rank_metrics_ignore_rising_maps(target: list[float], nontarget: list[float]) -> None:
    t, n = np.round(target, 3), np.round(nontarget, 3)
    for metric in (auroc, min_dcf, min_cllr, lambda a, b: eer(a, b).rate):
        assert metric(2 * t + 3, 2 * n + 3) == pytest.approx(metric(t, n), abs=1e-12)
        assert metric(np.sinh(t / 50), np.sinh(n / 50)) == pytest.approx(metric(t, n), abs=1e-12)


@settings(deadline=None)
@given(scores, scores, st.floats(0.001, 0.999), st.floats(0.1, 10), st.floats(0.1, 10))
def test_min_dcf_tries_every_threshold(
    target: list[float], nontarget: list[float], p_target: float, c_miss: float, c_fa: float
) -> None:
    points = all_points(np.array(target), np.array(nontarget))
    costs = [c_miss * p_target * frr + c_fa * (1 - p_target) * far for frr, far in points]
    expected = min(costs) / min(c_miss * p_target, c_fa * (1 - p_target))
    found = min_dcf(target, nontarget, p_target, c_miss, c_fa)
    assert found == pytest.approx(expected, rel=1e-9)
    assert found <= 1 + 1e-12
    assert act_dcf(target, nontarget, p_target, c_miss, c_fa) >= found - 1e-12


def test_act_dcf_meets_min_dcf_on_true_ratios() -> None:
    target, nontarget = normal_scores(100_000, 100_000)
    ratios = 2 * target - 2, 2 * nontarget - 2  # log N(x; 2, 1) - log N(x; 0, 1)
    assert act_dcf(*ratios, p_target=0.1) == pytest.approx(min_dcf(*ratios, p_target=0.1), rel=0.01)
    assert act_dcf(*(r + 5 for r in ratios), p_target=0.1) > 1.5 * min_dcf(*ratios, p_target=0.1)
    assert act_dcf([math.inf], [-math.inf]) == 0


def test_cllr_of_known_cases() -> None:
    assert cllr([0.0, 0.0], [0.0]) == pytest.approx(1, abs=1e-15)
    assert cllr([math.inf], [-math.inf, -800.0]) == 0
    assert cllr([-math.inf], [0.0]) == math.inf
    assert cllr([-1000.0], [0.0]) == pytest.approx((1000 / math.log(2) + 1) / 2)
    target, nontarget = normal_scores(50, 70)
    direct = np.log2(1 + np.exp(-target)).mean() / 2 + np.log2(1 + np.exp(nontarget)).mean() / 2
    assert cllr(target, nontarget) == pytest.approx(direct, rel=1e-12)


@settings(deadline=None)
@given(coarse | separate, coarse | separate)
def test_min_cllr_is_cllr_after_isotonic_regression(target: list[float], nontarget: list[float]) -> None:
    from sklearn.isotonic import IsotonicRegression

    x = np.array(target + nontarget)
    y = np.repeat([1.0, 0.0], [len(target), len(nontarget)])
    posterior = IsotonicRegression(y_min=0, y_max=1).fit(x, y).predict(x)
    with np.errstate(divide="ignore"):
        ratios = np.log(posterior) - np.log1p(-posterior) - math.log(len(target) / len(nontarget))
    found = min_cllr(target, nontarget)
    assert found == pytest.approx(cllr(ratios[: len(target)], ratios[len(target) :]), abs=1e-9)
    assert -1e-12 <= found <= 1 + 1e-12
    assert found <= cllr(target, nontarget) + 1e-9


def test_min_cllr_of_known_cases() -> None:
    assert min_cllr([3.0, 4.0], [1.0, 2.0]) == 0
    assert min_cllr([1.0], [1.0]) == 1
    assert min_cllr([0.0], [1.0]) == 1
    target, nontarget = normal_scores(20_000, 20_000)
    assert min_cllr(target, nontarget) == pytest.approx(cllr(2 * target - 2, 2 * nontarget - 2), abs=0.005)


@pytest.mark.parametrize("metric", [auroc, det_curve, eer, min_dcf, act_dcf, cllr, min_cllr])
@pytest.mark.parametrize(
    ("target", "nontarget"), [([], [1.0]), ([1.0], []), ([math.nan, 1.0], [0.0]), ([0.0], [math.nan])]
)
def test_detection_refuses_no_scores_and_nan(metric, target: list[float], nontarget: list[float]) -> None:
    with pytest.raises(InputError, match=r"at least one|NaN"):
        metric(target, nontarget)


@pytest.mark.parametrize("metric", [auroc, det_curve, eer, min_dcf, min_cllr])
def test_thresholded_scores_must_be_finite(metric) -> None:
    with pytest.raises(InputError, match="1 of the 2 non-target scores are infinite"):
        metric([0.0], [-math.inf, 1.0])


@pytest.mark.parametrize(("p_target", "c_miss"), [(0.0, 1.0), (1.0, 1.0), (math.nan, 1.0), (0.5, 0.0), (0.5, -1.0)])
def test_costs_refuse_what_is_no_prior_or_cost(p_target: float, c_miss: float) -> None:
    for metric in (min_dcf, act_dcf):
        with pytest.raises(InputError, match=r"prior|costs"):
            metric([1.0], [0.0], p_target, c_miss)


# ------------------------------------------------------------------------------------------------------------- edits


def slow_edits(ref: list[str], hyp: list[str]) -> tuple[int, int]:
    """(edits, substitutions), least of both in that order, cell by cell."""
    above = [(j, 0) for j in range(len(hyp) + 1)]
    for i, r in enumerate(ref, 1):
        row = [(i, 0)]
        for j, h in enumerate(hyp, 1):
            change = r != h
            row.append(
                min(
                    (above[j - 1][0] + change, above[j - 1][1] + change),
                    (above[j][0] + 1, above[j][1]),
                    (row[-1][0] + 1, row[-1][1]),
                )
            )
        above = row
    return above[-1]


@settings(deadline=None)
@given(words, words)
def test_edit_distance_agrees_with_a_plain_table(ref: list[str], hyp: list[str]) -> None:
    found = edit_distance(ref, hyp)
    assert (found.edits, found.substitutions) == slow_edits(ref, hyp)
    assert found.insertions - found.deletions == len(hyp) - len(ref)
    assert found.hits >= 0
    assert min(found.substitutions, found.deletions, found.insertions) >= 0
    assert found.ref_length == len(ref)


@settings(deadline=None)
@given(words, words, words)
def test_edit_distance_is_a_metric(a: list[str], b: list[str], c: list[str]) -> None:
    there, back = edit_distance(a, b), edit_distance(b, a)
    assert (there.edits == 0) == (a == b)
    assert (there.substitutions, there.deletions, there.insertions) == (
        back.substitutions,
        back.insertions,
        back.deletions,
    )
    assert edit_distance(a, c).edits <= there.edits + edit_distance(b, c).edits


def test_edit_distance_takes_any_tokens() -> None:
    counts = edit_distance("kitten", "sitting")
    assert (counts.substitutions, counts.deletions, counts.insertions) == (2, 0, 1)
    assert edit_distance(np.array([1, 2, 3]), [1, 3]).deletions == 1
    assert edit_distance([("a", 1), None], [("a", 1), 2.5]).substitutions == 1
    assert edit_distance([], []).edits == 0
    assert edit_distance("ab", "").deletions == 2


def test_long_sequences_need_wider_integers() -> None:
    ref = [0] * 50_000
    assert edit_distance(ref, [1, 0]) == metrics.EditCounts(1, 49_998, 0, 50_000)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(words.filter(bool), words), min_size=1, max_size=30), st.sampled_from([1, 20, 1 << 16]))
def test_error_rates_agree_with_jiwer_however_pairs_are_batched(
    pairs: list[tuple[list[str], list[str]]], cells: int
) -> None:
    import jiwer

    refs, hyps = (list(map(" ".join, side)) for side in zip(*pairs, strict=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "_CELLS_AT_ONCE", cells)
        by_word, by_character = wer(refs, hyps), cer(refs, hyps)
    assert by_word.rate == pytest.approx(jiwer.wer(refs, hyps))
    assert by_character.rate == pytest.approx(jiwer.cer(refs, hyps))
    for i, (ref, hyp) in enumerate(pairs):
        alone = edit_distance(ref, hyp)
        row = (by_word.substitutions[i], by_word.deletions[i], by_word.insertions[i], by_word.ref_lengths[i])
        assert row == (alone.substitutions, alone.deletions, alone.insertions, alone.ref_length)
    assert by_word.rate == by_word.edits.sum() / by_word.ref_lengths.sum()


def test_error_rate_is_of_the_corpus_not_the_mean_of_items() -> None:
    result = wer(["a", "a b c", ""], ["b", "a b c", "x"])
    assert result.rate == 2 / 4
    np.testing.assert_array_equal(result.edits, [1, 0, 1])
    np.testing.assert_array_equal(result.insertions, [0, 0, 1])
    np.testing.assert_array_equal(result.ref_lengths, [1, 3, 0])


def test_white_space_is_not_an_error_and_scripts_are_counted_by_code_point() -> None:
    assert wer(["turn  on\tthe light "], ["turn on the light"]).rate == 0
    assert cer([" a  b"], ["a b"]).rate == 0
    assert cer(["a b"], ["ab"]).rate == 1 / 3
    assert cer(["打开灯"], ["打开门"]).rate == 1 / 3


@pytest.mark.parametrize("rate", [wer, cer])
def test_error_rates_refuse(rate) -> None:
    with pytest.raises(InputError, match="2 references and 1 hypotheses"):
        rate(["a", "b"], ["a"])
    with pytest.raises(InputError, match="at least 1"):
        rate([], [])
    with pytest.raises(InputError, match="at least 1"):
        rate(["", " "], ["a", "b"])
    with pytest.raises(InputError, match="brackets"):
        rate("a b", "a b")


def test_a_thousand_lines_take_a_fraction_of_a_second() -> None:
    letters = np.random.default_rng(0).choice(list("abcdefghij"), (2, 1000, 100))
    refs, hyps = (["".join(row) for row in side] for side in letters)
    start = time.perf_counter()
    cer(refs, hyps)
    assert time.perf_counter() - start < 1
