# %% [markdown]
# # 模型平均：它能改变什么，不能改变什么
#
# 讲少样本语音识别的文章常以集成收尾：拟合 $K$ 个模型，把它们的预测取平均，
#
# $$\bar f(x) = \frac{1}{K} \sum_{k=1}^{K} f_k(x),$$
#
# 然后期待更好的结果。本课用数字的录音，演示这类做法共有的三个错误：所谓 $K$ 个成员其实是同一个模型；据说平均能消除偏
# 差；切出了验证集，却没有人看它一眼。然后逐一改正，并在从未听过的说话人身上测量。

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
# ## 录音，以及是谁在说话
#
# 如果 `METAVOX_DATA` 指向真实录音的文件夹，就用 Free Spoken Digit Dataset 的四个说话人做开发，用 Speech Commands 中的
# 数字做测试：说话人不同，麦克风也不同。没有这些录音时，由 espeak-ng 念出词语：那时本课演示的机制不变，但数字对真人没
# 有任何说明力。
#
# 特征由 Metavox 自己的前端计算：取含有语音的一段的对数梅尔能量，重采样为 12 帧，再做归一化。只保留电话频带（3.8 kHz
# 以下），因为开发用的录音里也只有这些。

# %%
FRONT_END = FrontEnd(n_mels=16, high_hz=3_800, n_frames=12)
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def features(utterances: list[Utterance]) -> np.ndarray:
    """(N, 192)：每条录音一行。"""
    return np.stack([prepare(read(one.path), FRONT_END)[0].numpy().ravel() for one in utterances])


real = [locate(name) for name in ("fsdd_en_digits", "speech_commands_mini")]
if all(real):
    print("真实录音：四个说话人用于开发，另一些人用于测试。")
    development, test = [[one for one in load_corpus(path) if one.label in DIGITS] for path in real]
else:
    print("METAVOX_DATA 中没有数字录音：改由 espeak-ng 念十个词，所得数字对真人没有说明力。")
    spoken = load_corpus(cached_corpus(SynthSpec(languages=("en",), n_words=10, n_voices=16, n_takes=3)))
    development, test = split_disjoint(spoken, by="speaker", shares=(8, 8), seed=0)
assert_disjoint([development, test], by="speaker")

X, y = features(development), np.array([one.label for one in development])
speakers = np.array([one.speaker for one in development])
known = speakers != sorted(set(speakers))[-1]  # 最后一位说话人留作观察；测试集暂不打开
classes = np.unique(y)
seen = {"X": X[known], "y": y[known]}
asked, truth = X[~known], y[~known]
print(f"{len(seen['y'])} 条录音用于学习，另一位说话人的 {len(truth)} 条用于观察，{len(test)} 条暂不打开")

# %% [markdown]
# ## 错误一：把同一个模型数了 $K$ 遍
#
# 最小二乘拟合的线性模型只有一个解。在同样的录音上拟合五次，得到的就是它的五个副本。平均可以一个模型一个模型地算：
# 第 $k$ 个模型把平均值移动
# $(f_k - \bar f) / k$。副本移动的量是零：差别不是很小，而是没有。

# %%
targets = (seen["y"][:, None] == classes).astype(float)
copies = [LinearRegression().fit(seen["X"], targets).predict(asked) for _ in range(5)]
average = copies[0].copy()
for k, copy in enumerate(copies[1:], 2):
    average += (copy - average) / k
difference = float(np.abs(average - copies[0]).max())
print(f"五个模型的平均与其中一个的最大差别：{difference}")
assert difference == 0

# %% [markdown]
# scikit-learn 对此一声不吭：五个副本组成的 `VotingClassifier` 照样拟合完毕，只是多花五倍的时
# 间。`metavox.ModelAverage` 会比较各成员的预测，并给出警告。

# %%
linear = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3)
five = [(f"copy-{number}", linear) for number in range(5)]
for average in (VotingClassifier(five, voting="soft"), ModelAverage(five)):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        average.fit(**seen)
    said = [str(one.message) for one in told if issubclass(one.category, IdenticalMembers)]
    print(f"{type(average).__name__}：{said[0] if said else '没有警告'}")
    assert bool(said) == isinstance(average, ModelAverage)

