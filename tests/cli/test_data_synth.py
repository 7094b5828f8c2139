"""The verb ``data synth``: the list, a corpus, and what is refused before anything is written."""

import json
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from metavox.cli.data_synth import synth
from metavox.contracts import InputError
from metavox.data.manifests import load_corpus
from metavox.data.synth_languages import LANGUAGES, VOICES

app = typer.Typer()
app.command()(synth)
runner = CliRunner()


def test_the_list_names_every_voice_and_why_some_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("espeakng_loader", "babel"):  # nothing needs to be installed to see it
        monkeypatch.setitem(sys.modules, package, None)
    result = runner.invoke(app, ["--list"])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == list(VOICES)
    konkani = next(line for line in lines if line.startswith("kok "))
    assert konkani.rstrip().endswith(VOICES["kok"].left_out)
    assert next(line for line in lines if line.startswith("qya ")).split()[2:4] == ["610", "invented"]
    assert next(line for line in lines if line.startswith("es-419 ")).rstrip().endswith("accent of es")
    assert lines[-1] == "113 languages and 17 accents; 11 voices are left out."


def test_the_list_as_json() -> None:
    found = json.loads(runner.invoke(app, ["--list", "--json"]).stdout)
    assert found["languages"] + found["accents"] == len(LANGUAGES)
    assert [row["code"] for row in found["voices"]] == list(VOICES)
    assert found["voices"][0] == {
        "code": "af", "name": "Afrikaans", "kind": "natural", "accent_of": None, "words": LANGUAGES["af"].words,
        "invented": False, "left_out": "",
    }  # fmt: skip


@pytest.mark.synth
def test_a_corpus_is_made_as_asked(tmp_path: Path) -> None:
    pytest.importorskip("babel")
    pytest.importorskip("espeakng_loader")
    out = tmp_path / "corpus"
    options = ["--language", "sw", "--language", "es-419", "--language", "sw", "--words", "4", "--voices", "2"]
    result = runner.invoke(app, ["--out", str(out), *options, "--takes", "2", "--similar", "0.5", "--json"])
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["clips"] == 32
    assert said["languages"] == ["sw", "es-419"]
    assert said["similar"] == 0.5
    utterances = load_corpus(out)
    assert len(utterances) == 32
    assert {(u.lang, u.accent) for u in utterances} == {("sw", None), ("es", "es-419")}
    before = sorted(path.read_bytes() for path in out.rglob("*") if path.is_file())
    with pytest.raises(InputError, match="is not empty; choose a new folder"):
        runner.invoke(app, ["--out", str(out), *options], catch_exceptions=False, standalone_mode=False)
    assert sorted(path.read_bytes() for path in out.rglob("*") if path.is_file()) == before


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ([], "give --out FOLDER, or --list"),
        (["--out", "x", "--language", "kok"], r"Konkani \(kok\) is left out .* names; take mr or gu\."),
        (["--out", "x", "--language", "germna"], "did you mean de"),
        (["--out", "x", "--language", "de", "--language", "all"], "all stands with de; leave"),
        (["--out", "file/x"], "since .*file is no folder; choose another place"),
        (["--out", "file"], "file is no folder; choose a new one"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_writes_nothing(options, why, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=why) as caught:
        runner.invoke(app, options, catch_exceptions=False, standalone_mode=False)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_ctrl_c_leaves_nothing_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("metavox.data.synth._speak_all", stop)
    done = runner.invoke(app, ["--out", str(tmp_path / "x"), "--language", "sw", "--words", "2", "--voices", "1"])
    assert done.exit_code == 130
    assert done.stderr.splitlines()[-1] == "metavox: stopped; nothing was written."
    assert not list(tmp_path.iterdir())
