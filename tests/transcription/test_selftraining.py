"""Learning from what nobody transcribed: what is kept, and that it counts only where it does no harm."""

from pathlib import Path

import numpy as np
import pytest
import tonal
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metavox.contracts import Transcribed
from metavox.data.sentences import Sentences, open_sentences
from metavox.features import prepare
from metavox.metrics import cer
from metavox.text.ngram import NGram
from metavox.text.symbols import UNIVERSAL
from metavox.transcription.adapting import heard
from metavox.transcription.scoring import Errors, errors_of
from metavox.transcription.selftraining import (
    MIN_KEPT,
    Guess,
    guesses,
    joined,
    self_trained,
    single_spaced,
    surest,
    threshold_for,
    transcribed,
)
from metavox.transcription.untranscribed import Piece, Untranscribed


def errors(edits: list[int], chars: list[int]) -> Errors:
    return Errors(
        np.array(edits, int), np.array(chars, int), None, None, tuple(map(str, range(len(edits)))), "sentence"
    )


def pieces(sentences: list[str], *, dialect: bool = False) -> Untranscribed:
    waves = [tonal.said(text, dialect=dialect, seed=i) for i, text in enumerate(sentences)]
    return Untranscribed(
        tuple(Piece(Path(f"{i}.wav"), 0.0, len(wave) / 16_000, True) for i, wave in enumerate(waves)),
        tuple(prepare(wave, tonal.FRONT_END)[0][0] for wave in waves),
        (),
        0,
    )


# --------------------------------------------------------------------------------------------------------- what is kept


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6), st.integers(1, 6)), max_size=12))
def test_the_threshold_is_the_lowest_that_errs_no_more_than_allowed(rows: list[tuple[int, int, int]]) -> None:
    known = [Guess(i, (1,), level / 5) for i, (level, _, _) in enumerate(rows)]
    found = threshold_for(known, errors([e for _, e, _ in rows], [c for _, _, c in rows]), 0.25)
    possible = []
    for threshold in {guess.confidence for guess in known} - {0.0}:
        above = [row for row, guess in zip(rows, known, strict=True) if guess.confidence >= threshold]
        if len(above) >= MIN_KEPT and sum(e for _, e, _ in above) <= 0.25 * sum(c for _, _, c in above):
            possible.append(threshold)
    assert found == (min(possible) if possible else None)


def test_the_surest_are_kept_up_to_so_many_seconds() -> None:
    found = [Guess(i, (1,) if i != 3 else (), sure) for i, sure in enumerate([0.5, 0.9, 0.7, 0.95, 0.2])]
    assert [g.place for g in surest(found[:3], [1.0] * 3, 0.5, 10.0)] == [1, 2, 0]
    assert [g.place for g in surest(found[:3], [1.0] * 3, 0.6, 10.0)] == [1, 2]
    assert [g.place for g in surest(found[:3], [1.0, 4.0, 2.0], 0.1, 3.0)] == [2, 0]


def test_spaces_stand_alone_between_symbols() -> None:
    space = UNIVERSAL.characters.index(" ") + 1
    assert single_spaced((space, 5, space, space, 6, space), UNIVERSAL) == (5, space, 6)
    assert single_spaced((space,), UNIVERSAL) == ()
    assert single_spaced((), UNIVERSAL) == ()


def test_support_sets_are_joined_with_their_padding() -> None:
    one, other = tonal.batch(tonal.texts(2, 0, 1)), tonal.batch(tonal.texts(3, 1, 4))
    for first, second in ((one, other), (other, one)):
        both = joined(first, second)
        assert len(both) == 5
        for part, offset in ((first, 0), (second, len(first))):
            for row in range(len(part)):
                n, u = int(part.lengths[row]), int(part.target_lengths[row])
                assert torch.equal(both.inputs[offset + row, :n], part.inputs[row, :n])
                assert not both.inputs[offset + row, n:].any()
                assert both.targets[offset + row].tolist() == part.targets[row, :u].tolist() + [0] * (
                    both.targets.shape[1] - u
                )
                assert (int(both.lengths[offset + row]), int(both.target_lengths[offset + row])) == (n, u)


