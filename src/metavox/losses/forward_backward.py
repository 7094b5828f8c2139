"""CTC's forward-backward recursion and its exact tangent: posteriors and second derivatives, a few operations a frame.

Variables are those of Graves et al. (2006), section 4.1, in the log domain, where nothing underflows, and in float64.
An item has K labels, the most that a target of the batch has, and K + 1 blanks, one before each label and a last one:

    blank k at t  <-  blank k or label k - 1          label k at t  <-  label k, blank k, or label k - 1 unless repeated

so that both share one sum. What a frame holds lies end to end: labels, then blanks; of each, the items and then the
items with time and target reversed; of each item, K + 1 states, the last label dead. One recursion thus gives forward
and backward variables, label k - 1 is one place further left, and every operation runs over contiguous numbers.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

NEVER = -1e30
"""The logarithm of zero, whose differences are numbers too."""
LABELS, BLANKS = 0, 1


@dataclass(frozen=True, slots=True)
class Problem:
    """What is aligned with what, cut to the longest input and the longest target."""

    valid: Bool[Tensor, "t B"]
    """True on the frames of each item."""
    labels: Int[Tensor, "B K"]
    """Padded with the blank."""
    n_labels: Int[Tensor, " B"]
    blank: int

    @classmethod
    def cut(
        cls,
        targets: Int[Tensor, "B S"],
        input_lengths: Int[Tensor, " B"],
        target_lengths: Int[Tensor, " B"],
        blank: int,
    ) -> "Problem":
        """Lengths may be on another device than targets."""
        n_frames, width, device = int(input_lengths.max()), int(target_lengths.max()), targets.device
        input_lengths, target_lengths = input_lengths.to(device), target_lengths.to(device)
        valid = torch.arange(n_frames, device=device).unsqueeze(1) < input_lengths
        inside = torch.arange(width, device=device) < target_lengths.unsqueeze(1)
        return cls(valid, torch.where(inside, targets[:, :width], blank), target_lengths, blank)

    @property
    def shape(self) -> tuple[int, ...]:
        """Frames, labels or blanks, there or back, items, states."""
        return len(self.valid), 2, 2, len(self.labels), self.labels.shape[1] + 1

    def emitted(
        self, values: Float[Tensor, "T B V"], padding: float
    ) -> tuple[Float[Tensor, "t B K"], Float[Tensor, "t B 1"]]:
        """Values of labels and blank, on padding frames ``padding`` and zero; in float64.

        With ``NEVER`` all that a path can do after the last frame is to leave the last label.
        """
        values, outside = values[: len(self.valid)], ~self.valid.unsqueeze(-1)
        labels = values.gather(2, self.labels.expand(len(values), -1, -1)).double()
        blanks = values[..., self.blank, None].double()
        return labels.masked_fill_(outside, padding), blanks.masked_fill(outside, 0)

    def spread(
        self, labels: Float[Tensor, "t B K"], blanks: Float[Tensor, "t B 1"], dead: float
    ) -> Float[Tensor, "t N"]:
        """What states emit, as frames of the recursion."""
        out = labels.new_empty(self.shape)
        out[:, LABELS, 0, :, :-1] = labels
        out[:, LABELS, 1, :, :-1] = labels.flip(0, 2)
        out[:, LABELS, ..., -1] = dead
        out[:, BLANKS, 0] = blanks
        out[:, BLANKS, 1] = blanks.flip(0)
        return out.flatten(1)

    def joined(self, values: Float[Tensor, "t N"]) -> tuple[Float[Tensor, "t B K"], Float[Tensor, "t B K+1"]]:
        """Labels and blanks: states of the items plus those of the reversed items turned back."""
        labels, blanks = values.unflatten(1, self.shape[1:]).unbind(1)
        labels = labels[..., :-1]
        return labels[:, 0] + labels[:, 1].flip(0, 2), blanks[:, 0] + blanks[:, 1].flip(0, 2)

    def gathered(self, labels: Float[Tensor, "t B K"], blanks: Float[Tensor, "t B"], like: Tensor) -> Tensor:
        """(T, B, V) with the values of states summed up at their symbols, as ``like`` in shape and precision."""
        out = torch.zeros_like(like)
        used = out[: len(labels)]
        used[..., self.blank] = blanks.to(out.dtype)
        used.scatter_add_(2, self.labels.expand(len(labels), -1, -1), labels.to(out.dtype))
        return out

    def may_skip(self) -> Bool[Tensor, " n"]:
        """True where the blank before a label may be left out: the label differs from the one before."""
        rows = torch.stack([self.labels, self.labels.flip(1)])
        free = torch.ones(self.shape[2:], dtype=torch.bool, device=rows.device)
        free[..., 1:-1] = rows[..., 1:] != rows[..., :-1]
        return free.flatten()

    def start(self) -> Float[Tensor, " n"]:
        """A path begins in the blank before the first label, which in a reversed target comes after the padding."""
        first = torch.stack([torch.zeros_like(self.n_labels), self.labels.shape[1] - self.n_labels]).unsqueeze(-1)
        start = torch.full(self.shape[2:], NEVER, dtype=torch.float64, device=first.device)
        return start.scatter_(2, first, 0).flatten()


@dataclass(frozen=True, slots=True)
class Posteriors:
    """What the first derivative is made of, and what the second needs beside it, in float64."""

    labels: Float[Tensor, "t B K"]
    """Posterior of each label of the target at each frame. Without meaning for an item that has no alignment."""
    blanks: Float[Tensor, "t B K+1"]
    stays: Float[Tensor, "t 2 2 B K+1"]
    """Share of the paths into a state that were in it one frame before."""


def posteriors(log_probs: Float[Tensor, "T B V"], problem: Problem) -> Posteriors:
    """Posterior of each state at each frame, given that the item's target is said."""
    label, blank = (part.clamp(min=NEVER) for part in problem.emitted(log_probs, NEVER))
    sums = problem.spread(label, blank, NEVER)
    stays = _recursion(sums, problem.start(), problem.may_skip())
    labels, blanks = problem.joined(sums)
    labels -= label
    blanks -= blank
    total = torch.cat([labels[:1], blanks[:1]], -1).logsumexp(-1, keepdim=True)  # (1, B, 1), the same at every frame
    blanks.sub_(total).exp_().masked_fill_(~problem.valid.unsqueeze(-1), 0)
    return Posteriors(labels.sub_(total).exp_(), blanks, stays.view(problem.shape))


