"""A sparse body: the perceptron of ``nets.dense`` with at least nine of ten connections absent, and not stored.

Connections are drawn once from the seed and stay (static sparsity); how many a layer has follows Erdos-Renyi, as in
Mocanu et al. 2018 and Evci et al. 2020: a connection is the likelier the fewer units a layer has, so that narrow
layers keep more. Every unit has equally many inputs (Lasby et al. 2024), so that a layer is two rectangles, indices
and values.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ..config import EncoderConfig
from ..contracts import InputError
from .dense import PerceptronBody

_FRAMES_AT_ONCE = 128
"""Rows that are gathered together: few enough for the cache, where a unit's inputs lie far apart."""


class SparseLinear(nn.Module):
    """A linear map in which each of ``n_out`` units has ``fan_in`` inputs out of ``n_in``; only these are stored.

    Where no gradient can be asked for (enrolment, recognition) a unit gathers its inputs, and absent ones cost nothing.
    Where one can, the matrix is laid out for the one product, which then has derivatives of every order.
    """

    def __init__(self, n_in: int, n_out: int, fan_in: int, *, bias: bool) -> None:
        super().__init__()
        self.n_in = n_in
        self.register_buffer("inputs", _connections(n_in, n_out, fan_in).int())
        self.values = nn.Parameter(torch.empty(n_out, fan_in))
        nn.init.kaiming_uniform_(self.values, a=math.sqrt(5))  # as nn.Linear, for the inputs that there are
        self.bias = nn.Parameter(torch.zeros(n_out)) if bias else None

    @property
    def n_out(self) -> int:
        return self.values.shape[0]

    def dense(self) -> Float[Tensor, "n_out n_in"]:
        """The matrix with its zeros."""
        empty = self.values.new_zeros(self.n_out, self.n_in)
        assert isinstance(self.inputs, Tensor)
        return empty.scatter(1, self.inputs.long(), self.values)

    def forward(self, x: Float[Tensor, "*B n_in"]) -> Float[Tensor, "*B n_out"]:
        if torch.is_grad_enabled():
            return functional.linear(x, self.dense(), self.bias)
        parts = x.reshape(-1, self.n_in).split(_FRAMES_AT_ONCE)
        sums = torch.cat([self._gathered(part.T.contiguous()).T for part in parts])
        return (sums if self.bias is None else sums + self.bias).reshape(*x.shape[:-1], self.n_out)

    def _gathered(self, columns: Float[Tensor, "n_in B"]) -> Float[Tensor, "n_out B"]:
        assert isinstance(self.inputs, Tensor)
        return functional.embedding_bag(self.inputs, columns, per_sample_weights=self.values, mode="sum")


class SparseBody(PerceptronBody):
    """The perceptron with sparse layers: at most ``density`` of all connections.

    Raises:
        InputError: as ``PerceptronBody``, or too few connections for one input a unit.
    """

    def layers(self, config: EncoderConfig, sizes: Sequence[int]) -> list[nn.Module]:
        last = len(sizes) - 2
        fans = fan_ins(sizes, config.density)
        if min(fans) < 1:
            raise InputError(
                f"encoder.density is {config.density:g} with encoder.channels {config.channels}, which leaves units "
                "without any input; raise encoder.channels, or encoder.density up to 0.1."
            )
        return [SparseLinear(sizes[i], sizes[i + 1], fans[i], bias=i == last) for i in range(last + 1)]


def fan_ins(sizes: Sequence[int], density: float) -> list[int]:
    """Inputs of a unit in each layer between ``sizes``; over all layers at most ``density`` of what is possible.

    Erdos-Renyi (Evci et al. 2020, section 3): layer l has a share ``scale * (n_in + n_out) / (n_in * n_out)`` of its
    connections. A layer whose share would pass 1 is dense, and the others share the rest.
    """
    pairs = [(sizes[i], sizes[i + 1]) for i in range(len(sizes) - 1)]
    budget = density * sum(n_in * n_out for n_in, n_out in pairs)
    dense: set[int] = set()
    while True:
        left = budget - sum(pairs[i][0] * pairs[i][1] for i in dense)
        scale = left / sum(n_in + n_out for i, (n_in, n_out) in enumerate(pairs) if i not in dense)
        full = {i for i, (n_in, n_out) in enumerate(pairs) if scale * (n_in + n_out) >= n_in * n_out} - dense
        if not full:
            break
        dense |= full
    return [n_in if i in dense else math.floor(scale * (n_in + n_out) / n_out) for i, (n_in, n_out) in enumerate(pairs)]


def _connections(n_in: int, n_out: int, fan_in: int) -> Tensor:
    """(n_out, fan_in) positions of inputs. Random orders of all inputs are dealt out, so that none is left aside."""
    per_order = n_in // fan_in
    # The order of random numbers; an initialiser draws them, since it is seeded with all other weights.
    drawn = nn.init.kaiming_uniform_(torch.empty(math.ceil(n_out / per_order), n_in))
    dealt = drawn.argsort(1)[:, : per_order * fan_in].reshape(-1, fan_in)[:n_out]
    return dealt.sort(1).values
