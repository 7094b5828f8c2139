"""Averages of predictions on disk: a document that says how, and the members, each a folder of its own beside it."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ..config import validated
from ..contracts import InputError
from .files import FORMAT, put_folder, read_document, write_json

AVERAGE = "average.json"
"""In the folder of an average of predictions, beside its members."""


class AverageDocument(BaseModel):
    """What an average of predictions is made of: its members lie beside, in ``members/1`` and so on."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    of: Literal["words", "recognisers"]
    form: Literal["mean", "log-mean", "rover"]
    weights: tuple[float, ...] = Field(min_length=1)
    names: tuple[str, ...] = Field(min_length=1)
    hash: str
    settings: dict[str, float] = {}

    @property
    def n_members(self) -> int:
        return len(self.weights)


def save_average(
    folder: Path,
    *,
    of: str,
    form: str,
    weights: Sequence[float],
    names: Sequence[str],
    writers: Sequence[Callable[[Path], None]],
    hash_of: Callable[[Path], str],
    settings: Mapping[str, float] | None = None,
) -> None:
    """Write an average and its members, whom ``writers`` put into a folder each; beside and renamed.

    ``hash_of`` tells the hash of the average whose members lie in a folder, as they were written.

    Raises:
        InputError: ``folder`` exists and is no average.
    """
    document = {
        "format": FORMAT,
        "library": "metavox",
        "kind": "average",
        "version": version("metavox"),
        "of": of,
        "form": form,
        "weights": list(weights),
        "names": list(names),
        "settings": dict(settings or {}),
    }

    def write(beside: Path) -> None:
        (beside / "members").mkdir()
        for k, put in enumerate(writers, 1):
            put(beside / "members" / str(k))
        write_json(beside / AVERAGE, {**document, "hash": hash_of(beside)})

    put_folder(folder, AVERAGE, write, "average of models")


def read_average(folder: Path, of: str) -> AverageDocument:
    """What ``folder`` says of its members.

    Raises:
        InputError: a damaged document, or an average of models of another kind.
    """
    document = read_document(folder / AVERAGE, "average of models")
    found = validated(AverageDocument, document, str(folder / AVERAGE))
    if len(found.names) != found.n_members:
        raise InputError(
            f"{folder / AVERAGE} names {len(found.names)} members and weighs {found.n_members}; restore it."
        )
    if found.of != of:
        kinds = {"words": "tells words apart", "recognisers": "transcribes"}
        raise InputError(f"{folder} {kinds[found.of]}; name a model that {kinds[of]}.")
    return found


def require_as_saved(folder: Path, found: AverageDocument, actual: str) -> None:
    """Raise InputError where the members, their weights or their form are not those that were saved."""
    if found.hash != actual:
        raise InputError(
            f"{folder} is not as it was saved: its members and weights hash to {actual[:12]} and {AVERAGE} says "
            f"{found.hash[:12]}; restore the folder or average again."
        )


def copy_model(source: Path, target: Path) -> None:
    """Put the files of a model folder into another: weights, configuration, card and licence."""
    target.mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "README.md", "LICENSE"):
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
