"""The lesson ``support_conditioned`` as a module: what its cells define, without what they run."""

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[1] / "lessons" / "support_conditioned.py"


def lesson() -> ModuleType:
    """Skip where Keras is not installed. The backend of this process is torch unless KERAS_BACKEND says otherwise."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    for package, name in (("keras", "keras"), ("espeakng_loader", "the extra demo")):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"support_conditioned needs {name}, which make lessons installs", allow_module_level=True)
    if SCRIPT.stem not in sys.modules:
        spec = importlib.util.spec_from_file_location(SCRIPT.stem, SCRIPT)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[SCRIPT.stem] = module
        spec.loader.exec_module(module)
    return sys.modules[SCRIPT.stem]
