"""Averages of recognisers: of the probabilities of their frames, of their transcripts, or of their weights."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..averaging.diagnosis import Diagnosis, diagnose_answers
from ..averaging.hypotheses import Vote, rover
from ..averaging.predictions import identical_sentence
from ..averaging.weights import require_finite, require_same_shapes
from ..checkpoint.files import put_folder
from ..contracts import InputError, State
from ..data.corpora import require
from ..data.manifests import load_corpus
from ..data.sentences import Sentences
from ..learners.sequence import ENCODING
from ..losses import ctc_loss
from ..metrics import cer
from ..nets.recogniser import Recogniser
from ..transcription.adapting import heard, with_symbols
from ..transcription.averages import (
    AveragedRecognition,
    averaged,
    in_step,
    member_hash,
    require_alike,
    spelling_of_all,
)
from ..transcription.models import Recognition, adapted, load_recogniser, save_adapted, save_averaged, save_recogniser
from ..transcription.packing import packed, unpacked
from ..transcription.spelling import Ids
from ..transcription.support import sentences_of
from .forms import OF_WEIGHTS, Asked
from .weights import merged_weights

Report = Callable[..., None]
MAX_DEV = 200
"""Utterances of a development corpus that are heard, drawn by seed 0 where there are more."""
VOTES = tuple(Vote(agreement, nothing) for agreement in (1.0, 0.75, 0.5) for nothing in (0.3, 0.5, 0.7, 0.9))
"""Tried on development data; with votes alone (an agreement of 1) the confidence of nothing does not count."""
_AT_ONCE = 16


@dataclass(frozen=True)
class MergedRecognisers:
    """An average, and what is known of it and its members."""

    model: Recognition
    members: tuple[Recognition, ...]
    form: str
    weights: tuple[float, ...]
    errors: tuple[float, ...] | None
    """Character error rate of each member on the development data, where there are some."""
    error: float | None
    """Of the average."""
    diagnosis: Diagnosis | None
    """Whole transcripts are its items."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Judge:
    """Transcribed utterances on which members and averages of them are compared."""

    sentences: Sentences
    positions: np.ndarray

    def error(self, recognition: Recognition) -> float:
        """Character error rate."""
        return heard(recognition, self.sentences, self.positions, _AT_ONCE).cer


def judge(corpus: str, first: Recognition, report: Report | None = None) -> Judge:
    """Open a development corpus. Raises InputError for one that is not there or cannot be written in the alphabet."""
    utterances = load_corpus(require(corpus))
    chosen = np.sort(np.random.default_rng(0).permutation(len(utterances))[:MAX_DEV]).tolist()
    some = [utterances[i] for i in chosen]
    sentences = sentences_of(some, chosen, first.symbols, first.front_end, report)
    return Judge(sentences, np.arange(len(sentences)))


def merge_recognisers(sources: Sequence[str], asked: Asked, report: Report | None = None) -> MergedRecognisers:
    """Make one recogniser of several.

    Raises:
        InputError: recognisers that cannot be averaged in this form, and development data that cannot judge them.
    """
    members = [load_recogniser(source) for source in sources]
    require_alike(members)
    require_finite([values_of(member) for member in members], [member.name for member in members])
    by_weights = asked.form in OF_WEIGHTS
    base = None
    if by_weights:
        if asked.base is not None:
            base = with_symbols(load_recogniser(asked.base), members[0].symbols)
        _require_same_net([*members, *([] if base is None else [base])])
    dev = None if asked.dev is None else judge(asked.dev, members[0], report)
    errors, diagnosis, texts = None, None, None
    if dev is not None:
        texts = _spelled_by_each(members, dev, report)
        errors = tuple(float(cer(texts[0], said).rate) for said in texts[1:])
    notes: list[str] = []
    if by_weights:
        model, weights = _of_weights(members, base, asked, dev, notes, report)
    else:
        model = _of_predictions(members, asked, dev, report)
        weights = model.weights
    error = None
    if dev is not None and texts is not None:
        reached = heard(model, dev.sentences, dev.positions, _AT_ONCE)
        error, diagnosis = reached.cer, diagnose_answers(texts[1:], texts[0], list(reached.heard))
    elif len({member_hash(member) for member in members}) == 1:
        notes.append(f"Warning: {identical_sentence(len(members))}.")
    return MergedRecognisers(model, tuple(members), asked.form, weights, errors, error, diagnosis, tuple(notes))


def _spelled_by_each(members: Sequence[Recognition], dev: Judge, report: Report | None) -> list[list[str]]:
    """What was said, and what each member heard."""
    found: list[list[str]] = []
    for k, member in enumerate(members):
        reached = heard(member, dev.sentences, dev.positions, _AT_ONCE)
        if not found:
            found.append(list(reached.said))
        found.append(list(reached.heard))
        if report is not None:
            report("judging members", k + 1, len(members))
    return found


# -------------------------------------------------------------------------------------------------------- predictions


def _of_predictions(
    members: list[Recognition], asked: Asked, dev: Judge | None, report: Report | None
) -> AveragedRecognition:
    form = asked.form
    if form == "rover":
        vote = None if dev is None else best_vote(members, dev, report)
        return averaged(members, "rover", None, vote)
    assert form in ("mean", "log-mean")
    weights = None if dev is None else learned_frame_weights(members, dev, form)
    return averaged(members, "mean" if form == "mean" else "log-mean", weights)


