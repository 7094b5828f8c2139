"""The words of a corpus of sentences, cut once and kept."""

from collections.abc import Callable
from pathlib import Path

from ..cache import cache_folder
from ..manifests import load_corpus
from ..stored import content_key, opened_or_written
from .corpus import Keep, cut_words

FORMAT = 1
"""Goes up whenever the same sentences would give other words."""


def cached_words(corpus: Path, *, progress: Callable[[int, int], None] | None = None) -> Path:
    """The corpus folder of the words that ``cut_words`` takes from ``corpus``, made first where it is not there.

    It is kept under the content of the recordings and what is known of them, so a corpus that changes is cut again. One
    process aligns, since a user's script needs no ``__main__`` guard.

    Raises:
        InputError: as ``cut_words``.
    """
    sentences, keep = load_corpus(corpus), Keep()
    known = [(u.id, u.text, u.speaker, u.lang, u.accent, u.gender, u.age) for u in sentences]
    key = content_key((u.path for u in sentences), f"{FORMAT} {keep} {known}")
    folder = cache_folder() / "words" / key / f"{sentences[0].corpus or 'sentences'}-words"

    def load(folder: Path) -> Path | None:
        return folder if (folder / "manifest.jsonl").is_file() else None

    def report(what: str, done: int, total: int) -> None:
        if progress is not None and what == "sentences":
            progress(done, total)

    def write(beside: Path) -> None:
        cut_words(corpus, beside, keep=keep, report=report)

    return opened_or_written(folder, load, write)
