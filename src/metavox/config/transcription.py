"""Frozen models of an experiment that learns to transcribe: one file that says all of it."""

from typing import Annotated, Any, Literal

from pydantic import Field

from ..contracts import FrontEnd
from .commands import AugmentConfig
from .loading import Strict

LISTENING = FrontEnd(n_mels=64, crop=False, normalize=False, n_frames=None)
"""What a recogniser hears: every frame, at its own tempo; the network normalises."""


class RecogniserConfig(Strict):
    """A network from features to symbols, trained by CTC."""

    front_end: FrontEnd = LISTENING
    body: Literal["temporal", "conformer"] = "temporal"
    channels: int = Field(224, ge=8, le=1024)
    blocks: int = Field(10, ge=1, le=48)
    reduction: Literal[4, 8] = 8
    """Input frames for one frame of the body: 40 or 80 ms with a hop of 10 ms. Symbols have 20 ms each all the same."""
    early: int = Field(2, ge=0)
    """Blocks at 40 ms before those at 80 ms, fewer where the body has few."""
    kernel: int = Field(5, ge=1, le=31)
    """Frames that a convolution sees, odd."""
    heads: int = Field(4, ge=1, le=64)
    """Attention heads of ``conformer``."""
    dim: int = Field(192, ge=8, le=1024)
    """Size of what the head reads, for each output frame."""
    squeeze: bool = False
    """Let a gate in each block of ``temporal`` hear the whole utterance; one that hears an encoding always does."""
    condition: int = Field(0, ge=0, le=512)
    """Size of the encoding of a support set that the blocks of ``temporal`` hear, 0 for none."""
    condition_by: Literal["gate", "film"] = "gate"
    """How they hear it: by the gate, or as a gain and a shift of each channel, which need no squeeze."""
    adapter: int = Field(0, ge=0, le=512)
    """Rank of the bottleneck behind each block of ``temporal`` that adapts alone, 0 for none."""
    dropout: float = Field(0.1, ge=0, lt=0.9)
    """Share of the channels of a block of ``temporal`` that training leaves out."""
    n_symbols: int = Field(34, ge=2)
    """Outputs of the head, the blank among them."""
    n_phones: int = Field(0, ge=0)
    """Outputs of the auxiliary head for phones, its blank among them; 0 for none."""


class SentencesConfig(Strict):
    """Where transcribed speech comes from, and what is kept out of training."""

    corpora: tuple[str, ...] = ()
    """Folders, or names of folders in METAVOX_DATA. A named one that is absent there is skipped with a line."""
    words: tuple[str, ...] = ()
    """The same of single words, which weigh less."""
    synth: dict[str, Any] | None = None
    """Synthetic sentences (see ``data.synth_sentences.SentenceSpec``), or none."""
    leave_out_corpora: tuple[str, ...] = ()
    leave_out_languages: tuple[str, ...] = ()
    leave_out_speakers: tuple[str, ...] = ()
    """Names of speakers, as the corpora write them, whom nothing is learned from."""
    synth_share: float = Field(0.35, ge=0, le=1)
    """Share of the seconds that are synthetic, where there is anything else."""
    words_share: float = Field(0.1, ge=0, le=1)
    """Share of the seconds that are single words."""
    validation_share: float = Field(0.03, gt=0, lt=0.5)
    """Share of the sentences that no step sees."""


class TaskAxisConfig(Strict):
    """What a task is in meta-training: utterances that share a value of an axis."""

    axis: Literal["language", "speaker", "accent", "age", "gender", "rate", "effort", "noise", "corpus"] = "language"
    support_s: float = Field(25.0, gt=0)
    """Seconds of an inner step."""
    query_s: float = Field(25.0, gt=0)
    batch: int = Field(2, ge=1)
    """Tasks of an outer step."""


