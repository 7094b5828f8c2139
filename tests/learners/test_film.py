"""Class means of an encoder that hears its task: where training starts, and that the context does what it says."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from metavox.checkpoint import build
from metavox.config import EncoderConfig, LearnerConfig, ModelConfig
from metavox.contracts import Batch, FrontEnd, InputError
from metavox.nets.heads import prototype_head, segment_means


def learner_of(learner: str = "film", **encoder: Any) -> Any:
    config = ModelConfig(
        front_end=FrontEnd(n_mels=16, n_frames=None),
        encoder=EncoderConfig(**{"channels": 8, "dim": 4, "blocks": 2, **encoder}),
        learner=LearnerConfig(name=learner, width=6),
    )
    return build(config, seed=2)


def batch(labels: list[int], seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(len(labels), 14, 16, generator=generator)
    lengths = torch.randint(5, 15, (len(labels),), generator=generator)
    return Batch(inputs, lengths, torch.tensor(labels), 3)


SUPPORT, QUERY = batch([0, 0, 1, 2, 2, 2]), batch([0, 1, 2], 1)


def told(learner: Any) -> Any:
    """The same learner, whose last layer has learned to say something."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        learner.set_encoder.tell.weight.normal_(generator=generator)
    return learner


@torch.no_grad()
def test_before_training_it_is_the_prototypes_of_the_same_encoder() -> None:
    learner, plain = learner_of(), learner_of("protonet", condition=32, cepstra=0.5)
    plain.load_state_dict(learner.state_dict(), strict=False)
    assert not bool(learner.adapt(SUPPORT)["context"].any())
    scores = [model.predict(model.adapt(SUPPORT), QUERY).scores for model in (learner, plain)]
    torch.testing.assert_close(*scores)


@torch.no_grad()
def test_takes_and_queries_are_heard_under_the_context_of_the_support_set() -> None:
    learner = told(learner_of())
    state = learner.adapt(SUPPORT)
    context = state["context"]
    assert context.shape == (32,)

    def vectors(part: Batch, heard: Tensor) -> Tensor:
        frames = learner.encoder(part.inputs, part.lengths, heard)
        return segment_means(frames, learner.encoder.out_lengths(part.lengths), 8)

    torch.testing.assert_close(state["takes"], vectors(SUPPORT, context))
    assert not torch.allclose(state["takes"], vectors(SUPPORT, torch.zeros(32)), atol=1e-2)
    weight, bias = prototype_head(state["takes"], SUPPORT.labels, 3)
    query = vectors(QUERY, context)
    distances = query.square().sum(1, keepdim=True) - functional.linear(query, weight, bias)
    expected = -learner.log_scale.exp() * distances / 8
    torch.testing.assert_close(learner.predict(state, QUERY).scores, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_context_is_of_the_task_whatever_the_order_and_another_for_another_task() -> None:
    learner = told(learner_of())
    order = torch.tensor([3, 0, 5, 2, 1, 4])
    renamed = torch.tensor([2, 0, 1])[SUPPORT.labels]
    contexts = [
        learner.adapt(task)["context"]
        for task in (
            SUPPORT,
            Batch(SUPPORT.inputs[order], SUPPORT.lengths[order], renamed[order], 3),
            Batch(SUPPORT.inputs, SUPPORT.lengths, torch.tensor([0, 1, 1, 2, 2, 2]), 3),
            batch([0, 0, 1, 2, 2, 2], 5),
        )
    ]
    torch.testing.assert_close(contexts[0], contexts[1])
    for other in contexts[2:]:  # other labels, which are heard too, and other takes
        assert not torch.allclose(contexts[0], other, atol=1e-4)


def test_the_encoder_gets_a_context_unless_another_size_is_asked_for() -> None:
    assert learner_of().encoder.condition == 32
    assert learner_of(condition=5).adapt(SUPPORT)["context"].shape == (5,)


@pytest.mark.parametrize("name", ["mfcc", "logmel", "fc"])
def test_an_encoder_that_hears_no_context_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"film, which needs .* condition, .* set encoder\.name to conv or crnn\.$"):
        learner_of(**{"name": name})
