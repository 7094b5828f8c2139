"""New languages and new voices from minutes of speech: a base for each that never heard it, then learners side by side.

    python benchmarks/transcription.py train --target malayalam_msc     # one base; 23 CPU-minutes, 1.9 for 1,000 steps
    python benchmarks/transcription.py adapt --target malayalam_msc     # rows of every learner, minute and draw
    python benchmarks/transcription.py scratch --target malayalam_msc   # rows of random weights at the same minutes
    python benchmarks/transcription.py voices                           # ten sentences of each of 42 new speakers
    python benchmarks/transcription.py pool                             # benchmarks/transcription.json

Every base is trained with recipes/transcription.yaml on everything but the target's language (that of Yoruba does
without the speakers of the voices too), and without twenty languages of espeak-ng that serve as a test of their own.
Learners adapt to the same draws and are heard on the same utterances; how plans were chosen, on parts of two targets
that no test holds, is told in docs/decisions/0006-transcription.md. The figures that are kept have bases of 12,000
steps, but for English (train.steps=9000) and Mandarin (train.steps=7000), and ``scratch --seeds 1``.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from metavox.config import TranscriptionExperiment, load_recipe
from metavox.contracts import Utterance
from metavox.data.corpora import require
from metavox.data.manifests import load_corpus
from metavox.data.spoken import select_spoken
from metavox.data.synth_sentences import SentenceSpec, cached_sentences
from metavox.evaluation.transcription import TranscriptionProtocol, clustered, open_material, score, summary
from metavox.evaluation.transcription_split import split_corpus
from metavox.statistics import holm, mean_interval
from metavox.text.symbols import UNIVERSAL
from metavox.transcription.adaptation import adapt_recogniser
from metavox.transcription.adapting import heard
from metavox.transcription.learning import learn
from metavox.transcription.models import load_recogniser
from metavox.transcription.plans import DEFAULT_PLAN, WAYS, adapted_by, way
from metavox.transcription.scoring import change, errors_of
from metavox.transcription.support import sentences_of

HERE = Path(__file__).parent
RECIPE = HERE.parent / "recipes" / "transcription.yaml"
CORPORA = (
    "speechocean_en_l2", "malayalam_msc", "mboshi", "yoruba", "librispeech_test_other_mini", "mandarin_syllables",
)  # fmt: skip
WORDS = (
    "arabic_digits", "bengali_digits", "fsdd_en_digits", "lithuanian_commands", "speech_commands_mini",
    "spoken_words_zh_en", "wake_words_en",
)  # fmt: skip
TARGETS: dict[str, tuple[str, tuple[float, ...]]] = {
    "malayalam_msc": ("ml", (1, 5, 10)),
    "mboshi": ("mdw", (1, 5, 10)),
    "speechocean_en_l2": ("en", (1, 5, 10)),
    "yoruba": ("yo", (1, 5, 10)),
    "mandarin_syllables": ("cmn", (1, 4)),
}
"""Corpus, the language that its base does without, and the minutes."""
UNSEEN = (
    "af", "bs", "cy", "et", "fa", "gd", "haw", "hy", "ja", "kn", "ky", "mi", "mr", "nl", "or", "pt", "sk", "sw", "te",
    "uk",
)  # fmt: skip
"""Synthetic languages that no base hears."""
VOICE_SENTENCES = 20
VOICES_BASE = "yoruba"
"""The base of Yoruba does without the speakers of the voices as well, and so serves three kinds of targets."""
LEARNERS = ("metavox", "fine-tune")
SCRATCH_MINUTES = 5
N_RESAMPLES = 10_000


# ---------------------------------------------------------------------------------------------------------------- train


def train(target: str, work: Path, overrides: Sequence[str]) -> None:
    """The base that has not heard a target, in ``work``; a training that was interrupted goes on."""
    torch.set_num_threads(1)
    experiment = load_recipe(RECIPE, [*_left_out(target), *overrides])
    assert isinstance(experiment, TranscriptionExperiment)
    front_end = experiment.recogniser.front_end
    spoken = select_spoken(experiment.data, experiment.tasks, front_end, UNIVERSAL, experiment.train.seed)
    resume = (work / target / "trainer.safetensors").exists()
    found = learn(experiment, spoken, work / target, resume=resume, report=lambda at: print(at, flush=True))
    print(
        json.dumps({"target": target, "validation_cer": found.about["validation_cer"], "cpu_s": found.about["cpu_s"]})
    )


def _left_out(target: str) -> list[str]:
    named = [f"data.corpora={json.dumps(CORPORA)}", f"data.words={json.dumps(WORDS)}"]
    left = [*named, f"data.leave_out_languages={json.dumps([TARGETS[target][0]])}"]
    if target == VOICES_BASE:
        left.append(f"data.leave_out_speakers={json.dumps(sorted(_voices()))}")
    return left


def _voices() -> dict[str, list[Utterance]]:
    """Speakers of the L2 corpus with twenty sentences, and these."""
    members: dict[str, list[Utterance]] = {}
    for utterance in load_corpus(require("speechocean_en_l2")):
        members.setdefault(utterance.speaker or "", []).append(utterance)
    return {speaker: rows for speaker, rows in members.items() if len(rows) >= VOICE_SENTENCES}


# ---------------------------------------------------------------------------------------------------------------- adapt


def adapt(target: str, work: Path, learners: tuple[str, ...], seeds: int) -> None:
    """Rows and a summary of one target, in ``work``."""
    torch.set_num_threads(1)
    corpus, minutes = (require(target), TARGETS[target][1]) if target in TARGETS else (Path(), (0.0,))
    if target == "unseen":
        _unseen(work, learners)
        return
    base = load_recogniser(work / target)
    protocol = TranscriptionProtocol(learners, (0.0, *minutes), seeds)
    utterances = load_corpus(corpus)
    split = split_corpus(utterances, protocol.split_seed, protocol.max_test)
    _leave(work / target, base, utterances, split, protocol)


def _unseen(work: Path, learners: tuple[str, ...]) -> None:
    """Each unseen synthetic language as a target, of the base that heard every real language."""
    base = load_recogniser(work / VOICES_BASE)
    protocol = TranscriptionProtocol(learners, (0.0, 1.0), 1, max_test=30)
    for folder in cached_sentences(SentenceSpec(languages=UNSEEN)):
        utterances = load_corpus(folder)
        split = split_corpus(utterances, protocol.split_seed, protocol.max_test)
        _leave(work / "unseen" / str(utterances[0].lang), base, utterances, split, protocol)


def _leave(out: Path, base: Any, utterances: list[Utterance], split: Any, protocol: TranscriptionProtocol) -> None:
    out.mkdir(parents=True, exist_ok=True)
    started = time.time()
    material = open_material(split, protocol, utterances, base)
    scratch = [name for name, way in WAYS.items() if way.from_scratch]
    scored = score(
        base, material, protocol, adapted_by, report=lambda *said: print(*said, flush=True), from_scratch=scratch
    )
    rows = [*scored.rows, *_others(out / "rows.jsonl", protocol.learners)]
    names = tuple(dict.fromkeys(row["learner"] for row in rows))
    whole = replace(protocol, learners=tuple(sorted(names, key=lambda name: name != LEARNERS[0])))
    found = summary(rows, split, whole, seconds=time.time() - started)
    (out / "rows.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    (out / "result.json").write_text(json.dumps(found, ensure_ascii=False, indent=1))
    print(out.name, json.dumps(found["area"]))


def scratch(target: str, work: Path, seeds: int) -> None:
    """Random weights trained on the draws of five minutes (four of Mandarin), heard on the same utterances."""
    torch.set_num_threads(1)
    base = load_recogniser(work / target)
    minutes = max(m for m in TARGETS[target][1] if m <= SCRATCH_MINUTES)
    protocol = TranscriptionProtocol(("scratch",), (minutes,), seeds)
    utterances = load_corpus(require(target))
    split = split_corpus(utterances, protocol.split_seed, protocol.max_test)
    _leave(work / target / "scratch", base, utterances, split, protocol)


def voices(work: Path) -> None:
    """What `metavox adapt` makes of ten sentences of each speaker whom the base never heard, on ten others."""
    torch.set_num_threads(1)
    base = load_recogniser(work / VOICES_BASE)
    rng = np.random.default_rng(0)
    found = []
    for speaker, members in sorted(_voices().items()):
        order = rng.permutation(len(members))
        own, others = ([members[i] for i in sorted(part)] for part in np.split(order[:VOICE_SENTENCES], 2))
        started = time.perf_counter()
        adaptation = adapt_recogniser(base, own, way(DEFAULT_PLAN).plan)
        seconds = time.perf_counter() - started
        test = sentences_of(others, range(len(others)), base.symbols, base.front_end)
        before, after = (
            errors_of(heard(one, test, np.arange(len(test))), test.utterances) for one in (base, adaptation.recognition)
        )
        found.append(
            {
                "speaker": speaker, "n": len(others), "speech_s": round(adaptation.speech_s, 2),
                "seconds": round(seconds, 2), "helped": adaptation.helped,
                "chars": before.chars.tolist(), "errors_before": before.char_edits.tolist(),
                "errors_after": after.char_edits.tolist(), "cer_before": before.rate, "cer_after": after.rate,
                "relative_gain": 1 - after.rate / before.rate, "p_value": change(before, after).p_value,
            }
        )  # fmt: skip
        print(json.dumps({key: found[-1][key] for key in ("speaker", "helped", "cer_before", "cer_after")}), flush=True)
    (work / "voices.json").write_text(json.dumps(_voices_told(found)))
    print(json.dumps({key: value for key, value in _voices_told(found).items() if key != "speakers"}, indent=1))


def _voices_told(found: list[dict[str, Any]]) -> dict[str, Any]:
    gains = np.asarray([one["relative_gain"] for one in found])
    adjusted = holm([one["p_value"] for one in found])
    worse = [one for one, p in zip(found, adjusted, strict=True) if one["relative_gain"] < 0 and p < 0.05]
    interval = mean_interval(gains)
    return {
        "n_speakers": len(found),
        "sentences": VOICE_SENTENCES // 2,
        "mean_relative_gain": interval.mean,
        "mean_relative_gain_ci95": interval.ci95,
        "worst": float(gains.min()),
        "refused": sum(one["helped"] is False for one in found),
        "worse": int((gains < 0).sum()),
        "significantly_worse": len(worse),
        "real_time_share": sum(one["seconds"] for one in found) / sum(one["speech_s"] for one in found),
        "speakers": found,
    }


def _others(path: Path, learners: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of learners that were heard before and are not heard now: on the same draws, as all seeds are given."""
    return [row for row in _rows(path) if row["learner"] not in learners] if path.exists() else []


