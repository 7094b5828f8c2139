"""Long recordings are cut at their pauses: all speech is kept, and nothing depends on how the samples arrive."""

import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from metavox.audio import read
from metavox.contracts import InputError
from metavox.runtime.segments import (
    BAND_EDGES_HZ,
    CHUNK,
    FRAME,
    HOLD_DB,
    MIN_SPEECH_S,
    ONSET_DB,
    RATE_HZ,
    Cutting,
    Stretch,
    _chunks,
    _leveled,
    _Marker,
    file_blocks,
    resampled,
    stretches,
)
from tests.sounds import WORDS, say, write


def talk(
    snr_db: float, seed: int = 0, n_words: int = 12, drift_db: float = 0.0
) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Words of ours with pauses of 0.8 to 2.5 s in white noise, and where in it they are loud, in seconds.

    The noise grows by ``drift_db`` from start to end, and the words with it.
    """
    rng = np.random.default_rng(seed)
    parts, times = [], []
    n = 0
    for take in range(n_words):
        pause = np.zeros(round(rng.uniform(0.8, 2.5) * RATE_HZ))
        wave = say(WORDS[take % len(WORDS)], ("anna", "bela")[take % 2], take)
        loud = np.flatnonzero(np.abs(wave) > 0.05)
        wave = wave[loud[0] : loud[-1] + 1].astype(float)
        parts += [pause, wave]
        n += len(pause)
        times.append((n / RATE_HZ, (n + len(wave)) / RATE_HZ))
        n += len(wave)
    clean = np.concatenate([*parts, np.zeros(RATE_HZ)])
    spoken = np.concatenate([clean[round(a * RATE_HZ) : round(b * RATE_HZ)] for a, b in times])
    noise = rng.standard_normal(len(clean)) * np.sqrt(np.square(spoken).mean()) * 10 ** (-snr_db / 20)
    gain = 10 ** (np.linspace(-drift_db, 0, len(clean)) / 20)
    return np.clip((clean + noise) * gain, -1, 1).astype(np.float32), times


def covers(found: list[Stretch], start_s: float, end_s: float) -> bool:
    return any(one.start_s <= start_s and end_s <= one.end_s for one in found)


def in_order(found: list[Stretch]) -> bool:
    return all(a.end_s <= b.start_s for a, b in pairwise(found)) and all(len(one.wave) for one in found)


# --------------------------------------------------------------------------------------------------------- what is kept


@pytest.mark.parametrize("snr_db", [40.0, 20.0, 10.0, 5.0])
@pytest.mark.parametrize("drift_db", [0.0, 25.0])
def test_every_word_is_kept_whole_and_pauses_are_not(snr_db: float, drift_db: float) -> None:
    wave, times = talk(snr_db, n_words=45 if drift_db else 12, drift_db=drift_db)
    found = list(stretches([wave]))
    assert in_order(found)
    assert [covers(found, *time) for time in times] == [True] * len(times)
    assert len(found) == len(times)
    for one in found:
        np.testing.assert_array_equal(one.wave, wave[one.first : one.first + len(one.wave)])
    spoken_s = sum(end - start for start, end in times)
    assert sum(one.end_s - one.start_s for one in found) < spoken_s + 0.65 * len(times)


def test_speech_that_begins_with_the_recording_and_ends_with_it_is_kept() -> None:
    wave, times = talk(20)
    first, last = round(times[0][0] * RATE_HZ), round(times[-1][1] * RATE_HZ)
    found = list(stretches([wave[first:last]]))
    assert found[0].start_s == 0
    assert found[-1].end_s == pytest.approx((last - first) / RATE_HZ, abs=1e-9)


@pytest.mark.parametrize("n", [0, 1, 319, 16_000, 700_000])
@pytest.mark.parametrize("sound", ["zeros", "one step", "constant", "steady noise", "loud steady noise"])
def test_silence_and_steady_noise_have_no_speech(n: int, sound: str) -> None:
    noise = np.random.default_rng(0).standard_normal(n)
    wave = {
        "zeros": np.zeros(n),
        "one step": np.round(noise * 0.3) / 32768,
        "constant": np.full(n, 0.4),
        "steady noise": 0.003 * noise,
        "loud steady noise": 0.1 * noise,
    }[sound]
    assert list(stretches([wave.astype(np.float32)])) == []


def test_a_click_is_no_speech_and_a_short_word_is() -> None:
    wave = 1e-3 * np.random.default_rng(0).standard_normal(10 * RATE_HZ).astype(np.float32)
    wave[3 * RATE_HZ + 160] = 0.5
    wave[4 * RATE_HZ : 4 * RATE_HZ + 160] = 0.2  # 10 ms across two frames
    at = 6 * RATE_HZ
    wave[at : at + 2400] += 0.1 * np.sin(np.arange(2400) / 3, dtype=np.float32)
    (found,) = stretches([wave])
    assert covers([found], 6, 6.15)
    assert found.start_s == pytest.approx(5.8, abs=0.06)
    assert found.end_s == pytest.approx(6.35, abs=0.06)


def test_dither_between_digital_silence_is_no_speech() -> None:
    dither = np.round(np.random.default_rng(0).standard_normal(RATE_HZ)) / 32768
    wave = np.concatenate([np.zeros(9 * RATE_HZ), dither, np.zeros(9 * RATE_HZ)]).astype(np.float32)
    assert list(stretches([wave])) == []


def test_no_speech_is_lost_after_digital_silence() -> None:
    """A recording that was muted at the start says nothing about the noise of the rest."""
    wave, times = talk(20)
    found = list(stretches([np.zeros(20 * RATE_HZ, np.float32), wave]))
    assert all(covers(found, 20 + start, 20 + end) for start, end in times)


# ------------------------------------------------------------------------------------------------------- long speech


def test_speech_without_pause_is_cut_at_quiet_places() -> None:
    """Words run on for two minutes, with a dip of 0.2 s now and then, too short for a pause."""
    rng = np.random.default_rng(1)
    parts, dips, n = [], [], 0
    while n < 120 * RATE_HZ:
        for _ in range(7):
            wave = say(WORDS[rng.integers(len(WORDS))], "anna", int(rng.integers(9)))
            parts.append(wave[1600:-1600])
            n += len(parts[-1])
        dips.append((n / RATE_HZ, n / RATE_HZ + 0.2))
        parts.append(np.zeros(round(0.2 * RATE_HZ), np.float32))
        n += len(parts[-1])
    speech = np.concatenate(parts)
    quiet = np.zeros(3 * RATE_HZ, np.float32)
    wave = np.concatenate([quiet, speech, quiet]) + 1e-3 * rng.standard_normal(n + 6 * RATE_HZ).astype(np.float32)
    found = list(stretches([wave], Cutting(max_segment_s=10.0)))
    assert in_order(found)
    assert max(one.end_s - one.start_s for one in found) <= 10
    assert covers([Stretch(found[0].first, np.concatenate([one.wave for one in found]))], 3, 3 + n / RATE_HZ)
    for before, after in pairwise(found):
        assert before.end_s == pytest.approx(after.start_s)
        assert any(3 + start - 0.05 <= after.start_s <= 3 + end + 0.05 for start, end in dips), after.start_s


@pytest.mark.parametrize("max_segment_s", [1.0, 5.0, 20.0])
def test_nothing_is_longer_than_asked_for(max_segment_s: float) -> None:
    wave, _ = talk(20)
    tone = 0.2 * np.sin(np.cumsum(np.linspace(0.1, 1.5, 45 * RATE_HZ))).astype(np.float32)
    found = list(stretches([wave, tone, wave], Cutting(max_segment_s=max_segment_s)))
    assert in_order(found)
    assert max(len(one.wave) for one in found) <= max_segment_s * RATE_HZ


@pytest.mark.parametrize(
    "lengths",
    [{"max_segment_s": 0.5}, {"max_segment_s": 61.0}, {"min_pause_s": 0.0}, {"padding_s": 0.5}, {"padding_s": -1.0}],
)
def test_lengths_that_cannot_be_are_refused(lengths: dict[str, float]) -> None:
    with pytest.raises(InputError, match="keep to 1 to 60 s"):
        Cutting(**lengths)


# ------------------------------------------------------------------------------------------- frames to stretches, twice


def offline(scores: list[float], pause: int, padding: int) -> list[tuple[int, int]]:
    """A second implementation that sees everything at once, for speech of any length."""
    active, speaking = [], False
    for score in scores:
        speaking = score >= (HOLD_DB if speaking else ONSET_DB)
        active.append(speaking)
    runs: list[list[int]] = []  # start, end, active frames
    for t in np.flatnonzero(active).tolist():
        if runs and t - runs[-1][1] < pause:
            runs[-1] = [runs[-1][0], t + 1, runs[-1][2] + 1]
        else:
            runs.append([t, t + 1, 1])
    kept = [run for run in runs if run[2] >= round(MIN_SPEECH_S * RATE_HZ / FRAME)]
    found = []
    for i, (start, end, _) in enumerate(kept):
        following = next((run[0] for run in runs if run[0] >= end), None)
        after = padding if following is None else min(padding, max((following - end) // 2, 0))
        if following is not None and following - end >= max(pause, 2 * padding):
            after = padding
        before = found[-1][1] if i else 0
        found.append((max(start - padding, before), min(end + after, len(scores))))
    return found


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.0, HOLD_DB, (HOLD_DB + ONSET_DB) / 2, ONSET_DB, 9.0]),
            st.one_of(st.integers(1, 30), st.sampled_from([5, 15, 20, 25, 40])),
        ),
        max_size=20,
    ),
    st.sampled_from([(0.3, 0.2), (0.3, 0.0), (0.5, 0.1), (0.1, 0.4)]),
)
def test_stretches_are_those_of_someone_who_sees_everything_at_once(
    runs: list[tuple[float, int]], lengths: tuple[float, float]
) -> None:
    scores = [score for score, n in runs for _ in range(n)]
    marker = _Marker(Cutting(min_pause_s=lengths[0], padding_s=lengths[1], max_segment_s=60.0))
    found = []
    for t, score in enumerate(scores):
        oldest = marker.oldest
        assert oldest <= t
        new = marker.steps([score])
        assert all(start >= oldest for start, _ in new)  # what was let go of is not asked for
        found += new
    found += marker.finish()
    assert found == offline(scores, round(lengths[0] * 50), round(lengths[1] * 50))


SCORES = st.lists(st.tuples(st.sampled_from([0.0, 9.0, 9.0]), st.integers(1, 90)), max_size=12)


@settings(max_examples=300, deadline=None)
@given(SCORES, st.sampled_from([0.0, 0.2, 0.4]))
def test_long_speech_is_cut_without_a_gap_and_nothing_is_too_long(
    runs: list[tuple[float, int]], padding_s: float
) -> None:
    scores = np.array([score for score, n in runs for _ in range(n)])
    marker = _Marker(Cutting(max_segment_s=1.0, padding_s=padding_s))
    found = [*marker.steps(scores.tolist()), *marker.finish()]
    assert all(0 <= start < end <= len(scores) and end - start <= 50 for start, end in found)
    assert all(a[1] <= b[0] for a, b in pairwise(found))
    kept = np.zeros(len(scores), bool)
    for start, end in found:
        kept[start:end] = True
    edges = np.flatnonzero(np.diff(scores > 0, prepend=False, append=False))
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        assert end - start < round(MIN_SPEECH_S * RATE_HZ / FRAME) or kept[start:end].all()


# -------------------------------------------------------------------------------------------------------------- blocks


@pytest.mark.parametrize("n", [1, 5 * FRAME, CHUNK, 3 * CHUNK, 3 * CHUNK + FRAME, 2 * CHUNK + 700])
def test_levels_are_those_of_the_whole_recording(n: int) -> None:
    """Chunks leave no seam: a second implementation smooths everything at once."""
    wave = np.random.default_rng(0).standard_normal(n).astype(np.float32) * np.linspace(0.01, 1, n, dtype=np.float32)
    found = np.concatenate([levels for _, levels in _leveled(_chunks([wave]))])
    frames = np.pad(wave, (0, -n % FRAME), mode="edge").reshape(-1, FRAME)
    spectrum = np.abs(np.fft.rfft(frames * np.hanning(FRAME + 1)[:-1])) ** 2  # another Hann window, half a sample off
    lines_hz = np.arange(FRAME // 2 + 1) * RATE_HZ / FRAME
    for band, (low, high) in enumerate(pairwise(BAND_EDGES_HZ)):
        inside = (lines_hz >= low) & (lines_hz < high)
        power = spectrum[:, inside].sum(1) * 2 / (FRAME * np.square(np.hanning(FRAME + 1)).sum())
        padded = np.pad(power, 2, mode="edge")
        smooth = np.array([padded[t : t + 5].mean() for t in range(len(power))])
        np.testing.assert_allclose(found[:, band], 10 * np.log10(smooth + 1e-12), atol=0.3)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 60_000), max_size=30))
def test_how_the_samples_arrive_does_not_matter(cuts: list[int]) -> None:
    wave, _ = talk(10, n_words=6)
    whole = list(stretches([wave]))
    parts = list(stretches(np.split(wave, sorted(min(cut * 4, len(wave)) for cut in cuts))))
    assert [one.first for one in parts] == [one.first for one in whole]
    assert all(np.array_equal(a.wave, b.wave) for a, b in zip(parts, whole, strict=True))


def test_one_frame_at_a_time_is_as_good() -> None:
    wave, _ = talk(10, n_words=4)
    whole, parts = list(stretches([wave])), list(stretches(wave[i : i + 97] for i in range(0, len(wave), 97)))
    assert [(one.first, len(one.wave)) for one in parts] == [(one.first, len(one.wave)) for one in whole]


def test_a_stretch_is_given_as_soon_as_it_is_known() -> None:
    wave, times = talk(20, n_words=30)
    seen = 0

    def blocks() -> Iterator[np.ndarray]:
        nonlocal seen
        for start in range(0, len(wave), 8000):
            seen = min(start + 8000, len(wave))
            yield wave[start : start + 8000]

    first = next(iter(stretches(blocks())))
    assert covers([first], *times[0])
    assert seen / RATE_HZ < first.end_s + 18


LONG_RECORDING = """
import json, sys, tracemalloc
import numpy as np
from metavox.runtime.segments import stretches

