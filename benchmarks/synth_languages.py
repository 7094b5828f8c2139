"""Which languages synthetic speech has, how fast they are spoken, and how much harder similar words are.

    python benchmarks/synth_languages.py              # check every voice and count its words again
    python benchmarks/synth_languages.py --measure    # and measure: benchmarks/synth_languages.json

1. Every voice in the data of the installed espeak-ng must be a row of ``src/metavox/data/synth_languages.json``. For a
   row that is not left out: the voice speaks one word, and its words are counted that can be told apart by ear.
2. Clips a second of 100 languages x 20 words x 4 voices, two processes; the time to choose the words of each language.
3. 10-way 5-shot accuracy of DTW on MFCC, support and query by different voices, with ``similar`` 0 and 1: 30 words,
   12 voices, the same episodes for both.
4. 60 voices of equal rate and pitch: the share of words that the nearest template of another variant recognises, for
   voices with the variant's own vocal tract and with another; and how often a word's mean spectrum is nearer to its
   own voice than to the same variant with another tract.
"""

import argparse
import json
import platform
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import espeakng_loader
import numpy as np
import torch

from metavox.audio import read
from metavox.checkpoint import load_model
from metavox.data.corpora import open_corpora
from metavox.data.episodes import ClassIndex, EpisodeSpec
from metavox.data.manifests import load_corpus
from metavox.data.synth import SynthSpec, known_words, synthesize, words
from metavox.data.synth_languages import LANGUAGES, MADE_FOR, TABLE, VOICES, Language
from metavox.data.synth_process import Voice
from metavox.data.synth_speakers import speakers
from metavox.evaluation.protocols import Protocol, evaluate, summary
from metavox.tasks import TASKS

HARD_LANGUAGES = ("de", "sw", "vi", "hi", "cmn")


def installed() -> set[str]:
    """The voice files of the installed espeak-ng."""
    root = Path(espeakng_loader.get_data_path()) / "lang"
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def count(row: Language) -> int:
    """Words of a language that can be told apart; the voice says one of them."""
    with Voice() as voice:
        known = list(known_words(row.code, voice))
        take = {"voice": row.voice, "text": known[-1], "rate_wpm": 160, "pitch": 50, "pitch_range": 50}
        voice.ask({"do": "speak", "take": take}, f"speaking {row.name}")
    return len(known)


def check() -> None:
    """Count again and write the table."""
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    files = {values["file"] for values in table.values()}
    if files != installed():
        raise SystemExit(
            f"not in the table: {installed() - files or None}; not installed: {files - installed() or None}"
        )
    for code, row in LANGUAGES.items():
        table[code]["words"] = count(row)
        print(f"{code:<16} {table[code]['words']:>5}  {row.name}", flush=True)
    lines = [f" {json.dumps(code)}: {json.dumps(table[code], ensure_ascii=False)}" for code in sorted(table)]
    TABLE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    counted = [row for row in VOICES.values() if not row.left_out]
    bases = [row.kind for row in counted if row.accent_of is None]
    kinds = {kind: bases.count(kind) for kind in sorted(set(bases))}
    print(kinds, "accents", sum(bool(r.accent_of) for r in counted), "left out", len(VOICES) - len(counted))


def speed(n_languages: int) -> dict[str, Any]:
    """Clips a second, and seconds to choose words."""
    codes = tuple(code for code, row in LANGUAGES.items() if row.accent_of is None)[:n_languages]
    started = time.perf_counter()
    for code in codes:
        with Voice() as voice:
            words(SynthSpec(languages=(code,), n_words=20), code, voice)
    choosing_s = time.perf_counter() - started
    spec = SynthSpec(languages=codes, n_words=20, n_voices=4)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        synthesize(spec, Path(folder) / "corpus", n_workers=2)
        took_s = time.perf_counter() - started
    return {
        "languages": len(codes),
        "clips": spec.n_takes_total,
        "seconds": round(took_s, 1),
        "clips_per_s": round(spec.n_takes_total / took_s, 1),
        "choosing_words_s": round(choosing_s, 1),
    }


def hardness(n_episodes: int) -> list[dict[str, Any]]:
    """Accuracy of DTW with words drawn from the whole language and with similar ones."""
    model = load_model("dtw")
    asked = Protocol(EpisodeSpec(10, 5, 5, "disjoint"), n_episodes, 0)
    rows = []
    for code in HARD_LANGUAGES:
        for similar in (0, 1):
            spec = SynthSpec(languages=(code,), n_words=30, n_voices=12, numbers_share=0, similar=similar)
            with tempfile.TemporaryDirectory() as folder:
                bank = open_corpora([synthesize(spec, Path(folder) / code)], model.config.front_end)
                index = ClassIndex(bank.utterances)
                scored = evaluate(model.learner, TASKS["commands"](), bank, index, asked, model.config.front_end)
            found = summary(scored, asked)
            rows.append({"lang": code, "similar": similar, "accuracy": found["mean"], "ci95": found["ci95"]})
            print(rows[-1], flush=True)
    return rows


