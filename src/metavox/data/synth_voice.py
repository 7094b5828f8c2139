"""The voice of ``synth``: espeak-ng in a process of its own, texts in, phonemes or recordings out.

Run as ``python -m metavox.data.synth_voice``. Standard input carries one JSON object a line, standard output one
answer a line, in order; the process ends when its input does:

    {"do": "phonemes", "voice": "de", "texts": ["ja", "nein"]}   ->  {"phonemes": ["jˈɑː", "nˈaɪn"]}
    {"do": "render", "takes": [{"voice": "de+f3", "text": "ja", "rate_wpm": 175, "pitch": 50,
                                "pitch_range": 50, "path": "/a/1.wav"}]}   ->  {"n_samples": [8123]}
    {"do": "speak", "take": {... without path}}   ->  {"pcm": base64 of 16-bit samples}
    {"do": "timed", "takes": [{... without path}]}   ->  {"takes": [{"pcm": ..., "words": [[0, 0.0], [4, 0.31]]}]}
    anything that cannot be done   ->  {"error": "what; remedy"}

espeak-ng is licensed under GPL-3.0-or-later: only this process loads it, and Metavox talks to it through these lines.
The words of a timed take are what espeak-ng says one after the other: the position in the text of its first character,
counted from 0, and the second at which it starts. A number or a compound is several words; a phrase that its dictionary
holds ("of the") is one. There are no timed takes where any of them is not audible.

The engine is one global state that also remembers what it said before (flutter, noise), so a recording depends on
everything since the process started: same lines, same bytes.
"""

import base64
import ctypes
import difflib
import json
import os
import signal
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import soxr

RATE_HZ = 16_000
"""Rate of everything that comes out."""
VOLUME = 70
"""Percent of espeak's default: with the default, loud variants run into espeak's gain control."""
TRIM_LEVEL = 8
"""Samples of at most this magnitude (16 bits, -72 dBFS) at the ends of a take are cut."""
MIN_PEAK = 328
"""A take that stays below this (-40 dBFS) was not spoken."""
MIN_DURATION_S = 0.1

# From speak_lib.h of espeak-ng 1.52.
_SYNCHRONOUS, _DO_NOT_EXIT = 2, 0x8000
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4
_UTF8, _IPA = 1, 0x02
_END_OF_EVENTS, _WORD = 0, 1


