"""Averages of recognisers adapted to two languages: every form against K, on sentences that nobody heard.

python benchmarks/averaging_transcription.py train --folder exp/averaging_asr
python benchmarks/averaging_transcription.py score --folder exp/averaging_asr
"""

import argparse
import json
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from averaging_study import KS, curve, point, show

from metavox.averaging.diagnosis import diagnose_answers
from metavox.averaging.hypotheses import Vote, rover
from metavox.averaging.predictions import log_mean, log_of_mean
from metavox.averaging.weights import greedy_soup, moved, soup, task_vector
from metavox.checkpoint.files import read_tensors, write_tensors
from metavox.config.transcription import ADAPTING_AUGMENT
from metavox.contracts import State, Utterance
from metavox.data.bank import build_bank
from metavox.data.corpora import require
from metavox.data.manifests import load_corpus
from metavox.data.sentences import Sentences
from metavox.evaluation.transcription_split import split_corpus
from metavox.learners.low_rank import merged
from metavox.learners.sequence import FineTuned, Tuning
from metavox.merging.forms import SCALES
from metavox.merging.recognisers import VOTES
from metavox.metrics import cer
from metavox.text.decode import Decoded, greedy, prefix_beam
from metavox.text.symbols import UNIVERSAL
from metavox.transcription.averages import averaged
from metavox.transcription.changes import change_of
from metavox.transcription.models import Recognition, load_recogniser, new_net

BASE = "metavox/asr-small"
CORPORA = ("mboshi", "yoruba")
"""Languages that the base never heard."""
MAX_TEST, MAX_DEV = 150, 60
TUNING = Tuning(lr=4e-3, batch_frames=2_400, steps=500)
SPEED = 0.3


@dataclass(frozen=True)
class Member:
    """What sets a member apart, besides its seed."""

    source: str
    speed: float = SPEED
    strength: float = 1.0
    """Of the changes of features: warp and noise."""
    bootstrap: bool = False
    sentences: float = 1.0
    """Share of the sentences that it learns from."""
    tuning: Tuning = TUNING


LOW_RANK = replace(TUNING, rank=16, lr=1e-2)
MEMBERS = (
    Member("seed"), Member("bootstrap", bootstrap=True), Member("augmentation", speed=0.5, strength=1.6),
    Member("architecture", tuning=LOW_RANK), Member("seed"), Member("tasks", sentences=0.8),
    Member("augmentation", speed=0.1, strength=0.5), Member("bootstrap", bootstrap=True), Member("seed"),
    Member("seed"),
)  # fmt: skip
"""All begin from the base; low-rank changes are those of another architecture, and are whole weights afterwards."""


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
    front_end = load_recogniser(BASE).front_end
    bank = build_bank(everything, front_end)
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
    if member.sentences < 1:
        said = [material.sentences.utterances[i].text for i in rows]
        known = sorted(set(said))
        chosen = {known[i] for i in rng.permutation(len(known))[: round(member.sentences * len(known))]}
        rows = np.asarray([i for i, text in zip(rows, said, strict=True) if text in chosen])
    return rows


def learned(base: Recognition, member: Member, material: Material, seed: int, average: float = 0.0) -> State:
    """Weights after fine-tuning the base, or their moving average over steps."""
    augment = ADAPTING_AUGMENT.model_copy(
        update={
            "warp": min(0.3, ADAPTING_AUGMENT.warp * member.strength),
            "noise_share": min(1.0, ADAPTING_AUGMENT.noise_share * member.strength),
        }
    )
    support = material.sentences.batch(heard_by(member, material, seed), base.front_end)
    change = change_of(augment, member.speed, base.front_end)
    state = FineTuned(base.net, replace(member.tuning, seed=seed, average=average), change).adapt(support)
    return {name: value.detach() for name, value in merged(base.net.state_dict(), state).items()}


def as_recognition(base: Recognition, state: State, name: str) -> Recognition:
    """A recogniser with these weights."""
    net = new_net(base.net.config)
    net.load_state_dict({**base.net.state_dict(), **state})
    return Recognition(net, UNIVERSAL, name, name, {})


