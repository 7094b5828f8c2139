"""Words and voices by one encoder: each loss reaches the body, and a clip of nobody known asks its word alone."""

import numpy as np
import pytest
import torch

from metavox.checkpoint import build
from metavox.config import EncoderConfig, LearnerConfig, ModelConfig
from metavox.contracts import Batch, Draw, Episode, FrontEnd, InputError
from metavox.learners.metric import Prototypes
from metavox.learners.outer import leave_one_out, leave_one_out_and_voices
from metavox.learners.voiced import UNKNOWN, VoicedPrototypes, known_speakers
from metavox.tasks import TASKS

FRONT_END = FrontEnd(n_mels=16, n_frames=16, normalize=False)
ENCODER = EncoderConfig(channels=8, blocks=2, dim=4, cepstra=0.5)


def built(name: str = "voiced_prototypes", **options: object) -> torch.nn.Module:
    learner = LearnerConfig(name=name, tracts=(), **options)
    return build(ModelConfig(front_end=FRONT_END, encoder=ENCODER, learner=learner), seed=1)


def episode(n_items: int = 8, seed: int = 0) -> Episode:
    inputs = torch.randn(n_items, 16, 16, generator=torch.Generator().manual_seed(seed))
    lengths, labels = torch.full((n_items,), 16), torch.arange(n_items) % 2
    half = n_items // 2
    at = np.arange(n_items)
    draw = Draw(("a", "b"), np.arange(2), at[:half], labels[:half].numpy(), at[half:], labels[half:].numpy())
    sides = [Batch(inputs[part], lengths[part], labels[part], 2) for part in (slice(half), slice(half, None))]
    return Episode(*sides, draw)


def test_both_losses_reach_the_body_and_each_its_own_head() -> None:
    learner = built(n_voices=3, voice_dim=8).train()
    learner.introduce(["c", "a", None, "b", "a", "b", None, "c"])
    assert learner.speakers.tolist() == [2, 0, UNKNOWN, 1, 0, 1, UNKNOWN, 2]
    grads = leave_one_out_and_voices(learner, TASKS["commands"](), [episode()]).values
    plain = leave_one_out(learner, TASKS["commands"](), [episode()]).values
    body = [name for name in grads if name.startswith("encoder.body.stem")]
    assert body
    assert all(not torch.allclose(grads[name], plain[name]) for name in body)
    assert all(float(grads[name].abs().sum()) > 0 for name in grads if name.startswith(("voice.", "directions")))
    assert all(float(plain[name].abs().sum()) == 0 for name in plain if name.startswith(("voice.", "directions")))
    torch.testing.assert_close(grads["encoder.body.project.weight"], plain["encoder.body.project.weight"])


def test_words_are_scored_as_prototypes_score_them() -> None:
    voiced, plain = built(n_voices=3, voice_dim=8), built("prototypes")
    plain.load_state_dict({name: voiced.state_dict()[name] for name in plain.state_dict()})
    assert isinstance(plain, Prototypes)
    one = episode()
    scores = [learner.predict(learner.adapt(one.support), one.query).scores for learner in (voiced, plain)]
    torch.testing.assert_close(*scores)


def test_where_nobody_is_known_only_words_are_learned() -> None:
    learner = built(n_voices=3, voice_dim=8).train()
    learner.introduce([None] * 8)
    task = TASKS["commands"]()
    voiced, plain = (rule(learner, task, [episode()]).values for rule in (leave_one_out_and_voices, leave_one_out))
    for name, value in plain.items():
        torch.testing.assert_close(voiced[name], value)


def test_a_voice_is_a_unit_vector_that_padding_does_not_change() -> None:
    learner = built(voice_dim=8)
    assert isinstance(learner, VoicedPrototypes)
    inputs = torch.randn(2, 16, 16, generator=torch.Generator().manual_seed(3))
    whole = Batch(inputs[:, :12], torch.tensor([12, 12]), torch.zeros(2, dtype=torch.long), 1)
    padded = Batch(inputs * (torch.arange(16) < 12)[None, :, None], *(whole.lengths, whole.labels), 1)
    found = learner.embed_voices(whole)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(learner.embed_voices(padded), found, atol=1e-5, rtol=1e-5)


def test_speakers_are_numbered_by_name_and_another_body_is_refused() -> None:
    assert known_speakers(["b", None, "a", "b"]) == ("a", "b")
    config = ModelConfig(
        front_end=FRONT_END,
        encoder=ENCODER.model_copy(update={"name": "crnn"}),
        learner=LearnerConfig(name="voiced_prototypes"),
    )
    with pytest.raises(InputError, match=r"needs encoder\.name conv"):
        build(config)


def test_a_speaker_who_is_heard_once_in_an_episode_does_no_harm() -> None:
    learner = built(n_voices=5, voice_dim=8).train()
    learner.introduce(["c", "a", None, "b", "a", "d", None, "e"])
    grads = leave_one_out_and_voices(learner, TASKS["commands"](), [episode()]).values
    assert all(bool(value.isfinite().all()) for value in grads.values())
