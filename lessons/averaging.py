# %% [markdown]
# # Averaging models: what it changes, and what it cannot
#
# Articles on few-shot speech recognition often end with an ensemble: fit $K$ models, average what they predict,
#
# $$\bar f(x) = \frac{1}{K} \sum_{k=1}^{K} f_k(x),$$
#
# and expect a better result. This lesson takes recordings of digits and shows three faults that such recipes have in
# common: the members are the same model $K$ times, the average is said to take away bias, and a validation split is cut
# off that nobody looks at. Then it mends them, and measures on speakers that were never heard before.

# %%
import warnings

import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LinearRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeClassifier

from metavox import ModelAverage
from metavox.audio import read
from metavox.averaging.predictions import IdenticalMembers, mean
from metavox.contracts import FrontEnd, Utterance
from metavox.data.corpora import locate
from metavox.data.manifests import assert_disjoint, load_corpus, split_disjoint
from metavox.data.synth import SynthSpec, cached_corpus
from metavox.features import prepare
from metavox.statistics import cluster_bootstrap, mean_interval, paired_bootstrap

# %% [markdown]
# ## Recordings, and who speaks in them
#
# Where `METAVOX_DATA` names the folder of real recordings, four speakers of the Free Spoken Digit Dataset are for
# development, and the digits of Speech Commands, said by other people into other microphones, are the test. Without
# them espeak-ng speaks the words: then the lesson shows the same mechanics, and says nothing about people.
#
# The features are Metavox's own: log mel energies of the stretch that holds speech, brought to 12 frames, normalised.
# Only what a telephone carries (up to 3.8 kHz) is kept, since the development recordings hold no more.

# %%
FRONT_END = FrontEnd(n_mels=16, high_hz=3_800, n_frames=12)
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def features(utterances: list[Utterance]) -> np.ndarray:
    """(N, 192): one row a clip."""
    return np.stack([prepare(read(one.path), FRONT_END)[0].numpy().ravel() for one in utterances])


real = [locate(name) for name in ("fsdd_en_digits", "speech_commands_mini")]
if all(real):
    print("Real recordings: four speakers for development, others for the test.")
    development, test = [[one for one in load_corpus(path) if one.label in DIGITS] for path in real]
else:
    print(
        "METAVOX_DATA holds no digits: espeak-ng speaks ten words instead, and the figures are no evidence on people."
    )
    spoken = load_corpus(cached_corpus(SynthSpec(languages=("en",), n_words=10, n_voices=16, n_takes=3)))
    development, test = split_disjoint(spoken, by="speaker", shares=(8, 8), seed=0)
assert_disjoint([development, test], by="speaker")

X, y = features(development), np.array([one.label for one in development])
speakers = np.array([one.speaker for one in development])
known = speakers != sorted(set(speakers))[-1]  # the last speaker is kept for looking at; the test set stays closed
classes = np.unique(y)
seen = {"X": X[known], "y": y[known]}
asked, truth = X[~known], y[~known]
print(f"{len(seen['y'])} clips to learn from, {len(truth)} of another speaker to look at, {len(test)} kept closed")

# %% [markdown]
# ## The first fault: $K$ times the same model
#
# A linear model fitted by least squares has one solution. Fit it five times to the same clips and there are five copies
# of it. A mean can be taken one model at a time: the $k$-th moves it by $(f_k - \bar f) / k$. From a copy it is moved
# by nothing: the difference is not small, it is zero.

# %%
targets = (seen["y"][:, None] == classes).astype(float)
copies = [LinearRegression().fit(seen["X"], targets).predict(asked) for _ in range(5)]
average = copies[0].copy()
for k, copy in enumerate(copies[1:], 2):
    average += (copy - average) / k
difference = float(np.abs(average - copies[0]).max())
print(f"largest difference between the average of five and the one: {difference}")
assert difference == 0

# %% [markdown]
# Nothing in scikit-learn says so: a `VotingClassifier` of five copies fits without a word, and takes five times as
# long. `metavox.ModelAverage` compares what its members predict and warns.

