# %% [markdown]
# # 谁可以说什么：词与声音合成一个决定
#
# 常听说“身份认证可以与语音识别融合”。融合什么，怎样融合，有多大用处？本课里，门只听主人的，灯客人也可以开。
# 于是一条录音落在四个象限之一：说话的是**主人**或**别人**，说的是**这个词**或**另一个词**。只有第一种，
# 即主人说这个词，才开门。
#
# 在同样的试验上比较四种决定方式：只看词，只看声音，两个概率相乘，以及在另一些人、另一些词上拟合的校准融合。
#
# **声音不是密码。** 播放主人的录音，听起来就是主人。最后一节就这样做。它只能避免客人、孩子和电视误发命令，仅此而已。

# %%
from collections import defaultdict
from pathlib import Path

import numpy as np

from metavox import CommandRecognizer, SpeakerVerifier, VoiceGate
from metavox.audio import read
from metavox.augment.channel import through_codec
from metavox.augment.wave import gain
from metavox.calibration.fusion import fusions_from
from metavox.checkpoint import load_model
from metavox.contracts import Utterance
from metavox.data.bank import build_bank
from metavox.data.corpora import locate
from metavox.data.episodes import EpisodeSpec
from metavox.data.manifests import load_corpus
from metavox.data.synth import SynthSpec, cached_corpus
from metavox.evaluation.owner import OwnerProtocol, Owners, evaluate_owner, quadrants_of
from metavox.evaluation.owner_summary import figures
from metavox.statistics import clopper_pearson
from metavox.voices.encoders import load_voices

# %% [markdown]
# ## 模型，以及它们听过什么
#
# 两个模型都随 Metavox 附带。测试录音不能是它们学过的，测试的人也不能是拟合融合时用过的。

# %%
words, voices = load_model("metavox/commands-small"), load_voices("metavox/speaker-small")
folder = locate("bengali_digits")
if folder is not None:
    said, kind = load_corpus(folder), "孟加拉语数字，真实录音"
else:
    made = SynthSpec(languages=("et",), n_words=8, n_voices=10, n_takes=7)
    said, kind = load_corpus(cached_corpus(made)), "合成的爱沙尼亚语词和嗓音"
fusions = fusions_from(voices.about["fusion"], voices.name)
heard = {*words.about["corpora"], *voices.about["corpora"], *fusions[0].about["corpora"]}
assert not heard & {utterance.corpus for utterance in said}

takes: dict[tuple[str, str], list[Utterance]] = defaultdict(list)
for utterance in said:
    takes[str(utterance.speaker), str(utterance.label)].append(utterance)
people = sorted({person for person, _ in takes})[:10]
vocabulary = sorted({word for _, word in takes})[:8]
some = [one for person in people for word in vocabulary for one in takes[person, word][:5]]
print(f"{kind}：{len(people)} 人，{len(vocabulary)} 个词，{len(some)} 条录音")
print("融合拟合所用：", "、".join(fusions[0].about["corpora"]), f"（{fusions[0].about['n_owners']} 位主人）")

# %% [markdown]
# ## 四个象限的试验
#
# 每个人轮流当主人，注册六个词，每个词三条录音，这些录音同时注册了声音。然后主人和别人说这些词，以及另外两个词。
# 所谓“另一个词”的试验，是一条录音被当成错误的词：正是这个识别器认为最接近的那个，也就是最难的情形。

# %%
bank = build_bank(some, words.config.front_end)
protocol = OwnerProtocol(EpisodeSpec(n_way=6, k_shot=3, n_query=2), episodes=2 * len(people), seed=0)
trials = evaluate_owner(words, voices, bank, Owners(some, protocol))
counts = np.bincount(quadrants_of(trials), minlength=4)
names = ("主人，这个词", "主人，另一个词", "别人，这个词", "别人，另一个词")
print("；".join(f"{name}：{count}" for name, count in zip(names, counts, strict=True)))

# %% [markdown]
# ## 四种决定方式
#
# 指标是等错误率：在某个阈值上，被拒绝的主人命令与被放行的其他情形比例相同。先分别对三种错误情形，再对三者合计，
# 各占同样的权重。

# %%
found = figures(trials, fusions, protocol.seed, n_resamples=400)
titles = {"word": "只看词", "voice": "只看声音", "product": "乘积规则", "fusion": "校准融合"}
columns = {"own_other": names[1], "other_target": names[2], "other_other": names[3], "owner_only": "三者合计"}
print(" " * 18 + "".join(f"{title:>23}" for title in columns.values()))
for system, title in titles.items():
    print(f"{title:18}" + "".join(f"{found[system][f'eer_{task}'].value:23.1%}" for task in columns))

