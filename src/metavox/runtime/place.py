"""A place to be heard in: what a few seconds of its noise change for the takes of a profile and for what is said there.

Takes are remembered as noise would have them cropped too, and what is said is cropped by how far it rises above the
noise of the place, which is then taken from it (``noise_bounds``). What is kept of a place are a mean spectrum and two
levels.
"""

import zlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..audio import MIN_PEAK_DBFS, trim_padding
from ..augment.wave import coloured_noise
from ..averaging.members import AveragedLearner
from ..checkpoint import Model
from ..contracts import Batch, FrontEnd, InputError, Place
from ..data.noise import recordings
from ..features import DB, log_mel
from ..learners.metric import Prototypes
from .noise_bounds import place_in, speech_bounds_in
from .takes import Clip, Clips, batch_of, take_wave

MIN_NOISE_S, MAX_NOISE_S = 1.0, 600.0
VIEW_SNRS_DB = (15.0, 5.0)
"""A take is remembered with noise this far below it."""
VIEW_MARGIN_MS = 300.0
"""Noise before and after it, so that its ends are found as they are in noise."""
_NOISE_S, _SEED = 5.0, 99


def place_of(noise_clips: Clips, front_end: FrontEnd) -> Place:
    """What recordings of a place come to; ``duration_s`` says how much of them was used.

    Args:
        noise_clips: files, folders of them, or arrays with their rate, in which nobody says a command.

    Raises:
        InputError: less than a second of noise, a silent recording, or one that cannot be read.
    """
    parts: list[np.ndarray] = []
    for clip in _each(noise_clips):
        name, wave = take_wave(clip, front_end.rate_hz)
        sound = trim_padding(wave)
        peak = float(np.abs(sound - sound.mean()).max()) if len(sound) else 0.0
        if peak < 10 ** (MIN_PEAK_DBFS / 20):
            raise InputError(
                f"{name} is silent and says nothing of a place, whose noise needs a peak of {MIN_PEAK_DBFS:.0f} dBFS; "
                "check the microphone, or leave it out where the place is quiet."
            )
        parts.append(sound)
    n_samples = sum(map(len, parts))
    if n_samples < MIN_NOISE_S * front_end.rate_hz:
        raise InputError(
            f"{n_samples / front_end.rate_hz:.2g} s of the noise of the place were given; at least {MIN_NOISE_S:g} s "
            "are needed, better 5."
        )
    left, frames = round(MAX_NOISE_S * front_end.rate_hz), []
    for sound in parts:
        frames.append(log_mel(sound[:left], front_end))
        left -= min(left, len(sound))
    used_s = min(n_samples / front_end.rate_hz, MAX_NOISE_S)
    return place_in(np.concatenate(frames), front_end, used_s)


def _each(clips: Clips) -> list[Clip]:
    """Clips, with the recordings of a folder in its place."""
    found: list[Clip] = []
    for clip in clips:
        if isinstance(clip, str | Path) and Path(clip).is_dir():
            found += recordings(Path(clip))
        else:
            found.append(clip)
    if not found:
        raise InputError("No noise of a place was given; record some seconds of it.")
    return found


def require_views(model: Model) -> Prototypes:
    """The learner, where it can remember a take in several views.

    Raises:
        InputError: it cannot, or its windows are not all of one length.
    """
    if isinstance(model.learner, AveragedLearner):
        raise InputError(
            f"{model.name} is an average of predictions, which remembers no take as noise would have it; average "
            "weights instead (metavox average --form soup), or leave the place out."
        )
    if not isinstance(model.learner, Prototypes):
        raise InputError(
            f"Model {model.name} learns by {model.config.learner.name}, which remembers no take as noise would have "
            "it; adapt a model of model.learner.name=prototypes to a place."
        )
    if model.config.front_end.n_frames is None:
        raise InputError(
            f"Model {model.name} hears windows of any length and cannot adapt to a place; use one whose front end has "
            "n_frames."
        )
    return model.learner


def noisy_views(takes: Sequence[Float[Tensor, "_ F"]], front_end: FrontEnd) -> list[list[Float[Tensor, "_ F"]]]:
    """Takes (log mel frames of their speech) with noise around and under them, cropped as a query is, one list an SNR.

    It matters little which noise it is, but much that the ends are found in noise: pink noise serves every place. The
    noise under a take follows from the take alone, so that words come and go without changing the others.
    """
    return [[_noisy(take, snr_db, front_end) for take in takes] for snr_db in VIEW_SNRS_DB]


def noisy_batches(takes: Sequence[Float[Tensor, "_ F"]], support: Batch, front_end: FrontEnd) -> list[Batch]:
    """The same as further views of a support set, whose takes they are."""
    labels = support.labels.tolist()
    return [batch_of(view, labels, support.n_classes, front_end) for view in noisy_views(takes, front_end)]


def _noisy(take: Float[Tensor, "T F"], snr_db: float, front_end: FrontEnd) -> Float[Tensor, "_ F"]:
    clean = take.double().numpy()
    noise = _pink(front_end)
    margin = round(VIEW_MARGIN_MS / front_end.hop_ms)
    n_frames = len(clean) + 2 * margin
    first = zlib.crc32(take.half().contiguous().numpy().tobytes()) % len(noise)
    power = np.exp(noise[(first + np.arange(n_frames)) % len(noise)].astype(np.float64))
    power *= np.exp(clean).sum(axis=1).mean() / np.exp(noise).sum(axis=1).mean() * np.exp(-snr_db * DB)
    power[margin : margin + len(clean)] += np.exp(clean)
    mixed = np.log(power).astype(np.float32)
    start, end = speech_bounds_in(mixed, front_end) if front_end.crop else (0, n_frames)
    return torch.from_numpy(mixed[start:end])


@lru_cache(maxsize=8)
def _pink(front_end: FrontEnd) -> np.ndarray:
    wave = coloured_noise(round(_NOISE_S * front_end.rate_hz), "pink", np.random.default_rng(_SEED))
    return log_mel(np.float32(0.01) * wave, front_end)
