"""``metavox data synth``: synthetic words of many languages and voices as an ordinary corpus folder."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ..data.synth_languages import Language

EVERY = "all"


def synth(
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="A new folder for the corpus.", show_default=False)
    ] = None,
    language: Annotated[
        list[str] | None,
        typer.Option(help=f"A code of --list, or '{EVERY}' (without accents). Repeat it. Ten languages by default."),
    ] = None,
    words: Annotated[int, typer.Option(min=1, help="Words of each language.")] = 100,
    voices: Annotated[int, typer.Option(min=1, max=999, help="Speakers of each language.")] = 6,
    takes: Annotated[int, typer.Option(min=1, max=100, help="Takes of each word by each speaker.")] = 1,
    similar: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the words that are a sound or two apart: hard tasks.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Draws the words and the voices.")] = 0,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that speak.", show_default="all cores")] = None,
    list_only: Annotated[bool, typer.Option("--list", help="Show the languages, and why some are left out.")] = False,
    json_out: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Make a corpus of synthetic words with espeak-ng: to train on many languages and voices, never to judge with.

    The same options make the same recordings. A larger --words or --voices adds to a smaller one.

    Example: metavox data synth --out synth-de-sw --language de --language sw --words 50 --voices 12 --similar 0.5
    """
    from ..data.synth_languages import VOICES
    from ..errors import InputError

    if list_only:
        _list(list(VOICES.values()), json_out)
        return
    if out is None:
        raise InputError("No folder is named for the corpus; give --out FOLDER, or --list to see the languages.")
    _make(out, language, workers, json_out, n_words=words, n_voices=voices, n_takes=takes, similar=similar, seed=seed)


def _make(out: Path, language: list[str] | None, workers: int | None, json_out: bool, **asked: Any) -> None:
    from ..config import validated
    from ..data.corpora import n_cores
    from ..data.layouts import printable
    from ..data.stored import require_empty
    from ..data.synth import SynthSpec, synthesize
    from ..data.synth_languages import CORE_LANGUAGES, LANGUAGES
    from ..errors import InputError
    from .output import note, print_json
    from .progress import bars

    codes = list(dict.fromkeys(language or CORE_LANGUAGES))
    if EVERY in codes:
        if len(codes) > 1:
            others = ", ".join(code for code in codes if code != EVERY)
            raise InputError(f"--language {EVERY} stands with {others}; leave one of the two out.")
        codes = [code for code, row in LANGUAGES.items() if row.accent_of is None]
    spec = validated(SynthSpec, {"languages": codes, **asked}, "data synth")
    require_empty(out)
    try:
        with bars() as report:
            synthesize(
                spec, out, n_workers=workers or n_cores(), progress=lambda done, total: report("speaking", done, total)
            )
    except KeyboardInterrupt:
        note("metavox: stopped; nothing was written.")
        raise SystemExit(130) from None
    n_clips = spec.n_takes_total
    if json_out:
        print_json({"path": printable(str(out)), "clips": n_clips, **spec.model_dump(mode="json")})
    else:
        print(
            f"{printable(str(out))}: {n_clips:,} clip{'s' * (n_clips > 1)}, {len(codes)} "
            f"language{'s' * (len(codes) > 1)} x {spec.n_words} word{'s' * (spec.n_words > 1)} x "
            f"{spec.n_voices} voice{'s' * (spec.n_voices > 1)} x {spec.n_takes} take{'s' * (spec.n_takes > 1)}. "
            "Synthetic speech shows that things work, not how well they work on people."
        )


def _list(rows: "list[Language]", json_out: bool) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from .output import print_json

    n_languages = sum(row.accent_of is None and not row.left_out for row in rows)
    n_accents = sum(row.accent_of is not None and not row.left_out for row in rows)
    if json_out:
        keys = ("code", "name", "kind", "accent_of", "words", "invented", "left_out")
        table_rows = [{key: getattr(row, key) for key in keys} for row in rows]
        print_json({"languages": n_languages, "accents": n_accents, "voices": table_rows})
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("code", "language"):
        table.add_column(name, no_wrap=True)
    table.add_column("words", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    table.add_column("left out, because", overflow="fold")
    for row in rows:
        kind = f"accent of {row.accent_of}" if row.accent_of else row.kind
        words = "-" if row.left_out else f"{row.words:,}{' invented' * row.invented}"
        table.add_row(*(Text(cell) for cell in (row.code, row.name, words, kind, row.left_out)))
    console = Console()
    if not console.is_terminal:
        console.width = 160  # a file or a pipe has no width of its own; 80 would fold the names
    console.print(table)
    print(
        f"{n_languages} languages and {n_accents} accents; {len(rows) - n_languages - n_accents} voices are left out."
    )
