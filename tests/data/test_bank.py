"""The bank equals the device path, costs no memory, is kept by content and is never half there."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import sounds
import torch

from metavox.audio import read, trim_padding
from metavox.config import WaveConfig
from metavox.contracts import FrontEnd, InputError, Utterance
from metavox.data import parts
from metavox.data.bank import Bank, build_bank, cache_folder, with_variants
from metavox.data.manifests import load_corpus
from metavox.data.variants import Variants
from metavox.features import log_mel, speech_bounds, window
from metavox.runtime.takes import take_batch

FRONT_ENDS = {
    "fixed": FrontEnd(),
    "own length": FrontEnd(n_frames=None),
    "raw": FrontEnd(normalize=False, n_frames=None, crop=False, n_mels=20),
    "whole": FrontEnd(crop=False, n_frames=32),
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Words of three voices; one clip stands between digital zeros, one is 8 kHz stereo FLAC."""
    root = sounds.word_folders(tmp_path_factory.mktemp("data") / "words")
    sounds.write(root / "tula" / "padded.wav", np.pad(sounds.say("tula", "carl"), (4000, 7000)))
    stereo = np.stack([sounds.say("rime", "carl", rate_hz=8000)] * 2, 1)
    soundfile.write(root / "rime" / "stereo.flac", stereo, 8000)
    return root


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def opened(corpus: Path, cache: Path, front_end: FrontEnd | None = None, **options: Any) -> Bank:
    return build_bank(load_corpus(corpus), front_end or FrontEnd(), cache=cache, **options)


def everything(bank: Bank, front_end: FrontEnd | None = None) -> Any:
    positions = np.arange(len(bank))
    return bank.batch(positions, np.zeros(len(bank), np.int64), 1, front_end)


