"""The table of languages: whole, true of the installed espeak-ng, and every one of them told apart by ear."""

import random
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest

from metavox.contracts import InputError
from metavox.data.synth import SynthSpec, known_words, speak, synthesize
from metavox.data.synth_languages import CORE_LANGUAGES, LANGUAGES, MADE_FOR, VOICES, find_language
from metavox.data.synth_process import Voice

OLD = set("az cs cy de el es et eu fi fr hu hy id is it ka kk ko pl pt ro sw tr vi".split())  # noqa: SIM905
OF_EVALUATION = {"en", "ar", "bn", "lt", "cmn", "he", "ml", "yo", "hi", "lv"}


@pytest.fixture(scope="module")
def voice() -> Iterator[Voice]:
    pytest.importorskip("babel")
    pytest.importorskip("espeakng_loader")
    with Voice() as voice:
        if voice.version != MADE_FOR:
            pytest.skip(f"espeak-ng {voice.version} is installed and the table is for {MADE_FOR}")
        yield voice


# ---------------------------------------------------------------------------------------------------------- the table


def test_more_than_a_hundred_languages_count_and_each_voice_has_a_row() -> None:
    bases = [row for row in LANGUAGES.values() if row.accent_of is None]
    assert len(bases) >= 110
    assert sum(row.kind == "natural" for row in bases) >= 100
    assert len({row.file for row in VOICES.values()}) == len(VOICES) == 141
    assert set(LANGUAGES) >= OLD
    assert set(CORE_LANGUAGES) <= set(LANGUAGES)
    assert not OF_EVALUATION & set(CORE_LANGUAGES), "the default leaves out what real speech is evaluated in"


@pytest.mark.parametrize("row", VOICES.values(), ids=list(VOICES))
def test_a_row_says_all_that_is_needed(row) -> None:
    assert row.name
    assert row.kind in ("natural", "ancient", "constructed", "test")
    if row.left_out:
        assert row.left_out[0].islower() or row.left_out.startswith("espeak"), "it completes a sentence"
        assert not row.left_out.endswith(".")
        assert set(row.near) <= set(LANGUAGES)
        return
    assert row.words >= 60
    if row.accent_of:
        assert VOICES[row.accent_of].accent_of is None, "an accent of a language, not of an accent"
        assert row.accent_of in LANGUAGES
        assert row.base == row.accent_of
        assert not row.locale
        assert not row.syllables
    else:
        assert row.base == row.code
        assert row.locale or row.syllables
        assert row.invented or row.locale


def test_the_table_names_every_voice_of_the_installed_espeak(voice: Voice) -> None:
    espeakng_loader = pytest.importorskip("espeakng_loader")
    root = Path(espeakng_loader.get_data_path()) / "lang"
    files = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    assert {row.file for row in VOICES.values()} == files


@pytest.mark.synth
@pytest.mark.parametrize("code", ["fo", "kaa", "xex"])
def test_what_says_nothing_is_left_out(code: str, voice: Voice) -> None:
    job = {"do": "phonemes", "voice": VOICES[code].voice, "texts": ["1", "7", "10", "aba", "mali"]}
    assert set(voice.ask(job, "reading")["phonemes"]) == {""}


@pytest.mark.synth
def test_konkani_is_left_out_for_the_names_of_its_vowel_signs(voice: Voice) -> None:
    job = {"do": "phonemes", "voice": "kok", "texts": ["ा", "भारत"]}
    name, word = voice.ask(job, "reading")["phonemes"]
    assert name == "aːkˈaːɾ"
    assert "aːkˈaːr" in word


# ------------------------------------------------------------------------------------------------- what a language must


def must_be_told_apart(code: str, voice: Voice) -> None:
    """Its voice speaks; its words sound unlike each other, in its own language, and none is spelled."""
    row = LANGUAGES[code]
    known = known_words(code, voice)
    assert abs(len(known) - row.words) <= 0.1 * row.words, (
        f"{code}: the table has {row.words} and there are {len(known)}"
    )
    assert len(known) >= 60, code
    assert len(set(known.values())) == len(known), code
    letters = sorted({char for word in known if not word.isdecimal() for char in word if char != " "})
    job = {"do": "phonemes", "voice": row.voice, "texts": letters}
    names = dict(zip(letters, (bare(name) for name in voice.ask(job, "reading")["phonemes"]), strict=True))
    for word, sound in known.items():
        assert "(" not in sound, f"{code}: {word} is read {sound}, in another language"
        if word.isdecimal() or unicodedata.name(word[0]).startswith(("CJK", "HANGUL", "KATAKANA", "ETHIOPIC")):
            continue
        assert len(sound.split()) <= len(word.split()), f"{code}: {word} is read {sound}, in pieces"
        spelled = "".join(names[char] for char in word if char != " ")
        is_named = len(spelled) > 2 * len(word)  # most letters have a name, and are not called by their sound
        assert not (is_named and bare(sound) == spelled), f"{code}: {word} is read {sound}, by its letters"
    text = next(word for word in reversed(known) if not word.isdecimal())
    take = {"voice": f"{row.voice}+f3", "text": text, "rate_wpm": 160, "pitch": 50, "pitch_range": 50}
    assert len(voice.ask({"do": "speak", "take": take}, f"speaking {code}")["pcm"]) > 3_000


def bare(sound: str) -> str:
    return "".join(char for char in sound if char not in "ˈˌ" and unicodedata.category(char).startswith("L"))


@pytest.mark.synth
def test_a_handful_of_languages_is_told_apart(voice: Voice) -> None:
    """Another handful each time; the slow test below takes all."""
    for code in random.SystemRandom().sample(sorted(LANGUAGES), 6):
        must_be_told_apart(code, voice)


@pytest.mark.slow
@pytest.mark.synth
@pytest.mark.parametrize("code", LANGUAGES)
def test_every_language_is_told_apart(code: str, voice: Voice) -> None:
    must_be_told_apart(code, voice)


# -------------------------------------------------------------------------------------------------- what cannot be had


@pytest.mark.parametrize(
    ("asked", "near"),
    [
        ("german", "de"), ("finnish", "fi"), ("fin", "fi"), ("tur", "tr"), ("en-gb", "en"), ("de-at", "de"),
        ("zh", "cmn"), ("piqd", "tlh"), ("Mandarin", "cmn"), ("pt_BR", "pt"),
    ],
)  # fmt: skip
def test_an_unknown_language_names_its_neighbour(asked, near, tmp_path) -> None:
    with pytest.raises(InputError, match=rf"{asked}.*\b{near}\b"):
        find_language(asked)
    with pytest.raises(InputError, match=rf"\b{near}\b"):
        synthesize(SynthSpec(languages=(asked,)), tmp_path / "x")
    with pytest.raises(InputError, match=rf"\b{near}\b"):
        speak("a", asked)
    assert not list(tmp_path.iterdir())


def test_a_language_unlike_any_other_leads_to_the_list() -> None:
    with pytest.raises(InputError, match=r"'!!!!' among \d+; choose one of `metavox data synth --list`\."):
        find_language("!!!!")


@pytest.mark.parametrize("code", [code for code, row in VOICES.items() if row.left_out])
def test_a_language_that_is_left_out_says_why_and_what_else(code: str) -> None:
    with pytest.raises(InputError) as caught:
        find_language(code)
    said = str(caught.value)
    assert VOICES[code].left_out in said
    assert f"({code})" in said
    assert "; take " in said
    assert said.count(". ") == 0
