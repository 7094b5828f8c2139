"""TextGrids as Praat writes them: long and short, in three encodings, and broken in every way that matters."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metavox.contracts import InputError
from metavox.data.interchange.formats import detect
from metavox.data.interchange.segments import Options, Segment
from metavox.data.interchange.textgrid import parse_textgrid, read_textgrids
from metavox.data.interchange.write import write_corpus
from tests.sounds import say, write

Interval = tuple[float, float, str]
WORDS: list[Interval] = [(0, 0.1, ""), (0.1, 0.35, "táá"), (0.35, 0.6, 'ya "bo"'), (0.6, 1.2, "")]
PHONES: list[Interval] = [(0, 0.1, "sil"), (0.1, 0.2, "t"), (0.2, 0.35, "a"), (0.35, 0.45, "y"), (0.45, 1.2, "a")]


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def long_form(*tiers: tuple[str, list[Interval]], points: str = "") -> str:
    """What *Save as text file...* writes."""
    n_tiers = len(tiers) + bool(points)
    text = 'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0 \nxmax = 1.2 \ntiers? <exists> \n'
    text += f"size = {n_tiers} \nitem []: \n"
    for number, (name, intervals) in enumerate(tiers, 1):
        text += f'    item [{number}]:\n        class = "IntervalTier" \n        name = {quoted(name)} \n'
        text += f"        xmin = 0 \n        xmax = 1.2 \n        intervals: size = {len(intervals)} \n"
        for index, (begin, end, label) in enumerate(intervals, 1):
            text += f"        intervals [{index}]:\n            xmin = {begin} \n            xmax = {end} \n"
            text += f"            text = {quoted(label)} \n"
    if points:
        text += f'    item [{n_tiers}]:\n        class = "TextTier" \n        name = {quoted(points)} \n'
        text += "        xmin = 0 \n        xmax = 1.2 \n        points: size = 1 \n        points [1]:\n"
        text += '            number = 0.5 \n            mark = "H*" \n'
    return text


def short_form(*tiers: tuple[str, list[Interval]]) -> str:
    """What *Save as short text file...* writes."""
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "0", "1.2", "<exists>", str(len(tiers))]
    for name, intervals in tiers:
        lines += ['"IntervalTier"', quoted(name), "0", "1.2", str(len(intervals))]
        for begin, end, label in intervals:
            lines += [str(begin), str(end), quoted(label)]
    return "\n".join(lines) + "\n"


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    write(tmp_path / "s1.wav", say("s1", rate_hz=32_000), 16_000)
    (tmp_path / "s1.TextGrid").write_text(long_form(("phones", PHONES), ("words", WORDS), points="tones"))
    return tmp_path / "s1.TextGrid"


def read(path: Path, **options: str) -> list[Segment]:
    return list(read_textgrids(path, Options(**options)))


@pytest.mark.parametrize("form", [long_form, short_form])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_every_form_reads_alike(form: object, encoding: str, newline: str) -> None:
    assert callable(form)
    bom = b"\xfe\xff" if encoding == "utf-16-be" else b""
    data = bom + form(("phones", PHONES), ("words", WORDS)).replace("\n", newline).encode(encoding)
    (phones, words), points = parse_textgrid(data, "x.TextGrid")
    assert words.intervals == ((0.1, 0.35, "táá"), (0.35, 0.6, 'ya "bo"'))
    assert (phones.name, len(phones.intervals), points) == ("phones", 5, [])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=12), max_size=6),
    st.booleans(),
)
def test_any_text_comes_back(texts: list[str], is_long: bool) -> None:
    intervals = [(float(n), n + 1.0, text) for n, text in enumerate(texts)]
    data = (long_form if is_long else short_form)(("a", intervals)).encode()
    ((tier,), _) = parse_textgrid(data, "x.TextGrid")
    kept = [(begin, end, " ".join(text.split())) for begin, end, text in intervals]
    assert list(tier.intervals) == [item for item in kept if item[2] and item[2] not in ("<eps>", "<sil>", "<p:>")]


def test_words_are_labels_and_phones_are_left(grid: Path) -> None:
    assert detect(grid) == detect(grid.parent) == "textgrid"
    said: list[str] = []
    segments = list(read_textgrids(grid, Options(lang="mdw", announce=said.append)))
    assert [(s.text, s.label, s.start_s, s.end_s) for s in segments] == [
        ("táá", "táá", 0.1, 0.35),
        ('ya "bo"', 'ya "bo"', 0.35, 0.6),
    ]
    assert segments[0].audio == (grid.parent / "s1.wav").resolve()
    assert {(s.lang, s.speaker) for s in segments} == {("mdw", None)}
    assert said == ["s1.TextGrid: read the tier 'words' with 2 intervals; --tier would take another: 'phones' (5)."]
    assert [s.label for s in read(grid, tier="phones")] == [None] * 5


def test_tiers_of_several_speakers(grid: Path) -> None:
    grid.write_text(long_form(("anna - words", WORDS), ("anna - phones", PHONES), ("bela - words", WORDS[:2])))
    assert [(s.speaker, s.text) for s in read(grid)] == [("anna", "táá"), ("anna", 'ya "bo"'), ("bela", "táá")]
    assert len({s.id for s in read(grid, tier="words")}) == 3
    assert [s.speaker for s in read(grid, tier="bela - words")] == ["bela"]


def test_a_folder_becomes_a_corpus(grid: Path, tmp_path: Path) -> None:
    (tmp_path / "s2.textgrid").write_text(short_form(("words", WORDS)))  # its recording is missing
    (tmp_path / "s3.TextGrid").write_text(short_form(("other", [(0, 1.2, "")])))
    options = Options()
    done = write_corpus(
        read_textgrids(tmp_path, options), tmp_path / "out", source="x", format="textgrid", options=options
    )
    assert (done.n_utterances, len(done.skipped)) == (2, 2)
    assert "s2.wav does not exist" in done.skipped[0].reason


def test_points_are_refused(grid: Path) -> None:
    with pytest.raises(
        InputError, match="the tier 'tones' holds points, which have no length; choose an interval tier"
    ):
        read(grid, tier="tones")
    with pytest.raises(InputError, match=r"^s1\.TextGrid has no tier 'syllables'; choose 'phones', 'words'\.$"):
        read(grid, tier="syllables")


LONG = long_form(("words", WORDS))


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (LONG.replace("xmax = 0.35", "xmax = 0.05").encode(), "the interval 'táá' lasts from 0.1 s to 0.05 s"),
        (LONG.replace("xmin = 0.1 ", "xmin = -0.1 ").encode(), "the interval 'táá' lasts from -0.1 s to 0.35 s"),
        (LONG.replace("xmin = 0.1 ", "xmin = nan ").encode(), "the time 'nan' is no number of seconds"),
        (LONG.replace("xmax = 0.35", "xmax = 1e999").encode(), "the time '1e999' is no number of seconds"),
        (LONG.replace("xmax = 0.35", "xmax = --undefined--").encode(), "the time '--undefined--' is no number"),
        (LONG.replace('"táá"', '"tá"á"').encode(), "a quotation mark is not closed or not doubled"),
        (LONG.replace('"táá"', '"táá').encode(), ""),
        (LONG.replace("size = 4", "size = 999999999").encode(), "is no number of tiers or intervals"),
        (LONG.replace("size = 4", "size = 9").encode(), "the file ends where a number was expected"),
        (LONG.replace("size = 1", "size = 99999").encode(), "'99999' is no number of tiers"),
        (LONG.replace("IntervalTier", "PitchTier").encode(), "the tier 'words' is of class 'PitchTier'"),
        (LONG.replace("TextGrid", "PitchTier", 1).encode(), "is no TextGrid but 'PitchTier'"),
        (LONG[:400].encode(), "x.TextGrid:"),
        (LONG.encode("latin-1"), "is not UTF-8; save the file as UTF-8"),
        (LONG.encode("utf-16")[:-1], "is damaged UTF-16"),
        (LONG.replace("táá", "t\0").encode(), "holds NUL characters"),
        (b"ooBinaryFile\x08TextGrid", "is a binary TextGrid; save it as text file"),
        (b'"Praat chronological TextGrid text file"\n0 1', "is a chronological TextGrid"),
        ('"Praat chronological TextGrid text file"\n0 1'.encode("utf-16"), "is a chronological TextGrid"),
        (b"hello", "the file ends where a text was expected"),
        (b'"' * 2_000_001, ""),
        (b'"a""' * 500_000, ""),
    ],
)
def test_a_bad_textgrid_is_one_sentence(data: bytes, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_textgrid(data, "x.TextGrid")
    assert sentence in str(caught.value)
    assert str(caught.value).startswith("x.TextGrid")
    assert len(str(caught.value)) < 300


def test_an_absent_tier_list_is_no_speech(grid: Path) -> None:
    grid.write_text('File type = "ooTextFile"\nObject class = "TextGrid"\n\n0\n1.2\n<absent>\n')
    with pytest.raises(InputError, match=r"^s1\.TextGrid has no interval with text; annotate it in Praat first\.$"):
        read(grid)
    grid.unlink()
    with pytest.raises(InputError, match=r"holds no \.TextGrid file"):
        read(grid.parent)
