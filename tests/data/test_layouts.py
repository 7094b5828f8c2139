"""What a row may say and which file it may name, each refused in its own words; the split of Speech Commands."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metavox.contracts import InputError
from metavox.data.layouts import printable, scan_corpus, shown, speech_commands_split
from metavox.data.manifests import check_corpus, load_corpus

RATE_HZ = 16_000

# From the lists published with Speech Commands 0.01 and 0.02.
VALIDATION = ["a69b9b3e", "439c84f4", "409c962a", "dbaf8fc6", "a6d586b7", "0e17f595", "ff2b842e", "7fd25f7c"]
TEST = ["bb05582b", "97f4c236", "f2e59fea", "fdb5155e", "dc75148d", "3f170018", "18f8afd5", "e1469561"]


def sine(seconds: float = 0.3, level: float = 0.3) -> np.ndarray:
    return level * np.sin(2 * np.pi * 440 * np.arange(round(RATE_HZ * seconds)) / RATE_HZ)


def save(path: Path, wave: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sine() if wave is None else wave, RATE_HZ)
    return path


def row(name: str, **changes: Any) -> dict[str, Any]:
    return {"audio_filepath": name, "duration": 0.3, "text": "yes", **changes}


def corpus(folder: Path, rows: list[Any]) -> Path:
    """A manifest of rows: dicts, or bytes as they are."""
    lines = [r if isinstance(r, bytes) else json.dumps(r, ensure_ascii=False).encode() for r in rows]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    return folder


def test_speech_commands_split_is_the_published_one() -> None:
    assert {speech_commands_split(speaker) for speaker in VALIDATION} == {"validation"}
    assert {speech_commands_split(speaker) for speaker in TEST} == {"test"}
    drawn = [speech_commands_split(f"{n:08x}") for n in range(4000)]
    assert 0.77 < drawn.count("train") / 4000 < 0.83


@given(st.text(st.characters()))
def test_printable_text_is_safe_and_reversible(text: str) -> None:
    safe = printable(text)
    assert all(c.isprintable() or c in "\u200c\u200d" for c in safe)
    safe.encode()  # raises for half a surrogate pair
    if "\\" not in text:
        assert safe.encode("latin-1", "backslashreplace").decode("unicode_escape") == text


def test_values_are_shown_as_a_manifest_writes_them() -> None:
    values = (None, True, 1.5, "a", [1], {"b": 1})
    assert [shown(value) for value in values] == ["null", "true", "1.5", "'a'", "a list", "an object"]
    assert len(shown("x" * 10_000)) == 100


@pytest.mark.parametrize(
    ("relative", "kind"),
    [
        ("", "path"),
        ("  ", "path"),
        ("a\0.wav", "path"),
        ("{root}/in/a.wav", "path"),
        ("../outside.wav", "path"),
        ("in/../../outside.wav", "path"),
        ("in/../../corpus/in/a.wav", None),
        ("in/out.wav", "path"),
        ("away/outside.wav", "path"),
        ("away", "path"),
        ("in", "file"),
        ("in/", "file"),
        (".", "file"),
        ("..", "path"),
        ("in/..", "file"),
        ("in/none.wav", "file"),
        ("in/a.wav/b.wav", "file"),
        ("in/loop.wav", "file"),
        ("in/pipe.wav", "file"),
        ("x" * 5000, "file"),
        ("in/empty.wav", "audio"),
        ("in/a.wav", None),
        ("./in//a.wav", None),
        ("in/near.wav", None),
        ("near/a.wav", None),
    ],
)
def test_a_row_names_a_file_within_its_folder(tmp_path: Path, relative: str, kind: str | None) -> None:
    root = tmp_path / "corpus"
    save(root / "in" / "a.wav")
    save(tmp_path / "outside.wav")
    (root / "in" / "empty.wav").touch()
    (root / "in" / "out.wav").symlink_to(tmp_path / "outside.wav")
    (root / "in" / "near.wav").symlink_to("a.wav")
    (root / "in" / "loop.wav").symlink_to("loop.wav")
    (root / "away").symlink_to(tmp_path)
    (root / "near").symlink_to("in")
    os.mkfifo(root / "in" / "pipe.wav")
    scan = scan_corpus(root)
    scan.problems.clear()
    scan._seen.clear()
    scan.utterances.clear()
    facts = {
        "duration_s": 0.3,
        "text": "",
        **dict.fromkeys(("id", "age", "label", "speaker", "lang", "accent", "gender")),
    }
    scan.add("here", relative.replace("{root}", str(root)), facts)
    assert [p.kind for p in scan.problems] == ([kind] if kind else [])
    assert len(scan.utterances) == (kind is None)


def test_a_corpus_may_be_reached_through_a_link(tmp_path: Path) -> None:
    save(tmp_path / "real" / "yes" / "a.wav")
    (tmp_path / "link").symlink_to("real")
    scan = scan_corpus(tmp_path / "link")
    assert not scan.problems
    assert [u.corpus for u in scan.utterances] == ["link"]


def test_a_manifest_that_links_out_of_its_folder_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("{}\n")
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "manifest.jsonl").symlink_to(tmp_path / "secret")
    assert [p.kind for p in scan_corpus(tmp_path / "corpus").problems] == ["path"]


# ---------------------------------------------------------------------------------------------------------- bad corpora

BAD_ROWS: list[tuple[Any, str, str]] = [
    (b'{"text": "\xe9"}', "encoding", "byte 11"),
    (b"{text: yes}", "json", "not JSON"),
    (b'{"audio_filepath": "b.wav"', "json", "not JSON"),
    (b"[" * 100_000, "json", "nests too deeply"),
    (b'{"duration": ' + b"9" * 5000 + b"}", "json", "too many digits"),
    (b'["b.wav", 0.3, "yes"]', "row", "a list"),
    (b"17", "row", "17"),
    (b'"b.wav"', "row", "'b.wav'"),
    (b"null", "row", "null"),
    (b'{"text": "' + b"a" * 2_000_000 + b'"}', "row", "longer than"),
    ({"duration": 0.3, "text": "yes"}, "key", "audio_filepath is missing"),
    ({"audio_filepath": "b.wav", "text": "yes"}, "key", "duration is missing"),
    ({"audio_filepath": "b.wav", "duration": 0.3}, "key", "text is missing"),
    (row("b.wav", duration="0.3"), "type", "'0.3' and must be a number"),
    (row("b.wav", duration=True), "type", "true and must be a number"),
    (row("b.wav", duration=None), "type", "null and must be a number"),
    (row("b.wav", duration=[0.3]), "type", "a list and must be a number"),
    (row("b.wav", duration=0), "duration", "0 s and must be above 0"),
    (row("b.wav", duration=-1.5), "duration", "-1.5 s"),
    (row("b.wav", duration=float("nan")), "duration", "nan s"),
    (row("b.wav", duration=float("inf")), "duration", "inf s"),
    (row("b.wav", duration=10**400), "duration", "inf s"),
    (row("b.wav", text=None), "type", "text is null"),
    (row("b.wav", text=7), "type", "text is 7"),
    (row("b.wav", text={"a": 1}), "type", "text is an object"),
    (row("b.wav", label=7), "type", "label is 7 and must be text"),
    (row("b.wav", speaker=False), "type", "speaker is false"),
    (row("b.wav", lang=["en"]), "type", "lang is a list"),
    (row("b.wav", id=3), "type", "id is 3"),
    (row("b.wav", age=True), "type", "age is true"),
    (row("b.wav", age=float("nan")), "type", "age is nan"),
    (rb'{"audio_filepath": "b.wav", "duration": 0.3, "text": "\ud800"}', "encoding", r"text '\ud800' is not valid"),
    (rb'{"audio_filepath": "\udce9.wav", "duration": 0.3, "text": ""}', "encoding", r"audio_filepath '\udce9.wav'"),
    (row(5), "type", "audio_filepath is 5"),  # type: ignore[arg-type]
    (row(""), "path", "no file name"),
    (row("b\0.wav"), "path", r"'b\x00.wav'"),
    (row("/etc/passwd"), "path", "absolute"),
    (row("../b.wav"), "path", "leaves the corpus folder"),
    (row("none.wav"), "file", "does not exist"),
    (row("folder"), "file", "is a folder"),
    (row("a.wav"), "path", "already that of manifest.jsonl:1"),
    (row("./a.wav", id="other"), "path", "already that of manifest.jsonl:1"),
    (row("b.wav", id="a"), "id", "already that of manifest.jsonl:1"),
    (row("empty.wav"), "audio", "empty file"),
]


@pytest.fixture
def two_clips(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    for name in ("a", "b"):
        save(folder / f"{name}.wav")
    (folder / "folder").mkdir()
    (folder / "empty.wav").touch()
    return folder


@pytest.mark.parametrize(("bad", "kind", "fragment"), BAD_ROWS, ids=range(len(BAD_ROWS)))
def test_a_bad_row_is_one_problem_in_one_sentence(two_clips: Path, bad: Any, kind: str, fragment: str) -> None:
    corpus(two_clips, [row("a.wav", id="a"), b"", bad])
    report = check_corpus(two_clips)
    assert [(p.where, p.kind) for p in report.problems] == [("manifest.jsonl:3", kind)]
    assert fragment in report.problems[0].message
    assert report.n_utterances == 1
    with pytest.raises(InputError) as raised:
        load_corpus(two_clips)
    sentence = str(raised.value)
    assert fragment in sentence
    assert report.problems[0].remedy in sentence
    assert sentence.isprintable()
    assert len(sentence) < 500


def test_all_problems_are_found_at_once_and_good_rows_counted(two_clips: Path) -> None:
    bad = [line for line, _, _ in BAD_ROWS]
    corpus(two_clips, [row("a.wav", id="a", lang="en", label="x", speaker="s"), *bad])
    problems = check_corpus(two_clips).problems
    assert {p.where for p in problems} == {f"manifest.jsonl:{n}" for n in range(2, len(bad) + 2)}
    with pytest.raises(InputError, match=rf"{len(problems)} problems, the first in manifest\.jsonl:2.*data check"):
        load_corpus(two_clips)


def test_one_row_may_have_several_problems(two_clips: Path) -> None:
    save(two_clips / "b.wav", np.zeros(4800))
    corpus(two_clips, [{"audio_filepath": "b.wav", "duration": -1, "label": 3}])
    report = check_corpus(two_clips)
    assert sorted(p.kind for p in report.problems) == ["audio", "duration", "key", "type"]
    assert "silent" in report.problems[-1].message


@pytest.mark.parametrize(
    ("content", "fragment"),
    [(b"", "no rows"), (b"\n \r\n", "no rows"), (b"\xef\xbb\xbf", "no rows"), ("{}".encode("utf-16"), "UTF-16")],
)
def test_a_manifest_without_rows(tmp_path: Path, content: bytes, fragment: str) -> None:
    (tmp_path / "manifest.jsonl").write_bytes(content)
    (problem,) = check_corpus(tmp_path).problems
    assert fragment in problem.message


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
def test_any_bytes_are_answered_with_problems(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "manifest.jsonl").write_bytes(content)
    assert not check_corpus(tmp_path).ok
    with pytest.raises(InputError):
        load_corpus(tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.fixed_dictionaries({}, optional={k: JSON for k in ("id", "audio_filepath", "duration", "text", "label", "age")})
)
def test_any_values_are_answered_with_problems_or_utterances(two_clips: Path, changes: dict[str, Any]) -> None:
    (two_clips / "manifest.jsonl").write_text(json.dumps(row("a.wav", **changes)))
    report = check_corpus(two_clips, audio=False)
    assert report.n_utterances == report.ok
    for problem in report.problems:
        str(problem).encode()
        assert problem.message.replace("\u200c", "").replace("\u200d", "").isprintable()
