"""Frozen models of an experiment that learns to tell words apart: one file that says all of it."""

from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from ..contracts import FrontEnd
from .loading import Strict

# ------------------------------------------------------------------------------------------------------------ model


class EncoderConfig(Strict):
    """The universal representation g(x, theta)."""

    name: str = "conv"
    """A key of ``nets.encoders.ENCODERS``. Fields that an encoder does not use keep their defaults."""
    channels: int = Field(96, ge=4, le=2048)
    blocks: int = Field(4, ge=1, le=32)
    """Residual blocks, conformer blocks, or hidden layers of ``fc`` and ``sparse``."""
    halvings: int = Field(1, ge=0, le=5)
    """How many of the first blocks halve the frame rate."""
    kernel: int = Field(5, ge=1, le=31)
    """Frames that a convolution sees, odd."""
    context: int = Field(11, ge=1, le=255)
    """Frames that ``linear``, ``fc`` and ``sparse`` see for one output frame, odd."""
    heads: int = Field(4, ge=1, le=64)
    """Attention heads of ``conformer``."""
    density: float = Field(0.1, gt=0, le=0.1)
    """Share of the connections of ``sparse`` that exist and are stored."""
    dim: int = Field(32, ge=2, le=4096)
    """Size of the learned part of an output frame."""
    normalize: Literal["bins", "mean", "level"] = "level"
    """What is taken from a window before the first layer: the mean and deviation of each bin, the mean of each bin and
    one deviation, or one mean and one deviation for all."""
    cepstra: float = Field(1.4, ge=0)
    """Weight of cepstral coefficients beside the learned part of a frame, 0 for none. What is learned on few languages
    then corrects what is known of all."""
    cepstra_in_training: float | None = Field(None, ge=0)
    """The same weight while the body is trained. Less than in use, the body leans on the cepstra less; but whatever is
    learned behind the encoder then hears other vectors than in use. None: the learner's own, see ``learners.preset``,
    or as in use."""
    condition: int = Field(0, ge=0, le=1024)
    """Size of a vector that the blocks of ``conv`` and ``crnn`` hear beside the word, 0 for none: what a task is."""
    adapter: int = Field(0, ge=0, le=512)
    """Rank of the bottleneck behind each block of ``conv`` and ``crnn`` that adapts alone, 0 for none."""


def _rising(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] > ends[1]:
        raise PydanticCustomError("range", "the lower end must come first")
    return ends


_Share = Annotated[float, Field(ge=0, le=1)]


