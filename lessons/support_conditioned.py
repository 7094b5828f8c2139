# %% [markdown]
# # A classifier that hears examples: a sketch with five faults, and the same made right in Keras
#
# Articles on meta-learning like to end with thirty lines of TensorFlow: one layer for the examples (the *support set*),
# one for what is asked (the *query*), their outputs added, a softmax. It looks reasonable, and it cannot work. This
# lesson rebuilds such a sketch in code of its own, lets each of its five faults fail, and then makes it right in
# Keras 3. Right is not a matter of taste here: Metavox has the same learner in PyTorch (`support_conditioned`), and the
# Keras model is held against it, number by number, on Keras' torch backend and on its TensorFlow backend.
#
# A process of Keras has one backend. This one takes torch unless `KERAS_BACKEND` says otherwise; a second process takes
# the other. It executes the cells of this lesson too, for what they define. That is why whatever *runs* something here
# stands under `if __name__ == "__main__"`.

# %%
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import torch
from keras import ops

from metavox.checkpoint import build
from metavox.config import EncoderConfig, LearnerConfig, ModelConfig
from metavox.contracts import Batch, Episode, FrontEnd, Output
from metavox.data.bank import Bank
from metavox.data.corpora import locate, open_corpora
from metavox.data.episodes import ClassIndex, EpisodeSpec
from metavox.data.synth import SynthSpec, cached_corpus
from metavox.evaluation.comparison import paired
from metavox.evaluation.protocols import Protocol, episode_of, evaluate, summary
from metavox.learners.outer import query_loss
from metavox.nets.heads import segment_means
from metavox.tasks import Commands

if __name__ == "__main__":
    print(f"Keras {keras.__version__} on {keras.backend.backend()}")

# %% [markdown]
# ## Words to learn from, and words to be asked about
#
# Real recordings where `METAVOX_DATA` has them: Arabic numbers for training, English commands for the test. Otherwise
# words spoken by espeak-ng, in other languages for training than for the test; its voices say a word so much alike that
# hardly anything is left to be learned, and figures show no more than that the machinery works. A window keeps its own
# length (`n_frames=None`), so that batches have padding, which must not matter.

# %%
MODEL = ModelConfig(
    front_end=FrontEnd(normalize=False, n_frames=None),
    encoder=EncoderConfig(name="fc", channels=64, blocks=2, dim=32, context=11, halvings=1, cepstra=0),
    learner=LearnerConfig(name="support_conditioned", width=64, scale=15.0),
)
REAL = ("arabic_digits", "speech_commands_mini")


def recordings() -> tuple[Bank, ClassIndex, ClassIndex, bool]:
    """All clips, the words of training, those of the test, and whether people said them."""
    real = all(locate(name) is not None for name in REAL)
    if real:
        paths = [locate(name) for name in REAL]
    else:
        paths = [
            cached_corpus(SynthSpec(languages=languages, n_words=20, n_voices=6))
            for languages in (("de", "fi"), ("sw",))
        ]
    banks = [open_corpora([path], MODEL.front_end) for path in paths]
    bank, n_training = Bank.join(banks), len(banks[0])
    in_training = np.arange(len(bank)) < n_training
    words = [ClassIndex(bank.utterances, keep=keep) for keep in (in_training, ~in_training)]
    return bank, words[0], words[1], real


def episode(n: int, n_way: int = 5, k_shot: int = 3, n_query: int = 5) -> Episode:
    """The nth task of training: ``k_shot`` takes of ``n_way`` words, and up to ``n_query`` more of each to be asked."""
    draw = training.draw(EpisodeSpec(n_way, k_shot, n_query), [1, n])
    return episode_of(bank, draw, MODEL.front_end)


bank, training, test, real = recordings()
if __name__ == "__main__":
    print("recordings of people" if real else "synthetic words by espeak-ng: no recordings in METAVOX_DATA")
    print(f"training: {len(training)} words, {len(training.positions)} clips")
    print(f"test:     {len(test)} words, {len(test.positions)} clips")
    assert not set(training.classes) & set(test.classes)

# %% [markdown]
# ## The sketch, fault by fault
#
# For the faults a clip is simply its mean spectrum in eight stretches of time, as one vector, and layers have weights
# drawn from a seed.


