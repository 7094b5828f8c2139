"""Heads on frozen vectors against scikit-learn and against what is written by hand."""

from typing import Any

import numpy as np
import pytest
import torch
from test_gradient import SmoothEncoder, batch, episode
from torch.nn import functional

from metavox.contracts import InputError
from metavox.learners.classifier import JointClassifier, clip_vectors
from metavox.learners.frozen import LinearProbe, SimpleShot, logistic_regression
from metavox.learners.gradient import GradientLearner
from metavox.learners.outer import joint
from metavox.tasks import Commands


def points(counts: list[int], size: int = 20, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit vectors around one direction a class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.tensor([label for label, n in enumerate(counts) for _ in range(n)])
    centres = torch.randn(len(counts), size, generator=generator, dtype=torch.float64)
    noise = torch.randn(len(labels), size, generator=generator, dtype=torch.float64)
    return functional.normalize(centres[labels] + noise, dim=-1), labels


# ------------------------------------------------------------------------------------------------------ linear probe


@pytest.mark.parametrize("l2", [10.0, 1.0, 0.1, 1e-3])
@pytest.mark.parametrize("counts", [[5, 5, 5, 5], [1, 1, 1], [7, 1, 3], [40, 2]])
def test_the_regression_is_that_of_scikit_learn(counts: list[int], l2: float) -> None:
    from sklearn.linear_model import LogisticRegression

    vectors, labels = points(counts)
    weight, bias = logistic_regression(vectors, labels, len(counts), l2)
    # For two classes it fits one weight in place of two, w1 - w0, whose penalty is then half as large.
    c = (2 if len(counts) == 2 else 1) / l2
    oracle = LogisticRegression(C=c, class_weight="balanced", solver="newton-cg", tol=1e-10, max_iter=10_000)
    oracle.fit(vectors.numpy(), labels.numpy())
    new, _ = points([20] * len(counts), seed=1)
    ours = functional.softmax(functional.linear(new, weight, bias), -1).numpy()
    np.testing.assert_allclose(ours, oracle.predict_proba(new.numpy()), atol=2e-6)
    ours = weight.numpy() if len(counts) > 2 else (weight[1:] - weight[:1]).numpy()
    np.testing.assert_allclose(ours, oracle.coef_, atol=1e-4 * (1 + np.abs(ours).max()))


@pytest.mark.parametrize("l2", [1.0, 1e-3])
def test_no_slope_is_left_at_the_optimum(l2: float) -> None:
    """By hand: the slope of the sum of losses in the weights is (p - y) x, each class counting alike."""
    vectors, labels = points([4, 1, 2])
    weight, bias = logistic_regression(vectors, labels, 3, l2)
    p = functional.softmax(functional.linear(vectors, weight, bias), -1)
    per_take = 7 / (3 * torch.tensor([4.0, 1.0, 2.0], dtype=torch.float64))[labels]
    off = per_take[:, None] * (p - functional.one_hot(labels, 3))
    assert float((off.T @ vectors + l2 * weight).abs().max()) < 1e-7
    assert float(off.sum(0).abs().max()) < 1e-7
    assert float(bias.sum()) == pytest.approx(0, abs=1e-9)  # of all equal optima the one in the middle


def test_single_precision_is_only_that_of_the_result() -> None:
    vectors, labels = points([3, 3])
    exact = logistic_regression(vectors.float().double(), labels, 2, 1.0)
    single = logistic_regression(vectors.float(), labels, 2, 1.0)
    for one, other in zip(exact, single, strict=True):
        assert other.dtype == torch.float32
        assert torch.equal(one.float(), other)


def test_a_probe_is_the_regression_on_unit_vectors() -> None:
    learner = LinearProbe(SmoothEncoder(), l2=0.3).double()
    learner.log_scale.data += 1  # the learned length has no part in it
    support, query = episode().support, episode().query
    unit = functional.normalize(clip_vectors(learner.encoder, support), dim=-1).detach()
    weight, bias = logistic_regression(unit, support.labels, 3, 0.3)
    with torch.no_grad():
        expected = functional.normalize(clip_vectors(learner.encoder, query), dim=-1) @ weight.T + bias
        torch.testing.assert_close(learner.predict(learner.adapt(support), query).scores, expected)


def test_a_weaker_penalty_is_surer_of_its_takes() -> None:
    learner: Any = LinearProbe(SmoothEncoder()).double()
    support, own = episode().support, []
    for learner.l2 in (10.0, 1.0, 0.1, 0.01):
        with torch.no_grad():
            chances = learner.predict(learner.adapt(support), support).scores.softmax(-1)
        own.append(float(chances.gather(1, support.labels[:, None]).mean()))
    assert own == sorted(own)
    assert own[-1] > own[0] + 0.2


# --------------------------------------------------------------------------------------------------------- SimpleShot


def shot(centring: str, mean: float | None = None) -> SimpleShot:
    learner = SimpleShot(SmoothEncoder(), centring, n_base_classes=5).double()
    if mean is not None:
        generator = torch.Generator().manual_seed(3)
        learner.base_mean += mean * torch.randn(learner.base_mean.shape, generator=generator, dtype=torch.float64)
    return learner


def by_hand(learner: SimpleShot, centring: str) -> np.ndarray:
    """Loops of numpy over the vectors of support and query."""
    with torch.no_grad():
        support, query = (clip_vectors(learner.encoder, part).numpy() for part in (episode().support, episode().query))
    labels, mean = episode().support.labels.numpy(), learner.base_mean.numpy()
    changed = {
        "none": lambda x: x,
        "l2n": lambda x: x / np.sqrt((x**2).sum()),
        "cl2n": lambda x: (x - mean) / np.sqrt(((x - mean) ** 2).sum()),
    }[centring]
    centres = [np.mean([changed(x) for x in support[labels == label]], 0) for label in range(3)]
    return np.asarray([[-((changed(x) - centre) ** 2).sum() for centre in centres] for x in query])


@pytest.mark.parametrize("centring", ["none", "l2n", "cl2n"])
def test_simpleshot_is_the_nearest_mean_written_by_hand(centring: str) -> None:
    learner = shot(centring, mean=0.3)
    with torch.no_grad():
        scores = learner.predict(learner.adapt(episode().support), episode().query).scores
    np.testing.assert_allclose(scores.numpy(), by_hand(learner, centring), atol=1e-12)


def test_the_three_ways_differ_where_there_is_a_mean_and_two_agree_where_there_is_none() -> None:
    assert not np.allclose(by_hand(shot("l2n", 0.3), "l2n"), by_hand(shot("none", 0.3), "none"), atol=1e-3)
    assert not np.allclose(by_hand(shot("l2n", 0.3), "l2n"), by_hand(shot("cl2n", 0.3), "cl2n"), atol=1e-3)
    with torch.no_grad():
        plain, centred = (shot(c).adapt(episode().support)["head.weight"] for c in ("l2n", "cl2n"))
    assert torch.equal(plain, centred)


class Moved(SmoothEncoder):
    """The same frames, larger and elsewhere."""

    by: float = 0.0
    times: float = 1.0

    def forward(self, inputs: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return self.times * super().forward(inputs, lengths) + self.by


@pytest.mark.parametrize(("centring", "by", "times"), [("cl2n", 0.7, 3.0), ("l2n", 0.0, 3.0), ("none", 0.7, 1.0)])
def test_what_a_transformation_takes_out_changes_no_score(centring: str, by: float, times: float) -> None:
    """CL2N knows neither where the vectors lie nor how long they are, L2N not how long, no transformation not where."""

    def scores(by: float, times: float) -> torch.Tensor:
        encoder = Moved()
        learner = SimpleShot(encoder, centring, n_base_classes=5).double()
        encoder.by, encoder.times = by, times
        learner.train()
        for i in range(4):
            learner.classify(batch([0, 1, 2, 3], 4, i))
        with torch.no_grad():
            return learner.predict(learner.adapt(episode().support), episode().query).scores

    torch.testing.assert_close(scores(by, times), scores(0.0, 1.0), rtol=0, atol=1e-6)


def test_centring_without_base_classes_is_refused() -> None:
    with pytest.raises(InputError, match=r"learner\.centring is cl2n.*set learner\.centring=l2n\.$"):
        SimpleShot(SmoothEncoder())
    SimpleShot(SmoothEncoder(), "l2n")


# ----------------------------------------------------------------------------------------------------- joint training


def test_every_learner_of_joint_training_learns_the_same() -> None:
    """One training serves them all, since their training is one: same gradient, same mean of training."""
    learners: list[JointClassifier] = []
    for build in (GradientLearner, LinearProbe, SimpleShot):
        learner = build(SmoothEncoder(), n_base_classes=5).double().train()
        learner.base_head.load_state_dict(learners[0].base_head.state_dict() if learners else {}, strict=bool(learners))
        learners.append(learner)
    first, *others = [joint(learner, Commands(), [episode()]).values for learner in learners]
    for other in others:
        assert all(torch.equal(first[name], other[name]) for name in first)
    assert all(torch.equal(learner.base_mean, learners[0].base_mean) for learner in learners)
