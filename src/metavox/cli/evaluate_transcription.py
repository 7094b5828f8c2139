"""``metavox evaluate --protocol transcription``: what minutes of a language buy, and which learner uses them best."""

import difflib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .evaluate_options import Request

if TYPE_CHECKING:
    from ..contracts import Utterance
    from ..evaluation.transcription import Scored, TranscriptionProtocol
    from ..evaluation.transcription_split import Split
    from ..transcription.models import Recognition


def evaluate_transcription(
    request: Request,
    *,
    test_corpus: str | None = None,
    minutes: Sequence[float] = (0.0, 1.0, 5.0, 10.0),
    seeds: int = 3,
    compare: Sequence[str] = (),
    max_test: int = 200,
    lang: str | None = None,
) -> None:
    """Adapt a recogniser to minutes of a corpus, hear it on what it was not adapted to, and print its error rates.

    Raises:
        InputError: whatever can be refused, before anything is computed.
    """
    import torch

    from ..evaluation.transcription import TranscriptionProtocol, summary
    from ..transcription.averages import require_single
    from ..transcription.models import load_recogniser
    from ..transcription.plans import DEFAULT_PLAN, WAYS
    from .output import print_json, require_writable, write_rows

    torch.set_num_threads(1)
    learners = tuple(_known(name, WAYS) for name in (request.learner or DEFAULT_PLAN, *compare))
    asked = TranscriptionProtocol(learners, tuple(minutes), seeds, request.seed, max_test)
    if request.out is not None:
        require_writable(request.out)
    base = load_recogniser(request.model)
    if max(minutes) > 0:
        require_single(base, "adapt")
    utterances, split = _parts(request.corpus, test_corpus, lang, asked)
    scored = _scored(base, utterances, split, asked)
    found = summary(scored.rows, split, asked, **_about(base, request.corpus, test_corpus, split, scored))
    if request.out is not None:
        write_rows(request.out, scored.rows)
    if request.json_out:
        print_json(found)
    else:
        _print(found)


def _known(name: str, names: Collection[str]) -> str:
    if name in names:
        return name
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    guess = f"did you mean {near[0]}? " if near else ""
    raise InputError(f"There is no learner {name!r} for transcription; {guess}They are {', '.join(names)}.")


def _parts(
    corpora: Sequence[str], test_corpus: str | None, lang: str | None, asked: "TranscriptionProtocol"
) -> tuple[list["Utterance"], "Split"]:
    """All utterances in the order of their corpora, and what is tested of them and what is adapted to."""
    from ..data.corpora import require
    from ..data.manifests import load_corpus
    from ..data.sentences import require_texts
    from ..evaluation.transcription_split import in_language, split_corpus, split_given

    if len(corpora) > 1:
        raise InputError(f"--corpus is given {len(corpora)} times and transcription adapts to one; name one.")
    sides = []
    for name in (*corpora, *([test_corpus] if test_corpus is not None else [])):
        found = load_corpus(require(name))
        sides.append(in_language(found, lang) if lang is not None else found)
        require_texts(sides[-1])
    if test_corpus is None:
        return sides[0], split_corpus(sides[0], asked.split_seed, asked.max_test)
    return [*sides[0], *sides[1]], split_given(sides[0], sides[1], asked.split_seed, asked.max_test)


def _scored(
    base: "Recognition", utterances: list["Utterance"], split: "Split", asked: "TranscriptionProtocol"
) -> "Scored":
    from ..evaluation.transcription import open_material, score
    from ..transcription.plans import WAYS, adapted_by
    from .progress import bars

    with bars() as report:
        material = open_material(split, asked, utterances, base, lambda done, total: report("features", done, total))
        return score(
            base,
            material,
            asked,
            adapted_by,
            report=lambda done, total, what: report("adapting", done, total, what),
            from_scratch=[name for name, way in WAYS.items() if way.from_scratch],
        )


