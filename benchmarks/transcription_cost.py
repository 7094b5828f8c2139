"""What adapting and transcribing cost: beside the recordings themselves, and beside a plain fine-tuning loop in torch.

    python benchmarks/transcription_cost.py --base exp/transcription/malayalam_msc --corpus malayalam_msc

Fifty utterances are adapted to, by the plan that ships and by a loop as one writes it in an afternoon:
the same encoder, AdamW at the same step size with the same schedule, in float32, utterances drawn at random and padded.
Both are run for several numbers of steps. The loop's error is the best that it reaches on other speakers or sentences,
its time that of the fewest steps that come within ``SLACK`` of it; ours is the time to as good an error. Transcription
includes features and search. All times are processor seconds of one thread. Leaves benchmarks/transcription_cost.json.
"""

import argparse
import json
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from importlib.metadata import version
from math import cos, pi
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from metavox.audio import read
from metavox.contracts import State, Transcribed
from metavox.data.corpora import require
from metavox.data.manifests import load_corpus
from metavox.data.sentences import Sentences
from metavox.evaluation.transcription_split import split_corpus
from metavox.learners.sequence import taken
from metavox.runtime.transcriber import Transcriber
from metavox.transcription.adapting import adapt, heard, spelling_of, support_of, texts_of
from metavox.transcription.models import Recognition, adapted, load_recogniser
from metavox.transcription.plans import DEFAULT_PLAN, WAYS, way
from metavox.transcription.spelling import Spelling
from metavox.transcription.support import sentences_of

N_UTTERANCES, N_TEST, THREADS = 50, 100, 1
STEPS = (25, 40, 50, 60, 70, 85, 100, 150, 200)
SLACK = 0.005
"""Points of error, as shares, within which the loop has reached its best."""


def plain_loop(base: Recognition, support: Transcribed, steps: int) -> State:
    """Fine-tuning as it is written without us."""
    plan, rng = WAYS["fine-tune"].plan.tuning, np.random.default_rng(0)
    net = deepcopy(base.net).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=plan.lr, betas=(0.9, 0.98), weight_decay=0.0)
    size = max(1, round(plan.batch_frames / float(support.lengths.float().mean())))
    for step in range(1, steps + 1):
        share = min(1.0, step / plan.warmup) * (0.02 + 0.98 * (1 + cos(pi * (step - 1) / steps)) / 2)
        for group in optimizer.param_groups:
            group["lr"] = plan.lr * share
        batch = taken(support, torch.from_numpy(rng.permutation(len(support))[:size]))
        scores = net(batch.inputs, batch.lengths)
        loss = functional.ctc_loss(
            scores.transpose(0, 1), batch.targets, net.out_lengths(batch.lengths), batch.target_lengths,
            reduction="sum", zero_infinity=True,
        ) / batch.target_lengths.sum()  # fmt: skip
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
    return {name: value.detach() for name, value in net.named_parameters()}


def ours(base: Recognition, support: Transcribed, steps: int) -> State:
    """The plan that ships, with so many steps."""
    plan = way(DEFAULT_PLAN).plan
    plan = replace(plan, tuning=replace(plan.tuning, steps=steps), steps_per_s=None)
    return adapt(base, support, plan)


def curve(fit: Callable[[int], State], error: Callable[[State], float]) -> list[dict[str, Any]]:
    """Seconds of fitting and the error after each number of steps."""
    found = []
    for steps in STEPS:
        started = time.process_time()
        state = fit(steps)
        seconds = time.process_time() - started
        found.append({"steps": steps, "seconds": round(seconds, 3), "cer": error(state)})
        print(json.dumps(found[-1]), flush=True)
    return found


def adapting(base: Recognition, sentences: Sentences, own: np.ndarray, test: np.ndarray) -> dict[str, Any]:
    """Both ways to adapt, their times and errors."""
    torch.set_num_threads(THREADS)
    support = support_of(sentences, own, base.net)
    spelling = spelling_of(way(DEFAULT_PLAN).plan, texts_of(support))
    plain_loop(base, support, 3)  # what is done once is not counted
    ours(base, support, 3)
    loop = curve(
        lambda steps: plain_loop(base, support, steps),
        lambda state: heard(adapted(base, state), sentences, test).cer,
    )
    own_curve = curve(
        lambda steps: ours(base, support, steps),
        lambda state: heard(adapted(base, state, spelling=spelling), sentences, test).cer,
    )
    best = min(point["cer"] for point in loop)
    to_best = next(point for point in loop if point["cer"] <= best + SLACK)
    reached = _first(own_curve, to_best["cer"])
    reached_best = _first(own_curve, best)
    speech_s = float(sentences.durations_s(own).sum())
    started = time.process_time()
    adapt(base, support, way(DEFAULT_PLAN).plan)
    whole_s = time.process_time() - started
    return {
        "threads": THREADS,
        "n_utterances": len(own),
        "speech_s": speech_s,
        "plan_s": whole_s,
        "plan_real_time_share": whole_s / speech_s,
        "loop": loop,
        "ours": own_curve,
        "loop_to_best": to_best,
        "ours_to_the_same": reached,
        "time_ratio": None if reached is None else reached["seconds"] / to_best["seconds"],
        "time_ratio_to_its_very_best": None
        if reached_best is None
        else reached_best["seconds"] / _first(loop, best)["seconds"],  # type: ignore[index]
    }


def _first(points: list[dict[str, Any]], error: float) -> dict[str, Any] | None:
    """The fewest steps with no more than an error."""
    return next((point for point in points if point["cer"] <= error), None)


def transcribing(recognition: Recognition, sentences: Sentences, test: np.ndarray) -> float:
    """Seconds of work for a second of recording, from samples to words with times."""
    torch.set_num_threads(THREADS)
    transcriber = Transcriber(recognition)
    waves = [read(sentences.utterances[i].path, 16_000) for i in test]
    transcriber.transcribe((waves[0], 16_000))
    started = time.process_time()
    for wave in waves:
        transcriber.transcribe((wave, 16_000))
    return (time.process_time() - started) / (sum(map(len, waves)) / 16_000)


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--corpus", default="malayalam_msc")
    asked = parser.parse_args()
    base = load_recogniser(asked.base)
    split = split_corpus(load_corpus(require(asked.corpus)), 0, N_TEST)
    rng = np.random.default_rng(0)
    own = [split.pool[i] for i in rng.permutation(len(split.pool))[:N_UTTERANCES]]
    members = [*own, *split.test]
    sentences = sentences_of(members, range(len(members)), base.symbols, base.front_end)
    place = {u.path: i for i, u in enumerate(sentences.utterances)}
    mine, test = (np.asarray([place[u.path] for u in part]) for part in (own, split.test))
    found = {"version": version("metavox"), "corpus": asked.corpus, **adapting(base, sentences, mine, test)}
    support = support_of(sentences, mine, base.net)
    known = replace(base, spelling=Spelling(tuple(texts_of(support))))
    found["transcription_real_time_share"] = {
        "best symbols": transcribing(base, sentences, test),
        "as adapted": transcribing(known, sentences, test),
    }
    (Path(__file__).parent / "transcription_cost.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps({key: value for key, value in found.items() if key not in ("loop", "ours")}, indent=1))


if __name__ == "__main__":
    main()
