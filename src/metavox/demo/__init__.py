"""The five steps on one page, from nothing to a report: what ``metavox demo`` runs.

Three learners are meta-trained for the same time on the same tasks, transferred to languages that none of them heard,
and compared with two untrained baselines on the same episodes. Then a few words are enrolled, new takes recognised,
and an unknown word refused.
"""

import json
import platform
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..checkpoint import Model, load_model, write_text
from ..config import DataConfig, Experiment, LearnerConfig, ModelConfig, TrainConfig
from ..contracts import InputError, Utterance
from ..data.bank import Bank
from ..data.corpora import Report
from ..data.episodes import ClassIndex, EpisodeSpec
from ..data.selection import Tasks, select_tasks
from ..evaluation.comparison import compare
from ..evaluation.protocols import Protocol, Row, evaluate, fitted, over_corpora, summary
from ..evaluation.reliability import Answers, reliability_summary
from ..evaluation.report import Confusion, Embedding, ReportData, project, write_report
from ..learners.presets import LEARNERS
from ..tasks import TASKS
from ..training import Step, initialise, learn, training_episodes
from .enrolment import N_ENROLLED as N_ENROLLED
from .enrolment import N_TAKES as N_TAKES
from .enrolment import enrol, enrol_again, plain

REAL = (
    "fsdd_en_digits", "speech_commands_mini", "spoken_words_zh_en", "wake_words_en",
    "arabic_digits", "bengali_digits", "lithuanian_commands",
)  # fmt: skip
NEW_LANGUAGES = ("ar", "bn", "lt", "sw", "tr")
"""Languages that no learner hears: three of real recordings, two of synthetic ones."""
SYNTH = {"n_words": 60, "n_voices": 6}
TRAINED = ("prototypes", "fo_proto_maml", "joint")
BASELINE_NAMES = ("nearest_mean", "dtw")
TITLES = {
    "prototypes": "prototypes",
    "fo_proto_maml": "first-order Proto-MAML",
    "joint": "joint training + fine-tuning",
    "nearest_mean": "trimmed nearest mean",
    "dtw": "DTW templates on MFCC",
}
SHOTS = (1, 5)
N_EPISODES, N_SLOW_EPISODES = 100, 20
"""Episodes at least, for each learner and number of shots, spread over the sets; slow baselines get fewer."""
SLOW = ("dtw",)
N_ENROLMENTS = 10
"""Enrolments whose answers show what the probabilities are worth."""
_SYNTHETIC = "synthetic "


@dataclass(frozen=True)
class DemoResult:
    """What the command line prints."""

    overall: list[dict[str, Any]]
    enrolment_sentence: str
    absent: tuple[str, ...]


