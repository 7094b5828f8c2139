# %% [markdown]
# # 听过例子再回答的分类器：一个有五处错误的草图，以及在 Keras 中的正确写法
#
# 讲元学习的文章常以三十行 TensorFlow 代码收尾：例子（*支持集*）经过一层，要问的录音（*查询*）经过另一层，
# 两者的输出相加，再做 softmax。看上去很合理，其实行不通。本课用自己的代码重写这样一个草图，让它的五处错误逐一暴露，
# 然后在 Keras 3 中把它写对。
# 这里的“对”有明确的标准：Metavox 在 PyTorch 中有同一个学习器（`support_conditioned`），Keras 模型要逐个数字与它核对，
# 在 Keras 的 torch 后端和 TensorFlow 后端上都是如此。
#
# 一个进程中的 Keras 只有一个后端。本进程用 torch，除非 `KERAS_BACKEND` 另有指定；另一个后端由第二个进程使用。
# 那个进程也会执行本课的单元格，但只为了其中的定义。因此，
# 凡是真正*运行*的代码都写在 `if __name__ == "__main__"` 之下。

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
    print(f"Keras {keras.__version__}，后端 {keras.backend.backend()}")

# %% [markdown]
# ## 用来学习的词，和用来提问的词
#
# 如果 `METAVOX_DATA` 中有真实录音，就用它们：阿拉伯语数词用于训练，英语命令词用于测试。否则用 espeak-ng 合成的词，
# 训练和测试用不同的语言；合成的嗓音读同一个词时非常相似，几乎没有什么可学的，这时的数字只说明整套流程能够工作。
# 每个窗口保持自己的长度（`n_frames=None`），所以一批数据里会有填充，而填充不应影响结果。

# %%
MODEL = ModelConfig(
    front_end=FrontEnd(normalize=False, n_frames=None),
    encoder=EncoderConfig(name="fc", channels=64, blocks=2, dim=32, context=11, halvings=1, cepstra=0),
    learner=LearnerConfig(name="support_conditioned", width=64, scale=15.0),
)
REAL = ("arabic_digits", "speech_commands_mini")


def recordings() -> tuple[Bank, ClassIndex, ClassIndex, bool]:
    """全部录音、训练用的词、测试用的词，以及它们是否由真人说出。"""
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
    """第 n 个训练任务：``n_way`` 个词各 ``k_shot`` 条录音，每个词再有至多 ``n_query`` 条用来提问。"""
    draw = training.draw(EpisodeSpec(n_way, k_shot, n_query), [1, n])
    return episode_of(bank, draw, MODEL.front_end)


bank, training, test, real = recordings()
if __name__ == "__main__":
    print("真人录音" if real else "espeak-ng 合成的词：METAVOX_DATA 中没有录音")
    print(f"训练：{len(training)} 个词，{len(training.positions)} 条录音")
    print(f"测试：{len(test)} 个词，{len(test.positions)} 条录音")
    assert not set(training.classes) & set(test.classes)

# %% [markdown]
# ## 草图的五处错误
#
# 演示错误时，一条录音只用一个向量表示：把它在时间上分成八段，每段取平均频谱。各层的权重由种子生成。


# %%
def vectors(batch: Batch) -> np.ndarray:
    """每条录音一个向量，均值 0，标准差 1：八段时间的平均频谱并排。"""
    means = segment_means(batch.inputs, batch.lengths, 8).numpy()
    return (means - means.mean(1, keepdims=True)) / means.std(1, keepdims=True)


def layer(size: int, seed: int, activation: str | None = "relu") -> keras.layers.Dense:
    """权重由 ``seed`` 生成的全连接层。"""
    return keras.layers.Dense(size, activation, kernel_initializer=keras.initializers.GlorotUniform(seed=seed))


def cross_entropy(labels: np.ndarray, scores: object) -> object:
    """Keras 对 logits 的计算：一个 softmax，在损失里。"""
    return ops.mean(keras.losses.sparse_categorical_crossentropy(labels, scores, from_logits=True))


