"""Errors of transcripts with what their intervals are made of: the edits of each utterance, its length, who said it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int

from ..contracts import Utterance
from ..metrics import cer, wer
from ..statistics import Interval, PairedDifference, cluster_bootstrap, paired_bootstrap
from ..text.normalise import spaces_matter
from .adapting import Reached

MIN_SPEAKERS = 10
"""From so many on whole speakers are resampled; fewer say too little of others, and sentences are."""
_SEED = 0


@dataclass(frozen=True, eq=False)
class Errors:
    """What is wrong in the transcripts of some utterances."""

    char_edits: Int[np.ndarray, " n"]
    chars: Int[np.ndarray, " n"]
    word_edits: Int[np.ndarray, " n"] | None
    """None where a language among them does not part words by blanks."""
    words: Int[np.ndarray, " n"] | None
    clusters: tuple[str, ...]
    """What each utterance shares with others: its speaker or its sentence."""
    clustered_by: Literal["speaker", "sentence"]

    def __len__(self) -> int:
        return len(self.chars)

    def cer(self) -> Interval:
        """Character errors over characters, with a 95 % interval over clusters."""
        return cluster_bootstrap(self.char_edits, self.clusters, per=self.chars, seed=_SEED)

    def wer(self) -> Interval | None:
        """The same of words; None where blanks do not part them."""
        if self.word_edits is None or self.words is None:
            return None
        return cluster_bootstrap(self.word_edits, self.clusters, per=self.words, seed=_SEED)

    @property
    def rate(self) -> float:
        """Character errors over characters."""
        return float(self.char_edits.sum() / self.chars.sum())


def counted(text: str, lang: str | None) -> str:
    """A text as its characters are counted: with blanks where they part words, without where they do not."""
    return text if spaces_matter(lang) else "".join(text.split())


def clusters_of(
    speakers: Sequence[str | None], said: Sequence[str]
) -> tuple[tuple[str, ...], Literal["speaker", "sentence"]]:
    """What each utterance shares with others, and what that is: the speaker from ten named ones on, else the
    sentence."""
    if None not in speakers and len(set(speakers)) >= MIN_SPEAKERS:
        return tuple(str(speaker) for speaker in speakers), "speaker"
    return tuple(said), "sentence"


def errors_of(reached: Reached, utterances: Sequence[Utterance]) -> Errors:
    """Errors of what was heard in some utterances. Blanks count as characters where they part words."""
    langs = [u.lang for u in utterances]
    said, heard = (
        [counted(text, lang) for text, lang in zip(texts, langs, strict=True)]
        for texts in (reached.said, reached.heard)
    )
    chars = cer(said, heard)
    words = wer(said, heard) if all(spaces_matter(lang) for lang in langs) else None
    clusters, by = clusters_of([u.speaker for u in utterances], reached.said)
    return Errors(
        chars.edits,
        chars.ref_lengths,
        None if words is None else words.edits,
        None if words is None else words.ref_lengths,
        clusters,
        by,
    )


def change(before: Errors, after: Errors) -> PairedDifference:
    """Character error after less that before, on the same utterances, with its interval."""
    return paired_bootstrap(after.char_edits, before.char_edits, per=after.chars, clusters=before.clusters, seed=_SEED)
