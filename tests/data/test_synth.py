"""Synthetic speech: which words and voices, the corpus on disk, and the process that speaks."""

import hashlib
import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from metavox.audio import check_take, probe, read
from metavox.contracts import InputError
from metavox.data import synth, synth_process, synth_words
from metavox.data.manifests import load_corpus
from metavox.data.synth import HIGH_VARIANTS, LOW_VARIANTS, SynthSpec, cached_corpus, speak, speakers, synthesize
from metavox.data.synth_process import Voice
from metavox.data.synth_words import CORE_LANGUAGES, LANGUAGES, NUMBERS, candidates, choose, find_language, readable

SMALL = SynthSpec(languages=("de", "sw"), n_words=8, n_voices=3, n_takes=2, seed=3)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("babel")
    pytest.importorskip("espeakng_loader")
    return synthesize(SMALL, tmp_path_factory.mktemp("synth") / "corpus", n_workers=2)


@pytest.fixture(scope="module")
def voice():
    pytest.importorskip("espeakng_loader")
    with Voice() as voice:
        yield voice


def digests(folder: Path, under: str = "") -> dict[str, str]:
    files = sorted(path for path in (folder / under).rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# ------------------------------------------------------------------------------------------------------------ words


@pytest.mark.parametrize("code", LANGUAGES)
def test_candidates_are_short_lower_case_words_in_one_script(code):
    pytest.importorskip("babel")
    words = candidates(code)
    assert len(words) > 300
    assert words == sorted(set(words))
    for word in words:
        assert word == unicodedata.normalize("NFC", word.lower())
        assert 2 <= len(word.replace(" ", "")) <= 14
        assert len(word.split(" ")) <= LANGUAGES[code].max_words
        assert all(char.isalpha() or unicodedata.combining(char) or char == " " for char in word), word
    scripts = {unicodedata.name(char).split()[0] for word in words for char in word if char.isalpha()}
    assert len(scripts) == 1


def test_candidates_do_not_depend_on_the_languages_read_before():
    pytest.importorskip("babel")
    program = "import json, sys; from metavox.data.synth_words import candidates; print(json.dumps(candidates('eu')))"
    alone = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    for code in ("az", "sw", "tr"):
        candidates(code)
    assert candidates("eu") == json.loads(alone.stdout)


def test_turkish_letters_are_lowered_as_in_turkish():
    pytest.importorskip("babel")
    words = candidates("tr")
    assert "isveç" in words
    assert "ırak" in words
    assert "irak" not in words


def test_readable_drops_what_cannot_be_told_apart_by_ear():
    phonemes = {
        "ja": "jˈaː",
        "kavi": "kˈaʋi",
        "kawi": "kˈaʋi",
        "cook": "(en)kˈʊk(de)",
        "rwa": "ˌɛɾvˌeːˈɑː",
        "haus": "hˈaʊs",
        "sehr lang": "a" * 25,
        "8": "ˈax",
        **{"r": "ˈɛɾ", "w": "vˈeː", "a": "ˈɑː", "h": "hˈɑː", "u": "ˈuː", "s": "ˈɛs", "k": "kˈɑː", "v": "fˈaʊ"},
        **{"i": "ˈiː", "c": "tsˈeː", "o": "ˈoː", "e": "ˈeː", "l": "ˈɛl", "n": "ˈɛn", "g": "ɡˈeː", "j": "jˈɔt"},
    }
    words = ["8", "ja", "kavi", "kawi", "cook", "rwa", "haus", "sehr lang"]
    assert readable(words, phonemes) == ["8", "kavi", "haus"]


def test_choice_is_nested_seeded_and_keeps_a_share_of_numbers():
    words = [str(n) for n in range(30)] + [chr(ord("a") + i) * 3 for i in range(26)]
    small, large = (choose("de", words, n, 0.25, seed=1) for n in (8, 40))
    assert set(small) < set(large)
    assert len(set(large)) == 40
    assert sum(word.isdecimal() for word in small) == 2
    assert choose("de", words, 8, 0.25, seed=1) == small
    assert choose("de", words, 8, 0.25, seed=2) != small
    assert choose("fi", words, 8, 0.25, seed=1) != small
    assert sum(word.isdecimal() for word in choose("de", words, 50, 0.0, seed=1)) == 24, "numbers fill up"
    with pytest.raises(InputError, match=r"German has 56 words .* n_words is 57; ask for at most 56"):
        choose("de", words, 57, 0.25, seed=1)


@pytest.mark.parametrize(("asked", "near"), [("german", "de"), ("finnish", "fi"), ("fin", "fi"), ("tur", "tr")])
def test_an_unknown_language_names_its_neighbour(asked, near, tmp_path):
    with pytest.raises(InputError, match=rf"{asked}.*\b{near}\b"):
        find_language(asked)
    with pytest.raises(InputError, match=rf"\b{near}\b"):
        synthesize(SynthSpec(languages=(asked,)), tmp_path / "x")
    with pytest.raises(InputError, match=rf"\b{near}\b"):
        speak("a", asked)
    assert not list(tmp_path.iterdir())


def test_the_languages_of_the_evaluation_are_left_out():
    assert not {"en", "ar", "bn", "lt", "cmn", "zh", "hi", "lv", "he", "ml"} & set(LANGUAGES)
    assert set(CORE_LANGUAGES) <= set(LANGUAGES)
    assert len(CORE_LANGUAGES) == 10


# ----------------------------------------------------------------------------------------------------- specification


@pytest.mark.parametrize(
    "bad",
    [
        {"n_word": 3},
        {"languages": ()},
        {"languages": ("de", "de")},
        {"pitch": (60, 40)},
        {"rate_wpm": (60, 100)},
        {"pitch_range": (0, 100)},
        {"n_words": 0},
    ],
)
def test_a_specification_out_of_range_is_refused(bad):
    with pytest.raises(ValidationError):
        SynthSpec(**bad)


def test_speakers_are_unlike_and_depend_on_their_language_only():
    few, many = SynthSpec(n_voices=4, seed=5), SynthSpec(languages=("tr", "de"), n_voices=90, seed=5)
    german = speakers(few, "de")
    assert german == speakers(many, "de")[:4]
    assert [speaker.voice.split("+")[1] in HIGH_VARIANTS for speaker in german] == [False, True, False, True]
    assert len({speaker.voice for speaker in german}) == 4
    assert german != speakers(few.model_copy(update={"seed": 6}), "de")
    everyone = [speaker for code in many.languages for speaker in speakers(many, code)]
    assert len({speaker.id for speaker in everyone}) == 180
    assert all(120 <= speaker.rate_wpm <= 210 and 35 <= speaker.pitch <= 65 for speaker in everyone)


# ------------------------------------------------------------------------------------------------------- the process


@pytest.mark.synth
@pytest.mark.parametrize("code", LANGUAGES)
def test_every_language_reads_its_words_apart_and_speaks(code, voice):
    pytest.importorskip("babel")
    words = [str(number) for number in NUMBERS] + candidates(code)
    asked = [*words, *synth_words.alphabet(words)]
    job = {"do": "phonemes", "voice": LANGUAGES[code].voice, "texts": asked}
    phonemes = dict(zip(asked, voice.ask(job, "reading")["phonemes"], strict=True))
    own = [word for word in words if "(" not in phonemes[word]]
    assert len({phonemes[word] for word in own}) >= 0.95 * len(own)
    kept = readable(words, phonemes)
    assert len(kept) >= 250
    assert len({phonemes[word] for word in kept}) == len(kept)
    assert sum(word.isdecimal() for word in kept) >= 28
    take = {"voice": LANGUAGES[code].voice, "text": kept[-1], "rate_wpm": 160, "pitch": 50, "pitch_range": 50}
    assert len(voice.ask({"do": "speak", "take": take}, "speaking")["pcm"]) > 0


@pytest.mark.synth
def test_every_variant_exists_and_changes_the_sound(voice):
    heard = set()
    for variant in LOW_VARIANTS + HIGH_VARIANTS:
        take = {"voice": f"es+{variant}", "text": "mañana", "rate_wpm": 160, "pitch": 50, "pitch_range": 50}
        heard.add(voice.ask({"do": "speak", "take": take}, "speaking")["pcm"])
    assert len(heard) == len(LOW_VARIANTS + HIGH_VARIANTS)


@pytest.mark.synth
@pytest.mark.parametrize(("name", "why"), [("zz", "no voice 'zz'"), ("fr-fr", "no voice"), ("de+f33", "f3")])
def test_a_voice_that_espeak_would_silently_replace_is_refused(voice, name, why):
    with pytest.raises(InputError, match=why):
        voice.ask({"do": "phonemes", "voice": name, "texts": ["ja"]}, "reading")
    assert voice.ask({"do": "phonemes", "voice": "de", "texts": ["ja"]}, "reading") == {"phonemes": ["jˈɑː"]}


@pytest.mark.synth
def test_speak_gives_trimmed_audible_speech():
    pytest.importorskip("espeakng_loader")
    wave = speak("guten morgen", "de", variant="f3")
    assert wave.dtype == np.float32
    assert 0.4 < len(wave) / 16_000 < 2
    assert 0.05 < np.abs(wave).max() <= 1
    check_take(wave, 16_000, "speak")
    assert np.abs(wave[:80]).max() > 0
    assert np.abs(wave[-80:]).max() > 0
    slow = speak("guten morgen", "de", variant="f3", rate_wpm=90)
    assert len(slow) > 1.3 * len(wave)


@pytest.mark.synth
@pytest.mark.parametrize(
    ("text", "options", "why"),
    [(" ", {}, "nothing to speak"), ("...", {}, "nothing audible"), ("ja", {"variant": "nobody"}, "no variant")],
)
def test_speak_refuses_in_one_sentence(text, options, why):
    pytest.importorskip("espeakng_loader")
    with pytest.raises(InputError, match=why) as caught:
        speak(text, "de", **options)
    assert str(caught.value).count("\n") == 0


@pytest.mark.synth
def test_a_process_that_dies_is_reported():
    pytest.importorskip("espeakng_loader")
    with Voice() as voice:
        voice.kill()
        voice._process.wait()
        with pytest.raises(InputError, match="stopped while speaking Finnish"):
            voice.ask({"do": "phonemes", "voice": "fi", "texts": ["yksi"] * 10_000}, "speaking Finnish")


def test_without_espeak_the_remedy_is_named(monkeypatch):
    monkeypatch.setattr(synth_process.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'pip install "metavox\[demo\]"'):
        speak("ja", "de")


def test_without_babel_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "babel", None)
    with pytest.raises(InputError, match=r'pip install "metavox\[demo\]"'):
        candidates("de")


