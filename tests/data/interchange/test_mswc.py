"""Multilingual Spoken Words: the table of parts, the layout without one, and hostile rows."""

from pathlib import Path

import pytest
import soundfile

from metavox.contracts import InputError
from metavox.data.interchange.common_voice import speaker_of
from metavox.data.interchange.formats import detect
from metavox.data.interchange.mswc import is_mswc, read_mswc
from metavox.data.interchange.segments import Options, Segment
from metavox.data.interchange.write import write_corpus
from tests.sounds import say

HEADER = "SET,LINK,WORD,VALID,SPEAKER,GENDER\n"
SPEAKER = "5b1c" * 32


def clip(folder: Path, word: str, number: int) -> str:
    link = f"{word}/common_voice_lt_{number}.opus"
    path = folder / "clips" / link
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, say(word, take=number), 48_000, format="OGG", subtype="OPUS")
    return link


@pytest.fixture
def lithuanian(tmp_path: Path) -> Path:
    folder = tmp_path / "mswc" / "lt"
    links = [clip(folder, word, number) for word in ("ačiū", "labas") for number in (1, 2)]
    rows = [
        f"TRAIN,{links[0]},ačiū,True,{SPEAKER},MALE\n",
        f"DEV,{links[1]},ačiū,True,{SPEAKER[::-1]},NAN\n",
        f"TEST,{links[2]},labas,False,{SPEAKER},FEMALE\n",
        f"TEST,{links[3]},labas,True,NAN,OTHER\n",
    ]
    (folder / "lt_splits.csv").write_text(HEADER + "".join(rows), encoding="utf-8")
    return folder


def read(path: Path, **options: str) -> list[Segment]:
    return list(read_mswc(path, Options(**options)))


def test_the_table_says_word_part_and_speaker(lithuanian: Path) -> None:
    assert detect(lithuanian) == detect(lithuanian.parent) == "mswc"
    said: list[str] = []
    first, second, third = read_mswc(lithuanian, Options(announce=said.append))
    assert (first.text, first.label, first.lang, first.split) == ("ačiū", "ačiū", "lt", "train")
    assert (first.speaker, first.gender) == (speaker_of(SPEAKER), "male")
    assert (second.split, second.gender) == ("validation", None)
    assert (third.id, third.speaker, third.gender) == ("labas/common_voice_lt_2", None, "other")
    assert said == ["Left out because the tables mark them as not valid: 1 clips."]
    assert [s.split for s in read(lithuanian, split="dev")] == ["dev"]


def test_without_a_table_every_word_folder_is_read(lithuanian: Path) -> None:
    (lithuanian / "lt_splits.csv").unlink()
    assert is_mswc(lithuanian)
    segments = read(lithuanian)
    assert [s.label for s in segments] == ["ačiū", "ačiū", "labas", "labas"]
    assert {s.lang for s in segments} == {"lt"}
    assert {s.split for s in segments} == {None}
    with pytest.raises(InputError, match="'lt' has no table of parts; leave --split out"):
        read(lithuanian, split="train")


def test_opus_is_decoded(lithuanian: Path, tmp_path: Path) -> None:
    done = write_corpus(
        read_mswc(lithuanian, Options()), tmp_path / "out", source="mswc", format="mswc", options=Options()
    )
    assert (done.n_utterances, done.n_speakers, len(done.skipped)) == (3, 2, 0)


def test_a_libsndfile_without_opus_is_one_sentence(lithuanian: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soundfile, "available_subtypes", lambda _: {"VORBIS": "Vorbis"})
    with pytest.raises(InputError, match=r"cannot decode opus; install soundfile 0\.13 or later"):
        read(lithuanian)


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (
            "TRAIN,../../../../etc/passwd,x,True,a,MALE",
            "lt_splits.csv:2: '../../../../etc/passwd'|leaves the corpus folder",
        ),
        ("TRAIN,,x,True,a,MALE", "lt_splits.csv:2: LINK is empty"),
        ("TRAIN,a/b.opus,x", "lt_splits.csv:2: the row has 3 cells and the header 6"),
        ('TRAIN,"a/b.opus,x,True,a,MALE', "lt_splits.csv:2: no table row"),
    ],
)
def test_a_hostile_row_is_one_sentence(lithuanian: Path, row: str, sentence: str) -> None:
    (lithuanian / "lt_splits.csv").write_text(HEADER + row + "\n")
    with pytest.raises(InputError) as caught:
        read(lithuanian)
    start, _, inside = sentence.partition("|")
    if not inside:
        assert str(caught.value).startswith(start)
    assert inside in str(caught.value)


def test_another_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    assert not is_mswc(tmp_path)
    with pytest.raises(InputError, match="name the folder of a language"):
        read(tmp_path)
