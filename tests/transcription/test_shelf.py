"""The shelf: each name is settings of pieces that exist, and what contradicts a name is refused."""

from typing import Any

import pytest
from sequence_cases import net_of, utterances

from metavox.config.transcription import LearningConfig, RecogniserConfig, TranscriptionExperiment
from metavox.contracts import InputError
from metavox.learners.sequence_outer import META
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
    if meta is not None:  # and its inner loop runs
        assert meta.gradient([(utterances(2), utterances(2, 1))]).values


@pytest.mark.parametrize("name", SHELF)
def test_a_row_says_how_it_adapts_and_what_is_tuned(name: str) -> None:
    one = SHELF[name]
    assert one.adapts is WAYS[one.way]
    assert one.source
    wanted = {LR} if one.learning is not None else set()
    wanted |= {ADAPT_LR} if one.way != "conditioned" else set()
    wanted |= {INNER_LR} if one.family == "gradient" else set()
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
