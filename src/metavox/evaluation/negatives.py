"""Recordings that hold no enrolled word: cut into word-sized pieces, embedded once, and shared out among two sides.

The threshold of an episode is set on the pieces of one side and judged on those of the other. A recording, and where
there are enough of them a speaker, is on one side only.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from unicodedata import category, normalize

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from ..audio import read
from ..checkpoint import NEGATIVES, Model
from ..contracts import Comparing, FrontEnd, InputError, Utterance
from ..data.fragments import fragments, heard_at
from ..data.layouts import MANIFEST
from ..data.manifests import load_corpus
from ..data.noise import recordings
from ..runtime.negatives import negatives_of
from ..runtime.takes import batch_of
from ..text.languages import language_key

N_AT_ONCE = 128
"""Pieces that are embedded together."""
LEAST_SPEAKERS = 4
"""From so many speakers of a corpus on, two or more stand on either side."""
EITHER, DEVELOPMENT, TEST = 0, 1, 2
"""Which side a recording may stand on."""


@dataclass(frozen=True)
class Source:
    """A set of recordings and what they are for."""

    name: str
    utterances: tuple[Utterance, ...]
    role: int = EITHER
    noise: bool = False


@dataclass(frozen=True)
class Negatives:
    """Pieces of recordings as a learner embeds them: N pieces of R recordings."""

    utterances: tuple[Utterance, ...]
    """(R,) recordings; ``corpus`` is the name of their set."""
    roles: Int[np.ndarray, " R"]
    is_noise: Bool[np.ndarray, " R"]
    durations_s: Float[np.ndarray, " R"]
    """Whole recordings, pauses and all."""
    recording: Int[np.ndarray, " N"]
    """The recording of each piece."""
    spans_s: Float[np.ndarray, "N 2"]
    frames: Float[Tensor, "N T D"]
    lengths: Int[Tensor, " N"]
    commonness: Float[Tensor, " N"]

    def __len__(self) -> int:
        return len(self.recording)

    def chosen(
        self, pieces: Int[np.ndarray, " n"]
    ) -> tuple[Float[Tensor, "n U D"], Int[Tensor, " n"], Float[Tensor, " n"]]:
        """What ``compare`` wants of some pieces, without padding that none of them needs."""
        at = torch.from_numpy(pieces)
        lengths = self.lengths[at]
        return self.frames[at, : int(lengths.max())], lengths, self.commonness[at]


def open_source(path: Path, name: str, role: int = EITHER, *, noise: bool = False) -> Source:
    """The recordings of a corpus, or of any folder with recordings in it.

    Raises:
        InputError: no recording there, or a corpus with faults.
    """
    found = _of_folder(path) if path.is_dir() and not (path / MANIFEST).is_file() else load_corpus(path)
    if not found:
        raise InputError(f"{path} holds no recording (such as .wav or .flac); name a folder that does.")
    return Source(name, tuple(replace(utterance, corpus=name) for utterance in found), role, noise)


def _of_folder(path: Path) -> list[Utterance]:
    """A folder a word where it is one, since labels tell which words are enrolled; else all that is in it."""
    try:
        return load_corpus(path)
    except InputError:
        pass
    try:
        return [Utterance(str(one.relative_to(path)), one, 0.0) for one in recordings(path)]
    except InputError:
        return []


def embedded(
    learner: Comparing,
    sources: Sequence[Source],
    front_end: FrontEnd,
    progress: Callable[[int, int], None] | None = None,
) -> Negatives:
    """Cut every recording of ``sources`` and embed its pieces, prepared as on a device.

    Raises:
        InputError: a recording that cannot be read, or one that two sources hold.
    """
    utterances = [utterance for source in sources for utterance in source.utterances]
    _require_once(utterances)
    durations_s = np.zeros(len(utterances))
    recording: list[int] = []
    spans_s: list[tuple[float, float]] = []

    def pieces() -> Iterator[Tensor]:
        for number, utterance in enumerate(utterances):
            wave = read(utterance.path, front_end.rate_hz)
            durations_s[number] = len(wave) / front_end.rate_hz
            for start, end, heard in heard_at(wave, fragments(wave, front_end), front_end):
                recording.append(number)
                spans_s.append((start / front_end.rate_hz, end / front_end.rate_hz))
                yield torch.from_numpy(heard)
            if progress is not None:
                progress(number + 1, len(utterances))

    frames, lengths, commonness = _all_embedded(learner, pieces(), front_end)
    if not recording:
        raise InputError(
            f"The {len(utterances)} negative recordings hold nothing but silence; give recordings of speech or noise."
        )
    return Negatives(
        utterances=tuple(utterances),
        roles=np.asarray([source.role for source in sources for _ in source.utterances], np.int64),
        is_noise=np.asarray([source.noise for source in sources for _ in source.utterances], bool),
        durations_s=durations_s,
        recording=np.asarray(recording, np.int64),
        spans_s=np.asarray(spans_s, np.float64),
        frames=frames,
        lengths=lengths,
        commonness=commonness,
    )


def _require_once(utterances: Iterable[Utterance]) -> None:
    seen: dict[str, Utterance] = {}
    for utterance in utterances:
        real = os.path.realpath(utterance.path)
        if real in seen and seen[real].corpus != utterance.corpus:
            raise InputError(
                f"Recording {utterance.id} is in {seen[real].corpus} and in {utterance.corpus}, so that it would "
                "set the threshold and judge it; name each recording once."
            )
        seen[real] = utterance


def _all_embedded(learner: Comparing, pieces: Iterator[Tensor], front_end: FrontEnd) -> tuple[Tensor, Tensor, Tensor]:
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    while held := list(islice(pieces, N_AT_ONCE)):
        with torch.no_grad():
            frames, n_frames = learner.embed(batch_of(held, [0] * len(held), 1, front_end))
            parts.append((frames, n_frames, learner.commonness(frames, n_frames)))
    return _stacked(parts)


def models_own(model: Model) -> Negatives:
    """Negatives that come with a model, for development only.

    Raises:
        InputError: it has none, or they are damaged.
    """
    own = negatives_of(model)
    if own is None:
        raise InputError(f"Model {model.name} comes without negatives; name a corpus with --dev-negatives instead.")
    recording = np.unique(own.groups.numpy(), return_inverse=True)[1]
    n_recordings = int(recording.max()) + 1
    frames = own.frames.float()
    with torch.no_grad():
        parts = zip(frames.split(N_AT_ONCE), own.lengths.split(N_AT_ONCE), strict=True)
        commonness = torch.cat([model.learner.commonness(*part) for part in parts])
    name, place = f"{model.name} itself", (model.folder or Path()) / NEGATIVES
    return Negatives(
        utterances=tuple(Utterance(f"{model.name} {i}", place, 0.0, corpus=name) for i in range(n_recordings)),
        roles=np.full(n_recordings, DEVELOPMENT),
        is_noise=np.zeros(n_recordings, bool),
        durations_s=np.full(n_recordings, 3600 * own.hours / n_recordings),
        recording=recording,
        spans_s=np.zeros((len(own), 2)),
        frames=frames,
        lengths=own.lengths,
        commonness=commonness,
    )


def joined(first: Negatives, second: Negatives) -> Negatives:
    """The pieces of both, the recordings of the second after those of the first."""
    both = (first, second)
    frames, lengths, commonness = _stacked([(one.frames, one.lengths, one.commonness) for one in both])
    return Negatives(
        utterances=(*first.utterances, *second.utterances),
        roles=np.concatenate([first.roles, second.roles]),
        is_noise=np.concatenate([first.is_noise, second.is_noise]),
        durations_s=np.concatenate([first.durations_s, second.durations_s]),
        recording=np.concatenate([first.recording, second.recording + len(first.utterances)]),
        spans_s=np.concatenate([first.spans_s, second.spans_s]),
        frames=frames,
        lengths=lengths,
        commonness=commonness,
    )


def _stacked(parts: Sequence[tuple[Tensor, Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    """Frames, lengths and commonness of several batches as one, padded to the longest."""
    if not parts:
        return torch.zeros(0, 1, 1), torch.zeros(0, dtype=torch.int64), torch.zeros(0)
    longest = max(frames.shape[1] for frames, _, _ in parts)
    frames = torch.cat([_padded(frames, longest) for frames, _, _ in parts])
    return frames, torch.cat([lengths for _, lengths, _ in parts]), torch.cat([common for _, _, common in parts])


def _padded(frames: Tensor, n_frames: int) -> Tensor:
    return functional.pad(frames, (0, 0, 0, n_frames - frames.shape[1]))


# ------------------------------------------------------------------------------------------------- what is no negative


class Spoken:
    """What recordings say, kept so that an episode can ask which of them hold none of its words."""

    def __init__(self, utterances: Sequence[Utterance]) -> None:
        self._texts = [[_spoken(text) for text in (u.label, u.text) if text] for u in utterances]
        self._langs = [language_key(u.lang) for u in utterances]
        self._paths = np.asarray([os.path.realpath(u.path) for u in utterances], object)
        self._known: dict[tuple[str, str], np.ndarray] = {}

    def none_of(self, enrolled: Iterable[Utterance]) -> Bool[np.ndarray, " R"]:
        """Which recordings may serve as negatives where the words of ``enrolled`` are known.

        A recording is of a word where its label is the word, or where the word stands in its text, in the same
        language; one that does not say its language may be in any. Nor does one serve that is enrolled itself.
        """
        enrolled = list(enrolled)
        own = [os.path.realpath(utterance.path) for utterance in enrolled]
        usable: np.ndarray = ~np.isin(self._paths, np.asarray(own, object))
        for utterance in enrolled:
            for text in (utterance.label, utterance.text):
                if text and (word := _spoken(text)).strip():
                    usable &= ~self._saying(word, language_key(utterance.lang))
        return usable

    def _saying(self, word: str, lang: str) -> np.ndarray:
        if (word, lang) not in self._known:
            alike = [not lang or not other or lang == other for other in self._langs]
            said = [any(word in text for text in texts) for texts in self._texts]
            self._known[word, lang] = np.asarray(alike, bool) & np.asarray(said, bool)
        return self._known[word, lang]


def _spoken(text: str) -> str:
    """Words between blanks, without case and punctuation, so that one text can be looked for in another."""
    letters = (c if category(c)[0] in "LMN" else " " for c in normalize("NFC", text).casefold())
    return f" {' '.join(''.join(letters).split())} "


# ---------------------------------------------------------------------------------------------------------- two sides


@dataclass(frozen=True)
class Sides:
    """Pieces that the threshold of one episode is set on, and those that it is judged on."""

    development: Int[np.ndarray, " n"]
    test: Int[np.ndarray, " m"]
    development_hours: float
    test_hours: float
    """Hours of recordings that the pieces stand for."""


def split_recordings(
    negatives: Negatives, usable: Bool[np.ndarray, " R"], rng: np.random.Generator
) -> tuple[Bool[np.ndarray, " R"], Bool[np.ndarray, " R"]]:
    """Recordings for development and for the test: half of each set, by speaker where it has four or more.

    Sources that are meant for one side stay there whole.
    """
    development = usable & (negatives.roles == DEVELOPMENT)
    test = usable & (negatives.roles == TEST)
    units = alike(negatives)
    for members in _by_corpus(negatives, usable & (negatives.roles == EITHER)).values():
        order = rng.permutation(np.unique(units[members]))
        first = np.isin(units[members], order[: (len(order) + int(rng.integers(2))) // 2])
        development[members[first]] = True
        test[members[~first]] = True
    return development, test


def alike(negatives: Negatives) -> Int[np.ndarray, " R"]:
    """A number that recordings share which are never cut in two: those of a speaker, or each for itself."""
    keys: list[tuple[str, str, int]] = [("", "", 0)] * len(negatives.utterances)
    for corpus, members in _by_corpus(negatives, np.ones(len(keys), bool)).items():
        by_speaker = _has_speakers([negatives.utterances[number] for number in members])
        for number in members.tolist():
            keys[number] = (
                (corpus, str(negatives.utterances[number].speaker), 0) if by_speaker else (corpus, "", number)
            )
    codes = {key: code for code, key in enumerate(dict.fromkeys(keys))}
    return np.asarray([codes[key] for key in keys], np.int64)


def _by_corpus(negatives: Negatives, among: Bool[np.ndarray, " R"]) -> dict[str, Int[np.ndarray, " n"]]:
    found: dict[str, list[int]] = defaultdict(list)
    for number in np.flatnonzero(among).tolist():
        found[negatives.utterances[number].corpus].append(number)
    return {corpus: np.asarray(members) for corpus, members in found.items()}


def split_by(negatives: Negatives) -> str:
    """``speaker``, ``recording``, or both where some sets have too few speakers; ``source`` where all stay whole."""
    sets = _by_corpus(negatives, negatives.roles == EITHER).values()
    ways = {"speaker" if _has_speakers([negatives.utterances[i] for i in some]) else "recording" for some in sets}
    return " or ".join(sorted(ways, reverse=True)) or "source"


def _has_speakers(members: Sequence[Utterance]) -> bool:
    speakers = {utterance.speaker for utterance in members}
    return None not in speakers and len(speakers) >= LEAST_SPEAKERS


def draw_sides(
    negatives: Negatives,
    usable: Bool[np.ndarray, " R"],
    max_development: int,
    max_test: int,
    rng: np.random.Generator,
) -> Sides:
    """At most so many pieces for either side.

    Raises:
        InputError: a side is left without a piece.
    """
    development, test = split_recordings(negatives, usable, rng)
    pieces, hours = [], []
    for side, at_most in ((development, max_development), (test, max_test)):
        there = np.flatnonzero(side[negatives.recording])
        if len(there) == 0:
            n = int(usable.sum())
            raise InputError(
                f"{n} of {len(negatives.utterances)} negative recordings hold no enrolled word, too few for a "
                "threshold and its test; give more --negatives, or ask for fewer --ways."
            )
        drawn = np.sort(rng.permutation(there)[:at_most])
        pieces.append(drawn)
        hours.append(float(negatives.durations_s[side].sum()) / 3600 * len(drawn) / len(there))
    return Sides(pieces[0], pieces[1], hours[0], hours[1])
