"""From file to words with their times, with a recogniser that reads tones: text and times are known."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metavox.contracts import InputError
from metavox.data.word_alignment.spoken import hear, word_limits
from metavox.runtime.segments import Cutting
from metavox.runtime.transcriber import Transcriber, geometric_mean, symbol_runs, word_places
from metavox.text.align import ctc_align
from metavox.text.decode import Decoded, greedy
from metavox.text.ngram import NGram
from metavox.text.symbols import UNIVERSAL, Symbols
from tests.sounds import write
from tests.tones import RATE_HZ, ToneReader, recording

TALK = [(1.0, "pala tula"), (6.5, "ninna varu"), (13.0, "a")]


@pytest.fixture(scope="module")
def talk() -> tuple[np.ndarray, list[tuple[str, float, float]]]:
    return recording(TALK, 16.0)


# ------------------------------------------------------------------------------------------------------ text and times


@pytest.mark.parametrize("peaky", [False, True])
@pytest.mark.parametrize("decoding", ["greedy", "beam"])
def test_words_are_read_where_they_are_said(talk: Any, peaky: bool, decoding: Any) -> None:
    wave, words = talk
    transcript = Transcriber(ToneReader(peaky=peaky), model="tones", decoding=decoding).transcribe((wave, RATE_HZ))
    assert transcript.text == "pala tula ninna varu a"
    assert [segment.text for segment in transcript.segments] == [text for _, text in TALK]
    assert (transcript.name, transcript.model, transcript.duration_s) == ("array", "tones", 16.0)
    for word, (text, start_s, end_s) in zip(transcript.words, words, strict=True):
        assert word.text == text
        assert word.start_s == pytest.approx(start_s, abs=0.04)
        assert word.end_s == pytest.approx(end_s, abs=0.04)
        assert 0.9 < word.confidence <= 1
    for segment in transcript.segments:
        assert segment.start_s <= segment.words[0].start_s
        assert segment.words[-1].end_s <= segment.end_s
        assert segment.start_s == pytest.approx(segment.words[0].start_s - 0.2, abs=0.08)


def test_tones_of_mandarin_stay_as_digits() -> None:
    wave, _ = recording([(1.0, "zhong1 guo2")], 4.0)
    transcript = Transcriber(ToneReader()).transcribe((wave, RATE_HZ))
    assert [word.text for word in transcript.words] == ["zhong1", "guo2"]


def test_a_file_of_any_kind_says_the_same(talk: Any, tmp_path: Path) -> None:
    import soxr

    wave, words = talk
    plain = write(tmp_path / "a.flac", wave)
    stereo = write(
        tmp_path / "b.wav", np.stack([wave, wave], 1).repeat(3, axis=0), 48_000
    )  # steps: images beyond 8 kHz
    slow = write(tmp_path / "c.wav", soxr.resample(wave, RATE_HZ, 44_100), 44_100)
    transcriber = Transcriber(ToneReader())
    for path in (plain, stereo, slow):
        transcript = transcriber.transcribe(path)
        assert transcript.name == str(path)
        assert [word.text for word in transcript.words] == [text for text, _, _ in words]
        assert all(abs(w.start_s - start) < 0.04 for w, (_, start, _) in zip(transcript.words, words, strict=True))
    assert transcriber.predict([str(plain), (wave, RATE_HZ)]) == ["pala tula ninna varu a"] * 2


def test_digital_silence_before_a_word_moves_no_time() -> None:
    """Front ends leave out zeros at the ends of what they are given."""
    noisy, words = recording([(2.0, "pala"), (5.0, "tula")], 7.0, noise=0.0)
    transcript = Transcriber(ToneReader()).transcribe((noisy, RATE_HZ))
    assert [word.text for word in transcript.words] == ["pala", "tula"]
    for word, (_, start_s, end_s) in zip(transcript.words, words, strict=True):
        assert word.start_s == pytest.approx(start_s, abs=0.04)
        assert word.end_s == pytest.approx(end_s, abs=0.04)


def test_zeros_around_a_segment_are_left_out_and_counted() -> None:
    wave = recording([(0.0, "pala")], 0.6)[0]
    log_probs, offset_s = hear(ToneReader(), wave) or (None, 0.0)
    padded, later_s = hear(ToneReader(), np.pad(wave, (1000, 5000))) or (None, 0.0)
    assert log_probs is not None
    np.testing.assert_array_equal(log_probs, padded)
    assert offset_s == pytest.approx(0.0075)
    assert later_s == pytest.approx(0.0075 + 1000 / RATE_HZ)
    assert hear(ToneReader(), np.zeros(9000, np.float32)) is None
    assert hear(ToneReader(), np.pad(wave[1600:1800], 9000)) is None


def test_an_hour_long_gap_and_late_words_have_their_own_times() -> None:
    """Times are those of the recording, not of the segment, however late."""
    parts = [(20.0 + 50 * k, "tula") for k in range(6)]
    wave, words = recording(parts, 300.0)
    told: list[tuple[float, float]] = []
    transcript = Transcriber(ToneReader()).transcribe((wave, RATE_HZ), lambda *seconds: told.append(seconds))
    assert [word.text for word in transcript.words] == ["tula"] * 6
    assert all(abs(w.start_s - start) < 0.04 for w, (_, start, _) in zip(transcript.words, words, strict=True))
    assert told == sorted(told)
    assert told[-1] == (300.0, 300.0)


def test_speech_without_pause_is_cut_and_still_read() -> None:
    text = " ".join(["pala"] * 40)  # 24 s of tones
    wave, _ = recording([(1.0, text)], 30.0)
    transcript = Transcriber(ToneReader(), cutting=Cutting(max_segment_s=5.0)).transcribe((wave, RATE_HZ))
    assert len(transcript.segments) >= 5
    assert all(segment.end_s - segment.start_s <= 5 for segment in transcript.segments)
    letters = transcript.text.replace(" ", "")
    assert abs(len(letters) - 160) <= 2 * len(transcript.segments)  # a symbol may lie on a cut


@pytest.mark.parametrize("sound", ["zeros", "noise", "short"])
def test_silence_is_an_empty_transcript(sound: str) -> None:
    rng = np.random.default_rng(0)
    wave = {"zeros": np.zeros(32_000), "noise": 0.01 * rng.standard_normal(90_000), "short": 0.1 * np.ones(9)}[sound]
    transcriber = Transcriber(ToneReader())
    assert transcriber.transcribe((wave.astype(np.float32), RATE_HZ)).segments == ()
    assert transcriber.predict([(wave.astype(np.float32), RATE_HZ)]) == [""]


def test_sound_in_which_nothing_is_heard_is_left_out(talk: Any) -> None:
    class Deaf(ToneReader):
        def log_probs(self, wave: np.ndarray) -> torch.Tensor:
            found = super().log_probs(wave).clone()
            found[:, 1:] = -20.0
            found[:, 0] = 0.0
            return found

    assert Transcriber(Deaf()).transcribe((talk[0], RATE_HZ)).segments == ()


# -------------------------------------------------------------------------------------------------------- beam and text


class Unsure(ToneReader):
    """Cannot tell p from t."""

    def log_probs(self, wave: np.ndarray) -> torch.Tensor:
        found = super().log_probs(wave).double().exp()
        p, t = (UNIVERSAL.encode(char)[0] for char in "pt")
        both = found[:, p] + found[:, t]
        found[:, p], found[:, t] = 0.49 * both, 0.51 * both
        return found.log().float()


def test_a_users_text_decides_between_sounds_that_are_alike(tmp_path: Path) -> None:
    wave, words = recording([(1.0, "pala pata")], 4.0)
    clip = (wave, RATE_HZ)
    assert Transcriber(Unsure()).predict([clip]) == ["tala tata"]
    (tmp_path / "text.txt").write_text("Pala, pata!\n\n - \npata pala; pala.\n", encoding="utf-8-sig")
    with_text = Transcriber(Unsure(peaky=True), decoding="beam", lm=tmp_path / "text.txt", lm_weight=1.0)
    transcript = with_text.transcribe(clip)
    assert transcript.text == "pala pata"
    for word, (_, start_s, end_s) in zip(transcript.words, words, strict=True):
        assert word.start_s == pytest.approx(start_s, abs=0.05)
        assert word.end_s == pytest.approx(end_s, abs=0.05)
    sure = Transcriber(ToneReader(peaky=True)).transcribe(clip).words  # what is chosen is no more likely for it
    assert transcript.words[0].confidence == pytest.approx(sure[0].confidence * 0.49**0.25, rel=1e-3)
    assert transcript.words[1].confidence == pytest.approx(sure[1].confidence * (0.49 * 0.51) ** 0.25, rel=1e-3)
    unweighted = Transcriber(Unsure(peaky=True), decoding="beam", lm=str(tmp_path / "text.txt"), lm_weight=0.0)
    assert unweighted.predict([clip]) == ["tala tata"]
    sentences = ["pala pata", "pata pala pala"]
    models = [
        NGram.from_texts(sentences, level="char"),
        NGram.from_texts(sentences, order=2, level="word"),
        NGram.from_texts([UNIVERSAL.encode(sentence) for sentence in sentences]),
    ]
    for model in models:
        assert Transcriber(Unsure(peaky=True), decoding="beam", lm=model, lm_weight=1.0).predict([clip]) == [
            "pala pata"
        ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        (b"\xff\xfe\x00", "is no UTF-8 text"),
        (b" \n --- \n", "holds no text"),
        (b"pala\n\nroom 7\nroom 8\nroom 9\n", "line 3: .*'7'.* 2 more lines"),
    ],
)
def test_a_text_that_cannot_be_used_is_one_sentence(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=said) as caught:
        Transcriber(ToneReader(), decoding="beam", lm=path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"lm": "text.txt"}, "set decoding='beam'"),
        ({"beam": 0}, "keep 1 to 1000"),
        ({"beam": 1001}, "keep 1 to 1000"),
        ({"lm_weight": -0.1}, "choose 0 to 10"),
        ({"lm_weight": math.nan}, "choose 0 to 10"),
    ],
)
def test_options_outside_their_range_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Transcriber(ToneReader(), **options)


def test_a_name_that_is_no_unicode_is_read(tmp_path: Path) -> None:
    wave, _ = recording([(0.5, "pala")], 2.0)
    assert Transcriber(ToneReader()).predict([write(tmp_path / "a\udcff.wav", wave)]) == ["pala"]


def test_what_is_no_clip_is_refused(tmp_path: Path) -> None:
    transcriber = Transcriber(ToneReader())
    with pytest.raises(InputError, match="does not exist"):
        transcriber.predict([tmp_path / "gone.wav"])
    with pytest.raises(InputError, match="no samples"):
        transcriber.transcribe((np.zeros(0, np.float32), RATE_HZ))


def test_a_model_is_opened_by_its_name(monkeypatch: pytest.MonkeyPatch, talk: Any) -> None:
    asked = []

    def load(source: str | Path) -> ToneReader:
        asked.append(source)
        return ToneReader()

    monkeypatch.setattr("metavox.transcription.load_recogniser", load)
    transcriber = Transcriber.from_pretrained("exp/mine", decoding="beam", beam=4)
    assert (asked, transcriber.model, transcriber.beam) == (["exp/mine"], "exp/mine", 4)
    assert transcriber.predict([(talk[0], RATE_HZ)]) == ["pala tula ninna varu a"]
    Transcriber.from_pretrained()
    assert asked[-1] == "metavox/asr-small"


# ------------------------------------------------------------------------------------------------------ words and runs


def test_words_are_what_stands_between_spaces() -> None:
    ids = UNIVERSAL.encode("a bc")
    space = UNIVERSAL.encode("a b")[1]
    assert word_places(ids, UNIVERSAL) == [[0], [2, 3]]
    assert word_places((space, *ids, space, space, *ids, space), UNIVERSAL) == [[1], [3, 4], [7], [9, 10]]
    assert word_places((space, space), UNIVERSAL) == word_places((), UNIVERSAL) == []


def test_without_spaces_every_character_with_its_marks_is_a_word() -> None:
    thai = "ที่นี่"
    symbols = Symbols.native([thai], "th")
    words = word_places(symbols.encode(thai), symbols)
    assert ["".join(symbols.decode([symbols.encode(thai)[i]]) for i in word) for word in words] == ["ที่", "นี่"]
    malayalam = Symbols.native(["പാലം"], "ml")
    assert len(word_places(malayalam.encode("പാലം"), malayalam)) == 1


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 30), st.integers(0, 10_000))
def test_runs_of_a_best_path_are_its_alignment(n_frames: int, seed: int) -> None:
    values = torch.from_numpy(3 * np.random.default_rng(seed).standard_normal((n_frames, 5))).log_softmax(-1).numpy()
    decoded = greedy(values)
    aligned = [(span.start_frame, span.end_frame) for span in ctc_align(values, decoded.ids)]
    assert symbol_runs(values, decoded) == aligned


def test_a_symbol_chosen_against_its_frame_has_that_frame_alone() -> None:
    blank, one = [0.6, 0.1, 0.3], [0.1, 0.8, 0.1]
    values = np.log(np.array([blank, blank, one, one, blank, blank]))
    decoded = Decoded((2, 1, 2), (1, 2, 5), 0.0, (0.3, 0.8, 0.3))
    assert symbol_runs(values, decoded) == [(1, 2), (2, 4), (5, 6)]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 6)), min_size=1, max_size=5), min_size=1, max_size=6),
    st.floats(0, 0.05),
)
def test_limits_are_in_order_hold_their_symbols_and_stay_within_the_gaps(
    lengths: list[list[tuple[int, int]]], offset_s: float
) -> None:
    words, at = [], 0
    for word in lengths:
        symbols = []
        for gap, length in word:
            symbols.append((at + gap, at + gap + length))
            at += gap + length
        words.append(symbols)
    limits = word_limits(words, 0.02, offset_s, 1000.0)
    flat = [time for limit in limits for time in limit]
    assert flat == sorted(flat)
    for index, (symbols, (start_s, end_s)) in enumerate(zip(words, limits, strict=True)):
        assert start_s <= symbols[0][0] * 0.02 + offset_s + 1e-9
        assert end_s >= symbols[-1][1] * 0.02 + offset_s - 1e-9
        if index:
            middle = (words[index - 1][-1][1] + symbols[0][0]) / 2
            assert start_s >= middle * 0.02 + offset_s - 1e-9
    assert word_limits(words, 0.02, offset_s, 0.1)[-1][1] <= 0.1
    assert word_limits([], 0.02, 0.0, 1.0) == []


def test_a_word_reaches_half_a_symbol_beyond_its_peaks() -> None:
    ((start_s, end_s),) = word_limits([[(10, 11), (14, 15), (18, 19)]], 0.02, 0.0, 9.0)
    assert (start_s, end_s) == (pytest.approx(0.02 * 8.5), pytest.approx(0.02 * 20.5))
    ((start_s, end_s),) = word_limits([[(10, 11), (90, 91)]], 0.02, 0.0, 9.0)
    assert (start_s, end_s) == (pytest.approx(0.21 - 0.1), pytest.approx(1.81 + 0.1))


def test_a_confidence_is_the_geometric_mean() -> None:
    assert geometric_mean([0.5, 0.125]) == pytest.approx(0.25)
    assert geometric_mean([1.0]) == 1
    assert geometric_mean([0.0, 1.0]) == pytest.approx(0, abs=1e-14)


def test_confidences_are_those_of_the_symbols() -> None:
    wave, _ = recording([(1.0, "pala lala")], 4.0)
    transcript = Transcriber(Unsure()).transcribe((wave, RATE_HZ))
    sure = Transcriber(ToneReader()).transcribe((wave, RATE_HZ))
    first, second = transcript.words
    assert first.confidence == pytest.approx(sure.words[0].confidence * 0.51**0.25, rel=1e-3)  # one symbol of four
    assert second.confidence == sure.words[1].confidence
    assert transcript.segments[0].confidence == pytest.approx((first.confidence * second.confidence) ** 0.5)


# ---------------------------------------------------------------------------------------------------------------- light


def test_transcription_loads_nothing_that_a_product_does_not_carry() -> None:
    heavy = ["lhotse", "transformers", "matplotlib", "scipy", "sklearn", "pandas", "uroman", "pypinyin", "rich"]
    script = (
        "import metavox.runtime.transcriber, metavox.runtime.captions, json, sys; print(json.dumps([*sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert not set(heavy) & set(json.loads(done.stdout))


def test_the_reader_of_tones_is_a_recogniser(talk: Any) -> None:
    reader = replace(ToneReader(), peaky=True)
    values = reader.log_probs(talk[0])
    torch.testing.assert_close(values.exp().sum(1), torch.ones(len(values)))
