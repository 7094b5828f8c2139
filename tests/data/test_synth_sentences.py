"""Synthetic sentences: texts that repeat, languages that do not depend on each other, and a corpus that loads."""

import unicodedata
from pathlib import Path
from typing import Any

import pytest
import sounds
from pydantic import ValidationError

from metavox.audio import probe
from metavox.contracts import InputError
from metavox.data import synth_sentences as module
from metavox.data.manifests import load_corpus
from metavox.data.synth_languages import LANGUAGES
from metavox.data.synth_process import Voice
from metavox.data.synth_sentences import RATE_HZ, SentenceSpec, cached_sentences, sentences, spoken_languages
from metavox.data.synth_words import candidates

SPEC = SentenceSpec(languages=("de", "fi"), n_sentences=5, n_voices=2, n_words=(1, 3))
pytestmark = pytest.mark.synth


@pytest.fixture(autouse=True)
def installed() -> None:
    pytest.importorskip("espeakng_loader")
    pytest.importorskip("babel")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METAVOX_CACHE", str(tmp_path_factory.mktemp("cache")))
        return cached_sentences(SPEC)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("METAVOX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "sentences"


def words_of(code: str) -> set[str]:
    return {part for name in candidates(code) for part in name.split()}


# ------------------------------------------------------------------------------------------------------------ texts


def test_texts_repeat_and_depend_on_the_seed_and_on_no_other_language() -> None:
    many = SPEC.model_copy(update={"n_sentences": 40})
    found = sentences(many, "de")
    assert found == sentences(many.model_copy(update={"languages": ("fi", "de", "sw")}), "de")
    assert found[:5] == sentences(SPEC, "de")  # more sentences add to fewer
    assert not set(found) & set(sentences(many.model_copy(update={"seed": 1}), "de"))
    assert not set(found) & set(sentences(many, "fi"))


@pytest.mark.parametrize("code", ["de", "ml", "cmn", "vi"])
def test_texts_are_distinct_lower_composed_and_of_so_many_words(code: str) -> None:
    found = sentences(SentenceSpec(languages=(code,), n_sentences=60, n_words=(2, 4)), code)
    assert len(found) == len(set(found)) == 60
    assert {len(text.split()) for text in found} == {2, 3, 4}
    for text in found:
        assert text == unicodedata.normalize("NFC", text.lower())
        assert text == " ".join(text.split())


@pytest.mark.parametrize("code", ["de", "ru"])
def test_words_are_known_or_invented_letter_by_letter_after_them(code: str) -> None:
    spec = SentenceSpec(languages=(code,), n_sentences=60, n_words=(1, 3))
    known = words_of(code)
    padded = [f"^^{word}$" for word in known]
    seen = {word[i : i + 3] for word in padded for i in range(len(word) - 2)}
    said = {
        share: {w for text in sentences(spec.model_copy(update={"invented_share": share}), code) for w in text.split()}
        for share in (0.0, 0.5, 1.0)
    }
    assert said[0.0] <= {unicodedata.normalize("NFC", word) for word in known}
    strange = [word for word in said[1.0] if word not in known]
    assert len(strange) > 0.7 * len(said[1.0])
    for word in strange:
        form = f"^^{word}$" if len(word) < 11 else f"^^{word}"  # which was cut off
        assert all(form[i : i + 3] in seen for i in range(len(form) - 2)), word
        assert 1 <= len(word) <= 11
    assert sum(3 <= len(word) <= 10 for word in strange) > 0.9 * len(strange)
    assert 0.2 < sum(word in known for word in said[0.5]) / len(said[0.5]) < 0.8


def test_an_accent_says_what_its_language_says() -> None:
    accent = next(code for code, row in LANGUAGES.items() if row.accent_of == "en")
    spec = SentenceSpec(languages=(accent, "en"), n_sentences=20)
    assert sentences(spec, accent) == sentences(spec, "en")


def test_a_language_of_few_words_is_refused(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setattr(module, "candidates", lambda code: ["eins", "zwei drei"])
    with pytest.raises(InputError, match="German has 3 words and sentences need 20; leave de out"):
        sentences(SPEC, "de")
    with pytest.raises(InputError, match="leave de out"):
        cached_sentences(SPEC)
    assert not list(cache.glob("*"))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"n_words": (3, 2)}, "n_words is 3 to 2; give two rising numbers from 1 to 100"),
        ({"n_words": (0, 2)}, "n_words is 0 to 2"),
        ({"rate_wpm": (10, 200)}, "rate_wpm is 10 to 200; give two rising numbers from 80 to 450"),
        ({"pitch": (50, 101)}, "pitch is 50 to 101"),
        ({"pitch_range": (50, 40)}, "pitch_range is 50 to 40"),
        ({"languages": ("de", "fi", "de")}, r"languages names one twice \(de, fi, de\)"),
        ({"languages": ()}, "languages"),
        ({"n_sentences": 0}, "n_sentences"),
        ({"voices": 3}, "voices"),
    ],
)
def test_a_specification_that_means_nothing_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        SentenceSpec.model_validate({"languages": ("de",), **wrong})


def test_an_unknown_language_is_refused_before_anything_is_made(cache: Path) -> None:
    with pytest.raises(InputError, match="There is no synthetic language 'xq'"):
        cached_sentences(SentenceSpec(languages=("de", "xq")))
    assert not cache.exists()


