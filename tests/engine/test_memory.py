"""Bytes that a computation holds at a time."""

import gc

import torch

from metavox.engine.memory import free_bytes, peak_bytes

KIB = torch.zeros(128, dtype=torch.float64)
"""1024 bytes, made before."""


def test_the_most_at_a_time_is_counted_and_not_the_sum() -> None:
    def one_after_another() -> None:
        for _ in range(10):
            KIB + 1

    def at_once() -> list[torch.Tensor]:
        return [KIB + 1 for _ in range(10)]

    assert 1024 <= peak_bytes(one_after_another) <= 2048
    assert peak_bytes(at_once) == 10 * 1024


def test_views_and_changes_in_place_take_nothing() -> None:
    assert peak_bytes(lambda: KIB.view(2, 64).t().detach()) == 0
    assert peak_bytes(lambda: (KIB + 1).mul_(2).view(2, 64)) == 1024


def test_what_autograd_keeps_counts_while_it_is_kept() -> None:
    x = torch.zeros(128, dtype=torch.float64, requires_grad=True)

    def chain(n: int) -> None:
        y = x
        for _ in range(n):
            y = y.sin()
        y.sum().backward()
        x.grad = None

    gc.collect()
    few, many = peak_bytes(lambda: chain(4)), peak_bytes(lambda: chain(40))
    assert many - few >= 36 * 1024


def test_a_processor_has_some_memory_left() -> None:
    assert 2**20 < free_bytes(torch.device("cpu")) < 2**50
