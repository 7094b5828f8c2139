"""Fine-tuning of networks that spell: what changes, what does not, and which moment of the way is kept."""

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sequence_cases import close, double, equal, net_of, rows, texts_of, utterances, values_of, wider
from torch import Tensor

from metavox.contracts import InputError, State, Transcribed
from metavox.data.sentences import padded
from metavox.learners.sequence import (
    AUXILIARY,
    ENCODING,
    FineTuned,
    Look,
    Tuning,
    adapted_values,
    batches_of,
    shortened,
    spelled,
    symbol_loss,
    taken,
)
from metavox.losses import ctc_loss
from metavox.text.decode import greedy_batch

QUICK = Tuning(steps=4, lr=1e-2, batch_frames=100)
ALL = 100_000
"""Frames that hold every support set of these tests."""


def held_and_kept(support: Transcribed, tuning: Tuning) -> tuple[Transcribed, list[int]]:
    """What no step sees, as the seed says, and positions of the rest."""
    order = torch.randperm(len(support), generator=torch.Generator().manual_seed(tuning.seed))
    n_out = round(tuning.held_out * len(support))
    return taken(support, order[:n_out]), sorted(order[n_out:].tolist())


def known_by(batch: Transcribed) -> list[float]:
    """A number for each utterance that no other one has."""
    return batch.inputs[:, 0, 0].tolist()


# ------------------------------------------------------------------------------------------------------- what stays


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("grad", [False, True])
def test_the_network_and_its_support_stay_as_they_are(training: bool, grad: bool) -> None:
    net, support = net_of(n_phones=3, dropout=0.2).train(training), utterances()
    before, fresh = values_of(net), utterances()
    with torch.set_grad_enabled(grad):
        state = FineTuned(net, replace(QUICK, held_out=0.4)).adapt(support)
    assert equal(before, dict(net.state_dict()))
    assert all(value.requires_grad and value.grad is None for value in net.parameters())
    assert all(module.training is training for module in net.modules())
    assert torch.equal(support.inputs, fresh.inputs)
    assert torch.equal(support.targets, fresh.targets)
    own = {value.untyped_storage().data_ptr() for value in net.state_dict().values()}
    for name, value in state.items():
        assert not value.requires_grad, name
        assert value.untyped_storage().data_ptr() not in own, name
        assert not torch.equal(value, before[name]), name


def test_an_error_leaves_the_network_as_it_was() -> None:
    net = net_of()
    calls: list[int] = []

    def change(batch: Transcribed, generator: torch.Generator) -> Transcribed:
        calls.append(1)
        if len(calls) == 3:
            return replace(batch, inputs=batch.inputs[:, :, :5])  # which the network cannot hear
        return batch

    before = values_of(net)
    with pytest.raises(RuntimeError):
        FineTuned(net, QUICK, change).adapt(utterances())
    assert equal(before, dict(net.state_dict()))
    assert not any(module.training for module in net.modules())


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (("head.*",), {"head.weight", "head.bias"}),
        (("head.weight", "norm.*"), {"head.weight", "norm.weight"}),
        (("blocks.1.squeeze.*",), {"blocks.1.squeeze.weight", "blocks.1.squeeze.bias"}),
        (("*.bias", "head.bias"), None),
        (("*",), None),
    ],
)
def test_a_state_holds_what_the_patterns_let_through_and_nothing_else(
    patterns: tuple[str, ...], expected: set[str] | None
) -> None:
    net = net_of(n_phones=3)
    found = FineTuned(net, replace(QUICK, adapts=patterns)).adapt(utterances())
    own = {name for name, _ in net.named_parameters() if "phone" not in name}
    if expected is None:
        expected = {name for name in own if name.endswith("bias")} if "*.bias" in patterns else own
    assert set(found) == expected == set(adapted_values(net, patterns))
    assert [p for p in AUXILIARY if "phone" in p] == list(AUXILIARY)


@pytest.mark.parametrize("pattern", ["blocks.9.*", "phone_head.*", "Head.*", ""])
def test_a_pattern_that_matches_nothing_is_refused(pattern: str) -> None:
    with pytest.raises(InputError, match="which matches none of"):
        FineTuned(net_of(n_phones=3), replace(QUICK, adapts=("head.*", pattern))).adapt(utterances())


# ---------------------------------------------------------------------------------------------- the same to the bit


def shaken(batch: Transcribed, generator: torch.Generator) -> Transcribed:
    return replace(batch, inputs=batch.inputs + 0.1 * torch.randn(batch.inputs.shape, generator=generator))


