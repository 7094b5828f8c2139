"""``metavox evaluate``: score a model on tasks it never saw."""

from pathlib import Path
from typing import Any

from . import evaluate_options as option
from .evaluate_options import ProtocolName, Speakers


def evaluate(
    model: option.Model,
    corpus: option.Corpus,
    protocol: option.Asked = ProtocolName.commands,
    seed: option.Seed = 0,
    learner: option.Learner = None,
    out: option.Out = None,
    json_out: option.Json = False,
    ways: option.Ways = None,
    shots: option.Shots = None,
    queries: option.Queries = None,
    episodes: option.Episodes = None,
    speakers: option.SpeakersAsked = None,
    classes: option.Classes = None,
    along: option.Along = None,
    negatives: option.NegativesAsked = None,
    noise: option.Noise = None,
    dev_negatives: option.DevNegatives = None,
    far: option.Far = None,
    confidence: option.Confidence = None,
    max_negatives: option.MaxNegatives = None,
    snr: option.Snr = None,
    adapt_seconds: option.AdaptSeconds = None,
    base: option.Base = None,
    per_session: option.PerSession = None,
    test_corpus: option.TestCorpus = None,
    minutes: option.Minutes = None,
    seeds: option.Seeds = None,
    compare: option.Compare = None,
    max_test: option.MaxTest = None,
    lang: option.Lang = None,
) -> None:
    """Score a model on word sets or on a language, with intervals and the worst set.

    Example: metavox evaluate exp/commands --corpus lithuanian_commands --ways 10 --shots 5 --json

    Among other sounds: metavox evaluate exp/commands --protocol open-set --corpus my-words --negatives mboshi

    Word by word: metavox evaluate exp/commands --protocol incremental --corpus my-words --per-session 2

    In noise: metavox evaluate exp/commands --protocol noise --corpus my-words --noise kitchen --snr clean --snr 5

    A model of joint training is also --learner linear_probe, simpleshot,centring=l2n or joint,inner_steps=20.

    A recogniser: metavox evaluate metavox/asr-small --protocol transcription --corpus mboshi --compare fine-tune
    """
    given = option.given_to(protocol, locals())
    if protocol is ProtocolName.transcription:
        from .evaluate_transcription import evaluate_transcription as run
    elif protocol is ProtocolName.open_set:
        from .evaluate_open_set import evaluate_open_set as run  # type: ignore[assignment]
    elif protocol is ProtocolName.noise:
        from .evaluate_noise import evaluate_noise as run  # type: ignore[assignment]
    elif protocol is ProtocolName.incremental:
        from .evaluate_incremental import evaluate_incremental as run  # type: ignore[assignment]
    else:
        run = _commands  # type: ignore[assignment]
    run(model, corpus, learner, seed, out, json_out, **given)


def _commands(
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
    episodes: int = 600,
    speakers: Speakers = Speakers.any,
    along: str = "word",
    classes: str | None = None,
) -> None:
    import torch

    from ..data.episodes import EpisodeSpec
    from ..evaluation.protocols import Protocol, over_corpora
    from .evaluate_words import opened, overall, word_sets, write_and_note
    from .output import percent, print_json, require_writable
    from .progress import bars

    torch.set_num_threads(1)
    loaded = opened(model, learner)
    asked = Protocol(EpisodeSpec(ways, shots, queries, speakers.value), episodes, seed)
    axis = _axis(along, speakers)
    if out is not None:  # whatever can be refused is refused before anything is computed
        require_writable(out)
    sets = word_sets(loaded, corpus, asked, axis, classes)
    summaries: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    with bars() as report:
        for place in range(len(sets.paths)):
            scored, found = _one_corpus(sets, place, asked, report)
            rows += scored
            summaries.append(found)
    write_and_note(out, rows, summaries)
    together = summaries[0] if len(summaries) == 1 else overall(summaries, over_corpora(summaries))
    if json_out:
        print_json(together)
        return
    for found in summaries:
        print(f"{found['corpus']:<24} {found['ways']:>3}-way {shots}-shot  {percent(found['mean'], found['ci95'])} %")
    if len(summaries) > 1:
        text = percent(together["mean"], together["ci95"])
        print(f"{'mean over sets':<24} {'':>12}  {text} %   worst: {together['worst_corpus']}")


def _axis(text: str, speakers: Speakers) -> str:
    """An axis that a manifest says, or a product of such."""
    from ..data.axes import AXES, axis_names
    from ..errors import InputError

    names = axis_names(text)
    if not names or not set(names) <= set(AXES):
        raise InputError(f"--along is {text!r}, which no manifest says; choose among {', '.join(AXES)}.")
    if speakers is Speakers.disjoint and "speaker" in names:
        raise InputError("--speakers disjoint cannot be where speakers are told apart; use --speakers any.")
    return "*".join(names)


def _one_corpus(sets: Any, place: int, asked: Any, report: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows and flat summary of one corpus."""
    from ..evaluation.protocols import evaluate as run
    from ..evaluation.protocols import fitted, summary
    from ..tasks import TASKS

    bank, index = sets.bank(place, report)
    fit, said = fitted(asked, index)
    rows = run(
        sets.model.learner, TASKS["commands"](), bank, index, fit, sets.model.config.front_end,
        lambda done, total: report(f"episodes {sets.shown(place)}", done, total), corpus=sets.names[place],
    )  # fmt: skip
    return rows, summary(rows, fit, index.axis, **sets.about(place, bank, said))
