"""How good a result is: accuracy, detection errors, calibration cost, and edit errors of transcripts.

Detection metrics take the scores of *target* trials (same word, same speaker) and of *non-target* trials. A trial is
accepted when its score is at or above the threshold, so a false rejection is a target below it and a false
acceptance a non-target at or above it. Log-likelihood ratios are natural logarithms.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, SupportsFloat

import numpy as np
from jaxtyping import Float, Int, Shaped

from metavox.contracts import InputError

Numbers = Shaped[np.ndarray, " _"] | Sequence[SupportsFloat]
"""One figure an item: an array or a plain list."""
Tokens = Sequence[Hashable] | Shaped[np.ndarray, " _"]
"""A sequence to compare: words, characters, symbol ids."""

_CELLS_AT_ONCE = 1 << 16  # pairs times columns of one edit-distance sweep: its rows then stay in the cache


# --------------------------------------------------------------------------------------------------- classification


def accuracy(correct: Numbers) -> float:
    """The share of items that are right, from one figure an item: 1 (or True) for right, 0 for wrong.

    Raises InputError for no items, NaN, or figures outside 0 to 1.
    """
    values = _vector(correct, "figures of correctness")
    if values.min() < 0 or values.max() > 1:
        worst = values[np.argmax(np.abs(values - 0.5))]
        raise InputError(f"A figure of correctness is {worst:g}; give 1 for right and 0 for wrong.")
    return float(values.mean())


def confusion(true: Numbers, predicted: Numbers, n_classes: int) -> Int[np.ndarray, "C C"]:
    """Counts of items by true class (row) and predicted class (column).

    Raises InputError for no items, unequal lengths, or a class outside 0 to ``n_classes - 1``.
    """
    rows, columns = _vector(true, "true classes"), _vector(predicted, "predicted classes")
    if len(rows) != len(columns):
        raise InputError(f"There are {len(rows)} true and {len(columns)} predicted classes; give one of each an item.")
    for values, name in ((rows, "true"), (columns, "predicted")):
        outside = values[(values < 0) | (values >= n_classes) | (values != np.floor(values))]
        if len(outside):
            raise InputError(
                f"A {name} class is {outside[0]:g}; classes are whole numbers from 0 to {n_classes - 1}, renumber them."
            )
    cells = rows.astype(np.int64) * n_classes + columns.astype(np.int64)
    return np.bincount(cells, minlength=n_classes**2).reshape(n_classes, n_classes)


# -------------------------------------------------------------------------------------------------------- detection


class EqualErrorRate(NamedTuple):
    """Where false rejections and false acceptances are equally frequent."""

    rate: float
    threshold: float
    """The threshold whose larger error is smallest among the two next to the crossing, midway in its gap of scores."""


class DetCurve(NamedTuple):
    """Error rates by threshold, one point for each distinct score and one, at +inf, that rejects everything."""

    thresholds: Float[np.ndarray, " P"]
    frr: Float[np.ndarray, " P"]
    """False rejection rate: share of targets below the threshold, rising from 0 to 1."""
    far: Float[np.ndarray, " P"]
    """False acceptance rate: share of non-targets at or above the threshold, falling from 1 to 0."""


def auroc(target_scores: Numbers, nontarget_scores: Numbers) -> float:
    """The chance that a target outscores a non-target, a tie counting half: the area under the ROC curve.

    Exact by counting ranks (the Mann-Whitney statistic), without a curve. Raises InputError for no scores, NaN or inf.
    """
    target, nontarget = _detection_scores(target_scores, nontarget_scores)
    nontarget = np.sort(nontarget)
    beaten_twice = np.searchsorted(nontarget, target, "left").sum() + np.searchsorted(nontarget, target, "right").sum()
    return int(beaten_twice) / (2 * len(target) * len(nontarget))


def det_curve(target_scores: Numbers, nontarget_scores: Numbers) -> DetCurve:
    """False rejection and false acceptance rates at every threshold that makes a difference, in rising order.

    Raises InputError for no scores, NaN or inf.
    """
    target, nontarget = _detection_scores(target_scores, nontarget_scores)
    thresholds = np.unique(np.concatenate([target, nontarget]))
    rejected = np.searchsorted(np.sort(target), thresholds, "left")
    accepted = len(nontarget) - np.searchsorted(np.sort(nontarget), thresholds, "left")
    return DetCurve(
        np.append(thresholds, np.inf),
        np.append(rejected / len(target), 1.0),
        np.append(accepted / len(nontarget), 0.0),
    )


def eer(target_scores: Numbers, nontarget_scores: Numbers) -> EqualErrorRate:
    """The equal error rate, by straight lines between neighbouring points of the ROC; its convex hull is not taken.

    Where no target ties with a non-target, the ROC is a staircase and the rate is the smallest larger error,
    min over thresholds of max(FRR, FAR): one that a threshold attains. (The hull would promise less, and needs
    thresholds drawn by lot.) Tied scores make a slope, which counts them half, as ``auroc`` does. Raises InputError
    for no scores, NaN or inf.
    """
    thresholds, frr, far = det_curve(target_scores, nontarget_scores)
    # Rises strictly from -1 to 1, since every distinct score rejects one more trial: there is one crossing.
    gap = frr - far
    after = int(np.searchsorted(gap, 0.0, "right"))
    before = after - 1
    share = -gap[before] / (gap[after] - gap[before])
    rate = far[before] + share * (far[after] - far[before])
    best = before if max(frr[before], far[before]) <= max(frr[after], far[after]) else after
    return EqualErrorRate(float(rate), _middle_of_gap(thresholds, best))


def min_dcf(
    target_scores: Numbers,
    nontarget_scores: Numbers,
    p_target: float = 0.01,
    c_miss: float = 1.0,
    c_fa: float = 1.0,
) -> float:
    """The detection cost at the best threshold, normalised as in the NIST speaker recognition evaluations.

    (c_miss p_target FRR + c_fa (1 - p_target) FAR) / min(c_miss p_target, c_fa (1 - p_target)); 1 is what accepting
    or rejecting everything costs. Raises InputError for no scores, NaN, inf, or a prior or cost out of range.
    """
    _, frr, far = det_curve(target_scores, nontarget_scores)
    miss, false_alarm = _cost_weights(p_target, c_miss, c_fa)
    return float((miss * frr + false_alarm * far).min())


def act_dcf(
    target_llr: Numbers,
    nontarget_llr: Numbers,
    p_target: float = 0.01,
    c_miss: float = 1.0,
    c_fa: float = 1.0,
) -> float:
    """The normalised detection cost at the threshold that Bayes' rule gives for calibrated log-likelihood ratios.

    The threshold is log(c_fa (1 - p_target) / (c_miss p_target)). ``act_dcf - min_dcf`` is what poor calibration
    costs. Raises InputError for no scores, NaN, or a prior or cost out of range; infinite ratios are allowed.
    """
    miss, false_alarm = _cost_weights(p_target, c_miss, c_fa)
    threshold = math.log(c_fa * (1 - p_target) / (c_miss * p_target))
    frr = np.mean(_vector(target_llr, "target ratios") < threshold)
    far = np.mean(_vector(nontarget_llr, "non-target ratios") >= threshold)
    return float(miss * frr + false_alarm * far)


def cllr(target_llr: Numbers, nontarget_llr: Numbers) -> float:
    """The cost of log-likelihood ratios in bits, over all priors at once (Brummer and du Preez 2006, eq. 13).

    0 is perfect, 1 is what ratios of 0 (no information) cost; misleading ratios cost more than 1, up to inf.
    Raises InputError for no ratios or NaN; infinite ratios are allowed.
    """
    target = _vector(target_llr, "target ratios")
    nontarget = _vector(nontarget_llr, "non-target ratios")
    nats = np.logaddexp(0.0, -target).mean() + np.logaddexp(0.0, nontarget).mean()
    return float(nats / (2 * math.log(2)))


def min_cllr(target_scores: Numbers, nontarget_scores: Numbers) -> float:
    """The Cllr of the best rising map from these scores to ratios: how well they separate, calibration set aside.

    The map is isotonic regression by pooling adjacent violators (Brummer and du Preez 2006, section 6), equal
    scores pooled. Raises InputError for no scores, NaN or inf.
    """
    target, nontarget = _detection_scores(target_scores, nontarget_scores)
    scores, group = np.unique(np.concatenate([target, nontarget]), return_inverse=True)
    n_target = np.bincount(group[: len(target)], minlength=len(scores))
    n_nontarget = np.bincount(group[len(target) :], minlength=len(scores))
    blocks: list[tuple[int, int]] = []
    for t, n in zip(n_target.tolist(), n_nontarget.tolist(), strict=True):
        while blocks and blocks[-1][0] * n >= t * blocks[-1][1]:
            previous = blocks.pop()
            t, n = t + previous[0], n + previous[1]  # noqa: PLW2901
        blocks.append((t, n))
    share = np.array(blocks) / (len(target), len(nontarget))  # of all targets and of all non-targets, by block
    # The ratio of a block is log(share_t / share_n), so each of its targets costs log2((share_t + share_n) / share_t).
    total = share.sum(axis=1, keepdims=True)
    bits = np.log2(np.divide(total, share, out=np.ones_like(share), where=share > 0))
    return float((share * bits).sum() / 2)


def _cost_weights(p_target: float, c_miss: float, c_fa: float) -> tuple[float, float]:
    if not 0 < p_target < 1:
        raise InputError(f"The prior p_target is {p_target:g}; give a probability between 0 and 1, such as 0.01.")
    if not (0 < c_miss < math.inf and 0 < c_fa < math.inf):
        raise InputError(f"The costs are c_miss={c_miss:g} and c_fa={c_fa:g}; give two positive numbers.")
    miss, false_alarm = c_miss * p_target, c_fa * (1 - p_target)
    return miss / min(miss, false_alarm), false_alarm / min(miss, false_alarm)


def _middle_of_gap(thresholds: Float[np.ndarray, " P"], point: int) -> float:
    """The middle of the thresholds that act alike: those above the score before and up to this one."""
    upper = float(thresholds[point])
    if point == 0:
        return upper
    lower = float(thresholds[point - 1])
    middle = lower / 2 + upper / 2
    return middle if lower < middle <= upper else upper


# ------------------------------------------------------------------------------------------------------------- edits


@dataclass(frozen=True, slots=True)
class EditCounts:
    """What turns a reference into a hypothesis with the fewest edits."""

    substitutions: int
    deletions: int
    insertions: int
    ref_length: int

    @property
    def edits(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def hits(self) -> int:
        return self.ref_length - self.substitutions - self.deletions


@dataclass(frozen=True, slots=True, eq=False)
class ErrorRate:
    """Edits over reference tokens of a whole corpus, with the counts of each item so that items can be resampled."""

    rate: float
    """All edits over all reference tokens; above 1 where a hypothesis is far too long."""
    substitutions: Int[np.ndarray, " n"]
    deletions: Int[np.ndarray, " n"]
    insertions: Int[np.ndarray, " n"]
    ref_lengths: Int[np.ndarray, " n"]

    @property
    def edits(self) -> Int[np.ndarray, " n"]:
        return self.substitutions + self.deletions + self.insertions


def edit_distance(ref: Tokens, hyp: Tokens) -> EditCounts:
    """The fewest substitutions, deletions and insertions that turn ``ref`` into ``hyp`` (Levenshtein 1966).

    Tokens are anything hashable. Among alignments with equally few edits, the one with the most matches is counted.
    """
    counts, lengths = _count_edits([ref], [hyp])
    substitutions, deletions, insertions = counts[0].tolist()
    return EditCounts(substitutions, deletions, insertions, int(lengths[0]))


def wer(refs: Sequence[str], hyps: Sequence[str]) -> ErrorRate:
    """The word error rate of a corpus: edits over reference words, words being what white space separates.

    Texts are compared as they are; normalise both alike first. An empty reference is fine among others. Raises
    InputError for no texts, unequal numbers of them, or references without a single word.
    """
    return _error_rate(refs, hyps, str.split, "word")


def cer(refs: Sequence[str], hyps: Sequence[str]) -> ErrorRate:
    """The character error rate of a corpus: edits over reference characters (code points).

    A space between words counts as one character; white space around a text does not count, and runs of it count
    once. Otherwise, and in what it raises, as ``wer``.
    """
    return _error_rate(refs, hyps, lambda text: " ".join(text.split()), "character")


def _error_rate(
    refs: Sequence[str], hyps: Sequence[str], split: Callable[[str], Sequence[str]], unit: str
) -> ErrorRate:
    if isinstance(refs, str) or isinstance(hyps, str):
        raise InputError("An error rate needs lists of texts and got one text; put it in brackets.")
    if len(refs) != len(hyps):
        raise InputError(f"There are {len(refs)} references and {len(hyps)} hypotheses; give one of each an item.")
    counts, lengths = _count_edits([split(text) for text in refs], [split(text) for text in hyps])
    if not lengths.sum():
        raise InputError(f"The {len(refs)} references hold no {unit}; an error rate needs at least 1, add transcripts.")
    return ErrorRate(float(counts.sum() / lengths.sum()), counts[:, 0], counts[:, 1], counts[:, 2], lengths)


def _count_edits(
    refs: Sequence[Tokens], hyps: Sequence[Tokens]
) -> tuple[Int[np.ndarray, "n 3"], Int[np.ndarray, " n"]]:
    """Substitutions, deletions and insertions of each pair, and the reference lengths.

    Pairs of similar length are swept together, so that the cost of Python is shared by all of them.
    """
    ids: dict[Hashable, int] = {}
    coded = [[[ids.setdefault(token, len(ids)) for token in tokens] for tokens in side] for side in (refs, hyps)]
    ref_lengths, hyp_lengths = (np.array([len(tokens) for tokens in side], dtype=np.int64) for side in coded)
    counts = np.zeros((len(refs), 3), dtype=np.int64)
    order = np.lexsort((ref_lengths, hyp_lengths))
    start = 0
    while start < len(order):
        # Sorted by hypothesis length: the widest of the next pairs is at least as wide as the first of them.
        size = max(1, _CELLS_AT_ONCE // (int(hyp_lengths[order[start]]) + 1))
        chosen = order[start : start + size]
        start += size
        total, substitutions = _sweep(
            _padded([coded[0][i] for i in chosen]),
            ref_lengths[chosen],
            _padded([coded[1][i] for i in chosen]),
            hyp_lengths[chosen],
        )
        surplus = hyp_lengths[chosen] - ref_lengths[chosen]  # insertions less deletions
        deletions = (total - substitutions - surplus) // 2
        counts[chosen] = np.stack([substitutions, deletions, deletions + surplus], axis=1)
    return counts, ref_lengths


def _padded(sequences: list[list[int]]) -> Int[np.ndarray, "B U"]:
    table = np.full((len(sequences), max(map(len, sequences))), -1, dtype=np.int64)
    for row, sequence in zip(table, sequences, strict=True):
        row[: len(sequence)] = sequence
    return table


def _sweep(
    refs: Int[np.ndarray, "B R"],
    ref_lengths: Int[np.ndarray, " B"],
    hyps: Int[np.ndarray, "B H"],
    hyp_lengths: Int[np.ndarray, " B"],
) -> tuple[Int[np.ndarray, " B"], Int[np.ndarray, " B"]]:
    """Fewest edits of each pair and, among alignments that have them, fewest substitutions.

    One table holds both figures: an edit costs ``unit`` and a substitution one more, ``unit`` being larger than any
    count of substitutions. Row i of the table, less ``unit`` times the column, is ``row``: in it an insertion costs
    nothing, so the whole row follows from the one above by a running minimum. Padding lies after the cell that is
    read, and no cell looks ahead.
    """
    unit = max(refs.shape[1], hyps.shape[1]) + 1
    kind = np.int32 if 2 * unit * unit < np.iinfo(np.int32).max else np.int64
    row = np.zeros((len(hyps), hyps.shape[1] + 1), dtype=kind)
    cost = np.zeros(len(hyps), dtype=np.int64)
    for i in range(refs.shape[1] + 1):
        if i:
            step = np.where(hyps == refs[:, i - 1, None], kind(-unit), kind(1))  # match or substitution
            step += row[:, :-1]
            row += kind(unit)  # deletion
            np.minimum(row[:, 1:], step, out=row[:, 1:])
            np.minimum.accumulate(row, axis=1, out=row)
        done = np.flatnonzero(ref_lengths == i)
        cost[done] = row[done, hyp_lengths[done]] + unit * hyp_lengths[done]
    return cost // unit, cost % unit


# ------------------------------------------------------------------------------------------------------------ checks


def _vector(values: Numbers, name: str) -> Float[np.ndarray, " n"]:
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1 or not len(vector):
        raise InputError(f"The {name} have shape {vector.shape}; give a list of at least one.")
    n_nan = int(np.isnan(vector).sum())
    if n_nan:
        raise InputError(f"{n_nan} of the {len(vector)} {name} are NaN; leave those items out or score them again.")
    return vector


def _detection_scores(
    target_scores: Numbers, nontarget_scores: Numbers
) -> tuple[Float[np.ndarray, " t"], Float[np.ndarray, " n"]]:
    target, nontarget = _vector(target_scores, "target scores"), _vector(nontarget_scores, "non-target scores")
    for values, name in ((target, "target"), (nontarget, "non-target")):
        n_infinite = int(np.isinf(values).sum())
        if n_infinite:
            raise InputError(
                f"{n_infinite} of the {len(values)} {name} scores are infinite; replace them by a finite score "
                "beyond all others."
            )
    return target, nontarget
