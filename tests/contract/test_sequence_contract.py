"""What every way to adapt a network that spells promises, and that outer rules are those of a loop written by hand."""

import math
from dataclasses import replace
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Any

import pytest
import torch
from sequence_cases import close, double, equal, net_of, rows, utterances, values_of, wider
from torch import Tensor

from metavox.checkpoint import read_tensors, write_tensors
from metavox.contracts import Learner, State, Transcribed
from metavox.learners.low_rank import factors
from metavox.learners.sequence import FineTuned, Tuning, spelled
from metavox.learners.sequence_outer import Inner, MetaLearning, unit_gradient
from metavox.losses import ctc_loss
from metavox.nets.recogniser import Recogniser
from metavox.transcription.plans import WAYS

STEPS = 6
ALL = 100_000
"""Frames that hold the whole support set, so that only one order of batches exists."""


def tuning_of(name: str, **changes: Any) -> Tuning:
    """A way's tuning, in a few steps on everything at once."""
    tuning = WAYS[name].plan.tuning
    return replace(tuning, steps=min(tuning.steps, STEPS), batch_frames=ALL, warmup=2, **changes)


def net_for(name: str) -> Recogniser:
    way = WAYS[name]
    seed = 5 if way.from_scratch else 0
    return net_of(seed, n_phones=3, adapter=way.adapter, condition=min(way.condition, 4), condition_by="film")


STEPPING = [name for name in WAYS if WAYS[name].plan.tuning.steps]
"""Ways that take steps at all."""


def start_by_hand(net: Recogniser, tuning: Tuning, support: Transcribed) -> State:
    """What adapting begins with: whole values or their factors, and an encoding."""
    own = {name: value.detach() for name, value in net.named_parameters() if not name.startswith(("phone_", "encode."))}
    wanted = [pattern for pattern in tuning.adapts if not pattern.startswith("!")]
    but = [pattern[1:] for pattern in tuning.adapts if pattern.startswith("!")]
    at = {name: v.clone() for name, v in own.items() if any(fnmatchcase(name, p) for p in wanted)}
    at = {name: v for name, v in at.items() if not any(fnmatchcase(name, p) for p in but)}
    if tuning.rank:
        at = factors(at, tuning.rank)
    if tuning.condition and net.encode is not None:
        heard = net.encoding(support.inputs, support.lengths).detach()
        at["encoding"] = heard if tuning.encoding == "support" else torch.zeros_like(heard)
    return at


def whole(net: Recogniser, state: State) -> State:
    """A state with products of factors in the place of these."""
    found = {name: value for name, value in state.items() if ".lora_" not in name}
    for name, value in net.named_parameters():
        if f"{name}.lora_a" in state:
            product = torch.einsum("or,ri->oi", state[f"{name}.lora_b"], state[f"{name}.lora_a"])
            found[name] = value.detach() + product.view_as(value)
    return found


