"""Teach the bundled recogniser a language or a voice from transcribed recordings, and write down another recording.

    python examples/own_language.py my-recordings interview.wav

``my-recordings`` is a corpus folder: a manifest.jsonl with audio_filepath, text and, where known, lang and speaker, or
whatever `metavox data import` made. Five minutes are a good beginning. A fifth of the recordings is held out to say
what was reached; then all of them are learned from.
"""

import sys
from pathlib import Path

from metavox import Transcriber
from metavox.data.manifests import load_corpus


def main(corpus: Path, *files: str) -> None:
    """Adapt, say what was reached, transcribe."""
    utterances = load_corpus(corpus)
    before = Transcriber.from_pretrained("metavox/asr-small")
    mine = before.adapt([u.path for u in utterances], [u.text for u in utterances], lang=utterances[0].lang)
    held = mine.adaptation_.held_out
    if held is not None:
        low, high = held.after.cer().ci95  # None where too few recordings were held out for an interval
        interval = "" if low is None or high is None else f" ({low:.0%} to {high:.0%})"
        print(
            f"Of the characters of {len(held.after)} recordings held out, {held.before.rate:.0%} were wrong before and "
            f"{held.after.rate:.0%}{interval} after adapting to the others."
        )
    mine.save_pretrained("mine")
    for file in files:
        for segment in mine.transcribe(file).segments:
            print(f"{file} {segment.start_s:8.2f} s  {segment.text}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
