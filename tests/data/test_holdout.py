"""Speakers kept out of training: whole, seeded, and everywhere where there is more than one."""

from pathlib import Path

import numpy as np
import pytest

from metavox.contracts import Utterance
from metavox.data.holdout import held_out


def said(corpus: str, speaker: str | None, n: int) -> list[Utterance]:
    return [Utterance(f"{corpus}-{speaker}-{i}", Path("x.wav"), 1.0, corpus=corpus, speaker=speaker) for i in range(n)]


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.9])
def test_speakers_are_kept_out_whole_and_as_many_as_asked(share: float) -> None:
    utterances = [u for i in range(20) for u in said("a", f"s{i:02d}", 1 + i % 3)]
    out = held_out(utterances, share, 0)
    inside = {u.speaker for u, kept in zip(utterances, ~out, strict=True) if kept}
    outside = {u.speaker for u, kept in zip(utterances, out, strict=True) if kept}
    assert not inside & outside
    assert len(outside) == round(20 * share)


def test_one_of_two_is_kept_out_and_a_single_speaker_is_not() -> None:
    utterances = [*said("pair", "x", 3), *said("pair", "y", 3), *said("alone", "z", 5)]
    out = held_out(utterances, 0.01, 1)
    assert out[:6].sum() == 3
    assert not out[6:].any()


def test_recordings_that_name_nobody_are_kept_out_one_by_one() -> None:
    out = held_out(said("a", None, 100), 0.3, 0)
    assert out.sum() == 30


def test_order_and_other_corpora_change_nothing_and_the_seed_does() -> None:
    a = [u for i in range(12) for u in said("a", f"s{i}", 2)]
    b = [u for i in range(7) for u in said("b", f"t{i}", 2)]

    def names(utterances: list[Utterance], seed: int) -> set[str | None]:
        return {u.speaker for u, kept in zip(utterances, held_out(utterances, 0.3, seed), strict=True) if kept}

    of_a = names(a, 0)
    assert names(a[::-1], 0) == of_a
    assert names([*b, *a], 0) & {u.speaker for u in a} == of_a
    assert any(names(a, seed) != of_a for seed in range(1, 5))


def test_nothing_is_kept_out_where_nothing_is_asked() -> None:
    assert not held_out(said("a", "x", 3) + said("a", "y", 3), 0.0, 0).any()
    assert held_out([], 0.5, 0).shape == np.zeros(0).shape
