"""Synthetic sentences: texts of several words in many languages, read by espeak-ng, for transcription.

Half of the words are names of CLDR (see ``synth_words``), half are invented letter by letter after them, so that a
recogniser meets far more letter sequences than there are names. A sentence means nothing, and its text is its spelling.
"""

import hashlib
import json
import shutil
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..contracts import InputError, Utterance
from .cache import cache_folder
from .manifests import write_manifest
from .stored import opened_or_written
from .synth_languages import LANGUAGES, Language, find_language
from .synth_process import Voice
from .synth_speakers import Speaker, resize_tract, speakers
from .synth_spec import SynthSpec
from .synth_words import candidates

RATE_HZ = 16_000
FORMAT = 1
"""Goes up whenever the same specification would give other recordings."""
_CONTEXT = 2
"""Letters that the next letter of an invented word is drawn by."""
_LETTERS = (3, 10)
"""Letters of an invented word."""
_INAUDIBLE = "says nothing audible"
"""What ``synth_voice`` answers for a text that makes no sound."""

Progress = Callable[[int, int], None]


class SentenceSpec(BaseModel):
    """Which synthetic sentences: the same specification gives the same texts and voices."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    languages: tuple[str, ...] = Field(min_length=1)
    """Codes of ``LANGUAGES``."""
    n_sentences: int = Field(240, ge=1)
    """Sentences of each language, each read once."""
    n_voices: int = Field(24, ge=1, le=999)
    """Speakers of each language, who take turns."""
    n_words: tuple[int, int] = (1, 6)
    """Fewest and most words of a sentence."""
    invented_share: float = Field(0.5, ge=0, le=1)
    rate_wpm: tuple[int, int] = (120, 240)
    pitch: tuple[int, int] = (25, 75)
    pitch_range: tuple[int, int] = (30, 80)
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _check(self) -> "SentenceSpec":
        limits = {"n_words": (1, 100), "rate_wpm": (80, 450), "pitch": (0, 99), "pitch_range": (0, 99)}
        for name, (least, most) in limits.items():
            low, high = getattr(self, name)
            if not least <= low <= high <= most:
                raise ValueError(f"{name} is {low} to {high}; give two rising numbers from {least} to {most}")
        if len(set(self.languages)) < len(self.languages):
            raise ValueError(f"languages names one twice ({', '.join(self.languages)}); name each once")
        return self

    def voices(self, code: str) -> list[Speaker]:
        """Who reads a language."""
        likewise = {"rate_wpm": self.rate_wpm, "pitch": self.pitch, "pitch_range": self.pitch_range, "seed": self.seed}
        return speakers(SynthSpec(languages=(code,), n_voices=self.n_voices, **likewise), code)


def cached_sentences(spec: SentenceSpec, *, n_workers: int = 2, progress: Progress | None = None) -> list[Path]:
    """A corpus folder for each language of the specification, from the cache or made there.

    A language does not depend on which others are asked for.

    Raises:
        InputError: an unknown language, or one of fewer than 20 words; espeak-ng or babel is not installed.
    """
    languages = [find_language(code) for code in spec.languages]
    done = count(1)

    def make(language: Language) -> Path:
        own = spec.model_copy(update={"languages": (language.code,)})
        key = hashlib.sha256(json.dumps([FORMAT, own.model_dump(mode="json")], sort_keys=True).encode()).hexdigest()
        folder = cache_folder() / "sentences" / f"synth-{language.code}-{key[:12]}"

        def there(folder: Path) -> Path | None:
            return folder if (folder / "manifest.jsonl").exists() else None

        found = opened_or_written(folder, there, lambda beside: _read_aloud(own, language, beside))
        if progress is not None:
            progress(next(done), len(languages))
        return found

    with ThreadPoolExecutor(max(1, n_workers)) as pool:
        return list(pool.map(make, languages))


def sentences(spec: SentenceSpec, code: str) -> list[str]:
    """The texts of a language, lower case, NFC.

    Raises:
        InputError: a language of fewer than 20 words.
    """
    language = find_language(code)
    words = [part for name in candidates(code) for part in name.split()]
    if len(words) < 20:
        raise InputError(f"{language.name} has {len(words)} words and sentences need 20; leave {code} out.")
    rng = np.random.default_rng([spec.seed, crc32(language.base.encode()), 5])
    letters = _letter_model(words)
    found: dict[str, None] = {}
    for _ in range(20 * spec.n_sentences):
        n = int(rng.integers(spec.n_words[0], spec.n_words[1] + 1))
        made = [
            _invented(letters, rng) if rng.random() < spec.invented_share else words[rng.integers(len(words))]
            for _ in range(n)
        ]
        found[unicodedata.normalize("NFC", " ".join(made))] = None
        if len(found) == spec.n_sentences:
            break
    return list(found)


def _letter_model(words: Sequence[str]) -> dict[str, tuple[list[str], np.ndarray]]:
    """What follows each stretch of ``_CONTEXT`` letters in the words, and how often."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for word in words:
        padded = "^" * _CONTEXT + word + "$"
        for i in range(_CONTEXT, len(padded)):
            counts[padded[i - _CONTEXT : i]][padded[i]] += 1
    return {
        context: (list(after), np.array([*after.values()]) / sum(after.values())) for context, after in counts.items()
    }


