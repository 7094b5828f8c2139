"""The command line: one file a verb, each of which parses, calls and prints.

This module stays light (no torch): ``metavox --help`` answers at once.
"""

import errno
import io
import os
import sys
from importlib.metadata import version
from typing import Annotated, Any

import typer

from ..errors import InputError
from . import (
    adapt,
    average,
    bench,
    compare,
    data_align,
    data_check,
    data_import,
    data_info,
    data_synth,
    demo,
    enroll,
    evaluate,
    recognize,
    record,
    speaker,
    train,
    transcribe,
)

app = typer.Typer(
    help="Speech models that learn from a handful of recordings.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data_app = typer.Typer(
    help="Check recordings, or import them, before anything is learned from them.", no_args_is_help=True
)
app.add_typer(data_app, name="data")

app.command()(demo.demo)
data_app.command()(data_check.check)
data_app.command()(data_align.align)
data_app.command("import")(data_import.import_corpus)
data_app.command()(data_info.info)
data_app.command()(data_synth.synth)
app.command()(train.train)
app.command()(evaluate.evaluate)
app.command()(compare.compare)
app.command()(record.record)
app.command()(enroll.enroll)
app.command()(recognize.recognize)
app.command()(adapt.adapt)
app.command()(transcribe.transcribe)
app.command()(average.average)
app.add_typer(speaker.speaker_app, name="speaker")
app.add_typer(bench.bench_app, name="bench")


def _version(asked: bool) -> bool:
    if asked:
        print(version("metavox"))
        raise typer.Exit
    return asked


@app.callback()
def root(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Speech models that learn from a handful of recordings: adapt to new words from a few takes each."""


def main() -> None:
    """Run the command line: status 0, 2 with one sentence for what cannot be used or written, 130 after Ctrl-C."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file name need be no text, a locale need not know all
    try:
        status = app(prog_name="metavox", standalone_mode=False)
        sys.stdout.flush()
    except InputError as err:
        status = _refuse(str(err))
    except BrokenPipeError:  # whoever read the results has stopped
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except OSError as err:
        place = f"{err.filename}: " if err.filename else ""
        remedy = _REMEDIES.get(err.errno or 0, "check the path and the disk")
        status = _refuse(f"{place}{err.strerror or err}; {remedy}.")
    except (KeyboardInterrupt, typer.Abort):
        status = _STOPPED
    except Exception as err:
        if not hasattr(err, "format_message"):  # a call that typer cannot understand; its classes are not public
            raise
        status = _misunderstood(err)
    if status == _STOPPED:  # typer turns Ctrl-C into a status
        print("metavox: stopped; what was finished is kept (train goes on with --resume).", file=sys.stderr)
    sys.exit(status)


_STOPPED = 130
_REMEDIES = {
    errno.ENOSPC: "free some space or choose another disk",
    errno.EDQUOT: "free some space or choose another disk",
    errno.EACCES: "check its permissions or choose another folder",
    errno.EPERM: "check its permissions or choose another folder",
    errno.EROFS: "check its permissions or choose another folder",
    errno.ENAMETOOLONG: "choose a shorter name",
}


def _refuse(sentence: str) -> int:
    if not sentence.isprintable():
        from ..data.layouts import printable

        sentence = printable(sentence)
    print(f"metavox: {sentence}", file=sys.stderr)
    return 2


def _misunderstood(err: Any) -> int:
    verb = err.ctx.command_path if getattr(err, "ctx", None) else "metavox"
    if type(err).__name__ == "NoArgsIsHelpError":
        print(err.ctx.get_help(), file=sys.stderr)
        return 2
    return _refuse(f"{' '.join(err.format_message().split()).rstrip('.')}; see `{verb} --help`.")
