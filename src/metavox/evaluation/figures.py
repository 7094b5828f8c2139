"""Geometry of the report's figures: numbers in, positions and SVG paths out. Drawing them is the template's part."""

import math
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from ..contracts import InputError

N_COLOURS = 7
N_MARKERS = 8
_MAX_BINS = 80
Tick = tuple[float, str]
"""(position, text)"""


# ------------------------------------------------------------------------------------------------------- projection


def project(vectors: Float[np.ndarray, "n d"], n_dims: int = 2) -> Float[np.ndarray, "n {n_dims}"]:
    """Principal components of the rows, (n, d) -> (n, n_dims), by singular value decomposition.

    The sign of each axis is set so that its largest loading is positive: the same vectors give the same picture.
    Axes that the data do not span are zero.

    Raises:
        InputError: no vectors, values that are not finite, or fewer than one dimension asked for.
    """
    if n_dims < 1:
        raise InputError(f"n_dims is {n_dims}; a projection needs at least 1.")
    if vectors.size == 0:
        raise InputError(f"There are {vectors.shape[0]} vectors of {vectors.shape[1]} values; a projection needs some.")
    if not np.isfinite(vectors).all():
        raise InputError("Some embeddings are not finite (NaN or infinite); train again with a lower train.lr.")
    centred = vectors.astype(np.float64) - vectors.mean(0, dtype=np.float64)
    left, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    k = min(n_dims, len(sizes))
    largest = np.abs(axes[:k]).argmax(1)
    signs = np.where(axes[np.arange(k), largest] < 0, -1.0, 1.0)
    points = np.zeros((len(vectors), n_dims))
    points[:, :k] = left[:, :k] * sizes[:k] * signs
    return points


# -------------------------------------------------------------------------------------------------------------- axes


def ticks(low: float | int, high: float | int, n: int = 4) -> list[float]:
    """About ``n`` round values (1, 2 or 5 times a power of ten apart) from ``low`` to ``high``."""
    span = max(high - low, 1e-12)
    raw = span / n
    power = 10.0 ** math.floor(math.log10(raw))
    step = min((m * power for m in (1, 2, 5, 10)), key=lambda s: abs(math.log(s / raw)))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


def _number(value: float | int) -> str:
    return f"{value:,.10g}"


def _path(x: Iterable[Any], y: Iterable[Any]) -> str:
    pairs = [f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True)]
    return "M" + "L".join(pairs) if pairs else ""


# ---------------------------------------------------------------------------------------------------------- training


@dataclass(frozen=True)
class Panel:
    """One quantity over training: a line of means, a band that holds four fifths of the steps, and dots."""

    title: str
    top: float
    bottom: float
    ticks: tuple[Tick, ...]
    line: str
    band: str
    dots: tuple[tuple[float, float], ...] = ()
    dots_line: str = ""


@dataclass(frozen=True)
class TrainingFigure:
    """Accuracy and loss of one learner over its training."""

    model: str
    colour: int
    n_steps: int
    cpu_s: float | None
    held_out: float | None
    """The last accuracy on held-out classes."""
    x_ticks: tuple[Tick, ...]
    x_label: str
    panels: tuple[Panel, ...]
    rows: tuple[Mapping[str, Any], ...]
    """The same as a table: about six moments of the training."""

    width: float = 340.0
    left: float = 34.0
    right: float = 330.0
    height: float = 268.0


@dataclass(frozen=True)
class _Scales:
    """What the figures of all learners share, so that they can be compared."""

    clock: str
    x_max: float
    loss_max: float

    def x(self, value: Any) -> Any:
        left, right = TrainingFigure.left, TrainingFigure.right
        return left + (right - left) * value / self.x_max


