"""Ways to adapt by name: each changes what it says, from where it says, by the seed."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from sequence_cases import equal, net_of, utterances, values_of

from metavox.contracts import InputError
from metavox.learners.sequence import AUXILIARY, FineTuned, Look, adapted_values
from metavox.text.symbols import Symbols
from metavox.transcription import plans
from metavox.transcription.models import Recognition, new_net
from metavox.transcription.plans import DEFAULT_PLAN, WAYS, Way, adapted_by, n_moved, prepared, way


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few steps of each, in the precision that repeats on any processor."""
    for name, one in list(WAYS.items()):
        tuning = replace(one.plan.tuning, steps=min(one.plan.tuning.steps, 3), n_looks=3)
        monkeypatch.setitem(WAYS, name, replace(one, plan=replace(one.plan, tuning=tuning, precision="float32")))


def base(**changes: Any) -> Recognition:
    symbols = Symbols(tuple("abcde"), "roman")
    return Recognition(net_of(**{"n_phones": 3, "blocks": 3, **changes}), symbols, "tones", "0" * 64, {"a": 1})


def moved(name: str, start: Recognition, **options: Any) -> set[str]:
    """Names of the values that are others than those that the way begins with."""
    found = values_of(adapted_by(name, start, utterances(4), **options).net)
    before = values_of(prepared(replace(WAYS[name], from_scratch=False), start).net)
    return {one for one, value in found.items() if not torch.equal(value, before[one])}


def test_there_is_a_default_and_the_baselines_of_every_comparison() -> None:
    assert DEFAULT_PLAN in WAYS
    assert {"metavox", "fine-tune", "head-only", "adapters", "biases", "scratch"} <= set(WAYS)
    assert [name for name, one in WAYS.items() if one.from_scratch] == ["scratch"]


def test_an_unknown_way_is_refused_with_those_that_there_are() -> None:
    for ask in (lambda: way("finetune"), lambda: adapted_by("finetune", base(), utterances(4))):
        with pytest.raises(
            InputError,
            match="'finetune' is no way to adapt; choose from metavox, fine-tune, augmented, head-only",
        ):
            ask()
    assert way("head-only") is WAYS["head-only"]


@pytest.mark.parametrize("reduction", [4, 8])
@pytest.mark.parametrize("name", WAYS)
def test_every_way_changes_what_its_patterns_name(name: str, reduction: int) -> None:
    start = base(reduction=reduction)
    tuning = WAYS[name].plan.tuning
    whole = prepared(WAYS[name], start)
    wanted = {
        one for one, value in adapted_values(whole.net, tuning.adapts).items() if not tuning.rank or value.ndim > 1
    }
    wanted -= set() if tuning.steps else wanted
    deaf = {one for one in wanted if ".condition." in one}  # to an encoding that is zero as yet
    wanted -= deaf if tuning.encoding == "zero" else set()
    found = moved(name, start)
    if WAYS[name].from_scratch:
        assert wanted <= found
    else:
        assert found == wanted
    unmoved = ("encode.", *(p[:-1] for p in AUXILIARY))
    own = {one for one, _ in whole.net.named_parameters() if not one.startswith(unmoved)}
    assert (wanted == own) == (tuning.adapts == ("*",) and not tuning.rank and tuning.steps > 0)


def test_the_head_alone_and_few_values_are_what_they_are_called() -> None:
    start = base()
    assert moved("head-only", start) == {"head.weight", "head.bias"}
    n_values = {name: value.numel() for name, value in start.net.named_parameters()}
    few = moved("biases", start)
    assert not any(name.endswith("conv.weight") for name in few)
    assert sum(n_values[name] for name in few) < 0.15 * sum(n_values.values())
    added = moved("adapters", start)
    assert {name.split(".")[2] for name in added if name.startswith("blocks.")} == {"adapter"}
    assert {name for name in added if not name.startswith("blocks.")} == {"head.weight", "head.bias", "norm.weight"}


