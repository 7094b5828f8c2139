"""The Keras learner of the lesson is that of Metavox: scores, gradients, trained weights, and what it promises."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch
from keras_lesson import lesson

pytestmark = pytest.mark.synth
this = lesson()
import keras  # noqa: E402  only after a backend was chosen
from keras import ops  # noqa: E402


def scores_of(model: object, *, n_way: int = 5, k_shot: int = 3, **changed: np.ndarray) -> np.ndarray:
    """Scores of a task, some of what the model is given changed."""
    task = this.episode(3, n_way, k_shot)
    windows, lengths, labels = this.as_support(task.support)
    support = (windows, lengths, changed.get("labels", labels))
    query = (changed.get("query", task.query.inputs.numpy()), task.query.lengths.numpy())
    return ops.convert_to_numpy(model(support, query, n_classes=n_way + ("labels" in changed)))


@pytest.fixture(scope="module")
def model() -> object:
    return this.like(this.metavox_learner(filled=0.1))


# --------------------------------------------------------------------------------------------------------- in step


def test_scores_gradients_and_weights_after_ten_steps_are_those_of_metavox() -> None:
    assert max(this.compared("float64").values()) <= 1e-5
    assert keras.config.floatx() == "float32"


def test_in_32_bits_scores_and_gradients_are(monkeypatch) -> None:
    found = this.compared("float32", n_steps=1)
    assert max(found["scores"], found["gradients"]) < 1e-4


@pytest.mark.slow
def test_on_the_other_backend_too() -> None:
    other = {"torch": "tensorflow", "tensorflow": "torch"}[keras.backend.backend()]
    if find_spec(other) is None:
        pytest.skip(f"{other} is not installed; make lessons installs it")
    assert max(this.on_backend(other)["64 bits"].values()) <= 1e-5


def test_the_comparison_sees_the_adam_of_keras() -> None:
    assert this.compared("float64", keras.optimizers.Adam)["weights"] > 1e-4


@pytest.mark.parametrize("what", ["stretches", "normalised"])
def test_the_comparison_sees_padding_that_counts(what, monkeypatch) -> None:
    right = getattr(this, what)

    def blind(x: object, known: object) -> object:
        return right(x, known * 0 + (x.shape[1] if what == "stretches" else 1))

    monkeypatch.setattr(this, what, blind)
    assert this.compared("float64", n_steps=1)["scores"] > 1e-3


def test_every_weight_has_a_gradient_to_be_compared() -> None:
    learner = this.metavox_learner(torch.float64, filled=0.1)
    task = this.episode(0)
    task = this.Episode(*(this.in_dtype(side, torch.float64) for side in (task.support, task.query)), task.draw)
    slopes = this.query_loss(learner, this.Commands(), [task]).values
    assert min(float(slope.abs().max()) for slope in slopes.values()) > 1e-4


@pytest.mark.parametrize("eps", [1e-8, 1e-2])
def test_adam_is_that_of_pytorch_and_that_of_keras_is_not(eps) -> None:
    rng = np.random.default_rng(0)
    slopes = 1e-8 * rng.normal(size=(10, 4)) if eps < 1e-4 else rng.normal(size=(10, 4))
    ends = []
    with this.in_bits("float64"):
        for kind in (this.Adam, keras.optimizers.Adam):
            variable = keras.Variable(np.ones(4), dtype="float64")
            adam = kind(1e-3, epsilon=eps)
            for slope in slopes:
                adam.apply([ops.convert_to_tensor(slope)], [variable])
            ends.append(ops.convert_to_numpy(variable.value))
    value = torch.ones(4, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([value], lr=1e-3, eps=eps)
    for slope in slopes:
        value.grad = torch.from_numpy(slope)
        adam.step()
    gaps = [np.abs(end - value.detach().numpy()).max() for end in ends]
    assert gaps[0] < 1e-12
    assert gaps[1] > 1e-5


# --------------------------------------------------------------------------------------------------- what it promises


def test_relabelling_permutes_the_scores(model) -> None:
    order = np.array([3, 0, 4, 1, 2, 5])
    labels = this.episode(3).support.labels.numpy()
    scores = scores_of(model, labels=labels)
    permuted = scores_of(model, labels=order[labels])
    assert np.allclose(permuted[:, order[:5]], scores[:, :5], atol=1e-4)
    assert not np.allclose(permuted[:, :5], scores[:, :5], atol=1e-2)


def test_a_class_without_a_take_is_never_the_answer(model) -> None:
    scores = scores_of(model, labels=this.episode(3).support.labels.numpy())
    assert scores.shape[1] == 6
    assert np.isneginf(scores[:, 5]).all()
    assert np.isfinite(scores[:, :5]).all()


def test_what_stands_in_the_padding_changes_nothing(model) -> None:
    windows = this.episode(3).query.inputs.numpy()
    longer = np.pad(windows, ((0, 0), (0, 31), (0, 0)), constant_values=9.0)
    assert np.allclose(scores_of(model, query=longer), scores_of(model), atol=1e-4)


@pytest.mark.parametrize(("n_way", "k_shot"), [(2, 1), (5, 3), (9, 4)])
def test_any_number_of_classes_and_takes(n_way, k_shot, model) -> None:
    assert scores_of(model, n_way=n_way, k_shot=k_shot).shape[1] == n_way


def test_training_lowers_the_loss() -> None:
    _, losses = this.trained(n_epochs=2, n_tasks=12)
    assert losses[1] < losses[0] < np.log(5)


def test_metavox_evaluates_it_as_its_own() -> None:
    learner = this.metavox_learner()
    task = this.episode(7)
    found = []
    with torch.no_grad():
        for one in (learner, this.AsLearner(this.like(learner))):
            found.append(one.predict(one.adapt(task.support), task.query).scores)
    torch.testing.assert_close(found[1], found[0], atol=1e-4, rtol=1e-4)


def test_the_other_process_gets_the_cells_that_were_run_or_the_script(monkeypatch) -> None:
    assert this.this_lesson().startswith("# %% [markdown]")
    monkeypatch.setattr(this, "In", ["", "x = 1", "y = 2"], raising=False)
    assert this.this_lesson() == "\n\nx = 1\n\ny = 2"
