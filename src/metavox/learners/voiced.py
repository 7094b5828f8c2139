"""Prototypes of words whose encoder has a second head, for who said them: one body, trained for both at once."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from ..contracts import Batch, Encoder, InputError
from ..losses import cross_entropy, leave_one_out_scores
from ..losses.margin import angular_margin
from ..nets.convolutional import ConvBody
from ..nets.encoders import FusedEncoder
from ..nets.voice import AttentiveStatistics
from .metric import Prototypes, as_it_is

ATTENTION = 32
MARGIN, SCALE = 0.2, 24.0
UNKNOWN = -1
"""Number of the speaker of a clip whose speaker nobody named."""


class VoicedPrototypes(Prototypes):
    """What is said by the frames of an encoder, and who says it by what its last block gives (after Jung et al. 2022).

    The head for voices takes weighted means and deviations over time, so that the order of sounds is lost and the voice
    stays. In training every clip of an episode of words is told from all speakers of training with a margin, and from
    those of the episode by the clips of theirs beside it; a clip without a known speaker is asked its word alone.

    Args:
        n_voices: speakers of training, 0 for a learner that is not to be trained.
        voice_dim: size of the vector of a voice.
        voice_weight: weight of the voices' loss beside that of the words.

    Raises:
        InputError: an encoder without blocks that a second head could hear.
    """

    speakers: Int[Tensor, " n"]
    """Number of the speaker of each recording that training draws from, ``UNKNOWN`` where there is none."""

    def __init__(
        self,
        encoder: Encoder,
        match: str = "dtw",
        band: float = 0.25,
        views: Callable[[Batch], Sequence[Batch]] = as_it_is,
        nearness: float = 0.0,
        n_voices: int = 0,
        voice_dim: int = 96,
        voice_weight: float = 1.0,
    ) -> None:
        super().__init__(encoder, match, band, views, nearness)
        if not isinstance(encoder, FusedEncoder) or type(encoder.body) is not ConvBody:
            raise InputError("learner.name is voiced_prototypes, which needs encoder.name conv; set it to conv.")
        self.encoder: FusedEncoder
        channels = encoder.body.project.in_features
        self.voice_weight = voice_weight
        self.pool = AttentiveStatistics(channels, ATTENTION)
        self.voice = nn.Sequential(
            nn.BatchNorm1d(2 * channels), nn.Linear(2 * channels, voice_dim), nn.BatchNorm1d(voice_dim)
        )
        self.voice_scale = nn.Parameter(torch.tensor(2.7))
        self.directions = nn.Linear(voice_dim, n_voices, bias=False) if n_voices else None
        self.register_buffer("speakers", torch.zeros(0, dtype=torch.long), persistent=False)

    def introduce(self, speakers: Sequence[str | None]) -> None:
        """Say who speaks in each recording that training draws from."""
        numbers = {name: number for number, name in enumerate(known_speakers(speakers))}
        self.speakers = torch.tensor([UNKNOWN if name is None else numbers[name] for name in speakers])

    def embed_voices(self, batch: Batch) -> Float[Tensor, "B D"]:
        """A unit vector of the voice of each clip."""
        return self._voices(*self.encoder.with_hidden(batch.inputs, batch.lengths)[1:])

    def _voices(self, hidden: Float[Tensor, "B T C"], mask: Float[Tensor, "B T"] | None) -> Float[Tensor, "B D"]:
        if mask is None:
            pooled = self.pool(hidden.transpose(1, 2))
        else:  # one by one, so that padding tells nothing
            lengths = mask.sum(1).long().tolist()
            each = [self.pool(one[None, :n].transpose(1, 2)) for one, n in zip(hidden, lengths, strict=True)]
            pooled = torch.cat(each)
        return functional.normalize(self.voice(pooled), dim=1)

    def score_both(self, batch: Batch, speakers: Int[Tensor, " B"]) -> tuple[Float[Tensor, "B C"], Float[Tensor, ""]]:
        """Scores of each item against the words of the others, and the loss of the voices; the body is asked once."""
        frames, hidden, mask = self.encoder.with_hidden(batch.inputs, batch.lengths)
        lengths = self.encoder.out_lengths(batch.lengths)
        takes = functional.normalize(frames, dim=-1)[:, None]
        similarity = self._among(takes, lengths)
        scores = self.log_scale.exp() * self._left_out(similarity, batch.labels, batch.n_classes)
        known = speakers != UNKNOWN
        if self.directions is None or int(known.sum()) < 2:
            return scores, scores.new_zeros(())
        voices = self._voices(hidden[known], None if mask is None else mask[known])
        return scores, self.voice_weight * self._voice_loss(voices, speakers[known])

    def _voice_loss(self, voices: Float[Tensor, "B D"], speakers: Int[Tensor, " B"]) -> Float[Tensor, ""]:
        """All speakers of training by a margin, and those of the episode who are heard twice by their other clips."""
        assert self.directions is not None
        cosines = voices @ functional.normalize(self.directions.weight, dim=1).T
        loss = angular_margin(cosines, speakers, MARGIN, SCALE)
        _, numbers, counts = speakers.unique(return_inverse=True, return_counts=True)
        again = counts[numbers] > 1
        voices, (here, numbers) = voices[again], speakers[again].unique(return_inverse=True)
        if len(here) > 1:
            scores = self.voice_scale.exp() * leave_one_out_scores(voices @ voices.T, numbers, len(here))
            loss = loss + cross_entropy(scores, numbers)
        return loss


def known_speakers(speakers: Sequence[str | None]) -> tuple[str, ...]:
    """Their names, each once."""
    return tuple(sorted({name for name in speakers if name is not None}))
