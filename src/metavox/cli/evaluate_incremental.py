"""``metavox evaluate --protocol incremental``: words that come session by session."""

from pathlib import Path
from typing import Any

from .evaluate_options import Speakers


def evaluate_incremental(
    model: str,
    corpus: list[str],
    learner: str | None,
    seed: int,
    out: Path | None,
    json_out: bool,
    *,
    ways: int = 10,
    shots: int = 5,
    queries: int = 10,
    episodes: int = 100,
    speakers: Speakers = Speakers.any,
    classes: str | None = None,
    base: int = 2,
    per_session: int = 2,
) -> None:
    """Enrol words in sessions, ask after each one for all words so far, and print what was kept.

    Raises:
        InputError: whatever can be refused, before anything is computed.
    """
    import torch

    from ..data.episodes import EpisodeSpec
    from ..evaluation.incremental import IncrementalProtocol, require_enrollable
    from ..evaluation.protocols import fitted, over_corpora
    from .evaluate_words import opened, overall, word_sets, write_and_note
    from .output import note, print_json, require_writable
    from .progress import bars

    torch.set_num_threads(1)
    loaded = opened(model, learner)
    require_enrollable(loaded.learner, loaded.name)
    asked = IncrementalProtocol(EpisodeSpec(ways, shots, queries, speakers.value), episodes, seed, base, per_session)
    asked.sessions()
    if out is not None:
        require_writable(out)
    sets = word_sets(loaded, corpus, asked, classes=classes)
    for index in sets.indexes:
        fitted(asked, index)[0].sessions()
    summaries: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    with bars() as report:
        for place in range(len(sets.paths)):
            scored, found = _one_corpus(sets, place, asked, report)
            rows += scored
            summaries.append(found)
    for found in summaries:
        if not found["extend_equals_adapt"]:
            note(_unequal(found))
    write_and_note(out, rows, summaries)
    if json_out:
        print_json(summaries[0] if len(summaries) == 1 else overall(summaries, over_corpora(summaries)))
        return
    for found in summaries:
        _print(found)
    if len(summaries) > 1:
        _print_mean(over_corpora(summaries))


def _one_corpus(sets: Any, place: int, asked: Any, report: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    from ..evaluation.incremental import evaluate_incremental as run
    from ..evaluation.incremental import summary
    from ..evaluation.protocols import fitted

    bank, index = sets.bank(place, report)
    fit, said = fitted(asked, index)
    rows = run(
        sets.model.learner, bank, index, fit, sets.model.config.front_end,
        lambda done, total: report(f"episodes {sets.shown(place)}", done, total), corpus=sets.names[place],
    )  # fmt: skip
    return rows, summary(rows, fit, **sets.about(place, bank, said))


def _unequal(found: dict[str, Any]) -> str:
    return (
        f"{found['corpus']}: words that came one after the other score otherwise than words enrolled at once, by "
        f"{100 * found['extend_difference']:.2g} % of the largest score; {found['extend_changed_answers']} answers "
        "differ."
    )


def _print(found: dict[str, Any]) -> None:
    from .output import percent

    print(f"{found['corpus']}, {found['shots']} takes a word, {found['episodes']} episodes, accuracy in %")
    print(f"{'words known':<16}" + "".join(f"{n:>14}" for n in found["words_by_session"]))
    for title, name in (("all so far", "accuracy"), ("the newest", "newest"), ("the first", "first")):
        pairs = zip(found[f"{name}_by_session"], found[f"{name}_by_session_ci95"], strict=True)
        print(f"{title:<16}" + "".join(f"{percent(mean, ci95):>14}" for mean, ci95 in pairs))
    print(
        f"mean over sessions {percent(found['mean'], found['ci95'])} %; forgetting "
        f"{percent(found['forgetting'], found['forgetting_ci95'])} points, more words to choose from included"
    )


def _print_mean(found: dict[str, Any]) -> None:
    from .output import percent

    text = percent(found["mean"], found["ci95"])
    print(f"mean over sets, over sessions {text} %   worst: {found['worst_corpus']}")
