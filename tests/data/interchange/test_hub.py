"""Data sets of the Hub: metadata tables, Parquet, class folders, snapshots of the cache, and what is refused."""

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
import soundfile

from metavox.contracts import InputError
from metavox.data.interchange import hub
from metavox.data.interchange.formats import detect
from metavox.data.interchange.segments import Options, Segment
from metavox.data.interchange.write import write_corpus
from metavox.data.manifests import load_corpus
from tests.sounds import say, write


def read(path: Path, **options: str) -> list[Segment]:
    return list(hub.read_hub(path, Options(**options)))


@pytest.fixture
def audio_folder(tmp_path: Path) -> Path:
    """As the documentation of AudioFolder lays it out: a table for each split."""
    root = tmp_path / "set"
    for split in ("train", "validation"):
        write(root / "data" / split / "clips" / "1.wav", say(f"{split}1"))
        write(root / "data" / split / "2.flac", say(f"{split}2"))
        (root / "data" / split / "metadata.csv").write_text(
            "file_name,transcription,speaker_id,language,sex,age\n"
            'clips/1.wav,"Yes, ""indeed""",17,en,female,30\n'
            "2.flac,No,18,en,,\n",
            encoding="utf-8",
        )
    (root / "README.md").write_text("---\nlicense: cc0-1.0\n---\n")
    return root


def test_an_audio_folder_with_metadata(audio_folder: Path) -> None:
    assert detect(audio_folder) == "hub"
    segments = read(audio_folder)
    first = segments[0]
    assert [s.split for s in segments] == ["train", "train", "validation", "validation"]
    assert (first.id, first.text, first.speaker, first.lang, first.gender, first.age) == (
        *("data/train/clips/1", 'Yes, "indeed"', "17", "en", "female", "30"),
    )
    assert first.audio == (audio_folder / "data/train/clips/1.wav").resolve()
    assert (segments[1].gender, segments[1].age, segments[1].label) == (None, None, None)
    assert [s.split for s in read(audio_folder, split="dev")] == ["dev", "dev"]
    with pytest.raises(InputError, match=r"has no recordings in the part 'test'; there are train, validation\.$"):
        read(audio_folder, split="test")


def test_json_lines_and_a_column_of_splits(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", say("a"))
    rows = [{"file_name": "a.wav", "text": "a b", "split": "dev", "label": 3, "age": 40.0, "speaker": None}]
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (segment,) = read(tmp_path, lang="en")
    assert (segment.text, segment.split, segment.label, segment.age) == ("a b", "validation", "3", "40")
    assert (segment.speaker, segment.lang) == (None, "en")


def test_folders_are_classes_where_there_are_two(tmp_path: Path) -> None:
    for name in ("train/yes/1.wav", "train/no/1.wav", "test/yes/2.wav"):
        write(tmp_path / name, say(name))
    found = {(s.label, s.text, s.split) for s in read(tmp_path)}
    assert found == {("yes", "yes", "train"), ("no", "no", "train"), ("yes", "yes", "test")}
    bare = tmp_path / "bare"
    for name in ("train/1.wav", "test/1.wav"):
        write(bare / name, say(name))
    assert [(s.label, s.split) for s in read(bare)] == [(None, "test"), (None, "train")]


def test_it_becomes_a_corpus(audio_folder: Path, tmp_path: Path) -> None:
    (audio_folder / "data" / "train" / "2.flac").unlink()
    options = Options(split="train")
    done = write_corpus(
        hub.read_hub(audio_folder, options), tmp_path / "out", source="x", format="hub", options=options
    )
    assert (done.n_utterances, done.splits, len(done.skipped)) == (1, {"train": 1}, 1)
    assert load_corpus(tmp_path / "out")[0].text == 'Yes, "indeed"'


def test_a_snapshot_of_the_cache_reads_its_blobs_and_nothing_else(tmp_path: Path) -> None:
    cache = tmp_path / "datasets--a--b"
    root = cache / "snapshots" / "0f3c"
    blob = write(tmp_path / "a.wav", say("a"))
    (cache / "blobs").mkdir(parents=True)
    blob = blob.rename(cache / "blobs" / "9d2e")
    root.mkdir(parents=True)
    (root / "a.wav").symlink_to("../../blobs/9d2e")
    (root / "metadata.csv").write_text("file_name,text\na.wav,a\n")
    (segment,) = read(root)
    assert segment.audio == blob.resolve()
    out = tmp_path / "out"
    assert write_corpus(iter([segment]), out, source="x", format="hub", options=Options()).n_utterances == 1
    for target in ("../../secret.wav", "../../../secret.wav"):
        write(cache / "secret.wav", say("secret"))
        write(cache.parent / "secret.wav", say("secret"))
        (root / "a.wav").unlink()
        (root / "a.wav").symlink_to(target)
        with pytest.raises(InputError, match="leaves the corpus folder"):
            read(root)


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("../../etc/passwd,x", "metadata.csv:2: '../../etc/passwd' leaves the corpus folder"),
        ("/etc/passwd,x", "metadata.csv:2: '/etc/passwd' is absolute"),
        ("a.wav", "metadata.csv:2: the row has 1 cells and the header 2"),
        ("a.wav,x\0y", "metadata.csv:2: the line holds NUL bytes"),
        ("a.wav,\udcff", "metadata.csv:2: byte 7 is not UTF-8"),
    ],
)
def test_a_hostile_row_is_one_sentence(tmp_path: Path, row: str, sentence: str) -> None:
    (tmp_path / "metadata.csv").write_bytes(f"file_name,text\n{row}\n".encode(errors="surrogateescape"))
    with pytest.raises(InputError) as caught:
        read(tmp_path)
    assert str(caught.value).startswith(sentence)


