"""Averages of recognisers of four languages: every form against K, on speakers and sentences that nobody heard.

python benchmarks/averaging_transcription.py train --folder exp/averaging_asr
python benchmarks/averaging_transcription.py score --folder exp/averaging_asr
"""

import argparse
import json
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from averaging_study import KS, curve, point, show

from metavox.averaging.diagnosis import diagnose_answers
from metavox.averaging.hypotheses import Vote, rover
from metavox.averaging.predictions import log_mean, log_of_mean
from metavox.averaging.weights import greedy_soup, soup
from metavox.checkpoint.files import read_tensors, write_tensors
from metavox.config.transcription import SPEECH_AUGMENT, RecogniserConfig
from metavox.contracts import State, Utterance
from metavox.data.bank import build_bank
from metavox.data.corpora import require
from metavox.data.manifests import load_corpus
from metavox.data.sentences import Sentences
from metavox.evaluation.transcription_split import split_corpus
from metavox.learners.sequence import FineTuned, Tuning
from metavox.merging.recognisers import VOTES
from metavox.metrics import cer
from metavox.text.decode import greedy
from metavox.text.symbols import UNIVERSAL
from metavox.transcription.averages import averaged
from metavox.transcription.changes import change_of
from metavox.transcription.models import Recognition, new_net

CORPORA = ("speechocean_en_l2", "malayalam_msc", "mboshi", "yoruba")
MAX_TEST, MAX_DEV = 150, 60
TRUNK_STEPS, BRANCH_STEPS = 1400, 500
SHAPE = RecogniserConfig(channels=128, blocks=8, dim=128, n_symbols=UNIVERSAL.size)
TUNING = Tuning(lr=2e-3, batch_frames=2_400, warmup=50, weight_decay=0.01)
SPEED = 0.15


@dataclass(frozen=True)
class Member:
    """What sets a member apart, besides its seed."""

    source: str
    shape: RecogniserConfig = SHAPE
    speed: float = SPEED
    strength: float = 1.0
    """Of the changes of features: warp and noise."""
    bootstrap: bool = False
    speakers: float = 1.0
    """Share of the speakers, or of the sentences where there is but one, that it learns from."""


BRANCHES = (
    Member("seed"), Member("seed"), Member("seed"), Member("seed"), Member("bootstrap", bootstrap=True),
    Member("bootstrap", bootstrap=True), Member("augmentation", speed=0.3), Member("augmentation", strength=1.6),
    Member("tasks", speakers=0.7), Member("tasks", speakers=0.7),
)  # fmt: skip
"""All begin from one trunk."""
ALONE = (
    Member("seed"), Member("architecture", SHAPE.model_copy(update={"channels": 144, "blocks": 7})),
    Member("augmentation", speed=0.3), Member("seed"),
    Member("architecture", SHAPE.model_copy(update={"kernel": 7, "channels": 112})),
    Member("bootstrap", bootstrap=True), Member("seed"), Member("augmentation", strength=1.6),
    Member("tasks", speakers=0.8), Member("seed"),
)  # fmt: skip
"""Nothing is shared, not even the first weights."""


@dataclass(frozen=True)
class Material:
    """Recordings of all languages, split by speaker and sentence."""

    sentences: Sentences
    train: np.ndarray
    dev: dict[str, np.ndarray]
    test: dict[str, np.ndarray]


def open_material() -> Material:
    """Tests and development sets of each corpus, and the rest to learn from; no speaker and no sentence on two sides
    but for the one speaker of yoruba."""
    everything: list[Utterance] = []
    sides: list[tuple[str, str, tuple[Utterance, ...]]] = []
    for corpus in CORPORA:
        utterances = load_corpus(require(corpus))
        everything += utterances
        outer = split_corpus(utterances, 0, MAX_TEST)
        inner = split_corpus(outer.pool, 1, MAX_DEV)
        sides += [("test", corpus, outer.test), ("dev", corpus, inner.test), ("train", corpus, inner.pool)]
    bank = build_bank(everything, SHAPE.front_end)
    written = UNIVERSAL.encode_all([u.text for u in bank.utterances], [u.lang for u in bank.utterances])
    place = {u.path: i for i, u in enumerate(bank.utterances)}
    found: dict[str, dict[str, np.ndarray]] = {"train": {}, "dev": {}, "test": {}}
    for side, corpus, some in sides:
        found[side][corpus] = np.sort(np.asarray([place[u.path] for u in some]))
    sentences = Sentences(bank, written, [()] * len(bank))
    return Material(sentences, np.concatenate(list(found["train"].values())), found["dev"], found["test"])


