"""``metavox evaluate --protocol incremental``: words that come session by session."""

from typing import Any

from .evaluate_options import Request, Speakers


def evaluate_incremental(
    request: Request,
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
    from ..data.episodes import EpisodeSpec
    from ..evaluation.incremental import IncrementalProtocol, require_enrollable, summary
    from ..evaluation.incremental import evaluate_incremental as run
    from ..evaluation.protocols import fitted, over_corpora
    from .evaluate_words import Rows, deliver, opened, word_sets
    from .output import note, require_writable
    from .progress import bars

    loaded = opened(request.model, request.learner)
    require_enrollable(loaded.learner, loaded.name)
    spec = EpisodeSpec(ways, shots, queries, speakers.value)
    asked = IncrementalProtocol(spec, episodes, request.seed, base, per_session)
    asked.sessions()
    if request.out is not None:
        require_writable(request.out)
    sets = word_sets(loaded, request.corpus, asked, classes=classes)
    for index in sets.indexes:
        fitted(asked, index)[0].sessions()
    summaries: Rows = []
    rows: Rows = []
    with bars() as report:
        for one in sets.opened(asked, report):
            front_end = loaded.config.front_end
            scored = run(loaded.learner, one.bank, one.index, one.asked, front_end, one.progress, corpus=one.name)
            rows += scored
            summaries.append(summary(scored, one.asked, **one.about))
    for found in summaries:
        if not found["extend_equals_adapt"]:
            note(_unequal(found))
    deliver(request, rows, summaries, over_corpora, _print_all)


def _unequal(found: dict[str, Any]) -> str:
    return (
        f"{found['corpus']}: words that came one after the other score otherwise than words enrolled at once, by "
        f"{100 * found['extend_difference']:.2g} % of the largest score; {found['extend_changed_answers']} answers "
        "differ."
    )


def _print_all(summaries: list[dict[str, Any]], together: dict[str, Any]) -> None:
    for found in summaries:
        _print(found)
    if len(summaries) > 1:
        _print_mean(together)


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