def test_the_same_seed_gives_the_same_state_and_another_another() -> None:
    net, support = net_of(dropout=0.3), utterances()
    torch.manual_seed(1)
    found = FineTuned(net, QUICK, shaken).adapt(support)
    torch.manual_seed(2)  # nobody listens to the global generator
    assert equal(found, FineTuned(net, QUICK, shaken).adapt(support))
    assert not equal(found, FineTuned(net, replace(QUICK, seed=1), shaken).adapt(support))


@pytest.mark.parametrize("held_out", [0.0, 0.4])
def test_padding_of_the_support_does_not_matter_to_the_last_bit(held_out: float) -> None:
    net, support, tuning = net_of(dropout=0.3), utterances(), replace(QUICK, held_out=held_out)
    found = FineTuned(net, tuning).adapt(support)
    assert found
    assert equal(found, FineTuned(net, tuning).adapt(wider(support, 9, 3, garbage=True)))


def test_the_order_of_the_support_matters_no_further_than_to_its_batches() -> None:
    net, support = net_of().double(), double(utterances())
    whole = replace(QUICK, batch_frames=ALL)
    turned = rows(support, [5, 4, 3, 2, 1, 0])
    close(FineTuned(net, whole).adapt(support), FineTuned(net, whole).adapt(turned), 1e-9)
    assert not equal(FineTuned(net, QUICK).adapt(support), FineTuned(net, QUICK).adapt(turned))


# -------------------------------------------------------------------------------------------------------- it learns


def test_adapting_lowers_the_loss_until_unheard_texts_are_spelled() -> None:
    net, support, unheard = net_of(), utterances(24, longest=6), utterances(12, seed=1)
    learner = FineTuned(net, Tuning(steps=150, lr=2e-2, batch_frames=400))
    state = learner.adapt(support)
    assert learner.loss(state, unheard) < 0.2 * learner.loss({}, unheard)
    output = learner.predict(state, unheard)
    assert output.lengths is not None
    spelled_right = sum(
        a == b for a, b in zip(greedy_batch(output.scores, output.lengths), texts_of(12, 1), strict=True)
    )
    assert spelled_right >= 9


def test_a_prediction_is_what_the_network_says_with_the_values_of_the_state() -> None:
    net, query = net_of(), utterances(seed=2)
    learner = FineTuned(net, QUICK)
    state = learner.adapt(utterances())
    other = net_of(seed=9)
    other.load_state_dict({**net.state_dict(), **state})
    output = learner.predict(state, query)
    assert torch.equal(output.scores, other(query.inputs, query.lengths))
    assert not output.scores.requires_grad
    assert torch.equal(output.lengths, net.out_lengths(query.lengths))
    assert torch.equal(spelled(net, {}, query.inputs, query.lengths).scores, net(query.inputs, query.lengths))
    with pytest.raises(InputError, match="the state holds x, which the network has not"):
        learner.predict({**state, "x": torch.zeros(1)}, query)


def test_no_step_gives_the_network_as_it_is() -> None:
    assert FineTuned(net_of(), replace(QUICK, steps=0)).adapt(utterances()) == {}
    assert FineTuned(net_of(), replace(QUICK, steps=0, held_out=0.5)).adapt(utterances()) == {}


def test_the_head_moves_by_its_own_factor() -> None:
    """The first step of AdamW is as long as its step size, whatever the gradient."""
    net, support = net_of(), utterances()
    moved = []
    for factor in (1.0, 3.0):
        tuning = Tuning(steps=1, lr=1e-3, head_factor=factor, warmup=1, batch_frames=ALL)
        state = FineTuned(net, tuning).adapt(support)
        at = dict(net.named_parameters())
        moved.append({name: float((state[name] - at[name]).abs().max().detach()) for name in state})
    for name in moved[0]:
        expected = 3 if name.startswith("head.") else 1
        assert moved[1][name] / moved[0][name] == pytest.approx(expected, rel=0.02), name
        assert moved[0][name] == pytest.approx(1e-3, rel=0.02), name


# -------------------------------------------------------------------------------------------- what a step hears


