"""Random numbers of a step, drawn again."""

import torch

from metavox.engine.draws import Draws


def test_a_step_draws_again_what_it_drew_and_then_all_goes_on() -> None:
    with torch.random.fork_rng():
        draws, seen = Draws(torch.device("cpu")), []
        for _ in range(3):
            draws.mark()
            seen.append(torch.bernoulli(torch.full((32,), 0.5)))
        before = torch.get_rng_state()
        for index in (2, 0, 1):
            with draws.again(index):
                assert torch.equal(torch.bernoulli(torch.full((32,), 0.5)), seen[index])
        assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(seen[0], seen[1])
