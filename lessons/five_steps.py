# %% [markdown]
# # The five steps of meta-learning, each as a function
#
# Task selection, initialisation, learning, knowledge transfer, evaluation: articles name them, and leave open what goes
# in and what comes out. In Metavox each is one function, and this lesson calls them in order:
#
# | step | function | in | out |
# |---|---|---|---|
# | task selection | `data.selection.select_tasks` | a recipe | where episodes are drawn from |
# | initialisation | `training.initialise` | a recipe, tasks | a learner with seeded weights |
# | learning | `training.learn` | a recipe, tasks | the learner after the outer loop |
# | knowledge transfer | `Learner.adapt` | a few labelled takes | a state; the learner stays as it was |
# | evaluation | `evaluation.protocols.evaluate` | learner, new tasks | one row for each answer |
#
# And it shows what such lists leave unsaid: the tasks of the evaluation hold words and speakers that training never
# saw, and the takes that are learned from are never those that are asked about.

# %%
import tempfile
from pathlib import Path

import numpy as np
import torch
import yaml

from metavox.checkpoint import build, load_model
from metavox.config import DataConfig, EncoderConfig, Experiment, LearnerConfig, ModelConfig, validated
from metavox.contracts import Batch, Draw, Episode, FrontEnd
from metavox.data.corpora import gather, locate
from metavox.data.episodes import ClassIndex, EpisodeSpec
from metavox.data.selection import select_tasks
from metavox.evaluation.comparison import paired
from metavox.evaluation.protocols import Protocol, draws, episode_of, evaluate, summary
from metavox.learners.presets import LEARNERS
from metavox.statistics import Interval, mean_interval
from metavox.tasks import TASKS
from metavox.training import initialise, learn

RECIPE = """
model:
  encoder: {channels: 32, blocks: 3, halvings: 2, cepstra: 0}   # small, and nothing but what is learned
  learner: {name: prototypes, tracts: []}
data:
  corpora: [speech_commands_mini]                               # English, where METAVOX_DATA has it
  synth: {languages: [de, fi, tr], n_words: 30, n_voices: 4}    # spoken by espeak-ng
episodes: {ways: 10, shots: 1, queries: 2, batch: 1}
train: {steps: 60, warmup: 10, lr: 0.004, precision: float32}
"""
recipe = validated(Experiment, yaml.safe_load(RECIPE), "the recipe of this lesson")
words = TASKS["commands"]()

# %% [markdown]
# ## 1. Task selection
#
# A task is not a data set. It is ten words of one language, with one take of each to learn from (the *support*) and two
# to be asked about (the *query*). The next task is ten other words. What is chosen here is where they are drawn from.

# %%
tasks = select_tasks(recipe)
print("recordings that are not here:", ", ".join(tasks.absent) or "none")
print(f"{tasks.training.n_classes} words to learn from, in {len(tasks.training.groups)} groups:")
for group in tasks.training.groups:
    print(f"  {len(group)} words, {len(group.positions)} clips: {group.name}")
drawn = tasks.training.episode(0, 0)
print("the first task:", ", ".join(drawn.classes))

# %% [markdown]
# ## 2. Initialisation
#
# Weights drawn from a seed. They hold no knowledge of any task; that comes in step 3. Whoever begins with a model that
# was trained on some task has done step 3 before, and has to say on what.

# %%
untrained, config = initialise(recipe, tasks)
again, _ = initialise(recipe, tasks)
n_weights = sum(value.numel() for value in untrained.parameters())
assert all(torch.equal(a, b) for a, b in zip(untrained.parameters(), again.parameters(), strict=True))
print(f"{n_weights:,} weights, the same for the same seed")

# %% [markdown]
# ## 3. Learning
#
# The outer loop: draw a task, adapt to its support, measure the loss on its query, move the weights so that *adapting*
# would have worked better. The loss below is always that of a task that was just drawn, so it is noisy.

# %%
losses: list[float] = []
with tempfile.TemporaryDirectory() as folder:
    trained = learn(recipe, tasks, Path(folder) / "model", report=lambda step: losses.append(step.loss))
