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
    """The differences to a base: int8 (R, ...) and float32 scales (R,) of each value that changed.

    A row is a slice of the first dimension; its largest change is kept exactly, the others to 1/254 of it. Rows that
    the base has not (new characters of a head) are differences to 0.
    """
    found: dict[str, Tensor] = {}
    for name, value in values.items():
        change = value.detach().to(torch.float32) - _grown(base[name], value.shape[0])
        if not bool(change.any()):
            continue
        rows = change.reshape(change.shape[0], -1)
        scale = rows.abs().amax(1) / _LEVELS
        levels = torch.round(rows / scale.clamp_min(torch.finfo(torch.float32).tiny)[:, None])
        found[name] = levels.to(torch.int8).reshape(change.shape)
        found[name + SCALE] = scale
    return found


def unpacked(part: Mapping[str, Tensor], base: Mapping[str, Tensor], n_symbols: int, path: Path) -> State:
    """The values of a packed part on its base.

    Raises:
        InputError: values that the base has not, or of another shape.
    """
    state: State = {}
    for name, levels in part.items():
        if name.endswith(SCALE):
            continue
        scale = part.get(name + SCALE)
        wanted = None if name not in base else tuple(base[name].shape)
        if wanted is not None and name.startswith("head."):
            wanted = (n_symbols, *wanted[1:])
        fits = wanted == tuple(levels.shape) and scale is not None and scale.shape == levels.shape[:1]
        if not fits or levels.dtype != torch.int8 or not bool(torch.isfinite(scale).all()):  # type: ignore[arg-type]
            raise InputError(
                f"{path} does not fit its base: {name} is {tuple(levels.shape)} and should be {wanted or 'absent'}; "
                "restore both from the same adaptation, or adapt again."
            )
        assert scale is not None
        change = levels.to(torch.float32) * scale.reshape(-1, *(1,) * (levels.ndim - 1))
        state[name] = _grown(base[name], levels.shape[0]) + change
    return state


def _grown(value: Tensor, n_rows: int) -> Tensor:
    """A value with rows of zeros behind its own."""
    value = value.detach().to(torch.float32)
    if value.shape[0] >= n_rows:
        return value[:n_rows]
    return torch.cat([value, value.new_zeros(n_rows - value.shape[0], *value.shape[1:])])
