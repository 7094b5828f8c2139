"""``metavox speaker``: who speaks."""

import typer

from . import speaker_calibrate, speaker_decide, speaker_enroll, speaker_held

speaker_app = typer.Typer(
    help="Enrol voices, verify and name them, and forget them. It is not a lock.", no_args_is_help=True
)
speaker_app.command()(speaker_enroll.enroll)
speaker_app.command()(speaker_decide.verify)
speaker_app.command()(speaker_decide.identify)
speaker_app.command("list")(speaker_held.list_voices)
speaker_app.command()(speaker_held.export)
speaker_app.command()(speaker_held.forget)
speaker_app.command()(speaker_calibrate.calibrate)