def gradients(loss_of: Callable[[], object], weights: list[keras.Variable]) -> tuple[float, list]:
    """损失和它的梯度，按后端的方式计算。"""
    values = [weight.value for weight in weights]
    if keras.backend.backend() == "tensorflow":
        import tensorflow

        with tensorflow.GradientTape() as tape:
            loss = loss_of()
        return float(loss), tape.gradient(loss, values)
    loss = loss_of()
    return loss.item(), list(torch.autograd.grad(loss, values))


# %% [markdown]
# ### 1. 两种宽度
#
# 支持集经过 128 个单元的层，查询经过 64 个单元的层，然后相加。第一步就会报错：这样的代码从未运行过。


# %%
def add_widths(of_takes: int, of_query: int) -> str:
    """把这两种宽度的层相加的结果：一个形状，或一个错误。"""
    takes, query = vectors(episode(0).support), vectors(episode(0).support)
    try:
        return f"shape {tuple((layer(of_takes, 1)(takes) + layer(of_query, 2)(query)).shape)}"
    except Exception as error:  # 每个后端有自己的错误类型
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"


if __name__ == "__main__":
    print("128 和 64：", add_widths(128, 64))
    print("64 和 64： ", add_widths(64, 64))
    assert "Error" in add_widths(128, 64)

# %% [markdown]
# ### 2. 最后一层有 softmax，损失里又有一个
#
# 最后一层给出概率，而损失函数期待的是 logits，于是又做一次 softmax。概率在 0 和 1 之间，所以在 $C$ 个类别中，
# 第二个 softmax 给出的把握不会超过 $e / (e + C - 1)$：即使分类器完全正确而且十分确定，
# 损失仍是 $\log(e + C - 1) - 1$。梯度也随之消失：什么都还不知道时，梯度只有原来的 $1/C$；答错了还十分确定、
# 本该学得最多的时候，梯度几乎为零。


# %%
def loss_and_slope(logits: np.ndarray, label: int, *, twice: bool) -> tuple[float, float]:
    """一条数据的损失，以及对 logits 的梯度的长度，用一个或两个 softmax。"""
    logits = keras.Variable(logits[None], dtype="float64")
    label = np.array([label])

    def loss() -> object:
        return cross_entropy(label, ops.softmax(logits.value) if twice else logits.value)

    value, (slope,) = gradients(loss, [logits])
    return value, float(np.linalg.norm(ops.convert_to_numpy(slope)))


def surest(n_classes: int) -> float:
    """以概率为分数时，交叉熵能达到的最小值。"""
    return float(np.log(np.e + n_classes - 1) - 1)


def where_it_stands(n_classes: int) -> Iterator[tuple[str, np.ndarray]]:
    """什么都没学时、答错且确定时、答对且确定时的 logits；类别 0 是对的。"""
    yield "一无所知", np.zeros(n_classes)
    yield "答错且确定", 12.0 * np.eye(n_classes)[1]
    yield "答对且确定", 60.0 * np.eye(n_classes)[0]


if __name__ == "__main__":
    print("5 个类别   一个 softmax：损失、梯度    两个：损失、梯度")
    for name, logits in where_it_stands(5):
        once, both = (loss_and_slope(logits, 0, twice=twice) for twice in (False, True))
        print(f"{name:16} {once[0]:17.4f}  {once[1]:.1e} {both[0]:17.4f}  {both[1]:.1e}")
    for n_classes in (5, 20):
        print(f"{n_classes} 个类别、两个 softmax：损失不会低于 {surest(n_classes):.4f}")

# %% [markdown]
# ### 3. 支持集和查询经过不同的层
#
# 让两层宽度相同，就可以相加了，但和没有意义。一层好比一种语言；权重各自生成的两层，说的是两种语言。最简单的检验：
# 拿作为例子的那条录音本身来提问。经过同一层时，每条录音都与自己最相似；经过两层时，它是哪一个例子只能靠猜。