# --------------------------------------------------------------------------------------------- what it holds


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_a_batch_is_what_a_device_computes_from_the_files(corpus: Path, cache: Path, name: str) -> None:
    front_end = FRONT_ENDS[name]
    bank = opened(corpus, cache, front_end)
    ours = everything(bank)
    theirs = take_batch([u.path for u in bank.utterances], [0] * len(bank), 1, front_end)
    assert torch.equal(ours.lengths, theirs.lengths)
    torch.testing.assert_close(ours.inputs, theirs.inputs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_a_batch_is_read_trim_log_mel_bounds_window_by_hand(corpus: Path, cache: Path, name: str) -> None:
    front_end = FRONT_ENDS[name]
    bank = opened(corpus, cache, front_end)
    for position, utterance in enumerate(bank.utterances):
        frames = log_mel(trim_padding(read(utterance.path)), front_end)
        start, end = speech_bounds(frames, front_end) if front_end.crop else (0, len(frames))
        expected, length = window(torch.from_numpy(frames)[None], torch.tensor([start]), torch.tensor([end]), front_end)
        alone = bank.batch(np.array([position]), np.array([0]), 1)
        assert torch.equal(alone.lengths, length)
        torch.testing.assert_close(alone.inputs, expected, atol=1e-5, rtol=0)
        np.testing.assert_array_equal(bank.features(position), frames)
        assert bank.n_frames(position) == len(frames)


@pytest.mark.real
@pytest.mark.parametrize("name", ["bengali_digits", "lithuanian_commands", "fsdd_en_digits"])
def test_real_recordings_too_are_what_a_device_computes(data_root: Path, cache: Path, name: str) -> None:
    usable = [u for u in load_corpus(data_root / name) if u.duration_s > 0.3][::25]
    bank = build_bank(usable, FrontEnd(), cache=cache)
    theirs = take_batch([u.path for u in usable], [0] * len(usable), 1, FrontEnd(), strict=False)
    torch.testing.assert_close(everything(bank).inputs, theirs.inputs, atol=1e-5, rtol=0)


def test_who_else_is_in_a_batch_does_not_matter(corpus: Path, cache: Path) -> None:
    bank = opened(corpus, cache, FRONT_ENDS["own length"])
    together = everything(bank)
    assert len(together.lengths.unique()) > 3
    for position in range(len(bank)):
        alone = bank.batch(np.array([position]), np.array([0]), 1)
        n = int(alone.lengths[0])
        assert torch.equal(alone.inputs[0], together.inputs[position, :n])
        assert not together.inputs[position, n:].any()


def test_audio_comes_back_within_half_a_step_of_16_bits(corpus: Path, cache: Path) -> None:
    bank = opened(corpus, cache)
    for position, utterance in enumerate(bank.utterances):
        wave = trim_padding(read(utterance.path))
        kept = bank.audio(position)
        assert kept.dtype == np.float32
        assert kept.shape == wave.shape
        assert np.abs(kept - wave).max() <= 0.5 / 32768 + 1e-9


def test_full_scale_does_not_wrap_around(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "words" / "loud" / "a.wav"
    path.parent.mkdir(parents=True)
    wave = np.sign(np.sin(np.arange(8000) / 20)).astype(np.float32)
    soundfile.write(path, wave, 16_000, subtype="FLOAT")
    kept = opened(tmp_path / "words", cache).audio(0)
    assert np.abs(kept - trim_padding(read(path))).max() <= 1 / 32768


def test_padding_zeros_are_not_stored(corpus: Path, cache: Path) -> None:
    bank = opened(corpus, cache)
    at = next(i for i, u in enumerate(bank.utterances) if u.path.name == "padded.wav")
    wave = bank.audio(at)
    assert len(wave) < soundfile.info(bank.utterances[at].path).frames - 10_900
    assert wave[0]
    assert wave[-1]


def test_features_are_mapped_and_not_loaded(corpus: Path, cache: Path) -> None:
    bank = opened(corpus, cache)
    frames = bank.features(0)
    bases = [frames]
    while bases[-1].base is not None and isinstance(bases[-1].base, np.ndarray):
        bases.append(bases[-1].base)
    assert isinstance(bases[-1], np.memmap)
    assert not frames.flags.owndata
    assert not frames.flags.writeable


def test_another_spectrum_is_refused_and_another_window_is_not(corpus: Path, cache: Path) -> None:
    bank = opened(corpus, cache)
    assert everything(bank, FrontEnd(n_frames=16, normalize=False)).inputs.shape[1] == 16
    with pytest.raises(InputError, match="the encoder wants"):
        everything(bank, FrontEnd(n_mels=20))


# ------------------------------------------------------------------------------------------------------- joining


def test_joined_banks_are_their_parts_one_after_the_other(corpus: Path, tmp_path: Path, cache: Path) -> None:
    other = sounds.word_folders(tmp_path / "other", sounds.WORDS[4:6], ("dora",), 2)
    first, second = opened(corpus, cache), opened(other, cache)
    joined = Bank.join([first, second, first])
    assert [u.path for u in joined.utterances] == [u.path for b in (first, second, first) for u in b.utterances]
    for offset, part in ((0, first), (len(first), second), (len(first) + len(second), first)):
        for position in range(len(part)):
            np.testing.assert_array_equal(joined.features(offset + position), part.features(position))
            np.testing.assert_array_equal(joined.audio(offset + position), part.audio(position))
            np.testing.assert_array_equal(joined.bounds[offset + position], part.bounds[position])
    both = build_bank([*load_corpus(corpus), *load_corpus(other)], FrontEnd(), cache=cache)
    mixed = np.array([len(first), 0, len(first) + 1, 3])
    labels = np.array([1, 0, 1, 0])
    assert torch.equal(both.batch(mixed, labels, 2).inputs, joined.batch(mixed, labels, 2).inputs)
    assert both.batch(mixed, labels, 2).labels.tolist() == labels.tolist()
    nested = Bank.join([Bank.join([first, second]), second])
    np.testing.assert_array_equal(nested.features(len(nested) - 1), second.features(len(second) - 1))


def test_utterances_in_any_order_keep_their_features(corpus: Path, tmp_path: Path, cache: Path) -> None:
    """The bank's positions are those of the list that was given, even where two corpora are interleaved."""
    other = sounds.word_folders(tmp_path / "other", sounds.WORDS[4:6], ("dora",), 2)
    mixed = [u for pair in zip(load_corpus(corpus), load_corpus(other), strict=False) for u in pair]
    bank = build_bank(mixed, FrontEnd(), cache=cache)
    assert sorted(u.id for u in bank.utterances) == sorted(u.id for u in mixed)
    for position, utterance in enumerate(bank.utterances):
        np.testing.assert_array_equal(bank.features(position), log_mel(trim_padding(read(utterance.path)), FrontEnd()))


def test_nothing_and_two_spectra_cannot_be_joined(corpus: Path, cache: Path) -> None:
    with pytest.raises(InputError, match="No corpus was given"):
        Bank.join([])
    with pytest.raises(InputError, match="No corpus was given"):
        build_bank([], FrontEnd(), cache=cache)
    with pytest.raises(InputError, match="the encoder wants"):
        Bank.join([opened(corpus, cache), opened(corpus, cache, FrontEnd(n_mels=20))])


# ------------------------------------------------------------------------------------------------------- keeping


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts the clips whose features are computed."""
    calls: list[int] = []

    def counted(wave: np.ndarray, front_end: FrontEnd) -> np.ndarray:
        if wave.any():  # settings are tried on silence first
            calls.append(len(wave))
        return log_mel(wave, front_end)

    monkeypatch.setattr(parts, "log_mel", counted)
    return calls


def test_the_second_opening_computes_nothing(corpus: Path, cache: Path, computed: list[int]) -> None:
    first = everything(opened(corpus, cache))
    n = len(computed)
    assert n == len(load_corpus(corpus))
    again = everything(opened(corpus, cache))
    assert len(computed) == n
    assert torch.equal(first.inputs, again.inputs)


def test_a_moved_folder_is_known_by_its_content(corpus: Path, tmp_path: Path, cache: Path, computed: list[int]) -> None:
    shutil.copytree(corpus, tmp_path / "a" / "words")
    before = everything(opened(tmp_path / "a" / "words", cache))
    n = len(computed)
    (tmp_path / "a" / "words").rename(tmp_path / "words")
    bank = opened(tmp_path / "words", cache)
    assert len(computed) == n
    assert bank.utterances[0].path.is_file()
    assert torch.equal(everything(bank).inputs, before.inputs)


def test_changed_settings_and_changed_recordings_are_computed(
    corpus: Path, tmp_path: Path, cache: Path, computed: list[int]
) -> None:
    own = shutil.copytree(corpus, tmp_path / "words")
    before = opened(own, cache)
    n = len(computed)
    opened(own, cache, FrontEnd(n_frames=None, normalize=False, crop=False))  # the window part is not stored
    assert len(computed) == n
    opened(own, cache, FrontEnd(n_mels=20))
    assert len(computed) == 2 * n
    path = own / "tula" / "anna-0.wav"
    sounds.write(path, sounds.say("zetta"))
    bank = opened(own, cache)
    assert len(computed) == 3 * n
    at = next(i for i, u in enumerate(bank.utterances) if u.path == path)
    np.testing.assert_array_equal(bank.features(at), log_mel(trim_padding(read(path)), FrontEnd()))
    # What an earlier bank maps stays readable.
    assert before.features(at).sum() != bank.features(at).sum()


def test_clips_that_changed_places_are_another_bank(corpus: Path, cache: Path) -> None:
    utterances = load_corpus(corpus)
    bank = build_bank(utterances, FrontEnd(), cache=cache)
    turned = build_bank(utterances[::-1], FrontEnd(), cache=cache)
    np.testing.assert_array_equal(bank.features(0), turned.features(len(utterances) - 1))


@pytest.mark.parametrize("n_workers", [1, 2])
def test_one_worker_and_two_write_the_same(corpus: Path, tmp_path: Path, n_workers: int) -> None:
    assert parts._CHUNK >= 2
    names = [f"w{i}" for i in range(3)]
    root = sounds.word_folders(tmp_path / "words", names, ("anna",), parts._CHUNK // 2)  # more than one chunk
    seen: list[tuple[int, int]] = []
    opened(root, tmp_path / "cache", n_workers=n_workers, progress=lambda done, total: seen.append((done, total)))
    opened(root, tmp_path / "reference", n_workers=1)
    assert sounds.files_below(tmp_path / "cache") == sounds.files_below(tmp_path / "reference")
    total = len(load_corpus(root))
    assert seen[-1] == (total, total)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_the_cache_folder_is_named_by_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("METAVOX_CACHE", str(tmp_path / "here"))
    assert cache_folder() == tmp_path / "here"
    monkeypatch.delenv("METAVOX_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "there"))
    assert cache_folder() == tmp_path / "there" / "metavox"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "metavox"


# ------------------------------------------------------------------------------------------------------- damage


def test_clips_that_cannot_be_used_are_counted_and_the_first_is_named(
    corpus: Path, tmp_path: Path, cache: Path
) -> None:
    own = shutil.copytree(corpus, tmp_path / "words")
    utterances = load_corpus(own)
    (own / "rime" / "anna-1.wav").write_bytes(b"no audio at all")
    sounds.write(own / "sakko" / "anna-0.wav", np.zeros(8000, np.float32))
    sounds.write(own / "tula" / "anna-0.wav", np.zeros(8000, np.float32))
    with pytest.raises(InputError, match=r"^3 of 26 clips of words cannot be used") as caught:
        build_bank(utterances, FrontEnd(), cache=cache)
    first = next(u for u in utterances if u.path.name == "anna-1.wav" and u.label == "rime")
    assert str(first.path) in str(caught.value)
    assert "metavox data check" in str(caught.value)
    assert not sounds.files_below(cache)


def test_settings_that_no_clip_can_meet_are_told_as_such(corpus: Path, cache: Path) -> None:
    with pytest.raises(InputError, match=r"^Mel bins from 20 to 9000 Hz do not fit a rate of 16000 Hz"):
        opened(corpus, cache, FrontEnd(high_hz=9000))
    assert not list(cache.glob("*"))


def test_a_recording_that_is_gone_is_named(corpus: Path, cache: Path) -> None:
    gone = Utterance("a", corpus / "gone.wav", 1.0, corpus="words")
    with pytest.raises(InputError, match=r"gone\.wav cannot be read"):
        build_bank([*load_corpus(corpus), gone], FrontEnd(), cache=cache)
    assert not sounds.files_below(cache)


@pytest.mark.parametrize("fault", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interruption_leaves_no_half_bank(
    corpus: Path, cache: Path, fault: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(done: int, total: int) -> None:
        raise fault

    with pytest.raises(fault if isinstance(fault, type) else type(fault)):
        opened(corpus, cache, progress=interrupted)
    assert not list(cache.glob("*"))
    assert len(opened(corpus, cache)) == len(load_corpus(corpus))


@pytest.mark.parametrize("name", ["audio.i16", "features.f32", "index.npz", "bank.json"])
@pytest.mark.parametrize("damage", ["cut", "emptied", "removed", "longer"])
def test_a_damaged_bank_is_built_again(corpus: Path, cache: Path, computed: list[int], name: str, damage: str) -> None:
    before = everything(opened(corpus, cache))
    n = len(computed)
    (folder,) = cache.iterdir()
    path = folder / name
    content = path.read_bytes()
    if damage == "removed":
        path.unlink()
    else:
        path.write_bytes({"cut": content[: len(content) // 2], "emptied": b"", "longer": content + content}[damage])
    bank = opened(corpus, cache)
    assert torch.equal(everything(bank).inputs, before.inputs)
    np.testing.assert_array_equal(bank.audio(0), opened(corpus, cache).audio(0))
    assert len(computed) in (n, 2 * n)
    if damage != "longer" or name in ("audio.i16", "features.f32"):
        assert len(computed) == 2 * n
    assert [path.name for path in cache.iterdir()] == [folder.name]
    opened(corpus, cache)
    assert len(computed) <= 2 * n  # and is whole again


def test_a_bank_in_another_format_is_built_again(corpus: Path, cache: Path, computed: list[int]) -> None:
    opened(corpus, cache)
    n = len(computed)
    (folder,) = cache.iterdir()
    about = json.loads((folder / "bank.json").read_text())
    (folder / "bank.json").write_text(json.dumps({**about, "format": 0}))
    opened(corpus, cache)
    assert len(computed) == 2 * n


def test_a_long_or_odd_corpus_name_can_be_kept(tmp_path: Path, cache: Path) -> None:
    for name in ("x" * 240, "слова" * 20, "with space [red] %s"):
        root = sounds.word_folders(tmp_path / name, sounds.WORDS[:2], ("anna",), 1)
        assert len(opened(root, cache)) == 2


def test_an_utterance_without_a_corpus_can_be_kept(corpus: Path, cache: Path) -> None:
    loose = [replace(u, corpus="") for u in load_corpus(corpus)]
    assert len(build_bank(loose, FrontEnd(), cache=cache)) == len(loose)


# ------------------------------------------------------------------------------------------------------- variants

TWO = Variants(2, WaveConfig(noise_share=1.0, reverb_share=0.5, codec_share=0.1), seed=3)


def versions(bank: Bank, variant: int) -> list[np.ndarray]:
    return [bank.audio(position, variant) for position in range(len(bank))]


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    rng = np.random.default_rng(5)
    return sounds.write(tmp_path / "fan.wav", 0.1 * rng.standard_normal(32_000)).parent / "fan.wav"


def test_a_bank_with_variants_is_the_bank_without_and_more(corpus: Path, cache: Path) -> None:
    plain, bank = opened(corpus, cache), opened(corpus, cache, variants=TWO)
    assert (plain.n_variants, bank.n_variants) == (0, 2)
    assert torch.equal(everything(plain).inputs, everything(bank).inputs)
    np.testing.assert_array_equal(plain.bounds, bank.bounds)
    positions = np.arange(len(bank))
    labels = np.zeros(len(bank), np.int64)
    variant = np.arange(len(bank)) % 3
    mixed = bank.batch(positions, labels, 1, variant=variant)
    for number in (0, 1, 2):
        alone = bank.batch(positions, labels, 1, variant=np.full(len(bank), number))
        assert torch.equal(mixed.inputs[variant == number], alone.inputs[variant == number])
        if number:
            differ = [not torch.equal(a, b) for a, b in zip(alone.inputs, everything(plain).inputs, strict=True)]
            assert all(differ)


def test_a_variant_is_kept_as_a_device_would_hear_it(corpus: Path, cache: Path) -> None:
    bank = opened(corpus, cache, variants=TWO)
    for position, number in ((0, 1), (5, 2), (len(bank) - 1, 1)):
        frames = log_mel(bank.audio(position, number), FrontEnd())
        np.testing.assert_allclose(bank.features(position, number), frames, atol=0.1, rtol=0)  # 16 bits
        at, which = np.array([position]), np.array([number])
        stored = bank.features(position, number)
        assert bank.window_bounds(at, which).tolist() == [list(speech_bounds(stored, FrontEnd()))]
        assert bank.window_bounds(at, which, crop=False).tolist() == [[0, len(stored)]]
        assert bank.n_frames(position, number) == len(stored) == bank.n_frames(at, which)[0]
        raw, lengths = bank.padded(at, np.array([[2, 9]]), which)
        np.testing.assert_array_equal(raw[0].numpy(), stored[2:9])
        assert lengths.tolist() == [7]


@pytest.mark.parametrize(("n_workers", "chunk"), [(1, 64), (2, 5), (3, 1)])
def test_workers_and_chunks_do_not_decide_what_a_variant_is(
    corpus: Path, tmp_path: Path, noise: Path, n_workers: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = replace(TWO, noise=(noise,))
    reference = opened(corpus, tmp_path / "reference", variants=asked, n_workers=1)
    monkeypatch.setattr(parts, "_CHUNK", chunk)
    bank = opened(corpus, tmp_path / "cache", variants=asked, n_workers=n_workers)
    assert versions(bank, 2)[3].tobytes() == versions(reference, 2)[3].tobytes()
    assert sounds.files_below(tmp_path / "cache") == sounds.files_below(tmp_path / "reference")


def test_variants_are_computed_once_and_more_of_them_do_not_change_the_first(
    corpus: Path, cache: Path, computed: list[int]
) -> None:
    one = opened(corpus, cache, variants=replace(TWO, n=1))
    n = len(computed)
    assert n == 2 * len(one)
    three = opened(corpus, cache, variants=replace(TWO, n=3))
    assert len(computed) == 2 * n
    assert [a.tobytes() for a in versions(one, 1)] == [a.tobytes() for a in versions(three, 1)]
    opened(corpus, cache, variants=replace(TWO, n=3))
    opened(corpus, cache)
    assert len(computed) == 2 * n


def test_settings_seed_and_noise_make_other_variants(corpus: Path, cache: Path, noise: Path) -> None:
    found = [versions(opened(corpus, cache, variants=replace(TWO, noise=(noise,))), 1)]
    sounds.write(noise, 0.1 * np.random.default_rng(6).standard_normal(32_000))  # same name, other recording
    for asked in (
        replace(TWO, noise=(noise,)),
        TWO,
        replace(TWO, seed=4),
        replace(TWO, wave=TWO.wave.model_copy(update={"snr_db": (30.0, 30.0)})),
    ):
        found.append(versions(opened(corpus, cache, variants=asked), 1))
    assert len({tuple(clip.tobytes() for clip in clips) for clips in found}) == len(found)


def test_the_place_and_order_of_a_clip_do_not_decide_its_variant(corpus: Path, cache: Path) -> None:
    """Without babble, whose voices are the other clips."""
    asked = replace(TWO, wave=TWO.wave.model_copy(update={"babble_share": 0.0}))
    utterances = load_corpus(corpus)
    bank = build_bank(utterances, FrontEnd(), cache=cache, variants=asked)
    turned = build_bank(utterances[::-1], FrontEnd(), cache=cache, variants=asked)
    assert [a.tobytes() for a in versions(bank, 1)] == [a.tobytes() for a in versions(turned, 1)[::-1]]


def test_joined_banks_keep_their_variants(corpus: Path, tmp_path: Path, cache: Path) -> None:
    other = sounds.word_folders(tmp_path / "other", sounds.WORDS[4:6], ("dora",), 2)
    first, second = opened(corpus, cache, variants=TWO), opened(other, cache, variants=TWO)
    joined = Bank.join([first, second])
    later = with_variants(Bank.join([opened(corpus, cache), opened(other, cache)]), TWO, cache=cache)
    for bank in (joined, later, with_variants(joined, TWO, cache=cache), Bank.join([joined])):
        assert (len(bank), bank.n_variants) == (len(first) + len(second), 2)
        for number in (0, 1, 2):
            expected = [*versions(first, number), *versions(second, number)]
            assert [a.tobytes() for a in versions(bank, number)] == [a.tobytes() for a in expected]
    with pytest.raises(InputError, match="Banks with 2 and 0 variants cannot be joined; build both with the same"):
        Bank.join([first, opened(other, cache)])
    for wrong in (-1, 3):
        with pytest.raises(ValueError, match="variants are 0 to 2"):
            joined.n_frames(np.array([0]), np.array([wrong]))


def test_progress_counts_every_version(corpus: Path, cache: Path) -> None:
    seen: list[tuple[int, int]] = []
    bank = opened(corpus, cache, variants=TWO, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (3 * len(bank), 3 * len(bank))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_noise_shorter_than_the_longest_clip_is_refused_before_anything_is_computed(
    corpus: Path, cache: Path, tmp_path: Path, noise: Path
) -> None:
    short = sounds.write(tmp_path / "short.wav", 0.1 * np.random.default_rng(0).standard_normal(8000))
    opened(corpus, cache)
    n = len(list(cache.iterdir()))
    with pytest.raises(InputError, match=r"short\.wav, lasts 0\.50 s, and .*wav 0\.\d\d s, .*; list a longer"):
        opened(corpus, cache, variants=replace(TWO, noise=(short,)))
    assert len(list(cache.iterdir())) == n + 1  # the noise itself
    opened(corpus, cache, variants=replace(TWO, noise=(short, noise)))


def test_changes_that_leave_nothing_are_refused_and_the_first_clip_is_named(corpus: Path, cache: Path) -> None:
    far = Variants(1, WaveConfig(shift_s=9.0))
    with pytest.raises(InputError, match=r"shift_s of 9 s would empty .*, which lasts .* s; shift by less"):
        opened(corpus, cache, variants=far)
    n = len(list(cache.iterdir()))
    own = shutil.copytree(corpus, cache.parent / "own" / "words")
    sounds.write(own / "tula" / "tiny.wav", sounds.say("tula")[4000:4480])
    with pytest.raises(InputError, match=r"1 of 27 clips of words .* variant \d of .*tiny\.wav: A speed of 1\.[2-5]"):
        opened(own, cache, variants=Variants(9, WaveConfig(speed=0.5)))
    assert len(list(cache.iterdir())) > n
    assert not [path for path in cache.iterdir() if path.suffix == ".tmp"]
