"""``metavox bench engines`` as a user types it, and ``metavox bench`` beside it."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from metavox.benchmarking import ablation, cells, engines, peers, timing
from metavox.benchmarking.bare import build_bare
from metavox.cli import main

RECIPE = Path(__file__).parents[2] / "recipes" / "commands.yaml"
SMALL = cells.Cell("tc_resnet8", "fomaml", 1, 1, 2)


class Said(NamedTuple):
    """What a call left."""

    status: int
    out: str
    err: str


Bench = Callable[..., Said]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Bench:
    """Call the real entry point as ``metavox bench ...`` would."""

    def call(*arguments: Any) -> Said:
        monkeypatch.setattr(sys, "argv", ["metavox", "bench", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return Said(int(stop.value.code or 0), captured.out, captured.err)

    return call


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No peer is here, one small cell, and a machine of known speed."""
    monkeypatch.setattr(peers, "why_absent", lambda name: f"pip install {name}")
    monkeypatch.setattr(engines, "why_absent", peers.why_absent)
    monkeypatch.setattr(peers, "peers_here", dict)
    monkeypatch.setattr(cells, "QUICK", (SMALL,))
    monkeypatch.setattr(timing, "gemm_rate", lambda: 100e9)
    monkeypatch.setattr(timing, "conv1d_rate", lambda: 50e9)


def test_both_verbs_have_help_with_an_example(bench: Bench) -> None:
    model, ours = bench("--help"), bench("engines", "--help")
    assert (model.status, ours.status) == (0, 0)
    assert "Usage: metavox bench [OPTIONS] {MODEL|RECIPE}" in model.out
    assert "Example: metavox bench recipes/commands.yaml" in model.out
    assert "bench engines" in model.out
    assert "Usage: metavox bench engines [OPTIONS]" in ours.out
    assert "Example: metavox bench engines --quick" in ours.out


def test_what_is_no_verb_is_a_model(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = bench(RECIPE, "--json", "--runs", 6)
    assert (said.status, json.loads(said.out)["model"]) == (0, "commands.yaml")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "engines").mkdir()
    for name in ("./engines", "MODEL"):
        said = bench(name)
        assert said.status == 2
        assert f"{name} holds no model" in said.err


@pytest.mark.usefixtures("alone")
def test_a_comparison_without_its_peers_is_not_written(bench: Bench, tmp_path: Path) -> None:
    said = bench("engines", "--json", tmp_path / "figures.json")
    assert said.status == 2
    assert said.err.count("\n") == 1
    assert "Without learn2learn and torchopt it would be no comparison" in said.err
    assert "pip install learn2learn, and pip install torchopt." in said.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--only", "("], "no regular expression"),
        (["--only", "lstm"], "matches none of 50 cells"),
        (["--quick", "--json", "{folder}"], "is a folder; name a file in it"),
        (["--quick", "--json", "{folder}/file/figures.json"], "file is a file; choose another place"),
        (["--seed", "-1"], "seed"),
        (["figures.json"], "figures.json"),
    ],
)
def test_what_cannot_be_is_one_sentence_and_status_2(
    bench: Bench, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    (tmp_path / "file").touch()
    said = bench("engines", *(argument.format(folder=tmp_path) for argument in arguments))
    assert said.status == 2
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert said.err.startswith("metavox: ")
    assert sentence in said.err


@pytest.mark.usefixtures("alone")
def test_figures_are_printed_and_written(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "ABLATED", (SMALL,))
    monkeypatch.setattr(ablation, "parts", lambda: {"bare": build_bare, "one by one": build_bare})
    path = tmp_path / "new" / "figures.json"
    said = bench("engines", "--quick", "--ablation", "--json", path)
    assert said.status == 0, said.err
    lines = said.out.splitlines()
    assert any(line.split()[:3] == ["fomaml", "1-shot", "1-step"] and "absent" in line for line in lines)
    assert "learn2learn is absent: pip install learn2learn" in lines
    assert sum("not measured" in line for line in lines) == 4
    assert max(map(len, lines)) <= 80
    found = json.loads(path.read_text())
    assert found["complete"]
    assert set(found["absent"]) == set(peers.PEERS)
    assert found["limits_gflops"] == {"gemm": 100, "conv1d": 50}
    (row,) = found["cells"]
    assert row["cell"] == SMALL.name
    assert set(row["engines"]) == {"metavox", "bare"}
    assert row["engines"]["metavox"]["difference_float64"] < 1e-8
    assert row["engines"]["metavox"]["choice"]
    assert row["ratio"] is None
    assert set(found["ablation"][0]["parts"]) == {"bare", "one by one"}
    assert sum(line.split()[:3] == ["one", "by", "one"] for line in lines) == 1
    assert [other.name for other in path.parent.iterdir()] == ["figures.json"]


@pytest.mark.usefixtures("alone")
def test_an_engine_that_computes_something_else_ends_with_status_1(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice(cell: cells.Cell, net: Any) -> Any:
        step = build_bare(cell, net)
        return lambda tasks: {name: 2 * value for name, value in step(tasks).items()}

    monkeypatch.setattr(engines, "engines_here", lambda: {"bare": build_bare, "metavox": twice})
    said = bench("engines", "--quick", "--json", tmp_path / "figures.json")
    assert said.status == 1
    assert "metavox: In tc_resnet8 fomaml" in said.err
    assert "Traceback" not in said.err
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("alone")
def test_cells_that_are_done_are_kept_when_a_later_one_fails(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def right_once(cell: cells.Cell, net: Any) -> Any:
        step = build_bare(cell, net)
        factor = 1.0 if cell == SMALL else 2.0
        return lambda tasks: {name: factor * value for name, value in step(tasks).items()}

    monkeypatch.setattr(cells, "QUICK", (SMALL, cells.Cell("tc_resnet8", "reptile", 1, 1, 2)))
    monkeypatch.setattr(engines, "engines_here", lambda: {"bare": build_bare, "metavox": right_once})
    path = tmp_path / "figures.json"
    assert bench("engines", "--quick", "--json", path).status == 1
    found = json.loads(path.read_text())
    assert not found["complete"]
    assert [row["cell"] for row in found["cells"]] == [SMALL.name]
