"""FLEURS as its repository holds it: tables without a header, archives as they are or unpacked, hostile members."""

import io
import tarfile
from operator import length_hint
from pathlib import Path

import pytest

from metavox.contracts import InputError
from metavox.data.interchange.fleurs import is_fleurs, read_fleurs
from metavox.data.interchange.formats import detect
from metavox.data.interchange.segments import Options, Segment
from metavox.data.interchange.write import write_corpus
from metavox.data.manifests import load_corpus
from tests.sounds import say, write

TEXTS = {"train": ("habari ya leo", "moja mbili"), "dev": ("tatu",), "test": ("nne tano",)}


def row(name: str, text: str, gender: str = "FEMALE", n_samples: str = "9600") -> str:
    letters = "".join(f"{letter} " if letter != " " else "| " for letter in text)
    return "\t".join(("1017", name, f'"{text.capitalize()}."', text, letters, n_samples, gender)) + "\n"


def pack(folder: Path, part: str) -> Path:
    """The archive of a part in place of its recordings, folder entry included, as it was published."""
    archive = folder / "audio" / f"{part}.tar.gz"
    recordings = folder / "audio" / part
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(recordings, part)
    for path in recordings.iterdir():
        path.unlink()
    recordings.rmdir()
    return archive


@pytest.fixture
def swahili(tmp_path: Path) -> Path:
    """``sw_ke``, unpacked."""
    folder = tmp_path / "fleurs" / "sw_ke"
    for part, texts in TEXTS.items():
        for number, text in enumerate(texts):
            write(folder / "audio" / part / f"{part}{number}.wav", say(text))
        rows = [row(f"{part}{number}.wav", text) for number, text in enumerate(texts)]
        (folder / f"{part}.tsv").write_text("".join(rows), encoding="utf-8")
    return folder


def read(path: Path, **options: str) -> list[Segment]:
    return list(read_fleurs(path, Options(**options)))


def facts(segments: list[Segment]) -> list[tuple[object, ...]]:
    return sorted((s.id, s.text, s.lang, s.gender, s.speaker, s.split) for s in segments)


def test_a_row_says_text_language_and_part(swahili: Path) -> None:
    assert detect(swahili) == detect(swahili.parent) == "fleurs"
    segments = read(swahili)
    first = segments[0]
    assert (first.id, first.text, first.lang) == ("train/train0", "habari ya leo", "sw")
    assert (first.gender, first.speaker, first.label) == ("female", None, None)
    assert [s.split for s in segments] == ["train", "train", "validation", "test"]
    assert [s.split for s in read(swahili, split="dev")] == ["dev"]
    assert {s.lang for s in read(swahili, lang="swh")} == {"swh"}
    assert {s.id.split("/")[0] for s in read(swahili.parent)} == {"train", "dev", "test"}  # one language is no prefix


def test_archives_give_what_the_unpacked_folder_gives(swahili: Path, tmp_path: Path) -> None:
    unpacked = facts(read(swahili))
    write_corpus(read_fleurs(swahili, Options()), tmp_path / "a", source="x", format="fleurs", options=Options())
    for part in TEXTS:
        pack(swahili, part)
    segments = read_fleurs(swahili, Options())
    assert length_hint(segments) == 4
    assert facts(list(segments)) == unpacked
    write_corpus(read_fleurs(swahili, Options()), tmp_path / "b", source="x", format="fleurs", options=Options())
    pair = [{u.id: (u.text, u.duration_s, u.path.read_bytes()) for u in load_corpus(tmp_path / x)} for x in "ab"]
    assert pair[0] == pair[1]
    assert set(pair[0]) == {"train/train0", "train/train1", "dev/dev0", "test/test0"}


def test_one_recording_is_unpacked_at_a_time(swahili: Path) -> None:
    pack(swahili, "train")
    segments = read_fleurs(swahili, Options(split="train"))
    first = next(segments).audio
    second = next(segments).audio
    assert (first.exists(), second.exists()) == (False, True)
    segments.close()  # type: ignore[attr-defined]
    assert not second.exists()


