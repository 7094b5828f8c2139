# %% [markdown]
# # A universal representation, and what transfer adds to it
#
# A *universal representation* is a function f(x) = g(x, θ) from a recording to vectors that serves many tasks with one
# θ. It "can be sparse, fully connected or convolutional": here are the three, with about as many weights each, trained
# alike and transferred to two tasks, so that one can see how much the form matters.
#
# Then h, which carries the representation to a new task. It is often written h(x, y; θ) = g(x, y, θ), which says
# nothing of how y enters, or whose y it is. It is not the label of x: that is what one wants to know. It is the
# *support*, a few takes **with their labels**: h(x, support; θ). The last section shows that without the labels there
# is no h.

# %%
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from metavox.checkpoint import build
from metavox.config import (
    DataConfig,
    EncoderConfig,
    EpisodeConfig,
    Experiment,
    LearnerConfig,
    ModelConfig,
    TrainConfig,
    WaveConfig,
)
from metavox.contracts import Batch, FrontEnd
from metavox.data.bank import with_variants
from metavox.data.corpora import gather, locate
from metavox.data.episodes import ClassIndex, EpisodeSpec
from metavox.data.selection import select_tasks
from metavox.data.variants import Variants
from metavox.evaluation.protocols import Protocol, draws
from metavox.nets.cost import cost
from metavox.statistics import holm, mean_interval, paired_bootstrap
from metavox.tasks import TASKS
from metavox.training import initialise, learn

FORMS = {"sparse": "sparse", "fc": "fully connected", "conv": "convolutional"}
words = TASKS["commands"]()

# %% [markdown]
# ## g: three forms, one size
#
# All three hear a word as 64 log-mel frames and give 16 vectors. The fully connected and the sparse form see 11 frames
# at a time; of the connections of the sparse one nine in ten do not exist and are not stored, so it has more units. The
# convolutions see a few frames in each layer, and share their weights over time. For each form the width is chosen
# that comes nearest to 30,000 weights. Cepstra, which the project's recipe puts beside whatever is learned, are off.


# %%
def model_of(form: str, channels: int, learner: str = "prototypes") -> ModelConfig:
    encoder = EncoderConfig(name=form, channels=channels, blocks=2, halvings=2, cepstra=0)
    tracts = LearnerConfig(name=learner, tracts=()) if learner == "prototypes" else LearnerConfig(name=learner)
    return ModelConfig(front_end=FrontEnd(normalize=False), encoder=encoder, learner=tracts)


def n_weights(config: ModelConfig) -> int:
    return sum(value.numel() for value in build(config).encoder.parameters())


models = {}
for form in FORMS:
    widths = (model_of(form, channels) for channels in range(16, 513, 8))
    models[form] = min(widths, key=lambda config: abs(n_weights(config) - 30_000))
print(f"{'form':16} {'width':>6} {'weights':>8} {'absent':>7} {'products a word':>16} {'ms a word':>10}")
sizes = []
for form, config in models.items():
    found = cost(build(config).encoder, n_runs=10)
    sizes.append(found.parameters)
    print(
        f"{FORMS[form]:16} {config.encoder.channels:6} {found.parameters:8,} {found.absent:7.0%} {found.macs:16,} "
        f"{found.latency.median_ms:10.2f}"
    )
assert max(sizes) < 1.1 * min(sizes), "the forms would not be compared at equal size"

# %% [markdown]
# ## The same training for each
#
# Forty outer steps on the same tasks: ten words of one language, one take of each. Forty steps are very few; what
# comes out says what each form learns first, not what it can learn.


# %%
def recipe(form: str) -> Experiment:
    return Experiment(
        model=models[form],
        data=DataConfig(
            corpora=("speech_commands_mini",), synth={"languages": ["de", "fi", "tr"], "n_words": 30, "n_voices": 4}
        ),
        episodes=EpisodeConfig(ways=10, shots=1, queries=2, batch=1),
        train=TrainConfig(steps=40, warmup=10, lr=4e-3, precision="float32"),
    )


