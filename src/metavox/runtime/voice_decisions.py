"""Whose voice a clip is taken for: likelihood ratios to probabilities, a decision, and the words for it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from ..voices.gallery import posteriors

MAX_TOLD = 10_000
"""Odds beyond this are not told as a number: no calibration knows them."""


@dataclass(frozen=True, slots=True)
class VoiceDecision:
    """Whose voice a clip is taken for, and how sure that is."""

    accepted: bool
    name: str | None
    """The name that was claimed; where none was, the name it is taken for, or None: nobody who is enrolled."""
    best: str
    """The name that the figures are of."""
    llr: float
    """Natural logarithm of the likelihood ratio: that it is this voice, over any other."""
    threshold: float
    """It is accepted from here on. Where several are asked, it counts how likely the others are."""
    probability: float
    """That it is this voice, with the prior that was set."""
    reason: str
    """Why it is refused, in a sentence; empty where it is accepted."""
    probabilities: Mapping[str, float] = field(default_factory=dict)
    """Of every enrolled name, where nobody was claimed; what is missing to 1 is somebody else."""


def claimed(name: str, llr: float, threshold: float, p_target: float) -> VoiceDecision:
    """The decision on one claim: accepted from the threshold on."""
    accepted = llr >= threshold
    wanted = f"{odds_in_words(threshold, name)} to be taken for it"
    reason = "" if accepted else f"The clip is {odds_in_words(llr, name)}, and has to be {wanted}."
    return VoiceDecision(accepted, name, name, llr, threshold, _logistic(llr + logit(p_target)), reason)


def named(names: tuple[str, ...], llr: Float[np.ndarray, " V"], threshold: float, p_known: float) -> VoiceDecision:
    """The most likely of some voices, or nobody where all others together are more likely.

    ``threshold`` is that of a single claim; for the best of several it rises with how likely the others are.
    """
    weights = _weights(llr, p_known)
    best = int(np.argmax(llr))
    against = float(np.logaddexp.reduce(np.delete(weights, best)))
    raised = threshold + logit(p_known) + against - math.log(p_known / len(llr))
    accepted = bool(llr[best] >= raised)
    shares = posteriors(llr[None], p_known)[0][0]
    name, probability = names[best], float(shares[best])
    reason = f"Nobody who is enrolled is likely enough; the nearest is {name} with a probability of {probability:.2f}."
    return VoiceDecision(
        accepted,
        name if accepted else None,
        name,
        float(llr[best]),
        raised,
        probability,
        "" if accepted else reason,
        dict(zip(names, map(float, shares), strict=True)),
    )


def _weights(llr: Float[np.ndarray, " V"], p_known: float) -> Float[np.ndarray, " V1"]:
    """Logarithms of what each voice, and last somebody else, is proportional to."""
    own = np.asarray(llr, np.float64) + math.log(p_known / len(llr))
    return np.append(own, math.log1p(-p_known))


def odds_in_words(llr: float, name: str) -> str:
    """A log-likelihood ratio as a person reads it."""
    times = math.exp(min(abs(llr), 50.0))
    one, other = (name, "somebody else") if llr >= 0 else ("somebody else", name)
    if times < 1.05:
        return f"as likely {name} as somebody else"
    amount = f"more than {MAX_TOLD:,}" if times > MAX_TOLD else f"{times:,.0f}" if times >= 10 else f"{times:.1f}"
    return f"{amount} times as likely {one} as {other}"


def logit(p: float) -> float:
    """Logarithm of the odds."""
    return math.log(p) - math.log1p(-p)


def _logistic(x: float) -> float:
    return float(1 / (1 + np.exp(-np.clip(x, -700, 700))))
