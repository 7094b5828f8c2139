"""``metavox data info``: what corpora hold, and what leaks between their parts."""

import unicodedata
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from ..data.inspection import CorpusInfo, Inspection, Leak

SHOWN_SYMBOLS = 60
SHOWN_VALUES = 6


def info(
    corpora: Annotated[
        list[str], typer.Argument(metavar="CORPUS...", help="Corpus folders or manifests.", show_default=False)
    ],
    corpus: Annotated[
        list[str] | None, typer.Option(help="A further corpus to compare with. Repeat it.", show_default=False)
    ] = None,
    audio: Annotated[
        bool, typer.Option("--audio/--no-audio", help="Decode the recordings: rates, and copies of one another.")
    ] = True,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with status 2 where there is a leak.")] = False,
    allow: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND", help="A kind of leak that --strict lets pass: word, sentence, ... Repeat it."),
    ] = None,
    json_out: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Tell what corpora hold: hours, speakers, languages, classes, symbols; and what leaks between their parts.

    Parts are the corpora, or their splits: the lists of Speech Commands, or the key "split" in manifest rows. Two
    parts leak where they share a recording (whatever its file is called), a speaker, a sentence or a word.

    Example: metavox data info my-train --corpus my-test --strict --allow word
    """
    from ..data.corpora import require
    from ..data.inspection import LEAK_KINDS, inspect_corpora
    from ..errors import InputError
    from .output import print_json
    from .progress import bars

    allowed = set(allow or ())
    if unknown := sorted(allowed - set(LEAK_KINDS)):
        raise InputError(f"--allow {unknown[0]} is no kind of leak; choose from {', '.join(LEAK_KINDS)}.")
    paths = [require(name) for name in (*corpora, *(corpus or ()))]
    with bars() as report:
        found = inspect_corpora(paths, audio=audio, progress=lambda done, total: report("recordings", done, total))
    if json_out:
        print_json(_as_json(found))
    else:
        _print(found)
    if strict and any(leak.kind not in allowed for leak in found.leaks):
        raise typer.Exit(2)


def _as_json(found: "Inspection") -> dict[str, Any]:
    from ..contracts import as_row
    from ..data.layouts import printable

    leaks = [as_row(leak) | {"examples": [printable(name) for name in leak.examples]} for leak in found.leaks]
    return {"corpora": [_info_json(c) for c in found.corpora], "parts": list(found.parts), "leaks": leaks}


def _info_json(c: "CorpusInfo") -> dict[str, Any]:
    from ..data.inspection import QUANTILES
    from ..data.layouts import printable

    takes = c.takes or (None, None, None)
    return {
        "path": printable(str(c.path)),
        "utterances": c.n_utterances,
        "hours": round(c.hours, 4),
        "speakers": c.n_speakers,
        "without_speaker": c.n_without_speaker,
        "splits": c.splits,
        "languages": c.languages,
        "accents": c.accents,
        "genders": c.genders,
        "classes": c.n_classes,
        **dict(zip(("takes_min", "takes_median", "takes_max"), takes, strict=True)),
        "texts": c.n_texts,
        "symbols": c.symbols,
        **{f"duration_s_p{100 * q:g}": round(d, 3) for q, d in zip(QUANTILES, c.duration_s, strict=True)},
        "rates_hz": None if c.rates_hz is None else {str(rate): n for rate, n in c.rates_hz.items()},
        "silent": c.n_silent,
    }


def _print(found: "Inspection") -> None:
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = 120  # a file or a pipe has no width of its own; 80 would fold the names
    for corpus in found.corpora:
        _print_corpus(corpus, console)
    _print_leaks(found, console)


def _print_corpus(c: "CorpusInfo", console: "Console") -> None:
    from rich.table import Table
    from rich.text import Text

    from ..data.layouts import printable

    rows = [("utterances", f"{c.n_utterances:,} in {_hours(c.hours)}")]
    if c.splits:
        rows.append(("splits", _counts(c.splits)))
    without = f", {c.n_without_speaker:,} utterances without one" if c.n_without_speaker else ""
    rows.append(("speakers", f"{c.n_speakers:,}{without}"))
    rows += [(name, _counts(getattr(c, name))) for name in ("languages", "accents", "genders") if getattr(c, name)]
    if c.takes:
        low, median, high = c.takes
        takes = f"{low:,} take{'s' * (low > 1)}" if low == high else f"{low:,} to {high:,} takes, median {median:g}"
        rows.append(("classes", f"{c.n_classes:,}, each with {takes}"))
    rows.append(("texts", f"{c.n_texts:,} different"))
    if c.symbols:
        symbols = " ".join(map(_visible, list(c.symbols)[:SHOWN_SYMBOLS]))
        more = f" and {len(c.symbols) - SHOWN_SYMBOLS:,} more" if len(c.symbols) > SHOWN_SYMBOLS else ""
        rows.append(("symbols", f"{len(c.symbols):,}: {symbols}{more}"))
    low_s, p5_s, median_s, p95_s, high_s = c.duration_s
    rows.append(
        (
            "durations",
            f"{low_s:.2f} to {high_s:.2f} s, median {median_s:.2f} s, nine in ten {p5_s:.2f} to {p95_s:.2f} s",
        )
    )
    if c.rates_hz:
        rows.append(("rates", ", ".join(f"{rate_hz:,} Hz ({n:,})" for rate_hz, n in c.rates_hz.items())))
    if c.n_silent:
        rows.append(("silent", f"{c.n_silent:,} recordings of digital zeros"))
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, Text(printable(value)))
    console.print(Text(printable(str(c.path)), style="bold"), soft_wrap=True)
    console.print(table)
    console.print()


def _visible(symbol: str) -> str:
    """A mark on its carrier, and the number of a character that cannot be seen."""
    category = unicodedata.category(symbol)
    if category.startswith("M"):
        return f"\u25cc{symbol}"
    return f"U+{ord(symbol):04X}" if category.startswith("C") else symbol


def _hours(hours: float) -> str:
    return f"{hours:.2f} hours" if hours >= 1 else f"{60 * hours:.1f} minutes"


def _counts(counts: dict[str, int]) -> str:
    some = [f"{value} ({n:,})" for value, n in list(counts.items())[:SHOWN_VALUES]]
    return ", ".join(some) + (f" and {len(counts) - SHOWN_VALUES:,} more" if len(counts) > SHOWN_VALUES else "")


def _print_leaks(found: "Inspection", console: "Console") -> None:
    from rich.table import Table
    from rich.text import Text

    from ..data.layouts import printable

    if not found.leaks:
        if len(found.parts) > 1:
            console.print(f"No leaks between {len(found.parts)} parts.")
        return
    table = Table(box=None, padding=(0, 2, 0, 0), title="Leaks", title_justify="left", title_style="bold")
    for name in ("shared", "between", "utterances", "such as"):
        table.add_column(name, overflow="fold", no_wrap=name in ("shared", "utterances"))
    for leak in found.leaks:
        cells = (_shared(leak), _between(leak), _affected(leak), "; ".join(leak.examples))
        table.add_row(*(Text(printable(cell)) for cell in cells))
    console.print(table)


def _shared(leak: "Leak") -> str:
    return f"{leak.n_shared:,} {leak.kind}{'s' * (leak.n_shared > 1)}"


def _between(leak: "Leak") -> str:
    return f"twice in {leak.first}" if leak.first == leak.second else f"{leak.first} and {leak.second}"


def _affected(leak: "Leak") -> str:
    return f"{leak.n_first:,}" if leak.first == leak.second else f"{leak.n_first:,} and {leak.n_second:,}"
