"""Does what a page says: types its commands, runs its Python, reads its settings, in a folder of the page's own."""

import re
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import translate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sounds
import yaml
from blocks import ROOT, Block
from calling import Metavox

from metavox.benchmarking import cells, engines, peers, timing
from metavox.cli import record
from metavox.comparing import word_costs
from metavox.runtime.microphone import BLOCK_S

SMALL_NET = ("model.encoder.channels=8", "model.encoder.blocks=1", "model.encoder.dim=4")
SMALL_RECOGNISER = ("recogniser.channels=16", "recogniser.blocks=1", "recogniser.dim=16")
OWN_WORDS = ("data.corpora=[other-words]", "data.sentences=[]", "data.synth=null")
SHORTENED = {
    "train recipes/commands.yaml": (
        *("train.steps=2", "train.validation_episodes=2", "episodes.ways=3", "episodes.shots=1", "episodes.batch=1"),
        *(*SMALL_NET, *OWN_WORDS, "data.cohort=[]", "data.negatives=[]"),
    ),
    "train recipes/transcription.yaml": (
        *(*SMALL_RECOGNISER, "train.steps=2", "train.batch_s=3", "data.validation_share=0.2"),
        *("data.corpora=[my-recordings]", "data.words=[]", "data.synth=null"),
    ),
    "compare recipes/compare_words.yaml": (
        *(*SMALL_NET, *OWN_WORDS, "data.corpora=[my-words,other-words]", "compare.folds=[[my-words]]"),
        *("episodes.ways=3", "episodes.shots=1", "episodes.queries=1", "episodes.batch=1", "data.validation_share=0.4"),
        *("compare.shots=[1]", "compare.ways=4", "compare.queries=2", "compare.episodes=2", "compare.trials=1"),
        *("compare.minutes=0.001", "compare.validation_episodes=2", "compare.learners=[joint]"),
        *("--jobs", "0"),
    ),
    "evaluate": ("--episodes", "2", "--queries", "2"),
    "evaluate exp/commands --protocol noise": ("--episodes", "1", "--queries", "1"),
    "evaluate exp/commands --protocol open-set": ("--episodes", "2", "--far", "0.2"),
    "evaluate metavox/asr-small": ("--seeds", "1", "--max-test", "10"),
    "evaluate metavox/speaker-small": ("--draws", "1"),
    "average": ("--episodes", "2"),
    "bench": ("--runs", "6"),
    "bench engines": (),
    "data synth": ("--words", "3", "--voices", "2", "--workers", "1"),
    "data align": ("--aligner", "energy"),
}
"""How a command of metavox begins: words that make it short. The longest that fits counts; a page may append more."""

SMALLER = {
    "--per-hour": "300",  # half an alarm an hour can be promised after six hours of a living room
    "--far": "0.2",
    "--episodes": "2",
    "--takes": "3",
    "--minutes 1": "0.1",
    "--minutes 5": "0.2",
}
"""Values of options that take long, whatever a page gives them, or instead of a certain one."""

NEVER_TYPED = {
    "make": "the Makefile has the target; this is one of its tests",
    ".": "a shell's own, which the tests are in already",
    "pip": "the extra is in pyproject.toml; tests install nothing",
    "python": "the script is there; tests/lessons and tests/test_examples.py run them",
    ".venv-lessons/bin/python": "the same, in the environment of the lessons",
}
"""Commands that a test looks up instead of running them, and why."""


