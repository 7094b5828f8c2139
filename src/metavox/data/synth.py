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
from importlib.metadata import version
from pathlib import Path

import numpy as np
from jaxtyping import Float

from ..contracts import InputError, Utterance
from .cache import cache_folder
from .manifests import write_manifest
from .synth_languages import LANGUAGES, Language, find_language
from .synth_process import Voice
from .synth_similar import similar_words
from .synth_speakers import resize_tract, speakers, takes
from .synth_spec import SynthSpec as SynthSpec
from .synth_words import NUMBERS, candidates, choose, told_apart

RATE_HZ = 16_000
FORMAT = 2
"""Goes up whenever the same specification would give other recordings."""
SPEC = "spec.json"
_WITH_ACCENTS = {row.accent_of for row in LANGUAGES.values() if row.accent_of}
"""Languages whose utterances say their accent: ``es`` and ``es-419`` are both ``lang`` es."""

Progress = Callable[[int, int], None]
"""(takes done, takes in all)."""

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


def known_words(code: str, voice: Voice) -> dict[str, str]:
    """Every word and number of a language that can be told apart by ear, and how it is read, in IPA. An accent has
    those of its language that it tells apart too."""
    language = find_language(code)
    if language.accent_of:
        return _read(list(known_words(language.accent_of, voice)), language, voice)
    return _read([str(number) for number in NUMBERS] + candidates(code), language, voice)


def _read(texts: Sequence[str], language: Language, voice: Voice) -> dict[str, str]:
    """Those of the texts that can be told apart by ear, and how they are read."""

    def ask(asked: Sequence[str]) -> list[str]:
        job = {"do": "phonemes", "voice": language.voice, "texts": list(asked)}
        phonemes: list[str] = voice.ask(job, f"reading {language.name}")["phonemes"]
        return phonemes

    return told_apart(texts, ask)


def words(spec: SynthSpec, code: str, voice: Voice) -> list[str]:
    """What is said in a language: words that espeak-ng reads as words and that sound unlike each other, first the
    similar ones; numbers are digits. An accent says what its language says, as far as it tells the words apart.

    Raises InputError when there are fewer than ``spec.n_words``.
    """
    language = find_language(code)
    base = find_language(language.base)
    phonemes = known_words(base.code, voice)
    known = list(phonemes)
    allowed = set(known) if language is base else set(_read(known, language, voice))
    near: list[str] = []
    n_similar = round(spec.similar * spec.n_words)
    if n_similar:
        near = similar_words(base.code, phonemes, spec.seed, lambda texts: _read(texts, base, voice))
        near = near if language is base else list(_read(near, language, voice))
        if len(near) < n_similar:
            raise InputError(
                f"{language.name} has {len(near)} words like {near[0]!r} and {n_similar} are asked for; "
                f"ask for fewer words or a smaller share of similar ones, or try another seed."
            )
    chosen = near[:n_similar]
    n_more = spec.n_words - n_similar
    return chosen + choose(code, known, n_more, spec.numbers_share, spec.seed, allowed.difference(chosen))


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
    texts = words(spec, code, voice)
    language = LANGUAGES[code]
    facts = {"lang": language.base, "accent": code if language.base in _WITH_ACCENTS else None}
    utterances = []
    for speaker in speakers(spec, code):
        jobs = takes(spec, speaker, texts, folder)
        reply = voice.ask({"do": "render", "takes": jobs}, f"speaking {language.name} as {speaker.voice}")
        for job, n_spoken in zip(jobs, reply["n_samples"], strict=True):
            path, text = Path(job["path"]), job["text"]
            n_samples = n_spoken if speaker.tract == 1 else resize_tract(path, speaker.tract)
            said = {"text": text, "label": text, "speaker": speaker.id, **facts}
            utterances.append(Utterance(f"{code}-{path.stem}", path, n_samples / RATE_HZ, **said))
        report(len(jobs))
    return utterances, voice.version