block = np.load(sys.argv[1], allow_pickle=False)
peaks = []

def blocks():
    for minute in range(int(sys.argv[2])):
        if minute in (2, int(sys.argv[2]) // 4):
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.reset_peak()
        yield block

tracemalloc.start()
n = sum(len(one.wave) for one in stretches(blocks()))
print(json.dumps([n, *peaks, tracemalloc.get_traced_memory()[1]]))
"""


@pytest.mark.parametrize("minutes", [12, pytest.param(40, marks=pytest.mark.slow)])
def test_memory_does_not_grow_with_the_recording(tmp_path: Path, minutes: int) -> None:
    """In a process of its own, where no shapes are checked: the peak of the last three quarters is that before."""
    wave, _ = talk(20, n_words=25)
    np.save(tmp_path / "minute.npy", np.resize(wave, 60 * RATE_HZ), allow_pickle=False)
    command = [sys.executable, "-c", LONG_RECORDING, str(tmp_path / "minute.npy"), str(minutes)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    n_samples, _, short, long = json.loads(done.stdout)
    assert n_samples > minutes * 5 * RATE_HZ
    assert long < 1.05 * short
    assert long < 20e6


# --------------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize(
    ("name", "rate_hz", "n_channels"),
    [("a.wav", 16_000, 1), ("a.flac", 44_100, 2), ("a.ogg", 48_000, 1), ("a.mp3", 22_050, 2), ("a.wav", 8_000, 3)],
)
def test_blocks_of_a_file_are_what_is_read_at_once(tmp_path: Path, name: str, rate_hz: int, n_channels: int) -> None:
    wave = np.stack([0.8 * np.sin(np.arange(7 * rate_hz) / (3 + channel)) for channel in range(n_channels)], 1)
    path = write(tmp_path / name, wave, rate_hz)
    blocks = list(file_blocks(path))
    assert len(blocks) > 1
    assert max(map(len, blocks)) < 20 * RATE_HZ
    found, whole = np.concatenate(blocks), read(path)
    assert found.dtype == np.float32
    assert len(found) == len(whole)
    np.testing.assert_allclose(found, whole, atol=2e-6)


def test_overshoot_of_resampling_is_cut(tmp_path: Path) -> None:
    square = np.sign(np.sin(np.arange(48_000) / 20)).astype(np.float32)
    assert np.abs(np.concatenate(list(resampled([square], 48_000)))).max() == 1


def damaged(tmp_path: Path, kind: str) -> Path:
    rng = np.random.default_rng(0)
    wave = 0.1 * rng.standard_normal(10 * RATE_HZ)
    if kind in ("NaN", "loud"):
        wave[99_000] = np.nan if kind == "NaN" else 5
        soundfile.write(tmp_path / "a.wav", wave, RATE_HZ, subtype="FLOAT")
        return tmp_path / "a.wav"
    if kind == "slow":
        return write(tmp_path / "a.wav", wave[:2000], 900)
    if kind == "missing":
        return tmp_path / "a.wav"
    path = write(tmp_path / f"a.{kind}", wave)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    return path


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("NaN", "NaN or infinite"),
        ("loud", "full scale is 1"),
        ("slow", "rate of 900 Hz"),
        ("missing", "does not exist"),
        ("wav", "is truncated"),
        ("flac", "truncated|cannot be decoded"),
        ("mp3", "is truncated"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_by_name(tmp_path: Path, kind: str, said: str) -> None:
    path = damaged(tmp_path, kind)
    with pytest.raises(InputError, match=said) as caught:
        list(file_blocks(path))
    assert str(path) in str(caught.value)
    with pytest.raises(InputError):
        read(path)  # no more and no less is refused


# ---------------------------------------------------------------------------------------------------------------- real


@pytest.mark.real
def test_real_sentences_in_real_noise_are_kept(data_root: Path) -> None:
    from metavox.data.manifests import load_corpus
    from metavox.data.noise import recordings

    rng = np.random.default_rng(0)
    sentences = [u for u in load_corpus(data_root / "malayalam_msc") if u.duration_s > 2]
    noises = [read(path) for path in recordings(data_root / "noise") if "household" in str(path)]
    parts, times, n = [], [], 0
    for index in rng.choice(len(sentences), 8, replace=False):
        wave = read(sentences[index].path)
        loud = np.flatnonzero(np.abs(wave) > 0.1 * np.abs(wave).max())
        wave = 0.3 * wave[loud[0] : loud[-1]] / np.abs(wave).max()
        pause = np.zeros(round(rng.uniform(1, 3) * RATE_HZ), np.float32)
        parts += [pause, wave]
        times.append(((n + len(pause)) / RATE_HZ, (n + len(pause) + len(wave)) / RATE_HZ))
        n += len(pause) + len(wave)
    clean = np.concatenate(parts)
    for snr_db in (20, 5):
        noise = np.resize(np.concatenate(noises), len(clean))
        noise = noise * np.sqrt(np.square(clean).mean() / np.square(noise).mean()) * 10 ** (-snr_db / 20)
        found = list(stretches([np.clip(clean + noise, -1, 1).astype(np.float32)]))
        assert in_order(found)
        spoken = np.zeros(len(clean), bool)
        for start, end in times:
            spoken[round(start * RATE_HZ) : round(end * RATE_HZ)] = True
        kept = np.zeros(len(clean), bool)
        for one in found:
            kept[one.first : one.first + len(one.wave)] = True
        level = np.sqrt(np.convolve(np.square(clean), np.full(400, 1 / 400), "same"))
        heard = spoken & (level > 0.1 * level.max())
        assert (kept & heard).sum() > 0.99 * heard.sum()