# %% [markdown]
# 只看声音分不清主人说的是哪个词：对“主人，另一个词”接近一半，等于抛硬币。只看词时并不问是谁说的；
# 它能拒绝别人所说的大部分，
# 是因为注册的录音出自主人，带着主人的音色。合成嗓音各有各的说法，单凭这一点就够了；真人之间不够。
#
# 乘积规则把两者当作独立的概率。融合则是对四个象限的 softmax 回归，在开发试验上拟合，
# 使每一部分的分量与它实际的价值相当。它更好吗？区间按人抽样，差异取自同样的试验。

# %%
reached = found["fusion"]["eer_owner_only"]
low, high = reached.ci95()
print(f"融合对三者合计：{reached.value:.1%}（按人的 95% 区间 {low:.1%} 至 {high:.1%}）")
gains = {system: found[system]["eer_owner_only"].less(reached) for system in ("voice", "word", "product")}
for system, one in gains.items():
    low, high = one.ci95()
    shown = "有差异" if low > 0 else "这么少的人显示不出差异"
    by = f"{100 * one.value:.1f} 个百分点（{100 * low:.1f} 至 {100 * high:.1f}）"
    print(f"  比{titles[system]}少错 {by}：{shown}")
assert gains["voice"].ci95()[0] > 0
assert found["voice"]["eer_own_other"].value > 0.3 > found["word"]["eer_own_other"].value
if folder is not None:
    assert found["word"]["eer_other_target"].value > found["fusion"]["eer_other_target"].value

# %% [markdown]
# 更多人的结果在 `benchmarks/owner.json`：融合在两组之一上优于乘积规则，在另一组上相当。
#
# ## 策略
#
# 现在按设备上的做法来。三个人：主人、客人，以及一个根本没有注册的陌生人。两个词。
# 策略规定谁可以说哪个词；`owner-only` 表示词有主人时，其他人的声音被拒绝。

# %%
owner, guest, stranger = people[:3]
unlock, light = vocabulary[:2]


def clips(person: str, word: str, first: int, last: int) -> list[Path]:
    return [one.path for one in takes[person, word][first:last]]


both, pair = (owner, guest), (unlock, light)
enrolled = {person: {word: clips(person, word, 0, 3) for word in pair} for person in both}
flat = [(clip, word) for person in both for word in pair for clip in enrolled[person][word]]
house = CommandRecognizer(words).fit([clip for clip, _ in flat], [word for _, word in flat])
family = SpeakerVerifier(voices, min_speech_s=0.1)  # 数字太短；用几个字的名称会更好
for person, name in ((owner, "主人"), (guest, "客人")):
    material = [clip for word in vocabulary[:5] for clip in clips(person, word, 0, 3)]
    family.enroll(name, material, anyway=True)
policy = {"default": "nobody", "words": {unlock: ["主人"], light: ["主人", "客人"]}}
own_takes = {"主人": enrolled[owner], "客人": enrolled[guest]}
gate = VoiceGate(house, family, policy, own_takes=own_takes)

print(f"开锁是 {unlock!r}，开灯是 {light!r}")
allowed = {}
for person, name in ((owner, "主人"), (guest, "客人"), (stranger, "陌生人")):
    for word, action in ((unlock, "开锁"), (light, "开灯")):
        new = clips(person, word, 3, 7)
        decisions = gate.decide(new)
        allowed[name, action] = [decision.allowed for decision in decisions]
        why = next((decision.reason for decision in decisions if not decision.allowed), "")
        print(f"{name:4} {action:4} {len(new)} 次中执行 {sum(allowed[name, action])} 次。{why}")
mine = allowed["主人", "开锁"]
others = allowed["客人", "开锁"] + allowed["陌生人", "开锁"]
assert np.mean(mine) > np.mean(others)

# %% [markdown]
# 数字录音只有半秒甚至更短，难免出错；几次决定只是例子，不是指标。指标是上面的等错误率。
# 陌生人的声音若与主人相像，主人能做的他也能做：同一个合成器的各种嗓音常常相像，人也可能相像。
#
# ## 声音不是密码
#
# 有人录下了主人的命令，经过电话编码，再小声播放出来。这是主人的声音，词也对，所以门照办。

# %%
recorded = [read(path, 16_000) for path in clips(owner, unlock, 3, 7)]
replayed = [(gain(through_codec(wave, 16_000, "mulaw"), -6.0), 16_000) for wave in recorded]
opened = sum(decision.allowed for decision in gate.decide(replayed))
share = clopper_pearson(opened, len(replayed))
print(f"重放：{len(replayed)} 次中开锁 {opened} 次，{share.mean:.0%}（{share.low:.0%} 至 {share.high:.0%}）")
assert opened > 0, "重放全被拒绝，而这里没有什么能做到这一点"

# %% [markdown]
# 所以：不要用于门锁，不要用于支付，也不能作为证据。上面的策略适合一盏孩子不该碰的灯。锁需要隔着房间录不下来的东西：
# 钥匙、密码，或者一部需要确认的手机。