# %%
def vectors(batch: Batch) -> np.ndarray:
    """Each clip as one vector of mean 0 and deviation 1: mean spectra of eight stretches of time, side by side."""
    means = segment_means(batch.inputs, batch.lengths, 8).numpy()
    return (means - means.mean(1, keepdims=True)) / means.std(1, keepdims=True)


def layer(size: int, seed: int, activation: str | None = "relu") -> keras.layers.Dense:
    """A dense layer whose weights are drawn from ``seed``."""
    return keras.layers.Dense(size, activation, kernel_initializer=keras.initializers.GlorotUniform(seed=seed))


def cross_entropy(labels: np.ndarray, scores: object) -> object:
    """What Keras takes of logits: one softmax, inside the loss."""
    return ops.mean(keras.losses.sparse_categorical_crossentropy(labels, scores, from_logits=True))


def gradients(loss_of: Callable[[], object], weights: list[keras.Variable]) -> tuple[float, list]:
    """A loss and its gradient, in the way of the backend."""
    values = [weight.value for weight in weights]
    if keras.backend.backend() == "tensorflow":
        import tensorflow

        with tensorflow.GradientTape() as tape:
            loss = loss_of()
        return float(loss), tape.gradient(loss, values)
    loss = loss_of()
    return loss.item(), list(torch.autograd.grad(loss, values))


# %% [markdown]
# ### 1. Two widths
#
# The support set goes through a layer of 128 units, the query through one of 64, and the two are added. That is an
# error in the first step: such code was never run.


# %%
def add_widths(of_takes: int, of_query: int) -> str:
    """What comes of adding layers of these widths: a shape, or an error."""
    takes, query = vectors(episode(0).support), vectors(episode(0).support)
    try:
        return f"shape {tuple((layer(of_takes, 1)(takes) + layer(of_query, 2)(query)).shape)}"
    except Exception as error:  # each backend has a type of its own for it
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"


if __name__ == "__main__":
    print("128 and 64:", add_widths(128, 64))
    print("64 and 64: ", add_widths(64, 64))
    assert "Error" in add_widths(128, 64)

# %% [markdown]
# ### 2. A softmax in the last layer, and another in the loss
#
# The last layer gives probabilities, and the loss, which expects logits, takes their softmax. Probabilities lie between
# 0 and 1, so the second softmax can never be surer than $e / (e + C - 1)$ among $C$ classes: the loss of a classifier
# that is right and sure of it is still $\log(e + C - 1) - 1$. And the slopes go. Where nothing is known yet the
# gradient is $C$ times smaller, and where the answer is wrong and sure, when there is most to learn, it is next to
# nothing.


# %%
def loss_and_slope(logits: np.ndarray, label: int, *, twice: bool) -> tuple[float, float]:
    """Loss of one item, and the length of its gradient in the logits, with one softmax or two."""
    logits = keras.Variable(logits[None], dtype="float64")
    label = np.array([label])

    def loss() -> object:
        return cross_entropy(label, ops.softmax(logits.value) if twice else logits.value)

    value, (slope,) = gradients(loss, [logits])
    return value, float(np.linalg.norm(ops.convert_to_numpy(slope)))


def surest(n_classes: int) -> float:
    """The least that cross-entropy can be where its scores are probabilities."""
    return float(np.log(np.e + n_classes - 1) - 1)


def where_it_stands(n_classes: int) -> Iterator[tuple[str, np.ndarray]]:
    """Logits before anything is learned, wrong and sure, right and sure; class 0 is right."""
    yield "nothing known", np.zeros(n_classes)
    yield "wrong and sure", 12.0 * np.eye(n_classes)[1]
    yield "right and sure", 60.0 * np.eye(n_classes)[0]


if __name__ == "__main__":
    print("5 classes        one softmax: loss, slope        two: loss, slope")
    for name, logits in where_it_stands(5):
        once, both = (loss_and_slope(logits, 0, twice=twice) for twice in (False, True))
        print(f"{name:16} {once[0]:17.4f}  {once[1]:.1e} {both[0]:17.4f}  {both[1]:.1e}")
    for n_classes in (5, 20):
        print(f"two softmaxes among {n_classes} classes: never below {surest(n_classes):.4f}")

# %% [markdown]
# ### 3. Support and query through different layers
#
# Give both layers one width, and the sum exists. It means nothing. A layer is a language; two layers whose weights were
# drawn apart speak two. The plainest of all tests: ask about the very clip that was given as an example. Through one
# layer each clip is most like itself. Through two, which of the examples it was is guesswork.


