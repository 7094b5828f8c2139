"""ELAN documents as ELAN 6 writes them: aligned, subdivided and referring tiers, media, and hostile XML."""

import os
from pathlib import Path
from textwrap import dedent

import pytest

from metavox.contracts import InputError
from metavox.data.interchange.elan import read_elan
from metavox.data.interchange.formats import detect
from metavox.data.interchange.segments import Options, Segment
from metavox.data.interchange.write import write_corpus
from tests.sounds import say, write

HEAD = """\
<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="" DATE="2024-05-02T10:11:12+01:00" FORMAT="3.0" VERSION="3.0"
    xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
    xsi:noNamespaceSchemaLocation="http://www.mpi.nl/tools/elan/EAFv3.0.xsd">
"""
MEDIA = """\
    <HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">
        <MEDIA_DESCRIPTOR MEDIA_URL="file:///C:/Users/me/story%201.wav" MIME_TYPE="audio/x-wav"
            RELATIVE_MEDIA_URL="./story%201.wav"/>
        <PROPERTY NAME="URN">urn:nl-mpi-tools-elan-eaf:1b</PROPERTY>
        <PROPERTY NAME="lastUsedAnnotationId">9</PROPERTY>
    </HEADER>
"""
SLOTS = """\
    <TIME_ORDER>
        <TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="100"/>
        <TIME_SLOT TIME_SLOT_ID="ts2"/>
        <TIME_SLOT TIME_SLOT_ID="ts3"/>
        <TIME_SLOT TIME_SLOT_ID="ts4" TIME_VALUE="700"/>
        <TIME_SLOT TIME_SLOT_ID="ts5" TIME_VALUE="800"/>
        <TIME_SLOT TIME_SLOT_ID="ts6" TIME_VALUE="1400"/>
    </TIME_ORDER>
"""


def aligned(name: str, begin: str, end: str, text: str) -> str:
    return dedent(f"""\
        <ANNOTATION>
            <ALIGNABLE_ANNOTATION ANNOTATION_ID="{name}" TIME_SLOT_REF1="{begin}" TIME_SLOT_REF2="{end}">
                <ANNOTATION_VALUE>{text}</ANNOTATION_VALUE>
            </ALIGNABLE_ANNOTATION>
        </ANNOTATION>
        """)


def referring(name: str, parent: str, text: str, previous: str = "") -> str:
    after = f' PREVIOUS_ANNOTATION="{previous}"' if previous else ""
    return dedent(f"""\
        <ANNOTATION>
            <REF_ANNOTATION ANNOTATION_ID="{name}" ANNOTATION_REF="{parent}"{after}>
                <ANNOTATION_VALUE>{text}</ANNOTATION_VALUE>
            </REF_ANNOTATION>
        </ANNOTATION>
        """)


def tier(name: str, kind: str, *annotations: str, **attributes: str) -> str:
    others = "".join(f' {key}="{value}"' for key, value in attributes.items())
    return f'<TIER LINGUISTIC_TYPE_REF="{kind}" TIER_ID="{name}"{others}>\n{"".join(annotations)}</TIER>\n'


TYPES = "".join(
    f'    <LINGUISTIC_TYPE {constraint}GRAPHIC_REFERENCES="false" LINGUISTIC_TYPE_ID="{name}"/>\n'
    for name, constraint in {
        "utterance": "",
        "words": 'CONSTRAINTS="Time_Subdivision" ',
        "gloss": 'CONSTRAINTS="Symbolic_Association" ',
        "parts": 'CONSTRAINTS="Symbolic_Subdivision" ',
    }.items()
)
LANGUAGE = '    <LANGUAGE LANG_DEF="http://cdb.iso.org/lg/CDB-00138505-001" LANG_ID="mdw" LANG_LABEL="Mbochi (mdw)"/>\n'

