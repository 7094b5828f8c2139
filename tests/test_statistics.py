"""Intervals and comparisons: closed forms, SciPy, second implementations, and how often they cover."""

import math
import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from metavox import statistics
from metavox.contracts import InputError
from metavox.metrics import wer
from metavox.statistics import (
    Interval,
    clopper_pearson,
    cluster_bootstrap,
    holm,
    mean_interval,
    paired_bootstrap,
    stratified_paired_difference,
    wilson,
)

numbers = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=40)


def grouped(k: int, m: int, seed: int, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """k clusters of m items around 0, their centres spread as given and their items by 1, and the labels."""
    rng = np.random.default_rng(seed)
    return (spread * rng.normal(size=(k, 1)) + rng.normal(size=(k, m))).ravel(), np.repeat(np.arange(k), m)


def coverage(interval: Callable[[int], tuple[float, float]], n_trials: int) -> float:
    return float(np.mean([low <= 0 <= high for low, high in map(interval, range(n_trials))]))


# ----------------------------------------------------------------------------------------------------- closed forms


@settings(deadline=None)
@given(numbers, st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_mean_interval_agrees_with_scipy(values: list[float], level: float) -> None:
    found = mean_interval(values, level)
    assert found.mean == pytest.approx(np.mean(values), abs=1e-9)
    if np.std(values) > 1e-6:
        low, high = stats.t.interval(level, len(values) - 1, np.mean(values), stats.sem(values))
        assert (found.low, found.high) == pytest.approx((low, high), rel=1e-8, abs=1e-8)


def test_one_value_has_no_interval_and_valid_json() -> None:
    found = mean_interval([0.5])
    assert (found.mean, found.n) == (0.5, 1)
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert found.ci95 == [None, None]
    assert mean_interval([0.25, 0.25]).ci95 == [0.25, 0.25]
    assert mean_interval([1.0, 1.0, 0.9]).high > 1  # ends are not clipped


def test_ci95_is_only_said_of_95_percent() -> None:
    found = mean_interval([0.0, 1.0, 2.0], 0.9)
    with pytest.raises(InputError, match=r"level 0\.9"):
        _ = found.ci95
    assert Interval(0.5, 0.25, 0.75, 9, "student-t").ci95 == [0.25, 0.75]


@pytest.mark.parametrize(("interval", "method"), [(wilson, "wilson"), (clopper_pearson, "exact")])
@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_proportions_agree_with_scipy(interval, method: str, level: float) -> None:
    for n in (1, 2, 7, 50, 600, 20_000):
        for successes in {0, 1, n // 3, n - 1, n}:
            expected = stats.binomtest(successes, n).proportion_ci(level, method)
            found = interval(successes, n, level)
            assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-6, abs=1e-11)
            assert 0 <= found.low <= found.mean <= found.high <= 1


def test_clopper_pearson_of_none_and_one_has_a_closed_form() -> None:
    for n in (1, 30, 10_000):
        assert clopper_pearson(0, n).high == pytest.approx(-math.expm1(math.log(0.025) / n), rel=1e-9)
        assert clopper_pearson(1, n).low == pytest.approx(-math.expm1(math.log1p(-0.025) / n), rel=1e-9)


def test_clopper_pearson_covers_at_least_as_often_as_it_says() -> None:
    n = 40
    ends = np.array([(clopper_pearson(k, n).low, clopper_pearson(k, n).high) for k in range(n + 1)])
    for p in np.linspace(0.01, 0.99, 60):
        covered = (ends[:, 0] <= p) & (p <= ends[:, 1])
        assert stats.binom.pmf(np.arange(n + 1), n, p) @ covered >= 0.95


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_rejects_what_its_steps_reject(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for level in (0.01, 0.05, 0.3):
        rejected, m = set(), len(p_values)
        for step, i in enumerate(sorted(range(m), key=lambda i: p_values[i])):
            if p_values[i] * (m - step) > level:
                break
            rejected.add(i)
        assert set(np.flatnonzero(adjusted <= level)) == rejected
    assert (adjusted >= np.array(p_values)).all()
    assert (adjusted <= 1).all()


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.6, 0.9]), [1, 1])
    for bad in ([], [0.5, 1.1], [-0.1], [math.nan]):
        with pytest.raises(InputError):
            holm(bad)