class LearningConfig(Strict):
    """How a recogniser is learned: jointly, and then for adapting."""

    learner: str = ""
    """A name of the shelf (``transcription.shelf``), which sets what makes that learner; none for what stands here. It
    learns from the transcripts of what tasks are made of: no phones, no single words, no group too short for a task."""
    outer: Literal["joint", "masked", "fomaml", "maml", "reptile", "meta_sgd", "maml_plus_plus", "imaml"] = "joint"
    """``masked`` learns without texts, to guess stretches of time that were blanked."""
    multi_step: bool = False
    """Judge ``maml``, ``fomaml`` and ``meta_sgd`` by the query loss after every inner step."""
    inner_steps: int = Field(3, ge=1, le=100)
    inner_lr: float = Field(1e-3, gt=0)
    unit_steps: bool = True
    """Take the length from the gradient of each value in inner steps, so that ``inner_lr`` means what AdamW's does.
    ``imaml`` comes near its optimum without alone."""
    adapts: tuple[str, ...] = ("*",)
    """Patterns of the names that inner steps change, those with a ``!`` in front left out."""
    rank: int = Field(0, ge=0, le=512)
    """Let inner steps change weights by products of this rank, 0 for whole values."""
    encoding: Literal["none", "zero", "support"] = "none"
    """Let inner steps change the encoding that the blocks hear, from zeros or from that of the support."""
    anneal: tuple[float, float] = (0.3, 0.6)
    """Shares of meta-training between which ``maml_plus_plus`` goes to second order and to judging the last step."""
    prox: float = Field(1.0, gt=0)
    """How strongly inner steps of ``imaml`` are held to where they began."""
    cg_iterations: int = Field(3, ge=1, le=100)
    """Conjugate gradients of ``imaml``."""
    share: float = Field(0.3, ge=0, le=1)
    """Share of the steps that are meta-training, at the end, or ``masked``, at the beginning; the others are joint.
    Without meaning for ``joint``."""
    condition_share: float = Field(0.5, ge=0, le=1)
    """Share of joint steps whose batch is of one language and hears an encoding of another part of it."""
    masked_share: float = Field(0.3, gt=0, lt=1)
    """Share of the frames that ``masked`` blanks, in stretches of 0.2 s."""


class TranscriptionTrainConfig(Strict):
    """The outer loop."""

    steps: int = Field(12_000, ge=1)
    budget_s: float = Field(0.0, ge=0)
    """CPU-seconds that learning takes in place of ``steps``, 0 for steps. Schedules follow the time then, and what is
    learned in it depends on the machine."""
    lr: float = Field(2e-3, gt=0)
    plain_share: float = Field(0.25, ge=0, le=1)
    """Share of the steps, the first ones, that hear utterances as they were recorded."""
    warmup: int = Field(200, ge=0)
    weight_decay: float = Field(0.02, ge=0)
    clip: float = Field(1.0, gt=0)
    batch_s: float = Field(24.0, gt=0)
    """Seconds of speech in a joint step, padding counted."""
    phone_weight: float = Field(0.3, ge=0)
    """Weight of the loss of phones beside that of symbols, where phones are known."""
    seed: int = Field(0, ge=0, lt=2**63)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    threads: int = Field(1, ge=1, le=1024)
    report_every: int = Field(100, ge=1)
    validate_every: int = Field(500, ge=1)
    checkpoint_every: int = Field(500, ge=1)
    init: str = ""
    """A recogniser's folder to start from, or none."""


SPEECH_AUGMENT = AugmentConfig(
    warp=0.12, tempo=0.0, smear=0.3, noise_share=0.5, snr_db=(3.0, 35.0), eq_db=8.0, band_share=0.1
)
"""What training hears: strong, since a base is chosen by how well it goes over to other languages and channels."""
ADAPTING_AUGMENT = AugmentConfig(
    warp=0.12, tempo=0.0, smear=0.0, noise_share=0.3, snr_db=(5.0, 35.0), eq_db=6.0, band_share=0.0, mask_width=0.1
)
"""What adapting hears: enough that a few minutes are not learned by heart at once."""


class TranscriptionExperiment(Strict):
    """Task selection, initialisation, learning: one file that says all of it."""

    recogniser: RecogniserConfig = RecogniserConfig()
    data: SentencesConfig = SentencesConfig()
    augment: AugmentConfig = SPEECH_AUGMENT
    speed: Annotated[float, Field(ge=0, le=0.5)] = 0.15
    """Utterances are played up to this share slower or faster, without a change of pitch."""
    tasks: TaskAxisConfig = TaskAxisConfig()
    learning: LearningConfig = LearningConfig()
    train: TranscriptionTrainConfig = TranscriptionTrainConfig()
