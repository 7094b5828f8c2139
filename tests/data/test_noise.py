"""Recorded noise: which files it is, that a stretch is one of a recording, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import sounds

from metavox.contracts import InputError
from metavox.data.noise import open_noise, recordings

HZ = 16_000


def hum(path: Path, seconds: float, seed: int = 0) -> Path:
    return sounds.write(path, 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * HZ)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    hum(tmp_path / "noise" / "b" / "long.wav", 3.0, 1)
    hum(tmp_path / "noise" / "a.WAV", 0.5, 2)
    (tmp_path / "noise" / "readme.txt").write_text("no audio")
    return tmp_path / "noise"


def test_a_place_is_a_file_a_folder_or_a_corpus(folder: Path) -> None:
    assert recordings(folder) == [folder / "a.WAV", folder / "b" / "long.wav"]
    assert recordings(folder / "a.WAV") == [folder / "a.WAV"]
    row = {"audio_filepath": "b/long.wav", "duration": 3.0, "text": ""}
    (folder / "manifest.jsonl").write_text(json.dumps(row) + "\n")
    assert recordings(folder) == [folder / "b" / "long.wav"]  # what the manifest says


def test_a_stretch_is_a_piece_of_a_recording_that_is_long_enough(folder: Path, tmp_path: Path) -> None:
    noise = open_noise([folder], HZ, tmp_path / "cache")
    assert noise.longest() == (folder / "b" / "long.wav", 3 * HZ)
    rng = np.random.default_rng(1)
    start, _ = noise.offsets[1]
    whole = noise.audio[start:].astype(np.float32) / 32768
    firsts = []
    for _ in range(20):
        piece = noise.stretch(HZ, rng)
        at = [i for i in np.flatnonzero(whole[: 2 * HZ + 1] == piece[0]) if np.array_equal(whole[i : i + HZ], piece)]
        firsts += at
    assert len(firsts) == 20
    assert max(firsts) - min(firsts) > HZ
    short = [noise.stretch(400, rng)[0] for _ in range(60)]
    from_first = np.isin(np.round(np.array(short) * 32768), noise.audio[: noise.offsets[0, 1]])
    assert from_first.any()
    with pytest.raises(InputError, match=r"long\.wav, the longest recording of noise, has 48000 samples and a clip"):
        noise.stretch(3 * HZ + 1, rng)


def test_it_is_kept_by_content_and_rate(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = open_noise([folder], HZ, cache)
    assert open_noise([folder], HZ, cache).key == first.key
    assert len(list(cache.iterdir())) == 1
    assert open_noise([folder], 8000, cache).longest()[1] == pytest.approx(3 * 8000, abs=2)
    hum(folder / "a.WAV", 0.5, 9)
    assert open_noise([folder], HZ, cache).key != first.key
    assert len(list(cache.iterdir())) == 3


@pytest.mark.parametrize("name", ["audio.i16", "index.npz"])
def test_a_damaged_store_is_written_again(folder: Path, tmp_path: Path, name: str) -> None:
    cache = tmp_path / "cache"
    before = np.array(open_noise([folder], HZ, cache).audio)
    (kept,) = cache.iterdir()
    content = (kept / name).read_bytes()
    (kept / name).write_bytes(content[: len(content) // 2])
    np.testing.assert_array_equal(open_noise([folder], HZ, cache).audio, before)


def test_what_is_no_noise_is_refused(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    sounds.write(tmp_path / "zeros.wav", np.zeros(HZ, np.float32))
    sounds.write(tmp_path / "hiss.wav", 1e-4 * np.random.default_rng(0).standard_normal(HZ))
    (tmp_path / "broken.wav").write_bytes(b"no audio")
    (tmp_path / "empty").mkdir()
    for name, said in (
        ("zeros.wav", r"zeros\.wav is silent \(nothing but zeros\).*leave it out of augment\.noise"),
        ("hiss.wav", r"hiss\.wav is silent \(peak -6\d dBFS\)"),
        ("broken.wav", r"broken\.wav cannot be decoded"),
        ("empty", r"empty holds no recording of noise"),
    ):
        with pytest.raises(InputError, match=said):
            open_noise([folder, tmp_path / name], HZ, cache)
    assert not list(cache.rglob("*"))
    with pytest.raises(InputError, match="No recording of noise was given"):
        open_noise([], HZ, cache)


def test_a_recording_that_pauses_is_used_where_it_sounds(tmp_path: Path) -> None:
    wave = np.zeros(4 * HZ, np.float32)
    wave[:HZ] = wave[-HZ:] = 0.1
    noise = open_noise([sounds.write(tmp_path / "pauses.wav", wave)], HZ, tmp_path / "cache")
    rng = np.random.default_rng(0)
    assert all(noise.stretch(HZ, rng).any() for _ in range(20))


@pytest.mark.real
def test_recorded_noise_is_opened(data_root: Path, tmp_path: Path) -> None:
    noise = open_noise([data_root / "noise"], HZ, tmp_path)
    assert len(noise.paths) == 164
    assert noise.longest()[1] > 16 * HZ
    assert np.abs(noise.stretch(2 * HZ, np.random.default_rng(0))).max() > 0
