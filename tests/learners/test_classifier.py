"""The vector of a clip, and the mean of training that follows while a learner of joint training learns."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from test_gradient import SmoothEncoder, batch, episode
from torch import Tensor

from metavox.config import EncoderConfig
from metavox.contracts import Batch, FrontEnd
from metavox.learners.classifier import N_AVERAGED, N_SEGMENTS, JointClassifier, clip_vectors
from metavox.learners.outer import joint
from metavox.learners.sides import joined
from metavox.nets.convolutional import ConvBody
from metavox.nets.encoders import FusedEncoder
from metavox.tasks import Commands


def classifier(n_base_classes: int = 5) -> JointClassifier:
    return JointClassifier(SmoothEncoder(), n_base_classes).double()


def means_of(learner: JointClassifier, n: int) -> Tensor:
    """Mean vectors of the clips of each of ``n`` episodes that are heard for it: the first, and one more after 8."""
    with torch.no_grad():
        return torch.stack([clip_vectors(learner.encoder, joined(episode(i)))[[0, 8]].mean(0) for i in range(n)])


def test_the_vector_of_a_clip_is_the_means_of_its_stretches() -> None:
    clips, learner = batch([0, 1, 2], 3, 0), classifier()
    vectors = clip_vectors(learner.encoder, clips).detach().numpy()
    for i, length in enumerate(clips.lengths.tolist()):
        frames = learner.encoder(clips.inputs[i : i + 1], clips.lengths[i : i + 1])[0, :length].detach().numpy()
        fine = np.repeat(frames, N_SEGMENTS, 0)  # every frame is as many pieces as there are stretches
        means = fine.reshape(N_SEGMENTS, length, -1).mean(1)
        np.testing.assert_allclose(vectors[i], means.ravel(), atol=1e-6)


def test_values_take_the_place_of_the_weights_that_they_name() -> None:
    clips, learner = batch([0, 1, 2], 3, 0), classifier()
    values = {"bias": learner.encoder.bias.detach() + 1}
    replaced = clip_vectors(learner.encoder, clips, values)
    learner.encoder.bias.data += 1
    assert torch.equal(replaced, clip_vectors(learner.encoder, clips))


def test_the_mean_of_training_is_that_of_the_clips_it_heard() -> None:
    learner = classifier().train()
    for i in range(7):
        joint(learner, Commands(), [episode(i)])
    assert int(learner.n_averaged) == 7
    torch.testing.assert_close(learner.base_mean, means_of(learner, 7).mean(0), rtol=0, atol=1e-12)


def test_the_mean_of_training_is_one_of_what_is_heard_in_use() -> None:
    """Cepstra may weigh less in training; what is subtracted in use is the mean of what is heard there."""
    front_end = FrontEnd(n_mels=16, n_frames=None)
    encoder = FusedEncoder(ConvBody, EncoderConfig(channels=8, dim=4, blocks=2, cepstra_in_training=0.5), front_end)
    learner = JointClassifier(encoder, 5).train()
    generator = torch.Generator().manual_seed(1)
    clips = Batch(torch.randn(40, 12, 16, generator=generator), torch.full((40,), 12), torch.arange(40) % 5, 5)
    learner.classify(clips)
    assert encoder.training
    with torch.no_grad():
        left = clip_vectors(encoder.eval(), clips)[::8].mean(0) - learner.base_mean
    assert float(left.norm() / learner.base_mean.norm()) < 1e-6


def test_the_mean_of_training_forgets_what_an_earlier_encoder_said() -> None:
    learner = classifier().train()
    learner.encoder.bias.data += 2
    for i in range(N_AVERAGED):
        learner.classify(joined(episode(i % 5)))
    far = learner.base_mean.clone()
    learner.encoder.bias.data -= 2
    mean = means_of(learner, 5).mean(0)
    for i in range(3 * N_AVERAGED):
        learner.classify(joined(episode(i % 5)))
    assert float((learner.base_mean - mean).norm() / (far - mean).norm()) == pytest.approx(np.exp(-3), rel=0.1)


def test_the_mean_of_training_moves_in_training_only_and_moves_no_gradient() -> None:
    still = classifier().eval()
    moving = deepcopy(still).train()
    for _ in range(2):
        one, other = (joint(learner, Commands(), [episode(3)]) for learner in (still, moving))
        assert all(torch.equal(one.values[name], other.values[name]) for name in one.values)
    assert int(still.n_averaged) == 0
    assert not bool(still.base_mean.any())
    assert bool(moving.base_mean.any())


def test_a_step_that_is_not_finite_does_not_spoil_the_mean() -> None:
    learner = classifier().train()
    learner.classify(joined(episode(0)))
    before = learner.base_mean.clone()
    clips = joined(episode(1))
    clips.inputs[0, 0, 0] = torch.nan
    learner.classify(clips)
    assert torch.equal(learner.base_mean, before)
    assert int(learner.n_averaged) == 1


def test_without_base_classes_there_is_nothing_to_average_and_nothing_to_save_of_it() -> None:
    assert not list(classifier(0).buffers())
    with pytest.raises(ValueError, match="without base classes"):
        classifier(0).train().classify(joined(episode()))
