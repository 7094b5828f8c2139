"""One adaptation from the first check to what is kept of it, to be read from top to bottom.

A *trial* adapts to four fifths of the recordings and is measured on the others, before and after. Where that helped,
all recordings are adapted to in the same way, as many steps; the figures are those of the trial, so the recogniser
that is kept has heard more than they tell. What it forgot is measured on the guard of its base.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Int

from ..contracts import InputError, State, Transcribed, Utterance
from ..data.corpora import Report
from ..data.sentences import Sentences
from ..learners.sequence import Look
from ..text.symbols import Alphabet
from .adapting import Plan, adapt, heard, seconds_of, spelling_of, support_of, with_symbols
from .averages import require_single
from .choosing import Suggestion, suggested
from .guard import Forgetting, held_back, read_guard, scaled
from .models import Recognition, adapted
from .outcome import Adaptation, HeldOut, part_bytes
from .packing import packed, unpacked
from .scoring import Errors, errors_of
from .selftraining import SelfTraining, joined, self_trained
from .support import (
    Split,
    alphabet_for,
    drawn,
    hold_out,
    require_language,
    require_recordings,
    sentences_of,
)
from .untranscribed import Cut, Untranscribed, listen, recordings_in

MOST_STEPS = 2.0
"""Times as many steps, at most, where untranscribed recordings are learned from too."""


@dataclass(frozen=True)
class Options:
    """What may be asked of an adaptation."""

    minutes: float | None = None
    """Of the recordings, drawn at random; None for all."""
    alphabet: Alphabet | None = None
    """``roman`` or ``native``; None for the recogniser's own."""
    lang: str | None = None
    """Language of all recordings, whatever their rows say."""
    unlabelled: Path | None = None
    """Folder of recordings without texts to learn from too."""
    suggest: int = 0
    """Recordings of that folder to name as those to transcribe next."""
    max_forgetting: float | None = None
    """Points of character error (hundredths) that the old tasks may lose; None only measures it."""
    seed: int = 0

    def __post_init__(self) -> None:
        require_language(self.lang)
        if self.suggest < 0 or (self.suggest and self.unlabelled is None):
            raise InputError(
                f"{self.suggest} recordings to transcribe next were asked for; give a number of 1 or more and, with "
                "--unlabelled, the folder to choose from."
            )
        if self.max_forgetting is not None and not self.max_forgetting >= 0:
            raise InputError(
                f"The old tasks may lose {self.max_forgetting:g} points of character error; allow 0 or more."
            )


@dataclass(frozen=True)
class _Course:
    """What every step of one adaptation needs."""

    root: Recognition
    """The base model that parts are stored for."""
    start: Recognition
    """What is adapted, with a head for the alphabet of the recordings."""
    sentences: Sentences
    plan: Plan
    report: Report | None

    def watch(self, what: str) -> Callable[[Look], None] | None:
        report = self.report
        if report is None:
            return None

        def show(look: Look) -> None:
            known = "" if look.held_out is None else f"  held-out {look.held_out:.2f}"
            report(what, look.step, look.n_steps, f"loss {look.loss:.2f}{known}")

        return show

    def recogniser(self, state: State, share: float = 1.0, rows: Int[np.ndarray, " n"] | None = None) -> Recognition:
        """The recogniser with a share of what was learned from ``rows``, all by default, in the values that its part
        stores; with nothing learned it spells as the start does."""
        start = self.start.net.state_dict()
        values = {**start, **scaled(state, start, share)} if share else start
        old, symbols = self.root.net.state_dict(), self.start.symbols
        stored = unpacked(packed(values, old), old, symbols.size, Path("part"))
        before = self.start.spelling
        known = self.sentences.targets if rows is None else [self.sentences.targets[i] for i in rows]
        texts = [*(before.texts if before is not None else ()), *map(tuple, known)]
        spelling = spelling_of(self.plan, texts) if share else before
        return adapted(self.root, stored, symbols, self.start.encoding, spelling=spelling)

    def support(self, positions: Int[np.ndarray, " n"], extra: Transcribed | None = None) -> Transcribed:
        own = support_of(self.sentences, positions, self.start.net)
        return own if extra is None else joined(own, extra)

    def errors(self, recognition: Recognition, positions: Int[np.ndarray, " n"]) -> Errors:
        utterances = [self.sentences.utterances[i] for i in positions]
        return errors_of(heard(recognition, self.sentences, positions), utterances)


def adapt_recogniser(
    base: Recognition,
    utterances: Sequence[Utterance],
    plan: Plan,
    options: Options | None = None,
    *,
    cut: Cut | None = None,
    report: Report | None = None,
) -> Adaptation:
    """Adapt a recogniser to transcribed recordings; what `metavox adapt` does but for reading and writing folders.

    ``base`` may be an adapted recogniser: then it goes on from there, and the new part belongs to the same base model.
    ``cut`` divides long recordings without texts at their pauses. ``report`` is told what is being done.

    Raises:
        InputError: recordings, texts or options that cannot be used, by row where rows are at fault.
    """
    options = options or Options()
    course, untranscribed = _prepared(base, utterances, plan, options, cut, report)
    started = time.perf_counter()
    split = hold_out(course.sentences.utterances, options.seed)
    if split is None:
        trial, learned, extra = None, None, None
        state, steps = _fitted(course, np.arange(len(course.sentences)), "adapting")
    else:
        trial, learned, extra = _tried(course, split, untranscribed)
        state, steps = (_all_of_it(course, trial, extra), trial.steps) if trial.helped else ({}, trial.steps)
    recognition, forgetting = _guarded(course, state, options)
    share = 1.0 if forgetting is None else forgetting.share
    held = None if split is None or trial is None else _measured(course, split, trial, share)
    if held is not None and not held.helped:
        recognition, share = course.recogniser({}, 0.0), 0.0
        forgetting = forgetting and replace(forgetting, after=forgetting.before, share=share)
    seconds = time.perf_counter() - started
    suggestions: list[Suggestion] = []
    if options.suggest and untranscribed is not None:
        suggestions = suggested(recognition, untranscribed, options.suggest, course.sentences, report)
    found = Adaptation(
        recognition=recognition,
        helped=None if held is None else held.helped,
        n=len(course.sentences),
        speech_s=float(course.sentences.durations_s().sum()),
        steps=steps,
        seconds=seconds,
        part_bytes=part_bytes(recognition),
        kept_share=share,
        held_out=held,
        forgetting=forgetting,
        self_training=learned,
        suggestions=tuple(suggestions),
    )
    told = {key: value for key, value in found.to_json().items() if key != "suggestions"}
    return replace(found, recognition=replace(recognition, report=told))