@pytest.mark.synth
def test_the_library_stays_out_of_this_process_and_torch_out_of_the_child(corpus):
    assert not _loaded_espeak()
    program = "import sys, metavox.data.synth_voice; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout == b"False\n"


def _loaded_espeak() -> bool:
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("no list of loaded libraries here")
    return "espeak-ng.so" in maps.read_text()


# -------------------------------------------------------------------------------------------------------- the corpus


@pytest.mark.synth
def test_the_corpus_is_an_ordinary_manifest_folder(corpus):
    utterances = load_corpus(corpus)
    assert len(utterances) == SMALL.n_takes_total == 2 * 8 * 3 * 2
    assert {u.lang for u in utterances} == {"de", "sw"}
    assert {u.speaker for u in utterances} == {f"synth-{c}-{i:02d}" for c in ("de", "sw") for i in range(3)}
    for code in ("de", "sw"):
        labels = [u.label for u in utterances if u.lang == code]
        assert len(set(labels)) == 8
        assert all(labels.count(label) == 6 for label in labels)
        assert sum(label.isdecimal() for label in set(labels)) == 2
    for u in utterances:
        info, wave = probe(u.path), read(u.path)
        assert (info.rate_hz, info.n_channels) == (16_000, 1)
        assert len(wave) == round(u.duration_s * 16_000)
        assert u.text == u.label
        check_take(wave, 16_000, u.id)
        loud = np.flatnonzero(np.abs(wave) > 8 / 32768)
        assert loud[0] < 160, "starts with silence"
        assert len(wave) - loud[-1] < 160, "ends with silence"


