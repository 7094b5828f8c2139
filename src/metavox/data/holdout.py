"""Speakers kept out of training, so that a model which has heard every corpus can still be judged on new voices."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from ..contracts import Utterance


def held_out(utterances: Sequence[Utterance], share: float, seed: int) -> Bool[np.ndarray, " n"]:
    """Which recordings are kept out: all those of ``share`` of the speakers of each corpus, at least one of several.

    A corpus of one speaker gives nobody away. Recordings that name no speaker are kept out one by one, so the same
    voice may then be on both sides; whoever reports a figure on them must say so. Depends on the seed and on who is in
    the corpus, not on order or other corpora.
    """
    kept_out = np.zeros(len(utterances), bool)
    members: dict[str, dict[str, list[int]]] = {}
    unnamed: dict[str, dict[str, list[int]]] = {}
    for position, utterance in enumerate(utterances):
        table, key = (members, utterance.speaker) if utterance.speaker else (unnamed, utterance.id)
        table.setdefault(utterance.corpus, {}).setdefault(key, []).append(position)
    for table in (members, unnamed):
        for groups in table.values():
            names = sorted(groups)
            n_out = min(max(1, round(share * len(names))), len(names) - 1) if share else 0
            order = np.random.default_rng([seed, 3]).permutation(len(names))
            for index in order[:n_out]:
                kept_out[groups[names[index]]] = True
    return kept_out
