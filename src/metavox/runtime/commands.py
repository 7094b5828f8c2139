"""Recognise a user's own words from a few takes each, and refuse what was never enrolled."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from ..calibration import Probabilities, decide
from ..calibration.probabilities import probabilities
from ..checkpoint import Model, load_model
from ..contracts import Calibration, Decision, InputError, Output, Place, Profile, State
from ..profiles import Revision, Take, load_profile, save_profile
from ..profiles.contents import N_EARLIER
from .enrolment import (
    as_options,
    base_of,
    heard_at,
    heard_by,
    judged,
    kept_takes,
    require_enrollable,
    require_few,
    require_fit,
    scores_of,
    state_of,
    word_of,
)
from .enrolment import nearest_reference as nearest_reference
from .estimator import Estimator
from .negatives import Negatives, Places, chosen
from .place import place_of, require_views
from .takes import Clips

DEFAULT = "metavox/commands-small"
"""The model that comes with Metavox."""


class CommandRecognizer(Estimator):
    """Few-shot command words, in the manner of scikit-learn.

    >>> house = CommandRecognizer().fit(clips, words)   # doctest: +SKIP
    >>> house.predict(["kitchen.wav"])                  # doctest: +SKIP
    ['lights on']

    ``fit`` takes one take a word or more and returns self; ``predict`` gives a word or None, a refusal. A learned
    profile holds embeddings and log mel frames, and no audio unless it is asked for. Every verb that changes what is
    enrolled (``fit``, ``add``, ``remove``, ``rename``, ``recalibrate``) either succeeds or changes nothing, and can be
    undone.

    It is a classifier of scikit-learn on lists of clips: ``clone``, ``cross_val_score``, ``GridSearchCV`` and the last
    step of a ``Pipeline`` work, with ``score`` counting a refusal as wrong.

    Attributes:
        labels_: words in the order of the scores.
        classes_: the same words sorted, in the order of the columns of ``predict_proba``.
        calibration_: the refusal threshold, what it rests on and what it promises.
        expected_refusals_: share of the takes whose word would not have been heard, had they not been enrolled; None
            where no word has two takes. It is what the promise costs.
        state_: adapted values.
        takes_: what is kept of each take.
        revision_: counts the changes.
        place_: how the place sounds that it is adapted to, or None.
        model_: the base model.
    """

    PARAMETERS = ("model", "target", "per_hour", "confidence", "negatives", "keep_audio")

    labels_: tuple[str, ...]
    calibration_: Calibration
    expected_refusals_: float | None
    state_: State
    takes_: tuple[Take, ...]
    revision_: int
    place_: Place | None
    model_: Model
    _revision: Revision
    _earlier: tuple[Revision, ...] = ()

    def __init__(
        self,
        model: str | Path | Model = DEFAULT,
        *,
        target: float | None = 0.05,
        per_hour: bool = False,
        confidence: float = 0.95,
        negatives: Places | Negatives | None = None,
        keep_audio: bool = False,
    ) -> None:
        """Nothing is opened before ``fit``.

        Args:
            model: a bundled name, a folder, the name of an untrained baseline (``dtw``), or a loaded model.
            target: the share of sounds that are no command, or with ``per_hour`` their number in an hour, that may be
                taken for one at most. None asks for the threshold where refusals and acceptances err equally.
            confidence: how sure that is to hold.
            negatives: recordings that hold no command, which the threshold is set on: folders, files or
                ``negatives_in`` of them. Without, those that come with the model.
            keep_audio: keep the recordings in the profile.
        """
        self.model = model
        self.target = target
        self.per_hour = per_hour
        self.confidence = confidence
        self.negatives = negatives
        self.keep_audio = keep_audio

    @classmethod
    def from_pretrained(
        cls, source: str | Path, *, model: str | Path | None = None, **options: Any
    ) -> "CommandRecognizer":
        """Open a model, or a profile folder that ``save_pretrained`` wrote (then ``predict`` works at once).

        Args:
            source: a folder, a bundled name, or the name of an untrained baseline (``dtw``).
            model: where the base model of a profile is now, if it moved.
            options: other parameters than those the profile was made with; they count from the next change on.

        Raises:
            InputError: neither a model nor a profile, or a profile of another model.
        """
        folder = Path(source)
        if not os.path.isfile(folder / "profile.json"):
            recognizer = cls(source, **options)
            recognizer._open()
            return recognizer
        saved = load_profile(folder)
        base = base_of(folder, saved, Path(model) if model else None)
        require_fit(base, saved.profile.state, saved.profile.labels, saved.revision.takes, folder)
        recognizer = cls(base, **{**saved.document["options"], **options})
        recognizer._open()
        recognizer._set(base, replace(saved.revision, state=saved.profile.state), saved.earlier)
        return recognizer

    # ------------------------------------------------------------------------------------------------------- enrolment

    def fit(
        self, clips: Clips, words: Sequence[Any] | np.ndarray, *, synthetic: Sequence[bool] | None = None
    ) -> "CommandRecognizer":
        """Enrol words from their takes (paths, or arrays with a rate); what was enrolled before is forgotten.

        ``synthetic`` marks takes that nobody spoke. Words are text; a classifier's numbers will do too.

        Raises:
            InputError: no take, a word for every clip missing, takes that cannot be used, or a target that the
                negatives cannot support.
        """
        if len(clips) != len(words):
            raise InputError(f"{len(clips)} clips were given with {len(words)} words; give one word for each clip.")
        if len(clips) == 0:
            raise InputError("No take was given; record at least one take of a word.")
        model = self._open()
        names = [word_of(word) for word in words]
        labels = tuple(dict.fromkeys(names))
        require_few(len(clips), len(labels))
        front_end = model.config.front_end
        takes = kept_takes(clips, names, front_end, keep_audio=self.keep_audio, synthetic=synthetic)
        self._learn(model, takes, labels, "fit")
        self._given_numbers = not any(isinstance(word, str) for word in words)
        return self

    def add(self, word: str, clips: Clips, *, synthetic: bool = False) -> "CommandRecognizer":
        """Enrol one more word, or more takes of a known one. The other words' recordings are not needed."""
        self._require_fitted()
        name = word_of(word)
        if len(clips) == 0:
            raise InputError(f"No take of {name!r} was given; record at least one.")
        labels = self.labels_ if name in self.labels_ else (*self.labels_, name)
        require_few(len(self.takes_) + len(clips), len(labels))
        marks = [synthetic] * len(clips)
        front_end = self.model_.config.front_end
        more = kept_takes(clips, [name] * len(clips), front_end, keep_audio=self.keep_audio, synthetic=marks)
        self._learn(self.model_, (*self.takes_, *more), labels, f"add {name}", self.place_)
        return self

    def remove(self, word: str) -> "CommandRecognizer":
        """Forget a word and its takes.

        Raises:
            InputError: the word is not enrolled, or is the only one.
        """
        name = self._enrolled(word)
        if len(self.labels_) == 1:
            raise InputError(f"{name!r} is the only enrolled word; delete the profile instead.")
        labels = tuple(label for label in self.labels_ if label != name)
        takes = tuple(take for take in self.takes_ if take.word != name)
        self._learn(self.model_, takes, labels, f"remove {name}", self.place_)
        return self

    def rename(self, old: str, new: str) -> "CommandRecognizer":
        """Call a word otherwise; scores and threshold stay.

        Raises:
            InputError: the word is not enrolled, or the new name is already another's.
        """
        before, after = self._enrolled(old), word_of(new)
        if after in self.labels_:
            raise InputError(f"{after!r} is already enrolled; remove it first, or choose another name.")
        labels = tuple(after if label == before else label for label in self.labels_)
        takes = tuple(replace(take, word=after) if take.word == before else take for take in self.takes_)
        now = replace(self._revision, change=f"rename {before} to {after}", labels=labels, takes=takes)
        self._keep(self.model_, now)
        return self

    def recalibrate(self) -> "CommandRecognizer":
        """Set the threshold anew, after ``set_params`` changed what it should promise.

        Raises:
            InputError: a target that the negatives cannot support.
        """
        self._require_fitted()
        self._learn(self.model_, self.takes_, self.labels_, "recalibrate", self.place_, self.state_)
        return self

    def adapt_to_place(self, noise_clips: Clips | None) -> "CommandRecognizer":
        """Hear commands better where they are said, from a few seconds of its noise (``runtime.place``).

        ``place_`` says how much was used. Words that are added later are adapted too; ``fit`` begins anew. None
        forgets the place.

        Raises:
            InputError: less than a second of noise, or silence; a model that cannot adapt.
        """
        self._require_fitted()
        require_views(self.model_)
        place = None if noise_clips is None else place_of(noise_clips, self.model_.config.front_end)
        self._learn(self.model_, self.takes_, self.labels_, "place" if place else "no place", place)
        return self

    def undo(self) -> "CommandRecognizer":
        """Go back to what was enrolled before the last change; up to ten are remembered, and saved.

        Raises:
            InputError: nothing is left to undo.
        """
        self._require_fitted()
        if not self._earlier:
            raise InputError(f"Revision {self.revision_} is the first that is remembered; there is nothing to undo.")
        *earlier, last = self._earlier
        if last.state is None:
            last = replace(last, state=state_of(self.model_, last.takes, last.labels, last.place))
        self._set(self.model_, last, tuple(earlier))
        return self

    def with_model(self, model: str | Path | Model) -> "CommandRecognizer":
        """The same takes behind another model: a new recogniser, which cannot be undone to the old one's.

        Raises:
            InputError: a model that hears otherwise, where the recordings were not kept.
        """
        self._require_fitted()
        other = CommandRecognizer(**{**self.get_params(), "model": model})
        base = other._open()
        takes = heard_by(base, self.takes_, self.model_.config.front_end)
        other._learn(base, takes, self.labels_, f"model {base.name}", heard_at(base, self.place_, self.model_))
        return other

    # ----------------------------------------------------------------------------------------------------- recognition

    def decide(self, clips: Clips) -> list[Decision]:
        """Best word, its score, the threshold and all scores, for each clip."""
        return decide(Output(self._scores(clips)), self.labels_, self.calibration_)

    def predict(self, clips: Clips) -> list[Any]:
        """The word of each clip, or None where nothing enrolled is near enough."""
        labels = [decision.label for decision in self.decide(clips)]
        return [int(label) if label is not None and self._in_numbers else label for label in labels]

    def predict_proba(self, clips: Clips, *, refusal: bool = False) -> Float[np.ndarray, "B C"]:
        """Probabilities of the words, in the order of ``classes_``.

        A row sums to at most 1. The rest is the probability that none of the words was said; with ``refusal`` it is a
        last column. The most probable column is what ``predict`` says.

        Raises:
            InputError: nothing is known of how sure scores are: one take a word, and a model without held-out scores.
        """
        scores = self._scores(clips)
        temperature = self._revision.temperature
        if temperature is None:
            raise InputError(
                "No word has two takes, and probabilities need a take heard beside another of its word; record two "
                "takes of a word, or use a trained model."
            )
        found = probabilities(scores, Probabilities(temperature, self.calibration_.threshold))
        columns = [self.labels_.index(str(word)) for word in self.classes_]
        return found[:, [*columns, -1]] if refusal else found[:, columns]

    def _scores(self, clips: Clips) -> Float[Tensor, "B C"]:
        self._require_fitted()
        return scores_of(self.model_, self.state_, len(self.labels_), clips, self.place_)

    # ------------------------------------------------------------------------------------------------ what is enrolled

    @property
    def n_takes_(self) -> dict[str, int]:
        """Takes of each enrolled word."""
        self._require_fitted()
        counts = Counter(take.word for take in self.takes_)
        return {label: counts[label] for label in self.labels_}

    @property
    def profile_(self) -> Profile:
        """What a user saves."""
        self._require_fitted()
        front_end = self.model_.config.front_end
        return Profile(self.state_, self.labels_, self.calibration_, front_end, self.model_.hash, version("metavox"))

    def save_pretrained(self, folder: str | Path, *, history: bool = True) -> None:
        """Write the profile: safetensors and JSON, some tens of kilobytes a take.

        The base model is named by path and hash.

        Without ``history`` earlier revisions, and the words and takes that only they hold, are left out.
        """
        profile = self.profile_
        revisions = [*self._earlier, self._revision] if history else [replace(self._revision, change="")]
        if not self.keep_audio:
            revisions = [one.without_audio() for one in revisions]
        save_profile(
            Path(folder),
            profile,
            model=None if self.model_.name.startswith("metavox/") else self.model_.folder,
            now=revisions[-1],
            earlier=revisions[:-1],
            extra={"model_name": self.model_.name, "options": as_options(self.get_params())},
        )

    # -------------------------------------------------------------------------------------------------------- revisions

    def _open(self) -> Model:
        """The model of the parameters, opened once."""
        given, base = getattr(self, "_opened", (None, None))
        if base is None or given is not self.model:
            base = self.model if isinstance(self.model, Model) else load_model(self.model)
            require_enrollable(base)
            self._opened = (self.model, base)
        if not hasattr(self, "state_"):
            self.model_ = base
        return base

    def _learn(
        self,
        model: Model,
        takes: tuple[Take, ...],
        labels: tuple[str, ...],
        change: str,
        place: Place | None = None,
        state: State | None = None,
    ) -> None:
        """Make state and threshold first, so that a failure leaves the recogniser as it was."""
        state = state_of(model, takes, labels, place) if state is None else state
        found = judged(
            model,
            state,
            len(labels),
            None if self.target is None else chosen(self.negatives, model),
            target=self.target,
            per_hour=self.per_hour,
            confidence=self.confidence,
        )
        refused, temperature = found.expected_refusals, found.temperature
        self._keep(model, Revision(0, change, labels, found.calibration, takes, refused, temperature, state, place))

    def _keep(self, model: Model, revision: Revision) -> None:
        """Take the next revision; those before it are remembered where they belong to the same model."""
        earlier: tuple[Revision, ...] = ()
        number = 1
        if hasattr(self, "state_"):
            number = self.revision_ + 1
            earlier = (*self._earlier, self._revision)[-N_EARLIER:] if model.hash == self.model_.hash else ()
        self._set(model, replace(revision, number=number), earlier)

    def _set(self, model: Model, revision: Revision, earlier: tuple[Revision, ...]) -> None:
        assert revision.state is not None
        self._revision, self._earlier = revision, earlier
        self.model_, self.state_, self.labels_, self.takes_ = model, revision.state, revision.labels, revision.takes
        self.calibration_, self.expected_refusals_ = revision.calibration, revision.expected_refusals
        self.revision_, self.place_ = revision.number, revision.place

    def _enrolled(self, word: Any) -> str:
        self._require_fitted()
        name = word_of(word)
        if name not in self.labels_:
            raise InputError(f"{name!r} is not enrolled; enrolled are {', '.join(self.labels_)}.")
        return name
