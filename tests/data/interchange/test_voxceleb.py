"""VoxCeleb1 as it is unpacked: speakers, videos, the table of people, and what may be wrong with either."""

from operator import length_hint
from pathlib import Path

import pytest

from metavox.contracts import InputError
from metavox.data.interchange.formats import detect
from metavox.data.interchange.segments import Options, Segment
from metavox.data.interchange.voxceleb import is_voxceleb, read_voxceleb
from metavox.data.interchange.write import write_corpus
from metavox.data.manifests import load_corpus
from tests.sounds import say, write

HEADER = "VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet\n"
PEOPLE = "id10001\tA.J._Buckley\tm\tIreland\tdev\nid10003\tAaron\tf\tUSA\tdev\nid10270\tEartha\tf\tUSA\ttest\n"


@pytest.fixture
def celebrities(tmp_path: Path) -> Path:
    root = tmp_path / "voxceleb1"
    for speaker in ("id10001", "id10270"):
        for video in ("1zcIwhmdeo4", "7gWzIy6yIIk"):
            for number in (1, 2):
                write(root / "wav" / speaker / video / f"{number:05d}.wav", say(video, speaker, number))
    (root / "vox1_meta.csv").write_text(HEADER + PEOPLE)
    return root


def read(path: Path, **options: str) -> list[Segment]:
    return list(read_voxceleb(path, Options(**options)))


def test_the_table_says_who_speaks(celebrities: Path, tmp_path: Path) -> None:
    assert detect(celebrities) == "voxceleb"
    segments = read_voxceleb(celebrities, Options())
    assert length_hint(segments) == 8
    found = list(segments)
    first, last = found[0], found[-1]
    assert first.id == "id10001/1zcIwhmdeo4/00001"
    assert (first.speaker, first.gender, first.accent, first.split) == ("id10001", "male", "Ireland", "train")
    assert (last.speaker, last.gender, last.accent, last.split) == ("id10270", "female", "USA", "test")
    assert {(s.text, s.label, s.lang) for s in found} == {("", None, None)}
    done = write_corpus(iter(found), tmp_path / "out", source="x", format="voxceleb", options=Options())
    assert (done.n_utterances, done.n_speakers, done.splits) == (8, 2, {"test": 4, "train": 4})
    assert {u.speaker for u in load_corpus(tmp_path / "out")} == {"id10001", "id10270"}


@pytest.mark.parametrize("moves", [{"id10001": "dev/wav", "id10270": "test/wav"}, {"id10001": ".", "id10270": "."}])
def test_both_archives_may_stay_where_they_were_unpacked(celebrities: Path, moves: dict[str, str]) -> None:
    together = {(s.id, s.speaker, s.split) for s in read(celebrities)}
    for speaker, place in moves.items():
        (celebrities / place).mkdir(parents=True, exist_ok=True)
        (celebrities / "wav" / speaker).rename(celebrities / place / speaker)
    (celebrities / "wav").rmdir()
    assert detect(celebrities) == "voxceleb"
    assert {(s.id, s.speaker, s.split) for s in read(celebrities)} == together


def test_a_part_is_asked_for_by_either_name(celebrities: Path) -> None:
    for part in ("dev", "train"):
        assert {(s.speaker, s.split) for s in read(celebrities, split=part)} == {("id10001", part)}
    assert {s.speaker for s in read(celebrities, split="test")} == {"id10270"}
    with pytest.raises(InputError, match=r"^There is no part 'validation'; choose one of dev, test\.$"):
        read(celebrities, split="validation")


def test_commas_in_the_table_are_read_too(celebrities: Path) -> None:
    table = celebrities / "vox1_meta.csv"
    before = read(celebrities)
    table.write_text(table.read_text().replace("\t", ","))
    assert read(celebrities) == before


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (HEADER.replace("Set", "Part") + PEOPLE, "vox1_meta.csv has no column Set in its header"),
        (HEADER + PEOPLE.replace("id10270", "id10271"), "vox1_meta.csv has no row for id10270; download the whole"),
        (HEADER + PEOPLE.replace("\tdev\n", "\n", 1), "vox1_meta.csv:2: the row has 4 cells and the header 5"),
        (HEADER + PEOPLE.replace("dev", "eval", 1), "vox1_meta.csv:2: Set is 'eval', and there are dev, test"),
        ("", "vox1_meta.csv has no column VoxCeleb1 ID in its header"),
        (None, "|has no vox1_meta.csv; download it from the page of VoxCeleb into that folder."),
    ],
)
def test_another_table_is_one_sentence(celebrities: Path, content: str | None, sentence: str) -> None:
    table = celebrities / "vox1_meta.csv"
    table.unlink() if content is None else table.write_text(content)
    with pytest.raises(InputError) as caught:
        read(celebrities)
    start, _, inside = sentence.partition("|")
    assert str(caught.value).startswith(start)
    assert inside in str(caught.value)


def test_what_holds_no_recordings_is_one_sentence(celebrities: Path, tmp_path: Path) -> None:
    for clip in (celebrities / "wav" / "id10270").rglob("*.wav"):
        clip.rename(clip.with_suffix(".m4a"))
    with pytest.raises(InputError, match=r"has no WAV in the part 'test'; unpack its archive\.$"):
        read(celebrities, split="test")
    (tmp_path / "other" / "wav" / "anna").mkdir(parents=True)
    assert not is_voxceleb(tmp_path / "other")
    with pytest.raises(InputError, match=r"has no wav/id10001/<video>/00001\.wav; name the unpacked folder\.$"):
        read(tmp_path / "other")


def test_a_clip_that_links_out_is_refused(celebrities: Path, tmp_path: Path) -> None:
    secret = write(tmp_path / "secret.wav", say("secret"))
    (celebrities / "wav" / "id10001" / "1zcIwhmdeo4" / "00003.wav").symlink_to(secret)
    with pytest.raises(InputError, match="leaves the corpus folder"):
        read(celebrities)