class _EventId(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    """``espeak_EVENT``. A position in the text counts characters from 1, one in the sound milliseconds."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    ]


class VoiceError(Exception):
    """What cannot be spoken, and the remedy: a sentence without its full stop."""


class _Inaudible(VoiceError):
    """A text that nothing is said for."""


class Engine:
    """The one espeak-ng of this process."""

    def __init__(self, library: str, data: str) -> None:
        self._lib = ctypes.CDLL(library)
        self._lib.espeak_Info.restype = ctypes.c_char_p
        self._lib.espeak_TextToPhonemes.restype = ctypes.c_char_p
        self._variants = sorted(os.listdir(Path(data) / "voices" / "!v"))
        self._parts: list[bytes] = []
        self._words: list[tuple[int, float]] = []
        self._rate_hz = self._lib.espeak_Initialize(_SYNCHRONOUS, 0, data.encode(), _DO_NOT_EXIT)
        if self._rate_hz <= 0:
            raise VoiceError(f"espeak-ng does not start with the data in {data}; install it again")
        callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
        self._callback = callback(self._keep)  # espeak keeps the pointer only, so the object must live
        self._lib.espeak_SetSynthCallback(self._callback)
        self._lib.espeak_ng_SetRandSeed(ctypes.c_long(0))  # it starts from the clock

    @property
    def version(self) -> str:
        return self._lib.espeak_Info(None).decode().split()[0]

    def _keep(self, samples: int | None, n_samples: int, events: int | None) -> int:
        if samples and n_samples > 0:
            self._parts.append(ctypes.string_at(samples, 2 * n_samples))
        if events:
            event = ctypes.cast(events, ctypes.POINTER(_Event))
            number = 0
            while event[number].type != _END_OF_EVENTS:
                if event[number].type == _WORD:
                    self._words.append((event[number].text_position - 1, event[number].audio_position / 1000))
                number += 1
        return 0

    def set_voice(self, name: str) -> None:
        """Choose a language and variant, ``de+f3``. espeak itself keeps the old voice, or no variant, in silence."""
        _, plus, variant = name.partition("+")
        if plus and variant not in self._variants:
            near = difflib.get_close_matches(variant, self._variants) or self._variants
            raise VoiceError(f"espeak-ng {self.version} has no variant {variant!r}; choose from {', '.join(near)}")
        if self._lib.espeak_SetVoiceByName(name.encode()) != 0:
            raise VoiceError(f"espeak-ng {self.version} has no voice {name!r}; choose another language")

    def phonemes(self, text: str) -> str:
        """How the chosen voice reads a text, in IPA. A stretch in another language stands in its code: (en)ˈeɪ(de)."""
        pointer = ctypes.c_char_p(_encoded(text))
        clauses = []
        while pointer.value:
            clauses.append(self._lib.espeak_TextToPhonemes(ctypes.byref(pointer), _UTF8, _IPA).decode())
        return " ".join(clauses).strip()

    def speak(self, take: dict[str, Any]) -> np.ndarray:
        """One take, (S,) int16 at ``RATE_HZ``, without the silence at its ends."""
        return self._spoken(take)[0]

    def speak_timed(self, take: dict[str, Any]) -> tuple[np.ndarray, list[tuple[int, float]]]:
        """One take, and of each word that espeak-ng says: (position in the text from 0, start in seconds)."""
        sound, cut_s = self._spoken(take)
        duration_s = len(sound) / RATE_HZ
        return sound, [(place, min(max(start_s - cut_s, 0.0), duration_s)) for place, start_s in self._words]

    def _spoken(self, take: dict[str, Any]) -> tuple[np.ndarray, float]:
        """The sound at ``RATE_HZ`` and the seconds of silence that were cut before it."""
        self.set_voice(take["voice"])  # puts rate and pitch back to those of the voice
        for parameter, value in (
            (_RATE, take["rate_wpm"]),
            (_PITCH, take["pitch"]),
            (_RANGE, take["pitch_range"]),
            (_VOLUME, VOLUME),
        ):
            if self._lib.espeak_SetParameter(parameter, int(value), 0) != 0:
                raise VoiceError(f"espeak-ng refuses the value {value} of parameter {parameter}; stay within its range")
        text = _encoded(take["text"])
        self._parts.clear()
        self._words.clear()
        if self._lib.espeak_Synth(text, len(text) + 1, 0, 1, 0, _UTF8, None, None) != 0:
            raise VoiceError(f"espeak-ng does not speak {take['text']!r}; choose another text")
        sound, n_cut = _trimmed(np.frombuffer(b"".join(self._parts), np.int16))
        if len(sound) < MIN_DURATION_S * self._rate_hz or int(np.abs(sound.astype(np.int32)).max()) < MIN_PEAK:
            raise _Inaudible(
                f"{take['voice']} says nothing audible for {take['text']!r}; choose another text or variant"
            )
        resampled = soxr.resample(sound.astype(np.float32), self._rate_hz, RATE_HZ)
        return np.clip(np.rint(resampled), -32768, 32767).astype("<i2"), n_cut / self._rate_hz


def _encoded(text: str) -> bytes:
    if not text.strip() or "\0" in text:
        raise VoiceError(f"{text!r} is nothing to speak; give a text with letters")
    return text.encode()


def _trimmed(sound: np.ndarray) -> tuple[np.ndarray, int]:
    """The sound without the silence at its ends, and how many samples were cut before it."""
    loud = np.flatnonzero(np.abs(sound.astype(np.int32)) > TRIM_LEVEL)
    return (sound[loud[0] : loud[-1] + 1], int(loud[0])) if len(loud) else (sound[:0], 0)


def _as_text(sound: np.ndarray) -> str:
    return base64.b64encode(sound.tobytes()).decode()


def _write(path: str, sound: np.ndarray) -> None:
    with wave.open(path, "wb") as file:
        file.setparams((1, 2, RATE_HZ, len(sound), "NONE", ""))
        file.writeframes(sound.tobytes())


def answer(engine: Engine, job: dict[str, Any]) -> dict[str, Any]:
    """Do one job. Raises VoiceError."""
    if job["do"] == "phonemes":
        engine.set_voice(job["voice"])
        return {"phonemes": [engine.phonemes(text) for text in job["texts"]]}
    if job["do"] == "render":
        n_samples = []
        for take in job["takes"]:
            sound = engine.speak(take)
            _write(take["path"], sound)
            n_samples.append(len(sound))
        return {"n_samples": n_samples}
    if job["do"] == "speak":
        return {"pcm": _as_text(engine.speak(job["take"]))}
    if job["do"] == "timed":
        try:
            spoken = [engine.speak_timed(take) for take in job["takes"]]
        except _Inaudible:
            spoken = []
        return {"takes": [{"pcm": _as_text(sound), "words": words} for sound, words in spoken]}
    raise VoiceError(f"there is no job {job['do']!r}; see synth_voice")


def main() -> None:
    """Answer jobs until the input ends. The first line out is ``{"version": ...}`` or an error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends this process
    out = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    os.dup2(2, 1)  # what the library prints must not stand among the answers

    def say(reply: dict[str, Any]) -> None:
        out.write(json.dumps(reply, ensure_ascii=False) + "\n")
        out.flush()

    try:
        import espeakng_loader

        engine = Engine(espeakng_loader.get_library_path(), espeakng_loader.get_data_path())
    except (ImportError, OSError, RuntimeError, VoiceError) as error:
        say({"error": str(error)})
        return
    say({"version": engine.version})
    for line in sys.stdin.buffer:
        try:
            say(answer(engine, json.loads(line)))
        except VoiceError as error:
            say({"error": str(error)})
        except OSError as error:
            what = f"{error.filename} cannot be written ({error.strerror})"
            say({"error": f"{what}; free the disk or choose another folder"})


if __name__ == "__main__":
    main()
