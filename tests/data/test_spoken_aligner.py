"""The aligner that uses a recogniser, with one that reads tones: times of words are known."""

import json
import pickle
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from metavox.cli import app
from metavox.cli.data_align import _spoken
from metavox.contracts import InputError
from metavox.data.manifests import load_corpus
from metavox.data.word_alignment import corpus as cutting
from metavox.data.word_alignment.corpus import align, aligner_for, cut_words
from metavox.data.word_alignment.spans import Span
from metavox.data.word_alignment.spoken import spoken_aligner
from metavox.text.symbols import Symbols
from metavox.transcription import load_recogniser
from tests.sounds import write
from tests.tones import RATE_HZ, ToneReader, recording, write_tones

TEXTS = ("pala tula varu", "tula ninna", "varu pala", "ninna varu tula")


def spans_of(wave: np.ndarray, words: list[str], lang: str = "", **reader: Any) -> list[Span]:
    with spoken_aligner(partial(ToneReader, **reader)) as align_words:
        found = align_words(wave, words, lang)
    assert found is not None
    return found


def off_ms(spans: list[Span], words: list[tuple[str, float, float]]) -> np.ndarray:
    times = np.array([(span.start_s, span.end_s) for span in spans])
    return 1000 * np.abs(times - np.array([(start, end) for _, start, end in words]))


@pytest.mark.parametrize("peaky", [False, True])
def test_words_are_found_where_they_are_said(peaky: bool) -> None:
    wave, words = recording([(0.7, "pala"), (2.0, "tula varu"), (5.0, "a")], 6.0)
    spans = spans_of(wave, ["Pala,", "tula", "varu", "a"], peaky=peaky)
    assert off_ms(spans, words).max() < 50
    assert min(span.confidence for span in spans) > 0.9
    assert all(before.end_s <= after.start_s for before, after in pairwise(spans))


def test_a_word_of_several_written_words_is_one() -> None:
    wave, words = recording([(1.0, "well known pala")], 5.0)
    spans = spans_of(wave, ["Well-known", "pala"])
    assert off_ms(spans, [("", words[0][1], words[1][2]), words[2]]).max() < 50


def test_digital_silence_moves_no_time() -> None:
    wave, words = recording([(0.0, "pala tula")], 1.3)
    spans = spans_of(np.pad(wave, (2 * RATE_HZ, RATE_HZ)), ["pala", "tula"])
    assert off_ms(spans, [(word, start + 2, end + 2) for word, start, end in words]).max() < 50


def test_another_text_is_less_sure() -> None:
    wave, _ = recording([(0.7, "pala tula")], 3.0)
    right, wrong = (spans_of(wave, words) for words in (["pala", "tula"], ["pala", "gonz"]))
    assert wrong[0].confidence == pytest.approx(right[0].confidence, rel=0.01)
    assert wrong[1].confidence < 0.1 * right[1].confidence


@pytest.mark.parametrize("numbers", [["1999"], ["19", "99"]])
def test_what_cannot_be_written_takes_what_its_neighbours_leave(numbers: list[str]) -> None:
    wave, words = recording([(1.0, "pala ninteen ninety tula")], 6.0)
    spans = spans_of(wave, ["pala", *numbers, "tula"])
    assert off_ms([spans[0], spans[-1]], [words[0], words[3]]).max() < 60
    assert [span.confidence for span in spans[1:-1]] == [0.0] * len(numbers)
    assert spans[0].confidence > 0.9
    assert spans[1].start_s == pytest.approx(words[1][1], abs=0.15)
    assert spans[-2].end_s == pytest.approx(words[2][2], abs=0.15)
    if len(numbers) == 2:  # a space parts them too
        assert spans[1].end_s == pytest.approx(words[1][2], abs=0.1)
        assert spans[2].start_s == pytest.approx(words[2][1], abs=0.1)


def test_letters_outside_a_native_alphabet_are_no_words() -> None:
    symbols = Symbols.native(["പാലം തുല"], "ml")
    wave = np.pad(write_tones("പാലം തുല", symbols), RATE_HZ)
    wave = (wave + 1e-3 * np.random.default_rng(0).standard_normal(len(wave))).astype(np.float32)
    found = spans_of(wave, ["പാലം", "തുല"], "ml", symbols=symbols)
    assert min(span.confidence for span in found) > 0.9
    other = spans_of(wave, ["പാലം", "abc"], "ml", symbols=symbols)
    assert (other[0].confidence > 0.9, other[1].confidence) == (True, 0.0)


