"""Errors of transcripts: what is counted, what is resampled together."""

from pathlib import Path

import numpy as np
import pytest

from metavox.contracts import Utterance
from metavox.metrics import edit_distance
from metavox.transcription.adapting import Reached
from metavox.transcription.scoring import change, errors_of


def people(*speakers: str | None, lang: str | None = None) -> list[Utterance]:
    return [Utterance(f"u{i}", Path(f"{i}.wav"), 1.0, speaker=who, lang=lang) for i, who in enumerate(speakers)]


SAID = ("a bad cab", "dad", "fee bee", "dad")
HEARD = ("a bat cab", "", "feebee", "dad d")


def test_edits_are_those_of_each_pair_with_blanks_counted() -> None:
    found = errors_of(Reached(SAID, HEARD), people(None, None, None, None))
    for said, heard, edits, length in zip(SAID, HEARD, found.char_edits, found.chars, strict=True):
        assert edits == edit_distance(said, heard).edits
        assert length == len(said)
    assert found.word_edits is not None
    assert found.word_edits.tolist() == [1, 1, 2, 1]
    assert found.rate == found.cer().mean == (1 + 3 + 1 + 2) / 22
    wer = found.wer()
    assert wer is not None
    assert wer.mean == 5 / 7


def test_blanks_do_not_count_where_they_part_no_words() -> None:
    found = errors_of(Reached(("zhong1 guo2", "ma1"), ("zhong1guo2", "ma2")), people("x", "y", lang="cmn"))
    assert found.char_edits.tolist() == [0, 1]
    assert found.chars.tolist() == [10, 3]
    assert found.wer() is None
    mixed = [*people("x", lang="cmn"), *people("y", lang="ml")]
    assert errors_of(Reached(("a b", "a b"), ("ab", "ab")), mixed).char_edits.tolist() == [0, 1]


def test_speakers_are_resampled_from_ten_on_and_sentences_before() -> None:
    nine, ten = [f"s{i}" for i in range(9)], [f"s{i}" for i in range(10)]
    texts = tuple(f"a{i % 3}" for i in range(20))
    few = errors_of(Reached(texts, texts), people(*(nine[i % 9] for i in range(20))))
    many = errors_of(Reached(texts, texts), people(*(ten[i % 10] for i in range(20))))
    unknown = errors_of(Reached(texts, texts), people(*(ten[i % 10] if i else None for i in range(20))))
    assert (few.clustered_by, few.cer().n_clusters) == ("sentence", (3,))
    assert (many.clustered_by, many.cer().n_clusters) == ("speaker", (10,))
    assert unknown.clustered_by == "sentence"


def test_a_change_is_after_less_before_on_the_same_utterances() -> None:
    rng = np.random.default_rng(0)
    said = tuple("".join(rng.choice(list("abc"), 8)) for _ in range(40))
    worse = tuple(text[:-2] for text in said)
    before, after = (errors_of(Reached(said, heard), people(*[None] * 40)) for heard in (worse, said))
    found = change(before, after)
    assert found.difference == pytest.approx(-0.25)
    assert found.high < 0
    assert change(after, after).difference == 0