# %%
def finds_itself(hear_take: Callable, hear_query: Callable, clips: np.ndarray) -> float:
    """Share of clips whose own representation as a take is the most alike, by cosine, to theirs as a query."""
    takes, query = (ops.convert_to_numpy(hear(clips)) for hear in (hear_take, hear_query))
    takes, query = (found / np.linalg.norm(found, axis=1, keepdims=True) for found in (takes, query))
    return float(((query @ takes.T).argmax(1) == np.arange(len(clips))).mean())


def itself_through_one_and_two() -> tuple[float, float, int]:
    """The share that finds itself through one layer and through two, and among how many clips."""
    clips = vectors(episode(0, 10, 5).support)
    shared = layer(64, 1)
    apart = [finds_itself(layer(64, seed), layer(64, seed + 1), clips) for seed in range(0, 40, 2)]
    return finds_itself(shared, shared, clips), float(np.mean(apart)), len(clips)


if __name__ == "__main__":
    through_one, through_two, n_clips = itself_through_one_and_two()
    print(f"a clip among {n_clips} examples, itself one of them, found: {through_one:.0%} through one layer")
    print(f"  {through_two:.0%} through two, mean of 20 pairs; guessing finds {1 / n_clips:.0%}")

# %% [markdown]
# ### 4. Nobody says what the examples are examples of
#
# Takes come in, their labels do not. "Light" and "door" may then change their labels, and no score moves. Take all five
# ways to turn the labels of five words in a circle: a query is right in exactly one of them, whatever the weights. Over
# tasks that means guessing, and training cannot help: labels are given out anew in each task, so the loss stays at
# $\log C$ at best. The sketch below has one width, one layer for both sides and one softmax; only the labels are
# missing.