# ----------------------------------------------------------------------------------------------------------------- pool


def pool(work: Path) -> None:
    """All targets that were adapted to, each printed, and the gain pooled over them: benchmarks/transcription.json."""
    targets = [name for name in TARGETS if (work / name / "rows.jsonl").exists()]
    rows = {name: _rows(work / name / "rows.jsonl") for name in targets}
    unseen = {path.parent.name: _rows(path) for path in sorted((work / "unseen").glob("*/rows.jsonl"))}
    found = {
        "version": version("metavox"),
        "targets": {name: json.loads((work / name / "result.json").read_text()) for name in targets},
        "bases": {name: json.loads((work / name / "config.json").read_text())["about"] for name in targets},
        "pooled": pooled(rows) if rows else None,
        "five_minutes_for_ten": _five_for_ten(rows),
        "scratch": _beside_scratch(work, rows),
        "voices": json.loads((work / "voices.json").read_text()) if (work / "voices.json").exists() else None,
        "unseen_synthetic": {"languages": sorted(unseen), "pooled": pooled(unseen)} if unseen else None,
    }
    (HERE / "transcription.json").write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n")
    print(
        json.dumps(
            {key: found[key] for key in ("pooled", "five_minutes_for_ten", "scratch", "unseen_synthetic")}, indent=1
        )
    )


