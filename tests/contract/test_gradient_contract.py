"""The contract of learners that adapt by gradient: what their states hold, and what steps do to them."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from gradient_cases import HEAD, HELD, STILL
from learner_cases import CASES, FIXED, GRADIENT, close, equal, query_of, support_of, takes

from metavox.checkpoint import build
from metavox.contracts import Batch, InputError
from metavox.losses import balanced_cross_entropy
from metavox.nets.heads import prototype_head


def losses_on(learner: Any, support: Batch) -> list[float]:
    return [
        float(balanced_cross_entropy(learner.predict(state, support).scores, support.labels))
        for state in learner.trajectory(support)
    ]


@pytest.mark.parametrize("name", GRADIENT)
@torch.no_grad()
def test_a_state_holds_what_moves_and_a_head_that_the_takes_say_something_about(name: str) -> None:
    learner: Any = build(CASES[name], seed=3)
    held = HELD.get(name, HELD["maml"])(dict(learner.named_parameters()))
    assert set(learner.adapt(support_of(learner))) == held | HEAD
    assert learner.adapts_body == any(key.startswith(("encoder.", "adapted.down.")) for key in held)
    assert learner.fixed_ways == (name in FIXED)


@pytest.mark.parametrize("name", GRADIENT)
@torch.no_grad()
def test_all_that_is_to_move_moves(name: str) -> None:
    learner: Any = build(CASES[name], seed=3)
    support = support_of(learner)
    before, after = learner.initial(support), learner.adapt(support)
    still = {key for key in after if torch.equal(before[key], after[key])}
    assert still == STILL.get(name, set())


@torch.no_grad()
def test_zero_steps_are_no_adaptation(by_gradient: Any) -> None:
    by_gradient.rule = replace(by_gradient.rule, n_steps=0)
    support, query = support_of(by_gradient), query_of(by_gradient)
    state, own = by_gradient.adapt(support), dict(by_gradient.named_parameters())
    assert equal(state, by_gradient.initial(support))
    for name, value in state.items():
        assert name in HEAD or name.startswith("adapted.") or torch.equal(value, own[name])
    vectors, size = by_gradient.vectors(support), by_gradient.vectors(support).shape[1]
    kind = by_gradient.head.kind
    if kind == "prototypes":
        weight, bias = prototype_head(vectors, support.labels, support.n_classes)
    elif kind == "fixed":
        weight, bias = own["head.weight"], own["head.bias"]
    else:
        row = own["head.row"] if kind == "row" else torch.zeros(size)
        weight, bias = row.expand(support.n_classes, -1), torch.zeros(support.n_classes)
    found = {"head.weight": weight, "head.bias": bias} | state
    assert torch.equal(found["head.weight"], weight)
    assert torch.equal(found["head.bias"], bias)
    close(by_gradient.predict(state, query).scores, by_gradient.vectors(query) @ weight.T + bias)


@torch.no_grad()
def test_no_step_size_is_no_adaptation(by_gradient: Any) -> None:
    support = support_of(by_gradient)
    by_gradient.rule = replace(by_gradient.rule, lr=0.0)
    assert equal(by_gradient.adapt(support), by_gradient.initial(support))


@torch.no_grad()
def test_more_steps_lower_the_support_loss(by_gradient: Any) -> None:
    by_gradient.double().rule = replace(by_gradient.rule, n_steps=8, lr=0.005)
    support = support_of(by_gradient)
    losses = losses_on(by_gradient, replace(support, inputs=support.inputs.double()))
    assert len(losses) == 9
    assert all(later < earlier for earlier, later in pairwise(losses)), losses


@torch.no_grad()
def test_a_trajectory_ends_where_adapt_ends_and_keeps_its_earlier_states(by_gradient: Any) -> None:
    support = support_of(by_gradient)
    states = list(by_gradient.trajectory(support))
    assert equal(states[-1], by_gradient.adapt(support))
    assert equal(states[0], by_gradient.initial(support))
    by_gradient.rule = replace(by_gradient.rule, n_steps=1)
    assert equal(states[1], by_gradient.adapt(support))


@pytest.mark.parametrize("name", FIXED)
def test_other_ways_than_those_of_a_fixed_head_are_refused_in_a_sentence(name: str) -> None:
    learner: Any = build(CASES[name], seed=3)
    said = r"^a task has 3 classes and the head of this learner is fixed at 4; [^\n]*tasks of 4 ways[^\n]*\.$"
    with pytest.raises(InputError, match=said):
        learner.adapt(takes(learner, [0, 1, 2], 3))


@torch.no_grad()
def test_learned_step_sizes_and_curvature_are_followed(by_gradient: Any) -> None:
    """And they begin as plain descent: the same steps as without them."""
    support, query = support_of(by_gradient), query_of(by_gradient)
    steering = [value for name, value in by_gradient.named_parameters() if name.startswith("update.")]
    scores = by_gradient.predict(by_gradient.adapt(support), query).scores
    assert not any(bool(value.any()) for value in steering)
    rule = by_gradient.rule
    by_gradient.rule = replace(rule, transform=None)
    close(by_gradient.predict(by_gradient.adapt(support), query).scores, scores)
    by_gradient.rule = rule
    for value in steering:
        value.add_(0.2 * torch.ones_like(value))
    moved = by_gradient.predict(by_gradient.adapt(support), query).scores
    assert torch.allclose(moved, scores, atol=1e-4) == (not steering)


@torch.no_grad()
def test_a_row_that_all_classes_share_cancels_out_of_what_is_told_apart() -> None:
    """UNICORN-MAML's row, whatever it is: scores of classes differ from one another as from a head of zeros."""
    rows: Any = build(CASES["unicorn_maml"], seed=3).double()
    zeros: Any = build(CASES["maml"], seed=3).double()
    support, query = (replace(b, inputs=b.inputs.double()) for b in (support_of(rows), query_of(rows)))
    rows.head.row.mul_(20)
    one, other = (torch.log_softmax(at.predict(at.adapt(support), query).scores, 1) for at in (rows, zeros))
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    assert float((rows.adapt(support)["head.weight"] - zeros.adapt(support)["head.weight"]).abs().max()) > 1e-2
