"""Task selection for transcription: which recordings, in which shares, and what makes a task of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from ..config import validated
from ..config.transcription import SentencesConfig, TaskAxisConfig
from ..contracts import FrontEnd, InputError, Utterance
from ..text.languages import language_key
from ..text.symbols import Symbols
from .axes import along
from .bank import Bank
from .corpora import Report, locate, n_cores, open_corpora, require, require_once
from .measures import measured
from .phones import inventory, pronounced
from .sentences import MAX_UTTERANCE_S, Sentences, crowded, like_lengths

KINDS = ("sentences", "words", "synthetic")
_ROUND = 16
"""Batches that are drawn together, so that utterances of like lengths can meet."""


@dataclass(frozen=True)
class Spoken:
    """What a recogniser learns from: utterances of three kinds, and some that no step sees."""

    sentences: Sentences
    kinds: Sequence[Int[np.ndarray, " _"]]
    """Positions of ``KINDS``."""
    shares: Sequence[float]
    """Of the seconds, by kind."""
    held_out: Int[np.ndarray, " _"]
    phones: tuple[str, ...]
    """What the auxiliary head spells, in the order of its outputs after the blank."""
    absent: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    groups: Sequence[Int[np.ndarray, " _"]] = field(default=())
    """Utterances that share a value of the task's axis, for meta-training and conditioning."""

    def batches(self, batch_s: float, rng: np.random.Generator) -> Iterator[Int[np.ndarray, " b"]]:
        """Batches of like lengths without end, each kind with its share of the seconds."""
        durations = self.sentences.durations_s()
        while True:
            drawn = np.concatenate(
                [
                    _seconds_of(positions, durations, share * _ROUND * batch_s, rng)
                    for positions, share in zip(self.kinds, self.shares, strict=True)
                    if share
                ]
            )
            yield from (drawn[batch] for batch in like_lengths(durations[drawn], batch_s, rng))

    def require_tasks(self) -> None:
        """Raise InputError where no task can be made."""
        if not self.groups:
            raise InputError(
                "No group of the training data is long enough for a task; choose another tasks.axis or a smaller "
                "tasks.support_s, or set learning.outer to joint and recogniser.condition to 0, without "
                "learning.learner."
            )

    def of_tasks(self) -> "Spoken":
        """The same less what no task holds: single words, and utterances of too short a group or of none.

        Raises:
            InputError: no group is long enough for a task.
        """
        self.require_tasks()
        held = np.concatenate(self.groups)
        kinds = [np.intersect1d(positions, held) for positions in self.kinds]
        return replace(self, kinds=kinds, shares=_shares(kinds, self.shares))

    def _chances(self) -> Float[np.ndarray, " g"]:
        """How likely each group is drawn: kinds by their shares of the seconds, groups of a kind alike."""
        synthetic = np.asarray([np.isin(group[0], self.kinds[-1]) for group in self.groups])
        total = self.shares[0] + self.shares[-1]
        if synthetic.all() or not synthetic.any() or not total:
            return np.full(len(self.groups), 1 / len(self.groups))
        share = self.shares[-1] / total
        return np.where(synthetic, share / synthetic.sum(), (1 - share) / (~synthetic).sum())

    def task(
        self, support_s: float, query_s: float, rng: np.random.Generator
    ) -> tuple[Int[np.ndarray, " s"], Int[np.ndarray, " q"]]:
        """Support and query of a random group: no clip and no text in both; the query may be empty.

        Raises:
            InputError: no group is long enough for a task.
        """
        self.require_tasks()
        durations = self.sentences.durations_s()
        group = self.groups[int(rng.choice(len(self.groups), p=self._chances()))]
        order = group[rng.permutation(len(group))]
        total = np.cumsum(durations[order])
        n_support = max(1, int(np.searchsorted(total, min(support_s, total[-1] / 2))))
        support, rest = order[:n_support], order[n_support:]
        said = {self.sentences.targets[i] for i in support}
        rest = np.asarray([i for i in rest if self.sentences.targets[i] not in said], dtype=np.int64)
        n_query = int(np.searchsorted(np.cumsum(durations[rest]), query_s)) if len(rest) else 0
        return support, rest[: max(1, n_query)]


def _seconds_of(
    positions: Int[np.ndarray, " n"], durations: np.ndarray, seconds: float, rng: np.random.Generator
) -> Int[np.ndarray, " k"]:
    """Positions drawn with replacement until they last so long."""
    mean = float(durations[positions].mean())
    drawn = positions[rng.integers(len(positions), size=int(2 * seconds / mean) + 2)]
    n = int(np.searchsorted(np.cumsum(durations[drawn]), seconds)) + 1
    return drawn[:n]


