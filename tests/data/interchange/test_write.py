"""A corpus folder is written whole or not at all; long recordings are sliced exactly; faults are skipped and told."""

import json
import os
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import sounds

from metavox.audio import read
from metavox.contracts import InputError
from metavox.data.interchange.segments import Counted, Options, Segment
from metavox.data.interchange.write import Imported, as_json, write_corpus
from metavox.data.manifests import check_corpus, load_corpus

NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, 40_000).astype(np.float32)


def put(segments: list[Segment], out: Path, options: Options = Options()) -> Imported:  # noqa: B008
    return write_corpus(iter(segments), out, source="/from/there", format="kaldi", options=options)


def got(out: Path) -> dict[str, np.ndarray]:
    return {u.id: read(u.path) for u in load_corpus(out)}


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    return sounds.write(tmp_path / "in" / "noise.wav", NOISE)


# ------------------------------------------------------------------------------------------------------------- samples


def test_a_16_bit_16_khz_recording_comes_out_as_it_went_in(noise: Path, tmp_path: Path) -> None:
    full_scale = np.array([-32768, 32767, 0, 1, -1] * 1000, dtype=np.int16)
    soundfile.write(tmp_path / "in" / "full.wav", full_scale, 16_000)
    times = [(0.0, None), (0.5, 1.25), (0.5, None), (0.0, 0.3)]
    segments = [Segment(f"{i}", noise, start, end) for i, (start, end) in enumerate(times)]
    put([*segments, Segment("full", tmp_path / "in" / "full.wav")], tmp_path / "out")
    wave, out = read(noise), got(tmp_path / "out")
    for i, (start, end) in enumerate(times):
        stop = None if end is None else round(end * 16_000)
        np.testing.assert_array_equal(out[f"{i}"], wave[round(start * 16_000) : stop])
    np.testing.assert_array_equal(out["full"] * 32768, full_scale)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3", "a.aiff", "a.opus"])