@dataclass
class Typist:
    """A reader of one page, at a shell and at a prompt of Python."""

    place: Path
    metavox: Metavox
    names: dict[str, Any] = field(default_factory=dict)
    """What Python knows before the first block: recordings and words of the reader."""
    microphone: list[str] = field(default_factory=list)
    """Words that will be said into the microphone, take by take."""
    ran: int = 0
    """Commands and blocks that were run, not looked up."""

    def follow(self, block: Block) -> None:
        """Do what a block says; an AssertionError names the line that does not hold."""
        if block.language == "sh":
            for command in block.commands():
                self.type(block, command)
        elif block.language == "python":
            code = compile("\n" * (block.line - 1) + block.text, block.page, "exec")
            exec(code, self.names)
            self.ran += 1
        elif block.language in READERS:
            READERS[block.language](block.text)
            self.ran += 1
        else:
            raise AssertionError(f"{block.where}: nobody knows how to run {block.language or 'a block of no language'}")

    def type(self, block: Block, command: list[str]) -> None:
        """One command."""
        program, *words = command
        if program in NEVER_TYPED:
            assert is_there(command), f"{block.where}: {' '.join(command)} cannot work"
            return
        assert program == "metavox", f"{block.where}: nobody knows the program {program}"
        if words[0] == "record":
            self.microphone[:] = spoken(words)
        typed = [*(word for part in shortened(words) for word in self.globbed(part)), *block.appended(command)]
        said = self.metavox(*typed)
        assert said.status == block.status, f"{block.where}: metavox {' '.join(typed)}\n{said.err}{said.out}"
        self.ran += 1

    def globbed(self, word: str) -> list[str]:
        """What a shell makes of a word."""
        if "*" not in word:
            return [word]
        folder = self.place / Path(word).parent
        named = re.compile(translate(Path(word).name))
        return [str(Path(word).parent / path.name) for path in sorted(folder.glob("[!.]*")) if named.match(path.name)]


def shortened(words: list[str]) -> list[str]:
    """A command of metavox, made short enough for a test."""
    said = " ".join(words)
    starts = [start for start in SHORTENED if said.startswith(start)]
    kept = [
        SMALLER.get(f"{before} {word}", SMALLER.get(before, word))
        for before, word in zip(["", *words], words, strict=False)
    ]
    return [*kept, *(SHORTENED[max(starts, key=len)] if starts else ())]


def spoken(words: list[str]) -> list[str]:
    """What `metavox record` will ask for."""
    names = words[1 : next((i for i, word in enumerate(words) if word.startswith("-")), len(words))]
    return [name for name in names for _ in range(int(SMALLER["--takes"]))]


def is_there(command: list[str]) -> bool:
    """Whether a target of make, a script, or the extras that pip is asked for, exist."""
    if command[0] == "make":
        return all(re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE) for target in command[1:])
    if command[0].endswith("python"):
        return (ROOT / command[1]).is_file()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    asked = [name for word in command for part in re.findall(r"\[(.+)\]", word) for name in part.split(",")]
    return command[0] == "." or all(name in extras for name in asked)


READERS = {"yaml": yaml.safe_load, "json": yaml.safe_load, "toml": tomllib.loads}


@contextmanager
def _played(words: list[str]) -> Iterator[Any]:
    """A microphone into which somebody says words, with a pause after each."""

    class Source:
        rate_hz = sounds.RATE_HZ

        def blocks(self) -> Iterator[np.ndarray]:
            return self.stream

        def __init__(self) -> None:
            self.stream = self._said()

        def _said(self) -> Iterator[np.ndarray]:
            rest, size = np.random.default_rng(0).standard_normal(sounds.RATE_HZ) * 1e-3, round(BLOCK_S * self.rate_hz)
            for take, word in enumerate([None, *words]):
                wave = rest if word is None else np.concatenate([sounds.say(word, take=100 + take), rest])
                yield from (wave[at : at + size].astype(np.float32) for at in range(0, len(wave) - size + 1, size))

    yield Source()


def lend_a_microphone(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    """Let `metavox record` hear what is in ``words`` when it is called."""
    monkeypatch.setattr(record, "_microphone", lambda device: _played(words))


def shorten_benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    """One small cell of `metavox bench engines` and no peer; few rounds of timing in `metavox compare`."""
    monkeypatch.setattr(word_costs, "ROUNDS", timing.Rounds(least=1, most=1))
    monkeypatch.setattr(timing, "FEW", timing.Rounds(least=1, most=1))
    monkeypatch.setattr(peers, "why_absent", lambda name: f"pip install {name}")
    monkeypatch.setattr(engines, "why_absent", peers.why_absent)
    monkeypatch.setattr(peers, "peers_here", dict)
    monkeypatch.setattr(cells, "QUICK", (cells.Cell("tc_resnet8", "fomaml", 1, 1, 2),))
    monkeypatch.setattr(timing, "gemm_rate", lambda: 100e9)
    monkeypatch.setattr(timing, "conv1d_rate", lambda: 50e9)