# %%
class Deaf(keras.layers.Layer):
    """Scores of queries beside a support set whose labels it is not told."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.hear, self.last = layer(64, 1), layer(n_classes, 2, None)

    def call(self, takes: object, query: object) -> object:
        return self.last(self.hear(query) + ops.mean(self.hear(takes), 0, keepdims=True))


def right_when_turned(scores_of: Callable[[np.ndarray], object], labels: np.ndarray, asked: np.ndarray) -> list[float]:
    """Accuracy for each way to turn the labels in a circle; ``scores_of`` is given those of the takes."""
    n_classes = int(labels.max()) + 1
    found = []
    for turn in range(n_classes):
        best = ops.convert_to_numpy(scores_of((labels + turn) % n_classes)).argmax(1)
        found.append(float((best == (asked + turn) % n_classes).mean()))
    return found


def deaf_loss(deaf: Deaf, task: Episode) -> object:
    """Its query loss in a task."""
    return cross_entropy(task.query.labels.numpy(), deaf(vectors(task.support), vectors(task.query)))


def deaf_losses(n_steps: int = 80) -> tuple[Deaf, list[float]]:
    """Train it with Adam, and say the query loss of each step."""
    deaf, adam, losses = Deaf(5), keras.optimizers.Adam(1e-3), []
    for step in range(n_steps):
        task = episode(step)
        deaf_loss(deaf, task)  # layers get their weights when they are first called
        value, slopes = gradients(partial(deaf_loss, deaf, task), deaf.trainable_weights)
        adam.apply(slopes, deaf.trainable_weights)
        losses.append(value)
    return deaf, losses


if __name__ == "__main__":
    deaf, losses = deaf_losses()
    last = float(np.mean(losses[-20:]))
    print(f"query loss, mean of the last 20 of {len(losses)} steps: {last:.2f}; guessing costs {np.log(5):.2f}")
    task = episode(1000)
    takes, query = vectors(task.support), vectors(task.query)
    turned = right_when_turned(lambda _: deaf(takes, query), task.support.labels.numpy(), task.query.labels.numpy())
    shares = " ".join(f"{share:.0%}" for share in turned)
    print(f"right, for five ways to label: {shares}; mean {np.mean(turned):.0%}")
    assert abs(np.mean(turned) - 1 / 5) < 1e-9

# %% [markdown]
# ### 5. No answer without the answer
#
# All that can be asked for is the loss, and the loss needs to be told what was said. A device that hears a word has
# nobody to tell it.


# %%
def only_a_loss(takes: np.ndarray, query: np.ndarray, answers: np.ndarray) -> object:
    """The whole of what such a model can be asked."""
    return cross_entropy(answers, Deaf(5)(takes, query))


def asked_without_answers() -> str:
    """What comes of asking what was said."""
    try:
        return str(only_a_loss(takes=vectors(episode(0).support), query=vectors(episode(0).query)))
    except TypeError as error:
        return f"TypeError: {error}"


if __name__ == "__main__":
    print(asked_without_answers())

# %% [markdown]
# ## Made right
#
# - One encoder hears takes and queries alike.
# - The labels of the takes decide what is averaged: a class is the mean of its takes. The numbers of classes and of
#   takes are therefore free.
# - Query and class mean go through *one* layer, are added, and two more layers say how well the sum goes together. It
#   is added to the cosine of the two, so that a model that has learned nothing compares already.
# - Scores are logits; the one softmax is that of the loss.
# - `score` is given no label of a query. There is no argument for it.
#
# The encoder is Metavox's `fc`: eleven frames side by side, fully connected layers, each normalised over its units, and
# every second moment kept. What is beyond the length of a clip counts nowhere.


# %%
def dense(n_in: int, n_out: int, *, bias: bool = True, zero: bool = False, dtype: str) -> keras.layers.Dense:
    """A linear layer that has its weights at once, so that others can be copied there."""
    first = keras.initializers.Zeros() if zero else keras.initializers.GlorotUniform(seed=n_in)
    made = keras.layers.Dense(n_out, use_bias=bias, kernel_initializer=first, dtype=dtype)
    made.build((None, n_in))
    return made


def norm(size: int, dtype: str) -> keras.layers.LayerNormalization:
    """Normalisation over units with PyTorch's constant, where Keras' own would be 1e-3."""
    made = keras.layers.LayerNormalization(epsilon=1e-5, dtype=dtype)
    made.build((None, size))
    return made


def normalised(windows: object, mask: object) -> object:
    """Windows with mean 0 of all valid values, deviation 1, and padding 0; ``mask`` (B, T, 1)."""
    count = ops.sum(mask, 1, keepdims=True)
    mean = ops.mean(ops.sum(windows * mask, 1, keepdims=True) / count, 2, keepdims=True)
    centred = (windows - mean) * mask
    variance = ops.mean(ops.sum(ops.square(centred), 1, keepdims=True) / count, 2, keepdims=True)
    return centred * ops.rsqrt(variance + 1e-2)


class Encoder(keras.layers.Layer):
    """Windows (B, T, F) in, frames of unit length (B, T / 2, D) out; what is padding is 0."""

    def __init__(self, config: EncoderConfig, n_mels: int, dtype: str) -> None:
        super().__init__(dtype=dtype)
        self.context = config.context
        sizes = [config.context * n_mels, *[config.channels] * config.blocks]
        self.hidden = [dense(n_in, n_out, bias=False, dtype=dtype) for n_in, n_out in pairwise(sizes)]
        self.norms = [norm(config.channels, dtype) for _ in self.hidden]
        self.project = dense(config.channels, config.dim, dtype=dtype)
        self.built = True

    def call(self, windows: object, lengths: object) -> object:
        n_frames, half = windows.shape[1], self.context // 2
        mask = ops.cast(ops.arange(n_frames, dtype="int32") < ops.cast(lengths, "int32")[:, None], self.compute_dtype)[
            :, :, None
        ]
        padded = ops.pad(normalised(windows, mask), ((0, 0), (half, half), (0, 0)))
        x = ops.concatenate([padded[:, i : i + n_frames : 2] for i in range(self.context)], -1)
        for linear, norm in zip(self.hidden, self.norms, strict=True):
            x = ops.relu(norm(linear(x)))
        x = self.project(x)
        return x * ops.rsqrt(ops.sum(ops.square(x), -1, keepdims=True) + 1e-8) * mask[:, ::2]


def stretches(frames: object, lengths: object, n: int = 8) -> object:
    """Means over ``n`` equal stretches of the valid frames (B, T, D), side by side (B, n D)."""
    at = ops.arange(frames.shape[1], dtype="float32")[None, None]
    edges = ops.arange(n + 1, dtype="float32")[None] * (ops.cast(lengths, "float32")[:, None] / n)
    overlap = ops.relu(ops.minimum(edges[:, 1:, None], at + 1) - ops.maximum(edges[:, :-1, None], at))
    share = ops.cast(overlap / ops.sum(overlap, -1, keepdims=True), frames.dtype)
    return ops.reshape(share @ frames, (-1, n * frames.shape[-1]))


def level(x: object) -> object:
    """The same directions with a root mean square of 1."""
    length = ops.sqrt(ops.sum(ops.square(x), -1, keepdims=True))
    return x / ops.maximum(length, 1e-12) * x.shape[-1] ** 0.5


class SupportConditioned(keras.Model):
    """h(x, y; theta): scores of a query beside a support set and its labels, for any number of either."""

    def __init__(self, config: ModelConfig, dtype: str = "float32") -> None:
        super().__init__(dtype=dtype)
        size, width = 8 * config.encoder.dim, config.learner.width
        self.encoder = Encoder(config.encoder, config.front_end.n_mels, dtype)
        self.project = dense(size, width, dtype=dtype)
        self.hidden = dense(width, width, dtype=dtype)
        self.final = dense(width, 1, bias=False, zero=True, dtype=dtype)
        logarithm = keras.initializers.Constant(float(np.log(config.learner.scale)))
        self.log_scale = self.add_weight(shape=(), initializer=logarithm, name="log_scale")
        self.built = True

    def vectors(self, windows: object, lengths: object) -> object:
        """Clips (B, V) as the one encoder hears them."""
        windows = ops.convert_to_tensor(windows, self.compute_dtype)
        return level(stretches(self.encoder(windows, lengths), (lengths + 1) // 2))

    def remember(self, windows: object, lengths: object, labels: object, n_classes: int) -> tuple[object, object]:
        """Class means (C, V) of labelled takes, and how many takes each class has."""
        member = ops.one_hot(labels, n_classes, dtype=self.compute_dtype)
        counts = ops.sum(member, 0)
        sums = ops.transpose(member) @ self.vectors(windows, lengths)
        return level(sums / ops.maximum(counts, 1)[:, None]), counts

    def score(self, state: tuple[object, object], windows: object, lengths: object) -> object:
        """Logits (B, C) of queries; -inf for a class without a take."""
        means, counts = state
        query = self.vectors(windows, lengths)
        both = self.project(query)[:, None] + self.project(means)
        found = self.final(ops.relu(self.hidden(ops.relu(both))))[:, :, 0]
        scores = ops.exp(self.log_scale) * (ops.mean(query[:, None] * means, -1) + found)
        return ops.where(counts > 0, scores, -float("inf"))

    def call(self, support: tuple, query: tuple, n_classes: int) -> object:
        return self.score(self.remember(*support, n_classes), *query)


# %% [markdown]
# ### The faults again
#
# The weights are copied from Metavox's learner, as it draws them from a seed. PyTorch keeps the matrix of a linear
# layer as (out, in), Keras as (in, out). The last layer is 0 until something is learned; for a comparison it is filled
# with small numbers, since a layer of zeros hides whatever stands before it.


# %%
def metavox_learner(dtype: torch.dtype = torch.float32, filled: float = 0.0) -> torch.nn.Module:
    """Metavox's own learner, its last layer filled with numbers of this size."""
    learner = build(MODEL, seed=0).to(dtype)
    drawn = torch.randn(learner.compare.last.weight.shape, generator=torch.Generator().manual_seed(2))
    learner.compare.last.weight.data += filled * drawn.to(dtype)
    return learner