def test_a_reader_writes_what_it_hears_and_is_unsure_of_noise() -> None:
    sentences = tonal.texts(4, 9)
    lm = NGram.from_texts([UNIVERSAL.encode(text) for text in tonal.texts(60, 1)], order=3)
    noise = torch.from_numpy(np.random.default_rng(0).standard_normal((150, 24)).astype(np.float32)) * 3
    found = guesses(tonal.reader(), [*pieces(sentences).features, noise], lm)
    assert cer(sentences, [UNIVERSAL.decode(guess.ids) for guess in found[:4]]).rate < 0.1
    assert [guess.place for guess in found] == [0, 1, 2, 3, 4]
    assert found[4].confidence < min(guess.confidence for guess in found[:4])


def test_kept_transcripts_become_a_support_set() -> None:
    untranscribed = pieces(tonal.texts(3, 2))
    found = transcribed(untranscribed, [Guess(2, (5, 6), 0.9), Guess(0, (7,), 0.8)])
    assert found.lengths.tolist() == [len(untranscribed.features[2]), len(untranscribed.features[0])]
    assert found.targets.tolist() == [[5, 6], [7, 0]]
    assert torch.equal(found.inputs[1, : found.lengths[1]], untranscribed.features[0])


# ------------------------------------------------------------------------------------------------------- a whole course


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Sentences:
    root = tmp_path_factory.mktemp("selftraining")
    patch = pytest.MonkeyPatch()
    patch.setenv("METAVOX_CACHE", str(root / "cache"))
    found = open_sentences([tonal.corpus(root / "c", tonal.texts(12, 4))], UNIVERSAL, tonal.FRONT_END)
    patch.undo()
    return found


REST, HELD = np.arange(8), np.arange(8, 12)


def before(known: Sentences) -> Errors:
    reached = heard(tonal.reader(), known, HELD)
    return errors_of(reached, [known.utterances[i] for i in HELD])


@pytest.mark.parametrize("worse", [0, 1])
def test_the_result_counts_where_the_error_did_not_rise(known: Sentences, worse: int) -> None:
    given: list[Transcribed] = []
    start = before(known)

    def retrain(extra: Transcribed) -> Errors:
        given.append(extra)
        return errors((start.char_edits + worse).tolist(), start.chars.tolist())

    sentences = tonal.texts(6, 5)
    found, extra = self_trained(tonal.reader(), known, REST, HELD, pieces(sentences), start, retrain)
    assert found.accepted is (worse == 0)
    assert (extra is given[0]) if found.accepted else (extra is None)
    texts = {
        UNIVERSAL.decode(ids[:n].tolist()) for ids, n in zip(given[0].targets, given[0].target_lengths, strict=True)
    }
    assert texts <= set(sentences)
    assert len(texts) == found.n_kept >= MIN_KEPT
    change = found.change()
    assert change is not None
    assert change.difference == pytest.approx(4 * worse / start.chars.sum())
    assert found.kept_s == pytest.approx(sum(float(n) for n in given[0].lengths) / 100, rel=0.03)


def test_nothing_is_kept_where_no_transcript_is_right_enough(known: Sentences) -> None:
    deaf = tonal.reader()
    with torch.no_grad():
        deaf.net.head.weight.copy_(deaf.net.head.weight.roll(3, 0))

    def retrain(_: Transcribed) -> Errors:
        raise AssertionError("there is nothing to learn from")

    found, extra = self_trained(deaf, known, REST, HELD, pieces(tonal.texts(6, 5)), before(known), retrain)
    assert extra is None
    assert not found.accepted
    assert (found.threshold, found.n_kept, found.change()) == (None, 0, None)
