"""CTC against enumeration, tensor operations, torch's own loss, and finite differences."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from ctc_cases import B, S, T, V, close, derivatives, generator, normal, problem
from ctc_oracle import enumerated_ctc, tensor_ops_ctc
from torch import Tensor
from torch.func import grad
from torch.nn import functional

from metavox.contracts import InputError
from metavox.losses import ctc, ctc_loss, native_is_twice_differentiable


@pytest.fixture
def asks_again() -> Iterator[None]:
    """What is known of torch's own loss is forgotten before and after."""
    native_is_twice_differentiable.cache_clear()
    yield
    native_is_twice_differentiable.cache_clear()


# ------------------------------------------------------------------------------------------------ value, first, second


@pytest.mark.parametrize("target", [[], [1], [1, 2], [1, 1], [2, 2, 1]], ids=str)
def test_the_loss_and_its_oracle_count_every_alignment(target: list[int]) -> None:
    log_probs, padded = normal(5, 3), torch.tensor([target + [1] * (4 - len(target))])
    expected = enumerated_ctc(log_probs, target)
    close(ctc_loss(log_probs, padded, [5], [len(target)], reduction="none"), expected)
    close(tensor_ops_ctc(log_probs[:, None], padded, torch.tensor([5]), torch.tensor([len(target)]))[0], expected)


@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize("blank", [0, 2, V - 1])
def test_value_and_both_derivatives_are_those_of_the_recursion_in_tensor_operations(
    normalised: bool, blank: int
) -> None:
    before = (lambda x: x.log_softmax(-1)) if normalised else (lambda x: x)
    for seed in range(25):
        targets, frames, lengths = problem(seed, blank)
        logits, direction = normal(T, B, V, seed=seed), normal(T, B, V, seed=seed + 1000)
        anything = targets.masked_fill(torch.arange(S) >= lengths[:, None], -7)
        rest = frames, lengths, blank
        by_operations = partial(lambda x, y, rest: tensor_ops_ctc(before(x), y, *rest), y=targets, rest=rest)
        by_ours = partial(lambda x, y, rest: ctc_loss(before(x), y, *rest, "none"), y=anything, rest=rest)
        close(derivatives(by_ours, logits, direction), derivatives(by_operations, logits, direction))


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("normalised", [True, False])
def test_gradcheck_and_gradgradcheck(normalised: bool, reduction: str) -> None:
    targets, frames, lengths = problem(5)

    def loss(logits: Tensor) -> Tensor:
        log_probs = logits.log_softmax(-1) if normalised else logits
        return ctc_loss(log_probs, targets, frames, lengths, 0, reduction)

    logits = normal(T, B, V).requires_grad_()
    assert torch.autograd.gradcheck(loss, (logits,))
    assert torch.autograd.gradgradcheck(loss, (logits,))


def test_the_gradient_by_torch_is_the_gradient_by_forward_backward() -> None:
    targets, frames, lengths = problem(7)
    log_probs = normal(T, B, V).requires_grad_()
    losses = ctc_loss(log_probs, targets, frames, lengths, reduction="none")
    once, twice = (torch.autograd.grad(losses.sum(), log_probs, create_graph=flag)[0] for flag in (True, False))
    assert once.requires_grad
    assert not twice.requires_grad
    close(once.detach(), twice)


def test_long_and_certain_frames_neither_underflow_nor_overflow() -> None:
    targets = torch.randint(1, V, (2, 40), generator=generator(0))
    lengths, frames = torch.tensor([40, 31]), torch.tensor([300, 260])
    logits, direction = 60 * normal(300, 2, V), normal(300, 2, V, seed=1)
    expected = derivatives(lambda x: tensor_ops_ctc(x.log_softmax(-1), targets, frames, lengths), logits, direction)
    found = derivatives(
        lambda x: ctc_loss(x.log_softmax(-1), targets, frames, lengths, reduction="none"), logits, direction
    )
    assert float(expected[0].min()) > 1000
    close(found, expected, 1e-9)  # logarithms in the thousands keep 12 decimals


def test_single_precision_is_lost_in_the_input_only() -> None:
    targets, frames, lengths = problem(3)
    log_probs, direction = normal(T, B, V).log_softmax(-1).float(), normal(T, B, V, seed=1).float()
    found = derivatives(lambda x: ctc_loss(x, targets, frames, lengths, reduction="none"), log_probs, direction)
    expected = derivatives(
        lambda x: ctc_loss(x, targets, frames, lengths, reduction="none"), log_probs.double(), direction.double()
    )
    assert {part.dtype for part in found} == {torch.float32}
    close(found[0].double(), expected[0], 1e-5)
    close(found[1].double(), expected[1], 2e-7)
    close(found[2].double(), expected[2], 2e-7)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_single(half: torch.dtype) -> None:
    targets, frames, lengths = problem(3)
    log_probs = normal(T, B, V).log_softmax(-1).to(half).requires_grad_()
    loss = ctc_loss(log_probs, targets, frames, lengths)
    close(loss, ctc_loss(log_probs.float(), targets, frames, lengths))
    assert torch.autograd.grad(loss, log_probs)[0].dtype == half


