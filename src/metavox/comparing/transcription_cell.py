"""One learner of transcription in one comparison: what it makes of a base in a budget, and of minutes of a language.

Every learner starts from the same base, learns for as many CPU-seconds (nothing where it is adapted as it is), and then
adapts to the same draws in as many steps, with changes of utterances alike; what is tuned is ``space_of``, on
``development``, which holds no test utterance. Rows are those of ``evaluation.transcription``.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..benchmarking.timing import peak_growth
from ..config.transcription import LearningConfig, TranscriptionExperiment
from ..contracts import InputError, Transcribed
from ..data.spoken import Spoken
from ..evaluation.protocols import Row
from ..evaluation.transcription import Material, TranscriptionProtocol, score
from ..evaluation.transcription_split import Split, split_corpus
from ..learners.preset import Range
from ..nets.cost import n_parameters
from ..transcription.adapting import Plan, Reached, heard, seconds_of
from ..transcription.learning import learn
from ..transcription.models import Recognition
from ..transcription.plans import WAYS, Way, adapted_in, n_moved
from ..transcription.shelf import ADAPT_LR, LR, row

COMMON = WAYS["augmented"].plan
"""How everybody adapts, but for what adapts and how far a step goes."""
CONTINUING_LR = 5e-4
"""Step size of learning that goes on from a base, where none is asked for."""
_SCHEDULE = 10_000
"""Parts that the schedule of a budget has."""
_NEVER = 2**31
_LEARNING = "learning."
_MIB = 2**20

Settings = Mapping[str, float]
"""What a trial asks for, by the keys of ``space_of``."""


@dataclass(frozen=True)
class Learned:
    """What a learner made of the base in its time."""

    recognition: Recognition
    steps: int = 0
    skipped: int = 0
    cpu_s: float = 0.0
    """Of its steps, what draws and changes their utterances included."""
    peak_mb: float | None = None
    """Memory that learning took beyond what was there; None where nobody can tell, or nothing was learned."""


@dataclass(frozen=True)
class Answered:
    """Rows of the test, one an utterance and draw, and what they cost."""

    rows: Sequence[Row]
    costs: Mapping[str, Any]

    @property
    def rate(self) -> float:
        """Characters that are wrong over those that were said, at all minutes above 0; what trials are chosen by."""
        asked = [one for one in self.rows if one["minutes"] > 0]
        return sum(one["char_errors"] for one in asked) / max(1, sum(one["chars"] for one in asked))


def space_of(learner: str) -> tuple[dict[str, Range], dict[str, float]]:
    """What a learner may try, and what it has by itself.

    Raises:
        InputError: a learner that is not on the shelf.
    """
    found = row(learner)
    usual = {**LearningConfig().model_dump(), **found.usual}
    own = {key: usual[key.removeprefix(_LEARNING)] for key in found.search}
    return found.space, {**own, LR: CONTINUING_LR, ADAPT_LR: found.adapts.plan.tuning.lr}


def development(split: Split, max_test: int) -> Split:
    """A test and a pool within the pool of another split, to choose settings on: the test says and hears none of it.

    Raises:
        InputError: a pool too small to be divided.
    """
    return split_corpus(split.pool, 1, max_test)


def learned(
    learner: str,
    base: Recognition,
    experiment: TranscriptionExperiment,
    spoken: Spoken,
    out: Path,
    *,
    budget_s: float,
    settings: Settings | None = None,
) -> Learned:
    """What a learner makes of ``base`` in ``budget_s`` of processor time, left in ``out``.

    ``experiment`` says what is learned from (``data``, ``tasks``, ``augment``, ``speed``) and how long steps are
    (``train``); its network is the base's, its learning the learner's. ``spoken`` is selected with the base's phones. A
    learner that shares the training of another (``shelf.Row.shares``) learns as that one does.

    Raises:
        InputError: as ``transcription.learning.learn``; a base without a folder.
    """
    found = row(learner)
    if found.learning is None or not budget_s:
        return Learned(base)
    if base.folder is None:
        raise InputError(f"{base.name} has no folder that learning could start from; save it first.")
    plan = continued(learner, base, experiment, budget_s, settings or {})
    kept: list[Recognition] = []
    grown = peak_growth(lambda: kept.append(learn(plan, spoken, out)))
    about = kept[0].about
    return Learned(
        kept[0],
        int(about["steps"]),
        int(about["skipped"]),
        float(about["cpu_s"]),
        None if grown is None else grown / _MIB,
    )


def continued(
    learner: str, base: Recognition, experiment: TranscriptionExperiment, budget_s: float, settings: Settings
) -> TranscriptionExperiment:
    """The recipe of a learner that goes on from a base."""
    found = row(learner)
    inner = {key.removeprefix(_LEARNING): value for key, value in settings.items() if key.startswith(_LEARNING)}
    net = base.net.config.model_copy(update={"dropout": experiment.recogniser.dropout})
    train = experiment.train.model_copy(
        update={
            "init": str(base.folder), "budget_s": budget_s, "steps": _SCHEDULE, "lr": settings.get(LR, CONTINUING_LR),
            "validate_every": _NEVER, "checkpoint_every": _NEVER, "report_every": _NEVER,
        }
    )  # fmt: skip
    learning = LearningConfig(learner=found.shares or learner, **inner)
    return experiment.model_copy(update={"recogniser": net, "learning": learning, "train": train})


def adapting(learner: str, settings: Settings, plan: Plan = COMMON) -> Way:
    """How a learner adapts here: ``plan`` with what adapts, and how far a step goes, from the learner's own way."""
    chosen = row(learner).adapts
    own = chosen.plan.tuning
    tuning = replace(
        plan.tuning,
        steps=plan.tuning.steps if own.steps else 0,
        lr=settings.get(ADAPT_LR, own.lr),
        adapts=own.adapts,
        rank=own.rank,
        condition=own.condition,
        encoding=own.encoding,
    )
    return replace(chosen, plan=replace(plan, tuning=tuning))


