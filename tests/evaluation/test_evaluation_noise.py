"""The noise protocol: seconds of a place on one side only, noise as loud as stated, figures from the rows again."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sounds

from metavox.augment.wave import coloured_noise, power
from metavox.checkpoint import Model, build, load_model
from metavox.contracts import InputError
from metavox.data.bank import Bank, build_bank
from metavox.data.episodes import ClassIndex, EpisodeSpec
from metavox.data.manifests import load_corpus
from metavox.evaluation.noise import (
    HEARINGS,
    NoiseProtocol,
    NoisyPlace,
    _in_noise,
    evaluate_noise,
    open_place,
    require_apart,
)
from metavox.evaluation.noise_summary import figures, over_sets, summary

RATE = sounds.RATE_HZ
PROTOCOL = NoiseProtocol(EpisodeSpec(4, 2, 2), 2, 3, snrs_db=(None, 0.0), adapt_s=1.0)


def noise(seconds: float, seed: int = 0, colour: str = "pink") -> np.ndarray:
    return np.float32(0.02) * coloured_noise(round(seconds * RATE), colour, np.random.default_rng(seed))


@pytest.fixture(scope="module")
def model() -> Model:
    dtw = load_model("dtw").config
    config = dtw.model_copy(update={"front_end": dtw.front_end.model_copy(update={"n_frames": 64})})
    return Model(build(config), config, "cepstra", "0" * 64, {})


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory, model: Model) -> Bank:
    root = tmp_path_factory.mktemp("words")
    sounds.manifest_corpus(root, sounds.WORDS[:5], sounds.SPEAKERS[:2], 3)
    return build_bank(load_corpus(root), model.config.front_end, cache=root / "cache", n_workers=1)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> list[NoisyPlace]:
    root = tmp_path_factory.mktemp("places")
    for number, seconds in enumerate((0.7, 2.0, 1.5)):
        sounds.write(root / "kitchen" / f"{number}.wav", noise(seconds, number))
    sounds.write(root / "car.wav", noise(3.0, 5, "brown"))
    return [open_place(root / "kitchen", "kitchen", RATE, 1.0), open_place(root / "car.wav", "car", RATE, 1.0)]


@pytest.fixture(scope="module")
def rows(model: Model, bank: Bank, places: list[NoisyPlace]) -> list[dict[str, Any]]:
    return evaluate_noise(model, bank, ClassIndex(bank.utterances), places, PROTOCOL)


def test_no_sample_is_in_both_parts(places: list[NoisyPlace]) -> None:
    kitchen = places[0]
    assert (len(kitchen.adaptation), len(kitchen.test)) == (RATE, pytest.approx(3.2 * RATE, abs=4))
    assert kitchen.test_minutes == pytest.approx(3.2 / 60, abs=1e-4)
    assert [(path.name, part) for path, _, _, part in kitchen.used] == [
        ("0.wav", "adaptation"), ("1.wav", "adaptation"), ("1.wav", "test"), ("2.wav", "test")
    ]  # fmt: skip
    require_apart(kitchen.used)
    path, start, end, _ = kitchen.used[1]
    with pytest.raises(ValueError, match="both for adapting and for the test"):
        require_apart([*kitchen.used, (path, start, end - 5, "test")])


def test_a_place_that_cannot_serve_is_told(tmp_path: Path) -> None:
    wave = noise(1.8)
    sounds.write(tmp_path / "one" / "a.wav", wave)
    with pytest.raises(InputError, match=r"holds 1.8 s of noise, and 1 s to adapt to and 1 s for the test are needed"):
        open_place(tmp_path / "one", "one", RATE, 1.0)
    sounds.write(tmp_path / "one" / "b.wav", wave)
    with pytest.raises(InputError, match="holds the same noise as"):
        open_place(tmp_path / "one", "one", RATE, 1.0)
    sounds.write(tmp_path / "still.wav", np.zeros(3 * RATE, np.float32))
    with pytest.raises(InputError, match="is silent; leave it out"):
        open_place(tmp_path / "still.wav", "still", RATE, 1.0)


@pytest.mark.parametrize("snr_db", [20.0, 3.0])
def test_the_word_is_as_loud_as_stated_and_the_noise_as_it_is_there(places: list[NoisyPlace], snr_db: float) -> None:
    place, word = places[0], sounds.say("tula")
    mixed = _in_noise(word, place, snr_db, np.random.default_rng(0))
    more = _in_noise(word, place, snr_db + 6, np.random.default_rng(0))
    gain = 10 ** ((snr_db + 6) / 20) - 10 ** (snr_db / 20)
    alone = (more - mixed) / gain * 10 ** (snr_db / 20)  # the word as it is in ``mixed``
    assert power(mixed - alone) == pytest.approx(power(place.test), rel=0.3)
    spoken = np.flatnonzero(np.abs(alone) > 1e-3 * np.abs(alone).max())
    ratio = power(alone[spoken[0] : spoken[-1]]) / power((mixed - alone)[spoken[0] : spoken[-1]])
    assert 10 * np.log10(ratio) == pytest.approx(snr_db, abs=1.5)


def test_an_episode_asks_every_word_in_every_place(rows: list[dict[str, Any]]) -> None:
    queries = [row for row in rows if row["kind"] == "query"]
    assert len(queries) == 2 * 2 * 2 * 4 * 2
    assert len([row for row in rows if row["kind"] == "noise"]) == 2 * 2
    asked = {
        (place, snr_db): [
            (row["episode"], row["item"]) for row in queries if (row["noise"], row["snr_db"]) == (place, snr_db)
        ]
        for place in ("kitchen", "car")
        for snr_db in PROTOCOL.snrs_db
    }
    assert all(items == asked["car", None] for items in asked.values())
    for row in queries:
        for name in HEARINGS:
            assert row[f"correct_{name}"] == int(row[f"predicted_{name}"] == row["label"])
            assert row[f"heard_{name}"] <= row[f"correct_{name}"]
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    quiet = [row for row in queries if row["snr_db"] is None]
    assert np.mean([row["correct_adapted"] for row in quiet]) > 0.9


def test_a_run_can_be_repeated(model: Model, bank: Bank, places: list[NoisyPlace], rows: list[dict[str, Any]]) -> None:
    small = replace(PROTOCOL, episodes=1)
    again = evaluate_noise(model, bank, ClassIndex(bank.utterances), places, small, corpus="renamed")
    assert [{**row, "corpus": ""} for row in again] == [{**row, "corpus": ""} for row in rows if row["episode"] == 0]


def test_a_summary_follows_from_the_rows(rows: list[dict[str, Any]], places: list[NoisyPlace]) -> None:
    found = summary(rows, PROTOCOL, places, corpus="words")
    noisy = [row for row in rows if row["kind"] == "query" and row["snr_db"] is not None]
    assert found["mean"] == pytest.approx(np.mean([row["correct_adapted"] for row in noisy]))
    gain = np.mean([row["correct_adapted"] - row["correct_as_is"] for row in noisy])
    assert found["gain"] == pytest.approx(gain)
    assert found["gain_ci95"][0] <= gain <= found["gain_ci95"][1]
    assert [row["snr_db"] for row in found["by_snr"]] == [None, 0.0]
    assert [row["noise"] for row in found["by_noise"]] == ["kitchen", "car"]
    assert found["noise_minutes"] == pytest.approx((3.2 + 2.0) / 60, abs=1e-3)
    for row in found["by_noise"]:
        assert 0 <= row["alarms_adapted"] <= 1
    json.dumps(found, allow_nan=False)
    together = over_sets([found, found])
    assert together["mean"] == pytest.approx(found["mean"])
    assert together["by_noise"][1]["gain"] == pytest.approx(found["by_noise"][1]["gain"])


def test_figures_are_paired_by_episode() -> None:
    made = [
        {
            "episode": i,
            **{f"{what}_{name}": int(name != "as_is" or i == 0) for what in ("correct", "heard") for name in HEARINGS},
        }
        for i in range(4)
    ]
    found = figures(made)
    assert (found["as_is"], found["adapted"], found["gain"], found["gain_anywhere"]) == (0.25, 1.0, 0.75, 0.75)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"snrs_db": ()}, "--snr names none"),
        ({"snrs_db": (5.0, 5.0)}, "--snr names none, or one twice"),
        ({"snrs_db": (90.0,)}, "--snr is 90"),
        ({"adapt_s": 0.2}, "--adapt-seconds is 0.2"),
    ],
)
def test_a_protocol_that_makes_no_sense_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        replace(PROTOCOL, **options)
