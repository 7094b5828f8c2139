"""Who may say what: recognition and verification as one calibrated decision.

It is a convenience and not a lock: a recording of the owner's voice, or a good imitation, passes.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from ..calibration.fusion import (
    QUADRANTS,
    Fusion,
    Mode,
    fitting,
    fusions_from,
    independent,
    one_of,
    word_calibration,
    word_features,
)
from ..contracts import Decision, InputError
from ..voices.heard import Heard
from ..voices.models import VoiceModel
from .commands import CommandRecognizer
from .enrolment import nearest_reference
from .policy import Policy, mode_from, policy_from
from .segments import RATE_HZ, Cutting, stretches
from .takes import Clips, each_of, take_wave

MIN_SPEECH_S = 0.15
"""Of less speech nobody is told by the voice. Half of all spoken digits have less than 0.4 s."""
SAME_CLIP = 0.9999
"""Cosine from which on a kept take and an enrolled clip of a voice are one recording."""

OwnTakes = Mapping[str, Mapping[str, Clips]]
"""Speaker -> word -> takes of the word by that speaker."""


@runtime_checkable
class Verifier(Protocol):
    """What a gate asks of a ``SpeakerVerifier``."""

    @property
    def voices_(self) -> dict[str, Heard]: ...

    @property
    def model_(self) -> VoiceModel: ...


@dataclass(frozen=True, slots=True)
class GateDecision:
    """What was said, who said it, and whether they may: ``llr`` reaches ``threshold``, and the policy permits it."""

    word: str | None
    """None where no enrolled word was heard."""
    speaker: str | None
    """The enrolled voice that is most likely, None where an unknown one is more likely or no voice was heard."""
    allowed: bool
    llr: float
    """Natural log-likelihood ratio of what is accepted to what is refused."""
    word_part: float
    """Log odds of the nearest word."""
    speaker_part: float | None
    """Log-likelihood ratio of those who may say it to others; None where the voice was not asked for."""
    threshold: float
    reason: str
    """A sentence for a refusal; empty where it is allowed."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A stretch of speech in a stream, and what came of it."""

    start_s: float
    end_s: float
    decision: GateDecision


