"""The page about the shelf names what stands there, and nothing else."""

import re
from pathlib import Path

from metavox.learners.presets import LEARNERS
from metavox.transcription.shelf import SHELF

PAGE = Path(__file__).parent.parent / "docs" / "learners.md"


def named_under(heading: str) -> list[str]:
    """Names in the first column of the table of a section, up to the next heading of any level."""
    section = re.split(r"\n#+ ", PAGE.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1])[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row)]


def test_every_learner_of_words_has_a_row() -> None:
    assert sorted(named_under("Words")) == sorted(LEARNERS)


def test_every_learner_of_transcription_has_a_row() -> None:
    assert sorted(named_under("Transcription")) == sorted(SHELF)
