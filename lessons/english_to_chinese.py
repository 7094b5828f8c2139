# %% [markdown]
# # From English to Chinese
#
# "Transfer what was learned on English speech recognition to Chinese": a favourite example, mostly without saying what
# is transferred. Two things can be meant, and they are unlike.
#
# - **Commands.** A few words are told apart. What transfers is an *encoder*: what makes two takes sound like one word.
#   No alphabet is involved, and one to three takes of each Chinese word are enough.
# - **Transcription.** Speech becomes text. English and Chinese share no letters, so there is nothing to put out until
#   both are written in one alphabet. Here that is Latin letters, with the tones of Mandarin as digits: pinyin.

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
# ## Who has heard Chinese before
#
# A model that has heard the test's recordings, or its language, transfers nothing by being right on them. Models that
# come with Metavox say what they have heard.

# %%
bundled = load_model("metavox/commands-small")
heard = bundled.about
print("metavox/commands-small has heard Mandarin:", "cmn" in heard["languages"])
print("  among its corpora:", ", ".join(name for name in heard["corpora"] if name == "spoken_words_zh_en"))
assert "cmn" in heard["languages"]
assert "spoken_words_zh_en" in heard["corpora"]

# %% [markdown]
# So it may not be used to show this transfer. A tiny encoder is trained instead, on English alone: sixty outer steps on
# English words, ten at a time with one take of each.

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
print("recordings that are not here:", ", ".join(tasks.absent) or "none")
untrained, config = initialise(recipe, tasks)
kept = tempfile.TemporaryDirectory()
losses: list[float] = []
trained = learn(recipe, tasks, Path(kept.name) / "english", report=lambda step: losses.append(step.loss))
first, last = np.mean(losses[:10]), np.mean(losses[-10:])
print(f"{len(tasks.heard)} English clips; query loss {first:.2f} at first, {last:.2f} at last")

# %% [markdown]
# ## Chinese words from one to three takes
#
# The support is by other people than the queries. Beside the trained encoder stands the same one as it was before
# training: the difference is what English is worth. Templates by dynamic time warping, which nobody trains, are the bar
# for anything that calls itself useful.

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
    kind = "Mandarin words, real recordings"
else:
    spoken = SynthSpec(languages=("cmn",), n_words=12, n_voices=8, n_takes=5, similar=0.5)
    chinese, kind = load_corpus(cached_corpus(spoken)), "synthetic Mandarin words"
bank = build_bank(chinese, config.front_end)
index = ClassIndex(bank.utterances)
assert not {one.speaker for one in tasks.heard} & {one.speaker for one in chinese}
print(f"{kind}: {len(index)} words, {len({one.speaker for one in chinese})} speakers, {len(chinese)} clips")

dtw = load_model("dtw")
learners = {
    "trained on English": (trained, config.front_end),
    "untrained": (untrained, config.front_end),
    "DTW templates": (dtw.learner, dtw.config.front_end),
}
rows = {}
for takes in (1, 3):
    protocol = Protocol(EpisodeSpec(min(9, len(index)), takes, 3, "disjoint"), episodes=20, seed=5)
    for name, (learner, front_end) in learners.items():
        rows[name, takes] = evaluate(learner, words, bank, index, protocol, front_end, corpus="Chinese")
        about = summary(rows[name, takes], protocol)
        low, high = about["ci95"]
        print(f"takes a word: {takes}  {name:19} {about['mean']:6.1%} right ({low:.1%} to {high:.1%})")
    for name in ("untrained", "DTW templates"):
        gain = paired(rows["trained on English", takes], rows[name, takes], seed=5)
        by = f"{100 * gain['difference']:+.1f} points ({100 * gain['low']:.1f} to {100 * gain['high']:.1f})"
        shown = "better" if gain["clustered_low"] > 0 else "worse" if gain["clustered_high"] < 0 else "neither is shown"
        print(f"  trained on English less {name}: {by}; for other words too: {shown}")
        if name == "untrained":
            assert gain["low"] > 0, "nothing was transferred"

mistakes = Counter(
    (row["label"].split(":")[-1], row["predicted"].split(":")[-1])
    for row in rows["trained on English", 3]
    if not row["correct"]
)
print("most often mistaken:", ", ".join(f"{said} for {taken} ({n})" for (said, taken), n in mistakes.most_common(3)))

# %% [markdown]
# So English teaches something that holds for Chinese, and sixty steps of it are too few: real words are told apart
# better by templates. (Synthetic ones, which one program speaks in both languages, are easier to carry over.) Of the
# real words those are mistaken for one another that differ in a sound or two, and in tones, which English has no use
# for. The recipe of the project, nine minutes in a dozen languages but no Mandarin and no English, puts cepstra beside
# what is learned and reaches 80 % at one take and 94 % at five on these recordings, ten words, English ones among them
# (README, *How good it is*).
#
# What a user does is the same `adapt` behind a friendlier name. One person enrols with three takes of each word, and
# says them again. (`target=None`: this tiny model brings no other sounds that a threshold for refusals could rest on.)

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
print(f"one speaker's own takes: {n_right} of {len(query)} right, {answers.count(None)} refused "
      f"({share.low:.0%} to {share.high:.0%})")  # fmt: skip
kept.cleanup()

# %% [markdown]
# ## One alphabet for both: pinyin with tones
#
# `metavox.text` writes Chinese characters as numbered pinyin, reading them by phrase: 行 is *hang* in a bank and *xing*
# in "very capable". Texts in all other scripts become Latin letters by uroman, so that one output layer serves all.

