"""Takes and their words: what is kept of them, the support set that they make, and the threshold that comes of it."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..audio import check_take
from ..calibration import calibrate, enrolment_scores, fit_probabilities, threshold_for
from ..checkpoint import Model, load_model
from ..contracts import Batch, Calibration, Enrollable, FrontEnd, InputError, Place, State
from ..data.layouts import printable, shown
from ..features import cropped, heard
from ..profiles import Saved, model_of_profile
from ..profiles.contents import MAX_TAKE_S, MAX_TAKES, MAX_WORD_LENGTH, MAX_WORDS, Source, Take
from .negatives import Negatives, places_of
from .noise_bounds import speech_in
from .place import noisy_batches, require_views
from .takes import Clip, Clips, alike_in_length, batch_of, each_of, take_wave, take_window


def require_enrollable(model: Model) -> None:
    """Raises:
    InputError: a learner that no product enrols with.
    """
    learner = model.learner
    if not isinstance(learner, Enrollable) or learner.adapts_body or learner.fixed_ways:
        raise InputError(
            f"Model {model.name} learns by {model.config.learner.name}, whose state is as large as the model or "
            "cannot gain a word; enrol with a model trained with model.learner.name=prototypes."
        )


def word_of(word: Any) -> str:
    """A word as it is kept: text in Unicode NFC; a number by its digits.

    Raises:
        InputError: no text, or one that is empty, too long or cannot be printed.
    """
    if isinstance(word, int | np.integer) and not isinstance(word, bool):
        return str(int(word))
    if not isinstance(word, str):
        raise InputError(f"A word is text, and {shown(repr(word))} is none; name the word of each take.")
    text = unicodedata.normalize("NFC", str(word))
    if not text.strip() or len(text) > MAX_WORD_LENGTH or printable(text) != text:
        raise InputError(
            f"{shown(text)} cannot name a word, which takes 1 to {MAX_WORD_LENGTH} characters that can be printed; "
            "choose another name."
        )
    return text


def kept_takes(
    clips: Clips,
    words: Sequence[str],
    front_end: FrontEnd,
    *,
    keep_audio: bool = False,
    synthetic: Sequence[bool] | None = None,
) -> tuple[Take, ...]:
    """What is kept of each clip. Frames are rounded to 16 bits before anything is learned from them, so that a state
    made of them again is the same.

    Raises:
        InputError: all unusable takes, in one message.
    """
    marks = synthetic if synthetic is not None else [False] * len(clips)

    def one(given: tuple[Clip, str, bool]) -> Take:
        clip, word, made = given
        name, wave = take_wave(clip, front_end.rate_hz)
        check_take(wave, front_end.rate_hz, name)
        duration_s = len(wave) / front_end.rate_hz
        if duration_s > MAX_TAKE_S:
            raise InputError(
                f"{name} lasts {duration_s:.3g} s; a take is one word of at most {MAX_TAKE_S:g} s, cut it out."
            )
        frames = torch.from_numpy(heard(wave, front_end)).half()
        audio = np.clip(np.round(wave * 32768), -32768, 32767).astype(np.int16) if keep_audio else None
        is_file = isinstance(clip, str | Path)
        source: Source = "synthetic" if made else "file" if is_file else "array"
        label = printable(Path(name).name)[:300] if is_file else "array"
        return Take(label, word, source, duration_s, frames, audio)

    return tuple(each_of(zip(clips, words, marks, strict=True), one))


def require_few(n_takes: int, n_words: int) -> None:
    """Raises:
    InputError: more than a profile holds.
    """
    if n_takes > MAX_TAKES or n_words > MAX_WORDS:
        raise InputError(
            f"{n_takes} takes of {n_words} words were given; a profile holds at most {MAX_TAKES} takes of {MAX_WORDS} "
            "words, enrol fewer."
        )


def support_of(takes: Sequence[Take], labels: Sequence[str], front_end: FrontEnd) -> Batch:
    """The support set that takes make, in their order."""
    where = {label: i for i, label in enumerate(labels)}
    return batch_of([take.frames for take in takes], [where[take.word] for take in takes], len(labels), front_end)


def state_of(model: Model, takes: Sequence[Take], labels: Sequence[str], place: Place | None = None) -> State:
    """Adapted values, for use at a place where one is given."""
    front_end = model.config.front_end
    support = support_of(takes, labels, front_end)
    with torch.no_grad():
        if place is None:
            return model.learner.adapt(support)
        return require_views(model).adapt(support, noisy_batches([take.frames for take in takes], support, front_end))


@dataclass(frozen=True)
class Judgement:
    """What the scores of an enrolment come to."""

    calibration: Calibration
    expected_refusals: float | None
    """Share of the takes whose word would not have been heard, had they not been enrolled; None where none has another
    take of its word beside it."""
    temperature: float | None
    """Of ``calibration.probabilities``; None where nothing is known of it."""


def judged(
    model: Model,
    state: State,
    n_words: int,
    negatives: Negatives | None,
    *,
    target: float | None,
    per_hour: bool,
    confidence: float,
) -> Judgement:
    """Set the threshold, and say what it costs.

    With negatives and a target it is set on them, and holds a promise. Otherwise it is where false refusals and false
    acceptances are fewest together.

    Raises:
        InputError: a target that the negatives cannot support, or too few scores for a threshold.
    """
    learner, reference = model.learner, nearest_reference(model.about, len(state["labels"]) / n_words)
    of_negatives: np.ndarray | None = None
    if target is None or negatives is None:
        calibration = calibrate(*enrolment_scores(learner, state), reference)
    else:
        of_negatives = negatives.scores(learner, state).double().numpy()
        threshold, promise = threshold_for(
            of_negatives.max(1),
            target=target,
            per_hour=per_hour,
            hours=negatives.hours,
            confidence=confidence,
            groups=negatives.groups.numpy(),
            negatives=negatives.name,
        )
        calibration = Calibration(threshold, 0, 0, "negatives", promise)
    with torch.no_grad():
        scores = learner.leave_one_out(state).double().numpy()
    labels = state["labels"].numpy()
    own = scores[np.arange(len(labels)), labels]
    own = own[np.isfinite(own)]
    refused = float(np.mean(own < calibration.threshold)) if len(own) else None
    temperature = None
    if len(own) or reference:
        temperature = fit_probabilities(
            scores, labels, calibration.threshold, reference=reference, negatives=of_negatives
        ).temperature
    return Judgement(calibration, refused, temperature)


def nearest_reference(about: Mapping[str, Any], n_takes: float) -> Mapping[str, Sequence[float]] | None:
    """The model's held-out scores for the number of takes nearest to this enrolment's."""
    reference = about.get("reference") or {}
    if not reference:
        return None
    return reference[min(reference, key=lambda shots: abs(int(shots) - n_takes))]


def heard_by(model: Model, takes: tuple[Take, ...], front_end: FrontEnd) -> tuple[Take, ...]:
    """Takes that were heard through ``front_end`` as another model hears them.

    Raises:
        InputError: it hears otherwise, and the recordings were not kept.
    """
    theirs = model.config.front_end
    if (front_end.spectral_key(), front_end.crop) == (theirs.spectral_key(), theirs.crop):
        return takes
    if any(take.audio is None for take in takes):
        raise InputError(
            f"Model {model.name} hears {theirs.spectral_key()} and the takes were kept as {front_end.spectral_key()}, "
            "without their recordings; enrol again from these."
        )
    clips = [(take.audio, front_end.rate_hz) for take in takes if take.audio is not None]
    heard_again = kept_takes(clips, [take.word for take in takes], theirs, keep_audio=True)
    return tuple(replace(old, frames=new.frames, audio=new.audio) for old, new in zip(takes, heard_again, strict=True))


def heard_at(model: Model, place: Place | None, old: Model) -> Place | None:
    """A place as another model hears it; None where it has other bins, since no recording of it was kept."""
    alike = model.config.front_end.spectral_key() == old.config.front_end.spectral_key()
    return place if alike and model.config.front_end.n_frames is not None else None


def scores_of(
    model: Model, state: State, n_words: int, clips: Clips, place: Place | None = None
) -> Float[Tensor, "B C"]:
    """Scores of clips that are to be recognised, said at a place; who else is asked about does not matter.

    Raises:
        InputError: all clips that cannot be used, in one message.
    """
    front_end = model.config.front_end
    spoken = cropped if place is None else partial(speech_in, place=place)
    windows = each_of(clips, lambda clip: take_window(clip, front_end, strict=False, spoken=spoken))
    scores = torch.zeros(len(windows), n_words)
    for at in alike_in_length([window.shape[1] for window, _ in windows]):
        lengths = torch.cat([windows[i][1] for i in at])
        inputs = torch.zeros(len(at), int(lengths.max()), front_end.n_mels)
        for row, length, i in zip(inputs, lengths.tolist(), at, strict=True):
            row[:length] = windows[i][0][0]
        with torch.no_grad():
            scores[at] = model.learner.predict(state, Batch(inputs, lengths, torch.zeros_like(lengths), 1)).scores
    return scores


def as_options(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a recogniser as a profile keeps them: all but the model, which it names otherwise."""
    return {
        "target": None if params["target"] is None else float(params["target"]),
        "per_hour": bool(params["per_hour"]),
        "confidence": float(params["confidence"]),
        "negatives": places_of(params["negatives"]),
        "keep_audio": bool(params["keep_audio"]),
    }


