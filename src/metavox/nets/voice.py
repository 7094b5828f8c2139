"""The encoder of voices: log mel frames of speech in, one vector of unit length out.

A residual network over time and frequency (He et al. 2016; as in Zeinali et al. 2019), since the pitch and the formants
of a voice that few people taught it may lie elsewhere on the frequency axis; then means and deviations over time,
weighted by an attention that hears the whole clip (Desplanques et al. 2020, section 3.1, after Okabe et al. 2018).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ..config.voices import VoiceNetConfig
from ..features import DB

_STAGES = ((1, 1, 1), (2, 2, 2), (2, 4, 2), (2, 4, 1))
"""Step over time and frequency, channels as a multiple of the first, and blocks, of each stage."""
_LEAST_VARIANCE = 1e-4


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions around a shortcut."""

    def __init__(self, before: int, after: int, step: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, step, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(after)
        self.second = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(after)
        same = step == 1 and before == after
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(before, after, 1, step, bias=False), nn.BatchNorm2d(after))
        )

    def forward(self, x: Float[Tensor, "B C F T"]) -> Float[Tensor, "B C2 F2 T2"]:
        hidden = functional.relu(self.first_norm(self.first(x)))
        return functional.relu(self.shortcut(x) + self.second_norm(self.second(hidden)))


class AttentiveStatistics(nn.Module):
    """Mean and deviation over time, each channel with weights of its own. (B, C, T) -> (B, 2 C)"""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.hear = nn.Conv1d(3 * channels, width, 1)
        self.weigh = nn.Conv1d(width, channels, 1)

    def forward(self, x: Float[Tensor, "B C T"]) -> Float[Tensor, "B C2"]:
        x = x.float()
        mean = x.mean(2, keepdim=True)
        deviation = x.var(2, keepdim=True, unbiased=False).clamp_min(_LEAST_VARIANCE).sqrt()
        context = torch.cat([x, mean.expand_as(x), deviation.expand_as(x)], 1)
        weights = torch.softmax(self.weigh(torch.tanh(self.hear(context))).float(), 2)
        mean = (weights * x).sum(2)
        variance = (weights * x.square()).sum(2) - mean.square()
        return torch.cat([mean, variance.clamp_min(_LEAST_VARIANCE).sqrt()], 1)


class VoiceNet(nn.Module):
    """Clips of one length without padding, (B, T, F) log mel as ``features.log_mel`` gives it, to (B, D) unit vectors.

    It normalises itself: what is far below the loudest bin is lifted, and the clip loses its mean level. Bins keep
    theirs: over half a second their means hold most of what there is of a voice, and what they hold of a microphone is
    for augmentation to make useless.
    """

    def __init__(self, config: VoiceNetConfig) -> None:
        super().__init__()
        self.config = config
        channels, n_mels = config.channels, config.front_end.n_mels
        self.stem = nn.Conv2d(1, channels, 3, (2, config.time_step), 1, bias=False)
        self.stem_norm = nn.BatchNorm2d(channels)
        blocks: list[nn.Module] = []
        n_bins, before = (n_mels + 1) // 2, channels
        for step, wider, n_blocks in _STAGES:
            for index in range(n_blocks):
                blocks.append(ResidualBlock(before, wider * channels, step if index == 0 else 1))
                before = wider * channels
            n_bins = (n_bins + step - 1) // step
        self.stages = nn.Sequential(*blocks)
        self.pool = AttentiveStatistics(before * n_bins, config.attention)
        self.pool_norm = nn.BatchNorm1d(2 * before * n_bins)
        self.out = nn.Linear(2 * before * n_bins, config.dim)
        self.out_norm = nn.BatchNorm1d(config.dim)
        self.training_dtype = torch.float32
        """What convolutions multiply in while they are trained; what is stored stays as it is."""
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, frames: Float[Tensor, "B T F"]) -> Float[Tensor, "B D"]:
        low = self.training and self.training_dtype != torch.float32
        x = self.normalised(frames).transpose(1, 2)[:, None].contiguous(memory_format=torch.channels_last)
        with torch.autocast(frames.device.type, self.training_dtype, enabled=low):
            x = self.stages(functional.relu(self.stem_norm(self.stem(x))))
            pooled = self.pool_norm(self.pool(x.flatten(1, 2)))
        return functional.normalize(self.out_norm(self.out(pooled.float())), dim=1)

    def normalised(self, frames: Float[Tensor, "B T F"]) -> Float[Tensor, "B T F"]:
        """Within ``range_db`` of the loudest bin of the clip, and without its mean."""
        top = frames.amax((1, 2), keepdim=True)
        frames = torch.maximum(frames, top - self.config.front_end.range_db * DB)
        return frames - frames.mean((1, 2), keepdim=True)
