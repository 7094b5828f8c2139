"""Forced alignment against every path of small cases."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import every_path, posteriors, said_by, spoken

from metavox.contracts import InputError
from metavox.text.align import Span, ctc_align, word_spans
from metavox.text.symbols import UNIVERSAL, Symbols, min_frames


def path_of(spans: list[Span], n_frames: int) -> tuple[int, ...]:
    path = [0] * n_frames
    for span in spans:
        path[span.start_frame : span.end_frame] = [span.symbol] * (span.end_frame - span.start_frame)
    return tuple(path)


@pytest.mark.parametrize(("n_frames", "n_symbols", "seed"), [(1, 2, 0), (4, 3, 1), (5, 3, 2), (6, 3, 3), (4, 4, 4)])
def test_the_path_is_the_best_of_all_that_say_the_text(n_frames: int, n_symbols: int, seed: int) -> None:
    log_probs = posteriors(n_frames, n_symbols, seed)
    best: dict[tuple[int, ...], tuple[float, tuple[int, ...]]] = {}
    for path, log_prob in every_path(log_probs):
        ids = said_by(path)
        best[ids] = max(best.get(ids, (-math.inf, ())), (log_prob, path))
    assert len(best) >= 2
    for ids, (_, path) in best.items():
        spans = ctc_align(log_probs, ids)
        assert path_of(spans, n_frames) == path
        for span in spans:
            frames = log_probs[span.start_frame : span.end_frame, span.symbol]
            assert span.log_prob == pytest.approx(float(frames.mean()), abs=1e-12)


@settings(deadline=None)
@given(st.lists(st.integers(1, 4), max_size=8), st.integers(0, 12), st.integers(0, 1000))
def test_spans_say_the_text_in_order_without_overlap(ids: list[int], spare: int, seed: int) -> None:
    n_frames = max(min_frames(ids) + spare, 1)
    spans = ctc_align(posteriors(n_frames, 5, seed), ids)
    assert [span.symbol for span in spans] == ids
    assert all(0 <= span.start_frame < span.end_frame <= n_frames for span in spans)
    for span, after in pairwise(spans):
        assert span.end_frame + (span.symbol == after.symbol) <= after.start_frame
    assert said_by(path_of(spans, n_frames)) == tuple(ids)


def test_a_text_that_was_said_is_found_where_it_was_said() -> None:
    ids = UNIVERSAL.encode("call it a bear")
    log_probs = spoken(ids, 100, 34, 0, noise=0.5)
    found = [span.start_frame for span in ctc_align(log_probs, ids)]
    assert found == [frame for frame in range(100) if int(log_probs[frame].argmax())]


def test_tensors_arrays_and_precisions_align_alike() -> None:
    log_probs = spoken((1, 2, 2, 1), 30, 4, 1)
    spans = ctc_align(log_probs, (1, 2, 2, 1))
    assert ctc_align(log_probs.numpy(), [1, 2, 2, 1]) == spans
    single = ctc_align(log_probs.float().requires_grad_(), [1, 2, 2, 1])
    assert [(s.start_frame, s.end_frame) for s in single] == [(s.start_frame, s.end_frame) for s in spans]


def test_a_long_text_aligns() -> None:
    ids = [1 + n % 3 for n in range(400)]
    spans = ctc_align(posteriors(800, 4, 0), ids)
    assert [span.symbol for span in spans] == ids


def test_the_impossible_is_passed_through_where_there_is_no_other_way() -> None:
    heard = torch.tensor([[0.9, 0.1, 0.0], [0.9, 0.1, 0.0], [0.1, 0.9, 0.0], [0.9, 0.1, 0.0]]).log()
    never, clear = ctc_align(heard, [2, 1])
    assert (clear.start_frame, clear.end_frame) == (2, 3)
    assert never.end_frame == never.start_frame + 1 <= 2
    assert never.log_prob == -math.inf


def test_a_transcript_that_is_too_long_says_both_numbers() -> None:
    log_probs = posteriors(4, 3, 0)
    assert len(ctc_align(log_probs, [1, 1, 2])) == 3
    with pytest.raises(InputError, match=r"3 symbols need 5 frames and the recording has 4;"):
        ctc_align(log_probs, [1, 1, 1])
    with pytest.raises(InputError, match="has 0"):
        ctc_align(log_probs[:0], [1])
    assert ctc_align(log_probs[:0], []) == []


@pytest.mark.parametrize("wrong", [0, 3, -1])
def test_symbols_outside_the_alphabet_are_refused(wrong: int) -> None:
    with pytest.raises(InputError, match=f"Symbol {wrong} of the text is not between 1 and 2"):
        ctc_align(posteriors(4, 3, 0), [1, wrong])


def test_what_is_no_log_probability_is_refused() -> None:
    values = posteriors(4, 3, 0)
    values[2, 1] = math.nan
    with pytest.raises(InputError, match="NaN"):
        ctc_align(values, [1])
    with pytest.raises(InputError, match="log_softmax"):
        ctc_align(np.ones((4, 3)), [1])


def test_words_have_frames_and_a_confidence() -> None:
    a, b, c = UNIVERSAL.encode("abc")
    spans = [Span(a, 2, 4, -0.2), Span(b, 5, 6, -0.8), Span(1, 6, 8, -9.0), Span(1, 8, 9, -9.0), Span(c, 11, 12, 0.0)]
    first, second = word_spans(spans, UNIVERSAL)
    assert (first.word, first.start_frame, first.end_frame) == ("ab", 2, 6)
    assert first.confidence == pytest.approx(math.exp((2 * -0.2 + -0.8) / 3))
    assert (second.word, second.start_frame, second.end_frame, second.confidence) == ("c", 11, 12, 1.0)
    assert word_spans([], UNIVERSAL) == []


def test_words_of_an_alignment_are_those_of_the_text() -> None:
    symbols = Symbols.native(["പാലം കടന്നാലൊ കൂരായണ"], "ml")
    ids = symbols.encode("പാലം കടന്നാലൊ കൂരായണ")
    found = word_spans(ctc_align(spoken(ids, 90, symbols.size, 3), ids), symbols)
    assert [word.word for word in found] == ["പാലം", "കടന്നാലൊ", "കൂരായണ"]
    assert all(one.end_frame <= other.start_frame for one, other in pairwise(found))
    assert all(0.5 < word.confidence <= 1 for word in found)
