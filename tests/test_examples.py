"""Examples run as their users run them."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.synth
def test_own_words_are_heard_refused_and_changed() -> None:
    pytest.importorskip("espeakng_loader")
    done = subprocess.run([sys.executable, EXAMPLES / "own_words.py"], capture_output=True, text=True, check=True)
    heard, changed, loaded = (line.split(":", 1)[1].strip() for line in done.stdout.splitlines())
    assert heard.startswith("['taa', 'mlango', 'muziki', None]")
    assert changed == loaded == "['taa', 'mlango', None, 'dirisha']"


def test_any_module_learns_by_the_engine() -> None:
    done = subprocess.run([sys.executable, EXAMPLES / "own_net.py"], capture_output=True, text=True, check=True)
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [row[0] for row in rows] == ["maml", "anil", "reptile"]
    assert all(float(row[7]) < float(row[5]) for row in rows)


@pytest.mark.synth
def test_own_voices_are_named_and_obeyed_and_a_forgotten_one_is_gone() -> None:
    pytest.importorskip("espeakng_loader")
    done = subprocess.run([sys.executable, EXAMPLES / "own_voices.py"], capture_output=True, text=True, check=True)
    told = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert told["anna speaks"] == "anna"
    assert told["ben speaks"] == "ben"
    assert told["guest speaks"] == "nobody who is enrolled"
    assert told["the guest as anna"].startswith("refused")
    assert told["anna says open the door"] == "done"
    assert told["ben says open the door"].startswith("Only anna may say 'open the door'")
    assert told["left in the folder"] == "('anna',)"