# %%
def finds_itself(hear_take: Callable, hear_query: Callable, clips: np.ndarray) -> float:
    """有多大比例的录音，作为查询时与作为例子的自己最相似（按余弦）。"""
    takes, query = (ops.convert_to_numpy(hear(clips)) for hear in (hear_take, hear_query))
    takes, query = (found / np.linalg.norm(found, axis=1, keepdims=True) for found in (takes, query))
    return float(((query @ takes.T).argmax(1) == np.arange(len(clips))).mean())


def itself_through_one_and_two() -> tuple[float, float, int]:
    """经过一层和两层时找到自己的比例，以及共有多少条录音。"""
    clips = vectors(episode(0, 10, 5).support)
    shared = layer(64, 1)
    apart = [finds_itself(layer(64, seed), layer(64, seed + 1), clips) for seed in range(0, 40, 2)]
    return finds_itself(shared, shared, clips), float(np.mean(apart)), len(clips)


if __name__ == "__main__":
    through_one, through_two, n_clips = itself_through_one_and_two()
    print(f"在 {n_clips} 个例子（包括它自己）中找到自己：经过一层 {through_one:.0%}")
    print(f"  经过两层 {through_two:.0%}（20 对的平均）；瞎猜是 {1 / n_clips:.0%}")

# %% [markdown]
# ### 4. 没有人说例子是什么的例子
#
# 录音输入了，标签却没有。把“开灯”和“开门”的标签对调，分数一点也不变。把五个词的标签轮换一圈，共有五种标法：
# 无论权重如何，每个查询恰好在其中一种标法下是对的。对许多任务平均下来，这就是瞎猜，训练也无济于事：
# 每个任务的标签都重新分配，损失最好也只能停在 $\log C$。下面的草图宽度一致、两侧共用一层、只有一个 softmax，
# 缺的只是标签。


# %%
class Deaf(keras.layers.Layer):
    """给查询打分，旁边有支持集，但不知道它的标签。"""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.hear, self.last = layer(64, 1), layer(n_classes, 2, None)

    def call(self, takes: object, query: object) -> object:
        return self.last(self.hear(query) + ops.mean(self.hear(takes), 0, keepdims=True))


def right_when_turned(scores_of: Callable[[np.ndarray], object], labels: np.ndarray, asked: np.ndarray) -> list[float]:
    """标签轮换一圈，每种标法的正确率；``scores_of`` 得到的是例子的标签。"""
    n_classes = int(labels.max()) + 1
    found = []
    for turn in range(n_classes):
        best = ops.convert_to_numpy(scores_of((labels + turn) % n_classes)).argmax(1)
        found.append(float((best == (asked + turn) % n_classes).mean()))
    return found


def deaf_loss(deaf: Deaf, task: Episode) -> object:
    """它在一个任务上的查询损失。"""
    return cross_entropy(task.query.labels.numpy(), deaf(vectors(task.support), vectors(task.query)))


def deaf_losses(n_steps: int = 80) -> tuple[Deaf, list[float]]:
    """用 Adam 训练它，返回每一步的查询损失。"""
    deaf, adam, losses = Deaf(5), keras.optimizers.Adam(1e-3), []
    for step in range(n_steps):
        task = episode(step)
        deaf_loss(deaf, task)  # 各层在第一次调用时才有权重
        value, slopes = gradients(partial(deaf_loss, deaf, task), deaf.trainable_weights)
        adam.apply(slopes, deaf.trainable_weights)
        losses.append(value)
    return deaf, losses


if __name__ == "__main__":
    deaf, losses = deaf_losses()
    last = float(np.mean(losses[-20:]))
    print(f"查询损失，{len(losses)} 步中最后 20 步的平均：{last:.2f}；瞎猜是 {np.log(5):.2f}")
    task = episode(1000)
    takes, query = vectors(task.support), vectors(task.query)
    turned = right_when_turned(lambda _: deaf(takes, query), task.support.labels.numpy(), task.query.labels.numpy())
    shares = " ".join(f"{share:.0%}" for share in turned)
    print(f"五种标法各自的正确率：{shares}；平均 {np.mean(turned):.0%}")
    assert abs(np.mean(turned) - 1 / 5) < 1e-9

