"""Recordings of any length to transcripts: cut at pauses, heard by a recogniser, decoded, words with their times."""

import unicodedata
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal, Protocol, cast, runtime_checkable

import numpy as np
import soundfile
from jaxtyping import Float
from torch import Tensor

from ..audio import from_array, probe
from ..contracts import InputError, Utterance
from ..data.word_alignment.spoken import Recogniser as Recogniser
from ..data.word_alignment.spoken import first_frame_s, sounding, word_limits
from ..text.decode import Decoded, greedy, placed, prefix_beam
from ..text.fusion import CharacterFusion, LanguageModel, WordFusion
from ..text.ngram import NGram
from ..text.normalise import spaces_matter
from ..text.posteriors import as_array
from ..text.symbols import BLANK, Symbols, min_frames
from .segments import RATE_HZ, Cutting, Stretch, file_blocks, stretches
from .takes import Clip
from .transcripts import Segment, Transcript, Word

if TYPE_CHECKING:
    from ..transcription.adaptation import Options
    from ..transcription.outcome import Adaptation
    from ..transcription.spelling import Spelling

Decoding = Literal["own", "greedy", "beam"]
Report = Callable[[float, float], None]
"""(seconds transcribed, seconds in all)."""
LM_ORDER = 6
"""Symbols that a language model made of plain text looks at together."""
MAX_BEAM = 1000


