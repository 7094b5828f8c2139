"""The shelf of gradient learners: each row's whole meta-gradient by finite differences, alike from every executor."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from test_gradient import batch
from torch import Tensor, nn

from metavox.checkpoint import build
from metavox.config import EncoderConfig, LearnerConfig, ModelConfig
from metavox.contracts import Draw, Episode, FrontEnd, InputError, State
from metavox.engine import MultiStep
from metavox.engine.choice import EXECUTORS
from metavox.learners.by_gradient import BY_GRADIENT
from metavox.learners.gradient import GradientLearner
from metavox.learners.outer import meta_gradient
from metavox.learners.preset import Range, resolved
from metavox.learners.presets import LEARNERS, has_fixed_head
from metavox.learners.sides import joined
from metavox.losses import balanced_cross_entropy, cross_entropy
from metavox.tasks import Commands


class Bottleneck(nn.Module):
    """What ``adapters`` adapts."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(4, 2), nn.Linear(2, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(torch.tanh(self.down(x)))


class Smooth(nn.Module):
    """All that learners ask of an encoder, in layers with derivatives of every order."""

    def __init__(self) -> None:
        super().__init__()
        self.front_end, self.dim, self.condition = FrontEnd(n_mels=8), 3, 2
        self.inward, self.adapter, self.outward = nn.Linear(8, 4), Bottleneck(), nn.Linear(4, 3)
        self.film = nn.Linear(2, 8, bias=False)

    def forward(self, inputs: Tensor, lengths: Tensor, context: Tensor | None = None) -> Tensor:
        x = torch.tanh(self.inward(inputs))
        if context is not None:
            gain, shift = self.film(context).chunk(2, -1)
            x = (1 + gain) * x + shift
        return torch.tanh(self.outward(x + self.adapter(x)))

    def out_lengths(self, lengths: Tensor) -> Tensor:
        return lengths


def episode(seed: int = 0) -> Episode:
    none = np.zeros(0, np.int64)
    draw = Draw(("a", "b", "c"), np.arange(3), none, none, none, none)
    return Episode(batch([0, 1, 2, 1, 0], 3, seed), batch([2, 0, 1, 1], 3, seed + 100), draw)


def learner_of(name: str, **options: Any) -> GradientLearner:
    """A row on the smooth encoder, all of whose weights are away from zero, in the middle of its training."""
    asked = {"inner_steps": 3, "inner_lr": 0.4, "executor": "loop", **options}
    ways = {"ways": 3} if "fixed" in (asked.get("head"), LEARNERS[name].fixed.get("head")) else {}
    config = resolved(ModelConfig(learner=LearnerConfig(name=name, **asked, **ways)), LEARNERS)
    torch.manual_seed(3)
    learner: Any = LEARNERS[name].build(Smooth(), config.learner).double()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, dtype=torch.float64, generator=generator))
    learner.progress(0.5)
    return learner