@pytest.fixture(params=WAYS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def learner(name: str) -> FineTuned:
    return FineTuned(net_for(name), tuning_of(name))


def nats(net: Recogniser, values: State, batch: Transcribed) -> Tensor:
    """CTC of all items over the number of their symbols."""
    output = spelled(net, values, batch.inputs, batch.lengths)
    each = ctc_loss(
        output.scores.transpose(0, 1), batch.targets, output.lengths, batch.target_lengths, reduction="none"
    )
    return each.sum() / batch.target_lengths.sum()


# --------------------------------------------------------------------------------------------------------- promises


def test_it_has_the_verbs_of_the_contract(learner: FineTuned) -> None:
    assert isinstance(learner, Learner)
    assert (learner.fixed_ways, learner.adapts_body) == (False, True)


def test_adapting_leaves_the_network_and_the_support_alone(learner: FineTuned) -> None:
    before, support = values_of(learner.net), utterances()
    learner.predict(learner.adapt(support), utterances(seed=1))
    assert equal(before, dict(learner.net.state_dict()))
    assert torch.equal(support.inputs, utterances().inputs)
    assert torch.equal(support.targets, utterances().targets)


def test_a_state_holds_exactly_what_the_way_lets_change(name: str, learner: FineTuned) -> None:
    before = start_by_hand(learner.net, tuning_of(name), utterances())
    state = learner.adapt(utterances())
    assert set(state) == set(before)
    spells = {"head.bias", "head.weight.lora_b", "encoding"} if name != "body-only" else {"widen.bias"}
    assert spells & set(state)
    moved = {one for one, value in state.items() if not torch.allclose(value, before[one], rtol=1e-5, atol=0)}
    assert moved == (set(state) if name in STEPPING else set())


def test_adapting_repeats_to_the_bit_and_padding_does_not_matter(learner: FineTuned) -> None:
    state, support = learner.adapt(utterances()), utterances()
    assert equal(state, learner.adapt(support))
    assert equal(state, learner.adapt(wider(support, 7, 2, garbage=True)))


def test_scores_depend_on_neither_padding_nor_companions(name: str) -> None:
    learner = FineTuned(net_for(name).double(), tuning_of(name))
    state, query = learner.adapt(double(utterances())), double(utterances(4, seed=1))
    output, other = learner.predict(state, query), learner.predict(state, wider(query, 6, garbage=True))
    for i, n_frames in enumerate(output.lengths.tolist()):
        for scores in (other.scores, learner.predict(state, rows(query, [i])).scores[[0] * 4]):
            torch.testing.assert_close(scores[i, :n_frames], output.scores[i, :n_frames], rtol=1e-10, atol=1e-10)


def test_a_state_survives_save_and_load(learner: FineTuned, tmp_path: Any) -> None:
    state, query = learner.adapt(utterances()), utterances(seed=1)
    write_tensors(tmp_path / "state.safetensors", state)
    loaded = read_tensors(tmp_path / "state.safetensors")
    assert torch.equal(learner.predict(loaded, query).scores, learner.predict(state, query).scores)


@pytest.mark.parametrize("name", STEPPING, indirect=True)
def test_what_is_adapted_to_is_spelled_better(name: str, learner: FineTuned) -> None:
    """Without this a learner that returns what it was given would keep most of the other promises."""
    few = name.startswith("context")  # four numbers for a network that never learned to hear them
    learner.tuning = replace(learner.tuning, steps=25, lr=2e-1 if few or learner.tuning.rank else 2e-2)
    support = utterances(8)
    after, before = learner.loss(learner.adapt(support), support), learner.loss({}, support)
    assert after < (0.97 if few else 0.8) * before


def test_a_support_set_that_is_heard_changes_what_is_spelled_without_a_step() -> None:
    net, query = net_for("conditioned"), utterances(3, seed=1)
    learner = FineTuned(net, tuning_of("conditioned"))
    states = [learner.adapt(utterances(seed=seed)) for seed in (0, 7)]
    scores = [learner.predict(state, query).scores for state in (*states, {})]
    assert not any(torch.allclose(a, b, atol=1e-4) for a, b in pairwise(scores))
    close(states[0], {"encoding": net.encoding(utterances().inputs, utterances().lengths).detach()}, 1e-6)


# ------------------------------------------------------------------------------------------------- loops by hand


def adamw_by_hand(net: Recogniser, support: Transcribed, tuning: Tuning) -> State:
    """AdamW (Loshchilov and Hutter 2019) with clipped gradients, warm-up and cosine, one batch a step."""
    at = start_by_hand(net, tuning, support)
    first = {name: torch.zeros_like(value) for name, value in at.items()}
    second = {name: torch.zeros_like(value) for name, value in at.items()}
    for step in range(1, tuning.steps + 1):
        leaves = {name: value.clone().requires_grad_() for name, value in at.items()}
        grads = dict(
            zip(at, torch.autograd.grad(nats(net, whole(net, leaves), support), list(leaves.values())), strict=True)
        )
        norm = math.sqrt(sum(float(grad.square().sum()) for grad in grads.values()))
        cosine = 0.02 + 0.98 * (1 + math.cos(math.pi * (step - 1) / tuning.steps)) / 2
        for name, grad in grads.items():
            clipped = grad * min(1.0, 1 / (norm + 1e-6))
            factor = tuning.head_factor if name.startswith("head.") else 1.0
            lr = tuning.lr * factor * min(1.0, step / tuning.warmup) * cosine
            first[name] = 0.9 * first[name] + 0.1 * clipped
            second[name] = 0.98 * second[name] + 0.02 * clipped.square()
            moved = first[name] / (1 - 0.9**step) / ((second[name] / (1 - 0.98**step)).sqrt() + 1e-8)
            at[name] = at[name] * (1 - lr * tuning.weight_decay) - lr * moved
    return at


@pytest.mark.parametrize("changes", [{}, {"weight_decay": 0.3, "head_factor": 4.0}], ids=["plain", "settings"])
def test_fine_tuning_is_the_loop_written_by_hand(name: str, changes: dict[str, float]) -> None:
    net, support = net_for(name).double(), double(utterances())
    tuning = tuning_of(name, **{"average": 0.0, "held_out": 0.0, **changes})
    close(FineTuned(net, tuning).adapt(support), adamw_by_hand(net, support, tuning), 1e-8)


TASKS = [(double(utterances(2, 1)), double(utterances(3, 2))), (double(utterances(3, 3)), double(utterances(2, 4)))]
LR = 0.1
UNROLLED = ("fomaml", "maml", "reptile", "meta_sgd")
"""Outer rules that ask the same all through training of an inner loop that is unrolled."""


def unrolled(
    net: Recogniser,
    outer: str,
    n_steps: int,
    adapts: tuple[str, ...],
    multi_step: bool = False,
    *,
    unit: bool = False,
    lr: float = LR,
) -> dict[str, Tensor]:
    """Finn et al. 2017 and what came of it, by autograd through plain loops."""
    named = dict(net.named_parameters())
    moving = [name for name in named if any(fnmatchcase(name, pattern) for pattern in adapts)]
    sizes = {name: torch.full_like(named[name].detach(), lr).requires_grad_() for name in moving}
    second = outer in ("maml", "meta_sgd")
    leaves = [*named.values(), *sizes.values()]
    total = [torch.zeros_like(leaf) for leaf in leaves]
    for support, query in TASKS:
        fast: dict[str, Tensor] = dict(named)
        seen = []
        for _ in range(n_steps):
            at = [fast[name] for name in moving]
            grads = torch.autograd.grad(nats(net, fast, support), at, create_graph=second)
            for name, found in zip(moving, grads, strict=True):
                grad = found / found.square().mean().sqrt() if unit else found
                fast[name] = fast[name] - sizes[name] * (grad if second else grad.detach())
            seen.append(nats(net, fast, query))
        if outer == "reptile":
            found = [named[n].detach() - fast[n].detach() if n in moving else None for n in named]
            found += [None] * (len(leaves) - len(named))
        else:
            loss = sum(seen) / n_steps if multi_step else seen[-1]
            found = list(torch.autograd.grad(loss, leaves, allow_unused=True))
        total = [a if b is None else a + b / len(TASKS) for a, b in zip(total, found, strict=True)]
    values = dict(zip(named, total, strict=False))
    if outer == "meta_sgd":
        values |= {f"inner_lr.{name}": found for name, found in zip(sizes, total[len(named) :], strict=True)}
    return values


@pytest.mark.parametrize("adapts", [("*",), ("head.*", "blocks.0.*")], ids=["all", "some"])
@pytest.mark.parametrize("multi_step", [False, True], ids=["last", "multi_step"])
@pytest.mark.parametrize("outer", UNROLLED)
def test_a_meta_gradient_is_that_of_the_loop_written_by_hand(
    outer: str, multi_step: bool, adapts: tuple[str, ...]
) -> None:
    net = net_of(channels=8, blocks=1, dim=8).double()
    found = MetaLearning(net, outer, 3, LR, Inner(adapts, multi_step=multi_step)).gradient(TASKS).values
    expected = unrolled(net, outer, 3, adapts, multi_step)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name].flatten(), value.flatten(), rtol=1e-8, atol=1e-10, msg=name)
    if outer == "maml":  # and the second derivative is no small thing here
        first = unrolled(net, "fomaml", 3, adapts, multi_step)
        assert float((first["head.weight"] - expected["head.weight"]).norm() / expected["head.weight"].norm()) > 1e-3


