# %% [markdown]
# # 通用表示，以及迁移给它加上了什么
#
# *通用表示*是一个函数 f(x) = g(x, θ)：从录音到向量，同一个 θ 服务于许多任务。它“可以是稀疏的、全连接的或者卷积的”：
# 本课把三种都建出来，权重数目大致相同，训练方法相同，再迁移到两个任务上，看看形式究竟有多重要。
#
# 然后是 h，它把表示带到新任务上。常见的写法是 h(x, y; θ) = g(x, y, θ)，却没有说 y 怎样进入，也没有说是谁的 y。
# 它不是 x 的标签，那正是我们想知道的。它属于*支持集*，即几条录音**连同它们的标签**：h(x, 支持集; θ)。最后一节说明：
# 没有标签就没有 h。

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

FORMS = {"sparse": "稀疏", "fc": "全连接", "conv": "卷积"}
words = TASKS["commands"]()

# %% [markdown]
# ## g：三种形式，一样大小
#
# 三者听到的都是一个词的 64 个对数梅尔帧，给出 16 个向量。全连接与稀疏的形式一次看 11 帧；
# 稀疏的十个连接中有九个不存在，也不存储，所以单元更多。
# 卷积每层只看几帧，沿时间共享权重。每种形式都取最接近三万个权重的宽度。项目的配方会在学到的部分旁边放上倒谱，
# 这里不用。


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
print(f"{'形式':16} {'宽度':>6} {'权重':>8} {'不存在':>7} {'每词乘法':>16} {'每词毫秒':>10}")
sizes = []
for form, config in models.items():
    found = cost(build(config).encoder, n_runs=10)
    sizes.append(found.parameters)
    print(
        f"{FORMS[form]:16} {config.encoder.channels:6} {found.parameters:8,} {found.absent:7.0%} {found.macs:16,} "
        f"{found.latency.median_ms:10.2f}"
    )
assert max(sizes) < 1.1 * min(sizes), "各形式大小不等，无法比较"

# %% [markdown]
# ## 同样的训练
#
# 在同样的任务上做四十个外循环步：一种语言的十个词，每个词一条录音。四十步非常少；看到的是每种形式先学会什么，
# 而不是它最终能学会什么。


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
print("这里没有的录音：", "、".join(tasks.absent) or "无")
print("训练语言：", "、".join(group.name.split(" * ")[1] for group in tasks.training.groups))
untrained, trained = {}, {}
with tempfile.TemporaryDirectory() as folder:
    for form, title in FORMS.items():
        losses: list[float] = []
        untrained[form], _ = initialise(recipe(form), tasks)
        heard = partial(lambda to, step: to.append(step.loss), losses)
        trained[form] = learn(recipe(form), tasks, Path(folder) / form, report=heard)
        print(f"{title:16} 查询损失起初 {np.mean(losses[:10]):.2f}，最后 {np.mean(losses[-10:]):.2f}")

# %% [markdown]
# ## 迁移到两个任务
#
# 1. *另一种语言*：任何训练任务都没有用过的语言，由另一些人说出。
# 2. *另一种环境*：同样的词，在安静中学，在 5 dB 的噪声中问。
#
# θ 保持不变：`adapt` 用十条有标签的录音做成十个原型。

# %%
if locate("lithuanian_commands") is not None:
    test_data, kind = DataConfig(corpora=("lithuanian_commands",)), "立陶宛语命令词，真实录音"
else:
    test_data, kind = DataConfig(synth={"languages": ["sw"], "n_words": 30, "n_voices": 4}), "合成的斯瓦希里语词"
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
print(f"迁移到：{kind}，{len(index)} 个词，{protocol.episodes} 个十词任务")


def accuracies(learner: torch.nn.Module, *, noisy: bool) -> np.ndarray:
    """每个任务的正确率。"""
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
for noisy, task in ((False, "另一种语言"), (True, "同样的词，有噪声")):
    print(f"\n{task}：正确率与 95% 区间，以及训练带来的增益（成对）")
    for form, title in FORMS.items():
        reached = mean_interval(after[form, noisy])
        gains[form, noisy] = paired_bootstrap(after[form, noisy], before[form, noisy], seed=1)
        gain = gains[form, noisy]
        print(
            f"{title:16} {reached.mean:6.1%}（{reached.low:.1%} 至 {reached.high:.1%}），增益 "
            f"{100 * gain.difference:+.1f} 个百分点（{100 * gain.low:.1f} 至 {100 * gain.high:.1f}）"
        )
