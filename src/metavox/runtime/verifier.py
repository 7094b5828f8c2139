"""Who speaks: enrol voices from a few clips, verify a claim, name a voice or none, and forget it."""

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ..contracts import InputError
from ..data.layouts import shown
from ..profiles.keys import Key, key_of
from ..profiles.vault import Vault, holds_voices, read_vault, write_vault
from ..profiles.voiceprints import MAX_CLIPS, MAX_VOICES, Voiceprint, Voiceprints, voice_name
from ..voices.heard import Heard, together
from ..voices.models import VoiceModel
from .takes import Clip, Clips
from .voice_decisions import VoiceDecision, claimed, named
from .voice_quality import (
    MIN_SPEECH_S,
    VoiceClip,
    require_new,
    require_no_copy,
    require_one_person,
    require_one_voice,
    usable,
)
from .voice_records import as_recording, described

DEFAULT = "metavox/speaker-small"
"""The model that comes with Metavox."""


class SpeakerVerifier:
    """Verify and name speakers who enrolled with a few clips, in the manner of scikit-learn.

    >>> family = SpeakerVerifier().enroll("anna", clips)   # doctest: +SKIP
    >>> family.verify("anna", "door.wav").accepted         # doctest: +SKIP
    True

    It is not a lock: a recording of a voice passes as that voice, and so may a synthetic one (``docs/speakers.md``).

    What is kept of a clip is a vector, seconds of speech, its level over the noise and the date; no sound, unless
    ``keep_audio`` asks for it. A verb that cannot do its work changes nothing. Clips are paths, or samples with a rate.

    Attributes:
        names_: enrolled names in the order of enrolling.
        voices_: what was heard of each.
        model_: what tells voices apart.
        threshold_: log-likelihood ratio from which a claim is accepted.
    """

    def __init__(
        self,
        model: str | Path | VoiceModel = DEFAULT,
        *,
        p_target: float = 0.5,
        cost_ratio: float | int = 1.0,
        threshold_llr: float | int | None = None,
        min_speech_s: float = MIN_SPEECH_S,
        keep_audio: bool = False,
    ) -> None:
        """Nothing is opened before the first clip.

        Args:
            model: a bundled name, a folder, whatever ``voices.models.load_voices`` opens, or a loaded model.
            p_target: how likely a claim is true, or a speaker enrolled, before anything is heard.
            cost_ratio: how much worse it is to accept somebody else than to refuse the right one. The decision is
                Bayes': accepted from log((1 - p_target) / p_target * cost_ratio) on, 0 by default.
            threshold_llr: a threshold instead; ``identify`` reads it as that of a single claim too.
            min_speech_s: clips with less speech are refused.
            keep_audio: keep the recordings that are enrolled with the voices.

        Raises:
            InputError: an impossible prior, cost or threshold.
        """
        if not 0 < p_target < 1:
            raise InputError(f"The prior p_target is {p_target:g}; give a probability between 0 and 1, such as 0.5.")
        if not (cost_ratio > 0 and math.isfinite(cost_ratio)):
            raise InputError(f"The cost ratio is {cost_ratio:g}; give a number above 0, such as 10.")
        if threshold_llr is not None and not math.isfinite(threshold_llr):
            raise InputError(f"The threshold is {threshold_llr:g}; give a log-likelihood ratio, such as 0 or 4.6.")
        self.model = model
        self.p_target = p_target
        self.cost_ratio = cost_ratio
        self.threshold_llr = threshold_llr
        self.min_speech_s = min_speech_s
        self.keep_audio = keep_audio
        self._prints: dict[str, Voiceprint] = {}
        self._opened: VoiceModel | None = None
        self._vault: tuple[str, Vault] | None = None
        self._loaded: tuple[Voiceprints, bool] | None = None

    # ----------------------------------------------------------------------------------------------- what is enrolled

    @property
    def names_(self) -> tuple[str, ...]:
        return tuple(self._prints)

    @property
    def voices_(self) -> dict[str, Heard]:
        return {name: _heard(one) for name, one in self._prints.items()}

    @property
    def model_(self) -> VoiceModel:
        if self._opened is None:
            found = _model_of(self.model)
            if self._loaded is not None:
                _require_model(found, *self._loaded)
            self._opened = found
        return self._opened

    @property
    def threshold_(self) -> float:
        if self.threshold_llr is not None:
            return self.threshold_llr
        return math.log((1 - self.p_target) / self.p_target * self.cost_ratio)

    def enroll(
        self, name: str, clips: Clips, *, anyway: bool = False, enrolled_at: datetime | None = None
    ) -> "SpeakerVerifier":
        """Enrol a voice from clips, or add clips to it.

        Args:
            name: of whom; text without a path.
            clips: one or more of this person alone; three of a few seconds are good.
            anyway: enrol although clips seem to be of two persons, which is a judgement that can err.
            enrolled_at: when; now, without.

        Raises:
            InputError: an impossible name; a clip that is unreadable, silent, clipped or with too little speech; one
                recording twice, or one that is enrolled already; two persons in a clip, or in different clips. Nothing
                is enrolled then.
        """
        name = voice_name(name)
        if len(clips) == 0:
            raise InputError(f"No clip of {shown(name)} was given; record at least one.")
        before = self._prints.get(name)
        n_clips = len(clips) + (0 if before is None else len(before))
        if n_clips > MAX_CLIPS:
            raise InputError(f"{shown(name)} would have {n_clips} clips, at most {MAX_CLIPS} are kept; give fewer.")
        if before is None and len(self._prints) >= MAX_VOICES:
            raise InputError(f"{MAX_VOICES} voices are enrolled, as many as are kept; forget one first.")
        model = self.model_
        _require_calibrated(model)
        good = usable(clips, model.encoder.rate_hz, least_s=self.min_speech_s)
        require_no_copy(good, model.encoder.rate_hz)
        heard = model.hear([clip.wave for clip in good])
        require_new(good, heard, self.voices_)
        if not anyway:
            require_one_person(model, good)
            require_one_voice(model, good, heard, None if before is None else _heard(before), name)
        self._prints[name] = _extended(before, heard, self._recordings(good), enrolled_at or datetime.now(UTC))
        return self

    def forget(self, name: str) -> "SpeakerVerifier":
        """Drop all that is held of a voice; ``save`` then leaves nothing of it in the folder.

        Raises:
            InputError: it is not enrolled.
        """
        del self._prints[self._enrolled(name)]
        return self

    def export(self, name: str | None = None) -> dict[str, Any]:
        """All that is held, of one voice or of every one, as JSON holds it: vectors, seconds, levels, dates, and
        recordings (FLAC in base 64) where they are kept.

        Raises:
            InputError: it is not enrolled.
        """
        names = self.names_ if name is None else (self._enrolled(name),)
        about = self._about()
        return {
            "library": "metavox",
            "version": version("metavox"),
            "model": about.model,
            "model_hash": about.model_hash,
            "voices": [described(one, self._prints[one]) for one in names],
        }

    def _about(self) -> Voiceprints:
        """What is written; the model is not opened for it where that of ``load`` stands."""
        if self._opened is None and self._loaded is not None:
            return replace(self._loaded[0], voices=dict(self._prints))
        model = self.model_
        return Voiceprints(dict(self._prints), _source_of(self.model, model), model.hash, model.encoder.hash)

    # -------------------------------------------------------------------------------------------------------- decisions

    def verify(self, name: str, clip: Clip) -> VoiceDecision:
        """Decide whether a clip is of the voice that it is claimed to be.

        Raises:
            InputError: a name that is not enrolled; a clip that nothing can be said of: unreadable, silent, with too
                little speech, or with two persons in it.
        """
        name = self._enrolled(name)
        llr = float(self.model_.llr([_heard(self._prints[name])], self._hear(clip))[0, 0])
        return claimed(name, llr, self.threshold_, self.p_target)

    def identify(self, clip: Clip) -> VoiceDecision:
        """Name the enrolled voice of a clip, or nobody where all others together are more likely.

        ``p_target`` is the prior that the speaker is enrolled at all, and is shared by the names: the more are
        enrolled, the more has to speak for one of them.

        Raises:
            InputError: nobody is enrolled; a clip that nothing can be said of, as in ``verify``.
        """
        if not self._prints:
            raise InputError("Nobody is enrolled yet; enrol a voice first.")
        llr = self.model_.llr(list(self.voices_.values()), self._hear(clip))[0]
        return named(self.names_, llr, self.threshold_, self.p_target)

    def _hear(self, clip: Clip) -> Heard:
        model = self.model_
        good = usable([clip], model.encoder.rate_hz, least_s=self.min_speech_s, clipping=False)
        require_one_person(model, good)
        return model.hear([good[0].wave])

    # ---------------------------------------------------------------------------------------------------------- on disk

    def save(self, folder: str | Path, *, key: str | bytes | Path | Key | None = None) -> None:
        """Write the voices into a folder, whole or not at all (``profiles.vault``).

        A passphrase (text), 32 bytes or the path of a file with them encrypts; without a key that of ``load`` is used,
        and where there was none the voices are written in the clear.

        Raises:
            InputError: the folder holds voices that this verifier did not load, or something else; an odd key.
        """
        place = os.path.realpath(folder)
        before = self._vault[1] if self._vault is not None and self._vault[0] == place else None
        held = self._vault[1].key if self._vault is not None else None
        written = write_vault(Path(place), self._about(), held if key is None else key_of(key), before)
        self._vault = (place, written)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        key: str | bytes | Path | Key | None = None,
        model: str | Path | VoiceModel | None = None,
        open_model: bool = True,
        **options: Any,
    ) -> "SpeakerVerifier":
        """The voices of a folder that ``save`` wrote.

        Args:
            folder: what ``save`` was given.
            key: what it was encrypted with.
            model: where its model is now, if it moved; one with the same encoder and another calibration will do.
            open_model: False opens it when a clip is heard: to forget or to export, no model need be there.
            options: other parameters of the constructor.

        Raises:
            InputError: no voices there, another key, a file that is damaged, tampered with or older than it was; a
                model that is gone or hears otherwise.
        """
        place = Path(os.path.realpath(folder))
        if not holds_voices(place):
            raise InputError(f"{folder} holds no voices (no voices.metavox); make them with `metavox speaker enroll`.")
        vault = read_vault(place, None if key is None else key_of(key))
        prints = vault.prints
        if open_model and model is None and prints.model.startswith("hf:") and vault.key is None:
            raise InputError(
                f"The voices of {folder} are in the clear and want {prints.model!r}, which anybody may have written "
                "there; name the model yourself with --model."
            )
        verifier = cls(prints.model if model is None else model, **options)
        verifier._prints = dict(prints.voices)
        verifier._vault = (str(place), vault)
        verifier._loaded = (prints, model is not None)
        if open_model:
            verifier.model_  # noqa: B018  that it is not there is said now
        return verifier

    def _enrolled(self, name: str) -> str:
        name = voice_name(name)
        if name not in self._prints:
            known = ", ".join(self.names_[:10]) or "nobody"
            more = f" and {len(self._prints) - 10} more" if len(self._prints) > 10 else ""
            raise InputError(f"{shown(name)} is not enrolled; enrolled are {known}{more}.")
        return name

    def _recordings(self, clips: Sequence[VoiceClip]) -> list[bytes | None]:
        rate_hz = self.model_.encoder.rate_hz
        return [as_recording(clip.wave, rate_hz) if self.keep_audio else None for clip in clips]


