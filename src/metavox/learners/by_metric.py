"""The shelf of learners that compare: with what is enrolled, through an encoder that stays as it is."""

from functools import partial

from torch import nn

from ..config import LearnerConfig
from ..contracts import Encoder
from ..nets.views import tracts
from .metric import Prototypes
from .outer import leave_one_out
from .preset import Preset


def prototypes(encoder: Encoder, config: LearnerConfig) -> nn.Module:
    """Class means in kernel form, whatever the kernel."""
    return Prototypes(encoder, config.match, config.band, partial(tracts, factors=config.tracts))


BY_METRIC = {
    "prototypes": Preset(
        prototypes, leave_one_out, "metric", "Snell et al. 2017, with dynamic time warping (Sakoe and Chiba 1978)"
    ),
}
