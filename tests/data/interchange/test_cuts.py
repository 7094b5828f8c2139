"""lhotse manifests, with lhotse as the oracle; and what a hostile one cannot do."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sounds

from metavox.audio import from_array, read
from metavox.contracts import InputError
from metavox.data.interchange.cuts import read_cuts
from metavox.data.interchange.formats import detect
from metavox.data.interchange.segments import Options, Segment
from metavox.data.interchange.write import write_corpus
from metavox.data.manifests import load_corpus

lhotse = pytest.importorskip("lhotse")

HALF_STEP = 0.51 / 32768
"""What 16 bits take from a sample."""


def recording_set(folder: Path) -> Any:
    """A stereo file at 22,050 Hz, two mono files of one recording, and a mono file at 16 kHz."""
    left, right = (sounds.say(word, rate_hz=22_050) for word in ("tula", "golun"))
    n = min(len(left), len(right))
    sounds.write(folder / "stereo.wav", np.stack([left[:n], right[:n]], axis=1), 22_050)
    for name in ("near", "far"):
        sounds.write(folder / f"{name}.wav", np.tile(sounds.say(name), 2)[:16_000])
    sounds.write(folder / "mono.flac", sounds.say("sakko"))
    near, far = (lhotse.AudioSource("file", [i], str(folder / f"{n}.wav")) for i, n in enumerate(("near", "far")))
    return lhotse.RecordingSet.from_recordings(
        [
            lhotse.Recording.from_file(folder / "stereo.wav"),
            lhotse.Recording("pair", [near, far], 16_000, 16_000, 1.0),
            lhotse.Recording.from_file(folder / "mono.flac"),
        ]
    )


def supervision_set() -> Any:
    say = lhotse.SupervisionSegment
    more = {"language": "Lithuanian", "speaker": "anna", "gender": "F", "custom": {"accent": "north", "age": 40}}
    return lhotse.SupervisionSet.from_segments(
        [
            say("s-left", "stereo", 0.05, 0.2, channel=0, text="ąčę", **more),
            say("s-right", "stereo", 0.1234567, 0.2345678, channel=1, text="right", speaker="bela"),
            say("p-far", "pair", 0.25, 0.5, channel=1, text="far"),
            say("p-both", "pair", 0.5, 0.25, channel=[0, 1], text="both"),
            say("m", "mono", 0.01, 0.45, channel=0, text="mono"),
        ]
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lhotse")


@pytest.fixture(scope="module")
def cuts(folder: Path) -> Any:
    return lhotse.CutSet.from_manifests(recording_set(folder), supervision_set()).to_eager()


def imported(source: Path, out: Path, options: Options = Options()) -> dict[str, np.ndarray]:  # noqa: B008
    """Samples by id of what was written."""
    write_corpus(read_cuts(source, options), out, source=str(source), format="lhotse", options=options, progress=None)
    return {u.id: read(u.path) for u in load_corpus(out)}


def assert_same(got: np.ndarray, cut: Any, channel: int = 0) -> None:
    """What was written is what lhotse loads, resampled by us, but for 16 bits."""
    want = from_array(cut.load_audio()[channel], cut.sampling_rate)
    assert len(got) == len(want)
    np.testing.assert_allclose(got, want, atol=HALF_STEP)


# ------------------------------------------------------------------------------------------------- lhotse as the oracle


@pytest.mark.parametrize("name", ["cuts.jsonl.gz", "cuts.jsonl", "cuts.json", "cuts.yaml", "train_cuts.jsonl.gz"])
def test_each_supervision_is_a_segment_with_the_samples_that_lhotse_loads(
    cuts: Any, folder: Path, tmp_path: Path, name: str
) -> None:
    cuts.to_file(tmp_path / name)
    assert detect(tmp_path / name) == "lhotse"
    got = imported(tmp_path / name, tmp_path / "out")
    trimmed = {c.supervisions[0].id: c for c in cuts.trim_to_supervisions(keep_overlapping=False)}
    assert len(got) == len(trimmed) == 5
    for identity, samples in got.items():
        supervision = next(s for s in trimmed if identity.endswith(s)) if identity != "mono-2" else "m"
        assert_same(samples, trimmed[supervision])


def test_what_a_supervision_says_is_kept(cuts: Any, tmp_path: Path) -> None:
    cuts.to_file(tmp_path / "cuts.jsonl.gz")
    found = {s.text: s for s in read_cuts(tmp_path / "cuts.jsonl.gz", Options())}
    first = found["ąčę"]
    assert (first.lang, first.speaker, first.gender, first.accent, first.age) == (
        *("Lithuanian", "anna", "F"),
        *("north", "40"),
    )
    assert (first.start_s, first.end_s, first.channel) == (0.05, 0.25, 0)
    assert found["right"].channel == 1
    assert (found["far"].audio.name, found["far"].channel) == ("far.wav", 0)
    assert (found["both"].audio.name, found["both"].channel) == ("near.wav", 0)  # one microphone of the array
    assert found["right"].gender is None


def test_a_cut_without_supervisions_is_taken_whole(cuts: Any, tmp_path: Path) -> None:
    windows = cuts.subset(cut_ids=["mono-2"]).cut_into_windows(0.2).drop_supervisions().to_eager()
    windows.to_file(tmp_path / "cuts.jsonl")
    got = imported(tmp_path / "cuts.jsonl", tmp_path / "out")
    assert list(got) == [c.id for c in windows if c.duration >= 0.1]
    for cut in windows:
        if cut.id in got:
            assert_same(got[cut.id], cut)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.perturb_speed(0.9),
        lambda c: c.perturb_speed(1.1).perturb_volume(0.5),
        lambda c: c.resample(8_000),
        lambda c: c.resample(16_000),
    ],
    ids=["slower", "faster and softer", "8 kHz", "16 kHz"],
)
def test_transforms_are_those_of_lhotse(cuts: Any, tmp_path: Path, change: Any) -> None:
    pytest.importorskip("scipy")
    changed = change(cuts.filter(lambda c: c.id != "pair-1").trim_to_supervisions(keep_overlapping=False)).to_eager()
    changed.to_file(tmp_path / "cuts.jsonl")
    got = imported(tmp_path / "cuts.jsonl", tmp_path / "out")
    assert len(got) == 3
    for cut in changed:
        assert_same(got[cut.id], cut)


def test_recordings_with_supervisions_are_read_by_part(cuts: Any, folder: Path, tmp_path: Path) -> None:
    recordings, supervisions = recording_set(folder), supervision_set()
    for part in ("train-clean", "dev"):
        recordings.to_file(tmp_path / f"toy_recordings_{part}.jsonl.gz")
        supervisions.to_file(tmp_path / f"toy_supervisions_{part}.jsonl.gz")
    assert detect(tmp_path) == "lhotse"
    got = imported(tmp_path, tmp_path / "out", Options(split="dev"))
    trimmed = {c.supervisions[0].id: c for c in cuts.trim_to_supervisions(keep_overlapping=False)}
    assert set(got) == set(trimmed)
    for name, samples in got.items():
        assert_same(samples, trimmed[name])
    assert {s.split for s in read_cuts(tmp_path, Options())} == {"train-clean", "dev"}
    with pytest.raises(InputError, match="has no split 'test'; choose one of dev, train-clean"):
        read_cuts(tmp_path, Options(split="test"))


def test_recordings_alone_are_whole_segments(folder: Path, tmp_path: Path) -> None:
    recording_set(folder).to_file(tmp_path / "recordings.jsonl")
    found = list(read_cuts(tmp_path / "recordings.jsonl", Options()))
    assert [(s.id, s.start_s, s.channel) for s in found] == [("stereo", 0, 0), ("pair", 0, 0), ("mono", 0, 0)]
    assert found == list(read_cuts(tmp_path, Options()))


def test_features_and_arrays_of_a_manifest_are_never_opened(cuts: Any, tmp_path: Path) -> None:
    cuts.to_file(tmp_path / "cuts.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "cuts.jsonl").read_text().splitlines()]
    plain = list(read_cuts(tmp_path / "cuts.jsonl", Options()))
    bad = {"storage_type": "pickle", "storage_path": f"pipe:touch {tmp_path}/ran", "storage_key": "a"}
    for row in rows:
        row["features"] = bad | {"type": "fbank", "num_frames": 9, "num_features": 80}
        row["custom"] = {"xvector": {"array": bad, "start": 0}, "noise": {"sources": [{"type": "command"}]}}
    (tmp_path / "cuts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert list(read_cuts(tmp_path / "cuts.jsonl", Options())) == plain
    assert not (tmp_path / "ran").exists()


# ---------------------------------------------------------------------------------------------------- hostile manifests


def cut_of(**changes: Any) -> dict[str, Any]:
    """A plain cut of a.wav; ``recording__``, ``source__`` and ``said__`` change what is within."""
    source = {"type": "file", "channels": [0], "source": "a.wav"}
    recording = {"id": "a", "sources": [source], "sampling_rate": 16000, "num_samples": 8000, "duration": 0.5}
    said = {"id": "s", "recording_id": "a", "start": 0.0, "duration": 0.5, "channel": 0, "text": "yes"}
    cut = {"id": "c", "start": 0, "duration": 0.5, "channel": 0, "supervisions": [said], "recording": recording}
    cut["type"] = "MonoCut"
    for name, value in changes.items():
        whose, _, key = name.rpartition("__")
        {"": cut, "recording": recording, "source": source, "said": said}[whose][key] = value
    return cut


def transform(name: Any, **kwargs: Any) -> list[dict[str, Any]]:
    return [{"name": name, "kwargs": kwargs}]


HOSTILE = {
    "command": (cut_of(source__type="command", source__source="touch ran; cat a.wav"), "--trust"),
    "pipe": (cut_of(source__source="pipe:touch ran; cat a.wav"), "--trust"),
    "pipe behind": (cut_of(source__source="touch ran; cat a.wav |"), "--trust"),
    "pipe before": (cut_of(source__source="| touch ran"), "--trust"),
    "url": (cut_of(source__type="url", source__source="http://127.0.0.1:9/a.wav"), "download it"),
    "url as file": (cut_of(source__source="http://127.0.0.1:9/a.wav"), "download the recording"),
    "memory": (cut_of(source__type="memory", source__source="UklGRg=="), "inside the manifest"),
    "shar": (cut_of(source__type="shar", source__source=""), "import that folder"),
    "no such type": (cut_of(source__type="pickle"), "type 'pickle' is not read"),
    "type is a list": (cut_of(source__type=["file"]), "is not read"),
    "device": (cut_of(source__source="/dev/zero"), "not a regular file"),
    "folder": (cut_of(source__source="."), "is a folder"),
    "missing": (cut_of(source__source="b.wav"), "does not exist"),
    "no name": (cut_of(source__source=""), "source is missing"),
    "source is a number": (cut_of(source__source=7), "must be text"),
    "no sources": (cut_of(recording__sources=[]), "has no sources"),
    "sources are names": (cut_of(recording__sources=["a.wav"]), "list of objects"),
    "no recording": (cut_of(recording=None), "has no recording"),
    "recording is a list": (cut_of(recording=[1]), "must be an object"),
    "mixed": (cut_of(type="MixedCut"), "is mixed from several"),
    "padding": (cut_of(type="PaddingCut"), "is mixed from several"),
    "NaN start": (cut_of(start=float("nan")), "must be finite"),
    "infinite": (cut_of(duration=float("inf")), "must be finite"),
    "huge": (cut_of(duration=10**400), "must be finite"),
    "negative start": (cut_of(start=-1), "starts at -1 s"),
    "no length": (cut_of(duration=0), "lasts 0 s"),
    "start is text": (cut_of(start="0"), "must be a number"),
    "no id": (cut_of(id=""), "id is missing"),
    "channel beyond": (cut_of(channel=3), "channel 3 is not in recording 'a'"),
    "channel is text": (cut_of(channel="0"), "whole numbers"),
    "supervision ends before it starts": (cut_of(said__duration=-1), "must last longer than 0"),
    "supervision beyond its cut": (cut_of(said__duration=2), "leaves its cut by 1.5 s"),
    "supervision before its cut": (cut_of(said__start=-0.4), "leaves its cut by 0.4 s"),
    "text is an object": (cut_of(said__text={"a": 1}), "must be text"),
    "broken Unicode": (cut_of(said__text="\ud800"), "not valid Unicode"),
    "rate": (cut_of(recording__sampling_rate=1), "must be from 1000"),
    "unknown transform": (cut_of(recording__transforms=transform("os.system", command="touch ran")), "is none of"),
    "transform with a file": (cut_of(recording__transforms=transform("ReverbWithImpulseResponse")), "is none of"),
    "transform is a list": (cut_of(recording__transforms=transform(["Speed"], factor=1)), "is none of"),
    "further parameter": (cut_of(recording__transforms=transform("Speed", factor=1, path="x")), "nothing else"),
    "endless speed": (cut_of(recording__transforms=transform("Speed", factor=1e-9)), "must be from 0.1 to 10"),
    "NaN volume": (cut_of(recording__transforms=transform("Volume", factor=float("nan"))), "must be finite"),
    "transform of a command": (
        cut_of(source__type="command", recording__transforms=transform("Speed", factor=1)),
        "--trust",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_cut_is_one_sentence_runs_nothing_and_leaves_nothing(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sounds.write(tmp_path / "a.wav", sounds.say("tula")[:8000])
    row, sentence = HOSTILE[case]
    good = json.dumps(cut_of(id="good"))
    (tmp_path / "cuts.jsonl").write_text(f"{good}\n{json.dumps(row)}\n")  # the first row is good, the second is not
    before = sounds.files_below(tmp_path)
    with pytest.raises(InputError) as caught:
        imported(tmp_path / "cuts.jsonl", tmp_path / "out")
    message = str(caught.value)
    assert sentence in message
    assert message.startswith("cuts.jsonl:2: ")
    assert message.count("; ") - sentence.count("; ") - case.startswith(("command", "pipe")) <= 1
    assert message.isprintable()
    assert sounds.files_below(tmp_path) == before
    assert not (tmp_path / "out").exists()


def test_with_trust_a_command_is_run_and_its_sound_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    sounds.write(tmp_path / "a.wav", sounds.say("tula")[:8000])
    (tmp_path / "cuts.jsonl").write_text(
        json.dumps(cut_of(source__type="command", source__source="touch ran; cat a.wav"))
    )
    said: list[str] = []
    got = imported(tmp_path / "cuts.jsonl", tmp_path / "out", Options(trust=True, announce=said.append))
    np.testing.assert_array_equal(got["c"], read(tmp_path / "a.wav"))
    assert said == ["--trust: running 1 command that the source names: touch ran; cat a.wav"]
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("kind", ["url", "memory", "pickle"])
def test_trust_does_not_open_what_is_no_command(kind: str, tmp_path: Path) -> None:
    (tmp_path / "cuts.jsonl").write_text(json.dumps(cut_of(source__type=kind)))
    with pytest.raises(InputError):
        read_cuts(tmp_path / "cuts.jsonl", Options(trust=True))


def test_a_plain_cut_is_read_so_that_the_hostile_ones_fail_for_their_own_reason(tmp_path: Path) -> None:
    sounds.write(tmp_path / "a.wav", sounds.say("tula")[:8000])
    (tmp_path / "cuts.jsonl").write_text(json.dumps(cut_of()))
    assert list(read_cuts(tmp_path / "cuts.jsonl", Options())) == [
        Segment("c", tmp_path / "a.wav", 0.0, 0.5, text="yes")
    ]


def test_a_cut_that_comes_twice_is_refused(tmp_path: Path) -> None:
    sounds.write(tmp_path / "a.wav", sounds.say("tula")[:8000])
    (tmp_path / "cuts.jsonl").write_text(f"{json.dumps(cut_of())}\n" * 2)
    with pytest.raises(InputError, match="the id 'c' comes twice"):
        imported(tmp_path / "cuts.jsonl", tmp_path / "out")


def test_supervisions_of_an_unknown_recording_are_refused(tmp_path: Path) -> None:
    sounds.write(tmp_path / "a.wav", sounds.say("tula")[:8000])
    row = cut_of()
    (tmp_path / "recordings.jsonl").write_text(json.dumps(row["recording"]))
    (tmp_path / "supervisions.jsonl").write_text(json.dumps(row["supervisions"][0] | {"recording_id": "b"}))
    with pytest.raises(InputError, match=r"supervisions.jsonl:1: there is no recording 'b' in recordings.jsonl"):
        read_cuts(tmp_path, Options())


@pytest.mark.parametrize("name", ["supervisions.jsonl", "other.txt"])
def test_a_folder_without_cuts_or_recordings_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{}")
    with pytest.raises(InputError, match="has no lhotse cuts or recordings"):
        read_cuts(tmp_path, Options())


@pytest.mark.parametrize("name", ["shortcuts.json", "manifest.jsonl", "data.json"])
def test_other_json_is_not_taken_for_lhotse(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('{"audio_filepath": "a.wav", "text": "recordings"}\n')
    with pytest.raises(InputError, match="no format that can be recognised"):
        detect(tmp_path / name)
    with pytest.raises(InputError, match="no format that can be recognised"):
        detect(tmp_path)