@dataclass(frozen=True)
class Asked:
    """A row, and what is asked of it beside its name."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)

    def learner(self, **options: Any) -> GradientLearner:
        return learner_of(self.name, **{**self.options, **options})


EVERY = {"step_sizes": "value", "curvature": True}
ROWS = {
    **{name: Asked(name) for name in BY_GRADIENT},
    "boil, fixed head": Asked("boil", {"head": "fixed"}),
    "cavia, fixed head": Asked("cavia", {"head": "fixed"}),
    "cavia, all learned": Asked("cavia", EVERY),
    "lora, all learned": Asked("lora", EVERY),
    "anil, all learned": Asked("anil", EVERY),
    "patterns": Asked("maml", {"adapts": ("encoder.outward.*", "head.bias"), "head": "prototypes", **EVERY}),
    "multi-step": Asked("proto_maml", {"multi_step": True}),
}
IMPLICIT, REPTILE, CONSTANT = ("imaml",), ("reptile",), ("fomaml", "fo_proto_maml")
SECOND = [name for name in ROWS if name not in (*IMPLICIT, *REPTILE, *CONSTANT)]


def query_loss(learner: GradientLearner, state: dict[str, Tensor], task: Episode) -> Tensor:
    return cross_entropy(learner.predict(state, task.query).scores, task.query.labels)


@torch.no_grad()
def objective(learner: GradientLearner, task: Episode) -> float:
    """What the meta-gradient is the slope of, from the two verbs alone."""
    states = list(learner.trajectory(task.support))[1:]
    judge = learner.judge
    weights = judge.weights if isinstance(judge, MultiStep) else (*(0.0,) * (len(states) - 1), 1.0)
    return sum(w * float(query_loss(learner, state, task)) for w, state in zip(weights, states, strict=True))


def held_together(learner: GradientLearner, found: dict[str, Tensor], value: Any, by: float = 1e-5) -> None:
    """A gradient against differences of ``value()`` along a random direction of each single parameter."""
    generator = torch.Generator().manual_seed(11)
    assert found.keys() == dict(learner.named_parameters()).keys()
    for name, parameter in learner.named_parameters():
        direction = torch.randn(parameter.shape, dtype=torch.float64, generator=generator)
        before, ends = parameter.detach().clone(), []
        for sign in (1, -1):
            with torch.no_grad():
                parameter.copy_(before + sign * by * direction)
            ends.append(value())
        with torch.no_grad():
            parameter.copy_(before)
        measured = (ends[0] - ends[1]) / (2 * by)
        assert float((found[name] * direction).sum()) == pytest.approx(measured, rel=1e-5, abs=1e-8), name


def gradient_of(learner: GradientLearner, task: Episode) -> dict[str, Tensor]:
    return meta_gradient(learner, Commands(), [task]).values


@pytest.mark.parametrize("name", SECOND)
def test_a_meta_gradient_is_that_of_finite_differences(name: str) -> None:
    learner = ROWS[name].learner()
    assert learner.order == 1
    found = gradient_of(learner, episode())
    held_together(learner, found, lambda: objective(learner, episode()))
    # A context that does not adapt is not heard; a row that classes share cancels, up to rounding.
    nothing = {key for key in found if "film" in key and "cavia" not in name} | ({"head.row"} & set(found))
    assert {key for key, value in found.items() if float(value.abs().max()) < 1e-12} == nothing


@pytest.mark.parametrize("name", CONSTANT)
def test_a_first_order_gradient_takes_the_way_of_the_steps_for_a_constant(name: str) -> None:
    learner, task = ROWS[name].learner(), episode()
    with torch.no_grad():
        start, end = learner.initial(task.support), learner.adapt(task.support)
        way = {key: end[key] - start[key] for key in start}

        def value() -> float:
            with torch.no_grad():
                moved = {key: value + way[key] for key, value in learner.initial(task.support).items()}
                return float(query_loss(learner, moved, task))

    held_together(learner, gradient_of(learner, task), value)


def test_reptile_goes_the_way_of_its_steps() -> None:
    learner, task = learner_of("reptile"), episode()
    with torch.no_grad():
        start, end = learner.initial(joined(task)), learner.adapt(joined(task))
    for name, value in gradient_of(learner, task).items():
        expected = start[name] - end[name] if name in start else torch.zeros_like(value)
        torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)


def test_reptile_learns_from_all_takes_of_an_episode() -> None:
    learner, task = learner_of("reptile"), episode()
    found, other = (gradient_of(learner, one) for one in (task, replace(task, query=episode(5).query)))
    assert not all(torch.allclose(value, other[name]) for name, value in found.items())


def test_the_usual_inner_loop_of_implicit_gradients_comes_near_its_optimum() -> None:
    """Their formula is that of an optimum; what is left of the slope says how far it is."""
    config = resolved(ModelConfig(learner=LearnerConfig(name="imaml")), LEARNERS).learner
    learner = learner_of("imaml", inner_steps=config.inner_steps, inner_lr=config.inner_lr, prox=config.prox)
    task = episode()
    states = list(learner.trajectory(task.support))

    def slope(state: State) -> float:
        at = {name: value.detach().requires_grad_() for name, value in state.items()}
        pull = sum((at[name] - states[0][name].detach()).square().sum() for name in at)
        scores = learner.predict(at, task.support).scores
        loss = balanced_cross_entropy(scores, task.support.labels) + config.prox / 2 * pull
        return float(torch.cat([grad.flatten() for grad in torch.autograd.grad(loss, list(at.values()))]).norm())

    assert slope(states[-1]) < 0.1 * slope(states[0])


def test_the_implicit_gradient_is_that_of_finite_differences_where_the_steps_have_arrived() -> None:
    learner = learner_of("imaml", inner_steps=60, inner_lr=0.1, prox=5.0, cg_iterations=80)
    held_together(learner, gradient_of(learner, episode()), lambda: objective(learner, episode()))


@pytest.mark.parametrize("name", ROWS)
def test_every_executor_gives_the_same(name: str) -> None:
    tasks = [episode(seed) for seed in (0, 1)]
    quick = {"inner_steps": 2, "cg_iterations": 2}
    loop, *others = [meta_gradient(ROWS[name].learner(executor=e, **quick), Commands(), tasks) for e in EXECUTORS]
    for other in others:
        assert other.losses == pytest.approx(loop.losses, rel=1e-10)
        for key, value in loop.values.items():
            torch.testing.assert_close(
                other.values[key], value, rtol=1e-10, atol=1e-10, msg=lambda m, k=key: f"{k}: {m}"
            )


# ------------------------------------------------------------------------------------------------- as training goes on


def test_the_multi_step_loss_is_annealed_to_the_last_step_and_the_order_to_the_second() -> None:
    learner = learner_of("maml_plus_plus", inner_steps=4)
    for share, early, order in ((0.0, 0.25, 0.0), (0.15, 0.2125, 0.5), (0.3, 0.175, 1.0), (1.0, 0.0, 1.0)):
        learner.progress(share)
        assert isinstance(learner.judge, MultiStep)
        assert learner.judge.weights == pytest.approx((early, early, early, 1 - 3 * early))
        assert learner.order == pytest.approx(order)


@pytest.mark.parametrize("executor", ["loop", "captured"])
def test_one_learner_follows_its_weights_from_step_to_step(executor: str) -> None:
    """Also to the end, where earlier steps are not asked any more, and back."""
    learner = learner_of("maml_plus_plus", inner_steps=2, executor=executor)
    for share in (0.4, 0.8, 1.0, 0.4):
        learner.progress(share)
        fresh = learner_of("maml_plus_plus", inner_steps=2)
        fresh.progress(share)
        for name, value in gradient_of(learner, episode()).items():
            torch.testing.assert_close(value, gradient_of(fresh, episode())[name], rtol=1e-10, atol=1e-10)


def test_what_is_frozen_is_used_and_not_learned() -> None:
    learner, other = (learner_of("meta_sgd", curvature=True) for _ in range(2))
    for name, parameter in learner.named_parameters():
        parameter.requires_grad_(not name.startswith(("update.", "encoder.inward")))
    found, whole = gradient_of(learner, episode()), gradient_of(other, episode())
    assert found.keys() == {name for name, parameter in learner.named_parameters() if parameter.requires_grad}
    for name, value in found.items():
        torch.testing.assert_close(value, whole[name], rtol=1e-10, atol=1e-12)


# ------------------------------------------------------------------------------------------------------ what a row says


@pytest.mark.parametrize("name", BY_GRADIENT)
def test_a_row_says_who_published_it_and_what_is_tuned(name: str) -> None:
    row = BY_GRADIENT[name]
    assert row.family == "gradient"
    assert any(part.isdigit() and len(part) == 4 for part in row.source.replace(",", " ").split())
    assert "inner_lr" in row.search
    assert 1 <= len(row.search) <= 3
    for key, choices in row.search.items():
        options = (choices.low, choices.high) if isinstance(choices, Range) else choices
        for option in options:
            LearnerConfig.model_validate({"name": name, key: option})


@pytest.mark.parametrize(("name", "head"), [("boil", "fixed"), ("cavia", "fixed")])
def test_a_learned_head_that_stays_belongs_to_the_model_and_not_to_a_state(name: str, head: str) -> None:
    learner = learner_of(name, head=head)
    assert learner.fixed_ways
    assert not {"head.weight", "head.bias"} & set(learner.adapt(episode().support))
    assert not torch.equal(
        *(learner.predict(s, episode().query).scores for s in ({}, learner.adapt(episode().support)))
    )


def test_a_context_is_heard_by_the_head_too() -> None:
    """Class means in a state are those of the takes as they are heard with the context that was found."""
    learner, task = learner_of("cavia"), episode()
    state = learner.adapt(task.support)
    heard = learner.vectors(task.support, {"adapted.context": state["adapted.context"]})
    means = torch.stack([heard[task.support.labels == label].mean(0) for label in range(3)])
    torch.testing.assert_close(state["head.weight"], 2 * means, rtol=1e-12, atol=1e-12)
    assert not learner.adapts_body


def test_a_fixed_head_is_known_from_name_and_options() -> None:
    def asked(**learner: Any) -> bool:
        return has_fixed_head(ModelConfig(learner=LearnerConfig(**learner)))

    assert asked(name="maml_fixed")
    assert asked(name="cavia", head="fixed")
    assert not asked(name="maml")
    assert not asked(name="prototypes", head="fixed")  # which has no head


CONV = EncoderConfig(channels=8, dim=4, blocks=2)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"name": "maml_fixed"}, "learner.head is fixed and learner.ways is 0; set it to the number of classes"),
        ({"name": "maml_fixed", "head": "zero"}, "learner.head is zero and maml_fixed is the learner with head=fixed"),
        ({"name": "boil", "head": "zero"}, "learner.head is zero, learner.adapts body and learner.inner_steps 5: what"),
        ({"name": "cavia", "head": "row"}, "learner.head is row, learner.adapts context"),
        ({"name": "anil", "inner_steps": 0}, "learner.adapts head and learner.inner_steps 0: what begins alike"),
        ({"name": "maml_plus_plus", "head": "prototypes", "inner_steps": 0}, "learner.multi_step asks for the loss"),
        ({"name": "maml", "adapts": ("encoder.*",)}, "what begins alike for all classes"),
        ({"name": "maml", "adapts": "context"}, "learner.adapts is context and encoder.condition is 0"),
        ({"name": "maml", "adapts": "adapters"}, "learner.adapts is adapters and encoder.adapter is 0"),
        ({"name": "reptile", "head": "row"}, "reptile learns only what its inner loop moves"),
        ({"name": "reptile", "adapts": "head"}, "reptile learns only what its inner loop moves: the body would stay"),
        ({"name": "reptile", "multi_step": True}, "reptile is the learner with multi_step=false"),
        ({"name": "fomaml", "anneal": (0.0, 0.3)}, "fomaml is the learner with anneal=null"),
        (
            {"name": "imaml", "inner_lr": 1.0, "prox": 2.0},
            "learner.inner_lr is 1 and learner.prox is 2; the inner",
        ),
        ({"name": "masked", "head": "fixed"}, "learner.head is fixed, which masked training does not learn"),
        ({"name": "masked", "curvature": True}, "masked is the learner with curvature=false"),
        ({"name": "reptile", "curvature": True}, "learner.curvature is true and reptile is the learner with curvature"),
        ({"name": "imaml", "step_sizes": "value"}, "imaml is the learner with step_sizes=given"),
        ({"name": "joint", "head": "fixed"}, "learner.head is fixed, which joint training does not learn"),
        ({"name": "joint", "step_sizes": "value"}, "joint is the learner with step_sizes=given"),
        ({"name": "anil", "adapts": "all"}, "anil is the learner with adapts=head"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        build(ModelConfig(encoder=CONV, learner=LearnerConfig(**options)))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_encoder_without_matrices_has_nothing_of_low_rank() -> None:
    with pytest.raises(InputError, match="the encoder has no matrix to change"):
        build(ModelConfig(encoder=EncoderConfig(name="mfcc"), learner=LearnerConfig(name="lora")))


@pytest.mark.parametrize("name", ["cavia", "adapters", "film"])
@pytest.mark.parametrize("encoder", ["conformer", "mfcc"])
def test_an_encoder_whose_blocks_have_nothing_for_a_learner_is_refused_by_name(name: str, encoder: str) -> None:
    with pytest.raises(InputError, match=f"learner.name is {name}, which needs .* set encoder.name to conv or crnn"):
        build(ModelConfig(encoder=EncoderConfig(name=encoder), learner=LearnerConfig(name=name)))


def test_what_adapts_has_a_name_and_annealing_goes_forward() -> None:
    for options in ({"adapts": ()}, {"anneal": (0.5, 0.2)}):
        with pytest.raises(ValidationError):
            LearnerConfig(name="maml", **options)


def test_only_learners_that_compare_by_a_formula_hear_less_of_the_cepstra_in_training() -> None:
    """What is learned behind the encoder must hear in training what it hears in use."""
    by_formula = {"prototypes", "classified_prototypes", "voiced_prototypes", "protonet", "matching"}
    for name, preset in LEARNERS.items():
        config = resolved(ModelConfig(learner=LearnerConfig(name=name)), LEARNERS).encoder
        if preset.outer is not None:
            light = name in by_formula or preset.family == "joint"
            assert (config.cepstra, config.cepstra_in_training) == ((1.4, 0.5) if light else (0.5, None)), name
    asked = ModelConfig(encoder=EncoderConfig(cepstra=1.0), learner=LearnerConfig(name="maml"))
    encoder: Any = build(asked).encoder
    assert (encoder.weight, encoder.weight_in_training) == (1.0, 1.0)
    asked = ModelConfig(encoder=EncoderConfig(cepstra_in_training=0.0), learner=LearnerConfig(name="prototypes"))
    assert resolved(asked, LEARNERS).encoder.cepstra_in_training == 0.0


def test_rows_bring_the_encoder_that_they_need_and_leave_a_size_that_is_asked() -> None:
    for name, key, usual in (("cavia", "condition", 32), ("adapters", "adapter", 8)):
        for asked, size in ((0, usual), (5, 5)):
            config = ModelConfig(encoder=CONV.model_copy(update={key: asked}), learner=LearnerConfig(name=name))
            assert getattr(resolved(config, LEARNERS).encoder, key) == size