def base_of(folder: Path, saved: Saved, model: Path | None) -> Model:
    """The base model of a profile: where it says, or where ``model`` says; a bundled one or a baseline by its name.

    Raises:
        InputError: it is gone, or another one.
    """
    if saved.document["model"] is not None or model is not None:
        return model_of_profile(folder, saved.document, model)
    base = load_model(saved.document["model_name"])
    if base.hash != saved.profile.model_hash:
        raise InputError(f"Profile {folder} was made with another {base.name}; enrol again.")
    return base


def require_fit(model: Model, state: State, labels: Sequence[str], takes: Sequence[Take], folder: Path) -> None:
    """Score one empty window, so that a state that is not of this model is told now and not at the first command.

    Raises:
        InputError: it is not.
    """
    front_end = model.config.front_end
    n_frames = front_end.n_frames or 8
    silence = Batch(torch.zeros(1, n_frames, front_end.n_mels), torch.tensor([n_frames]), torch.tensor([0]), 1)
    try:
        with torch.no_grad():
            shape = tuple(model.learner.predict(state, silence).scores.shape)
        words = [labels[label] for label in state["labels"].tolist()]
        fits = shape == (1, len(labels)) and words == [take.word for take in takes]
    except (KeyError, IndexError, RuntimeError, ValueError, TypeError, AttributeError):
        fits = False
    if not fits:
        raise InputError(f"{folder / 'state.safetensors'} does not fit its profile.json and model; enrol again.")
