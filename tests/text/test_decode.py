"""Decoding against every path of small cases, and against PyTorch's CTC loss in large ones."""

import math
from itertools import groupby
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import posteriors, said_by, spoken, totals
from torch import Tensor
from torch.nn.functional import ctc_loss

from metavox.contracts import InputError
from metavox.text.decode import Decoded, greedy, greedy_batch, prefix_beam
from metavox.text.ngram import NGram

WIDE = 10_000


def log_likelihood(log_probs: Tensor, ids: tuple[int, ...]) -> float:
    frames, symbols = torch.tensor([len(log_probs)]), torch.tensor([len(ids)])
    return -float(ctc_loss(log_probs.unsqueeze(1), torch.tensor([ids]), frames, symbols, reduction="sum"))


# ----------------------------------------------------------------------------------------------------------- best path


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(2, 5), st.integers(0, 1000))
def test_greedy_says_what_the_best_path_says(n_frames: int, n_symbols: int, seed: int) -> None:
    log_probs = posteriors(n_frames, n_symbols, seed)
    path = tuple(log_probs.argmax(1).tolist())
    found = greedy(log_probs)
    assert found.ids == said_by(path)
    assert found.log_prob == pytest.approx(float(log_probs.max(1).values.sum()))
    runs = [list(run) for _, run in groupby(enumerate(path), key=lambda each: each[1])]
    runs = [run for run in runs if run[0][1]]
    assert len(found.frames) == len(found.confidences) == len(runs)
    for frame, confidence, run in zip(found.frames, found.confidences, runs, strict=True):
        peaks = {place: float(log_probs[place, symbol]) for place, symbol in run}
        assert peaks[frame] == max(peaks.values())
        assert confidence == pytest.approx(math.exp(peaks[frame]))


def test_greedy_of_a_batch_reads_no_padding() -> None:
    log_probs = torch.stack([posteriors(9, 4, seed) for seed in range(20)])
    lengths = torch.arange(20) % 10
    found = greedy_batch(log_probs, lengths)
    assert found == [greedy(item[:length]).ids for item, length in zip(log_probs, lengths.tolist(), strict=True)]
    assert len(set(found)) > 10
    padded = log_probs.clone()
    for item, length in zip(padded, lengths.tolist(), strict=True):
        item[length:] = math.nan
    assert greedy_batch(padded, lengths) == found


def test_greedy_takes_any_precision_and_gives_plain_numbers() -> None:
    log_probs = spoken((1, 2, 2), 12, 4, 0)
    found = greedy(log_probs)
    assert greedy(log_probs.numpy()) == found
    assert greedy(log_probs.bfloat16().requires_grad_()).ids == found.ids
    assert greedy_batch(log_probs.bfloat16().unsqueeze(0), torch.tensor([12])) == [found.ids]
    assert {type(each) for each in (*found.ids, *found.frames)} == {int}
    assert {type(each) for each in (found.log_prob, *found.confidences)} == {float}


def test_silence_says_nothing() -> None:
    nothing = posteriors(0, 3, 0)
    assert greedy(nothing) == Decoded((), (), 0.0, ())
    assert prefix_beam(nothing) == [Decoded((), (), 0.0, (), 0.0)]
    assert greedy_batch(nothing.unsqueeze(0), torch.tensor([0])) == [()]
    silence = torch.tensor([[0.9, 0.1]] * 5).log()
    assert greedy(silence).ids == ()
    assert prefix_beam(silence)[0].ids == ()


def test_what_is_no_log_probability_is_refused() -> None:
    values = posteriors(4, 3, 0)
    values[1, 1] = math.nan
    for decode in (greedy, prefix_beam, lambda each: greedy_batch(each.unsqueeze(0), torch.tensor([4]))):
        with pytest.raises(InputError, match="NaN"):
            decode(values)
    for decode in (greedy, prefix_beam):
        with pytest.raises(InputError, match="log_softmax"):
            decode(torch.ones(3, 3))
    with pytest.raises(InputError, match="Frame 1"):
        prefix_beam(torch.tensor([[0.5, 0.5], [0.0, 0.0]]).log())


# ---------------------------------------------------------------------------------------------------------- beam search


@pytest.mark.parametrize(("n_frames", "n_symbols", "seed"), [(1, 2, 0), (3, 4, 1), (5, 3, 2), (7, 3, 3), (6, 4, 4)])
def test_a_wide_beam_sums_over_all_paths(n_frames: int, n_symbols: int, seed: int) -> None:
    log_probs = posteriors(n_frames, n_symbols, seed)
    expected = totals(log_probs)
    found = prefix_beam(log_probs, beam=WIDE, prune=0.0)
    assert {each.ids: pytest.approx(each.log_prob, abs=1e-10) for each in found} == expected
    assert [each.score for each in found] == sorted((each.log_prob for each in found), reverse=True)


