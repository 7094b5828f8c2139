"""The noise protocol: words enrolled in quiet and said in a noisy place, with and without adapting to it.

Noise is added to the samples at a stated SNR over the word, with some of it before and after. Seconds of each place are
kept for adapting and never heard in the test. Three ways of hearing are compared on the same clips: ``as_is``, as
without noise in mind; ``anywhere``, robust but knowing nothing of the place; ``adapted`` to the place.

Kinds of rows: ``query`` (a word in a place at an SNR) and ``noise`` (an episode's answers to the noise alone).
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..audio import read, trim_padding
from ..augment.wave import is_silent, power, speech_span
from ..calibration import calibrate, enrolment_scores
from ..checkpoint import Model
from ..contracts import Draw, FrontEnd, InputError, Output, Place, State
from ..data.bank import Bank
from ..data.episodes import ClassIndex
from ..data.fragments import fragments
from ..data.noise import recordings
from ..features import cropped, log_mel
from ..runtime.enrolment import nearest_reference
from ..runtime.noise_bounds import speech_in
from ..runtime.place import noisy_batches, place_of, require_views
from ..runtime.takes import batch_of
from .protocols import Protocol, Row, draws, of_corpus

HEARINGS = ("as_is", "anywhere", "adapted")
MARGIN_S = (0.1, 0.5)
"""Noise before and after a word."""
CLEAN_DB = 10.0
"""A word without noise is as loud as at this SNR, so that what is known of the place's level could mislead."""
MIN_TEST_S = 1.0
MAX_PIECES = 60
"""Pieces of the noise alone, at most."""
_BOUND, _PIECES = 2, 3
"""What a seed is for."""

Wave = Float[np.ndarray, " _S"]


@dataclass(frozen=True, eq=False)
class NoisyPlace:
    """Noise of one place, in two parts that share no sample."""

    name: str
    adaptation: Wave
    test: Wave
    used: tuple[tuple[Path, int, int, str], ...]
    """Samples ``start`` to ``end`` of each recording, and the part that they are in."""
    rate_hz: int

    @property
    def test_minutes(self) -> float:
        """Unique minutes that the test draws from."""
        return len(self.test) / self.rate_hz / 60