# --------------------------------------------------------------------------------------------------------- bootstrap


def test_resampling_is_the_plain_bootstrap() -> None:
    """The deviation of resampled means is that of a loop over resamples, and for items the closed form."""
    values = np.random.default_rng(0).exponential(size=60)
    sizes = np.random.default_rng(1).integers(1, 9, 60).astype(float)
    labels = np.random.default_rng(2).integers(0, 12, 60)
    ours, _ = statistics._resample(values, None, None, np.random.SeedSequence(0), 20_000)
    assert ours.deviations.std() == pytest.approx(values.std() / math.sqrt(60), rel=0.02)
    ours, n_clusters = statistics._resample(values, sizes, labels, np.random.SeedSequence(0), 20_000)
    assert n_clusters == (12,)
    rng, slow = np.random.default_rng(3), []
    members = [np.flatnonzero(labels == c) for c in range(12)]
    for _ in range(5_000):
        items = np.concatenate([members[c] for c in rng.integers(12, size=12)])
        slow.append(values[items].sum() / sizes[items].sum() - values.sum() / sizes.sum())
    np.testing.assert_allclose(
        np.quantile(ours.deviations, [0.025, 0.5, 0.975]), np.quantile(slow, [0.025, 0.5, 0.975]), atol=0.004
    )


def test_two_ways_are_the_pigeonhole_bootstrap() -> None:
    rng = np.random.default_rng(0)
    # As many speakers as classes, both in rising order: draws that were not independent would show.
    speakers, classes = rng.integers(0, 8, 200), rng.integers(0, 8, 200)
    values = (speakers + classes) / 4 + rng.normal(size=200)
    ours, n_clusters = statistics._resample(values, None, [speakers, classes], np.random.SeedSequence(0), 20_000)
    assert n_clusters == (8, 8)
    slow = []
    for _ in range(5_000):
        weight = np.bincount(rng.integers(8, size=8), minlength=8)[speakers]
        weight = weight * np.bincount(rng.integers(8, size=8), minlength=8)[classes]
        slow.append(weight @ values / weight.sum() - values.mean())
    np.testing.assert_allclose(
        np.quantile(ours.deviations, [0.05, 0.5, 0.95]), np.quantile(slow, [0.05, 0.5, 0.95]), atol=0.06
    )


def test_the_scarcest_way_decides_how_far_out_the_ends_lie() -> None:
    speakers, classes = np.indices((6, 50)).reshape(2, -1)
    values = np.random.default_rng(0).normal(size=6)[speakers]  # classes make no difference
    both = cluster_bootstrap(values, [speakers, classes], seed=0)
    one = cluster_bootstrap(values, speakers, seed=0)
    assert (both.low, both.high) == pytest.approx((one.low, one.high), abs=0.05 * (one.high - one.low))


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    values, speakers = grouped(11, 5, 0)
    ways = [speakers, np.tile(np.arange(5), 11)]
    whole = cluster_bootstrap(values, ways, seed=3, n_resamples=500)
    monkeypatch.setattr(statistics, "_WEIGHTS_AT_ONCE", 200)
    small = cluster_bootstrap(values, ways, seed=3, n_resamples=500)
    assert (small.low, small.high) == pytest.approx((whole.low, whole.high), rel=1e-12)


