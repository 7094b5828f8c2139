"""What corpora hold and share: counts against plain arithmetic, leaks that were planted and nothing else."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metavox.contracts import InputError, Utterance
from metavox.data.inspection import LEAK_KINDS, Part, content_digest, find_leaks, inspect_corpora, split_corpus
from metavox.data.layouts import speech_commands_split
from metavox.data.manifests import load_corpus
from tests.sounds import RATE_HZ, manifest_corpus, say, word_folders, write

WORDS, SPEAKERS = ("tula", "rime"), ("anna", "bela", "carl")


def add_keys(root: Path, **keys: Sequence[str | None]) -> None:
    """Write a key into the rows of a manifest, one value a row; None leaves it out."""
    rows = [json.loads(line) for line in (root / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]
    for key, values in keys.items():
        for row, value in zip(rows, values, strict=True):
            row.pop(key, None)
            row.update({} if value is None else {key: value})
    (root / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return manifest_corpus(tmp_path / "corpus", WORDS, SPEAKERS, n_takes=2)


def test_counts(corpus: Path) -> None:
    add_keys(corpus, gender=["female"] * 8 + ["male"] * 3 + [None], accent=["hill", *[None] * 11])
    (info,) = inspect_corpora([corpus]).corpora
    durations_s = [len(say(word, who, take)) / RATE_HZ for word in WORDS for who in SPEAKERS for take in range(2)]
    assert info.n_utterances == 12
    assert info.hours == pytest.approx(sum(durations_s) / 3600)
    assert (info.n_speakers, info.n_without_speaker) == (3, 0)
    assert info.languages == {"xx": 12}
    assert info.accents == {"hill": 1}
    assert list(info.genders.items()) == [("female", 8), ("male", 3)]
    assert (info.n_classes, info.takes) == (2, (6, 6.0, 6))
    assert info.n_texts == 2
    assert info.symbols == {character: 6 for character in "aeilmrtu"}
    assert list(info.symbols) == sorted(info.symbols)
    assert (info.duration_s[0], info.duration_s[2], info.duration_s[-1]) == pytest.approx(
        (min(durations_s), np.median(durations_s), max(durations_s))
    )
    assert (info.rates_hz, info.n_silent, info.splits) == ({16_000: 12}, 0, {})


def test_one_corpus_without_splits_has_no_leaks(corpus: Path) -> None:
    found = inspect_corpora([corpus])
    assert found.parts == ("corpus",)
    assert found.leaks == ()


def test_splits_of_a_manifest_are_compared(corpus: Path) -> None:
    # rows are word by word, speaker by speaker, two takes each: carl is the test, with the words of the others
    add_keys(corpus, split=(["train"] * 4 + ["test"] * 2) * 2)
    found = inspect_corpora([corpus])
    assert found.parts == ("corpus:train", "corpus:test")
    assert found.corpora[0].splits == {"train": 8, "test": 4}
    (leak,) = found.leaks
    assert (leak.kind, leak.first, leak.second) == ("word", "corpus:train", "corpus:test")
    assert (leak.n_shared, leak.n_first, leak.n_second, leak.examples) == (2, 8, 4, ("rime", "tula"))
    add_keys(corpus, split=["train", *[None] * 4, "test", *[None] * 6])
    found = inspect_corpora([corpus], audio=False)
    speakers = {(leak.first, leak.second): leak.examples for leak in found.leaks if leak.kind == "speaker"}
    assert found.corpora[0].rates_hz is None
    assert speakers == {
        ("corpus:train", "corpus:no split"): ("anna",),
        ("corpus:no split", "corpus:test"): ("carl",),
    }


def test_rows_without_a_split_are_a_part_of_their_own(corpus: Path) -> None:
    add_keys(corpus, split=["train", *[None] * 11])
    assert {k: len(v) for k, v in split_corpus(corpus, load_corpus(corpus)).items()} == {"train": 1, "no split": 11}
    assert split_corpus(corpus / "manifest.jsonl", load_corpus(corpus)).keys() == {"train", "no split"}
    add_keys(corpus, split=["train", *[" "] * 11])
    with pytest.raises(InputError, match=r"manifest\.jsonl:2: split is ' ' and must be the name of a part"):
        split_corpus(corpus, load_corpus(corpus))


def test_parts_of_speech_commands(tmp_path: Path) -> None:
    for who in ("3cc5", "0a7c", "77ab"):
        write(tmp_path / "up" / f"{who}_nohash_0.wav", say("up", who))
    (tmp_path / "validation_list.txt").write_text("up/3cc5_nohash_0.wav\n")
    (tmp_path / "testing_list.txt").write_text("up/0a7c_nohash_0.wav\n")
    parts = split_corpus(tmp_path, load_corpus(tmp_path))
    assert {part: [u.speaker for u in us] for part, us in parts.items()} == {
        "train": ["77ab"],
        "validation": ["3cc5"],
        "test": ["0a7c"],
    }
    (tmp_path / "testing_list.txt").unlink()
    by_hash = split_corpus(tmp_path, load_corpus(tmp_path))
    assert {u.speaker: part for part, us in by_hash.items() for u in us} == {
        who: speech_commands_split(who) for who in ("3cc5", "0a7c", "77ab")
    }


def test_word_folders_have_no_parts(tmp_path: Path) -> None:
    root = word_folders(tmp_path, ("tula",), ("anna",), 2)
    assert split_corpus(root, load_corpus(root)) == {}


# ----------------------------------------------------------------------------------------------------- same recordings


def test_a_copy_is_found_under_another_name_format_and_padding(tmp_path: Path) -> None:
    wave = np.rint(say("tula") * 32767) / 32768
    write(tmp_path / "a" / "x" / "1.wav", wave)
    write(tmp_path / "a" / "y" / "2.flac", np.pad(wave, (0, 4_000)))
    write(tmp_path / "b" / "z" / "3.wav", wave)
    write(tmp_path / "b" / "z" / "4.wav", say("tula", take=1))
    found = inspect_corpora([tmp_path / "a", tmp_path / "b"])
    within, between = (leak for leak in found.leaks if leak.kind == "recording")
    assert (within.first, within.second, within.n_shared, within.n_first) == ("a", "a", 1, 2)
    assert within.examples == ("x/1 = y/2",)
    assert (between.first, between.second, between.n_shared, between.n_first, between.n_second) == ("a", "b", 1, 2, 1)
    assert between.examples == ("x/1 = z/3",)


def test_contents_differ_where_one_sample_does(tmp_path: Path) -> None:
    wave = np.rint(say("tula") * 32767) / 32768
    other = wave.copy()
    other[len(wave) // 2] += 1 / 32768
    paths = [write(tmp_path / f"{n}.wav", w) for n, w in enumerate((wave, other, wave))]
    first, second, third = (content_digest(path, RATE_HZ) for path in paths)
    assert first == third != second
    slow = write(tmp_path / "slow.wav", wave, 8_000)
    assert content_digest(slow, 8_000) != first


def test_silence_is_counted_and_is_no_copy(tmp_path: Path) -> None:
    for name in ("x/1.wav", "x/2.wav", "y/1.wav"):
        write(tmp_path / "a" / name, np.zeros(4_000))
    found = inspect_corpora([tmp_path / "a"])
    assert found.corpora[0].n_silent == 3
    assert found.leaks == ()


def test_without_audio_no_file_is_decoded(corpus: Path) -> None:
    for path in corpus.rglob("*.wav"):
        path.write_bytes(path.read_bytes()[:100])
    assert inspect_corpora([corpus], audio=False).corpora[0].n_silent is None
    with pytest.raises(InputError, match=r"\.wav is truncated"):
        inspect_corpora([corpus])


def test_progress_and_corpora_of_one_name(tmp_path: Path) -> None:
    one = manifest_corpus(tmp_path / "1" / "c", WORDS, SPEAKERS[:1])
    two = manifest_corpus(tmp_path / "2" / "c", WORDS, SPEAKERS[1:2])
    calls: list[tuple[int, int]] = []
    found = inspect_corpora([one, two], progress=lambda done, total: calls.append((done, total)))
    assert found.parts == (str(one), str(two))
    assert calls == [(8, 8)]
    with pytest.raises(InputError, match=r"is named twice; name each corpus once\.$"):
        inspect_corpora([one, one / ".." / "c"])


# --------------------------------------------------------------------------------------------------------------- leaks


def utterance(number: int, speaker: str | None, text: str, label: str | None) -> Utterance:
    return Utterance(str(number), Path(f"{number}.wav"), 1.0, text, label, speaker)


facts = st.tuples(
    st.sampled_from(["anna", "bela", None]),
    st.sampled_from(["yes  Sir", "Yes sir", "no", ""]),
    st.sampled_from(["up", None]),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(facts, max_size=4), max_size=4), st.lists(st.integers(0, 5), min_size=16, max_size=16))
def test_leaks_are_those_that_comparing_every_pair_finds(drawn: list[list[tuple]], ids: list[int]) -> None:
    number = iter(range(100))
    parts = [Part(f"p{n}", tuple(utterance(next(number), *f) for f in rows)) for n, rows in enumerate(drawn)]
    contents = {u.path: bytes([ids[int(u.id)]]) if ids[int(u.id)] else None for part in parts for u in part.utterances}

    def same(kind: str, a: Utterance, b: Utterance) -> bool:
        if kind == "recording":
            return contents[a.path] is not None and contents[a.path] == contents[b.path] and a.id != b.id
        if kind == "speaker":
            return a.speaker is not None and a.speaker == b.speaker
        if kind == "word":
            return a.label is not None and a.label == b.label
        texts = {" ".join(u.text.lower().split()) for u in (a, b)}
        return a.label is None and b.label is None and len(texts) == 1 and texts != {""}

    expected = {}
    for kind in LEAK_KINDS:
        for i, one in enumerate(parts):
            for other in parts[i if kind == "recording" else i + 1 :]:
                n_first = sum(any(same(kind, a, b) for b in other.utterances) for a in one.utterances)
                n_second = sum(any(same(kind, a, b) for a in one.utterances) for b in other.utterances)
                if n_first:
                    expected[kind, one.name, other.name] = (n_first, n_second)
    leaks = find_leaks(parts, contents)
    assert {(leak.kind, leak.first, leak.second): (leak.n_first, leak.n_second) for leak in leaks} == expected
    assert [LEAK_KINDS.index(leak.kind) for leak in leaks] == sorted(LEAK_KINDS.index(leak.kind) for leak in leaks)
    assert all(1 <= len(leak.examples) <= leak.n_shared for leak in leaks)


@pytest.mark.real
def test_real_corpora_share_words_at_most(data_root: Path) -> None:
    mini, digits = inspect_corpora([data_root / "speech_commands_mini", data_root / "bengali_digits"]).corpora
    assert (mini.n_utterances, mini.n_classes, mini.rates_hz) == (200, 20, {16_000: 200})
    assert digits.n_silent == 0  # padded, yet none is empty
    found = inspect_corpora([data_root / "speech_commands_mini", data_root / "lithuanian_commands"], audio=False)
    assert {leak.kind for leak in found.leaks} == {"word"}  # stop is Lithuanian, too