def best_vote(members: Sequence[Recognition], dev: Judge, report: Report | None = None) -> Vote:
    """How places are best decided, of ``VOTES``, by the character errors on development data."""
    whole = averaged(members, "rover")
    said: list[list[Ids]] = []
    sure: list[list[tuple[float, ...]]] = []
    for first in range(0, len(dev.positions), _AT_ONCE):
        rows = dev.positions[first : first + _AT_ONCE]
        texts, sures = whole.heard_by_each(*dev.sentences.features(rows, whole.front_end))
        said, sure = said + texts, sure + sures
        if report is not None:
            report("hearing", min(first + _AT_ONCE, len(dev.positions)), len(dev.positions))
    symbols = whole.symbols
    right = [symbols.decode(dev.sentences.targets[i]) for i in dev.positions]

    def error(vote: Vote) -> float:
        voted = [symbols.decode(rover(t, s, vote)[0]).strip() for t, s in zip(said, sure, strict=True)]
        return float(cer(right, voted).rate)

    return min(VOTES, key=error)


def learned_frame_weights(
    members: Sequence[Recognition], dev: Judge, form: str, steps: int = 60, lr: float = 0.1
) -> list[float]:
    """Weights of the members' frames whose average makes the development texts most probable, by CTC and Adam."""
    parts: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    for first in range(0, len(dev.positions), _AT_ONCE):
        batch = dev.sentences.batch(dev.positions[first : first + _AT_ONCE], members[0].front_end)
        frames, ends = in_step([member.frames(batch.inputs, batch.lengths) for member in members])
        parts.append((torch.stack(frames), ends, batch.targets, batch.target_lengths))
    n_symbols = max(1, int(sum(part[3].sum() for part in parts)))
    logits = torch.zeros(len(members), requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr)
    for _ in range(steps):
        optimizer.zero_grad()
        for scores, lengths, targets, target_lengths in parts:
            shares = logits.softmax(0).view(-1, 1, 1, 1)
            means = {"mean": (scores + shares.log()).logsumexp(0), "log-mean": (shares * scores).sum(0).log_softmax(-1)}
            loss = ctc_loss(
                means[form].transpose(0, 1), targets, lengths, target_lengths, reduction="sum", zero_infinity=True
            )
            (loss / n_symbols).backward()
        optimizer.step()
    found: list[float] = logits.detach().softmax(0).tolist()
    return found


# ------------------------------------------------------------------------------------------------------------ weights


def values_of(recognition: Recognition) -> State:
    """All values of a recogniser, the encoding of its support among them where it hears one."""
    state = {name: value.detach() for name, value in recognition.net.state_dict().items()}
    return state if recognition.encoding is None else {**state, ENCODING: recognition.encoding}


def _require_same_net(members: Sequence[Recognition]) -> None:
    first = members[0]
    ours = first.net.config.model_dump()
    for other in members[1:]:
        theirs = other.net.config.model_dump()
        odd = [key for key in ours if ours[key] != theirs[key]]
        if odd:
            raise InputError(
                f"{other.name} has another architecture than {first.name}: recogniser.{odd[0]} is {theirs[odd[0]]} and "
                f"{ours[odd[0]]}; average their predictions (--form mean) instead of their weights."
            )
    require_same_shapes([values_of(member) for member in members], [member.name for member in members])


def _of_weights(
    members: list[Recognition],
    base: Recognition | None,
    asked: Asked,
    dev: Judge | None,
    notes: list[str],
    report: Report | None,
) -> tuple[Recognition, tuple[float, ...]]:
    def score(state: State) -> float:
        assert dev is not None
        return -dev.error(with_values(members, state))

    states = [values_of(member) for member in members]
    origin = None if base is None else values_of(base)
    state, weights, said = merged_weights(states, origin, asked, score if dev is not None else None, report)
    notes += said
    return with_values(members, state), weights


def with_values(members: Sequence[Recognition], state: State) -> Recognition:
    """A recogniser with averaged values; adapted from the same base where all members are.

    It spells as its members do, with the texts of all of them.
    """
    first = members[0]
    bases = {member.base.hash for member in members if member.base is not None}
    spelling = spelling_of_all(members)
    if len(bases) == 1 and all(member.base is not None for member in members):
        assert first.base is not None
        report = {"averaged": [member.name for member in members]}
        made = adapted(first.base, state, first.symbols, None, report, spelling)
        old = first.base.net.state_dict()
        stored = unpacked(packed(made.net.state_dict(), old), old, first.symbols.size, Path("part"))
        encoding = made.encoding  # what is judged is what is written: packed, and its encoding as it is
        return replace(adapted(first.base, stored, first.symbols, encoding, report, spelling), name="average")
    own = dict(state)
    encoding = own.pop(ENCODING, None)
    net = Recogniser(first.net.config).eval()
    net.load_state_dict(own)
    about = {**first.about, "averaged": [member.name for member in members]}
    return replace(first, net=net, name="average", about=about, encoding=encoding, base=None, folder=None)


# --------------------------------------------------------------------------------------------------------------- disk


def save_merged(folder: Path, merged: MergedRecognisers) -> None:
    """Write the average: a recogniser as any other where weights were averaged, else an average with its members.

    Raises:
        InputError: ``folder`` is something else; averaged weights of adaptations of several bases, which could not be
            read back.
    """
    model = merged.model
    if isinstance(model, AveragedRecognition):
        save_averaged(folder, model)
    elif model.base is not None:
        save_adapted(folder, model)
    else:
        if any(member.base is not None for member in merged.members):
            raise InputError(
                "Not all models were adapted from one base, so that their average belongs to none; average models of "
                "one base, or their predictions (--form log-mean)."
            )

        def write(beside: Path) -> None:
            save_recogniser(beside, model)

        put_folder(folder, "config.json", write, "recogniser")