class LearnerConfig(Strict):
    """How it is learned. Fields that a learner does not use keep their defaults."""

    name: str = "prototypes"
    """A key of ``learners.presets.LEARNERS``."""
    match: Literal["soft", "dtw", "pooled"] = "dtw"
    """How two embedding sequences are compared: soft local alignment, dynamic time warping, or one pooled vector."""
    band: float = Field(0.25, gt=0, le=1)
    """Half width of the stretch a frame may be aligned to, as a share of the window."""
    tracts: tuple[Annotated[float, Field(ge=0.7, le=1.4)], ...] = (0.9, 1.1)
    """Lengths of other vocal tracts, relative to the speaker's, in which a take is remembered too; () for none. A query
    is compared with the one that suits it best."""
    tightened_db: float = Field(0.0, ge=0, le=60)
    """``prototypes`` remember a take once more, cut where it falls this far below its loudest frame; 0 for not."""
    nearness: float = Field(0.0, ge=0, le=100)
    """How much more the nearer takes of a word count for ``prototypes`` in use: 0 is a plain mean over the takes, and
    the larger it is, the more a query need only be near one of them. A word said by several people is many places."""
    scale: float = Field(15.0, gt=0)
    """What similarities of learners that compare vectors are multiplied with before training, which goes on from there.
    ``prototypes`` has its own."""
    width: int = Field(64, ge=1, le=4096)
    """Hidden units of what is learned beside the encoder to compare, or to hear a support set: ``relation``,
    ``open_prototypes`` and all conditioned learners."""
    inner_steps: int = Field(5, ge=0, le=1000)
    inner_lr: float = Field(0.05, ge=0)
    adapts: (
        Literal["all", "head", "body", "adapters", "lora", "context"] | Annotated[tuple[str, ...], Field(min_length=1)]
    ) = "all"
    """Which values the inner loop may change: everything; the head alone (ANIL) or all but the head (BOIL); the head
    and the adapters of the encoder, or low-rank changes of its weights; the context that the encoder hears (CAVIA); or
    patterns of names such as ``[encoder.body.blocks.3.*, head.*]``."""
    head: Literal["prototypes", "zero", "row", "fixed"] = "prototypes"
    """What the head of a learner that adapts by gradient begins with: class means of the takes (Proto-MAML), zeros, one
    learned row for every class (UNICORN-MAML), or a learned row for each of ``ways`` classes."""
    ways: int = Field(0, ge=0)
    """Classes of a ``fixed`` head: tasks of other ways are refused. 0: that of training."""
    step_sizes: Literal["given", "tensor", "step", "value"] = "given"
    """Step sizes of the inner loop: ``inner_lr`` for all, or learned from it on, one for each tensor, for each tensor
    and step (MAML++), or for each value (Meta-SGD)."""
    curvature: bool = False
    """Learn what an inner gradient is multiplied with (Meta-Curvature)."""
    rank: int = Field(4, ge=1, le=256)
    """Rank of the changes of ``lora``."""
    anneal: Annotated[tuple[_Share, _Share], AfterValidator(_rising)] | None = None
    """Shares of training between which ``maml`` goes from first to second order (Antoniou et al. 2019), or none."""
    multi_step: bool | Literal["annealed"] = False
    """Judge ``maml`` and its kin by the query loss after every inner step, all alike, not only after the last; or
    ``annealed``, all alike at first and the last alone in the end."""
    prox: float = Field(1.0, gt=0)
    """How strongly ``imaml`` is pulled back to where its inner loop began."""
    cg_iterations: int = Field(10, ge=1, le=1000)
    """Conjugate gradient steps of ``imaml``."""
    executor: Literal["auto", "loop", "vmap", "captured", "recursion"] = "auto"
    """How meta-gradients are computed: all give the same up to rounding, ``auto`` times them and keeps the fastest.
    Name one to have every training with the same seed alike to the last bit."""
    probe_l2: float = Field(1.0, gt=0)
    """Weight of the squared weights of a linear probe beside the sum of its losses, 1 / C of scikit-learn."""
    centring: Literal["none", "l2n", "cl2n"] = "cl2n"
    """What SimpleShot does to a vector: nothing, unit length, or unit length without the mean of training."""
    base_weight: float = Field(0.5, ge=0)
    """Weight of telling all classes of training apart, beside the task, for ``classified_prototypes``."""
    n_voices: int = Field(0, ge=0)
    """Speakers whom the second head of ``voiced_prototypes`` tells apart, 0 for none; set from the training data."""
    voice_dim: int = Field(96, ge=8, le=1024)
    """Size of the vector of a voice that ``voiced_prototypes`` gives."""
    voice_weight: float = Field(1.0, ge=0)
    """Weight of telling speakers apart, beside words, for ``voiced_prototypes``."""
    cohort: int = Field(0, ge=0, le=2000)
    """Sounds that ``prototypes`` compare every item with, after training, so that what resembles everything is accepted
    by nothing; with them comes a metric of frames. 0 for neither; set from ``data.cohort``."""
    n_base_classes: int = Field(0, ge=0)
    """Classes of the joint classifier, 0 for none; set from the training data."""


class ModelConfig(Strict):
    """Everything needed to build a learner again: what a checkpoint stores beside its weights."""

    front_end: FrontEnd = FrontEnd(normalize=False)
    encoder: EncoderConfig = EncoderConfig()
    learner: LearnerConfig = LearnerConfig()


# --------------------------------------------------------------------------------------------------------- training


class DataConfig(Strict):
    """Where tasks come from, and what is kept out of training."""

    corpora: tuple[str, ...] = ()
    """Folders, or names of folders in METAVOX_DATA. A named one that is absent there is skipped with a line."""
    sentences: tuple[str, ...] = ()
    """Corpora of transcribed sentences, named alike. Words that enough people say are cut from them (see ``metavox data
    align``) and make tasks as the words of ``corpora`` do."""
    synth: dict[str, Any] | None = None
    """Synthetic words (see ``data.synth.SynthSpec``), or none."""
    cohort: tuple[str, ...] = ()
    """Recordings of connected speech, named alike, whose word-sized pieces the model compares every sound with in use
    (see ``background``). With any the model learns after training how frames are best compared, too."""
    n_cohort: int = Field(200, ge=1, le=2000)
    negatives: tuple[str, ...] = ()
    """Recordings, named alike, whose word-sized pieces stand beside the model as sounds that are no command, to set
    thresholds with. Best are people and languages that the model never heard."""
    n_negatives: int = Field(1000, ge=1, le=20_000)
    leave_out_corpora: tuple[str, ...] = ()
    leave_out_languages: tuple[str, ...] = ()
    classes: str | tuple[str, ...] = ()
    """Classes to learn from, all if none are named: a list, or a text file with one a line, here or in METAVOX_DATA.
    ``yes`` is that word in every language, ``en:yes`` in one; a speaker is named as in the manifest."""
    validation_classes: str | tuple[str, ...] = ()
    """The same of the classes that validation tasks are made of, in place of ``validation_share``."""
    leave_out_classes: str | tuple[str, ...] = ()
    """The same of the classes that no episode hears."""
    leave_out_speakers: float = Field(0.0, ge=0, lt=1)
    """Share of the speakers of each real corpus that no episode hears; recordings without a speaker are left out one by
    one."""
    real_share: float = Field(0.6, ge=0, le=1)
    """Share of training episodes from real recordings, where there are both kinds."""
    validation_share: float = Field(0.1, gt=0, lt=0.9)
    """Share of the word classes kept for validation tasks; no training episode sees them."""
    class_share: float = Field(1.0, gt=0, le=1)
    """Share of the classes of training that this model hears, drawn by ``train.seed``: each member of an average may
    learn from other tasks."""
    bootstrap: int | None = Field(None, ge=0)
    """Seed by which the training recordings of each class are drawn anew with replacement, None for all as they are.
    Of those drawn twice one is kept, about 63 % in all, since an episode hears no recording on both sides."""