# %% [markdown]
# ### 5. 不给答案就没有回答
#
# 唯一能问出来的是损失，而计算损失必须先知道说的是什么。设备听到一个词时，没有人会告诉它答案。


# %%
def only_a_loss(takes: np.ndarray, query: np.ndarray, answers: np.ndarray) -> object:
    """这样的模型能被问到的全部内容。"""
    return cross_entropy(answers, Deaf(5)(takes, query))


def asked_without_answers() -> str:
    """问它说的是什么，会得到什么。"""
    try:
        return str(only_a_loss(takes=vectors(episode(0).support), query=vectors(episode(0).query)))
    except TypeError as error:
        return f"TypeError: {error}"


if __name__ == "__main__":
    print(asked_without_answers())

# %% [markdown]
# ## 正确的写法
#
# - 同一个编码器听例子，也听查询。
# - 例子的标签决定对什么取平均：一个类别就是它的各条录音的均值。因此类别数和每类的录音数都可以任意。
# - 查询和类别均值经过*同一*层，相加，再由两层判断和是否合拍；结果加在余弦上，所以没学过的模型也能比较。
# - 分数是 logits；唯一的 softmax 在损失里。
# - `score` 不接收查询的标签，它根本没有这个参数。
#
# 编码器是 Metavox 的 `fc`：十一帧并排，经过若干全连接层，每层在单元上做归一化，每两个时刻保留一个。
# 超出录音长度的部分不起任何作用。


# %%
def dense(n_in: int, n_out: int, *, bias: bool = True, zero: bool = False, dtype: str) -> keras.layers.Dense:
    """立即就有权重的线性层，以便把别的权重复制进来。"""
    first = keras.initializers.Zeros() if zero else keras.initializers.GlorotUniform(seed=n_in)
    made = keras.layers.Dense(n_out, use_bias=bias, kernel_initializer=first, dtype=dtype)
    made.build((None, n_in))
    return made


def norm(size: int, dtype: str) -> keras.layers.LayerNormalization:
    """在单元上归一化，常数与 PyTorch 相同；Keras 默认是 1e-3。"""
    made = keras.layers.LayerNormalization(epsilon=1e-5, dtype=dtype)
    made.build((None, size))
    return made


def normalised(windows: object, mask: object) -> object:
    """有效值均值为 0、标准差为 1、填充为 0 的窗口；``mask`` (B, T, 1)。"""
    count = ops.sum(mask, 1, keepdims=True)
    mean = ops.mean(ops.sum(windows * mask, 1, keepdims=True) / count, 2, keepdims=True)
    centred = (windows - mean) * mask
    variance = ops.mean(ops.sum(ops.square(centred), 1, keepdims=True) / count, 2, keepdims=True)
    return centred * ops.rsqrt(variance + 1e-2)


class Encoder(keras.layers.Layer):
    """输入窗口 (B, T, F)，输出单位长度的帧 (B, T / 2, D)；填充处为 0。"""

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
    """有效帧 (B, T, D) 等分成 ``n`` 段，各段的均值并排 (B, n D)。"""
    at = ops.arange(frames.shape[1], dtype="float32")[None, None]
    edges = ops.arange(n + 1, dtype="float32")[None] * (ops.cast(lengths, "float32")[:, None] / n)
    overlap = ops.relu(ops.minimum(edges[:, 1:, None], at + 1) - ops.maximum(edges[:, :-1, None], at))
    share = ops.cast(overlap / ops.sum(overlap, -1, keepdims=True), frames.dtype)
    return ops.reshape(share @ frames, (-1, n * frames.shape[-1]))


def level(x: object) -> object:
    """方向不变，均方根为 1。"""
    length = ops.sqrt(ops.sum(ops.square(x), -1, keepdims=True))
    return x / ops.maximum(length, 1e-12) * x.shape[-1] ** 0.5


