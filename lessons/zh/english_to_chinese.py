# %% [markdown]
# # 从英语到汉语
#
# “把英语语音识别中学到的东西迁移到汉语”：这是最常见的例子，却很少说明迁移的是什么。可能有两种意思，而两者很不一样。
#
# - **命令词**：把几个词区分开。迁移的是*编码器*，即什么样的两条录音听起来是同一个词。这与文字无关，
# 每个汉语词一至三条录音就够。
# - **转写**：把语音变成文字。英语和汉语没有共同的文字，不先写成同一套字母，就没有可以共用的输出。这里用拉丁字母，
# 声调写成数字，也就是拼音。

# %%
import tempfile
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np

from metavox import CommandRecognizer, Transcriber
from metavox.checkpoint import load_model
from metavox.config import DataConfig, EncoderConfig, EpisodeConfig, Experiment, LearnerConfig, ModelConfig, TrainConfig
from metavox.contracts import FrontEnd, Utterance
from metavox.data.bank import build_bank
from metavox.data.corpora import locate
from metavox.data.episodes import ClassIndex, EpisodeSpec
from metavox.data.manifests import load_corpus
from metavox.data.selection import select_tasks
from metavox.data.synth import SynthSpec, cached_corpus
from metavox.evaluation.comparison import paired
from metavox.evaluation.protocols import Protocol, evaluate, summary
from metavox.metrics import cer
from metavox.statistics import clopper_pearson, cluster_bootstrap
from metavox.tasks import TASKS
from metavox.text import to_pinyin, without_tones
from metavox.training import initialise, learn
from metavox.transcription.adaptation import adapt_recogniser
from metavox.transcription.plans import way

# %% [markdown]
# ## 谁已经听过汉语
#
# 一个模型如果听过测试的录音或这种语言，那么它答对了也不算迁移。Metavox 自带的模型会说明自己听过什么。

# %%
bundled = load_model("metavox/commands-small")
heard = bundled.about
print("metavox/commands-small 听过普通话：", "cmn" in heard["languages"])
print("  它的语料中有：", "、".join(name for name in heard["corpora"] if name == "spoken_words_zh_en"))
assert "cmn" in heard["languages"]
assert "spoken_words_zh_en" in heard["corpora"]

# %% [markdown]
# 所以它不能用来证明这种迁移。这里另外训练一个很小的编码器，只用英语：六十个外循环步，每次十个英语词，每个词一条录音。

# %%
recipe = Experiment(
    model=ModelConfig(
        front_end=FrontEnd(normalize=False),
        encoder=EncoderConfig(channels=32, blocks=3, halvings=2, cepstra=0),
        learner=LearnerConfig(name="prototypes", tracts=()),
    ),
    data=DataConfig(
        corpora=("speech_commands_mini",),
        synth={"languages": ["en"], "n_words": 80, "n_voices": 5},
        validation_share=0.05,
    ),
    episodes=EpisodeConfig(ways=10, shots=1, queries=2, batch=1),
    train=TrainConfig(steps=60, warmup=10, lr=4e-3, precision="float32", validation_episodes=5),
)
words = TASKS["commands"]()
tasks = select_tasks(recipe)
assert {utterance.lang for utterance in tasks.heard} == {"en"}
print("这里没有的录音：", "、".join(tasks.absent) or "无")
untrained, config = initialise(recipe, tasks)
kept = tempfile.TemporaryDirectory()
losses: list[float] = []
trained = learn(recipe, tasks, Path(kept.name) / "english", report=lambda step: losses.append(step.loss))
first, last = np.mean(losses[:10]), np.mean(losses[-10:])
print(f"{len(tasks.heard)} 条英语录音；查询损失起初 {first:.2f}，最后 {last:.2f}")

# %% [markdown]
# ## 一至三条录音学会汉语词
#
# 支持集和查询集由不同的人说出。与训练过的编码器并列的，是训练之前的同一个编码器：两者之差就是英语的价值。
# 动态时间规整（DTW）模板无需训练；任何方法要称得上有用，都得先越过它。

# %%
folder = locate("spoken_words_zh_en")
if folder is not None:
    found = [one for one in load_corpus(folder) if one.lang == "cmn"]
    speakers = sorted({str(one.speaker) for one in found})[:10]
    taken: Counter[tuple[str, str]] = Counter()
    chinese: list[Utterance] = []
    for one in found:
        taken[str(one.speaker), str(one.label)] += 1
        if one.speaker in speakers and taken[str(one.speaker), str(one.label)] <= 5:
            chinese.append(one)
    kind = "普通话词语，真实录音"
else:
    spoken = SynthSpec(languages=("cmn",), n_words=12, n_voices=8, n_takes=5, similar=0.5)
    chinese, kind = load_corpus(cached_corpus(spoken)), "合成的普通话词语"
