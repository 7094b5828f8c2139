"""Synthetic speech for meta-training, offline: many languages, words and voices from espeak-ng in child processes.

It shows that the machinery works and gives thousands of cheap tasks. Formant synthesis is no evidence on real
accents, and its speakers are not real voices.
"""

import base64
import hashlib
import json
import os
import queue
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..contracts import InputError, Utterance
from .cache import cache_folder
from .manifests import write_manifest
from .synth_process import Voice
from .synth_words import CORE_LANGUAGES, LANGUAGES, NUMBERS, alphabet, candidates, choose, find_language, readable

RATE_HZ = 16_000
FORMAT = 1
"""Goes up whenever the same specification would give other recordings."""
SPEC = "spec.json"

Progress = Callable[[int, int], None]
"""(takes done, takes in all)."""

LOW_VARIANTS = (
    "m1", "m3", "m4", "m7", "m8", "Alex", "Denis", "Gene", "Mario", "Reed", "Storm", "Tweaky", "boris", "david",
    "grandpa", "iven2", "klatt", "klatt4", "marcelo", "norbert", "pablo", "paul", "quincy", "rob", "sandro", "travis",
)  # fmt: skip
HIGH_VARIANTS = ("f1", "f2", "f3", "f5", "Andrea", "Annie", "anika", "aunty", "belinda", "grandma", "steph")
"""Variants of espeak-ng whose median pitch is 70 to 125 Hz and 175 to 270 Hz, chosen by measure. Of 60 words in each
of five languages at least 95 in 100 are recognised from other variants (nearest MFCC template), and no two have the
same long-term spectrum. That leaves out Alicia (33 %), zac (36 %), Lee (68 %), shelby (73 %) and most robots."""

_SPEED_JITTER, _PITCH_JITTER, _RANGE_JITTER = 0.06, 3, 6
"""How far a take strays from its speaker: share of the rate, points of pitch, points of range."""


class SynthSpec(BaseModel):
    """Which synthetic corpus: the same specification gives the same bytes on the same machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    languages: tuple[str, ...] = Field(CORE_LANGUAGES, min_length=1)
    """Codes of ``LANGUAGES``."""
    n_words: int = Field(100, ge=1)
    """Words of each language."""
    n_voices: int = Field(6, ge=1, le=999)
    """Speakers of each language; none speaks two."""
    n_takes: int = Field(1, ge=1, le=100)
    """Takes of each word by each speaker."""
    numbers_share: float = Field(0.2, ge=0, le=1)
    """Share of the words that are numbers, where the language has as many."""
    rate_wpm: tuple[int, int] = (120, 210)
    """Slowest and fastest speaker, words a minute (80 to 450)."""
    pitch: tuple[int, int] = (35, 65)
    """Lowest and highest speaker, 0 to 99; 50 is the variant's own."""
    pitch_range: tuple[int, int] = (35, 75)
    """Most and least monotonous speaker, 0 to 99."""
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _check(self) -> "SynthSpec":
        limits = {"rate_wpm": (80, 450), "pitch": (0, 99), "pitch_range": (0, 99)}
        for name, (least, most) in limits.items():
            low, high = getattr(self, name)
            if not least <= low <= high <= most:
                raise ValueError(f"{name} is {low} to {high}; give two rising numbers from {least} to {most}")
        if len(set(self.languages)) < len(self.languages):
            raise ValueError(f"languages names one twice ({', '.join(self.languages)}); name each once")
        return self

    @property
    def n_takes_total(self) -> int:
        return len(self.languages) * self.n_words * self.n_voices * self.n_takes


@dataclass(frozen=True, slots=True)
class Speaker:
    """A synthetic speaker of one language."""

    id: str
    voice: str
    """Voice and variant of espeak-ng, ``de+f3``."""
    rate_wpm: float
    pitch: float
    pitch_range: float


# ------------------------------------------------------------------------------------------------------ one text


def speak(
    text: str,
    lang: str,
    *,
    variant: str | None = None,
    rate_wpm: int = 160,
    pitch: int = 50,
    pitch_range: int = 50,
) -> Float[np.ndarray, " S"]:
    """One text in a synthetic voice, (S,) float32 in [-1, 1] at 16 kHz, without silence at its ends.

    ``variant`` is one of espeak-ng (``f3``), or None for the language's own voice. Starts a process of its own
    (about 0.2 s). Raises InputError for an unknown language or variant, and for a text that nothing is said for.
    """
    language = find_language(lang)
    take = {
        "voice": language.voice + (f"+{variant}" if variant else ""),
        "text": text,
        "rate_wpm": rate_wpm,
        "pitch": pitch,
        "pitch_range": pitch_range,
    }
    with Voice() as voice:
        reply = voice.ask({"do": "speak", "take": take}, f"speaking {language.name}")
    return np.frombuffer(base64.b64decode(reply["pcm"]), "<i2").astype(np.float32) / 32768


