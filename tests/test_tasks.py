"""How a task punishes and scores outputs."""

import torch
from torch import Tensor

from metavox.contracts import Batch, Output
from metavox.losses import cross_entropy
from metavox.tasks import TASKS, Commands


def query(labels: list[int], n_classes: int) -> Batch:
    n = len(labels)
    return Batch(torch.zeros(n, 2, 3), torch.full((n,), 2), torch.tensor(labels), n_classes)


SCORES: Tensor = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0], [0.0, 3.0, 1.0], [5.0, 1.0, 4.0]])


def test_a_command_is_right_where_the_best_class_is_the_right_one() -> None:
    score = Commands().score(Output(SCORES), query([0, 1, 1, 2], 3))
    assert score.tolist() == [1, 0, 1, 0]
    assert score.dtype == SCORES.dtype


def test_commands_are_punished_by_cross_entropy() -> None:
    labels = [0, 1, 1, 2]
    loss = Commands().loss(Output(SCORES), query(labels, 3))
    assert torch.equal(loss, cross_entropy(SCORES, torch.tensor(labels)))


def test_the_loss_does_not_change_with_a_shift_of_all_scores_and_falls_with_the_right_one() -> None:
    asked = query([0, 1, 1, 2], 3)
    loss = Commands().loss(Output(SCORES), asked)
    torch.testing.assert_close(Commands().loss(Output(SCORES + 7), asked), loss)
    better = SCORES.clone()
    better[torch.arange(4), asked.labels] += 1
    assert float(Commands().loss(Output(better), asked)) < float(loss)


def test_tasks_are_found_by_name() -> None:
    assert isinstance(TASKS["commands"](), Commands)
