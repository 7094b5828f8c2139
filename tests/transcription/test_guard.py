"""The guard against forgetting: what is stored, what is measured, what is held back."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tonal
import torch

from metavox.checkpoint import read_tensors, write_tensors
from metavox.contracts import InputError, State
from metavox.data.sentences import Sentences, open_sentences
from metavox.text.symbols import UNIVERSAL, Symbols
from metavox.transcription.adapting import heard
from metavox.transcription.guard import (
    Guard,
    guard_positions,
    held_back,
    old_task_error,
    read_guard,
    scaled,
    write_guard,
)
from metavox.transcription.models import Recognition, adapted
from metavox.transcription.scoring import errors_of


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Sentences:
    root = tmp_path_factory.mktemp("guard")
    patch = pytest.MonkeyPatch()
    patch.setenv("METAVOX_CACHE", str(root / "cache"))
    folders = [
        tonal.corpus(root / "one", tonal.texts(9, 1), seed=1, lang="en"),
        tonal.corpus(root / "two", tonal.texts(3, 2), seed=2, lang="ml", dialect=True, speakers=["x", "y"]),
    ]
    found = open_sentences(folders, UNIVERSAL, tonal.FRONT_END)
    patch.undo()
    return found


@pytest.fixture
def folder(tmp_path: Path, sentences: Sentences) -> Path:
    write_guard(tmp_path / "base", sentences, np.arange(12), tonal.FRONT_END)
    return tmp_path / "base"


def read(folder: Path) -> Guard:
    found = read_guard(folder)
    assert found is not None
    return found


# -------------------------------------------------------------------------------------------------------------- stored


def test_features_come_back_to_half_a_level(folder: Path, sentences: Sentences) -> None:
    guard = read(folder)
    inputs, lengths = guard.features([0, 5, 11])
    exact, exact_lengths = sentences.features(np.array([0, 5, 11]), tonal.FRONT_END)
    assert lengths.tolist() == exact_lengths.tolist()
    for row, place in enumerate((0, 5, 11)):
        n = int(lengths[row])
        spread = float(exact[row, :n].max() - exact[row, :n].min())
        assert float((inputs[row, :n] - exact[row, :n]).abs().max()) <= spread / 254 / 2 * 1.001
        assert not inputs[row, n:].any()
        assert guard.targets[place] == sentences.targets[place]
    assert guard.langs == ("en",) * 9 + ("ml",) * 3
    assert guard.speakers[9:] == ("x", "y", "x")


def test_a_guard_takes_a_byte_a_value(tmp_path: Path, sentences: Sentences) -> None:
    n_bytes = write_guard(tmp_path, sentences, np.arange(12), tonal.FRONT_END)
    n_values = sum(sentences.bank.n_frames(i) for i in range(12)) * tonal.FRONT_END.n_mels
    assert n_values < n_bytes < n_values + 4_000
    assert n_bytes == sum(path.stat().st_size for path in tmp_path.iterdir())


def test_positions_take_languages_in_turn_and_no_long_utterance(sentences: Sentences) -> None:
    everything = np.arange(12)
    found = guard_positions(sentences, everything, 6)
    assert len(found) == 6
    assert sum(sentences.utterances[i].lang == "ml" for i in found) == 3
    assert len(guard_positions(sentences, everything, 100)) == 12
    assert not len(guard_positions(sentences, everything, 6, longest_s=0.5))
    assert guard_positions(sentences, everything[::-1].copy(), 6).tolist() == found.tolist()


def test_a_folder_without_a_guard_has_none(tmp_path: Path) -> None:
    assert read_guard(None) is None
    assert read_guard(tmp_path) is None


def test_a_damaged_guard_is_refused(folder: Path, sentences: Sentences) -> None:
    tensors = read_tensors(folder / "guard.safetensors")
    for name, value in (("counts", tensors["counts"] + 1), ("targets", tensors["targets"] + 40), ("steps", None)):
        other = {**tensors, name: value}
        write_tensors(folder / "guard.safetensors", {key: each for key, each in other.items() if each is not None})
        with pytest.raises(InputError, match="do not fit each other"):
            read_guard(folder)
    write_tensors(folder / "guard.safetensors", tensors)
    read(folder)
    (folder / "guard.json").write_text("{}")
    with pytest.raises(InputError, match="not written by Metavox"):
        read_guard(folder)
    (folder / "guard.json").unlink()
    with pytest.raises(InputError, match="damaged"):
        read_guard(folder)
    with pytest.raises(InputError, match="at least one"):
        write_guard(folder, sentences, np.zeros(0, np.int64))


# ------------------------------------------------------------------------------------------------------------ measured


def test_the_error_is_that_on_the_recordings_themselves(folder: Path, sentences: Sentences) -> None:
    base = tonal.reader()
    exact = errors_of(heard(base, sentences, np.arange(12)), sentences.utterances)
    found = old_task_error(base, read(folder))
    assert found.char_edits.tolist() == exact.char_edits.tolist()
    assert found.chars.tolist() == exact.chars.tolist()
    assert found.rate > 0.1  # the dialect is in it


def test_another_alphabet_is_judged_by_the_body_with_the_old_head(folder: Path) -> None:
    base, guard = tonal.reader(), read(folder)
    symbols = Symbols((" ", *"абв"), "native", "ru")
    head = {"head.weight": torch.ones(5, tonal.CONFIG.dim), "head.bias": torch.zeros(5)}
    fresh = adapted(base, head, symbols)
    assert old_task_error(fresh, guard).rate == old_task_error(base, guard).rate
    body = base.net.state_dict()
    broken = {name: torch.zeros_like(value) for name, value in body.items() if name.startswith("blocks")}
    assert old_task_error(adapted(base, head | broken, symbols), guard).rate > old_task_error(base, guard).rate
    with pytest.raises(InputError, match="another alphabet"):
        old_task_error(replace(fresh, base=None), guard)


def test_another_front_end_is_refused(folder: Path) -> None:
    guard = read(folder)
    with pytest.raises(InputError, match="another front end"):
        old_task_error(tonal.reader(), replace(guard, front_end=guard.front_end.model_copy(update={"range_db": 50.0})))


# ----------------------------------------------------------------------------------------------------------- held back


def away(base: Recognition, far: float) -> State:
    """Values that are worse the farther they go."""
    generator = torch.Generator().manual_seed(0)
    start = base.net.state_dict()
    return {
        name: v + far * v.std() * torch.randn(v.shape, generator=generator) for name, v in start.items() if v.ndim > 1
    }


def test_values_go_back_on_a_straight_line() -> None:
    start = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([5.0])}
    half = scaled({"a": torch.tensor([3.0, 2.0])}, start, 0.5)
    assert half.keys() == {"a"}
    assert half["a"].tolist() == [2.0, 2.0]
    assert scaled({"a": torch.tensor([3.0, 2.0])}, start, 1.0)["a"].tolist() == [3.0, 2.0]


def test_the_largest_share_within_the_limit_is_kept(folder: Path) -> None:
    base, guard = tonal.reader(), read(folder)
    state, start = away(base, 1.0), base.net.state_dict()
    rates = {}

    def at_share(share: float) -> Recognition:
        found = adapted(base, {**start, **scaled(state, start, share)})
        rates[share] = old_task_error(found, guard).rate
        return found

    for share in (1.0, 0.75, 0.5, 0.25, 0.0):
        at_share(share)
    before, by_share = rates[0.0], dict(rates)
    assert by_share[1.0] > by_share[0.25] >= before
    for limit in (None, 100.0, 100 * (by_share[0.5] - before) + 1e-6, 0.0):
        rates.clear()
        found, known = held_back(base, at_share, guard, limit)
        allowed = [s for s, rate in by_share.items() if limit is None or 100 * (rate - before) <= limit]
        assert known.share == max(allowed)
        assert known.after.rate == by_share[known.share] == old_task_error(found, guard).rate
        assert known.before.rate == before
        assert min(rates) == known.share  # smaller ones are not asked for
