"""Recognise a user's own words from a few takes each, and refuse what was never enrolled."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ..calibration import calibrate, decide, enrolment_scores
from ..checkpoint import Model, load_model, load_profile, model_of_profile, save_profile
from ..contracts import Batch, Calibration, Decision, Enrollable, InputError, Profile, State
from .takes import Clip, take_batch


class CommandRecognizer:
    """Few-shot command words, in the manner of scikit-learn.

    >>> house = CommandRecognizer.from_pretrained("exp/commands").fit(clips, words)   # doctest: +SKIP
    >>> house.predict(["kitchen.wav"])                                                # doctest: +SKIP
    ['lights on']

    ``fit`` takes one take a word or more and returns self; ``predict`` gives a word or None, a refusal. A learned
    profile holds embeddings and no audio.

    Attributes:
        labels_: words in the order of the scores.
        calibration_: the refusal threshold and what it rests on.
        state_: adapted values.
    """

    labels_: tuple[str, ...]
    calibration_: Calibration
    state_: State

    def __init__(self, model: Model) -> None:
        if not isinstance(model.learner, Enrollable) or model.learner.adapts_body or model.learner.fixed_ways:
            raise InputError(
                f"Model {model.name} learns by {model.config.learner.name}, whose state is as large as the model or "
                "cannot gain a word; enrol with a model trained with model.learner.name=prototypes."
            )
        self.model = model

    @classmethod
    def from_pretrained(cls, source: str | Path, *, model: str | Path | None = None) -> "CommandRecognizer":
        """Open a model folder, or a profile folder that ``save_pretrained`` wrote (then ``predict`` works at once).

        Args:
            source: a folder, or the name of an untrained baseline (``dtw``).
            model: where the base model of a profile is now, if it moved.

        Raises:
            InputError: neither a model nor a profile, or a profile of another model.
        """
        folder = Path(source)
        if not os.path.isfile(folder / "profile.json"):
            return cls(load_model(source))
        profile, document = load_profile(folder)
        if document["model"] is None and model is None:
            base = load_model(document["model_name"])
            if base.hash != profile.model_hash:
                raise InputError(f"Profile {folder} was made with another {base.name}; enrol again.")
        else:
            base = model_of_profile(folder, document, Path(model) if model else None)
        recognizer = cls(base)
        _require_fit(base, profile, folder)
        recognizer.labels_, recognizer.state_ = profile.labels, profile.state
        recognizer.calibration_ = profile.calibration
        return recognizer

    def fit(self, clips: Sequence[Clip], words: Sequence[str]) -> "CommandRecognizer":
        """Enrol words from their takes (paths, or arrays with a rate); what was enrolled before is forgotten.

        Raises:
            InputError: no take, a word for every clip missing, or takes that cannot be used.
        """
        if len(clips) != len(words):
            raise InputError(f"{len(clips)} clips were given with {len(words)} words; give one word for each clip.")
        if not clips:
            raise InputError("No take was given; record at least one take of a word.")
        labels = tuple(dict.fromkeys(words))
        self._learn(clips, words, labels, None)
        return self

    def add(self, word: str, clips: Sequence[Clip]) -> "CommandRecognizer":
        """Enrol one more word, or more takes of a known one. The other words' recordings are not needed."""
        self._require_fitted()
        if not clips:
            raise InputError(f"No take of {word!r} was given; record at least one.")
        labels = self.labels_ if word in self.labels_ else (*self.labels_, word)
        self._learn(clips, [word] * len(clips), labels, self.state_)
        return self

    def remove(self, word: str) -> "CommandRecognizer":
        """Forget a word and its takes.

        Raises:
            InputError: the word is not enrolled, or is the only one.
        """
        self._require_fitted()
        if word not in self.labels_:
            raise InputError(f"{word!r} is not enrolled; enrolled are {', '.join(self.labels_)}.")
        if len(self.labels_) == 1:
            raise InputError(f"{word!r} is the only enrolled word; delete the profile instead.")
        state = self.model.learner.without(self.state_, self.labels_.index(word))
        labels = tuple(label for label in self.labels_ if label != word)
        self._keep(state, labels)
        return self

    def decide(self, clips: Sequence[Clip]) -> list[Decision]:
        """Best word, its score, the threshold and all scores, for each clip."""
        self._require_fitted()
        if not clips:
            return []
        batch = take_batch(clips, [0] * len(clips), 1, self.model.config.front_end, strict=False)
        with torch.no_grad():
            output = self.model.learner.predict(self.state_, batch)
        return decide(output, self.labels_, self.calibration_)

    def predict(self, clips: Sequence[Clip]) -> list[str | None]:
        """The word of each clip, or None where nothing enrolled is near enough."""
        return [decision.label for decision in self.decide(clips)]

    @property
    def n_takes_(self) -> dict[str, int]:
        """Takes of each enrolled word."""
        self._require_fitted()
        counts = Counter(self.state_["labels"].tolist())
        return {label: counts[i] for i, label in enumerate(self.labels_)}

    @property
    def profile_(self) -> Profile:
        """What a user saves."""
        self._require_fitted()
        front_end = self.model.config.front_end
        return Profile(self.state_, self.labels_, self.calibration_, front_end, self.model.hash, version("metavox"))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the profile: safetensors and JSON, kilobytes. The base model is named by path and hash."""
        profile = self.profile_
        extra = {"takes": self.n_takes_, "model_name": self.model.name}
        save_profile(Path(folder), profile, model=self.model.folder, extra=extra)

    def _learn(self, clips: Sequence[Clip], words: Sequence[str], labels: tuple[str, ...], old: State | None) -> None:
        where = {label: i for i, label in enumerate(labels)}
        support = take_batch(clips, [where[word] for word in words], len(labels), self.model.config.front_end)
        with torch.no_grad():
            learner = self.model.learner
            state = learner.adapt(support) if old is None else learner.extend(old, support)
        self._keep(state, labels)

    def _keep(self, state: State, labels: tuple[str, ...]) -> None:
        """Set the threshold first, so that a failure leaves the recogniser as it was."""
        target, nontarget = enrolment_scores(self.model.learner, state)
        per_word = len(state["labels"]) / len(labels)
        calibration = calibrate(target, nontarget, nearest_reference(self.model.about, per_word))
        self.state_, self.labels_, self.calibration_ = state, labels, calibration

    def _require_fitted(self) -> None:
        if not hasattr(self, "state_"):
            raise InputError("Nothing is enrolled yet; call fit with takes and their words first.")


def _require_fit(base: Model, profile: Profile, folder: Path) -> None:
    """Score one empty window, so that a state that is not of this model is told now and not at the first command."""
    front_end = base.config.front_end
    n_frames = front_end.n_frames or 8
    silence = Batch(torch.zeros(1, n_frames, front_end.n_mels), torch.tensor([n_frames]), torch.tensor([0]), 1)
    try:
        with torch.no_grad():
            shape = tuple(base.learner.predict(profile.state, silence).scores.shape)
        fits = shape == (1, len(profile.labels)) and "labels" in profile.state
    except (KeyError, IndexError, RuntimeError, ValueError, TypeError, AttributeError):
        fits = False
    if not fits:
        raise InputError(f"{folder / 'state.safetensors'} does not fit its profile.json and model; enrol again.")


def nearest_reference(about: Mapping[str, Any], n_takes: float) -> Mapping[str, Sequence[float]] | None:
    """The model's held-out scores for the number of takes nearest to this enrolment's."""
    reference = about.get("reference") or {}
    if not reference:
        return None
    return reference[min(reference, key=lambda shots: abs(int(shots) - n_takes))]