def test_nothing_that_was_given_is_changed() -> None:
    targets, frames, lengths = problem(3)
    log_probs, given = normal(T, B, V), [x.clone() for x in (targets, frames, lengths)]
    derivatives(lambda x: ctc_loss(x, targets, frames, lengths), log_probs, normal(T, B, V, seed=1))
    assert torch.equal(log_probs, normal(T, B, V))
    assert all(map(torch.equal, given, (targets, frames, lengths)))


def test_a_third_derivative_is_refused() -> None:
    targets, frames, lengths = problem(3)
    log_probs = normal(T, B, V).requires_grad_()
    (first,) = torch.autograd.grad(ctc_loss(log_probs, targets, frames, lengths), log_probs, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), log_probs, create_graph=True)
    with pytest.raises(NotImplementedError, match="cannot be differentiated three times"):
        torch.autograd.grad(second.sum(), log_probs)

    def thrice(x: Tensor) -> Tensor:
        return grad(lambda y: grad(lambda z: ctc_loss(z, targets, frames, lengths))(y).square().sum())(x).sum()

    with pytest.raises(NotImplementedError, match="cannot be differentiated three times"):
        grad(thrice)(log_probs.detach())


# --------------------------------------------------------------------------------------------------- as torch's own


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("form", ["padded", "end to end", "tuples", "lists", "int32", "one item", "one item, scalars"])
def test_value_and_first_gradient_are_those_of_torch(form: str, dtype: torch.dtype, reduction: str) -> None:
    for seed in range(8):
        targets, frames, lengths = problem(seed)
        logits = normal(T, B, V, seed=seed).to(dtype)
        given: tuple[Any, Any, Any] = targets, frames, lengths
        if form.startswith("one item"):
            one = slice(0, 1) if form == "one item" else 0
            logits, given = logits[:, 0], (targets[0, : lengths[0]], frames[one], lengths[one])
        elif form == "end to end":
            given = torch.cat([row[:n] for row, n in zip(targets, lengths, strict=True)]), frames, lengths
        elif form in ("tuples", "lists"):
            kind = tuple if form == "tuples" else list
            given = targets, kind(frames.tolist()), kind(lengths.tolist())
        elif form == "int32":
            given = targets.int(), frames.int(), lengths.int()
        results = []
        for loss in (ctc_loss, functional.ctc_loss):
            at = logits.detach().requires_grad_()
            value = loss(at.log_softmax(-1), *given, 0, reduction)
            results.append((value.detach(), torch.autograd.grad(value.sum(), at)[0]))
        close(*results, 1e-12 if dtype == torch.float64 else 2e-6)


def test_one_item_may_be_padded_and_its_lengths_plain_numbers() -> None:
    log_probs, targets = normal(T, V), torch.tensor([1, 2, 2, 0])
    expected = functional.ctc_loss(log_probs, targets[:2], (7,), (2,))
    close(ctc_loss(log_probs, targets, 7, 2), expected)


# ------------------------------------------------------------------------------------------------------ odd lengths


def test_an_empty_target_asks_for_blanks_only() -> None:
    log_probs, direction = normal(T, 2, V), normal(T, 2, V, seed=1)
    for targets in (torch.zeros(2, 0, dtype=torch.long), torch.zeros(0, dtype=torch.long), torch.ones(2, 3).long()):
        value, first, second = derivatives(
            lambda x, y=targets: ctc_loss(x, y, [T, 4], [0, 0], reduction="none"), log_probs, direction
        )
        blanks = log_probs[..., 0]
        close(value, -torch.stack([blanks[:, 0].sum(), blanks[:4, 1].sum()]))
        expected = torch.zeros(T, 2, V, dtype=torch.float64)
        expected[:, 0, 0] = expected[:4, 1, 0] = -1
        close(first, expected)
        close(second, torch.zeros_like(second))


def test_padding_frames_have_no_influence_and_no_derivative() -> None:
    targets, frames, lengths = problem(4)
    padding = (torch.arange(T)[:, None] >= frames)[..., None].expand(T, B, V)
    assert bool(padding.any())
    log_probs, direction = normal(T, B, V), normal(T, B, V, seed=1)
    clean = derivatives(lambda x: ctc_loss(x, targets, frames, lengths, reduction="none"), log_probs, direction)
    for junk in (torch.nan, torch.inf, -torch.inf):
        dirty = derivatives(
            lambda x: ctc_loss(x, targets, frames, lengths, reduction="none"),
            log_probs.masked_fill(padding, junk), direction,
        )  # fmt: skip
        assert all(map(torch.equal, clean, dirty))
    assert not bool(clean[1][padding].any() | clean[2][padding].any())


