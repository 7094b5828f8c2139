"""Who may say what: a policy of words and speakers, in YAML or JSON.

mode: owner-only
default: anyone
words:
  open the door: [anna, ben]
  forget everything: nobody
"""

import difflib
import json
import os
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field

from ..calibration.fusion import MODES, Mode
from ..config.loading import Strict, validated
from ..contracts import InputError

MAX_BYTES = 1_000_000


def _as_rule(value: Any) -> Any:
    """``anyone`` and ``nobody`` as they are, any other text as one speaker; names in Unicode NFC."""
    if isinstance(value, str):
        return value if value in ("anyone", "nobody") else (_name(value),)
    if isinstance(value, list | tuple) and value and all(isinstance(one, str) for one in value):
        return tuple(dict.fromkeys(_name(one) for one in value))
    raise ValueError("write anyone, nobody, a speaker or a list of speakers")


def _name(text: str) -> str:
    return unicodedata.normalize("NFC", text)


Rule = Annotated[Literal["anyone", "nobody"] | tuple[str, ...], BeforeValidator(_as_rule)]
"""Anyone, nobody, or the speakers who may say a word."""


class Policy(Strict):
    """Who may say which word.

    Modes: *open* asks for no voice, and only words that nobody may say are refused; *owner-biased* lets everybody say
    words, and believes their owners more readily; *owner-only* refuses everybody but the owners.
    """

    default: Rule
    """Of words that are not named."""
    words: dict[str, Rule] = Field(default_factory=dict)
    mode: Mode = "owner-only"
    threshold_llr: float = Field(0.0, ge=-50, le=50)
    """Log-likelihood ratio (natural logarithm) from which on a word of an owner is accepted: higher is stricter."""

    def rule(self, word: str) -> Any:
        """Of one word: ``anyone``, ``nobody`` or a tuple of speakers."""
        return {_name(key): value for key, value in self.words.items()}.get(word, self.default)

    def require_known(self, words: Sequence[str], speakers: Sequence[str]) -> None:
        """Raise InputError where a word or a speaker is not enrolled, with the nearest that is."""
        for word in self.words:
            if _name(word) not in words:
                raise InputError(_unknown("word", word, words))
        for rule in (self.default, *self.words.values()):
            for speaker in rule if isinstance(rule, tuple) else ():
                if speaker not in speakers:
                    raise InputError(_unknown("speaker", speaker, speakers))


def _unknown(what: str, name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else f"enrolled are {', '.join(known) or 'none'}."
    return f"The policy names the {what} {name!r}, which is not enrolled; {hint}"


def policy_from(source: "Policy | Mapping[str, Any] | str | Path") -> Policy:
    """A policy as it is, plain values of one, or a YAML or JSON file.

    Every value of a YAML file is read as text, since ``on``, ``no`` and ``1`` are words like any other here.

    Raises:
        InputError: no such file, or one that says something else.
    """
    if isinstance(source, Policy):
        return source
    if isinstance(source, Mapping):
        return validated(Policy, dict(source), "The policy")
    path = Path(source)
    try:
        if os.path.getsize(path) > MAX_BYTES:
            raise InputError(f"Policy {path} has more than {MAX_BYTES} bytes; name a file of words and speakers.")
        text = path.read_text(encoding="utf-8")
        tree = json.loads(text) if path.suffix == ".json" else yaml.load(text, Loader=yaml.BaseLoader)
    except FileNotFoundError:
        raise InputError(f"Policy {path} does not exist; name a YAML or JSON file.") from None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as err:
        said = " ".join(str(err).split())[:160]
        raise InputError(f"Policy {path} cannot be read as YAML or JSON ({said}); correct the file.") from None
    if not isinstance(tree, dict):
        raise InputError(f"Policy {path} names no words; write default: and words: into it, as docs/gate.md shows.")
    return validated(Policy, tree, f"Policy {path}")


def mode_from(text: str) -> Mode:
    """A mode by its name.

    Raises:
        InputError: there is none of that name.
    """
    for mode in MODES:
        if text == mode:
            return mode
    raise InputError(f"--mode is {text!r}; choose among {', '.join(MODES)}.")
