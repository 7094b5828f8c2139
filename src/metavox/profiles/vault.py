"""Voices on disk: one file in one folder, encrypted with the user's key, and whole or not there at all.

    voices.metavox    what kind of file this is, how it is encrypted; the voices (``voiceprints``); SHA-256 of it all

With a key the voices, their names too, are encrypted by AES-256 in Galois/Counter mode (NIST SP 800-38D) with a data
key and a nonce that are drawn anew each time the file is written. The data key is encrypted with the user's. What
stands before the voices (file name, format, hash of the model, recipe of the key) is authenticated with them, so that
no part can be changed or taken from another file.

Without a key the file holds the same in the clear. Its SHA-256 tells of accidents, and of nobody who means harm.

Who can read the folder learns how long the file is, and so about how many clips there are. A voice that is forgotten is
not in the file any more; file systems and backups may keep what they held before.
"""

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..contracts import InputError
from .keys import KEY_BYTES, Key, Recipe, fingerprint_of, require_cryptography
from .seen import Seen, remember, require_newest
from .voiceprints import Hash, Voiceprints, from_bytes, to_bytes

FILE = "voices.metavox"
FORMAT = 1
MAX_FILE_BYTES = 1_000_000_000
MAX_HEAD_BYTES = 10_000

_MAGIC = b"metavox voices\n"
_NONCE_BYTES, _TAG_BYTES, _DIGEST_BYTES, _LENGTH_BYTES = 12, 16, 32, 4
_DATA_KEY = b"data key of a metavox vault"
_AGAIN = "restore it from a copy, or enrol again with `metavox speaker enroll`"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Encryption(_Strict):
    cipher: str = Field(pattern=r"^AES-256-GCM$")
    key: Recipe
    data_key: str = Field(pattern=rf"^[0-9a-f]{{{2 * (_NONCE_BYTES + KEY_BYTES + _TAG_BYTES)}}}$")
    """Nonce and the encrypted data key."""
    nonce: str = Field(pattern=rf"^[0-9a-f]{{{2 * _NONCE_BYTES}}}$")


class _Head(_Strict):
    library: str = Field(pattern=r"^metavox$")
    format: int
    version: str = Field(max_length=100)
    file: str = Field(max_length=300)
    model_hash: Hash
    encryption: _Encryption | None


@dataclass(frozen=True, eq=False)
class Vault:
    """Voices as they were read or written."""

    prints: Voiceprints
    key: Key | None
    digest: str
    """SHA-256 of the file, from which one that was written since is told."""
    recipe: Any = None
    """How its key was made; kept, so that a passphrase is worked out once."""


# ------------------------------------------------------------------------------------------------------------ reading


def read_vault(folder: Path, key: Key | None = None) -> Vault:
    """The voices of a folder.

    Raises:
        InputError: no voices there; another key, a missing or a needless one; a file that is damaged, truncated,
            tampered with, renamed, of another format, or older than one that was there before.
    """
    data = _content(folder)
    path = folder / FILE
    head, start = _head(data, path)
    _require_key(head, key, path)
    body = data[start:-_DIGEST_BYTES]
    if head.encryption is not None and key is not None:
        body = _decrypted(body, head.encryption, key, data[:start], path)
    try:
        prints = from_bytes(body)
    except ValueError as err:
        raise InputError(f"{path} is damaged: {err}; {_AGAIN}.") from None
    if prints.model_hash != head.model_hash:
        raise InputError(f"{path} is damaged: its parts are of two models; {_AGAIN}.")
    seen = Seen(vault=prints.vault, revision=prints.revision, encrypted=key is not None)
    require_newest(folder, seen)
    remember(folder, seen)
    return Vault(prints, key, fingerprint_of(data), head.encryption and head.encryption.key)


def holds_voices(folder: Path) -> bool:
    """Whether a vault is there."""
    return os.path.lexists(folder / FILE)


