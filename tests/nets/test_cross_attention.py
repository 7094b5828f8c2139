"""Attention between frame sequences against loops over moments, and that time is kept."""

import torch
from torch import Tensor
from torch.nn import functional

from metavox.losses import membership
from metavox.nets.cross_attention import CrossTransformer

DIM, N_MOMENTS = 3, 5
LABELS = torch.tensor([0, 2, 2, 0, 1, 2])
SCALE = torch.tensor(3.0, dtype=torch.float64)


def vectors(n: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, N_MOMENTS * DIM, dtype=torch.float64, generator=generator)


TAKES, QUERY = vectors(6, 0), vectors(4, 1)
KNOWN = membership(LABELS, 3, torch.float64)[None]


@torch.no_grad()
def test_each_moment_has_a_prototype_of_all_moments_of_a_class() -> None:
    net = CrossTransformer(DIM, N_MOMENTS).double()
    generator = torch.Generator().manual_seed(5)
    for value in net.parameters():
        value.add_(0.3 * torch.randn(value.shape, dtype=value.dtype, generator=generator))
    scores = net(QUERY, TAKES, KNOWN, SCALE)
    asked, known = (functional.normalize(part.reshape(len(part), N_MOMENTS, DIM), dim=-1) for part in (QUERY, TAKES))
    for i in range(len(QUERY)):
        for label in range(3):
            total = torch.tensor(0.0, dtype=torch.float64)
            for t in range(N_MOMENTS):
                heard, answers = [], []
                for take in known[label == LABELS]:
                    for u in range(N_MOMENTS):
                        like = functional.cosine_similarity(net.key(asked[i, t]), net.key(take[u]), 0)
                        heard.append(net.log_sharpness.exp() * like + net.near[u - t + N_MOMENTS - 1])
                        answers.append(net.value(take[u]))
                prototype = torch.stack(heard).softmax(0) @ torch.stack(answers)
                total = total + (net.value(asked[i, t]) - prototype).square().sum()
            torch.testing.assert_close(scores[i, label], -3 * total / N_MOMENTS)


@torch.no_grad()
def test_a_take_is_nearest_to_itself_and_far_from_itself_backwards() -> None:
    """Both hold the same moments: what tells them apart is order in time alone."""
    net = CrossTransformer(DIM, N_MOMENTS).double()
    backwards = QUERY.reshape(-1, N_MOMENTS, DIM).flip(1).flatten(1)
    for i in range(len(QUERY)):
        takes = torch.stack([QUERY[i], backwards[i]])
        own, other = net(QUERY[i : i + 1], takes, torch.eye(2, dtype=torch.float64)[None], SCALE)[0]
        assert float(own) > float(other)


@torch.no_grad()
def test_where_only_one_place_is_near_moments_are_compared_one_to_one() -> None:
    net = CrossTransformer(DIM, N_MOMENTS).double()
    net.near.fill_(-1e6)
    net.near[N_MOMENTS - 1] = 0.0
    single = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)[None]
    asked, known = (functional.normalize(part.reshape(-1, N_MOMENTS, DIM), dim=-1) for part in (QUERY, TAKES[:2]))
    expected = -3 * (asked[:, None] - known[None]).square().sum(-1).mean(-1)
    torch.testing.assert_close(net(QUERY, TAKES[:2], single, SCALE), expected.flip(1))