@pytest.mark.parametrize("packed", [True, False])
def test_a_recording_that_is_missing_costs_only_itself(swahili: Path, tmp_path: Path, *, packed: bool) -> None:
    (swahili / "audio" / "train" / "train1.wav").unlink()
    write(swahili / "audio" / "train" / "extra.wav", say("extra"))
    if packed:
        pack(swahili, "train")
    said: list[str] = []
    segments = read_fleurs(swahili, Options(split="train", announce=said.append))
    done = write_corpus(segments, tmp_path / "o", source="x", format="fleurs", options=Options(split="train"))
    assert (done.n_utterances, len(done.skipped), done.splits) == (1, 1, {"train": 1})
    assert "train1.wav does not exist" in done.skipped[0].reason
    assert ("train.tar.gz, train1.wav" in done.skipped[0].reason) == packed
    named = "Left out because no row of the table names them: 1 recordings of train.tar.gz."
    assert said == ([named] if packed else [])


def test_a_recording_in_two_rows_is_taken_once_and_told(swahili: Path) -> None:
    with (swahili / "dev.tsv").open("a") as table:
        table.write(row("dev0.wav", "tatu tena"))
    said: list[str] = []
    (segment,) = read_fleurs(swahili, Options(split="dev", announce=said.append))
    assert segment.text == "tatu"
    assert said == ["Left out because a row above names the same recording: 1 rows of dev.tsv."]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("1017\ta.wav\tx\ty\tz\t9600\n", "train.tsv:1: the row has 6 cells and the table 7; correct it."),
        (row("a.txt", "x"), "train.tsv:1: column 2 is 'a.txt' and column 6 '9600', and they must be a recording and"),
        (row("a.wav", "x", n_samples="FEMALE"), "train.tsv:1: column 2 is 'a.wav' and column 6 'FEMALE', and"),
        ("id\tfile_name\traw\ttext\tletters\tn\tgender\n", "train.tsv:1: column 2 is 'file_name' and column 6 'n'"),
        (row("", "x"), "train.tsv:1: file_name is empty; correct the row or remove it."),
        (row("../../../../x.wav", "x"), "train.tsv:1: 'audio/train/../../../../x.wav' leaves the corpus folder"),
        ("", "train.tsv has no rows; download it again."),
    ],
)
def test_another_table_is_one_sentence(swahili: Path, line: str, sentence: str) -> None:
    (swahili / "train.tsv").write_text(line)
    with pytest.raises(InputError) as caught:
        read(swahili)
    assert str(caught.value).startswith(sentence)


def test_what_is_missing_is_one_sentence(swahili: Path, tmp_path: Path) -> None:
    pack(swahili, "train")
    (swahili / "train.tsv").unlink()
    with pytest.raises(InputError, match=r"^sw_ke has the audio of train and no train\.tsv; download the table"):
        read(swahili)
    (swahili / "audio" / "train.tar.gz").unlink()
    assert [s.split for s in read(swahili)] == ["validation", "test"]
    with pytest.raises(InputError, match=r"has no part 'train'; download it or choose another\.$"):
        read(swahili, split="train")
    (swahili / "train.tsv").write_text(row("a.wav", "x"))
    with pytest.raises(InputError, match=r"^sw_ke has no audio/train\.tar\.gz; download it beside its table\.$"):
        read(swahili, split="train")
    with pytest.raises(InputError, match=r"^There is no part 'dev2'; choose one of train, dev, test\.$"):
        read(swahili, split="dev2")
    (tmp_path / "empty").mkdir()
    assert not is_fleurs(tmp_path / "empty")
    with pytest.raises(InputError, match=r"name the folder of a language, such as fleurs/data/sw_ke\.$"):
        read(tmp_path / "empty")


def test_a_damaged_or_hostile_archive_is_one_sentence(swahili: Path) -> None:
    archive = pack(swahili, "train")
    whole = archive.read_bytes()
    for broken in (whole[: len(whole) // 2], whole[:100] + bytes(200) + whole[300:], b"no archive"):
        archive.write_bytes(broken)
        with pytest.raises(InputError, match=r"^train\.tar\.gz is no whole tar file \(.*\); download it again\.$"):
            read(swahili, split="train")
    link = tarfile.TarInfo("train/train0.wav")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    leaving = tarfile.TarInfo("../train0.wav")
    for member, sentence in ((link, "is no plain file"), (leaving, "leaves the folder")):
        with tarfile.open(archive, "w:gz") as tar:
            tar.addfile(member, io.BytesIO())
        with pytest.raises(InputError, match=rf"^train\.tar\.gz: the member .* {sentence}; download it again\.$"):
            read(swahili, split="train")
