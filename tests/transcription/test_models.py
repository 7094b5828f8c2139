"""Recognisers on disk: what is read is what was saved, whatever became of its folders, or it is refused."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sounds
import torch
from sequence_cases import equal, net_of, utterances, values_of
from tones import write_tones
from torch import Tensor

from metavox.checkpoint import read_tensors, write_tensors
from metavox.contracts import InputError
from metavox.features import prepare
from metavox.text.decode import greedy_batch
from metavox.text.symbols import UNIVERSAL, Symbols
from metavox.transcription import load_recogniser, models
from metavox.transcription.models import (
    Recognition,
    adapted,
    hash_of,
    new_net,
    save_adapted,
    save_recogniser,
    widened,
)
from metavox.transcription.spelling import Search, Spelling

SYMBOLS = Symbols(tuple("abcde"), "roman")


def recognition(seed: int = 0, **changes: Any) -> Recognition:
    net = net_of(seed, n_phones=3, **changes)
    return Recognition(net, SYMBOLS, "tones", "", {"steps": 3, "languages": ["xx"]}, ("a", "ʃ"))


def base_in(folder: Path, seed: int = 0, **changes: Any) -> Recognition:
    return save_recogniser(folder, recognition(seed, **changes))


def adapted_to(base: Recognition, **options: Any) -> Recognition:
    """Another head and a block, as an adaptation would leave them."""
    generator = torch.Generator().manual_seed(7)
    state = {
        name: value + 0.1 * torch.randn(value.shape, generator=generator)
        for name, value in values_of(base.net).items()
        if name.startswith(("head.", "blocks.1."))
    }
    return adapted(base, state, **options)


def scores(one: Recognition) -> Tensor:
    batch = utterances(seed=3)
    with torch.no_grad():
        return one.net(batch.inputs, batch.lengths, one.encoding)


def rewritten(folder: Path, name: str, change: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads((folder / name).read_text(encoding="utf-8"))
    change(document)
    (folder / name).write_text(json.dumps(document), encoding="utf-8")


def refused(source: Path | str) -> str:
    with pytest.raises(InputError) as caught:
        load_recogniser(source)
    said = str(caught.value)
    assert "\n" not in said
    return said


# ------------------------------------------------------------------------------------------------------- base models


@pytest.mark.parametrize("changes", [{}, {"body": "conformer"}, {"condition": 4, "adapter": 2}, {"reduction": 8}])
def test_what_is_read_is_what_was_saved_to_the_bit(tmp_path: Path, changes: dict[str, Any]) -> None:
    saved = base_in(tmp_path / "base", **changes)
    found = load_recogniser(tmp_path / "base")
    assert equal(values_of(found.net), values_of(saved.net))
    assert torch.equal(scores(found), scores(saved))
    assert not found.net.training
    assert found.net.config == saved.net.config
    assert (found.symbols, found.phones, dict(found.about)) == (saved.symbols, saved.phones, dict(saved.about))
    assert (found.hash, found.folder, found.name) == (saved.hash, tmp_path / "base", "base")
    assert (found.base, found.encoding, dict(found.report)) == (None, None, {})
    assert (saved.folder, len(saved.hash)) == (tmp_path / "base", 64)
    assert not list(tmp_path.rglob("*.tmp"))


def test_half_of_the_bytes_come_back_within_half_precision(tmp_path: Path) -> None:
    saved = save_recogniser(tmp_path / "half", recognition(), half=True)
    whole = base_in(tmp_path / "whole")
    found = load_recogniser(tmp_path / "half")
    for name, value in values_of(found.net).items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, values_of(saved.net)[name], rtol=2**-11, atol=2**-24)
        assert torch.equal(value.half().float(), value)
    assert found.hash == saved.hash != whole.hash
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("half", "whole")]
    assert sizes[0] < 0.75 * sizes[1]
    torch.testing.assert_close(scores(found), scores(whole), rtol=0.01, atol=0.02)


def test_a_hash_is_of_configuration_alphabet_and_weights() -> None:
    tensors = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([3])}
    first = hash_of({"x": 1}, {"s": "a"}, tensors)
    assert first == hash_of({"x": 1}, {"s": "a"}, dict(reversed(tensors.items())))
    others = [
        hash_of({"x": 2}, {"s": "a"}, tensors),
        hash_of({"x": 1}, {"s": "b"}, tensors),
        hash_of({"x": 1}, {"s": "a"}, {**tensors, "a": torch.tensor([1.0, 2.5])}),
        hash_of({"x": 1}, {"s": "a"}, {**tensors, "a": torch.tensor([[1.0, 2.0]])}),
        hash_of({"x": 1}, {"s": "a"}, {**tensors, "b": torch.tensor([3], dtype=torch.int32)}),
        hash_of({"x": 1}, {"s": "a"}, {"a": tensors["a"], "c": tensors["b"]}),
    ]
    assert len({first, *others}) == 7


@pytest.mark.parametrize("what", ["weight", "symbols", "model"])
def test_a_model_that_was_tampered_with_is_refused(tmp_path: Path, what: str) -> None:
    base_in(tmp_path / "base")
    if what == "weight":
        tensors = read_tensors(tmp_path / "base" / "model.safetensors")
        tensors["head.bias"][2] += 1e-6
        write_tensors(tmp_path / "base" / "model.safetensors", tensors)
    elif what == "symbols":
        rewritten(tmp_path / "base", "config.json", lambda d: d["symbols"]["characters"].reverse())
    else:
        rewritten(tmp_path / "base", "config.json", lambda d: d["model"].update(dropout=0.25))
    said = refused(tmp_path / "base")
    assert "is not as it was saved: its files hash to" in said
    assert "restore both files from the same training" in said


def test_about_is_for_people_and_may_be_corrected(tmp_path: Path) -> None:
    base_in(tmp_path / "base")
    rewritten(tmp_path / "base", "config.json", lambda d: d["about"].update(note="checked"))
    assert load_recogniser(tmp_path / "base").about["note"] == "checked"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda d: d.update(kind="keywords"),
            "is a model of another kind; name a recogniser, such as metavox/asr-small",
        ),
        (lambda d: d.pop("kind"), "is a model of another kind"),
        (lambda d: d.update(library="other"), "was not written by Metavox"),
        (lambda d: d.update(format=99), "has format 99 and this version reads format"),
        (lambda d: d["model"].update(chanels=3), "unknown key model.chanels; did you mean model.channels?"),
        (lambda d: d["model"].update(channels=32), "belongs to another network than its config.json"),
        (lambda d: d["model"].update(kernel=4), "recogniser.kernel is 4; it must be odd"),
        (lambda d: d.pop("hash"), "hash is"),
        (lambda d: d["symbols"].pop("characters"), "alphabet"),
        (lambda d: d["symbols"].update(alphabet="latin"), "The alphabet is 'latin'"),
        (lambda d: d.update(symbols=3), "symbols is 3"),
    ],
)
def test_a_description_that_is_none_is_refused_in_a_sentence(tmp_path: Path, change: Any, said: str) -> None:
    base_in(tmp_path / "base")
    rewritten(tmp_path / "base", "config.json", change)
    assert said in refused(tmp_path / "base")


@pytest.mark.parametrize("damage", ["cut", "gone", "text", "other names"])
def test_weights_that_are_damaged_are_refused(tmp_path: Path, damage: str) -> None:
    base_in(tmp_path / "base")
    path = tmp_path / "base" / "model.safetensors"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "gone":
        path.unlink()
    elif damage == "text":
        path.write_text("not tensors")
    else:
        write_tensors(path, {f"x.{name}": value for name, value in read_tensors(path).items()})
    assert str(path) in refused(tmp_path / "base")


def test_what_is_no_recogniser_is_refused(tmp_path: Path) -> None:
    assert "holds no recogniser (no config.json or adapted.json)" in refused(tmp_path)
    assert "holds no recogniser" in refused(tmp_path / "nowhere")
    assert "metavox/asr-huge is no bundled model; there are" in refused("metavox/asr-huge")
    assert "metavox/a/b is no bundled model" in refused("metavox/a/b")
    for name in ("metavox/..", "metavox/"):
        assert "no " in refused(name)


def test_a_bundled_name_is_found_and_a_folder_of_that_name_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "BUNDLED", tmp_path / "bundled")
    monkeypatch.chdir(tmp_path)
    bundled = base_in(tmp_path / "bundled" / "small")
    assert "there are metavox/small." in refused("metavox/other")
    found = load_recogniser("metavox/small")
    assert (found.name, found.hash) == ("metavox/small", bundled.hash)
    own = base_in(tmp_path / "metavox" / "small", seed=4)
    assert load_recogniser("metavox/small").hash == own.hash != bundled.hash


def test_a_wave_is_scored_as_its_features_are(tmp_path: Path) -> None:
    one = replace(base_in(tmp_path / "base", condition=4), encoding=torch.ones(4))
    wave = write_tones("abcd")
    inputs, lengths = prepare(wave, one.front_end)
    found = one.log_probs(wave)
    assert torch.equal(found, one.net(inputs, lengths, torch.ones(4))[0])
    assert not torch.equal(found, replace(one, encoding=None).log_probs(wave))
    assert found.shape == (int(one.net.out_lengths(lengths)), 6)
    assert one.frame_s == pytest.approx(0.02)
    assert not found.requires_grad
    with pytest.raises(InputError):
        one.log_probs(np.zeros(8000, np.float32))


def test_a_network_is_drawn_from_its_seed_alone() -> None:
    config = net_of().config
    torch.manual_seed(1)
    first = values_of(new_net(config, 3))
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    assert equal(first, values_of(new_net(config, 3)))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not equal(first, values_of(new_net(config, 4)))


# ----------------------------------------------------------------------------------------------- adapted recognisers


def test_an_adapted_recogniser_comes_back_from_its_part(tmp_path: Path) -> None:
    base = load_recogniser(base_in(tmp_path / "base").folder)
    before = values_of(base.net)
    mine = adapted_to(base, report={"cer": 0.25})
    assert equal(values_of(base.net), before)
    save_adapted(tmp_path / "mine", mine)
    found = load_recogniser(tmp_path / "mine")
    part = read_tensors(tmp_path / "mine" / "part.safetensors")
    assert {name.split(".")[0] for name in part} == {"head", "blocks"}
    for name, value in values_of(found.net).items():
        change = (values_of(mine.net)[name] - before[name]).abs()
        largest = change.reshape(len(change), -1).amax(1) / 254 + 1e-6
        error = (value - values_of(mine.net)[name]).abs().reshape(len(change), -1).amax(1)
        assert bool((error <= largest).all()), name
        if name.split(".")[0] not in ("head", "blocks"):
            assert torch.equal(value, before[name])
    assert (found.name, found.folder, found.symbols) == ("mine", tmp_path / "mine", SYMBOLS)
    assert (found.report, found.about, found.phones) == ({"cer": 0.25}, base.about, base.phones)
    assert found.base is not None
    assert (found.base.hash, found.hash) == (base.hash, base.hash)
    assert not torch.equal(scores(found), scores(base))


def test_an_alphabet_with_more_characters_and_an_encoding_come_back(tmp_path: Path) -> None:
    base = load_recogniser(base_in(tmp_path / "base", condition=4).folder)
    symbols = Symbols(tuple("abcdeയർ"), "native", "ml")
    head = {"head.weight": torch.randn(8, 12), "head.bias": torch.randn(8)}
    mine = adapted(base, head, symbols, torch.linspace(-1, 1, 4))
    save_adapted(tmp_path / "mine", mine)
    found = load_recogniser(tmp_path / "mine")
    assert found.symbols == symbols
    assert torch.equal(found.encoding, torch.linspace(-1, 1, 4))
    torch.testing.assert_close(found.net.head.weight, head["head.weight"], rtol=0, atol=0.02)
    torch.testing.assert_close(scores(found), scores(mine), rtol=0, atol=0.1)
    assert not set(read_tensors(tmp_path / "mine" / "part.safetensors")) - {
        *("head.weight", "head.weight.scale", "head.bias", "head.bias.scale", "encoding")
    }


def test_an_encoding_in_a_state_becomes_that_of_the_recogniser(tmp_path: Path) -> None:
    base = base_in(tmp_path / "base", condition=4)
    state = {"head.bias": torch.ones(6), models.ENCODING: torch.ones(4)}
    mine = adapted(base, state, encoding=torch.zeros(4))
    assert torch.equal(mine.encoding, torch.ones(4))
    assert set(state) == {"head.bias", models.ENCODING}
    assert adapted(base, {}).encoding is None


# ------------------------------------------------------------------------------------------------------------ widened


@pytest.mark.parametrize("squeeze", [True, False])
@pytest.mark.parametrize("sizes", [{"adapter": 3}, {"condition": 4}, {"adapter": 3, "condition": 4}])
def test_a_widened_base_spells_as_before_to_the_bit_whatever_it_hears(sizes: dict[str, int], squeeze: bool) -> None:
    base = recognition(squeeze=squeeze)
    wide = widened(base, **sizes)
    config = wide.net.config
    assert (config.adapter, config.condition) == (sizes.get("adapter", 0), sizes.get("condition", 0))
    assert config.squeeze is squeeze
    assert config.condition_by == ("film" if "condition" in sizes and not squeeze else "gate")
    batch = utterances(seed=3)
    with torch.no_grad():
        expected = base.net(batch.inputs, batch.lengths)
        assert torch.equal(wide.net(batch.inputs, batch.lengths), expected)
        if config.condition:
            encoding = wide.net.encoding(batch.inputs, batch.lengths)
            assert torch.equal(wide.net(batch.inputs, batch.lengths, encoding), expected)
            spoken = wide.net(batch.inputs, batch.lengths, torch.ones(4))
            assert not torch.allclose(spoken, expected, atol=1e-3)  # the blocks have ears
    assert set(values_of(base.net)) < set(values_of(wide.net))
    assert equal(values_of(widened(base, **sizes).net), values_of(wide.net))
    assert widened(wide, **sizes) is wide
    assert widened(wide) is wide
    assert widened(base) is base


def test_what_a_widened_base_learns_from_reaches_what_makes_the_encoding() -> None:
    wide = widened(recognition(squeeze=False), condition=4).net
    batch = utterances(seed=3)
    scores = wide(batch.inputs, batch.lengths, wide.encoding(batch.inputs, batch.lengths))
    scores[..., 1].sum().backward()
    assert bool(wide.encode.weight.grad.any())


@pytest.mark.parametrize("sizes", [{"adapter": 3}, {"condition": 5}])
def test_another_size_than_it_has_is_refused(sizes: dict[str, int]) -> None:
    with pytest.raises(InputError, match=r"recogniser\.(adapter|condition) is \d and that of tones is [24]; ask"):
        widened(recognition(adapter=2, condition=4), **sizes)


def test_a_conformer_cannot_be_widened() -> None:
    with pytest.raises(InputError, match="a conformer has none"):
        widened(recognition(body="conformer"), adapter=3)


def test_what_was_adapted_from_a_widened_base_comes_back_from_the_base(tmp_path: Path) -> None:
    base = load_recogniser(base_in(tmp_path / "base", squeeze=False).folder)
    wide = widened(base, adapter=3, condition=4)
    state = {"blocks.0.adapter.up.bias": torch.linspace(-1, 1, 16), models.ENCODING: torch.linspace(-1, 1, 4)}
    mine = adapted(wide, state)
    save_adapted(tmp_path / "mine", mine)
    found = load_recogniser(tmp_path / "mine")
    assert found.net.config == mine.net.config
    torch.testing.assert_close(scores(found), scores(mine), rtol=0, atol=0.05)
    assert not torch.allclose(scores(found), scores(base), atol=0.1)


@pytest.fixture
def both(tmp_path: Path) -> Path:
    """A base and what was adapted from it, in one folder."""
    base = load_recogniser(base_in(tmp_path / "here" / "base").folder)
    save_adapted(tmp_path / "here" / "mine", adapted_to(base))
    return tmp_path / "here"


def test_both_may_be_moved_together(both: Path, tmp_path: Path) -> None:
    expected = scores(load_recogniser(both / "mine"))
    both.rename(tmp_path / "there")
    assert torch.equal(scores(load_recogniser(tmp_path / "there" / "mine")), expected)


def test_the_part_may_be_moved_alone(both: Path, tmp_path: Path) -> None:
    expected = scores(load_recogniser(both / "mine"))
    (tmp_path / "deep" / "down").mkdir(parents=True)
    shutil.move(both / "mine", tmp_path / "deep" / "down" / "renamed")
    found = load_recogniser(tmp_path / "deep" / "down" / "renamed")
    assert torch.equal(scores(found), expected)
    assert found.name == "renamed"


def test_a_base_that_is_gone_is_asked_for_where_it_was(both: Path, tmp_path: Path) -> None:
    shutil.move(both / "base", tmp_path / "elsewhere")
    said = refused(both / "mine")
    assert said.startswith(f"The base model of {both / 'mine'} is at none of {both / 'base'}")
    assert "put it back there, or adapt again" in said


def test_another_base_in_its_place_is_refused(both: Path) -> None:
    shutil.rmtree(both / "base")
    base_in(both / "base", seed=9)
    said = refused(both / "mine")
    assert "base and part do not match; restore the base it was made with, or adapt again" in said


def test_the_right_base_is_taken_where_another_stands_in_the_first_place(both: Path, tmp_path: Path) -> None:
    """Both were moved, and another model has taken the old place."""
    both.rename(tmp_path / "there")
    base_in(both / "base", seed=9)
    found = load_recogniser(tmp_path / "there" / "mine")
    assert found.base is not None
    assert found.base.folder is not None
    assert found.base.folder.resolve() == tmp_path / "there" / "base"


def test_a_bundled_base_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "BUNDLED", tmp_path / "one")
    base_in(tmp_path / "one" / "small")
    mine = adapted_to(load_recogniser("metavox/small"))
    save_adapted(tmp_path / "mine", mine)
    assert json.loads((tmp_path / "mine" / "adapted.json").read_text())["base"] == "metavox/small"
    shutil.move(tmp_path / "one", tmp_path / "two")  # as when Metavox is installed somewhere else
    monkeypatch.setattr(models, "BUNDLED", tmp_path / "two")
    found = load_recogniser(tmp_path / "mine")
    assert found.base is not None
    assert found.base.name == "metavox/small"


@pytest.mark.parametrize("linked", [False, True])
def test_a_relative_folder_is_written_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linked: bool
) -> None:
    base_in(tmp_path / "base")
    (tmp_path / "real").mkdir()
    if linked:
        os.symlink(tmp_path / "real", tmp_path / "work")
    else:
        (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    save_adapted(Path("mine"), adapted_to(load_recogniser(Path("../base") if not linked else tmp_path / "base")))
    monkeypatch.chdir(tmp_path)
    assert load_recogniser(tmp_path / "work" / "mine").base is not None


def test_an_older_part_is_replaced_and_something_else_is_not(both: Path) -> None:
    base = load_recogniser(both / "base")
    save_adapted(both / "mine", adapted(base, {"head.bias": torch.ones(6)}))
    assert set(read_tensors(both / "mine" / "part.safetensors")) == {"head.bias", "head.bias.scale"}
    other = both / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("mine")
    for taken in (other, both / "base"):
        before = sounds.files_below(taken)
        with pytest.raises(InputError, match="exists and is no adapted recogniser"):
            save_adapted(taken, adapted_to(base))
        assert sounds.files_below(taken) == before
    assert sorted(path.name for path in both.iterdir()) == ["base", "mine", "other"]


def test_what_was_not_adapted_is_no_part(both: Path) -> None:
    with pytest.raises(InputError, match="base was not adapted; save it as a base model"):
        save_adapted(both / "new", load_recogniser(both / "base"))
    assert not (both / "new").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.update(base_hash="0" * 64), "base and part do not match"),
        (lambda d: d.pop("base_hash"), "base_hash is"),
        (lambda d: d["symbols"]["characters"].append("x"), "does not fit its base: head."),
        (lambda d: d.update(symbols={}), "alphabet"),
        (lambda d: d.update(format=99), "has format 99"),
        (lambda d: d.update(library="x"), "was not written by Metavox"),
        (lambda d: d.update(base_folder=3), "base_folder is 3"),
    ],
)
def test_a_description_of_a_part_that_is_none_is_refused(both: Path, change: Any, said: str) -> None:
    rewritten(both / "mine", "adapted.json", change)
    assert said in refused(both / "mine")


def test_a_damaged_part_is_refused(both: Path) -> None:
    path = both / "mine" / "part.safetensors"
    whole = read_tensors(path)
    write_tensors(path, {**whole, "head.bias.scale": torch.full((6,), torch.nan)})
    assert "head.bias has a scale that is not finite" in refused(both / "mine")
    path.write_bytes(path.read_bytes()[:50])
    assert "is damaged or truncated" in refused(both / "mine")
    (both / "mine" / "adapted.json").write_text("{")
    assert "is damaged or truncated" in refused(both / "mine")


def test_the_universal_alphabet_survives(tmp_path: Path) -> None:
    one = Recognition(net_of(n_symbols=UNIVERSAL.size), UNIVERSAL, "x", "", {})
    save_recogniser(tmp_path / "base", one)
    assert load_recogniser(tmp_path / "base").symbols == UNIVERSAL


# ---------------------------------------------------------------------------------------------------------- spelling

TEXTS = ((1, 2, 3), (3, 2, 1, 2), (1, 2, 1))


def test_a_spelling_is_stored_with_the_part(tmp_path: Path) -> None:
    base = base_in(tmp_path / "base")
    search = Search(order=3, lm_weight=0.25, length_bonus=0.75, beam=3, tempos=(1.0, 1.2))
    one = adapted_to(base, spelling=Spelling(TEXTS, search))
    save_adapted(tmp_path / "mine", one)
    found = load_recogniser(tmp_path / "mine")
    assert found.spelling is not None
    assert (found.spelling.texts, found.spelling.search) == (TEXTS, search)
    batch = utterances(seed=3)
    assert found.spell(batch.inputs, batch.lengths) == one.spell(batch.inputs, batch.lengths)
    save_adapted(tmp_path / "plain", adapted_to(base))
    assert load_recogniser(tmp_path / "plain").spelling is None


def test_a_search_outside_its_range_in_a_file_is_refused(tmp_path: Path) -> None:
    save_adapted(tmp_path / "mine", adapted_to(base_in(tmp_path / "base"), spelling=Spelling(TEXTS)))
    rewritten(tmp_path / "mine", "adapted.json", lambda document: document["spelling"].update(beam=0))
    with pytest.raises(InputError, match="beam 0"):
        load_recogniser(tmp_path / "mine")


def test_what_is_spelled_is_the_vote_between_tempos() -> None:
    one = replace(recognition(), spelling=Spelling(TEXTS, Search(beam=4, tempos=(1.0, 1.15, 1.3))))
    batch = utterances(seed=3)
    found = one.spell(batch.inputs, batch.lengths)
    for row, ids in enumerate(found):
        n = int(batch.lengths[row])
        alone = one.spell(batch.inputs[row : row + 1, :n], batch.lengths[row : row + 1])
        assert alone == [ids]  # neighbours and padding do not matter


def test_without_a_spelling_the_best_symbol_of_each_frame_is_taken() -> None:
    one, batch = recognition(), utterances(seed=3)
    with torch.no_grad():
        expected = greedy_batch(one.net(batch.inputs, batch.lengths), one.net.out_lengths(batch.lengths))
    assert one.spell(batch.inputs, batch.lengths) == expected


@pytest.mark.parametrize("tempo", [0.8, 1.0, 1.3])
def test_a_recording_at_another_tempo_lasts_as_many_times_as_long(tempo: float) -> None:
    wave = write_tones("abcab")
    one = replace(recognition(), net=net_of(n_phones=3))
    n_frames = len(one.log_probs(wave))
    assert len(one.at_tempo(wave, tempo)) == pytest.approx(tempo * n_frames, abs=3)
    if tempo == 1:
        assert torch.equal(one.at_tempo(wave, tempo), one.log_probs(wave))
