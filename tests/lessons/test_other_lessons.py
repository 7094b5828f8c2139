"""Claims about meta-learning that sound right and are not, each shown to fail, and what is right in its place."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from metavox.calibration.fusion import fit_fusion, product_rule
from metavox.checkpoint import build, load_model
from metavox.config import EncoderConfig, LearnerConfig, ModelConfig
from metavox.contracts import Batch, Draw, Episode, FrontEnd, Learner, Utterance
from metavox.data.episodes import ClassIndex, EpisodeSpec
from metavox.learners.presets import LEARNERS
from metavox.metrics import cer, eer
from metavox.statistics import mean_interval
from metavox.tasks import TASKS
from metavox.text import to_pinyin, without_tones

N_FRAMES, N_MELS, WAYS = 8, 40, 8
WORDS = TASKS["commands"]()


def learner_of(name: str, form: str = "fc") -> nn.Module:
    """A small learner, without cepstra."""
    encoder = EncoderConfig(name=form, channels=64, blocks=1, halvings=0, context=1, cepstra=0)
    front_end = FrontEnd(n_mels=N_MELS, n_frames=N_FRAMES, normalize=False)
    return build(ModelConfig(front_end=front_end, encoder=encoder, learner=LearnerConfig(name=name)), seed=0)


def task_of(spectra: np.ndarray, rng: np.random.Generator, n_query: int = 4) -> Episode:
    """A task of made-up classes: a class is a spectrum, a take is that and noise."""
    chosen = rng.permutation(len(spectra))[:WAYS]

    def side(n: int) -> tuple[np.ndarray, Batch]:
        labels = np.repeat(np.arange(WAYS), n)
        takes = spectra[chosen[labels], None] + 2 * rng.normal(size=(len(labels), N_FRAMES, N_MELS))
        lengths = torch.full((len(labels),), N_FRAMES)
        return labels, Batch(torch.from_numpy(takes).float(), lengths, torch.from_numpy(labels), WAYS)

    (known, support), (asked, query) = side(1), side(n_query)
    places = np.arange(len(known) + len(asked))
    names = tuple(str(k) for k in chosen)
    return Episode(support, query, Draw(names, chosen, places[: len(known)], known, places[len(known) :], asked))


def shares_right(
    learner: Learner, spectra: np.ndarray, seed: int, asked: Callable[[Episode], Batch] = lambda one: one.query
) -> list[float]:
    """Share right in each of 30 tasks."""
    rng = np.random.default_rng(seed)
    found = []
    with torch.no_grad():
        for _ in range(30):
            episode = task_of(spectra, rng)
            batch = asked(episode)
            found.append(float(WORDS.score(learner.predict(learner.adapt(episode.support), batch), batch).mean()))
    return found


def moved(batch: Batch, by: int) -> Batch:
    """The same items, each class under the name of another."""
    return replace(batch, labels=(batch.labels + by) % batch.n_classes)


# ------------------------------------------------------------------------------------------------------- evaluation


def test_new_takes_of_training_classes_overstate_what_a_new_class_gets() -> None:
    rng = np.random.default_rng(0)
    seen, unseen = rng.normal(size=(10, N_MELS)), rng.normal(size=(200, N_MELS))
    learner = learner_of("protonet")
    optimizer = torch.optim.Adam(learner.parameters(), lr=3e-3)
    before = mean_interval(shares_right(learner, unseen, 1))
    learner.train()
    for _ in range(60):
        grads = LEARNERS["protonet"].outer(learner, WORDS, [task_of(seen, rng)])
        for name, value in learner.named_parameters():
            value.grad = grads.values.get(name)
        optimizer.step()
    learner.eval()
    on_seen, on_unseen = (mean_interval(shares_right(learner, spectra, 1)) for spectra in (seen, unseen))
    assert on_seen.low > on_unseen.high + 0.2
    assert abs(on_unseen.mean - before.mean) < 0.1  # nothing was learned that a new class could use


def test_asking_about_the_support_makes_random_weights_all_knowing() -> None:
    spectra = np.random.default_rng(0).normal(size=(50, N_MELS))
    learner = learner_of("protonet")
    apart = mean_interval(shares_right(learner, spectra, 2))
    leaked = mean_interval(shares_right(learner, spectra, 2, lambda one: one.support))
    assert leaked.mean == 1 > apart.high + 0.2


@pytest.mark.parametrize("speakers", ["any", "disjoint"])
def test_no_episode_shares_a_clip_between_its_sides(tmp_path, speakers) -> None:
    said = [
        Utterance(f"{word}-{who}-{k}", tmp_path / f"{word}-{who}-{k}.wav", 1.0, label=word, speaker=who, lang="sw")
        for word in ("moja", "mbili", "tatu", "nne")
        for who in ("a", "b", "c")
        for k in range(3)
    ]
    index = ClassIndex(said)
    for seed in range(100):
        draw = index.draw(EpisodeSpec(3, 2, 2, speakers), seed)
        support, query = set(draw.support.tolist()), set(draw.query.tolist())
        assert support
        assert query
        assert not support & query
        if speakers == "disjoint":
            assert not {said[k].speaker for k in support} & {said[k].speaker for k in query}


# --------------------------------------------------------------------------------------------- h(x, support; theta)


@pytest.mark.parametrize("name", ["prototypes", "protonet", "support_conditioned", "cnp", "set_attention", "fomaml"])
def test_moving_the_names_of_the_support_moves_the_scores(name) -> None:
    episode = task_of(np.random.default_rng(0).normal(size=(20, N_MELS)), np.random.default_rng(1))
    learner = learner_of(name)
    with torch.no_grad():
        scores = learner.predict(learner.adapt(episode.support), episode.query).scores
        renamed = learner.predict(learner.adapt(moved(episode.support, 3)), episode.query).scores
    torch.testing.assert_close(renamed, scores.roll(3, dims=1), rtol=1e-3, atol=1e-3)
    assert not torch.allclose(renamed, scores, rtol=1e-3, atol=1e-3)


def test_a_support_without_labels_is_right_as_often_as_a_guess_whatever_was_learned() -> None:
    episode = task_of(np.random.default_rng(0).normal(size=(20, N_MELS)), np.random.default_rng(1))
    learner = learner_of("protonet")
    for seed in range(5):
        reading = torch.randn(learner.encoder.dim, WAYS, generator=torch.Generator().manual_seed(seed))

        def blind(support: Batch, query: Batch, reading: Tensor = reading) -> Tensor:
            with torch.no_grad():
                shown, asked = (learner.encoder(side.inputs, side.lengths) for side in (support, query))
            return (asked.mean(1) + shown.mean((0, 1))) @ reading

        right = []
        for by in range(WAYS):
            support, query = moved(episode.support, by), moved(episode.query, by)
            answers = blind(support, query)
            assert torch.equal(answers, blind(episode.support, episode.query))
            right.append(float((answers.argmax(1) == query.labels).double().mean()))
        assert np.mean(right) == pytest.approx(1 / WAYS, abs=1e-12)


def test_the_label_of_the_query_is_not_asked_for() -> None:
    episode = task_of(np.random.default_rng(0).normal(size=(20, N_MELS)), np.random.default_rng(1))
    for name in ("prototypes", "support_conditioned"):
        learner = learner_of(name)
        with torch.no_grad():
            state = learner.adapt(episode.support)
            scores = learner.predict(state, episode.query).scores
            lied_to = learner.predict(state, moved(episode.query, 1)).scores
        assert torch.equal(scores, lied_to)


# ----------------------------------------------------------------------------------------------- English to Chinese


@pytest.mark.parametrize("model", ["metavox/commands-small", "metavox/asr-small"])
def test_bundled_models_have_heard_mandarin_and_say_so(model) -> None:
    if model == "metavox/asr-small":
        from metavox import Transcriber

        about = Transcriber.from_pretrained(model).recogniser.about
    else:
        about = load_model(model).about
    assert "cmn" in about["languages"]
    assert "spoken_words_zh_en" in about["corpora"]


def test_a_character_error_rate_of_chinese_is_three_figures() -> None:
    pytest.importorskip("pypinyin")

    def rates(said: str, heard: str) -> list[float]:
        spellings = [(said, heard), (to_pinyin(said), to_pinyin(heard))]
        spellings.append((without_tones(spellings[1][0]), without_tones(spellings[1][1])))
        return [cer(["".join(a.split())], ["".join(b.split())]).rate for a, b in spellings]

    homophone, tone = rates("这个公式", "这个攻势"), rates("我要买糖", "我要卖糖")
    assert homophone == [0.5, 0.0, 0.0]
    assert tone[0] == 0.25
    assert tone[0] > tone[1] > tone[2] == 0


# ------------------------------------------------------------------------------------------------- word and voice


def test_neither_part_alone_and_no_fixed_product_is_the_fusion_of_word_and_voice() -> None:
    """Where the voice is known better in some words than its ratio says, weights that are fitted beat the product."""
    rng = np.random.default_rng(0)

    def trials(n: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        quadrant = rng.integers(0, 4, n)
        own, target = quadrant < 2, quadrant % 2 == 0
        word = np.where(target, 2.0, -2.0) + rng.normal(size=n)
        voice = 4 * (np.where(own, 1.0, -1.0) + rng.normal(size=n))  # four times as sure as it may be
        return {"word": word, "voice": voice}, quadrant

    fusion = fit_fusion(*trials(4000))
    values, quadrant = trials(4000)
    scores = {
        "word": values["word"],
        "voice": values["voice"],
        "product": product_rule(values["word"], values["voice"]),
        "fusion": fusion.llr(values),
    }
    found = {name: eer(score[quadrant == 0], score[quadrant != 0]).rate for name, score in scores.items()}
    assert found["fusion"] < min(found["word"], found["voice"], found["product"])
    blind = eer(values["voice"][quadrant == 0], values["voice"][quadrant == 1]).rate
    assert abs(blind - 0.5) < 0.05  # the voice cannot tell the owner's words apart