def _prepared(
    base: Recognition,
    utterances: Sequence[Utterance],
    plan: Plan,
    options: Options,
    cut: Cut | None,
    report: Report | None,
) -> tuple[_Course, Untranscribed | None]:
    """Everything is checked before any audio is read, and read before anything is learned."""
    require_single(base, "adapt")
    if options.lang is not None:
        utterances = [replace(utterance, lang=options.lang) for utterance in utterances]
    require_recordings(utterances)
    paths = None if options.unlabelled is None else recordings_in(options.unlabelled)
    rows = drawn(utterances, options.minutes, options.seed)
    chosen = [utterances[i] for i in rows]
    symbols = alphabet_for(base.symbols, [u.text for u in chosen], [u.lang for u in chosen], options.alphabet)
    sentences = sentences_of(chosen, rows, symbols, base.front_end, report)
    untranscribed = None
    if paths is not None:
        own = [u.path for u in chosen]
        untranscribed = listen(paths, base.front_end, apart_from=own, cut=cut, seed=options.seed, report=report)
    plan = replace(plan, tuning=replace(plan.tuning, seed=options.seed))
    return _Course(base.base or base, with_symbols(base, symbols), sentences, plan, report), untranscribed


# ------------------------------------------------------------------------------------------------------------ learning


@dataclass(frozen=True, eq=False)
class _Trial:
    """What was learned from a part of the recordings, and what it did to the others."""

    state: State
    steps: int
    before: Errors
    after: Errors

    @property
    def helped(self) -> bool:
        return self.after.rate < self.before.rate


def _fitted(
    course: _Course, positions: Int[np.ndarray, " n"], what: str, extra: Transcribed | None = None, steps: int = 0
) -> tuple[State, int]:
    """Values adapted to some recordings, and after how many steps; given ``steps`` it takes these, on all of them."""
    support, looks = course.support(positions, extra), list[Look]()
    plan = replace(course.plan.for_support(seconds_of(support, course.start)), refit=False)
    if steps:
        plan = replace(plan, held_out=0.0, tuning=replace(plan.tuning, steps=steps, held_out=0.0))
    show = course.watch(what)

    def watch(look: Look) -> None:
        looks.append(look)
        if show is not None:
            show(look)

    state = adapt(course.start, support, plan, watch)
    judged = [look for look in looks if look.held_out is not None]
    best = min(judged, key=lambda look: look.held_out or 0.0).step if judged else plan.tuning.steps
    return state, best


def _tried(
    course: _Course, split: Split, untranscribed: Untranscribed | None
) -> tuple[_Trial, SelfTraining | None, Transcribed | None]:
    """Adapt to the rest and measure on what is held out; then the same with untranscribed recordings, if that helps."""
    before = course.errors(course.recogniser({}, 0.0), split.held)
    state, steps = _fitted(course, split.rest, "trying")
    recognition = course.recogniser(state, rows=split.rest)
    trial = _Trial(state, steps, before, course.errors(recognition, split.held))
    if untranscribed is None or not trial.helped:
        return trial, None, None
    tried: list[_Trial] = []

    def retrain(extra: Transcribed) -> Errors:
        own = course.support(split.rest)
        longer = min(MOST_STEPS, 1 + float(extra.lengths.sum()) / float(own.lengths.sum()))
        state, n = _fitted(course, split.rest, "with unlabelled", extra, round(longer * steps))
        tried.append(_Trial(state, n, before, course.errors(course.recogniser(state, rows=split.rest), split.held)))
        return tried[-1].after

    learned, extra = self_trained(
        recognition, course.sentences, split.rest, split.held, untranscribed, trial.after, retrain, course.report
    )
    return (trial if extra is None else tried[-1]), learned, extra


def _all_of_it(course: _Course, trial: _Trial, extra: Transcribed | None) -> State:
    """Values adapted to all recordings as the trial was to most of them; the trial's own where the plan says so."""
    if not course.plan.refit:
        return trial.state
    return _fitted(course, np.arange(len(course.sentences)), "adapting", extra, trial.steps)[0]


def _guarded(course: _Course, state: State, options: Options) -> tuple[Recognition, Forgetting | None]:
    """The recogniser with as much of what was learned as the old tasks allow."""
    guard = read_guard(course.root.folder)
    if guard is None:
        return course.recogniser(state), None
    start = course.recogniser({}, 0.0)
    return held_back(start, lambda share: course.recogniser(state, share), guard, options.max_forgetting)


def _measured(course: _Course, split: Split, trial: _Trial, share: float) -> HeldOut:
    """Errors on what was held out with the share of the trial that is kept."""
    after = trial.after if share == 1 else course.errors(course.recogniser(trial.state, share, split.rest), split.held)
    return HeldOut(split.by, trial.before, after)