def test_adapters_begin_where_the_base_is(monkeypatch: pytest.MonkeyPatch) -> None:
    name, start, batch = "adapters", base(), utterances()
    one = WAYS[name]
    monkeypatch.setitem(WAYS, name, replace(one, plan=replace(one.plan, tuning=replace(one.plan.tuning, steps=0))))
    found = adapted_by(name, start, batch)
    assert found.net.config.adapter == one.adapter > 0
    assert torch.equal(found.net(batch.inputs, batch.lengths), start.net(batch.inputs, batch.lengths))


@pytest.mark.parametrize("name", [name for name in WAYS if WAYS[name].plan.tuning.steps])
def test_the_seed_decides_and_the_base_stays(name: str) -> None:
    start = base(dropout=0.2)
    before = values_of(start.net)
    kept = [adapted_by(name, start, utterances(4), seed) for seed in (1, 1, 2)]
    nothing = torch.zeros(1)
    first, same, other = (
        {**values_of(one.net), "encoding": nothing if one.encoding is None else one.encoding} for one in kept
    )
    assert equal(first, same)
    assert not equal(first, other)
    assert equal(values_of(start.net), before)


def test_from_scratch_nothing_of_the_base_is_used() -> None:
    one, other = (values_of(adapted_by("scratch", base(seed=s), utterances(4), 7).net) for s in (0, 1))
    assert equal(one, other)
    random = values_of(new_net(base().net.config, 7))
    body = "blocks.0.conv.weight"
    assert not torch.equal(one[body], random[body])
    assert float((one[body] - random[body]).abs().max()) < 0.02  # three steps away


def test_what_comes_back_is_a_recogniser_on_its_base() -> None:
    start, looks = base(), list[Look]()
    found = adapted_by("fine-tune", start, utterances(4), 0, looks.append)
    assert (found.symbols, found.about, found.hash) == (start.symbols, start.about, start.hash)
    assert found.base is not None
    assert equal(values_of(found.base.net), values_of(start.net))
    assert looks
    assert isinstance(plans.way("metavox"), Way)


def test_two_recordings_are_too_few() -> None:
    with pytest.raises(InputError, match="3 are the least"):
        adapted_by("metavox", base(), utterances(2))


# -------------------------------------------------------------------------------------------- ways that change little


def test_low_rank_changes_weights_by_products_of_that_rank() -> None:
    start = base()
    found, before = adapted_by("lora", start, utterances(4)).net, values_of(start.net)
    change = (values_of(found)["widen.weight"] - before["widen.weight"]).double()
    rank = WAYS["lora"].plan.tuning.rank
    assert 0 < int(torch.linalg.matrix_rank(change, rtol=1e-5)) <= rank < min(change.shape)
    assert torch.equal(values_of(found)["head.bias"], before["head.bias"])


def test_the_body_alone_leaves_what_spells() -> None:
    found = moved("body-only", base())
    assert found
    assert not any(name.startswith("head.") for name in found)


@pytest.mark.parametrize("name", ["context", "context-heard", "conditioned"])
@pytest.mark.parametrize("hears", [False, True])
def test_a_context_is_all_that_is_kept(name: str, hears: bool) -> None:
    start = base(condition=4, condition_by="film") if hears else base()
    found = adapted_by(name, start, utterances(4))
    assert not moved(name, start)
    assert found.encoding is not None
    assert found.encoding.shape == (4 if hears else WAYS[name].condition,)
    batch = utterances(3, seed=2)
    heard, silent = found.net(batch.inputs, batch.lengths, found.encoding), start.net(batch.inputs, batch.lengths)
    if name == "conditioned":  # a base that never learned to hear spells as it is
        assert torch.equal(heard, silent) is not hears
    else:
        assert not torch.equal(heard, silent)


@pytest.mark.parametrize("name", WAYS)
def test_what_may_move_is_counted_as_a_state_has_it(name: str) -> None:
    start = base(condition=4, condition_by="film")
    one = WAYS[name]
    state = FineTuned(prepared(one, start).net, one.plan.tuning).adapt(utterances(4))
    assert n_moved(one, start) == sum(value.numel() for value in state.values())
    if name == "lora":
        assert n_moved(one, start) < n_moved(WAYS["fine-tune"], start)