def heard_by(member: Member, material: Material, seed: int) -> np.ndarray:
    """Positions that a member learns from."""
    rng = np.random.default_rng([seed, 5])
    rows = material.train
    if member.bootstrap:
        rows = np.sort(rng.choice(rows, len(rows)))
    if member.speakers < 1:
        utterances = material.sentences.utterances
        named = [str(utterances[i].speaker) for i in rows]
        groups = [
            utterances[i].text if named.count(who) == len(rows) else who for i, who in zip(rows, named, strict=True)
        ]
        known = sorted(set(groups))
        chosen = {known[i] for i in rng.permutation(len(known))[: round(member.speakers * len(known))]}
        rows = np.asarray([i for i, group in zip(rows, groups, strict=True) if group in chosen])
    return rows


def learned(
    member: Member, material: Material, seed: int, steps: int, init: State | None, average: float = 0.0
) -> State:
    """Weights after so many steps, from random ones or from ``init``; or their moving average over steps."""
    net = new_net(member.shape, seed)
    if init is not None:
        net.load_state_dict(init)
    augment = SPEECH_AUGMENT.model_copy(
        update={
            "warp": min(0.3, SPEECH_AUGMENT.warp * member.strength),
            "noise_share": min(1.0, SPEECH_AUGMENT.noise_share * member.strength),
        }
    )
    support = material.sentences.batch(heard_by(member, material, seed), member.shape.front_end)
    change = change_of(augment, member.speed, member.shape.front_end)
    state = FineTuned(net, replace(TUNING, steps=steps, seed=seed, average=average), change).adapt(support)
    return {**{name: value.detach() for name, value in net.state_dict().items()}, **state}


def as_recognition(shape: RecogniserConfig, state: State, name: str) -> Recognition:
    """A recogniser with these weights."""
    net = new_net(shape)
    net.load_state_dict(state)
    return Recognition(net, UNIVERSAL, name, name, {})


def train(folder: Path) -> None:
    """Train what is not there yet."""
    torch.set_num_threads(1)
    material = open_material()
    jobs: list[tuple[Path, Member, int, int, Path | None]] = []
    trunk = folder / "trunk.safetensors"
    jobs.append((trunk, Member("seed"), 100, TRUNK_STEPS, None))
    branches = [(folder / "branches" / f"{k}.safetensors", m, k, BRANCH_STEPS, trunk) for k, m in enumerate(BRANCHES)]
    both = TRUNK_STEPS + BRANCH_STEPS
    alone = [(folder / "alone" / f"{k}.safetensors", m, k, both, None) for k, m in enumerate(ALONE)]
    ema = folder / "ema.safetensors"
    for out, member, seed, steps, init in (*jobs, *branches, (ema, Member("seed"), 0, BRANCH_STEPS, trunk), *alone):
        if out.is_file():
            continue
        started = time.process_time()
        start = None if init is None else read_tensors(init)
        state = learned(member, material, seed, steps, start, average=0.99 if out == ema else 0.0)
        out.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(out, state)
        print(f"{out} {time.process_time() - started:.0f} CPU-s", flush=True)


# ------------------------------------------------------------------------------------------------------------- score

ROVERS = (2, 3, 5, 7, 10)
AT_ONCE = 16


@dataclass(frozen=True)
class Said:
    """What one model says of development and test utterances: log probabilities of frames."""

    frames: dict[int, np.ndarray]
    """By position."""

    def texts(self, positions: np.ndarray) -> list[tuple[int, ...]]:
        """The best symbol of each frame."""
        return [greedy(self.frames[i]).ids for i in positions.tolist()]