# %%
linear = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3)
five = [(f"copy-{number}", linear) for number in range(5)]
for average in (VotingClassifier(five, voting="soft"), ModelAverage(five)):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        average.fit(**seen)
    said = [str(one.message) for one in told if issubclass(one.category, IdenticalMembers)]
    print(f"{type(average).__name__}: {said[0] if said else 'no warning'}")
    assert bool(said) == isinstance(average, ModelAverage)

# %% [markdown]
# ## The second fault: "averaging takes away bias"
#
# Draw many training sets. The squared error of predicted probabilities, on average over the training sets, is exactly
#
# $$\underbrace{\lVert \mathbb{E} f - y \rVert^2}_{\text{bias}^2} + \underbrace{\mathbb{E} \lVert f - \mathbb{E} f
# \rVert^2}_{\text{variance}}.$$
#
# Bias is the error of the *mean* prediction: what the family of models gets wrong whatever it is trained on. Members
# that are made in the same way have the same mean prediction, and so has their average: **its bias is theirs, whatever
# $K$ is.** Only the variance can fall, to $1/K$ of it if the members erred independently, and less far as they agree.
#
# Here are 10 training sets, each half of the clips, and on each 16 members fitted to bootstrap samples of it. Copies
# are the control: members that do not differ.

# %%
SETS, MEMBERS = 10, 16
one_hot = (truth[:, None] == classes).astype(float)


