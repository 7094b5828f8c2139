"""``metavox evaluate --protocol owner``: commands that work for their owner only."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .evaluate_options import Request

if TYPE_CHECKING:
    from ..calibration.fusion import Fusion
    from ..evaluation.owner import OwnerProtocol
    from ..voices.models import VoiceModel


def evaluate_owner(
    request: Request,
    *,
    ways: int = 10,
    shots: int = 5,
    queries: int = 10,
    episodes: int = 100,
    voices: str = "metavox/speaker-small",
    fusion: Path | None = None,
    fit_fusion: Path | None = None,
) -> None:
    """Ask words of owners and of others, and print how often either is taken for the other; or fit a fusion.

    Raises:
        InputError: whatever can be refused, before anything is computed.
    """
    from ..data.corpora import open_corpora, require, require_once
    from ..data.episodes import EpisodeSpec
    from ..data.manifests import load_corpus
    from ..errors import InputError
    from ..evaluation.owner import OwnerProtocol, Owners
    from ..evaluation.owner import evaluate_owner as run
    from ..evaluation.owner_summary import over_sets, summary
    from ..voices.encoders import load_voices
    from .evaluate_words import Rows, deliver, names, opened
    from .output import require_writable
    from .progress import bars

    if fusion is not None and fit_fusion is not None:
        raise InputError("--fusion uses a fusion and --fit-fusion makes one; give one of them.")
    model = opened(request.model, request.learner)
    asked = OwnerProtocol(EpisodeSpec(ways, shots, queries), episodes, request.seed)
    voice_model = load_voices(voices)
    paths = [require(name) for name in request.corpus]
    require_once(paths)
    called = names(paths)
    for path in paths:
        Owners(load_corpus(path), asked)
    for out in (request.out, fit_fusion):
        if out is not None:
            require_writable(out)
    fusions = () if fit_fusion is not None else _fusions(fusion, voice_model, called)
    summaries: Rows = []
    rows: Rows = []
    with bars() as report:
        for path, name in zip(paths, called, strict=True):
            bank = open_corpora([path], model.config.front_end)
            owners = Owners(bank.utterances, asked)
            scored = run(model, voice_model, bank, owners, partial(report, "episodes"), corpus=name)
            rows += scored
            if fusions:
                about = _about(name, model, voice_model, bank, fusions, owners.asked.spec.n_way < ways)
                calibrated = voice_model.ratios is not None
                summaries.append(summary(scored, owners.asked, fusions, calibrated=calibrated, **about))
    if fit_fusion is not None:
        _fit(request, fit_fusion, rows, called, asked, voice_model)
        return
    deliver(request, rows, summaries, over_sets, _print_all)


def _fusions(path: Path | None, voices: "VoiceModel", corpora: Sequence[str]) -> tuple["Fusion", ...]:
    """Those of the file, else those that the model of voices brings, else the rule for independent parts.

    Raises:
        InputError: a file without them, or fusions that were fitted on what is to be tested.
    """
    import json

    from ..calibration.fusion import fusions_from, independent
    from ..errors import InputError

    if path is not None:
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            raise InputError(f"{path} cannot be read as JSON; make it with --fit-fusion.") from None
        found = fusions_from(document.get("fusions") if isinstance(document, dict) else None, str(path))
        bound = {one.about.get("voices_hash") for one in found} - {None, voices.hash}
        if bound:
            raise InputError(
                f"{path} was fitted with another model of voices than {voices.name}; fit it again with --fit-fusion."
            )
    elif "fusion" in voices.about:
        found = fusions_from(voices.about["fusion"], voices.name)
    elif voices.ratios is None:
        raise InputError(
            f"{voices.name} has no calibration and no fusion, so word and voice cannot be weighed; give --fusion FILE."
        )
    else:
        found = (independent(),)
    seen = sorted({name for one in found for name in one.about.get("corpora", [])} & set(corpora))
    if seen:
        raise InputError(
            f"The fusion was fitted on {', '.join(seen)}, which is in --corpus too; test it on other recordings."
        )
    return found


def _fit(
    request: Request, path: Path, rows: list[dict[str, Any]], corpora: list[str], asked: "OwnerProtocol", voices: Any
) -> None:
    """Fit on all trials, with and without what is only known where the owner's takes of the word are."""
    from ..checkpoint import write_json
    from ..evaluation.owner import fit_on
    from .output import print_json, write_rows

    about = {"corpora": corpora, "voices": voices.name, "voices_hash": voices.hash, **asked.described()}
    document = {"library": "metavox", "kind": "fusion", "fusions": [one.as_document() for one in fit_on(rows, about)]}
    write_json(path, document)
    if request.out is not None:
        write_rows(request.out, rows)
    if request.json_out:
        print_json(document)
    else:
        print(f"{path}: fitted on {len(rows)} trials of {', '.join(corpora)}")


def _about(name: str, model: Any, voices: Any, bank: Any, fusions: Sequence["Fusion"], fewer: bool) -> dict[str, Any]:
    from importlib.metadata import version

    known = {name, *(one.corpus for one in bank.utterances)}
    seen = [one.name for one in (model, voices) if known & set(one.about.get("corpora", []))]
    return {
        **{"model": model.name, "model_hash": model.hash[:16], "voices": voices.name, "voices_hash": voices.hash[:16]},
        **{"corpus": name, "version": version("metavox"), "fusion": dict(fusions[0].about)},
        **({"note": "No speaker has enough takes of so many words; all that one has are used."} if fewer else {}),
        **({"seen_in_training": seen} if seen else {}),
    }


# ---------------------------------------------------------------------------------------------------------------- print

_TASKS = {
    "own_other": "the owner, another word",
    "other_target": "another, the word",
    "other_other": "another, another word",
    "owner_only": "owner only, all three",
    "owner_biased": "owner preferred, another word",
}

_SHORT = {"fusion_without_takes": "without takes", "product_in_word": "prod. in word"}


def _print_all(summaries: list[dict[str, Any]], together: dict[str, Any]) -> None:
    for found in summaries:
        _print(found)
    if len(summaries) > 1:
        _print({**together, "corpus": "mean over sets"})
        print(f"worst set: {together['worst_corpus']}")


def _print(found: dict[str, Any]) -> None:
    from .output import percent

    print(
        f"{found['corpus']}, {found['ways']}-way {found['shots']}-shot: {found['n_owners']} owners, "
        f"{found['n_impostors']} others, {found['n']} trials; equal error rates in %, then misses at 1 % false accepts"
    )
    systems = [name.removesuffix("_eer_owner_only") for name in found if name.endswith("_eer_owner_only")]
    systems = [name for name in systems if not name.startswith("gain")]
    print(f"{'':<32}" + "".join(f"{_SHORT.get(name, name):>14}" for name in systems))
    for task, title in _TASKS.items():
        for what in ("eer", "miss"):
            cells = [percent(found[f"{s}_{what}_{task}"], found[f"{s}_{what}_{task}_ci95"]) for s in systems]
            print(f"{title if what == 'eer' else '':<32}" + "".join(f"{cell:>14}" for cell in cells))
    for system in systems[1:]:
        name = f"gain_eer_owner_only_over_{system}"
        print(f"owner only, less than {system} by {percent(found[name], found[f'{name}_ci95'])}")