def select_spoken(
    config: SentencesConfig,
    tasks: TaskAxisConfig,
    front_end: FrontEnd,
    symbols: Symbols,
    seed: int,
    report: Report | None = None,
    phones: tuple[str, ...] | None = None,
) -> Spoken:
    """Everything that a recipe names, less what it leaves out.

    Utterances without a text, too long, or with more symbols than their audio has room for are left out with a note:
    in training a few of thousands do no harm, while a user's own corpus is refused by row. Of a language that is left
    out nothing is used, its phones included; its codes of two and three letters are the same.

    Raises:
        InputError: a path that does not exist, a corpus to leave out that is not named, or nothing left to learn from.
    """
    paths, absent = _paths(config, report)
    banks = [(kind, open_corpora([path], front_end, report)) for kind, path in paths]
    if not banks:
        raise InputError("None of the recipe's corpora is here and data.synth is off; set METAVOX_DATA, or give both.")
    bank = Bank.join([one for _, one in banks])
    kind_of = np.concatenate([np.full(len(one), KINDS.index(kind)) for kind, one in banks])
    targets = [_written(symbols, u.text, u.lang) for u in bank.utterances]
    kept = np.asarray(
        [not _left_out(u.lang, config) and u.speaker not in config.leave_out_speakers for u in bank.utterances]
    )
    usable = kept & _usable(bank, targets)
    spoken: list[tuple[str, ...]] = [()] * len(bank)
    if phones is None or phones:
        speaking = np.flatnonzero(kept).tolist()
        found = pronounced([bank.utterances[i] for i in speaking], n_cores())
        for position, sounds in zip(speaking, found, strict=True):
            spoken[position] = sounds
    known = inventory(spoken) if phones is None else {phone: n for n, phone in enumerate(phones, 1)}
    numbers = [tuple(known[phone] for phone in row if phone in known) for row in spoken]
    sentences = Sentences(bank, targets, numbers)
    rng = np.random.default_rng([seed, 1])
    real = np.flatnonzero(usable & (kind_of == 0))
    held_out = real[rng.random(len(real)) < config.validation_share]
    usable[held_out] = False
    kinds = [np.flatnonzero(usable & (kind_of == k)) for k in range(len(KINDS))]
    left = int((~usable).sum()) - len(held_out)
    notes = [f"{left} of {len(bank)} utterances are left out (language, speaker, length or text)."] if left else []
    notes += _nowhere(bank.utterances, config)
    groups = _groups(sentences, np.flatnonzero(usable & (kind_of != 1)), tasks)
    wanted = (max(0.0, 1 - config.synth_share - config.words_share), config.words_share, config.synth_share)
    return Spoken(sentences, kinds, _shares(kinds, wanted), held_out, tuple(known), absent, tuple(notes), groups)


def _paths(config: SentencesConfig, report: Report | None) -> tuple[list[tuple[str, Path]], tuple[str, ...]]:
    """Folders by kind, and the names of those that are not here."""
    named = [("sentences", name) for name in config.corpora] + [("words", name) for name in config.words]
    unknown = sorted(set(config.leave_out_corpora) - {name for _, name in named})
    if unknown:
        raise InputError(
            f"data.leave_out_corpora names {unknown[0]}, which is in neither data.corpora nor data.words "
            f"({', '.join(name for _, name in named)})."
        )
    wanted = [(kind, name) for kind, name in named if name not in config.leave_out_corpora]
    absent = tuple(name for _, name in wanted if "/" not in name and locate(name) is None)
    found = [(kind, require(name)) for kind, name in wanted if name not in absent]
    require_once([path for _, path in found])
    if config.synth is not None:
        from .synth_sentences import SentenceSpec, cached_sentences

        spec = validated(SentenceSpec, config.synth, "data.synth")
        spec = spec.model_copy(update={"languages": tuple(c for c in spec.languages if not _left_out(c, config))})
        said = None if report is None else lambda done, total: report("synthetic sentences", done, total)
        found += [("synthetic", path) for path in cached_sentences(spec, n_workers=n_cores(), progress=said)]
    return found, absent


def _written(symbols: Symbols, text: str, lang: str | None) -> tuple[int, ...]:
    """Symbols of a text, () where it cannot be written."""
    try:
        return symbols.encode(text, lang)
    except InputError:
        return ()


def _left_out(lang: str | None, config: SentencesConfig) -> bool:
    """Whether a language is among those that are left out, by whichever of its codes."""
    return bool(lang) and language_key(lang) in {language_key(code) for code in config.leave_out_languages}


def _nowhere(utterances: Sequence[Utterance], config: SentencesConfig) -> list[str]:
    """What is to be left out and is not there, which may be a slip of the pen."""
    langs, speakers = {u.lang for u in utterances}, {u.speaker for u in utterances}
    langs |= set((config.synth or {}).get("languages", ()))
    keys = {language_key(lang) for lang in langs if lang}
    odd = [code for code in config.leave_out_languages if language_key(code) not in keys]
    odd += [name for name in config.leave_out_speakers if name not in speakers]
    return [f"No utterance is of {name}, which is to be left out." for name in odd]


def _usable(bank: Bank, targets: Sequence[tuple[int, ...]]) -> np.ndarray:
    frames = bank.n_frames(np.arange(len(bank)))
    usable = np.asarray([len(target) > 0 for target in targets])
    usable &= frames * bank.front_end.hop_ms / 1000 <= MAX_UTTERANCE_S
    usable[crowded(bank, targets)] = False
    return usable


def _shares(kinds: Sequence[np.ndarray], wanted: Sequence[float]) -> list[float]:
    """Of the seconds; a kind that is not there leaves its share to the others."""
    there = [share if len(positions) else 0.0 for share, positions in zip(wanted, kinds, strict=True)]
    if not sum(there):
        there = [float(len(positions) > 0) for positions in kinds]
    if not sum(there):
        raise InputError("Every recording of the recipe is left out; name more corpora or leave out fewer.")
    return [share / sum(there) for share in there]


def _groups(sentences: Sentences, positions: np.ndarray, tasks: TaskAxisConfig) -> list[np.ndarray]:
    """Utterances by the task's axis and the corpus, those long enough for a support and a query."""
    keys = along(sentences.utterances, tasks.axis, measured(sentences.bank, (tasks.axis,)), positions.tolist())
    durations = sentences.durations_s()
    members: dict[tuple[str, str], list[int]] = {}
    for position, key in zip(positions.tolist(), keys, strict=True):
        if key is not None:
            members.setdefault((sentences.utterances[position].corpus, key), []).append(position)
    rows = [np.asarray(group) for _, group in sorted(members.items())]
    return [row for row in rows if len(row) >= 4 and durations[row].sum() >= (tasks.support_s + tasks.query_s) / 2]
