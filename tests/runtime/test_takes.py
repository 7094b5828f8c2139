"""Takes: everything that can be heard is used, everything else is told, all of it at once."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import sounds
import torch

from metavox.contracts import FrontEnd, InputError
from metavox.features import prepare
from metavox.runtime.takes import take_batch, take_window, takes_in

FRONT_END = FrontEnd(n_frames=None)
RATE = sounds.RATE_HZ


def window_of(clip: Any, **options: Any) -> torch.Tensor:
    return take_window(clip, FRONT_END, **options)[0]


def test_a_file_and_its_samples_are_the_same_take(tmp_path: Path) -> None:
    path = sounds.write(tmp_path / "a.wav", sounds.say("tula"))
    samples, rate_hz = soundfile.read(path, dtype="int16")
    assert torch.equal(window_of(path), window_of(str(path)))
    assert torch.equal(window_of(path), window_of((samples, rate_hz)))
    assert torch.equal(window_of(path), window_of((samples.astype(np.float32) / 32768, rate_hz)))
    assert torch.equal(window_of(path), prepare(samples.astype(np.float32) / 32768, FRONT_END)[0])


@pytest.mark.parametrize("rate_hz", [16_000, 44_100, 48_000])
def test_other_rates_and_stereo_sound_alike(rate_hz: int) -> None:
    """Compared where both have sound: the crop may differ by a frame, the spectrum may not differ by much."""
    wave = sounds.say("tula", rate_hz=rate_hz)
    mono = take_window((wave, rate_hz), FrontEnd(n_frames=32))[0]
    stereo = take_window((np.stack([wave, wave], 1), rate_hz), FrontEnd(n_frames=32))[0]
    torch.testing.assert_close(mono, stereo)
    reference = take_window((sounds.say("tula"), RATE), FrontEnd(n_frames=32))[0]
    other = take_window((sounds.say("rime"), RATE), FrontEnd(n_frames=32))[0]
    assert (mono - reference).square().mean() < 0.3 * (other - reference).square().mean()


def test_a_batch_pads_to_the_longest_and_keeps_each_take_as_it_is(tmp_path: Path) -> None:
    clips = [(sounds.say(word), RATE) for word in sounds.WORDS[:4]]
    batch = take_batch(clips, [2, 0, 1, 0], 3, FRONT_END)
    assert (batch.labels.tolist(), batch.n_classes) == ([2, 0, 1, 0], 3)
    assert batch.lengths.max() == batch.inputs.shape[1]
    assert len(batch.lengths.unique()) > 1
    for row, clip in enumerate(clips):
        n = int(batch.lengths[row])
        assert torch.equal(batch.inputs[row, :n], window_of(clip)[0])
        assert not batch.inputs[row, n:].any()


def clip_of(kind: str, folder: Path) -> Any:
    path = folder / f"{kind}.wav"
    if kind == "missing":
        return path
    if kind in ("empty", "text"):
        path.write_bytes(b"" if kind == "empty" else b"these are no samples")
        return path
    if kind == "truncated":
        sounds.write(path, sounds.say("tula"))
        path.write_bytes(path.read_bytes()[:9000])
        return path
    wave = {
        "silent": np.zeros(RATE, np.float32),
        "short": sounds.say("tula")[3000:3800],
        "clipped": np.clip(sounds.say("tula") * 40, -1, 1),
    }[kind]
    return sounds.write(path, wave)


SAID = {
    "missing": "does not exist",
    "empty": "is empty",
    "text": "cannot be decoded",
    "truncated": "is truncated",
    "silent": "is silent",
    "short": "lasts 0.05 s",
    "clipped": "is clipped",
}


@pytest.mark.parametrize("kind", SAID)
def test_a_bad_take_is_named_with_its_fault_and_a_remedy(tmp_path: Path, kind: str) -> None:
    clip = clip_of(kind, tmp_path)
    with pytest.raises(InputError) as caught:
        take_batch([(sounds.say("rime"), RATE), clip], [0, 1], 2, FRONT_END)
    text = str(caught.value)
    assert text.startswith(str(clip))
    assert SAID[kind] in text
    assert any(remedy in text for remedy in ("again", "check the"))
    assert text.count("\n") == 0
    assert text.endswith(".")


def test_all_bad_takes_are_told_at_once(tmp_path: Path) -> None:
    clips = [clip_of(kind, tmp_path) for kind in SAID]
    with pytest.raises(InputError) as caught:
        take_batch([(sounds.say("rime"), RATE), *clips], range(8), 8, FRONT_END)
    text = str(caught.value)
    assert text.startswith("7 of 8 takes cannot be used: ")
    for kind, clip in zip(SAID, clips, strict=True):
        assert str(clip) in text
        assert SAID[kind] in text
    assert text.endswith(".")
    assert ". " not in text.replace("e.g. ", "")  # one sentence


def test_what_is_only_to_be_recognised_may_be_clipped_and_nothing_worse(tmp_path: Path) -> None:
    assert window_of(clip_of("clipped", tmp_path), strict=False).isfinite().all()
    for kind in set(SAID) - {"clipped"}:
        with pytest.raises(InputError, match=SAID[kind]):
            window_of(clip_of(kind, tmp_path), strict=False)


def test_what_is_no_clip_says_what_one_is() -> None:
    """In a plain interpreter: here, types are checked before."""
    script = """
import numpy as np
from metavox.contracts import FrontEnd, InputError
from metavox.runtime.takes import take_batch
wave = np.zeros(16000, np.float32)
for clip in (wave, (wave,), (16000, wave), 3, None, ("a.wav", 16000), (wave, "16000"), (wave, None), {}):
    try:
        take_batch([clip], [0], 1, FrontEnd())
    except InputError as err:
        assert "a path, or samples with their rate in Hz" in str(err), err
    else:
        raise SystemExit(f"{clip} was taken")
print("all refused")
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert found.stdout.strip() == "all refused", found.stderr


def test_arrays_that_are_no_take_are_refused() -> None:
    for samples, said in (
        (np.zeros(RATE, np.float32), "silent"),
        (np.zeros(0, np.float32), "holds no samples"),
        (np.full(RATE, np.nan, np.float32), "NaN"),
        (np.zeros((3, 4, 5), np.float32), "shape"),
    ):
        with pytest.raises(InputError, match=said):
            window_of((samples, RATE))
    with pytest.raises(InputError, match="rate of 10 Hz"):
        window_of((sounds.say("tula"), 10))


def test_takes_are_found_in_word_folders_and_in_any_labelled_corpus(tmp_path: Path) -> None:
    paths, words = takes_in(sounds.word_folders(tmp_path / "mine", sounds.WORDS[:3], ("anna",), 2))
    assert words == [word for word in sorted(sounds.WORDS[:3]) for _ in range(2)]
    assert all(path.parent.name == word for path, word in zip(paths, words, strict=True))
    paths, words = takes_in(sounds.manifest_corpus(tmp_path / "rows", sounds.WORDS[:3], ("anna",), 2))
    assert words == [word for word in sounds.WORDS[:3] for _ in range(2)]
    assert all(path.is_file() for path in paths)


def test_no_takes_are_refused(tmp_path: Path) -> None:
    unlabelled = sounds.manifest_corpus(tmp_path / "rows", sounds.WORDS[:1], ("anna",), 1, without=["label"])
    with pytest.raises(InputError, match="holds no labelled take; make a folder per word"):
        takes_in(unlabelled)
    with pytest.raises(InputError, match="does not exist"):
        takes_in(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="neither"):
        takes_in(tmp_path / "empty")
