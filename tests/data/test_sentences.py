"""Transcribed utterances by position, what is refused of them by row, and batches of like lengths."""

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sequence_cases import FRONT_END, talk

from metavox.config.transcription import LISTENING
from metavox.contracts import FrontEnd, InputError, Utterance
from metavox.data import sentences as module
from metavox.data.bank import Bank, _Part, build_bank
from metavox.data.manifests import load_corpus
from metavox.data.sentences import (
    Sentences,
    crowded,
    like_lengths,
    open_sentences,
    padded,
    require_room,
    rounds,
)
from metavox.features import prepare
from metavox.text.symbols import UNIVERSAL, Symbols, min_frames

TEXTS = ("Tula, rime!", "sakko", "a fine day", "golun anti")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METAVOX_CACHE", str(tmp_path_factory.getbasetemp() / "sentences-cache"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = talk(tmp_path_factory.mktemp("data") / "said", [t.lower().strip("!").replace(",", "") for t in TEXTS])
    text = (root / "manifest.jsonl").read_text(encoding="utf-8")
    (root / "manifest.jsonl").write_text(text.replace('"tula rime"', '"Tula, rime!"'), encoding="utf-8")
    return root


# ---------------------------------------------------------------------------------------------------- what is opened


def test_utterances_are_at_hand_with_their_symbols(corpus: Path) -> None:
    found = open_sentences([corpus], UNIVERSAL, FRONT_END)
    assert len(found) == len(found.utterances) == 4
    assert [UNIVERSAL.decode(ids) for ids in found.targets] == ["tula rime", "sakko", "a fine day", "golun anti"]
    assert list(found.phones) == [()] * 4
    batch = found.batch(np.array([2, 0]), FRONT_END)
    assert batch.target_lengths.tolist() == [10, 9]
    assert [UNIVERSAL.decode(row.tolist()) for row in batch.targets] == ["a fine day", "tula rime"]
    assert batch.inputs.shape == (2, int(batch.lengths.max()), 12)
    assert found.durations_s(np.array([1])) == pytest.approx([5 * 0.12 - 0.04], abs=0.03)
    assert found.durations_s().shape == (4,)
    assert np.array_equal(found.durations_s()[[3, 1]], found.durations_s(np.array([3, 1])))


def test_features_are_those_of_a_device_and_padded_with_zeros(corpus: Path) -> None:
    found = open_sentences([corpus], UNIVERSAL, FRONT_END)
    inputs, lengths = found.features(np.array([1, 2]), FRONT_END)
    for row, position in enumerate((1, 2)):
        wave, _ = soundfile.read(found.utterances[position].path, dtype="float32")
        own, n = prepare(wave, FRONT_END)
        assert int(lengths[row]) == int(n)
        torch.testing.assert_close(inputs[row, : int(n)], own[0], rtol=1e-4, atol=1e-3)
        assert not bool(inputs[row, int(n) :].any())


def test_another_front_end_is_refused(corpus: Path) -> None:
    found = open_sentences([corpus], UNIVERSAL, FRONT_END)
    with pytest.raises(InputError, match="the encoder wants"):
        found.features(np.array([0]), LISTENING)


def test_a_native_alphabet_writes_its_own_symbols(corpus: Path) -> None:
    symbols = Symbols.native(["tula rime", "sakko", "a fine day", "golun anti"])
    found = open_sentences([corpus], symbols, FRONT_END)
    assert symbols.decode(found.targets[0]) == "tula rime"
    with pytest.raises(InputError, match="not in the alphabet"):
        open_sentences([corpus], Symbols.native(["tula"]), FRONT_END)


