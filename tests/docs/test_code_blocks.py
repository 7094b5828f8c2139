"""What the pages tell a reader to type is typed here, in their order; what they show as Python or settings is run."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from blocks import PAGES, read_blocks
from calling import Metavox, caller
from places import furnish, known, settle
from typist import NEVER_TYPED, Typist, lend_a_microphone, shorten_benchmarks

from metavox.learners.presets import LEARNERS
from metavox.learners.sequence import Tuning
from metavox.transcription import plans
from metavox.transcription.adapting import Plan

QUICK_PLAN = Plan(Tuning(steps=1, lr=1e-3, batch_frames=800, n_looks=1), augment=False)
"""How `metavox adapt` learns here: one step, and the best symbol of each frame."""
SPEAKS = ("data synth", "--say")
"""What needs espeak-ng."""
FOLLOWED = [page for page in PAGES if read_blocks(page)]
CHINESE = [page for page in FOLLOWED if page.endswith(".zh.md") or page.startswith("docs/zh/")]


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What every page finds, and a cache for all of them."""
    root = tmp_path_factory.mktemp("pages")
    furnish(root / "stock")
    return root


@pytest.fixture
def typist(
    stock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Typist]:
    """Somebody with a microphone in a folder of their own, on a day when nothing takes long."""
    monkeypatch.setenv("METAVOX_CACHE", str(stock / "cache"))
    monkeypatch.setenv("METAVOX_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    for name in ("metavox", "fine-tune"):
        monkeypatch.setitem(plans.WAYS, name, plans.Way(QUICK_PLAN))
    shorten_benchmarks(monkeypatch)
    metavox: Metavox = caller(monkeypatch, capsys)
    somebody = Typist(tmp_path, metavox)
    lend_a_microphone(monkeypatch, somebody.microphone)
    shelf = dict(LEARNERS)
    yield somebody
    LEARNERS.clear()
    LEARNERS.update(shelf)


def marked(page: str) -> object:
    speaks = any(word in block.text for block in read_blocks(page) for word in SPEAKS)
    return pytest.param(page, marks=pytest.mark.synth) if speaks else page


@pytest.mark.parametrize("page", [marked(page) for page in FOLLOWED if page not in CHINESE])
def test_a_page_can_be_followed(page: str, typist: Typist, stock: Path) -> None:
    blocks = read_blocks(page)
    if any(word in block.text for block in blocks for word in SPEAKS):
        pytest.importorskip("espeakng_loader")
    settle(typist.place, stock / "stock", blocks)
    typist.names.update(known(typist.place))
    for block in blocks:
        typist.follow(block)
    typed = [command for block in blocks for command in block.commands() if command[0] not in NEVER_TYPED]
    assert typist.ran == len(typed) + sum(block.language != "sh" for block in blocks)


@pytest.mark.parametrize("page", CHINESE)
def test_a_chinese_page_says_what_an_english_one_does(page: str) -> None:
    """Block by block for Python, command by command for a shell: then it was run there."""
    english = [block for other in FOLLOWED if other not in CHINESE for block in read_blocks(other)]
    meanings = {block.meaning() for block in english}
    commands = [command for block in english if block.language == "sh" for command in block.commands()]
    for block in read_blocks(page):
        if block.language == "sh":
            assert [command for command in block.commands() if command not in commands] == [], block.where
        else:
            assert block.meaning() in meanings, block.where