IMPOSSIBLE = (
    torch.tensor([[1, 1, 1], [1, 2, 3], [2, 2, 1], [1, 0, 0]]),
    torch.tensor([4, 5, 4, 0]),
    torch.tensor([3, 3, 3, 1]),
)
"""Three equal labels need five frames; one label needs one."""
FITS = torch.tensor([False, True, True, False])


@pytest.mark.parametrize("keep_graph", [True, False])
def test_what_does_not_fit_is_infinite_and_its_derivatives_nan_but_not_those_of_others(keep_graph: bool) -> None:
    targets, frames, lengths = IMPOSSIBLE
    log_probs, direction = normal(5, B, V).log_softmax(-1), normal(5, B, V, seed=1)
    value, first, second = derivatives(
        lambda x: ctc_loss(x, targets, frames, lengths, reduction="none"), log_probs, direction
    )
    assert torch.equal(value.isinf(), ~FITS)
    if not keep_graph:
        at = log_probs.requires_grad_()
        (first,) = torch.autograd.grad(ctc_loss(at, targets, frames, lengths, reduction="sum"), at)
    valid = torch.arange(5)[:, None] < frames
    for part in (first, second):
        assert torch.equal(part.isnan().all(-1), valid & ~FITS)
        assert torch.equal(part.isnan().any(-1), valid & ~FITS)
    alone = derivatives(
        lambda x: ctc_loss(x, targets[FITS], frames[FITS], lengths[FITS], reduction="none"),
        log_probs[:, FITS], direction[:, FITS],
    )  # fmt: skip
    close((value[FITS], first[:, FITS], second[:, FITS]), alone)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_what_does_not_fit_costs_nothing_where_asked_and_has_no_derivatives(reduction: str) -> None:
    targets, frames, lengths = IMPOSSIBLE
    log_probs, direction = normal(5, B, V).log_softmax(-1), normal(5, B, V, seed=1)
    value, first, second = derivatives(
        lambda x: ctc_loss(x, targets, frames, lengths, 0, reduction, True), log_probs, direction
    )
    close(value, functional.ctc_loss(log_probs, targets, frames, lengths, 0, reduction, True))
    assert not bool(first[:, ~FITS].any() | second[:, ~FITS].any())
    assert bool(first[:, FITS].isfinite().all() & second[:, FITS].isfinite().all())
    assert bool(second[:, FITS].any())
    at = log_probs.requires_grad_()
    (native,) = torch.autograd.grad(ctc_loss(at, targets, frames, lengths, 0, reduction, True).sum(), at)
    close(native, first)


@pytest.mark.parametrize("ruled_out", [0, 3])
def test_a_symbol_that_is_ruled_out_is_as_if_it_were_not_there(ruled_out: int) -> None:
    """A target without it keeps its derivatives; without blanks only one alignment is left for S = T."""
    targets = torch.tensor([[1, 2, 1, 4]])
    frames = torch.tensor([4 if ruled_out == 0 else T])
    log_probs, direction = normal(T, 1, V), normal(T, 1, V, seed=1)
    log_probs[..., ruled_out] = -torch.inf
    value, first, second = derivatives(lambda x: ctc_loss(x, targets, frames, [4]), log_probs, direction)
    finite = log_probs.clamp_min(-1e9)
    expected = derivatives(lambda x: tensor_ops_ctc(x, targets, frames, torch.tensor([4])) / 4, finite, direction)
    close((value, first, second), (expected[0][0], *expected[1:]))
    at = log_probs.requires_grad_()
    close(torch.autograd.grad(ctc_loss(at, targets, frames, [4]), at)[0], first)


# ------------------------------------------------------------------------------------------------------ torch's own


