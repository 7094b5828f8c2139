"""``metavox evaluate``: score a model on tasks it never saw."""

from importlib import import_module
from typing import Any

from . import evaluate_options as option
from .evaluate_options import ProtocolName, Request, Speakers

_RUNNERS = {
    ProtocolName.open_set: ("evaluate_open_set", "evaluate_open_set"),
    ProtocolName.incremental: ("evaluate_incremental", "evaluate_incremental"),
    ProtocolName.noise: ("evaluate_noise", "evaluate_noise"),
    ProtocolName.transcription: ("evaluate_transcription", "evaluate_transcription"),
    ProtocolName.verification: ("evaluate_verification", "evaluate_verification"),
    ProtocolName.owner: ("evaluate_owner", "evaluate_owner"),
}
"""Protocol -> the module beside this one that runs it, and its function; ``commands`` is run here."""


# fmt: off
def evaluate(  # as many options a line as it holds: what belongs together stands together
    model: option.Model, corpus: option.Corpus, protocol: option.Asked = ProtocolName.commands,
    seed: option.Seed = 0, learner: option.Learner = None, out: option.Out = None, json_out: option.Json = False,
    ways: option.Ways = None, shots: option.Shots = None, queries: option.Queries = None,
    episodes: option.Episodes = None, speakers: option.SpeakersAsked = None, classes: option.Classes = None,
    along: option.Along = None,
    negatives: option.NegativesAsked = None, noise: option.Noise = None, dev_negatives: option.DevNegatives = None,
    far: option.Far = None, confidence: option.Confidence = None, max_negatives: option.MaxNegatives = None,
    snr: option.Snr = None, adapt_seconds: option.AdaptSeconds = None,
    base: option.Base = None, per_session: option.PerSession = None,
    test_corpus: option.TestCorpus = None, minutes: option.Minutes = None, seeds: option.Seeds = None,
    compare: option.Compare = None, max_test: option.MaxTest = None, lang: option.Lang = None,
    enroll: option.Enroll = None, seconds: option.Seconds = None, text: option.TextAsked = None,
    draws: option.Draws = None, trials: option.TrialList = None, only_speakers: option.OnlySpeakers = None,
    baseline: option.Baseline = None, baseline_corpus: option.BaselineCorpus = None, det: option.Det = None,
    voices: option.Voices = None, fusion: option.FusionFile = None, fit_fusion: option.FitFusion = None,
) -> None:
    """Score a model on word sets, on a language or on voices, with intervals and the worst set.

    Example: metavox evaluate exp/commands --corpus lithuanian_commands --ways 10 --shots 5 --json

    Among other sounds: metavox evaluate exp/commands --protocol open-set --corpus my-words --negatives mboshi

    Word by word: metavox evaluate exp/commands --protocol incremental --corpus my-words --per-session 2

    In noise: metavox evaluate exp/commands --protocol noise --corpus my-words --noise kitchen --snr clean --snr 5

    A model of joint training is also --learner linear_probe, simpleshot,centring=l2n or joint,inner_steps=20.

    A recogniser: metavox evaluate metavox/asr-small --protocol transcription --corpus mboshi --compare fine-tune

    Voices: metavox evaluate metavox/speaker-small --protocol verification --corpus my-people --enroll 3 --seconds 2

    Owners: metavox evaluate exp/commands --protocol owner --voices metavox/speaker-small --corpus my-people --ways 5
    """
    given = option.given_to(protocol, locals())
    run: Any = _commands
    if protocol in _RUNNERS:
        module, function = _RUNNERS[protocol]
        run = getattr(import_module(f"{__package__}.{module}"), function)
    run(Request(model, corpus, learner, seed, out, json_out), **given)
# fmt: on


def _commands(
    request: Request,
    *,
    ways: int = 10,
    shots: int = 5,
    queries: int = 10,
    episodes: int = 600,
    speakers: Speakers = Speakers.any,
    along: str = "word",
    classes: str | None = None,
) -> None:
    from ..data.episodes import EpisodeSpec
    from ..evaluation.protocols import Protocol, over_corpora, summary
    from ..evaluation.protocols import evaluate as run
    from ..tasks import TASKS
    from .evaluate_words import Rows, deliver, opened, word_sets
    from .output import require_writable
    from .progress import bars

    loaded = opened(request.model, request.learner)
    asked = Protocol(EpisodeSpec(ways, shots, queries, speakers.value), episodes, request.seed)
    axis = _axis(along, speakers)
    if request.out is not None:  # whatever can be refused is refused before anything is computed
        require_writable(request.out)
    sets = word_sets(loaded, request.corpus, asked, axis, classes)
    summaries: Rows = []
    rows: Rows = []
    with bars() as report:
        for one in sets.opened(asked, report):
            scored = run(
                loaded.learner, TASKS["commands"](), one.bank, one.index, one.asked, loaded.config.front_end,
                one.progress, corpus=one.name,
            )  # fmt: skip
            rows += scored
            summaries.append(summary(scored, one.asked, axis, **one.about))
    deliver(request, rows, summaries, over_corpora, _show)


def _show(summaries: list[dict[str, Any]], together: dict[str, Any]) -> None:
    from .output import percent

    for found in summaries:
        shape = f"{found['ways']:>3}-way {found['shots']}-shot"
        print(f"{found['corpus']:<24} {shape}  {percent(found['mean'], found['ci95'])} %")
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
