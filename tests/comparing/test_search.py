"""Settings that are tried: a learner's own first, then others from the space, the same again for the same seed."""

import importlib.util

import pytest

from metavox.comparing import search
from metavox.comparing.search import Search, search_for
from metavox.contracts import InputError
from metavox.learners.preset import Range

SPACE = {"lr": Range(1e-3, 1e-1), "rank": Range(1.0, 8.0), "kind": (("a", "b"), "c", None)}
OWN = {"lr": 1e-2, "rank": 4, "kind": "c"}


def tried(seed: int, n: int = 6, own: dict = OWN) -> list[dict]:
    found = Search(SPACE, own, seed)
    settings = []
    for number in range(n):
        settings.append(found.ask())
        found.tell(None if number == 2 else -abs(settings[-1]["lr"] - 0.05))
    return settings


def test_the_first_settings_are_the_learners_own_and_the_others_lie_in_the_space() -> None:
    first, *others = tried(1, 30)
    assert first == OWN
    for settings in others:
        assert 1e-3 <= settings["lr"] <= 1e-1
        assert settings["rank"] in range(1, 9)
        assert settings["kind"] in SPACE["kind"]
    assert len({settings["lr"] for settings in others}) == 29
    assert {settings["kind"] for settings in others} == set(SPACE["kind"])


def test_the_same_seed_tries_the_same() -> None:
    assert tried(1) == tried(1) != tried(2)


def test_scores_guide_the_search() -> None:
    """A sampler that heard nothing would spread over two decades by their logarithm; the best is 0.05."""
    late = tried(3, 60)[40:]
    assert sum(0.02 < settings["lr"] < 0.1 for settings in late) > 14


def test_each_fold_has_a_stream_of_its_own() -> None:
    asked = {fold: search_for(SPACE, OWN, 1, ("a", "b"), fold) for fold in ("a", "b")}
    firsts = {fold: found.ask() for fold, found in asked.items()}
    for found in asked.values():
        found.tell(0.5)
    seconds = {fold: found.ask() for fold, found in asked.items()}
    assert firsts["a"] == firsts["b"] == OWN
    assert seconds["a"] != seconds["b"]


@pytest.mark.parametrize(
    ("scores", "kept"), [([1.0, 3.0, 2.0], 1), ([2.0, None, 2.0], 0), ([None, 1.0, 1.5], 2), ([None, None, None], None)]
)
def test_of_all_attempts_only_the_first_of_the_best_keeps_what_it_made(
    scores: list[float | None], kept: int | None
) -> None:
    numbers = iter(range(3))
    attempts = search.tried(
        Search(SPACE, OWN, 1),
        3,
        lambda settings: (next(numbers), "made"),
        lambda attempt: scores[attempt[0]],
        lambda attempt: (attempt[0], "emptied"),
    )
    assert [number for number, _ in attempts] == [0, 1, 2]
    assert [number for number, what in attempts if what == "made"] == ([] if kept is None else [kept])


@pytest.mark.parametrize("changed", [{"lr": 5.0}, {"kind": "nowhere"}])
def test_settings_outside_of_the_space_are_tried_all_the_same(changed: dict) -> None:
    own = {**OWN, **changed}
    first, *others = tried(1, own=own)
    assert first == own
    assert all(settings["kind"] in SPACE["kind"] and settings["lr"] <= 1e-1 for settings in others)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install metavox\[tune\]"):
        search.require_optuna()