STORY = [
    tier(
        *("A", "utterance"),
        *(aligned("a1", "ts1", "ts4", " táá ya\n bísí "), aligned("a2", "ts5", "ts6", "&amp; adíí")),
        PARTICIPANT="Anna",
        LANG_REF="mdw",
        DEFAULT_LOCALE="en",
    ),
    tier(
        *("A-words", "words"),
        *(aligned("a3", "ts1", "ts2", "táá"), aligned("a4", "ts2", "ts3", "ya"), aligned("a5", "ts3", "ts4", "bísí")),
        PARENT_REF="A",
        DEFAULT_LOCALE="fr",
    ),
    tier("A-fr", "gloss", referring("a6", "a1", "notre père"), PARENT_REF="A", LANG_REF="fra"),
    tier(
        *("A-parts", "parts"),
        *(referring("a8", "a4", "y-", "a7"), referring("a9", "a4", "a", "a8"), referring("a7", "a4", "0")),
        *(referring("a10", "a2", "ad"), referring("a11", "a2", "í", "a10"), referring("a12", "a2", "í", "a11")),
        *(referring("a13", "a2", "í", "a12"),),
        PARENT_REF="A-words",
    ),
]


def document(tiers: list[str], slots: str = SLOTS, media: str = MEDIA) -> str:
    return HEAD + media + slots + "".join(tiers) + TYPES + LANGUAGE + "</ANNOTATION_DOCUMENT>\n"


@pytest.fixture
def story(tmp_path: Path) -> Path:
    write(tmp_path / "story 1.wav", say("story", rate_hz=32_000), 16_000)
    (tmp_path / "story.eaf").write_text(document(STORY), encoding="utf-8")
    return tmp_path / "story.eaf"


def read(path: Path, **options: str) -> list[Segment]:
    return list(read_elan(path, Options(**options)))


def spans(segments: list[Segment]) -> list[tuple[str, float, float]]:
    return [(s.text, round(s.start_s, 6), round(s.end_s or 0, 6)) for s in segments]


def test_the_tier_of_the_utterances_is_chosen_and_said(story: Path) -> None:
    assert detect(story) == detect(story.parent) == "elan"
    said: list[str] = []
    segments = list(read_elan(story, Options(announce=said.append)))
    # three words have times of somebody's hand; seven parts, which are more, have none
    assert spans(segments) == [("táá", 0.1, 0.3), ("ya", 0.3, 0.5), ("bísí", 0.5, 0.7)]
    assert {s.speaker for s in segments} == {"Anna"}  # as the tier above says
    assert said == [
        "story.eaf: read the tier 'A-words' with 3 annotations; --tier would take another: "
        "'A' (2), 'A-fr' (1), 'A-parts' (6)."
    ]
    segments = read(story, tier="A")
    assert spans(segments) == [("táá ya bísí", 0.1, 0.7), ("& adíí", 0.8, 1.4)]
    assert segments[0].audio == (story.parent / "story 1.wav").resolve()
    assert [s.id for s in segments] == ["story/a1", "story/a2"]
    assert {(s.speaker, s.lang) for s in segments} == {("Anna", "mdw")}


def test_times_that_are_not_given_are_those_that_elan_shows(story: Path) -> None:
    assert spans(read(story, tier="A-fr")) == [("notre père", 0.1, 0.7)]
    parts = spans(read(story, tier="A-parts"))
    third = 0.2 / 3  # of the interpolated word from 0.3 to 0.5, in the order of the chain
    expected = [("y-", 0.3 + third, 0.3 + 2 * third), ("a", 0.3 + 2 * third, 0.5), ("0", 0.3, 0.3 + third)]
    assert parts[:3] == [(text, round(a, 6), round(b, 6)) for text, a, b in expected]
    assert parts[3:] == [("ad", 0.8, 0.95), ("í", 0.95, 1.1), ("í", 1.1, 1.25), ("í", 1.25, 1.4)]


def test_a_type_stands_for_the_tiers_of_all_speakers(story: Path) -> None:
    both = [*STORY[:1], tier("B", "utterance", aligned("b1", "ts4", "ts5", "na"), PARTICIPANT="Bela")]
    story.write_text(document(both), encoding="utf-8")
    assert [(s.text, s.speaker) for s in read(story, tier="utterance")] == [
        ("táá ya bísí", "Anna"),
        ("& adíí", "Anna"),
        ("na", "Bela"),
    ]
    with pytest.raises(
        InputError, match=r"^story\.eaf has no annotations in the tier or type 'C'; choose one of 'A', 'B'"
    ):
        read(story, tier="C")