def test_a_table_without_files_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "metadata.jsonl").write_text('{"text": "x"}\n')
    with pytest.raises(InputError, match=r"^metadata\.jsonl:1: there is no file_name; add the column"):
        read(tmp_path)
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.wav", "text": "\\u0000"}\n')
    with pytest.raises(InputError, match="the row holds NUL characters"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("b.py", "is made by a loading script, which is never run; use its Parquet export"),
        ("data/train.pkl", "holds pickles, and reading one runs the code of whoever wrote it"),
        ("data/train.tar.gz", "holds archives only; unpack them"),
        ("README.md", r"has no metadata\.csv, metadata\.jsonl, Parquet or audio files"),
    ],
)
def test_what_is_no_data_is_refused(tmp_path: Path, name: str, sentence: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("raise SystemExit('this was run')")
    with pytest.raises(InputError, match=sentence):
        read(tmp_path)


def test_a_script_beside_data_is_not_run(audio_folder: Path) -> None:
    (audio_folder / "set.py").write_text("raise SystemExit('this was run')")
    assert len(read(audio_folder)) == 4


# ----------------------------------------------------------------------------------------------------------- download


class FakeHub:
    """Stands for the Hub: answers with the names, and records what would be downloaded."""

    def __init__(self, names: list[str], folder: Path | Exception) -> None:
        self.names, self.folder, self.asked = names, folder, {}  # type: ignore[var-annotated]

    def list_repo_files(self, repository: str, **_: Any) -> list[str]:
        if isinstance(self.folder, Exception):
            raise self.folder
        return self.names

    def snapshot_download(self, repository: str, **options: Any) -> str:
        self.asked = {"repository": repository, **options}
        return str(self.folder)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Any:
    import huggingface_hub

    def install(fake: FakeHub) -> FakeHub:
        monkeypatch.setattr(huggingface_hub, "HfApi", lambda: fake)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", fake.snapshot_download)
        return fake

    return install


def test_a_data_set_is_downloaded_by_its_id_and_only_its_data(audio_folder: Path, stand_in: Any) -> None:
    fake = stand_in(FakeHub(["data/train/metadata.csv", "set.py", "weights.pkl"], audio_folder))
    source = Path("hf:me/my-set@refs/convert/parquet")
    assert detect(source) == "hub"
    assert len(read(source)) == 4
    assert (fake.asked["repository"], fake.asked["revision"]) == ("me/my-set", "refs/convert/parquet")
    assert fake.asked["repo_type"] == "dataset"
    allowed = fake.asked["allow_patterns"]
    assert "*.parquet" in allowed
    assert not [pattern for pattern in allowed if pattern.endswith((".py", ".pkl", "*"))]


def test_an_id_that_cannot_be_had_is_one_sentence(stand_in: Any, tmp_path: Path) -> None:
    for bad in ("hf:me", "hf:../me/x", "hf:me/x?y", "hf:"):
        with pytest.raises(InputError, match="is no data set of the Hub; write hf:owner/name"):
            read(Path(bad))
    stand_in(FakeHub(["my_set.py", "README.md"], tmp_path))
    with pytest.raises(InputError, match=r"^'hf:me/x' is made by a loading script, which is never run"):
        read(Path("hf:me/x"))
    stand_in(FakeHub([], ConnectionError("[Errno -2] Name or service not known")))
    with pytest.raises(InputError, match=r"^'hf:me/x' cannot be downloaded \(\[Errno -2\] .*\); check the network\.$"):
        read(Path("hf:me/x"))


# ------------------------------------------------------------------------------------------------------------ Parquet


def encoded(word: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, say(word), 16_000, format="FLAC")
    return file.getvalue()


def parquet_set(root: Path, rows: list[dict[str, Any]], classes: list[str] | None = None) -> Path:
    """What ``Dataset.push_to_hub`` uploads: audio as bytes and path, the features in the metadata of the schema."""
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = pa.Table.from_pylist(rows)
    label = {"_type": "ClassLabel", "names": classes} if classes else {"dtype": "string", "_type": "Value"}
    features = {"audio": {"sampling_rate": 16_000, "_type": "Audio"}, "label": label}
    described = json.dumps({"info": {"features": features}})
    path = root / "data" / "test-00000-of-00001.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table.replace_schema_metadata({"huggingface": described}), path)
    return root


def test_parquet_with_embedded_audio(tmp_path: Path) -> None:
    rows = [{"audio": {"bytes": encoded(w), "path": f"{w}.flac"}, "label": n % 3 - 1} for n, w in enumerate("abcd")]
    root = parquet_set(tmp_path / "set", rows, ["down", "up"])
    assert detect(root) == "hub"
    seen = [(s.id, s.label, s.text, s.split, s.audio.read_bytes()) for s in hub.read_hub(root, Options())]
    assert [row[1:4] for row in seen] == [
        (None, "", "test"),
        *[(w, w, "test") for w in ("down", "up")],
        (None, "", "test"),
    ]
    assert seen[2] == ("data/test-00000-of-00001/3", "up", "up", "test", encoded("c"))
    done = write_corpus(hub.read_hub(root, Options()), tmp_path / "out", source="x", format="hub", options=Options())
    assert done.n_utterances == 4
    assert [u.duration_s for u in load_corpus(tmp_path / "out")] == [len(say(w)) / 16_000 for w in "abcd"]


def test_parquet_unpacks_one_recording_at_a_time(tmp_path: Path) -> None:
    rows = [{"audio": {"bytes": encoded(word), "path": None}, "label": word} for word in "abc"]
    segments = hub.read_hub(parquet_set(tmp_path, rows), Options())
    first = next(segments).audio
    second = next(segments).audio
    assert (first.exists(), second.exists()) == (False, True)
    segments.close()  # type: ignore[attr-defined]
    assert not second.exists()


def test_a_hostile_parquet_is_one_sentence(tmp_path: Path) -> None:
    root = parquet_set(tmp_path, [{"audio": {"bytes": None, "path": "../../etc/passwd"}, "label": "x"}])
    with pytest.raises(InputError, match=r"parquet, row 1: '\.\./\.\./etc/passwd' leaves the corpus folder"):
        read(root)
    parquet_set(tmp_path, [{"audio": {"bytes": b"", "path": None}, "label": "x"}])
    with pytest.raises(InputError, match="row 1: the row has no audio"):
        read(root)
    parquet_set(tmp_path, [{"text": "x"}])
    with pytest.raises(InputError, match="has no column of audio"):
        read(root)
    path = root / "data" / "test-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match="is no whole Parquet file"):
        read(root)
    os.unlink(path)
    (root / "data" / "test-00000-of-00001.parquet").write_text("hello")
    with pytest.raises(InputError, match="is no whole Parquet file"):
        read(root)


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r'need pyarrow, which is not installed; pip install "metavox\[hub\]"\.$'):
        read(tmp_path)
