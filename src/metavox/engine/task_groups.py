"""Many tasks as one batch whose channels fall into groups: how ``vmap`` reaches grouped native kernels.

Tasks stand next to the channels, which lie last in memory, so that no layer has to copy what the one before it made.
"""

import torch
from torch import Tensor

CHANNELS_LAST = torch.channels_last


def joined(value: Tensor, task_dim: int | None, n_tasks: int, at: int) -> Tensor:
    """Tasks folded into dimension ``at`` of what a single task would have there; expanded where all share one."""
    if task_dim is None:
        value = value.unsqueeze(at).expand(*value.shape[:at], n_tasks, *value.shape[at:])
    else:
        value = value.movedim(task_dim, at)
    if at == 1 and value.ndim == 5:  # (B, tasks, C, H, W): where a copy is needed, one that puts the channels last
        return value.permute(0, 3, 4, 1, 2).flatten(3).permute(0, 3, 1, 2)
    if at == 0 and value.ndim == 5:  # kernels (tasks, C2, C, K, L), likewise
        return value.permute(0, 1, 3, 4, 2).flatten(0, 1).permute(0, 3, 1, 2)
    return value.flatten(at, at + 1)


def parted(value: Tensor, n_tasks: int, at: int) -> Tensor:
    """The inverse of ``joined``: tasks stand at dimension ``at``."""
    return value.unflatten(at, (n_tasks, -1))
