"""A corpus of sentences becomes a corpus of words: align, filter, cut."""

import multiprocessing
import os
import shutil
import signal
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import torch

from ...audio import read
from ...contracts import InputError, Utterance
from ..layouts import printable, shown
from ..manifests import load_corpus, write_manifest
from ..stored import require_empty
from ..synth_languages import LANGUAGES
from .proportional import energy_aligner
from .spans import RATE_HZ, Aligner, OpenAligner, Span
from .synthetic import synthetic_aligner, voice_of
from .tokens import label_of, n_letters, spoken_words

ALIGNERS: dict[str, OpenAligner] = {"synthetic": synthetic_aligner, "energy": energy_aligner}
AUTO = "auto"
"""``synthetic`` where the synthesiser speaks the language, else ``energy``."""
CTC = "ctc"
"""By a recogniser, which whoever asks for it brings along (``spoken.spoken_aligner``)."""

MAX_SENTENCE_S = 40.0
"""The memory of an alignment grows with the square of the sentence."""
MIN_S_PER_LETTER = 0.02
"""Nobody speaks 50 letters a second: such a recording is shorter than its words could be."""
MARGIN_S = 0.05
"""How much of the pause on either side a clip keeps."""
TEXTS_PER_UNIT = 24
"""Work is handed out in units of a fixed size, so that the result does not depend on the number of processes."""
FILES_PER_FOLDER = 1000

Report = Callable[[str, int, int], None]
"""(what is being done, done, total)."""


@dataclass(frozen=True, slots=True)
class Keep:
    """Which words are kept: sure, neither clipped nor drawn out, and said often enough by enough people."""

    confidence: float = 0.3
    min_s: float = 0.15
    max_s: float = 2.0
    min_letters: int = 3
    min_takes: int = 4
    min_speakers: int = 2
    """People who are not named count as one."""


@dataclass(frozen=True, slots=True)
class Take:
    """One word of one sentence."""

    sentence: Utterance
    index: int
    """Position of the word in its sentence."""
    word: str
    label: str
    span: Span
    from_s: float
    to_s: float
    """Where the clip begins and ends: the span and up to 50 ms of the pauses around it."""


@dataclass(frozen=True, slots=True)
class Aligned:
    """A sentence with its words, or why it has none."""

    sentence: Utterance
    takes: tuple[Take, ...] = ()
    skipped: str = ""


@dataclass(frozen=True, slots=True)
class Cut:
    """What was cut from a corpus."""

    n_sentences: int
    skipped: dict[str, int]
    """Sentences that were left out, by reason."""
    aligners: dict[str, int]
    """Sentences by the aligner that was chosen for them."""
    n_aligned: int
    """Words in all sentences."""
    n_confident: int
    """Those that are sure, long and short enough; of some there are too few takes."""
    n_takes: int
    n_words: int
    """Different words that are kept."""
    n_speakers: int
    median_confidence: float
    """Of the takes that are kept."""
    hours: float


def cut_words(
    corpus: str | Path,
    out: str | Path,
    *,
    aligner: str = AUTO,
    lang: str | None = None,
    spoken: OpenAligner | None = None,
    keep: Keep | None = None,
    n_workers: int = 1,
    report: Report | None = None,
) -> Cut:
    """Align every sentence of a corpus and write its words, those that ``keep`` lets pass, as a new corpus folder.

    The folder has ``manifest.jsonl`` (text, label, and what is known of the speaker) and 16 kHz FLAC clips; it appears
    under its name when it is complete. ``lang`` is the language of sentences that do not say theirs; those in another
    are left out. ``spoken`` opens the aligner ``ctc``. ``n_workers`` above 1 aligns in as many processes, with the
    same result; ``spoken`` must then be known to them by name.

    Raises InputError for a corpus that cannot be read or has no texts, an unknown aligner, a language that the
    synthetic aligner does not speak, nothing that passes, and an ``out`` that is not empty or cannot be made.
    """
    keep = keep or Keep()
    out = Path(os.path.abspath(out))
    require_empty(out)
    sentences = load_corpus(corpus, lang=lang)
    require_texts(sentences, str(corpus))
    by_aligner = Counter(aligner_for(sentence.lang, aligner) for sentence in sentences)
    aligned = []
    for item in align(sentences, aligner=aligner, spoken=spoken, n_workers=n_workers):
        aligned.append(item)
        if report is not None:
            report("sentences", len(aligned), len(sentences))
    takes = [take for item in aligned for take in item.takes]
    confident = [take for take in takes if is_sure(take, keep)]
    kept = frequent(confident, keep)
    if not kept:
        raise _nothing(takes, confident, keep, printable(str(corpus)))
    utterances = _write(kept, out, report)
    return Cut(
        n_sentences=len(sentences),
        skipped=dict(Counter(item.skipped for item in aligned if item.skipped).most_common()),
        aligners=dict(by_aligner.most_common()),
        n_aligned=len(takes),
        n_confident=len(confident),
        n_takes=len(kept),
        n_words=len({(u.lang, u.label) for u in utterances}),
        n_speakers=len({u.speaker for u in utterances} - {None}),
        median_confidence=round(float(np.median([take.span.confidence for take in kept])), 3),
        hours=round(sum(u.duration_s for u in utterances) / 3600, 4),
    )


