"""What networks multiply in while they are trained."""

import torch


def training_dtype(precision: str) -> torch.dtype:
    """What ``train.precision`` comes to on this processor: ``auto`` is bfloat16 where it has instructions for it."""
    fast = precision == "auto" and torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if fast or precision == "bfloat16" else torch.float32