def test_the_user_knows_better_than_the_keyboard(story: Path) -> None:
    assert {s.lang for s in read(story, tier="A-words")} == {"fr"}
    assert {s.lang for s in read(story, tier="A-words", lang="mdw")} == {"mdw"}
    assert {s.lang for s in read(story, tier="A-fr", lang="mdw")} == {"fra"}


def test_a_folder_of_documents_becomes_a_corpus(story: Path, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    write(tmp_path / "deep" / "other.flac", say("other"))
    (tmp_path / "deep" / "other.eaf").write_text(document(STORY, media=""), encoding="utf-8")
    (tmp_path / "deep" / "silent.eaf").write_text(document([]), encoding="utf-8")
    said: list[str] = []
    options = Options(tier="A", announce=said.append)
    done = write_corpus(read_elan(tmp_path, options), tmp_path / "out", source="x", format="elan", options=options)
    assert (done.n_utterances, done.n_speakers, done.languages) == (3, 1, ("mdw",))
    assert [s.id for s in done.skipped] == ["deep/other/a2"]  # it ends after its recording
    assert said == ["1 of 3 .eaf files have no annotations in such a tier."]


def test_a_recording_is_sought_inside_the_source_only(story: Path) -> None:
    outside = MEDIA.replace("./story%201.wav", "../../outside.wav").replace("story%201.wav", "outside.wav")
    write(story.parents[1] / "outside.wav", say("outside"))
    (story.parent / "below").mkdir()
    inside = story.rename(story.parent / "below" / "story.eaf")
    inside.write_text(document(STORY, media=outside), encoding="utf-8")
    missing = read(inside.parent)[0]
    assert missing.audio == inside.parent / "outside.wav"
    assert not missing.audio.exists()
    inside.write_text(document(STORY, media=MEDIA.replace("./story", "../story")), encoding="utf-8")
    assert read(inside.parents[1])[0].audio == inside.parents[1] / "story 1.wav"
    assert read(inside)[0].audio == inside.parent / "story 1.wav"  # not there: only the folder of the file was named
    os.unlink(story.parents[1] / "outside.wav")


def test_the_origin_of_the_recording_is_added(story: Path) -> None:
    shifted = MEDIA.replace("<MEDIA_DESCRIPTOR ", '<MEDIA_DESCRIPTOR TIME_ORIGIN="250" ')
    story.write_text(document(STORY, media=shifted), encoding="utf-8")
    assert spans(read(story, tier="A"))[0] == ("táá ya bísí", 0.35, 0.95)


BOMB = '<!DOCTYPE l [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>\n'
EXTERNAL = '<!DOCTYPE l [<!ENTITY a SYSTEM "file:///etc/passwd">]>\n'


@pytest.mark.parametrize("declaration", [BOMB, EXTERNAL, '<!DOCTYPE l SYSTEM "http://x.y/z.dtd">\n'])
def test_a_doctype_is_refused(story: Path, declaration: str) -> None:
    first, _, rest = document(STORY).partition("\n")
    story.write_text(f"{first}\n{declaration}{rest.replace('adíí', '&a;')}", encoding="utf-8")
    with pytest.raises(InputError, match=r"^story\.eaf: it declares a DOCTYPE, as no \.eaf file does; remove"):
        read(story)


def reversed_slots(text: str) -> str:
    return text.replace('"700"', '"100"')


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (reversed_slots, "the annotation 'a1' lasts from 0.1 s to 0.1 s"),
        (lambda t: t.replace('"700"', '"NaN"'), "TIME_VALUE of 'ts4' is 'NaN' and must be whole milliseconds"),
        (lambda t: t.replace('"700"', '"-700"'), "TIME_VALUE of 'ts4' is '-700'"),
        (lambda t: t.replace('"700"', f'"{"9" * 400}"'), "TIME_VALUE of 'ts4' is '999"),
        (lambda t: t.replace('TIME_SLOT_REF2="ts4"', 'TIME_SLOT_REF2="ts99"'), "names the time slot 'ts99'"),
        (lambda t: t.replace('TIME_SLOT_ID="ts6"', 'TIME_SLOT_ID="ts5"'), "the time slot 'ts5' comes twice"),
        (lambda t: t.replace('ANNOTATION_ID="a2"', 'ANNOTATION_ID="a1"'), "the annotation 'a1' comes twice"),
        (lambda t: t.replace('TIER_ID="A-fr"', 'TIER_ID="A"'), "the tier 'A' comes twice"),
        (lambda t: t.replace(' TIME_SLOT_REF1="ts1"', ""), "an element lacks its TIME_SLOT_REF1"),
        (lambda t: t.replace("</TIER>", "", 1), "no well-formed XML in line"),
        (lambda t: t.replace("táá", "t\0áá"), "no well-formed XML in line"),
        (lambda t: t.replace("ANNOTATION_DOCUMENT", "html"), "it starts with <html>; name an .eaf file"),
        (lambda t: t.replace("UTF-8", "latin-99"), "encoding"),
        (lambda t: t.replace("táá ya", "<b>" * 1_000_000), "its elements nest more than 16 deep"),
    ],
)
def test_a_bad_document_is_one_sentence(story: Path, change: object, sentence: str) -> None:
    assert callable(change)
    story.write_text(change(document(STORY)), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read(story, tier="A")
    assert sentence in str(caught.value)
    assert str(caught.value).startswith("story.eaf: ")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("annotations", "sentence"),
    [
        ([referring("r1", "r1", "x")], "'r1' refers to itself"),
        ([referring("r1", "r2", "x"), referring("r2", "r1", "y")], "'r1' refers to itself"),
        ([referring("r1", "a99", "x")], "'r1' refers to 'a99', not there"),
        ([referring("r1", "a1", "x", "r1")], "do not follow one another"),
        ([referring("r1", "a1", "x", "r2"), referring("r2", "a1", "y", "r1")], "do not follow one another"),
        ([referring("r1", "a1", "x"), referring("r2", "a1", "y")], "do not follow one another"),
    ],
)
def test_references_that_lead_nowhere_are_one_sentence(story: Path, annotations: list[str], sentence: str) -> None:
    bad = tier("bad", "parts", *annotations, PARENT_REF="A")
    story.write_text(document([*STORY, bad]), encoding="utf-8")
    with pytest.raises(InputError, match=sentence):
        read(story, tier="bad")
    assert len(read(story, tier="A")) == 2  # another tier does not suffer