class Judged:
    """The utterances that are asked about, and errors of texts on them."""

    def __init__(self, material: Material) -> None:
        self.sentences = material.sentences
        self.dev = np.concatenate(list(material.dev.values()))
        self.test = np.concatenate(list(material.test.values()))
        self.sets = np.concatenate([[name] * len(some) for name, some in material.test.items()])
        utterances = [self.sentences.utterances[i] for i in self.test]
        groups = [u.text if name == "yoruba" else str(u.speaker) for u, name in zip(utterances, self.sets, strict=True)]
        groups = [
            u.text if name == "mboshi" else who for u, name, who in zip(utterances, self.sets, groups, strict=True)
        ]
        self.clusters = np.asarray([f"{name}/{who}" for name, who in zip(self.sets, groups, strict=True)])
        self.chars = np.asarray([len(self.right([i])[0]) for i in self.test], float)

    def right(self, positions: Sequence[int] | np.ndarray) -> list[str]:
        """What was said."""
        return [UNIVERSAL.decode(self.sentences.targets[i]) for i in positions]

    def errors(self, texts: Sequence[Sequence[int]], positions: np.ndarray) -> np.ndarray:
        """Character edits of each utterance."""
        heard = [" ".join(UNIVERSAL.decode(ids).split()) for ids in texts]
        return np.asarray(cer(self.right(positions), heard).edits, float)

    def rate(self, texts: Sequence[Sequence[int]], positions: np.ndarray) -> float:
        """Character error rate, languages pooled."""
        return float(self.errors(texts, positions).sum() / sum(len(text) for text in self.right(positions)))

    def ask(self, recognition: Recognition, *, dev_alone: bool = False) -> Said:
        """Let a model hear all of them."""
        positions = self.dev if dev_alone else np.concatenate([self.dev, self.test])
        order = positions[np.argsort(self.sentences.durations_s(positions), kind="stable")]
        found: dict[int, np.ndarray] = {}
        for first in range(0, len(order), AT_ONCE):
            rows = order[first : first + AT_ONCE]
            scores, ends = recognition.frames(*self.sentences.features(rows, recognition.front_end))
            for at, position in enumerate(rows.tolist()):
                found[position] = scores[at, : int(ends[at])].numpy()
        return Said(found)


def averaged_frames(members: Sequence[Said], form: str) -> Said:
    """The mean of what members say of each frame."""
    mean = log_of_mean if form == "mean" else log_mean
    return Said({i: mean(np.stack([m.frames[i] for m in members])) for i in members[0].frames})


def voted(members: Sequence[Said], positions: np.ndarray, vote: Vote) -> list[tuple[int, ...]]:
    """What the members' best texts come to by ROVER."""
    found = []
    for i in positions.tolist():
        heard = [greedy(member.frames[i]) for member in members]
        found.append(tuple(rover([h.ids for h in heard], [h.confidences for h in heard], vote)[0]))
    return found


def score(folder: Path) -> dict[str, Any]:
    """All rows of the study."""
    torch.set_num_threads(1)
    judged = Judged(open_material())
    families = {"branches": BRANCHES, "alone": ALONE}
    states = {
        name: [read_tensors(folder / name / f"{k}.safetensors") for k in range(len(plan))]
        for name, plan in families.items()
    }
    said = {
        name: [judged.ask(as_recognition(m.shape, s, name)) for m, s in zip(plan, states[name], strict=True)]
        for name, plan in families.items()
    }
    dev = {name: [judged.rate(s.texts(judged.dev), judged.dev) for s in some] for name, some in said.items()}
    best = {name: int(np.argmin(errors)) for name, errors in dev.items()}
    rows: list[dict[str, Any]] = []
    members_rows: list[dict[str, Any]] = []
    for name, members in said.items():
        errors = [judged.errors(one.texts(judged.test), judged.test) for one in members]
        for k, member in enumerate(families[name]):
            members_rows.append({
                "family": name, "member": k, "varies": member.source, "dev_error": dev[name][k],
                "error": float(errors[k].sum() / judged.chars.sum()), "chosen": k == best[name],
            })  # fmt: skip
        given = {
            "single": errors[best[name]], "per": judged.chars, "clusters": judged.clusters, "sets": judged.sets,
            "family": name,
        }  # fmt: skip
        oracle = min(errors, key=lambda one: one.sum())
        rows += of_predictions_rows(judged, members, given, oracle)
        print(name, "heard", flush=True)
        if name == "branches":
            rows += of_weights_rows(judged, states[name], given, folder)
    show(rows)
    return {
        "what": "averages of recognisers of four languages; no sentence of the test was heard; no language model",
        "corpora": list(CORPORA),
        "n_test": len(judged.test),
        "n_dev": len(judged.dev),
        "characters": int(judged.chars.sum()),
        "steps": {"trunk": TRUNK_STEPS, "branch": BRANCH_STEPS, "alone": TRUNK_STEPS + BRANCH_STEPS},
        "single": "the member with the least error on the development set, of its family",
        "intervals": "95 %, paired, speakers resampled (sentences in mboshi and yoruba, which have few)",
        "seed": 0,
        "members": members_rows,
        "averages": rows,
        "diagnosis": {name: diagnosed(judged, members) for name, members in said.items()},
        "cost": cost(judged, states["alone"]),
        "versions": {"metavox": version("metavox"), "torch": torch.__version__, "python": platform.python_version()},
    }


