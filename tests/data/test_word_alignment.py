"""Words cut from sentences: tokens, warping, the aligners against known times, and the corpus that comes out."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from metavox.audio import read
from metavox.contracts import InputError, Utterance
from metavox.data.manifests import load_corpus
from metavox.data.synth_process import Voice
from metavox.data.word_alignment import corpus as cutting
from metavox.data.word_alignment.corpus import ALIGNERS, Keep, Take, align, aligner_for, cut_words, frequent, is_sure
from metavox.data.word_alignment.levels import frame_levels, pause_level
from metavox.data.word_alignment.proportional import energy_aligner
from metavox.data.word_alignment.spans import Span
from metavox.data.word_alignment.synthetic import synthetic_aligner, word_starts
from metavox.data.word_alignment.tokens import label_of, n_letters, spoken_words
from metavox.data.word_alignment.warping import LEAP_COST, REST_COST, States, warp
from tests.sounds import RATE_HZ, say, write

QUIET = 1e-3


def sentence(words: list[str], speaker: str = "anna", gap_s: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Words of ours in a row, and where each begins and ends in seconds; noise all over, half a second at the ends."""
    rng = np.random.default_rng(0)
    parts, times, at = [np.zeros(RATE_HZ // 2)], [], 0.5
    for take, word in enumerate(words):
        wave = say(word, speaker, take)
        loud = np.flatnonzero(np.abs(wave) > 0.02)
        wave = wave[loud[0] : loud[-1] + 1]
        parts += [wave, np.zeros(round(gap_s * RATE_HZ))]
        times.append((at, at + len(wave) / RATE_HZ))
        at = times[-1][1] + gap_s
    wave = np.concatenate([*parts, np.zeros(RATE_HZ // 2)])
    return (wave + QUIET * rng.standard_normal(len(wave))).astype(np.float32), np.array(times)


# ------------------------------------------------------------------------------------------------------------- tokens


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("“Don't”, he said - twice.", ["Don't", "he", "said", "twice"]),
        ("  a well-known \t 1,234 things!", ["a", "well-known", "1,234", "things"]),
        ("പാലം  കടന്നാലൊ കൂരായണ.", ["പാലം", "കടന്നാലൊ", "കൂരായണ"]),
        ("പിന്നെ് ,", ["പിന്നെ്"]),  # a mark at the end belongs to the word
        ("ṣùgbọ\u0301n,", ["ṣùgbọ\u0301n"]),
        ("... – !", []),
    ],
)
def test_words_are_what_is_written_without_the_punctuation_around_it(text, words):
    assert spoken_words(text) == words


@pytest.mark.parametrize(
    ("word", "label"),
    [
        ("Don’t", "don't"),
        ("Well-Known", "wellknown"),
        ("STRASSE", "strasse"),
        ("E\u0301te\u0301", "été"),
        ("പാലം", "പാലം"),
        ("ക്\u200cഷ", "ക്\u200cഷ"),  # a joiner inside a word is spelling
        ("boys'", "boys"),
    ],
)
def test_a_label_keeps_letters_marks_and_joiners(word, label):
    assert label_of(word) == label


def test_two_ways_to_write_a_malayalam_final_consonant_are_one_word():
    (old,), (new,) = spoken_words("ഞാന്\u200d"), spoken_words("ഞാൻ")
    assert label_of(old) == label_of(new)


@pytest.mark.parametrize(
    ("word", "n"), [("three", 5), ("പാലം", 4), ("മഴ", 2), ("കുട്ടി", 5), ("ṣùgbọ\u0301n", 6), ("don't", 4), ("42", 2)]
)
def test_vowel_signs_count_as_letters_and_accents_and_viramas_do_not(word, n):
    assert n_letters(word) == n


# ----------------------------------------------------------------------------------------------------- word boundaries


def test_several_events_of_one_token_are_one_word_that_starts_with_the_first():
    #       0    5         15
    words = ["in", "1234", "don't", "end"]  # positions 0, 3, 8, 14
    events = [(0, 0.0), (3, 0.2), (4, 0.5), (4, 0.9), (8, 1.3), (14, 2.0)]
    np.testing.assert_allclose(word_starts(words, events, 2.5), [0, 0.2, 1.3, 2.0])


def test_words_that_were_said_as_one_share_the_time_by_their_letters():
    starts = word_starts(["one", "of", "the", "best"], [(0, 0.0), (4, 0.2), (11, 0.7)], 1.0)
    np.testing.assert_allclose(starts, [0, 0.2, 0.2 + 0.5 * 2 / 5, 0.7])


def test_missing_and_stray_events_never_lose_a_word():
    assert word_starts(["a", "bb"], [], 0.9).tolist() == pytest.approx([0, 0.3])
    assert word_starts(["a", "bb"], [(0, 0.1), (99, 0.4)], 0.9).tolist() == pytest.approx([0, 0.4])
    assert word_starts(["a", "bb", "cc"], [(0, 0.0), (2, 0.8), (5, 0.5)], 1.0).tolist() == [0, 0.8, 0.8]  # in order


# ------------------------------------------------------------------------------------------------------------- warping


def states(rng: np.random.Generator, sizes: list[int]) -> States:
    word = [-1]
    for index, size in enumerate(sizes):
        word += [index] * size + [-1]
    return States(rng.standard_normal((len(word), 4)).astype(np.float32), np.array(word))


def cheapest(frames: np.ndarray, pause: np.ndarray, row: States) -> float:
    """A second implementation: one state at a time, in float64."""
    silent = row.word < 0
    local = np.linalg.norm(frames[:, None].astype(float) - row.frames[None], axis=2)
    local[:, silent] = pause[:, None]
    total, size = local.shape
    best = np.full((total, size), np.inf)
    best[0, :3] = local[0, :3]
    for t in range(1, total):
        for j in range(size):
            ways = []
            for step in range(4):
                if j - step >= 0:
                    over = sum(LEAP_COST for k in range(j - step + 1, j) if not silent[k])
                    stay = REST_COST if step == 0 and not silent[j] else 0
                    ways.append(best[t - 1, j - step] + over + stay)
            best[t, j] = min(ways) + local[t, j]
    return float(best[-1, -3:].min())


def test_the_path_is_the_cheapest_there_is():
    rng = np.random.default_rng(0)
    rows = [states(rng, [3, 2]), states(rng, [2, 4])]  # of different lengths, warped together
    for _ in range(20):
        frames = rng.standard_normal((9, 4)).astype(np.float32)
        pause = rng.uniform(0, 2, 9).astype(np.float32)
        paths = warp(frames, pause, rows)
        assert paths is not None
        for row, path in zip(rows, paths, strict=True):
            steps = np.diff(path.states)
            assert steps.min() >= 0
            assert steps.max() <= 3
            silent = row.word < 0
            cost = path.costs.sum() + REST_COST * (~silent[path.states[1:]][steps == 0]).sum()
            for before, after in pairwise(path.states):
                cost += LEAP_COST * (~silent[before + 1 : after]).sum()
            assert cost == pytest.approx(cheapest(frames, pause, row), abs=1e-4)


def test_a_recording_that_is_the_states_with_pauses_between_is_followed_frame_by_frame():
    row = states(np.random.default_rng(1), [5, 6])
    order = [0, 0, 0, 1, 2, 3, 4, 5, 6, 6, 6, 6, 7, 8, 9, 9, 10, 11, 12, 13]
    pause = np.where(row.word[order] < 0, 0.1, 2).astype(np.float32)
    (path,) = warp(row.frames[order], pause, [row]) or []
    assert path.states.tolist() == order


def test_a_recording_too_short_for_its_states_has_no_path():
    row = states(np.random.default_rng(0), [30])
    assert warp(np.zeros((8, 4), np.float32), np.ones(8, np.float32), [row]) is None


def test_the_level_of_a_pause_lies_between_noise_and_speech():
    quiet, loud = np.full(100, -60.0), np.full(100, -20.0)
    assert -60 < pause_level(np.concatenate([quiet, loud])) < -20
    assert np.isfinite(frame_levels(np.full((3, 40), np.log(np.finfo(np.float32).eps), np.float32))).all()


# ------------------------------------------------------------------------------------------------------------- aligners


def errors_ms(spans: list[Span] | None, times: np.ndarray) -> np.ndarray:
    assert spans is not None
    return 1000 * np.abs(np.array([(span.start_s, span.end_s) for span in spans]) - times)


def test_energy_finds_words_with_gaps_between_them():
    words = ["tula", "rime", "sakko", "febe"]
    wave, times = sentence(words, gap_s=0.25)
    with energy_aligner() as align_words:
        spans = align_words(wave, words, "xx")
    assert errors_ms(spans, times).max() < 60


def test_energy_gives_longer_words_more_time():
    tone = 0.3 * np.sin(np.arange(2 * RATE_HZ) / 9)
    wave = np.pad(tone, RATE_HZ // 2).astype(np.float32) + QUIET * np.random.default_rng(0).standard_normal(3 * RATE_HZ)
    with energy_aligner() as align_words:
        spans = align_words(wave.astype(np.float32), ["ab", "abcdefgh"], "xx")
    assert spans is not None
    short, long = (span.end_s - span.start_s for span in spans)
    assert long / short == pytest.approx(4, rel=0.35)
    assert spans[0].confidence < 0.3  # nothing says where one ends and the other begins


def test_no_aligner_finds_words_in_a_recording_shorter_than_they_are():
    with energy_aligner() as align_words:
        assert align_words(np.zeros(800, np.float32), ["word"] * 9, "xx") is None
        assert align_words(np.zeros(100, np.float32), ["word"], "xx") is None


@pytest.fixture(scope="module")
def reader():
    pytest.importorskip("espeakng_loader")
    with synthetic_aligner() as align_words:
        yield align_words


def spoken(text: str, voice_name: str) -> tuple[np.ndarray, np.ndarray]:
    """A sentence by espeak-ng with 0.5 s of noise before and after, and when its words start."""
    with Voice() as voice:
        take = {"voice": voice_name, "text": text, "rate_wpm": 130, "pitch": 60, "pitch_range": 60}
        reply = voice.ask({"do": "timed", "takes": [take]}, "speaking")["takes"][0]
    wave = np.frombuffer(base64.b64decode(reply["pcm"]), "<i2").astype(np.float32) / 32768
    starts = word_starts(text.split(), reply["words"], len(wave) / RATE_HZ)
    wave = np.pad(wave, RATE_HZ // 2)
    wave = wave + QUIET * np.random.default_rng(0).standard_normal(len(wave))
    return wave.astype(np.float32), starts + 0.5


SPOKEN = [  # language, voice, text
    ("en", "en-us+f2", "please turn off the lights before you leave the kitchen"),
    ("de", "de+m7", "morgen kommt meine schwester mit dem zug"),
    ("ml", "ml+f2", "പാലം കടക്കുവോളം നാരായണ പാലം കടന്നാലൊ കൂരായണ"),
]


@pytest.mark.synth
@pytest.mark.parametrize(("lang", "voice_name", "text"), SPOKEN)
def test_the_reader_finds_the_words_of_another_voice(reader, lang, voice_name, text):
    wave, starts = spoken(text, voice_name)
    spans = reader(wave, text.split(), lang)
    off = 1000 * np.abs([span.start_s - start for span, start in zip(spans, starts, strict=True)])
    assert np.median(off) < 25
    assert off.max() < 150
    assert np.median([span.confidence for span in spans]) > 0.6
    for before, after in pairwise(spans):
        assert 0 <= before.start_s <= before.end_s <= after.start_s


@pytest.mark.synth
def test_a_hesitation_is_no_part_of_a_word(reader):
    text = "please turn off the lights before you leave the kitchen"
    wave, starts = spoken(text, "en-us+f2")
    cut = round((starts[5] - 0.01) * RATE_HZ)
    silence = QUIET * np.random.default_rng(1).standard_normal(RATE_HZ)
    paused = np.concatenate([wave[:cut], silence, wave[cut:]]).astype(np.float32)
    plain, held = reader(wave, text.split(), "en"), reader(paused, text.split(), "en")
    assert held[5].start_s - held[4].end_s > 0.8
    assert held[4].start_s == pytest.approx(plain[4].start_s, abs=0.05)
    assert held[-1].end_s - 1 == pytest.approx(plain[-1].end_s, abs=0.05)


@pytest.mark.synth
def test_a_wrong_text_is_less_sure_than_the_right_one(reader):
    wave, _ = spoken(SPOKEN[0][2], "en-us+f2")
    right = reader(wave, SPOKEN[0][2].split(), "en")
    other = "nobody remembered any of the small yellow birds we saw there"
    wrong = reader(wave, other.split(), "en")
    assert np.mean([span.confidence for span in wrong]) < 0.5 * np.mean([span.confidence for span in right])


@pytest.mark.synth
def test_the_reader_has_no_words_for_what_cannot_be_said_or_is_too_short(reader):
    wave, _ = spoken("yes", "en-us")
    assert reader(wave, ["yes"] * 40, "en") is None
    assert reader(wave[:200], ["yes"], "en") is None
    assert reader(wave, ["..."], "en") is None


@pytest.mark.synth
@pytest.mark.real
def test_real_digits_spliced_to_sentences_are_found(reader, data_root):
    by_speaker: dict[str | None, list[Utterance]] = {}
    for utterance in load_corpus(data_root / "fsdd_en_digits"):
        by_speaker.setdefault(utterance.speaker, []).append(utterance)
    rng = np.random.default_rng(4)
    of_reader, of_energy = [], []
    with energy_aligner() as by_energy:
        for mine in [*by_speaker.values()] * 2:
            chosen = [mine[i] for i in rng.choice(len(mine), 5, replace=False)]
            parts, starts = [np.zeros(RATE_HZ // 4)], []
            for utterance in chosen:
                wave = read(utterance.path)
                loud = np.flatnonzero(np.abs(wave) > 0.05 * np.abs(wave).max())
                starts.append(sum(map(len, parts)) / RATE_HZ)
                parts += [0.5 * wave[loud[0] : loud[-1]] / np.abs(wave).max(), np.zeros(RATE_HZ // 20)]
            wave = np.concatenate([*parts, np.zeros(RATE_HZ // 4)])
            wave = (wave + 2e-3 * rng.standard_normal(len(wave))).astype(np.float32)
            words = [str(utterance.label) for utterance in chosen]
            for align_words, off in ((reader, of_reader), (by_energy, of_energy)):
                spans = align_words(wave, words, "en")
                off += [1000 * abs(s.start_s - start) for s, start in zip(spans[1:], starts[1:], strict=True)]
    assert np.median(of_reader) < 40
    assert np.mean(of_reader) < 0.7 * np.mean(of_energy)


# --------------------------------------------------------------------------------------------------------------- filter


def take(label: str = "tula", speaker: str | None = "anna", confidence: float = 0.9, length_s: float = 0.5) -> Take:
    utterance = Utterance("u", Path("u.wav"), 3.0, text=label, speaker=speaker, lang="xx")
    return Take(utterance, 0, label, label, Span(1.0, 1.0 + length_s, confidence), 0.95, 1.05 + length_s)


@pytest.mark.parametrize(
    ("one", "kept"),
    [
        (take(), True),
        (take(confidence=0.29), False),
        (take(confidence=0.3), True),
        (take(length_s=0.14), False),
        (take(length_s=2.1), False),
        (take("ab"), False),
        (take("മഴയ"), True),
    ],
)
def test_a_take_is_kept_for_its_confidence_length_and_letters(one, kept):
    assert is_sure(one, Keep()) is kept


def test_a_word_needs_takes_and_speakers_and_the_unnamed_are_one():
    takes = [take("tula", who) for who in ("anna", "anna", "anna", "bela")]
    takes += [take("rime", "anna") for _ in range(9)]
    takes += [take("febe", None) for _ in range(9)]
    takes += [take("golun", who) for who in ("anna", "bela", "carl")]
    assert {one.label for one in frequent(takes, Keep())} == {"tula"}
    assert {one.label for one in frequent(takes, Keep(min_speakers=1))} == {"tula", "rime", "febe"}
    assert {one.label for one in frequent(takes, Keep(min_takes=3))} == {"tula", "golun"}


# --------------------------------------------------------------------------------------------------------------- corpus

TEXTS = (["tula", "rime", "sakko"], ["rime", "febe", "tula"], ["febe", "sakko"])


@pytest.fixture
def sentences(tmp_path: Path) -> Path:
    """Three sentences by three speakers, and one recording that is too short for its text."""
    folder, rows = tmp_path / "sentences", []
    for speaker in ("anna", "bela", "carl"):
        for number, words in enumerate(TEXTS):
            wave, _ = sentence(words, speaker, gap_s=0.3)
            write(folder / f"{speaker}-{number}.wav", wave)
            row = {"audio_filepath": f"{speaker}-{number}.wav", "text": f"{' '.join(words).title()}.", "lang": "xx"}
            rows.append(row | {"duration": len(wave) / RATE_HZ, "speaker": speaker})
    write(folder / "short.wav", np.zeros(2400, np.float32))
    rows.append({"audio_filepath": "short.wav", "text": "tula rime sakko", "duration": 0.15, "lang": "xx"})
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_sentences_become_a_corpus_of_words(sentences, tmp_path):
    told = []
    cut = cut_words(sentences, tmp_path / "words", report=lambda *what: told.append(what))
    words = load_corpus(tmp_path / "words")
    assert {word.label for word in words} == {"tula", "rime", "sakko", "febe"}
    assert {word.text for word in words} == {"Tula", "Rime", "Sakko", "Febe"}
    assert {(word.speaker, word.lang) for word in words} == {(who, "xx") for who in ("anna", "bela", "carl")}
    assert (cut.n_sentences, cut.n_takes, cut.n_words, cut.n_speakers) == (10, len(words), 4, 3)
    assert cut.skipped == {"too short for its words": 1}
    assert cut.aligners == {"energy": 10}
    assert cut.n_aligned == 24
    assert told[0] == ("sentences", 1, 10)
    assert told[-1] == ("clips", len(words), len(words))
    for word in words:
        info = soundfile.info(str(word.path))
        assert (info.samplerate, info.format, info.frames / RATE_HZ) == (RATE_HZ, "FLAC", word.duration_s)
        spoken_s = len(say(word.label, word.speaker)) / RATE_HZ
        assert word.duration_s == pytest.approx(spoken_s, abs=0.2)


def test_each_clip_holds_its_word_and_not_its_neighbours(sentences, tmp_path):
    """The samples of a clip stand in its sentence where the word was put, give or take the margin."""
    cut_words(sentences, tmp_path / "words")
    for clip in load_corpus(tmp_path / "words"):
        name, index = clip.id.rsplit("-", 1)
        speaker, number = name.split("-")
        wave, times = sentence(TEXTS[int(number)], speaker, gap_s=0.3)
        found = read(clip.path)
        wave = read(sentences / f"{name}.wav")
        at = np.correlate(wave, found, "valid").argmax() / RATE_HZ
        start, end = times[int(index)]
        assert at == pytest.approx(start, abs=0.12)
        assert at + len(found) / RATE_HZ == pytest.approx(end, abs=0.12)


def test_two_processes_cut_the_same_words(sentences, tmp_path, monkeypatch):
    monkeypatch.setattr(cutting, "TEXTS_PER_UNIT", 2)
    one = [(item.sentence.id, item.takes) for item in align(load_corpus(sentences))]
    two = [(item.sentence.id, item.takes) for item in align(load_corpus(sentences), n_workers=2)]
    assert one == two


@contextmanager
def broken_aligner() -> Iterator[None]:
    raise OSError("out of order")
    yield


def test_an_interruption_leaves_nothing_behind(sentences, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(cutting, "_write_clip", fail)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(OSError, match="disk full"):
        cut_words(sentences, tmp_path / "words")
    monkeypatch.setitem(ALIGNERS, "energy", broken_aligner)
    with pytest.raises(OSError, match="out of order"):
        cut_words(sentences, tmp_path / "words")
    assert sorted(tmp_path.iterdir()) == before


def test_what_cannot_be_cut_is_one_sentence_with_its_remedy(sentences, tmp_path):
    out = tmp_path / "words"
    with pytest.raises(InputError, match=r"has 6 from 3; cut its words by .* a lower --min-takes or"):
        cut_words(sentences, out, keep=Keep(min_takes=7))
    with pytest.raises(InputError, match=r"best confidence is \d\.\d\d and 1\.5 is asked for"):
        cut_words(sentences, out, keep=Keep(confidence=1.5))
    with pytest.raises(InputError, match="no aligner 'hmm'; choose one of auto, synthetic, energy, ctc"):
        cut_words(sentences, out, aligner="hmm")
    with pytest.raises(InputError, match=r"'xx'.* or take the aligner energy\."):
        cut_words(sentences, out, aligner="synthetic")
    rows = (sentences / "manifest.jsonl").read_text().splitlines()
    silent = [json.dumps(json.loads(row) | {"text": " - "}) + "\n" for row in rows]
    (sentences / "manifest.jsonl").write_text("".join(silent))
    with pytest.raises(InputError, match=r"None of the 10 recordings .* has a text to take words from; write"):
        cut_words(sentences, out)
    assert not out.exists()
    with pytest.raises(InputError, match="is not empty"):
        cut_words(sentences, sentences)


def test_the_synthesiser_reads_what_it_speaks_and_energy_takes_the_rest():
    assert aligner_for("en", "auto") == "synthetic"
    assert aligner_for("mdw", "auto") == aligner_for(None, "auto") == "energy"
    assert aligner_for("en", "energy") == "energy"
    with pytest.raises(InputError, match="must know the language"):
        aligner_for(None, "synthetic")