assert all(gain.low > 0 for (_, noisy), gain in gains.items() if not noisy), "有的形式没有迁移成功"

# %% [markdown]
# 哪种形式更好，要看同样任务上的差异；三对比较有三次碰巧的机会，所以每个 p 值都按三次比较校正（Holm）。

# %%
pairs = [("conv", "fc"), ("conv", "sparse"), ("fc", "sparse")]
for noisy, task in ((False, "另一种语言"), (True, "同样的词，有噪声")):
    found = [paired_bootstrap(after[a, noisy], after[b, noisy], seed=2) for a, b in pairs]
    for (a, b), one, p_value in zip(pairs, found, holm([one.p_value for one in found]), strict=True):
        shown = "有差异" if p_value < 0.05 else "没有显示出差异"
        print(
            f"{task}，{FORMS[a]}减{FORMS[b]}：{100 * one.difference:+.1f} 个百分点（{100 * one.low:.1f} 至 "
            f"{100 * one.high:.1f}），{shown}"
        )

# %% [markdown]
# ## h：支持集的标签
#
# 取一个任务，给十个词换名字：每个标签加一，其余不变，录音和查询都相同。真正学会了“这条录音说的是什么”的 h，
# 换名之后分数必须跟着换位，数值不变。
# 这里检验上面的原型，以及把支持集和查询一起听的网络 `support_conditioned`。这是由结构保证的，
# 所以没有训练过的权重同样可以说明。

# %%
_, draw = next(draws(index, protocol))
support = test.batch(draw.support, draw.support_labels, 10)
query = test.batch(draw.query, draw.query_labels, 10)


def moved(batch: Batch, by: int) -> Batch:
    """同样的录音，换了名字。"""
    return replace(batch, labels=(batch.labels + by) % batch.n_classes)


conditioned = build(model_of("conv", models["conv"].encoder.channels, "support_conditioned"), seed=0)
for name, learner in (("prototypes", trained["conv"]), ("support_conditioned", conditioned)):
    with torch.no_grad():
        scores = learner.predict(learner.adapt(support), query).scores
        renamed = learner.predict(learner.adapt(moved(support, 1)), query).scores
    apart = float((renamed - scores.roll(1, dims=1)).abs().max())
    changed = float((renamed - scores).abs().max())
    assert apart < 1e-4 < changed
    print(f"{name:20} 分数随名字换位（误差 {apart:.1e}）；若不换位，"
          f"误差会是 {changed:.1f}")  # fmt: skip

# %% [markdown]
# 再看一个 h，它听到同样的录音，却没有标签：把支持集向量的平均加到查询的向量上，再从和读出十个分数。权重训练得再好，
# 新名字也传不到它那里。
# 轮流用十种方式命名，它十次给出同样的答案，而每个查询的每个名字各轮到一次。所以它恰好十次对一次，不论学到了什么。

# %%
encoder = trained["conv"].encoder
reading = torch.randn(encoder.dim, 10, generator=torch.Generator().manual_seed(5))


def blind(support: Batch, query: Batch) -> torch.Tensor:
    """只依据查询和支持集录音（不含标签）的分数 (B, 10)。"""
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
print(f"一个任务的十种命名：有支持集的标签时正确率 {np.mean(with_labels):.0%}，"
      f"没有时 {np.mean(without):.0%}")  # fmt: skip

# %% [markdown]
# 所以第二个公式应读作 h(x, (x₁, y₁), ..., (xₙ, yₙ); θ)：y 是支持集的标签，与各自的录音放在一起，x 的标签则是输
# 出。g 在其中：
#
# - `prototypes`：类 c 的分数 = −（g(x, θ) 到所有 yᵢ = c 的 g(xᵢ, θ) 的距离）；
# - `support_conditioned`：一个共享的层逐类地听 g(x, θ) 和 yᵢ = c 的 g(xᵢ, θ) 的平均；
# - 梯度类学习器（MAML 等）：θ 自己移动，依据支持集的损失，而损失里有 yᵢ。
#
# 项目自己对编码器的比较在 `benchmarks/encoders.json`（有倒谱，15 万个权重，250 步）：线性、
# 全连接和稀疏比卷积低 1 至 2.5 个百分点。
# 全部学习器以及 y 怎样进入：`docs/learners.md`。
