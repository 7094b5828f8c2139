"""How a recipe is read: YAML and ``key=value`` overrides; every fault in one sentence, with the nearest known key."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from ..contracts import InputError

M = TypeVar("M", bound=BaseModel)


class Strict(BaseModel):
    """Values do not change after loading, and a key that means nothing is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


_UNREADABLE = (OSError, ValueError, RecursionError, yaml.YAMLError)
"""ValueError: bytes that are not UTF-8, and dates that no calendar has."""


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> dict[Any, Any]:
    """The plain sections of a recipe with ``section.key=value`` overrides, values written as in YAML.

    Raises:
        InputError: an unreadable file, or a line that is not YAML.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"Recipe {path} does not exist; name a YAML file such as recipes/commands.yaml.") from None
    except _UNREADABLE as err:
        raise InputError(f"Recipe {path} cannot be read as YAML ({_one_line(err)}); correct the file.") from None
    tree = {} if tree is None else tree
    if not isinstance(tree, dict):
        raise InputError(f"Recipe {path} holds a {type(tree).__name__}; it must hold sections such as 'train:'.")
    for text in overrides:
        override(tree, text)
    return tree


def override(tree: dict[Any, Any], text: str) -> None:
    """Set one value of plain nested sections as ``section.key=value`` says, the value written as in YAML.

    Raises:
        InputError: ``text`` is not of that form, or goes below a value.
    """
    key, sign, value = text.partition("=")
    parts = key.strip().split(".")
    if not sign or not all(parts):
        raise InputError(f"Override {text!r} is not of the form section.key=value; write for example train.steps=500.")
    try:
        parsed = yaml.safe_load(value)
    except _UNREADABLE as err:
        raise InputError(f"Override {text!r} has a value that is not YAML ({_one_line(err)}); quote it.") from None
    node = tree
    for part in parts[:-1]:
        below = node.setdefault(part, {})
        if below is None:
            below = node[part] = {}
        if not isinstance(below, dict):
            raise InputError(f"Override {text!r} goes below {part!r}, which holds a value and no section.")
        node = below
    node[parts[-1]] = parsed


def validated(model: type[M], tree: Any, source: str) -> M:
    """Build ``model`` from plain values; every fault in one sentence, with the nearest known key for an unknown one."""
    try:
        return model.model_validate(tree)
    except ValidationError as err:
        faults = [_fault(model, tree, item) for item in err.errors()]
        sentence = f"{source}: " + "; ".join(faults)
        raise InputError(sentence if sentence.endswith("?") else sentence + ".") from None


def _fault(model: type[BaseModel], tree: Any, item: Any) -> str:
    path = [str(part) for part in item["loc"]]
    where = ".".join(path)
    if item["type"] != "extra_forbidden":
        said = item["msg"].removeprefix("Value error, ")
        return f"{where or 'the file'} is {_short(item.get('input'))}: {said[:1].lower()}{said[1:]}"
    known = _known_keys(model, path[:-1])
    near = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.4)
    hint = f"did you mean {'.'.join([*path[:-1], near[0]])}?" if near else f"known keys are {', '.join(known)}"
    return f"unknown key {where}; {hint}"


def _known_keys(model: type[BaseModel], path: Sequence[str]) -> list[str]:
    current: Any = model
    for part in path:
        annotation = current.model_fields[part].annotation if part in current.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        current = annotation
    return list(current.model_fields)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _one_line(err: Exception) -> str:
    return " ".join(str(err).split())[:160]
