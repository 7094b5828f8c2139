"""The owner protocol: a command works for its owner only.

Every episode enrols words and a voice from the same takes of one speaker, the owner. Then the owner and others say
these words and, where the corpus has more, other words. A trial is a clip and the word that it is taken for:

    own_target      the owner, the word that was said
    own_other       the owner, another word than the one that was said
    other_target    somebody else, the word that was said
    other_other     somebody else, another word

Every clip of an enrolled word gives two trials, one with the word that was said, and one as if that word had not been
enrolled, with the best of the other words; a clip of a word that is not enrolled gives the second kind only. So the
wrong word is the one that a device would take it for, chosen by the recogniser that is scored.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..audio import from_array
from ..calibration.fusion import QUADRANTS, Fusion, fit_fusion, fitting, word_calibration, word_features
from ..checkpoint import Model
from ..contracts import Comparing, InputError, Utterance
from ..data.axes import along
from ..data.bank import Bank
from ..data.episodes import sample_distinct
from ..runtime.enrolment import nearest_reference
from ..voices.heard import Heard
from ..voices.models import VoiceModel
from .open_set import require_comparing
from .protocols import Protocol, Row, of_corpus, transfer

FEATURES = ("word", "nearness", "voice", "voice_in_word")
"""Of a trial: log odds of the word, how near it is, log-likelihood ratio of the owner's voice over all takes, and the
same over the takes of that word."""
_DIGITS = 5
_AT_ONCE = 256
_ORDER = 2**31
"""What a seed is for beside the number of an episode: the order in which speakers are owners."""


@dataclass(frozen=True)
class OwnerProtocol(Protocol):
    """``episodes`` owners in turn; ``spec.n_query`` clips at most of each word by the owner, and as many by others."""


@dataclass(frozen=True, slots=True)
class OwnerDraw:
    """Who is the owner, and which clips are heard: positions in a list of utterances."""

    owner: str
    words: tuple[str, ...]
    support: Int[np.ndarray, " n"]
    support_labels: Int[np.ndarray, " n"]
    query: Int[np.ndarray, " q"]
    said: Int[np.ndarray, " q"]
    """Enrolled word of each clip; -1 where it is none of them."""
    names: tuple[str, ...]
    """The word of each clip, enrolled or not."""
    own: Bool[np.ndarray, " q"]


OwnerSystem = Callable[[Bank, OwnerDraw], Float[np.ndarray, "q N"]]
"""Anything else that scores clips of a draw for its words, such as a joint model: the higher, the more likely is it
that the owner said that word."""


class Owners:
    """Utterances by speaker and word, and the owners that can be drawn.

    Raises:
        InputError: speakers or words are not named, or nobody said two words often enough.
    """

    def __init__(self, utterances: Sequence[Utterance], protocol: OwnerProtocol) -> None:
        spec = protocol.spec
        words = along(utterances, "word", None, list(range(len(utterances))))
        members: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for position, (one, word) in enumerate(zip(utterances, words, strict=True)):
            if one.speaker is not None and word is not None:
                members[one.speaker][word].append(position)
        self.members = {speaker: dict(said) for speaker, said in sorted(members.items())}
        enough = {
            speaker: sorted(word for word, takes in said.items() if len(takes) > spec.k_shot)
            for speaker, said in self.members.items()
        }
        most = max(map(len, enough.values()), default=0)
        if most < 2 or len(self.members) < 2:
            raise InputError(
                f"An owner needs two words with {spec.k_shot + 1} takes each, {spec.k_shot} to enrol and one to ask, "
                f"and somebody else to tell from; of {len(self.members)} speakers the best has {most} such words. "
                "Ask for fewer shots or record more takes."
            )
        self.asked = replace(protocol, spec=replace(spec, n_way=min(spec.n_way, most)))
        """The protocol with as many ways as there are."""
        self.eligible = {s: w for s, w in enough.items() if len(w) >= self.asked.spec.n_way}
        order = np.random.default_rng([protocol.seed, _ORDER]).permutation(len(self.eligible))
        self.owners = [sorted(self.eligible)[k] for k in order]
        self.words = sorted({word for said in self.members.values() for word in said})

    def draw(self, number: int) -> OwnerDraw:
        """An episode; owners come in turn."""
        spec = self.asked.spec
        rng = np.random.default_rng([self.asked.seed, number])
        owner = self.owners[number % len(self.owners)]
        eligible = self.eligible[owner]
        words = tuple(eligible[k] for k in sample_distinct(rng, len(eligible), spec.n_way))
        unknown = [word for word in self.words if word not in words]
        unknown = [unknown[k] for k in sample_distinct(rng, len(unknown), min(spec.n_way, len(unknown)))]
        support: list[int] = []
        query: list[tuple[int, int, str, bool]] = []
        for label, word in enumerate((*words, *unknown)):
            said = label if label < len(words) else -1
            own = rng.permutation(np.asarray(self.members[owner].get(word, []), np.int64))
            if said >= 0:
                support += own[: spec.k_shot].tolist()
                own = own[spec.k_shot :]
            query += [(position, said, word, True) for position in own[: spec.n_query].tolist()]
            others = [p for s, takes in self.members.items() if s != owner for p in takes.get(word, [])]
            chosen = sample_distinct(rng, len(others), min(spec.n_query, len(others)))
            query += [(others[k], said, word, False) for k in chosen.tolist()]
        positions, labels, names, is_own = zip(*query, strict=True)
        taken = np.repeat(np.arange(len(words)), spec.k_shot)
        return OwnerDraw(
            owner,
            words,
            np.asarray(support),
            taken,
            np.asarray(positions),
            np.asarray(labels),
            names,
            np.asarray(is_own),
        )


# ------------------------------------------------------------------------------------------------------------- running


def evaluate_owner(
    model: Model,
    voices: VoiceModel,
    bank: Bank,
    owners: Owners,
    progress: Callable[[int, int], None] | None = None,
    *,
    corpus: str | None = None,
    systems: Mapping[str, OwnerSystem] | None = None,
) -> list[Row]:
    """A row for each trial of all episodes, with its features and the scores of further ``systems``.

    Raises:
        InputError: a model of words that cannot compare what was embedded before.
    """
    learner = require_comparing(model.learner, model.name)
    rows: list[Row] = []
    heard = _Heard(learner, model, voices, bank)
    for number in range(owners.asked.episodes):
        draw = owners.draw(number)
        rows += _trials(heard, draw, number, {name: one(bank, draw) for name, one in (systems or {}).items()})
        if progress is not None:
            progress(number + 1, owners.asked.episodes)
    return of_corpus(rows, corpus)


class _Heard:
    """Every clip as recogniser and verifier hear it, each once."""

    def __init__(self, learner: Comparing, model: Model, voices: VoiceModel, bank: Bank) -> None:
        self.learner, self.model, self.voices, self.bank = learner, model, voices, bank
        self.front_end = model.config.front_end
        parts = []
        with torch.no_grad():
            for start in range(0, len(bank), _AT_ONCE):
                at = np.arange(start, min(start + _AT_ONCE, len(bank)))
                frames, lengths = learner.embed(bank.batch(at, np.zeros_like(at), 1, self.front_end))
                parts.append((frames, lengths, learner.commonness(frames, lengths)))
        longest = max(frames.shape[1] for frames, _, _ in parts)
        pad = torch.nn.functional.pad
        self.frames: Tensor = torch.cat([pad(f, (0, 0, 0, longest - f.shape[1])) for f, _, _ in parts])
        self.lengths, self.commonness = (torch.cat([part[k] for part in parts]) for k in (1, 2))
        self._voice: Heard | None = None

    @property
    def voice(self) -> Heard:
        """All clips as the encoder of voices hears them."""
        if self._voice is None:
            rate_hz = self.voices.encoder.rate_hz
            waves = (self.bank.audio(i) for i in range(len(self.bank)))
            self._voice = self.voices.hear([from_array(w, self.front_end.rate_hz, rate_hz) for w in waves])
        return self._voice

    def voice_values(self, enrolled: Sequence[Heard], tests: Heard) -> Float[np.ndarray, "n V"]:
        """Log-likelihood ratios, or scores where the model of voices has no calibration."""
        return np.asarray((self.voices.scores if self.voices.ratios is None else self.voices.llr)(enrolled, tests))


def _trials(heard: _Heard, draw: OwnerDraw, number: int, others: Mapping[str, np.ndarray]) -> Iterator[Row]:
    """The rows of one episode."""
    n_words = len(draw.words)
    support = heard.bank.batch(draw.support, draw.support_labels, n_words, heard.front_end)
    state = transfer(heard.learner, support)
    reference = nearest_reference(heard.model.about, len(draw.support) / n_words)
    fitted = word_calibration(heard.learner, state, reference)
    at = torch.from_numpy(draw.query)
    with torch.no_grad():
        output = heard.learner.compare(state, heard.frames[at], heard.lengths[at], heard.commonness[at])
    scores = output.scores.double().numpy()
    takes = [heard.voice.at(draw.support[draw.support_labels == label]) for label in range(n_words)]
    tests = heard.voice.at(draw.query)
    voice = heard.voice_values([heard.voice.at(draw.support), *takes], tests)
    for right in (True, False):
        rows = np.flatnonzero(draw.said >= 0) if right else np.arange(len(draw.query))
        absent = np.full(len(rows), -1) if right else draw.said[rows]
        claimed = draw.said[rows] if right else _without(scores[rows], absent).argmax(1)
        values = word_features(scores[rows], claimed, fitted, absent)
        values |= {"voice": voice[rows, 0], "voice_in_word": voice[rows, 1 + claimed]}
        for name, found in others.items():
            values[name] = found[rows, claimed] if right else _without(found[rows], absent).max(1)
        quadrant = np.where(draw.own[rows], 0, 2) + (not right)
        for k, row in enumerate(rows.tolist()):
            utterance = heard.bank.utterances[int(draw.query[row])]
            yield {
                "episode": number,
                "item": utterance.id,
                "corpus": utterance.corpus,
                "owner": draw.owner,
                "speaker": utterance.speaker,
                "label": draw.names[row],
                "enrolled": bool(draw.said[row] >= 0),
                "claimed": draw.words[claimed[k]],
                "quadrant": QUADRANTS[quadrant[k]],
                **{name: round(float(column[k]), _DIGITS) for name, column in values.items()},
            }


def _without(scores: Float[np.ndarray, "n C"], absent: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n C"]:
    """Scores without the word of each clip that is to be treated as not enrolled."""
    found = scores.copy()
    there = np.flatnonzero(absent >= 0)
    found[there, absent[there]] = -np.inf
    return found


def features_of(rows: Sequence[Row], names: Sequence[str] = FEATURES) -> dict[str, Float[np.ndarray, " n"]]:
    """Columns of trials."""
    return {name: np.asarray([row[name] for row in rows], np.float64) for name in names}


def quadrants_of(rows: Sequence[Row]) -> Int[np.ndarray, " n"]:
    """The quadrant of each trial, as a place in ``QUADRANTS``."""
    return np.asarray([QUADRANTS.index(row["quadrant"]) for row in rows], np.int64)


def fit_on(rows: Sequence[Row], about: Mapping[str, Any]) -> tuple[Fusion, ...]:
    """Fusions fitted on trials of development corpora, each of which counts the same: with all features, and without
    what needs the owner's takes of the very word.

    Raises:
        InputError: a quadrant without a trial.
    """
    groups = np.asarray([row["corpus"] for row in rows])
    values, quadrants = features_of(rows), quadrants_of(rows)
    counts = {"n_trials": len(rows), "n_owners": len({(row["corpus"], row["owner"]) for row in rows})}
    return tuple(
        fit_fusion({name: values[name] for name in names}, quadrants, groups=groups, about={**about, **counts})
        for names in (FEATURES, FEATURES[:-1])
    )


def beside(rows: Sequence[Row], others: Sequence[Row], name: str, fusions: Sequence[Fusion]) -> list[Row]:
    """Trials with the score that another pair of models gives them, fused by its own ``fusions``: a joint model, whose
    rows come of the same draws. A wrong word is the one that it takes the clip for itself.

    Raises:
        InputError: rows of other draws.
    """
    keys = ("episode", "item", "quadrant")
    if [[row[key] for key in keys] for row in rows] != [[row[key] for key in keys] for row in others]:
        raise InputError(f"The trials of {name} are others; score it with the same corpus, shape and seed.")
    values = features_of(others)
    scores = fitting(fusions, values).llr(values)
    return [{**row, name: round(float(score), _DIGITS)} for row, score in zip(rows, scores, strict=True)]
