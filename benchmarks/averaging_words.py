"""Averages of command models on word sets that nobody trained on: every form against K, with intervals and cost.

python benchmarks/averaging_words.py train --folder exp/averaging
python benchmarks/averaging_words.py score --folder exp/averaging
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from averaging_study import KS, curve, point, show

from metavox.averaging.diagnosis import diagnose
from metavox.averaging.predictions import learned_weights, log_mean, log_of_mean
from metavox.averaging.weights import greedy_soup, moving_average, soup
from metavox.background import furnish
from metavox.checkpoint import Model, load_model
from metavox.config import load_experiment
from metavox.contracts import State
from metavox.data.corpora import open_corpora, require
from metavox.data.episodes import ClassIndex, EpisodeSpec
from metavox.data.selection import select_tasks
from metavox.evaluation.protocols import Protocol, draws, fitted
from metavox.merging.words import Judge, plain, trained_weights, with_weights

RECIPE = Path(__file__).parent.parent / "recipes" / "commands.yaml"
TRUNK_STEPS, BRANCH_STEPS = 500, 200
DEVELOPMENT, TEST = "arabic_digits", ("bengali_digits", "lithuanian_commands", "spoken_words_zh_en")
COMMON = [
    'data.corpora=["fsdd_en_digits","speech_commands_mini","wake_words_en"]',
    'data.leave_out_languages=["ar","bn","lt","zh"]',
    "data.negatives=[]",
    "train.validate_every=100000",
    "train.checkpoint_every=250",
]
"""No set of ``DEVELOPMENT`` or ``TEST`` is trained on, nor its language, but for English, which all models hear."""

OTHER_SOUND = ["augment.tempo=0.15", "augment.smear=0.3", "augment.eq_db=8"]
WIDER = ["augment.warp=0.25", "augment.masks=3"]
BRANCHES: tuple[tuple[str, list[str]], ...] = (
    ("seed", []),
    ("seed", []),
    ("seed", []),
    ("seed", []),
    ("bootstrap", ["data.bootstrap=4"]),
    ("bootstrap", ["data.bootstrap=5"]),
    ("augmentation", OTHER_SOUND),
    ("augmentation", WIDER),
    ("tasks", ["data.class_share=0.7"]),
    ("tasks", ["data.class_share=0.7"]),
)
"""What sets the k-th member apart, besides its seed. All begin from one trunk."""
ALONE: tuple[tuple[str, list[str]], ...] = (
    ("seed", []),
    ("architecture", ["model.encoder.channels=112", "model.encoder.blocks=3"]),
    ("augmentation", OTHER_SOUND),
    ("bootstrap", ["data.bootstrap=3"]),
    ("tasks", ["data.class_share=0.8", "train.seed=6"]),
    ("augmentation", [*WIDER, "train.seed=7"]),
)
"""The same of members that share nothing, not even their first weights."""


KINDS: tuple[tuple[str, list[str]], ...] = (
    ("learned frames alone", ["model.encoder.cepstra=0", "train.seed=20"]),
    ("another learner", ["model.learner.name=crosstransformer", "data.cohort=[]", "train.seed=21"]),
)
"""Members of other kinds: one whose frames hold no cepstra, one that compares in another way."""
PLANS = {"branches": BRANCHES, "alone": ALONE, "kinds": KINDS}
MIXED = (("alone", 0), ("kinds", 0), ("kinds", 1), ("alone", 1), ("alone", 2), ("alone", 3), ("alone", 4), ("alone", 5))


def plan(folder: Path) -> list[tuple[Path, list[str]]]:
    """Every training: where it goes and how it differs from the recipe."""
    trunk = folder / "trunk"
    found = [(trunk, [f"train.steps={TRUNK_STEPS}", "train.seed=100"])]
    for k, (_, changes) in enumerate(BRANCHES):
        branch = [f"train.steps={BRANCH_STEPS}", f"train.init={trunk}", "train.warmup=20"]
        branch += [f"train.seed={k}", *changes]
        found.append((folder / "branches" / str(k), branch))
    steady = [f"train.steps={BRANCH_STEPS}", f"train.init={trunk}", "train.warmup=20", "train.seed=0"]
    found.append((folder / "steady", [*steady, "train.last_lr=1", "train.keep_every=10"]))
    for k, (_, changes) in enumerate(ALONE):
        steps = TRUNK_STEPS + BRANCH_STEPS
        found.append((folder / "alone" / str(k), [f"train.steps={steps}", f"train.seed={k}", *changes]))
    for k, (_, changes) in enumerate(KINDS):
        found.append((folder / "kinds" / str(k), [f"train.steps={TRUNK_STEPS + BRANCH_STEPS}", *changes]))
    return found


def train(folder: Path) -> None:
    """Train what is not there yet, one after the other, each in a process of its own."""
    for out, changes in plan(folder):
        if (out / "drawn.json").is_file():
            continue
        started = time.time()
        command = [
            sys.executable,
            "-c",
            "from metavox.cli import main; main()",
            "train",
            str(RECIPE),
            *COMMON,
            *changes,
        ]
        subprocess.run([*command, "--out", str(out), *(["--resume"] if out.exists() else [])], check=True)
        print(f"{out} {time.time() - started:.0f} s", flush=True)


# ------------------------------------------------------------------------------------------------------------- score

SHOTS = {1: 36, 5: 14}
"""Episodes of each set by takes a word."""
SOUPS = (3, 5, 10)


@dataclass(frozen=True)
class Table:
    """What one model says of every query: log probabilities (N, C) by takes a word and set."""

    values: dict[str, np.ndarray]

    def wrong(self, asked: "Asked", values: dict[str, np.ndarray] | None = None) -> np.ndarray:
        """1 for every test query that is named wrongly, all sets and takes in one row."""
        own = values or self.values
        return np.concatenate([own[key].argmax(1) != asked.labels[key] for key in asked.test_keys]).astype(float)


class Asked:
    """Development and test episodes, the same for every model."""

    def __init__(self, front_end: Any) -> None:
        self.judges: dict[str, Judge] = {}
        self.labels: dict[str, np.ndarray] = {}
        clusters: dict[str, list[str]] = {}
        for name in (DEVELOPMENT, *TEST):
            bank = open_corpora([require(name)], front_end)
            index = ClassIndex(bank.utterances)
            for shots, episodes in SHOTS.items():
                protocol = fitted(Protocol(EpisodeSpec(10, shots, 5), episodes, 0), index)[0]
                key = f"{shots}/{name}"
                self.judges[key] = Judge(bank, index, protocol, front_end)
                drawn = list(draws(index, protocol))
                self.labels[key] = np.concatenate([draw.query_labels for _, draw in drawn])
                clusters[key] = [f"{key}/{i}" for i, draw in drawn for _ in draw.query_labels]
        self.test_keys = [key for key in self.judges if not key.endswith(DEVELOPMENT)]
        self.dev_keys = [key for key in self.judges if key.endswith(DEVELOPMENT)]
        self.clusters = np.asarray([name for key in self.test_keys for name in clusters[key]])
        self.sets = np.asarray([key.split("/")[1] for key in self.test_keys for _ in clusters[key]])
        self.shots = np.asarray([int(key.split("/")[0]) for key in self.test_keys for _ in clusters[key]])

    def table(self, learner: Any, cache: Path) -> Table:
        """Ask a model everything, or read what it said before."""
        if not cache.is_file():
            cache.parent.mkdir(parents=True, exist_ok=True)
            found = {key.replace("/", "|"): judge.log_probabilities(learner)[0] for key, judge in self.judges.items()}
            np.savez_compressed(cache.with_suffix(".tmp.npz"), **found)
            cache.with_suffix(".tmp.npz").replace(cache)
            print(cache, flush=True)
        with np.load(cache) as stored:
            return Table({key.replace("|", "/"): stored[key] for key in stored.files})

    def dev_error(self, values: dict[str, np.ndarray]) -> float:
        """Error on the development set, takes counting alike."""
        return float(np.mean([(values[key].argmax(1) != self.labels[key]).mean() for key in self.dev_keys]))


class Study:
    """Members, averages of them, and what each says; everything that was asked once is kept in ``folder``."""

    def __init__(self, folder: Path) -> None:
        torch.set_num_threads(1)
        self.folder = folder
        self.experiment = load_experiment(RECIPE, [*COMMON, "train.steps=1"])
        self.asked = Asked(self.experiment.model.front_end)

    @cached_property
    def tasks(self) -> Any:
        """Training tasks, from which a soup gets its metric and cohort as any model does after training."""
        return select_tasks(self.experiment)

    def member(self, family: str, k: int) -> Table:
        """What a member says."""
        place = self.folder / "scores" / f"{family}-{k}.npz"
        learner = None if place.is_file() else load_model(self.folder / family / str(k)).learner
        return self.asked.table(learner, place)

    def loaded(self, family: str, n: int) -> list[Model]:
        """Members with their weights."""
        return [load_model(self.folder / family / str(k)) for k in range(n)]

    def of_weights(self, name: str, model: Model, state: State) -> Table:
        """What a model says whose weights were averaged; furnished as training furnishes."""
        place = self.folder / "scores" / f"{name}.npz"
        learner = None
        if not place.is_file():
            learner = with_weights(model.config, state)
            furnish(learner, plain(model.config), self.experiment, self.tasks)
        return self.asked.table(learner, place)


def of_predictions(members: Sequence[Table], form: str, weights: dict[str, Any] | None = None) -> dict[str, np.ndarray]:
    """The mean of what members say."""
    mean = log_of_mean if form == "mean" else log_mean
    own = weights or {}
    return {
        key: mean(np.stack([member.values[key] for member in members]), own.get(key.split("/")[0]))
        for key in members[0].values
    }


def dev_weights(members: Sequence[Table], asked: Asked, form: Any) -> dict[str, Any]:
    """Weights for each number of takes, learned on the development set."""
    return {
        key.split("/")[0]: learned_weights(np.stack([m.values[key] for m in members]), asked.labels[key], form)
        for key in asked.dev_keys
    }


def score(folder: Path) -> dict[str, Any]:
    """All rows of the study."""
    study = Study(folder)
    asked = study.asked
    who = {
        "branches": [("branches", k) for k in range(len(BRANCHES))],
        "alone": [("alone", k) for k in range(len(ALONE))],
    }
    who["mixed"] = list(MIXED)
    tables = {family: [study.member(name, k) for name, k in some] for family, some in who.items()}
    dev = {family: [asked.dev_error(t.values) for t in members] for family, members in tables.items()}
    best = {family: int(np.argmin(errors)) for family, errors in dev.items()}
    per = np.ones(len(asked.clusters))
    rows: list[dict[str, Any]] = []
    members_rows = []
    for family, members in tables.items():
        single = members[best[family]].wrong(asked)
        given = {"single": single, "per": per, "clusters": asked.clusters, "sets": asked.sets, "family": family}
        for k, member in enumerate(members):
            wrong = member.wrong(asked)
            name, at = who[family][k]
            members_rows.append({
                "family": family, "member": k, "varies": PLANS[name][at][0], "dev_error": dev[family][k],
                "error": float(wrong.mean()), "chosen": k == best[family],
                **{f"error_{shots}": float(wrong[asked.shots == shots].mean()) for shots in SHOTS},
            })  # fmt: skip
        oracle = min((m.wrong(asked) for m in members), key=lambda wrong: wrong.mean())
        rows += two_means(members, asked, given, oracle)
    rows += of_weights_rows(study, tables, best, per)
    show(rows)
    return {
        "what": "averages of command models, 10 words, on word sets whose languages no member heard",
        "development": DEVELOPMENT,
        "test": list(TEST),
        "episodes_per_set": {str(k): v for k, v in SHOTS.items()},
        "n": len(asked.clusters),
        "steps": {"trunk": TRUNK_STEPS, "branch": BRANCH_STEPS, "alone": TRUNK_STEPS + BRANCH_STEPS},
        "single": "the member with the least error on the development set, of its family",
        "intervals": "95 %, paired, episodes resampled; they speak of other episodes of these words",
        "seed": 0,
        "members": members_rows,
        "averages": rows,
        "diagnosis": {family: diagnosed(members, asked) for family, members in tables.items()},
        "cost": cost(study),
        "versions": {"metavox": version("metavox"), "torch": torch.__version__, "python": platform.python_version()},
    }


def two_means(
    members: Sequence[Table], asked: Asked, given: dict[str, Any], oracle: np.ndarray
) -> list[dict[str, Any]]:
    """Arithmetic and geometric means of predictions over K, and with weights learned on the development set."""
    rows: list[dict[str, Any]] = []
    order = range(len(members))
    for form in ("mean", "log-mean"):

        def made(chosen: Sequence[int], form: str = form) -> np.ndarray:
            return members[0].wrong(asked, of_predictions([members[k] for k in chosen], form))

        rows += curve(form, made, order, KS, **given)
        learned = of_predictions(members, form, dev_weights(members, asked, form))
        rows.append(point(f"{form}, learned", len(members), members[0].wrong(asked, learned), **given))
    final = made(order)
    against = {**given, "single": oracle}
    rows.append(point("log-mean, against the best on the test", len(members), final, **against))
    return rows


def of_weights_rows(
    study: Study, tables: dict[str, list[Table]], best: dict[str, int], per: np.ndarray
) -> list[dict[str, Any]]:
    """Soups, greedy soup and moving average of the branches, against the best branch."""
    asked, n = study.asked, len(BRANCHES)
    given = {
        "single": tables["branches"][best["branches"]].wrong(asked), "per": per, "clusters": asked.clusters,
        "sets": asked.sets, "family": "branches",
    }  # fmt: skip
    models = study.loaded("branches", n)
    states = [trained_weights(model) for model in models]
    rows = []
    for k in (k for k in SOUPS if k <= n):
        rows.append(point("soup", k, study.of_weights(f"soup-{k}", models[0], soup(states[:k])).wrong(asked), **given))
    judges = [asked.judges[key] for key in asked.dev_keys if key.startswith("1/")]

    def right(state: State) -> float:
        return float(np.mean([judge.accuracy(with_weights(models[0].config, state)) for judge in judges]))

    kept = study.folder / "greedy.json"
    if not kept.is_file():
        kept.write_text(json.dumps(list(greedy_soup(states, right).members)))
    chosen = json.loads(kept.read_text())
    greedy = study.of_weights("greedy", models[0], soup([states[k] for k in chosen]))
    rows.append(point("greedy-soup", n, greedy.wrong(asked), **given, taken=chosen))
    steady = sorted((study.folder / "steady" / "steps").glob("*"))
    if steady:
        along = [trained_weights(load_model(folder)) for folder in steady][-10:]
        last = study.of_weights("steady-last", models[0], along[-1])
        ema = study.of_weights("steady-ema", models[0], moving_average(along, 0.9))
        rows.append(point("ema", len(along), ema.wrong(asked), **given))
        own = {**given, "single": last.wrong(asked), "family": "steady"}
        rows.append(point("ema, against its last step", len(along), ema.wrong(asked), **own))
    return rows


def diagnosed(members: Sequence[Table], asked: Asked) -> dict[str, Any]:
    """What the members are to one another on the test, for those who read the study."""
    found = {}
    for shots in SHOTS:
        keys = [key for key in asked.test_keys if key.startswith(f"{shots}/")]
        tens = [key for key in keys if len({m.values[key].shape[1] for m in members}) == 1]
        stacked = np.concatenate([np.stack([m.values[key] for m in members]) for key in tens], 1)
        said = diagnose(stacked, np.concatenate([asked.labels[key] for key in tens]))
        found[str(shots)] = {
            "disagreement": said.disagreement, "error_correlation": said.error_correlation,
            "all_wrong": said.all_wrong, "some_right": said.some_right, "bias": said.bias, "variance": said.variance,
            "expected_gain": said.expected_gain,
        }  # fmt: skip
    return found


def cost(study: Study) -> dict[str, Any]:
    """CPU milliseconds to recognise one query among ten words of five takes, and bytes of weights, by form."""
    judge = study.asked.judges[f"5/{TEST[0]}"]
    n = len(BRANCHES)
    models = study.loaded("branches", n)
    one = Judge(judge.bank, judge.index, Protocol(judge.asked.spec, 3, 1), judge.front_end)

    def cpu_ms(learners: Sequence[Any]) -> float:
        started = time.process_time()
        n_queries = sum(len(one.log_probabilities(learner)[1]) for learner in learners)
        return 1000 * (time.process_time() - started) / (n_queries / len(learners))

    n_bytes = sum(value.numel() * value.element_size() for value in trained_weights(models[0]).values())
    single = min(cpu_ms([models[0].learner]) for _ in range(3))
    several = cpu_ms([model.learner for model in models])
    return {
        "single_ms": round(single, 3), "predictions_ms": round(several, 3), "weights_ms": round(single, 3),
        "ratio": round(several / single, 2), "single_bytes": n_bytes, "predictions_bytes": n * n_bytes,
        "what": "adapting and predicting, CPU time over queries; an average of weights is one model",
    }  # fmt: skip


def main() -> None:
    """Train the members, or score them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "score", "ask"])
    parser.add_argument("--folder", type=Path, default=Path("exp/averaging"))
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    asked = parser.parse_args()
    if asked.what == "train":
        train(asked.folder)
    elif asked.what == "ask":  # what can be asked already, while others are trained
        study = Study(asked.folder)
        for family, size in (("branches", len(BRANCHES)), ("alone", len(ALONE)), ("kinds", len(KINDS))):
            for k in range(size):
                if (asked.folder / family / str(k) / "drawn.json").is_file():
                    study.member(family, k)
    else:
        asked.json.write_text(json.dumps(score(asked.folder), indent=1) + "\n")


if __name__ == "__main__":
    main()
