"""Convolutional bodies: what they refuse, and the recurrent layer against one window at a time."""

from typing import Any

import pytest
import torch

from metavox.checkpoint import build
from metavox.config import EncoderConfig, ModelConfig
from metavox.contracts import InputError


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"kernel": 4}, r"^encoder\.kernel is 4; it must be odd.*\.$"),
        (
            {"halvings": 3, "blocks": 2},
            r"^encoder\.halvings is 3 and encoder\.blocks is 2; .* lower encoder\.halvings\.$",
        ),
        ({"name": "crnn", "channels": 15}, r"^encoder\.channels is 15; it must be even for crnn.*\.$"),
        ({"name": "crnn", "kernel": 2}, r"^encoder\.kernel is 2; it must be odd.*\.$"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_a_sentence(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        build(ModelConfig(encoder=EncoderConfig(**values)))


@torch.no_grad()
def test_the_recurrent_layer_reads_a_window_from_both_of_its_own_ends() -> None:
    """The body's last frame hears the first, and the first hears the last, never what is behind it."""
    config = EncoderConfig(name="crnn", channels=16, blocks=1, dim=8, kernel=1, halvings=0)
    body: Any = build(ModelConfig(encoder=config), seed=1).encoder.body
    x = torch.randn(2, 12, 40, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1.0] * 12, [1.0] * 7 + [0.0] * 5])
    frames = body(x * mask[:, :, None], mask)
    hidden, _ = body.hidden(x[1:, :7], None)
    forward = torch.zeros(1, 8)
    cell = torch.nn.GRUCell(16, 8)
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    heard: list[list[torch.Tensor]] = []
    for ending, order in (("", range(7)), ("_reverse", reversed(range(7)))):
        cell.load_state_dict({name: getattr(body.recurrent, f"{name}_l0{ending}") for name in names})
        state, states = forward, [forward] * 7
        for t in order:
            states[t] = state = cell(hidden[:, t], state)
        heard.append(states)
    both = torch.stack([torch.cat([heard[0][t], heard[1][t]], -1)[0] for t in range(7)])
    torch.testing.assert_close(frames[1, :7], body.project(both), rtol=1e-4, atol=1e-5)
