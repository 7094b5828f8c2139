"""What is held of enrolled voices, and the bytes of it: vectors and dates; sound only where it was asked for.

The bytes are safetensors without compression. All voices stand in one document, so that a voice that is left out of it
is in no other place.
"""

import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ..contracts import InputError
from ..data.layouts import printable, shown

MAX_NAME_LENGTH = 100
MAX_VOICES, MAX_CLIPS = 100_000, 1_000
MAX_SPEECH_S = 100_000.0


@dataclass(frozen=True, eq=False)
class Voiceprint:
    """What is held of one voice, in the order of its clips."""

    vectors: Float[np.ndarray, "n D"]
    """Of unit length, float32."""
    speech_s: Float[np.ndarray, " n"]
    snr_db: Float[np.ndarray, " n"]
    enrolled: tuple[str, ...]
    """When, in UTC, as ISO 8601 writes it."""
    audio: tuple[bytes | None, ...]
    """FLAC, where it is kept."""

    def __len__(self) -> int:
        return len(self.vectors)


@dataclass(frozen=True, eq=False)
class Voiceprints:
    """All voices of a vault."""

    voices: Mapping[str, Voiceprint]
    model: str
    """Where the model was found: a bundled name, a folder."""
    model_hash: str
    encoder_hash: str
    vault: str = ""
    """Drawn once for each vault; 32 hexadecimal digits."""
    revision: int = 0
    """How often it was written."""


def voice_name(name: Any) -> str:
    """A name as it is kept: text in Unicode NFC.

    Raises:
        InputError: no text, empty, too long, with characters that cannot be printed, or with a path in it.
    """
    if not isinstance(name, str):
        raise InputError(f"The name of a voice is text, and {shown(repr(name))} is none; write it in letters.")
    text = unicodedata.normalize("NFC", name)
    remedy = "choose another name"
    if not text.strip():
        raise InputError(f"The name of the voice is empty; {remedy}.")
    if len(text) > MAX_NAME_LENGTH:
        raise InputError(f"The name {shown(text)} has {len(text)} characters, at most {MAX_NAME_LENGTH}; {remedy}.")
    if printable(text) != text:
        raise InputError(f"The name {shown(text)} holds characters that cannot be printed; {remedy}.")
    if "/" in text or "\\" in text or text in (".", ".."):
        raise InputError(f"The name {shown(text)} is a path, and a voice is no file; {remedy}, without / and \\.")
    if text != text.strip():
        raise InputError(f"The name {shown(text)} begins or ends with a space; {remedy}.")
    return text


# ------------------------------------------------------------------------------------------------------------- bytes


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


_Date = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\+00:00|Z)$")]
Hash = Annotated[str, Field(pattern=r"^[0-9A-Za-z:._-]{1,200}$")]


class _Row(_Strict):
    name: str = Field(min_length=1, max_length=MAX_NAME_LENGTH)
    enrolled: tuple[_Date, ...] = Field(min_length=1, max_length=MAX_CLIPS)
    audio_bytes: tuple[Annotated[int, Field(ge=0)], ...]

    @model_validator(mode="after")
    def _fits(self) -> "_Row":
        if len(self.audio_bytes) != len(self.enrolled):
            raise ValueError("a voice has another number of recordings than of clips")
        voice_name(self.name)
        return self


class _Document(_Strict):
    vault: str = Field(pattern=r"^[0-9a-f]{32}$")
    revision: int = Field(ge=1)
    model: str = Field(max_length=5_000)
    model_hash: Hash
    encoder_hash: Hash
    voices: tuple[_Row, ...] = Field(max_length=MAX_VOICES)

    @model_validator(mode="after")
    def _once(self) -> "_Document":
        if len({row.name for row in self.voices}) < len(self.voices):
            raise ValueError("a name stands twice")
        return self


def to_bytes(prints: Voiceprints) -> bytes:
    """As ``from_bytes`` reads it. Names are written as UTF-8, and nothing is compressed."""
    parts = list(prints.voices.values())
    recordings = [audio or b"" for part in parts for audio in part.audio]
    document = {
        "vault": prints.vault,
        "revision": prints.revision,
        "model": prints.model,
        "model_hash": prints.model_hash,
        "encoder_hash": prints.encoder_hash,
        "voices": [
            {"name": name, "enrolled": one.enrolled, "audio_bytes": [len(audio or b"") for audio in one.audio]}
            for name, one in prints.voices.items()
        ],
    }
    text = json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return save(
        {
            "document": np.frombuffer(text, np.uint8),
            "vectors": np.concatenate([np.zeros((0, _width(parts)), np.float32), *(one.vectors for one in parts)]),
            "speech_s": np.concatenate([np.zeros(0), *(one.speech_s for one in parts)]),
            "snr_db": np.concatenate([np.zeros(0), *(one.snr_db for one in parts)]),
            "audio": np.frombuffer(b"".join(recordings), np.uint8),
        }
    )


def _width(parts: list[Voiceprint]) -> int:
    return parts[0].vectors.shape[1] if parts else 1


def from_bytes(data: bytes) -> Voiceprints:
    """What ``to_bytes`` wrote.

    Raises:
        ValueError: anything else.
    """
    try:
        tensors = load(data)
        document = _Document.model_validate_json(tensors["document"].tobytes())
    except (SafetensorError, KeyError, ValidationError) as err:
        raise ValueError(f"it holds no voices ({type(err).__name__})") from None
    counts = [len(row.enrolled) for row in document.voices]
    vectors, speech_s, snr_db = _checked(tensors, sum(counts))
    sizes = [size for row in document.voices for size in row.audio_bytes]
    audio = tensors.get("audio", np.zeros(0, np.uint8)).tobytes()
    if len(audio) != sum(sizes):
        raise ValueError("its recordings are not there")
    ends = np.cumsum([0, *counts])
    edges = np.cumsum([0, *sizes])
    recordings = [audio[a:b] or None for a, b in pairwise(edges)]
    voices = {
        row.name: Voiceprint(vectors[a:b], speech_s[a:b], snr_db[a:b], row.enrolled, tuple(recordings[a:b]))
        for row, (a, b) in zip(document.voices, pairwise(ends), strict=True)
    }
    return Voiceprints(
        voices, document.model, document.model_hash, document.encoder_hash, document.vault, document.revision
    )


def _checked(tensors: Mapping[str, np.ndarray], n_clips: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors, seconds and levels of all clips, as they can only be."""
    vectors, speech_s, snr_db = (tensors.get(name) for name in ("vectors", "speech_s", "snr_db"))
    if vectors is None or speech_s is None or snr_db is None:
        raise ValueError("its vectors are not there")
    if vectors.dtype != np.float32 or vectors.ndim != 2 or len(vectors) != n_clips:
        raise ValueError("its vectors do not fit its voices")
    for values, most in ((speech_s, MAX_SPEECH_S), (snr_db, 1_000.0)):
        if values.dtype != np.float64 or values.shape != (n_clips,):
            raise ValueError("its clips do not fit its voices")
        if not (np.isfinite(values).all() and (values >= 0).all() and (values <= most).all()):
            raise ValueError("its clips are of impossible length or level")
    if n_clips and not np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3):  # NaN is not close either
        raise ValueError("its vectors are not of unit length")
    return vectors, speech_s, snr_db
