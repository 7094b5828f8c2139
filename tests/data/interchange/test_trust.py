"""What a source may open and run: regular files; commands when the user says so, and nothing else."""

import os
import socket
from functools import partial
from operator import length_hint
from pathlib import Path

import numpy as np
import pytest
import sounds

from metavox.audio import read
from metavox.contracts import InputError
from metavox.data.interchange.segments import Options, Segment
from metavox.data.interchange.trust import Made, audio_file, in_turn, require_trust, run_command


def test_a_relative_path_is_sought_beside_the_manifest_then_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside, here = tmp_path / "manifests", tmp_path / "here"
    for folder in (beside, here):
        sounds.write(folder / "a.wav", sounds.say("tula"))
    sounds.write(here / "b.wav", sounds.say("tula"))
    monkeypatch.chdir(here)
    assert audio_file("a.wav", beside, "m:1") == beside / "a.wav"
    assert audio_file("b.wav", beside, "m:1") == here / "b.wav"
    assert audio_file("../here/b.wav", beside, "m:1") == here / "b.wav"
    assert audio_file(str(here / "b.wav"), beside, "m:1") == here / "b.wav"


def test_a_link_to_a_file_is_followed(tmp_path: Path) -> None:
    sounds.write(tmp_path / "a.wav", sounds.say("tula"))
    (tmp_path / "b.wav").symlink_to("a.wav")
    assert audio_file("b.wav", tmp_path, "m:1") == tmp_path / "b.wav"


def test_what_is_no_regular_file_is_refused_without_being_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    os.mkfifo(tmp_path / "fifo.wav")  # opening one would wait for ever
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "zero.wav").symlink_to("/dev/zero")
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.wav")
        cases = {
            "fifo.wav": "not a regular file",
            "folder.wav": "is a folder",
            "zero.wav": "not a regular file",
            "/dev/zero": "not a regular file",
            "socket.wav": "not a regular file",
            "loop.wav": "does not exist",
            "none.wav": "neither beside the manifest nor in the working directory",
            "/none.wav": "'/none.wav' does not exist; ",
            " ": "no file name",
            "a\0b": "no file name",
            "http://127.0.0.1:9/a.wav": "is an address",
            "s3://bucket/a.wav": "is an address",
            "file:///etc/passwd": "is an address",
            "x" * 5000: "does not exist",
        }
        for name, sentence in cases.items():
            with pytest.raises(InputError, match=sentence) as caught:
                audio_file(name, tmp_path, "m:1")
            assert str(caught.value).startswith("m:1: ")
            assert len(str(caught.value)) < 300


def test_a_command_needs_trust() -> None:
    with pytest.raises(InputError, match=r"^m:1: .*'touch ran'.*--trust"):
        require_trust("touch ran", Options(), "m:1")
    require_trust("touch ran", Options(trust=True), "m:1")


def test_a_command_that_fails_or_says_nothing_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="ended with status 3: 'no such tape'; run it yourself"):
        run_command("echo no such tape >&2; exit 3", tmp_path / "a", "m:1")
    with pytest.raises(InputError, match="wrote nothing"):
        run_command("true", tmp_path / "a", "m:1")
    with pytest.raises(InputError, match="wrote nothing"):  # and does not read what the user types
        run_command("cat", tmp_path / "a", "m:1")


def test_commands_are_told_once_run_once_a_recording_and_leave_nothing(tmp_path: Path) -> None:
    waves = {name: sounds.say(name) for name in ("tula", "rime")}
    plan: list[tuple[Segment, Made | None]] = []
    for name, wave in waves.items():
        sounds.write(tmp_path / f"{name}.wav", wave)
        command = f"echo {name} >> '{tmp_path}/log'; cat '{tmp_path}/{name}.wav'"
        made = Made((command,), partial(run_command, command, place="m"), command=command)
        plan += [(Segment(f"{name}-{i}", Path(), end_s=0.3), made) for i in range(2)]
    said: list[str] = []
    segments = in_turn(plan, Options(trust=True, announce=said.append))
    assert len(said) == 1
    assert "running 2 commands" in said[0]
    assert said[0].endswith(str(plan[0][1] and plan[0][1].command))
    assert not (tmp_path / "log").exists()  # told before it is run
    assert length_hint(segments) == 4
    paths = set()
    for segment in segments:
        paths.add(segment.audio)
        wave = waves[segment.id[:4]]
        np.testing.assert_allclose(read(segment.audio), wave, atol=1e-4)
    assert (tmp_path / "log").read_text() == "tula\nrime\n"
    assert len(paths) == 2
    assert not any(path.exists() or path.parent.exists() for path in paths)


def test_a_plan_of_files_is_handed_on_and_nothing_is_told(tmp_path: Path) -> None:
    segments = [Segment(str(i), tmp_path) for i in range(3)]
    said: list[str] = []
    found = in_turn([(segment, None) for segment in segments], Options(announce=said.append))
    assert length_hint(found) == 3
    assert list(found) == segments
    assert said == []
