"""``metavox evaluate --protocol noise``: words enrolled in quiet and said in noisy places."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .evaluate_options import Request, Speakers

if TYPE_CHECKING:
    from ..evaluation.noise import NoisyPlace


def evaluate_noise(
    request: Request,
    *,
    ways: int = 10,
    shots: int = 5,
    queries: int = 5,
    episodes: int = 20,
    speakers: Speakers = Speakers.any,
    classes: str | None = None,
    noise: Sequence[str] = (),
    snr: Sequence[str] = ("clean", "20", "10", "5", "0"),
    adapt_seconds: float = 5.0,
) -> None:
    """Say words in noise by SNR, and print what adapting to the place gives.

    Raises:
        InputError: whatever can be refused, before anything is computed.
    """
    from ..data.episodes import EpisodeSpec
    from ..evaluation.noise import NoiseProtocol
    from ..evaluation.noise import evaluate_noise as run
    from ..evaluation.noise_summary import over_sets, summary
    from ..runtime.place import require_views
    from .evaluate_words import Rows, deliver, opened, word_sets
    from .output import require_writable
    from .progress import bars

    loaded = opened(request.model, request.learner)
    require_views(loaded)
    spec = EpisodeSpec(ways, shots, queries, speakers.value)
    asked = NoiseProtocol(spec, episodes, request.seed, tuple(_snr_db(text) for text in snr), adapt_seconds)
    if request.out is not None:
        require_writable(request.out)
    sets = word_sets(loaded, request.corpus, asked, classes=classes)
    places = _places(noise, loaded.config.front_end.rate_hz, adapt_seconds)
    summaries: Rows = []
    rows: Rows = []
    with bars() as report:
        for one in sets.opened(asked, report):
            scored = run(loaded, one.bank, one.index, places, one.asked, one.progress, corpus=one.name)
            rows += scored
            summaries.append(summary(scored, one.asked, places, **one.about))
    deliver(request, rows, summaries, over_sets, _print_all)


def _snr_db(text: str) -> float | None:
    """A number of dB, or None for ``clean``."""
    from ..errors import InputError

    if text == "clean":
        return None
    try:
        return float(text)
    except ValueError:
        raise InputError(f"--snr is {text!r}, which is no number; give one in dB, or clean.") from None


def _places(noise: Sequence[str], rate_hz: int, adapt_s: float) -> list["NoisyPlace"]:
    """A file is called by its name and a folder by its own; by the whole path where two would be called the same."""
    from ..data.corpora import require, require_once
    from ..errors import InputError
    from ..evaluation.noise import open_place

    if not noise:
        raise InputError("--protocol noise needs places; name recordings of noise with --noise, a folder or file each.")
    paths = [require(name) for name in noise]
    require_once(paths)
    short = [path.stem if path.is_file() else path.name for path in paths]
    names = [str(path) if short.count(name) > 1 else name for path, name in zip(paths, short, strict=True)]
    return [open_place(path, name, rate_hz, adapt_s) for path, name in zip(paths, names, strict=True)]


# ---------------------------------------------------------------------------------------------------------------- print

_TITLES = {"as_is": "as it is", "anywhere": "robust, place unknown", "adapted": "adapted to the place"}


def _print_all(summaries: list[dict[str, Any]], together: dict[str, Any]) -> None:
    for found in summaries:
        _print(found)
    if len(summaries) > 1:
        _print({**together, "corpus": "mean over sets"})
        print(f"worst set: {together['worst_corpus']}")


def _print(found: dict[str, Any]) -> None:
    from .output import percent

    print(f"{found['corpus']}, {found['ways']}-way {found['shots']}-shot, {found['episodes']} episodes, accuracy in %")
    by_snr = found["by_snr"]
    print(f"{'':<24}" + "".join(f"{_shown(row['snr_db']):>14}" for row in by_snr))
    for name, title in _TITLES.items():
        print(f"{title:<24}" + "".join(f"{percent(row[name], row[f'{name}_ci95']):>14}" for row in by_snr))
    print(f"{'gain by adapting':<24}" + "".join(f"{percent(row['gain'], row['gain_ci95']):>14}" for row in by_snr))
    for row in found["by_noise"]:
        print(
            f"in {row['noise']} ({row['minutes']:.1f} min): {100 * row['as_is']:.1f} as it is, "
            f"{100 * row['adapted']:.1f} adapted, gain {percent(row['gain'], row['gain_ci95'])}; of its noise alone "
            f"{100 * row['alarms_as_is']:.1f} and {100 * row['alarms_adapted']:.1f} % pass for a word"
        )
    print(
        f"Adapted to {found['adapt_seconds']:g} s of each place, tested in {found['noise_minutes']:.1f} other minutes. "
        f"With the threshold of the enrolment {100 * found['heard_as_is']:.1f} % of the words in noise are heard "
        f"rightly as it is, and {100 * found['heard_adapted']:.1f} % adapted."
    )


def _shown(snr_db: float | None) -> str:
    return "clean" if snr_db is None else f"{snr_db:g} dB"
