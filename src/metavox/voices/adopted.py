"""A model folder around an encoder that is not ours: cohort and calibration, and where the encoder is.

An ONNX file is copied into the folder, so that the folder can move. A model of transformers stays where it is.
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict

from ..calibration.ratios import Ratios
from ..checkpoint import FORMAT, read_tensors, write_json, write_tensors
from ..config import validated
from ..contracts import InputError
from .foreign import OnnxVoices
from .joint import JointEncoder
from .models import StoredRatios

KIND = "adopted-voices"
JOINT = "joint"
"""Folder, inside that of the model, of a recogniser of words whose second head hears voices."""


@dataclass(frozen=True)
class Adopted:
    """What a folder holds beside the encoder."""

    source: str
    """As ``encoders.load_voices`` takes it."""
    encoder_hash: str
    cohort: Float[np.ndarray, "M D"]
    ratios: Ratios
    hash: str
    about: Mapping[str, Any]
    turns: Ratios | None = None


class _Stored(BaseModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)
    source: str
    encoder_hash: str
    ratios: StoredRatios
    turns: StoredRatios | None = None
    hash: str
    about: dict[str, Any]


def save_adopted(folder: Path, adopted: Adopted, encoder: Any) -> None:
    """Write a model folder; ``adopted.source`` of an ONNX file becomes that of its copy in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    source = adopted.source
    if isinstance(encoder, OnnxVoices):
        home = encoder.files[0].resolve().parent
        for path in encoder.files:
            target = folder / path.resolve().relative_to(home)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        source = encoder.files[0].resolve().name
    elif isinstance(encoder, JointEncoder):
        if encoder.folder is None:
            raise InputError(f"{encoder.name} is in no folder; save the model first.")
        source = JOINT
        (folder / JOINT).mkdir(exist_ok=True)
        for name in ("config.json", "model.safetensors"):
            shutil.copyfile(encoder.folder / name, folder / JOINT / name)
    elif os.path.isdir(source.removeprefix("hf:")):
        source = "hf:" + os.path.abspath(source.removeprefix("hf:"))
    write_tensors(folder / "cohort.safetensors", {"cohort": torch.from_numpy(np.asarray(adopted.cohort, np.float32))})
    document = {
        "format": FORMAT,
        "library": "metavox",
        "kind": KIND,
        "version": version("metavox"),
        "hash": adopted.hash,
        "source": source,
        "encoder_hash": adopted.encoder_hash,
        "ratios": asdict(adopted.ratios),
        "turns": None if adopted.turns is None else asdict(adopted.turns),
        "about": dict(adopted.about),
    }
    write_json(folder / "config.json", document)


def read_adopted(folder: Path, document: Mapping[str, Any]) -> Adopted:
    """What ``save_adopted`` wrote, its ``config.json`` being read already.

    Raises:
        InputError: a file is damaged or missing.
    """
    stored = validated(_Stored, dict(document), str(folder / "config.json"))
    cohort = read_tensors(folder / "cohort.safetensors").get("cohort")
    if cohort is None or cohort.ndim != 2:
        raise InputError(f"{folder / 'cohort.safetensors'} holds no cohort; copy or calibrate the model again.")
    source = stored.source
    if source.endswith(".onnx") and Path(source).name == source:
        source = str(folder / source)
    elif source == JOINT:
        source = str(folder / JOINT)
    elif source != "mfcc" and not source.startswith("hf:"):
        raise InputError(f"{folder} names an encoder outside it, {source!r}; copy or calibrate the model again.")
    turns = None if stored.turns is None else stored.turns.ratios
    return Adopted(
        source, stored.encoder_hash, cohort.float().numpy(), stored.ratios.ratios, stored.hash, stored.about, turns
    )
