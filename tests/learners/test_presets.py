"""Learners by name: each name means what papers mean by it, whatever else the configuration says."""

from typing import Any

import pytest
import torch

from metavox.checkpoint import build
from metavox.config import LearnerConfig, ModelConfig
from metavox.contracts import FrontEnd
from metavox.learners.by_gradient import BY_GRADIENT
from metavox.learners.masked import masked
from metavox.learners.outer import (
    in_turn,
    joint,
    leave_one_out,
    leave_one_out_and_joint,
    leave_one_out_and_voices,
    meta_gradient,
    open_set,
    query_loss,
)
from metavox.learners.presets import BASELINES, LEARNERS

REMEMBERING = (
    *("protonet", "matching", "relation", "gaussian", "crosstransformer"),
    *("support_conditioned", "cnp", "set_attention"),
)


def test_each_name_is_trained_by_its_rule_and_baselines_by_none() -> None:
    outer = {name: preset.outer for name, preset in LEARNERS.items()}
    assert {outer.pop(name) for name in REMEMBERING} == {in_turn}
    assert outer.pop("prototypes") is leave_one_out
    assert outer.pop("classified_prototypes") is leave_one_out_and_joint
    assert outer.pop("voiced_prototypes") is leave_one_out_and_voices
    assert (outer.pop("open_prototypes"), outer.pop("film")) == (open_set, query_loss)
    assert {outer.pop(name) for name in BY_GRADIENT} == {meta_gradient}
    assert {outer.pop(name) for name in ("joint", "linear_probe", "simpleshot")} == {joint}
    assert outer.pop("masked") is masked
    assert outer == dict.fromkeys(BASELINES)


@pytest.mark.parametrize(("name", "order"), [("maml", 1), ("fomaml", 0), ("reptile", 0), ("imaml", 0), ("joint", 0)])
def test_the_inner_loop_is_as_configured(name: str, order: float) -> None:
    adapts: Any = "body" if name == "reptile" else "head"
    config = LearnerConfig(name=name, inner_steps=7, inner_lr=0.3, adapts=adapts, head="prototypes", n_base_classes=4)
    learner: Any = build(ModelConfig(learner=config))
    found = (learner.rule.n_steps, learner.rule.lr, learner.adapts_body, learner.order)
    assert found == (7, 0.3, adapts == "body", order)
    assert learner.base_head.out_features == 4


def test_a_learner_called_dtw_warps_time_whatever_match_says() -> None:
    assert {build(ModelConfig(learner=LearnerConfig(name="dtw", match=m))).match for m in ("soft", "dtw")} == {"dtw"}
    assert build(BASELINES["dtw"]).match == "dtw"


@pytest.mark.parametrize("name", ["nearest_mean", "dtw"])
def test_a_baseline_of_templates_has_no_weights(name: str) -> None:
    assert not list(build(BASELINES[name]).encoder.parameters())
    first, second = (build(BASELINES[name], seed=seed).state_dict() for seed in (0, 1))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("name", ["joint", "linear_probe", "simpleshot"])
def test_learners_of_joint_training_share_their_weights_by_name_and_start_alike(name: str) -> None:
    config = ModelConfig(learner=LearnerConfig(name=name, n_base_classes=4))
    joint_config = ModelConfig(learner=LearnerConfig(name="joint", n_base_classes=4))
    own, theirs = build(config, seed=1).state_dict(), build(joint_config, seed=1).state_dict()
    assert own.keys() == theirs.keys()
    assert all(torch.equal(own[key], theirs[key]) for key in own)


def test_the_heads_of_joint_training_are_as_configured() -> None:
    for key, value, name in (("probe_l2", 0.3, "linear_probe"), ("centring", "l2n", "simpleshot")):
        learner: Any = build(ModelConfig(learner=LearnerConfig(name=name, n_base_classes=4, **{key: value})))
        assert getattr(learner, key.removeprefix("probe_")) == value
        assert learner.base_head.out_features == 4


def test_the_trimmed_nearest_mean_crops_normalises_and_resamples() -> None:
    front_end = BASELINES["nearest_mean"].front_end
    assert (front_end.crop, front_end.normalize, front_end.n_frames) == (True, True, 64)
    assert BASELINES["dtw"].front_end == FrontEnd(normalize=False, n_frames=None)