# ---------------------------------------------------------------------------------------------------------- alignment


def require_texts(sentences: Sequence[Utterance], name: str) -> None:
    """Raise InputError where no sentence has a word."""
    if not any(spoken_words(sentence.text) for sentence in sentences):
        raise InputError(
            f"None of the {len(sentences)} recordings of {printable(name)} has a text to take words from; "
            "write what is said under text in its manifest."
        )


def aligner_for(lang: str | None, asked: str) -> str:
    """The name of the aligner that takes a language. Raises InputError for a name or language that is not known."""
    if asked == AUTO:
        return "synthetic" if lang in LANGUAGES else "energy"
    if asked not in (*ALIGNERS, CTC):
        raise InputError(f"There is no aligner {asked!r}; choose one of {', '.join([AUTO, *ALIGNERS, CTC])}.")
    if asked == "synthetic":
        if lang is None:
            raise InputError("The synthetic aligner must know the language; name it, or take the aligner energy.")
        voice_of(lang)
    return asked


_Unit = list[tuple[tuple[str, str, tuple[str, ...]], list[Utterance]]]
"""Sentences with the same aligner, language and words, and their recordings."""


def align(
    sentences: Iterable[Utterance], *, aligner: str = AUTO, spoken: OpenAligner | None = None, n_workers: int = 1
) -> Iterator[Aligned]:
    """The words of each sentence, in an order of their own: sentences with the same text follow each other.

    Raises InputError as ``aligner_for``, for a recording that cannot be read, and for ``ctc`` without ``spoken``.
    """
    if aligner == CTC and spoken is None:
        raise InputError("The aligner ctc needs a recogniser; name one, or take the aligner energy.")
    by_text: dict[tuple[str, str, tuple[str, ...]], list[Utterance]] = defaultdict(list)
    for sentence in sentences:
        name = aligner_for(sentence.lang, aligner)
        by_text[name, sentence.lang or "", tuple(spoken_words(sentence.text))].append(sentence)
    texts = sorted(by_text.items())
    units = [texts[start : start + TEXTS_PER_UNIT] for start in range(0, len(texts), TEXTS_PER_UNIT)]
    with _mapped(min(n_workers, len(units))) as mapped:
        for aligned in mapped(partial(_align_unit, spoken), units):
            yield from aligned


@contextmanager
def _mapped(n_workers: int) -> Iterator[Callable[..., Iterator[list[Aligned]]]]:
    if n_workers <= 1:
        yield map
        return
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    others = set(multiprocessing.active_children())
    with ProcessPoolExecutor(n_workers, mp_context=context, initializer=_start_worker) as pool:

        def mapped(work: Callable[[_Unit], list[Aligned]], units: list[_Unit]) -> Iterator[list[Aligned]]:
            for unit in [pool.submit(work, unit) for unit in units]:
                yield unit.result()

        try:
            yield mapped
        except BaseException:  # nobody waits for what the workers have begun
            for worker in set(multiprocessing.active_children()) - others:
                worker.terminate()
            raise


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends this process
    torch.set_num_threads(1)


def _align_unit(spoken: OpenAligner | None, unit: _Unit) -> list[Aligned]:
    aligned = []
    openers = ALIGNERS if spoken is None else {**ALIGNERS, CTC: spoken}
    with ExitStack() as stack:
        opened: dict[str, Aligner] = {}
        for (name, lang, words), sentences in unit:
            if name not in opened:
                opened[name] = stack.enter_context(openers[name]())
            aligned += [_align_one(sentence, words, lang, opened[name]) for sentence in sentences]
    return aligned


