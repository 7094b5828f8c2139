"""``metavox speaker calibrate``: likelihood ratios for an encoder of voices, from recordings of other people."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InputError


def calibrate(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A bundled name, a folder, mfcc, an .onnx file or hf:NAME.", show_default=False
        ),
    ],
    corpus: Annotated[
        list[str],
        typer.Option(
            metavar="CORPUS",
            help="Recordings of people who are in nobody's gallery; repeat it: three corpora or more hold best.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder for the calibrated model.", show_default=False)],
    seed: Annotated[int, typer.Option(min=0, help="Draws clips and trials.")] = 0,
    json_out: Annotated[bool, typer.Option("--json", help="Print a JSON summary.")] = False,
) -> None:
    """Learn what the scores of a model are worth, from people whom it was not trained on, and write a model folder.

    Example: metavox speaker calibrate voxceleb_resnet34.onnx --corpus my-people --out my-voices

    Eight people with two clips each are the least. What is fitted on one corpus is too sure of itself on another.
    """
    from ..checkpoint import put_folder
    from ..data.corpora import require
    from ..voices.development import development
    from ..voices.encoders import load_voices, save_calibrated
    from ..voices.furnishing import furnish
    from .output import print_json
    from .progress import bars

    _require_free(out)
    opened = load_voices(model)
    paths = [require(name) for name in corpus]
    with bars() as report:
        people = development(paths, opened.encoder.rate_hz, seed, report)
        found = furnish(opened.encoder, people.clips, seed, corpus_of=people.corpus_of, report=report)
    put_folder(out, "config.json", lambda beside: save_calibrated(beside, opened, model, found), "model of voices")
    made = load_voices(out)
    summary = {"model": model, "out": str(out), "hash": made.hash, **found.about}
    if json_out:
        print_json(summary)
        return
    _print(summary)


def _require_free(out: Path) -> None:
    """Raise where the folder is something that must not be replaced; asked before anything is computed."""
    if not out.exists():
        return
    if out.is_dir() and (out / "config.json").is_file():
        from ..checkpoint import read_document
        from ..voices.encoders import KINDS

        if read_document(out / "config.json", "model").get("kind") in KINDS:
            return
    raise InputError(f"{out} exists and is no model of voices; choose another name or remove it.")


def _print(found: dict[str, Any]) -> None:
    print(
        f"{found['model']}: {found['speakers']} people of {', '.join(found['corpora'])}, {found['clips']} clips; "
        f"{found['n_target']} trials of one voice, {found['n_nontarget']} of two"
    )
    cost = f"Cllr {found['cllr']:.3f}, at best {found['min_cllr']:.3f}"
    print(f"left out of the fit: EER {100 * found['eer']:.1f} %, {cost}")
    print(f"rests on: {', '.join(found['features'])}")
    print(f"written to {found['out']}")
