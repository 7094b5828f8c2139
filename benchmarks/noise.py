"""Words enrolled in quiet and said in noisy places: what hearing robustly gives, and what adapting to the place adds.

    python benchmarks/leave_one_set_out.py && python benchmarks/noise.py

Uses the models of ``leave_one_set_out.py``, each on the set that left its training with all its languages. Five seconds
of each place are adapted to; the test draws from others. None of these places had a part in choosing how places are
heard (docs/decisions/0011): a kitchen, the homes of some people and the gaps of recordings in many rooms are recorded,
people talking at once (other people in the test than in what is adapted to) and a car are made. The settings were
chosen on arabic_digits, bengali_digits and speech_commands_mini; the other four sets are given by themselves too.
"""

import argparse
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from leave_one_set_out import SETS

from metavox.audio import read
from metavox.augment.wave import babble, coloured_noise, power
from metavox.checkpoint import load_model
from metavox.data.corpora import open_corpora, require
from metavox.data.episodes import ClassIndex, EpisodeSpec
from metavox.data.manifests import load_corpus
from metavox.evaluation.noise import NoiseProtocol, NoisyPlace, evaluate_noise, open_place
from metavox.evaluation.noise_summary import over_sets, summary
from metavox.evaluation.protocols import fitted

RATE_HZ = 16_000
CHOSEN_ON = ("arabic_digits", "bengali_digits", "speech_commands_mini")
SHOTS = (1, 5)
HOMES = ("bg_noise2", "bg_noise3")
TALK = "librispeech_test_other_mini"
LEVEL = 10 ** (-45 / 20)
ADAPT_S, TEST_S = 5.0, 30.0


def recorded(root: Path) -> list[NoisyPlace]:
    """Places as they were recorded."""
    homes = [open_place(root / "household" / f"{name}.flac", name, RATE_HZ, ADAPT_S) for name in HOMES]
    kitchen = open_place(root / "kitchen", "kitchen", RATE_HZ, ADAPT_S)
    rooms = open_place(root / "lt_bg", "many rooms", RATE_HZ, ADAPT_S)
    return [kitchen, *homes, rooms]


def made(seed: int) -> list[NoisyPlace]:
    """People talking at once, and the drone of a car: brown noise and the orders of an engine that changes speed."""
    rng = np.random.default_rng([seed, 1])
    by_speaker: dict[str, list[Path]] = {}
    for utterance in load_corpus(require(TALK)):
        by_speaker.setdefault(utterance.speaker or "", []).append(utterance.path)
    speakers = sorted(by_speaker)
    half = len(speakers) // 2
    parts = []
    for group, seconds in ((speakers[:half], ADAPT_S), (speakers[half:], TEST_S)):
        clips = [read(path, RATE_HZ) for speaker in group for path in by_speaker[speaker][:2]]
        parts.append(np.float32(LEVEL) * babble(clips, round(seconds * RATE_HZ), rng, 5))
    talk = NoisyPlace("people talking", parts[0], parts[1], (), RATE_HZ)
    n = round((ADAPT_S + TEST_S) * RATE_HZ)
    pitch_hz = 45 + 10 * np.sin(2 * np.pi * np.arange(n) / RATE_HZ / 7)
    phase = 2 * np.pi * np.cumsum(pitch_hz) / RATE_HZ
    engine = sum(np.sin(order * phase + rng.uniform(0, 6.28)) / order for order in range(1, 30))
    drone = engine / power(np.asarray(engine)) ** 0.5 + coloured_noise(n, "brown", rng)
    drone = (LEVEL / power(drone) ** 0.5 * drone).astype(np.float32)
    cut = round(ADAPT_S * RATE_HZ)
    return [talk, NoisyPlace("car", drone[:cut], drone[cut:], (), RATE_HZ)]


def run_set(name: str, folder: Path, places: list[NoisyPlace], asked: argparse.Namespace) -> list[dict[str, Any]]:
    """Summaries of one set, one a number of takes."""
    model = load_model(folder)
    bank = open_corpora([require(name)], model.config.front_end)
    index = ClassIndex(bank.utterances)
    found = []
    for shots in SHOTS:
        wanted = NoiseProtocol(EpisodeSpec(10, shots, 4), asked.episodes, asked.seed, adapt_s=ADAPT_S)
        protocol, _ = fitted(wanted, index)
        rows = evaluate_noise(model, bank, index, places, protocol, corpus=name)
        found.append(summary(rows, protocol, places, model="recipe", model_hash=model.hash[:16], corpus=name))
        show(found[-1])
    return found


def show(row: dict[str, Any]) -> None:
    """One line."""
    table = "  ".join(
        f"{'clean' if one['snr_db'] is None else format(one['snr_db'], 'g')}: "
        + "/".join(f"{100 * one[name]:.1f}" for name in ("as_is", "anywhere", "adapted"))
        for one in row["by_snr"]
    )
    print(f"{row['corpus']:<22} {row['ways']}-way {row['shots']}-shot  {table}", flush=True)


def together(rows: list[dict[str, Any]], which: str) -> dict[str, Any]:
    """Means over sets."""
    found = {"sets": which, **over_sets(rows)}
    show({**found, "corpus": which})
    return found


def slim(value: Any) -> Any:
    """Without the SNRs of each place in each set, and rounded."""
    if isinstance(value, dict):
        if "corpus" in value and "by_noise" in value:
            by_noise = [{key: part for key, part in row.items() if key != "by_snr"} for row in value["by_noise"]]
            value = {**value, "by_noise": by_noise}
        return {key: slim(part) for key, part in value.items()}
    if isinstance(value, list):
        return [slim(part) for part in value]
    return round(value, 4) if isinstance(value, float) else value


def main() -> None:
    """Measure, print and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("exp/leave_one_set_out"))
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--episodes", type=int, default=3, help="of each set")
    parser.add_argument("--seed", type=int, default=11)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    places = [*recorded(require("noise") / "audio"), *made(asked.seed)]
    rows = [row for name in SETS for row in run_set(name, asked.folder / name / "model", places, asked)]
    overall = []
    for shots in SHOTS:
        of_shots = [row for row in rows if row["shots"] == shots]
        untouched = [row for row in of_shots if row["corpus"] not in CHOSEN_ON]
        overall += [together(of_shots, "all"), together(untouched, "no part in choosing")]
    result = {
        "what": __doc__.strip().splitlines()[0],
        "versions": {"metavox": version("metavox"), "torch": torch.__version__},
        "seed": asked.seed,
        "episodes": asked.episodes,
        "chosen_on": list(CHOSEN_ON),
        "places": [
            {"noise": place.name, "made": not place.used, "adapted_to_s": len(place.adaptation) / RATE_HZ,
             "test_minutes": place.test_minutes}
            for place in places
        ],
        "overall": overall,
        "corpora": rows,
    }  # fmt: skip
    asked.json.write_text(json.dumps(slim(result), ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
