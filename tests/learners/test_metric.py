"""Prototypes: what they keep, and that a large comparison in parts is the same comparison."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from metavox.checkpoint import build
from metavox.config import EncoderConfig, LearnerConfig, ModelConfig
from metavox.contracts import Batch, FrontEnd
from metavox.learners import metric
from metavox.losses import leave_one_out_scores, prototype_scores, within_class
from metavox.nets.alignment import SIMILARITIES
from metavox.nets.views import stretched, tracts

MATCHES = ["soft", "dtw", "pooled"]


def learner_of(**options: Any) -> Any:
    config = ModelConfig(
        front_end=FrontEnd(n_mels=16, n_frames=None),
        encoder=EncoderConfig(channels=8, dim=4, blocks=2),
        learner=LearnerConfig(name="prototypes", **{"tracts": (), **options}),
    )
    return build(config, seed=2)


def batch(labels: list[int], seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(len(labels), 14, 16, generator=generator)
    lengths = torch.randint(5, 15, (len(labels),), generator=generator)
    return Batch(inputs, lengths, torch.tensor(labels), max(labels) + 1)


@torch.no_grad()
@pytest.mark.parametrize("match", MATCHES)
def test_a_state_keeps_unit_frames_of_every_take_and_half_the_similarity_within_classes(match: str) -> None:
    learner, support = learner_of(match=match), batch([0, 0, 1, 2, 2, 2])
    state = learner.adapt(support)
    valid = torch.arange(state["takes"].shape[2]) < state["lengths"][:, None]
    torch.testing.assert_close(state["takes"][:, 0].norm(dim=-1)[valid], torch.ones(int(valid.sum())))
    assert torch.equal(state["lengths"], learner.encoder.out_lengths(support.lengths))
    frames, lengths = learner.embed(support)
    similarity = SIMILARITIES[match](frames, lengths, frames, lengths)
    torch.testing.assert_close(state["within"], within_class(similarity, support.labels, 3))


@torch.no_grad()
@pytest.mark.parametrize("match", MATCHES)
def test_scores_are_scaled_prototype_scores(match: str) -> None:
    learner, support, query = learner_of(match=match), batch([0, 0, 1, 2, 2, 2]), batch([0, 1, 2], 1)
    state = learner.adapt(support)
    similarity = SIMILARITIES[match](*learner.embed(query), state["takes"][:, 0], state["lengths"])
    expected = learner.log_scale.exp() * prototype_scores(similarity, state["labels"], state["within"])
    torch.testing.assert_close(learner.predict(state, query).scores, expected)


@torch.no_grad()
@pytest.mark.parametrize("match", MATCHES)
def test_a_query_is_compared_with_the_view_of_a_take_that_suits_it_best(match: str) -> None:
    learner = learner_of(match=match, tracts=(0.8, 1.2)).eval()
    support, query = batch([0, 0, 1, 2, 2, 2]), batch([0, 1, 2], 1)
    state = learner.adapt(support)
    assert state["takes"].shape[1] == 3
    views = [learner.embed(view) for view in tracts(support, (0.8, 1.2))]
    compare = SIMILARITIES[match]
    nearest = torch.stack([compare(*learner.embed(query), *view) for view in views]).amax(0)
    among = torch.stack([compare(*views[0], *view) for view in views]).amax(0)
    expected = prototype_scores(nearest, support.labels, within_class(among, support.labels, 3))
    torch.testing.assert_close(learner.predict(state, query).scores, learner.log_scale.exp() * expected)
    torch.testing.assert_close(
        learner.leave_one_out(state), learner.log_scale.exp() * leave_one_out_scores(among, support.labels, 3)
    )


@torch.no_grad()
def test_training_hears_a_take_as_it_is_only() -> None:
    learner = learner_of(tracts=(0.8, 1.2)).train()
    assert learner.adapt(batch([0, 0, 1]))["takes"].shape[1] == 1


@torch.no_grad()
def test_the_voice_of_another_tract_is_recognised_better_in_several_views() -> None:
    """Every query is a take of its class, stretched; the own class must then be the best, as near as one can get."""
    learner = learner_of(match="dtw", tracts=(0.8, 1.25)).eval()
    support = batch([0, 1, 2, 3])
    query = replace(support, inputs=stretched(support.inputs, 1.25))
    scores = learner.predict(learner.adapt(support), query).scores / learner.log_scale.exp()
    torch.testing.assert_close(scores.diagonal(), torch.ones(4), atol=1e-5, rtol=0)
    assert torch.equal(scores.argmax(1), support.labels)


@torch.no_grad()
def test_the_band_of_the_configuration_is_used() -> None:
    support, query = batch([0, 0, 1, 2, 2, 2]), batch([0, 1, 2], 1)
    narrow, wide = (learner_of(match="soft", band=band) for band in (0.05, 1.0))
    scores = [learner.predict(learner.adapt(support), query).scores for learner in (narrow, wide)]
    assert not torch.allclose(*scores, atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("match", MATCHES)
def test_a_comparison_in_parts_is_the_same_comparison(match: str, monkeypatch: pytest.MonkeyPatch) -> None:
    learner, support, query = learner_of(match=match), batch([0, 0, 1, 2, 2, 2]), batch([0, 1, 2, 0, 1], 1)

    def compared(most: int) -> tuple[int, Tensor, Tensor]:
        calls: list[int] = []

        def counted(frames: Tensor, *others: Any, **options: Any) -> Tensor:
            calls.append(len(frames))
            return whole(frames, *others, **options)

        monkeypatch.setattr(metric, "_MAX_CELLS", most)
        monkeypatch.setitem(SIMILARITIES, match, counted)
        monkeypatch.setattr(metric, "soft_similarity", counted if match == "soft" else metric.soft_similarity)
        state = learner.adapt(support)
        scores = learner.predict(state, query).scores
        return len(calls), state["within"], scores

    whole = SIMILARITIES[match]
    n_whole, within, scores = compared(10**9)
    n_parts, within_in_parts, scores_in_parts = compared(1)
    # Six takes among themselves, then five queries; warping compares takes among themselves by pairs.
    assert (n_whole, n_parts) == ((1, 5) if match == "dtw" else (2, 11))
    torch.testing.assert_close(within_in_parts, within)
    torch.testing.assert_close(scores_in_parts, scores)


# -------------------------------------------------------------------------------------------- what follows training


def furnished(n_cohort: int = 30, **options: Any) -> Any:
    """A learner with a cohort and a metric that is not the identity."""
    learner = learner_of(match="dtw", **options)
    generator = torch.Generator().manual_seed(9)
    size = learner.encoder.dim
    mixed = torch.eye(size) + 0.2 * torch.randn(size, size, generator=generator)
    sounds = torch.nn.functional.normalize(torch.randn(n_cohort, 8, size, generator=generator), dim=-1)
    learner.furnish(mixed, sounds)
    return learner


@torch.no_grad()
def test_a_cohort_moves_all_scores_of_an_item_alike() -> None:
    plain, learner, support, query = furnished(0), furnished(), batch([0, 0, 1, 2, 2]), batch([0, 1, 2], 1)
    before = plain.predict(plain.adapt(support), query).scores
    after = learner.predict(learner.adapt(support), query).scores
    moved = before - after
    torch.testing.assert_close(moved, moved[:, :1].expand_as(moved))
    expected = learner.log_scale.exp() * learner.commonness(*learner.embed(query))
    torch.testing.assert_close(moved[:, 0], expected)
    assert float(expected.abs().min()) > 0.01


@torch.no_grad()
def test_commonness_is_half_the_likeness_to_the_nearest_of_the_cohort() -> None:
    learner, query = furnished(), batch([0, 1, 2], 1)
    frames, lengths = learner.embed(query)
    cohort = metric.from_levels(learner.cohort)
    known = torch.full((len(cohort),), 8)
    alike = SIMILARITIES["dtw"](frames, lengths, cohort, known)
    expected = metric.COHORT_WEIGHT * alike.sort(1, descending=True).values[:, : metric.N_NEAREST].mean(1)
    torch.testing.assert_close(learner.commonness(frames, lengths), expected)


@torch.no_grad()
@pytest.mark.parametrize("nearness", [0.0, 6.0])
def test_what_is_known_of_an_item_is_not_computed_again_and_leave_one_out_agrees(nearness: float) -> None:
    learner, support = furnished(nearness=nearness), batch([0, 0, 1, 1, 2])
    state = learner.adapt(support)
    embedded = learner.embed(support)
    scores = learner.compare(state, *embedded).scores
    torch.testing.assert_close(learner.compare(state, *embedded, learner.commonness(*embedded)).scores, scores)
    moved = learner.compare(state, *embedded, torch.zeros(5)).scores - scores
    expected = learner.log_scale.exp() * learner.commonness(*embedded)
    torch.testing.assert_close(moved, expected[:, None].expand_as(moved))
    alone = learner.leave_one_out(state)
    for i in range(2):  # a take of a word of two, left out by hand
        others = [j for j in range(5) if j != i]
        rest = Batch(support.inputs[others], support.lengths[others], support.labels[others], 3)
        one = Batch(support.inputs[i : i + 1], support.lengths[i : i + 1], support.labels[i : i + 1], 3)
        torch.testing.assert_close(learner.predict(learner.adapt(rest), one).scores[0], alone[i])


def test_training_hears_neither_metric_nor_cohort_nor_nearness() -> None:
    plain, learner, task = learner_of(match="dtw").train(), furnished(nearness=6.0).train(), batch([0, 0, 1, 1])
    torch.testing.assert_close(plain.score_each(task), learner.score_each(task))


def test_unit_frames_survive_eight_bits() -> None:
    frames = torch.nn.functional.normalize(torch.randn(500, 58, generator=torch.Generator().manual_seed(0)), dim=-1)
    again = metric.from_levels(metric.as_levels(frames))
    assert float((frames @ frames.T - again @ again.T).abs().max()) < 0.02
