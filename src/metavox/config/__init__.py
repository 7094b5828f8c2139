"""Frozen models of experiments, and how recipes are read: one YAML file and ``key=value`` overrides."""

from .commands import AugmentConfig as AugmentConfig
from .commands import Axis as Axis
from .commands import DataConfig as DataConfig
from .commands import EncoderConfig as EncoderConfig
from .commands import EpisodeConfig as EpisodeConfig
from .commands import Experiment as Experiment
from .commands import LearnerConfig as LearnerConfig
from .commands import ModelConfig as ModelConfig
from .commands import TasksConfig as TasksConfig
from .commands import TrainConfig as TrainConfig
from .commands import WaveConfig as WaveConfig
from .comparison import CompareConfig as CompareConfig
from .comparison import WordsComparison as WordsComparison
from .loading import override as override
from .loading import validated as validated
from .recipes import load_comparison as load_comparison
from .recipes import load_experiment as load_experiment
from .recipes import load_recipe as load_recipe
from .transcription import LearningConfig as LearningConfig
from .transcription import RecogniserConfig as RecogniserConfig
from .transcription import SentencesConfig as SentencesConfig
from .transcription import TaskAxisConfig as TaskAxisConfig
from .transcription import TranscriptionExperiment as TranscriptionExperiment
from .transcription import TranscriptionTrainConfig as TranscriptionTrainConfig
