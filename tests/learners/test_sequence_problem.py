"""Meta-gradients through CTC of less than the whole network, against finite differences of loops written by hand."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from sequence_cases import close, double, net_of, utterances, wider
from torch import Tensor
from torch.func import functional_call

from metavox.contracts import InputError, Transcribed
from metavox.learners.low_rank import factors
from metavox.learners.sequence_outer import Inner, MetaLearning, annealed_weights
from metavox.learners.sequence_problem import problem_of
from metavox.losses import ctc_loss
from metavox.nets.recogniser import Recogniser

Values = dict[str, Tensor]
LR = 0.1
SUPPORT, QUERY = double(utterances(2, 1)), double(utterances(3, 2))


def tiny(**changes: Any) -> Recogniser:
    small = {"channels": 8, "blocks": 1, "dim": 8, "heads": 1, "condition_by": "film"}
    return net_of(**{**small, **changes}).double()


def loss_by_hand(net: Recogniser, fast: Values, batch: Transcribed) -> Tensor:
    """Nats a symbol of a network with some values, factors and an encoding in the place of its own."""
    fast = dict(fast)
    encoding, own = fast.pop("encoding", None), {n: v for n, v in fast.items() if ".lora_" not in n}
    for name, value in net.named_parameters():
        if f"{name}.lora_b" in fast:
            own[name] = value + (fast[f"{name}.lora_b"] @ fast[f"{name}.lora_a"]).reshape(value.shape)
    scores = functional_call(net, own, (batch.inputs, batch.lengths, encoding))
    each = ctc_loss(
        scores.transpose(0, 1), batch.targets, net.out_lengths(batch.lengths), batch.target_lengths, reduction="none"
    )
    return each.sum() / batch.target_lengths.sum()


def start_by_hand(net: Recogniser, inner: Inner) -> Values:
    named = dict(net.named_parameters())
    moving = {n: v for n, v in named.items() if n.startswith("head.")} if inner.adapts == ("head.*",) else {}
    if inner.adapts == ("*", "!head.*"):
        moving = {n: v for n, v in named.items() if not n.startswith(("head.", "encode.", "phone_"))}
    if inner.rank:
        moving = factors(
            {n: v for n, v in named.items() if inner.adapts == ("*",) and not n.startswith("encode.")}, inner.rank
        )
    if inner.encoding == "zero":
        moving["encoding"] = torch.zeros(3, dtype=torch.float64)
    if inner.encoding == "support":
        moving["encoding"] = net.encoding(SUPPORT.inputs, SUPPORT.lengths)
    return moving


def path_by_hand(net: Recogniser, inner: Inner, sizes: Sequence[float]) -> list[Values]:
    """The values of a task after each step, the slope of each taken anew."""
    path = [start_by_hand(net, inner)]
    for size in sizes:
        leaves = {name: value.detach().requires_grad_() for name, value in path[-1].items()}
        with torch.enable_grad():
            grads = torch.autograd.grad(loss_by_hand(net, leaves, SUPPORT), list(leaves.values()), allow_unused=True)
        step = {n: torch.zeros_like(v) if g is None else g for (n, v), g in zip(leaves.items(), grads, strict=True)}
        path.append({name: value.detach() - size * step[name] for name, value in leaves.items()})
    return path


def slopes(loss: Callable[[], float], at: Tensor, by: float = 1e-5) -> tuple[list[int], list[float]]:
    """Finite differences at the beginning, in the middle and at the end of a tensor that the loss reads."""
    flat, found = at.detach().view(-1), []
    places = sorted({0, flat.numel() // 2, flat.numel() - 1})
    for place in places:
        value, ends = float(flat[place]), []
        for moved in (value + by, value - by):
            flat[place] = moved
            ends.append(loss())
        flat[place] = value
        found.append((ends[0] - ends[1]) / (2 * by))
    return places, found


KINDS = {
    "anil": Inner(("head.*",)),
    "boil": Inner(("*", "!head.*")),
    "lora": Inner(("*",), rank=2),
    "cavia": Inner((), encoding="zero"),
    "cavia_heard": Inner((), encoding="support"),
    "lora and context": Inner(("*",), rank=1, encoding="support"),
}


def net_for(inner: Inner) -> Recogniser:
    return tiny(condition=3 if inner.encoding != "none" else 0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_meta_gradient_is_that_of_finite_differences(kind: str) -> None:
    inner = KINDS[kind]
    net = net_for(inner)
    found = MetaLearning(net, "maml", 2, LR, inner).gradient([(SUPPORT, QUERY)])

    def loss() -> float:
        return float(loss_by_hand(net, path_by_hand(net, inner, (LR, LR))[-1], QUERY).detach())

    assert found.loss == pytest.approx(loss(), rel=1e-10)
    names = ["stem.0.weight", "blocks.0.conv.weight", "widen.weight", "head.weight", "head.bias"]
    if inner.encoding != "none":
        names += ["blocks.0.condition.weight", "encode.weight"]
    for name in names:
        places, expected = slopes(loss, dict(net.named_parameters())[name])
        assert found.values[name].flatten()[places].tolist() == pytest.approx(expected, rel=2e-5, abs=1e-8), name
    assert bool(found.values["stem.0.weight"].any())
    heard = inner.encoding != "none"
    assert bool(found.values.get("encode.weight", torch.zeros(1)).any()) == (inner.encoding == "support")
    assert ("blocks.0.condition.weight" in found.values) == heard


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_less_gives_the_gradient_of_where_the_inner_loop_begins(kind: str) -> None:
    """Of first order and one step: the slope of the query at the place where the step ends, seen as a shift."""
    inner = KINDS[kind]
    net = net_for(inner)
    found = MetaLearning(net, "fomaml", 1, LR, inner).gradient([(SUPPORT, QUERY)]).values
    start, end = path_by_hand(net, inner, (LR,))
    shift = {name: end[name] - start[name].detach() for name in end}
    named = dict(net.named_parameters())
    with torch.enable_grad():
        moved = {name: value + shift[name] for name, value in start_by_hand(net, inner).items()}
        grads = torch.autograd.grad(loss_by_hand(net, moved, QUERY), list(named.values()), allow_unused=True)
    for (name, value), grad in zip(named.items(), grads, strict=True):
        expected = torch.zeros_like(value) if grad is None else grad
        torch.testing.assert_close(found[name], expected, rtol=1e-8, atol=1e-10, msg=name)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("outer", ["fomaml", "maml", "maml_plus_plus", "imaml"])
def test_padding_does_not_matter(kind: str, outer: str) -> None:
    net = net_for(KINDS[kind])
    tasks = [(SUPPORT, QUERY)], [(wider(SUPPORT, 5, 2, garbage=True), wider(QUERY, 3, 1, garbage=True))]
    found, other = (MetaLearning(net, outer, 2, 0.05, KINDS[kind]).gradient(one) for one in tasks)
    close(found.values, other.values, 1e-8)


@pytest.mark.parametrize("n_tasks", [1, 2])
def test_the_body_is_heard_once_an_utterance_where_the_head_adapts_alone(
    n_tasks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, calls, hidden = tiny(), [0], Recogniser.hidden

    def spy(self: Any, *given: Any) -> Any:
        calls[0] += 1
        return hidden(self, *given)

    monkeypatch.setattr(Recogniser, "hidden", spy)
    MetaLearning(net, "maml", 4, LR, Inner(("head.*",))).gradient([(SUPPORT, QUERY)] * n_tasks)
    assert calls == [2 * n_tasks]
    MetaLearning(net, "maml", 4, LR, Inner(("head.*", "norm.*"))).gradient([(SUPPORT, QUERY)])
    assert calls == [2 * n_tasks + 5]


# ------------------------------------------------------------------------------------------------- slopes of one length

WITH_ADAPTERS = Inner(("*.adapter.*", "head.*", "norm.*"), unit=True)


def norm_of(values: Values) -> float:
    return float(sum(value.square().sum() for value in values.values()) ** 0.5)


def test_adapters_that_are_new_have_a_meta_gradient_of_ordinary_size() -> None:
    """Nothing reaches what lies before their zeros, and a slope of nothing has no length to be made one."""
    net = tiny(adapter=2)
    assert not bool(net.blocks[0].adapter.up.weight.any())
    found = MetaLearning(net, "maml", 3, 3e-3, WITH_ADAPTERS).gradient([(SUPPORT, QUERY)]).values
    plain = MetaLearning(net, "fomaml", 3, 3e-3, WITH_ADAPTERS).gradient([(SUPPORT, QUERY)]).values
    assert norm_of(plain) / 3 < norm_of(found) < 3 * norm_of(plain)


@pytest.mark.parametrize("new", [True, False])
def test_a_meta_gradient_of_unit_slopes_is_that_of_finite_differences(new: bool) -> None:
    net = tiny(adapter=2)
    if not new:
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for value in net.blocks[0].adapter.up.parameters():
                value.copy_(0.3 * torch.randn(value.shape, generator=generator))
    found = MetaLearning(net, "maml", 2, 3e-3, WITH_ADAPTERS).gradient([(SUPPORT, QUERY)]).values
    moving = [name for name in found if ".adapter." in name or name.startswith(("head.", "norm."))]

    def loss() -> float:
        fast = {name: dict(net.named_parameters())[name].detach() for name in moving}
        for _ in range(2):
            leaves = {name: value.clone().requires_grad_() for name, value in fast.items()}
            grads = torch.autograd.grad(loss_by_hand(net, leaves, SUPPORT), list(leaves.values()))
            lengths = [float(grad.square().mean().sqrt()) for grad in grads]
            steps = [grad / (length if length > 1e-8 else 1) for grad, length in zip(grads, lengths, strict=True)]
            fast = {name: value - 3e-3 * step for (name, value), step in zip(fast.items(), steps, strict=True)}
        return float(loss_by_hand(net, fast, QUERY).detach())

    names = ["stem.0.weight", "blocks.0.conv.weight", "head.weight", "norm.weight", "blocks.0.adapter.down.weight"]
    if not new:  # what is new has a slope of one side only there
        names += ["blocks.0.adapter.up.weight", "blocks.0.adapter.up.bias"]
    for name in names:
        places, expected = slopes(loss, dict(net.named_parameters())[name])
        assert found[name].flatten()[places].tolist() == pytest.approx(expected, rel=2e-5, abs=1e-8), name


# ------------------------------------------------------------------------------------------------------------- MAML++


@pytest.mark.parametrize("n_steps", [1, 3])
def test_weights_of_the_steps_go_from_all_alike_to_the_last_alone(n_steps: int) -> None:
    for share in (0.0, 0.25, 1.0):
        weights = annealed_weights(n_steps, share)
        assert sum(weights) == pytest.approx(1)
        assert all(weight == pytest.approx((1 - share) / n_steps) for weight in weights[:-1])


def plus_plus(share: float, net: Recogniser) -> MetaLearning:
    meta = MetaLearning(net, "maml_plus_plus", 2, LR, Inner(("head.*", "widen.*"), anneal=(0.2, 0.7)))
    meta.step_sizes = {name: torch.full_like(value, LR) for name, value in meta.step_sizes.items()}
    meta.progress(share)
    return meta


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_early_it_is_of_first_order_and_judges_every_step(share: float) -> None:
    net = tiny()
    found = plus_plus(share, net).gradient([(SUPPORT, QUERY)])
    inner = Inner(("head.*", "widen.*"), multi_step=True)
    other = MetaLearning(net, "fomaml", 2, LR, inner).gradient([(SUPPORT, QUERY)])
    close({name: found.values[name] for name in other.values}, other.values, 1e-9)
    assert found.loss == pytest.approx(other.loss, rel=1e-12)


@pytest.mark.parametrize("share", [0.7, 1.0, 3.0])
def test_late_it_is_of_second_order_and_judges_the_last_step(share: float) -> None:
    net = tiny()
    found = plus_plus(share, net).gradient([(SUPPORT, QUERY)])
    other = MetaLearning(net, "maml", 2, LR, Inner(("head.*", "widen.*"))).gradient([(SUPPORT, QUERY)])
    close({name: found.values[name] for name in other.values}, other.values, 1e-9)


@pytest.mark.parametrize("share", [0.45, 1.0])
def test_between_it_is_a_mixture_whose_step_sizes_are_learned(share: float) -> None:
    """The gradient of a mixture of orders lies on the line between those of both, for one step."""
    net = tiny()
    inner = Inner(("head.*",), anneal=(0.2, 0.7))
    ends = {}
    for at in (0.0, 1.0, share):
        meta = MetaLearning(net, "maml_plus_plus", 1, LR, inner)
        meta.progress(at)
        ends[at] = meta.gradient([(SUPPORT, QUERY)]).values
    done = min(1.0, (share - 0.2) / 0.5)
    for name, value in ends[share].items():
        torch.testing.assert_close(value, (1 - done) * ends[0.0][name] + done * ends[1.0][name], rtol=1e-8, atol=1e-10)
    assert not torch.allclose(ends[0.0]["head.weight"], ends[1.0]["head.weight"], rtol=1e-4)


def test_the_gradient_of_its_step_sizes_is_that_of_finite_differences() -> None:
    net = tiny()
    meta = MetaLearning(net, "maml_plus_plus", 2, LR, Inner(("head.*",)))
    found = meta.gradient([(SUPPORT, QUERY)]).values
    for step in range(2):
        both = []
        for by in (1e-5, -1e-5):
            path = path_by_head(net, {("head.weight", step): LR + by})
            both.append(float(loss_by_hand(net, path, QUERY).detach()))
        expected = (both[0] - both[1]) / 2e-5
        assert float(found["inner_lr.head.weight"].flatten()[step]) == pytest.approx(expected, rel=1e-5, abs=1e-9)


def path_by_head(net: Recogniser, sizes: dict[tuple[str, int], float]) -> Values:
    """The head after two steps, some of another length."""
    fast = {n: v.detach() for n, v in net.named_parameters() if n.startswith("head.")}
    for step in range(2):
        leaves = {name: value.requires_grad_() for name, value in fast.items()}
        grads = torch.autograd.grad(loss_by_hand(net, leaves, SUPPORT), list(leaves.values()))
        fast = {n: v.detach() - sizes.get((n, step), LR) * g for (n, v), g in zip(leaves.items(), grads, strict=True)}
    return fast


# -------------------------------------------------------------------------------------------------------------- iMAML


N_STEPS, STEP, PROX = 40, 0.15, 5.0


def optimum(net: Recogniser) -> Values:
    """The head that descends its loss and the distance to where it began, by steps until nothing moves."""
    start = {n: v.detach() for n, v in net.named_parameters() if n.startswith("head.")}
    fast = start
    for _ in range(N_STEPS):
        leaves = {name: value.detach().requires_grad_() for name, value in fast.items()}
        grads = torch.autograd.grad(loss_by_hand(net, leaves, SUPPORT), list(leaves.values()))
        slope = {n: g + PROX * (fast[n] - start[n]) for (n, g) in zip(leaves, grads, strict=True)}
        fast = {name: value - STEP * slope[name] for name, value in fast.items()}
    assert max(float(value.abs().max()) for value in slope.values()) < 1e-9
    return fast


def test_at_the_optimum_an_implicit_gradient_is_that_of_finite_differences() -> None:
    net = tiny()
    inner = Inner(("head.*",), prox=PROX, n_iterations=40)
    found = MetaLearning(net, "imaml", N_STEPS, STEP, inner).gradient([(SUPPORT, QUERY)])

    def loss() -> float:
        return float(loss_by_hand(net, optimum(net), QUERY).detach())

    assert found.loss == pytest.approx(loss(), rel=1e-9)
    for name in ("head.bias", "norm.weight"):
        places, expected = slopes(loss, dict(net.named_parameters())[name])
        assert found.values[name].flatten()[places].tolist() == pytest.approx(expected, rel=1e-4, abs=1e-7), name


# ---------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("outer", "inner", "said"),
    [
        ("maml", {"adapts": ()}, "names no value that changes"),
        ("maml", {"adapts": (), "encoding": "zero"}, r"recogniser\.condition is 0"),
        ("maml", {"adapts": ("*.bias",), "rank": 2}, "names no value that changes"),
        ("maml", {"adapts": ("*", "!tail.*")}, r"adapts names '!tail\.\*'"),
        ("reptile", {"rank": 2}, r"learning\.outer is reptile, .* choose fomaml"),
    ],
)
def test_an_inner_loop_that_changes_nothing_is_refused(outer: str, inner: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        MetaLearning(tiny(), outer, 2, LR, Inner(**inner))


@pytest.mark.parametrize("wrong", [{"anneal": (0.5, 0.2)}, {"anneal": (0.0, 1.5)}, {"rank": -1}])
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"learning\.anneal goes from .* and learning\.rank is"):
        Inner(**wrong)


def test_a_problem_says_what_moves() -> None:
    net = tiny(condition=3)
    assert set(problem_of(net, ("head.*",), 0, "none")[1]) == {"head.weight", "head.bias"}
    assert set(problem_of(net, (), 0, "zero")[1]) == {"encoding"}
    _, moving = problem_of(net, ("head.*",), 2, "support")
    assert {name: tuple(value.shape) for name, value in moving.items()} == {
        "head.weight.lora_a": (2, 8), "head.weight.lora_b": (6, 2), "encoding": (3,),
    }  # fmt: skip