tasks = select_tasks(recipe("conv"))
print("recordings that are not here:", ", ".join(tasks.absent) or "none")
print("trained on:", ", ".join(group.name.split(" * ")[1] for group in tasks.training.groups))
untrained, trained = {}, {}
with tempfile.TemporaryDirectory() as folder:
    for form, title in FORMS.items():
        losses: list[float] = []
        untrained[form], _ = initialise(recipe(form), tasks)
        heard = partial(lambda to, step: to.append(step.loss), losses)
        trained[form] = learn(recipe(form), tasks, Path(folder) / form, report=heard)
        print(f"{title:16} query loss {np.mean(losses[:10]):.2f} at first, {np.mean(losses[-10:]):.2f} at last")

# %% [markdown]
# ## Two tasks to transfer to
#
# 1. *Another language*: words in a language that no training task held, by other people.
# 2. *Another condition*: the same words learned in quiet and asked for in noise, at 5 dB.
#
# θ stays as it is: `adapt` makes ten prototypes of ten labelled takes.

# %%
if locate("lithuanian_commands") is not None:
    test_data, kind = DataConfig(corpora=("lithuanian_commands",)), "Lithuanian commands, real recordings"
else:
    test_data, kind = DataConfig(synth={"languages": ["sw"], "n_words": 30, "n_voices": 4}), "synthetic Swahili words"
quiet = gather(test_data, FrontEnd(normalize=False)).bank
noise_alone = WaveConfig(
    speed=0, reverb_share=0, noise_share=1, snr_db=(5, 5), babble_share=0, recorded_share=0, gain_db=0,
    clipping_share=0, band_share=0, codec_share=0,
)  # fmt: skip
test = with_variants(quiet, Variants(1, noise_alone, seed=3))
index = ClassIndex(test.utterances)
protocol = Protocol(EpisodeSpec(n_way=10, k_shot=1, n_query=3, speakers="disjoint"), episodes=30, seed=11)
assert not {u.lang for u in tasks.heard} & {u.lang for u in test.utterances}
assert not {u.speaker for u in tasks.heard} & {u.speaker for u in test.utterances}
print(f"transferred to: {kind}, {len(index)} words, {protocol.episodes} tasks of ten")


def accuracies(learner: torch.nn.Module, *, noisy: bool) -> np.ndarray:
    """Share right in each task."""
    found = []
    with torch.no_grad():
        for _, draw in draws(index, protocol):
            support = test.batch(draw.support, draw.support_labels, len(draw.classes))
            version = np.full(len(draw.query), int(noisy))
            query = test.batch(draw.query, draw.query_labels, len(draw.classes), variant=version)
            found.append(float(words.score(learner.predict(learner.adapt(support), query), query).mean()))
    return np.asarray(found)


after = {(form, noisy): accuracies(trained[form], noisy=noisy) for form in FORMS for noisy in (False, True)}
before = {(form, noisy): accuracies(untrained[form], noisy=noisy) for form in FORMS for noisy in (False, True)}
gains = {}
for noisy, task in ((False, "another language"), (True, "the same in noise")):
    print(f"\n{task}: share right with its 95 % interval, and what training brought (paired)")
    for form, title in FORMS.items():
        reached = mean_interval(after[form, noisy])
        gains[form, noisy] = paired_bootstrap(after[form, noisy], before[form, noisy], seed=1)
        gain = gains[form, noisy]
        print(
            f"{title:16} {reached.mean:6.1%} ({reached.low:.1%} to {reached.high:.1%}), gain "
            f"{100 * gain.difference:+.1f} points ({100 * gain.low:.1f} to {100 * gain.high:.1f})"
        )
assert all(gain.low > 0 for (_, noisy), gain in gains.items() if not noisy), "a form did not transfer"

# %% [markdown]
# Which form is better is a question about differences on the same tasks, and three pairs are three chances to be
# fooled, so each p-value is adjusted for being one of three (Holm).

# %%
pairs = [("conv", "fc"), ("conv", "sparse"), ("fc", "sparse")]
for noisy, task in ((False, "another language"), (True, "the same in noise")):
    found = [paired_bootstrap(after[a, noisy], after[b, noisy], seed=2) for a, b in pairs]
    for (a, b), one, p_value in zip(pairs, found, holm([one.p_value for one in found]), strict=True):
        shown = "shown" if p_value < 0.05 else "not shown"
        print(
            f"{task}, {FORMS[a]} less {FORMS[b]}: {100 * one.difference:+.1f} points ({100 * one.low:.1f} to "
            f"{100 * one.high:.1f}), a difference is {shown}"
        )