@dataclass(frozen=True)
class NoiseProtocol(Protocol):
    """Command recognition in noise: ``snrs_db`` holds None for words without noise."""

    snrs_db: tuple[float | None, ...] = (None, 20.0, 10.0, 5.0, 0.0)
    adapt_s: float = 5.0
    """Seconds of each place to adapt to."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.snrs_db or len(set(self.snrs_db)) < len(self.snrs_db):
            raise InputError("--snr names none, or one twice; name each once.")
        for snr_db in self.snrs_db:
            if snr_db is not None and not -20 <= snr_db <= 60:
                raise InputError(f"--snr is {snr_db:g}; give -20 to 60 dB, or clean.")
        if not 1 <= self.adapt_s <= 60:
            raise InputError(f"--adapt-seconds is {self.adapt_s:g}; give 1 to 60.")


def open_place(path: Path, name: str, rate_hz: int, adapt_s: float) -> NoisyPlace:
    """The first ``adapt_s`` seconds of a place's recordings to adapt to, and all others for the test.

    Raises:
        InputError: a recording that cannot be read, is silent or comes twice, or too little noise for both parts.
    """
    parts: dict[str, list[np.ndarray]] = {"adaptation": [], "test": []}
    used: list[tuple[Path, int, int, str]] = []
    seen: dict[bytes, Path] = {}
    left = round(adapt_s * rate_hz)
    for one in recordings(path):
        wave = trim_padding(read(one, rate_hz))
        if len(wave) == 0 or is_silent(wave):
            raise InputError(f"{one} is silent; leave it out of the noise.")
        content = hashlib.sha256(wave.tobytes()).digest()
        if content in seen:
            raise InputError(f"{one} holds the same noise as {seen[content]}; leave one of them out.")
        seen[content] = one
        cut = min(left, len(wave))
        left -= cut
        for part, start, end in (("adaptation", 0, cut), ("test", cut, len(wave))):
            if end > start:
                parts[part].append(wave[start:end])
                used.append((one, start, end, part))
    found = {part: np.concatenate(waves) if waves else np.zeros(0, np.float32) for part, waves in parts.items()}
    if left or len(found["test"]) < MIN_TEST_S * rate_hz:
        total_s = sum(map(len, found.values())) / rate_hz
        raise InputError(
            f"{path} holds {total_s:.3g} s of noise, and {adapt_s:g} s to adapt to and {MIN_TEST_S:g} s for the test "
            "are needed; give more of it, or fewer --adapt-seconds."
        )
    require_apart(used)
    return NoisyPlace(name, found["adaptation"], found["test"], tuple(used), rate_hz)


def require_apart(used: Sequence[tuple[Path, int, int, str]]) -> None:
    """Raises:
    ValueError: a sample is in both parts.
    """
    for path, start, end, part in used:
        for other, first, last, second in used:
            if path == other and part != second and max(start, first) < min(end, last):
                raise ValueError(f"samples of {path} are both for adapting and for the test")


# ------------------------------------------------------------------------------------------------------------ running


def evaluate_noise(
    model: Model,
    bank: Bank,
    index: ClassIndex,
    places: Sequence[NoisyPlace],
    protocol: NoiseProtocol,
    progress: Callable[[int, int], None] | None = None,
    *,
    corpus: str | None = None,
) -> list[Row]:
    """Rows of all episodes; the same words with the same noise for every model.

    Raises:
        InputError: the corpus cannot give an episode of this shape, or the model cannot adapt to a place.
    """
    require_views(model)
    front_end = model.config.front_end
    known = [place_of([(place.adaptation, front_end.rate_hz)], front_end) for place in places]
    alone = [_noise_alone(model, place, where, protocol.seed) for place, where in zip(places, known, strict=True)]
    rows: list[Row] = []
    for i, draw in draws(index, protocol, progress):
        with torch.no_grad():
            episode = _Episode(model, bank, draw, i)
            for place, where, noise in zip(places, known, alone, strict=True):
                for snr_db in protocol.snrs_db:
                    rows += episode.queries(place, where, snr_db, protocol.seed)
                rows.append(episode.answers_to_noise(place, noise))
    return of_corpus(rows, corpus)


class _Episode:
    """Words enrolled in quiet, for both kinds of states, each with the threshold that enrolment sets."""

    def __init__(self, model: Model, bank: Bank, draw: Draw, number: int) -> None:
        self.model, self.bank, self.draw, self.number = model, bank, draw, number
        self.front_end: FrontEnd = model.config.front_end
        n_classes = len(draw.classes)
        takes = []
        for position, (start, end) in zip(
            draw.support.tolist(), bank.window_bounds(draw.support, crop=self.front_end.crop).tolist(), strict=True
        ):
            takes.append(torch.from_numpy(bank.features(position)[start:end].copy()))
        support = batch_of(takes, draw.support_labels.tolist(), n_classes, self.front_end)
        learner = require_views(model)
        quiet, noisy = learner.adapt(support), learner.adapt(support, noisy_batches(takes, support, self.front_end))
        self.states: dict[str, State] = {"as_is": quiet, "anywhere": noisy, "adapted": noisy}
        reference = nearest_reference(model.about, len(takes) / n_classes)
        self.thresholds = {name: _threshold(model, state, reference) for name, state in self.states.items()}

    def queries(self, place: NoisyPlace, where: Place, snr_db: float | None, seed: int) -> Iterator[Row]:
        """A row for each query."""
        draw, labels = self.draw, self.draw.query_labels.tolist()
        clips = [
            _in_noise(self.bank.audio(position), place, snr_db, np.random.default_rng([seed, _BOUND, self.number, k]))
            for k, position in enumerate(draw.query.tolist())
        ]
        values = [log_mel(clip, self.front_end) for clip in clips]
        scores = {name: self._scores(name, _heard(values, name, where, self.front_end)) for name in HEARINGS}
        for k, position in enumerate(draw.query.tolist()):
            utterance = self.bank.utterances[position]
            row: Row = {
                "kind": "query",
                "episode": self.number,
                "item": utterance.id,
                "corpus": utterance.corpus,
                "speaker": utterance.speaker,
                "label": draw.classes[labels[k]],
                "noise": place.name,
                "snr_db": snr_db,
            }
            for name in HEARINGS:
                best = int(scores[name][k].argmax())
                right = best == labels[k]
                row[f"predicted_{name}"] = draw.classes[best]
                row[f"correct_{name}"] = int(right)
                row[f"heard_{name}"] = int(right and float(scores[name][k, best]) >= self.thresholds[name])
            yield row

    def answers_to_noise(self, place: NoisyPlace, heard: dict[str, tuple[Tensor, Tensor]]) -> Row:
        """Pieces of the noise alone that are taken for a word, each way at the threshold of its own enrolment.

        ``alarms_adapted_as_is`` is what adapting lets through at the threshold from before.
        """
        row: Row = {"kind": "noise", "episode": self.number, "corpus": "", "noise": place.name, "pieces": 0}
        for name in HEARINGS:
            output: Output = self.model.learner.compare(self.states[name], *heard[name])
            best = output.scores.amax(1)
            row["pieces"] = len(best)
            row[f"alarms_{name}"] = int((best >= self.thresholds[name]).sum())
            if name == "adapted":
                row["alarms_adapted_as_is"] = int((best >= self.thresholds["as_is"]).sum())
        return row

    def _scores(self, name: str, heard: Sequence[Tensor]) -> Tensor:
        query = batch_of(heard, [0] * len(heard), 1, self.front_end)
        return self.model.learner.predict(self.states[name], query).scores


def _threshold(model: Model, state: State, reference: Any) -> float:
    return calibrate(*enrolment_scores(model.learner, state), reference).threshold


def _heard(values: Sequence[np.ndarray], name: str, where: Place, front_end: FrontEnd) -> list[Tensor]:
    """Log mel frames as one way of hearing gives them to the encoder."""
    if name == "as_is":
        return [torch.from_numpy(cropped(one, front_end)) for one in values]
    return [torch.from_numpy(speech_in(one, front_end, where if name == "adapted" else None)) for one in values]


def _in_noise(word: Wave, place: NoisyPlace, snr_db: float | None, rng: np.random.Generator) -> Wave:
    """A word with noise of the place under and around it. The noise is as loud as it is there, the word as SNR says.

    The SNR is that of ``augment.wave.mix``, over the samples that hold speech; where the noise happens to pause there,
    it counts as a tenth of its mean power at least.
    """
    wave = trim_padding(word)
    start, end = speech_span(wave, place.rate_hz)
    spoken = max(power(wave[start:end]), 1e-30)
    before, after = (int(seconds * place.rate_hz) for seconds in rng.uniform(*MARGIN_S, 2))
    first = int(rng.integers(len(place.test)))
    if snr_db is None:
        return wave * np.float32((power(place.test) * 10 ** (CLEAN_DB / 10) / spoken) ** 0.5)
    n_samples = before + len(wave) + after
    noise = place.test[(first + np.arange(n_samples)) % len(place.test)]
    under = max(power(noise[before + start : before + end]), power(place.test) / 10)
    gain = np.float32((under * 10 ** (snr_db / 10) / spoken) ** 0.5)
    return noise + gain * np.pad(wave, (before, after))


def _noise_alone(model: Model, place: NoisyPlace, where: Place, seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Word-sized pieces of the test noise, embedded as each way hears them."""
    front_end = model.config.front_end
    pieces = [(start, end) for start, end in fragments(place.test, front_end) if not is_silent(place.test[start:end])]
    chosen = np.sort(np.random.default_rng([seed, _PIECES]).permutation(len(pieces))[:MAX_PIECES])
    values = [log_mel(trim_padding(place.test[slice(*pieces[i])]), front_end) for i in chosen]
    values = [one for one in values if len(one)]
    if not values:
        raise InputError(f"The noise of {place.name} has no piece as long as a word; give longer recordings.")
    with torch.no_grad():
        return {
            name: require_views(model).embed(
                batch_of(_heard(values, name, where, front_end), [0] * len(values), 1, front_end)
            )
            for name in HEARINGS
        }