def _invented(letters: dict[str, tuple[list[str], np.ndarray]], rng: np.random.Generator) -> str:
    """A word of likely letters; the last of 20 where none has the right length."""
    word = ""
    for _ in range(20):
        word, context = "", "^" * _CONTEXT
        while len(word) <= _LETTERS[1]:
            after, shares = letters[context]
            char = after[int(rng.choice(len(after), p=shares))]
            if char == "$":
                break
            word, context = word + char, (context + char)[-_CONTEXT:]
        if _LETTERS[0] <= len(word) <= _LETTERS[1]:
            break
    return word


def _read_aloud(spec: SentenceSpec, language: Language, folder: Path) -> None:
    """Every sentence of one language in the voices of the specification, into a corpus folder."""
    audio = folder / "audio"
    audio.mkdir(parents=True)
    texts, voices = sentences(spec, language.code), spec.voices(language.code)
    rng = np.random.default_rng([spec.seed, crc32(language.code.encode()), 6])
    utterances: list[Utterance] = []
    with Voice() as voice:
        sounds = voice.ask({"do": "phonemes", "voice": language.voice, "texts": texts}, f"reading {language.name}")
        said = [i for i, sound in enumerate(sounds["phonemes"]) if "(" not in sound and ("ˈ" in sound or "ˌ" in sound)]
        jobs = [(i, voices[n % len(voices)], _take(voices[n % len(voices)], texts[i], rng)) for n, i in enumerate(said)]
        for number, (i, speaker, take) in enumerate(jobs):
            path = audio / f"{number:04d}.wav"
            try:
                reply = voice.ask({"do": "render", "takes": [{**take, "path": str(path)}]}, f"speaking {texts[i]!r}")
            except InputError as err:
                if _INAUDIBLE not in str(err):  # a full disk, or a process that is gone
                    raise
                continue
            n_samples = reply["n_samples"][0] if speaker.tract == 1 else resize_tract(path, speaker.tract)
            utterances.append(
                Utterance(f"{language.code}-{number:04d}", path, n_samples / RATE_HZ, texts[i], None, speaker.id,
                          language.base, language.code if language.accent_of else None)
            )  # fmt: skip
    if not utterances:
        shutil.rmtree(folder)
        raise InputError(f"espeak-ng says nothing in {language.name}; leave {language.code} out.")
    write_manifest(folder, utterances)


def _take(speaker: Speaker, text: str, rng: np.random.Generator) -> dict[str, Any]:
    speed, pitch, pitch_range = rng.uniform(-1, 1, 3)
    return {
        "voice": speaker.voice,
        "text": text,
        "rate_wpm": round(np.clip(speaker.rate_wpm * speaker.tract * (1 + 0.06 * speed), 80, 450)),
        "pitch": round(np.clip(speaker.pitch + 3 * pitch, 0, 99)),
        "pitch_range": round(np.clip(speaker.pitch_range + 6 * pitch_range, 0, 99)),
    }


def spoken_languages() -> tuple[str, ...]:
    """Codes of the languages that sentences can be made in; accents and invented languages are left out."""
    return tuple(
        code for code, row in LANGUAGES.items() if row.kind == "natural" and row.accent_of is None and row.locale
    )