def test_a_chain_of_references_may_be_long_but_not_endless(story: Path) -> None:
    chain = [referring(f"r{n}", f"r{n - 1}" if n else "a1", "x") for n in range(150)]
    for number in (50, 149):
        last = tier("last", "gloss", referring("end", f"r{number}", "fin"))
        story.write_text(document([*STORY, tier("chain", "gloss", *chain), last]), encoding="utf-8")
        if number == 50:
            assert spans(read(story, tier="last")) == [("fin", 0.1, 0.7)]
    with pytest.raises(InputError, match="references nest more than 100 deep at 'end'"):
        read(story, tier="last")


def test_tiers_that_nest_deeply_overflow_no_stack(story: Path) -> None:
    deep = [tier(f"t{n}", "utterance", PARENT_REF=f"t{n + 1}") for n in range(5_000)]
    story.write_text(document([*STORY, *deep]), encoding="utf-8")
    assert len(read(story, tier="A")) == 2


def test_tiers_in_a_circle_and_slots_without_any_time(story: Path) -> None:
    circle = [STORY[0].replace("<TIER ", '<TIER PARENT_REF="A-words" '), *STORY[1:]]
    story.write_text(document(circle), encoding="utf-8")
    with pytest.raises(InputError, match="is its own parent"):
        read(story)
    lost = tier("lost", "utterance", aligned("l1", "ts2", "ts3", "x"))
    story.write_text(document([lost]), encoding="utf-8")
    with pytest.raises(InputError, match="the time slot 'ts2' has no time, nor has any before or after it; align it"):
        read(story)


def test_what_is_no_elan_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no \.eaf file"):
        read(tmp_path)
    (tmp_path / "a.eaf").write_bytes(b"")
    with pytest.raises(InputError, match=r"^a\.eaf is empty; save it again\.$"):
        read(tmp_path)
    (tmp_path / "a.eaf").write_text(document([]))
    with pytest.raises(InputError, match=r"^a\.eaf has no annotation with text; annotate in ELAN first\.$"):
        read(tmp_path)
    with (tmp_path / "a.eaf").open("wb") as file:
        file.truncate(300_000_000)  # no byte of it is read
    with pytest.raises(InputError, match="300,000,000 bytes, at most 200,000,000"):
        read(tmp_path)