@pytest.mark.synth
def test_takes_of_a_word_differ(corpus):
    sounds = digests(corpus, "audio")
    assert len(set(sounds.values())) == len(sounds)


@pytest.mark.synth
def test_words_are_recognised_across_speakers(corpus):
    utterances = [u for u in load_corpus(corpus) if u.lang == "de"]
    words = np.array([u.label for u in utterances])
    people = np.array([u.speaker for u in utterances])
    shapes = np.stack([_shape(read(u.path)) for u in utterances])
    distance = ((shapes[:, None] - shapes[None]) ** 2).sum(-1)
    distance[people[:, None] == people[None]] = np.inf
    assert (words[distance.argmin(1)] == words).mean() > 0.6, "chance is 1 in 8"


def _shape(wave: np.ndarray) -> np.ndarray:
    """Log spectrum in 20 bands over 30 equal stretches, mean and deviation of each band removed."""
    starts = np.linspace(0, len(wave) - 400, 30).astype(int)
    power = np.abs(np.fft.rfft(np.stack([wave[s : s + 400] for s in starts]) * np.hanning(400), 512)) ** 2
    edges = np.unique(np.geomspace(3, 240, 21).astype(int))
    bands = np.log(np.add.reduceat(power, edges, axis=1) + 1e-4)
    return ((bands - bands.mean(0)) / (bands.std(0) + 0.1)).ravel()