@pytest.mark.parametrize("seed", [0, 1])
def test_every_utterance_is_heard_once_in_each_round(seed: int) -> None:
    support, seen = utterances(9), list[float]()

    def spy(batch: Transcribed, generator: torch.Generator) -> Transcribed:
        assert int(batch.lengths.max()) == batch.inputs.shape[1]
        assert batch.inputs.shape[1] * len(batch) <= 90 or len(batch) == 1
        seen.extend(known_by(batch))
        return batch

    FineTuned(net_of(), Tuning(steps=30, lr=1e-4, batch_frames=90, seed=seed), spy).adapt(support)
    n_rounds = len(seen) // 9
    assert n_rounds >= 3
    rounds = [seen[9 * i : 9 * i + 9] for i in range(n_rounds)]
    assert all(sorted(one) == sorted(known_by(support)) for one in rounds)
    assert len({tuple(one) for one in rounds}) > 1


def test_what_is_held_out_is_never_learned_from() -> None:
    support, seen = utterances(10), set[float]()
    tuning = Tuning(steps=20, lr=1e-3, batch_frames=60, held_out=0.3, seed=4)

    def spy(batch: Transcribed, generator: torch.Generator) -> Transcribed:
        seen.update(known_by(batch))
        return batch

    FineTuned(net_of(), tuning, spy).adapt(support)
    held, kept = held_and_kept(support, tuning)
    assert len(held) == 3
    assert seen == {known_by(support)[i] for i in kept}


def test_a_change_must_not_reach_the_support_and_gets_the_generator_of_the_seed() -> None:
    support, states = utterances(), []

    def change(batch: Transcribed, generator: torch.Generator) -> Transcribed:
        states.append(generator.get_state().sum().item())
        batch.inputs.mul_(0.5)
        return batch

    for _ in range(2):
        FineTuned(net_of(), QUICK, change).adapt(support)
    assert torch.equal(support.inputs, utterances().inputs)
    assert states[:4] == states[4:]


# --------------------------------------------------------------------------------------------- which moment is kept


def test_the_best_look_is_returned_with_what_was_reached() -> None:
    """From the middle on it is taught wrong texts, so that the way goes down and up again."""
    net, support = net_of(), utterances(12)
    looks: list[Look] = []
    calls: list[int] = []

    def change(batch: Transcribed, generator: torch.Generator) -> Transcribed:
        calls.append(1)
        return batch if len(calls) <= 20 else replace(batch, targets=batch.targets % 5 + 1)

    tuning = Tuning(steps=50, lr=2e-2, batch_frames=100, held_out=0.34, n_looks=10)
    learner = FineTuned(net, tuning, change, looks.append)
    state = learner.adapt(support)
    held, _ = held_and_kept(support, tuning)
    reached = [look.held_out for look in looks]
    assert [look.step for look in looks] == list(range(5, 51, 5))
    assert {look.n_steps for look in looks} == {50}
    assert learner.loss(state, held) == pytest.approx(min(reached), rel=1e-6)
    assert min(reached) < reached[-1] - 0.1  # else the last would have done
    assert min(reached) < learner.loss({}, held)
    assert all(math.isfinite(look.loss) for look in looks)


def test_nothing_is_returned_where_nothing_is_better_than_the_start() -> None:
    support = utterances(12)
    net = net_of()
    learned = FineTuned(net, Tuning(steps=120, lr=2e-2, batch_frames=400)).adapt(support)
    net.load_state_dict({**net.state_dict(), **learned})
    looks: list[Look] = []
    tuning = Tuning(steps=8, lr=1.0, batch_frames=100, held_out=0.34, warmup=1)
    learner = FineTuned(net, tuning, watch=looks.append)
    assert learner.adapt(support) == {}
    held, _ = held_and_kept(support, tuning)
    assert min(look.held_out for look in looks) > learner.loss({}, held)


def test_a_start_that_is_as_good_is_kept_and_so_is_the_first_of_equals() -> None:
    """Values without a say in the result: every look is as good as the start."""
    net = net_of(condition=4)  # which hears no encoding here
    tuning = Tuning(steps=4, lr=1e-2, batch_frames=100, held_out=0.34, weight_decay=0.1, adapts=("*.condition.*",))
    assert FineTuned(net, tuning).adapt(utterances(12)) == {}


def test_without_held_out_utterances_the_last_moment_counts_and_looks_say_so() -> None:
    looks: list[Look] = []
    FineTuned(net_of(), Tuning(steps=10, lr=1e-3, n_looks=4), watch=looks.append).adapt(utterances())
    assert [look.step for look in looks] == [2, 4, 6, 8, 10]
    assert [look.held_out for look in looks] == [None] * 5


@pytest.mark.parametrize("n", [1, 2, 3])
def test_something_is_left_to_learn_from(n: int) -> None:
    heard: list[int] = []

    def spy(batch: Transcribed, generator: torch.Generator) -> Transcribed:
        heard.append(len(batch))
        return batch

    FineTuned(net_of(), replace(QUICK, held_out=0.9), spy).adapt(utterances(n))
    assert heard
    assert min(heard) >= 1


