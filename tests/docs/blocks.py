"""The code blocks of a page of Markdown, with what comments before them say of how to run them."""

import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = tuple(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "lessons/**/README.md", "src/metavox/bundled/*/README.md")
    for path in sorted(ROOT.glob(pattern))
)
"""All that is written for users and is on the site. Lessons are scripts, and run by their own test."""

FENCE = re.compile(r"^( *)(```+)(\w*)\n(.*?)^\1\2 *$", re.MULTILINE | re.DOTALL)
COMMENTS = re.compile(r"(?:^ *<!-- [^\n]*-->\n)*\Z", re.MULTILINE)
RUN_WITH = re.compile(r"<!-- run with(?: \[(.+?)\])?: (.+?) -->")
EXPECT = re.compile(r"<!-- expect: exit (\d+) -->")
SHELL = ("metavox ", "make ", ". .venv/bin/activate", "pip install ", "python ", ".venv-lessons/bin/python ")
"""How lines of a block begin that says no language and is meant for a shell."""


@dataclass(frozen=True)
class Block:
    """A fence of a page."""

    page: str
    line: int
    """Of its first line of code, from 1."""
    language: str
    text: str
    more: tuple[tuple[str, str], ...] = ()
    """How a command begins, and words that a test appends to it."""
    status: int = 0
    """What its commands exit with."""

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"

    def commands(self) -> list[list[str]]:
        """The words of each command of a shell, without comments; none of another language."""
        if self.language != "sh":
            return []
        lines = self.text.replace("\\\n", " ").splitlines()
        return [words for words in (shlex.split(line, comments=True) for line in lines) if words]

    def appended(self, command: list[str]) -> list[str]:
        """What the page's comments append to a command."""
        said = " ".join(command)
        return [word for start, words in self.more if said.startswith(start) for word in shlex.split(words)]

    def meaning(self) -> str:
        """Two blocks that differ in their comments and spaces alone mean the same."""
        if self.language == "python":
            return ast.dump(ast.parse(self.text))
        return repr(self.commands() if self.language == "sh" else self.text)


def blocks_of(text: str, page: str = "page.md") -> Iterator[Block]:
    """Each fence in turn."""
    for fence in FENCE.finditer(text):
        before = COMMENTS.search(text[: fence.start()])
        comments = before[0] if before else ""
        code = re.sub(f"^{fence[1]}", "", fence[4], flags=re.MULTILINE)
        more = tuple((start, words) for start, words in RUN_WITH.findall(comments))
        status = EXPECT.search(comments)
        line = text[: fence.start(4)].count("\n") + 1
        yield Block(page, line, fence[3] or _guessed(code), code, more, int(status[1]) if status else 0)


def _guessed(code: str) -> str:
    lines = [line for line in code.splitlines() if line.strip() and not line.startswith(("#", " "))]
    return "sh" if lines and all(line.startswith(SHELL) for line in lines) else ""


def read_blocks(page: str) -> list[Block]:
    """The blocks of a page of the repository."""
    return list(blocks_of((ROOT / page).read_text(encoding="utf-8"), page))