bank = build_bank(chinese, config.front_end)
index = ClassIndex(bank.utterances)
assert not {one.speaker for one in tasks.heard} & {one.speaker for one in chinese}
print(f"{kind}：{len(index)} 个词，{len({one.speaker for one in chinese})} 位说话人，{len(chinese)} 条录音")

dtw = load_model("dtw")
learners = {
    "英语训练": (trained, config.front_end),
    "未训练": (untrained, config.front_end),
    "DTW 模板": (dtw.learner, dtw.config.front_end),
}
rows = {}
for takes in (1, 3):
    protocol = Protocol(EpisodeSpec(min(9, len(index)), takes, 3, "disjoint"), episodes=20, seed=5)
    for name, (learner, front_end) in learners.items():
        rows[name, takes] = evaluate(learner, words, bank, index, protocol, front_end, corpus="汉语")
        about = summary(rows[name, takes], protocol)
        low, high = about["ci95"]
        print(f"每词 {takes} 条  {name:8} 正确率 {about['mean']:6.1%}（{low:.1%} 至 {high:.1%}）")
    for name in ("未训练", "DTW 模板"):
        gain = paired(rows["英语训练", takes], rows[name, takes], seed=5)
        by = f"{100 * gain['difference']:+.1f} 个百分点（{100 * gain['low']:.1f} 至 {100 * gain['high']:.1f}）"
        shown = "更好" if gain["clustered_low"] > 0 else "更差" if gain["clustered_high"] < 0 else "没有显示出差异"
        print(f"  英语训练减{name}：{by}；换一批词语：{shown}")
        if name == "未训练":
            assert gain["low"] > 0, "什么也没有迁移"

mistakes = Counter(
    (row["label"].split(":")[-1], row["predicted"].split(":")[-1]) for row in rows["英语训练", 3] if not row["correct"]
)
print("最常听错：", "，".join(f"{said} 听成 {taken}（{n} 次）" for (said, taken), n in mistakes.most_common(3)))

# %% [markdown]
# 可见英语确实教会了一些对汉语也成立的东西，但六十步还不够：真实词语用模板区分得更好。
# （合成的两种语言由同一个程序说出，迁移起来容易些。）
# 真实词语中互相混淆的，是只差一两个音的词，以及只差声调的词，而英语用不着声调。
# 项目的配方在十来种语言上训练九分钟，不含汉语和英语，并在学到的部分旁边放上倒谱；在这些录音上（十个词，
# 其中也有英语词）一条录音为 80%，五条为 94%（见 README“效果”）。
#
# 用户所做的是同一个 `adapt`，只是名字更好懂。一个人每个词录三条来注册，然后再说一遍。（`target=None`：
# 这个小模型没有带其他声音，拒识的阈值无从谈起。）

# %%
by_word: dict[str, list[Utterance]] = defaultdict(list)
for one in chinese:
    if one.speaker == chinese[0].speaker:
        by_word[str(one.label)].append(one)
support = [(one.path, word) for word, some in by_word.items() for one in some[:3]]
query = [(one.path, word) for word, some in by_word.items() for one in some[3:]]
house = CommandRecognizer(Path(kept.name) / "english", target=None)
house.fit([path for path, _ in support], [word for _, word in support])
answers = house.predict([path for path, _ in query])
n_right = sum(answer == word for answer, (_, word) in zip(answers, query, strict=True))
share = clopper_pearson(n_right, len(query))
print(f"一位说话人自己的录音：{len(query)} 条对 {n_right} 条，拒绝 {answers.count(None)} 条"
      f"（{share.low:.0%} 至 {share.high:.0%}）")  # fmt: skip
kept.cleanup()

# %% [markdown]
# ## 同一套字母：带声调的拼音
#
# `metavox.text` 把汉字写成带数字声调的拼音，并按词组选择读音：“银行”的“行”读 hang，“很行”的“行”读 xing。
# 其他文字由 uroman 转成拉丁字母，于是一个输出层适用于所有语言。

# %%
for text in ("语音", "语言", "公式", "攻势", "银行很行", "妈妈骂马吗"):
    print(f"{text:8} {to_pinyin(text):24} 不带声调：{without_tones(to_pinyin(text))}")
assert to_pinyin("语音") != to_pinyin("语言")
assert to_pinyin("公式") == to_pinyin("攻势")
assert without_tones(to_pinyin("买")) == without_tones(to_pinyin("卖"))

# %% [markdown]
# 所以汉语的“字符错误率”有三种含义，不说明是哪一种，数字就没有意义：
#
# - 按*汉字*：写成同音字就算错，而这靠耳朵分不出来，需要词的知识；
# - 按*带声调的拼音*：衡量的是听得出来的东西；
# - 按*不带声调的拼音*：声调错误一概不计，分不清“买”和“卖”。