class Preference:
    """A model that knows what stands between any two symbols, to tell whether every part is asked for once."""

    def start(self) -> tuple[int, ...]:
        return ()

    def step(self, state: tuple[int, ...], symbol: int) -> tuple[tuple[int, ...], float]:
        ids = (*state, symbol)
        return ids, -math.fmod(sum((n + 2) * each for n, each in enumerate(ids)), 1.7) - 0.1

    def finish(self, state: tuple[int, ...]) -> float:
        return -0.3 * len(state)

    def whole(self, ids: tuple[int, ...]) -> float:
        steps = [self.step(ids[:n], each)[1] for n, each in enumerate(ids)]
        return sum(steps) + self.finish(ids)


@pytest.mark.parametrize(("lm_weight", "length_bonus"), [(0.0, 0.7), (1.3, 0.0), (0.5, -0.4)])
def test_a_model_and_a_bonus_are_added_once_a_symbol(lm_weight: float, length_bonus: float) -> None:
    log_probs, lm = posteriors(6, 3, 5), Preference()
    found = prefix_beam(log_probs, WIDE, lm, lm_weight, length_bonus, prune=0.0)
    expected = totals(log_probs)
    assert len(found) == len(expected)
    for each in found:
        assert each.log_prob == pytest.approx(expected[each.ids], abs=1e-10)
        added = lm_weight * lm.whole(each.ids) + length_bonus * len(each.ids)
        assert each.score == pytest.approx(each.log_prob + added, abs=1e-10)
    assert [each.score for each in found] == sorted((each.score for each in found if each.score), reverse=True)


def test_the_best_text_may_differ_from_the_best_path() -> None:
    log_probs = torch.tensor([[0.6, 0.4], [0.6, 0.4]]).log()  # blank twice is the best path; "a" has three
    assert greedy(log_probs).ids == ()
    best = prefix_beam(log_probs)[0]
    assert best.ids == (1,)
    assert best.log_prob == pytest.approx(math.log(0.64))


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.integers(1, 6), st.sampled_from([0.0, 1e-3, 0.05]))
def test_a_narrow_beam_never_promises_too_much(seed: int, beam: int, prune: float) -> None:
    log_probs = posteriors(6, 3, seed)
    expected = totals(log_probs)
    found = prefix_beam(log_probs, beam=beam, prune=prune)
    assert 1 <= len(found) <= beam
    assert len({each.ids for each in found}) == len(found)
    for each in found:
        assert each.log_prob <= expected[each.ids] + 1e-10


def test_pruning_changes_little_where_the_model_is_sure() -> None:
    ids = (1, 2, 3, 4, 4, 5, 1)
    log_probs = spoken(ids, 30, 6, 0, noise=0.5)
    exact, quick = prefix_beam(log_probs, beam=300, prune=0.0, n_best=1)[0], prefix_beam(log_probs)[0]
    assert exact.ids == quick.ids == ids
    assert exact.log_prob == pytest.approx(log_likelihood(log_probs, ids), abs=0.01)
    assert quick.log_prob == pytest.approx(exact.log_prob, abs=0.3)
    assert quick.log_prob <= exact.log_prob


def test_a_sure_blank_parts_equal_neighbours() -> None:
    sure = torch.tensor([[1e-9, 1.0], [1.0, 1e-9], [1e-9, 1.0]]).log()
    assert prefix_beam(sure)[0].ids == (1, 1)
    assert prefix_beam(sure, prune=0.0)[0].ids == (1, 1)


def test_a_prefix_that_comes_back_into_the_beam_is_one_text() -> None:
    for seed in range(25):
        found = prefix_beam(posteriors(20, 3, seed), beam=8, prune=0.0)
        assert len({each.ids for each in found}) == len(found)


def test_frames_and_confidences_of_a_text_are_those_of_its_best_path() -> None:
    ids = (1, 2, 2, 3)
    log_probs = spoken(ids, 20, 5, 2, noise=0.5)
    best, path = prefix_beam(log_probs)[0], greedy(log_probs)
    assert best.ids == path.ids == ids
    assert best.frames == path.frames
    assert best.confidences == pytest.approx(path.confidences)


def test_only_as_many_texts_as_asked_for_come_back() -> None:
    log_probs = posteriors(6, 4, 0)
    assert prefix_beam(log_probs, n_best=2) == prefix_beam(log_probs)[:2]


def test_a_model_of_the_language_mends_what_was_heard() -> None:
    sentences = [(1, 2, 3, 4) * 4, (5, 1, 2, 3) * 4, (4, 5, 1, 2) * 4] * 5
    lm = NGram.from_texts(sentences, order=3)
    ids = (1, 2, 3, 4, 5, 1, 2, 3, 4, 5)
    log_probs = spoken(ids, 40, 7, 1, noise=0.3)
    at = int(greedy(log_probs).frames[6])
    log_probs[at] = torch.tensor([0.01, 0.01, 0.43, 0.01, 0.01, 0.01, 0.52]).log()  # a 6 where 2 was said
    assert greedy(log_probs).ids == (*ids[:6], 6, *ids[7:])
    assert prefix_beam(log_probs)[0].ids == (*ids[:6], 6, *ids[7:])
    assert prefix_beam(log_probs, lm=lm)[0].ids == ids


@pytest.mark.parametrize("option", [{"beam": 0}, {"prune": -0.1}, {"prune": 0.6}, {"prune": math.nan}])
def test_impossible_options_are_refused(option: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        prefix_beam(posteriors(3, 3, 0), **option)
