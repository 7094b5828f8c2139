# %% [markdown]
# # 元学习的五个步骤，每一步都是一个函数
#
# 任务选择、模型初始化、学习、知识转移、评估：文章常常列出这五个名字，却不说每一步进去什么、出来什么。
# 在 Metavox 里每一步都是一个函数，本课依次调用它们：
#
# | 步骤 | 函数 | 输入 | 输出 |
# |---|---|---|---|
# | 任务选择 | `data.selection.select_tasks` | 配方 | 抽取任务的来源 |
# | 模型初始化 | `training.initialise` | 配方、任务 | 权重由种子决定的学习器 |
# | 学习 | `training.learn` | 配方、任务 | 外循环之后的学习器 |
# | 知识转移 | `Learner.adapt` | 几条有标签的录音 | 一个状态；学习器本身不变 |
# | 评估 | `evaluation.protocols.evaluate` | 学习器、新任务 | 每个回答一行 |
#
# 本课还说明这类清单没有说的事：评估用的任务，其词语和说话人在训练中都没有出现过；用来学习的录音，不会再拿来提问。

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
  encoder: {channels: 32, blocks: 3, halvings: 2, cepstra: 0}   # 很小，只有学到的部分
  learner: {name: prototypes, tracts: []}
data:
  corpora: [speech_commands_mini]                               # 英语，METAVOX_DATA 中有才用
  synth: {languages: [de, fi, tr], n_words: 30, n_voices: 4}    # 由 espeak-ng 合成
