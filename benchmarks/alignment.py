"""How well words are cut out of sentences: limits against known times, and what the cut words are good for.

    METAVOX_DATA=... python benchmarks/alignment.py [--json benchmarks/alignment.json]

1. Sentences spliced from real isolated digits of one speaker (fsdd_en_digits), with gaps of 0 to 150 ms, now and then
   a pause, and noise at -55 dBFS: the times are known.
2. Sentences by synthetic voices that are none of the aligner's, whose word events are known.
3. Real sentences of learners of English (speechocean_en_l2) that are digits and nothing else: the words that were cut
   are recognised by the untrained ``dtw`` with one take of each digit from each speaker of fsdd_en_digits; chance is
   0.1. For comparison, the isolated digits of one of these speakers with the takes of the others.
4. Real sentences with their own text and with that of another sentence of about the same length: how often a word of
   the right text has the higher confidence (AUROC), and the share of either that the default limit keeps.

The settings of the aligner were chosen on other draws of 1 and 2, and the confidence on other draws of 4.
"""

import argparse
import base64
import json
import platform
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from metavox import CommandRecognizer
from metavox.audio import read
from metavox.contracts import Utterance
from metavox.data.corpora import require
from metavox.data.manifests import load_corpus
from metavox.data.synth_process import Voice
from metavox.data.word_alignment.corpus import ALIGNERS, MARGIN_S, Keep
from metavox.data.word_alignment.levels import FRONT_END
from metavox.data.word_alignment.spans import RATE_HZ
from metavox.data.word_alignment.synthetic import word_starts
from metavox.data.word_alignment.tokens import spoken_words
from metavox.features import MARGIN_MS, log_mel, speech_bounds
from metavox.metrics import auroc

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
VOICES = ("en-us+f2", "en-gb-x-rp+m7", "en-us+klatt2")
TEXTS = (
    "the old man walked slowly across the bridge in the rain",
    "could you tell me where the next station is",
    "my sister wants to learn how to cook rice and beans",
    "every morning we drink hot tea before going to work",
    "nobody remembered the name of the small yellow bird",
    "turn off the radio and close the window please",
)
Known = tuple[np.ndarray, list[str], np.ndarray]
"""Samples, words, and their true (start, end) in seconds."""


def spliced(n: int, seed: int) -> Iterator[Known]:
    """Sentences of three to six isolated digits of one speaker."""
    rng = np.random.default_rng(seed)
    by_speaker: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in load_corpus(require("fsdd_en_digits")):
        by_speaker[utterance.speaker or ""].append(utterance)
    speakers = sorted(by_speaker)
    for number in range(n):
        mine = by_speaker[speakers[number % len(speakers)]]
        chosen = [mine[i] for i in rng.choice(len(mine), rng.integers(3, 7), replace=False)]
        parts, times = [np.zeros(round(rng.uniform(0.1, 0.6) * RATE_HZ))], []
        for utterance in chosen:
            start = sum(map(len, parts))
            parts.append(_word(utterance.path))
            times.append((start / RATE_HZ, (start + len(parts[-1])) / RATE_HZ))
            gap_s = rng.uniform(0.3, 0.8) if rng.random() < 0.2 else rng.uniform(0, 0.15)
            parts.append(np.zeros(round(gap_s * RATE_HZ)))
        parts.append(np.zeros(round(rng.uniform(0.1, 0.6) * RATE_HZ)))
        wave = np.concatenate(parts)
        wave += rng.normal(size=len(wave)) * 10 ** (-55 / 20)
        yield wave.astype(np.float32), [str(utterance.label) for utterance in chosen], np.array(times)


def _word(path: Path) -> np.ndarray:
    """An isolated word without the silence around it, its peak at -6 dBFS."""
    wave = read(path)
    margin = round(MARGIN_MS / FRONT_END.hop_ms)
    start, end = speech_bounds(log_mel(wave, FRONT_END), FRONT_END)
    word = wave[(start + margin) * FRONT_END.hop_samples : (end - margin) * FRONT_END.hop_samples]
    return 0.5 * word / np.abs(word).max()


