"""Processor seconds to enrol ten words of five takes with the bundled model, decoding and the threshold included.

    python benchmarks/enrolment.py

One thread, after the modules are loaded; the recordings are real ones of METAVOX_DATA, as files.
"""

import argparse
import json
import tempfile
import time
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from metavox import CommandRecognizer
from metavox.data.corpora import require
from metavox.data.manifests import load_corpus

SETS = ("lithuanian_commands", "bengali_digits", "spoken_words_zh_en")
N_RUNS = 5


def takes_of(name: str) -> tuple[list[Path], list[str]]:
    """Five files each of the first ten words that have six."""
    by_word: dict[str, list[Path]] = defaultdict(list)
    for utterance in load_corpus(require(name)):
        if utterance.label is not None:
            by_word[utterance.label].append(utterance.path)
    words = [word for word, paths in by_word.items() if len(paths) >= 6][:10]
    return [path for word in words for path in by_word[word][:5]], [word for word in words for _ in range(5)]


def timed(what: Any) -> tuple[float, Any]:
    """Processor seconds of a call and its result."""
    started = time.process_time()
    result = what()
    return time.process_time() - started, result


def run_set(name: str) -> dict[str, Any]:
    """The median of some runs, each with a model that was just opened."""
    clips, words = takes_of(name)
    fit_s, open_s = [], []
    for _ in range(N_RUNS):
        seconds, house = timed(lambda: CommandRecognizer.from_pretrained("metavox/commands-small"))
        open_s.append(seconds)
        fit_s.append(timed(lambda house=house: house.fit(clips, words))[0])
    one_s = timed(lambda: [house.predict([clip]) for clip in clips])[0] / len(clips)
    with tempfile.TemporaryDirectory() as folder:
        house.save_pretrained(Path(folder) / "house")
        n_bytes = sum(path.stat().st_size for path in (Path(folder) / "house").rglob("*") if path.is_file())
    return {
        "corpus": name,
        "words": len(set(words)),
        "takes": len(clips),
        "negatives": house.calibration_.promise.n_negatives,
        "open_s": sorted(open_s)[N_RUNS // 2],
        "enrol_s": sorted(fit_s)[N_RUNS // 2],
        "recognise_ms": 1000 * one_s,
        "profile_kb": n_bytes / 1000,
    }


def main() -> None:
    """Measure, print and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows = [run_set(name) for name in SETS]
    result = {
        "what": __doc__.strip().splitlines()[0],
        "versions": {"metavox": version("metavox"), "torch": torch.__version__},
        "threads": 1,
        "runs": N_RUNS,
        "corpora": rows,
    }
    asked.json.write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n")
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
