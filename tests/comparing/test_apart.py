"""That what is tested is nowhere in training, however a corpus is named and a language is written."""

from pathlib import Path

import pytest

from metavox.comparing.apart import among, folder_of, name_of, require_apart
from metavox.contracts import InputError, Utterance


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A corpus, its manifest, and a link to it."""
    folder = tmp_path / "digits"
    folder.mkdir()
    (folder / "manifest.jsonl").touch()
    link = tmp_path / "again"
    link.symlink_to(folder)
    return folder, folder / "manifest.jsonl", link


def test_a_corpus_is_the_same_by_its_folder_its_manifest_and_a_link(places: tuple[Path, Path, Path]) -> None:
    folder, manifest, link = places
    assert {folder_of(path) for path in (*places, link / "manifest.jsonl")} == {folder}
    assert [name_of(path) for path in (folder, manifest, link)] == ["digits", "digits", "again"]
    other = folder.parent / "other"
    other.mkdir()
    named = [str(folder), str(manifest), str(other), "nowhere", str(link)]
    for path in places:
        assert among(named, [path]) == [str(folder), str(manifest), str(link)]


def said(place: Path, name: str, lang: str | None) -> Utterance:
    return Utterance(name, place / f"{name}.wav", 1.0, label="one", lang=lang, corpus=place.name)


def test_a_clip_of_the_test_in_training_is_named(places: tuple[Path, Path, Path]) -> None:
    folder, _, link = places
    require_apart([said(folder, "a", "en")], [said(folder, "b", "en")], [])
    with pytest.raises(InputError, match="a of again is heard in training and in the test; leave its corpus out"):
        require_apart([said(folder, "c", None), said(link, "a", None)], [said(folder, "a", None)], [])


@pytest.mark.parametrize(("lang", "left_out"), [("en", "eng"), ("eng", "en-GB"), ("en_US", "EN"), ("xx", "xx")])
def test_a_language_of_the_test_in_training_is_named(tmp_path: Path, lang: str, left_out: str) -> None:
    require_apart([said(tmp_path, "a", "lt"), said(tmp_path, "b", None)], [], [left_out])
    with pytest.raises(InputError, match=f"is in {lang}, a language of the test, and is heard in training"):
        require_apart([said(tmp_path, "a", lang)], [], [left_out])