def training_figures(training: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[TrainingFigure]:
    """A figure for each learner that has a log, all on the same scales, over CPU time where it is known."""
    logs = {model: [line for line in lines if "step" in line] for model, lines in training.items()}
    clock = "cpu_s" if all("cpu_s" in line for lines in logs.values() for line in lines) else "step"
    curves = {model: _curves(lines, clock) for model, lines in logs.items() if lines}
    x_max = max((float(logs[model][-1][clock]) for model in curves), default=0.0)
    highest = max((float(c["loss"][1].max(initial=0.0)) for c in curves.values()), default=0.0)
    scales = _Scales(clock, x_max or 1.0, 1.05 * highest or 1.0)
    colours = {model: i % N_COLOURS for i, model in enumerate(training)}
    return [_training_figure(model, colours[model], logs[model], curves[model], scales) for model in curves]


def _curves(lines: Sequence[Mapping[str, Any]], clock: str) -> dict[str, np.ndarray]:
    """(4, bins) for each quantity: time, mean, tenth and ninetieth percentile of the steps in a bin."""
    curves = {}
    for key in ("accuracy", "loss"):
        known = np.asarray([(line[clock], line[key]) for line in lines if _known(line, key)], np.float64).reshape(-1, 2)
        bins = [b for b in np.array_split(known, _MAX_BINS) if len(b)]
        rows = [(b[:, 0].mean(), b[:, 1].mean(), *np.quantile(b[:, 1], (0.1, 0.9))) for b in bins]
        curves[key] = np.asarray(rows, np.float64).reshape(-1, 4).T
    return curves


def _known(line: Mapping[str, Any], key: str) -> bool:
    return line.get(key) is not None and math.isfinite(line[key])


def _training_figure(
    model: str, colour: int, lines: Sequence[Mapping[str, Any]], curves: Mapping[str, np.ndarray], scales: _Scales
) -> TrainingFigure:
    checks = [line for line in lines if _known(line, "validation")]
    last = lines[-1]
    return TrainingFigure(
        model=model,
        colour=colour,
        n_steps=int(last["step"]),
        cpu_s=float(last["cpu_s"]) if "cpu_s" in last else None,
        held_out=float(checks[-1]["validation"]) if checks else None,
        x_ticks=tuple((scales.x(v), _number(v)) for v in ticks(0, scales.x_max, 4)),
        x_label="CPU seconds" if scales.clock == "cpu_s" else "outer steps",
        panels=(_accuracy_panel(curves["accuracy"], checks, scales), _loss_panel(curves["loss"], scales)),
        rows=_moments(lines),
    )


def _accuracy_panel(curve: np.ndarray, checks: Sequence[Mapping[str, Any]], scales: _Scales) -> Panel:
    high, low = 22.0, 132.0

    def y(values: Any) -> Any:
        return low - (low - high) * np.clip(values, 0, 1)

    line, band = _line_and_band(curve, y, scales)
    marks = tuple((float(y(value)), f"{100 * value:.0f}\u00a0%") for value in (0, 0.5, 1))
    dots = tuple((float(scales.x(c[scales.clock])), float(y(c["validation"]))) for c in checks)
    joined = _path([x for x, _ in dots], [y for _, y in dots])
    return Panel("Accuracy", high, low, marks, line, band, dots, joined)


def _loss_panel(curve: np.ndarray, scales: _Scales) -> Panel:
    high, low = 164.0, 228.0

    def y(values: Any) -> Any:
        return low - (low - high) * np.clip(values / scales.loss_max, 0, 1)

    line, band = _line_and_band(curve, y, scales)
    marks = tuple((float(y(value)), _number(value)) for value in ticks(0, scales.loss_max, 2))
    return Panel("Loss", high, low, marks, line, band)


def _line_and_band(curve: np.ndarray, y: Callable[[Any], Any], scales: _Scales) -> tuple[str, str]:
    x = scales.x(curve[0])
    line = _path(x, y(curve[1]))
    if len(x) < 2:
        return line, ""
    return line, _path([*x, *x[::-1]], [*y(curve[2]), *y(curve[3])[::-1]]) + "Z"


def _moments(lines: Sequence[Mapping[str, Any]], n: int = 6) -> tuple[Mapping[str, Any], ...]:
    """Means of the steps up to each of ``n`` moments, with the held-out accuracy known by then."""
    found = []
    for part in np.array_split(np.arange(len(lines)), min(n, len(lines))):
        some = [lines[i] for i in part]
        row: dict[str, Any] = {"step": some[-1]["step"], "cpu_s": some[-1].get("cpu_s")}
        for key in ("accuracy", "loss"):
            values = [line[key] for line in some if _known(line, key)]
            row[key] = float(np.mean(values)) if values else None
        checks = [line["validation"] for line in some if _known(line, "validation")]
        row["validation"] = checks[-1] if checks else None
        found.append(row)
    return tuple(found)


# ----------------------------------------------------------------------------------------------------- embedding map


@dataclass(frozen=True)
class Dot:
    """One take on the map, with a line to the middle of its word."""

    x: float
    y: float
    centre_x: float
    centre_y: float
    colour: int
    marker: int
    title: str


@dataclass(frozen=True)
class WordOnMap:
    """A word's label on the map, and what the map says of it as a table row."""

    word: str
    colour: int
    x: float
    y: float
    n_takes: int
    centre: tuple[float, float]
    spread: float
    """Root mean square distance of its takes from its middle."""
    nearest: str
    nearest_distance: float


@dataclass(frozen=True)
class MapFigure:
    """Takes as points, words as colours, and sides or speakers as markers."""

    width: float
    height: float
    dots: tuple[Dot, ...]
    words: tuple[WordOnMap, ...]
    splits: tuple[tuple[str, int], ...]
    """(value, marker)"""


_MAP_WIDTH, _MARGIN, _FONT = 480.0, 26.0, 13.0


def map_figure(points: Float[np.ndarray, "n 2"], labels: Sequence[str], split: Sequence[str]) -> MapFigure:
    """Both axes on one scale, since distances are what a map is for. ``split`` may be empty."""
    names = list(dict.fromkeys(labels))
    sides = list(dict.fromkeys(split))
    of = np.asarray([names.index(label) for label in labels])
    centres = np.stack([points[of == i].mean(0) for i in range(len(names))])
    low, span = points.min(0), np.maximum(np.ptp(points, axis=0), 1e-9)
    inner = _MAP_WIDTH - 2 * _MARGIN
    scale = inner / float(max(span[0], span[1] / 0.9))  # a tall map is fitted by its height
    height = max(0.45 * inner, scale * float(span[1])) + 2 * _MARGIN
    offset = (np.asarray([_MAP_WIDTH, height]) - scale * span) / 2

    def place(values: np.ndarray) -> np.ndarray:
        placed = offset + scale * (values - low)
        placed[:, 1] = height - placed[:, 1]
        return placed

    at, middle = place(points), place(centres)
    dots = []
    for i, (label, word) in enumerate(zip(labels, of.tolist(), strict=True)):
        side = split[i] if split else ""
        marker = sides.index(side) % N_MARKERS if split else 0
        title = f"{label} ({side})" if side else label
        (x, y), (centre_x, centre_y) = at[i].tolist(), middle[word].tolist()
        dots.append(Dot(x, y, centre_x, centre_y, word % N_COLOURS, marker, title))
    # A label stands above the bulk of its takes, not on them.
    above = np.asarray([middle[i, 1] - 1.5 * at[of == i, 1].std() - _FONT for i in range(len(names))])
    spots = _spread_labels(names, np.stack([middle[:, 0], above], 1), height)
    words = _words_on_map(names, of, points, centres, spots)
    return MapFigure(_MAP_WIDTH, height, tuple(dots), words, tuple((s, i % N_MARKERS) for i, s in enumerate(sides)))


def _words_on_map(
    names: Sequence[str], of: np.ndarray, points: np.ndarray, centres: np.ndarray, spots: np.ndarray
) -> tuple[WordOnMap, ...]:
    counts = Counter(of.tolist())
    apart = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
    np.fill_diagonal(apart, np.inf)
    found = []
    for i, name in enumerate(names):
        spread = float(np.sqrt(np.square(points[of == i] - centres[i]).sum(1).mean()))
        near = int(apart[i].argmin())
        found.append(
            WordOnMap(
                word=name,
                colour=i % N_COLOURS,
                x=float(spots[i, 0]),
                y=float(spots[i, 1]),
                n_takes=counts[i],
                centre=(float(centres[i, 0]), float(centres[i, 1])),
                spread=spread,
                nearest=names[near] if len(names) > 1 else "",
                nearest_distance=float(apart[i, near]) if len(names) > 1 else 0.0,
            )
        )
    return tuple(found)


def text_width(text: str, size: float | int = _FONT) -> float:
    """A rough width in any script: wide letters count one em, combining marks nothing, others 0.58 em."""
    ems = 0.0
    for letter in text:
        if unicodedata.combining(letter) or unicodedata.category(letter) in ("Mn", "Cf"):
            continue
        ems += 1.0 if unicodedata.east_asian_width(letter) in "WF" else 0.58
    return ems * size


def _spread_labels(names: Sequence[str], middle: np.ndarray, height: float) -> np.ndarray:
    """Label positions near the middles, moved apart until no two overlap and none leaves the map."""
    spots = middle.copy()
    half = np.asarray([[text_width(name) / 2 + 3, _FONT / 2 + 2] for name in names])
    room = np.asarray([_MAP_WIDTH, height])
    half = np.minimum(half, room / 2)
    for _ in range(200):
        moved = False
        for i in range(len(names)):
            for j in range(i):
                gap = half[i] + half[j] - np.abs(spots[i] - spots[j])
                if (gap <= 1e-6).any():
                    continue
                axis = 1 if gap[1] <= gap[0] else 0
                sign = 1.0 if spots[i, axis] >= spots[j, axis] else -1.0
                spots[i, axis] += sign * gap[axis] / 2
                spots[j, axis] -= sign * gap[axis] / 2
                moved = True
        spots = np.clip(spots, half, room - half)
        if not moved:
            break
    return spots