tenths = [float(np.mean(part)) for part in np.array_split(losses, 6)]
print("query loss, mean of ten steps each:", " ".join(f"{loss:.2f}" for loss in tenths))
print(f"guessing among ten words costs {np.log(10):.2f}")
assert tenths[-1] < tenths[0]

# %% [markdown]
# ## What training must not have seen
#
# The words of the test are in another language, by other people. That is proved, not promised: nothing that any
# training or validation task can draw may share a language, a speaker or a recording with the test.

# %%
if locate("lithuanian_commands") is not None:
    test_data, kind = DataConfig(corpora=("lithuanian_commands",)), "Lithuanian commands, real recordings"
else:
    test_data, kind = DataConfig(synth={"languages": ["sw"], "n_words": 30, "n_voices": 4}), "synthetic Swahili words"
test = gather(test_data, config.front_end).bank
index = ClassIndex(test.utterances)
for what in ("lang", "speaker", "path"):
    shared = {getattr(u, what) for u in tasks.heard} & {getattr(u, what) for u in test.utterances}
    assert not shared, f"training and test share {what} {shared}"
print(f"the test: {kind}; {len(index)} words, {len({u.speaker for u in test.utterances})} speakers")

protocol = Protocol(EpisodeSpec(n_way=10, k_shot=1, n_query=3, speakers="disjoint"), episodes=40, seed=7)
for _, draw in draws(index, protocol):
    assert not set(draw.support.tolist()) & set(draw.query.tolist())
    by = [{test.utterances[k].speaker for k in side.tolist()} for side in (draw.support, draw.query)]
    assert not by[0] & by[1]
print(f"{protocol.episodes} tasks: no clip, and no speaker, is both in the support and in the query")

# %% [markdown]
# ## 4. Knowledge transfer
#
# `adapt` is the whole of it: ten labelled takes in, a state out. It is the function that the loop of step 3 called in
# every step, and that a device calls when somebody enrols words. The weights do not move.

# %%
_, draw = next(draws(index, protocol))
episode = episode_of(test, draw, config.front_end)
before = [value.clone() for value in trained.parameters()]
with torch.no_grad():
    state = trained.adapt(episode.support)
    right = words.score(trained.predict(state, episode.query), episode.query)
assert all(torch.equal(a, b) for a, b in zip(before, trained.parameters(), strict=True))
size = sum(value.numel() for value in state.values())
print(f"one task: {len(episode.support)} takes became a state of {size:,} numbers; {right.mean():.0%} of it right")

# %% [markdown]
# ## 5. Evaluation
#
# The same 40 tasks for three learners: the trained one; the same one as step 2 left it; and templates compared by
# dynamic time warping, which nobody trains. To beat one's own random weights is a low bar. The third is the bar.

# %%
dtw = load_model("dtw")
learners = {
    "trained": (trained, config.front_end),
    "untrained": (untrained, config.front_end),
    "DTW templates": (dtw.learner, dtw.config.front_end),
}
rows = {
    name: evaluate(learner, words, test, index, protocol, front_end, corpus="test")
    for name, (learner, front_end) in learners.items()
}
for name, answers in rows.items():
    about = summary(answers, protocol)
    low, high = about["ci95"]
    print(f"{name:14} {about['mean']:6.1%} right (95 % interval over tasks {low:.1%} to {high:.1%})")

# %% [markdown]
# Intervals that overlap say little about a difference. All three were asked the same questions, so the difference is
# taken task by task. The second interval draws the words anew, too: it speaks of other words, not only of other tasks.

# %%
for name in ("untrained", "DTW templates"):
    gain = paired(rows["trained"], rows[name], seed=protocol.seed)
    print(
        f"trained less {name}: {100 * gain['difference']:+.1f} points ({100 * gain['low']:.1f} to "
        f"{100 * gain['high']:.1f}; for other words {100 * gain['clustered_low']:.1f} to "
        f"{100 * gain['clustered_high']:.1f})"
    )
    if gain["clustered_low"] <= 0:
        print(f"  no gain over {name} is shown here")
    if name == "untrained":
        assert gain["low"] > 0, "sixty steps taught nothing"

