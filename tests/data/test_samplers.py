"""Which group a task is of: by its share, by its size or by its loss; repeatable, and counted."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_episodes import check, corpus, said, same

from metavox.contracts import Draw, InputError, Utterance
from metavox.data import episodes
from metavox.data.episodes import ClassIndex, EpisodeSpec
from metavox.data.samplers import MEMORY, WEIGHTS, Adaptivity, TaskSampler, drawable


def words(n_words: int, n_speakers: int, n_takes: int, lang: str) -> list[Utterance]:
    return corpus(n_words, n_speakers, n_takes, lang)


UTTERANCES = [*words(8, 2, 3, "en"), *words(3, 2, 3, "lt"), *words(2, 1, 1, "xx")]


def by_language(utterances: Sequence[Utterance]) -> list[ClassIndex]:
    return [
        ClassIndex(utterances, keep=np.asarray([u.lang == lang for u in utterances]), name=str(lang))
        for lang in dict.fromkeys(u.lang for u in utterances)
    ]


def sampler(weights: Sequence[float] = (1.0, 1.0), seed: int = 0, spec: EpisodeSpec | None = None) -> TaskSampler:
    return TaskSampler(by_language(UTTERANCES), [*weights, 1.0], spec or EpisodeSpec(5, 2, 2), seed)


def adaptive(n_groups: int = 4, *, kinds: Sequence[str] = (), seed: int = 0, floor: float = 0.2) -> TaskSampler:
    utterances = [u for i in range(n_groups) for u in words(4, 2, 3, f"l{i}")]
    groups = by_language(utterances)
    weights = [0.3 if kind == "real" else 0.1 for kind in kinds] if kinds else [1.0] * n_groups
    return TaskSampler(groups, weights, EpisodeSpec(4, 1, 1), seed, kinds, Adaptivity(0.3, floor))


def teach(tasks: TaskSampler, losses: dict[str, float], steps: range, batch: int = 2) -> list[list[Draw]]:
    """Steps in which a task costs what its language costs."""
    seen = []
    for step in steps:
        draws = [tasks.episode(step, i) for i in range(batch)]
        costs = [losses[draw.classes[0].split(":")[0]] for draw in draws]
        tasks.record(step, draws, costs, [np.log(4)] * batch)
        seen.append(draws)
    return seen


# --------------------------------------------------------------------------------------------------------- one group


def test_a_task_is_of_one_group_and_as_wide_as_the_group_allows() -> None:
    tasks = sampler()
    widths = set()
    for step in range(60):
        draw = tasks.episode(step)
        (lang,) = {name.split(":")[0] for name in draw.classes}
        widths.add((lang, len(draw.classes)))
        check(draw, UTTERANCES, EpisodeSpec(len(draw.classes), 2, 2))
    assert widths == {("en", 5), ("lt", 3)}  # xx has single takes only and is never drawn


def test_step_and_number_decide_and_the_order_of_asking_does_not() -> None:
    tasks, other = sampler(), sampler()
    drawn = {(step, i): tasks.episode(step, i) for step in range(5) for i in range(3)}
    for at in reversed(list(drawn)):
        assert same(other.episode(*at), drawn[at])
    assert not same(drawn[0, 0], drawn[0, 1])
    assert not same(drawn[0, 1], drawn[1, 0])
    assert not same(sampler(seed=1).episode(0, 0), drawn[0, 0])


def test_equal_names_have_equal_ids_in_all_groups() -> None:
    first, second = corpus(6, 1, 3, "en"), corpus(9, 1, 3, "en")
    utterances = [*first, *second]
    keep = np.arange(len(utterances)) < len(first)
    groups = [ClassIndex(utterances, keep=keep), ClassIndex(utterances, keep=~keep)]
    tasks = TaskSampler(groups, [1.0, 1.0], EpisodeSpec(4, 1, 1), 0)
    assert tasks.n_classes == 9
    ids: dict[str, int] = {}
    for step in range(100):
        draw = tasks.episode(step)
        for name, number in zip(draw.classes, draw.class_ids.tolist(), strict=True):
            assert ids.setdefault(name, number) == number
    assert sorted(ids.values()) == list(range(9))


def test_no_task_can_be_made_of_too_little() -> None:
    with pytest.raises(InputError, match="No group has two classes with the 9 takes that an episode needs"):
        sampler(spec=EpisodeSpec(2, 8, 1))
    with pytest.raises(InputError, match="No group"):
        TaskSampler([], [], EpisodeSpec(2, 1, 1), 0)


# ---------------------------------------------------------------------------------------------------------- speakers


@settings(max_examples=25, deadline=None)
@given(ways=st.integers(2, 6), shots=st.integers(1, 4), seed=st.integers(0, 2**32), n_speakers=st.integers(2, 5))
def test_speakers_of_training_tasks_are_kept_apart(ways: int, shots: int, seed: int, n_speakers: int) -> None:
    utterances = corpus(6, n_speakers, 4)
    tasks = TaskSampler([ClassIndex(utterances)], [1.0], EpisodeSpec(ways, shots, 3, "disjoint"), seed)
    for step in range(4):
        draw = tasks.episode(step)
        assert len(draw.classes) == ways
        check(draw, utterances, EpisodeSpec(ways, shots, 3, "disjoint"))


@pytest.mark.parametrize("n_tries", [0, 1, 8])
def test_the_split_that_was_found_stands_in_for_tries_that_fail(monkeypatch: pytest.MonkeyPatch, n_tries: int) -> None:
    """Nine of twelve takes in the support, each by somebody else, and that for two words at once: rare."""
    monkeypatch.setattr(episodes, "N_SPLITS_IN_TRAINING", n_tries)
    utterances = [said(f"w{w}", f"s{w}-{s}") for w in range(2) for s in range(12)]
    spec = EpisodeSpec(2, 9, 1, "disjoint")
    tasks = TaskSampler([ClassIndex(utterances)], [1.0], spec, 0)
    for step in range(20):
        check(tasks.episode(step), utterances, spec)


def test_a_task_is_narrower_where_no_split_serves_all_classes() -> None:
    """Each of four words has its takes by one speaker and a last one by the next: two words at most share a split."""
    utterances = [said(f"w{w}", "abcd"[w], number=i) for w in range(4) for i in range(4)]
    utterances += [said(f"w{w}", "abcd"[(w + 1) % 4]) for w in range(4)]
    tasks = TaskSampler([ClassIndex(utterances)], [1.0], EpisodeSpec(4, 3, 1, "disjoint"), 0)
    pairs = set()
    for step in range(20):
        draw = tasks.episode(step)
        check(draw, utterances, EpisodeSpec(2, 3, 1, "disjoint"))
        pairs.add(frozenset(draw.classes))
    assert pairs == {frozenset({"w0", "w2"}), frozenset({"w1", "w3"})}


def test_groups_where_speakers_cannot_be_kept_apart_are_left_out_or_drawn_from_any() -> None:
    utterances = [*words(4, 3, 3, "en"), *words(4, 1, 9, "lt"), *[said(f"w{i // 9}", None, "sw") for i in range(36)]]
    groups = by_language(utterances)
    for speakers, langs in (("disjoint", {"en"}), ("where_known", {"en", "lt", "sw"})):
        spec = EpisodeSpec(3, 2, 2, speakers)  # type: ignore[arg-type]
        tasks = TaskSampler(groups, [1.0] * 3, spec, 0)
        draws = [tasks.episode(step) for step in range(40)]
        assert {draw.classes[0].split(":")[0] for draw in draws} == langs
        for draw in draws:
            apart = draw.classes[0].startswith("en:")
            check(draw, utterances, EpisodeSpec(3, 2, 2, "disjoint" if apart else "any"))
    with pytest.raises(InputError, match=r"\(1 of 2 do not name all speakers\); set tasks\.speakers to where_known"):
        TaskSampler(groups[1:], [1.0] * 2, EpisodeSpec(3, 2, 2, "disjoint"), 0)
    assert drawable(groups[1], EpisodeSpec(3, 2, 2, "disjoint")) is None


# ------------------------------------------------------------------------------------------------- uniform, tempered


@pytest.mark.parametrize("weights", [(1.0, 1.0), (3.0, 1.0), (0.0, 2.0)])
def test_groups_are_drawn_by_their_weights(weights: tuple[float, float]) -> None:
    tasks = sampler(weights)
    n = 400
    from_first = sum(tasks.episode(step).classes[0].startswith("en:") for step in range(n))
    expected = weights[0] / sum(weights)
    assert abs(from_first / n - expected) < 4 * (expected * (1 - expected) / n) ** 0.5 + 1e-9


@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
def test_tempered_shares_follow_size_to_the_power_alpha(alpha: float) -> None:
    sizes = np.asarray([40.0, 80.0, 240.0, 800.0])
    utterances = [u for i, n in enumerate(sizes) for u in words(4, 2, int(n) // 8, f"l{i}")]
    groups = by_language(utterances)
    assert [len(group.positions) for group in groups] == sizes.tolist()
    tasks = TaskSampler(groups, WEIGHTS["tempered"](sizes, alpha).tolist(), EpisodeSpec(2, 1, 1), 3)
    expected = sizes**alpha / (sizes**alpha).sum()
    np.testing.assert_allclose(tasks.chances, expected)
    assert tasks.episode(5).classes[0].startswith(f"l{tasks._some_group(np.random.default_rng([3, 5, 0]))}:")
    n = 2000
    observed = np.bincount([tasks._some_group(np.random.default_rng([3, step, 0])) for step in range(n)], minlength=4)
    statistic = float((np.square(observed - n * expected) / (n * expected)).sum())
    assert statistic < 16.3  # the 0.999 quantile of chi-square with 3 degrees of freedom
    if alpha:
        uniform = float((np.square(observed - n / 4) / (n / 4)).sum())
        assert uniform > 16.3


# ---------------------------------------------------------------------------------------------------------- adaptive


@settings(max_examples=60, deadline=None)
@given(
    levels=st.lists(st.floats(0, 20), min_size=1, max_size=30),
    temperature=st.floats(0.01, 50),
    floor=st.floats(0, 1),
)
def test_chances_rise_with_the_loss_and_never_leave_the_floor(
    levels: list[float], temperature: float, floor: float
) -> None:
    some = np.asarray(levels)
    chances = Adaptivity(temperature, floor).chances(some)
    assert chances.sum() == pytest.approx(1)
    assert chances.min() >= floor / len(some) - 1e-12
    order = np.argsort(some)
    assert (np.diff(chances[order]) >= -1e-12).all()


def test_chances_are_the_best_answer_of_an_adversary_with_entropy() -> None:
    """Softmax maximises sum p L + temperature * entropy(p): no other distribution does better."""
    rng = np.random.default_rng(0)
    levels, temperature = rng.uniform(0, 1, 6), 0.3

    def value(p: np.ndarray) -> float:
        return float((p * levels).sum() - temperature * (p * np.log(p)).sum())

    best = value(Adaptivity(temperature, 0.0).chances(levels))
    assert all(value(rng.dirichlet(np.ones(6))) < best for _ in range(500))


def test_a_group_without_a_loss_counts_as_the_mean_of_the_others() -> None:
    found = Adaptivity(0.3, 0.1).chances(np.asarray([0.2, np.nan, 0.6]))
    np.testing.assert_allclose(found, Adaptivity(0.3, 0.1).chances(np.asarray([0.2, 0.4, 0.6])))
    np.testing.assert_allclose(Adaptivity().chances(np.full(4, np.nan)), np.full(4, 0.25))


def test_the_hard_group_is_drawn_more_often_and_the_easy_ones_not_less_than_the_floor() -> None:
    tasks = adaptive()
    losses = {"l0": 0.1, "l1": 0.1, "l2": 1.3, "l3": 0.1}
    teach(tasks, losses, range(40))
    hard = tasks.chances[2]
    assert hard > 0.6
    assert tasks.chances.min() >= 0.2 / 4
    before = tasks.arrays["episodes"].copy()
    teach(tasks, losses, range(40, 190))
    share = (tasks.arrays["episodes"] - before) / 300
    assert abs(share[2] - hard) < 0.1
    assert share.min() > 0.2 / 4 - 0.04
    teach(tasks, dict.fromkeys(losses, 0.1), range(190, 280))  # it is learned now
    np.testing.assert_allclose(tasks.chances, 0.25, atol=0.03)


def test_adaptivity_leaves_the_shares_of_real_and_synthetic_tasks_as_they_are() -> None:
    tasks = adaptive(kinds=["real", "real", "synthetic", "synthetic"])
    teach(tasks, {"l0": 0.1, "l1": 0.9, "l2": 1.4, "l3": 0.4}, range(60))
    assert tasks.chances[:2].sum() == pytest.approx(0.75)
    assert tasks.chances[1] > 3 * tasks.chances[0]
    assert tasks.chances[2] > 2 * tasks.chances[3]
    assert tasks.chances.min() > 0


def test_losses_are_averaged_as_shares_of_guessing_and_those_not_finite_are_left_out() -> None:
    tasks = adaptive(1)
    draws = [tasks.episode(0, i) for i in range(4)]
    tasks.record(0, draws, [2.0, float("nan"), float("inf"), 1.0], [np.log(4)] * 4)
    first, second = 2.0 / np.log(4), 1.0 / np.log(4)
    assert tasks.arrays["level"][0] == pytest.approx(MEMORY * first + (1 - MEMORY) * second)
    assert (tasks.arrays["n_losses"][0], tasks.arrays["episodes"][0]) == (2, 4)
    assert tasks.log()["groups"][0]["mean_loss"] == 1.5


def test_draws_depend_on_seed_step_and_state_alone() -> None:
    losses = {"l0": 0.1, "l1": 0.5, "l2": 1.3, "l3": 0.9}
    whole, cut, other = adaptive(), adaptive(), adaptive()
    expected = teach(whole, losses, range(40))
    teach(cut, losses, range(23))
    resumed = adaptive()
    resumed.restore({name: array.copy() for name, array in cut.arrays.items()})
    for step in (39, 5, 17):
        resumed.episode(step)  # looking ahead or back changes nothing
    found = teach(resumed, losses, range(23, 40))
    for ours, theirs in zip(found, expected[23:], strict=True):
        assert all(same(a, b) for a, b in zip(ours, theirs, strict=True))
    for name, array in whole.arrays.items():
        np.testing.assert_array_equal(resumed.arrays[name], array)
    assert resumed.log() == whole.log()
    # And the state matters: from here another history draws other groups.
    teach(other, {"l0": 1.3, "l1": 0.1, "l2": 0.1, "l3": 0.1}, range(23))
    assert [other.episode(s).classes for s in range(23, 60)] != [cut.episode(s).classes for s in range(23, 60)]


def test_the_state_of_other_groups_is_refused() -> None:
    with pytest.raises(ValueError, match="other groups"):
        adaptive(3).restore(adaptive(4).arrays)
    with pytest.raises(ValueError, match="other groups"):
        adaptive(3).restore({})


# ----------------------------------------------------------------------------------------------------------- the log


def test_the_log_counts_who_was_drawn_and_only_in_steps_that_were_learned() -> None:
    tasks = sampler()
    expected: Counter[str] = Counter()
    heard: set[int] = set()
    for step in range(20):
        draws = [tasks.episode(step, i) for i in range(2)]
        tasks.episode(step + 100)
        tasks.record(step, draws, [1.0, 3.0])
        for draw in draws:
            expected.update(draw.classes)
            heard.update([*draw.support.tolist(), *draw.query.tolist()])
    assert tasks.drawn == expected
    log = tasks.log()
    assert log["classes"] == expected
    assert log["episodes"] == 40
    rows = {row["group"]: row for row in log["groups"]}
    assert list(rows) == sorted(rows, key=lambda name: -rows[name]["episodes"])
    assert sum(row["share"] for row in rows.values()) == pytest.approx(1)
    for name in ("en", "lt"):
        assert rows[name]["classes"] == len([word for word in expected if word.startswith(f"{name}:")])
        assert rows[name]["utterances"] == sum(UTTERANCES[p].lang == name for p in heard)
        assert rows[name]["of_utterances"] == sum(u.lang == name for u in UTTERANCES)
        assert 1 <= rows[name]["mean_loss"] <= 3
    assert rows["xx"] == {
        **{"group": "xx", "kind": "real", "episodes": 0, "share": 0.0, "classes": 0, "of_classes": 2},
        **{"utterances": 0, "of_utterances": 2, "speakers": "none drawn", "mean_loss": None},
    }
    tasks.restart()
    assert not tasks.drawn
    assert tasks.log()["episodes"] == 0


def test_a_word_that_two_groups_have_is_counted_in_each_and_together_by_name() -> None:
    first, second = corpus(3, 2, 3, "en"), corpus(3, 2, 3, "en")
    utterances = [*first, *second]
    keep = np.arange(len(utterances)) < len(first)
    groups = [ClassIndex(utterances, keep=keep, name="a"), ClassIndex(utterances, keep=~keep, name="b")]
    tasks = TaskSampler(groups, [1.0, 1.0], EpisodeSpec(3, 1, 1), 0)
    for step in range(12):
        tasks.record(step, [tasks.episode(step)])
    assert set(tasks.drawn.values()) == {12}
    assert {row["classes"] for row in tasks.log()["groups"]} == {3}


@pytest.mark.parametrize("speakers", ["any", "disjoint", "where_known"])
def test_an_exact_task_has_all_its_ways_or_is_in_no_group(speakers: Any) -> None:
    tasks = sampler(spec=EpisodeSpec(5, 2, 2, speakers, exact=True))
    assert tasks.always_full
    for step in range(60):
        draw = tasks.episode(step)
        assert len(draw.classes) == 5
        assert {name.split(":")[0] for name in draw.classes} == {"en"}
    whole = EpisodeSpec(3, 2, 2, speakers)
    assert sampler(spec=whole).always_full == (speakers == "any")  # some splits of the speakers leave fewer
    with pytest.raises(InputError, match=r"No group has 9 classes|no group has two classes"):
        sampler(spec=EpisodeSpec(9, 2, 2, speakers, exact=True))