# %%
for said, understood in (("我要买糖", "我要卖糖"), ("这个公式", "这个攻势")):
    shown = [("汉字", said, understood)]
    shown.append(("带声调的拼音", to_pinyin(said), to_pinyin(understood)))
    shown.append(("不带声调", without_tones(shown[1][1]), without_tones(shown[1][2])))
    rates = {name: cer(["".join(a.split())], ["".join(b.split())]).rate for name, a, b in shown}
    print(f"{said}听成{understood}：" + "，".join(f"{name} {rate:.0%}" for name, rate in rates.items()))
    assert rates["汉字"] > rates["带声调的拼音"] >= rates["不带声调"] == 0

# %% [markdown]
# ## 一个识别器，以及适应能教给它什么
#
# `metavox/asr-small` 是供适应用的识别器。它在训练中听过普通话：真实的音节（下面若用真实录音，就在其中）和合成的句子。
# 所以下面只说明错误怎样计算、适应怎样对待拿到的数据，**不能**作为从英语迁移的证据。
# 没有听过普通话的识别器不是几秒钟能训练出来的，Metavox 也没有附带。
# 项目测量过这样的识别器：在其他语言上训练 13 CPU 分钟，再用一个人的音节适应，字符（带声调的拼音）错误率起初为 82%，
# 一分钟之后 55%，四分钟之后 34%（见 README 的转写一节）。

# %%
start = Transcriber.from_pretrained("metavox/asr-small")
folder = locate("mandarin_syllables")
if folder is not None:
    spoken_ones = load_corpus(folder)
    print("asr-small 学过这些录音：", "mandarin_syllables" in start.recogniser.about["corpora"])
else:
    made = SynthSpec(languages=("cmn",), n_words=110, n_voices=1, numbers_share=0, seed=1)
    spoken_ones = load_corpus(cached_corpus(made))
    print("asr-small 学过合成的普通话，由另一些合成嗓音说出")
order = np.random.default_rng(3).permutation(len(spoken_ones))
lesson, test = ([spoken_ones[k] for k in part] for part in (order[:60], order[60:110]))
assert not {one.path for one in lesson} & {one.path for one in test}

digits = str.maketrans("", "", "12345")
refs = [to_pinyin(one.text).replace(" ", "") for one in test]
texts = [text.replace(" ", "") for text in start.predict([one.path for one in test])]
for how, gone in (("带声调", {}), ("不带声调", digits)):
    counted = cer([ref.translate(gone) for ref in refs], [text.translate(gone) for text in texts])
    rate = cluster_bootstrap(counted.edits, None, per=counted.ref_lengths, seed=4)
    print(f"{how:6} 字符错误率 {rate.mean:6.1%}（{rate.low:.1%} 至 {rate.high:.1%}）")
pairs = list(zip(refs, texts, strict=True))
n_tone = sum(ref != text and ref.translate(digits) == text.translate(digits) for ref, text in pairs)
n_whole = sum(ref == text for ref, text in pairs)
print(f"{len(test)} 条中完全正确 {n_whole} 条；只有声调错的 {n_tone} 条")
print("所说与所听：", "；".join(f"{ref} {text or '（无）'}" for ref, text in pairs[:5]))

# %% [markdown]
# 两个错误率的分母不同：三个字母的音节，加上声调是四个字符。所以它们是两个不同的指标，不能说一个比另一个好。
#
# 再用同一位说话人的另外一分钟录音走二十步。其中五分之一留出，只有在留出部分上有帮助，学到的东西才保留。
# 识别器已经学过的录音，再学收获很小，二十步还可能弄坏一些东西；这要由留出的录音来判断，训练损失看不出来。

# %%
plan = way("fine-tune").plan
plan = replace(plan, refit=False, tuning=replace(plan.tuning, steps=20, lr=5e-4))
found_out = adapt_recogniser(start.recogniser, lesson, plan)
held_out = found_out.held_out
assert held_out is not None
print(f"{sum(one.duration_s for one in lesson):.0f} 秒，{found_out.steps} 步；留出 {len(held_out.after)} 条：")
print(f"  错误率之前 {held_out.before.rate:.1%}，之后 {held_out.after.rate:.1%}")
print("已保留" if found_out.helped else "适应在这里没有帮助：什么也没有保留，识别器与原来一样")
# %% [markdown]
# 用你自己的录音，按合适的步数：
#
# ```
# metavox adapt my-mandarin --out mine         # 清单中的文本可以是汉字或拼音，lang 为 cmn
# metavox transcribe mine interview.wav
# ```
#
# 输出是拼音。要得到汉字，需要懂汉语词语的语言模型；或者用 `--alphabet native`，那就需要远远不止几分钟的录音。