def train(folder: Path) -> None:
    """Train what is not there yet."""
    torch.set_num_threads(1)
    material, base = open_material(), load_recogniser(BASE)
    jobs = [(folder / f"{k}.safetensors", member, k, 0.0) for k, member in enumerate(MEMBERS)]
    jobs.append((folder / "ema.safetensors", MEMBERS[0], 0, 0.99))
    for out, member, seed, average in (job for job in jobs if not job[0].is_file()):
        started = time.process_time()
        state = learned(base, member, material, seed, average)
        out.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(out, state)
        print(f"{out} {time.process_time() - started:.0f} CPU-s", flush=True)


# ------------------------------------------------------------------------------------------------------------- score

ROVERS = (2, 3, 5, 7, 10)
AT_ONCE = 16
BEAM = 8
BONUSES = (0.0, 0.5, 1.0)
"""For each letter, in nats; chosen on the development set for every model and every average alike."""
MEANS = (2, 5, 10)


class Said:
    """What one model says: log probabilities of frames by position, and the texts that a search finds in them."""

    def __init__(self, frames: dict[int, np.ndarray]) -> None:
        self.frames = frames
        self.bonus = 0.0
        self._found: dict[tuple[int, float], Decoded] = {}

    def decoded(self, position: int) -> Decoded:
        """The best text, all its paths counted: the best path of an average is poor, since peaks do not meet."""
        key = (position, self.bonus)
        if key not in self._found:
            frames = self.frames[position]
            best = prefix_beam(frames, BEAM, length_bonus=self.bonus, n_best=1)
            self._found[key] = best[0] if best else greedy(frames)
        return self._found[key]

    def texts(self, positions: np.ndarray) -> list[tuple[int, ...]]:
        """What is said in some utterances."""
        return [self.decoded(i).ids for i in positions.tolist()]


class Judged:
    """The utterances that are asked about, and errors of texts on them."""

    def __init__(self, material: Material) -> None:
        self.sentences = material.sentences
        self.train = material.train
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

    def tuned(self, said: Said) -> float:
        """Choose the bonus of a model on the development set, and give its error there."""
        errors = {}
        for bonus in BONUSES:
            said.bonus = bonus
            errors[bonus] = self.rate(said.texts(self.dev), self.dev)
        said.bonus = min(errors, key=lambda bonus: errors[bonus])
        return errors[said.bonus]

    def tested(self, said: Said) -> np.ndarray:
        """Character edits on the test with the bonus that suits the development set."""
        self.tuned(said)
        return self.errors(said.texts(self.test), self.test)

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
        heard = [member.decoded(i) for member in members]
        found.append(tuple(rover([h.ids for h in heard], [h.confidences for h in heard], vote)[0]))
    return found


def score(folder: Path) -> dict[str, Any]:
    """All rows of the study."""
    torch.set_num_threads(1)
    judged, base = Judged(open_material()), load_recogniser(BASE)
    origin = base.net.state_dict()
    states = [{**origin, **read_tensors(folder / f"{k}.safetensors")} for k in range(len(MEMBERS))]
    said = [judged.ask(as_recognition(base, state, "member")) for state in states]
    dev = [judged.tuned(one) for one in said]
    best = int(np.argmin(dev))
    errors = [judged.tested(one) for one in said]
    rates = [float(one.sum() / judged.chars.sum()) for one in errors]
    given = {
        "single": errors[best], "per": judged.chars, "clusters": judged.clusters, "sets": judged.sets,
        "family": "adapted",
    }  # fmt: skip
    rows = of_predictions_rows(judged, said, given, min(errors, key=lambda one: one.sum()))
    rows += of_weights_rows(judged, base, states, given, folder)
    show(rows)
    return {
        "what": "averages of recognisers of two languages; no sentence of the test was heard; no language model",
        "base": BASE,
        "corpora": list(CORPORA),
        "minutes": round(float(judged.sentences.durations_s(judged.train).sum()) / 60, 1),
        "n_test": len(judged.test),
        "n_dev": len(judged.dev),
        "characters": int(judged.chars.sum()),
        "tuning": asdict(TUNING),
        "single": f"member {best}, with the least error on the development set",
        "intervals": "95 %, paired, sentences resampled (the corpora have three speakers and one)",
        "seed": 0,
        "members": [
            {"member": k, "varies": member.source, "dev_error": dev[k], "error": rates[k]}
            for k, member in enumerate(MEMBERS)
        ],
        "averages": rows,
        "diagnosis": diagnosed(judged, said),
        "cost": cost(judged, base, states),
        "versions": {"metavox": version("metavox"), "torch": torch.__version__, "python": platform.python_version()},
    }  # fmt: skip


