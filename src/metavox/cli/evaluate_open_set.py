"""``metavox evaluate --protocol open-set``: enrolled words among sounds that are none of them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .evaluate_options import Request, Speakers

if TYPE_CHECKING:
    from ..checkpoint import Model
    from ..evaluation.negatives import Source

OF_MODEL = "model"
"""What --dev-negatives calls those that come with the model."""


def evaluate_open_set(
    request: Request,
    *,
    ways: int = 10,
    shots: int = 5,
    queries: int = 10,
    episodes: int = 100,
    speakers: Speakers = Speakers.any,
    classes: str | None = None,
    negatives: Sequence[str] = (),
    noise: Sequence[str] = (),
    dev_negatives: Sequence[str] = (),
    far: Sequence[float] = (0.05, 0.01),
    confidence: float = 0.95,
    max_negatives: int = 2000,
) -> None:
    """Set thresholds for promised rates of false alarms, and print what they let through and what they refuse.

    Raises:
        InputError: whatever can be refused, before anything is computed.
    """
    from ..data.episodes import EpisodeSpec
    from ..evaluation.open_set import OpenSetProtocol, described, over_sets, piece_rows, require_comparing, summary
    from ..evaluation.open_set import evaluate_open_set as run
    from .evaluate_words import Rows, deliver, opened, word_sets
    from .output import require_writable
    from .progress import bars

    loaded = opened(request.model, request.learner)
    require_comparing(loaded.learner, loaded.name)
    spec = EpisodeSpec(ways, shots, queries, speakers.value)
    rates = tuple(sorted(far, reverse=True))
    asked = OpenSetProtocol(spec, episodes, request.seed, rates, confidence, max_negatives)
    if request.out is not None:
        require_writable(request.out)
    sources = _sources(negatives, noise, dev_negatives)
    sets = word_sets(loaded, request.corpus, asked, classes=classes)
    front_end = loaded.config.front_end
    summaries: Rows = []
    with bars() as report:
        sounds = _embedded(loaded, sources, OF_MODEL in dev_negatives, report)
        pieces = piece_rows(sounds)
        rows: Rows = [*pieces]
        for one in sets.opened(asked, report):
            scored = run(
                loaded.learner, one.bank, one.index, sounds, one.asked, front_end, one.progress, corpus=one.name
            )
            rows += scored
            summaries.append(summary([*pieces, *scored], one.asked, **described(sounds), **one.about))
    deliver(request, rows, summaries, over_sets, _print_all)


def _sources(negatives: Sequence[str], noise: Sequence[str], dev_negatives: Sequence[str]) -> list["Source"]:
    """Where negatives come from; with ``dev_negatives`` all others are for the test."""
    from ..data.corpora import require, require_once
    from ..errors import InputError
    from ..evaluation.negatives import DEVELOPMENT, EITHER, TEST, open_source
    from .evaluate_words import names

    if not negatives and not noise:
        raise InputError(
            "--protocol open-set needs sounds that are no enrolled word; name a corpus with --negatives, which may be "
            "that of --corpus, or recordings of noise with --noise."
        )
    others = TEST if dev_negatives else EITHER
    named = [(name, others, False) for name in negatives] + [(name, others, True) for name in noise]
    named += [(name, DEVELOPMENT, False) for name in dev_negatives if name != OF_MODEL]
    paths = [require(name) for name, _, _ in named]
    require_once(paths)
    return [
        open_source(path, shown, role, noise=is_noise)
        for path, shown, (_, role, is_noise) in zip(paths, names(paths), named, strict=True)
    ]


def _embedded(loaded: "Model", sources: Sequence["Source"], with_models_own: bool, report: Any) -> Any:
    from ..evaluation.negatives import embedded

    found = embedded(
        loaded.learner, sources, loaded.config.front_end, lambda done, total: report("negatives", done, total)
    )
    if not with_models_own:
        return found
    from ..evaluation.negatives import joined, models_own

    return joined(found, models_own(loaded))


# ---------------------------------------------------------------------------------------------------------------- print

_LINES = (
    ("known words right", "accuracy_at_far"),
    ("  oracle *", "oracle_accuracy_at_far"),
    ("known words refused", "miss_at_far"),
    ("false alarms", "realised_far"),
)


def _print_all(summaries: list[dict[str, Any]], together: dict[str, Any]) -> None:
    for found in summaries:
        _print(found)
    if len(summaries) > 1:
        _print_mean(together)


def _print(found: dict[str, Any]) -> None:
    from ..evaluation.open_set import far_key
    from .output import percent

    keys = [far_key(far) for far in found["far"]]
    print(
        f"{found['corpus']}, {found['ways']}-way {found['shots']}-shot, {found['episodes']} episodes among "
        f"{', '.join(found['negatives'])}"
    )
    print(f"{'promised, %':<24}" + "".join(f"{f'at most {key}':>16}" for key in keys))
    for title, name in _LINES:
        cells = [percent(found[f"{name}_{key}"], found[f"{name}_{key}_ci95"]) for key in keys]
        print(f"{title:<24}" + "".join(f"{cell:>16}" for cell in cells))
    cells = [f"{found[f'realised_over_promised_{key}']:.2f}" for key in keys]
    print(f"{'  over those promised':<24}" + "".join(f"{cell:>16}" for cell in cells))
    print(f"{'draws above the bound':<24}" + "".join(f"{100 * found[f'exceeded_{key}']:>16.1f}" for key in keys))
    surely = [f"{100 * found[f'exceeded_beyond_error_{key}']:.1f}" for key in keys]
    print(f"{'  surely':<24}" + "".join(f"{cell:>16}" for cell in surely))
    print(
        f"AUROC {percent(found['auroc'], found['auroc_ci95'])} %; without refusing, "
        f"{percent(found['closed_accuracy'], found['closed_accuracy_ci95'])} % of the words are right"
    )
    for sentence in _rests_on(found):
        print(sentence)


def _rests_on(found: dict[str, Any]) -> list[str]:
    noise = f", {found['noise_minutes']:.1f} min of noise among them" if "noise_minutes" in found else ""
    sentences = [
        f"Thresholds are set on {found['n_dev_negatives']} negatives ({found['dev_negative_hours']:.2g} h) an episode "
        f"and judged on {found['n_negatives']} others ({found['negative_hours']:.2g} h), apart by "
        f"{found['negatives_split_by']}{noise}.",
        f"With {100 * found['confidence']:g} % confidence no more than the promised share of such negatives passes.",
        "* oracle: its threshold is chosen on the test itself, so that just that share passes; no product can.",
    ]
    for row in found.get("by_negatives", ()):
        if row["negatives"] == found["worst_negatives"]:
            sentences.append(f"Hardest to tell from known words: {row['negatives']}, AUROC {100 * row['auroc']:.1f} %.")
    return sentences


def _print_mean(found: dict[str, Any]) -> None:
    from ..evaluation.open_set import far_key
    from .output import percent

    print(f"mean over sets: AUROC {percent(found['mean'], found['ci95'])} %   worst: {found['worst_corpus']}")
    for far in found["far"]:
        key = far_key(far)
        right = percent(found[f"accuracy_at_far_{key}"], found[f"accuracy_at_far_{key}_ci95"])
        alarms = percent(found[f"realised_far_{key}"], found[f"realised_far_{key}_ci95"])
        print(f"  at most {key} %: {right} % of known words right, {alarms} % of negatives pass")