@pytest.mark.parametrize("outer", UNROLLED)
def test_slopes_of_unit_length_are_those_of_the_loop_written_by_hand(outer: str) -> None:
    """Every value moves by ``lr`` in the root mean square, whatever its gradient."""
    net = net_of(channels=8, blocks=1, dim=8).double()
    found = MetaLearning(net, outer, 2, 1e-2, Inner(unit=True)).gradient(TASKS).values
    expected = unrolled(net, outer, 2, ("*",), unit=True, lr=1e-2)
    for name, value in expected.items():
        torch.testing.assert_close(found[name].flatten(), value.flatten(), rtol=1e-7, atol=1e-9, msg=name)


def test_a_value_that_nothing_reaches_has_a_unit_slope_of_nothing() -> None:
    assert not bool(unit_gradient("x", torch.zeros(3, 4)).any())
    small, none = torch.tensor([3e-7, -4e-7]), torch.tensor([3e-9, -4e-9])
    torch.testing.assert_close(unit_gradient("x", small), small / 12.5e-14**0.5, rtol=1e-6, atol=0)
    assert torch.equal(unit_gradient("x", none), none)


@pytest.mark.parametrize("n_steps", [1, 3])
def test_the_gradient_of_step_sizes_is_that_of_finite_differences(n_steps: int) -> None:
    """Each number has its own, which every step takes and whose later slopes follow it."""
    net = net_of(channels=8, blocks=1, dim=8).double()
    meta = MetaLearning(net, "meta_sgd", n_steps, LR)
    found = meta.gradient(TASKS[:1]).values
    support, query = TASKS[0]
    start = {name: value.detach() for name, value in net.named_parameters()}

    def asked(name: str, place: int, by: float) -> float:
        fast = dict(start)
        for _ in range(n_steps):
            leaves = {n: value.clone().requires_grad_() for n, value in fast.items()}
            grads = torch.autograd.grad(nats(net, leaves, support), list(leaves.values()))
            slope = dict(zip(leaves, grads, strict=True))
            fast = {n: value - LR * slope[n] for n, value in fast.items()}
            fast[name].view(-1)[place] -= by * slope[name].flatten()[place]
        with torch.no_grad():
            return float(nats(net, fast, query))

    for name in ("stem.0.weight", "blocks.0.squeeze.bias", "norm.weight", "head.weight"):
        own = found[f"inner_lr.{name}"]
        assert own.shape == start[name].shape
        for place in (0, own.numel() - 1):
            expected = (asked(name, place, 1e-4) - asked(name, place, -1e-4)) / 2e-4
            assert float(own.flatten()[place]) == pytest.approx(expected, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("executor", ["recursion", "vmap"])
def test_other_executors_agree_with_the_loop(executor: str) -> None:
    net = net_of(channels=8, blocks=1, dim=8).double()
    loop, other = (MetaLearning(net, "maml", 2, LR, executor=one).gradient(TASKS[:1]) for one in ("loop", executor))
    close(loop.values, other.values, 1e-9)


@pytest.mark.parametrize("outer", ["maml", "maml_plus_plus"])
def test_executors_leave_out_the_same_of_a_query(outer: str) -> None:
    net = net_of(channels=8, blocks=1, dim=8, dropout=0.5).double().train()
    loop, other, whole = (
        MetaLearning(net, outer, 2, LR, executor=one).gradient(TASKS, None if n == 2 else drawn())
        for n, one in enumerate(("loop", "recursion", "loop"))
    )
    close(loop.values, other.values, 1e-9)
    assert loop.loss == pytest.approx(other.loss, rel=1e-12)
    assert loop.loss != whole.loss


def drawn() -> torch.Generator:
    return torch.Generator().manual_seed(5)