# %% [markdown]
# ## 错误二：“平均能消除偏差”
#
# 抽取许多个训练集。预测概率的平方误差，对训练集取平均后，恰好等于
#
# $$\underbrace{\lVert \mathbb{E} f - y \rVert^2}_{\text{偏差}^2} +
# \underbrace{\mathbb{E} \lVert f - \mathbb{E} f \rVert^2}_{\text{方差}}.$$
#
# 偏差是*平均预测*的误差：不管用什么数据训练，这一类模型都会错的那部分。用同样方法得到的成员有同样的平均预测，它们的平
# 均也是如此：
# **无论 $K$ 多大，平均的偏差就是成员的偏差。** 能下降的只有方差：成员的错误互相独立时降到 $1/K$，成员越一致，降得越
# 少。
#
# 下面有 10 个训练集，每个取一半的录音；在每个训练集上，用自助抽样（bootstrap）拟合 16 个成员。副本是对照：彼此毫无差
# 别的成员。

# %%
SETS, MEMBERS = 10, 16
one_hot = (truth[:, None] == classes).astype(float)


def members_on(half: np.ndarray, kind, bootstrap: bool, seed: int) -> np.ndarray:
    """(K, N, C)：每个成员对观察用的说话人给出的概率。"""
    average = ModelAverage([kind] * MEMBERS, bootstrap=bootstrap, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", IdenticalMembers)  # 这里要看的正是副本
        average.fit(seen["X"][half], seen["y"][half])
    return np.stack([one.predict_proba(asked) for one in average.estimators_])


def decomposed(predicted: np.ndarray) -> tuple[float, float]:
    """R 个训练集的预测 (R, N, C) 的偏差平方和方差，对有限的 R 无偏。"""
    variance = predicted.var(axis=0, ddof=1).sum(-1).mean()
    bias = ((predicted.mean(axis=0) - one_hot) ** 2).sum(-1).mean() - variance / len(predicted)
    return float(bias), float(variance)


tree = DecisionTreeClassifier(max_features=48, random_state=0)
halves = [np.random.default_rng(seed).permutation(len(seen["y"]))[: len(seen["y"]) // 2] for seed in range(SETS)]
found = {}
for name, kind, bootstrap in (("树，副本", tree, False), ("树", tree, True), ("线性", linear, True)):
    predicted = np.stack([members_on(half, kind, bootstrap, seed) for seed, half in enumerate(halves)])
    for k in (1, 4, 16):
        # 每 k 个成员组成一个平均；对各组再取均值，比只看一组更稳。
        groups = predicted.reshape(SETS, MEMBERS // k, k, *predicted.shape[2:]).mean(axis=2)
        found[name, k] = np.mean([decomposed(groups[:, at]) for at in range(MEMBERS // k)], axis=0)
        bias, variance = found[name, k]
        print(f"K = {k:>2}：偏差² {bias:.3f}  方差 {variance:.3f}  误差 {bias + variance:.3f}  （{name}）")

# %% [markdown]
# 副本一无所获。自助抽样的树（bagging）方差大部分消失，偏差丝毫不减；线性模型的方差本来就不大。（单个自助成员可能还不
# 如副本：它的样本里只有约 63 % 的录音。）对不稳定的模型，平均是值得的；模型本身错了，平均治不好它。

# %%
for k in (4, 16):
    assert np.allclose(found["树，副本", k], found["树，副本", 1])
    for name in ("树", "线性"):
        assert abs(found[name, k][0] - found[name, 1][0]) < 0.03  # 偏差不动
        assert found[name, k][1] < found[name, 1][1]  # 方差下降
assert found["树", 16][1] < 0.5 * found["树", 1][1]

# %% [markdown]
# ## 错误三：没有人使用的验证集
#
# 切出五分之一“用于验证”，然后既不用它选择什么，也不用它决定何时停止，更不用它定权重。剩下的只有代价：模型少看了这些录
# 音，录音越少，影响越大。下面抽取 40 次，每次每个词五条录音；线性模型或者用全部五条学习，或者只用切分之后剩下的四条。

# %%
lost = []
for seed in range(40):
    rng = np.random.default_rng(seed)
    fifty = np.stack([rng.permutation(np.flatnonzero(seen["y"] == word))[:5] for word in classes])
    forty = fifty[:, 1:]
    scores = [linear.fit(seen["X"][at], seen["y"][at]).score(asked, truth) for at in (fifty.ravel(), forty.ravel())]
    lost.append(scores[0] - scores[1])
cost = mean_interval(lost)
print(f"没有人用的十条录音使正确率损失 {cost.mean:.1%}（{cost.low:.1%} 至 {cost.high:.1%}）")

# %% [markdown]
# ## 改正
#
# - 让成员不同：每个成员在自己的自助样本上拟合（`bootstrap=True`），或者干脆是另一种模型。
# - 让留出的录音派上用场：`weights="learned"` 拟合成员时不用它们，再求出使平均在它们上面对数损失最小的权重。留出的是整
#   个说话人（`groups`），因为将来要识别的是陌生人。
# - 测试集只打开一次，而且所有模型在此之前都已选定。
#
# 要多少个成员？可以让用来观察的那位说话人决定。

# %%
bagged = ModelAverage([tree] * 32, bootstrap=True, random_state=0)
said = np.stack([one.predict_proba(asked) for one in bagged.fit(**seen).estimators_])
for k in (1, 2, 4, 8, 16, 32):
    wrong = bagged.classes_[mean(said[:k]).argmax(1)] != truth
    print(f"K = {k:>2}：错误 {wrong.mean():.1%}")

# %% [markdown]
# 从四个成员起，变化就不大了；32 个没有坏处，只是多花时间。
#
# 现在用开发录音中的所有说话人来学习，然后打开测试集。同一个人的录音会一起出错，所以区间按说话人重抽样；比较都在同样的
# 录音上成对进行。

# %%
candidates = {
    "一棵树": tree,
    "32 棵自助树的平均": bagged,
    "一个线性模型": linear,
    "32 个自助线性模型的平均": ModelAverage([linear] * 32, bootstrap=True, random_state=0),
    "学出来的权重": ModelAverage(
        [("线性", linear), ("树", bagged), ("贝叶斯", GaussianNB())],
        weights="learned",
        validation_share=0.25,
        random_state=0,
    ),
}
for name, model in candidates.items():
    model.fit(X, y, groups=speakers) if name == "学出来的权重" else model.fit(X, y)
learned = candidates["学出来的权重"]
held = "、".join(np.unique(speakers[learned.validation_]))
weights = "，".join(f"{name} {weight:.2f}" for name, weight in zip(learned.names_, learned.weights_, strict=True))
print(f"在 {held} 上学到的权重：{weights}")

closed, answers = features(test), np.array([one.label for one in test])
strangers = [one.speaker for one in test]
wrong = {name: (model.predict(closed) != answers).astype(float) for name, model in candidates.items()}
print(f"\n{len(set(strangers))} 位从未听过的说话人的 {len(answers)} 条录音：")
for name, errors in wrong.items():
    rate = cluster_bootstrap(errors, strangers, seed=0)
    print(f"错误 {rate.mean:6.1%}（95 % 区间 {rate.low:.1%} 至 {rate.high:.1%}） {name}")

# %%
for name, other in (
    ("32 棵自助树的平均", "一棵树"),
    ("32 个自助线性模型的平均", "一个线性模型"),
    ("学出来的权重", "一个线性模型"),
):
    gap = paired_bootstrap(wrong[name], wrong[other], seed=0, clusters=strangers)
    verdict = "更好" if gap.high < 0 else "更差" if gap.low > 0 else "分不出高下"
    print(f"{name}对比{other}：{gap.difference:+.1%}（{gap.low:+.1%} 至 {gap.high:+.1%}），{verdict}")

# %% [markdown]
# ## 结论
#
# - 平均降低的是方差。对不稳定的模型帮助很大，对稳定的模型帮助很小，对完全相同的模型毫无帮助。
# - 它不动偏差。要减小偏差，得换更好的模型、更好的特征或别的数据：在这里，一个线性模型抵得上许多树的平均，甚至更好。
# - 留出的录音必须决定些什么，例如权重。但成员因此少了训练数据，所以学出来的权重不一定赢；赢没赢，上面的比较会说。
# - 说到提升，就要给出区间，而且要在训练和验证中都没有出现过的说话人身上测量。