# %% [markdown]
# ## h: the labels of the support
#
# Take one task, and give the ten words other names: every label moves on by one. Nothing else changes: the same takes,
# the same queries. An h that has learned what a take is a take *of* must give the same scores under the new names.
# That is checked for the prototypes above, and for `support_conditioned`, a network that hears support and query
# together. It holds by construction, so untrained weights show it as well.

# %%
_, draw = next(draws(index, protocol))
support = test.batch(draw.support, draw.support_labels, 10)
query = test.batch(draw.query, draw.query_labels, 10)


def moved(batch: Batch, by: int) -> Batch:
    """The same items under other names."""
    return replace(batch, labels=(batch.labels + by) % batch.n_classes)


conditioned = build(model_of("conv", models["conv"].encoder.channels, "support_conditioned"), seed=0)
for name, learner in (("prototypes", trained["conv"]), ("support_conditioned", conditioned)):
    with torch.no_grad():
        scores = learner.predict(learner.adapt(support), query).scores
        renamed = learner.predict(learner.adapt(moved(support, 1)), query).scores
    apart = float((renamed - scores.roll(1, dims=1)).abs().max())
    changed = float((renamed - scores).abs().max())
    assert apart < 1e-4 < changed
    print(f"{name:20} the scores moved with the names (off by {apart:.1e}); left as they were they would be "
          f"off by {changed:.1f}")  # fmt: skip

# %% [markdown]
# Now an h that hears the same takes without their labels: it adds the mean of the support's vectors to that of the
# query, and reads ten scores off the sum. However well its weights are trained, the new names cannot reach it. Over the
# ten ways to name the words in turn it gives ten times the same answer, and each query has each name once. So it is
# right one time in ten: exactly, whatever it has learned.

# %%
encoder = trained["conv"].encoder
reading = torch.randn(encoder.dim, 10, generator=torch.Generator().manual_seed(5))


def blind(support: Batch, query: Batch) -> torch.Tensor:
    """Scores (B, 10) that rest on the query and on the takes of the support, without their labels."""
    with torch.no_grad():
        shown = encoder(support.inputs, support.lengths).mean((0, 1))
        asked = encoder(query.inputs, query.lengths).mean(1)
    return (asked + shown) @ reading


def right(scores: torch.Tensor, query: Batch) -> float:
    return float((scores.argmax(1) == query.labels).double().mean())


with torch.no_grad():
    with_labels = [
        right(trained["conv"].predict(trained["conv"].adapt(moved(support, by)), query).scores, moved(query, by))
        for by in range(10)
    ]
without = [right(blind(moved(support, by), query), moved(query, by)) for by in range(10)]
assert torch.equal(blind(support, query), blind(moved(support, 3), query))
assert abs(np.mean(without) - 0.1) < 1e-9
assert np.mean(with_labels) > 0.2
print(f"ten namings of one task: {np.mean(with_labels):.0%} right with the labels of the support, "
      f"{np.mean(without):.0%} without them")  # fmt: skip

# %% [markdown]
# So the second formula reads h(x, (x₁, y₁), ..., (xₙ, yₙ); θ): the y are those of the support, they stand beside their
# takes, and the label of x is what comes out. With g inside:
#
# - `prototypes`: score of class c = −distance of g(x, θ) to the g(xᵢ, θ) with yᵢ = c;
# - `support_conditioned`: a shared layer hears g(x, θ) beside the mean of the g(xᵢ, θ) with yᵢ = c, class by class;
# - gradient learners (MAML and its kin): θ itself moves, by the loss of the support, which the yᵢ are in.
#
# The project's own comparison of encoders, with cepstra, 150,000 weights and 250 steps, is in
# `benchmarks/encoders.json`: there linear, fully connected and sparse bodies are 1 to 2.5 points below convolutions.
# All learners, each with how y enters: `docs/learners.md`.