@pytest.mark.synth
def test_same_specification_same_bytes_whatever_the_workers(corpus, tmp_path):
    again = synthesize(SMALL, tmp_path / "again", n_workers=1)
    assert digests(again) == digests(corpus)
    alone = synthesize(SMALL.model_copy(update={"languages": ("sw",)}), tmp_path / "alone")
    assert digests(alone, "audio") == digests(corpus, "audio/sw")
    other = synthesize(SMALL.model_copy(update={"languages": ("sw",), "seed": 4}), tmp_path / "other")
    assert digests(other, "audio") != digests(alone, "audio")


@pytest.mark.synth
def test_a_corpus_that_is_there_is_returned_and_another_is_kept(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(synth, "Voice", None)  # nothing may be spoken
    before = digests(corpus)
    assert synthesize(SMALL, corpus) == corpus
    with pytest.raises(InputError, match="seed is 3 there and 9 here"):
        synthesize(SMALL.model_copy(update={"seed": 9}), corpus)
    assert digests(corpus) == before
    (tmp_path / "mine.txt").write_text("notes")
    with pytest.raises(InputError, match="no synthetic corpus"):
        synthesize(SMALL, tmp_path)
    with pytest.raises(InputError, match="no synthetic corpus"):
        synthesize(SMALL, tmp_path / "mine.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.synth
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interruption_leaves_nothing_behind(tmp_path, monkeypatch, error):
    pytest.importorskip("babel")
    pytest.importorskip("espeakng_loader")
    started = []

    class Watched(Voice):
        def __init__(self) -> None:
            super().__init__()
            started.append(self._process)

    def interrupt(done: int, total: int) -> None:
        raise error

    monkeypatch.setattr(synth, "Voice", Watched)
    with pytest.raises(error):
        synthesize(SMALL, tmp_path / "corpus", n_workers=2, progress=interrupt)
    assert not list(tmp_path.iterdir())
    assert started
    assert all(process.poll() is not None for process in started)


@pytest.mark.synth
def test_progress_counts_to_the_total_and_the_cache_is_used(tmp_path, monkeypatch):
    pytest.importorskip("babel")
    pytest.importorskip("espeakng_loader")
    monkeypatch.setenv("METAVOX_CACHE", str(tmp_path / "cache"))
    spec = SynthSpec(languages=("fi",), n_words=3, n_voices=2)
    seen: list[tuple[int, int]] = []
    folder = cached_corpus(spec, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(3, 6), (6, 6)]
    assert folder.is_relative_to(tmp_path / "cache")
    assert cached_corpus(spec, progress=lambda done, total: seen.append((0, 0))) == folder
    assert seen[-1] == (6, 6)
    assert cached_corpus(spec.model_copy(update={"n_takes": 2}), n_workers=1) != folder
    assert cached_corpus(spec, tmp_path / "elsewhere").is_relative_to(tmp_path / "elsewhere")


@pytest.mark.synth
def test_too_many_words_is_refused_before_anything_is_written(tmp_path):
    pytest.importorskip("babel")
    pytest.importorskip("espeakng_loader")
    with pytest.raises(InputError, match=r"Vietnamese has \d+ words .* n_words is 5000"):
        synthesize(SynthSpec(languages=("vi",), n_words=5000), tmp_path / "corpus")
    assert not list(tmp_path.iterdir())


@pytest.mark.synth
@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot be written"):
        synthesize(SMALL, tmp_path / "corpus")
