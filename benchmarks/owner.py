"""Commands of owners: every set with models that never heard it, and a fusion that was fitted on the other sets.

    python benchmarks/owner.py --commands MODEL --voices MODEL [--out benchmarks/owner.json]

``--commands SET=MODEL`` and ``--voices SET=MODEL`` name models of words and of voices for one set, without ``SET=``
for all others. None of them may have heard the people of the set; a set that a model of voices was trained on is
marked with ``seen_in_training``, and no fusion is fitted on it. ``--joint SET=MODEL`` is a model of
``voiced_prototypes``, which hears words and voices, on the same trials. ``--set NAME=FOLDER`` is a set of one's own,
such as words that `metavox data align` cut from sentences.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from metavox.calibration.fusion import Fusion, independent
from metavox.checkpoint import load_model
from metavox.data.corpora import open_corpora, require
from metavox.data.episodes import EpisodeSpec
from metavox.evaluation.owner import OwnerProtocol, Owners, beside, evaluate_owner, fit_on
from metavox.evaluation.owner_summary import over_sets, summary
from metavox.voices.encoders import load_voices

SETS = ("bengali_digits", "spoken_words_zh_en", "fsdd_en_digits")
"""Sets in which speakers say words more often than once; lithuanian_commands and speech_commands_mini have one take of
each word by each speaker, so that no owner can enrol a word and be asked for it."""


def main() -> None:
    """Score every set and shot, and write what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commands", action="append", required=True, metavar="[SET=]MODEL")
    parser.add_argument("--voices", action="append", required=True, metavar="[SET=]MODEL")
    parser.add_argument("--joint", action="append", default=[], metavar="SET=MODEL")
    parser.add_argument("--set", action="append", metavar="NAME[=FOLDER]")
    parser.add_argument("--shots", type=int, action="append")
    parser.add_argument("--ways", type=int, default=10)
    parser.add_argument("--episodes", type=int, default=110)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/owner.json"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    commands, voices, joint = (by_set(texts) for texts in (asked.commands, asked.voices, asked.joint))
    sets = {name: require(place or name) for name, place in map(parted, asked.set or SETS)}
    found = []
    for shots in asked.shots or (5, 3, 1):
        heard = {
            name: hear(asked, (name, place), of(commands, name), of(voices, name), shots)
            for name, place in sets.items()
        }
        by_joint = {
            name: hear(asked, (name, place), joint[name], joint[name], shots)
            for name, place in sets.items()
            if name in joint
        }
        summaries = []
        for name, one in heard.items():
            fusions = fusions_for(name, heard)
            rows = one["rows"]
            if name in by_joint:
                rows = beside(rows, by_joint[name]["rows"], "joint", fusions_for(name, by_joint))
            result = summary(rows, one["protocol"], fusions, calibrated=one["calibrated"], corpus=name)
            result |= {**one["about"], "fusion": fusions[0].as_document()}
            summaries.append(result)
            print(f"{name} {shots}-shot: owner-only EER {100 * result['mean']:.2f} %", flush=True)
        found.append({**over_sets(summaries), "corpora": summaries})
    asked.out.write_text(json.dumps({"cores": 1, "by_shots": found}, indent=1) + "\n", encoding="utf-8")


def parted(text: str) -> tuple[str, str]:
    """``NAME=REST`` in two; nothing after a bare name."""
    name, _, rest = text.partition("=")
    return name, rest


def by_set(texts: list[str]) -> dict[str, str]:
    """Models by set, that of all others under no name."""
    return dict(parted(text) if "=" in text else ("", text) for text in texts)


def of(models: dict[str, str], name: str) -> str:
    """The model for a set."""
    if name not in models and "" not in models:
        raise SystemExit(f"No model is named for {name}; give one without SET=.")
    return models.get(name, models.get("", ""))


def hear(asked: argparse.Namespace, of_set: tuple[str, Path], commands: str, voices: str, shots: int) -> dict[str, Any]:
    """The trials of one set."""
    name, place = of_set
    model, voice_model = load_model(commands), load_voices(voices)
    bank = open_corpora([place], model.config.front_end)
    owners = Owners(bank.utterances, OwnerProtocol(EpisodeSpec(asked.ways, shots, 10), asked.episodes, 0))
    began = time.process_time()
    rows = evaluate_owner(model, voice_model, bank, owners, corpus=name)
    about = {
        "model_hash": model.hash[:16],
        "voices": voice_model.encoder.name,
        "voices_hash": voice_model.hash[:16],
        "cpu_s": round(time.process_time() - began, 1),
        "seen_in_training": name in voice_model.about.get("corpora", []),
    }
    return {
        "rows": rows,
        "protocol": owners.asked,
        "calibrated": voice_model.ratios is not None,
        "about": about,
    }


def fusions_for(name: str, heard: dict[str, dict[str, Any]]) -> tuple[Fusion, ...]:
    """Fitted on every other set that the models of voices had not heard."""
    others = [one for one in heard if one != name and not heard[one]["about"]["seen_in_training"]]
    if not others:
        return (independent(),)
    rows = [row for one in others for row in heard[one]["rows"]]
    return fit_on(rows, {"corpora": others})


if __name__ == "__main__":
    main()