def test_a_recording_too_short_for_its_words_has_none() -> None:
    with spoken_aligner(ToneReader) as align_words:
        wave, _ = recording([(0.0, "a")], 0.2)
        assert align_words(wave, ["pala", "tula", "ninna"], "") is None
        assert align_words(wave[:300], ["a"], "") is None
        assert align_words(np.zeros(9000, np.float32), ["a"], "") is None


def test_a_missing_package_is_told_and_no_word_is_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise InputError("Romanisation needs uroman.") from ImportError("uroman")

    wave, _ = recording([(0.5, "a")], 2.0)
    monkeypatch.setattr(Symbols, "encode", missing)
    with spoken_aligner(ToneReader) as align_words, pytest.raises(InputError, match="needs uroman"):
        align_words(wave, ["a"], "ml")


# -------------------------------------------------------------------------------------------------------------- corpus


@pytest.fixture
def sentences(tmp_path: Path) -> Path:
    folder, rows = tmp_path / "sentences", []
    for number, (text, speaker) in enumerate((text, who) for text in TEXTS for who in ("anna", "bela")):
        wave, _ = recording([(0.4, text)], 3.0, seed=number)
        write(folder / f"{number}.wav", wave)
        row = {"audio_filepath": f"{number}.wav", "duration": 3.0, "text": f"{text.title()}!", "speaker": speaker}
        rows.append(row | {"lang": "xx"})
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_sentences_become_words(sentences: Path, tmp_path: Path) -> None:
    cut = cut_words(sentences, tmp_path / "words", aligner="ctc", spoken=partial(spoken_aligner, ToneReader))
    words = load_corpus(tmp_path / "words")
    assert {word.label for word in words} == {"pala", "tula", "varu", "ninna"}
    assert (cut.aligners, cut.n_aligned, cut.n_takes) == ({"ctc": 8}, 20, 20)
    for word in words:
        length_s = 0.12 * len(word.text) - 0.04
        assert word.duration_s == pytest.approx(length_s, abs=0.16)


@pytest.mark.slow
def test_two_processes_find_the_same(sentences: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting, "TEXTS_PER_UNIT", 2)
    spoken = partial(spoken_aligner, ToneReader)
    one, two = (
        [
            (item.sentence.id, item.takes)
            for item in align(load_corpus(sentences), aligner="ctc", spoken=spoken, n_workers=n)
        ]
        for n in (1, 2)
    )
    assert one == two


def test_without_a_recogniser_it_is_refused(sentences: Path, tmp_path: Path) -> None:
    assert aligner_for(None, "ctc") == "ctc"
    with pytest.raises(InputError, match="The aligner ctc needs a recogniser"):
        cut_words(sentences, tmp_path / "words", aligner="ctc")
    assert not (tmp_path / "words").exists()


def test_another_process_can_be_told_how_to_open_it() -> None:
    spoken = _spoken("ctc", "exp/mine")
    again = pickle.loads(pickle.dumps(spoken))
    assert (again.func, again.args[0].func, again.args[0].args) == (spoken_aligner, load_recogniser, ("exp/mine",))
    assert _spoken("auto", None) is None


def test_the_verb_takes_a_model(sentences: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load(source: str) -> ToneReader:
        asked.append(source)
        return ToneReader()

    monkeypatch.setattr("metavox.transcription.load_recogniser", load)
    monkeypatch.setattr("metavox.data.corpora.n_cores", lambda: 1)
    call = ["data", "align", str(sentences), "--out", str(tmp_path / "words"), "--aligner", "ctc"]
    done = CliRunner().invoke(app, [*call, "--model", "exp/mine", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["n_takes"] == 20
    assert asked == ["exp/mine"]
    again = CliRunner().invoke(app, [*call[:4], str(tmp_path / "again"), *call[5:]])
    assert again.exit_code == 0, again.output
    assert asked[-1] == "metavox/asr-small"
    done = CliRunner().invoke(app, [*call[:4], str(tmp_path / "third"), "--model", "exp/mine"])
    assert isinstance(done.exception, InputError)
    assert "add --aligner ctc" in str(done.exception)
