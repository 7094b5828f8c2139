"""A known voice helps: clips are recognised as the person sounds whose voice it most likely is.

Everybody of a house has takes of their own, or a recogniser of their own. Whose clip it is nobody needs to say: the
voices that are enrolled tell, each with a probability, and somebody unknown has the rest. Of commands the answers are
weighed with it,

    P(word) = sum_k P(k | clip) P_k(word) + P(unknown | clip) P_all(word),

where k's answer rests on k's own takes for a share that grows with their number (``own_share``), and on those of all
for the rest: few takes of one's own know less than many of others. Of sentences every stretch of speech goes to the
recogniser that was adapted to the likeliest voice, or to the general one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from ..audio import from_array
from ..contracts import InputError
from ..data.layouts import shown
from ..voices.gallery import posteriors
from .commands import CommandRecognizer
from .gate import MIN_SPEECH_S, Verifier
from .segments import RATE_HZ, Stretch
from .takes import Clip, Clips, each_of, take_wave
from .transcriber import Transcriber
from .transcripts import Segment, Transcript

PRIOR_TAKES = 1.0
"""So many own takes of a word does a member need for the own answer to count as much as that of all takes. Chosen on
two word sets, each of which was then measured with what the other one chose (benchmarks/known_voice.py)."""
P_KNOWN = 0.5


@dataclass(frozen=True, slots=True)
class KnownDecision:
    """What was said, and by whom."""

    word: str | None
    """None where "none of the words" is most probable."""
    probability: float
    """Of this answer."""
    speaker: str | None
    """The likeliest voice; None where an unknown one is likelier."""
    probabilities: Mapping[str, float] = field(default_factory=dict)
    """Of the words; the rest to 1 is that none of them was said."""
    speakers: Mapping[str, float] = field(default_factory=dict)
    """Of the enrolled voices; the rest to 1 is somebody unknown."""
    unaided: str | None = None
    """What is heard where no voice is known."""


@dataclass(frozen=True, slots=True)
class KnownTranscript:
    """What was said in a recording, and whose recogniser heard each segment."""

    transcript: Transcript
    speakers: tuple[str | None, ...]
    """Of each segment; None for the general recogniser."""


class KnownVoices:
    """Recognition that knows its speakers.

    >>> house = KnownVoices(family, commands={"anna": annas, "ben": bens})   # doctest: +SKIP
    >>> house.decide(["kitchen.wav"])[0].word                                # doctest: +SKIP
    'lights on'
    """

    def __init__(
        self,
        verifier: Verifier,
        *,
        commands: Mapping[str, CommandRecognizer] | None = None,
        everybody: CommandRecognizer | None = None,
        transcribers: Mapping[str, Transcriber | str | Path] | None = None,
        transcriber: Transcriber | str | Path | None = None,
        p_known: float = P_KNOWN,
        prior_takes: float = PRIOR_TAKES,
    ) -> None:
        """Everything that does not fit is refused now.

        Args:
            verifier: enrolled voices.
            commands: by name, a recogniser with the takes of that person alone; others speak as everybody.
            everybody: answers for voices that are not known; by default all takes of ``commands`` together.
            transcribers: by name, a transcriber that was adapted to that person, or the folder of one.
            transcriber: hears everybody else; by default ``metavox/asr-small``.
            p_known: how likely the speaker is enrolled, before anything is heard.
            prior_takes: so many own takes of a word let the own answer count as much as that of all takes.

        Raises:
            InputError: nobody enrolled, a name that is not, a model of voices without calibration, nothing to
                recognise with, recognisers of different models, an impossible number.
        """
        _require_voices(verifier)
        if not prior_takes >= 0:
            raise InputError(f"The prior counts as {prior_takes:g} takes; give 0 or more, such as {PRIOR_TAKES:g}.")
        if not 0 < p_known < 1:
            raise InputError(f"The prior p_known is {p_known:g}; give a probability between 0 and 1, such as 0.5.")
        self.verifier, self.p_known, self.prior_takes = verifier, p_known, prior_takes
        self.commands = dict(commands or {})
        self.everybody = everybody
        opened = {name: _transcriber(one) for name, one in (transcribers or {}).items()}
        if not self.commands and everybody is None and not opened:
            raise InputError("Nothing is there to recognise with; give commands or transcribers by name.")
        for name in (*self.commands, *opened):
            if name not in verifier.voices_:
                known = ", ".join(verifier.voices_)
                raise InputError(f"{shown(name)} has no enrolled voice, enrolled are {known}; enrol it first.")
        if self.commands and everybody is None:
            self.everybody = together(self.commands)
        for recognizer in self._recognizers():
            recognizer._require_fitted()
        self.transcribers = opened
        self.transcriber = _transcriber(transcriber or "metavox/asr-small") if opened else None

    # ------------------------------------------------------------------------------------------------------------ who

    def speakers(self, clips: Clips) -> list[dict[str, float]]:
        """The probability of each enrolled voice for each clip of one person; the rest to 1 is somebody unknown.

        Of less than 0.15 s of speech nobody is told by the voice, and everybody has 0.

        Raises:
            InputError: clips that cannot be read, all in one message.
        """
        rate_hz = self.verifier.model_.encoder.rate_hz
        return self._speakers([wave for _, wave in each_of(clips, lambda one: take_wave(one, rate_hz))])

    def _speakers(self, waves: Sequence[Float[np.ndarray, " _S"]]) -> list[dict[str, float]]:
        voices, model = self.verifier.voices_, self.verifier.model_
        tests = model.hear(waves)
        chances, _ = posteriors(model.llr(list(voices.values()), tests), self.p_known)
        chances = chances * (tests.speech_s >= MIN_SPEECH_S)[:, None]
        return [dict(zip(voices, row.tolist(), strict=True)) for row in chances]

    # ------------------------------------------------------------------------------------------------------- commands

    def decide(self, clips: Clips) -> list[KnownDecision]:
        """The most probable word of each clip, or none, and whose voice it is.

        Raises:
            InputError: clips that cannot be read or hold nothing, all in one message; nothing is known of how sure
                scores are (``CommandRecognizer.predict_proba``).
        """
        if self.everybody is None:
            raise InputError("No commands were given; give recognisers by name, as commands.")
        labels = tuple(dict.fromkeys(label for one in self._recognizers() for label in one.labels_))
        of_all = _chances(self.everybody, clips, labels)
        of_own = {name: _chances(one, clips, labels) for name, one in self.commands.items()}
        shares = np.array(
            [own_share(len(one.takes_) / len(one.labels_), self.prior_takes) for one in self.commands.values()]
        )
        found = []
        for place, speakers in enumerate(self.speakers(clips)):
            weights = np.array([speakers[name] for name in of_own])
            own = np.array([row[place] for row in of_own.values()]).reshape(len(of_own), len(labels) + 1)
            chances = weighed(of_all[place], own, weights, shares)
            found.append(_decided(labels, chances, of_all[place], speakers))
        return found

    def predict(self, clips: Clips) -> list[str | None]:
        """The word of each clip, or None where nothing enrolled is near enough."""
        return [decision.word for decision in self.decide(clips)]

    def _recognizers(self) -> list[CommandRecognizer]:
        return [one for one in (self.everybody, *self.commands.values()) if one is not None]

    # ------------------------------------------------------------------------------------------------------ sentences

    def transcribe(self, clip: Clip) -> KnownTranscript:
        """What is said in a recording, each stretch of speech by the recogniser of the voice that it most likely is.

        Raises:
            InputError: a recording that cannot be read.
        """
        if self.transcriber is None:
            raise InputError("No transcribers were given; give adapted ones by name, as transcribers.")
        chosen = _ByVoice(self.transcriber, self)
        return KnownTranscript(chosen.transcribe(clip), tuple(chosen.names))


class _ByVoice(Transcriber):
    """A transcriber that hands each stretch to another one."""

    def __init__(self, general: Transcriber, house: KnownVoices) -> None:
        self.__dict__.update(general.__dict__)
        self._general, self._house = general, house
        self.names: list[str | None] = []

    def _segment(self, stretch: Stretch) -> Segment | None:
        house = self._house
        rate_hz = house.verifier.model_.encoder.rate_hz
        (speakers,) = house._speakers([from_array(stretch.wave, RATE_HZ, rate_hz)])
        name = likeliest(speakers)
        if name not in house.transcribers:
            name = None
        segment = (self._general if name is None else house.transcribers[name])._segment(stretch)
        if segment is not None:
            self.names.append(name)
        return segment


# ------------------------------------------------------------------------------------------------------------- weighing


def own_share(n_takes: float, prior_takes: float = PRIOR_TAKES) -> float:
    """Of a member's answer, what rests on the member's own takes, ``n_takes`` of a word."""
    return n_takes / (n_takes + prior_takes)


def weighed(
    of_all: Float[np.ndarray, " C"],
    own: Float[np.ndarray, "V C"],
    weights: Float[np.ndarray, " V"],
    shares: Float[np.ndarray, " V"] | float,
) -> Float[np.ndarray, " C"]:
    """Chances of the answers: those of all takes, and each member's own for a share, as likely as the member speaks."""
    counts = weights * shares
    return counts @ own + (1 - counts.sum()) * of_all