def run_demo(out: Path, *, minutes: float, seed: int, report: Report) -> DemoResult:
    """Run everything and leave ``report.html``, ``results.jsonl``, ``rows.jsonl`` and the models in ``out``.

    Raises:
        InputError: ``out`` holds something else than an earlier demo, or espeak-ng is not installed.
    """
    started = time.time()
    _clear(out)
    base = _experiment("prototypes", seed, 1)
    tasks = select_tasks(base, report)  # 1. task selection, once: all learners see the same
    models, curves = {}, {}
    for name in TRAINED:
        models[name] = _train(name, tasks, out, 60 * minutes / len(TRAINED), seed, report)  # 2., 3.
        curves[TITLES[name]] = _lines(out / name / "training.jsonl")
    models |= {name: load_model(name) for name in BASELINE_NAMES}
    sets = _test_sets(tasks.bank)
    rows, summaries = _evaluate(models, sets, tasks.bank, seed, report)  # 4., 5.
    overall, paired = _tables(rows, summaries, seed)
    corpus, index = next(iter(sets.items()))
    enrolment = enrol(models["prototypes"], tasks.bank, corpus, index, out, seed)
    asked = enrol_again(models["prototypes"], tasks.bank, index, N_ENROLMENTS, seed)
    answers = Answers(*asked, N_ENROLMENTS, N_TAKES, TITLES["prototypes"], corpus)
    drawn = json.loads((out / TRAINED[0] / "drawn.json").read_text(encoding="utf-8"))
    data = ReportData(
        title="Words from a handful of recordings",
        subtitle="Meta-trained on some languages, transferred to others, beside what needs no training",
        setting="words in languages that no learner heard",
        about=_about(tasks, sets, seed, time.time() - started, minutes),
        training=curves,
        summaries=summaries,
        paired=paired,
        confusion=_confusion(rows, sets),
        embedding=_embedding(models["prototypes"], tasks.bank, sets, seed),
        enrolled=enrolment.words,
        enrolment=enrolment.rows,
        reliability=answers,
        drawn=drawn["classes"],
        groups=drawn["groups"],
        drawn_for=TITLES[TRAINED[0]],
        steps=_steps(tasks, sets, minutes),
    )
    write_report(out / "report.html", data)
    lines = [{"kind": "summary", **s} for s in summaries]
    lines += [{"kind": "overall", **s} for s in overall] + [{"kind": "paired", **s} for s in paired]
    lines += [{"kind": "enrolment", **row} for row in enrolment.rows]
    lines.append({"kind": "reliability", **reliability_summary(answers)})
    _write_lines(out / "results.jsonl", lines)
    _write_lines(out / "rows.jsonl", [{"model": name, **row} for (name, _), some in rows.items() for row in some])
    (out / "demo.part").unlink()
    return DemoResult(overall, enrolment.sentence, tasks.absent)


# ------------------------------------------------------------------------------------------- selection and learning


