"""``profile.json`` and ``earlier.json``: what is written of a revision, and what is relied on when they are read."""

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..checkpoint import read_document
from ..config import validated
from ..contracts import Calibration, FrontEnd, InputError, Place, Promise, as_row
from .contents import (
    FORMAT,
    MAX_TAKE_S,
    MAX_TAKES,
    MAX_TENSOR_BYTES,
    MAX_WORD_LENGTH,
    MAX_WORDS,
    N_EARLIER,
    Revision,
    Source,
)

AGAIN = "restore the profile or enrol again with `metavox enroll`"
"""The remedy for what is damaged."""
MAX_JSON_BYTES = 20_000_000
D = TypeVar("D", bound=BaseModel)


def digest_of(document: Mapping[str, Any]) -> str:
    """SHA-256 of a profile's document but for its own ``digest``: told are slips and damage, not forgery."""
    rest = {key: value for key, value in document.items() if key != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def row_of(revision: Revision) -> dict[str, Any]:
    """A revision as JSON holds it: all but the frames, the samples and the state."""
    calibration = revision.calibration
    promise = None if calibration.promise is None else as_row(calibration.promise)
    return {
        "revision": revision.number,
        "change": revision.change,
        "labels": list(revision.labels),
        "calibration": {**as_row(calibration), "promise": promise},
        "expected_refusals": revision.expected_refusals,
        "temperature": revision.temperature,
        **({} if revision.place is None else {"place": as_row(revision.place)}),
        "takes": [
            {
                "name": take.name,
                "word": take.word,
                "source": take.source,
                "duration_s": round(take.duration_s, 3),
                "key": take.key,
                "audio": take.audio is not None,
            }
            for take in revision.takes
        ],
    }


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class _Threshold(_Strict):
    threshold: float
    n_target: int = Field(ge=0)
    n_nontarget: int = Field(ge=0)
    source: str
    promise: Promise | None = None

    def calibration(self) -> Calibration:
        return Calibration(self.threshold, self.n_target, self.n_nontarget, self.source, self.promise)


_Word = Annotated[str, Field(min_length=1, max_length=MAX_WORD_LENGTH)]
_Level = Annotated[float, Field(ge=-500, le=500)]
_Key = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class _TakeRow(_Strict):
    name: str = Field(max_length=300)
    word: _Word
    source: Source
    duration_s: float = Field(ge=0, le=MAX_TAKE_S + 1)
    key: _Key
    audio: bool = False


class _PlaceRow(_Strict):
    power_db: tuple[_Level, ...] = Field(min_length=8, max_length=256)
    low_db: _Level
    high_db: _Level
    duration_s: float = Field(ge=0)

    def place(self) -> Place:
        return Place(self.power_db, self.low_db, self.high_db, self.duration_s)


class RevisionRow(_Strict):
    """A revision as it is written."""

    revision: int = Field(ge=1)
    change: str = Field(max_length=1_000)
    labels: tuple[_Word, ...] = Field(min_length=1, max_length=MAX_WORDS)
    calibration: _Threshold
    expected_refusals: float | None = Field(None, ge=0, le=1)
    temperature: float | None = Field(None, gt=0)
    takes: tuple[_TakeRow, ...] = Field(max_length=MAX_TAKES)
    place: _PlaceRow | None = None

    @model_validator(mode="after")
    def _words_are_labels(self) -> "RevisionRow":
        if len(set(self.labels)) < len(self.labels):
            raise ValueError("the labels name a word twice")
        odd = {take.word for take in self.takes} - set(self.labels)
        if odd:
            raise ValueError(f"takes are of {sorted(odd)[0]!r}, which is no label")
        return self


class FileRow(_Strict):
    """Another file of the folder."""

    bytes: int = Field(ge=0, le=MAX_TENSOR_BYTES)
    sha256: str


_FileName = Annotated[
    str, Field(pattern=r"^((state|takes|earlier)\.safetensors|earlier\.json|audio/[0-9a-f]{32}\.flac)$")
]


class _Options(_Strict):
    model_config = ConfigDict(extra="forbid")

    target: float | None = None
    per_hour: bool = False
    confidence: float = Field(0.95, gt=0, lt=1)
    negatives: tuple[str, ...] | None = None
    keep_audio: bool = False


class ProfileDocument(RevisionRow):
    """What is relied on in ``profile.json``; other keys are for people."""

    front_end: FrontEnd
    model_hash: str
    version: str
    model: str | None = None
    model_relative: str | None = None
    model_name: str = ""
    options: _Options | None = None
    files: dict[_FileName, FileRow] = Field(max_length=2 * MAX_TAKES)
    digest: str


class EarlierDocument(_Strict):
    """``earlier.json``."""

    earlier: tuple[RevisionRow, ...] = Field(max_length=N_EARLIER)


def read_profile_document(path: Path) -> tuple[dict[str, Any], ProfileDocument]:
    """``profile.json`` as it stands, and what is relied on of it.

    Raises:
        InputError: damaged, changed, or of another format.
    """
    if path.stat().st_size > MAX_JSON_BYTES:
        raise InputError(f"{path} has {path.stat().st_size} bytes, at most {MAX_JSON_BYTES} are read; {AGAIN}.")
    document = read_document(path, "profile", None)
    written = document.get("format")
    if written == 1:
        raise InputError(
            f"{path} has format 1, which kept no takes, and this version ({version('metavox')}) reads "
            f"format {FORMAT}; enrol again with `metavox enroll`."
        )
    if written != FORMAT:
        raise InputError(
            f"{path} has format {written} and this version ({version('metavox')}) reads format {FORMAT}; "
            f"enrol again with `metavox enroll` or install the version that wrote it ({document.get('version')})."
        )
    found = checked(ProfileDocument, document, path)
    if digest_of(document) != found.digest:
        raise InputError(f"{path} is not as it was saved: something in it was changed; {AGAIN}.")
    return document, found


def checked(model: type[D], document: Any, path: Path) -> D:
    """A document of a profile; InputError with the remedy where something in it is odd."""
    try:
        return validated(model, document, str(path))
    except InputError as err:
        raise InputError(f"{str(err).rstrip('.')}; enrol again with `metavox enroll`.") from None
