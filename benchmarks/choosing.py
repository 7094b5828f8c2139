"""Are recordings that ``metavox adapt --suggest`` names worth more than random ones? At equal minutes, on a test.

    python benchmarks/choosing.py metavox/asr-small --corpus mboshi --first 1 --more 1 --more 3

A fifth of the corpus is the test, by speaker or by sentence as in ``metavox adapt``. For each seed the model is adapted
to the same first minutes, drawn at random; then further minutes are transcribed, once those that it suggests and once
random ones, and the base is adapted to all of it. Differences are paired over the sentences of the test, all seeds of a
sentence together.
"""

import argparse
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int

from metavox.data.corpora import require
from metavox.data.manifests import load_corpus
from metavox.data.sentences import Sentences
from metavox.statistics import cluster_bootstrap, paired_bootstrap
from metavox.transcription import load_recogniser
from metavox.transcription.adapting import heard, support_of
from metavox.transcription.choosing import suggested
from metavox.transcription.models import Recognition
from metavox.transcription.plans import DEFAULT_PLAN, adapted_by
from metavox.transcription.scoring import Errors, errors_of
from metavox.transcription.support import hold_out, sentences_of
from metavox.transcription.untranscribed import Piece, Untranscribed

Positions = Int[np.ndarray, " n"]


def until(sentences: Sentences, order: Positions, minutes: float) -> Positions:
    """The beginning of some positions that reaches so many minutes."""
    ends = np.cumsum(sentences.durations_s(order))
    return order[: int(np.searchsorted(ends, 60 * minutes)) + 1]


def by_choice(recognition: Recognition, sentences: Sentences, known: Positions, pool: Positions) -> Positions:
    """All of the pool, in the order in which they are suggested."""
    place = {sentences.utterances[i].path: i for i in pool.tolist()}
    features = [sentences.features(np.asarray([i]), recognition.front_end)[0][0] for i in pool]
    seconds = sentences.durations_s(pool)
    pieces = [
        Piece(sentences.utterances[i].path, 0.0, float(s), True) for i, s in zip(pool.tolist(), seconds, strict=True)
    ]
    heard_of = Untranscribed(tuple(pieces), tuple(features), (), 0)
    found = suggested(recognition, heard_of, len(pool), sentences, positions=known)
    return np.asarray([place[each.piece.path] for each in found], np.int64)


def errors(recognition: Recognition, sentences: Sentences, test: Positions) -> Errors:
    """On the test."""
    return errors_of(heard(recognition, sentences, test), [sentences.utterances[i] for i in test])


def one_seed(
    base: Recognition, sentences: Sentences, pool: Positions, test: Positions, asked: argparse.Namespace, seed: int
) -> dict[tuple[float, str], Errors]:
    """Errors by further minutes and by how they were chosen."""
    mixed = np.random.default_rng([seed, 1]).permutation(pool)
    first = until(sentences, mixed, asked.first)
    left = mixed[len(first) :]
    start = adapted_by(asked.learner, base, support_of(sentences, first, base.net), seed)
    orders = {"chosen": by_choice(start, sentences, first, left), "random": left}
    found: dict[tuple[float, str], Errors] = {}
    for minutes in asked.more:
        for how, order in orders.items():
            both = np.concatenate([first, until(sentences, order, minutes)])
            found[minutes, how] = errors(
                adapted_by(asked.learner, base, support_of(sentences, both, base.net), seed), sentences, test
            )
            print(f"seed {seed}  {minutes:g} more minutes  {how:<7} {100 * found[minutes, how].rate:.1f} %", flush=True)
    return found


def main() -> None:
    """Measure, print and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--first", type=float, default=1.0)
    parser.add_argument("--more", type=float, action="append")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--learner", default=DEFAULT_PLAN)
    parser.add_argument("--max-test", type=int, default=200)
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    asked = parser.parse_args()
    asked.more = asked.more or [1.0, 3.0]
    torch.set_num_threads(1)
    base = load_recogniser(asked.model)
    utterances = load_corpus(require(asked.corpus))
    sentences = sentences_of(utterances, range(len(utterances)), base.symbols, base.front_end)
    split = hold_out(sentences.utterances, 0)
    if split is None:
        raise SystemExit(f"{asked.corpus} has too few recordings to hold a test out.")
    test = np.sort(np.random.default_rng(0).permutation(split.held)[: asked.max_test])
    runs = [one_seed(base, sentences, split.rest, test, asked, seed) for seed in range(asked.seeds)]
    rows: list[dict[str, Any]] = []
    for minutes in asked.more:
        edits, clusters = {}, np.tile(runs[0][minutes, "random"].clusters, asked.seeds)
        chars = np.tile(runs[0][minutes, "random"].chars, asked.seeds)
        row: dict[str, Any] = {"minutes": minutes}
        for how in ("chosen", "random"):
            edits[how] = np.concatenate([run[minutes, how].char_edits for run in runs])
            interval = cluster_bootstrap(edits[how], clusters, per=chars, seed=0)
            row |= {how: interval.mean, f"{how}_ci95": interval.ci95}
        gain = paired_bootstrap(edits["random"], edits["chosen"], clusters=clusters, per=chars, seed=0)
        row |= {"gain": gain.difference, "gain_ci95": gain.ci95, "p": gain.p_value}
        rows.append(row)
        print(f"{minutes:g} more minutes: chosen {100 * row['chosen']:.1f} %, random {100 * row['random']:.1f} %, "
              f"gain {100 * gain.difference:.1f} points, p {gain.p_value:.3f}")  # fmt: skip
    about = {"model": base.name, "model_hash": base.hash[:16], "corpus": asked.corpus, "first_minutes": asked.first}
    about |= {"learner": asked.learner, "seeds": asked.seeds, "n_test": len(test), "held_out_by": split.by}
    about |= {"clustered_by": runs[0][asked.more[0], "random"].clustered_by, "version": version("metavox")}
    asked.json.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
