"""Reading: every encoding is used, every damaged file is refused in one sentence; what counts as a usable take."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from metavox import audio
from metavox.contracts import InputError

RATE = 16_000


def tone(duration_s: float = 1.0, rate_hz: int = RATE, hz: float = 440.0, peak: float = 0.5) -> np.ndarray:
    """A tone whose level swells and falls, so that a shift in time shows."""
    t = np.arange(round(duration_s * rate_hz)) / rate_hz
    return (peak * np.sin(2 * np.pi * hz * t) * np.sin(np.pi * t / duration_s)).astype(np.float32)


def noise(n: int, level: float = 0.1, seed: int = 0) -> np.ndarray:
    return (level * np.random.default_rng(seed).standard_normal(n)).clip(-1, 1).astype(np.float32)


def snr_db(got: np.ndarray, want: np.ndarray) -> float:
    return float(10 * np.log10(np.square(want).sum() / np.square(got - want).sum()))


def refused(path: Path, *words: str) -> None:
    """``read`` refuses the file in one sentence that names it and says ``words``."""
    with pytest.raises(InputError) as caught:
        audio.read(path)
    message = str(caught.value)
    assert str(path) in message
    assert all(word in message for word in words), message
    assert message.endswith(".")
    assert "\n" not in message


# ---------------------------------------------------------------------------------------------------------- reading

LOSSLESS = [
    (container, subtype)
    for container in ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "NIST", "IRCAM", "VOC", "MAT5", "SVX")
    for subtype in ("PCM_16", "PCM_24", "FLOAT", "DOUBLE")
    if soundfile.check_format(container, subtype)
]
LOSSY = [("WAV", "ULAW"), ("WAV", "IMA_ADPCM"), ("WAV", "GSM610"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", None)]


@pytest.mark.parametrize(("container", "subtype"), LOSSLESS)
def test_read_gives_the_samples_of_every_lossless_encoding(tmp_path: Path, container: str, subtype: str) -> None:
    path, wave = tmp_path / "a.x", noise(8000)
    soundfile.write(path, wave, RATE, format=container, subtype=subtype)
    got = audio.read(path)
    assert got.dtype == np.float32
    assert got.shape == wave.shape
    assert np.abs(got - wave).max() <= 1 / 32768


@pytest.mark.parametrize(("container", "subtype"), LOSSY)
def test_read_decodes_lossy_encodings(tmp_path: Path, container: str, subtype: str | None) -> None:
    path, wave = tmp_path / f"a.{container.lower()}", tone()
    soundfile.write(path, wave, RATE, format=container, subtype=subtype)
    got = audio.read(path)
    assert 0 <= len(got) - len(wave) < 500  # codecs fill their last block
    assert np.abs(got).max() <= 1
    if subtype != "GSM610":  # follows a tone badly
        assert snr_db(got[: len(wave)], wave) > 10


def test_read_reads_unsigned_8_bits(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(), RATE, subtype="PCM_U8")
    assert np.abs(audio.read(tmp_path / "a.wav") - tone()).max() <= 1 / 128


@pytest.mark.parametrize("rate_hz", [8000, 11_025, 22_050, 44_100, 48_000, 96_000])
def test_read_resamples_to_the_same_sound(tmp_path: Path, rate_hz: int) -> None:
    soundfile.write(tmp_path / "a.wav", tone(rate_hz=rate_hz), rate_hz, subtype="FLOAT")
    got = audio.read(tmp_path / "a.wav")
    assert len(got) == RATE
    assert snr_db(got, tone()) > 60


def test_read_averages_channels(tmp_path: Path) -> None:
    left, right = noise(5000, seed=1), noise(5000, seed=2)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), RATE, subtype="FLOAT")
    assert np.allclose(audio.read(tmp_path / "a.wav"), (left + right) / 2, atol=1e-7)
    assert audio.probe(tmp_path / "a.wav") == audio.AudioInfo(RATE, 2, 5000, 5000 / RATE)


def test_blocks_leave_no_seam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wave = noise(10_000)
    soundfile.write(tmp_path / "a.flac", wave, RATE, subtype="PCM_24")
    whole = audio.read(tmp_path / "a.flac")
    for block in (999, 1000, 10_000, 10_001):
        monkeypatch.setattr(audio, "_BLOCK_SAMPLES", block)
        assert np.array_equal(audio.read(tmp_path / "a.flac"), whole)


def test_overshoot_of_a_float_file_is_cut_to_full_scale(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", 3 * tone(), RATE, subtype="FLOAT")
    assert np.array_equal(audio.read(tmp_path / "a.wav"), np.clip(3 * tone(), -1, 1))


# ----------------------------------------------------------------------------------------------------------- damage


def test_what_is_no_recording_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "none.wav", "does not exist")
    refused(tmp_path, "folder")
    (tmp_path / "empty.wav").touch()
    refused(tmp_path / "empty.wav", "empty")
    for suffix in ("wav", "flac", "ogg", "mp3", "txt"):
        path = tmp_path / f"noise.{suffix}"
        path.write_bytes(np.random.default_rng(0).bytes(5000))
        refused(path, "no audio")
        path.write_text("audio_filepath, duration\n" * 100)
        refused(path, "no audio")
    (tmp_path / "bare.raw").write_bytes(bytes(5000))
    refused(tmp_path / "bare.raw", "headerless")


@pytest.mark.parametrize("container", ["WAV", "AIFF", "OGG", "FLAC"])
def test_a_file_without_samples_is_refused(tmp_path: Path, container: str) -> None:
    path = tmp_path / f"a.{container.lower()}"
    soundfile.write(path, np.zeros(0, np.float32), RATE, format=container)
    refused(path)


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.97])
@pytest.mark.parametrize(
    ("container", "subtype"),
    [
        ("WAV", "PCM_16"),
        ("WAV", "FLOAT"),
        ("WAV", "IMA_ADPCM"),
        ("WAVEX", "PCM_24"),
        ("RF64", "PCM_16"),
        ("W64", "PCM_16"),
        ("AIFF", "PCM_16"),
        ("AU", "PCM_16"),
        ("FLAC", "PCM_16"),
        ("OGG", "VORBIS"),
        ("OGG", "OPUS"),
        ("MP3", None),
    ],
)
def test_a_truncated_file_is_refused(tmp_path: Path, container: str, subtype: str | None, keep: float) -> None:
    path = tmp_path / f"a.{container.lower()}"
    soundfile.write(path, noise(3 * RATE), RATE, format=container, subtype=subtype)
    audio.read(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole))])
    refused(path, "truncated")
    if container in ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU"):
        with pytest.raises(InputError, match="truncated"):
            audio.probe(path)


def test_one_missing_sample_is_a_truncation(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(1000), RATE)
    path.write_bytes(path.read_bytes()[:-2])
    refused(path, "truncated", "1998 of 2000 bytes")


def test_a_flac_damaged_in_the_middle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, noise(3 * RATE), RATE)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 100] = bytes(100)
    path.write_bytes(data)
    refused(path, "corrupt")


@pytest.mark.parametrize("size", [0xFFFF_FFFF, 0x7FFF_FFFF, 0x7FFF_F000])
def test_a_wav_streamed_to_a_pipe_is_read_to_its_end(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(5000), RATE)
    data = bytearray(path.read_bytes())
    place = data.index(b"data") + 4
    data[place : place + 4] = struct.pack("<I", size)
    path.write_bytes(data)
    assert len(audio.read(path)) == audio.probe(path).n_frames == 5000


def test_chunks_before_the_samples_are_stepped_over(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(5000), RATE)
    data = path.read_bytes()
    place = data.index(b"data")
    path.write_bytes(data[:place] + b"junk" + struct.pack("<I", 9) + b"datadatad\0" + data[place:])
    assert np.abs(audio.read(path) - noise(5000)).max() <= 1 / 32768
    path.write_bytes(path.read_bytes()[:-100])
    refused(path, "truncated")


def _with_flac_count(path: Path, count: int) -> None:
    """Write ``count`` into the 36-bit total of STREAMINFO; 0 stands for unknown."""
    data = bytearray(path.read_bytes())
    data[21] = (data[21] & 0xF0) | (count >> 32)
    data[22:26] = (count & 0xFFFF_FFFF).to_bytes(4, "big")
    path.write_bytes(data)


def test_a_streamed_flac_is_counted_by_decoding(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, noise(5000), RATE)
    _with_flac_count(path, 0)
    assert len(audio.read(path)) == audio.probe(path).n_frames == 5000


def test_a_false_promise_of_256_gigabytes_is_not_allocated(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, noise(5000), RATE)
    _with_flac_count(path, (1 << 36) - 1)
    refused(path, "truncated", "5000 of 68719476735")


def test_an_mp3_without_a_count_is_not_held_to_an_estimate(tmp_path: Path) -> None:
    path, wave = tmp_path / "a.mp3", np.concatenate([np.zeros(32_000), noise(64_000, 0.3), np.zeros(48_000)])
    with soundfile.SoundFile(
        path, "w", RATE, 1, format="MP3", subtype="MPEG_LAYER_III", bitrate_mode="VARIABLE", compression_level=0.5
    ) as file:
        file.write(wave)
    data = path.read_bytes()
    second = next(i for i in range(40, 4000) if data[i : i + 2] == data[:2])  # the first frame holds only the tag
    path.write_bytes(data[second:])
    assert soundfile.info(path).frames > 1.3 * len(wave)  # the estimate is far off
    got = audio.read(path)
    assert len(wave) <= len(got) < len(wave) + 3000
    assert audio.probe(path).n_frames == len(got)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_refused(tmp_path: Path, bad: float) -> None:
    wave = noise(5000)
    wave[1234] = bad
    soundfile.write(tmp_path / "a.wav", wave, RATE, subtype="FLOAT")
    refused(tmp_path / "a.wav", "1 samples that are NaN or infinite")
    with pytest.raises(InputError, match="NaN"):
        audio.from_array(wave, RATE)


def test_integers_stored_as_floats_are_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(5000) * 32768, RATE, subtype="FLOAT")
    refused(tmp_path / "a.wav", "full scale is 1")


# ----------------------------------------------------------------------------------------------------------- arrays


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.int32, np.float16, np.float32, np.float64])
def test_from_array_scales_every_kind_alike(kind: type) -> None:
    wave, exact = tone(), np.dtype(kind)
    if exact.kind == "f":
        samples, step = wave.astype(kind), float(np.finfo(kind).eps)
    else:
        step = 2.0 ** (1 - 8 * exact.itemsize)
        samples = np.round(wave / step + (128 if exact == np.uint8 else 0)).astype(kind)
    got = audio.from_array(samples, RATE)
    assert got.dtype == np.float32
    assert np.abs(got - wave).max() <= max(step, 1e-7)


def test_from_array_finds_the_channels() -> None:
    wave = np.stack([noise(500, seed=1), noise(500, seed=2)])
    expected = wave.mean(axis=0)
    assert np.allclose(audio.from_array(wave, RATE), expected, atol=1e-7)
    assert np.allclose(audio.from_array(wave.T, RATE), expected, atol=1e-7)
    assert np.allclose(audio.from_array(wave[0].tolist(), RATE), wave[0], atol=1e-7)
    assert len(audio.from_array(tone(rate_hz=48_000), 48_000)) == RATE


@pytest.mark.parametrize(
    ("samples", "rate_hz", "word"),
    [
        (np.zeros((2, 3, 4)), RATE, "shape"),
        (np.zeros((100, 200)), RATE, "channels"),
        (np.float32(1), RATE, "shape"),
        (np.zeros(0, np.float32), RATE, "no samples"),
        (np.zeros(100, np.int64), RATE, "int64"),
        (np.zeros(100, complex), RATE, "complex"),
        (np.zeros(100, bool), RATE, "bool"),
        (["a", "b"], RATE, "type"),
        (np.full(100, 1e300), RATE, "infinite"),
        (np.zeros(100), 0, "rate"),
        (np.zeros(100), 10**9, "rate"),
    ],
)
def test_from_array_refuses(samples: object, rate_hz: int, word: str) -> None:
    with pytest.raises(InputError, match=word):
        audio.from_array(samples, rate_hz)


# ---------------------------------------------------------------------------------------------------------- quality


@given(st.integers(0, 50), st.integers(0, 50), st.integers(1, 40))
def test_trimming_undoes_padding(before: int, after: int, n: int) -> None:
    sound = np.full(n, 0.25, np.float32)
    sound[1:-1] = 0  # zeros inside stay
    assert np.array_equal(audio.trim_padding(np.pad(sound, (before, after))), sound)


def test_trimming_takes_one_step_of_16_bits_for_zero() -> None:
    dithered = np.concatenate([np.full(10, 1 / 32768), [0.0, 2 / 32768, 0.0], np.full(9, -1 / 32768)])
    assert np.array_equal(audio.trim_padding(dithered.astype(np.float32)), np.float32([2 / 32768]))
    assert len(audio.trim_padding(np.zeros(100, np.float32))) == 0


def take_refused(wave: np.ndarray, *words: str) -> None:
    with pytest.raises(InputError) as caught:
        audio.check_take(wave, RATE, "clip.wav")
    assert str(caught.value).startswith("clip.wav ")
    assert all(word in str(caught.value) for word in (*words, "record it again.")), caught.value


def test_a_good_take_passes() -> None:
    audio.check_take(tone(), RATE, "clip.wav")
    audio.check_take(noise(RATE // 10), RATE, "clip.wav")
    audio.check_take(tone(peak=1.0, hz=100), RATE, "clip.wav")  # full scale is not yet clipped
    audio.check_take(tone(peak=2e-3), RATE, "clip.wav")


def test_a_short_take_is_refused() -> None:
    take_refused(tone(0.05), "lasts 0.05 s", "0.1 s")
    take_refused(np.pad(tone(0.05), 16_000), "0.0499 s of sound", "0.1 s")
    take_refused(np.zeros(0, np.float32), "lasts 0 s")


def test_a_silent_take_is_refused() -> None:
    take_refused(np.zeros(RATE, np.float32), "silent")
    take_refused(np.full(RATE, 0.3, np.float32), "silent")  # an offset is no sound
    take_refused(tone(peak=5e-4), "silent", "-66 dBFS", "-60 dBFS")


@pytest.mark.parametrize("ceiling", [1.0, 0.8])
def test_a_clipped_take_is_refused_wherever_it_stands(ceiling: float) -> None:
    loud = np.clip(tone(hz=200) * 8, -ceiling, ceiling)
    take_refused(loud, "clipped", "15%")
    take_refused(np.concatenate([noise(3 * RATE, 1e-3), loud, np.zeros(RATE, np.float32)]), "clipped")
    audio.check_take(np.clip(tone(hz=200) * 2.02, -ceiling, ceiling) * 0.4, RATE, "clip.wav")  # there was room left


def test_the_clipped_share_of_a_clipped_sine_is_the_closed_form() -> None:
    t = np.arange(4 * RATE) / RATE
    for gain in (1.5, 3.0, 10.0):
        wave = np.clip(gain * np.sin(2 * np.pi * 50.5 * t), -1, 1).astype(np.float32)
        share = 1 - 2 / np.pi * np.arcsin(1 / gain)
        assert audio.clipped_share(wave, RATE) == pytest.approx(share, abs=0.02)


def test_runs_of_two_are_not_clipping() -> None:
    wave = np.tile(np.float32([1, 1, 0, 0]), RATE)
    assert audio.clipped_share(wave, RATE) == 0
    assert audio.clipped_share(np.tile(np.float32([1, 1, 1, 0]), RATE), RATE) == pytest.approx(0.75)


# -------------------------------------------------------------------------------------------------- real recordings


@pytest.mark.real
@pytest.mark.parametrize(
    "corpus", ["arabic_digits", "lithuanian_commands", "speech_commands_mini", "wake_words_en", "spoken_words_zh_en"]
)
def test_real_takes_are_usable(data_root: Path, corpus: str) -> None:
    lines = (data_root / corpus / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    for line in lines[:: max(1, len(lines) // 100)]:
        row = json.loads(line)
        path = data_root / corpus / row["audio_filepath"]
        wave = audio.read(path)
        assert audio.probe(path).n_frames == len(wave)
        assert len(wave) / RATE == pytest.approx(row["duration"], abs=2e-3)
        audio.check_take(wave, RATE, str(path))
        if np.abs(audio.trim_padding(wave)).max() < 0.99:
            assert audio.clipped_share(wave, RATE) < 0.02


@pytest.mark.real
def test_a_real_word_recorded_far_too_loud_is_refused(data_root: Path) -> None:
    paths = sorted((data_root / "speech_commands_mini" / "audio" / "seven").glob("*.flac"))[:5]
    for path in paths:
        wave = audio.read(path)
        with pytest.raises(InputError, match="clipped"):
            audio.check_take(np.clip(30 * wave / np.abs(wave).max(), -1, 1), RATE, str(path))
