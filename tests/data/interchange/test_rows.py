"""Manifests of strangers: each form gives the same rows, and what is no manifest is one sentence."""

import gzip
import json
import pickle
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from metavox.contracts import InputError
from metavox.data.interchange import rows
from metavox.data.interchange.rows import Row, read_rows

ROWS = [{"id": "a", "start": 0.5, "text": "ąčę"}, {"id": "b", "channel": [0, 1], "custom": {"accent": "north"}}]


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


JSONL = "".join(json.dumps(row, ensure_ascii=False) + "\n\n" for row in ROWS).encode()


@pytest.mark.parametrize("gz", ["", ".gz"])
@pytest.mark.parametrize(
    ("suffix", "data"),
    [
        (".jsonl", JSONL),
        (".jsonl", b"\xef\xbb\xbf" + JSONL),
        (".json", json.dumps(ROWS).encode()),
        (".yaml", yaml.safe_dump(ROWS).encode()),
        (".yml", yaml.safe_dump(ROWS).encode()),
    ],
)
def test_every_form_gives_the_same_rows(tmp_path: Path, suffix: str, gz: str, data: bytes) -> None:
    assert [row.values for row in read_rows(put(tmp_path / f"cuts{suffix}{gz}", data))] == ROWS


def test_a_row_knows_its_line(tmp_path: Path) -> None:
    assert [row.place for row in read_rows(put(tmp_path / "cuts.jsonl.gz", JSONL))] == [
        "cuts.jsonl.gz:1",
        "cuts.jsonl.gz:3",
    ]


class Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return subprocess.call, (["touch", str(self.path)],)


YAML_BOMB = b"a: &a {x: 1}\n" + b"".join(
    b"%c: &%c {<<: [*%c, *%c]}\n" % (c, c, c - 1, c - 1) for c in range(ord("b"), ord("h"))
)


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("cuts.jsonl", b"nonsense\n", "not JSON"),
        ("cuts.jsonl", b'["a"]\n', "must be an object"),
        ("cuts.jsonl", b'{"id": "\xff"}\n', "byte 9 is not UTF-8"),
        ("cuts.jsonl", b"[" * 100_000, "nests too deeply"),
        ("cuts.jsonl", b'{"id": ' + b"1" * 5000 + b"}", "too many digits"),
        ("cuts.json", b'{"id": "a"}', "must hold a list"),
        ("cuts.yaml", b"- !!python/object/apply:os.system ['touch ran']\n", r"no plain YAML .*os\.system'\); save"),
        ("cuts.yaml", YAML_BOMB, "no plain YAML"),
        ("cuts.yaml", b"[" * 800, "YAML"),
        ("cuts.txt", b"{}", "no manifest that can be read"),
        ("cuts.jsonl.zst", b"{}", "no manifest that can be read"),
    ],
)
def test_what_is_no_manifest_is_one_sentence(tmp_path: Path, name: str, data: bytes, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        list(read_rows(put(tmp_path / name, data)))
    assert str(caught.value).count("; ") == 1
    assert "\n" not in str(caught.value)
    assert not Path("ran").exists()


@pytest.mark.parametrize("name", ["cuts.pkl", "cuts.jsonl", "cuts.json", "cuts.pickle"])
def test_a_pickle_is_never_loaded_whatever_its_name(tmp_path: Path, name: str) -> None:
    path = put(tmp_path / name, pickle.dumps(Touch(tmp_path / "ran")))
    with pytest.raises(InputError, match="never read"):
        list(read_rows(path))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b" \n" * 500, b"0", b'{"a": "' + b" " * 990 + b'"}\n'])
def test_a_gzip_bomb_is_stopped(tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "FREE_EXPANSION_BYTES", 100_000)
    path = put(tmp_path / "cuts.jsonl.gz", content * (8_000_000 // len(content)))
    with pytest.raises(InputError, match=r"unpacks to more than 200 times"):
        list(read_rows(path))


def test_a_long_line_and_a_large_document_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MAX_LINE_BYTES", 1000)
    monkeypatch.setattr(rows, "MAX_DOCUMENT_BYTES", 1000)
    with pytest.raises(InputError, match="a line of more than 1,000 bytes"):
        list(read_rows(put(tmp_path / "cuts.jsonl", b'"' + b"a" * 1000 + b'"')))
    with pytest.raises(InputError, match="larger than 1,000 bytes"):
        list(read_rows(put(tmp_path / "cuts.json.gz", b"[" + b" " * 1000 + b"]")))


@pytest.mark.parametrize("cut", [15, 30])
def test_a_damaged_gzip_file_is_one_sentence(tmp_path: Path, cut: int) -> None:
    path = put(tmp_path / "cuts.jsonl.gz", JSONL)
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    with pytest.raises(InputError, match="gzip file"):
        list(read_rows(path))
    path.write_bytes(whole[:20] + bytes(255 - byte for byte in whole[20:40]) + whole[40:])
    with pytest.raises(InputError, match="gzip file"):
        list(read_rows(path))


VALUES = {"s": " a ", "n": 1, "f": 2.5, "nan": float("nan"), "inf": 10**400, "b": True, "d": {"x": 1}, "blank": " "}


def test_a_row_gives_values_of_the_type_asked_for() -> None:
    row = Row("m:1", VALUES | {"l": [{"a": 1}], "c": 3})
    assert (row.text("s"), row.optional_text("blank"), row.optional_text("none")) == ("a", None, None)
    assert (row.number("n"), row.number("f"), row.number("none", 7.0)) == (1, 2.5, 7)
    assert row.child("d").values == {"x": 1}
    assert row.child("none").values == {}
    assert [child.values for child in row.children("l")] == [{"a": 1}]
    assert row.children("none") == []
    assert (row.integers("c", [0]), row.integers("none", [0])) == ([3], [0])


@pytest.mark.parametrize(
    ("ask", "key"),
    [
        ("text", "n"),
        ("text", "blank"),
        ("text", "none"),
        ("number", "s"),
        ("number", "b"),
        ("number", "nan"),
        ("number", "inf"),
        ("number", "none"),
        ("child", "s"),
        ("children", "d"),
        ("children", "n"),
    ],
)
def test_a_value_of_another_type_is_refused_with_its_place(ask: str, key: str) -> None:
    with pytest.raises(InputError, match=f"^m:1: .*{key}.*; correct the manifest"):
        getattr(Row("m:1", VALUES), ask)(key)


@pytest.mark.parametrize("value", [[], [-1], ["0"], [True], "0", [None], 1.5])
def test_channels_are_whole_numbers(value: Any) -> None:
    with pytest.raises(InputError, match="whole numbers"):
        Row("m:1", {"channel": value}).integers("channel", [0])


def test_broken_unicode_is_refused() -> None:
    with pytest.raises(InputError, match="not valid Unicode"):
        Row("m:1", {"text": "\ud800"}).optional_text("text")