# %%
for text in ("语音", "语言", "公式", "攻势", "银行很行", "妈妈骂马吗"):
    print(f"{text:8} {to_pinyin(text):24} without tones: {without_tones(to_pinyin(text))}")
assert to_pinyin("语音") != to_pinyin("语言")
assert to_pinyin("公式") == to_pinyin("攻势")
assert without_tones(to_pinyin("买")) == without_tones(to_pinyin("卖"))

# %% [markdown]
# So a character error rate has three meanings for Chinese, and a figure is worth nothing until one says which:
#
# - of *characters*: wrong where a homophone was written, which no ear could tell; it needs knowledge of words;
# - of *pinyin with tones*: what can be heard;
# - of *pinyin without tones*: kinder by all mistakes of tone, and blind for 买 (buy) and 卖 (sell).

# %%
for said, understood in (("我要买糖", "我要卖糖"), ("这个公式", "这个攻势")):
    shown = [("characters", said, understood)]
    shown.append(("pinyin with tones", to_pinyin(said), to_pinyin(understood)))
    shown.append(("without tones", without_tones(shown[1][1]), without_tones(shown[1][2])))
    rates = {name: cer(["".join(a.split())], ["".join(b.split())]).rate for name, a, b in shown}
    print(f"{said} heard as {understood}: " + ", ".join(f"{name} {rate:.0%}" for name, rate in rates.items()))
    assert rates["characters"] > rates["pinyin with tones"] >= rates["without tones"] == 0

# %% [markdown]
# ## A recogniser, and what adapting can teach it
#
# `metavox/asr-small` is a recogniser to adapt from. It has heard Mandarin in training: real syllables, those below
# among them where they are real, and synthetic sentences. So what follows shows how errors are counted and what an
# adaptation does with what it is given; it is **no** evidence of a transfer from English. A recogniser without Mandarin
# is not trained in seconds and is no part of Metavox. The project measured such ones: trained on other languages for 13
# CPU-minutes and adapted to one speaker's syllables, 82 % of the characters (pinyin with tones) were wrong at first,
# 55 % after one minute and 34 % after four (README, *Transcription*).

# %%
start = Transcriber.from_pretrained("metavox/asr-small")
folder = locate("mandarin_syllables")
if folder is not None:
    spoken_ones = load_corpus(folder)
    print("asr-small learned from these recordings:", "mandarin_syllables" in start.recogniser.about["corpora"])
else:
    made = SynthSpec(languages=("cmn",), n_words=110, n_voices=1, numbers_share=0, seed=1)
    spoken_ones = load_corpus(cached_corpus(made))
    print("asr-small learned from synthetic Mandarin, by other synthetic voices")
order = np.random.default_rng(3).permutation(len(spoken_ones))
lesson, test = ([spoken_ones[k] for k in part] for part in (order[:60], order[60:110]))
assert not {one.path for one in lesson} & {one.path for one in test}

digits = str.maketrans("", "", "12345")
refs = [to_pinyin(one.text).replace(" ", "") for one in test]
texts = [text.replace(" ", "") for text in start.predict([one.path for one in test])]
for how, gone in (("with tones", {}), ("without tones", digits)):
    counted = cer([ref.translate(gone) for ref in refs], [text.translate(gone) for text in texts])
    rate = cluster_bootstrap(counted.edits, None, per=counted.ref_lengths, seed=4)
    print(f"{how:13} {rate.mean:6.1%} of the characters wrong ({rate.low:.1%} to {rate.high:.1%})")
pairs = list(zip(refs, texts, strict=True))
n_tone = sum(ref != text and ref.translate(digits) == text.translate(digits) for ref, text in pairs)
n_whole = sum(ref == text for ref, text in pairs)
print(f"{n_whole} of {len(test)} clips wholly right; in {n_tone} nothing is wrong but a tone")
print("said and heard:", "; ".join(f"{ref} {text or '(nothing)'}" for ref, text in pairs[:5]))

# %% [markdown]
# The two rates divide by different numbers of characters: a syllable of three letters has four with its tone. So they
# are two figures, neither of which is the better one of a single thing.
#
# Now twenty steps on a minute of other clips of the same speaker. A fifth of them is held out, and what was learned is
# kept only if it helps there. On recordings that the recogniser learned from once already there is little to gain, and
# twenty steps can as well spoil something; it is the held-out clips that say so, not the loss.

# %%
plan = way("fine-tune").plan
plan = replace(plan, refit=False, tuning=replace(plan.tuning, steps=20, lr=5e-4))
found_out = adapt_recogniser(start.recogniser, lesson, plan)
held_out = found_out.held_out
assert held_out is not None
print(
    f"{sum(one.duration_s for one in lesson):.0f} s, {found_out.steps} steps; held out are {len(held_out.after)} clips:"
)
print(f"  {held_out.before.rate:.1%} wrong before, {held_out.after.rate:.1%} after")
print("kept" if found_out.helped else "adapting did not help here: nothing was kept, and the recogniser is as it was")
# %% [markdown]
# With recordings of your own, and as many steps as suit them:
#
# ```
# metavox adapt my-mandarin --out mine         # a manifest with texts in characters or pinyin, and lang cmn
# metavox transcribe mine interview.wav
# ```
#
# What comes out is pinyin. Characters need a language model that knows Chinese words, or `--alphabet native` and far
# more recordings than minutes.
