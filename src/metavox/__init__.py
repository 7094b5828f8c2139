"""Speech models that learn from a handful of recordings.

Names are loaded when first used: ``import metavox`` loads no network, plot or web library.
"""

import importlib
from importlib.metadata import version as _version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .estimators import ModelAverage as ModelAverage
    from .runtime.commands import CommandRecognizer as CommandRecognizer
    from .runtime.gate import VoiceGate as VoiceGate
    from .runtime.known_voice import KnownVoices as KnownVoices
    from .runtime.transcriber import Transcriber as Transcriber
    from .runtime.verifier import SpeakerVerifier as SpeakerVerifier

__version__ = _version("metavox")

_WHERE = {
    "CommandRecognizer": "runtime.commands",
    "InputError": "contracts",
    "KnownVoices": "runtime.known_voice",
    "ModelAverage": "estimators",
    "SpeakerVerifier": "runtime.verifier",
    "Transcriber": "runtime.transcriber",
    "VoiceGate": "runtime.gate",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'metavox' has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_WHERE[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*_WHERE, "__version__"]