def voices(code: str = "de", n_words: int = 30) -> dict[str, Any]:
    """Share of words recognised from other voices, for first voices and for those with another vocal tract."""
    spec = SynthSpec(languages=(code,), n_words=n_words, n_voices=60, rate_wpm=(165, 165), pitch=(50, 50))
    with tempfile.TemporaryDirectory() as folder:
        utterances = load_corpus(synthesize(spec, Path(folder) / code))
        spectra = {u.id: spectrum(read(u.path)) for u in utterances}
        shapes = {u.id: shape(read(u.path)) for u in utterances}
    everyone = speakers(spec, code)
    tract = {speaker.id: speaker.tract for speaker in everyone}
    variant = {speaker.id: speaker.voice for speaker in everyone}
    labels = np.array([u.label for u in utterances])
    people = np.array([u.speaker for u in utterances])
    matrix = np.stack([shapes[u.id] for u in utterances])
    nearest = []
    for i in range(len(utterances)):
        away = ((matrix - matrix[i]) ** 2).sum(-1)
        away[[variant[p] == variant[people[i]] for p in people]] = np.inf
        nearest.append(labels[away.argmin()] == labels[i])
    hits = np.array(nearest)
    changed = np.array([tract[p] != 1 for p in people])
    # Of a variant that comes twice: is a word's spectrum nearer to its own tract or to the other one?
    told = []
    means = {p: np.mean([spectra[u.id] for u in utterances if u.speaker == p][: n_words // 2], 0) for p in tract}
    for p in tract:
        rivals = [q for q in tract if q != p and variant[q] == variant[p]]
        for u in [u for u in utterances if u.speaker == p][n_words // 2 :] if rivals else []:
            own = ((spectra[u.id] - means[p]) ** 2).sum()
            told.append(all(own < ((spectra[u.id] - means[q]) ** 2).sum() for q in rivals))
    return {
        "lang": code,
        "voices": len(tract),
        "words_recognised_from_other_variants": {
            "first_tract": round(float(hits[~changed].mean()), 4),
            "other_tracts": round(float(hits[changed].mean()), 4),
        },
        "tract_of_one_variant_told_apart": round(float(np.mean(told)), 4),
    }


def spectrum(wave: np.ndarray, n_bands: int = 40) -> np.ndarray:
    """Mean log power in bands of equal ratio, 80 Hz to 6 kHz."""
    starts = np.arange(0, max(1, len(wave) - 512), 160)
    power = (
        np.abs(np.fft.rfft(np.stack([np.resize(wave[s : s + 512], 512) for s in starts]) * np.hanning(512), 1024)) ** 2
    )
    edges = np.unique(np.geomspace(5, 384, n_bands + 1).astype(int))
    return np.log(np.add.reduceat(power, edges, axis=1)[:, :-1] + 1e-6).mean(0)


def shape(wave: np.ndarray) -> np.ndarray:
    """Log spectrum in 20 bands over 30 equal stretches, mean and deviation of each band removed."""
    starts = np.linspace(0, len(wave) - 400, 30).astype(int)
    power = np.abs(np.fft.rfft(np.stack([wave[s : s + 400] for s in starts]) * np.hanning(400), 512)) ** 2
    bands = np.log(np.add.reduceat(power, np.unique(np.geomspace(3, 240, 21).astype(int)), axis=1) + 1e-4)
    return ((bands - bands.mean(0)) / (bands.std(0) + 0.1)).ravel()


def main() -> None:
    """Check, and measure where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--episodes", type=int, default=30)
    asked = parser.parse_args()
    if not asked.measure:
        check()
        return
    torch.set_num_threads(1)
    result = {
        "what": "synthetic speech: speed, voices, and how hard similar words are (10-way 5-shot DTW, disjoint voices)",
        "machine": {"platform": f"{platform.system()} {platform.machine()}", "processes": 2},
        "versions": {"metavox": version("metavox"), "espeak-ng": MADE_FOR, "babel": version("babel")},
        "seed": 0,
        "episodes": asked.episodes,
        "speed": speed(100),
        "voices": voices(),
        "similar": hardness(asked.episodes),
    }
    asked.json.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
