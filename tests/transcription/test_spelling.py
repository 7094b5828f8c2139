"""How adapted recognisers spell: by the language of their support, and by a vote between tempos."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from metavox.contracts import InputError
from metavox.metrics import edit_distance
from metavox.text.decode import prefix_beam
from metavox.text.ngram import NGram
from metavox.transcription.spelling import Search, Spelling, nearest_to_all, stored_texts, taken_texts

TEXTS = ((1, 2, 1, 2), (1, 2, 1), (2, 1, 2, 1, 2))


def unsure(n_frames: int = 9, n_symbols: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.randn(n_frames, n_symbols, generator=torch.Generator().manual_seed(seed)).log_softmax(-1)


@given(st.lists(st.lists(st.integers(1, 3), max_size=4).map(tuple), min_size=1, max_size=6))
def test_the_vote_has_the_fewest_edits_to_all(texts: list[tuple[int, ...]]) -> None:
    """Beside every text that could have been chosen."""
    chosen = nearest_to_all(texts)
    assert chosen in texts
    if len(texts) > 2:
        costs = [sum(edit_distance(other, text).edits for other in texts) for text in texts]
        assert costs[texts.index(chosen)] == min(costs)
        assert texts.index(chosen) == costs.index(min(costs))


def test_of_two_texts_the_first_is_taken() -> None:
    assert nearest_to_all([(1, 2), (3,)]) == (1, 2)
    assert nearest_to_all([(3,), (1, 2)]) == (3,)


def test_the_search_is_the_beam_search_with_the_model_of_the_texts() -> None:
    search = Search(order=3, lm_weight=0.7, length_bonus=0.2, beam=5)
    spelling = Spelling(TEXTS, search)
    model = NGram.from_texts(TEXTS, order=3)
    assert spelling.model.counts == model.counts
    for seed in range(5):
        found = prefix_beam(unsure(seed=seed), 5, model, 0.7, 0.2)[0].ids
        assert spelling.best(unsure(seed=seed)) == found
    other = NGram.from_texts([(3, 3, 3)], order=2)
    assert spelling.best(unsure(), other) == prefix_beam(unsure(), 5, other, 0.7, 0.2)[0].ids


def test_what_the_language_has_is_written_rather_than_what_it_has_not() -> None:
    """A frame that cannot tell 2 from 3 is a 2 where 3 was never seen."""
    scores = torch.full((5, 4), -8.0)
    scores[0, 1] = scores[4, 1] = scores[1, 0] = scores[3, 0] = 0.0
    scores[2, 2], scores[2, 3] = -0.75, -0.65
    assert Spelling(TEXTS, Search(lm_weight=0.0, length_bonus=0.0)).best(scores.log_softmax(-1)) == (1, 3, 1)
    assert Spelling(TEXTS, Search(lm_weight=0.5, length_bonus=0.0)).best(scores.log_softmax(-1)) == (1, 2, 1)


def test_a_consensus_is_the_vote_of_the_views() -> None:
    spelling = Spelling(TEXTS)
    views = [unsure(12, seed=seed) for seed in range(3)]
    assert spelling.consensus(views) == nearest_to_all([spelling.best(view) for view in views])


def test_texts_come_back_as_they_were_stored() -> None:
    tensors = stored_texts(TEXTS) | {"other": torch.zeros(2)}
    assert taken_texts(tensors, 4, Path("part")) == TEXTS
    assert list(tensors) == ["other"]
    assert taken_texts(tensors, 4, Path("part")) == ()


@pytest.mark.parametrize("kind", ["ids alone", "counts alone", "too few", "a blank", "floats", "an empty text"])
def test_damaged_texts_are_refused(kind: str) -> None:
    tensors = stored_texts(TEXTS)
    ids, counts = tensors["texts.ids"], tensors["texts.counts"]
    damaged = {
        "ids alone": {"texts.ids": ids},
        "counts alone": {"texts.counts": counts},
        "too few": {"texts.ids": ids[:-1], "texts.counts": counts},
        "a blank": {"texts.ids": ids * 0, "texts.counts": counts},
        "floats": {"texts.ids": ids.float(), "texts.counts": counts},
        "an empty text": {"texts.ids": ids, "texts.counts": torch.cat([counts, counts[:1] * 0])},
    }[kind]
    with pytest.raises(InputError, match="part holds damaged texts; restore the file"):
        taken_texts(damaged, 4, Path("part"))


def test_texts_of_another_alphabet_are_refused() -> None:
    with pytest.raises(InputError, match="texts of 3 symbols and the alphabet has 2"):
        taken_texts(stored_texts(TEXTS), 2, Path("part"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"tempos": (1.1, 1.2)}, {"tempos": ()}, {"tempos": (1.0, 3.0)}, {"tempos": (1.0, 0.4)}, {"lm_weight": -0.1},
        {"lm_weight": float("nan")}, {"length_bonus": 11.0}, {"beam": 0}, {"beam": 1001},
    ],
)  # fmt: skip
def test_searches_outside_their_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"tempos|lm_weight"):
        replace(Search(), **wrong)  # type: ignore[arg-type]


def test_every_search_in_its_range_is_taken() -> None:
    for weight, bonus, beam in product((0.0, 10.0), (-10.0, 10.0), (1, 1000)):
        Search(lm_weight=weight, length_bonus=bonus, beam=beam, tempos=(1.0, 0.5, 2.0))
