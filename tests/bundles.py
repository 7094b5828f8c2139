"""What every model that ships is held to."""

from collections.abc import Iterable
from pathlib import Path

MAY_SHIP = frozenset(
    {
        "arabic_digits",
        "barista_intents_en",
        "fsdd_en_digits",
        "librispeech_test_other_mini",
        "malayalam_msc",
        "mandarin_syllables",
        "noise/audio/household",  # of MycroftAI
        "speech_commands_mini",
        "speechocean_en_l2",
        "spoken_words_zh_en",
        "wake_words_en",
    }
)
"""Sets whose licences allow a model that is trained on them to be given away."""
SOURCES = (
    "speechocean762",
    "Malayalam Speech Corpus",
    "LibriSpeech",
    "audio-cmn",
    "Arabic digits",
    "Free Spoken Digit",
    "Speech Commands",
    "DSPSpeech-20",
    "wake-word-benchmark",
    "espeak-ng",
)
"""Who is to be named where they were heard."""


def require_small_and_licensed(folder: Path, max_bytes: int, sources: Iterable[str]) -> None:
    """Nothing but weights, settings and texts; a licence; and a card that names its sources and limits."""
    assert sum(path.stat().st_size for path in folder.iterdir()) <= max_bytes
    assert {path.suffix for path in folder.iterdir()} <= {".safetensors", ".json", ".md", ""}
    assert "Attribution-ShareAlike 4.0" in (folder / "LICENSE").read_text(encoding="utf-8")[:200]
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "What it cannot do" in card
    assert "{" not in card  # every figure is in its place
    for source in sources:
        assert source in card
