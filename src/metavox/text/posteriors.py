"""Log-probabilities of symbols, as decoding and alignment take them."""

import numpy as np
from jaxtyping import Float
from torch import Tensor

from ..errors import InputError

Scores = Float[Tensor, "T V"] | Float[np.ndarray, "T V"]
"""Log-probabilities of one utterance, symbol 0 the blank; each frame adds up to one."""
DAMAGED = "The log-probabilities hold NaN; the model that made them is damaged, train it again."


def as_array(log_probs: Scores) -> Float[np.ndarray, "T V"]:
    """float64 on the CPU. Raises InputError for NaN and for what is no logarithm of a probability."""
    values = log_probs.detach().double().cpu().numpy() if isinstance(log_probs, Tensor) else log_probs
    if np.isnan(values).any():
        raise InputError(DAMAGED)
    if values.size and values.max() > 1e-3:
        raise InputError(f"A log-probability is {values.max():g} and none is above 0; apply log_softmax to the scores.")
    return values.astype(np.float64, copy=False)
