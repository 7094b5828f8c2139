"""Common Voice as it is published: old and new columns, parts, contributors, and what a hostile table may hold."""

from collections.abc import Sequence
from operator import length_hint
from pathlib import Path

import pytest

from metavox.contracts import InputError
from metavox.data.interchange.common_voice import gender_of, is_common_voice, read_common_voice, speaker_of
from metavox.data.interchange.formats import detect
from metavox.data.interchange.segments import Options, Segment
from metavox.data.interchange.write import write_corpus
from metavox.data.manifests import load_corpus
from tests.sounds import say, write

OLD = ("client_id", "path", "sentence", "up_votes", "down_votes", "age", "gender", "accent")
NEW = (
    *("client_id", "path", "sentence_id", "sentence", "sentence_domain", "up_votes", "down_votes", "age", "gender"),
    *("accents", "variant", "locale", "segment"),
)
ANNA, BELA = "a3f" * 42 + "01", "0b9" * 42 + "ff"


def table(folder: Path, name: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.tsv"
    path.write_text("".join("\t".join(row) + "\n" for row in (columns, *rows)), encoding="utf-8")
    return path


def new_row(client: str, clip: str, text: str, segment: str = "", gender: str = "female_feminine") -> list[str]:
    return [client, clip, "9f", text, "", "2", "0", "twenties", gender, "Dholuo", "", "sw", segment]


@pytest.fixture
def swahili(tmp_path: Path) -> Path:
    folder = tmp_path / "cv-corpus-17.0-2024-03-15" / "sw"
    for number in range(4):
        write(folder / "clips" / f"common_voice_sw_{number}.mp3", say("tula", take=number), 32_000)
    train = [
        new_row(ANNA, "common_voice_sw_0.mp3", 'Alisema "habari'),
        new_row(ANNA, "common_voice_sw_1.mp3", "moja", "Singleword Benchmark"),
    ]
    table(folder, "train", NEW, train)
    table(folder, "dev", NEW, [new_row(BELA, "common_voice_sw_2.mp3", "Mtu ni watu.", gender="do_not_wish_to_say")])
    table(folder, "test", NEW, [])
    table(folder, "validated", NEW, [*train, new_row(BELA, "common_voice_sw_2.mp3", "Mtu ni watu.")])
    table(folder, "other", NEW, [new_row(BELA, "common_voice_sw_3.mp3", "Pole pole.")])
    return folder


def read(path: Path, **options: str) -> list[Segment]:
    return list(read_common_voice(path, Options(**options)))


def test_the_parts_of_a_new_release(swahili: Path) -> None:
    assert detect(swahili) == "common-voice"
    first, second, third = read(swahili)
    assert first.audio == (swahili / "clips/common_voice_sw_0.mp3").resolve()
    assert (first.id, first.split, first.lang, first.accent, first.gender, first.age) == (
        *("common_voice_sw_0", "train", "sw", "Dholuo", "female", "twenties"),
    )
    assert first.text == 'Alisema "habari'  # a lone quotation mark swallows no rows
    assert (first.label, second.label) == (None, "moja")
    assert (third.split, third.gender, third.speaker) == ("validation", None, BELA[:16])
    assert first.speaker == second.speaker != third.speaker


def test_a_split_is_asked_for_by_either_name(swahili: Path) -> None:
    assert [s.id for s in read(swahili, split="dev")] == ["common_voice_sw_2"]
    assert [s.id for s in read(swahili, split="validation")] == ["common_voice_sw_2"]
    assert [s.split for s in read(swahili, split="dev")] == ["dev"]  # as it was asked for: the writer compares
    assert [s.id for s in read(swahili, split="other")] == ["common_voice_sw_3"]
    with pytest.raises(
        InputError, match=r"no table of the part 'train2'; choose dev, other, test, train, validated\.$"
    ):
        read(swahili, split="train2")


def test_an_old_release_has_no_locale_nor_suffix(tmp_path: Path) -> None:
    write(tmp_path / "cy" / "clips" / "ab12.mp3", say("tula"), 32_000)
    table(tmp_path / "cy", "validated", OLD, [[ANNA, "ab12", "Bore da", "2", "0", "", "male", "united_kingdom"]])
    (segment,) = read(tmp_path / "cy")
    assert (segment.lang, segment.accent, segment.split) == ("cy", "united_kingdom", "validated")
    assert segment.audio.name == "ab12.mp3"
    assert read(tmp_path)[0].audio == segment.audio  # the folder of languages above
    table(tmp_path / "cy", "train", OLD, [])
    assert read(tmp_path / "cy") == []


def test_it_becomes_a_corpus_and_a_clip_that_is_missing_costs_only_itself(swahili: Path, tmp_path: Path) -> None:
    (swahili / "clips" / "common_voice_sw_1.mp3").unlink()
    segments = read_common_voice(swahili, Options())
    assert length_hint(segments) == 3
    out = tmp_path / "out"
    done = write_corpus(segments, out, source=str(swahili), format="common-voice", options=Options())
    assert (done.n_utterances, done.splits, done.languages) == (2, {"train": 1, "validation": 1}, ("sw",))
    assert "common_voice_sw_1.mp3 does not exist" in done.skipped[0].reason
    kept = load_corpus(out)
    assert [u.speaker for u in kept] == [ANNA[:16], BELA[:16]]
    assert kept[0].duration_s == pytest.approx(len(say("tula", take=0)) / 32_000, abs=0.1)


def test_speakers_are_short_and_stay_apart() -> None:
    assert speaker_of(ANNA) == ANNA[:16]
    assert speaker_of("anna") == "anna"
    long = ["x" * 40 + str(n) for n in range(100)]
    assert len({speaker_of(name) for name in long}) == 100
    assert {len(speaker_of(name)) for name in long} == {16}
    assert gender_of("MALE") == gender_of("male_masculine") == "male"
    assert gender_of("NAN") is gender_of("") is gender_of(None) is None


@pytest.mark.parametrize("clip", ["../../etc/passwd.mp3", "../../../../../../etc/passwd.mp3", "a/../../../x.mp3"])
def test_a_clip_outside_is_refused(swahili: Path, clip: str) -> None:
    table(swahili, "train", NEW, [new_row(ANNA, clip, "x")])
    with pytest.raises(
        InputError, match=r"^train\.tsv:2: .* leaves the corpus folder; move the file into the folder\.$"
    ):
        read(swahili)


def test_a_link_to_the_outside_is_refused(swahili: Path, tmp_path: Path) -> None:
    secret = write(tmp_path / "secret.wav", say("tula"))
    (swahili / "clips" / "link.mp3").symlink_to(secret)
    table(swahili, "train", NEW, [new_row(ANNA, "link.mp3", "x")])
    with pytest.raises(InputError, match="leaves the corpus folder"):
        read(swahili)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            b"client_id\tsentence\n",
            "train.tsv has no column path in its header ('client_id, sentence'); restore the header.",
        ),
        (b"", "train.tsv has no column client_id in its header"),
        (b"client_id\tpath\tsentence\tpath\n", "train.tsv has the column 'path' twice"),
        (b"client_id\tpath\tsentence\nx\ty\n", "train.tsv:2: the row has 2 cells and the header 3"),
        (b"client_id\tpath\tsentence\nx\t\ty\n", "train.tsv:2: path is empty"),
        (b"client_id\tpath\tsentence\nx\ty\0.mp3\tz\n", "train.tsv:2: the line holds NUL bytes"),
        (b"client_id\tpath\tsentence\nx\ty\t\xff\xfe\n", "train.tsv:2: byte 5 is not UTF-8"),
        (b"client_id\tpath\tsentence\n" + b"x" * 1_100_000, "train.tsv:2: the line is longer than 1,000,000 bytes"),
        (b"client_id\tpath\tsentence\nx\ty\t" + b"z" * 200_000, "train.tsv:2: no table row (field larger than"),
    ],
)
def test_a_bad_table_is_one_sentence(swahili: Path, content: bytes, sentence: str) -> None:
    (swahili / "train.tsv").write_bytes(content)
    with pytest.raises(InputError) as caught:
        read(swahili)
    assert str(caught.value).startswith(sentence)
    assert str(caught.value).endswith(".")


def test_another_folder_is_refused(tmp_path: Path) -> None:
    assert not is_common_voice(tmp_path)
    with pytest.raises(InputError, match=r"has no clips with a train\.tsv or validated\.tsv"):
        read(tmp_path)
