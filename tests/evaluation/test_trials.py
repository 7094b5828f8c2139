"""Trials of verification: no clip on both sides, words as asked, and lists read or refused line by line."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from refusals import said

from metavox.contracts import Utterance
from metavox.evaluation import trials
from metavox.evaluation.trials import Block, drawn_blocks, listed_blocks, near_in_age, people_of

ROOT = Path("/corpus")


def corpus(n_people: int = 5, n_clips: int = 6, n_words: int = 3) -> list[Utterance]:
    return [
        Utterance(f"p{person}-{clip}", ROOT / f"audio/p{person}/{clip}.wav", 1.0, f"Word {clip % n_words}",
                  speaker=f"p{person}", gender=("male", "F")[person % 2], age=str(20 + 3 * person))
        for person in range(n_people) for clip in range(n_clips)
    ]  # fmt: skip


def pairs(blocks: list[Block]) -> list[tuple[tuple[int, ...], int, int]]:
    """Enrolled clips, speaker and test clip of every trial."""
    return [
        (tuple(block.voices[column].clips.tolist()), block.voices[column].speaker, int(block.tests[row]))
        for block in blocks
        for row, column in zip(*np.nonzero(block.is_trial), strict=True)
    ]


@pytest.mark.parametrize("text", ["any", "dependent", "independent"])
@pytest.mark.parametrize("enrol", [1, 2])
def test_no_clip_is_on_both_sides_and_words_are_as_asked(text: str, enrol: int) -> None:
    utterances = corpus(n_clips=9)
    people = people_of(utterances)
    blocks = drawn_blocks(people, utterances, enrol, 2, 7, text)
    found = pairs(blocks)
    assert found
    kinds = set()
    for clips, speaker, test in found:
        assert len(set(clips)) == enrol
        assert test not in clips
        assert {int(people.of_clip[clip]) for clip in clips} == {speaker}
        kinds.add(bool(people.of_clip[test] == speaker))
        words = {utterances[clip].text for clip in clips}
        if text == "dependent":
            assert words == {utterances[test].text}
        elif text == "independent":
            assert utterances[test].text not in words
    assert kinds == {True, False}


def test_everybody_is_held_against_everybody_in_every_draw() -> None:
    utterances = corpus()
    blocks = drawn_blocks(people_of(utterances), utterances, 2, 3, 0)
    assert sum(int(block.is_trial.sum()) for block in blocks) == 3 * 5 * (30 - 2)
    assert sorted(voice.draw for block in blocks for voice in block.voices) == sorted(5 * [0, 1, 2])
    drawn = {voice.draw: voice.clips.tolist() for block in blocks for voice in block.voices if voice.speaker == 1}
    assert len({tuple(clips) for clips in drawn.values()}) > 1


def test_what_enrols_a_speaker_depends_on_nobody_else() -> None:
    utterances = corpus()

    def of_p3(some: list[Utterance]) -> list[list[str]]:
        people = people_of(some)
        blocks = drawn_blocks(people, some, 2, 3, 5)
        return [[some[clip].id for clip in voice.clips] for block in blocks for voice in block.voices
                if people.names[voice.speaker] == "p3"]  # fmt: skip

    assert of_p3(utterances) == of_p3([one for one in utterances if one.speaker in ("p2", "p3")])
    assert of_p3(utterances) == of_p3(utterances[::-1]) or [sorted(one) for one in of_p3(utterances)] == [
        sorted(one) for one in of_p3(utterances[::-1])
    ]


def test_a_speaker_with_too_few_clips_is_an_impostor_only() -> None:
    utterances = [*corpus(3), replace(corpus(1)[0], id="x", path=ROOT / "x.wav", speaker="rare")]
    people = people_of(utterances)
    found = pairs(drawn_blocks(people, utterances, 2, 1, 0))
    rare = people.names.index("rare")
    assert rare not in {speaker for _, speaker, _ in found}
    assert rare in {int(people.of_clip[test]) for _, _, test in found}


def test_huge_sets_lose_trials_of_two_people_only(monkeypatch: pytest.MonkeyPatch) -> None:
    utterances = corpus(8, 10)
    people = people_of(utterances)
    whole = pairs(drawn_blocks(people, utterances, 2, 1, 0))
    monkeypatch.setattr(trials, "MAX_OTHERS", 200)
    monkeypatch.setattr(trials, "MAX_CELLS", 160)
    thinned = pairs(drawn_blocks(people, utterances, 2, 1, 0))
    same = [{one for one in some if people.of_clip[one[2]] == one[1]} for some in (whole, thinned)]
    assert same[0] == same[1]
    assert 100 < len(thinned) < 0.6 * len(whole)
    assert set(thinned) <= set(whole)


@pytest.mark.parametrize(
    ("a", "b", "near"),
    [("20", "25", True), ("20", "26", False), ("30-40", "30-40", True), ("20s", "20-29", True),
     ("twenties", "23", True), ("20-30", "30-40", False), (None, None, False),
     ("20", None, False), ("child", "Child", True)],
)  # fmt: skip
def test_ages_are_near_within_five_years_or_in_one_group(a: str | None, b: str | None, near: bool) -> None:
    assert near_in_age(a, b) is near_in_age(b, a) is near


def test_people_are_known_by_what_the_manifest_says() -> None:
    people = people_of(corpus())
    assert people.gender == ("male", "female") * 2 + ("male",)
    assert people.same_gender()[0].tolist() == [True, False, True, False, True]
    assert people.same_age()[0].tolist() == [True, True, False, False, False]
    unknown = people_of([replace(one, gender=None, age=None) for one in corpus()])
    assert not unknown.same_gender().any()
    assert not unknown.same_age().any()


# --------------------------------------------------------------------------------------------------------------- lists


def listed(tmp_path: Path, *lines: str) -> list[Block]:
    path = tmp_path / "trials.txt"
    path.write_text("\n".join(lines) + "\n")
    utterances = corpus()
    return listed_blocks(path, people_of(utterances), utterances, ROOT)


def test_a_list_names_clips_by_path_or_id(tmp_path: Path) -> None:
    lines = ["1 audio/p0/0.wav p0-1", "", "0 p0-0 audio/p1/2", "0 audio/p4/5.wav p0-0", "0 p0-0 audio/p1/2.wav"]
    found = pairs(listed(tmp_path, *lines))
    assert sorted(found) == [((0,), 0, 1), ((0,), 0, 8), ((29,), 4, 0)]


def test_long_lists_are_cut_into_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "MAX_CELLS", 16 * 24)
    lines = [f"{int(a // 6 == b // 6)} p{a // 6}-{a % 6} p{b // 6}-{b % 6}"
             for a in range(30) for b in range(30) if a != b and (a * b) % 3 == 1]  # fmt: skip
    blocks = listed(tmp_path, *lines)
    assert len(blocks) > 3
    assert len(pairs(blocks)) == len(set(lines)) == len(set(pairs(blocks)))
    assert max(block.is_trial.size for block in blocks) <= 24


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("2 p0-0 p0-1", "trials.txt:2: '2 p0-0 p0-1' is no trial; write 1 or 0"),
        ("1 p0-0", "'1 p0-0' is no trial"),
        ("1 my clip.wav p0-1", "is no trial"),
        ("1 p0-0 p9-9", "trials.txt:2: 'p9-9' is no recording of the corpus corpus"),
        ("1 p0-0 ../../etc/passwd", "'../../etc/passwd' is no recording"),
        ("1 p0-0 audio/p0/0.wav", "'p0-0' is on both sides of the trial"),
        ("0 p0-0 p0-2", "the trial says two people, and the speakers in the manifest are 'p0' and 'p0'"),
        ("1 p0-0 p1-2", "the trial says one person, and the speakers in the manifest are 'p0' and 'p1'"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, sentence: str) -> None:
    assert sentence in said(lambda: listed(tmp_path, "0 p0-0 p1-1", line))


def test_bad_lists_are_refused(tmp_path: Path) -> None:
    assert "has 0 trials of one person and 1 of two" in said(lambda: listed(tmp_path, "0 p0-0 p1-1"))
    utterances = corpus()
    people = people_of(utterances)
    (tmp_path / "latin").write_bytes(b"1 \xe9 b\n")
    assert "is not UTF-8 text" in said(lambda: listed_blocks(tmp_path / "latin", people, utterances, ROOT))
    assert "cannot be read" in said(lambda: listed_blocks(tmp_path / "none", people, utterances, ROOT))
    assert "cannot be read" in said(lambda: listed_blocks(tmp_path, people, utterances, ROOT))


def test_corpora_without_trials_are_refused() -> None:
    utterances = corpus()
    people = people_of(utterances)
    assert "0 of 5 speakers have the 7 clips that 6 to enrol" in said(lambda: drawn_blocks(people, utterances, 6, 1, 0))
    dependent = said(lambda: drawn_blocks(people, utterances, 2, 1, 0, "dependent"))
    assert "the 3 clips of one word that 2 to enrol" in dependent
    assert "by 1 speaker" in said(lambda: people_of(utterances[:3]))
    unnamed = [*utterances, replace(utterances[0], id="x", speaker=None)]
    assert "1 of 31 recordings name no speaker, the first being 'x'" in said(lambda: people_of(unnamed))
    wordless = [replace(one, text="") for one in utterances]
    assert "30 of 30 recordings have neither text nor label" in said(
        lambda: drawn_blocks(people, wordless, 1, 1, 0, "independent")
    )