def of_predictions_rows(
    judged: Judged, members: Sequence[Said], given: dict[str, Any], oracle: np.ndarray
) -> list[dict[str, Any]]:
    """Means of frames over K, and votes."""
    rows: list[dict[str, Any]] = []
    order = range(len(members))
    for form, ks in (("mean", MEANS), ("log-mean", KS)):

        def made(chosen: Sequence[int], form: str = form) -> np.ndarray:
            return judged.tested(averaged_frames([members[k] for k in chosen], form))

        rows += curve(form, made, order, ks, **given)
    for k in (k for k in ROVERS if k <= len(members)):
        some = members[:k]
        vote = min(VOTES, key=lambda vote, some=some: judged.rate(voted(some, judged.dev, vote), judged.dev))
        errors = judged.errors(voted(some, judged.test, vote), judged.test)
        rows.append(point("rover", k, errors, **given, agreement=vote.agreement, nothing=vote.nothing))
        if k == len(members):
            rows.append(point("rover, against the best on the test", k, errors, **{**given, "single": oracle}))
    return rows


def of_weights_rows(
    judged: Judged, base: Recognition, states: Sequence[State], given: dict[str, Any], folder: Path
) -> list[dict[str, Any]]:
    """Soups, greedy soup, moving average and task vectors, against the best member."""
    rows: list[dict[str, Any]] = []

    def errors(state: State) -> np.ndarray:
        return judged.tested(judged.ask(as_recognition(base, state, "average")))

    def right(state: State) -> float:
        return -judged.tuned(judged.ask(as_recognition(base, state, "average"), dev_alone=True))

    rows += curve("soup", lambda chosen: errors(soup([states[k] for k in chosen])), range(len(states)), KS, **given)
    greedy_one = greedy_soup(states, right)
    taken = list(greedy_one.members)
    rows.append(point("greedy-soup", len(states), errors(greedy_one.state), **given, taken=taken))
    rows.append(point("ema", 1, errors(read_tensors(folder / "ema.safetensors")), **given))
    origin = {name: value for name, value in base.net.state_dict().items() if name in states[0]}
    mean = soup([task_vector(origin, state) for state in states])
    scale = max(SCALES, key=lambda one: right(moved(origin, [mean], [one])))
    rows.append(point("task-vector", len(states), errors(moved(origin, [mean], [scale])), **given, scale=scale))
    return rows


def diagnosed(judged: Judged, members: Sequence[Said]) -> dict[str, Any]:
    """What members are to one another, words of the transcripts being the items."""
    voting = voted(members, judged.test, Vote())
    texts = [[UNIVERSAL.decode(t) for t in m.texts(judged.test)] for m in members]
    found = diagnose_answers(texts, judged.right(judged.test), [UNIVERSAL.decode(t) for t in voting])
    pairs = [cer(one, other).rate for k, one in enumerate(texts) for other in texts[k + 1 :]]
    return {"disagreement_of_transcripts": found.disagreement, "disagreement_of_characters": float(np.mean(pairs))}


def cost(judged: Judged, base: Recognition, states: Sequence[State]) -> dict[str, Any]:
    """CPU milliseconds for a second of sound, greedy, and bytes of weights."""
    rows = judged.test[:48]
    seconds = float(judged.sentences.durations_s(rows).sum())
    inputs = judged.sentences.features(rows, base.front_end)
    members = [as_recognition(base, state, "member") for state in states]

    def cpu_ms(recognition: Recognition) -> float:
        started = time.process_time()
        recognition.spell(*inputs)
        return 1000 * (time.process_time() - started) / seconds

    single = min(cpu_ms(members[0]) for _ in range(3))
    return {
        "single_ms": round(single, 3),
        "log_mean_ms": round(cpu_ms(averaged(members, "log-mean")), 3),
        "rover_ms": round(cpu_ms(averaged(members, "rover")), 3),
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
    asked = parser.parse_args()
    if asked.what == "train":
        train(asked.folder)
    else:
        Path(__file__).with_suffix(".json").write_text(json.dumps(score(asked.folder), indent=1) + "\n")


if __name__ == "__main__":
    main()