class Transcriber:
    """Speech to text with times, in the manner of scikit-learn.

    >>> transcriber = Transcriber.from_pretrained("metavox/asr-small")       # doctest: +SKIP
    >>> transcriber.predict(["interview.wav"])                                # doctest: +SKIP
    ['ninna vannu ...']
    >>> transcriber.transcribe("interview.wav").words[0].start_s              # doctest: +SKIP
    0.42

    A recording may last hours: one segment is in memory at a time. The text is written in the model's alphabet; that
    of the universal one is a to z for every language, with tones as digits for Mandarin.

    The confidence of a word is the geometric mean of its symbols' posteriors, each at its best frame. It says how sure
    the network is, not how often it is right: networks trained with CTC are sure of most of what they write, wrong or
    not, and a beam search with a language model may choose symbols that the network finds unlikely. Use it to order
    the words of one model, and set a threshold on recordings whose text you know.

    Attributes:
        adaptation_: what adapting reached, of a transcriber that ``adapt`` returned.
    """

    adaptation_: "Adaptation"

    def __init__(
        self,
        recogniser: Recogniser,
        *,
        model: str = "",
        decoding: Decoding = "own",
        beam: int = 16,
        lm: NGram | str | Path | None = None,
        lm_weight: float = 0.5,
        lang: str | None = None,
        cutting: Cutting | None = None,
    ) -> None:
        """Say how recordings are cut and decoded.

        Args:
            recogniser: the network with its alphabet.
            model: its name in transcripts.
            decoding: ``greedy``, the best symbol of each frame; ``beam``, the best text, as far as the search sees;
                ``own``, as the recogniser was adapted to, which is greedy where it was not.
            beam: texts that are kept after each frame.
            lm: an n-gram model, or a UTF-8 file of plain text, a sentence a line, to make one of. Needs ``beam``;
                a recogniser that was adapted searches as it does on its own, with this model in place of its own.
            lm_weight: of the language model's log-probability beside the network's.
            lang: the language of the plain text, where its script does not tell.
            cutting: where recordings are cut.

        Raises:
            InputError: an option outside its range, a text that cannot be read or written in the alphabet.
        """
        if decoding not in ("own", "greedy", "beam"):
            raise InputError(f"The decoding is {decoding!r}; choose own, greedy or beam.")
        if lm is not None and decoding != "beam":
            raise InputError("A language model is used by the beam search; set decoding='beam', or leave lm out.")
        if not 1 <= beam <= MAX_BEAM:
            raise InputError(f"The beam is {beam} wide; keep 1 to {MAX_BEAM} texts.")
        if not 0 <= lm_weight <= 10:
            raise InputError(f"The language model weighs {lm_weight:g}; choose 0 to 10.")
        self.recogniser, self.model = recogniser, model
        self.decoding, self.beam, self.lm_weight = decoding, beam, lm_weight
        self.cutting = cutting or Cutting()
        self.lm = None if lm is None else _language_model(lm, recogniser.symbols, lang)

    @property
    def _knowing(self) -> "Knowing | None":
        """The recogniser where it spells with what it knows of its language, and is asked to."""
        asked = self.decoding == "own" or self.lm is not None
        known = isinstance(self.recogniser, Knowing) and self.recogniser.spelling is not None
        return cast(Knowing, self.recogniser) if asked and known else None

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path = "metavox/asr-small",
        *,
        decoding: Decoding = "own",
        beam: int = 16,
        lm: NGram | str | Path | None = None,
        lm_weight: float = 0.5,
        lang: str | None = None,
        cutting: Cutting | None = None,
    ) -> "Transcriber":
        """Open a bundled model, a model folder or a folder of adapted values; the options are those of the class.

        Raises:
            InputError: no such model, a damaged one, or as the class.
        """
        from ..transcription import load_recogniser

        recogniser = load_recogniser(source)
        return cls(
            recogniser,
            model=str(source),
            decoding=decoding,
            beam=beam,
            lm=lm,
            lm_weight=lm_weight,
            lang=lang,
            cutting=cutting,
        )

    def transcribe(self, clip: Clip, report: Report | None = None) -> Transcript:
        """What is said in a recording (a path, or samples with their rate in Hz), and when.

        Where nothing stands out from silence or steady noise, and where nothing was heard in what does, the transcript
        has no segment.

        Raises:
            InputError: a recording that cannot be read.
        """
        match clip:
            case str() | Path():
                info = probe(clip)
                name, duration_s, blocks = str(clip), info.duration_s, file_blocks(clip, info)
            case (np.ndarray() as samples, int() | np.integer() as rate_hz):
                wave = from_array(samples, int(rate_hz), RATE_HZ)
                name, duration_s, blocks = "array", len(wave) / RATE_HZ, iter([wave])
            case _:
                raise InputError(
                    f"A clip is a path, or samples with their rate in Hz; {type(clip).__name__} is neither."
                )
        found = []
        for stretch in stretches(blocks, self.cutting):
            segment = self._segment(stretch)
            if segment is not None:
                found.append(segment)
            if report is not None:
                report(min(stretch.end_s, duration_s), duration_s)
        if report is not None:
            report(duration_s, duration_s)
        return Transcript(name, duration_s, tuple(found), self.model)

    def adapt(
        self,
        clips: Sequence[Clip],
        texts: Sequence[str],
        *,
        lang: str | None = None,
        options: "Options | None" = None,
    ) -> "Transcriber":
        """A new transcriber that has learned from transcribed clips; this one stays as it is.

        ``adaptation_`` of the new one says what it reached on clips that were held out; where that is no better than
        before, it transcribes as this one does. Ten minutes of sentences are plenty, half a minute is something.

        Raises:
            InputError: clips or texts that cannot be used, by row; a recogniser that is not one of Metavox's.
        """
        from ..transcription.adaptation import Options, adapt_recogniser
        from ..transcription.models import Recognition
        from ..transcription.plans import DEFAULT_PLAN, way

        if not isinstance(self.recogniser, Recognition):
            raise InputError(f"{self.model or 'This recogniser'} cannot be adapted; open one with from_pretrained.")
        if len(clips) != len(texts):
            raise InputError(f"{len(clips)} clips were given with {len(texts)} texts; give one text for each clip.")
        asked = options or Options()
        with TemporaryDirectory() as folder:
            said = [
                _utterance(i, clip, text, lang, Path(folder))
                for i, (clip, text) in enumerate(zip(clips, texts, strict=True))
            ]
            found = adapt_recogniser(self.recogniser, said, way(DEFAULT_PLAN).plan, asked)
        other = copy(self)
        other.recogniser, other.adaptation_ = found.recognition, found
        other.model = f"{self.model} adapted"
        return other

    def save_pretrained(self, folder: str | Path) -> None:
        """Write what was adapted into a folder that ``from_pretrained`` opens; kilobytes to a few megabytes.

        Raises:
            InputError: nothing was adapted, or ``folder`` holds something else.
        """
        from ..transcription.models import Recognition, save_any

        if not isinstance(self.recogniser, Recognition):
            raise InputError(f"{self.model or 'This recogniser'} cannot be saved; adapt one of Metavox's.")
        save_any(Path(folder), self.recogniser)

    def predict(self, clips: Sequence[Clip]) -> list[str]:
        """The text of each clip, empty where nothing was heard."""
        return [self.transcribe(clip).text for clip in clips]

    def _segment(self, stretch: Stretch) -> Segment | None:
        sound = sounding(self.recogniser.front_end, stretch.wave)
        if sound is None:
            return None
        wave, silence_s = sound
        offset_s = silence_s + first_frame_s(self.recogniser.front_end)
        log_probs = as_array(self.recogniser.log_probs(wave))
        decoded = self._decode(log_probs, wave)
        symbols, frame_s = self.recogniser.symbols, self.recogniser.frame_s
        places = word_places(decoded.ids, symbols)
        if not places:
            return None
        runs = symbol_runs(log_probs, decoded)
        limits = word_limits(
            [[runs[i] for i in word] for word in places], frame_s, offset_s, len(stretch.wave) / RATE_HZ
        )
        words = tuple(
            Word(
                symbols.decode([decoded.ids[i] for i in word]),
                stretch.start_s + start_s,
                stretch.start_s + end_s,
                geometric_mean([decoded.confidences[i] for i in word]),
            )
            for word, (start_s, end_s) in zip(places, limits, strict=True)
        )
        text = " ".join(symbols.decode(decoded.ids).split())
        sure = geometric_mean([decoded.confidences[i] for word in places for i in word])
        return Segment(stretch.start_s, stretch.end_s, words, text, sure)

    def _decode(self, log_probs: Float[np.ndarray, "T V"], wave: Float[np.ndarray, " S"]) -> Decoded:
        if self.decoding == "own" and isinstance(self.recogniser, Together) and self.recogniser.spelling is None:
            ids = self.recogniser.spell_wave(wave)
            return placed(log_probs, ids) if min_frames(ids) <= len(log_probs) else greedy(log_probs)
        knowing = self._knowing
        if knowing is not None:
            return self._searched(knowing, log_probs, wave)
        if self.decoding != "beam":
            return greedy(log_probs)
        found = prefix_beam(log_probs, self.beam, lm=self.lm, lm_weight=self.lm_weight, n_best=1)
        return found[0] if found else greedy(log_probs)

    def _searched(
        self, knowing: "Knowing", log_probs: Float[np.ndarray, "T V"], wave: Float[np.ndarray, " S"]
    ) -> Decoded:
        """What an adapted recogniser makes of a segment, placed where the segment says it at its own tempo."""
        spelling = knowing.spelling
        assert spelling is not None
        if self.lm is not None:
            spelling = replace(spelling, search=replace(spelling.search, lm_weight=self.lm_weight, beam=self.beam))
        views = [
            log_probs if tempo == 1 else as_array(knowing.at_tempo(wave, tempo)) for tempo in spelling.search.tempos
        ]
        ids = spelling.consensus(views, self.lm)
        if min_frames(ids) > len(log_probs):
            ids = spelling.best(log_probs, self.lm)
        return placed(log_probs, ids)