# ----------------------------------------------------------------------------------------------------- who and what


def speakers(spec: SynthSpec, code: str) -> list[Speaker]:
    """The speakers of a language, low and high voices in turn; they depend on the seed and on no other language."""
    rng = np.random.default_rng([spec.seed, crc32(code.encode()), 1])
    pools = [[pool[i] for i in rng.permutation(len(pool))] for pool in (LOW_VARIANTS, HIGH_VARIANTS)]
    found = []
    for i in range(spec.n_voices):
        pool = pools[i % 2]
        variant = pool[i // 2 % len(pool)]
        rate, pitch, pitch_range = (float(rng.uniform(*ends)) for ends in (spec.rate_wpm, spec.pitch, spec.pitch_range))
        found.append(Speaker(f"synth-{code}-{i:02d}", f"{LANGUAGES[code].voice}+{variant}", rate, pitch, pitch_range))
    return found


def words(code: str, n_words: int, numbers_share: float, seed: int, voice: Voice) -> list[str]:
    """Words of a language that espeak-ng reads as words and that sound unlike each other; numbers are digits."""
    texts = [str(number) for number in NUMBERS] + candidates(code)
    asked = [*texts, *alphabet(texts[len(NUMBERS) :])]
    job = {"do": "phonemes", "voice": LANGUAGES[code].voice, "texts": asked}
    phonemes = voice.ask(job, f"reading {LANGUAGES[code].name}")["phonemes"]
    return choose(code, readable(texts, dict(zip(asked, phonemes, strict=True))), n_words, numbers_share, seed)


def _takes(spec: SynthSpec, speaker: Speaker, texts: Sequence[str], folder: Path) -> list[dict[str, Any]]:
    """What one speaker says, each take a little unlike the others."""
    rng = np.random.default_rng([spec.seed, crc32(speaker.id.encode()), 2])
    number = speaker.id.rpartition("-")[2]
    takes = []
    for i, text in enumerate(texts):
        for j in range(spec.n_takes):
            speed, pitch, pitch_range = rng.uniform(-1, 1, 3)
            takes.append(
                {
                    "voice": speaker.voice,
                    "text": text,
                    "rate_wpm": round(np.clip(speaker.rate_wpm * (1 + _SPEED_JITTER * speed), 80, 450)),
                    "pitch": round(np.clip(speaker.pitch + _PITCH_JITTER * pitch, 0, 99)),
                    "pitch_range": round(np.clip(speaker.pitch_range + _RANGE_JITTER * pitch_range, 0, 99)),
                    "path": str(folder / f"{number}-{i:04d}-{j}.wav"),
                }
            )
    return takes


# ------------------------------------------------------------------------------------------------------- the corpus


def synthesize(spec: SynthSpec, out_dir: str | Path, *, n_workers: int = 2, progress: Progress | None = None) -> Path:
    """Make a corpus folder (``manifest.jsonl``, ``spec.json``, ``audio/``) and return it; a corpus of the same
    specification that is already there is returned at once.

    Each language is spoken by a child process of its own, ``n_workers`` at a time. The folder appears under its name
    when it is complete; an interruption leaves nothing under that name.

    Raises:
        InputError: an unknown language, too few words, espeak-ng or babel not installed, or a folder that holds
            something else.
    """
    out = Path(os.path.abspath(out_dir))
    for code in spec.languages:
        find_language(code)
    if _is_made(spec, out):
        return out
    partial = out.with_name(f".{out.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)  # of a process long gone
        partial.mkdir()
    except OSError as error:
        raise InputError(f"{out} cannot be written ({error.strerror}); choose another folder.") from None
    try:
        made = _speak_all(spec, partial, n_workers, progress)
        utterances = [u for code in spec.languages for u in made[code][0]]
        write_manifest(partial, utterances)
        made_with = {"espeak-ng": made[spec.languages[0]][1], "babel": version("babel")}
        text = json.dumps({"format": FORMAT, "spec": spec.model_dump(mode="json"), "made_with": made_with}, indent=2)
        (partial / SPEC).write_text(text + "\n", encoding="utf-8")
        _publish(spec, partial, out)
    except OSError as error:
        raise InputError(f"{out} cannot be written ({error.strerror}); free the disk or choose a folder.") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return out


def cached_corpus(
    spec: SynthSpec, cache_dir: str | Path | None = None, *, n_workers: int = 2, progress: Progress | None = None
) -> Path:
    """The corpus of a specification from the cache, made there on first use.

    The cache is ``cache_dir``, else METAVOX_CACHE, else the user's cache folder; the corpus lies in a folder named by
    a hash of the specification. Raises InputError as ``synthesize`` does.
    """
    root = Path(cache_dir) if cache_dir else cache_folder()
    key = json.dumps([FORMAT, spec.model_dump(mode="json")], sort_keys=True)
    folder = root / "synth" / hashlib.sha256(key.encode()).hexdigest()[:16]
    return synthesize(spec, folder, n_workers=n_workers, progress=progress)


def _is_made(spec: SynthSpec, out: Path) -> bool:
    """Whether the corpus is there already. Raises InputError when something else is."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    try:
        there = json.loads((out / SPEC).read_text(encoding="utf-8"))
        held, held_format = dict(there["spec"]), there["format"]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{out} holds something that is no synthetic corpus; name a new folder.") from None
    wanted = spec.model_dump(mode="json")
    if held == wanted and held_format == FORMAT:
        return True
    differ = [
        f"{key} is {held.get(key)} there and {wanted[key]} here" for key in wanted if held.get(key) != wanted[key]
    ]
    why = differ[0] if differ else f"format is {held_format} there and {FORMAT} here"
    raise InputError(f"{out} holds another synthetic corpus ({why}); name a new folder.")


def _publish(spec: SynthSpec, partial: Path, out: Path) -> None:
    """Give the complete folder its name. Another process may have been first, with the same bytes."""
    try:
        if out.is_dir() and not any(out.iterdir()):
            out.rmdir()
        os.replace(partial, out)
    except OSError:
        if not (out.exists() and _is_made(spec, out)):
            raise


Made = tuple[list[Utterance], str]
"""The takes of one language, and the version of espeak-ng."""


def _speak_all(spec: SynthSpec, root: Path, n_workers: int, progress: Progress | None) -> dict[str, Made]:
    """Every language in a process of its own: what espeak-ng said before colours what it says next, so the unit of
    work must not depend on how many workers there are."""
    events: queue.Queue[tuple[str, int] | tuple[str, Made] | BaseException] = queue.Queue()
    made: dict[str, Made] = {}
    n_done = 0
    with _workers(n_workers) as (pool, open_voice):

        def work(code: str) -> None:
            try:
                with open_voice() as voice:
                    events.put((code, _speak_language(spec, code, root, voice, lambda n: events.put((code, n)))))
            except BaseException as error:
                events.put(error)

        for code in spec.languages:
            pool.submit(work, code)
        while len(made) < len(spec.languages):
            event = events.get()
            if isinstance(event, BaseException):
                raise event
            code, what = event
            if isinstance(what, int):
                n_done += what
                if progress is not None:
                    progress(n_done, spec.n_takes_total)
            else:
                made[code] = what
    return made


@contextmanager
def _workers(n_workers: int) -> Iterator[tuple[ThreadPoolExecutor, Callable[[], Voice]]]:
    """Threads that each talk to one child at a time. Leaving in a hurry ends the children, and so the threads."""
    voices: list[Voice] = []
    lock = threading.Lock()
    closed = False

    def open_voice() -> Voice:
        voice = Voice()
        with lock:
            if not closed:
                voices.append(voice)
                return voice
        voice.close()
        raise InputError("Synthetic speech was interrupted; start it again.")

    pool = ThreadPoolExecutor(max(1, n_workers))
    try:
        yield pool, open_voice
    finally:
        with lock:
            closed = True
            for voice in voices:
                voice.kill()
        pool.shutdown(wait=True, cancel_futures=True)


def _speak_language(spec: SynthSpec, code: str, root: Path, voice: Voice, report: Callable[[int], None]) -> Made:
    folder = root / "audio" / code
    folder.mkdir(parents=True)
    texts = words(code, spec.n_words, spec.numbers_share, spec.seed, voice)
    utterances = []
    for speaker in speakers(spec, code):
        takes = _takes(spec, speaker, texts, folder)
        reply = voice.ask({"do": "render", "takes": takes}, f"speaking {LANGUAGES[code].name} as {speaker.voice}")
        for take, n_samples in zip(takes, reply["n_samples"], strict=True):
            path, text = Path(take["path"]), take["text"]
            facts = {"text": text, "label": text, "speaker": speaker.id, "lang": code}
            utterances.append(Utterance(f"{code}-{path.stem}", path, n_samples / RATE_HZ, **facts))
        report(len(takes))
    return utterances, voice.version