# %% [markdown]
# Synthetic words are easy: without real recordings DTW is right nearly always, and no gain over it can be shown.
#
# ## Two ways to fool oneself
#
# *Asking about the support.* Whoever draws support and query from one pot without keeping them apart asks about takes
# that were just learned. Random weights then know everything.

# %%
right, leaked = [], []
with torch.no_grad():
    for _, draw in draws(index, protocol):
        episode = episode_of(test, draw, config.front_end)
        state = untrained.adapt(episode.support)
        right.append(float(words.score(untrained.predict(state, episode.query), episode.query).mean()))
        leaked.append(float(words.score(untrained.predict(state, episode.support), episode.support).mean()))
print(f"random weights: {np.mean(right):.1%} on takes kept apart, {np.mean(leaked):.1%} on the takes of the support")
assert np.mean(leaked) > 0.99 > np.mean(right)

# %% [markdown]
# *Asking about the classes of training.* New takes of old words are no new task. Made-up classes show it without the
# accident that some words are easier than others: a class is a random spectrum, a take is that and noise. A learner
# is trained on tasks of ten such classes, and then asked about new takes: of the ten classes, and of others made alike.

# %%
front_end = FrontEnd(n_frames=8, normalize=False)
learner = build(
    ModelConfig(
        front_end=front_end,
        encoder=EncoderConfig(name="fc", channels=64, blocks=1, halvings=0, context=1, cepstra=0),
        learner=LearnerConfig(name="protonet"),
    ),
    seed=0,
)


def made_up(spectra: np.ndarray, rng: np.random.Generator, ways: int = 8, queries: int = 4) -> Episode:
    """A task of ``ways`` of the classes: one take of each to learn from, and some to be asked about."""
    chosen = rng.permutation(len(spectra))[:ways]

    def side(takes: int) -> tuple[np.ndarray, Batch]:
        labels = np.repeat(np.arange(ways), takes)
        spoken = spectra[chosen[labels], None] + 2 * rng.normal(size=(len(labels), 8, 40))
        lengths = torch.full((len(labels),), 8)
        return labels, Batch(torch.from_numpy(spoken).float(), lengths, torch.from_numpy(labels), ways)

    (known, support), (asked, query) = side(1), side(queries)
    places = np.arange(len(known) + len(asked))
    names = tuple(f"class {k}" for k in chosen)
    return Episode(support, query, Draw(names, chosen, places[: len(known)], known, places[len(known) :], asked))


def share_right(spectra: np.ndarray, seed: int) -> Interval:
    rng = np.random.default_rng(seed)
    found = []
    with torch.no_grad():
        for _ in range(40):
            episode = made_up(spectra, rng)
            output = learner.predict(learner.adapt(episode.support), episode.query)
            found.append(float(words.score(output, episode.query).mean()))
    return mean_interval(found)


rng = np.random.default_rng(0)
seen, unseen = rng.normal(size=(10, 40)), rng.normal(size=(200, 40))
at_first = [share_right(spectra, 1).mean for spectra in (seen, unseen)]
optimizer = torch.optim.Adam(learner.parameters(), lr=3e-3)
learner.train()
for _ in range(80):
    grads = LEARNERS["protonet"].outer(learner, words, [made_up(seen, rng)])
    for name, value in learner.named_parameters():
        value.grad = grads.values.get(name)
    optimizer.step()
learner.eval()
at_last = [share_right(spectra, 1) for spectra in (seen, unseen)]
for what, start, end in zip(("classes of training", "other classes"), at_first, at_last, strict=True):
    print(f"{what:20} {start:6.1%} before, {end.mean:6.1%} after ({end.low:.1%} to {end.high:.1%})")
assert at_last[0].low > at_last[1].high + 0.2

# %% [markdown]
# On the classes of training it is nearly always right, and it has learned nothing that another class could use. Ten
# classes are few, and random ones have nothing in common; words have. But only the figure on words and speakers that
# training never saw says which of the two a model has learned.
