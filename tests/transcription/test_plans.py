"""Ways to adapt by name: each changes what it says, from where it says, by the seed."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from sequence_cases import equal, net_of, utterances, values_of

from metavox.contracts import InputError
from metavox.learners.sequence import AUXILIARY, Look, adapted_values
from metavox.text.symbols import Symbols
from metavox.transcription import plans
from metavox.transcription.models import Recognition, new_net, widened
from metavox.transcription.plans import DEFAULT_PLAN, WAYS, Way, adapted_by, way


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few steps of each, in the precision that repeats on any processor."""
    for name, one in list(WAYS.items()):
        tuning = replace(one.plan.tuning, steps=3, n_looks=3)
        monkeypatch.setitem(WAYS, name, replace(one, plan=replace(one.plan, tuning=tuning, precision="float32")))


def base(**changes: Any) -> Recognition:
    symbols = Symbols(tuple("abcde"), "roman")
    return Recognition(net_of(**{"n_phones": 3, "blocks": 3, **changes}), symbols, "tones", "0" * 64, {"a": 1})


def moved(name: str, start: Recognition, **options: Any) -> set[str]:
    """Names of the values that are others than before, adapters among them where there were none."""
    found, before = values_of(adapted_by(name, start, utterances(4), **options).net), values_of(start.net)
    return {one for one, value in found.items() if one not in before or not torch.equal(value, before[one])}


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
    whole = widened(start, adapter=WAYS[name].adapter)
    wanted = set(adapted_values(whole.net, tuning.adapts))
    found = moved(name, start)
    if WAYS[name].from_scratch:
        assert wanted <= found
    else:
        assert found == wanted
    own = {one for one, _ in whole.net.named_parameters() if not one.startswith(tuple(p[:-1] for p in AUXILIARY))}
    assert (wanted == own) == (tuning.adapts == ("*",))


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


@pytest.mark.parametrize("name", WAYS)
def test_the_seed_decides_and_the_base_stays(name: str) -> None:
    start = base(dropout=0.2)
    before = values_of(start.net)
    first, same, other = (values_of(adapted_by(name, start, utterances(4), seed).net) for seed in (1, 1, 2))
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
