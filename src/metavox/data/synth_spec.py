"""The specification of a synthetic corpus."""

from pydantic import BaseModel, ConfigDict, Field, model_validator

from .synth_languages import CORE_LANGUAGES


class SynthSpec(BaseModel):
    """Which synthetic corpus: the same specification gives the same bytes on the same machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    languages: tuple[str, ...] = Field(CORE_LANGUAGES, min_length=1)
    """Codes of ``LANGUAGES``."""
    n_words: int = Field(100, ge=1)
    """Words of each language."""
    n_voices: int = Field(6, ge=1, le=999)
    """Speakers of each language; none speaks two."""
    n_takes: int = Field(1, ge=1, le=100)
    """Takes of each word by each speaker."""
    numbers_share: float = Field(0.2, ge=0, le=1)
    """Share of the words that are numbers, where the language has as many."""
    similar: float = Field(0, ge=0, le=1)
    """Share of the words that are close to one seed word of their language, a sound or two apart: hard tasks. The
    rest is drawn from the whole language (see ``synth_similar``)."""
    rate_wpm: tuple[int, int] = (120, 210)
    """Slowest and fastest speaker, words a minute (80 to 450)."""
    pitch: tuple[int, int] = (35, 65)
    """Lowest and highest speaker, 0 to 99; 50 is the variant's own."""
    pitch_range: tuple[int, int] = (35, 75)
    """Most and least monotonous speaker, 0 to 99."""
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _check(self) -> "SynthSpec":
        limits = {"rate_wpm": (80, 450), "pitch": (0, 99), "pitch_range": (0, 99)}
        for name, (least, most) in limits.items():
            low, high = getattr(self, name)
            if not least <= low <= high <= most:
                raise ValueError(f"{name} is {low} to {high}; give two rising numbers from {least} to {most}")
        if len(set(self.languages)) < len(self.languages):
            raise ValueError(f"languages names one twice ({', '.join(self.languages)}); name each once")
        return self

    @property
    def n_takes_total(self) -> int:
        return len(self.languages) * self.n_words * self.n_voices * self.n_takes
