"""What a recogniser is adapted to: recordings that were drawn, checked and written in an alphabet, and some held out.

Everything that can be refused is refused before any audio is read.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int

from ..contracts import FrontEnd, InputError, Utterance
from ..data.bank import build_bank
from ..data.corpora import Report, n_cores
from ..data.manifests import split_disjoint
from ..data.sentences import MAX_UTTERANCE_S, Sentences, require_room, require_texts
from ..text.languages import iso_639_3
from ..text.symbols import Alphabet, Symbols
from .adapting import MIN_UTTERANCES

HELD_OUT = 0.2
"""Share of the recordings on which an adaptation is measured."""
MIN_SPEAKERS, MIN_HELD = 3, 4
"""Of so many speakers whole ones are held out; an error is measured on no fewer recordings than the second."""
MAX_SPEAKER_SHARE, MIN_SPEAKER_SHARE = 0.4, 0.1
"""Whole speakers are held out only where they make up so much of the recordings."""
MIN_LEFT = 0.6
"""Share of the other recordings that must be left once those with a held-out sentence are set aside."""


def require_language(lang: str | None) -> None:
    """Raise InputError for what is no code of ISO 639: two known letters, or any three."""
    if lang is not None and iso_639_3(lang) is None:
        raise InputError(
            f"{lang!r} is no language code; give the two or three letters of ISO 639, such as ml or mal, or leave it "
            "out."
        )


def drawn(utterances: Sequence[Utterance], minutes: float | None, seed: int) -> list[int]:
    """Positions of a random draw of so many minutes, or of all, in the order given; it depends on ids, not on order.

    The draw ends with the recording that reaches the minutes, and that of fewer minutes is the beginning of it.

    Raises:
        InputError: minutes that are not positive, or more than there are.
    """
    if minutes is None:
        return list(range(len(utterances)))
    total_s = sum(u.duration_s for u in utterances)
    if not minutes > 0:
        raise InputError(f"{minutes:g} minutes were asked for; give a number above 0.")
    if 60 * minutes > total_s:
        raise InputError(
            f"{minutes:g} minutes were asked for and the transcribed recordings last {total_s / 60:.2f} minutes; ask "
            f"for at most {int(total_s / 0.6) / 100:g}."
        )
    by_id = sorted(range(len(utterances)), key=lambda i: (utterances[i].id, str(utterances[i].path)))
    chosen: list[int] = []
    seconds = 0.0
    for place in np.random.default_rng(seed).permutation(len(by_id)).tolist():
        if seconds >= 60 * minutes:
            break
        chosen.append(by_id[place])
        seconds += utterances[by_id[place]].duration_s
    return sorted(chosen)


def alphabet_for(own: Symbols, texts: Iterable[str], langs: Iterable[str | None], asked: Alphabet | None) -> Symbols:
    """The alphabet to adapt to: the recogniser's own, or the native one of the texts.

    Raises:
        InputError: roman is asked of a recogniser that has lost it; texts without a letter.
    """
    if asked is None or asked == own.alphabet:
        return own.extended(texts)
    if asked == "roman":
        raise InputError(
            "The recogniser writes a native alphabet already and cannot go back to roman; leave --alphabet away, or "
            "adapt the model it was made from."
        )
    known = set(langs)
    return Symbols.native(texts, known.pop() if len(known) == 1 else None)


def sentences_of(
    utterances: Sequence[Utterance],
    rows: Sequence[int],
    symbols: Symbols,
    front_end: FrontEnd,
    report: Report | None = None,
) -> Sentences:
    """Some utterances with their features and symbols; ``rows`` are their places in the corpus, for messages.

    Raises:
        InputError: texts that are empty, cannot be written in the alphabet or are too long for their audio, recordings
            of more than 40 s, too few of them, and audio that cannot be read.
    """
    require_recordings(utterances)
    targets = _encoded(utterances, rows, symbols)
    bank = build_bank(
        utterances,
        front_end,
        n_workers=n_cores(),
        progress=None if report is None else (lambda done, total: report("features", done, total)),
    )
    target_of = dict(zip(utterances, targets, strict=True))
    targets = [target_of[u] for u in bank.utterances]  # a bank keeps the clips of a folder together
    require_room(bank, targets)
    return Sentences(bank, targets, [()] * len(bank))


def require_recordings(utterances: Sequence[Utterance]) -> None:
    """Raise InputError for empty texts, for recordings of more than 40 s and for too few of them."""
    require_texts(utterances)
    long = [u for u in utterances if u.duration_s > MAX_UTTERANCE_S]
    if long:
        raise InputError(
            f"{len(long)} of {len(utterances)} recordings with a text last more than {MAX_UTTERANCE_S:.0f} s, the "
            f"first is {long[0].id} with {long[0].duration_s:.0f} s; cut them into sentences first."
        )
    if len(utterances) < MIN_UTTERANCES:
        raise InputError(
            f"{len(utterances)} transcribed recordings were given and {MIN_UTTERANCES} are the least; ten minutes are "
            "better."
        )


def _encoded(utterances: Sequence[Utterance], rows: Sequence[int], symbols: Symbols) -> list[tuple[int, ...]]:
    found: list[tuple[int, ...]] = []
    faults: list[str] = []
    remedies: dict[str, None] = {}
    for utterance, row in zip(utterances, rows, strict=True):
        try:
            found.append(symbols.encode(utterance.text, utterance.lang))
        except InputError as error:
            if isinstance(error.__cause__, ImportError):  # not the text is wrong
                raise
            what, _, remedy = str(error).removesuffix(".").rpartition("; ")
            faults.append(f"row {row + 1}, {utterance.id}: {what.replace('The text ', '', 1)}")
            remedies.setdefault(remedy)
    if faults:
        rest = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise InputError(
            f"{len(faults)} of {len(utterances)} texts cannot be written in the {symbols.alphabet} alphabet "
            f"({'; '.join(faults[:3])}{rest}); {', or '.join(remedies)}."
        )
    return found


# ---------------------------------------------------------------------------------------------------------- held out


@dataclass(frozen=True, eq=False)
class Split:
    """Recordings to adapt to and recordings to measure on, which share no sentence."""

    rest: Int[np.ndarray, " n"]
    held: Int[np.ndarray, " m"]
    by: Literal["speaker", "sentence"]
    """What the two do not share besides: ``speaker``, or nothing more than the sentence."""


def hold_out(utterances: Sequence[Utterance], seed: int) -> Split | None:
    """About a fifth of the recordings held out: whole speakers where three or more are known, else whole sentences.

    With speakers, recordings of the others that say a held-out sentence belong to neither part; where too few are left
    so, sentences are held out. None where there are too few recordings, or only one sentence.
    """
    found = _by_speaker(utterances, seed) or _by_sentence(utterances, seed)
    if found is not None:
        said = [_sentence(u) for u in utterances]
        assert not {said[i] for i in found.rest} & {said[i] for i in found.held}
    return found


def _by_speaker(utterances: Sequence[Utterance], seed: int) -> Split | None:
    speakers = {u.speaker for u in utterances}
    if None in speakers or len(speakers) < MIN_SPEAKERS:
        return None
    parts = split_disjoint(utterances, by="speaker", shares=(1 - HELD_OUT, HELD_OUT), seed=seed)
    others, held = _positions(parts, utterances)
    said = {_sentence(utterances[i]) for i in held}
    rest = np.asarray([i for i in others if _sentence(utterances[i]) not in said], np.int64)
    share = len(held) / len(utterances)
    fits = MIN_SPEAKER_SHARE <= share <= MAX_SPEAKER_SHARE and len(rest) >= MIN_LEFT * len(others)
    return Split(rest, held, "speaker") if fits and _enough(rest, held) else None


def _by_sentence(utterances: Sequence[Utterance], seed: int) -> Split | None:
    if len({_sentence(u) for u in utterances}) < 2:
        return None
    parts = split_disjoint(utterances, by="text", shares=(1 - HELD_OUT, HELD_OUT), seed=seed)
    rest, held = _positions(parts, utterances)
    return Split(rest, held, "sentence") if _enough(rest, held) else None


def _enough(rest: Int[np.ndarray, " n"], held: Int[np.ndarray, " m"]) -> bool:
    return len(rest) >= MIN_UTTERANCES and len(held) >= MIN_HELD


def _positions(parts: Sequence[Sequence[Utterance]], utterances: Sequence[Utterance]) -> list[Int[np.ndarray, " _"]]:
    place = {utterance: i for i, utterance in enumerate(utterances)}
    return [np.asarray([place[utterance] for utterance in part], np.int64) for part in parts]


def _sentence(utterance: Utterance) -> str:
    """A text as sentences are compared: without case and spacing."""
    return " ".join(utterance.text.casefold().split())