@runtime_checkable
class Knowing(Protocol):
    """A recogniser that spells with what it knows of its language, where ``spelling`` is not None."""

    @property
    def spelling(self) -> "Spelling | None": ...

    def at_tempo(self, wave: Float[np.ndarray, " S"], tempo: float) -> Float[Tensor, "T V"]:
        """Log-probabilities of a segment that is made to last ``tempo`` times as long."""
        ...


@runtime_checkable
class Together(Protocol):
    """A recogniser made of several, which spells in a way of its own where ``spelling`` is None."""

    spelling: "Spelling | None"

    def spell_wave(self, wave: Float[np.ndarray, " S"]) -> tuple[int, ...]:
        """What is spelled of a segment of 16 kHz sound."""
        ...


def _utterance(number: int, clip: Clip, text: str, lang: str | None, folder: Path) -> Utterance:
    """A clip with its text; samples are written into ``folder`` first."""
    match clip:
        case str() | Path():
            return Utterance(Path(clip).stem, Path(clip), probe(clip).duration_s, text, lang=lang)
        case (np.ndarray() as samples, int() | np.integer() as rate_hz):
            wave, path = from_array(samples, int(rate_hz), RATE_HZ), folder / f"{number:05d}.wav"
            soundfile.write(path, wave, RATE_HZ, subtype="FLOAT")
            return Utterance(path.stem, path, len(wave) / RATE_HZ, text, lang=lang)
        case _:
            raise InputError(f"A clip is a path, or samples with their rate in Hz; {type(clip).__name__} is neither.")


