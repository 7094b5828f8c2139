"""Several recognisers that spell as one: their frames' probabilities averaged, or their transcripts voted on.

Members may have other networks and other bases, as long as all write the same alphabet, hear the same features and
give a frame as often: votes too take their times from the mean of the frames.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..averaging.hypotheses import Vote, rover
from ..averaging.members import averaged_scores
from ..averaging.predictions import Form, as_weights
from ..contracts import InputError
from ..features import prepare
from ..text.align import ctc_align
from ..text.decode import prefix_beam
from ..text.symbols import min_frames
from .recognition import Recognition
from .spelling import Ids, Spelling

Way = Literal["mean", "log-mean", "rover"]
WAYS: tuple[str, ...] = get_args(Way)
BEAM = 8
"""Texts that the search through averaged frames keeps."""


@dataclass(frozen=True)
class AveragedRecognition(Recognition):
    """A recogniser made of members; it costs in use what all of them cost."""

    members: tuple[Recognition, ...] = ()
    form: Way = "log-mean"
    weights: tuple[float, ...] = ()
    vote: Vote = field(default_factory=Vote)

    @torch.no_grad()
    def _heard(
        self, inputs: Float[Tensor, "B T F"], lengths: Int[Tensor, " B"], tempo: float
    ) -> tuple[Float[Tensor, "B T2 V"], Int[Tensor, " B"]]:
        """The mean of the members' probabilities of each frame; of a vote, what times and confidences come from."""
        scores, ends = in_step([member._heard(inputs, lengths, tempo) for member in self.members])
        form: Form = "mean" if self.form == "mean" else "log-mean"
        return averaged_scores(scores, form, self.weights), ends

    def spell(self, inputs: Float[Tensor, "B T F"], lengths: Int[Tensor, " B"]) -> list[Ids]:
        """Symbols of each utterance of a batch.

        Members that were trained with CTC say a symbol in a frame or two, each in its own, so that the best path
        through their mean leaves out what all of them heard; a search that adds up the paths of a text does not.
        """
        if self.form != "rover":
            if self.spelling is not None:
                return super().spell(inputs, lengths)
            scores, ends = self.frames(inputs, lengths)
            return [self._searched(scores[row, : int(end)]) for row, end in enumerate(ends)]
        said, sure = self.heard_by_each(inputs, lengths)
        return [self.voted(texts, sures) for texts, sures in zip(said, sure, strict=True)]

    def _searched(self, scores: Float[Tensor, "T V"]) -> Ids:
        found = prefix_beam(scores, BEAM, n_best=1)
        return found[0].ids if found else ()

    def heard_by_each(
        self, inputs: Float[Tensor, "B T F"], lengths: Int[Tensor, " B"]
    ) -> tuple[list[list[Ids]], list[list[tuple[float, ...]]]]:
        """For each utterance what every member spells, and how sure it is of each symbol, 0 to 1."""
        said: list[list[Ids]] = [[] for _ in range(len(lengths))]
        sure: list[list[tuple[float, ...]]] = [[] for _ in range(len(lengths))]
        for member in self.members:
            scores, ends = member.frames(inputs, lengths)
            for row, ids in enumerate(member.spell(inputs, lengths)):
                said[row].append(ids)
                sure[row].append(_sure_of(scores[row, : int(ends[row])].double().numpy(), ids))
        return said, sure

    def voted(self, texts: Sequence[Ids], sure: Sequence[Sequence[float]]) -> Ids:
        """What the members' texts of one utterance come to."""
        return tuple(rover(texts, sure, self.vote, self.weights)[0])

    def spell_wave(self, wave: Float[np.ndarray, " S"]) -> Ids:
        """What is spelled of one segment of 16 kHz sound."""
        return self.spell(*prepare(wave, self.front_end))[0]


def in_step(
    found: Sequence[tuple[Float[Tensor, "B _ V"], Int[Tensor, " B"]]],
) -> tuple[list[Float[Tensor, "B T V"]], Int[Tensor, " B"]]:
    """The frames that all members have: one whose body looks less often ends up to two frames of padding later."""
    ends = torch.stack([end for _, end in found]).amin(0)
    n = min(scores.shape[1] for scores, _ in found)
    return [scores[:, :n] for scores, _ in found], ends