def _beside_scratch(work: Path, rows: dict[str, list[dict[str, Any]]]) -> dict[str, Any] | None:
    """The first learner beside random weights, on the same draws of as many minutes."""
    both = {}
    for name, own in rows.items():
        path = work / name / "scratch" / "rows.jsonl"
        if path.exists():
            other = _rows(path)
            minutes = {row["minutes"] for row in other}
            both[name] = [*other, *(row for row in own if row["minutes"] in minutes)]
    return pooled(both, other="scratch") if both else None


def _five_for_ten(rows: dict[str, list[dict[str, Any]]]) -> dict[str, Any] | None:
    """Ours after five minutes beside fine-tuning after ten, where there are as many."""
    both = {}
    for name, own in rows.items():
        chosen = [
            {**row, "minutes": 5.0}
            for row in own
            if (row["learner"], row["minutes"]) in {(LEARNERS[0], 5), (LEARNERS[1], 10)}
        ]
        if {row["learner"] for row in chosen} == set(LEARNERS):
            both[name] = chosen
    return pooled(both) if both else None


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def pooled(rows: dict[str, list[dict[str, Any]]], ours: str = LEARNERS[0], other: str = LEARNERS[1]) -> dict[str, Any]:
    """Relative gain of the mean area over targets, every target alike; clusters are resampled within each target."""
    rng = np.random.default_rng(0)
    sides = [np.stack([_areas(one, name, rng) for name in (ours, other)]) for one in rows.values()]
    mean = np.mean(sides, 0)  # (2, 1 + N_RESAMPLES)
    gain = 1 - mean[0] / mean[1]
    low, high = np.quantile(gain[1:], [0.025, 0.975])
    each = {name: float(1 - side[0, 0] / side[1, 0]) for name, side in zip(rows, sides, strict=True)}
    return {
        "ours": ours, "other": other, "area_ours": float(mean[0, 0]), "area_other": float(mean[1, 0]),
        "relative_gain": float(gain[0]), "relative_gain_ci95": [float(low), float(high)], "by_target": each,
        "worst": min(each, key=lambda name: each[name]), "n_resamples": N_RESAMPLES,
    }  # fmt: skip