@pytest.mark.parametrize("decay", [0.5, 0.99])
def test_averaging_is_a_running_mean_of_every_step(decay: float, monkeypatch: pytest.MonkeyPatch) -> None:
    net, support = net_of().double(), double(utterances())
    tuning = Tuning(steps=12, lr=1e-2, batch_frames=100)
    path: list[State] = []
    loss = FineTuned._loss

    def spy(self: Any, values: State, *rest: Any) -> Tensor:
        path.append({name: value.detach().clone() for name, value in values.items()})
        return loss(self, values, *rest)

    monkeypatch.setattr(FineTuned, "_loss", spy)
    path.append(FineTuned(net, tuning).adapt(support))  # 12 before each step, and the one after the last
    start, *way = path
    for name in start:
        mean = start[name]
        for n_done, value in enumerate((one[name] for one in way), 1):
            share = 1 - min(decay, n_done / (n_done + 10))
            mean = mean + share * (value - mean)
        averaged = FineTuned(net, replace(tuning, average=decay)).adapt(support)[name] if name == "head.bias" else None
        if averaged is not None:
            torch.testing.assert_close(averaged, mean, rtol=1e-12, atol=1e-12)
            assert not torch.allclose(mean, way[-1][name], atol=1e-4)


def test_values_that_are_not_finite_end_it_with_a_remedy() -> None:
    with pytest.raises(InputError, match=r"step \d+ led to values that are not finite; lower lr, which is 1e\+30"):
        FineTuned(net_of(), Tuning(steps=30, lr=1e30, warmup=1)).adapt(utterances())


# ------------------------------------------------------------------------------------------------------ an encoding


def test_an_encoding_of_what_is_learned_from_is_heard_and_adapted() -> None:
    net, support = net_of(condition=4, dropout=0.0).double(), double(utterances(8))
    tuning = replace(QUICK, condition=True, batch_frames=ALL, held_out=0.25)
    learner = FineTuned(net, replace(tuning, lr=1e-9, warmup=1, held_out=0.0))
    state = learner.adapt(support)
    assert set(state) == set(adapted_values(net, ("*",))) | {ENCODING}
    with torch.no_grad():
        own = net.encoding(support.inputs, support.lengths)
        # It has moved, though by next to nothing.
        torch.testing.assert_close(state[ENCODING], own, rtol=0, atol=1e-7)
        assert not torch.equal(state[ENCODING], own)
        expected = net(support.inputs, support.lengths, own)
    torch.testing.assert_close(learner.predict(state, support).scores, expected, rtol=0, atol=1e-4)
    _, kept = held_and_kept(support, tuning)
    found: list[int] = []
    encoding = net.encoding
    net.encoding = lambda inputs, lengths: found.append(len(inputs)) or encoding(inputs, lengths)
    FineTuned(net, tuning).adapt(support)
    assert found == [len(kept)]


def test_the_encoding_of_many_batches_is_their_mean_by_frames() -> None:
    net, support = net_of(condition=4).double(), double(utterances(8))
    state = FineTuned(net, Tuning(steps=1, lr=1e-12, condition=True, batch_frames=60)).adapt(support)
    parts = batches_of(support, 60, None)
    assert len(parts) > 2
    with torch.no_grad():
        each = [net.encoding(part.inputs, part.lengths) * part.lengths.sum() for part in parts]
    torch.testing.assert_close(state[ENCODING], sum(each) / support.lengths.sum(), rtol=1e-6, atol=1e-9)


def test_a_network_without_conditioning_hears_none() -> None:
    found, plain = (FineTuned(net_of(), replace(QUICK, condition=c)).adapt(utterances()) for c in (True, False))
    assert equal(found, plain)


# -------------------------------------------------------------------------------------------------------- what costs


def test_the_loss_is_that_of_all_symbols_together_in_whatever_batches() -> None:
    net, batch = net_of().double(), double(utterances(9, longest=6))
    output = FineTuned(net).predict({}, batch)
    each = ctc_loss(
        output.scores.transpose(0, 1), batch.targets, output.lengths, batch.target_lengths, reduction="none"
    )
    expected = float(each.sum()) / int(batch.target_lengths.sum())
    for n_frames in (1, 100, ALL):
        found = FineTuned(net, Tuning(batch_frames=n_frames)).loss({}, batch)
        assert found == pytest.approx(expected, rel=1e-12)
    assert float(symbol_loss(output.scores, batch, output.lengths)) == pytest.approx(expected, rel=1e-12)


