"""Similarity of embedding sequences: pooled, softly aligned, and dynamically time warped.

All return (B, S) similarities of every query sequence with every support sequence, higher is more alike, and read
valid frames only. Frames are expected to have unit length, so that a dot product is a cosine.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def frame_mask(lengths: Int[Tensor, " B"], n_frames: int) -> Float[Tensor, "B T"]:
    """1 for valid frames, 0 for padding."""
    return (torch.arange(n_frames, device=lengths.device) < lengths[:, None]).float()


def all_full(lengths: Int[Tensor, " B"], n_frames: int) -> bool:
    """True where there is no padding; False too where nobody can tell, as within ``vmap``."""
    try:
        return bool((lengths == n_frames).all())
    except RuntimeError:
        return False


def pooled_similarity(
    query: Float[Tensor, "B T D"],
    query_lengths: Int[Tensor, " B"],
    support: Float[Tensor, "S T2 D"],
    support_lengths: Int[Tensor, " S"],
) -> Float[Tensor, "B S"]:
    """Cosine of the means over time; order in time is lost."""

    def mean(frames: Tensor, lengths: Tensor) -> Tensor:
        weights = frame_mask(lengths, frames.shape[1]).to(frames.dtype)
        pooled = torch.einsum("btd,bt->bd", frames, weights)
        return torch.nn.functional.normalize(pooled, dim=-1)

    return mean(query, query_lengths) @ mean(support, support_lengths).T


def soft_similarity(
    query: Float[Tensor, "B T D"],
    query_lengths: Int[Tensor, " B"],
    support: Float[Tensor, "S T2 D"],
    support_lengths: Int[Tensor, " S"],
    band: float = 0.25,
    temperature: float = 0.1,
) -> Float[Tensor, "B S"]:
    """Mean cosine of each frame with what it is softly aligned to near the same relative time, both ways.

    A frame at relative time u attends to the frames of the other sequence within ``band`` of u. Smooth, so that it
    can be trained through; a cheap relative of dynamic time warping that lets neighbours trade places.
    """
    cosine = torch.einsum("btd,sud->bstu", query, support)
    near = _within_band(query, query_lengths, support, support_lengths, band)  # (B, S, T, U)
    masked = (cosine / temperature).masked_fill(~near, -1e4)
    forward = (masked.softmax(-1) * cosine).sum(-1)  # (B, S, T)
    backward = (masked.softmax(-2) * cosine).sum(-2)  # (B, S, U)
    query_mask = frame_mask(query_lengths, query.shape[1]).to(query.dtype)
    support_mask = frame_mask(support_lengths, support.shape[1]).to(query.dtype)
    of_query = torch.einsum("bst,bt->bs", forward, query_mask) / query_mask.sum(1)[:, None]
    of_support = torch.einsum("bsu,su->bs", backward, support_mask) / support_mask.sum(1)
    return (of_query + of_support) / 2


def _within_band(query: Tensor, query_lengths: Tensor, support: Tensor, support_lengths: Tensor, band: float) -> Tensor:
    """True where two valid frames are within ``band`` in relative time. (B, S, T, U), or broadcast to it."""
    n_query, n_support = query.shape[1], support.shape[1]
    if all_full(query_lengths, n_query) and all_full(support_lengths, n_support):
        query_lengths, support_lengths = query_lengths[:1], support_lengths[:1]  # one mask serves every pair
    at_query = (torch.arange(n_query, device=query.device) + 0.5) / query_lengths[:, None]
    at_support = (torch.arange(n_support, device=query.device) + 0.5) / support_lengths[:, None]
    gap = (at_query[:, None, :, None] - at_support[None, :, None, :]).abs()
    # Half a frame of the shorter sequence always fits, so that every valid frame has at least one partner.
    reach = (0.5 / torch.minimum(query_lengths[:, None], support_lengths[None, :])).clamp_min(band) + 1e-6
    valid = (at_query < 1)[:, None, :, None] & (at_support < 1)[None, :, None, :]
    return (gap <= reach[:, :, None, None]) & valid


def dtw_similarity(
    query: Float[Tensor, "B T D"],
    query_lengths: Int[Tensor, " B"],
    support: Float[Tensor, "S T2 D"],
    support_lengths: Int[Tensor, " S"],
) -> Float[Tensor, "B S"]:
    """Mean cosine along the best monotonic path, symmetric steps with a diagonal counted twice.

    Sakoe and Chiba 1978, symmetric form P=0: the weights of every path sum to T + U, so dividing by that makes
    paths of different shape comparable. Differentiable along the best path.
    """
    n_query, n_support = query.shape[0], support.shape[0]
    # Pairs go last: every step below is then one contiguous operation on (frames, pairs).
    cosine = torch.einsum("btd,sud->tubs", query, support).flatten(2)  # (T, U, B*S)
    first = query_lengths.repeat_interleave(n_support)
    second = support_lengths.repeat(n_query)
    return (_best_path(cosine, first, second) / (first + second)).reshape(n_query, n_support)


def dtw_among(
    frames: Float[Tensor, "B T D"], lengths: Int[Tensor, " B"], max_cells: int = 2_500_000
) -> Float[Tensor, "B B"]:
    """``dtw_similarity`` of sequences with one another, each pair once, at most ``max_cells`` cells at a time.

    It is the same both ways. The diagonal is 0: nobody asks how alike a sequence is to itself.
    """
    n_items, n_frames, _ = frames.shape
    half = frames.new_zeros(n_items, n_items)
    values, rows, row = [], [], 0
    while row < n_items - 1:
        last, cells = row, 0
        while last < n_items - 1 and (last == row or cells < max_cells):
            cells += (n_items - 1 - last) * n_frames**2
            last += 1
        cosines = [
            (frames[i] @ frames[i + 1 :].flatten(0, 1).T).unflatten(1, (-1, n_frames)).transpose(1, 2)
            for i in range(row, last)
        ]
        one, other = torch.triu_indices(n_items, n_items, 1, device=frames.device)
        within = (one >= row) & (one < last)
        one, other = one[within], other[within]
        best = _best_path(torch.cat(cosines, 2), lengths[one], lengths[other])
        values.append(best / (lengths[one] + lengths[other]))
        rows.append((one, other))
        row = last
    if values:
        at = tuple(torch.cat(part) for part in zip(*rows, strict=True))
        half = half.index_put(at, torch.cat(values))
    return half + half.T


def dtw_moments(
    one: Float[Tensor, "P T D"], one_lengths: Int[Tensor, " P"], other: Float[Tensor, "P U D"], other_lengths: Tensor
) -> Float[Tensor, "P T U"]:
    """Which frames of two sequences are the same moment: weights on the best path of each pair, 0 beside it."""
    gain = torch.einsum("ptd,pud->tup", one, other)
    with torch.no_grad():
        _, table = _accumulate(gain, one_lengths, other_lengths, keep=True)
        return _trace(table, gain, one_lengths, other_lengths).permute(2, 0, 1)


def _best_path(gain: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Highest sum of weighted gains (T, U, P) from (0, 0) to (first - 1, second - 1). (P,)

    The best path is found without a graph; its sum is then an ordinary product, whose derivative is the path itself.
    """
    wanted = torch.is_grad_enabled() and gain.requires_grad
    with torch.no_grad():
        total, table = _accumulate(gain, first, second, keep=wanted)
        weights = _trace(table, gain, first, second) if wanted else None
    return total if weights is None else (gain * weights).sum((0, 1))


