"""Linear and fully connected bodies, against loops over frames."""

from typing import Any

import pytest
import torch
from torch.nn import functional

from metavox.checkpoint import build
from metavox.config import EncoderConfig, ModelConfig
from metavox.contracts import InputError
from metavox.nets.dense import stacked


def body_of(**values: Any) -> Any:
    return build(ModelConfig(encoder=EncoderConfig(**values)), seed=1).encoder.body.double()


def window() -> torch.Tensor:
    return torch.randn(2, 9, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("context", "stride"), [(1, 1), (3, 1), (5, 2), (21, 4)])
def test_stacking_puts_a_frame_between_its_neighbours_and_zeros_beyond_the_ends(context: int, stride: int) -> None:
    x = window()
    got = stacked(x, context, stride)
    assert got.shape == (2, (9 + stride - 1) // stride, context * 40)
    for t in range(got.shape[1]):
        frames = got[:, t].reshape(2, context, 40)
        for c in range(context):
            at = t * stride + c - context // 2
            assert torch.equal(frames[:, c], x[:, at] if 0 <= at < 9 else torch.zeros(2, 40).double())


def test_the_linear_body_is_linear() -> None:
    body, x, y = body_of(name="linear"), window(), window().flip(0)
    zero = body(torch.zeros_like(x), None)
    together = body(2 * x + 3 * y, None) - zero
    torch.testing.assert_close(together, 2 * (body(x, None) - zero) + 3 * (body(y, None) - zero))
    assert sum(value.numel() for value in body.parameters()) == 11 * 40 * 32 + 32


def test_the_perceptron_is_its_layers_one_after_the_other() -> None:
    body, x = body_of(name="fc", channels=10, blocks=2, dim=4, context=3, halvings=0), window()
    with torch.no_grad():
        for norm in body.norms:
            norm.weight.mul_(1.7)
            norm.bias.add_(0.3)
    hidden = stacked(x, 3, 1)
    for layer, norm in zip(body.hidden, body.norms, strict=True):
        hidden = hidden @ layer.weight.T
        centred = hidden - hidden.mean(-1, keepdim=True)
        hidden = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * norm.weight + norm.bias
        hidden = hidden.clamp_min(0)
    torch.testing.assert_close(body(x, None), functional.linear(hidden, body.project.weight, body.project.bias))
    assert len(body.hidden) == 2


@pytest.mark.parametrize("name", ["linear", "fc", "sparse"])
@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"context": 4}, r"^encoder\.context is 4; it must be odd.*\.$"),
        ({"context": 1, "halvings": 1}, r"^encoder\.context is 1 and encoder\.halvings is 1; .*context to 3 or.*\.$"),
        (
            {"context": 15, "halvings": 4},
            r"^encoder\.context is 15 and encoder\.halvings is 4; .*context to 17 or.*\.$",
        ),
    ],
)
def test_a_context_that_cannot_be_is_refused_in_a_sentence(name: str, values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        body_of(name=name, **values)
