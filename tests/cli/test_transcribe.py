"""The verb ``transcribe``: what is printed where, what is written, and that nothing is lost to one bad file."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from calling import Metavox, caller

from metavox.contracts import InputError
from metavox.data.interchange.eaf import read_eaf
from tests.sounds import files_below, write
from tests.tones import ToneReader, recording


@pytest.fixture
def metavox(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Metavox:
    """Call the real entry point as ``metavox ...`` would, with models that read tones."""

    def load(source: str | Path) -> ToneReader:
        if str(source) not in ("metavox/asr-small", "exp/tones"):
            raise InputError(f"{source} holds no recogniser.")
        asked.append(str(source))
        return ToneReader(peaky=True)

    asked: list[str] = []
    monkeypatch.setattr("metavox.transcription.load_recogniser", load)

    call = caller(monkeypatch, capsys)
    call.asked = asked  # type: ignore[attr-defined]
    return call


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: two recordings with speech, one without, one that is none."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "one.wav", recording([(1.0, "pala tula"), (4.0, "varu")], 6.0)[0])
    write(tmp_path / "two.flac", recording([(0.5, "ninna")], 2.0)[0])
    write(tmp_path / "quiet.wav", 0.001 * np.random.default_rng(0).standard_normal(32_000))
    (tmp_path / "bad.wav").write_bytes(b"no audio at all")
    return tmp_path


# -------------------------------------------------------------------------------------------------------- on the screen


def test_text_goes_to_standard_output_a_segment_a_line(metavox: Metavox, here: Path) -> None:
    said = metavox("transcribe", "exp/tones", "one.wav")
    assert (said.status, said.out) == (0, "pala tula\nvaru\n")
    assert metavox.asked == ["exp/tones"]  # type: ignore[attr-defined]
    assert set(files_below(here)) == {"one.wav", "two.flac", "quiet.wav", "bad.wav"}


def test_without_a_model_the_bundled_one_is_used(metavox: Metavox, here: Path) -> None:
    said = metavox("transcribe", "one.wav", "two.flac")
    assert (said.status, said.out) == (0, "one.wav\tpala tula varu\ntwo.flac\tninna\n")
    assert metavox.asked == ["metavox/asr-small"]  # type: ignore[attr-defined]
    assert "does not exist" in metavox("transcribe", "gone.wav").err


def test_json_is_one_list_and_nothing_else(metavox: Metavox, here: Path) -> None:
    said = metavox("transcribe", "exp/tones", here / "one.wav", "two.flac", "--json")
    found = json.loads(said.out)
    assert [row["file"] for row in found] == [str(here / "one.wav"), "two.flac"]
    assert found[0]["text"] == "pala tula varu"
    assert found[0]["model"] == "exp/tones"
    assert [word["text"] for word in found[0]["words"]] == ["pala", "tula", "varu"]
    assert found[0]["words"][2]["start_s"] == pytest.approx(4.0, abs=0.05)


@pytest.mark.parametrize(
    ("option", "start"), [("--srt", "1\n00:00:0"), ("--vtt", "WEBVTT\n\n00:00:0"), ("--eaf", "<?xml")]
)
def test_captions_of_one_recording_can_be_piped(metavox: Metavox, here: Path, option: str, start: str) -> None:
    said = metavox("transcribe", "one.wav", option)
    assert said.status == 0
    assert said.out.startswith(start)
    assert "pala tula" in said.out


def test_silence_is_an_empty_transcript_and_a_line(metavox: Metavox, here: Path) -> None:
    said = metavox("transcribe", "quiet.wav")
    assert (said.status, said.out) == (0, "")
    assert said.err.splitlines()[-1] == "quiet.wav: no speech was found; its transcript is empty."
    found = json.loads(metavox("transcribe", "quiet.wav", "two.flac", "--json").out)
    assert [row["text"] for row in found] == ["", "ninna"]
    assert found[0]["words"] == []


# ------------------------------------------------------------------------------------------------------------ in files


def test_a_folder_gets_one_file_a_recording_and_format(metavox: Metavox, here: Path) -> None:
    said = metavox(
        "transcribe", "exp/tones", "one.wav", "two.flac", "--srt", "--vtt", "--eaf", "--json", "--out", "new/out"
    )
    assert (said.status, said.out) == (0, "")
    written = files_below(here / "new" / "out")
    assert set(written) == {f"{name}.{kind}" for name in ("one", "two") for kind in ("srt", "vtt", "eaf", "json")}
    assert json.loads(written["two.json"])["text"] == "ninna"
    assert b"pala tula" in written["one.srt"]
    document = read_eaf(here / "new" / "out" / "one.eaf")
    assert [annotation.text for annotation in document.tiers["words"].annotations] == ["pala", "tula", "varu"]
    assert document.media[0].relative == "./../../one.wav"
    assert metavox("transcribe", "one.wav", "--out", "text").status == 0
    assert files_below(here / "text") == {"one.txt": b"pala tula\nvaru\n"}


def test_the_others_are_written_where_one_is_bad(metavox: Metavox, here: Path) -> None:
    said = metavox("transcribe", "exp/tones", "bad.wav", "one.wav", "gone.wav", "two.flac", "--srt", "--out", "out")
    assert said.status == 2
    assert set(files_below(here / "out")) == {"one.srt", "two.srt"}
    sentence = said.err.strip().splitlines()[-1]
    assert sentence.startswith("metavox: 2 of 4 recordings cannot be transcribed: bad.wav cannot be decoded")
    assert "gone.wav does not exist" in sentence
    said = metavox("transcribe", "bad.wav", "two.flac", "--json")
    assert said.status == 2
    assert [row["text"] for row in json.loads(said.out)] == ["ninna"]
    assert said.err.strip().splitlines()[-1].startswith("metavox: bad.wav cannot be decoded")


def test_damage_that_is_found_late_loses_only_its_own_file(metavox: Metavox, here: Path) -> None:
    path = write(here / "cut.flac", np.tile(recording([(1.0, "pala")], 4.0)[0], 5))
    path.write_bytes(path.read_bytes()[:-40_000])
    said = metavox("transcribe", "cut.flac", "two.flac", "--out", "out")
    assert said.status == 2
    assert "cut.flac" in said.err
    assert set(files_below(here / "out")) == {"two.txt"}


def test_recordings_of_the_same_name_do_not_overwrite_each_other(metavox: Metavox, here: Path) -> None:
    write(here / "one.flac", recording([(0.5, "a")], 2.0)[0])
    assert metavox("transcribe", "one.wav", "one.flac", "--out", "out").status == 0
    assert set(files_below(here / "out")) == {"one.wav.txt", "one.flac.txt"}
    write(here / "sub" / "one.wav", recording([(0.5, "a")], 2.0)[0])
    said = metavox("transcribe", "one.wav", "sub/one.wav", "--out", "again")
    assert said.status == 2
    assert "would both be written as again/one.wav; transcribe them apart" in said.err
    assert not (here / "again").exists()


# ------------------------------------------------------------------------------------------------------------- options


def test_a_beam_and_a_text_are_passed_on(metavox: Metavox, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from metavox.runtime import transcriber

    made: list[Any] = []
    init = transcriber.Transcriber.__init__

    def remember(self: Any, *arguments: Any, **options: Any) -> None:
        init(self, *arguments, **options)
        made.append(self)

    monkeypatch.setattr(transcriber.Transcriber, "__init__", remember)
    (here / "text.txt").write_text("pala tula\nvaru\n")
    for options in ([], ["--beam", 3], ["--lm", "text.txt"], ["--beam", 4, "--lm", "text.txt", "--lm-weight", 0.25]):
        assert metavox("transcribe", "one.wav", *options).out == "pala tula\nvaru\n"
    assert [(one.decoding, one.beam) for one in made] == [("own", 16), ("beam", 3), ("beam", 16), ("beam", 4)]
    assert [one.lm is None for one in made] == [True, True, False, False]
    assert made[3].lm_weight == 0.25


def test_threads_are_those_of_torch(metavox: Metavox, here: Path) -> None:
    before = torch.get_num_threads()
    try:
        assert metavox("transcribe", "two.flac", "--threads", 2).status == 0
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["exp/tones"], "No recording was given to transcribe with exp/tones"),
        ([], "Missing argument"),
        (["exp/other", "one.wav"], "exp/other holds no recogniser"),
        (["one.wav", "one.wav"], "one.wav is given twice"),
        (["one.wav", "--srt", "--vtt"], "add --out FOLDER"),
        (["one.wav", "two.flac", "--srt"], "add --out FOLDER"),
        (["one.wav", "--beam", "0"], "--beam"),
        (["one.wav", "--lm", "gone.txt"], "gone.txt cannot be read"),
        (["one.wav", "--lm-weight", "-1"], "--lm-weight"),
        (["one.wav", "--out", "bad.wav"], "bad.wav is a file"),
        (["one.wav", "--out", "bad.wav/deep"], "bad.wav is a file"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(metavox: Metavox, here: Path, arguments: list[str], said: str) -> None:
    before = files_below(here)
    found = metavox("transcribe", *arguments)
    assert found.status == 2
    assert found.out == ""
    assert said in found.err
    assert found.err.count("\n") == 1
    assert files_below(here) == before


def test_ctrl_c_keeps_what_was_finished(metavox: Metavox, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from metavox.runtime.transcriber import Transcriber

    whole = Transcriber.transcribe

    def stop(self: Transcriber, clip: Any, report: Any = None) -> Any:
        if str(clip) == "two.flac":
            raise KeyboardInterrupt
        return whole(self, clip, report)

    monkeypatch.setattr(Transcriber, "transcribe", stop)
    said = metavox("transcribe", "one.wav", "two.flac", "--out", "out")
    assert said.status == 130
    assert files_below(here / "out") == {"one.txt": b"pala tula\nvaru\n"}


def test_help_shows_an_example(metavox: Metavox) -> None:
    said = metavox("transcribe", "--help")
    assert (said.status, said.err) == (0, "")
    assert "Example: metavox transcribe " in " ".join(said.out.split())
    assert "transcribe" in metavox("--help").out
