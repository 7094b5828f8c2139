"""Options of ``metavox evaluate``, and which protocols have a use for each."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer


class ProtocolName(StrEnum):
    """Protocols that can be asked for."""

    commands = "commands"
    open_set = "open-set"
    incremental = "incremental"
    noise = "noise"
    transcription = "transcription"
    verification = "verification"
    owner = "owner"


class TextName(StrEnum):
    """Whether a test says what was said at enrolment."""

    any = "any"
    dependent = "dependent"
    independent = "independent"


class Speakers(StrEnum):
    """Whether a query may be spoken by somebody heard in the support."""

    any = "any"
    disjoint = "disjoint"


@dataclass(frozen=True)
class Request:
    """What every protocol is asked."""

    model: str
    corpus: list[str]
    learner: str | None
    seed: int
    out: Path | None
    json_out: bool


Model = Annotated[
    str, typer.Argument(help="Folder of a model, or a baseline: nearest_mean, dtw, scratch; or metavox/asr-small.")
]
Corpus = Annotated[list[str], typer.Option(help="Folder, or name in METAVOX_DATA; may be repeated.")]
Asked = Annotated[ProtocolName, typer.Option("--protocol", help="What is scored.")]
Seed = Annotated[int, typer.Option(min=0, help="Draws episodes, or splits; the same for every model.")]
Learner = Annotated[str | None, typer.Option(metavar="NAME[,KEY=VALUE]", help="Adapt in another way.")]
Out = Annotated[Path | None, typer.Option("--out", "--rows", help="Write one JSON line an item here.")]
Json = Annotated[bool, typer.Option("--json", help="Print a JSON summary.")]

Ways = Annotated[int | None, typer.Option(min=2, show_default="10", help="Words in an episode.")]
Shots = Annotated[int | None, typer.Option(min=1, show_default="5", help="Takes of each word to learn from.")]
Queries = Annotated[
    int | None, typer.Option(min=1, show_default="10", help="Takes of each word to recognise, at most.")
]
Episodes = Annotated[
    int | None,
    typer.Option(min=1, show_default="600, or 100", help="Tasks to average over; 100 but for commands, 20 for noise."),
]
SpeakersAsked = Annotated[
    Speakers | None, typer.Option(show_default="any", help="May a query be by a speaker of the support?")
]
Classes = Annotated[str | None, typer.Option(metavar="FILE", help="Draw only these, one a line.")]
Along = Annotated[str | None, typer.Option(show_default="word", help="commands: what is told apart: speaker, ...")]

NegativesAsked = Annotated[
    list[str] | None,
    typer.Option(metavar="CORPUS", help="open-set: sounds that are no enrolled word; may be repeated."),
]
Noise = Annotated[
    list[str] | None,
    typer.Option(metavar="PLACE", help="open-set: among the negatives; noise: where words are said. May be repeated."),
]
DevNegatives = Annotated[
    list[str] | None,
    typer.Option(metavar="CORPUS", help="open-set: set the threshold on these, test on all others; model: on its own."),
]
Far = Annotated[
    list[float] | None,
    typer.Option(show_default="0.05, 0.01", help="open-set: share of negatives that may be accepted; may be repeated."),
]
Confidence = Annotated[
    float | None, typer.Option(show_default="0.95", help="open-set: of the bound that a threshold keeps.")
]
MaxNegatives = Annotated[
    int | None, typer.Option(min=1, show_default="2000", help="open-set: pieces on either side of an episode.")
]

Snr = Annotated[
    list[str] | None,
    typer.Option(metavar="DB", show_default="clean, 20, 10, 5, 0", help="noise: how loud words are; may be repeated."),
]
AdaptSeconds = Annotated[
    float | None, typer.Option(show_default="5", help="noise: seconds of each place to adapt to, not in the test.")
]

Base = Annotated[int | None, typer.Option(min=2, show_default="2", help="incremental: words of the first session.")]
PerSession = Annotated[
    int | None, typer.Option(min=1, show_default="2", help="incremental: words that each further one adds.")
]

TestCorpus = Annotated[str | None, typer.Option(help="transcription: test on this, not on a part of --corpus.")]
Minutes = Annotated[
    list[float] | None, typer.Option(show_default="0, 1, 5, 10", help="transcription: to adapt to; may be repeated.")
]
Seeds = Annotated[
    int | None, typer.Option(min=1, max=1000, show_default="3", help="transcription: draws of the minutes.")
]
Compare = Annotated[
    list[str] | None, typer.Option(metavar="NAME", help="transcription: learner beside it; may be repeated.")
]
MaxTest = Annotated[
    int | None, typer.Option(min=10, show_default="200", help="transcription: utterances to test on, at most.")
]
Lang = Annotated[str | None, typer.Option(help="transcription: only recordings in this language.")]

Enroll = Annotated[
    list[int] | None,
    typer.Option(min=1, show_default="3", help="verification: clips that enrol a voice; may be repeated."),
]
Seconds = Annotated[
    list[str] | None,
    typer.Option(metavar="S", show_default="full", help="verification: of speech in a test clip; may be repeated."),
]
TextAsked = Annotated[
    TextName | None,
    typer.Option(show_default="any", help="verification: does a test say what the enrolled clips say?"),
]
Draws = Annotated[
    int | None, typer.Option(min=1, max=1000, show_default="5", help="verification: draws of the clips that enrol.")
]
TrialList = Annotated[
    Path | None, typer.Option(metavar="FILE", help="verification: trials, each a line: 1 or 0, enrolled, test clip.")
]
OnlySpeakers = Annotated[
    str | None, typer.Option(metavar="FILE", help="verification: test only these speakers, one a line.")
]
Baseline = Annotated[
    bool | None, typer.Option("--baseline", help="verification: cepstra and PLDA beside it, on the same trials.")
]
BaselineCorpus = Annotated[
    list[str] | None,
    typer.Option(metavar="CORPUS", help="verification: what the baseline learns from; may be repeated."),
]
Det = Annotated[
    Path | None, typer.Option(metavar="FILE", help="verification: draw misses against false accepts here (png, svg).")
]

Voices = Annotated[
    str | None, typer.Option(metavar="MODEL", show_default="metavox/speaker-small", help="owner: model of voices.")
]
FusionFile = Annotated[
    Path | None, typer.Option("--fusion", metavar="FILE", help="owner: how word and voice are weighed.")
]
FitFusion = Annotated[
    Path | None, typer.Option(metavar="FILE", help="owner: fit that on these corpora and write it, instead of testing.")
]

_OF_WORDS = ("commands", "open-set", "incremental", "noise")
OWNERS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("ways", "shots", "queries", "episodes"), (*_OF_WORDS, "owner")),
    **dict.fromkeys(("speakers", "classes"), _OF_WORDS),
    **dict.fromkeys(("voices", "fusion", "fit_fusion"), ("owner",)),
    "along": ("commands",),
    **dict.fromkeys(("negatives", "dev_negatives", "far", "confidence", "max_negatives"), ("open-set",)),
    "noise": ("open-set", "noise"),
    **dict.fromkeys(("snr", "adapt_seconds"), ("noise",)),
    **dict.fromkeys(("base", "per_session"), ("incremental",)),
    **dict.fromkeys(("test_corpus", "minutes", "seeds", "compare", "max_test", "lang"), ("transcription",)),
    **dict.fromkeys(("enroll", "seconds", "text", "draws", "trials", "only_speakers"), ("verification",)),
    **dict.fromkeys(("baseline", "baseline_corpus", "det"), ("verification",)),
}
"""Option -> the protocols that it belongs to; an option that is not here belongs to all."""


def given_to(protocol: ProtocolName, options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given and belong to some protocols only.

    Raises:
        InputError: one that this protocol has no use for: it was meant for another one.
    """
    from ..errors import InputError

    found = {name: options[name] for name in OWNERS if options[name] is not None}
    for name in found:
        owners = OWNERS[name]
        if protocol not in owners:
            listed = " or ".join((", ".join(owners[:-1]), owners[-1])) if len(owners) > 1 else owners[0]
            raise InputError(
                f"--{name.replace('_', '-')} belongs to --protocol {listed} and not to {protocol}; leave it out or ask "
                "for the other protocol."
            )
    return found
