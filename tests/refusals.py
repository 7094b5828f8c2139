"""What a refusal says."""

from collections.abc import Callable
from typing import Any

import pytest

from metavox.errors import InputError


def said(action: Callable[[], Any]) -> str:
    """The sentence of a refusal: one line that ends."""
    with pytest.raises(InputError) as caught:
        action()
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith((".", "?"))
    return text