class SupportConditioned(keras.Model):
    """h(x, y; theta)：在支持集及其标签旁给查询打分，两者数目任意。"""

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
        """唯一的编码器听到的录音 (B, V)。"""
        windows = ops.convert_to_tensor(windows, self.compute_dtype)
        return level(stretches(self.encoder(windows, lengths), (lengths + 1) // 2))

    def remember(self, windows: object, lengths: object, labels: object, n_classes: int) -> tuple[object, object]:
        """有标签的录音的类别均值 (C, V)，以及每类有多少条。"""
        member = ops.one_hot(labels, n_classes, dtype=self.compute_dtype)
        counts = ops.sum(member, 0)
        sums = ops.transpose(member) @ self.vectors(windows, lengths)
        return level(sums / ops.maximum(counts, 1)[:, None]), counts

    def score(self, state: tuple[object, object], windows: object, lengths: object) -> object:
        """查询的 logits (B, C)；没有录音的类别为 -inf。"""
        means, counts = state
        query = self.vectors(windows, lengths)
        both = self.project(query)[:, None] + self.project(means)
        found = self.final(ops.relu(self.hidden(ops.relu(both))))[:, :, 0]
        scores = ops.exp(self.log_scale) * (ops.mean(query[:, None] * means, -1) + found)
        return ops.where(counts > 0, scores, -float("inf"))

    def call(self, support: tuple, query: tuple, n_classes: int) -> object:
        return self.score(self.remember(*support, n_classes), *query)


# %% [markdown]
# ### 再看这些错误
#
# 权重复制自 Metavox 的学习器，由种子生成。PyTorch 把线性层的矩阵存为（输出，输入），Keras 存为（输入，输出）。
# 最后一层在学到东西之前是 0；为了比较，先用小的数填上，因为全零的一层会把它前面的一切都遮住。


# %%
def metavox_learner(dtype: torch.dtype = torch.float32, filled: float = 0.0) -> torch.nn.Module:
    """Metavox 自己的学习器，最后一层填上这么大的数。"""
    learner = build(MODEL, seed=0).to(dtype)
    drawn = torch.randn(learner.compare.last.weight.shape, generator=torch.Generator().manual_seed(2))
    learner.compare.last.weight.data += filled * drawn.to(dtype)
    return learner


def counterparts(model: SupportConditioned) -> dict[str, tuple[keras.Variable, bool]]:
    """Metavox 的每个权重名对应的 Keras 权重，以及它是否转置。"""
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
    """带有 Metavox 学习器全部权重的 Keras 模型。"""
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
    """交给 ``score`` 的内容：没有标签。"""
    return batch.inputs.numpy(), batch.lengths.numpy()


def as_support(batch: Batch) -> tuple:
    """除类别数之外，交给 ``remember`` 的内容。"""
    return *as_query(batch), batch.labels.numpy()


def scores_of(model: SupportConditioned, task: Episode) -> object:
    """一个任务中各查询的分数。"""
    return model(as_support(task.support), as_query(task.query), n_classes=task.support.n_classes)


def loss_of(model: SupportConditioned, task: Episode) -> object:
    """一个任务的查询损失：只有这里读取查询的标签。"""
    return cross_entropy(task.query.labels.numpy(), scores_of(model, task))


if __name__ == "__main__":
    model = like(metavox_learner(filled=0.02))
    for n_way, k_shot in ((2, 1), (5, 3), (9, 4)):
        task = episode(0, n_way, k_shot)
        scores = scores_of(model, task)
        print(f"{n_way} 类各 {k_shot} 条：分数 {tuple(scores.shape)}，不需要查询的标签")

    task = episode(1000)
    windows, lengths, labels = as_support(task.support)
    turned = right_when_turned(
        lambda labels: model((windows, lengths, labels), as_query(task.query), n_classes=5),
        labels,
        task.query.labels.numpy(),
    )
    shares = " ".join(f"{share:.0%}" for share in turned)
    print(f"五种标法各自的正确率：{shares}；词跟着标签走")
    assert np.ptp(turned) == 0

    itself = ops.convert_to_numpy(model.vectors(windows, lengths))
    print(f"在 {len(itself)} 个例子中找到自己：{finds_itself(lambda x: x, lambda x: x, itself):.0%}")
    scores = ops.convert_to_numpy(scores_of(model, task))
    longer = np.pad(task.query.inputs.numpy(), ((0, 0), (0, 30), (0, 0)), constant_values=7.0)
    padded = ops.convert_to_numpy(model(as_support(task.support), (longer, task.query.lengths.numpy()), n_classes=5))
    print(f"在每个查询后面加上 30 帧无意义的数，分数改变 {np.abs(padded - scores).max():.0e}")

# %% [markdown]
# ## 与 Metavox 步调一致
#
# 两边使用相同的权重和相同的任务，每个任务的词、词数和录音数都不同。比较的是：分数，查询损失对每个权重的梯度，
# 以及用 Adam 走十步之后的全部权重。
#
# Adam 需要说明一下。Kingma 和 Ba（2015）除以 $\sqrt{\hat v} + \epsilon$，
# 其中 $\hat v = v / (1 - \beta_2^t)$ 已经校正了偏差，PyTorch 也是这样。
# 他们还给出了同一计算的一种更快的次序，Keras 采用的就是它：校正并入步长，除数是 $\sqrt v + \hat\epsilon$。
# 只有 $\hat\epsilon = \epsilon \sqrt{1 - \beta_2^t}$ 时，两者才一致。所以给两边同一个数，得到的并不是同一个优化器：
# 第一步时，Keras 的实际大了 32 倍。下面的子类使两者相同。
#
# 比较还需要 64 位。梯度接近 0 时，Adam 的头几步就是步长乘以梯度的*符号*；两个只因舍入而不同的梯度，可能一个向上，
# 一个向下。32 位的结果和 Keras 自带的 Adam 的结果也一并打印出来。
# 在 torch 后端上，Keras 会把 64 位矩阵的乘积舍入到 32 位（它的类型规则取自 JAX）；比较时取消了这条规则。


# %%
class Adam(keras.optimizers.Adam):
    """与 PyTorch 相同的 Adam：先校正偏差，再加 epsilon。"""

    def update_step(self, gradient: object, variable: keras.Variable, learning_rate: object) -> None:
        place = self._get_variable_index(variable)
        mean, square = self._momentums[place], self._velocities[place]
        self.assign_add(mean, (gradient - mean) * (1 - self.beta_1))
        self.assign_add(square, (ops.square(gradient) - square) * (1 - self.beta_2))
        step = ops.cast(self.iterations + 1, variable.dtype)
        # 不用 ops.cast：它会先把 0.999 舍入到 32 位。
        first, second = (
            1 - ops.power(ops.convert_to_tensor(beta, variable.dtype), step) for beta in (self.beta_1, self.beta_2)
        )
        change = mean / first / (ops.sqrt(square / second) + self.epsilon)
        self.assign_sub(variable, ops.cast(learning_rate, variable.dtype) * change)


@contextmanager
def in_bits(dtype: str) -> Iterator[torch.dtype]:
    """让 Keras 从头到尾用这种类型计算；返回它在 PyTorch 中的名字。"""
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
    """Keras 的 ``ADAM``。"""
    return kind(ADAM["lr"], *ADAM["betas"], epsilon=ADAM["eps"])


def in_dtype(batch: Batch, dtype: torch.dtype) -> Batch:
    """同样的录音，位数更多或更少。"""
    return Batch(batch.inputs.to(dtype), batch.lengths, batch.labels, batch.n_classes)


def compared(dtype: str, kind: type[keras.optimizers.Adam] = Adam, n_steps: int = 10) -> dict[str, float]:
    """在 ``n_steps`` 个任务中，Metavox 与这个 Keras 模型之间最大的绝对差。"""
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
            if step == 0:  # 以后各步开始时，权重已有差别，最后再测
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
    """64 位、32 位，以及用 Keras 自带的 Adam。"""
    return {
        "64 位": compared("float64"),
        "32 位": compared("float32"),
        "64 位，Keras 的 Adam": compared("float64", keras.optimizers.Adam),
    }


# %% [markdown]
# 另一个后端需要另一个进程。把本课的代码交给它，它打印出测得的结果。


# %%
def this_lesson() -> str:
    """本课的代码：在笔记本中是运行过的单元格，在脚本中是文件。"""
    cells = globals().get("In")
    return "\n\n".join(cells) if cells else Path(__file__).read_text(encoding="utf-8")


def on_backend(name: str) -> dict[str, dict[str, float]]:
    """在使用该后端的进程中执行 ``all_compared``。"""
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
        print(f"没有安装 {other}，略去；见 lessons/requirements.txt")
    else:
        found[other] = on_backend(other)
    print(f"与 Metavox 的最大差别 {'分数':>24} {'梯度':>9} {'10 步后的权重':>18}")
    for backend, rows in found.items():
        for name, row in rows.items():
            print(f"{backend:10} {name:25} {row['scores']:14.0e} {row['gradients']:10.0e} {row['weights']:23.0e}")
    for rows in found.values():
        assert max(rows["64 位"].values()) <= 1e-5

# %% [markdown]
# ## 用一些词训练，用另一些词提问
#
# 六轮，每轮 30 个任务，每个任务五个词，每个词三条录音；任务的查询损失更新全部权重。然后是 60 个任务，
# 其中的词训练时从未听过；在一个任务的查询里说话的人，不会出现在这个任务的例子里。提问的是 Metavox 自己的 `evaluate`：
# 对它来说，有 `adapt` 和 `predict` 两个动词的就是学习器。


# %%
def trained(n_epochs: int = 6, n_tasks: int = 30) -> tuple[SupportConditioned, list[float]]:
    """从 Metavox 的初始权重训练的模型，以及每轮的平均查询损失。"""
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
            print(f"第 {epoch + 1} 轮：损失 {epochs[-1]:.3f}", flush=True)
    return model, epochs


class AsLearner:
    """用 Metavox 的两个动词包装的 Keras 模型。"""

    fixed_ways = adapts_body = False

    def __init__(self, model: SupportConditioned) -> None:
        self.model = model

    def adapt(self, support: Batch) -> dict[str, torch.Tensor]:
        """类别均值和各类的录音数。"""
        state = self.model.remember(*as_support(support), support.n_classes)
        return {name: torch.tensor(ops.convert_to_numpy(x)) for name, x in zip(("means", "counts"), state, strict=True)}

    def predict(self, state: dict[str, torch.Tensor], query: Batch) -> Output:
        """查询的分数；不看它们的标签。"""
        remembered = tuple(ops.convert_to_tensor(state[name].numpy()) for name in ("means", "counts"))
        return Output(torch.tensor(ops.convert_to_numpy(self.model.score(remembered, *as_query(query)))))


if __name__ == "__main__":
    model, epochs = trained()
    print(f"在五个词中瞎猜是 {np.log(5):.3f}；用两个 softmax 不会低于 {surest(5):.3f}")
    assert epochs[-1] < epochs[0] < np.log(5)

    protocol = Protocol(EpisodeSpec(5, 3, 5, speakers="disjoint"), episodes=60, seed=7)
    rows = {}
    for name, learner in {"未训练": AsLearner(like(metavox_learner())), "已训练": AsLearner(model)}.items():
        rows[name] = evaluate(learner, Commands(), bank, test, protocol, MODEL.front_end)
        about = summary(rows[name], protocol)
        (low, high), (lowest, highest) = about["ci95"], about["clustered_ci95"]
        print(
            f"{name}：正确率 {about['mean']:.1%}；按任务的 95 % 区间 {low:.1%} 至 {high:.1%}，"
            f"换成别的词和人 {lowest:.1%} 至 {highest:.1%}"
        )
    gain = paired(rows["已训练"], rows["未训练"], seed=protocol.seed)
    print(
        f"提高：同样的任务上 {100 * gain['difference']:.1f} 个百分点（{100 * gain['low']:.1f} 至 "
        f"{100 * gain['high']:.1f}；换成别的词和人 {100 * gain['clustered_low']:.1f} 至 "
        f"{100 * gain['clustered_high']:.1f}）"
    )
    assert gain["low"] > 0 or not real
