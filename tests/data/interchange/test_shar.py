"""Shar folders as lhotse writes them, and tar files that somebody made by hand."""

import gzip
import io
import json
import tarfile
from operator import length_hint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sounds

from metavox.audio import from_array, read
from metavox.contracts import InputError
from metavox.data.interchange import tars
from metavox.data.interchange.formats import detect
from metavox.data.interchange.segments import Options
from metavox.data.interchange.shar import read_shar
from metavox.data.interchange.write import write_corpus
from metavox.data.manifests import load_corpus

lhotse = pytest.importorskip("lhotse")


def imported(source: Path, out: Path) -> dict[str, np.ndarray]:
    write_corpus(read_shar(source, Options()), out, source=str(source), format="shar", options=Options())
    return {u.id: read(u.path) for u in load_corpus(out)}


@pytest.fixture(scope="module")
def cuts(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Five cuts: two of a stereo recording, three whole ones, one of them with two supervisions."""
    folder = tmp_path_factory.mktemp("recordings")
    stereo = np.stack([sounds.say("tula", rate_hz=22_050)[:10_000], sounds.say("golun", rate_hz=22_050)[:10_000]], 1)
    sounds.write(folder / "stereo.wav", stereo, 22_050)
    for word in ("rime", "sakko", "febe"):
        sounds.write(folder / f"{word}.wav", sounds.say(word)[:8000])
    found = []
    for path in sorted(folder.glob("*.wav")):
        recording = lhotse.Recording.from_file(path)
        cut = recording.to_cut()
        pieces = [cut.truncate(offset=0.1, duration=0.2), cut.truncate(offset=0.2)] if path.stem == "stereo" else [cut]
        for number, piece in enumerate(pieces):
            piece.id = f"{path.stem}.{number}"
            times = [(0.0, 0.2), (0.25, 0.2)] if path.stem == "febe" else [(0.0, piece.duration)]
            piece.supervisions = [
                lhotse.SupervisionSegment(f"s{i}", recording.id, start, length, channel=0, text=f"{path.stem} {i}")
                for i, (start, length) in enumerate(times)
            ]
            found.append(piece)
    return lhotse.CutSet.from_cuts(found)


@pytest.mark.parametrize("form", ["wav", "flac"])
def test_segments_have_the_samples_that_lhotse_reads(cuts: Any, tmp_path: Path, form: str) -> None:
    folder = tmp_path / "shar"
    folder.mkdir()
    cuts.to_shar(folder, fields={"recording": form}, shard_size=2)
    assert detect(folder) == "shar"
    got = imported(folder, tmp_path / "out")
    assert len(got) == 6
    for cut in lhotse.CutSet.from_shar(in_dir=folder):
        want = from_array(cut.load_audio()[0], cut.sampling_rate)
        if cut.id != "febe.0":
            assert len(got[cut.id]) == len(want)
            np.testing.assert_allclose(got[cut.id], want, atol=0.51 / 32768)
        else:
            np.testing.assert_array_equal(got["febe.0-s0"], want[:3200])
            np.testing.assert_array_equal(got["febe.0-s1"], want[4000:7200])


def test_how_many_there_are_is_known_before_any_tar_is_opened(cuts: Any, tmp_path: Path) -> None:
    cuts.to_shar(tmp_path, fields={"recording": "wav"}, shard_size=2)
    for path in tmp_path.glob("*.tar"):
        path.write_bytes(b"")
    assert length_hint(read_shar(tmp_path, Options())) == 6


# ------------------------------------------------------------------------------------------------------- hostile shards


def row_of(**changes: Any) -> dict[str, Any]:
    said = {"id": "s", "recording_id": "a", "start": 0.0, "duration": 0.4, "channel": 0, "text": "yes"}
    return {"id": "a", "start": 0, "duration": 0.5, "channel": 0, "supervisions": [said], "type": "MonoCut"} | changes


def metadata(**source: Any) -> bytes:
    sources = [{"type": "shar", "channels": [0], "source": ""} | source]
    values = {"id": "r", "sources": sources, "sampling_rate": 16000, "num_samples": 8000, "duration": 0.5}
    return json.dumps(values).encode()


def wav() -> bytes:
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, sounds.say("tula")[:8000], 16_000, format="WAV", subtype="PCM_16")
    return file.getvalue()


def member(name: str, data: bytes = b"", **attributes: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in attributes.items():
        setattr(info, key, value)
    return info, data


def shard(folder: Path, members: list[tuple[tarfile.TarInfo, bytes]], rows: list[dict[str, Any]] | None = None) -> Path:
    folder.mkdir()
    lines = "".join(json.dumps(row) + "\n" for row in rows or [row_of()])
    (folder / "cuts.000000.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    with tarfile.open(folder / "recording.000000.tar", "w") as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return folder


def test_a_plain_shard_is_read(tmp_path: Path) -> None:
    folder = shard(tmp_path / "shar", [member("a.wav", wav()), member("a.json", metadata())])
    assert list(imported(folder, tmp_path / "out")) == ["a"]


LINK = {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}
HOSTILE: dict[str, tuple[list[tuple[tarfile.TarInfo, bytes]], str]] = {
    "symbolic link": ([member("a.wav", **LINK), member("a.json", metadata())], "'a.wav' is no plain file"),
    "hard link": (
        [member("a.wav", type=tarfile.LNKTYPE, linkname="../x"), member("a.json", metadata())],
        "no plain file",
    ),
    "device": ([member("a.wav", type=tarfile.CHRTYPE, devmajor=1, devminor=5)], "no plain file"),
    "fifo": ([member("a.wav", type=tarfile.FIFOTYPE)], "no plain file"),
    "folder": ([member("a", type=tarfile.DIRTYPE)], "no plain file"),
    "absolute": ([member("/tmp/a.wav", wav()), member("/tmp/a.json", metadata())], "leaves the folder"),
    "parent": ([member("../a.wav", wav()), member("../a.json", metadata())], "leaves the folder"),
    "parent inside": ([member("b/../../a.wav", wav())], "leaves the folder"),
    "backslash": ([member("..\\a.wav", wav())], "leaves the folder"),
    "link as metadata": ([member("a.wav", wav()), member("a.json", **LINK)], "'a.json' is no plain file"),
    "no audio": ([member("a.nodata"), member("a.nometa")], "has no audio"),
    "no metadata": ([member("a.wav", wav())], "ends after the audio 'a.wav'"),
    "two of audio": ([member("a.wav", wav()), member("a2.wav", wav())], "is followed by 'a2.wav'"),
    "another cut": ([member("b.wav", wav()), member("b.json", metadata())], "the cut at this place is 'a'"),
    "nothing": ([], "ends before cut 'a'"),
    "not JSON": ([member("a.wav", wav()), member("a.json", b"{")], "not a JSON object"),
    "nested": ([member("a.wav", wav()), member("a.json", b"[" * 100_000)], "not a JSON object"),
    "not UTF-8": ([member("a.wav", wav()), member("a.json", b"\xff")], "not UTF-8"),
    "large metadata": ([member("a.wav", wav()), member("a.json", b" " * 1_000_001)], "at most 1,000,000 bytes"),
    "command": (
        [member("a.wav", wav()), member("a.json", metadata(type="command", source="touch ran"))],
        "from the command 'touch ran'",
    ),
    "url": ([member("a.wav", wav()), member("a.json", metadata(type="url", source="http://x/a"))], "at the address"),
    "memory": ([member("a.wav", wav()), member("a.json", metadata(type="memory"))], "inside the manifest"),
    "channel": ([member("a.wav", wav()), member("a.json", metadata(channels=[4]))], "channel 0 is not in"),
}


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_tar_is_one_sentence_and_leaves_nothing(
    case: str, trust: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    members, sentence = HOSTILE[case]
    folder = shard(tmp_path / "shar", members)
    before = sounds.files_below(tmp_path)
    options = Options(trust=trust)
    with pytest.raises(InputError) as caught:
        write_corpus(read_shar(folder, options), tmp_path / "out", source="shar", format="shar", options=options)
    assert sentence in str(caught.value)
    assert str(caught.value).isprintable()
    assert sounds.files_below(tmp_path) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shar"]


def test_a_member_that_claims_or_has_too_many_bytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tars, "MAX_MEMBER_BYTES", 10_000)
    folder = shard(tmp_path / "shar", [member("a.wav", wav()), member("a.json", metadata())])
    with pytest.raises(InputError, match=r"'a.wav' has 16,044 bytes, at most 10,000"):
        imported(folder, tmp_path / "out")


def test_a_sparse_member_is_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("a.wav")
    info.type = tarfile.GNUTYPE_SPARSE
    folder = shard(tmp_path / "shar", [])
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[483:495] = b"%011o\0" % (1 << 30)  # a gigabyte of nothing, in no bytes at all
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + 8 * 32 + sum(block[156:]))
    (folder / "recording.000000.tar").write_bytes(bytes(block) + bytes(1024))
    with pytest.raises(InputError, match="no plain file"):
        imported(folder, tmp_path / "out")


@pytest.mark.parametrize("keep", [100, 700, 5000])
def test_a_tar_that_is_cut_short_is_one_sentence(tmp_path: Path, keep: int) -> None:
    folder = shard(tmp_path / "shar", [member("a.wav", wav()), member("a.json", metadata())])
    path = folder / "recording.000000.tar"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"recording.000000.tar (is no whole|ends)"):
        imported(folder, tmp_path / "out")


def test_a_compressed_tar_and_a_missing_one_are_refused(tmp_path: Path) -> None:
    folder = shard(tmp_path / "shar", [member("a.wav", wav()), member("a.json", metadata())])
    path = folder / "recording.000000.tar"
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(InputError, match="no whole, unpacked tar file"):
        imported(folder, tmp_path / "out")
    path.rename(folder / "recording.000000.tar.gz")
    with pytest.raises(InputError, match=r"has no recording.000000.tar beside it; copy it, unpacked"):
        imported(folder, tmp_path / "out")
    with pytest.raises(InputError, match=r"has no cuts.000000.jsonl.gz"):
        read_shar(tmp_path, Options())


def test_a_recording_that_cannot_be_decoded_is_skipped_under_its_own_name(tmp_path: Path) -> None:
    members = [member("a.wav", b"RIFF nonsense"), member("a.json", metadata())]
    members += [member("b.wav", wav()), member("b.json", metadata())]
    folder = shard(tmp_path / "shar", members, [row_of(), row_of(id="b")])
    out = tmp_path / "out"
    done = write_corpus(read_shar(folder, Options()), out, source="shar", format="shar", options=Options())
    assert [s.id for s in done.skipped] == ["a"]
    assert done.skipped[0].reason.startswith("recording.000000.tar, a cannot be decoded")
