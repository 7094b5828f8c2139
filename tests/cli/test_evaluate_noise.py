"""``metavox evaluate --protocol noise`` as a user types it."""

import json
from pathlib import Path

import numpy as np
import pytest
import sounds
from calling import Metavox

from metavox.augment.wave import coloured_noise
from metavox.checkpoint import build, load_model, save_model

SHAPE = ["--ways", 4, "--shots", 2, "--queries", 1, "--episodes", 2, "--seed", 5, "--adapt-seconds", 1]


@pytest.fixture
def evaluate(metavox: Metavox) -> Metavox:
    return lambda model, *arguments: metavox("evaluate", model, "--protocol", "noise", *arguments)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shelf")
    sounds.manifest_corpus(root / "five", sounds.WORDS[:5], sounds.SPEAKERS[:2], 2)
    sounds.manifest_corpus(root / "three", sounds.WORDS[5:8], sounds.SPEAKERS[:2], 2)
    for name, colour in (("street", "pink"), ("car", "brown")):
        wave = np.float32(0.02) * coloured_noise(48_000, colour, np.random.default_rng(1))
        sounds.write(root / f"{name}.wav", wave)
    dtw = load_model("dtw").config
    config = dtw.model_copy(update={"front_end": dtw.front_end.model_copy(update={"n_frames": 64})})
    save_model(root / "cepstra", build(config), config, {})
    return root


def test_a_summary_says_what_adapting_gives(evaluate: Metavox, shelf: Path, tmp_path: Path) -> None:
    ask = ["--corpus", shelf / "five", *SHAPE, "--noise", shelf / "street.wav", "--noise", shelf / "car.wav"]
    said = evaluate(shelf / "cepstra", *ask, "--snr", "clean", "--snr", "5", "--json", "--out", tmp_path / "rows.jsonl")
    assert said.status == 0, said.err
    found = json.loads(said.out)
    expected = {"metric": "accuracy", "snr_db": [None, 5.0], "ways": 4, "shots": 2, "n": 2 * 2 * 4, "noise_apart": True,
                "adapt_seconds": 1.0, "corpus": "five", "episodes": 2, "seed": 5}  # fmt: skip
    assert {key: found[key] for key in expected} == expected
    assert [row["noise"] for row in found["by_noise"]] == ["street", "car"]
    assert found["noise_minutes"] == pytest.approx(4 / 60, abs=1e-3)
    rows = (tmp_path / "rows.jsonl").read_text().splitlines()
    assert len(rows) == 2 * 2 * (2 * 4 + 1)


def test_the_text_is_a_table_by_snr(evaluate: Metavox, shelf: Path) -> None:
    said = evaluate(
        shelf / "cepstra", "--corpus", shelf / "five", "--corpus", shelf / "three", *SHAPE,
        "--noise", shelf / "car.wav", "--snr", "10",
    )  # fmt: skip
    assert said.status == 0, said.err
    lines = said.out.splitlines()
    assert lines[1].split() == ["10", "dB"]
    assert [line.split("  ")[0] for line in lines[2:6]] == [
        "as it is", "robust, place unknown", "adapted to the place", "gain by adapting"
    ]  # fmt: skip
    assert lines[6].startswith("in car (0.0 min): ")
    assert lines[-1].startswith("worst set: ")


@pytest.mark.parametrize(
    ("model", "options", "said"),
    [
        ("cepstra", [], "--protocol noise needs places"),
        ("cepstra", ["--noise", "nowhere"], "nowhere"),
        ("cepstra", ["--noise", "car.wav", "--snr", "loud"], "--snr is 'loud', which is no number"),
        ("cepstra", ["--noise", "car.wav", "--far", "0.1"], "--far belongs to --protocol open-set and not to noise"),
        ("cepstra", ["--noise", "car.wav", "--adapt-seconds", "2.9"], "holds 3 s of noise"),
        ("dtw", ["--noise", "car.wav"], "Model dtw hears windows of any length"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    evaluate: Metavox, shelf: Path, model: str, options: list[str], said: str
) -> None:
    options = [str(shelf / one) if one.endswith(".wav") else one for one in options]
    where = model if model == "dtw" else shelf / model
    found = evaluate(where, "--corpus", shelf / "five", *SHAPE, *options)
    assert (found.status, found.out) == (2, "")
    assert said in found.err
    assert found.err.count("\n") == 1


def test_options_of_other_protocols_are_told(evaluate: Metavox, shelf: Path) -> None:
    found = evaluate(shelf / "cepstra", "--corpus", shelf / "five", "--protocol", "incremental", "--snr", "5")
    assert found.status == 2
    assert "--snr belongs to --protocol noise and not to incremental" in found.err
