"""The command line: one file a verb, each of which parses, calls and prints.

This module stays light (no torch): ``metavox --help`` answers at once.
"""

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from ..errors import InputError
from . import data_check, demo, enroll, evaluate, recognize, train

app = typer.Typer(
    help="Speech models that learn from a handful of recordings.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data_app = typer.Typer(help="Look at recordings before anything is learned from them.", no_args_is_help=True)
app.add_typer(data_app, name="data")

app.command()(demo.demo)
data_app.command()(data_check.check)
app.command()(train.train)
app.command()(evaluate.evaluate)
app.command()(enroll.enroll)
app.command()(recognize.recognize)


def _version(asked: bool) -> None:
    if asked:
        print(version("metavox"))
        raise typer.Exit


@app.callback()
def root(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Speech models that learn from a handful of recordings: adapt to new words from a few takes each."""


def main() -> None:
    """Run the command line: status 0, 2 with one sentence for unusable input, 130 after Ctrl-C."""
    try:
        app()
    except InputError as err:
        print(f"metavox: {err}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("metavox: stopped; what was finished is kept (train goes on with --resume).", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