# -------------------------------------------------------------------------------------------------------------- models


def _model_of(source: str | Path | VoiceModel) -> VoiceModel:
    if isinstance(source, VoiceModel):
        return source
    from ..voices.encoders import load_voices

    return load_voices(source)


def _source_of(given: str | Path | VoiceModel, model: VoiceModel) -> str:
    """By what the model is found again, from another working folder too; one that was handed over by its folder."""
    if isinstance(given, VoiceModel):
        given = model.name if model.folder is None or model.name.startswith("metavox/") else model.folder
    return os.path.abspath(given) if os.path.exists(given) else str(given)


def _require_calibrated(model: VoiceModel) -> None:
    nobody = Heard(np.zeros((0, model.encoder.dim), np.float32), np.zeros(0), np.zeros(0))
    if model.ratios is None:
        model.llr([], nobody)  # says what is missing


def _require_model(model: VoiceModel, prints: Voiceprints, named: bool) -> None:
    if model.encoder.hash != prints.encoder_hash:
        raise InputError(
            f"The voices were heard by another model ({prints.encoder_hash[:12]}) than {model.name} "
            f"({model.encoder.hash[:12]}); name that one with --model, or enrol again."
        )
    if model.hash != prints.model_hash and not named:
        raise InputError(
            f"{model.name} is calibrated otherwise ({model.hash[:12]}) than when the voices were enrolled "
            f"({prints.model_hash[:12]}); name it with --model to go on with it."
        )
    if prints.voices and next(iter(prints.voices.values())).vectors.shape[1] != model.encoder.dim:
        raise InputError(f"The vectors of the voices do not fit {model.name}; enrol again.")


# -------------------------------------------------------------------------------------------------------------- voices


def _heard(one: Voiceprint) -> Heard:
    return Heard(one.vectors, one.speech_s, one.snr_db)


def _extended(
    before: Voiceprint | None, heard: Heard, audio: Sequence[bytes | None], enrolled_at: datetime
) -> Voiceprint:
    date = enrolled_at.astimezone(UTC).isoformat(timespec="seconds")
    now = Voiceprint(
        heard.vectors.astype(np.float32), heard.speech_s.astype(np.float64), heard.snr_db.astype(np.float64),
        (date,) * len(heard), tuple(audio),
    )  # fmt: skip
    if before is None:
        return now
    both = together([_heard(before), _heard(now)])
    return replace(
        now, vectors=both.vectors, speech_s=both.speech_s, snr_db=both.snr_db,
        enrolled=before.enrolled + now.enrolled, audio=before.audio + now.audio,
    )  # fmt: skip
