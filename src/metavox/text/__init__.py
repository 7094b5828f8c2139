"""Texts and transcripts: normalised, romanised, turned into symbols and back, decoded and aligned."""

from .align import Span as Span
from .align import WordSpan as WordSpan
from .align import ctc_align as ctc_align
from .align import word_spans as word_spans
from .decode import Decoded as Decoded
from .decode import greedy as greedy
from .decode import greedy_batch as greedy_batch
from .decode import prefix_beam as prefix_beam
from .fusion import CharacterFusion as CharacterFusion
from .fusion import LanguageModel as LanguageModel
from .fusion import SumFusion as SumFusion
from .fusion import WordFusion as WordFusion
from .mandarin import is_pinyin as is_pinyin
from .mandarin import to_pinyin as to_pinyin
from .mandarin import without_tones as without_tones
from .ngram import NGram as NGram
from .normalise import NORMALISATION as NORMALISATION
from .normalise import normalise as normalise
from .normalise import spaces_matter as spaces_matter
from .romanise import romanise as romanise
from .romanise import romanise_all as romanise_all
from .symbols import BLANK as BLANK
from .symbols import UNIVERSAL as UNIVERSAL
from .symbols import Symbols as Symbols
from .symbols import min_frames as min_frames
