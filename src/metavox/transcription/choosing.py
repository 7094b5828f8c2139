"""Which recordings to transcribe next: those that the recogniser is unsure of, and that are unlike one another.

Uncertainty is the entropy of the posteriors where symbols are; diversity comes from greedy k-centre on the mean of what
the body gives (Sener and Savarese 2018, "Active learning for convolutional neural networks: a core-set approach"),
beginning with the recordings that are transcribed already. Each next recording has the largest product of the two.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from ..contracts import InputError
from ..data.corpora import Report
from ..data.sentences import Sentences
from ..text.decode import greedy
from ..text.symbols import BLANK
from .models import Recognition
from .untranscribed import Piece, Untranscribed, hear


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A recording, or a stretch of one, that is worth transcribing."""

    piece: Piece
    heard: str
    """What the recogniser makes of it, to be corrected."""
    uncertainty: float
    """Mean entropy of the posteriors where symbols are, 0 to 1 (all symbols alike)."""
    distance: float
    """From the nearest recording that is transcribed or was suggested before it; 1 is the usual distance."""
    reason: str


def suggested(
    recognition: Recognition,
    untranscribed: Untranscribed,
    n: int,
    sentences: Sentences | None = None,
    report: Report | None = None,
    positions: Int[np.ndarray, " k"] | None = None,
) -> list[Suggestion]:
    """Up to ``n`` recordings to transcribe next, the most telling first.

    ``sentences``, or those of them at ``positions``, are transcribed already. Recordings in which nothing is heard are
    not suggested: most hold no speech.

    Raises:
        InputError: fewer than 1 is asked for.
    """
    if n < 1:
        raise InputError(f"{n} recordings were asked for; ask for 1 or more to transcribe next.")
    places, texts, unsure, means = [], [], [], []
    for done, (place, heard) in enumerate(hear(recognition, untranscribed.features), 1):
        text = " ".join(recognition.symbols.decode(greedy(heard.log_probs).ids).split())
        if text:
            places.append(place)
            texts.append(text)
            unsure.append(uncertainty(heard.log_probs))
            means.append(heard.mean.double().numpy())
        if report is not None:
            report("choosing", done, len(untranscribed))
    if not places:
        return []
    centres = [] if sentences is None else _means(recognition, sentences, positions)
    order, distances, usual = most_telling(np.asarray(unsure), np.asarray(means), np.asarray(centres), n)
    middle = float(np.median(unsure))
    return [
        Suggestion(
            untranscribed.pieces[places[i]],
            texts[i],
            unsure[i],
            distance / usual,
            _reason(unsure[i], middle, distance / usual, first=sentences is None and rank == 0),
        )
        for rank, (i, distance) in enumerate(zip(order, distances, strict=True))
    ]


def uncertainty(log_probs: Float[Tensor, "T V"]) -> float:
    """Mean entropy of frames over that of a fair guess, each frame weighed by the chance that it holds a symbol."""
    values = log_probs.double()
    weights = 1 - values[:, BLANK].exp()
    entropy = -(values.exp() * values.clamp_min(-1e4)).sum(1)
    total = float(weights.sum())
    return float((weights * entropy).sum()) / total / math.log(values.shape[1]) if total > 0 else 0.0


def most_telling(
    unsure: Float[np.ndarray, " n"], means: Float[np.ndarray, "n C"], centres: Float[np.ndarray, "..."], n: int
) -> tuple[list[int], list[float], float]:
    """Greedy k-centre weighted by uncertainty: places in order, the distance of each when it was taken, and the usual.

    Channels are standardised over all recordings. Without ``centres`` the most uncertain recording comes first, at the
    distance from the mean of all. The usual distance is the median of the first ones.
    """
    known = centres.reshape(-1, means.shape[1])
    everything = np.concatenate([means, known])
    scale = everything.std(0)
    scale[scale == 0] = 1.0
    points, first = means / scale, (known if len(known) else everything.mean(0, keepdims=True)) / scale
    distances = np.min([np.linalg.norm(points - centre, axis=1) for centre in first], axis=0)
    usual = float(np.median(distances)) or 1.0
    gain = distances if len(known) else np.ones_like(distances)
    weight = np.maximum(unsure, 1e-12)
    order: list[int] = []
    taken_at: list[float] = []
    free = np.ones(len(points), dtype=bool)
    while len(order) < min(n, len(points)):
        best = int(np.argmax(np.where(free, weight * gain, -1.0)))
        order.append(best)
        taken_at.append(float(distances[best]))
        free[best] = False
        to_best = np.linalg.norm(points - points[best], axis=1)
        distances = np.minimum(distances, to_best) if len(known) or len(order) > 1 else to_best
        gain = distances
    return order, taken_at, usual


def _means(
    recognition: Recognition, sentences: Sentences, positions: Int[np.ndarray, " k"] | None
) -> list[Float[np.ndarray, " C"]]:
    places = range(len(sentences)) if positions is None else positions.tolist()
    features: Sequence[Tensor] = [sentences.features(np.asarray([i]), recognition.front_end)[0][0] for i in places]
    return [heard.mean.double().numpy() for _, heard in hear(recognition, features)]


def _reason(unsure: float, middle: float, distance: float, *, first: bool) -> str:
    sure = f"the recogniser is {'more' if unsure >= middle else 'less'} unsure of it than of most ({unsure:.2f}, the "
    sure += f"middle is {middle:.2f})"
    if first:
        return sure
    kind = "unlike" if distance >= 1 else "less unlike"
    return f"{sure} and it is {kind} what is transcribed or suggested ({distance:.1f} times the usual distance)"
