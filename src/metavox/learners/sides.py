"""The two sides of an episode, for learners whose training needs no cut between them."""

import torch
from torch.nn import functional

from ..contracts import Batch, Episode


def joined(episode: Episode) -> Batch:
    """Support and query as one batch, padded to the longer of the two."""
    parts = (episode.support, episode.query)
    longest = max(part.inputs.shape[1] for part in parts)
    inputs = [functional.pad(part.inputs, (0, 0, 0, longest - part.inputs.shape[1])) for part in parts]
    lengths = torch.cat([part.lengths for part in parts])
    labels = torch.cat([part.labels for part in parts])
    return Batch(torch.cat(inputs), lengths, labels, episode.support.n_classes)


def first_classes(batch: Batch, n_classes: int) -> Batch:
    """The items of the first so many classes."""
    stay = batch.labels < n_classes
    return Batch(batch.inputs[stay], batch.lengths[stay], batch.labels[stay], n_classes)