def _sure_of(log_probs: np.ndarray, ids: Ids) -> tuple[float, ...]:
    """The probability of each symbol at its best frame; 0.5 where the frames are too few to say."""
    if min_frames(ids) > len(log_probs):
        return (0.5,) * len(ids)
    return tuple(
        float(np.exp(log_probs[span.start_frame : span.end_frame, span.symbol].max()))
        for span in ctc_align(log_probs, ids)
    )


def averaged(
    members: Sequence[Recognition],
    form: Way,
    weights: Sequence[float] | None = None,
    vote: Vote | None = None,
    name: str = "average",
) -> AveragedRecognition:
    """Members behind one face.

    Raises:
        InputError: no member, an average among them, an unknown form; other alphabets, features or frame rates.
    """
    if form not in WAYS:
        raise InputError(f"{form!r} is no average of what recognisers say; choose from {', '.join(WAYS)}.")
    require_alike(members)
    own = tuple(as_weights(weights, len(members)).tolist())
    first = members[0]
    document = {"form": form, "weights": own, "members": [member_hash(m) for m in members]}
    return AveragedRecognition(
        net=first.net,
        symbols=first.symbols,
        name=name,
        hash=hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest(),
        about=_about(members),
        phones=first.phones,
        spelling=None if form == "rover" else spelling_of_all(members),
        members=tuple(members),
        form=form,
        weights=own,
        vote=vote or Vote(),
    )


def require_single(recognition: Recognition, what: str) -> None:
    """Raise InputError for an average of predictions where ``what`` is done to the weights of one network."""
    if isinstance(recognition, AveragedRecognition):
        raise InputError(
            f"{recognition.name} is an average of what {len(recognition.members)} models say and has no weights of its "
            f"own to {what}; {what} one of its members, or average weights (metavox average --form soup)."
        )


def member_hash(member: Recognition) -> str:
    """SHA-256 of all that a recogniser is, what it hears of its support and how it spells too: adapted ones share the
    hash of their base."""
    digest = hashlib.sha256(member.hash.encode())
    digest.update(f"{member.symbols} {member.spelling}".encode())
    encoding = {} if member.encoding is None else {"encoding": member.encoding}
    for name, value in sorted((dict(member.net.state_dict()) | encoding).items()):
        digest.update(f"{name} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def require_alike(members: Sequence[Recognition]) -> None:
    """Raise InputError for no member, for averages, for other alphabets, and for other features or frame rates."""
    if not members:
        raise InputError("No model was given to average; give two or more.")
    for member in members:
        if isinstance(member, AveragedRecognition):
            raise InputError(f"{member.name} is an average already; average its members instead.")
    first = members[0]
    for other in members[1:]:
        if other.symbols != first.symbols:
            odd = sorted(set(other.symbols.characters) ^ set(first.symbols.characters))
            what = f"{odd[0]!r} is in one of them only" if odd else "the order or the language differs"
            raise InputError(
                f"{other.name} writes another alphabet than {first.name}: {what}; adapt both to the same texts with "
                "the same --alphabet."
            )
        if other.front_end != first.front_end:
            raise InputError(
                f"{other.name} hears other features than {first.name} ({_features(other)} and {_features(first)}); "
                "train both with the same recogniser.front_end."
            )
        if abs(other.frame_s - first.frame_s) > 1e-9:
            raise InputError(
                f"{other.name} looks every {1000 * other.frame_s:g} ms and {first.name} every "
                f"{1000 * first.frame_s:g} ms, so their frames have no mean; train both at the same rate."
            )


def _features(member: Recognition) -> str:
    own = member.front_end
    return f"{own.n_mels} bins every {own.hop_ms:g} ms at {own.rate_hz} Hz"


def spelling_of_all(members: Sequence[Recognition]) -> Spelling | None:
    """How an average spells: as the first member that searches, with the texts of all."""
    searching = [member.spelling for member in members if member.spelling is not None]
    if not searching:
        return None
    texts = dict.fromkeys(text for spelling in searching for text in spelling.texts)
    return replace(searching[0], texts=tuple(texts))


def _about(members: Sequence[Recognition]) -> Mapping[str, Any]:
    """What all members learned from together."""
    keys = ("corpora", "languages", "left_out")
    return {key: sorted({value for m in members for value in m.about.get(key, ())}) for key in keys}
