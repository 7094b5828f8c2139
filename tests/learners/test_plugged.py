"""Learners that other packages bring: on the shelf by their entry points, and never in the way."""

import subprocess
import sys
from pathlib import Path

import pytest

from metavox.learners.plugged import plugged
from metavox.learners.preset import Preset

MODULE = """
from metavox.learners.outer import query_loss
from metavox.learners.preset import Preset

MINE = Preset(lambda encoder, config: None, query_loss, "metric", "me")
NOTHING = 3
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder that looks like an installed package."""
    (tmp_path / "borrowed_learners.py").write_text(MODULE)
    about = tmp_path / "borrowed_learners-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: borrowed-learners\nVersion: 1.0\n")
    lines = ["[metavox.learners]", "mine = borrowed_learners:MINE", "nothing = borrowed_learners:NOTHING"]
    lines += ["absent = borrowed_learners:ABSENT", "maml = borrowed_learners:MINE"]
    (about / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_rows_are_found_and_what_is_none_is_left_out_with_a_warning(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(package)
    with pytest.warns(RuntimeWarning) as caught:
        found = plugged(frozenset({"maml"}))
    assert list(found) == ["mine"]
    assert isinstance(found["mine"], Preset)
    said = sorted(str(warning.message) for warning in caught)
    assert said[0].startswith("Learner absent of borrowed_learners:ABSENT is left out: AttributeError")
    assert said[1] == "Learner maml of borrowed_learners:MINE is left out: the name is taken."
    assert said[2] == "Learner nothing of borrowed_learners:NOTHING is left out: it is int and no Preset."


def test_another_process_knows_them_too(package: Path) -> None:
    told = "from metavox.learners.presets import LEARNERS; print(LEARNERS['mine'].source, LEARNERS['maml'].source)"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"import sys; sys.path.insert(0, {str(package)!r}); {told}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "me Finn et al. 2017, MAML"
