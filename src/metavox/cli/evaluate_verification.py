"""``metavox evaluate --protocol verification``: whether clips are by the voice that was enrolled."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .evaluate_options import Request, TextName

if TYPE_CHECKING:
    from ..contracts import Utterance
    from ..evaluation.det import Curve
    from ..evaluation.trials import Block, People
    from ..evaluation.verification import Clips, Length, VerificationProtocol
    from ..evaluation.verification_summary import Compared
    from ..voices.models import VoiceModel


@dataclass(frozen=True)
class _Set:
    """One corpus with its trials, before any audio is opened."""

    name: str
    utterances: "list[Utterance]"
    people: "People"
    blocks: "dict[int, list[Block]]"
    """By the number of clips that enrol a voice."""


def evaluate_verification(
    request: Request,
    *,
    enroll: Sequence[int] | None = None,
    seconds: Sequence[str] = ("full",),
    text: TextName | None = None,
    draws: int | None = None,
    trials: Path | None = None,
    only_speakers: str | None = None,
    baseline: bool = False,
    baseline_corpus: Sequence[str] = (),
    det: Path | None = None,
) -> None:
    """Hold clips against enrolled voices, and print how often the answer is wrong.

    Raises:
        InputError: whatever can be refused, before anything is computed.
    """
    import torch

    from ..evaluation.det import draw_det, require_drawable
    from ..evaluation.verification import VerificationProtocol
    from ..evaluation.verification_summary import over_sets
    from ..voices.encoders import load_voices
    from .evaluate_words import Rows, deliver
    from .output import require_writable
    from .progress import bars

    _require_fitting(request, enroll, text, draws, trials, baseline, baseline_corpus)
    lengths = tuple(_length(one) for one in seconds)
    asked = VerificationProtocol(
        (1,) if trials is not None else tuple(enroll or (3,)), lengths, (text or TextName.any).value,
        1 if trials is not None else draws or 5, request.seed,
    )  # fmt: skip
    for path in (request.out, det):
        if path is not None:
            require_writable(path)
    if det is not None:
        require_drawable(det)
    torch.set_num_threads(1)
    sets = _sets(request.corpus, asked, trials, only_speakers)
    model = load_voices(request.model)
    summaries: Rows = []
    rows: Rows = []
    curves: list[Curve] = []
    with bars() as report:
        other = _baseline(baseline_corpus, sets, model, request.seed, report) if baseline else None
        for one in sets:
            conditions = _scored(one, model, other, asked, rows if request.out is not None else None, report)
            summaries.append(_summary(one, conditions, asked, model, other, trials))
            curves += _curves(one, conditions, len(sets) > 1) if det is not None else []
    if det is not None:
        draw_det(det, curves, f"{model.name}, {' and '.join(one.name for one in sets)}")
    deliver(request, rows, summaries, over_sets, _show)


# -------------------------------------------------------------------------------------------------------- what is asked


def _require_fitting(
    request: Request,
    enroll: Sequence[int] | None,
    text: TextName | None,
    draws: int | None,
    trials: Path | None,
    baseline: bool,
    baseline_corpus: Sequence[str],
) -> None:
    from ..errors import InputError

    if request.learner is not None:
        raise InputError("--learner adapts to words, and --protocol verification learns nothing; leave it out.")
    if trials is not None:
        for name, value in (("--enroll", enroll), ("--text", text), ("--draws", draws)):
            if value is not None:
                raise InputError(f"{name} draws trials, and --trials names each of them; leave one of the two out.")
        if len(request.corpus) > 1:
            raise InputError(
                f"--trials names clips of one corpus and --corpus is given {len(request.corpus)} times; give one."
            )
    if baseline and not baseline_corpus:
        raise InputError("--baseline learns from recordings of other people; name them with --baseline-corpus.")
    if baseline_corpus and not baseline:
        raise InputError("--baseline-corpus is what --baseline learns from; give both, or neither.")


def _length(text: str) -> "Length":
    """Seconds, or None for ``full``."""
    from ..errors import InputError

    if text == "full":
        return None
    try:
        return float(text)
    except ValueError:
        raise InputError(f"--seconds is {text!r}, which is no number; give seconds of speech, or full.") from None


def _sets(
    corpus: Sequence[str], asked: "VerificationProtocol", trials: Path | None, only_speakers: str | None
) -> list[_Set]:
    """Each corpus with its trials."""
    from ..data.class_lists import read_names
    from ..data.corpora import require, require_once
    from ..data.manifests import load_corpus
    from ..errors import InputError
    from ..evaluation.trials import drawn_blocks, listed_blocks, people_of
    from .evaluate_words import names

    paths = [require(name) for name in corpus]
    require_once(paths)
    kept = None if only_speakers is None else set(read_names(only_speakers, "--only-speakers"))
    loaded = [load_corpus(path) for path in paths]
    if kept is not None:
        known = {one.speaker for utterances in loaded for one in utterances}
        unknown = sorted(kept - known)
        if unknown:
            raise InputError(
                f"--only-speakers names {unknown[0]!r}, who speaks in none of the corpora; correct the list."
            )
        loaded = [[one for one in utterances if one.speaker in kept] for utterances in loaded]
    found = []
    for path, name, utterances in zip(paths, names(paths), loaded, strict=True):
        if not utterances:
            raise InputError(f"--only-speakers leaves nobody of the corpus {name}; leave one of the two out.")
        people = people_of(utterances)
        if trials is not None:
            blocks = {1: listed_blocks(trials, people, utterances, path if path.is_dir() else path.parent)}
        else:
            blocks = {k: drawn_blocks(people, utterances, k, asked.draws, asked.seed, asked.text) for k in asked.enroll}
        found.append(_Set(name, utterances, people, blocks))
    return found


def _baseline(
    corpora: Sequence[str], sets: Sequence[_Set], model: "VoiceModel", seed: int, report: Any
) -> "VoiceModel":
    """Cepstra and PLDA, learned from everybody in ``corpora`` who is in no test."""
    from ..audio import read
    from ..data.corpora import require, require_once
    from ..data.manifests import load_corpus
    from ..voices.plda import require_enough, train_plda

    paths = [require(name) for name in corpora]
    require_once(paths)
    tested = {(one.corpus, one.speaker) for some in sets for one in some.utterances}
    tested_files = {one.path.resolve() for some in sets for one in some.utterances}
    chosen = [
        one
        for path in paths
        for one in load_corpus(path)
        if one.speaker and (one.corpus, one.speaker) not in tested and one.path.resolve() not in tested_files
    ]
    speakers = [f"{one.corpus}:{one.speaker}" for one in chosen]
    require_enough(speakers)
    waves = []
    for number, one in enumerate(chosen):
        waves.append(read(one.path, model.encoder.rate_hz))
        report("baseline", number + 1, len(chosen))
    return train_plda(waves, speakers, seed=seed, rate_hz=model.encoder.rate_hz)


# -------------------------------------------------------------------------------------------------------------- scoring


def _scored(
    one: _Set,
    model: "VoiceModel",
    baseline: "VoiceModel | None",
    asked: "VerificationProtocol",
    rows: list[dict[str, Any]] | None,
    report: Any,
) -> "list[Compared]":
    """Every condition, and its rows where they are wanted."""
    from rich.markup import escape

    from ..data.layouts import printable
    from ..evaluation.verification import hear_clips, rows_of, score
    from ..evaluation.verification_summary import Compared

    def hear(what: str, some: "VoiceModel") -> "Clips":
        shown = f"{what} {escape(printable(one.name))}"
        return hear_clips(some, one.utterances, asked.seconds, asked.seed, partial(report, shown))

    heard = hear("voices", model)
    by_baseline = None if baseline is None else (baseline, hear("baseline", baseline))
    found = []
    for enroll, blocks in one.blocks.items():
        for seconds in asked.seconds:
            own = score(model, heard, one.people, blocks, seconds, enroll)
            other = None if by_baseline is None else score(*by_baseline, one.people, blocks, seconds, enroll)
            found.append(Compared(own, other))
            if rows is not None:
                rows += rows_of(own, other, heard, one.people, one.utterances, one.name)
    return found


def _summary(
    one: _Set,
    conditions: "Sequence[Compared]",
    asked: "VerificationProtocol",
    model: "VoiceModel",
    baseline: "VoiceModel | None",
    trials: Path | None,
) -> dict[str, Any]:
    from importlib.metadata import version

    from ..evaluation.verification import seen_in_training
    from ..evaluation.verification_summary import summary

    seen = seen_in_training(model.about, one.utterances)
    about: dict[str, Any] = {
        "model": model.name, "model_hash": model.hash[:16], "corpus": one.name, "version": version("metavox"),
        "calibrated": model.ratios is not None,
    }  # fmt: skip
    if trials is not None:
        about["trials"] = trials.name
    if baseline is not None:
        about |= {"baseline": baseline.name, "baseline_speakers": len(baseline.about["speakers"])}
    if seen:
        about |= {"seen_in_training": True, "n_seen_speakers": seen}
        about["note"] = (
            f"the model learned from {seen} of these {len(one.people.names)} speakers, so that the figures say "
            "nothing of people it never heard; test others with --only-speakers"
        )
    return summary(conditions, asked, one.people, **about)


def _curves(one: _Set, conditions: "Sequence[Compared]", named: bool) -> "list[Curve]":
    """A curve for each condition, and one for the baseline in it."""
    from ..evaluation.det import Curve
    from ..evaluation.verification_summary import title_of

    found = []
    for condition in conditions:
        target = condition.scored.trials.is_target
        title = title_of(condition.scored.enroll, condition.scored.seconds)
        title = f"{one.name}, {title}" if named else title
        for scored, is_baseline in ((condition.scored, False), (condition.baseline, True)):
            if scored is not None:
                which = f"baseline, {title}" if is_baseline else title
                found.append(Curve(which, scored.values[target], scored.values[~target], is_baseline))
    return found


# ---------------------------------------------------------------------------------------------------------------- print


def _show(summaries: list[dict[str, Any]], together: dict[str, Any]) -> None:
    for found in summaries:
        print(
            f"{found['corpus']}: {found['n_speakers']} speakers enrolled, text {found['text']}, "
            f"{found['draws']} draws; errors in %"
        )
        _print_conditions(found["by_condition"])
    if len(summaries) > 1:
        print("mean over sets")
        _print_conditions(together["by_condition"])
        print(f"worst set: {together['worst_corpus']}")


def _print_conditions(conditions: list[dict[str, Any]]) -> None:
    from ..evaluation.verification_summary import title_of

    beside = "baseline_eer" in conditions[0]
    titles = ["EER", "same gender", "same age", "minDCF .01", "actDCF .01", "Cllr", "min Cllr"]
    keys = ["eer", "eer_same_gender", "eer_same_age", "min_dcf", "act_dcf", "cllr", "min_cllr"]
    if beside:
        titles, keys = [*titles, "baseline", "gain"], [*keys, "baseline_eer", "gain_eer"]
    print(f"{'':<18}" + "".join(f"{title:>15}" for title in titles))
    for found in conditions:
        print(f"{title_of(found['enroll'], found['seconds']):<18}" + "".join(_cell(found, key) for key in keys))


def _cell(found: dict[str, Any], key: str) -> str:
    """Error rates in per cent, costs as they are."""
    from .output import percent

    if found[key] is None:
        return f"{'-':>15}"
    if "eer" in key:
        return f"{percent(found[key], found[key + '_ci95']):>15}"
    return f"{found[key]:>15.3f}"