def other_voices() -> Iterator[Known]:
    """Sentences by synthetic voices, a quarter of a second of quiet noise around them."""
    rng = np.random.default_rng(0)
    with Voice() as voice:
        for text in TEXTS:
            takes = [{"voice": v, "text": text, "rate_wpm": 130, "pitch": 60, "pitch_range": 60} for v in VOICES]
            for take in voice.ask({"do": "timed", "takes": takes}, "reading English")["takes"]:
                spoken = np.frombuffer(base64.b64decode(take["pcm"]), "<i2").astype(np.float32) / 32768
                duration_s = len(spoken) / RATE_HZ
                starts = word_starts(text.split(), take["words"], duration_s)
                wave = np.pad(spoken, RATE_HZ // 4) + rng.normal(size=len(spoken) + RATE_HZ // 2) * 1e-3
                times = 0.25 + np.stack([starts, np.append(starts[1:], duration_s)], axis=1)
                yield wave.astype(np.float32), text.split(), times


def limits(items: Sequence[Known], aligner: str) -> dict[str, Any]:
    """Errors of the limits inside the sentences, in ms, of all words and of those that the default keeps."""
    errors, kept, before = [], [], time.perf_counter()
    with ALIGNERS[aligner]() as align:
        for wave, words, times in items:
            spans = align(wave, words, "en")
            assert spans is not None
            error = 1000 * np.abs(np.array([(span.start_s, span.end_s) for span in spans]) - times)
            errors.append(np.append(error[1:, 0], error[:-1, 1]))
            kept += [error[i].max() for i, span in enumerate(spans) if span.confidence >= Keep().confidence]
    elapsed = time.perf_counter() - before
    flat = np.concatenate(errors)
    return {
        "median_ms": round(float(np.median(flat)), 1),
        "p90_ms": round(float(np.percentile(flat, 90)), 1),
        "n_limits": len(flat),
        "kept_share": round(len(kept) / sum(len(words) for _, words, _ in items), 3),
        "kept_worse_limit_median_ms": round(float(np.median(kept)), 1),
        "kept_worse_limit_p90_ms": round(float(np.percentile(kept, 90)), 1),
        "real_time_factor": round(elapsed / sum(len(wave) / RATE_HZ for wave, _, _ in items), 4),
    }


def digits() -> list[dict[str, Any]]:
    """Share of the digits cut from real sentences that the untrained dtw recognises."""
    takes: dict[tuple[str, str], Path] = {}
    for utterance in load_corpus(require("fsdd_en_digits")):
        takes.setdefault((str(utterance.label), str(utterance.speaker)), utterance.path)
    recognizer = CommandRecognizer.from_pretrained("dtw").fit(list(takes.values()), [word for word, _ in takes])
    one = sorted(speaker for _, speaker in takes)[0]
    others = {key: path for key, path in takes.items() if key[1] != one}
    isolated = CommandRecognizer.from_pretrained("dtw").fit(list(others.values()), [word for word, _ in others])
    asked = [u for u in load_corpus(require("fsdd_en_digits")) if u.speaker == one]
    right = [d.best == u.label for d, u in zip(isolated.decide([u.path for u in asked]), asked, strict=True)]
    rows = [{"words": f"isolated, {one} with the others' takes", "n": len(right), "accuracy": round(np.mean(right), 3)}]
    sentences = [u for u in load_corpus(require("speechocean_en_l2")) if set(u.text.split()) <= set(DIGITS)]
    for name, open_aligner in ALIGNERS.items():
        clips, words, sure = [], [], []
        with open_aligner() as align:
            for sentence in sentences:
                wave, said = read(sentence.path), sentence.text.split()
                for word, span in zip(said, align(wave, said, "en") or [], strict=True):
                    start, end = max(0.0, span.start_s - MARGIN_S / 2), span.end_s + MARGIN_S / 2
                    if end - start >= Keep().min_s:
                        clips.append((wave[round(start * RATE_HZ) : round(end * RATE_HZ)], RATE_HZ))
                        words.append(word)
                        sure.append(span.confidence >= Keep().confidence)
        hits = np.array([d.best == word for d, word in zip(recognizer.decide(clips), words, strict=True)])
        chosen = np.array(sure)
        rows.append({"words": f"cut by {name}, all", "n": len(hits), "accuracy": round(float(hits.mean()), 3)})
        rows.append(
            {"words": f"cut by {name}, kept", "n": int(chosen.sum()), "accuracy": round(float(hits[chosen].mean()), 3)}
        )
    return rows


def wrong_texts(corpus: str, lang: str, n: int, seed: int) -> dict[str, Any]:
    """Confidence of words with the right text against those with another sentence's text."""
    rng = np.random.default_rng(seed)
    sentences = load_corpus(require(corpus))
    sentences = [sentences[i] for i in rng.permutation(len(sentences))[:n]]
    scores: dict[bool, list[float]] = {True: [], False: []}
    with ALIGNERS["synthetic"]() as align:
        for sentence in sentences:
            foreign = [other.text for other in sentences if other.text != sentence.text]
            near = min(foreign, key=lambda text: abs(len(text) - len(sentence.text)) + 3 * rng.random())
            wave = read(sentence.path)
            for is_right, text in ((True, sentence.text), (False, near)):
                scores[is_right] += [span.confidence for span in align(wave, spoken_words(text), lang) or []]
    limit = Keep().confidence
    return {
        "corpus": corpus,
        "n_sentences": n,
        "auroc": round(float(auroc(np.array(scores[True]), np.array(scores[False]))), 3),
        "kept_of_right": round(float(np.mean(np.array(scores[True]) >= limit)), 3),
        "kept_of_wrong": round(float(np.mean(np.array(scores[False]) >= limit)), 3),
    }


def main() -> None:
    """Measure, print, and write the result where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sentences", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    known = {"spliced": list(spliced(asked.sentences, asked.seed)), "other_voices": list(other_voices())}
    result = {
        "what": "limits of words in sentences",
        "versions": {"metavox": version("metavox"), "numpy": np.__version__, "python": platform.python_version()},
        "seed": asked.seed,
        "limits": [
            {"sentences": what, "n_sentences": len(items), "aligner": name, **limits(items, name)}
            for what, items in known.items()
            for name in ALIGNERS
        ],
        "digits": digits(),
        "wrong_texts": [
            wrong_texts(corpus, lang, asked.sentences, asked.seed + 1)
            for corpus, lang in (("speechocean_en_l2", "en"), ("malayalam_msc", "ml"))
        ],
    }
    text = json.dumps(result, indent=1)
    print(text)
    if asked.json:
        asked.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
