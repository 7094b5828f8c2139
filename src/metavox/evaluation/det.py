"""The plot of detection errors: misses against false accepts on axes of normal deviates (Martin et al. 1997).

Scores that are normal in either kind give a straight line, and what tells a good system from a better one, rates of a
few per cent, has room.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

import numpy as np
from jaxtyping import Float

from ..contracts import InputError
from ..metrics import det_curve, eer

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#16191d")
"""Okabe and Ito's, as on the page of the report; a baseline is grey."""
GREY, RULE, MUTED = "#767d88", "#e8eaee", "#5a626d"
DASHES = ("-", "--", "-.", ":")
TICKS = (0.0001, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6)
SUFFIXES = (".png", ".svg", ".pdf")
MAX_CURVES = 28
_MAX_POINTS = 2000


@dataclass(frozen=True)
class Curve:
    """Scores of one system in one condition."""

    title: str
    target: Float[np.ndarray, " t"]
    nontarget: Float[np.ndarray, " n"]
    is_baseline: bool = False


def require_drawable(path: Path) -> None:
    """Raise InputError where no plot can be made, to be asked before anything is computed."""
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"--det is {path}, which ends in no kind of picture; end it in {', '.join(SUFFIXES)}.")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise InputError("--det draws with matplotlib, which is not installed; pip install 'metavox[eval]'.") from None


def draw_det(path: Path, curves: Sequence[Curve], title: str = "") -> None:
    """Draw the curves with their equal error rates into a file, written beside and renamed.

    Raises:
        InputError: no curve, or more than can be told apart.
    """
    if not 0 < len(curves) <= MAX_CURVES:
        raise InputError(f"A plot of {len(curves)} curves tells nothing; ask for 1 to {MAX_CURVES} conditions.")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 6.4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    low, high = _limits(curves)
    axes.plot([low, high], [low, high], color=RULE, linewidth=1, zorder=1)
    own = [curve for curve in curves if not curve.is_baseline]
    for curve in curves:
        group = [one for one in curves if one.is_baseline] if curve.is_baseline else own
        number = group.index(curve)
        colour = GREY if curve.is_baseline else COLOURS[number % len(COLOURS)]
        dash = DASHES[(number if curve.is_baseline else number // len(COLOURS)) % len(DASHES)]
        rate = eer(curve.target, curve.nontarget).rate
        axes.plot(*_points(curve), color=colour, linestyle=dash, linewidth=1.6, zorder=2,
                  label=f"{curve.title}: {100 * rate:.1f} %")  # fmt: skip
        if rate > 0:
            axes.plot([_probit(rate)], [_probit(rate)], "o", color=colour, markersize=5, zorder=3)
    ticks = [rate for rate in TICKS if low <= _probit(rate) <= high]
    places, texts = [_probit(rate) for rate in ticks], [f"{100 * rate:g}" for rate in ticks]
    axes.set_xticks(places, texts)
    axes.set_yticks(places, texts)
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal", title=title)
    axes.set_xlabel("false accepts, % of trials by two people")
    axes.set_ylabel("misses, % of trials by one person")
    axes.grid(color=RULE, linewidth=0.8)
    axes.tick_params(colors=MUTED, length=0)
    for side in axes.spines.values():
        side.set_color(RULE)
    axes.legend(title="equal error rate", frameon=False, loc="upper right", fontsize="small", title_fontsize="small")
    beside = path.with_name(f".{path.name}.tmp{path.suffix}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        figure.savefig(beside)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _points(curve: Curve) -> tuple[Float[np.ndarray, " P"], Float[np.ndarray, " P"]]:
    """False accepts and misses as deviates, where both kinds of error are there; thinned evenly along the curve."""
    _, misses, false = det_curve(curve.target, curve.nontarget)
    inside = np.flatnonzero((misses > 0) & (misses < 1) & (false > 0) & (false < 1))
    if len(inside) == 0:  # no error at any threshold between the two
        return np.zeros(0), np.zeros(0)
    false, misses = false[inside], misses[inside]
    # Log odds bend little against deviates, and cost nothing for a million points.
    along = np.cumsum(np.abs(np.diff(_log_odds(false), prepend=0)) + np.abs(np.diff(_log_odds(misses), prepend=0)))
    step = max((along[-1] - along[0]) / _MAX_POINTS, 1e-12)
    kept = np.unique(np.append(np.unique(along // step, return_index=True)[1], len(along) - 1))
    x, y = (np.array([_probit(float(rate)) for rate in some[kept]]) for some in (false, misses))
    return x, y


def _log_odds(rates: Float[np.ndarray, " P"]) -> Float[np.ndarray, " P"]:
    return np.log(rates / (1 - rates))


def _limits(curves: Sequence[Curve]) -> tuple[float, float]:
    """From below the smallest rate that is measured, within reason, to 60 %."""
    least = min(min(1 / len(curve.target), 1 / len(curve.nontarget)) for curve in curves)
    return _probit(min(max(least, 1e-4), 0.01) * 0.8), _probit(0.6)


def _probit(rate: float) -> float:
    return NormalDist().inv_cdf(min(max(rate, 1e-9), 1 - 1e-9))