def counterparts(model: SupportConditioned) -> dict[str, tuple[keras.Variable, bool]]:
    """The weight of the Keras model for each name in Metavox's, and whether it lies the other way round."""
    layers = {"encoder.body.project": model.encoder.project}
    layers |= {f"encoder.body.hidden.{i}": linear for i, linear in enumerate(model.encoder.hidden)}
    layers |= {"compare.project": model.project, "compare.hidden": model.hidden, "compare.last": model.final}
    found = {f"{name}.weight": (linear.kernel, True) for name, linear in layers.items()}
    found |= {f"{name}.bias": (linear.bias, False) for name, linear in layers.items() if linear.use_bias}
    for i, norm in enumerate(model.encoder.norms):
        found |= {
            f"encoder.body.norms.{i}.weight": (norm.gamma, False),
            f"encoder.body.norms.{i}.bias": (norm.beta, False),
        }
    return found | {"log_scale": (model.log_scale, False)}


def like(learner: torch.nn.Module, dtype: str = "float32") -> SupportConditioned:
    """The Keras model with the weights of a Metavox learner, all of them."""
    model = SupportConditioned(MODEL, dtype)
    places = counterparts(model)
    values = dict(learner.named_parameters())
    assert places.keys() == values.keys(), places.keys() ^ values.keys()
    assert len(places) == len(model.trainable_weights)
    for name, (variable, turned) in places.items():
        value = values[name].detach().numpy()
        variable.assign(value.T if turned else value)
    return model