def likeliest(speakers: Mapping[str, float]) -> str | None:
    """The name with the highest probability; None where somebody unknown has a higher one."""
    best = max(speakers, key=lambda name: speakers[name])
    return best if speakers[best] > 1 - sum(speakers.values()) else None


def together(commands: Mapping[str, CommandRecognizer]) -> CommandRecognizer:
    """One recogniser with the takes of several, and with the parameters of the first.

    Raises:
        InputError: nothing is enrolled in one, or their models differ.
    """
    first, *rest = commands.values()
    for one in (first, *rest):
        one._require_fitted()
    if any(one.model_.hash != first.model_.hash for one in rest):
        raise InputError("The recognisers have different models, so their takes cannot be put together; use one model.")
    found = CommandRecognizer(**{**first.get_params(), "model": first.model_})
    found._open()
    labels = tuple(dict.fromkeys(label for one in commands.values() for label in one.labels_))
    takes = tuple(take for one in commands.values() for take in one.takes_)
    found._learn(first.model_, takes, labels, "together", first.place_)
    return found


def _chances(recognizer: CommandRecognizer, clips: Clips, labels: Sequence[str]) -> Float[np.ndarray, "B C"]:
    """Of each clip for ``labels``, 0 for those that are not enrolled, and last for none of them."""
    found = recognizer.predict_proba(clips, refusal=True)
    own = [str(word) for word in recognizer.classes_]
    chances = np.zeros((len(found), len(labels) + 1))
    chances[:, [labels.index(word) for word in own]] = found[:, :-1]
    chances[:, -1] = found[:, -1]
    return chances


def _decided(
    labels: Sequence[str],
    chances: Float[np.ndarray, " C"],
    of_all: Float[np.ndarray, " C"],
    speakers: Mapping[str, float],
) -> KnownDecision:
    answers = (*labels, None)
    return KnownDecision(
        answers[int(chances.argmax())],
        float(chances.max()),
        likeliest(speakers),
        dict(zip(labels, chances[:-1].tolist(), strict=True)),
        speakers,
        answers[int(of_all.argmax())],
    )


# --------------------------------------------------------------------------------------------------------------- checks


def _require_voices(verifier: Any) -> None:
    if not verifier.voices_:
        raise InputError("Nobody is enrolled yet; enrol a voice first.")
    if verifier.model_.ratios is None:
        raise InputError(
            f"{verifier.model_.name} has no calibration, so no voice has a probability; use a model of voices "
            "that has one."
        )


def _transcriber(given: Transcriber | str | Path) -> Transcriber:
    return given if isinstance(given, Transcriber) else Transcriber.from_pretrained(given)