def _accumulate(gain: Tensor, first: Tensor, second: Tensor, *, keep: bool) -> tuple[Tensor, list[Tensor]]:
    """Sums along best paths by anti-diagonals: those of the ends (P,), and if asked for all of them.

    Row i of the grid stands at i + 1 of a diagonal (T + 1, P); row 0 stands for what lies outside.
    """
    n_rows, n_columns, n_pairs = gain.shape
    never = gain.new_full((1, n_pairs), -torch.inf)
    before = last = never.expand(n_rows + 1, n_pairs)
    total = gain.new_zeros(n_pairs)
    ends = first + second - 2
    end_set = set(ends.tolist())
    flat = gain.reshape(n_rows * n_columns, n_pairs)
    table = []
    for diagonal in range(max(end_set) + 1):
        low, high = max(0, diagonal - n_columns + 1), min(n_rows - 1, diagonal)
        # Cells (i, diagonal - i) of the flat grid lie n_columns - 1 apart.
        start = low * n_columns + diagonal - low
        step = flat[start : start + (high - low) * (n_columns - 1) + 1 : max(n_columns - 1, 1)]
        if diagonal == 0:
            best = 2 * step
        else:
            straight = torch.maximum(last[low + 1 : high + 2], last[low : high + 1]) + step
            best = torch.maximum(straight, before[low : high + 1] + 2 * step)
        below, above = never.expand(low + 1, n_pairs), never.expand(n_rows - 1 - high, n_pairs)
        before, last = last, torch.cat([below, best, above])
        if keep:
            table.append(last)
        if diagonal in end_set:
            total = torch.where(ends == diagonal, last.gather(0, first[None])[0], total)
    return total, table


def _trace(table: list[Tensor], gain: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Weight of each cell (T, U, P) on the best path of each pair, walked back from the ends: 0, 1 or 2."""
    n_rows, n_columns, n_pairs = gain.shape
    sums = torch.stack(table).flatten()  # (diagonals * (T + 1) * P,)
    cells, pair = gain.flatten(), torch.arange(n_pairs, device=gain.device)
    weights = torch.zeros_like(cells)
    row, column = first - 1, second - 1
    for _ in range(len(table)):

        def at(back: int, above: int, row: Tensor = row, column: Tensor = column) -> Tensor:
            """The sum ``back`` diagonals before, one row above where asked."""
            diagonal = (row + column - back).clamp_min(0)
            return sums[(diagonal * (n_rows + 1) + row + 1 - above) * n_pairs + pair]

        cell = (row * n_columns + column) * n_pairs + pair
        step = cells[cell]
        diagonally = (row > 0) & (column > 0) & (at(2, 1) + 2 * step >= torch.maximum(at(1, 0), at(1, 1)) + step)
        from_above = (row > 0) & ((column == 0) | (at(1, 1) > at(1, 0)))
        started = (row == 0) & (column == 0)
        weights[cell] = torch.where(diagonally | started, 2.0, 1.0).to(weights.dtype)
        row = row - (diagonally | from_above).to(row.dtype)
        column = (column - (diagonally | ~from_above).to(column.dtype)).clamp_min(0)
    return weights.reshape(gain.shape)


SIMILARITIES = {"pooled": pooled_similarity, "soft": soft_similarity, "dtw": dtw_similarity}
