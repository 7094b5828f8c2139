"""Frozen models of an experiment that learns to tell voices apart: one file that says all of it."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from ..contracts import FrontEnd
from .commands import AugmentConfig, WaveConfig, _rising
from .loading import Strict

VOICE = FrontEnd(n_mels=64, crop=False, normalize=False, n_frames=None)
"""What an encoder of voices hears; it normalises itself, and pauses are taken out before (``voices.speech``)."""


_S = Annotated[float, Field(ge=0.1, le=20)]
Seconds = Annotated[tuple[_S, _S], AfterValidator(_rising)]


class VoiceNetConfig(Strict):
    """A network from a clip to the vector of a voice."""

    front_end: FrontEnd = VOICE
    channels: int = Field(32, ge=4, le=512)
    """Of the first stage; the last has four times as many."""
    time_step: Literal[1, 2] = 2
    """Frames that the first convolution moves by."""
    attention: int = Field(64, ge=4, le=1024)
    """Hidden units of the attention over time."""
    dim: int = Field(160, ge=8, le=1024)


class VoicesDataConfig(Strict):
    """Whose voices are learned from, and whose are not."""

    corpora: tuple[str, ...] = ()
    """Folders, or names of folders in METAVOX_DATA. A named one that is absent there is skipped with a line."""
    leave_out_corpora: tuple[str, ...] = ()
    leave_out_speakers: tuple[str, ...] = ()
    """Names of speakers, as the corpora write them, whom nothing is learned from: to test on."""
    development_speakers: tuple[str, ...] = ()
    """The same of speakers whom the network does not learn from, but the calibration does."""
    noise: tuple[str, ...] = ()
    """Recordings of noise, named alike."""
    min_speech_s: float = Field(4.0, gt=0)
    """Speakers with less speech are left out."""
    speeds: tuple[Annotated[float, Field(ge=0.5, le=2)], ...] = (0.9, 1.0, 1.1)
    """Everybody is heard at each of these speeds, and is another voice at each (as in Snyder et al. 2018)."""


class VoicesLearningConfig(Strict):
    """What a step is: an episode of voices, each enrolled by a long stretch of speech and tested by short ones."""

    voices: int = Field(40, ge=2)
    """Drawn for an episode, among all voices."""
    long_s: Seconds = (1.5, 2.5)
    short_s: Seconds = (0.25, 1.5)
    """Lengths are drawn evenly by their logarithm: as many below 0.6 s as above."""
    n_short: int = Field(3, ge=1, le=16)
    """Short stretches of each voice."""
    evenness: float = Field(0.5, ge=0, le=1)
    """A voice is drawn in proportion to its seconds of speech to this power; 0 draws all alike."""
    prototypes: float = Field(1.0, ge=0)
    """Weight of telling the voices of the episode apart by their long stretches."""
    classes: float = Field(1.0, ge=0)
    """Weight of telling all voices of training apart."""
    margin: float = Field(0.2, ge=0, lt=1)
    """Angle by which the right voice must be nearer, radians; reached after a quarter of training."""
    scale: float = Field(24.0, gt=0)


class VoicesTrainConfig(Strict):
    """The outer loop."""

    steps: int = Field(4000, ge=1)
    budget_s: float = Field(0.0, ge=0)
    """CPU-seconds that learning takes in place of ``steps``, 0 for steps; then the result depends on the machine."""
    lr: float = Field(2e-3, gt=0)
    warmup: int = Field(150, ge=0)
    weight_decay: float = Field(1e-3, ge=0)
    clip: float = Field(5.0, gt=0)
    seed: int = Field(0, ge=0, lt=2**63)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    threads: int = Field(1, ge=1, le=1024)
    report_every: int = Field(50, ge=1)
    checkpoint_every: int = Field(500, ge=1)


VOICE_WAVES = WaveConfig(
    speed=0.0, shift_s=0.0, reverb_share=0.35, rt60_s=(0.1, 0.7), noise_share=0.45, snr_db=(3.0, 25.0),
    babble_share=0.3, recorded_share=0.5, clipping_share=0.05, band_share=0.1, codec_share=0.1,
)  # fmt: skip
"""What happens to a stretch before it is heard: rooms, noise and babble, and what lies behind a microphone."""
VOICE_FEATURES = AugmentConfig(
    warp=0.0, tempo=0.0, smear=0.0, noise_share=0.0, eq_db=5.0, band_share=0.0, mask_width=0.12
)


class VoicesExperiment(Strict):
    """Everything that a training of an encoder of voices depends on."""

    voice: VoiceNetConfig = VoiceNetConfig()
    data: VoicesDataConfig = VoicesDataConfig()
    waves: WaveConfig = VOICE_WAVES
    augment: AugmentConfig = VOICE_FEATURES
    learning: VoicesLearningConfig = VoicesLearningConfig()
    train: VoicesTrainConfig = VoicesTrainConfig()
