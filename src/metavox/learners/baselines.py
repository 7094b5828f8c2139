"""Untrained baselines behind the same two verbs. Beating them is the least a trained model must do."""

from torch import Tensor, nn
from torch.nn import functional

from ..contracts import Batch, Encoder, Output, State
from ..losses import membership
from ..nets.alignment import frame_mask


class NearestMean(nn.Module):
    """Cosine to the mean of a class's takes, each a window laid out as one vector.

    With a front end that crops, normalises and resamples to a fixed number of frames this is the *trimmed nearest
    mean*, a strong floor for clean single words.
    """

    fixed_ways = False
    adapts_body = False

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def _vectors(self, batch: Batch) -> Tensor:
        frames = self.encoder(batch.inputs, batch.lengths)
        mask = frame_mask(self.encoder.out_lengths(batch.lengths), frames.shape[1])
        return functional.normalize((frames * mask[:, :, None].to(frames.dtype)).flatten(1), dim=-1)

    def adapt(self, support: Batch) -> State:
        vectors = self._vectors(support)
        means = membership(support.labels, support.n_classes, vectors.dtype).T @ vectors
        return {"means": functional.normalize(means, dim=-1)}

    def predict(self, state: State, query: Batch) -> Output:
        vectors, means = self._vectors(query), state["means"]
        # Windows of different length (a front end without n_frames) are compared over the frames both have.
        size = min(vectors.shape[1], means.shape[1])
        return Output(vectors[:, :size] @ means[:, :size].T)
