"""Ctrl-C is held back until a step is whole."""

import signal

import pytest

from metavox.interruption import until_interrupted


def test_ctrl_c_is_held_back_until_a_step_is_whole_and_the_old_handler_returns() -> None:
    before = signal.getsignal(signal.SIGINT)
    whole: list[int] = []

    def steps() -> None:
        for _ in until_interrupted(lambda: len(whole) < 9):
            signal.raise_signal(signal.SIGINT)
            whole.append(1)

    with pytest.raises(KeyboardInterrupt):
        steps()
    assert whole == [1]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_ctrl_c_is_not_held_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    reached: list[int] = []

    def steps() -> None:
        for _ in until_interrupted(lambda: True):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            reached.append(1)

    with pytest.raises(KeyboardInterrupt):
        steps()
    assert not reached
    assert signal.getsignal(signal.SIGINT) is before
