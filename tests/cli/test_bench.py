"""``metavox bench`` as a user types it."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from metavox.checkpoint import build, save_model
from metavox.cli import main
from metavox.config import EncoderConfig, ModelConfig, load_experiment
from metavox.contracts import FrontEnd

SPARSE = {"name": "sparse", "channels": 48, "blocks": 1, "dim": 8}


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
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump({"model": {"front_end": {"n_frames": 20, "normalize": False}, "encoder": SPARSE}}))
    return path


def test_a_recipe_and_the_model_built_from_it_cost_the_same(bench: Bench, recipe: Path, tmp_path: Path) -> None:
    config = load_experiment(recipe).model
    save_model(tmp_path / "model", build(config), config, {})
    told = [bench(source, "--json", "--runs", 6) for source in (recipe, tmp_path / "model")]
    assert [said.status for said in told] == [0, 0]
    first, second = (json.loads(said.out) for said in told)
    assert (first["trained"], second["trained"]) == (False, True)
    assert (first["model"], second["model"]) == ("small.yaml", "model")
    for key in ("parameters", "parameters_nonzero", "stored_bytes", "connections_absent", "macs", "frames", "encoder"):
        assert first[key] == second[key], key
    assert first["frames"] == 20
    assert 0.9 <= first["connections_absent"] < 1
    low, high = first["latency_ms_ci95"]
    assert 0 < low <= first["latency_ms"] <= high
    assert first["n"] == 6


def test_overrides_and_the_number_of_frames_change_what_is_counted(bench: Bench, recipe: Path) -> None:
    linear = ["model.encoder.name=linear", "model.encoder.cepstra=0", "model.encoder.halvings=0", "--json"]
    counts = [json.loads(bench(recipe, *linear, "--frames", n, "--runs", 6).out) for n in (10, 30)]
    assert [count["macs"] for count in counts] == [10 * 11 * 40 * 8, 30 * 11 * 40 * 8]
    assert [count["parameters"] for count in counts] == [11 * 40 * 8 + 8] * 2


def test_what_is_printed_for_people(bench: Bench, recipe: Path) -> None:
    said = bench(recipe, "--runs", 6)
    assert said.status == 0
    assert said.err == ""
    lines = said.out.splitlines()
    assert lines[0] == "small.yaml: encoder sparse, a window of 20 frames"
    assert [line.split("  ")[0] for line in lines[1:3]] == ["parameters", ""]
    assert "connections absent           90." in said.out
    assert lines[-1].startswith("latency, one thread")
    assert lines[-1].endswith("median of 6")
    dense = bench(recipe, "model.encoder.name=fc", "--runs", 6)
    assert "connections absent" not in dense.out


def test_a_baseline_without_parameters_has_a_cost(bench: Bench) -> None:
    said = json.loads(bench("dtw", "--json", "--runs", 6).out)
    assert (said["parameters"], said["encoder"], said["trained"]) == (0, "mfcc", False)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "nowhere holds no model"),
        (["nowhere.yaml"], "does not exist"),
        (["dtw", "model.encoder.dim=3"], "name a YAML file to change it"),
        (["{recipe}", "model.encoder.density=0.5"], "model.encoder.density is 0.5"),
        (["{recipe}", "model.encoder.channels=4"], "raise encoder.channels"),
        (["{recipe}", "model.encoder.name=conformer", "model.encoder.channels=12"], "a multiple of 8"),
        (["{recipe}", "--runs", "3"], "runs"),
        (["{recipe}", "--frames", "0"], "frames"),
    ],
)
def test_what_cannot_be_is_one_sentence_and_status_2(
    bench: Bench, recipe: Path, arguments: list[str], sentence: str
) -> None:
    said = bench(*(argument.format(recipe=recipe) for argument in arguments))
    assert said.status == 2
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert said.err.startswith("metavox: ")
    assert sentence in said.err


def test_a_model_without_a_fixed_window_is_measured_on_one_second(bench: Bench, tmp_path: Path) -> None:
    front_end = FrontEnd(n_frames=None, hop_ms=20, normalize=False)
    config = ModelConfig(front_end=front_end, encoder=EncoderConfig(name="linear"))
    save_model(tmp_path / "model", build(config), config, {})
    assert json.loads(bench(tmp_path / "model", "--json", "--runs", 6).out)["frames"] == 50