def as_query(batch: Batch) -> tuple:
    """What ``score`` is given: no label."""
    return batch.inputs.numpy(), batch.lengths.numpy()


def as_support(batch: Batch) -> tuple:
    """What ``remember`` is given beside the number of classes."""
    return *as_query(batch), batch.labels.numpy()


def scores_of(model: SupportConditioned, task: Episode) -> object:
    """Scores of the queries of a task."""
    return model(as_support(task.support), as_query(task.query), n_classes=task.support.n_classes)


def loss_of(model: SupportConditioned, task: Episode) -> object:
    """The query loss of a task: the only place where labels of queries are read."""
    return cross_entropy(task.query.labels.numpy(), scores_of(model, task))


if __name__ == "__main__":
    model = like(metavox_learner(filled=0.02))
    for n_way, k_shot in ((2, 1), (5, 3), (9, 4)):
        task = episode(0, n_way, k_shot)
        scores = scores_of(model, task)
        print(f"{n_way} classes of {k_shot} takes: scores {tuple(scores.shape)}, no label of a query asked for")

    task = episode(1000)
    windows, lengths, labels = as_support(task.support)
    turned = right_when_turned(
        lambda labels: model((windows, lengths, labels), as_query(task.query), n_classes=5),
        labels,
        task.query.labels.numpy(),
    )
    shares = " ".join(f"{share:.0%}" for share in turned)
    print(f"right, for five ways to label: {shares}; words follow their labels")
    assert np.ptp(turned) == 0

    itself = ops.convert_to_numpy(model.vectors(windows, lengths))
    print(f"a clip among {len(itself)} examples finds itself: {finds_itself(lambda x: x, lambda x: x, itself):.0%}")
    scores = ops.convert_to_numpy(scores_of(model, task))
    longer = np.pad(task.query.inputs.numpy(), ((0, 0), (0, 30), (0, 0)), constant_values=7.0)
    padded = ops.convert_to_numpy(model(as_support(task.support), (longer, task.query.lengths.numpy()), n_classes=5))
    print(f"30 frames of rubbish behind each query change scores by {np.abs(padded - scores).max():.0e}")

# %% [markdown]
# ## In step with Metavox
#
# Both are given the same weights and the same tasks: other words, other numbers of words and takes in each. Compared
# are the scores, the gradient of the query loss in every weight, and all weights after ten steps of Adam.
#
# Adam needs a word. Kingma and Ba (2015) divide by $\sqrt{\hat v} + \epsilon$, where $\hat v = v / (1 - \beta_2^t)$ has
# its bias corrected, and so does PyTorch. They also give a faster order of the same computation, which Keras has: the
# corrections go into the step size, and what is divided by is $\sqrt v + \hat\epsilon$. The two agree only if
# $\hat\epsilon = \epsilon \sqrt{1 - \beta_2^t}$. The same number given to both is therefore not the same optimizer: in
# step 1 that of Keras is 32 times larger. The subclass below makes it the same.
#
# And the comparison needs 64 bits. Where a gradient is almost 0, the first steps of Adam are the step size times its
# *sign*; of two gradients that differ by rounding alone, one may lead up and the other down. What 32 bits give is
# printed beside it, and so is Keras' own Adam. On torch, Keras rounds a product of 64-bit matrices to 32 bits (its
# rules for types are those of JAX); for the comparison that rule is lifted.


