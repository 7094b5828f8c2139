"""The conformer's parts against torch's own attention and against closed forms."""

from typing import Any

import pytest
import torch
from torch.nn import functional

from metavox.checkpoint import build
from metavox.config import EncoderConfig, ModelConfig
from metavox.contracts import InputError
from metavox.nets.conformer import ConformerBlock, SelfAttention, rotated


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def seeded(module: Any) -> Any:
    """Every value of a module drawn anew, in float64."""
    module = module.double()
    with torch.no_grad():
        for i, parameter in enumerate(module.parameters()):
            drawn = torch.randn(parameter.shape, dtype=torch.float64, generator=generator(i))
            parameter.copy_(drawn / parameter.shape[-1] ** 0.5)
    return module


def test_products_of_rotated_values_tell_the_distance_in_time_and_keep_lengths() -> None:
    query, key = torch.randn(2, 6, dtype=torch.float64, generator=generator())
    at_all_times = rotated(query.expand(12, 6)) @ rotated(key.expand(12, 6)).T
    for distance in range(-5, 6):
        diagonal = at_all_times.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal))
    assert float(at_all_times[0].std()) > 0.01
    torch.testing.assert_close(rotated(query.expand(12, 6)).norm(dim=-1), query.norm().expand(12))


def test_one_pair_turns_by_one_radian_a_frame() -> None:
    turned = rotated(torch.tensor([1.0, 0.0]).double().expand(4, 2))
    angle = torch.arange(4).double()
    torch.testing.assert_close(turned, torch.stack([angle.cos(), angle.sin()], -1))


@pytest.mark.parametrize("lengths", [[9, 9], [9, 4]])
def test_attention_is_that_of_torch(lengths: list[int]) -> None:
    layer = seeded(SelfAttention(12, 3))
    x = torch.randn(2, 9, 12, dtype=torch.float64, generator=generator(9))
    mask = (torch.arange(9) < torch.tensor(lengths)[:, None]).double()
    query, key, value = functional.linear(layer.norm(x), layer.to_all.weight).chunk(3, -1)
    query, key, value = (part.reshape(2, 9, 3, 4).transpose(1, 2) for part in (query, key, value))
    heard = functional.scaled_dot_product_attention(
        rotated(query), rotated(key), value, attn_mask=mask[:, None, None, :].bool()
    )
    expected = layer.out(heard.transpose(1, 2).reshape(2, 9, 12))
    torch.testing.assert_close(layer(x, mask if min(lengths) < 9 else None), expected)


def test_a_block_adds_half_steps_attention_and_convolution_in_their_order() -> None:
    block = seeded(ConformerBlock(8, 2, 3))
    x = torch.randn(1, 7, 8, dtype=torch.float64, generator=generator(9))

    def norm(layer: Any, value: torch.Tensor) -> torch.Tensor:
        return functional.layer_norm(value, (8,), layer.weight, layer.bias)

    def half_step(part: Any, value: torch.Tensor) -> torch.Tensor:
        hidden = functional.linear(norm(part[0], value), part[1].weight, part[1].bias)
        return value + 0.5 * functional.linear(hidden * hidden.sigmoid(), part[3].weight, part[3].bias)

    expected = half_step(block.first, x)
    expected = expected + block.attention(expected, None)
    module = block.convolution
    left, right = functional.linear(norm(module.norm, expected), module.gated.weight, module.gated.bias).chunk(2, -1)
    gated = functional.pad(left * right.sigmoid(), (0, 0, 1, 1))
    kernel = module.depthwise.weight[:, 0]  # (8, 3)
    filtered = sum(gated[:, i : i + 7] * kernel[:, i] for i in range(3))
    filtered = norm(module.depthwise_norm, filtered)  # type: ignore[arg-type]
    expected = expected + functional.linear(filtered * filtered.sigmoid(), module.out.weight, module.out.bias)
    expected = norm(block.norm, half_step(block.second, expected))
    torch.testing.assert_close(block(x, None), expected)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"channels": 30}, r"^encoder\.channels is 30 and encoder\.heads is 4; .* a multiple of 8\.$"),
        ({"channels": 12, "heads": 4}, r"^encoder\.channels is 12 and encoder\.heads is 4; .* a multiple of 8\.$"),
        ({"kernel": 6}, r"^encoder\.kernel is 6; it must be odd.*\.$"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_a_sentence(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        build(ModelConfig(encoder=EncoderConfig(name="conformer", **values)))
