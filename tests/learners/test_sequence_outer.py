"""Outer gradients of networks that spell, against derivatives taken by hand and by finite differences."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from sequence_cases import close, double, net_of, utterances, wider
from torch import Tensor

from metavox.contracts import InputError, Transcribed
from metavox.data.sentences import padded
from metavox.learners.sequence import AUXILIARY, spelled
from metavox.learners.sequence_outer import META, WITH_STEP_SIZES, Inner, MetaLearning, joint_gradient
from metavox.learners.sequence_problem import as_tree
from metavox.losses import ctc_loss
from metavox.nets.recogniser import Recogniser

Values = dict[str, Tensor]
TINY: dict[str, Any] = {"channels": 8, "blocks": 1, "dim": 8, "heads": 1}


def tiny(**changes: Any) -> Recogniser:
    return net_of(**{**TINY, **changes}).double()


def nats(scores: Tensor, targets: Tensor, lengths: Tensor, counts: Tensor) -> Tensor:
    """CTC of all items over the number of their symbols."""
    each = ctc_loss(scores.transpose(0, 1), targets, lengths, counts, reduction="none", zero_infinity=True)
    return each.sum() / counts.sum()


def loss_of(net: Recogniser, values: Values, batch: Transcribed) -> Tensor:
    output = spelled(net, values, batch.inputs, batch.lengths)
    return nats(output.scores, batch.targets, output.lengths, batch.target_lengths)


def slope(loss: Callable[[], Tensor], at: Tensor, places: Sequence[int], by: float = 1e-5) -> list[float]:
    """Finite differences at some places of a tensor that the loss reads."""
    found = []
    flat = at.detach().view(-1)
    with torch.no_grad():
        for place in places:
            value, ends = float(flat[place]), []
            for moved in (value + by, value - by):
                flat[place] = moved
                ends.append(float(loss()))
            flat[place] = value
            found.append((ends[0] - ends[1]) / (2 * by))
    return found


# ----------------------------------------------------------------------------------------------------------- jointly

PHONES = padded([(1, 2), (), (2,), (1, 1, 2)])
"""Of four utterances, one of which nobody knows how to pronounce."""


@pytest.mark.parametrize("body", ["temporal", "conformer"])
@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_joint_training_descends_symbols_and_known_phones(body: str, weight: float) -> None:
    net, batch = tiny(n_phones=3, body=body), double(utterances(4))
    found = joint_gradient(net, batch, PHONES, weight, None)
    scores, phones = net.with_phones(batch.inputs, batch.lengths)
    lengths = net.out_lengths(batch.lengths)
    loss = nats(scores, batch.targets, lengths, batch.target_lengths)
    known = [0, 2, 3]
    spoken = nats(phones[known], PHONES[0][known], lengths[known], PHONES[1][known])
    total = loss + weight * spoken
    named = dict(net.named_parameters())
    grads = dict(zip(named, torch.autograd.grad(total, list(named.values()), allow_unused=True), strict=True))
    auxiliary = {name for name in named if name.startswith(("phone_widen", "phone_head"))}
    assert set(found.values) == set(named) - (auxiliary if not weight else set())
    close({name: grads[name] for name in found.values}, found.values)
    assert found.loss == pytest.approx(float(loss.detach()), rel=1e-12)
    if weight:
        assert found.phone_loss == pytest.approx(float(spoken.detach()), rel=1e-12)
    else:
        assert found.phone_loss is None


@pytest.mark.parametrize("phones", [None, padded([()] * 4)], ids=["unasked", "unknown"])
def test_phones_that_nobody_knows_are_not_learned(phones: tuple[Tensor, Tensor] | None) -> None:
    net, batch = tiny(n_phones=3), double(utterances(4))
    found, plain = joint_gradient(net, batch, phones, 0.3, None), joint_gradient(net, batch, None, 0.0, None)
    assert found.phone_loss is None
    close(found.values, plain.values, 0)
    assert not any(name.startswith("phone") for name in found.values)


def test_joint_training_leaves_out_what_the_generator_says() -> None:
    net, batch = tiny(dropout=0.5).train(), double(utterances(4))
    seeds = (1, 1, 2)
    one, same, other = (joint_gradient(net, batch, None, 0.0, torch.Generator().manual_seed(s)) for s in seeds)
    close(one.values, same.values, 0)
    assert one.loss != other.loss


def test_an_encoding_is_learned_through_what_hears_it() -> None:
    net, query, support = tiny(condition=4), double(utterances(3)), double(utterances(3, seed=1))
    found = joint_gradient(net, query, None, 0.0, None, net.encoding(support.inputs, support.lengths))

    def loss() -> Tensor:
        scores = net(query.inputs, query.lengths, net.encoding(support.inputs, support.lengths))
        return nats(scores, query.targets, net.out_lengths(query.lengths), query.target_lengths)

    for name in ("encode.weight", "blocks.0.condition.weight", "stem.0.weight", "head.bias"):
        at = dict(net.named_parameters())[name]
        places = [0, at.numel() // 2, at.numel() - 1]
        expected = slope(loss, at, places)
        assert found.values[name].flatten()[places].tolist() == pytest.approx(expected, rel=1e-5, abs=1e-8), name
    assert "encode.weight" not in joint_gradient(net, query, None, 0.0, None).values


# --------------------------------------------------------------------------------------------------------- to adapt

TASKS = [(double(utterances(2, 1)), double(utterances(3, 2))), (double(utterances(3, 3)), double(utterances(2, 4)))]


@pytest.mark.parametrize("outer", META)
def test_only_what_training_alone_needs_gets_no_gradient(outer: str) -> None:
    net = tiny(n_phones=3)
    meta = MetaLearning(net, outer, 2, 0.05, Inner(prox=100.0))  # where the loss is convex enough for imaml
    found = meta.gradient(TASKS)
    named = {name for name, _ in net.named_parameters()}
    assert {name for name in found.values if not name.startswith("inner_lr.")} == {
        name for name in named if not name.startswith(tuple(pattern.removesuffix("*") for pattern in AUXILIARY))
    }
    assert all(value.isfinite().all() for value in found.values.values())
    assert bool(found.values["stem.0.weight"].any())
    assert {f"inner_lr.{name}" for name in found.values if f"inner_lr.{name}" in found.values} == set(meta.step_sizes)
    assert bool(meta.step_sizes) == (outer in WITH_STEP_SIZES)


@pytest.mark.parametrize("outer", META)
def test_a_meta_gradient_is_the_mean_over_tasks(outer: str) -> None:
    net = tiny()
    both = MetaLearning(net, outer, 2, 0.05).gradient(TASKS)
    alone = [MetaLearning(net, outer, 2, 0.05).gradient([task]) for task in TASKS]
    mean = {name: (value + alone[1].values[name]) / 2 for name, value in alone[0].values.items()}
    close(both.values, mean)
    assert both.loss == pytest.approx((alone[0].loss + alone[1].loss) / 2, rel=1e-12)


@pytest.mark.parametrize("outer", META)
def test_padding_of_a_task_does_not_matter(outer: str) -> None:
    net = tiny()
    padded_tasks = [(wider(s, 5, 2, garbage=True), wider(q, 3, 1, garbage=True)) for s, q in TASKS]
    found, other = (MetaLearning(net, outer, 2, 0.05).gradient(tasks) for tasks in (TASKS, padded_tasks))
    close(found.values, other.values, 1e-9)


def test_the_gradient_leaves_network_and_step_sizes_as_they_are() -> None:
    net = tiny()
    meta = MetaLearning(net, "meta_sgd", 2, 0.05)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    first, second = meta.gradient(TASKS), meta.gradient(TASKS)
    close(first.values, second.values, 0)
    close(before, dict(net.state_dict()), 0)
    assert all(bool((size == 0.05).all()) and size.dtype == torch.float64 for size in meta.step_sizes.values())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in net.parameters())


@pytest.mark.parametrize(
    ("outer", "shapes"),
    [("meta_sgd", [(6, 8), (6,), (8, 8, 3)]), ("maml_plus_plus", [(3, 1, 1), (3, 1), (3, 1, 1, 1)])],
)
def test_step_sizes_are_of_each_number_or_of_tensor_and_step_and_only_where_something_adapts(
    outer: str, shapes: list[tuple[int, ...]]
) -> None:
    net = tiny(n_phones=3)
    meta = MetaLearning(net, outer, 3, 0.05, Inner(("head.*", "blocks.0.conv.weight")))
    names = ("inner_lr.head.weight", "inner_lr.head.bias", "inner_lr.blocks.0.conv.weight")
    assert {name: tuple(value.shape) for name, value in meta.step_sizes.items()} == dict(
        zip(names, shapes, strict=True)
    )
    found = meta.gradient(TASKS)
    assert {name for name in found.values if name.startswith("inner_lr.")} == set(meta.step_sizes)


def test_step_sizes_that_are_put_in_are_those_that_are_used() -> None:
    net = tiny()
    meta, other = MetaLearning(net, "meta_sgd", 2, 0.05), MetaLearning(net, "meta_sgd", 2, 0.2)
    meta.step_sizes = {name: torch.full_like(value, 0.2) for name, value in meta.step_sizes.items()}
    close(meta.gradient(TASKS).values, other.gradient(TASKS).values, 0)


@pytest.mark.parametrize("adapts", [("*",), ("head.*",)], ids=["all", "head"])
@pytest.mark.parametrize("outer", ["fomaml", "maml", "imaml"])
def test_a_query_is_heard_with_dropout_as_a_joint_batch_is(outer: str, adapts: tuple[str, ...]) -> None:
    """After a step of no length the meta-gradient is that of joint training with the task's own seed."""
    net = tiny(dropout=0.5).train()
    inner = Inner(adapts, prox=1e12)  # to which the step of no length stays near
    meta = MetaLearning(net, outer, 1, 1e-14, inner)
    found, again, other = (meta.gradient(TASKS[:1], torch.Generator().manual_seed(n)) for n in (1, 1, 2))
    seed = torch.randint(2**62, (1,), generator=torch.Generator().manual_seed(1))
    expected = joint_gradient(net, TASKS[0][1], None, 0.0, torch.Generator().manual_seed(int(seed)))
    close(found.values, expected.values, 1e-8)
    close(found.values, again.values, 0)
    assert found.loss == pytest.approx(expected.loss, rel=1e-9)
    assert found.loss != other.loss


