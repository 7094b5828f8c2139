"""Words and negatives that are single numbers, and a learner that compares them: what a protocol must find is known."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metavox.contracts import Batch, FrontEnd, Output, State, Utterance
from metavox.data.bank import Bank, _Part
from metavox.evaluation.negatives import EITHER, Negatives

FRONT_END = FrontEnd(n_mels=8, normalize=False, n_frames=None, crop=False)
N_FRAMES = 4


class Nearby:
    """Scores are distances from the mean of a word's takes, below 0; beyond 4 sounds are a little too common."""

    fixed_ways = False
    adapts_body = False

    def embed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return batch.inputs[:, :1, :1], torch.ones(len(batch), dtype=torch.int64)

    def adapt(self, support: Batch) -> State:
        return {"takes": support.inputs[:, 0, 0], "labels": support.labels, "counts": torch.zeros(support.n_classes)}

    def commonness(self, frames: Tensor, lengths: Tensor) -> Tensor:
        return 0.1 * (frames[:, 0, 0] > 4)

    def compare(self, state: State, frames: Tensor, lengths: Tensor, commonness: Tensor | None = None) -> Output:
        takes, labels = state["takes"], state["labels"]
        means = torch.stack([takes[labels == c].mean() for c in range(len(state["counts"]))])
        common = self.commonness(frames, lengths) if commonness is None else commonness
        return Output(-(frames[:, 0] - means).abs() - common[:, None])

    def predict(self, state: State, query: Batch) -> Output:
        return self.compare(state, *self.embed(query))

    def extend(self, state: State, support: Batch) -> State:
        new = self.adapt(support)
        joined = {name: torch.cat([state[name], new[name]]) for name in ("takes", "labels")}
        return joined | {"counts": new["counts"]}

    def without(self, state: State, label: int) -> State:
        raise NotImplementedError

    def leave_one_out(self, state: State) -> Tensor:
        raise NotImplementedError


def words(n_words: int = 8, n_takes: int = 12, spread: float = 0.3, seed: int = 0) -> Bank:
    """Clips whose every value is the number of their word and some noise."""
    who = [(word, take) for word in range(n_words) for take in range(n_takes)]
    utterances = [
        Utterance(f"{word}-{take}", Path(f"{word}-{take}.wav"), 1.0, label=f"w{word}", speaker=f"s{take % 3}",
                  lang="xx", corpus="words")
        for word, take in who
    ]  # fmt: skip
    noise = spread * np.random.default_rng(seed).standard_normal(len(who))
    values = np.repeat(np.asarray([word for word, _ in who]) + noise, N_FRAMES).astype(np.float32)
    features = np.tile(values[:, None], (1, FRONT_END.n_mels))
    offsets = np.arange(len(who))[:, None] * N_FRAMES + np.asarray([[0, N_FRAMES]])
    bounds = np.tile(np.asarray([[0, N_FRAMES]]), (len(who), 1))
    part = _Part(np.zeros(0, np.int16), features)
    return Bank(utterances, FRONT_END, [part], np.zeros(len(who), np.int64), offsets, offsets, bounds)


def recording(number: int, corpus: str = "noises", **facts: Any) -> Utterance:
    return Utterance(f"{corpus}-{number}", Path(f"{corpus}-{number}.wav"), 2.0, corpus=corpus, **facts)


def negatives(
    utterances: Sequence[Utterance] | None = None,
    n_pieces: int = 8,
    *,
    roles: Sequence[int] | None = None,
    seed: int = 1,
) -> Negatives:
    """Recordings whose pieces are numbers from -1 to 9, which is nearer to words at some places than at others."""
    found = [recording(i) for i in range(60)] if utterances is None else list(utterances)
    n = len(found) * n_pieces
    values = np.random.default_rng(seed).uniform(-1, 9, n).astype(np.float32)
    starts = np.tile(np.arange(n_pieces) / n_pieces, len(found))
    return Negatives(
        utterances=tuple(found),
        roles=np.full(len(found), EITHER) if roles is None else np.asarray(roles, np.int64),
        is_noise=np.zeros(len(found), bool),
        durations_s=np.full(len(found), 2.0),
        recording=np.repeat(np.arange(len(found)), n_pieces),
        spans_s=np.stack([starts, starts + 1 / n_pieces], 1),
        frames=torch.from_numpy(values)[:, None, None],
        lengths=torch.ones(n, dtype=torch.int64),
        commonness=torch.from_numpy(0.1 * (values > 4)).float(),
    )