def answered(
    learner: str,
    found: Learned,
    material: Material,
    protocol: TranscriptionProtocol,
    *,
    settings: Settings | None = None,
    plan: Plan = COMMON,
) -> Answered:
    """What a learner hears in the test after each draw of ``material``; ``protocol`` names the minutes and the draws.

    Raises:
        InputError: as ``evaluation.transcription.score``.
    """
    chosen = adapting(learner, settings or {}, plan)
    clock = _Clock()

    def adapt(_: str, base: Recognition, support: Transcribed, seed: int) -> Recognition:
        steps = chosen.plan.for_support(seconds_of(support, base)).tuning.steps
        return clock.adapting(lambda: adapted_in(chosen, base, support, seed), steps)

    def hear(recognition: Recognition, *asked: Any) -> Reached:
        return clock.hearing(lambda: heard(recognition, *asked))

    asked = replace(protocol, learners=(learner,))
    scored = score(
        found.recognition, material, asked, adapt, hear, from_scratch=(learner,) if chosen.from_scratch else ()
    )
    seconds = {u.id: u.duration_s for u in material.split.test}
    rows = [{**one, "seconds": seconds[one["id"]]} for one in scored.rows]
    heard_s = sum(one["seconds"] for one in rows)
    return Answered(
        rows,
        {
            "training_cpu_s": found.cpu_s,
            "training_steps": found.steps,
            "training_skipped": found.skipped,
            "training_peak_mb": found.peak_mb,
            "adapt_cpu_s": clock.adapt_s / max(1, clock.n),
            "adapt_steps": clock.steps / max(1, clock.n),
            "adapt_peak_mb": clock.peak_mb,
            "adaptations": clock.n,
            "hear_cpu_s_per_s": clock.hear_s / max(heard_s, 1e-9),
            "moved": n_moved(chosen, found.recognition),
            "parameters": n_parameters(found.recognition.net),
        },
    )


class _Clock:
    """Processor seconds and memory of the adaptations of one learner."""

    def __init__(self) -> None:
        self.adapt_s = self.hear_s = 0.0
        self.n = self.steps = 0
        self.peak_mb: float | None = None

    def adapting(self, call: Callable[[], Recognition], steps: int) -> Recognition:
        kept: list[Recognition] = []

        def timed() -> None:  # without what looking at memory takes
            started = time.process_time()
            kept.append(call())
            self.adapt_s += time.process_time() - started

        grown = peak_growth(timed)
        self.n, self.steps = self.n + 1, self.steps + steps
        if grown is not None:
            self.peak_mb = max(self.peak_mb or 0.0, grown / _MIB)
        return kept[0]

    def hearing(self, call: Callable[[], Reached]) -> Reached:
        started = time.process_time()
        found = call()
        self.hear_s += time.process_time() - started
        return found
