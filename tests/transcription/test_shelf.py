"""The shelf: each name is settings of pieces that exist, and what contradicts a name is refused."""

from typing import Any

import pytest
import torch
from sequence_cases import net_of, utterances

from metavox.config.transcription import LearningConfig, RecogniserConfig, TranscriptionExperiment
from metavox.contracts import InputError
from metavox.engine.inner import func_slope, support_loss
from metavox.engine.phases import way_forward
from metavox.learners.sequence_outer import META
from metavox.learners.sequence_problem import as_tree
from metavox.text.symbols import Symbols
from metavox.transcription.models import Recognition, widened
from metavox.transcription.plans import WAYS
from metavox.transcription.shelf import ADAPT_LR, INNER_LR, LR, SHELF, resolved, row
from metavox.transcription.trainer import meta_of

TRAINED = [name for name, one in SHELF.items() if one.learning is not None]


def asked(name: str, recogniser: dict[str, Any] | None = None, **learning: Any) -> TranscriptionExperiment:
    return TranscriptionExperiment(
        recogniser=RecogniserConfig(**(recogniser or {})), learning=LearningConfig(learner=name, **learning)
    )


TASKS = [(utterances(2), utterances(2, 1))]


def base() -> Recognition:
    return Recognition(net_of(squeeze=False), Symbols(tuple("abcde"), "roman"), "tones", "", {})


@pytest.mark.parametrize("name", TRAINED)
def test_every_name_is_a_recipe(name: str) -> None:
    found = resolved(asked(name))
    TranscriptionExperiment.model_validate(found.model_dump())
    one = SHELF[name]
    assert one.learning is not None
    assert all(getattr(found.learning, key) == value for key, value in {**one.usual, **one.learning}.items())
    assert resolved(found) == found
    config = found.recogniser
    net = widened(base(), adapter=config.adapter, condition=min(config.condition, 4)).net
    meta = meta_of(found, net)
    assert (meta is not None) == (found.learning.outer in META) == (one.family == "gradient")
    if meta is not None:  # and its inner loop runs, further than one whose steps have no length
        still = resolved(asked(name, inner_lr=1e-9))
        found_of, without = (one.gradient(TASKS) for one in (meta, meta_of(still, net)) if one is not None)
        assert all(bool(value.isfinite().all()) for value in found_of.values.values())
        assert any(bool(value.any()) for value in found_of.values.values())
        assert abs(found_of.loss - without.loss) > 1e-4


@pytest.mark.parametrize("name", SHELF)
def test_a_row_says_how_it_adapts_and_what_is_tuned(name: str) -> None:
    one = SHELF[name]
    assert one.adapts is WAYS[one.way]
    assert one.source
    wanted = {LR} if one.learning is not None else set()
    wanted |= {ADAPT_LR} if one.way != "conditioned" else set()
    wanted |= {INNER_LR} if one.family == "gradient" and name != "imaml" else set()
    assert wanted == set(one.space) - {"learning.prox"}
    assert ("learning.prox" in one.space) == (name == "imaml")
    own = {**LearningConfig().model_dump(), **one.usual}
    for key, choice in one.search.items():
        assert choice.low <= own[key.removeprefix("learning.")] <= choice.high
    if one.shares:
        other = SHELF[one.shares]
        assert not other.shares
        assert other.learning == one.learning


@pytest.mark.parametrize(
    ("name", "adapts", "rank", "encoding"),
    [
        ("anil", {"head.weight", "head.bias"}, 0, "none"),
        ("cavia", {"encoding"}, 0, "zero"),
        ("cavia_heard", {"encoding"}, 0, "support"),
    ],
)
def test_inner_loops_change_what_papers_say(name: str, adapts: set[str], rank: int, encoding: str) -> None:
    found = resolved(asked(name))
    meta = meta_of(found, widened(base(), condition=min(found.recogniser.condition, 4)).net)
    assert meta is not None
    assert (meta.inner.rank, meta.inner.encoding) == (rank, encoding)
    assert set(meta.rule.adapts) == adapts


@pytest.mark.parametrize("prox", [SHELF["imaml"].search["learning.prox"].low, SHELF["imaml"].usual["prox"]])
def test_the_inner_loop_of_imaml_comes_near_its_optimum(prox: float) -> None:
    """Its formula is that of an optimum; where steps have a length of their own it is not approached."""
    net = base().net
    meta = meta_of(resolved(asked("imaml", prox=prox)), net)
    assert meta is not None
    assert meta.rule.transform is None
    values = {name: value.detach() for name, value in net.named_parameters()}
    support = as_tree(utterances(6))
    path, _ = way_forward(meta.problem, meta.rule, values, support, prox)
    lengths = []
    for at in (path[0], path[-1]):
        loss = support_loss(meta.problem, values, path[0], support, 0.0, prox)
        grads, _ = func_slope(loss, at, 0.0)
        lengths.append(float(torch.stack([grad.square().sum() for grad in grads.values() if grad is not None]).sum()))
    assert lengths[1] ** 0.5 < (0.4 if prox < 5 else 0.15) * lengths[0] ** 0.5


def test_none_is_told_phones() -> None:
    assert all(resolved(asked(name)).train.phone_weight == 0 for name in TRAINED)
    silent = TranscriptionExperiment.model_validate({"learning": {"learner": "joint"}, "train": {"phone_weight": 0}})
    assert resolved(silent).train.phone_weight == 0
    told = TranscriptionExperiment.model_validate({"learning": {"learner": "joint"}, "train": {"phone_weight": 0.3}})
    with pytest.raises(InputError, match=r"train\.phone_weight is 0\.3 and learning\.learner is 'joint', which learns"):
        resolved(told)


def test_the_network_gets_what_its_learner_needs() -> None:
    assert resolved(asked("conditioned")).recogniser.condition_by == "film"
    assert resolved(asked("conditioned", {"squeeze": True})).recogniser.condition_by == "gate"
    assert resolved(asked("conditioned", {"condition": 7})).recogniser.condition == 7
    assert resolved(asked("maml_adapters")).recogniser.adapter == WAYS["adapters"].adapter
    assert resolved(asked("adapters")).recogniser.adapter == 0  # they come when it is adapted
    assert resolved(asked("maml")).recogniser == RecogniserConfig()
    plain = TranscriptionExperiment()
    assert resolved(plain) is plain


def test_what_may_be_chosen_stays_as_it_was_asked_for() -> None:
    found = resolved(asked("anil", inner_lr=0.5, share=0.2, inner_steps=7)).learning
    assert (found.inner_lr, found.share, found.inner_steps) == (0.5, 0.2, 7)
    assert resolved(asked("anil", adapts=("head.*",))).learning.adapts == ("head.*",)


@pytest.mark.parametrize(
    ("name", "learning", "said"),
    [
        ("anil", {"adapts": ("*",)}, r"learning\.adapts is \[\*\] and anil is the learner with adapts=\[head\.\*\]"),
        (
            "maml",
            {"outer": "reptile"},
            r"learning\.outer is reptile and maml is the learner with outer=maml; leave",
        ),
        ("cavia", {"encoding": "none"}, "encoding=zero"),
        ("mamml", {}, r"learning\.learner is 'mamml'; did you mean maml\?"),
        ("scratch", {}, r"learning\.learner is 'scratch', which learns nothing from a base; choose from joint"),
    ],
)
def test_what_contradicts_a_name_is_refused_in_a_sentence(name: str, learning: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        resolved(asked(name, **learning))
    if name == "mamml":
        with pytest.raises(InputError, match=said):
            row(name)