def of_predictions_rows(
    judged: Judged, members: Sequence[Said], given: dict[str, Any], oracle: np.ndarray
) -> list[dict[str, Any]]:
    """Means of frames over K, and votes."""
    rows: list[dict[str, Any]] = []
    order = range(len(members))
    for form in ("mean", "log-mean"):

        def made(chosen: Sequence[int], form: str = form) -> np.ndarray:
            frames = averaged_frames([members[k] for k in chosen], form)
            return judged.errors(frames.texts(judged.test), judged.test)

        rows += curve(form, made, order, KS, **given)
    for k in (k for k in ROVERS if k <= len(members)):
        some = members[:k]
        vote = min(VOTES, key=lambda vote, some=some: judged.rate(voted(some, judged.dev, vote), judged.dev))
        errors = judged.errors(voted(some, judged.test, vote), judged.test)
        rows.append(point("rover", k, errors, **given, agreement=vote.agreement, nothing=vote.nothing))
        if k == len(members):
            rows.append(point("rover, against the best on the test", k, errors, **{**given, "single": oracle}))
    return rows


def of_weights_rows(
    judged: Judged, states: Sequence[State], given: dict[str, Any], folder: Path
) -> list[dict[str, Any]]:
    """Soups, greedy soup and moving average, against the best branch."""
    rows: list[dict[str, Any]] = []

    def errors(state: State) -> np.ndarray:
        heard = judged.ask(as_recognition(SHAPE, state, "average"))
        return judged.errors(heard.texts(judged.test), judged.test)

    def right(state: State) -> float:
        heard = judged.ask(as_recognition(SHAPE, state, "average"), dev_alone=True)
        return -judged.rate(heard.texts(judged.dev), judged.dev)

    rows += curve("soup", lambda chosen: errors(soup([states[k] for k in chosen])), range(len(states)), KS, **given)
    greedy_one = greedy_soup(states, right)
    taken = list(greedy_one.members)
    rows.append(point("greedy-soup", len(states), errors(greedy_one.state), **given, taken=taken))
    along = folder / "ema.safetensors"
    if along.is_file():
        rows.append(point("ema", 1, errors(read_tensors(along)), **given))
    return rows


def diagnosed(judged: Judged, members: Sequence[Said]) -> dict[str, Any]:
    """What members are to one another, words of the transcripts being the items."""
    best = averaged_frames(members, "log-mean").texts(judged.test)
    texts = [[UNIVERSAL.decode(t) for t in m.texts(judged.test)] for m in members]
    found = diagnose_answers(texts, judged.right(judged.test), [UNIVERSAL.decode(t) for t in best])
    pairs = [cer(one, other).rate for k, one in enumerate(texts) for other in texts[k + 1 :]]
    return {"disagreement_of_transcripts": found.disagreement, "disagreement_of_characters": float(np.mean(pairs))}


def cost(judged: Judged, states: Sequence[State]) -> dict[str, Any]:
    """CPU milliseconds for a second of sound, greedy, and bytes of weights."""
    rows = judged.test[:48]
    seconds = float(judged.sentences.durations_s(rows).sum())
    inputs = judged.sentences.features(rows, SHAPE.front_end)
    one = as_recognition(SHAPE, states[0], "one")
    shaped = [as_recognition(m.shape, s, "member") for m, s in zip(ALONE, states, strict=True)]

    def cpu_ms(recognition: Recognition) -> float:
        started = time.process_time()
        recognition.spell(*inputs)
        return 1000 * (time.process_time() - started) / seconds

    single = min(cpu_ms(one) for _ in range(3))
    return {
        "single_ms": round(single, 3),
        "log_mean_ms": round(cpu_ms(averaged(shaped, "log-mean")), 3),
        "rover_ms": round(cpu_ms(averaged(shaped, "rover")), 3),
        "weights_ms": round(single, 3),
        "single_bytes": sum(value.numel() * value.element_size() for value in states[0].values()),
        "predictions_bytes": sum(v.numel() * v.element_size() for state in states for v in state.values()),
        "what": "CPU time for a second of sound; an average of weights is one model",
    }


def main() -> None:
    """Train the members, or score them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "score"])
    parser.add_argument("--folder", type=Path, default=Path("exp/averaging_asr"))
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    asked = parser.parse_args()
    if asked.what == "train":
        train(asked.folder)
    else:
        asked.json.write_text(json.dumps(score(asked.folder), indent=1) + "\n")


if __name__ == "__main__":
    main()
