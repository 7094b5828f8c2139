"""The user's key of a vault: a passphrase, or 32 bytes of a file. Neither is ever written or shown."""

import hashlib
import importlib.util
import os
import stat
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..contracts import InputError

KEY_BYTES = 32
MIN_COST, MAX_COST = 2**14, 2**18
MAX_SCRYPT_BYTES = 256 * 2**20
"""What a vault may ask for to turn a passphrase into its key: a hostile file must not take all memory."""
MAX_PASSPHRASE_BYTES = 10_000


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RawKey(_Strict):
    """The key is that of a file."""

    kind: Literal["raw"] = "raw"


class ScryptKey(_Strict):
    """The key comes of a passphrase by scrypt (RFC 7914)."""

    kind: Literal["scrypt"] = "scrypt"
    n: int = Field(2**15, ge=MIN_COST, le=MAX_COST)
    r: int = Field(8, ge=8, le=16)
    p: int = Field(3, ge=1, le=16)
    salt: str = Field(pattern=r"^[0-9a-f]{32}$")

    @model_validator(mode="after")
    def _affordable(self) -> "ScryptKey":
        if self.n & (self.n - 1) or 128 * self.n * self.r > MAX_SCRYPT_BYTES:
            raise ValueError(f"scrypt with n {self.n} and r {self.r} is not done here")
        return self


Recipe = Annotated[RawKey | ScryptKey, Field(discriminator="kind")]
"""How the key of a vault comes of what the user has."""


@dataclass(frozen=True, eq=False)
class Key:
    """What the user has: a passphrase or 32 bytes."""

    kind: Literal["raw", "scrypt"]
    secret: bytes = field(repr=False)
    _made: dict[str, bytes] = field(default_factory=dict, repr=False)

    def recipe(self) -> RawKey | ScryptKey:
        """A new one: a passphrase gets a salt of its own for each vault."""
        return RawKey() if self.kind == "raw" else ScryptKey(salt=os.urandom(16).hex())

    def made(self, recipe: RawKey | ScryptKey) -> bytes:
        """32 bytes by the recipe of a vault; 100 ms for a passphrase, once."""
        if isinstance(recipe, RawKey):
            return self.secret
        name = recipe.model_dump_json()
        if name not in self._made:
            require_cryptography()
            from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

            scrypt = Scrypt(salt=bytes.fromhex(recipe.salt), length=KEY_BYTES, n=recipe.n, r=recipe.r, p=recipe.p)
            self._made[name] = scrypt.derive(self.secret)
        return self._made[name]

    @property
    def source(self) -> str:
        """What the user gave, in words."""
        return "a passphrase" if self.kind == "scrypt" else "a key of 32 bytes"


def key_of(given: "str | bytes | Path | Key") -> Key:
    """A key of a passphrase (text), of 32 bytes, or of the file of a path that holds them.

    Raises:
        InputError: an empty passphrase, another number of bytes, a file that cannot be read.
    """
    match given:
        case Key():
            return given
        case Path():
            return _of_file(given)
        case bytes() if len(given) == KEY_BYTES:
            return Key("raw", given)
        case bytes():
            raise InputError(f"The key has {len(given)} bytes and needs {KEY_BYTES}; make one with os.urandom(32).")
        case str():
            return _of_passphrase(given)
    raise InputError(
        f"A key is a passphrase, 32 bytes or the path of a file with them; {type(given).__name__} is none."
    )


def require_cryptography() -> None:
    """Raise InputError where nothing can be encrypted."""
    if importlib.util.find_spec("cryptography") is None:
        raise InputError("A key needs cryptography, which is not installed; run pip install 'metavox[secure]'.")


def _of_passphrase(text: str) -> Key:
    try:
        secret = unicodedata.normalize("NFC", text).encode()
    except UnicodeEncodeError:
        raise InputError("The passphrase is no text (broken Unicode); choose another.") from None
    if not secret:
        raise InputError("The passphrase is empty; choose one that nobody guesses, such as six words.")
    if len(secret) > MAX_PASSPHRASE_BYTES:
        raise InputError(f"The passphrase has {len(secret)} bytes, at most {MAX_PASSPHRASE_BYTES}; use a key file.")
    return Key("scrypt", secret)


def _of_file(path: Path) -> Key:
    remedy = f"name a file of {KEY_BYTES} random bytes (head -c {KEY_BYTES} /dev/urandom > my.key)"
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise InputError(f"The key file {path} is no regular file; {remedy}.")
        if about.st_size != KEY_BYTES:
            raise InputError(f"The key file {path} has {about.st_size} bytes and needs {KEY_BYTES}; {remedy}.")
        secret = path.read_bytes()
    except OSError as err:
        raise InputError(f"The key file {path} cannot be read ({err.strerror}); {remedy}.") from None
    if len(secret) != KEY_BYTES:
        raise InputError(f"The key file {path} has {len(secret)} bytes and needs {KEY_BYTES}; {remedy}.")
    return Key("raw", secret)


def fingerprint_of(data: bytes) -> str:
    """SHA-256, hexadecimal."""
    return hashlib.sha256(data).hexdigest()
