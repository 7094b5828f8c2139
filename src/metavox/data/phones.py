"""How texts are pronounced, by espeak-ng: what the auxiliary head of a recogniser learns to spell in training.

Signs for length, stress, tone and secondary articulation are dropped, the cedilla of ç with them: what is left differs
from sound to sound more than from language to language.
"""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from ..contracts import Utterance
from .synth_languages import LANGUAGES
from .synth_process import Voice

_DROPPED = "ːˑʰʲʷˈˌ"


def pronounced(utterances: Sequence[Utterance], n_workers: int = 2) -> list[tuple[str, ...]]:
    """Phones of each utterance; () where it has no text, espeak-ng does not speak its language or switches to another.

    Raises:
        InputError: espeak-ng is not installed.
    """
    by_language: dict[str, list[int]] = {}
    for position, utterance in enumerate(utterances):
        lang = utterance.lang or ""
        if lang in LANGUAGES and _speakable(utterance.text):
            by_language.setdefault(lang, []).append(position)
    found: list[tuple[str, ...]] = [()] * len(utterances)

    def read(lang: str) -> None:
        positions = by_language[lang]
        with Voice() as voice:
            job = {
                "do": "phonemes",
                "voice": LANGUAGES[lang].voice,
                "texts": [utterances[i].text for i in positions],
            }
            for position, sound in zip(positions, voice.ask(job, f"reading {lang}")["phonemes"], strict=True):
                found[position] = () if "(" in sound else phones_of(sound)

    with ThreadPoolExecutor(max(1, n_workers)) as pool:
        list(pool.map(read, by_language))
    return found


def _speakable(text: str) -> bool:
    """Whether there is something to say; a zero would end the text, and half a surrogate pair is no character."""
    return bool(text.strip()) and not any(char == "\0" or unicodedata.category(char) == "Cs" for char in text)


def phones_of(ipa: str) -> tuple[str, ...]:
    """The letters of an IPA string, without signs that modify them."""
    letters = (char for char in unicodedata.normalize("NFD", ipa) if char not in _DROPPED)
    return tuple(char for char in letters if unicodedata.category(char) in {"Ll", "Lo", "Lm"})


def inventory(spoken: Sequence[tuple[str, ...]], least: int = 100) -> dict[str, int]:
    """Phones that are heard at least so often, numbered from 1 in the order of their code points."""
    counts = Counter(phone for phones in spoken for phone in phones)
    return {phone: number for number, phone in enumerate(sorted(p for p, n in counts.items() if n >= least), 1)}