def members_on(half: np.ndarray, kind, bootstrap: bool, seed: int) -> np.ndarray:
    """(K, N, C): what each member says of the speaker that is looked at."""
    average = ModelAverage([kind] * MEMBERS, bootstrap=bootstrap, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", IdenticalMembers)  # copies are what we want to see here
        average.fit(seen["X"][half], seen["y"][half])
    return np.stack([one.predict_proba(asked) for one in average.estimators_])


def decomposed(predicted: np.ndarray) -> tuple[float, float]:
    """Squared bias and variance of (R, N, C) predictions after R training sets, unbiased for a finite R."""
    variance = predicted.var(axis=0, ddof=1).sum(-1).mean()
    bias = ((predicted.mean(axis=0) - one_hot) ** 2).sum(-1).mean() - variance / len(predicted)
    return float(bias), float(variance)


tree = DecisionTreeClassifier(max_features=48, random_state=0)
halves = [np.random.default_rng(seed).permutation(len(seen["y"]))[: len(seen["y"]) // 2] for seed in range(SETS)]
found = {}
for name, kind, bootstrap in (("tree, copies", tree, False), ("tree", tree, True), ("linear", linear, True)):
    predicted = np.stack([members_on(half, kind, bootstrap, seed) for seed, half in enumerate(halves)])
    for k in (1, 4, 16):
        # Every group of k members is an average; the mean over groups is steadier than one of them.
        groups = predicted.reshape(SETS, MEMBERS // k, k, *predicted.shape[2:]).mean(axis=2)
        found[name, k] = np.mean([decomposed(groups[:, at]) for at in range(MEMBERS // k)], axis=0)
        bias, variance = found[name, k]
        print(f"{name:<12} K = {k:>2}: bias^2 {bias:.3f}  variance {variance:.3f}  error {bias + variance:.3f}")

# %% [markdown]
# Copies gain nothing at all. Bagged trees lose most of their variance and none of their bias; the linear model had less
# to lose. (A single bagged member may be worse than a copy: its bootstrap sample holds only some 63 % of the clips.)
# Averaging pays for models that are unstable. It does not mend a model that is wrong.

# %%
for k in (4, 16):
    assert np.allclose(found["tree, copies", k], found["tree, copies", 1])
    for name in ("tree", "linear"):
        assert abs(found[name, k][0] - found[name, 1][0]) < 0.03  # bias stays
        assert found[name, k][1] < found[name, 1][1]  # variance falls
assert found["tree", 16][1] < 0.5 * found["tree", 1][1]

# %% [markdown]
# ## The third fault: a validation split that nobody uses
#
# A fifth of the clips is cut off "for validation", and then nothing is chosen, stopped or weighed with it. All that is
# left of it is the cost: the models have seen fewer clips, which matters most where there are few. Here five clips of
# each word are drawn, 40 times, and the linear model learns from all five, or from the four that such a split leaves.

# %%
lost = []
for seed in range(40):
    rng = np.random.default_rng(seed)
    fifty = np.stack([rng.permutation(np.flatnonzero(seen["y"] == word))[:5] for word in classes])
    forty = fifty[:, 1:]
    scores = [linear.fit(seen["X"][at], seen["y"][at]).score(asked, truth) for at in (fifty.ravel(), forty.ravel())]
    lost.append(scores[0] - scores[1])
cost = mean_interval(lost)
print(f"ten clips that nobody uses cost {cost.mean:.1%} of the answers ({cost.low:.1%} to {cost.high:.1%})")

# %% [markdown]
# ## Mended
#
# - Members differ: each is fitted to its own bootstrap sample (`bootstrap=True`), or is of another kind.
# - Held-out clips are used: `weights="learned"` fits members without them and finds the weights whose average has the
#   least log loss there. A whole speaker is held out (`groups`), as the average will be asked about strangers.
# - The test set is opened once, for models that were all decided on before.
#
# How many members? The speaker that is looked at may decide it.

# %%
bagged = ModelAverage([tree] * 32, bootstrap=True, random_state=0)
said = np.stack([one.predict_proba(asked) for one in bagged.fit(**seen).estimators_])
for k in (1, 2, 4, 8, 16, 32):
    wrong = bagged.classes_[mean(said[:k]).argmax(1)] != truth
    print(f"K = {k:>2}: {wrong.mean():.1%} wrong")

# %% [markdown]
# From four members on little changes; 32 do no harm, and take time.
#
# Now all speakers of the development recordings are learned from, and the test set is opened. Clips of one speaker err
# together, so the intervals resample speakers, and the comparisons are of the same clips.

# %%
candidates = {
    "one tree": tree,
    "32 bagged trees": bagged,
    "one linear model": linear,
    "32 bagged linear models": ModelAverage([linear] * 32, bootstrap=True, random_state=0),
    "learned weights": ModelAverage(
        [("linear", linear), ("trees", bagged), ("bayes", GaussianNB())],
        weights="learned",
        validation_share=0.25,
        random_state=0,
    ),
}
for name, model in candidates.items():
    model.fit(X, y, groups=speakers) if name == "learned weights" else model.fit(X, y)
learned = candidates["learned weights"]
held = ", ".join(np.unique(speakers[learned.validation_]))
weights = ", ".join(f"{name} {weight:.2f}" for name, weight in zip(learned.names_, learned.weights_, strict=True))
print(f"weights learned on {held}: {weights}")

closed, answers = features(test), np.array([one.label for one in test])
strangers = [one.speaker for one in test]
wrong = {name: (model.predict(closed) != answers).astype(float) for name, model in candidates.items()}
print(f"\n{len(answers)} clips of {len(set(strangers))} speakers who were never heard:")
for name, errors in wrong.items():
    rate = cluster_bootstrap(errors, strangers, seed=0)
    print(f"{name:<24} {rate.mean:6.1%} wrong (95 % interval {rate.low:.1%} to {rate.high:.1%})")

# %%
for name, other in (
    ("32 bagged trees", "one tree"),
    ("32 bagged linear models", "one linear model"),
    ("learned weights", "one linear model"),
):
    gap = paired_bootstrap(wrong[name], wrong[other], seed=0, clusters=strangers)
    verdict = "better" if gap.high < 0 else "worse" if gap.low > 0 else "not told apart"
    print(f"{name} against {other}: {gap.difference:+.1%} ({gap.low:+.1%} to {gap.high:+.1%}), {verdict}")

# %% [markdown]
# ## What to keep
#
# - Averaging lowers variance. It helps unstable models much, stable ones little, and identical ones not at all.
# - It leaves bias as it is. For that take a better model, better features or other data: one linear model here is worth
#   as much as an average of many trees, or more.
# - Held-out clips must decide something, the weights for example. They cost the members training data, so learned
#   weights do not always win; the comparison above says whether they did.
# - A gain is told with its interval, on speakers who were in neither training nor validation.