_Db = Annotated[float, Field(ge=-20, le=80)]
_DecayS = Annotated[float, Field(ge=0.05, le=2)]
Decibels = Annotated[tuple[_Db, _Db], AfterValidator(_rising)]
DecaySeconds = Annotated[tuple[_DecayS, _DecayS], AfterValidator(_rising)]


class WaveConfig(Strict):
    """How a stored variant of a clip is made from its samples. Shares are chances for each variant, 0 is off."""

    speed: float = Field(0.1, ge=0, le=0.5)
    """Played up to this share slower or faster; pitch and tempo change together."""
    shift_s: float = Field(0.0, ge=0, le=10)
    """Moved by up to this much in either direction; what leaves the clip is lost."""
    reverb_share: float = Field(0.4, ge=0, le=1)
    rt60_s: DecaySeconds = (0.15, 0.6)
    """Time in which the sound of the simulated room decays by 60 dB."""
    noise_share: float = Field(0.7, ge=0, le=1)
    snr_db: Decibels = (3.0, 25.0)
    """Power of the speech over that of the noise under it."""
    babble_share: float = Field(0.25, ge=0, le=1)
    """Of the noisy variants, those in the voices of other speakers of the corpus."""
    recorded_share: float = Field(0.7, ge=0, le=1)
    """Of the other noisy variants, those in recorded noise where ``augment.noise`` names some; the rest is coloured."""
    gain_db: float = Field(6.0, ge=0, le=40)
    clipping_share: float = Field(0.1, ge=0, le=1)
    band_share: float = Field(0.2, ge=0, le=1)
    """Telephone band, low pass, high pass, or 8 kHz and back."""
    codec_share: float = Field(0.2, ge=0, le=1)
    codecs: tuple[Literal["mulaw", "alaw", "vorbis", "opus", "mp3"], ...] = ("mulaw", "alaw", "vorbis", "opus", "mp3")


class AugmentConfig(Strict):
    """Changes that leave a word the same word, in training episodes only. A strength or share of 0 is off."""

    enabled: bool = True
    variants: int = Field(0, ge=0, le=64)
    """Other versions of each clip that are computed once and kept beside it."""
    variant_share: float = Field(0.5, ge=0, le=1)
    """Chance that an item is drawn as one of its variants and not as it was recorded."""
    noise: tuple[str, ...] = ()
    """Recorded noise for the variants: folders, files, or names of folders in METAVOX_DATA. A clip is mixed with
    recordings that are at least as long as it is."""
    wave: WaveConfig = WaveConfig()
    """What happens to the samples of a variant; all that follows happens to features, each time an item is drawn."""

    crop_jitter: int = Field(6, ge=0, le=100)
    """Frames by which an end of the crop may move."""
    warp: float = Field(0.15, ge=0, lt=1)
    """Stretch of the mel axis: another vocal tract."""
    tempo: float = Field(0.0, ge=0, le=0.9)
    """Local change of tempo within the word, whose length stays."""
    smear: float = Field(0.0, ge=0, le=2)
    """Longest decay of the reverberation, in seconds for 60 dB."""
    noise_share: float = Field(0.6, ge=0, le=1)
    """Chance of stationary noise, or of another item of the episode in the background."""
    snr_db: Decibels = (3.0, 35.0)
    """Loudest value of the item over the loudest of the noise."""
    eq_db: float = Field(0.0, ge=0, le=40)
    """Largest gain or loss of a smooth random channel."""
    band_share: float = Field(0.0, ge=0, le=1)
    """Chance of a telephone band, a low pass or a high pass."""
    masks: int = Field(2, ge=0, le=20)
    """Blocks of time, and as many of frequency, that are blanked."""
    mask_width: float = Field(0.12, ge=0, le=0.9)
    """Widest block, as a share of the window."""