def _content(folder: Path) -> bytes:
    """The bytes of the file, limited before they are read."""
    path = folder / FILE
    try:
        about = path.lstat()
        if not stat.S_ISREG(about.st_mode):
            raise InputError(f"{path} is no regular file; {_AGAIN}.")
        if about.st_size > MAX_FILE_BYTES:
            raise InputError(f"{path} has {about.st_size} bytes, at most {MAX_FILE_BYTES} are read; {_AGAIN}.")
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{folder} holds no voices (no {FILE}); make them with `metavox speaker enroll`.") from None
    except OSError as err:
        raise InputError(f"{path} cannot be read ({err.strerror}); check its permissions.") from None


def _head(data: bytes, path: Path) -> tuple[_Head, int]:
    """What stands before the voices, and where they begin; the whole file is as it was written."""
    first = len(_MAGIC) + _LENGTH_BYTES
    if data[: len(_MAGIC)] != _MAGIC[: len(data)]:
        raise InputError(f"{path} was not written by Metavox, or its beginning is damaged; {_AGAIN}.")
    n_head = int.from_bytes(data[len(_MAGIC) : first], "little")
    whole = len(data) >= first + _DIGEST_BYTES and hashlib.sha256(data[:-_DIGEST_BYTES]).digest() == data[-32:]
    if not whole or n_head > MAX_HEAD_BYTES or first + n_head + _DIGEST_BYTES > len(data):
        raise InputError(f"{path} is not as it was saved, but damaged, truncated or changed; {_AGAIN}.")
    text = data[first : first + n_head]
    try:
        document = json.loads(text)
        written = document.get("format") if isinstance(document, dict) else None
        if isinstance(written, int) and written != FORMAT:
            raise InputError(
                f"{path} has format {written} and this version ({version('metavox')}) reads format {FORMAT}; "
                f"install the version that wrote it."
            )
        head = _Head.model_validate(document)
    except (ValidationError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as err:
        raise InputError(f"{path} is damaged: its beginning is odd ({type(err).__name__}); {_AGAIN}.") from None
    if head.file != path.name:
        raise InputError(f"{path} was saved as {head.file!r} and renamed since; give it its name back.")
    return head, first + n_head


def _require_key(head: _Head, key: Key | None, path: Path) -> None:
    if head.encryption is None:
        if key is not None:
            raise InputError(
                f"{path} is not encrypted and {key.source} was given: if it was encrypted once, somebody replaced it; "
                "leave the key out if it never was."
            )
        return
    wanted = "a passphrase" if head.encryption.key.kind == "scrypt" else "a key of 32 bytes"
    remedy = "--passphrase-env VAR" if head.encryption.key.kind == "scrypt" else "--key-file FILE"
    if key is None:
        raise InputError(f"{path} is encrypted with {wanted} and none was given; give it with {remedy}.")
    if key.kind != head.encryption.key.kind:
        raise InputError(f"{path} is encrypted with {wanted} and {key.source} was given; give it with {remedy}.")


def _decrypted(body: bytes, how: _Encryption, key: Key, bound: bytes, path: Path) -> bytes:
    require_cryptography()
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    wrapped = bytes.fromhex(how.data_key)
    try:
        data_key = AESGCM(key.made(how.key)).decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], _DATA_KEY)
    except InvalidTag:
        raise InputError(
            f"{path} was saved with another key than the one given; give that one, or enrol again in another folder."
        ) from None
    try:
        return AESGCM(data_key).decrypt(bytes.fromhex(how.nonce), body, bound)
    except InvalidTag:
        raise InputError(f"{path} was tampered with: the key fits and the content does not; {_AGAIN}.") from None


# ------------------------------------------------------------------------------------------------------------ writing


def write_vault(folder: Path, prints: Voiceprints, key: Key | None, before: Vault | None = None) -> Vault:
    """Write voices into a new folder, or in place of those that were read from it: all of them or none.

    The file is written beside, forced to the disk and renamed. What an earlier writing left over is removed.

    Args:
        folder: is made where it is not.
        prints: what to write; ``vault`` and ``revision`` are set here.
        key: None writes in the clear.
        before: what was read from this folder or written to it.

    Raises:
        InputError: the folder holds other voices than ``before``, or something else.
    """
    folder = Path(os.path.realpath(folder))
    if os.path.lexists(folder) and not folder.is_dir():
        raise InputError(f"{folder} is a file; name a folder for the voices.")
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        return _written(folder, prints, key, before)
    except BaseException:
        if made:
            with contextlib.suppress(OSError):  # somebody may have put something there
                folder.rmdir()
        raise