def as_torch(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A loss (B,) in the place of torch's own."""

    def own(
        log_probs: Tensor, targets: Tensor, frames: Tensor, lengths: Tensor,
        blank: int = 0, reduction: str = "mean", zero_infinity: bool = False,
    ) -> Tensor:  # fmt: skip
        losses = loss(log_probs, targets, frames, lengths, blank)
        return losses if reduction == "none" else losses.sum()

    return own


@pytest.mark.usefixtures("asks_again")
def test_torch_is_asked_once_and_not_used_while_it_lacks_the_second_derivative(monkeypatch: Any) -> None:
    asked = []
    monkeypatch.setattr(functional, "ctc_loss", lambda *a, torch_own=functional.ctc_loss, **k: (
        asked.append(1), torch_own(*a, **k))[1])  # fmt: skip
    targets, frames, lengths = problem(2)
    for _ in range(3):
        ctc_loss(normal(T, B, V), targets, frames, lengths)
    assert asked == [1]


@pytest.mark.usefixtures("asks_again")
@pytest.mark.parametrize("one_item", [True, False])
def test_torch_is_used_once_it_has_the_same_derivatives(monkeypatch: Any, one_item: bool) -> None:
    targets, frames, lengths = problem(2)
    args = (
        (normal(T, V), targets[0], frames[0], lengths[0]) if one_item else (normal(T, B, V), targets, frames, lengths)
    )
    expected = [ctc_loss(*args, reduction=reduction) for reduction in ("none", "mean", "sum")]
    native_is_twice_differentiable.cache_clear()
    monkeypatch.setattr(functional, "ctc_loss", as_torch(tensor_ops_ctc))
    assert native_is_twice_differentiable()
    monkeypatch.setattr(ctc, "_losses", None)
    close([ctc_loss(*args, reduction=reduction) for reduction in ("none", "mean", "sum")], expected)
    with pytest.raises(InputError, match="The input length of item 0 is 10"):
        ctc_loss(normal(T, V), torch.tensor([1]), 10, 1)


@pytest.mark.usefixtures("asks_again")
def test_torch_is_not_used_while_its_derivatives_differ(monkeypatch: Any) -> None:
    through_softmax = as_torch(lambda x, *rest: tensor_ops_ctc(x.log_softmax(-1), *rest))
    monkeypatch.setattr(functional, "ctc_loss", through_softmax)
    assert not native_is_twice_differentiable()


# -------------------------------------------------------------------------------------------------------- bad input

GOOD = (torch.zeros(T, 2, V), torch.tensor([[1, 2], [3, 0]]), torch.tensor([T, 5]), torch.tensor([2, 1]))


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"reduction": "average"}, "The reduction 'average' is not known; use none, mean or sum."),
        ({0: torch.zeros(T, 2, V, dtype=torch.long)}, "Log-probabilities are torch.int64, not real numbers"),
        ({0: torch.zeros(V)}, "neither (T, B, V) nor (T, V)"),
        ({0: torch.zeros(0, 2, V)}, "are empty; give at least one frame"),
        ({"blank": V}, "The blank is 5, but symbols go from 0 to 4"),
        ({"blank": -1}, "The blank is -1"),
        ({1: torch.tensor([[1.0, 2.0], [3.0, 0.0]])}, "Targets are torch.float32"),
        ({1: torch.tensor([[1, 2]])}, "Targets of shape (1, 2) do not belong to 2 items"),
        ({1: torch.tensor([1, 2, 3, 4])}, "Target lengths add up to 3, but 4 symbols came end to end"),
        ({1: torch.tensor([[1, 0], [3, 0]])}, "Symbol 1 of target 0 is 0, but must be 0 to 4 and not the blank 0"),
        ({1: torch.tensor([[1, 2], [V, 0]])}, "Symbol 0 of target 1 is 5"),
        ({1: torch.tensor([[-1, 2], [1, 0]])}, "Symbol 0 of target 0 is -1"),
        ({2: torch.tensor([T, T + 1])}, "The input length of item 1 is 10, not 0 to 9"),
        ({2: [T, -1]}, "The input length of item 1 is -1"),
        ({3: (3, 1)}, "The target length of item 0 is 3, not 0 to 2"),
        ({3: torch.tensor([2])}, "target_lengths has shape (1,), but there are 2 items"),
        ({2: torch.tensor([1.0, 2.0])}, "input_lengths is torch.float32, but a length is a whole number"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_bad_input_is_named_in_one_sentence(changed: dict[Any, Any], sentence: str) -> None:
    args = [changed.get(i, value) for i, value in enumerate(GOOD)]
    options = {name: value for name, value in changed.items() if isinstance(name, str)}
    ctc_loss(*GOOD)
    with pytest.raises(InputError) as caught:
        ctc_loss(*args, **options)
    assert sentence in str(caught.value)
    assert str(caught.value).endswith(".")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_what_the_processor_gives() -> None:
    targets, frames, lengths = problem(6)
    log_probs, direction = normal(T, B, V), normal(T, B, V, seed=1)
    expected = derivatives(lambda x: ctc_loss(x, targets, frames, lengths), log_probs, direction)
    for to in ("cpu", "cuda"):  # lengths and targets may stay behind
        args = targets.to(to), frames.to(to), lengths.to(to)
        found = derivatives(lambda x, args=args: ctc_loss(x, *args), log_probs.cuda(), direction.cuda())
        close([part.cpu() for part in found], list(expected))
        at = log_probs.cuda().requires_grad_()
        close(torch.autograd.grad(ctc_loss(at, *args), at)[0].cpu(), expected[1])