episodes: {ways: 10, shots: 1, queries: 2, batch: 1}
train: {steps: 60, warmup: 10, lr: 0.004, precision: float32}
"""
recipe = validated(Experiment, yaml.safe_load(RECIPE), "本课的配方")
words = TASKS["commands"]()

# %% [markdown]
# ## 1. 任务选择
#
# 任务不是一个数据集，而是一种语言的十个词，每个词一条录音用来学习（*支持集*），两条用来提问（*查询集*）。
# 下一个任务是另外十个词。
# 这一步选定的是从哪里抽取任务。

# %%
tasks = select_tasks(recipe)
print("这里没有的录音：", "、".join(tasks.absent) or "无")
print(f"供学习的词语 {tasks.training.n_classes} 个，分为 {len(tasks.training.groups)} 组：")
for group in tasks.training.groups:
    print(f"  {len(group)} 个词，{len(group.positions)} 条录音：{group.name}")
drawn = tasks.training.episode(0, 0)
print("第一个任务：", "、".join(drawn.classes))

# %% [markdown]
# ## 2. 模型初始化
#
# 权重由种子抽取，不含任何任务的知识；知识来自第 3 步。谁要是从一个在某个任务上训练过的模型开始，
# 就等于先做过一遍第 3 步，应当说明用的是什么数据。

# %%
untrained, config = initialise(recipe, tasks)
again, _ = initialise(recipe, tasks)
n_weights = sum(value.numel() for value in untrained.parameters())
assert all(torch.equal(a, b) for a, b in zip(untrained.parameters(), again.parameters(), strict=True))
print(f"{n_weights:,} 个权重，种子相同则完全相同")

# %% [markdown]
# ## 3. 学习
#
# 外循环：抽一个任务，在支持集上适应，在查询集上计算损失，然后移动权重，使得*适应之后*的结果更好。
# 下面的损失总是刚抽到的任务的损失，所以起伏较大。

# %%
losses: list[float] = []
with tempfile.TemporaryDirectory() as folder:
    trained = learn(recipe, tasks, Path(folder) / "model", report=lambda step: losses.append(step.loss))
tenths = [float(np.mean(part)) for part in np.array_split(losses, 6)]
print("查询损失，每十步取平均：", " ".join(f"{loss:.2f}" for loss in tenths))
print(f"在十个词中瞎猜的损失是 {np.log(10):.2f}")
assert tenths[-1] < tenths[0]

# %% [markdown]
# ## 训练不应见过什么
#
# 测试词语是另一种语言，由另一些人说出。这一点要证明，不能只是声称：任何训练任务或验证任务可能抽到的录音，
# 都不能与测试共有语言、说话人或文件。

# %%
if locate("lithuanian_commands") is not None:
    test_data, kind = DataConfig(corpora=("lithuanian_commands",)), "立陶宛语命令词，真实录音"
else:
    test_data, kind = DataConfig(synth={"languages": ["sw"], "n_words": 30, "n_voices": 4}), "合成的斯瓦希里语词"
test = gather(test_data, config.front_end).bank
index = ClassIndex(test.utterances)
for what in ("lang", "speaker", "path"):
    shared = {getattr(u, what) for u in tasks.heard} & {getattr(u, what) for u in test.utterances}
    assert not shared, f"训练与测试共有 {what} {shared}"
print(f"测试：{kind}，{len(index)} 个词，{len({u.speaker for u in test.utterances})} 位说话人")

protocol = Protocol(EpisodeSpec(n_way=10, k_shot=1, n_query=3, speakers="disjoint"), episodes=40, seed=7)
for _, draw in draws(index, protocol):
    assert not set(draw.support.tolist()) & set(draw.query.tolist())
    by = [{test.utterances[k].speaker for k in side.tolist()} for side in (draw.support, draw.query)]
    assert not by[0] & by[1]
print(f"{protocol.episodes} 个任务：没有一条录音、没有一位说话人同时出现在支持集和查询集中")

# %% [markdown]
# ## 4. 知识转移
#
# 全部的知识转移就是 `adapt`：进去十条有标签的录音，出来一个状态。第 3 步的循环每一步都调用它，
# 设备上的用户注册词语时调用的也是它。权重保持不动。

# %%
_, draw = next(draws(index, protocol))
episode = episode_of(test, draw, config.front_end)
before = [value.clone() for value in trained.parameters()]
with torch.no_grad():
    state = trained.adapt(episode.support)
    right = words.score(trained.predict(state, episode.query), episode.query)
assert all(torch.equal(a, b) for a, b in zip(before, trained.parameters(), strict=True))
size = sum(value.numel() for value in state.values())
print(f"一个任务：{len(episode.support)} 条录音变成 {size:,} 个数的状态；答对 {right.mean():.0%}")

# %% [markdown]
# ## 5. 评估
#
# 三个学习器面对同样的 40 个任务：训练过的；第 2 步留下的、没有训练过的同一个；以及动态时间规整（DTW）模板，
# 它无需训练。胜过自己的随机权重并不难，第三个才是真正的门槛。

# %%
dtw = load_model("dtw")
learners = {
    "训练过": (trained, config.front_end),
    "未训练": (untrained, config.front_end),
    "DTW 模板": (dtw.learner, dtw.config.front_end),
}
rows = {
    name: evaluate(learner, words, test, index, protocol, front_end, corpus="test")
    for name, (learner, front_end) in learners.items()
}
for name, answers in rows.items():
    about = summary(answers, protocol)
    low, high = about["ci95"]
    print(f"{name:14} 正确率 {about['mean']:6.1%}（按任务的 95% 区间 {low:.1%} 至 {high:.1%}）")

# %% [markdown]
# 两个区间有重叠，并不能说明差异有无。三个学习器回答的是同样的问题，所以差异要逐个任务相减。
# 第二个区间还对词语重新抽样：它不仅说明换一批任务会怎样，也说明换一批词语会怎样。

# %%
for name in ("未训练", "DTW 模板"):
    gain = paired(rows["训练过"], rows[name], seed=protocol.seed)
    print(
        f"训练过减{name}：{100 * gain['difference']:+.1f} 个百分点（{100 * gain['low']:.1f} 至 "
        f"{100 * gain['high']:.1f}；换一批词语为 {100 * gain['clustered_low']:.1f} 至 "
        f"{100 * gain['clustered_high']:.1f}）"
    )
    if gain["clustered_low"] <= 0:
        print(f"  这里没有显示出胜过{name}")
    if name == "未训练":
        assert gain["low"] > 0, "六十步什么也没学到"

# %% [markdown]
# 合成词语很容易：没有真实录音时，DTW 几乎总是对的，也就显示不出任何增益。
#
# ## 两种自欺的办法
#
# *拿支持集来提问。* 如果支持集和查询集混在一起抽，问的就是刚刚学过的录音。这时随机权重也无所不知。

# %%
right, leaked = [], []
with torch.no_grad():
    for _, draw in draws(index, protocol):
        episode = episode_of(test, draw, config.front_end)
        state = untrained.adapt(episode.support)
        right.append(float(words.score(untrained.predict(state, episode.query), episode.query).mean()))
        leaked.append(float(words.score(untrained.predict(state, episode.support), episode.support).mean()))
print(f"随机权重：问分开的录音 {np.mean(right):.1%}，问支持集本身 {np.mean(leaked):.1%}")
assert np.mean(leaked) > 0.99 > np.mean(right)

# %% [markdown]
# *拿训练过的类来提问。* 旧词的新录音不是新任务。这里用虚构的类来说明，以免有的词碰巧比别的词容易：
# 一个类是一条随机频谱，一条录音是它加上噪声。
# 学习器只在十个这样的类上训练，然后用新录音提问：一半问这十个类，一半问同样方法造出的其他类。

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
    """由 ``ways`` 个类组成的任务：每类一条用来学习，几条用来提问。"""
    chosen = rng.permutation(len(spectra))[:ways]

    def side(takes: int) -> tuple[np.ndarray, Batch]:
        labels = np.repeat(np.arange(ways), takes)
        spoken = spectra[chosen[labels], None] + 2 * rng.normal(size=(len(labels), 8, 40))
        lengths = torch.full((len(labels),), 8)
        return labels, Batch(torch.from_numpy(spoken).float(), lengths, torch.from_numpy(labels), ways)

    (known, support), (asked, query) = side(1), side(queries)
    places = np.arange(len(known) + len(asked))
    names = tuple(f"类 {k}" for k in chosen)
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
for what, start, end in zip(("训练过的类", "其他类"), at_first, at_last, strict=True):
    print(f"{what:8} 训练前 {start:6.1%}，训练后 {end.mean:6.1%}（{end.low:.1%} 至 {end.high:.1%}）")
assert at_last[0].low > at_last[1].high + 0.2

# %% [markdown]
# 对训练过的类，它几乎总是对的；但它没有学到任何对其他类有用的东西。十个类太少，而且随机的类之间没有共同点，
# 词语之间却有。
# 不过，一个模型学到的是前者还是后者，只有在训练从未见过的词语和说话人上评估才知道。