def _about(
    base: "Recognition", corpora: Sequence[str], test_corpus: str | None, split: "Split", scored: "Scored"
) -> dict[str, Any]:
    from dataclasses import asdict
    from importlib.metadata import version

    from ..data.corpora import require
    from ..text.languages import iso_639_3
    from ..text.normalise import NORMALISATION
    from ..transcription.plans import WAYS

    heard = [*split.pool, *split.test]
    languages = sorted({u.lang for u in heard if u.lang})
    known = [{iso_639_3(lang) or lang for lang in some} for some in (languages, base.about.get("languages", []))]
    seen = {u.corpus for u in heard} & set(base.about.get("corpora", []))
    return {
        "model": base.name,
        "model_hash": base.hash[:16],
        "corpus": _name(require(corpora[0])),
        "test_corpus": None if test_corpus is None else _name(require(test_corpus)),
        "languages": languages,
        "seen_in_training": bool(seen),
        "language_seen_in_training": bool(known[0] & known[1]),
        "normalisation": NORMALISATION,
        "alphabet": base.symbols.alphabet,
        "version": version("metavox"),
        "plans": {learner: asdict(WAYS[learner]) for learner in scored.adapt_seconds},
        "adapt_seconds": scored.adapt_seconds,
    }


def _name(path: Path) -> str:
    path = path.resolve()
    return path.name if path.is_dir() else path.parent.name


# ---------------------------------------------------------------------------------------------------------------- print


def _print(found: dict[str, Any]) -> None:
    from .output import percent

    points = {(p["learner"], p["minutes"]): p for p in found["curve"]}
    for name, rate in (("character", "cer"), ("word", "wer")):
        if any(p[rate] is None for p in points.values()):
            continue
        print(f"{name + ' errors, %':<20}" + "".join(f"{f'{m:g} min':>14}" for m in found["minutes"]))
        for learner in found["learners"]:
            cells = [
                percent(p[rate], p[f"{rate}_ci95"]) if (p := points.get((learner, m))) else "-"
                for m in found["minutes"]
            ]
            print(f"{learner:<20}" + "".join(f"{cell:>14}" for cell in cells))
        print()
    for sentence in (*_comparisons(found), *_did_not_help(found, points), *_rests_on(found)):
        print(sentence)


def _comparisons(found: dict[str, Any]) -> list[str]:
    ours, told = found["learners"][0], " and ".join(f"{m:g}" for m in found["minutes"] if m)
    sentences = []
    for other in found["area"]:
        if "versus" not in other:
            continue
        gain, (low, high) = other["relative_gain"], other["relative_gain_ci95"]
        if gain is None:
            sentences.append(f"{other['learner']} makes no error, so that no share of them can be told.")
            continue
        amount = f"{100 * abs(gain):.1f} % {'fewer' if gain >= 0 else 'more'} character errors than {other['learner']}"
        if low is None:
            sentences.append(f"{ours} makes {amount}; one cluster of the test cannot tell how surely.")
            continue
        doubt = "" if low > 0 or high < 0 else "; they cannot be told apart"
        span = f"gain {100 * low:.1f} to {100 * high:.1f} %, p = {other['p_holm']:.2g}"
        sentences.append(f"{ours} makes {amount} over {told} min ({span}){doubt}.")
    return sentences


def _did_not_help(found: dict[str, Any], points: dict[tuple[str, float], dict[str, Any]]) -> list[str]:
    ours, most = found["learners"][0], max(found["minutes"])
    before, after = points.get((ours, 0.0)), points.get((ours, most))
    if before is None or after is None or not most or after["cer"] < before["cer"]:
        return []
    return [f"Adaptation did not help here: {ours} is no better after {most:g} min than the model as it is."]


def _rests_on(found: dict[str, Any]) -> list[str]:
    corpus, test = found["corpus"], found["test_corpus"]
    n_speakers = found["n_test_speakers"]
    who = "" if n_speakers is None else f" of {n_speakers} speaker{'s' * (n_speakers != 1)}"
    of = f" (of {found['n_test_all']}, by chance)" if found["n_test_all"] > found["n_test"] else ""
    where = f"{corpus} split by {found['split']}" if test is None else f"{test}, adapted to {corpus}"
    dropped = f", {found['n_dropped']} dropped because the test says the same" if found["n_dropped"] else ""
    sentences = [
        f"Tested on {found['n_test']} utterances{who}{of} of {where}; supports are {found['seeds']} draws from "
        f"{found['pool_minutes']:g} min ({found['n_pool']} recordings{dropped}).",
        f"Intervals (95 %) resample {found['n_clusters']} {found['clustered_by']}s of the test.",
    ]
    shared = found["n_shared_speakers"]
    if shared is None:
        sentences.append("Not everybody is named: a voice may be both in the support and in the test.")
    elif shared:
        sentences.append(f"{shared} speaker{'s are' if shared > 1 else ' is'} both in the support and in the test.")
    if found["seen_in_training"]:
        sentences.append("The model heard this corpus in training.")
    return sentences
