"""Several learners as one: averaged scores in closed form, the contract of a learner, and what products enrol with."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sounds
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import said
from scipy.special import logsumexp, softmax
from torch import Tensor

from metavox.averaging.members import AveragedLearner, averaged_scores
from metavox.checkpoint import Model, averaged, build, load_model, save_averaged, save_model
from metavox.config import EncoderConfig, LearnerConfig, ModelConfig
from metavox.contracts import Batch, Enrollable, FrontEnd, Learner
from metavox.runtime.commands import CommandRecognizer

SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(2, 5))
FRONT_END = FrontEnd(n_mels=16, n_frames=32, normalize=False)
CONV = EncoderConfig(channels=16, blocks=2, dim=8)
OTHERS = {
    "conv": CONV,
    "wider": CONV.model_copy(update={"channels": 24, "dim": 12}),
    "fc": EncoderConfig(name="fc", channels=16, blocks=2, dim=8),
}
N_CLASSES = 3
SHOTS = (3, 1, 2)


def learner(seed: int = 0, encoder: str = "conv", **settings: Any) -> Any:
    asked = LearnerConfig(**{"match": "soft", **settings})
    return build(ModelConfig(front_end=FRONT_END, encoder=OTHERS[encoder], learner=asked), seed=seed)


def several(form: Any = "mean", weights: list[float] | None = None) -> AveragedLearner:
    """Members of other encoders and seeds."""
    members = [learner(k, encoder) for k, encoder in enumerate(OTHERS)]
    return AveragedLearner(members, form, weights).eval()


def takes(labels: list[int], n_classes: int = N_CLASSES, seed: int = 0) -> Batch:
    """Each class is a trajectory over the bins, said with noise."""
    generator, words = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(9)
    shapes = torch.randn(n_classes, 32, 16, generator=words)
    inputs = shapes[labels] + 0.3 * torch.randn(len(labels), 32, 16, generator=generator)
    return Batch(inputs, torch.full((len(labels),), 32), torch.tensor(labels), n_classes)


def support() -> Batch:
    return takes([label for label, n in enumerate(SHOTS) for _ in range(n)], seed=1)


def query() -> Batch:
    return takes([2, 0, 1, 1, 0], seed=2)


def some(batch: Batch, at: Any, n_classes: int = N_CLASSES) -> Batch:
    return Batch(batch.inputs[at], batch.lengths[at], batch.labels[at], n_classes)


def scores_of(one: Any, batch: Batch, asked: Batch) -> Tensor:
    with torch.no_grad():
        return one.predict(one.adapt(batch), asked).scores


def close(one: Tensor, other: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


# -------------------------------------------------------------------------------------------------------------- scores


def drawn(size: tuple[int, int, int], seed: int, scale: float) -> tuple[list[Tensor], list[float], np.ndarray]:
    """Scores of members, their weights, and all as one array."""
    rng = np.random.default_rng(seed)
    values = scale * rng.standard_normal(size)
    return [torch.from_numpy(one) for one in values], rng.dirichlet(np.ones(size[0])).tolist(), values


@settings(deadline=None, max_examples=40)
@given(SIZES, SEEDS, st.sampled_from([0.1, 3.0, 100.0]))
def test_the_softmax_of_averaged_scores_is_the_mean_that_was_asked_for(
    size: tuple[int, int, int], seed: int, scale: float
) -> None:
    scores, weights, values = drawn(size, seed, scale)
    share = np.asarray(weights)[:, None, None]
    arithmetic = (share * softmax(values, -1)).sum(0)
    np.testing.assert_allclose(averaged_scores(scores, "mean", weights).softmax(-1).numpy(), arithmetic, atol=1e-12)
    geometric = softmax((share * values).sum(0), -1)
    np.testing.assert_allclose(averaged_scores(scores, "log-mean", weights).softmax(-1).numpy(), geometric, atol=1e-12)


@settings(deadline=None, max_examples=40)
@given(SIZES, SEEDS, st.sampled_from([0.1, 3.0, 100.0]), st.sampled_from(["mean", "log-mean"]))
def test_how_alike_a_query_is_to_anything_is_the_mean_of_what_members_say(
    size: tuple[int, int, int], seed: int, scale: float, form: Any
) -> None:
    scores, weights, values = drawn(size, seed, scale)
    level = (np.asarray(weights)[:, None] * logsumexp(values, -1)).sum(0)
    found = averaged_scores(scores, form, weights).logsumexp(-1).numpy()
    np.testing.assert_allclose(found, level, rtol=1e-12, atol=1e-10)
    # A member that is surer of everything by a constant raises the average by its share, and no class above another.
    raised = averaged_scores([scores[0] + 5.0, *scores[1:]], form, weights)
    close(
        raised - averaged_scores(scores, form, weights), torch.full(size[1:], 5 * weights[0], dtype=torch.float64), 1e-9
    )


@pytest.mark.parametrize("form", ["mean", "log-mean"])
def test_one_member_and_members_that_are_one_are_that_one(form: Any) -> None:
    (one,), _, _ = drawn((1, 4, 3), 0, 2.0)
    close(averaged_scores([one], form, [1.0]), one, 1e-12)
    close(averaged_scores([one] * 4, form, [0.4, 0.3, 0.2, 0.1]), one, 1e-12)


@pytest.mark.parametrize("form", ["mean", "log-mean"])
def test_a_class_that_nothing_is_known_of_stays_so_and_the_others_are_averaged(form: Any) -> None:
    scores, _, _ = drawn((2, 2, 4), 1, 2.0)
    for one in scores:
        one[0, 1] = -torch.inf
    found = averaged_scores(scores, form, [0.5, 0.5])
    assert found[0, 1] == -torch.inf
    assert int(found.isinf().sum()) == 1
    known = [one[:1, [0, 2, 3]] for one in scores]
    close(found[:1, [0, 2, 3]], averaged_scores(known, form, [0.5, 0.5]), 1e-12)
    scores[0][1, 2] = -torch.inf  # one member alone
    found = averaged_scores(scores, form, [0.5, 0.5])
    assert found[1, 2] == -torch.inf
    assert not found.isnan().any()


@pytest.mark.parametrize("form", ["mean", "log-mean"])
def test_a_member_of_no_weight_is_not_heard(form: Any) -> None:
    scores, _, _ = drawn((3, 4, 3), 2, 2.0)
    close(averaged_scores(scores, form, [0.0, 1.0, 0.0]), scores[1], 1e-12)
    two = averaged_scores([scores[0], scores[2]], form, [0.25, 0.75])
    close(averaged_scores(scores, form, [0.25, 0.0, 0.75]), two, 1e-12)


# ------------------------------------------------------------------------------------------------------- the contract


@pytest.mark.parametrize("form", ["mean", "log-mean"])
def test_an_average_is_a_learner_whose_scores_are_averages(form: Any) -> None:
    whole = several(form, [0.5, 0.2, 0.3])
    assert isinstance(whole, Learner)
    assert isinstance(whole, Enrollable)
    assert (whole.fixed_ways, whole.adapts_body) == (False, False)
    of_members = [scores_of(member, support(), query()) for member in whole.members]
    close(scores_of(whole, support(), query()), averaged_scores(of_members, form, [0.5, 0.2, 0.3]))


def test_adapting_leaves_the_average_as_it_was() -> None:
    whole = several()
    before = {name: value.clone() for name, value in whole.state_dict().items()}
    state = whole.adapt(support())
    whole.predict(state, query())
    assert all(torch.equal(value, before[name]) for name, value in whole.state_dict().items())
    assert not any(value.requires_grad for value in whole.adapt(support()).values()) or not whole.training
    assert {name.split(".")[0] for name in state} == {"0", "1", "2", "labels"}


@pytest.mark.parametrize("form", ["mean", "log-mean"])
def test_other_labels_change_the_places_of_the_scores_alone(form: Any) -> None:
    whole, batch, order = several(form), support(), torch.tensor([2, 0, 1])
    other = Batch(batch.inputs, batch.lengths, order[batch.labels], N_CLASSES)
    close(scores_of(whole, other, query())[:, order], scores_of(whole, batch, query()))


def test_the_order_of_members_changes_nothing_but_names() -> None:
    whole = several("mean", [0.5, 0.2, 0.3])
    turned = AveragedLearner(list(whole.members)[::-1], "mean", [0.3, 0.2, 0.5]).eval()
    close(scores_of(whole, support(), query()), scores_of(turned, support(), query()))


def test_more_than_ten_members_keep_their_states_apart() -> None:
    """1. and 10. begin alike."""
    members = [learner(seed) for seed in range(12)]
    whole = AveragedLearner(members).eval()
    of_members = [scores_of(member, support(), query()) for member in members]
    close(scores_of(whole, support(), query()), averaged_scores(of_members, "mean", [1 / 12] * 12))


@torch.no_grad()
def test_words_come_and_go_as_if_all_takes_had_been_there_at_once() -> None:
    whole, batch = several(), support()
    for n_first in (1, 3, 4):
        first = some(batch, slice(0, n_first), int(batch.labels[n_first - 1]) + 1)
        grown = whole.extend(whole.adapt(first), some(batch, slice(n_first, None)))
        close(whole.predict(grown, query()).scores, scores_of(whole, batch, query()))
        assert torch.equal(grown["labels"], batch.labels)
    for label in range(N_CLASSES):
        rest = batch.labels != label
        others = batch.labels[rest] - (batch.labels[rest] > label).long()
        expected = Batch(batch.inputs[rest], batch.lengths[rest], others, N_CLASSES - 1)
        state = whole.without(whole.adapt(batch), label)
        close(whole.predict(state, query()).scores, scores_of(whole, expected, query()))
        assert torch.equal(state["labels"], others)


@torch.no_grad()
def test_leaving_one_out_is_adapting_without_it() -> None:
    whole, batch = several("log-mean"), support()
    found = whole.leave_one_out(whole.adapt(batch))
    for i, label in enumerate(batch.labels.tolist()):
        others = torch.arange(len(batch)) != i
        if SHOTS[label] > 1:
            close(found[i], scores_of(whole, some(batch, others), some(batch, slice(i, i + 1)))[0])
        else:
            assert found[i, label] == -torch.inf
    assert int(found.isinf().sum()) == 1


def test_members_that_cannot_gain_a_word_are_said_to() -> None:
    joint = build(ModelConfig(front_end=FRONT_END, encoder=CONV, learner=LearnerConfig(name="maml", inner_steps=1)))
    whole = AveragedLearner([learner(), joint]).eval()
    state = whole.adapt(support())
    for action in (
        lambda: whole.extend(state, support()),
        lambda: whole.without(state, 0),
        lambda: whole.leave_one_out(state),
    ):
        assert "cannot gain or lose a word" in said(action)
    assert whole.adapts_body
    assert torch.isfinite(whole.predict(state, query()).scores).all()


def test_weights_and_members_are_checked() -> None:
    assert "No model was given" in said(lambda: AveragedLearner([]))
    assert "for 1 models" in said(lambda: AveragedLearner([learner()], weights=[1.0, 2.0]))
    assert AveragedLearner([learner(), learner(1)], weights=[1.0, 3.0]).weights == (0.25, 0.75)


# ------------------------------------------------------------------------------------------------------------ products

HOUSE, STRANGE = sounds.WORDS[:3], sounds.WORDS[6:9]


def spoken(words: tuple[str, ...], first: int = 0, n: int = 3) -> tuple[list[Any], list[str]]:
    pairs = [((sounds.say(w, "anna", k), sounds.RATE_HZ), w) for w in words for k in range(first, first + n)]
    return [clip for clip, _ in pairs], [word for _, word in pairs]


def scored(house: CommandRecognizer, clips: list[Any]) -> Tensor:
    return torch.tensor([list(decision.scores.values()) for decision in house.decide(clips)])


@pytest.fixture(scope="module")
def average(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two members that were not trained, which alignment makes useful on tones all the same."""
    root = tmp_path_factory.mktemp("exp")
    members: list[Model] = []
    for k in range(2):
        config = ModelConfig(
            front_end=FrontEnd(n_mels=20, n_frames=32, normalize=False),
            encoder=EncoderConfig(channels=16, blocks=1, dim=8),
            learner=LearnerConfig(match="soft"),
        )
        save_model(root / str(k), build(config, seed=k), config, {})
        members.append(load_model(root / str(k)))
    save_averaged(root / "both", members, averaged(members, "mean"))
    return root / "both"


