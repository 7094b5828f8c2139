"""Each fault of the sketch is really there: it fails where what is right in its place does not."""

import inspect

import numpy as np
import pytest
from keras_lesson import lesson

pytestmark = pytest.mark.synth
this = lesson()
from keras import ops  # noqa: E402  only after a backend was chosen


def labels_and_answers() -> tuple[np.ndarray, np.ndarray]:
    task = this.episode(1000)
    return task.support.labels.numpy(), task.query.labels.numpy()


# ------------------------------------------------------------------------------------------------------- 1. two widths


def test_layers_of_two_widths_cannot_be_added() -> None:
    assert "Error" in this.add_widths(128, 64)
    assert this.add_widths(64, 64) == "shape (15, 64)"


# ----------------------------------------------------------------------------------------------------- 2. two softmaxes


@pytest.mark.parametrize("n_classes", [2, 5, 20])
def test_with_two_softmaxes_no_loss_goes_below_what_probabilities_allow(n_classes) -> None:
    right = 60.0 * np.eye(n_classes)[0]
    assert this.loss_and_slope(right, 0, twice=True)[0] == pytest.approx(np.log(np.e + n_classes - 1) - 1, abs=1e-6)
    assert this.loss_and_slope(right, 0, twice=False)[0] < 1e-9
    rng = np.random.default_rng(n_classes)
    for size in (0.1, 1.0, 10.0, 100.0):
        logits = size * rng.normal(size=n_classes)
        assert this.loss_and_slope(logits, 0, twice=True)[0] >= this.surest(n_classes) - 1e-6


@pytest.mark.parametrize("n_classes", [2, 5, 20])
def test_two_softmaxes_flatten_the_slope(n_classes) -> None:
    for name, logits in this.where_it_stands(n_classes):
        once, twice = (this.loss_and_slope(logits, 0, twice=both)[1] for both in (False, True))
        if name == "nothing known":
            assert twice == pytest.approx(once / n_classes, rel=1e-5)
        elif name == "wrong and sure":
            assert once > 1
            assert twice < 1e-3


def test_gradient_descent_stops_at_the_floor_with_two_and_not_with_one() -> None:
    import torch

    def descended(twice: bool) -> float:
        logits = torch.zeros(1, 5, requires_grad=True)
        for _ in range(2000):
            scores = logits.softmax(1) if twice else logits
            (slope,) = torch.autograd.grad(torch.nn.functional.cross_entropy(scores, torch.tensor([0])), logits)
            logits = (logits - slope).detach().requires_grad_()
        scores = logits.softmax(1) if twice else logits
        return float(torch.nn.functional.cross_entropy(scores, torch.tensor([0])).detach())

    assert this.surest(5) <= descended(True) < this.surest(5) + 0.05
    assert descended(False) < 0.01


# -------------------------------------------------------------------------------------------------------- 3. two layers


def test_through_two_layers_a_clip_does_not_find_itself() -> None:
    through_one, through_two, n_clips = this.itself_through_one_and_two()
    assert through_one == 1
    assert through_two < 3 / n_clips


def test_adding_what_two_layers_say_depends_on_which_side_is_which() -> None:
    """With one layer the sum of a take and a query is that of the query and the take."""
    clips = this.vectors(this.episode(0).support)
    one, other = clips[:5], clips[5:10]
    shared, hear_take, hear_query = this.layer(64, 1), this.layer(64, 2), this.layer(64, 3)
    assert np.allclose(*(ops.convert_to_numpy(shared(a) + shared(b)) for a, b in ((one, other), (other, one))))
    apart = [ops.convert_to_numpy(hear_take(a) + hear_query(b)) for a, b in ((one, other), (other, one))]
    assert np.abs(apart[0] - apart[1]).max() > 0.1


# ---------------------------------------------------------------------------------------------------- 4. labels unheard


def test_without_labels_of_the_takes_every_answer_is_a_guess_before_and_after_training() -> None:
    labels, answers = labels_and_answers()
    task = this.episode(1000)
    trained, losses = this.deaf_losses(40)
    for deaf in (this.Deaf(5), trained):
        scores = deaf(this.vectors(task.support), this.vectors(task.query))
        turned = this.right_when_turned(lambda _, scores=scores: scores, labels, answers)
        assert np.mean(turned) == pytest.approx(1 / 5, abs=1e-12)
    assert np.mean(losses[-20:]) > np.log(5) - 0.05


def test_with_them_every_way_to_label_is_right_alike_and_better_than_guessing() -> None:
    labels, answers = labels_and_answers()
    task = this.episode(1000)
    model = this.like(this.metavox_learner(filled=0.02))
    windows, lengths, _ = this.as_support(task.support)
    turned = this.right_when_turned(
        lambda labels: model((windows, lengths, labels), this.as_query(task.query), n_classes=5), labels, answers
    )
    assert np.ptp(turned) == 0
    assert turned[0] > 0.4


# ------------------------------------------------------------------------------------------------- 5. answers asked for


def test_a_model_that_gives_a_loss_cannot_be_asked_without_the_answers() -> None:
    assert this.asked_without_answers().startswith("TypeError: only_a_loss() missing")


def test_and_what_it_gives_depends_on_the_answer_that_it_is_given() -> None:
    task = this.episode(0)
    takes, query = this.vectors(task.support), this.vectors(task.query)
    answers = task.query.labels.numpy()
    told, lied_to = (
        float(ops.convert_to_numpy(this.only_a_loss(takes, query, given))) for given in (answers, (answers + 1) % 5)
    )
    assert abs(told - lied_to) > 1e-3


def test_scores_have_no_argument_for_an_answer() -> None:
    assert list(inspect.signature(this.SupportConditioned.score).parameters) == ["self", "state", "windows", "lengths"]
