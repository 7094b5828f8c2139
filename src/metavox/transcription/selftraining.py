"""Learning from recordings that nobody transcribed: the adapted model's own transcripts, those that it is sure of.

Self-training (Scudder 1965) as Kahn, Lee and Hannun (2020, "Self-training for end-to-end speech recognition") do it:
a beam search with a language model of the transcribed texts writes them, and confidence filters. What is sure enough
is told on transcribed recordings that were held out, and the result counts only where these are heard no worse.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.functional import pad

from ..contracts import Transcribed
from ..data.corpora import Report
from ..data.sentences import Sentences, padded
from ..statistics import PairedDifference
from ..text.decode import prefix_beam
from ..text.ngram import NGram
from ..text.symbols import Symbols
from .adapting import Reached
from .models import Recognition
from .scoring import Errors, change, errors_of
from .untranscribed import Untranscribed, hear

MAX_ERROR = 0.25
"""Character error that the transcripts of held-out recordings have above the threshold."""
MIN_KEPT = 3
"""A threshold rests on no fewer held-out recordings, and fewer transcripts are not worth an adaptation."""
MAX_RATIO = 4.0
"""Seconds of kept recordings over those of transcribed ones; beyond it the surest are taken."""
BEAM, LM_ORDER, LM_WEIGHT = 8, 5, 0.3


@dataclass(frozen=True, slots=True)
class Guess:
    """What was written for one piece, without anybody having said whether it is right."""

    place: int
    ids: tuple[int, ...]
    confidence: float
    """Geometric mean of the posteriors of the symbols; 0 where nothing was heard."""


@dataclass(frozen=True, eq=False)
class SelfTraining:
    """What untranscribed recordings brought."""

    n_pieces: int
    seconds: float
    n_known: int
    """Recordings passed over as copies of transcribed ones."""
    skipped: tuple[str, ...]
    """A sentence for each recording that cannot be used."""
    threshold: float | None
    """Confidence from which on a transcript was kept; None where held-out recordings show none that is right enough."""
    n_kept: int
    kept_s: float
    before: Errors
    """On held-out recordings, with the transcribed ones alone."""
    after: Errors | None
    """With those that were kept; None where nothing was."""

    @property
    def accepted(self) -> bool:
        """Whether the error on held-out recordings did not rise."""
        return self.after is not None and self.after.rate <= self.before.rate

    def change(self) -> PairedDifference | None:
        """Character error after less that before, with its interval."""
        return None if self.after is None else change(self.before, self.after)


def self_trained(
    trial: Recognition,
    sentences: Sentences,
    rest: Int[np.ndarray, " n"],
    held: Int[np.ndarray, " m"],
    untranscribed: Untranscribed,
    before: Errors,
    retrain: Callable[[Transcribed], Errors],
    report: Report | None = None,
) -> tuple[SelfTraining, Transcribed | None]:
    """Transcribe, keep what is sure, adapt again; with the kept transcripts where they did no harm, else None.

    ``trial`` was adapted to ``rest`` and has ``before`` as its errors on ``held``; ``retrain`` adapts anew to ``rest``
    and the kept transcripts, and says the errors on ``held``.
    """
    lm = NGram.from_texts([sentences.targets[i] for i in rest], order=LM_ORDER)
    features = [sentences.features(np.asarray([i]), trial.front_end)[0][0] for i in held]
    known = guesses(trial, features, lm)
    said = tuple(trial.symbols.decode(sentences.targets[i]) for i in held)
    heard = tuple(trial.symbols.decode(guess.ids) for guess in known)
    errors = errors_of(Reached(said, heard), [sentences.utterances[i] for i in held])
    threshold = threshold_for(known, errors)
    kept: list[Guess] = []
    if threshold is not None:
        most_s = MAX_RATIO * float(sentences.durations_s(rest).sum())
        seconds = [piece.seconds for piece in untranscribed.pieces]
        kept = surest(guesses(trial, untranscribed.features, lm, report), seconds, threshold, most_s)
    after, extra = None, None
    if len(kept) >= MIN_KEPT:
        extra = transcribed(untranscribed, kept)
        after = retrain(extra)
    result = SelfTraining(
        n_pieces=len(untranscribed),
        seconds=untranscribed.seconds,
        n_known=untranscribed.n_known,
        skipped=untranscribed.skipped,
        threshold=threshold,
        n_kept=len(kept),
        kept_s=sum((untranscribed.pieces[guess.place].seconds for guess in kept), 0.0),
        before=before,
        after=after,
    )
    return result, extra if result.accepted else None


def guesses(
    recognition: Recognition, features: Sequence[Tensor], lm: NGram, report: Report | None = None
) -> list[Guess]:
    """A transcript of each piece by beam search, in the order given."""
    found: dict[int, Guess] = {}
    for place, heard in hear(recognition, features):
        best = prefix_beam(heard.log_probs, BEAM, lm=lm, lm_weight=LM_WEIGHT, n_best=1)
        ids = single_spaced(best[0].ids, recognition.symbols) if best else ()
        sure = float(np.exp(np.log(np.maximum(best[0].confidences, 1e-30)).mean())) if ids else 0.0
        found[place] = Guess(place, ids, sure)
        if report is not None:
            report("transcribing", len(found), len(features))
    return [found[place] for place in range(len(features))]


def single_spaced(ids: Iterable[int], symbols: Symbols) -> tuple[int, ...]:
    """Symbols without spaces at the ends or beside another."""
    space = symbols.characters.index(" ") + 1 if " " in symbols.characters else 0
    out: list[int] = []
    for each in ids:
        if each != space or (out and out[-1] != space):
            out.append(each)
    return tuple(out[:-1] if out and out[-1] == space else out)


def threshold_for(known: Sequence[Guess], errors: Errors, max_error: float = MAX_ERROR) -> float | None:
    """The lowest confidence at and above which the transcripts of known recordings together err no more than allowed.

    None where fewer than ``MIN_KEPT`` of them reach it.
    """
    confidence = np.asarray([guess.confidence for guess in known])
    order = np.argsort(-confidence, kind="stable")
    rates = np.cumsum(errors.char_edits[order]) / np.cumsum(errors.chars[order])
    last = np.append(np.diff(confidence[order]) != 0, True)  # equal confidences pass a threshold together
    good = np.flatnonzero((rates <= max_error) & last & (confidence[order] > 0))
    if not len(good) or good[-1] + 1 < MIN_KEPT:
        return None
    return float(confidence[order][good[-1]])


def surest(found: Sequence[Guess], seconds: Sequence[float], threshold: float, most_s: float) -> list[Guess]:
    """Transcripts at or above a threshold, the surest first, of at most so many seconds together."""
    kept: list[Guess] = []
    total_s = 0.0
    for guess in sorted(found, key=lambda each: (-each.confidence, each.place)):
        if guess.confidence < threshold or not guess.ids:
            break
        if total_s + seconds[guess.place] <= most_s:
            kept.append(guess)
            total_s += seconds[guess.place]
    return kept


def transcribed(untranscribed: Untranscribed, kept: Sequence[Guess]) -> Transcribed:
    """Pieces with what was written for them, as a support set."""
    features = [untranscribed.features[guess.place] for guess in kept]
    inputs = torch.nn.utils.rnn.pad_sequence(features, batch_first=True)
    lengths = torch.tensor([len(frames) for frames in features])
    return Transcribed(inputs, lengths, *padded([guess.ids for guess in kept]))


def joined(one: Transcribed, other: Transcribed) -> Transcribed:
    """The utterances of both, padded alike."""
    n_frames = max(one.inputs.shape[1], other.inputs.shape[1])
    n_symbols = max(one.targets.shape[1], other.targets.shape[1])
    inputs = [pad(each.inputs, (0, 0, 0, n_frames - each.inputs.shape[1])) for each in (one, other)]
    targets = [pad(each.targets, (0, n_symbols - each.targets.shape[1])) for each in (one, other)]
    return Transcribed(
        torch.cat(inputs),
        torch.cat([one.lengths, other.lengths]),
        torch.cat(targets),
        torch.cat([one.target_lengths, other.target_lengths]),
    )