def test_a_slice_is_the_slice_of_the_whole(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    word = np.concatenate([sounds.say(word) for word in sounds.WORDS])
    kind = {"format": "OGG", "subtype": "OPUS"} if name == "a.opus" else {}
    soundfile.write(path, word, 16_000, **kind)
    times = [(0.7, 1.5), (0.1, 0.4), (2.0, 2.25), (1.0, None)]  # forwards and backwards
    put([Segment("whole", path), *(Segment(f"{i}", path, *time) for i, time in enumerate(times))], tmp_path / "out")
    out = got(tmp_path / "out")
    for i, (start, end) in enumerate(times):
        stop = None if end is None else round(end * 16_000)
        np.testing.assert_allclose(out[f"{i}"], out["whole"][round(start * 16_000) : stop], atol=2 / 32768)


def test_a_flac_stream_that_does_not_tell_its_length_is_sliced(noise: Path, tmp_path: Path) -> None:
    path = tmp_path / "stream.flac"
    soundfile.write(path, read(noise), 16_000)
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0  # the length in the header: 36 bits from here on
    data[22:26] = bytes(4)
    path.write_bytes(data)
    put([Segment("a", path, 0.5, 1.0), Segment("b", path, 0.25, 0.5)], tmp_path / "out")
    np.testing.assert_array_equal(got(tmp_path / "out")["a"], read(noise)[8000:16_000])
    np.testing.assert_array_equal(got(tmp_path / "out")["b"], read(noise)[4000:8000])


def test_one_channel_is_read_and_not_the_mean(tmp_path: Path) -> None:
    word = sounds.say("tula")
    stereo = np.stack([word, -word], axis=1)
    for name in ("a.wav", "a.ogg"):
        soundfile.write(tmp_path / name, stereo, 16_000)
    segments = [Segment(f"{i}", tmp_path / "a.wav", channel=i) for i in range(3)]
    done = put([*segments, Segment("lossy", tmp_path / "a.ogg", channel=1)], tmp_path / "out")
    out = got(tmp_path / "out")
    np.testing.assert_allclose(out["0"], word, atol=2 / 32768)
    np.testing.assert_allclose(out["1"], -word, atol=2 / 32768)
    assert np.corrcoef(out["lossy"], -word)[0, 1] > 0.9
    assert [s.id for s in done.skipped] == ["2"]
    assert "has 2 channels and the segment is on number 3" in done.skipped[0].reason


def test_a_long_recording_is_opened_once(noise: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    plain = soundfile.SoundFile

    class Counting(plain):  # type: ignore[misc, valid-type]
        def __init__(self, file: object, *args: object, **kwargs: object) -> None:
            if file == os.fsencode(noise):
                opened.append(file)
            super().__init__(file, *args, **kwargs)

    monkeypatch.setattr("metavox.data.interchange.write.soundfile.SoundFile", Counting)
    put([Segment(f"{i}", noise, i / 10, i / 10 + 0.2) for i in range(20)], tmp_path / "out")
    assert len(opened) == 1


# ------------------------------------------------------------------------------------------------------ what is written


def test_the_folder_passes_its_check_and_keeps_what_is_known(noise: Path, tmp_path: Path) -> None:
    facts = {"label": "yes", "speaker": "anna", "accent": "north", "gender": "f", "age": "40"}
    segments = [
        Segment("a/../b ą", noise, text="ąčę", lang="lt", split="train", **facts),
        Segment("..", noise, 0.5, split="dev"),
    ]
    done = put(segments, tmp_path / "deep" / "er" / "out", Options(lang="sw"))
    out = tmp_path / "deep" / "er" / "out"
    assert check_corpus(out).problems == ()
    first, second = load_corpus(out)
    assert (first.id, first.text, first.lang) == ("a/../b ą", "ąčę", "lt")
    assert {key: getattr(first, key) for key in facts} == facts
    assert (second.id, second.lang, second.duration_s) == ("..", "sw", 2.0)
    assert all(path.is_relative_to(out / "audio" / "000") for path in (first.path, second.path))
    assert [path.name for path in sorted((out / "audio" / "000").iterdir())] == ["000000-a_.._b.flac", "000001.flac"]
    assert done == Imported("/from/there", "kaldi", 2, 0.0013, 1, ("lt", "sw"), {"dev": 1, "train": 1}, ())
    record = json.loads((out / "IMPORT.json").read_text())
    assert record["options"] == {"split": None, "lang": "sw", "tier": None, "trust": False}
    assert (record["source"], record["format"], record["n_utterances"], record["skipped"]) == (
        *("/from/there", "kaldi"),
        *(2, []),
    )
    assert sorted(path.name for path in out.iterdir()) == ["IMPORT.json", "audio", "manifest.jsonl"]


def test_faults_of_recordings_are_skipped_each_with_a_sentence(noise: Path, tmp_path: Path) -> None:
    folder = noise.parent
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.wav").write_bytes(b"no sound at all")
    (folder / "short.wav").write_bytes(noise.read_bytes()[:20_000])
    flac = folder / "damaged.flac"
    soundfile.write(flac, NOISE, 16_000)
    flac.write_bytes(flac.read_bytes()[:30_000])
    segments = {
        "good": Segment("good", noise, 1.0, 2.0),
        "is empty": Segment("1", folder / "empty.wav"),
        "it is no audio": Segment("2", folder / "text.wav"),
        "is truncated (": Segment("3", folder / "short.wav", 0.0, 0.2),
        "cannot be decoded": Segment("4", flac, 1.5, 2.4),
        "goes from 9 to 10 s": Segment("5", noise, 9.0, 10.0),
        "goes from 1 to 3.1 s": Segment("6", noise, 1.0, 3.1),
        "goes from 2 to 1e+300 s": Segment("7", noise, 2.0, 1e300),
        "goes from 2.5 to 2.5 s": Segment("8", noise, 2.5),
        "at least 0.1 s": Segment("9", noise, 1.0, 1.05),
        "does not exist": Segment("10", folder / "none.wav"),
    }
    done = put(list(segments.values()), tmp_path / "out")
    assert done.n_utterances == 1
    skipped = {s.id: s.reason for s in done.skipped}
    for reason, segment in segments.items():
        if segment.id != "good":
            assert reason in skipped[segment.id]
            assert skipped[segment.id].endswith(".")
    record = json.loads((tmp_path / "out" / "IMPORT.json").read_text())
    assert {s["id"]: s["reason"] for s in record["skipped"]} == skipped
    assert as_json(done)["skipped"] == 10
    assert as_json(done)["first_reason"] == skipped["1"]


def test_a_segment_that_ends_a_little_late_is_cut(noise: Path, tmp_path: Path) -> None:
    put([Segment("a", noise, 2.0, 2.9)], tmp_path / "out")
    np.testing.assert_array_equal(got(tmp_path / "out")["a"], read(noise)[32_000:])


def test_one_split_is_kept(noise: Path, tmp_path: Path) -> None:
    segments = [Segment(f"{i}", noise, split=split) for i, split in enumerate(("train", "dev", None))]
    done = put(segments, tmp_path / "out", Options(split="dev"))
    assert (done.n_utterances, done.splits, done.skipped) == (1, {"dev": 1}, ())
    with pytest.raises(InputError, match="nothing in its split 'test'; choose one of dev, train"):
        put(segments, tmp_path / "other", Options(split="test"))
    with pytest.raises(InputError, match="it has no splits"):
        put(segments[2:], tmp_path / "other", Options(split="test"))


# ------------------------------------------------------------------------------------------------------- whole or not


@pytest.mark.parametrize("content", ["file", "folder"])
def test_what_is_there_is_never_written_over(noise: Path, tmp_path: Path, content: str) -> None:
    out = tmp_path / "out"
    if content == "file":
        out.write_text("mine")
    else:
        sounds.write(out / "mine.wav", NOISE)
    before = sounds.files_below(tmp_path)
    with pytest.raises(InputError, match=r"is not empty|is no folder"):
        put([Segment("a", noise)], out)
    assert sounds.files_below(tmp_path) == before


def test_an_empty_folder_is_filled(noise: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert put([Segment("a", noise)], tmp_path / "out").n_utterances == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt(), InputError("hostile."), OSError("disk")])
def test_what_stops_an_import_leaves_nothing_and_closes_the_source(
    noise: Path, tmp_path: Path, error: BaseException
) -> None:
    closed = []

    def found() -> Generator[Segment, None, None]:
        try:
            yield Segment("a", noise)
            raise error
        finally:
            closed.append(True)

    before = sounds.files_below(tmp_path)
    with pytest.raises(type(error)):
        write_corpus(
            Counted(found(), 2), tmp_path / "x" / "out", source="s", format="kaldi", options=Options(), progress=None
        )
    assert closed == [True]
    assert sounds.files_below(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_ctrl_c_while_writing_leaves_nothing(noise: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int | None) -> None:
        assert total == 3
        if done == 2:
            raise KeyboardInterrupt

    segments = iter([Segment(f"{i}", noise) for i in range(3)])
    with pytest.raises(KeyboardInterrupt):
        write_corpus(segments, tmp_path / "out", source="s", format="x", options=Options(), progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ([], "holds no recordings"),
        (["noise.wav", "noise.wav"], "the id 'same' comes twice"),
        (["none.wav"], "none of the 1 recordings of there can be used"),
    ],
)
def test_nothing_usable_is_one_sentence_and_no_folder(
    noise: Path, tmp_path: Path, names: list[str], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        put([Segment("same", noise.parent / name) for name in names], tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
