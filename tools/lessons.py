"""Lessons: scripts of cells, the notebooks that are made of them, and running these.

    python tools/lessons.py build                  # write lessons/*.ipynb and lessons/zh/*.ipynb
    python tools/lessons.py check                  # say which are not what their scripts give
    python tools/lessons.py run [NAME ...]         # run notebooks top to bottom, each in a fresh kernel

A lesson is a script: ``# %%`` begins a cell of code, ``# %% [markdown]`` one of text in comments. Its notebook holds
the same cells and no outputs, so that the same script always gives the same file; what is reviewed is the script. A
Chinese lesson has the code of the English one but for comments and what is said (``same_code``).
"""

import argparse
import ast
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LESSONS = ROOT / "lessons"
TEXT, CODE = "markdown", "code"
MARK = re.compile(r"^# %%(?: \[(markdown)\])?$")
TORN = re.compile(r"(?<=[\u3000-\u9fff\uff00-\uffef])\n *(?=[\u3000-\u9fff\uff00-\uffef])")
"""A line break inside a Chinese paragraph, which a notebook would show as a space."""
LIMIT_S = 600
"""A cell that runs longer is stopped."""


@dataclass(frozen=True)
class Cell:
    """What stands between two marks."""

    kind: str
    source: str


# ------------------------------------------------------------------------------------------------------------- scripts


def scripts(folder: Path = LESSONS) -> list[Path]:
    """All lessons, English ones first."""
    return [*sorted(folder.glob("*.py")), *sorted((folder / "zh").glob("*.py"))]


def cells_of(script: str, name: str = "script") -> list[Cell]:
    """The cells of a script.

    Raises:
        ValueError: something before the first mark, or a line of text that is no comment.
    """
    found: list[Cell] = []
    kind, lines = "", []

    def close() -> None:
        text = "\n".join(lines).strip("\n")
        if kind and text:
            found.append(Cell(kind, text))

    for number, line in enumerate(script.splitlines(), 1):
        mark = MARK.match(line)
        if mark:
            close()
            kind, lines = mark.group(1) or CODE, []
        elif not kind and line.strip():
            raise ValueError(f"{name}:{number} stands before the first cell; begin the script with '# %% [markdown]'.")
        elif kind == TEXT and line.strip():
            if line != "#" and not line.startswith("# "):
                raise ValueError(f"{name}:{number} is no comment in a cell of text; begin it with '# '.")
            lines.append(line[2:])
        else:
            lines.append(line)
    close()
    return found


def notebook_of(script: str, name: str = "script") -> str:
    """The notebook of a script, as it is written to disk."""
    import nbformat
    from nbformat import v4

    cells = []
    for number, cell in enumerate(cells_of(script, name), 1):
        make = v4.new_markdown_cell if cell.kind == TEXT else v4.new_code_cell
        source = TORN.sub("", cell.source) if cell.kind == TEXT else cell.source
        cells.append(make(source, id=f"cell-{number:02d}"))
    metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python"},
    }
    notebook = v4.new_notebook(cells=cells, metadata=metadata)
    notebook.nbformat_minor = 5
    nbformat.validate(notebook)
    return nbformat.writes(notebook, version=4) + "\n"


def stale(folder: Path = LESSONS) -> list[str]:
    """Notebooks that are missing or not what their scripts give, and those without a script."""
    found = []
    for script in scripts(folder):
        notebook = script.with_suffix(".ipynb")
        made = notebook_of(script.read_text(encoding="utf-8"), script.name)
        if not notebook.is_file() or notebook.read_text(encoding="utf-8") != made:
            found.append(str(notebook.relative_to(folder)))
    orphans = [path for path in folder.rglob("*.ipynb") if not path.with_suffix(".py").is_file()]
    return found + sorted(str(path.relative_to(folder)) for path in orphans)


# ------------------------------------------------------------------------------------------------------- two languages


class _Silent(ast.NodeTransformer):
    """Code without what it says: text becomes empty, an f-string the set of what it shows."""

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Constant("") if isinstance(node.value, str) else node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        shown = [self.visit(part.value) for part in node.values if isinstance(part, ast.FormattedValue)]
        return ast.Set(sorted(shown, key=ast.dump)) if shown else ast.Constant("")


def same_code(one: str, other: str) -> bool:
    """Whether two scripts have the same cells but for text, comments and what strings say."""
    first, second = cells_of(one), cells_of(other)
    if [cell.kind for cell in first] != [cell.kind for cell in second]:
        return False
    return all(
        _bare(cell.source) == _bare(twin.source) for cell, twin in zip(first, second, strict=True) if cell.kind == CODE
    )


def _bare(code: str) -> str:
    return ast.dump(_Silent().visit(ast.parse(code)))


# ------------------------------------------------------------------------------------------------------------- running


def run(notebook: Path) -> tuple[float, str]:
    """Run a notebook in a fresh kernel and an empty folder; seconds, and what it printed.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed; the message holds the cell and the error.
    """
    import nbformat
    from nbclient import NotebookClient

    started = time.monotonic()
    read = nbformat.read(notebook, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(read, timeout=LIMIT_S, kernel_name="python3", resources={"metadata": {"path": folder}})
        client.extra_arguments = ["--log-level=ERROR"]
        client.execute()
    outputs = [output for cell in read.cells for output in cell.get("outputs", [])]
    printed = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")
    return time.monotonic() - started, printed


def _run_all(names: Sequence[str], folder: Path, show: bool) -> int:
    chosen = [path for path in scripts(folder) if not names or path.stem in names]
    unknown = sorted(set(names) - {path.stem for path in chosen})
    if unknown or not chosen:
        known = ", ".join(sorted({path.stem for path in scripts(folder)}))
        print(f"There is no lesson {', '.join(unknown) or 'at all'}; there are {known}.", file=sys.stderr)
        return 2
    failed = 0
    for script in chosen:
        name = script.relative_to(folder).with_suffix("")
        try:
            seconds, printed = run(script.with_suffix(".ipynb"))
        except Exception as error:  # the lessons after it are run all the same
            failed += 1
            print(f"{name}: failed\n{error}", file=sys.stderr, flush=True)
            continue
        print(f"{name}: {seconds:.0f} s", flush=True)
        if show:
            print(printed, flush=True)
    return 1 if failed else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0; 1 where something is stale or fails, 2 for a lesson that there is not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=LESSONS, help="where the lessons are")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("build", help="write the notebooks")
    verbs.add_parser("check", help="say which notebooks are not what their scripts give")
    running = verbs.add_parser("run", help="run notebooks, each in a fresh kernel")
    running.add_argument("names", nargs="*", metavar="NAME", help="lessons to run, in both languages; all without")
    running.add_argument("--show", action="store_true", help="print what they print")
    given = parser.parse_args(arguments)
    if given.verb == "run":
        return _run_all(given.names, given.folder, given.show)
    if given.verb == "build":
        for script in scripts(given.folder):
            made = notebook_of(script.read_text(encoding="utf-8"), script.name)
            script.with_suffix(".ipynb").write_text(made, encoding="utf-8")
        return 0
    found = stale(given.folder)
    for name in found:
        print(f"{name} is not what its script gives; run python tools/lessons.py build.", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
