"""Where computed things are kept: features and synthetic speech, safe to delete at any time."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """METAVOX_CACHE, else ``metavox`` in the user's cache folder."""
    named = os.environ.get("METAVOX_CACHE")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "metavox"