# -------------------------------------------------------------------------------------------------------------- words


def word_places(ids: Sequence[int], symbols: Symbols) -> list[list[int]]:
    """Positions in ``ids`` of the symbols of each word: between spaces, or every character where spaces mean nothing.

    Marks that combine with a character stay with it.
    """
    spaced = symbols.alphabet == "roman" or spaces_matter(symbols.lang)
    words: list[list[int]] = []
    new = True
    for place, symbol in enumerate(ids):
        char = symbols.decode([symbol])
        if char == " ":
            new = True
            continue
        if new or (not spaced and unicodedata.category(char)[0] != "M"):
            words.append([])
        words[-1].append(place)
        new = False
    return words


def symbol_runs(log_probs: Float[np.ndarray, "T V"], decoded: Decoded) -> list[tuple[int, int]]:
    """First frame and frame after the last of each decoded symbol: where it is the best one, around its peak.

    The runs of a best path are those of its alignment. A symbol that a beam search chose against the best of its frame
    has that frame.
    """
    best = log_probs.argmax(axis=1)
    edges = np.append(np.flatnonzero(np.diff(best, prepend=-1)), len(best))
    run = np.searchsorted(edges, decoded.frames, side="right")
    return [
        (int(edges[i - 1]), int(edges[i])) if best[frame] == symbol != BLANK else (frame, frame + 1)
        for i, frame, symbol in zip(run, decoded.frames, decoded.ids, strict=True)
    ]


def geometric_mean(probabilities: Sequence[float]) -> float:
    """0 where one of them is."""
    return float(np.exp(np.log(np.maximum(probabilities, 1e-30)).mean()))


# ----------------------------------------------------------------------------------------------------- language model


def _language_model(lm: NGram | str | Path, symbols: Symbols, lang: str | None) -> LanguageModel:
    if isinstance(lm, NGram):
        if isinstance(lm.vocabulary[0], int):
            return lm
        return CharacterFusion(lm, symbols) if lm.level == "char" else WordFusion(lm, symbols)
    return NGram.from_texts(_sentences(Path(lm), symbols, lang), order=LM_ORDER)


def _sentences(path: Path, symbols: Symbols, lang: str | None) -> list[tuple[int, ...]]:
    """The lines of a plain text in symbols; lines without a letter are left out."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); name a file of plain text.") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is no UTF-8 text; save it as UTF-8, a sentence a line.") from None
    sentences, faults = [], []
    for number, line in enumerate(lines, 1):
        if any(map(str.isalnum, line)):
            try:
                sentences.append(symbols.encode(line, lang))
            except InputError as error:
                if isinstance(error.__cause__, ImportError):  # not the line is wrong
                    raise
                faults.append(f"line {number}: {error}")
    if faults:
        more = f" {len(faults) - 1} more lines are like it." if len(faults) > 1 else ""
        raise InputError(f"{path} cannot serve as a language model, {faults[0]}{more}")
    if not sentences:
        raise InputError(f"{path} holds no text for a language model; give at least one sentence.")
    return sentences