def test_same_seed_same_interval_and_another_seed_another() -> None:
    values, clusters = grouped(20, 5, 0)
    first, again, other = (cluster_bootstrap(values, clusters, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.low != other.low
    assert first.low == pytest.approx(other.low, abs=0.05)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(-1e6, 1e6), st.floats(0.01, 100))
def test_shift_scale_and_order(seed: int, shift: float, scale: float) -> None:
    values, clusters = grouped(12, 4, seed)
    labels = np.array([f"speaker {c:02d}" for c in clusters])
    found = cluster_bootstrap(values, labels, seed=5, n_resamples=300)
    moved = cluster_bootstrap(scale * values + shift, labels, seed=5, n_resamples=300)
    tolerance = 1e-9 * (scale + abs(shift))
    assert moved.mean == pytest.approx(scale * found.mean + shift, abs=tolerance)
    assert moved.low == pytest.approx(scale * found.low + shift, abs=tolerance)
    assert moved.high == pytest.approx(scale * found.high + shift, abs=tolerance)
    order = np.random.default_rng(seed).permutation(len(values))
    shuffled = cluster_bootstrap(values[order], labels[order].tolist(), seed=5, n_resamples=300)
    assert (shuffled.low, shuffled.high) == pytest.approx((found.low, found.high), abs=1e-12)
    assert found.low <= found.mean <= found.high


def test_without_clusters_it_agrees_with_students_t() -> None:
    values = np.random.default_rng(0).normal(size=30)
    boot, exact = cluster_bootstrap(values, None, seed=0), mean_interval(values)
    assert (boot.low, boot.high) == pytest.approx((exact.low, exact.high), abs=0.05 * (exact.high - exact.low))
    assert boot.n_clusters == ()


@pytest.mark.parametrize("k", [3, 5, 8, 25])
def test_clusters_cover_where_the_naive_interval_does_not(k: int) -> None:
    def clustered(seed: int) -> tuple[float, float]:
        values, clusters = grouped(k, 10, seed)
        found = cluster_bootstrap(values, clusters, seed=seed, n_resamples=1_000)
        return found.low, found.high

    def naive(seed: int) -> tuple[float, float]:
        found = mean_interval(grouped(k, 10, seed)[0])
        return found.low, found.high

    assert 0.91 <= coverage(clustered, 400) <= 0.985
    assert coverage(naive, 400) < 0.7


def test_two_ways_cover_where_one_does_not() -> None:
    def trial(seed: int, both: bool) -> tuple[float, float]:
        rng = np.random.default_rng(seed)
        values = 0.3 * rng.normal(size=(25, 1)) + rng.normal(size=(1, 10)) + rng.normal(size=(25, 10))
        speakers, classes = np.indices((25, 10)).reshape(2, -1)
        ways = [speakers, classes] if both else speakers
        found = cluster_bootstrap(values.ravel(), ways, seed=seed, n_resamples=500)
        return found.low, found.high

    assert coverage(lambda seed: trial(seed, True), 200) >= 0.92
    assert coverage(lambda seed: trial(seed, False), 200) < 0.7


def test_a_word_error_rate_is_resampled_as_a_ratio() -> None:
    result = wer(["a b c d", "a", "b c"] * 40, ["a x c d", "b", "b c"] * 40)
    found = cluster_bootstrap(result.edits, None, per=result.ref_lengths, seed=0)
    assert found.mean == pytest.approx(result.rate)
    assert found.low < result.rate < found.high
    with pytest.raises(InputError, match="119 sizes for 120 values"):
        cluster_bootstrap(result.edits, None, per=result.ref_lengths[1:], seed=0)


def test_one_cluster_says_nothing() -> None:
    found = cluster_bootstrap([0.0, 1.0], ["anna", "anna"], seed=0)
    assert found.mean == 0.5
    assert found.ci95 == [None, None]
    assert paired_bootstrap([1.0, 2.0], [0.0, 0.0], clusters=["a", "a"], seed=0).p_value == 1


# ----------------------------------------------------------------------------------------------------- comparisons


def test_equal_pairs_differ_by_nothing() -> None:
    a = np.random.default_rng(0).normal(size=50)
    found = paired_bootstrap(a, a, seed=0)
    assert (found.difference, found.low, found.high, found.p_value, found.n) == (0, 0, 0, 1, 50)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([3, 4, 6, 20]))