# %%
class Adam(keras.optimizers.Adam):
    """Adam whose epsilon is added after the correction of bias, as in PyTorch."""

    def update_step(self, gradient: object, variable: keras.Variable, learning_rate: object) -> None:
        place = self._get_variable_index(variable)
        mean, square = self._momentums[place], self._velocities[place]
        self.assign_add(mean, (gradient - mean) * (1 - self.beta_1))
        self.assign_add(square, (ops.square(gradient) - square) * (1 - self.beta_2))
        step = ops.cast(self.iterations + 1, variable.dtype)
        # Not ops.cast, by way of which 0.999 is rounded to 32 bits first.
        first, second = (
            1 - ops.power(ops.convert_to_tensor(beta, variable.dtype), step) for beta in (self.beta_1, self.beta_2)
        )
        change = mean / first / (ops.sqrt(square / second) + self.epsilon)
        self.assign_sub(variable, ops.cast(learning_rate, variable.dtype) * change)


@contextmanager
def in_bits(dtype: str) -> Iterator[torch.dtype]:
    """Keras computes in this type, all through; PyTorch's name for it."""
    from keras.src.backend.common.dtypes import BIT64_TO_BIT32_DTYPE as rounded

    kept, usual = rounded["float64"], keras.config.floatx()
    rounded["float64"] = "float64"
    keras.config.set_floatx(dtype)
    try:
        yield getattr(torch, dtype)
    finally:
        rounded["float64"] = kept
        keras.config.set_floatx(usual)


ADAM = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8}


def as_in_keras(kind: type[keras.optimizers.Adam] = Adam) -> keras.optimizers.Adam:
    """``ADAM`` for Keras."""
    return kind(ADAM["lr"], *ADAM["betas"], epsilon=ADAM["eps"])


def in_dtype(batch: Batch, dtype: torch.dtype) -> Batch:
    """The same clips in more or fewer bits."""
    return Batch(batch.inputs.to(dtype), batch.lengths, batch.labels, batch.n_classes)


def compared(dtype: str, kind: type[keras.optimizers.Adam] = Adam, n_steps: int = 10) -> dict[str, float]:
    """Largest absolute differences between Metavox and this Keras model over ``n_steps`` tasks."""
    largest = {"scores": 0.0, "gradients": 0.0, "weights": 0.0}

    def differ(what: str, found: object, value: torch.Tensor, turned: bool = False) -> None:
        found = ops.convert_to_numpy(found)
        gap = np.abs((found.T if turned else found) - value.detach().numpy()).max()
        largest[what] = max(largest[what], float(gap))

    with in_bits(dtype) as wanted:
        learner = metavox_learner(wanted, filled=0.1)
        model = like(learner, dtype)
        weights = counterparts(model)
        variables = [variable for variable, _ in weights.values()]
        adam, keras_adam = torch.optim.Adam(learner.parameters(), **ADAM), as_in_keras(kind)
        for step in range(n_steps):
            drawn = episode(step, n_way=3 + step % 5, k_shot=1 + step % 4)
            task = Episode(in_dtype(drawn.support, wanted), in_dtype(drawn.query, wanted), drawn.draw)
            _, slopes = gradients(partial(loss_of, model, task), variables)
            expected = query_loss(learner, Commands(), [task]).values
            if step == 0:  # later steps begin with weights that differ by what is measured last
                with torch.no_grad():
                    scores = learner.predict(learner.adapt(task.support), task.query).scores
                differ("scores", scores_of(model, task), scores)
                for (name, (_, turned)), slope in zip(weights.items(), slopes, strict=True):
                    differ("gradients", slope, expected[name], turned)
            keras_adam.apply(slopes, variables)
            for name, value in learner.named_parameters():
                value.grad = expected[name]
            adam.step()
        for name, value in learner.named_parameters():
            variable, turned = weights[name]
            differ("weights", variable.value, value, turned)
    return largest


def all_compared() -> dict[str, dict[str, float]]:
    """In 64 bits, in 32 bits, and with Keras' own Adam."""
    return {
        "64 bits": compared("float64"),
        "32 bits": compared("float32"),
        "64 bits, Keras' Adam": compared("float64", keras.optimizers.Adam),
    }


# %% [markdown]
# The other backend takes another process. It is handed the code of this lesson, and prints what it measured.


# %%
def this_lesson() -> str:
    """Its code: the cells that were run in a notebook, the file of a script."""
    cells = globals().get("In")
    return "\n\n".join(cells) if cells else Path(__file__).read_text(encoding="utf-8")