def _written(folder: Path, prints: Voiceprints, key: Key | None, before: Vault | None) -> Vault:
    with _alone(folder):
        _require_same(folder, before)
        known = before is not None and holds_voices(folder)
        stored = replace(
            prints,
            vault=before.prints.vault if before is not None and known else os.urandom(16).hex(),
            revision=before.prints.revision + 1 if before is not None and known else 1,
        )
        recipe = None
        if key is not None:
            recipe = before.recipe if before is not None and before.key is key else key.recipe()
        data = _sealed(to_bytes(stored), stored.model_hash, key, recipe)
        if len(data) > MAX_FILE_BYTES:
            raise InputError(
                f"The voices take {len(data)} bytes, at most {MAX_FILE_BYTES} are read again; forget some of them."
            )
        for path in _left_over(folder):
            path.unlink(missing_ok=True)
        _put(folder / FILE, data)
    remember(folder, Seen(vault=stored.vault, revision=stored.revision, encrypted=key is not None))
    return Vault(stored, key, fingerprint_of(data), recipe)


def _require_same(folder: Path, before: Vault | None) -> None:
    """Nobody else's voices are written over, nor a folder of something else used."""
    if not holds_voices(folder):
        others = sorted(path.name for path in folder.iterdir() if path not in _left_over(folder))
        if others:
            raise InputError(f"{folder} holds {others[0]!r} and no voices; choose another folder or empty it.")
        return
    if before is None:
        raise InputError(
            f"{folder} holds voices already; load them first (SpeakerVerifier.load) or choose another folder."
        )
    if fingerprint_of(_content(folder)) != before.digest:
        raise InputError(f"{folder} was written by somebody else since it was read; load it and do it again.")


def _sealed(body: bytes, model_hash: str, key: Key | None, recipe: Any) -> bytes:
    """The file: what it is, the voices, and SHA-256 of both."""
    head: dict[str, Any] = {
        "library": "metavox",
        "format": FORMAT,
        "version": version("metavox"),
        "file": FILE,
        "model_hash": model_hash,
        "encryption": None,
    }
    if key is None:
        data = _opening(head) + body
    else:
        require_cryptography()
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        data_key, nonce, wrapping = AESGCM.generate_key(8 * KEY_BYTES), os.urandom(12), os.urandom(12)
        wrapped = wrapping + AESGCM(key.made(recipe)).encrypt(wrapping, data_key, _DATA_KEY)
        head["encryption"] = {
            "cipher": "AES-256-GCM",
            "key": recipe.model_dump(),
            "data_key": wrapped.hex(),
            "nonce": nonce.hex(),
        }
        bound = _opening(head)
        data = bound + AESGCM(data_key).encrypt(nonce, body, bound)
    return data + hashlib.sha256(data).digest()


def _opening(head: dict[str, Any]) -> bytes:
    text = json.dumps(head).encode()
    return _MAGIC + len(text).to_bytes(_LENGTH_BYTES, "little") + text


def _put(path: Path, data: bytes) -> None:
    """Give ``path`` a new content that is on the disk before it takes the name; for the owner's eyes only."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    with contextlib.suppress(OSError), _opened(path.parent) as place:  # not every system can
        os.fsync(place)


def _left_over(folder: Path) -> list[Path]:
    """Files of writings that were cut off."""
    return sorted(folder.glob(f".{FILE}.*.tmp"))


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int]:
    place = os.open(folder, os.O_RDONLY)
    try:
        yield place
    finally:
        os.close(place)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Nobody else writes there meanwhile, where the system can see to that."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with _opened(folder) as place:
        with contextlib.suppress(OSError):  # a network drive may know no locks
            fcntl.flock(place, fcntl.LOCK_EX)
        yield
