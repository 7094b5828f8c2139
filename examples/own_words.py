"""Enrol three words from three takes each, recognise new takes, refuse a fourth word, and change the vocabulary.

    python examples/own_words.py                     # the model that comes with Metavox
    python examples/own_words.py demo/prototypes     # a model that `make demo` trained

The takes are spoken by espeak-ng (extra `demo`), so that the example runs anywhere; give your own files instead:
``fit(["lamp-1.wav", "lamp-2.wav"], ["lamp", "lamp"])``.
"""

import sys
import tempfile
from pathlib import Path

from metavox import CommandRecognizer
from metavox.data.synth import speak


def takes(word: str, n: int, first: int = 0) -> list[tuple]:
    """``n`` takes of a Swahili word at other speeds and pitches: samples with their rate."""
    return [(speak(word, "sw", rate_wpm=140 + 8 * i, pitch=42 + 3 * i), 16_000) for i in range(first, first + n)]


def main() -> None:
    """Print what is heard."""
    model = sys.argv[1] if len(sys.argv) > 1 else "metavox/commands-small"
    words = ["taa", "mlango", "muziki"]  # lamp, door, music
    clips = [clip for word in words for clip in takes(word, 3)]
    house = CommandRecognizer.from_pretrained(model).fit(clips, [word for word in words for _ in range(3)])

    new = [take for word in [*words, "dirisha"] for take in takes(word, 1, first=4)]
    print("heard:           ", house.predict(new), "(the last was never enrolled)")

    house.add("dirisha", takes("dirisha", 3)).remove("muziki")  # window in, music out
    print("after the change:", house.predict(new))

    with tempfile.TemporaryDirectory() as folder:
        house.save_pretrained(Path(folder) / "house")
        again = CommandRecognizer.from_pretrained(Path(folder) / "house")
        print("after loading:   ", again.predict(new))


if __name__ == "__main__":
    main()
