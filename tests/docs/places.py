"""The folder that a reader of the pages works in: small files under the names that the pages use, in made-up sounds."""

import json
import os
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import crowd
import numpy as np
import sounds
import tonal
import torch
import uttered
import yaml
from blocks import ROOT, Block
from torch import nn
from voicing import say as voice

from metavox import SpeakerVerifier
from metavox.checkpoint import BUNDLED

TAKES = 5
ANNA, BEN = 0, 1
FORGOTTEN = "carl"
LIGHTS = ("lights-on", "lights-off")
MODELS = {"commands": "commands-small", "asr": "asr-small", "voices": "speaker-small"}
SETS = ("bengali_digits", "mboshi", "kitchen")
"""Names in METAVOX_DATA that pages use; here they are tones."""

EAF = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="" DATE="2024-05-02T10:11:12+01:00" FORMAT="3.0" VERSION="3.0">
<HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">
<MEDIA_DESCRIPTOR MEDIA_URL="file:///story.wav" MIME_TYPE="audio/x-wav" RELATIVE_MEDIA_URL="./story.wav"/>
</HEADER>
<TIME_ORDER>{slots}</TIME_ORDER>
<TIER LINGUISTIC_TYPE_REF="text" TIER_ID="anna">{notes}</TIER>
<LINGUISTIC_TYPE LINGUISTIC_TYPE_ID="text" TIME_ALIGNABLE="true"/>
</ANNOTATION_DOCUMENT>
"""


def furnish(root: Path) -> None:
    """Everything that pages speak of and do not make themselves."""
    for name, source in MODELS.items():
        shutil.copytree(BUNDLED / source, root / "exp" / name)
    shutil.copytree(BUNDLED / "asr-small", root / "annas-recogniser")
    shutil.copytree(ROOT / "recipes", root / "recipes")
    for word in LIGHTS:
        takes(root / "my-takes" / word, word, range(TAKES))
        takes(root / "more-takes" / word, word, range(20, 22))
        takes(root / "spoken" / word, word, range(30, 33))
    sounds.write(root / "kitchen.wav", sounds.say(LIGHTS[0], take=11))
    sounds.write(root / "hall.wav", sounds.say(LIGHTS[1], take=12))
    sounds.manifest_corpus(root / "my-words", sounds.WORDS[:10], sounds.SPEAKERS, 2)
    sounds.manifest_corpus(root / "other-words", sounds.WORDS[6:], sounds.SPEAKERS, 2, lang="yy")
    talk(root / "my-talk", 40)
    talk(root / "my-living-room", 40)
    sounds.write(root / "kitchen-noise.wav", noise(8.0, 1))
    sounds.write(root / "car.wav", noise(20.0, 2))
    _people(root)
    _sentences(root)
    _data(root / "data")


def takes(folder: Path, word: str, numbers: range) -> None:
    """A folder of takes of a word."""
    for number in numbers:
        sounds.write(folder / f"{number + 1}.wav", sounds.say(word, take=number))


def talk(folder: Path, n: int) -> None:
    """Recordings of two seconds in which nobody says an enrolled word."""
    for number in range(n):
        wave = [sounds.say(sounds.WORDS[(number + k) % 4], sounds.SPEAKERS[k % 4], 50 + number) for k in range(3)]
        sounds.write(folder / f"{number:03}.wav", np.concatenate(wave))


def noise(seconds: float, seed: int) -> np.ndarray:
    """A hum."""
    rng = np.random.default_rng(seed)
    return (0.01 * rng.standard_normal(round(seconds * sounds.RATE_HZ))).astype(np.float32)


def _people(root: Path) -> None:
    (root / "my.key").write_bytes(bytes(range(32)))
    for number in range(1, 4):
        sounds.write(root / f"a{number}.wav", voice(ANNA, number, 3.0))
        sounds.write(root / "anna" / f"{number}.wav", voice(ANNA, 10 + number, 3.0))
    sounds.write(root / "door.wav", voice(ANNA, 7, 3.0))
    crowd.corpus(root / "my-people", range(4), n_takes=5, seconds=3.0)
    crowd.corpus(root / "other-people", range(10, 19), n_takes=3, seconds=1.2)
    uttered.corpus(root / "dev-owners", (1, 2, 4), ("open", "close", "light"), 6)
    uttered.corpus(root / "my-owners", (5, 6, 7), ("open", "close", "light"), 6)
    policy = {"default": "anyone", "words": {"light": "anna"}}
    (root / "house.yaml").write_text(json.dumps(policy), encoding="utf-8")


def _sentences(root: Path) -> None:
    said = tonal.texts(30, 3, 2)
    tonal.corpus(root / "my-recordings", said, speakers=list("vwxyz"), lang="sw")
    tonal.corpus(root / "my-corrections", tonal.texts(8, 4), speakers=["v"], lang="sw", seed=300)
    tonal.corpus(root / "more-recordings", tonal.texts(6, 5), seed=600, written=[""] * 6)
    sounds.write(root / "interview.wav", np.concatenate([tonal.said(text, seed=9) for text in said[:3]]))
    sounds.write(root / "note.wav", voice(ANNA, 8, 3.0))
    rows = []
    for number in range(8):
        rest, speaker = np.zeros(sounds.RATE_HZ // 3, np.float32), sounds.SPEAKERS[number % 2]
        wave = np.concatenate(
            [rest, sounds.say("tula", speaker, number), rest, sounds.say("rime", speaker, number), rest]
        )
        wave = wave + 1e-3 * np.random.default_rng(number).standard_normal(len(wave))
        sounds.write(root / "my-sentences" / f"{number}.wav", wave)
        row = {"audio_filepath": f"{number}.wav", "duration": len(wave) / sounds.RATE_HZ, "text": "tula rime"}
        rows.append(json.dumps(row | {"speaker": speaker, "lang": "sw"}))
    (root / "my-sentences" / "manifest.jsonl").write_text("\n".join(rows))
    _kaldi(root / "kaldi-dir")
    _elan(root / "elan-files", said)


def _kaldi(folder: Path) -> None:
    sounds.write(folder / "a.wav", sounds.say("tula"))
    texts = {"wav.scp": "r1 a.wav\n", "text": "r1 tula\n", "utt2spk": "r1 anna\n"}
    for name, text in texts.items():
        (folder / name).write_text(text)


def _elan(folder: Path, texts: list[str]) -> None:
    parts = [tonal.said(text, seed=i) for i, text in enumerate(texts)]
    sounds.write(folder / "story.wav", np.concatenate(parts))
    ends = np.cumsum([0, *(len(part) for part in parts)]) * 1000 // sounds.RATE_HZ
    slots = "".join(f'<TIME_SLOT TIME_SLOT_ID="ts{i}" TIME_VALUE="{end}"/>' for i, end in enumerate(ends))
    notes = "".join(
        f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a{i}" TIME_SLOT_REF1="ts{i}" TIME_SLOT_REF2="ts{i + 1}">'
        f"<ANNOTATION_VALUE>{text}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>"
        for i, text in enumerate(texts)
    )
    (folder / "story.eaf").write_text(EAF.format(slots=slots, notes=notes))


def _data(folder: Path) -> None:
    sounds.manifest_corpus(folder / "bengali_digits", sounds.WORDS[:10], sounds.SPEAKERS, 2, lang="bn")
    sounds.manifest_corpus(folder / "mboshi", sounds.WORDS[10:], sounds.SPEAKERS, 8, lang="mdw")
    sounds.write(folder / "kitchen" / "0.wav", noise(20.0, 3))


# ------------------------------------------------------------------------------------------------------ in one's hands


def known(place: Path) -> dict[str, Any]:
    """What the Python of the pages takes for granted."""
    clips = [place / "spoken" / word / f"{take}.wav" for word in LIGHTS for take in (31, 32, 33)]
    net = nn.Linear(4, 1)

    def loss(net: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return nn.functional.mse_loss(net(batch[0]), batch[1])

    batches = [(torch.ones(3, 4) * k, torch.ones(3, 1)) for k in range(4)]
    return {
        "clips": clips,
        "words": [path.parent.name for path in clips],
        "texts": ["tula", "rime", "sakko", "febe", "golun", "anti"],
        "good_nights": [(sounds.say("good night", take=take), sounds.RATE_HZ) for take in range(3)],
        "annas_clips": [(voice(ANNA, take, 3.0), sounds.RATE_HZ) for take in range(3)],
        "bens_clips": [(voice(BEN, take, 3.0), sounds.RATE_HZ) for take in range(3)],
        "annas_takes": clips,
        "bens_takes": clips,
        "blocks": [sounds.say(LIGHTS[0], take=13), noise(1.0, 4)],
        "net": net,
        "loss": loss,
        "tasks": [(batches[0], batches[1]), (batches[2], batches[3])],
    }


def made(blocks: list[Block]) -> set[str]:
    """The folders that the commands of a page make: they are not there before it is followed."""
    commands = [command for block in blocks if block.language == "sh" for command in block.commands()]
    return {after for words in commands for before, after in pairwise(words) if before == "--out"}


def settle(place: Path, stock: Path, blocks: list[Block]) -> None:
    """A copy of the furniture for one page, without what the page makes."""
    shutil.copytree(stock, place, dirs_exist_ok=True, copy_function=os.link)
    for name in made(blocks):
        if (place / name).is_dir():
            shutil.rmtree(place / name)
    shown = [block.text for block in blocks if block.language == "yaml" and "threshold_llr" in block.text]
    for policy in shown:  # the policy that a page shows is the one that it uses
        shutil.rmtree(place / "my-takes")
        for word in yaml.safe_load(policy)["words"]:
            takes(place / "my-takes" / word, word, range(TAKES))
        (place / "house.yaml").unlink()
        (place / "house.yaml").write_text(policy, encoding="utf-8")
        _enrolled("ben").save(place / "family")
    if any(FORGOTTEN in command for block in blocks for command in block.commands()):
        _enrolled("ben", FORGOTTEN).save(place / "family", key=place / "my.key")


def _enrolled(*names: str) -> SpeakerVerifier:
    """A folder's voices before its owner adds more."""
    family = SpeakerVerifier()
    for number, name in enumerate(names):
        family.enroll(name, [(voice(BEN + number, take, 3.0), sounds.RATE_HZ) for take in range(3)])
    return family