def _experiment(name: str, seed: int, n_steps: int) -> Experiment:
    return Experiment(
        model=ModelConfig(learner=LearnerConfig(name=name)),
        data=DataConfig(corpora=REAL, synth=SYNTH, leave_out_languages=NEW_LANGUAGES),
        train=TrainConfig(
            steps=n_steps,
            seed=seed,
            warmup=min(50, n_steps // 5),
            validate_every=max(1, n_steps // 8),
            validation_episodes=10,
            checkpoint_every=max(1, n_steps // 2),
        ),
    )


def _train(name: str, tasks: Tasks, out: Path, seconds: float, seed: int, report: Report) -> Model:
    """Meta-train one learner for about ``seconds``: the step is timed first, then the number of steps is set."""
    probe = _experiment(name, seed, 1)
    learner, _ = initialise(probe, tasks)
    outer = LEARNERS[name].outer
    assert outer is not None
    times = []
    for step in range(4):
        before = time.perf_counter()
        outer(learner.train(), TASKS["commands"](), training_episodes(probe, tasks, step))
        times.append(time.perf_counter() - before)
    # The first step allocates; a tenth of the time goes to validation and checkpoints.
    n_steps = max(10, round(0.9 * seconds / float(np.median(times[1:]))))
    experiment = _experiment(name, seed, n_steps)

    def show(step: Step) -> None:
        held_out = "" if step.validation is None else f"  held-out {step.validation:.2f}"
        report(f"learning: {name}", step.step, step.n_steps, f"loss {step.loss:.2f}{held_out}")

    learn(experiment, tasks, out / name, report=show)
    return load_model(out / name)


def _clear(out: Path) -> None:
    """Make room for the report; only what an earlier demo wrote is removed."""
    taken = any(out.iterdir()) if out.is_dir() else out.exists()
    if taken:
        if not any((out / name).is_file() for name in ("results.jsonl", "demo.part")):
            raise InputError(f"{out} is not empty and holds no earlier demo; give another --out.")
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "demo.part").write_text("an unfinished demo, safe to remove\n")


# --------------------------------------------------------------------------------------------------------- evaluation


def _per_set(n_episodes: int, n_sets: int) -> int:
    """Episodes of each set, rounded up."""
    return -(-n_episodes // n_sets)


def _test_sets(bank: Bank) -> dict[str, ClassIndex]:
    """Classes of the languages left out, by corpus; synthetic languages only where no real one is here.

    The set of most words comes first: it is the one that is enrolled, mapped and shown in detail.
    """
    groups: dict[str, list[int]] = {}
    for position, utterance in enumerate(bank.utterances):
        if utterance.lang in NEW_LANGUAGES:
            groups.setdefault(_set_name(utterance), []).append(position)
    if any(not name.startswith(_SYNTHETIC) for name in groups):  # real speech says how good it is on people
        groups = {name: positions for name, positions in groups.items() if not name.startswith(_SYNTHETIC)}
    sets = {}
    for name, positions in groups.items():
        keep = np.zeros(len(bank), bool)
        keep[positions] = True
        sets[name] = ClassIndex(bank.utterances, keep=keep)
    return dict(sorted(sets.items(), key=lambda item: -len(item[1])))


def _set_name(utterance: Utterance) -> str:
    synthetic = (utterance.speaker or "").startswith("synth-")
    return f"{_SYNTHETIC}{utterance.lang}" if synthetic else utterance.corpus


def _evaluate(
    models: Mapping[str, Model], sets: Mapping[str, ClassIndex], bank: Bank, seed: int, report: Report
) -> tuple[dict[tuple[str, int], list[Row]], list[dict[str, Any]]]:
    """Rows by learner and shots, and a summary for each set: the same episodes for every learner."""
    rows: dict[tuple[str, int], list[Row]] = {}
    summaries = []
    total = len(models) * len(SHOTS) * len(sets)
    done = 0
    for name, model in models.items():
        for k in SHOTS:
            rows[name, k] = []
            for corpus, index in sets.items():
                n = _per_set(N_SLOW_EPISODES if name in SLOW else N_EPISODES, len(sets))
                protocol, note = fitted(Protocol(EpisodeSpec(10, k, 5), max(n, 2), seed), index)
                before = time.perf_counter()
                found = evaluate(
                    model.learner, TASKS["commands"](), bank, index, protocol, model.config.front_end, corpus=corpus
                )
                about: dict[str, Any] = {
                    "model": TITLES[name],
                    "corpus": corpus,
                    "version": version("metavox"),
                    "trained": name in TRAINED,
                    "seconds": round(time.perf_counter() - before, 2),
                    "note": note,
                }
                summaries.append(summary(found, protocol, **about))
                rows[name, k] += found
                done += 1
                report("evaluation", done, total)
    return rows, summaries


def _tables(
    rows: Mapping[tuple[str, int], Sequence[Row]], summaries: Sequence[Mapping[str, Any]], seed: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Means over sets, and every learner against the best untrained baseline."""
    overall = []
    for name, title in TITLES.items():
        for k in SHOTS:
            some = [dict(s) for s in summaries if s["model"] == title and s["shots"] == k]
            overall.append({**over_corpora(some), "model": title, "trained": name in TRAINED})
    paired = []
    for k in SHOTS:
        at = {row["model"]: row["mean"] for row in overall if row["shots"] == k}
        best = max(BASELINE_NAMES, key=lambda name: at[TITLES[name]])
        by_title = {TITLES[name]: some for (name, shots), some in rows.items() if shots == k}
        paired += [{"shots": k, **row} for row in compare(by_title, TITLES[best], seed)]
    return overall, paired


def _confusion(rows: Mapping[tuple[str, int], Sequence[Row]], sets: Mapping[str, ClassIndex]) -> Confusion:
    """Words of one set, as the prototypes hear them with most takes."""
    corpus = next(iter(sets))
    some = [row for row in rows["prototypes", SHOTS[-1]] if row["corpus"] == corpus]
    counts: dict[str, int] = {}
    for row in some:
        counts[row["label"]] = counts.get(row["label"], 0) + 1
    labels = sorted(sorted(counts, key=lambda label: -counts[label])[:12])
    where = {label: i for i, label in enumerate(labels)}
    matrix = np.zeros((len(labels), len(labels)), np.int64)
    for row in some:
        if row["label"] in where and row["predicted"] in where:
            matrix[where[row["label"]], where[row["predicted"]]] += 1
    return Confusion(tuple(plain(label) for label in labels), matrix, TITLES["prototypes"], corpus)


def _embedding(model: Model, bank: Bank, sets: Mapping[str, ClassIndex], seed: int) -> Embedding:
    """Takes of eight words of one set, their embedding sequences laid out flat and projected to a plane."""
    index = next(iter(sets.values()))
    half = max(1, min(6, int(np.median(np.diff(index.offsets))) // 2))
    spec = EpisodeSpec(min(8, len(index.eligible(EpisodeSpec(2, half, 1)))), half, half)
    draw = index.draw(spec, [seed, 7])
    positions = np.concatenate([draw.support, draw.query])
    labels = np.concatenate([draw.support_labels, draw.query_labels])
    batch = bank.batch(positions, labels, len(draw.classes), model.config.front_end)
    with torch.no_grad():
        frames, _ = model.learner.embed(batch)
    return Embedding(
        project(frames.flatten(1).numpy()),
        tuple(plain(draw.classes[label]) for label in labels),
        tuple(["support"] * len(draw.support) + ["query"] * len(draw.query)),
        "First two principal components of the embedding sequences of prototypes; words of "
        f"{next(iter(sets))}, which were in no training task.",
    )


# ------------------------------------------------------------------------------------------------------------- telling


def _about(tasks: Tasks, sets: Mapping[str, ClassIndex], seed: int, seconds: float, minutes: float) -> dict[str, str]:
    utterances = tasks.bank.utterances
    heard = sorted({u.lang for u in utterances if u.lang and u.lang not in NEW_LANGUAGES})
    return {
        "Recordings": f"{len(utterances):,} clips, {sum(u.duration_s for u in utterances) / 3600:.1f} hours, "
        + ("synthetic only; no real recordings were found" if len(tasks.absent) == len(REAL) else "real and synthetic"),
        "Languages of training": ", ".join(heard),
        "Languages left out": ", ".join(lang for lang in NEW_LANGUAGES if any(u.lang == lang for u in utterances)),
        "Word sets of the test": ", ".join(f"{name} ({len(index)} words)" for name, index in sets.items()),
        "Training": f"{60 * minutes / len(TRAINED):.0f} s for each learner, the same tasks for all",
        "Seed": str(seed),
        "Version": f"metavox {version('metavox')}, torch {torch.__version__}",
        "Machine": f"{platform.system()} {platform.machine()}, one thread",
        "Time": f"{seconds / 60:.1f} minutes in all",
    }


def _steps(tasks: Tasks, sets: Mapping[str, ClassIndex], minutes: float) -> dict[str, str]:
    spec = tasks.training.spec
    return {
        "task selection": f"{tasks.training.n_classes:,} words; a task is {spec.n_way} of them with "
        f"{spec.k_shot + spec.n_query} takes each, real and synthetic mixed.",
        "initialisation": "One convolutional encoder for all learners, the same weights drawn from the seed.",
        "learning": f"{60 * minutes / len(TRAINED):.0f} seconds of outer steps for each learner, validated on words "
        "held out.",
        "knowledge transfer": "The adaptation of training, unchanged, on one or five takes of words in languages that "
        "were left out.",
        "evaluation": f"{_per_set(N_EPISODES, len(sets))} episodes of each of {len(sets)} sets (the first "
        f"{_per_set(N_SLOW_EPISODES, len(sets))} for DTW), the same for every "
        "learner, with intervals and the worst set.",
    }


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