def test_a_support_is_heard_whole() -> None:
    """Reptile looks at supports alone, so that what is drawn makes no difference to it."""
    net = tiny(dropout=0.5).train()
    meta = MetaLearning(net, "reptile", 2, 0.05)
    close(meta.gradient(TASKS, torch.Generator().manual_seed(1)).values, meta.gradient(TASKS).values, 0)


def test_a_batch_becomes_a_tree_of_its_tensors() -> None:
    batch = utterances(3)
    assert all(a is b for a, b in zip(as_tree(batch), (batch.inputs, batch.lengths, batch.targets), strict=False))
    assert as_tree(batch)[3] is batch.target_lengths
    assert len(as_tree(batch)) == 4
    assert as_tree(batch, torch.tensor(7))[4].tolist() == [7, 7, 7]


@pytest.mark.parametrize(
    ("outer", "adapts", "said"),
    [
        ("joint", ("*",), "learning.outer is 'joint', which does not adapt; choose from fomaml, maml"),
        ("mamml", ("*",), "learning.outer is 'mamml'"),
        ("maml", ("tail.*",), r"adapts names 'tail\.\*', which matches none"),
        ("maml", ("phone_head.*",), r"adapts names 'phone_head\.\*', which matches none"),
    ],
)
def test_what_cannot_be_learned_is_refused(outer: str, adapts: tuple[str, ...], said: str) -> None:
    with pytest.raises(InputError, match=said):
        MetaLearning(tiny(n_phones=3), outer, 2, 0.05, Inner(adapts))