def test_languages_of_sentences_are_natural_and_none_is_an_accent() -> None:
    found = spoken_languages()
    assert {"de", "ml", "cmn", "yue"} <= set(found)
    assert all(LANGUAGES[code].kind == "natural" and LANGUAGES[code].base == code for code in found)
    assert not {"tlh", "en-us"} & set(found)


# ------------------------------------------------------------------------------------------------------- the corpus


def test_the_corpus_loads_and_its_audio_is_what_it_says(folders: list[Path]) -> None:
    assert [folder.name.split("-")[1] for folder in folders] == ["de", "fi"]
    for folder, code in zip(folders, ("de", "fi"), strict=True):
        utterances = load_corpus(folder)
        texts = sentences(SPEC, code)
        assert 3 <= len(utterances) <= 5
        assert {u.text for u in utterances} <= set(texts)
        assert [texts.index(u.text) for u in utterances] == sorted(texts.index(u.text) for u in utterances)
        assert {u.lang for u in utterances} == {code}
        assert {u.speaker for u in utterances} == {f"synth-{code}-00", f"synth-{code}-01"}
        assert {u.accent for u in utterances} == {None}
        assert len({u.id for u in utterances}) == len(utterances)
        for u in utterances:
            info = probe(u.path)
            assert (info.rate_hz, info.n_channels) == (RATE_HZ, 1)
            assert info.duration_s == pytest.approx(u.duration_s, abs=1e-3)
            assert 0.1 < u.duration_s < 10


def test_a_language_does_not_depend_on_which_others_are_asked_for(folders: list[Path], cache: Path) -> None:
    (alone,) = cached_sentences(SPEC.model_copy(update={"languages": ("de",)}))
    assert alone.name == folders[0].name
    assert sounds.files_below(alone) == sounds.files_below(folders[0])


def test_what_is_there_is_not_made_again_and_progress_is_told(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METAVOX_CACHE", str(folders[0].parents[1]))

    def silent(*_: Any) -> Any:
        raise AssertionError("nothing is to be said")

    monkeypatch.setattr(module, "Voice", silent)
    seen: list[tuple[int, int]] = []
    assert cached_sentences(SPEC, progress=lambda done, total: seen.append((done, total))) == folders
    assert sorted(seen) == [(1, 2), (2, 2)]


def test_another_specification_has_a_folder_of_its_own(cache: Path) -> None:
    one = SPEC.model_copy(update={"languages": ("de",), "n_sentences": 1})
    names = {cached_sentences(one.model_copy(update=change))[0].name for change in ({}, {"seed": 2}, {"n_voices": 1})}
    assert len(names) == 3


class Failing(Voice):
    """Fails at the second and fourth recording, and answers for the rest."""

    said = ""
    n_asked = 0

    def ask(self, job: dict[str, Any], doing: str) -> dict[str, Any]:
        if job["do"] == "render":
            Failing.n_asked += 1
            if Failing.n_asked in (2, 4):
                raise InputError(Failing.said)
        return super().ask(job, doing)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    Failing.n_asked = 0
    monkeypatch.setattr(module, "Voice", Failing)


def test_a_text_that_makes_no_sound_is_left_out(cache: Path, failing: None, folders: list[Path]) -> None:
    Failing.said = (
        "Synthetic speech failed while speaking 'x': de+m1 says nothing audible for 'x'; choose another text."
    )
    (folder,) = cached_sentences(SPEC.model_copy(update={"languages": ("de",)}))
    whole = load_corpus(folders[0])
    assert [u.text for u in load_corpus(folder)] == [u.text for i, u in enumerate(whole) if i not in (1, 3)]


@pytest.mark.parametrize(
    "said",
    [
        "espeak-ng stopped while speaking 'x'; leave that out, or pip install --force-reinstall.",
        "Synthetic speech failed while speaking 'x': x.wav cannot be written (No space left on device).",
    ],
)
def test_a_broken_voice_ends_it_and_leaves_no_short_corpus(cache: Path, failing: None, said: str) -> None:
    Failing.said = said
    with pytest.raises(InputError, match="while speaking 'x'"):
        cached_sentences(SPEC.model_copy(update={"languages": ("de",)}))
    assert not list(cache.glob("*"))


def test_what_espeak_really_says_of_silence_is_recognised() -> None:
    take = {"voice": "ru+m1", "text": "…", "rate_wpm": 200, "pitch": 50, "pitch_range": 50, "path": "/nowhere.wav"}
    with Voice() as voice, pytest.raises(InputError) as caught:
        voice.ask({"do": "render", "takes": [take]}, "speaking")
    assert module._INAUDIBLE in str(caught.value)


def test_a_language_that_says_nothing_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Mute(Voice):
        def ask(self, job: dict[str, Any], doing: str) -> dict[str, Any]:
            return {"phonemes": ["(en)x(de)"] * len(job["texts"])}

    monkeypatch.setattr(module, "Voice", Mute)
    with pytest.raises(InputError, match="espeak-ng says nothing in German; leave de out"):
        cached_sentences(SPEC.model_copy(update={"languages": ("de",)}))
    assert not list(cache.glob("*"))