def test_a_product_enrols_with_an_average_and_its_profile_comes_back(average: Path, tmp_path: Path) -> None:
    clips, words = spoken(HOUSE)
    house = CommandRecognizer(load_model(average), target=None).fit(clips, words)
    asked, right = spoken(HOUSE, 3, 2)
    scores = scored(house, asked)
    named = [house.labels_[at] for at in scores.argmax(1).tolist()]
    assert np.mean([name == word for name, word in zip(named, right, strict=True)]) > 0.8
    house.save_pretrained(tmp_path / "house")
    again = CommandRecognizer.from_pretrained(tmp_path / "house")
    torch.testing.assert_close(scored(again, asked), scores, rtol=0, atol=1e-5)
    clips, _ = spoken(STRANGE[:1])
    more = again.add(STRANGE[0], clips)
    alone = CommandRecognizer(load_model(average), target=None).fit(*spoken((*HOUSE, STRANGE[0])))
    assert more.labels_ == alone.labels_
    torch.testing.assert_close(scored(more, asked), scored(alone, asked), rtol=0, atol=1e-4)
    less = more.remove(STRANGE[0])
    torch.testing.assert_close(scored(less, asked), scores, rtol=0, atol=1e-4)
    strange = scored(house, spoken(STRANGE)[0])
    assert strange.amax(1).mean() < scores.amax(1).mean()  # a level that a threshold can be set on
    assert np.isfinite(house.calibration_.threshold)


def test_what_an_average_cannot_do_is_said_with_what_can(average: Path, tmp_path: Path) -> None:
    sounds.write(tmp_path / "talk" / "one.wav", np.concatenate([sounds.say(word) for word in STRANGE]))
    clips, words = spoken(HOUSE)
    asked = CommandRecognizer(load_model(average), target=0.5, confidence=0.5, negatives=tmp_path / "talk")
    text = said(lambda: asked.fit(clips, words))
    assert "is an average of predictions, which cannot be asked about negatives" in text
    assert "metavox average --form soup" in text