Axis = Literal["word", "language", "speaker", "accent", "gender", "age", "rate", "effort", "noise", "corpus"]
"""What a task can be made along (see ``data.axes``)."""


def _product(text: str) -> str:
    names = [name.strip() for name in text.split("*")] if text.strip() else []
    for name in names:
        if name not in get_args(Axis):
            known = ", ".join(get_args(Axis))
            raise PydanticCustomError("axis", "{name} is no axis; known are {known}", {"name": name, "known": known})
    if len(set(names)) < len(names):
        raise PydanticCustomError("axis", "it names one axis twice")
    return "*".join(names)


class TasksConfig(Strict):
    """Who is drawn for an episode."""

    classes: Annotated[str, AfterValidator(_product)] = "word"
    """What is told apart: an axis, or a product such as word*speaker."""
    within: Annotated[str, BeforeValidator(lambda value: "" if value is None else value), AfterValidator(_product)] = (
        "corpus*language"
    )
    """What all items of an episode share; "" for nothing. With corpus*language*speaker a task is one person's words."""
    speakers: Literal["any", "disjoint", "where_known"] = "any"
    """Whether queries are by speakers who are not in the support: disjoint leaves out groups where that cannot be,
    where_known does it in the others and draws from any speakers there."""
    sampler: Literal["uniform", "tempered", "adaptive"] = "uniform"
    """How often each group is drawn: equally, by its size, or the more the higher its loss is."""
    alpha: float = Field(0.5, ge=0, le=1)
    """tempered: a group is drawn in proportion to (its number of utterances) ** alpha."""
    temperature: float = Field(0.3, gt=0, le=100)
    """adaptive: a loss higher by this share of that of guessing makes a group e times as likely."""
    floor: float = Field(0.25, ge=0, le=1)
    """adaptive: share of the episodes that is spread over all groups equally."""

    @model_validator(mode="after")
    def _fits(self) -> "TasksConfig":
        classes, within = set(self.classes.split("*")), set(self.within.split("*"))
        if not self.classes:
            raise PydanticCustomError("axis", "classes is empty; name what is told apart, such as word")
        if classes & within:
            both = ", ".join(sorted(classes & within))
            raise PydanticCustomError(
                "axis", "{both} is both in classes and in within; leave it in one", {"both": both}
            )
        if self.speakers == "disjoint" and "speaker" in classes | within:
            raise PydanticCustomError(
                "axis", "speakers cannot be disjoint where the speaker is in classes or within; set speakers to any"
            )
        return self


class EpisodeConfig(Strict):
    """Shape of a training episode. Query clips are never support clips."""

    ways: int = Field(12, ge=2)
    """At most; a group of fewer words gives all it has."""
    shots: int = Field(2, ge=1)
    queries: int = Field(2, ge=1)
    batch: int = Field(2, ge=1)
    """Episodes in one outer step."""


class TrainConfig(Strict):
    """The outer loop."""

    steps: int = Field(2000, ge=1)
    lr: float = Field(2e-3, gt=0)
    warmup: int = Field(50, ge=0)
    """Outer steps until the full step size, which then falls as a cosine."""
    last_lr: float = Field(0.01, ge=0, le=1)
    """Share of the step size that is left at the end. 1 keeps it, for weights that are averaged over steps."""
    weight_decay: float = Field(1e-2, ge=0)
    clip: float = Field(5.0, gt=0)
    """Largest norm of the meta-gradient."""
    seed: int = Field(0, ge=0, lt=2**63)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """What the body of an encoder multiplies in while it is trained; ``auto`` is bfloat16 where the processor has
    instructions for it. Weights, sums and everything in use are float32."""
    threads: int = Field(1, ge=1, le=1024)
    """CPU threads of torch. Small nets on short windows are fastest on one."""
    validate_every: int = Field(200, ge=1)
    validation_episodes: int = Field(20, ge=1)
    validation_ways: int = Field(10, ge=2)
    validation_shots: int = Field(1, ge=1)
    """One take a word: with more, synthetic words are too easy to tell anything."""
    checkpoint_every: int = Field(200, ge=1)
    init: str = ""
    """A model of the same encoder and learner whose weights training starts from, "" for random ones. Models that
    start alike can be averaged weight by weight."""
    ema: float = Field(0.0, ge=0, lt=1)
    """Decay of an exponential moving average of the weights over outer steps, which is then the model; 0 for the
    weights of the last step."""
    keep_every: int = Field(0, ge=0)
    """Outer steps after which a model is kept as it then is, in ``steps`` beside the others; 0 for none."""


class Experiment(Strict):
    """Task selection, initialisation, learning: one file that says all of it."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    augment: AugmentConfig = AugmentConfig()
    tasks: TasksConfig = TasksConfig()
    episodes: EpisodeConfig = EpisodeConfig()
    train: TrainConfig = TrainConfig()