class VoiceGate:
    """Commands that work for their owners.

    >>> gate = VoiceGate(house, verifier, {"default": "anyone", "words": {"open": ["anna"]}})   # doctest: +SKIP
    >>> gate.decide(["hall.wav"])[0].allowed                                                  # doctest: +SKIP
    False
    """

    def __init__(
        self,
        recognizer: CommandRecognizer,
        verifier: Verifier,
        policy: Policy | Mapping[str, Any] | str | Path,
        fusion: Fusion | Sequence[Fusion] | None = None,
        *,
        mode: Mode | None = None,
        own_takes: OwnTakes | None = None,
    ) -> None:
        """Everything that does not fit is refused now.

        Args:
            recognizer: enrolled words.
            verifier: enrolled voices.
            policy: who may say which word, or a file that says it.
            fusion: how word and voice are weighed; by default what comes with the model of voices.
            mode: instead of that of the policy.
            own_takes: takes of words by speakers, so that a voice is compared in the very word too. Without, those
                takes count that the recogniser keeps with their audio and that are enrolled as clips of a voice.

        Raises:
            InputError: a policy of unknown words or speakers, nothing enrolled, or a model of voices without
                calibration.
        """
        recognizer._require_fitted()
        self.recognizer, self.verifier = recognizer, verifier
        found = policy_from(policy)
        self.policy = found if mode is None else found.model_copy(update={"mode": mode_from(mode)})
        self.policy.require_known(recognizer.labels_, list(verifier.voices_))
        if verifier.voices_ and verifier.model_.ratios is None:
            raise InputError(
                f"{verifier.model_.name} has no calibration, so a voice cannot be weighed with a word; use a model of "
                "voices that has one."
            )
        about = verifier.model_.about.get("fusion")
        if fusion is None:
            self.fusions = (independent(),) if about is None else fusions_from(about, verifier.model_.name)
        else:
            self.fusions = (fusion,) if isinstance(fusion, Fusion) else tuple(fusion)
        learner, state = recognizer.model_.learner, recognizer.state_
        reference = nearest_reference(recognizer.model_.about, len(state["labels"]) / len(recognizer.labels_))
        self._fitted = word_calibration(learner, state, reference)
        self._in_word = self._kept_takes() if own_takes is None else self._given_takes(own_takes)

    # -------------------------------------------------------------------------------------------------------- deciding

    def decide(self, clips: Clips) -> list[GateDecision]:
        """A decision for each clip of one word.

        Raises:
            InputError: clips that cannot be read or hold nothing, all in one message.
        """
        decisions = self.recognizer.decide(clips)
        if not self.verifier.voices_:
            return [self._decided(decision, None) for decision in decisions]
        rate_hz = self.verifier.model_.encoder.rate_hz
        heard = self.verifier.model_.hear([wave for _, wave in each_of(clips, lambda one: take_wave(one, rate_hz))])
        return [self._decided(decision, heard.at([k])) for k, decision in enumerate(decisions)]

    def stream(self, blocks: Iterable[Float[np.ndarray, " _"]], cutting: Cutting | None = None) -> Iterator[Passage]:
        """Decisions on a recording without end, cut at its pauses; ``blocks`` are consecutive samples at 16 kHz.

        A stretch is decided as ``decide`` decides it alone. Where it cannot be used it is refused with the reason.
        """
        for one in stretches(blocks, cutting):
            try:
                decision = self.decide([(one.wave, RATE_HZ)])[0]
            except InputError as err:
                decision = GateDecision(None, None, False, -np.inf, -np.inf, None, self.policy.threshold_llr, str(err))
            yield Passage(one.start_s, one.end_s, decision)

    def _decided(self, said: Decision, test: Heard | None) -> GateDecision:
        """One clip: what its word asks for, and whether it is there."""
        labels = self.recognizer.labels_
        scores = np.asarray([[said.scores[label] for label in labels]])
        parts = word_features(scores, np.asarray([labels.index(said.best)]), self._fitted)
        rule = self.policy.rule(said.best)
        ratios = None if test is None else self._ratios(test)
        speaker = None if ratios is None else self._most_likely(ratios)
        by_voice = isinstance(rule, tuple) and self.policy.mode != "open"
        if not by_voice:
            llr = (said.score - said.threshold) / self._fitted.temperature
            reason = _unheard(said) if said.label is None else ""
            if not reason and rule == "nobody":
                reason = f"Nobody may say {said.best!r}."
            return GateDecision(said.label, speaker, not reason, llr, float(parts["word"][0]), None, 0.0, reason)
        assert test is not None
        assert ratios is not None
        voice = self._voice_part(ratios, rule)
        speech_s = float(test.speech_s[0])
        threshold = self.policy.threshold_llr
        values = {**parts, "voice": np.asarray([voice])} | self._voice_in_word(said.best, rule, ratios, test)
        fusion = fitting(self.fusions, values)
        llr = float(fusion.llr(values, self.policy.mode)[0])
        reason = ""
        if speech_s < MIN_SPEECH_S:
            reason = (
                f"There is {speech_s:.2g} s of speech, and {MIN_SPEECH_S:g} s are needed to tell who speaks; say it "
                "again, nearer to the microphone."
            )
        elif llr < threshold:
            worst = QUADRANTS[1 + int(fusion.likelihoods(values)[0, 1:].argmax())]
            reason = _refused(said, worst, rule, speaker, self.policy.mode)
        heard = said.best if not reason or said.label is not None else None
        return GateDecision(heard, speaker, not reason, llr, float(parts["word"][0]), voice, threshold, reason)

    # ---------------------------------------------------------------------------------------------------------- voices

    def _ratios(self, test: Heard) -> dict[str, float]:
        """Log-likelihood ratio of each enrolled voice."""
        voices = self.verifier.voices_
        found = self.verifier.model_.llr(list(voices.values()), test)[0]
        return dict(zip(voices, found.tolist(), strict=True))

    @staticmethod
    def _most_likely(ratios: Mapping[str, float]) -> str | None:
        """The likeliest voice, where it is likelier than a stranger's; each of n voices is n times less expected."""
        best = max(ratios, key=lambda name: ratios[name])
        return best if ratios[best] > np.log(len(ratios)) else None

    @staticmethod
    def _voice_part(ratios: Mapping[str, float], allowed: Sequence[str]) -> float:
        """One of the allowed voices over others; an enrolled voice that may not say it stands for the others where it
        is likelier than a stranger's."""
        own = one_of(np.asarray([ratios[name] for name in allowed]))
        rest = [ratio for name, ratio in ratios.items() if name not in allowed]
        return float(own - (max(0.0, float(one_of(np.asarray(rest)))) if rest else 0.0))

    def _voice_in_word(
        self, word: str, allowed: Sequence[str], ratios: Mapping[str, float], test: Heard
    ) -> dict[str, Float[np.ndarray, " 1"]]:
        """The likeliest of the allowed voices in its own takes of the word, where there are any."""
        name = max(allowed, key=lambda one: ratios[one])
        takes = self._in_word.get(name, {}).get(word)
        return {} if takes is None else {"voice_in_word": self.verifier.model_.llr([takes], test)[:, 0]}

    def _given_takes(self, own_takes: OwnTakes) -> dict[str, dict[str, Heard]]:
        """The voice of each speaker in each word.

        Raises:
            InputError: a speaker or a word that is not enrolled, or a take that cannot be read.
        """
        words = {word: "anyone" for takes in own_takes.values() for word in takes}
        policy = {"default": list(own_takes), "words": words} if own_takes else {"default": "anyone"}
        policy_from(policy).require_known(self.recognizer.labels_, list(self.verifier.voices_))
        model = self.verifier.model_

        def heard(clips: Clips) -> Heard:
            return model.hear([wave for _, wave in each_of(clips, lambda one: take_wave(one, model.encoder.rate_hz))])

        return {name: {word: heard(clips) for word, clips in takes.items()} for name, takes in own_takes.items()}

    def _kept_takes(self) -> dict[str, dict[str, Heard]]:
        """Takes of the recogniser that are clips of an enrolled voice too, told by their vectors."""
        rate_hz = self.recognizer.model_.config.front_end.rate_hz
        takes = [take for take in self.recognizer.takes_ if take.audio is not None]
        if not takes or not self.verifier.voices_ or not any("voice_in_word" in f.features for f in self.fusions):
            return {}
        model = self.verifier.model_
        clips = [(take.audio, rate_hz) for take in takes]
        heard = model.hear([take_wave(clip, model.encoder.rate_hz)[1] for clip in clips])  # type: ignore[arg-type]
        found: dict[str, dict[str, Heard]] = {}
        for name, voice in self.verifier.voices_.items():
            same = (heard.vectors @ voice.vectors.T).max(axis=1, initial=-1) > SAME_CLIP
            for word in self.recognizer.labels_:
                at = [k for k, take in enumerate(takes) if same[k] and take.word == word]
                if at:
                    found.setdefault(name, {})[word] = heard.at(at)
        return found


# -------------------------------------------------------------------------------------------------------------- reasons


def _unheard(said: Decision) -> str:
    return (
        f"No enrolled word was heard: the nearest, {said.best!r}, has a score of {said.score:.3g} and "
        f"{said.threshold:.3g} are needed."
    )


def _refused(said: Decision, quadrant: str, allowed: Sequence[str], speaker: str | None, mode: Mode) -> str:
    """What is most likely the matter."""
    if said.label is None:
        return _unheard(said)
    if quadrant == "own_other" or mode == "owner-biased":
        return f"It is not sure enough that {said.best!r} was said; say it again."
    owners = " or ".join(allowed) if len(allowed) < 4 else f"one of {len(allowed)} speakers"
    heard = f"the voice is more like {speaker}'s" if speaker and speaker not in allowed else "the voice is not theirs"
    return f"Only {owners} may say {said.best!r}, and {heard}."
