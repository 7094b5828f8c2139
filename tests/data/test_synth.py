"""Synthetic speech: which words and voices, the corpus on disk, and the process that speaks."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from metavox.audio import check_take, probe, read
from metavox.contracts import InputError
from metavox.data import synth, synth_process
from metavox.data.manifests import load_corpus
from metavox.data.synth import SynthSpec, cached_corpus, known_words, speak, synthesize, words
from metavox.data.synth_process import Voice

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
        {"similar": 1.1},
    ],
)
def test_a_specification_out_of_range_is_refused(bad):
    with pytest.raises(ValidationError):
        SynthSpec(**bad)


# ------------------------------------------------------------------------------------------------------- the process


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
    said = np.array([u.label for u in utterances])
    people = np.array([u.speaker for u in utterances])
    shapes = np.stack([_shape(read(u.path)) for u in utterances])
    distance = ((shapes[:, None] - shapes[None]) ** 2).sum(-1)
    distance[people[:, None] == people[None]] = np.inf
    assert (said[distance.argmin(1)] == said).mean() > 0.6, "chance is 1 in 8"


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
def test_an_accent_is_a_variant_of_its_language_and_says_its_words(tmp_path):
    pytest.importorskip("babel")
    pytest.importorskip("espeakng_loader")
    spec = SynthSpec(languages=("es", "es-419", "sw"), n_words=20, n_voices=1)
    utterances = load_corpus(synthesize(spec, tmp_path / "corpus"))
    assert [(u.lang, u.accent) for u in utterances] == [("es", "es")] * 20 + [("es", "es-419")] * 20 + [
        ("sw", None)
    ] * 20
    assert {u.speaker for u in utterances} == {"synth-es-00", "synth-es-419-00", "synth-sw-00"}
    here, there = ({u.label for u in utterances if u.accent == accent} for accent in ("es", "es-419"))
    assert len(here & there) >= 17, "both accents choose the same words, but for what one of them cannot tell apart"


@pytest.mark.synth
def test_similar_words_lead_and_the_rest_is_drawn_as_without_them(voice):
    pytest.importorskip("babel")
    plain = words(SynthSpec(n_words=20), "de", voice)
    half = words(SynthSpec(n_words=20, similar=0.5), "de", voice)
    hard = words(SynthSpec(n_words=20, similar=1), "de", voice)
    assert half[:10] == hard[:10]
    assert len(set(half)) == len(set(hard)) == 20
    drawn = [word for word in half[10:] if not word.isdecimal()]
    assert len(drawn) == 8, "a fifth of the rest are numbers"
    assert drawn == [word for word in plain if not word.isdecimal() and word not in hard[:10]][:8]
    assert words(SynthSpec(n_words=12, similar=1), "de", voice) == hard[:12]
    with pytest.raises(InputError, match=r"words like .* and 900 are asked for; ask for fewer"):
        words(SynthSpec(n_words=900, similar=1), "de", voice)


@pytest.mark.synth
def test_a_voice_that_comes_again_with_another_tract_says_the_same_words(tmp_path):
    pytest.importorskip("babel")
    pytest.importorskip("espeakng_loader")
    spec = SynthSpec(languages=("sw",), n_words=4, n_voices=26)
    first, again = (synthesize(spec, tmp_path / name, n_workers=1) for name in ("first", "again"))
    assert digests(first) == digests(again)
    utterances = load_corpus(first)
    assert len({digest for digest in digests(first, "audio").values()}) == len(utterances)
    for u in utterances:
        assert len(read(u.path)) == round(u.duration_s * 16_000)


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
def test_an_accent_knows_no_word_that_its_language_does_not(voice):
    pytest.importorskip("babel")
    here, there = known_words("pt", voice), known_words("pt-br", voice)
    assert set(there) <= set(here)
    assert len(there) > 0.95 * len(here)
    assert sum(here[word] != there[word] for word in there) > 0.5 * len(there)


@pytest.mark.synth
def test_too_many_words_is_refused_before_anything_is_written(tmp_path):
    pytest.importorskip("babel")
    pytest.importorskip("espeakng_loader")
    with pytest.raises(InputError, match=r"Vietnamese \(Northern\) has \d+ words .* n_words is 5000"):
        synthesize(SynthSpec(languages=("vi",), n_words=5000), tmp_path / "corpus")
    assert not list(tmp_path.iterdir())


@pytest.mark.synth
@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot be written"):
        synthesize(SMALL, tmp_path / "corpus")
