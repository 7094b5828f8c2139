"""The shelf of conditioned learners h(x, y; theta): one pass over the support set, and no gradient."""

from .preset import Preset

BY_CONDITION: dict[str, Preset] = {}