def gradient(log_probs: Float[Tensor, "T B V"], problem: Problem, found: Posteriors) -> Float[Tensor, "T B V"]:
    """Gradient of each item's loss in its log-probabilities: minus the posterior of each symbol."""
    return problem.gathered(-found.labels, -found.blanks.sum(-1), log_probs)


def hessian_product(direction: Float[Tensor, "T B V"], problem: Problem, found: Posteriors) -> Float[Tensor, "T B V"]:
    """Hessian of each item's loss in its log-probabilities times a direction: the tangent of ``gradient``.

    A posterior is ``exp(alpha + beta - emission - total)``, and its tangent that of the exponent times itself. The
    tangent of a log-sum is the mean of the tangents of its terms by their shares: a second recursion, all of it linear.
    """
    label, blank = problem.emitted(direction, 0.0)
    moved = problem.spread(label, blank, 0.0)
    _tangent_recursion(moved, found.stays.flatten(1), problem.may_skip())
    labels, blanks = problem.joined(moved)
    labels -= label
    blanks.sub_(blank).mul_(found.blanks)
    total = (found.labels[:1] * labels[:1]).sum(-1) + blanks[:1].sum(-1)  # (1, B), the same at every frame
    labels.sub_(total.unsqueeze(-1)).mul_(found.labels).neg_()
    return problem.gathered(labels, found.blanks.sum(-1) * total - blanks.sum(-1), direction)


def _recursion(
    emission: Float[Tensor, "t N"], start: Float[Tensor, " n"], may_skip: Bool[Tensor, " n"]
) -> Float[Tensor, "t N"]:
    """Turn emissions into log-sums over the paths that end in each state; the share of those that were there before."""
    n = len(start)
    stays, into, entry = torch.empty_like(emission), start.new_empty(2 * n), torch.empty_like(start)
    state = start.new_full((2 * n + 1,), NEVER)  # with a place in front, where label -1 of the first row is looked up
    state[n + 1 :] = start
    left, label, blank, both = state[:n], state[1 : n + 1], state[n + 1 :], state[1:]
    to_label, to_blank = into[:n], into[n:]
    for frame, stay in zip(emission.unbind(), stays.unbind(), strict=True):
        torch.logaddexp(blank, left, out=to_blank)
        torch.where(may_skip, to_blank, blank, out=entry)
        torch.logaddexp(label, entry, out=to_label)
        torch.sub(both, into, out=stay)
        both.copy_(frame.add_(into))
    return stays.exp_()


def _tangent_recursion(moved: Float[Tensor, "t N"], stays: Float[Tensor, "t N"], may_skip: Bool[Tensor, " n"]) -> None:
    """Turn changes of emissions into those of the log-sums over the paths that end in each state."""
    n = len(may_skip)
    into, entry, state = moved.new_empty(2 * n), moved.new_empty(n), moved.new_zeros(2 * n + 1)
    left, label, blank, both = state[:n], state[1 : n + 1], state[n + 1 :], state[1:]
    to_label, to_blank = into[:n], into[n:]
    frames = zip(moved.unbind(), stays[:, :n].unbind(), stays[:, n:].unbind(), strict=True)
    for frame, stay_label, stay_blank in frames:
        torch.lerp(left, blank, stay_blank, out=to_blank)
        torch.where(may_skip, to_blank, blank, out=entry)
        torch.lerp(entry, label, stay_label, out=to_label)
        both.copy_(frame.add_(into))
