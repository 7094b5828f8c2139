"""Which cells there are, and what tasks are drawn for one."""

import torch

from metavox.benchmarking.cells import ABLATED, CELLS, N_QUERY, N_WAY, QUICK, Cell, draw_tasks


def test_the_full_run_has_every_setting_once() -> None:
    small = {(cell.algorithm, cell.n_shots, cell.n_steps, cell.n_tasks) for cell in CELLS if cell.net == "tc_resnet8"}
    assert len(small) == 4 * 2 * 2 * 3
    assert len(CELLS) == len({cell.name for cell in CELLS}) == len(small) + 2
    for cell in (*QUICK, *ABLATED):
        assert any((cell.net, cell.algorithm) == (other.net, other.algorithm) for other in CELLS)
    assert Cell("tc_resnet8", "reptile", 1, 5, 32).name == "tc_resnet8 reptile 1-shot 5-step 32-task"


def test_tasks_follow_the_cell_and_the_generator() -> None:
    cell = Cell("tc_resnet8", "maml", 3, 1, 2)
    generator = torch.Generator().manual_seed(0)
    tasks, later = (draw_tasks(cell, 2, generator) for _ in range(2))
    again = draw_tasks(cell, 2, torch.Generator().manual_seed(0))
    (x, y), (query_x, query_y) = tasks[0]
    assert x.shape == (N_WAY * 3, 40, 98)
    assert query_x.shape == (N_WAY * N_QUERY, 40, 98)
    assert y.bincount().tolist() == [3] * N_WAY
    assert query_y.bincount().tolist() == [N_QUERY] * N_WAY
    assert torch.equal(x, again[0][0][0])
    assert not torch.equal(x, tasks[1][0][0])
    assert not torch.equal(x, later[0][0][0])
    assert draw_tasks(Cell("conv4", "maml", 1, 1, 4), 1, generator, torch.float64)[0][0][0].shape == (N_WAY, 1, 40, 98)


def test_examples_of_a_class_share_a_pattern() -> None:
    """Pattern and noise have variance 1 each, so two examples of a class correlate by one half."""
    (x, y), _ = draw_tasks(Cell("tc_resnet8", "maml", 2, 1, 1), 1, torch.Generator().manual_seed(3))[0]
    alike = torch.corrcoef(x.flatten(1))
    for i in range(len(x)):
        for j in range(i):
            assert abs(float(alike[i, j]) - (0.5 if y[i] == y[j] else 0.0)) < 0.07