def test_swapping_the_sides_negates_the_difference(seed: int, k: int) -> None:
    a, clusters = grouped(k, 4, seed)
    b, _ = grouped(k, 4, seed + 1)
    there = paired_bootstrap(a, b, clusters=clusters, seed=1, n_resamples=500)
    back = paired_bootstrap(b, a, clusters=clusters, seed=1, n_resamples=500)
    assert (back.difference, back.low, back.high) == pytest.approx((-there.difference, -there.high, -there.low))
    assert back.p_value == pytest.approx(there.p_value, rel=1e-9)
    assert 0 < there.p_value <= 1


@pytest.mark.parametrize("k", [3, 6, 30])
def test_the_p_value_inverts_the_interval(k: int) -> None:
    values, clusters = grouped(k, 5, 1)
    values = values - values.mean()
    for shift in np.linspace(0, 4, 30):
        found = paired_bootstrap(values + shift, 0 * values, clusters=clusters, seed=0)
        excludes_zero = found.low > 0
        if abs(found.p_value - 0.05) > 0.004:
            assert excludes_zero == (found.p_value < 0.05)


def test_the_p_value_is_near_students_and_never_zero() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=300)
    a -= a.mean()
    for shift in (0.01, 0.05, 0.1, 0.12):
        found = paired_bootstrap(a + shift, np.zeros(300), seed=0)
        assert found.p_value == pytest.approx(stats.ttest_1samp(a + shift, 0).pvalue, rel=0.1)
    certain = paired_bootstrap(a + 100, np.zeros(300), seed=0)
    assert 2 / 10_001 < certain.p_value < 0.001  # one resample of 10,000 is counted against it


def test_few_clusters_cannot_be_certain() -> None:
    for k, floor in ((2, 0.4), (3, 0.07), (4, 0.007), (5, 0.01)):
        clusters = np.repeat(np.arange(k), 50)
        assert paired_bootstrap(np.ones(50 * k), np.zeros(50 * k), clusters=clusters, seed=0).p_value > floor


def test_under_no_difference_p_values_are_uniform() -> None:
    p_values = []
    for seed in range(300):
        a, clusters = grouped(12, 4, seed)
        p_values.append(paired_bootstrap(a, 0 * a, clusters=clusters, seed=seed, n_resamples=1_000).p_value)
    for level in (0.05, 0.2, 0.5):
        assert np.mean(np.array(p_values) <= level) == pytest.approx(
            level, abs=4 * math.sqrt(level * (1 - level) / 300)
        )


def test_pairing_finds_what_unpaired_noise_hides() -> None:
    rng = np.random.default_rng(0)
    difficulty = rng.normal(0, 5, 200)
    a, b = difficulty + 0.3 + rng.normal(0, 0.5, 200), difficulty + rng.normal(0, 0.5, 200)
    assert paired_bootstrap(a, b, seed=0).low > 0
    assert mean_interval(a).low < mean_interval(b).mean


def test_sets_count_the_same_whatever_their_size() -> None:
    rng = np.random.default_rng(0)
    big, small = rng.normal(0.1, 1, 2_000), stats.norm.ppf((np.arange(6) + 0.5) / 6) + 0.9
    found = stratified_paired_difference({"small": (small, 0 * small), "big": (big, 0 * big)}, seed=0)
    assert found.difference == pytest.approx((big.mean() + small.mean()) / 2)
    assert (found.worst_set, found.n) == ("big", 2_006)
    assert found.worst.difference == pytest.approx(big.mean())
    assert found.by_set["small"].n == 6
    # Welch's interval is the closed form of it.
    variances, dofs = np.array([big.var(ddof=1) / 2_000, small.var(ddof=1) / 6]), np.array([1_999, 5])
    dof = variances.sum() ** 2 / (variances**2 / dofs).sum()
    half = stats.t.ppf(0.975, dof) * math.sqrt(variances.sum()) / 2
    assert (found.low, found.high) == pytest.approx((found.difference - half, found.difference + half), abs=0.1 * half)
    reordered = stratified_paired_difference({"big": (big, 0 * big), "small": (small, 0 * small)}, seed=0)
    assert reordered == found