def on_backend(name: str) -> dict[str, dict[str, float]]:
    """``all_compared`` in a process of that backend."""
    run = "import json, sys; names = {'__name__': 'lesson'}; exec(sys.stdin.read(), names); " + (
        "print(json.dumps(names['all_compared']()))"
    )
    environment = {**os.environ, "KERAS_BACKEND": name}
    done = subprocess.run(
        [sys.executable, "-c", run], input=this_lesson(), env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    here = keras.backend.backend()
    other = {"torch": "tensorflow", "tensorflow": "torch"}[here]
    found = {here: all_compared()}
    if find_spec(other) is None:
        print(f"{other} is not installed, and is left out; lessons/requirements.txt names it")
    else:
        found[other] = on_backend(other)
    print(f"largest difference from Metavox {'scores':>19} {'gradients':>10} {'weights after 10 steps':>23}")
    for backend, rows in found.items():
        for name, row in rows.items():
            print(f"{backend:10} {name:25} {row['scores']:14.0e} {row['gradients']:10.0e} {row['weights']:23.0e}")
    for rows in found.values():
        assert max(rows["64 bits"].values()) <= 1e-5

# %% [markdown]
# ## Trained on some words, asked about others
#
# Six epochs of 30 tasks, each of five words with three takes; the query loss of a task moves all weights. Then 60 tasks
# of words that training never heard; whoever speaks in a query of a task speaks in none of its takes. Metavox's own
# `evaluate` asks the questions: to it a learner is whatever has the two verbs `adapt` and `predict`.


# %%
def trained(n_epochs: int = 6, n_tasks: int = 30) -> tuple[SupportConditioned, list[float]]:
    """A model trained from Metavox's first weights, and its mean query loss in each epoch."""
    model, adam, epochs = like(metavox_learner()), as_in_keras(), []
    for epoch in range(n_epochs):
        losses = []
        for step in range(n_tasks):
            task = episode(1 + epoch * n_tasks + step)
            loss, slopes = gradients(partial(loss_of, model, task), model.trainable_weights)
            adam.apply(slopes, model.trainable_weights)
            losses.append(loss)
        epochs.append(float(np.mean(losses)))
        if __name__ == "__main__":
            print(f"epoch {epoch + 1}: loss {epochs[-1]:.3f}", flush=True)
    return model, epochs


class AsLearner:
    """The Keras model behind the two verbs of Metavox."""

    fixed_ways = adapts_body = False

    def __init__(self, model: SupportConditioned) -> None:
        self.model = model

    def adapt(self, support: Batch) -> dict[str, torch.Tensor]:
        """Class means and counts."""
        state = self.model.remember(*as_support(support), support.n_classes)
        return {name: torch.tensor(ops.convert_to_numpy(x)) for name, x in zip(("means", "counts"), state, strict=True)}

    def predict(self, state: dict[str, torch.Tensor], query: Batch) -> Output:
        """Scores of queries whose labels are not looked at."""
        remembered = tuple(ops.convert_to_tensor(state[name].numpy()) for name in ("means", "counts"))
        return Output(torch.tensor(ops.convert_to_numpy(self.model.score(remembered, *as_query(query)))))


if __name__ == "__main__":
    model, epochs = trained()
    print(f"guessing among five words costs {np.log(5):.3f}; with two softmaxes nothing goes below {surest(5):.3f}")
    assert epochs[-1] < epochs[0] < np.log(5)

    protocol = Protocol(EpisodeSpec(5, 3, 5, speakers="disjoint"), episodes=60, seed=7)
    rows = {}
    for name, learner in {"untrained": AsLearner(like(metavox_learner())), "trained": AsLearner(model)}.items():
        rows[name] = evaluate(learner, Commands(), bank, test, protocol, MODEL.front_end)
        about = summary(rows[name], protocol)
        (low, high), (lowest, highest) = about["ci95"], about["clustered_ci95"]
        print(
            f"{name:10} {about['mean']:.1%} right; 95 % interval over tasks {low:.1%} to {high:.1%}, "
            f"with other words and people {lowest:.1%} to {highest:.1%}"
        )
    gain = paired(rows["trained"], rows["untrained"], seed=protocol.seed)
    print(
        f"gain: {100 * gain['difference']:.1f} points on the same tasks ({100 * gain['low']:.1f} to "
        f"{100 * gain['high']:.1f}; with other words and people {100 * gain['clustered_low']:.1f} to "
        f"{100 * gain['clustered_high']:.1f})"
    )
    assert gain["low"] > 0 or not real
