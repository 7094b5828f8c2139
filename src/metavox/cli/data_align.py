"""``metavox data align``: transcribed sentences become words."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InputError

if TYPE_CHECKING:
    from ..data.word_alignment.corpus import Cut
    from ..data.word_alignment.spans import OpenAligner


def align(
    corpus: Annotated[str, typer.Argument(help="Corpus of sentences with their texts.", show_default=False)],
    out: Annotated[Path, typer.Option(help="New folder to write the words in.", show_default=False)],
    aligner: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="synthetic: espeak-ng reads along; energy: by letters and quiet places, for any language; "
            "ctc: a recogniser hears the words; auto: synthetic where espeak-ng speaks the language, else energy.",
        ),
    ] = "auto",
    model: Annotated[
        str | None,
        typer.Option(help="Recogniser of the aligner ctc; without it metavox/asr-small.", show_default=False),
    ] = None,
    lang: Annotated[str | None, typer.Option(help="Language of sentences that do not say theirs.")] = None,
    min_takes: Annotated[int, typer.Option(min=1, help="Keep words with this many takes or more.")] = 4,
    min_speakers: Annotated[int, typer.Option(min=1, help="Keep words from this many speakers or more.")] = 2,
    min_letters: Annotated[int, typer.Option(min=1, help="Keep words with this many letters or more.")] = 3,
    keep_confidence: Annotated[
        float, typer.Option(min=0, max=1, help="Keep takes whose limits are at least this sure.")
    ] = 0.3,
    json_out: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Cut the words out of transcribed sentences, so that they can be learned from.

    A word is kept where its limits are sure and where enough takes of it, from enough speakers, are. The limits are
    found by a machine: listen to some clips before you rely on them.

    Example: metavox data align my-sentences --out my-words --lang sw
    """
    from dataclasses import asdict

    from ..data.corpora import n_cores, require
    from ..data.layouts import printable
    from ..data.word_alignment.corpus import Keep, cut_words
    from .output import note, print_json
    from .progress import bars

    spoken = _spoken(aligner, model)
    keep = Keep(confidence=keep_confidence, min_letters=min_letters, min_takes=min_takes, min_speakers=min_speakers)
    try:
        with bars() as report:
            cut = cut_words(
                require(corpus), out, aligner=aligner, lang=lang, spoken=spoken, keep=keep,
                n_workers=min(2, n_cores()), report=report,
            )  # fmt: skip
    except KeyboardInterrupt:
        note("metavox: stopped; nothing was written.")
        raise SystemExit(130) from None
    if json_out:
        print_json({"out": printable(str(out)), **asdict(cut)})
    else:
        _print(cut, out)


def _spoken(aligner: str, model: str | None) -> "OpenAligner | None":
    """How every process opens the aligner ctc with its recogniser; None for the other aligners."""
    from functools import partial

    from ..data.word_alignment.corpus import CTC

    if aligner != CTC:
        if model is not None:
            raise InputError(f"The aligner {aligner} uses no recogniser; add --aligner ctc, or leave --model out.")
        return None
    from ..data.word_alignment.spoken import spoken_aligner
    from ..transcription import load_recogniser

    return partial(spoken_aligner, partial(load_recogniser, model or "metavox/asr-small"))


def _print(cut: "Cut", out: Path) -> None:
    import shlex

    from ..data.layouts import printable
    from .output import note

    if cut.skipped:
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in cut.skipped.items())
        note(f"{sum(cut.skipped.values()):,} of {cut.n_sentences:,} sentences skipped: {reasons}.")
    if "energy" in cut.aligners:
        note(
            f"{cut.aligners['energy']:,} sentences by letters and quiet places only, no voice having read them: their "
            "limits are rough, listen before you use them."
        )
    print(f"{cut.n_words:,} words, {cut.n_takes:,} takes, {cut.n_speakers:,} speakers, {cut.hours:.2f} hours")
    print(
        f"{cut.n_confident:,} of {cut.n_aligned:,} spoken words are sure and long enough, "
        f"{cut.n_takes:,} of these frequent enough ({cut.n_takes / cut.n_aligned:.0%} kept); "
        f"median confidence {cut.median_confidence:.2f}"
    )
    print(f"Next: metavox evaluate dtw --corpus {printable(shlex.quote(str(out)))}")