def test_sets_are_resampled_independently() -> None:
    a = np.random.default_rng(0).normal(size=100)
    one = stratified_paired_difference({"a": (a, 0 * a)}, seed=0)
    four = stratified_paired_difference({name: (a, 0 * a) for name in "abcd"}, seed=0)
    assert (four.high - four.low) / (one.high - one.low) == pytest.approx(0.5, abs=0.03)


def test_one_set_is_the_paired_comparison() -> None:
    a, clusters = grouped(10, 6, 4)
    one = stratified_paired_difference({"digits": (a, 0 * a, clusters)}, seed=0)
    plain = paired_bootstrap(a, 0 * a, clusters=clusters, seed=0)
    assert one.difference == pytest.approx(plain.difference)
    assert (one.low, one.high) == pytest.approx((plain.low, plain.high), abs=0.05)
    assert one.ci95 == [one.low, one.high] == one.by_set["digits"].ci95


def test_the_mean_over_sets_covers() -> None:
    def trial(seed: int) -> tuple[float, float]:
        pairs = {}
        for i, k in enumerate((3, 5, 12)):  # speakers in a set
            a, clusters = grouped(k, 6, 1_000 * seed + i)
            pairs[f"set {i}"] = (a, 0 * a, clusters)
        found = stratified_paired_difference(pairs, seed=seed, n_resamples=500)
        return found.low, found.high

    assert 0.91 <= coverage(trial, 300) <= 0.985


# ---------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean_interval([]), "at least one"),
        (lambda: mean_interval([1.0, math.nan]), "1 of the 2 values are NaN"),
        (lambda: mean_interval([1.0, math.inf]), "NaN or infinite"),
        (lambda: mean_interval([1.0, 2.0], 95.0), "level of an interval is 95"),
        (lambda: wilson(3, 2), "3 successes of 2"),
        (lambda: clopper_pearson(0, 0), "0 successes of 0"),
        (lambda: cluster_bootstrap([1.0, 2.0], ["a"], seed=0), "shape"),
        (lambda: cluster_bootstrap([1.0, 2.0], [["a", "b"], ["c"]], seed=0), "shape"),
        (lambda: cluster_bootstrap([1.0, 2.0], ["a", None], seed=0), "1 of the 2 cluster labels are None"),
        (lambda: cluster_bootstrap([1.0, 2.0], [], seed=0), "shape"),
        (lambda: cluster_bootstrap([1.0, 2.0], None, seed=0, n_resamples=10), "n_resamples is 10"),
        (lambda: cluster_bootstrap([1.0, 2.0], None, seed=0, per=[0, 0]), "not all zero"),
        (lambda: paired_bootstrap([1.0], [1.0, 2.0], seed=0), "1 first and 2 second values; score"),
        (lambda: stratified_paired_difference({}, seed=0), "0 sets"),
        (lambda: stratified_paired_difference({"digits": ([1.0], [math.nan])}, seed=0), "of set digits"),
        (lambda: stratified_paired_difference({"digits": ([1.0], [])}, seed=0), "of set digits"),
    ],
)
def test_refusals_are_one_sentence(call, message: str) -> None:
    with pytest.raises(InputError, match=message) as refusal:
        call()
    assert str(refusal.value).endswith(".")
    assert "\n" not in str(refusal.value)


def test_ten_thousand_resamples_of_twenty_thousand_items_take_a_moment() -> None:
    rng = np.random.default_rng(0)
    values, speakers, classes = rng.random(20_000), rng.integers(0, 50, 20_000), rng.integers(0, 20, 20_000)
    start = time.perf_counter()
    cluster_bootstrap(values, speakers, seed=0)
    cluster_bootstrap(values, [speakers, classes], seed=0)
    assert time.perf_counter() - start < 1