def test_a_text_that_does_not_fit_costs_nothing_and_pulls_nowhere() -> None:
    batch = double(utterances(2, texts=[(1, 2), (3,)]))
    long = Transcribed(batch.inputs, batch.lengths, *padded([(1, 2), (1,) * 30]))
    net = net_of().double()
    lengths = net.out_lengths(batch.lengths)
    found, alone = symbol_loss(net(batch.inputs, batch.lengths), long, lengths), taken(batch, torch.tensor([0]))
    expected = symbol_loss(net(alone.inputs, alone.lengths), alone, lengths[:1]) * 2 / 32
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-12)
    for a, b in zip(*(torch.autograd.grad(x, list(net.parameters())) for x in (found, expected)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


# ------------------------------------------------------------------------------------------------------ in batches


def of_lengths(lengths: list[int]) -> Transcribed:
    inputs = torch.arange(1, len(lengths) + 1.0)[:, None, None].expand(-1, max(lengths) + 3, 2).clone()
    targets = [tuple(range(1, 2 + n % 5)) for n in lengths]
    return wider(Transcribed(inputs, torch.tensor(lengths), *padded(targets)), symbols=2)


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 300), min_size=1, max_size=25),
    limit=st.integers(1, 900),
    seed=st.none() | st.integers(0, 9),
)
def test_batches_hold_everything_once_within_the_limit(lengths: list[int], limit: int, seed: int | None) -> None:
    batch = of_lengths(lengths)
    found = batches_of(batch, limit, None if seed is None else torch.Generator().manual_seed(seed))
    ids = [int(i) for part in found for i in known_by(part)]
    assert sorted(ids) == list(range(1, len(lengths) + 1))
    for part in found:
        assert part.inputs.shape[1] == int(part.lengths.max())
        assert len(part) == 1 or len(part) * part.inputs.shape[1] <= limit
        assert part.lengths.tolist() == [lengths[int(i) - 1] for i in known_by(part)]
    if seed is None:
        assert [n for part in found for n in part.lengths.tolist()] == sorted(lengths)
        # And no batch could have taken the first of the next.
        assert all((len(a) + 1) * int(b.lengths[0]) > limit for a, b in pairwise(found))


def test_batches_are_of_like_lengths_and_come_in_another_order_each_time() -> None:
    batch = of_lengths([10 * i for i in range(1, 41)])
    generator = torch.Generator().manual_seed(0)
    first, second = (batches_of(batch, 1_000, generator) for _ in range(2))
    for found in (first, second):
        assert all(int(part.lengths.max() - part.lengths.min()) <= 150 for part in found)
    sets = [[frozenset(known_by(part)) for part in found] for found in (first, second)]
    assert sets[0] != sets[1]
    assert set(sets[0]) != set(sets[1])  # others meet too
    assert [sorted(known_by(part)) for part in first] != sorted(sorted(known_by(part)) for part in first)


def test_what_is_taken_is_padded_to_its_own_longest() -> None:
    batch = utterances(texts=[(1, 2, 3), (4,), (5, 1)])
    found = taken(batch, torch.tensor([1, 2]))
    assert found.inputs.shape == (2, 20, 12)
    assert found.targets.tolist() == [[4, 0], [5, 1]]
    assert found.lengths.tolist() == [10, 20]
    assert torch.equal(found.inputs, batch.inputs[[1, 2], :20])
    assert len(taken(batch, torch.tensor([], dtype=torch.long))) == 0


# ---------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": -1},
        {"held_out": 1.0},
        {"held_out": -0.1},
        {"held_out": math.nan},
        {"average": 1.0},
        {"average": -0.1},
        {"lr": 0.0},
        {"lr": -1.0},
        {"lr": math.nan},
        {"lr": math.inf},
        {"batch_frames": 0},
        {"n_looks": 0},
    ],
)
def test_tuning_that_means_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"^Tuning has [^\n]*\.$"):
        Tuning(**wrong)


def test_an_empty_support_set_is_refused() -> None:
    nothing = taken(utterances(), torch.tensor([], dtype=torch.long))
    with pytest.raises(InputError, match="holds no utterance"):
        FineTuned(net_of(), QUICK).adapt(nothing)


def test_few_utterances_are_not_spared() -> None:
    tuning = Tuning(held_out=0.2)
    assert shortened(tuning, 7) == replace(tuning, held_out=0.0)
    assert shortened(tuning, 8) == tuning