def test_phones_are_padded_and_counted(corpus: Path) -> None:
    found = open_sentences([corpus], UNIVERSAL, FRONT_END)
    known = Sentences(found.bank, found.targets, [(), (3,), (1, 2), ()])
    targets, counts = known.phone_targets(np.array([2, 0, 1]))
    assert targets.tolist() == [[1, 2], [0, 0], [3, 0]]
    assert counts.tolist() == [2, 0, 1]
    targets, counts = known.phone_targets(np.array([0]))
    assert targets.shape == (1, 1)
    assert counts.tolist() == [0]


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["", "sakko", "  "], "2 of 3 recordings have an empty text (said-000, said-002); transcribe them"),
        (["tula", "1984", "sakko"], "cannot be written"),
        (["tula", "...", "sakko"], "holds nothing that is said"),
        (
            ["tula", "sakko" * 12, "rime"],
            "1 of 3 transcripts are too long for their audio (said-001; the first needs 72 frames and has",
        ),
    ],
)
def test_what_cannot_be_learned_from_is_refused_by_row(tmp_path: Path, texts: list[str], said: str) -> None:
    root = talk(tmp_path / "said", ["tula", "sakko", "rime"])
    lines = (root / "manifest.jsonl").read_text().splitlines()
    for i, (old, new) in enumerate(zip(("tula", "sakko", "rime"), texts, strict=True)):
        lines[i] = lines[i].replace(f'"{old}"', f'"{new}"')
    (root / "manifest.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError) as caught:
        open_sentences([root], UNIVERSAL, FRONT_END)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_hour_in_one_row_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = talk(tmp_path / "said", ["tula", "sakko" * 2])
    monkeypatch.setattr(module, "MAX_UTTERANCE_S", 1.0)
    with pytest.raises(InputError) as caught:
        open_sentences([root], UNIVERSAL, FRONT_END)
    expected = "1 of 2 recordings with a text last more than 1 s, the longest 1 s (said-001); cut them into sentences"
    assert expected in str(caught.value)


def test_more_than_three_are_not_all_named(tmp_path: Path) -> None:
    root = talk(tmp_path / "said", ["tula"] * 5)
    text = (root / "manifest.jsonl").read_text()
    (root / "manifest.jsonl").write_text(text.replace('"tula"', '" "'))
    with pytest.raises(InputError, match=r"5 of 5 .*\(said-000, said-001, said-002, \.\.\.\)"):
        open_sentences([root], UNIVERSAL, FRONT_END)


# ------------------------------------------------------------------------------------------------------- room enough


def bank_of(n_frames: list[int]) -> Bank:
    """So many frames of nothing."""
    ends = np.cumsum([0, *n_frames])
    part = _Part(np.zeros(0, np.int16), np.zeros((int(ends[-1]), 12), np.float32))
    offsets = np.stack([ends[:-1], ends[1:]], 1)
    people = [Utterance(f"u{i}", Path(f"{i}.wav"), n / 100, "x") for i, n in enumerate(n_frames)]
    zeros = np.zeros(len(n_frames), np.int64)
    return Bank(people, FRONT_END, [part], zeros, offsets, offsets, offsets - offsets[:, :1])


@settings(max_examples=80, deadline=None)
@given(target=st.lists(st.integers(1, 3), min_size=1, max_size=12).map(tuple), n_frames=st.integers(8, 40))
def test_a_text_has_room_exactly_where_ctc_can_say_it(target: tuple[int, ...], n_frames: int) -> None:
    """Judged by torch: a text without room costs infinity. Two input frames are one that is spelled in."""
    bank = bank_of([n_frames, 4000])
    tight = list(crowded(bank, [target, target]))
    log_probs = torch.zeros(n_frames // 2, 1, 4).log_softmax(-1)
    cost = torch.nn.functional.ctc_loss(
        log_probs, torch.tensor([target]), torch.tensor([n_frames // 2]), torch.tensor([len(target)])
    )
    assert (tight == [0]) == bool(cost.isinf())
    assert min_frames(target) <= n_frames // 2 or tight == [0]


def test_the_longest_that_is_allowed_is_allowed() -> None:
    require_room(bank_of([4000]), [(1, 2)])
    with pytest.raises(InputError, match="last more than 40 s, the longest 40 s"):
        require_room(bank_of([4001, 300]), [(1, 2), (1,)])


def test_texts_are_padded_with_the_blank() -> None:
    targets, lengths = padded([(1, 2), (), (3,)])
    assert targets.tolist() == [[1, 2], [0, 0], [3, 0]]
    assert lengths.tolist() == [2, 0, 1]


# ----------------------------------------------------------------------------------------------------------- batches


@settings(max_examples=100, deadline=None)
@given(
    durations=st.lists(st.floats(0.05, 40), min_size=1, max_size=40),
    batch_s=st.floats(0.1, 120),
    seed=st.integers(0, 99),
    jitter_s=st.floats(0, 3),
)
def test_batches_cover_everything_once_within_the_limit(
    durations: list[float], batch_s: float, seed: int, jitter_s: float
) -> None:
    seconds = np.asarray(durations)
    found = like_lengths(seconds, batch_s, np.random.default_rng(seed), jitter_s)
    assert sorted(np.concatenate(found).tolist()) == list(range(len(durations)))
    for batch in found:
        assert len(batch) == 1 or seconds[batch].max() * len(batch) <= batch_s


def test_batches_are_of_like_lengths() -> None:
    seconds = np.linspace(1, 10, 200)
    found = like_lengths(seconds, 40.0, np.random.default_rng(0))
    assert max(np.ptp(seconds[batch]) for batch in found) < 1.5 + 0.5  # 28 of a second each span 1.3
    padding = 1 - sum(seconds[b].sum() for b in found) / sum(seconds[b].max() * len(b) for b in found)
    assert padding < 0.12


def test_batches_differ_from_round_to_round_and_repeat_with_the_seed() -> None:
    seconds = np.random.default_rng(1).uniform(1, 5, 60)

    def drawn(seed: int) -> list[list[int]]:
        return [batch.tolist() for batch in like_lengths(seconds, 20.0, np.random.default_rng(seed))]

    assert drawn(3) == drawn(3)
    assert {frozenset(b) for b in drawn(3)} != {frozenset(b) for b in drawn(4)}
    firsts = [float(seconds[drawn(seed)[0]].mean()) for seed in range(40)]
    assert np.std(firsts) > 0.3  # short and long ones come first alike


@pytest.mark.parametrize("positions", [[5, 1, 9, 3], [0]])
def test_rounds_give_every_position_before_any_comes_again(positions: list[int]) -> None:
    at = np.asarray(positions)
    seconds = np.linspace(1, 2, len(at))
    rng = np.random.default_rng(0)
    seen: list[int] = []
    for batch in islice(rounds(at, seconds, 2.5, rng), 60):
        seen += batch.tolist()
        done = len(seen) // len(at) * len(at)
        for first in range(0, done, len(at)):
            assert sorted(seen[first : first + len(at)]) == sorted(positions)


def test_rounds_of_nothing_end() -> None:
    nothing: Any = np.zeros(0, np.int64)
    assert list(rounds(nothing, np.zeros(0), 2.5, np.random.default_rng(0))) == []


def test_a_cropping_front_end_hears_less_than_is_stored(tmp_path: Path) -> None:
    """Durations are of what is stored; the features are of what is heard."""
    root = talk(tmp_path / "said", ["tula"])
    wave, rate_hz = soundfile.read(root / "000.wav", dtype="float32")
    quiet = 1e-4 * np.random.default_rng(0).standard_normal(rate_hz).astype(np.float32)
    soundfile.write(root / "000.wav", np.concatenate([quiet, wave, quiet]), rate_hz)
    text = (root / "manifest.jsonl").read_text()
    (root / "manifest.jsonl").write_text(text.replace('"duration": 0.48', '"duration": 2.48'))
    cropping = FrontEnd(**{**FRONT_END.model_dump(), "crop": True})
    found = open_sentences([root], UNIVERSAL, FRONT_END)
    whole, cropped = (int(found.features(np.array([0]), one)[1]) for one in (FRONT_END, cropping))
    assert whole == pytest.approx(248, abs=3)
    assert 45 <= cropped < 80


@pytest.mark.real
@pytest.mark.parametrize("name", ["malayalam_msc", "mandarin_syllables", "librispeech_test_other_mini"])
def test_real_recordings_are_written_and_have_room(data_root: Path, name: str) -> None:
    utterances = load_corpus(data_root / name)[:6]
    symbols = UNIVERSAL.encode_all([u.text for u in utterances], [u.lang for u in utterances])
    bank = build_bank(utterances, FRONT_END)
    require_room(bank, symbols)
    found = Sentences(bank, symbols, [()] * len(bank))
    shares = found.durations_s() / [u.duration_s for u in utterances]  # what is silence to the bit is cut off
    assert 0.7 < shares.min() <= shares.max() <= 1
    batch = found.batch(np.arange(6), FRONT_END)
    log_probs = torch.zeros(6, batch.inputs.shape[1] // 2, UNIVERSAL.size).log_softmax(-1).transpose(0, 1)
    lengths = batch.lengths // 2
    cost = torch.nn.functional.ctc_loss(log_probs, batch.targets, lengths, batch.target_lengths, reduction="none")
    assert bool(cost.isfinite().all())
