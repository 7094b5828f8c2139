"""What an adaptation changed, small: 8-bit integers with a scale for each row, and only of values that changed."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..contracts import InputError, State

SCALE = ".scale"
"""Suffix of the scales of a packed value."""
_LEVELS = 127


def packed(values: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The differences to a base: int8 (R, ...) and float32 scales (R,) of each value that changed, or has other rows.

    A row is a slice of the first dimension; its largest change is kept exactly, the others to 1/254 of it. Rows that
    the base has not (new characters of a head) are differences to 0.

    Raises:
        InputError: a value that is not finite.
    """
    found: dict[str, Tensor] = {}
    for name, value in values.items():
        change = value.detach().to(torch.float32) - _grown(base[name], value.shape[0])
        if value.shape == base[name].shape and not bool(change.any()):
            continue
        if not bool(change.isfinite().all()):
            raise InputError(f"{name} holds values that are not finite; adapt again with a lower step size.")
        rows = change.reshape(change.shape[0], -1)
        scale = rows.abs().amax(1) / _LEVELS
        levels = torch.round(rows / scale.clamp_min(torch.finfo(torch.float32).tiny)[:, None])
        found[name] = levels.to(torch.int8).reshape(change.shape)
        found[name + SCALE] = scale
    return found


def unpacked(part: Mapping[str, Tensor], base: Mapping[str, Tensor], n_symbols: int, path: Path) -> State:
    """The values of a packed part on its base.

    Raises:
        InputError: values that the base has not, of another shape or type, without sound scales, or none for a head
            whose symbols are others than the base's.
    """
    shapes = {
        name: (n_symbols, *value.shape[1:]) if name.startswith("head.") else tuple(value.shape)
        for name, value in base.items()
    }
    for name, value in base.items():
        if name not in part and shapes[name] != tuple(value.shape):
            raise _misfit(path, f"{name} is absent and should be {shapes[name]}")
    state: State = {}
    for name, levels in part.items():
        if name.endswith(SCALE):
            if name.removesuffix(SCALE) not in part:
                raise _misfit(path, f"{name} belongs to no value")
            continue
        if shapes.get(name) != tuple(levels.shape):
            raise _misfit(path, f"{name} is {tuple(levels.shape)} and should be {shapes.get(name, 'absent')}")
        if levels.dtype != torch.int8:
            raise _misfit(path, f"{name} is {levels.dtype} and should be {torch.int8}")
        scale = part.get(name + SCALE)
        if scale is None or scale.dtype != torch.float32 or scale.shape != levels.shape[:1]:
            raise _misfit(path, f"{name} has no scale for each of its {len(levels)} rows")
        if not bool(torch.isfinite(scale).all()):
            raise _misfit(path, f"{name} has a scale that is not finite")
        change = levels.to(torch.float32) * scale.reshape(-1, *(1,) * (levels.ndim - 1))
        state[name] = _grown(base[name], levels.shape[0]) + change
    return state


def _misfit(path: Path, fault: str) -> InputError:
    return InputError(f"{path} does not fit its base: {fault}; restore both from the same adaptation, or adapt again.")


def _grown(value: Tensor, n_rows: int) -> Tensor:
    """A value with rows of zeros behind its own."""
    value = value.detach().to(torch.float32)
    if value.shape[0] >= n_rows:
        return value[:n_rows]
    return torch.cat([value, value.new_zeros(n_rows - value.shape[0], *value.shape[1:])])
