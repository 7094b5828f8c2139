"""``metavox data import``: a corpus in an outside format becomes a folder that every other verb reads."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..data.interchange.write import Imported


def import_corpus(
    source: Annotated[Path, typer.Argument(help="File or folder to read.", show_default=False)],
    out: Annotated[Path, typer.Option(help="New folder to write the corpus in.", show_default=False)],
    format_name: Annotated[
        str | None, typer.Option("--format", metavar="NAME", help="Format of the source; else told by its files.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Import this split only, such as train.")] = None,
    lang: Annotated[str | None, typer.Option(help="Language of what the source gives no language for.")] = None,
    tier: Annotated[str | None, typer.Option(help="ELAN, TextGrid: the tier that holds the text.")] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Run the commands that the source names. Read them first.")
    ] = False,
    json_out: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Import a corpus: cut its segments out as 16 kHz FLAC, with a manifest and a record of what was left out.

    No command in the source is run without --trust; a recording that cannot be used is skipped and reported.

    Example: metavox data import data/train --out my-corpus --format kaldi --lang sw
    """
    from ..data.interchange.formats import detect, reader, require_source, require_tiers
    from ..data.interchange.segments import Options
    from ..data.interchange.write import as_json, write_corpus
    from ..data.layouts import printable
    from ..data.stored import require_empty
    from .output import note, print_json
    from .progress import bars

    require_empty(out)
    require_source(source)
    name = format_name or detect(source)
    require_tiers(name, tier)
    options = Options(trust=trust, split=split, lang=lang, tier=tier, announce=lambda line: note(printable(line)))
    try:
        segments = reader(name)(source, options)
        with bars() as report:
            imported = write_corpus(
                segments,
                out,
                source=str(source.absolute()),
                format=name,
                options=options,
                progress=lambda done, total: report("segments", done, total),
            )
    except KeyboardInterrupt:
        note("metavox: stopped; nothing was written.")
        raise SystemExit(130) from None
    if json_out:
        print_json({"out": printable(str(out)), **as_json(imported)})
    else:
        _print(imported, out)


def _print(imported: "Imported", out: Path) -> None:
    import shlex

    from ..data.layouts import printable
    from .output import note

    n_skipped = len(imported.skipped)
    if n_skipped:
        first = imported.skipped[0]
        note(
            f"{n_skipped:,} of {imported.n_utterances + n_skipped:,} skipped, see {printable(str(out))}/IMPORT.json; "
            f"the first, {printable(first.id)}: {first.reason}"
        )
    languages = ", ".join(imported.languages) or "not said"
    print(
        f"utterances: {imported.n_utterances:,}, hours: {imported.hours:.2f}, speakers: {imported.n_speakers:,}, "
        f"languages: {printable(languages)}, format: {imported.format}"
    )
    if len(imported.splits) > 1:
        splits = ", ".join(f"{split} {n:,}" for split, n in imported.splits.items())
        print(f"Splits are now one corpus ({printable(splits)}); --split imports one of them.")
    print(f"Next: metavox data check {printable(shlex.quote(str(out)))}")
