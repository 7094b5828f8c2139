"""Learners by name: each name means what papers mean by it, whatever else the configuration says."""

from typing import Any

import pytest
import torch

from metavox.checkpoint import build
from metavox.config import LearnerConfig, ModelConfig
from metavox.contracts import Batch, FrontEnd
from metavox.learners.outer import joint, leave_one_out, query_loss
from metavox.learners.presets import BASELINES, LEARNERS


def test_each_name_is_trained_by_its_rule_and_baselines_by_none() -> None:
    outer = {name: preset.outer for name, preset in LEARNERS.items()}
    assert outer.pop("prototypes") is leave_one_out
    assert outer.pop("fomaml") is query_loss
    assert outer.pop("joint") is joint
    assert outer == dict.fromkeys(BASELINES)


@pytest.mark.parametrize("name", ["fomaml", "joint"])
def test_the_inner_loop_is_as_configured(name: str) -> None:
    config = LearnerConfig(name=name, inner_steps=7, inner_lr=0.3, adapts="head", n_base_classes=4)
    learner: Any = build(ModelConfig(learner=config))
    assert (learner.n_steps, learner.lr, learner.adapts_body, learner.second_order) == (7, 0.3, False, False)
    assert learner.base_head.out_features == 4


def test_a_learner_called_dtw_warps_time_whatever_match_says() -> None:
    assert {build(ModelConfig(learner=LearnerConfig(name="dtw", match=m))).match for m in ("soft", "dtw")} == {"dtw"}
    assert build(BASELINES["dtw"]).match == "dtw"


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_has_nothing_that_was_learned(name: str) -> None:
    assert not list(build(BASELINES[name]).encoder.parameters())
    first, second = (build(BASELINES[name], seed=seed).state_dict() for seed in (0, 1))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_the_nearest_mean_is_the_cosine_to_the_mean_of_unit_windows() -> None:
    learner = build(BASELINES["nearest_mean"])
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(8, 64, 40, generator=generator)
    labels = torch.tensor([0, 1, 2, 1, 1])
    support = Batch(inputs[:5], torch.full((5,), 64), labels, 3)
    query = Batch(inputs[5:], torch.full((3,), 64), torch.zeros(3, dtype=torch.long), 3)
    scores = learner.predict(learner.adapt(support), query).scores
    flat = inputs.flatten(1) / inputs.flatten(1).norm(dim=1, keepdim=True)
    for label in range(3):
        mean = flat[:5][labels == label].mean(0)
        for i in range(3):
            assert float(scores[i, label]) == pytest.approx(float(flat[5 + i] @ mean / mean.norm()), abs=1e-6)


def test_the_trimmed_nearest_mean_crops_normalises_and_resamples() -> None:
    front_end = BASELINES["nearest_mean"].front_end
    assert (front_end.crop, front_end.normalize, front_end.n_frames) == (True, True, 64)
    assert BASELINES["dtw"].front_end == FrontEnd(normalize=False, n_frames=None)