def _areas(rows: list[dict[str, Any]], learner: str, rng: np.random.Generator) -> np.ndarray:
    """The area of a learner, and those of resampled clusters; the draws are alike for every learner of a target."""
    own = sorted(
        (row for row in rows if row["learner"] == learner and row["minutes"] > 0),
        key=lambda row: (row["minutes"], row["seed"], row["id"]),
    )
    clusters, _ = clustered(own)
    names, codes = np.unique(clusters, return_inverse=True)
    errors = np.bincount(codes, [row["char_errors"] for row in own])
    chars = np.bincount(codes, [row["chars"] for row in own])
    seed = int(np.random.default_rng(len(names)).integers(2**32))  # the same for both sides
    weights = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), N_RESAMPLES)
    weights = np.concatenate([np.ones((1, len(names))), weights])
    return (weights @ errors) / (weights @ chars)


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("do", choices=["train", "adapt", "scratch", "voices", "pool"])
    parser.add_argument("--target", choices=[*TARGETS, "unseen"])
    parser.add_argument("--work", type=Path, default=Path("exp/transcription"))
    parser.add_argument("--learner", action="append", choices=list(WAYS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("overrides", nargs="*")
    asked = parser.parse_intermixed_args()
    if asked.do == "train":
        train(asked.target, asked.work, asked.overrides)
    elif asked.do == "adapt":
        adapt(asked.target, asked.work, tuple(asked.learner or LEARNERS), asked.seeds)
    elif asked.do == "scratch":
        scratch(asked.target, asked.work, asked.seeds)
    elif asked.do == "voices":
        voices(asked.work)
    else:
        pool(asked.work)


if __name__ == "__main__":
    main()
