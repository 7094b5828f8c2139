"""The shelf of conditioned learners h(x, y; theta): one pass over the support set, and no gradient."""

from torch import nn

from ..config import LearnerConfig
from ..contracts import Encoder
from ..nets import conditioning
from .by_metric import EVEN, SCALE, WIDTH
from .classifier import N_SEGMENTS
from .film import Film
from .outer import in_turn, query_loss
from .preset import Preset
from .support_set import SupportSet


def support_conditioned(encoder: Encoder, config: LearnerConfig) -> nn.Module:
    """A classifier that hears the support set beside the query, made right.

    The sketch that this grew out of had h(x, y; theta) as one layer for the support set and another for the query, of
    different sizes, so that their outputs could not be added, and were they added, would have meant different things;
    labels of the support set never entered, so nobody could know what a take was a take of; a softmax was taken in the
    last layer and again in the loss, which flattens its slopes; the number of classes was built in; and the loss was
    all that could be asked for, which needs the answers. Here one encoder serves both sides, takes meet the query class
    by class through one shared layer, whatever their number, scores are logits for the one softmax of the loss, and a
    query needs no label.
    """
    return SupportSet(encoder, conditioning.Added(N_SEGMENTS * encoder.dim, config.width), config.scale)


def cnp(encoder: Encoder, config: LearnerConfig) -> nn.Module:
    """A conditional neural process."""
    return SupportSet(encoder, conditioning.NeuralProcess(N_SEGMENTS * encoder.dim, config.width), config.scale)


def set_attention(encoder: Encoder, config: LearnerConfig) -> nn.Module:
    """Class means that a transformer layer adapts to one another."""
    compare = conditioning.SetAttention(N_SEGMENTS * encoder.dim, N_SEGMENTS, config.width)
    return SupportSet(encoder, compare, config.scale)


def film(encoder: Encoder, config: LearnerConfig) -> nn.Module:
    """An encoder that the support set scales and shifts."""
    return Film(encoder, config.width, config.scale)


SEARCH = {**SCALE, **WIDTH}

BY_CONDITION = {
    "support_conditioned": Preset(
        support_conditioned, in_turn, "conditioned", "h(x, y; theta) of support and query added", search=SEARCH, **EVEN
    ),
    "cnp": Preset(
        cnp, in_turn, "conditioned", "Garnelo et al. 2018, Conditional neural processes", search=SEARCH, **EVEN
    ),
    "film": Preset(
        film,
        query_loss,
        "conditioned",
        "CNAPs, Requeima et al. 2019; TADAM, Oreshkin et al. 2018",
        encoder={"condition": 32},
        search=SEARCH,
        **EVEN,
    ),
    "set_attention": Preset(set_attention, in_turn, "conditioned", "Ye et al. 2020, FEAT", search=SEARCH, **EVEN),
}
