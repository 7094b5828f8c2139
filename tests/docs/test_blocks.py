"""The collector finds what is there, and a block that does not hold is noticed."""

import re

import pytest
from blocks import PAGES, ROOT, Block, blocks_of, read_blocks
from calling import Said
from typist import NEVER_TYPED, Typist, shortened

PAGE = """Text.

<!-- run with: train.steps=3 -->
<!-- run with [metavox evaluate]: --episodes 2 -->
<!-- expect: exit 2 -->
```sh
metavox train recipes/commands.yaml \\
    --out exp   # for long
metavox evaluate exp
```

```python
x = 1
```

- In a list:

  ```
  make demo      # a line without a language
  ```
"""


def test_blocks_are_found_with_what_is_said_of_them() -> None:
    shell, python, listed = blocks_of(PAGE)
    assert shell.commands() == [
        ["metavox", "train", "recipes/commands.yaml", "--out", "exp"],
        ["metavox", "evaluate", "exp"],
    ]
    assert shell.appended(["metavox", "train"]) == ["train.steps=3"]
    assert shell.appended(["metavox", "evaluate", "exp"]) == ["train.steps=3", "--episodes", "2"]
    assert (shell.status, shell.where) == (2, "page.md:7")
    assert (python.language, python.text, python.more, python.line) == ("python", "x = 1\n", (), 13)
    assert (listed.language, listed.commands()) == ("sh", [["make", "demo"]])


def test_no_block_of_the_pages_escapes() -> None:
    assert len(PAGES) > 20
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        assert 2 * len(read_blocks(page)) == len(re.findall(r"^ *```", text, re.MULTILINE)), page
        outside = re.sub(r"^( *)```.*?^\1```", "", text, flags=re.MULTILINE | re.DOTALL)
        assert not re.findall(r"^ {4,}(?:metavox|make) .*", outside, re.MULTILINE), f"{page}: indented, not fenced"
    found = [block for page in PAGES for block in read_blocks(page)]
    assert len(found) > 30
    assert sum(len(block.commands()) for block in found if block.language == "sh") > 60
    assert sum(block.language == "python" for block in found) > 10


def test_what_is_not_run_is_looked_up() -> None:
    typed = {
        command[0]
        for page in PAGES
        for block in read_blocks(page)
        if block.language == "sh"
        for command in block.commands()
    }
    assert {"metavox", "make"} <= typed <= {"metavox", *NEVER_TYPED}


def answering(status: int) -> Typist:
    return Typist(ROOT, lambda *words: Said(status, "", "metavox: no.\n"))


@pytest.mark.parametrize(
    "block",
    [
        Block("p.md", 1, "python", "assert 1 == 2\n"),
        Block("p.md", 1, "python", "from metavox import CommandRecogniser\n"),
        Block("p.md", 1, "sh", "metavox enrol my-takes\n"),
        Block("p.md", 1, "sh", "make tea\n"),
        Block("p.md", 1, "sh", 'pip install "metavox[everything]"\n'),
        Block("p.md", 1, "sh", "curl localhost\n"),
        Block("p.md", 1, "toml", "a = \n"),
        Block("p.md", 1, "", "anything\n"),
    ],
)
def test_a_block_that_does_not_hold_is_noticed(block: Block) -> None:
    with pytest.raises((AssertionError, ImportError, ValueError)):
        answering(2).follow(block)


def test_a_refusal_may_be_what_a_page_shows() -> None:
    block = next(blocks_of("<!-- expect: exit 2 -->\n```sh\nmetavox enroll none\n```\n"))
    answering(2).follow(block)
    with pytest.raises(AssertionError, match=r"page.md:3: metavox enroll none"):
        answering(0).follow(block)


def test_python_fails_at_its_line_on_the_page() -> None:
    with pytest.raises(ZeroDivisionError) as failed:
        answering(0).follow(Block("p.md", 41, "python", "x = 1\nx / 0\n"))
    assert failed.traceback[-1].lineno == 41


def test_long_commands_are_made_short() -> None:
    assert shortened(["evaluate", "exp", "--minutes", "5", "--far", "0.01"]) == [
        *("evaluate", "exp", "--minutes", "0.2", "--far", "0.2", "--episodes", "2", "--queries", "2")
    ]
    assert "train.steps=2" in shortened(["train", "recipes/commands.yaml", "--out", "exp"])
    assert shortened(["recognize", "my-house"]) == ["recognize", "my-house"]
