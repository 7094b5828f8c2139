"""The plot of detection errors: what is drawn, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from refusals import said

from metavox.evaluation.det import Curve, _points, draw_det, require_drawable

RNG = np.random.default_rng


def test_normal_scores_give_a_straight_line() -> None:
    rng = RNG(0)
    x, y = _points(Curve("normal", rng.normal(2, 1, 50_000), rng.normal(0, 1, 50_000)))
    inside = (np.abs(x) < 2) & (np.abs(y) < 2)
    assert len(x) < 4500
    np.testing.assert_allclose(y[inside], -x[inside] - 2, atol=0.08)


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_a_picture_is_written_whole(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("matplotlib")
    rng = RNG(1)
    curves = [Curve("3 clips, full", rng.normal(3, 1, 300), rng.normal(0, 1, 3000)),
              Curve("baseline", rng.normal(2, 1, 300), rng.normal(0, 1, 3000), True),
              Curve("no error", np.ones(5), np.zeros(50))]  # fmt: skip
    path = tmp_path / "new" / f"det{suffix}"
    draw_det(path, curves, "model, corpus")
    assert path.stat().st_size > 5_000
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    if suffix == ".svg":
        assert path.read_text().count("<svg") == 1


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    assert "which ends in no kind of picture" in said(lambda: require_drawable(tmp_path / "det.txt"))
    assert "A plot of 0 curves" in said(lambda: draw_det(tmp_path / "det.png", []))
