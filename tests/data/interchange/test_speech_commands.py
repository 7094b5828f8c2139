"""Speech Commands as it is unpacked: published parts, hashed parts, background noise."""

from pathlib import Path

import pytest

from metavox.contracts import InputError
from metavox.data.interchange.formats import detect
from metavox.data.interchange.segments import Options, Segment
from metavox.data.interchange.speech_commands import read_speech_commands
from metavox.data.layouts import speech_commands_split
from tests.sounds import say, write

CLIPS = [f"{word}/{speaker}_nohash_{n}.wav" for word in ("up", "down") for speaker in ("3cc5", "0a7c") for n in (0, 1)]


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    for name in CLIPS:
        write(tmp_path / name, say(name))
    write(tmp_path / "_background_noise_" / "running_tap.wav", say("noise"))
    (tmp_path / "_background_noise_" / "README.md").write_text("noise")
    (tmp_path / "README.md").write_text("Speech Commands Data Set v0.02")
    (tmp_path / "validation_list.txt").write_text("up/3cc5_nohash_0.wav\nup/3cc5_nohash_1.wav\n")
    (tmp_path / "testing_list.txt").write_text("down/0a7c_nohash_0.wav\n")
    return tmp_path


def read(path: Path, **options: str) -> list[Segment]:
    return list(read_speech_commands(path, Options(**options)))


def test_the_published_lists_are_the_parts(commands: Path) -> None:
    assert detect(commands) == "speech-commands"
    segments = read(commands, lang="en")
    assert sorted(s.audio.relative_to(commands.resolve()).as_posix() for s in segments) == sorted(CLIPS)
    parts = {s.id: s.split for s in segments}
    assert parts["up/3cc5_nohash_1"] == "validation"
    assert parts["down/0a7c_nohash_0"] == "test"
    assert list(parts.values()).count("train") == 5
    assert {(s.label, s.speaker, s.lang) for s in segments} == {
        (word, speaker, "en") for word in ("up", "down") for speaker in ("3cc5", "0a7c")
    }
    assert [s.id for s in read(commands, split="validation")] == ["up/3cc5_nohash_0", "up/3cc5_nohash_1"]


def test_without_lists_the_speaker_decides(commands: Path) -> None:
    for name in ("validation_list.txt", "testing_list.txt"):
        (commands / name).unlink()
    assert {s.speaker: s.split for s in read(commands)} == {who: speech_commands_split(who) for who in ("3cc5", "0a7c")}


def test_what_is_no_speech_commands_is_one_sentence(commands: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^There is no part 'dev2'; choose one of train, validation, test\.$"):
        read(commands, split="dev2")
    (commands / "up" / "3cc5_nohash_0.wav").write_bytes(b"RIFF")
    with pytest.raises(InputError, match=r"^up/3cc5_nohash_0\.wav: "):
        read(commands)
    (commands / "up" / "3cc5_nohash_0.wav").write_bytes(b"")
    with pytest.raises(InputError, match=r"^up/3cc5_nohash_0\.wav: .* is an empty file"):
        read(commands)


def test_plain_word_folders_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "up" / "1.wav", say("up"))
    with pytest.raises(InputError, match="name the unpacked folder of Speech Commands"):
        read(tmp_path)
