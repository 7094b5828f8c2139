"""Where figures put things: inside, in proportion, and apart."""

import re

import numpy as np
import pytest

from metavox.contracts import InputError
from metavox.evaluation import figures
from metavox.evaluation.figures import project

WORDS = ("ačiū", "শূন্য", "تسعة", "零", "dört")


def a_log(n=200):
    lines = [
        {"step": i + 1, "loss": 3 / (1 + i / 20), "accuracy": i / n, "lr": 1e-3, "cpu_s": 0.1 * i} for i in range(n)
    ]
    for line in lines[49::50]:
        line["validation"] = line["accuracy"] / 2
    return lines


# ----------------------------------------------------------------------------------------------------------- projection


def test_a_projection_keeps_what_a_plane_can_keep():
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(40, 9)) * np.arange(9, 0, -1)
    points = project(vectors)
    variances = np.sort(np.linalg.eigvalsh(np.cov(vectors.T)))[::-1]
    assert points.var(0, ddof=1) == pytest.approx(variances[:2])
    assert points.mean(0) == pytest.approx(0, abs=1e-12)
    assert np.corrcoef(points.T)[0, 1] == pytest.approx(0, abs=1e-12)
    whole = project(vectors, 9)
    between = np.linalg.norm(vectors[:, None] - vectors[None], axis=-1)
    assert np.linalg.norm(whole[:, None] - whole[None], axis=-1) == pytest.approx(between)


def test_a_projection_does_not_depend_on_order_offset_or_the_solver_s_sign():
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(30, 12)) * np.arange(12, 0, -1)
    points = project(vectors)
    order = rng.permutation(30)
    assert project(vectors[order] + 100) == pytest.approx(points[order], abs=1e-9)
    assert project(-vectors) == pytest.approx(-points, abs=1e-9)


def test_projections_of_little():
    assert (project(np.ones((1, 5))) == 0).all()
    assert (project(np.full((4, 3), 0.1)) == 0).all()
    assert project(np.array([[0.0], [1.0], [2.0]])) == pytest.approx(np.array([[-1, 0], [0, 0], [1, 0]]))
    for vectors, n_dims, message in (
        (np.zeros((0, 3)), 2, "needs some"),
        (np.ones((2, 2)), 0, "at least 1"),
        (np.array([[np.inf, 0.0]]), 2, "not finite"),
    ):
        with pytest.raises(InputError, match=message):
            project(vectors, n_dims)


# -------------------------------------------------------------------------------------------------------------- figures


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 3.3), (0, 41.7), (0, 12345), (-2, 7), (0, 0.004)])
def test_ticks_are_few_round_and_inside(low, high):
    found = figures.ticks(low, high, 4)
    assert 2 <= len(found) <= 9
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in found)
    steps = np.diff(found)
    assert steps.tolist() == pytest.approx([steps[0]] * len(steps))
    assert round(steps[0] / 10 ** np.floor(np.log10(steps[0]) + 1e-9), 6) in (1, 2, 5)


def numbers(path):
    return np.asarray(re.findall(r"-?[\d.]+", path), float).reshape(-1, 2)


def test_training_curves_end_where_the_log_ends_and_stay_in_their_panel():
    log = a_log(5000)
    first, second = figures.training_figures({"long": log, "short": log[:500]})
    accuracy, loss = first.panels
    line = numbers(accuracy.line)
    assert len(line) == 80
    assert (np.diff(line[:, 0]) > 0).all()
    last = np.mean([row["accuracy"] for row in log[-62:]])
    assert line[-1, 1] == pytest.approx(accuracy.bottom - last * (accuracy.bottom - accuracy.top), abs=0.11)
    for panel in (accuracy, loss, *second.panels):
        inside = numbers(panel.line + panel.band)
        assert (inside[:, 0] >= first.left - 0.1).all()
        assert (inside[:, 0] <= first.right + 0.1).all()
        assert (inside[:, 1] >= panel.top - 0.1).all()
        assert (inside[:, 1] <= panel.bottom + 0.1).all()
    # One clock for all: a tenth of the time is a tenth of the way.
    assert second.panels[0].dots[-1][0] == pytest.approx(first.left + 0.1 * (first.right - first.left), abs=0.1)
    assert first.held_out == log[-1]["validation"]
    assert first.rows[-1]["step"] == 5000


def test_training_logs_of_any_kind_can_be_drawn():
    broken = [{"step": 1, "loss": float("nan"), "accuracy": 0.1}, {"step": 2, "loss": float("inf"), "accuracy": 0.2}]
    one = [{"step": 1, "loss": 0.0, "accuracy": 0.0}]
    found = figures.training_figures({"none": [], "broken": broken, "one": one})
    assert [f.model for f in found] == ["broken", "one"]
    assert [f.colour for f in found] == [1, 2]  # as everywhere on the page
    assert found[0].panels[1].line == ""
    assert found[0].x_label == "outer steps"
    assert figures.training_figures({}) == []


def test_a_map_keeps_proportions_and_puts_every_take_inside():
    rng = np.random.default_rng(3)
    for stretch in ((1, 1), (30, 1), (1, 30), (1, 0)):
        points = rng.normal(size=(60, 2)) * stretch
        labels = [WORDS[i % 5] for i in range(60)]
        found = figures.map_figure(points, labels, [])
        at = np.asarray([(d.x, d.y) for d in found.dots])
        assert (at > 0).all()
        assert (at < [found.width, found.height]).all()
        flipped = at * [1, -1]
        drawn = np.linalg.norm(flipped - flipped[0], axis=1)[1:]
        true = np.linalg.norm(points - points[0], axis=1)[1:]
        assert drawn / true == pytest.approx(drawn[0] / true[0])


def test_a_map_of_one_point_or_of_takes_that_coincide():
    for n in (1, 4):
        found = figures.map_figure(np.zeros((n, 2)), ["a"] * n, [])
        assert np.isfinite([(d.x, d.y) for d in found.dots]).all()
        assert found.words[0].nearest == ""


@pytest.mark.parametrize("n_words", [2, 8, 20])
def test_labels_of_a_map_do_not_overlap(n_words):
    rng = np.random.default_rng(n_words)
    words = [f"word {i}" for i in range(n_words)]
    labels = [word for word in words for _ in range(5)]
    found = figures.map_figure(rng.normal(size=(len(labels), 2)) * 0.3, labels, [])
    boxes = [(w.x, w.y, figures.text_width(w.word)) for w in found.words]
    for i, (x, y, width) in enumerate(boxes):
        assert x - width / 2 >= 0
        assert x + width / 2 <= found.width
        assert 0 < y < found.height
        for x2, y2, width2 in boxes[:i]:
            assert abs(x - x2) >= (width + width2) / 2 - 1 or abs(y - y2) >= 12


def test_the_map_s_table_names_the_nearest_word():
    points = np.array([[0.0, 0.0], [0.0, 2.0], [1.0, 1.0], [9.0, 1.0]])
    found = figures.map_figure(points, ["a", "a", "b", "c"], ["x", "y", "x", "y"])
    a, b, c = found.words
    assert (a.nearest, b.nearest, c.nearest) == ("b", "a", "b")
    assert (a.n_takes, a.spread, a.nearest_distance) == (2, pytest.approx(1), pytest.approx(1))
    assert found.splits == (("x", 0), ("y", 1))


def test_letters_of_every_script_have_a_width():
    assert figures.text_width("零零", 10) == 20
    assert figures.text_width("e\u0301", 10) == figures.text_width("é", 10)
