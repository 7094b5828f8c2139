"""Kaldi data directories: by lhotse's export, by hand, and by somebody who means harm."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sounds

from metavox.audio import from_array, read
from metavox.contracts import InputError
from metavox.data.interchange.formats import detect
from metavox.data.interchange.kaldi import read_kaldi
from metavox.data.interchange.segments import Options, Segment
from metavox.data.interchange.write import write_corpus
from metavox.data.manifests import load_corpus

PLAIN = {
    "wav.scp": "r2 b.wav\nr1 a.wav\n",
    "segments": "u3 r2 0.1 0.4\nu1 r1 0 0.25\nu2 r1 0.3 -1\n",
    "text": "u1 ąčę du\nu3\nu2\tne\n",
    "utt2spk": "u1 anna\nu2 bela\nu3 anna\n",
    "spk2gender": "anna f\nbela m\n",
    "utt2lang": "u1 lt\nu2 lt\n",
    "reco2dur": "r1 0.5\nr2 0.5\n",
}


def directory(folder: Path, **changes: str | bytes | None) -> Path:
    """A data directory; a change of None leaves the file out (``wav_scp`` is wav.scp)."""
    for name, word in (("a", "tula"), ("b", "rime")):
        sounds.write(folder / f"{name}.wav", sounds.say(word)[:8000])
    for name, text in (PLAIN | {key.replace("_", "."): value for key, value in changes.items()}).items():
        if text is not None:
            (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def imported(source: Path, out: Path, options: Options = Options()) -> dict[str, np.ndarray]:  # noqa: B008
    write_corpus(read_kaldi(source, options), out, source=str(source), format="kaldi", options=options)
    return {u.id: read(u.path) for u in load_corpus(out)}


def test_a_directory_is_read_in_any_order_of_its_lines(tmp_path: Path) -> None:
    folder = directory(tmp_path / "train")
    assert detect(folder) == "kaldi"
    a, b = folder / "a.wav", folder / "b.wav"
    assert list(read_kaldi(folder, Options())) == [
        Segment("u3", b, 0.1, 0.4, speaker="anna", gender="f"),
        Segment("u1", a, 0.0, 0.25, text="ąčę du", speaker="anna", gender="f", lang="lt"),
        Segment("u2", a, 0.3, None, text="ne", speaker="bela", gender="m", lang="lt"),
    ]
    got = imported(folder, tmp_path / "out")
    np.testing.assert_array_equal(got["u3"], read(b)[1600:6400])
    np.testing.assert_array_equal(got["u1"], read(a)[:4000])
    np.testing.assert_array_equal(got["u2"], read(a)[4800:])


def test_without_segments_the_recordings_are_the_utterances(tmp_path: Path) -> None:
    folder = directory(tmp_path / "train", segments=None, text="r1 one\nr2 two\n", utt2spk=None, utt2lang=None)
    assert list(read_kaldi(folder, Options())) == [
        Segment("r2", folder / "b.wav", text="two"),
        Segment("r1", folder / "a.wav", text="one"),
    ]
    got = imported(folder, tmp_path / "out")
    np.testing.assert_array_equal(got["r2"], read(folder / "b.wav"))


def test_wav_scp_alone_is_enough(tmp_path: Path) -> None:
    folder = directory(tmp_path / "x", **dict.fromkeys(("segments", "text", "utt2spk", "spk2gender", "utt2lang"), None))
    assert [s.id for s in read_kaldi(folder, Options())] == ["r2", "r1"]


def test_several_directories_are_splits(tmp_path: Path) -> None:
    for name in ("train", "dev"):
        directory(tmp_path / "data" / name)
    assert detect(tmp_path / "data") == "kaldi"
    assert [s.split for s in read_kaldi(tmp_path / "data", Options())] == ["dev"] * 3 + ["train"] * 3
    assert len(imported(tmp_path / "data", tmp_path / "out", Options(split="dev"))) == 3
    with pytest.raises(InputError, match="has no split 'test'; choose one of dev, train"):
        read_kaldi(tmp_path / "data", Options(split="test"))


def test_what_lhotse_exports_has_the_samples_that_lhotse_loads(tmp_path: Path) -> None:
    lhotse: Any = pytest.importorskip("lhotse")
    from lhotse.kaldi import export_to_kaldi, load_kaldi_data_dir

    path = sounds.write(tmp_path / "long.wav", sounds.say("tula", rate_hz=22_050), 22_050)
    recordings = lhotse.RecordingSet.from_recordings([lhotse.Recording.from_file(path)])
    times = [(0.01, 0.2), (0.1234567, 0.2100001), (0.3, 0.12)]
    say = lhotse.SupervisionSegment
    supervisions = lhotse.SupervisionSet.from_segments(
        say(f"u{i}", "long", start, length, 0, f"text {i}", "German", "anna", "F")
        for i, (start, length) in enumerate(times)
    )
    export_to_kaldi(recordings, supervisions, tmp_path / "data")
    found = {s.id: s for s in read_kaldi(tmp_path / "data", Options())}
    assert {(s.text, s.speaker, s.lang, s.gender) for s in found.values()} == {
        (f"text {i}", "anna", "German", "F") for i in range(3)
    }
    got = imported(tmp_path / "data", tmp_path / "out")
    theirs, said, _ = load_kaldi_data_dir(tmp_path / "data", 22_050, use_reco2dur=True)
    for cut in lhotse.CutSet.from_manifests(theirs, said).trim_to_supervisions(keep_overlapping=False):
        want = from_array(cut.load_audio()[0], 22_050)
        np.testing.assert_allclose(got[cut.supervisions[0].id], want, atol=0.51 / 32768)


HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "pipe": ({"wav_scp": "r1 touch ran; cat a.wav |\nr2 b.wav\n"}, "'touch ran; cat a.wav |'; read what it does"),
    "pipe without a space": ({"wav_scp": "r1 touch ran;cat a.wav|\nr2 b.wav\n"}, "--trust"),
    "pipe before": ({"wav_scp": "r1 | touch ran\nr2 b.wav\n"}, "nothing to read from"),
    "pipe of lhotse": ({"wav_scp": "r1 pipe:touch ran\nr2 b.wav\n"}, "--trust"),
    "more than flac": ({"wav_scp": "r1 flac -c -d -s a.wav; touch ran |\nr2 b.wav\n"}, "--trust"),
    "substitution": ({"wav_scp": "r1 cat $(touch${IFS}ran) |\nr2 b.wav\n"}, "--trust"),
    "output of flac": ({"wav_scp": "r1 flac -c -d -o b.wav a.wav |\nr2 b.wav\n"}, "--trust"),
    "second line": ({"wav_scp": "r2 b.wav\nr1 touch ran |\n"}, "wav.scp:2: "),
    "archive": ({"wav_scp": "r1 foo.ark:123\nr2 b.wav\n"}, "wav-copy"),
    "archive with a range": ({"wav_scp": "r1 foo.ark:123[0:9]\nr2 b.wav\n"}, "wav-copy"),
    "address": ({"wav_scp": "r1 http://127.0.0.1:9/a.wav\nr2 b.wav\n"}, "is an address"),
    "standard input": ({"wav_scp": "r1 -\nr2 b.wav\n"}, "nothing to read from"),
    "no name": ({"wav_scp": "r1\nr2 b.wav\n"}, "nothing to read from"),
    "device": ({"wav_scp": "r1 /dev/zero\nr2 b.wav\n"}, "not a regular file"),
    "folder": ({"wav_scp": "r1 .\nr2 b.wav\n"}, "is a folder"),
    "missing file": ({"wav_scp": "r1 none.wav\nr2 b.wav\n"}, "does not exist"),
    "recording twice": ({"wav_scp": "r1 a.wav\nr1 b.wav\n"}, "the id 'r1' comes twice"),
    "empty": ({"wav_scp": "\n"}, "has no lines"),
    "not UTF-8": ({"text": b"u1 \xff\n"}, "text:1: byte 4 is not UTF-8"),
    "NaN": ({"segments": "u1 r1 nan 1\n"}, "write finite seconds"),
    "infinite": ({"segments": "u1 r1 0 inf\n"}, "write finite seconds"),
    "negative": ({"segments": "u1 r1 -0.5 1\n"}, "write finite seconds"),
    "backwards": ({"segments": "u1 r1 0.5 0.2\n"}, "must end after it starts"),
    "no times": ({"segments": "u1 r1 a b\n"}, "are no times"),
    "too few columns": ({"segments": "u1 r1 0\n"}, "has 3 columns"),
    "too many columns": ({"segments": "u1 r1 0 1 0 0\n"}, "has 6 columns"),
    "channel": ({"segments": "u1 r1 0 1 B\n"}, "the channel is 'B'"),
    "utterance twice": ({"segments": "u1 r1 0 0.2\nu1 r1 0.2 0.4\n"}, "segments:2: the id 'u1' comes twice"),
    "unknown recording": ({"segments": "u1 r9 0 0.2\n"}, "the recording 'r9' is not in wav.scp"),
    "no text": ({"text": "u1 a\nu2 b\n"}, "/text has no line for the utterance 'u3'"),
    "no speaker": ({"utt2spk": "u1 anna\nu2 bela\n"}, "/utt2spk has no line for the utterance 'u3'"),
    "text of nobody": ({"text": "u1 a\nu2 b\nu3 c\nu4 d\n"}, "/text has a line for 'u4', which is no utterance"),
    "speaker of nobody": ({"utt2spk": "u1 x\nu2 x\nu3 x\nu4 x\n"}, "/utt2spk has a line for 'u4'"),
    "long line": ({"text": "u1 " + "a" * 1_000_001}, "longer than 1,000,000 bytes"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_bad_directory_is_one_sentence_runs_nothing_and_leaves_nothing(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    changes, sentence = HOSTILE[case]
    folder = directory(tmp_path / "train", **changes)
    before = sounds.files_below(tmp_path)
    with pytest.raises(InputError) as caught:
        imported(folder, tmp_path / "out")
    message = str(caught.value)
    assert sentence in message
    assert message.startswith("train/")
    assert message.isprintable()
    assert len(message) < 400
    assert sounds.files_below(tmp_path) == before
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["cat {}", "flac -c -d -s {}", "flac -cds  {} "])
def test_plain_decoders_are_not_run_but_their_file_is_read(command: str, tmp_path: Path) -> None:
    folder = directory(tmp_path / "train")
    plain = list(read_kaldi(folder, Options()))
    (folder / "wav.scp").write_text(f"r2 {command.format(folder / 'b.wav')}|\nr1 {command.format('a.wav')}|\n")
    assert list(read_kaldi(folder, Options())) == plain


def test_with_trust_each_command_is_run_once_and_told_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = directory(tmp_path / "train")
    want = {s.id: s for s in read_kaldi(folder, Options())}
    plain = imported(folder, tmp_path / "plain")
    scp = "r1 echo r1 >>log; cat train/a.wav |\nr2 echo r2 >>log; cat train/b.wav |\n"
    (folder / "wav.scp").write_text(scp)
    said: list[str] = []
    got = imported(folder, tmp_path / "out", Options(trust=True, announce=said.append))
    assert set(got) == set(want)
    for name, samples in got.items():
        np.testing.assert_array_equal(samples, plain[name])
    assert (tmp_path / "log").read_text() == "r1\nr2\n"
    assert said == ["--trust: running 2 commands that the source names, the first: echo r1 >>log; cat train/a.wav"]


def test_a_command_that_fails_stops_the_import_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = directory(tmp_path / "train", wav_scp="r1 cat train/a.wav |\nr2 no-such-program |\n")
    with pytest.raises(InputError, match=r"train/wav.scp:2: the command 'no-such-program' ended with status 127"):
        imported(folder, tmp_path / "out", Options(trust=True))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train"]


def test_a_folder_without_wav_scp_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no wav.scp; name a Kaldi data directory"):
        read_kaldi(tmp_path, Options())