def _align_one(sentence: Utterance, words: Sequence[str], lang: str, align_words: Aligner) -> Aligned:
    if not words:
        return Aligned(sentence, skipped="no words")
    if sentence.duration_s > MAX_SENTENCE_S:
        return Aligned(sentence, skipped=f"longer than {MAX_SENTENCE_S:g} s")
    wave = read(sentence.path, RATE_HZ)
    duration_s = len(wave) / RATE_HZ
    too_short = duration_s < MIN_S_PER_LETTER * sum(map(n_letters, words))
    spans = None if too_short else align_words(wave, words, lang)
    if spans is None:
        return Aligned(sentence, skipped="too short for its words")
    befores = [0.0, *(span.end_s for span in spans[:-1])]
    afters = [*(span.start_s for span in spans[1:]), duration_s]
    takes = [
        Take(
            sentence=sentence,
            index=index,
            word=word,
            label=label_of(word),
            span=span,
            from_s=max(before, span.start_s - MARGIN_S),
            to_s=min(after, span.end_s + MARGIN_S),
        )
        for index, (word, span, before, after) in enumerate(zip(words, spans, befores, afters, strict=True))
    ]
    return Aligned(sentence, tuple(takes))


# ------------------------------------------------------------------------------------------------------------- filter


def is_sure(take: Take, keep: Keep) -> bool:
    """Whether a take by itself may be kept."""
    length_s = take.span.end_s - take.span.start_s
    return (
        take.span.confidence >= keep.confidence
        and keep.min_s <= length_s <= keep.max_s
        and n_letters(take.label) >= keep.min_letters
    )


def frequent(takes: Sequence[Take], keep: Keep) -> list[Take]:
    """The takes of words that are said often enough by enough people, words of one language together."""
    by_word: dict[tuple[str | None, str], list[Take]] = defaultdict(list)
    for take in takes:
        by_word[take.sentence.lang, take.label].append(take)
    return [
        take
        for group in by_word.values()
        if len(group) >= keep.min_takes and len({take.sentence.speaker for take in group}) >= keep.min_speakers
        for take in group
    ]


def _nothing(takes: Sequence[Take], confident: Sequence[Take], keep: Keep, name: str) -> InputError:
    if confident:
        label, n_takes = Counter(take.label for take in confident).most_common(1)[0]
        speakers = {take.sentence.speaker for take in confident if take.label == label}
        return InputError(
            f"No word of {name} has {keep.min_takes} sure takes from {keep.min_speakers} speakers, the most frequent "
            f"one {shown(label)} has {n_takes} from {len(speakers)}; cut its words by `metavox data align` with a "
            "lower --min-takes or --min-speakers."
        )
    best = max((take.span.confidence for take in takes), default=0.0)
    return InputError(
        f"None of the {len(takes)} words of {name} is sure enough: the best confidence is {best:.2f} and "
        f"{keep.confidence:g} is asked for; correct the texts and the language, or cut its words by `metavox data "
        "align` with a lower --keep-confidence."
    )


# --------------------------------------------------------------------------------------------------------------- write


def _write(takes: Sequence[Take], out: Path, report: Report | None) -> list[Utterance]:
    by_sentence: dict[str, list[Take]] = defaultdict(list)
    for take in takes:
        by_sentence[take.sentence.id].append(take)
    there = next(parent for parent in out.parents if parent.is_dir())
    partial = there / f".{out.name}.{os.getpid()}.part"
    utterances: list[Utterance] = []
    try:
        partial.mkdir()
        for name in sorted(by_sentence):
            wave = read(by_sentence[name][0].sentence.path, RATE_HZ)
            for take in sorted(by_sentence[name], key=lambda take: take.index):
                utterances.append(_write_clip(take, wave, partial, len(utterances)))
                if report is not None:
                    report("clips", len(utterances), len(takes))
        write_manifest(partial, utterances)
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.is_dir():
            out.rmdir()
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return utterances


def _write_clip(take: Take, wave: np.ndarray, folder: Path, number: int) -> Utterance:
    clip = wave[round(take.from_s * RATE_HZ) : round(take.to_s * RATE_HZ)]
    path = folder / "audio" / f"{number // FILES_PER_FOLDER:03d}" / f"{number:06d}.flac"
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(str(path), np.clip(np.rint(clip * 32768), -32768, 32767).astype(np.int16), RATE_HZ)
    return replace(
        take.sentence,
        id=f"{take.sentence.id}-{take.index:03d}",
        path=path,
        duration_s=len(clip) / RATE_HZ,
        text=take.word,
        label=take.label,
    )
