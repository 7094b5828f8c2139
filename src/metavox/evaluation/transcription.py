"""How well a recogniser spells a language after so many minutes of it: learners side by side on the same draws.

Every learner adapts to the same draws of the support and is heard on the same test utterances, one row each. Curves,
areas and comparisons are computed from the rows alone.
"""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

from ..contracts import InputError, Transcribed, Utterance
from ..data.bank import build_bank
from ..data.corpora import n_cores
from ..data.sentences import Sentences, require_room, require_texts
from ..metrics import cer, wer
from ..statistics import cluster_bootstrap, holm, paired_bootstrap
from ..text.languages import MANDARIN, primary
from ..text.mandarin import without_tones
from ..text.normalise import spaces_matter
from ..text.symbols import Symbols
from ..transcription.adapting import Reached, heard, support_of
from ..transcription.models import Recognition
from ..transcription.scoring import clusters_of, counted
from .protocols import Row
from .transcription_split import MIN_TEST, Draws, Split, draw_supports

AdaptedBy = Callable[[str, Recognition, Transcribed, int], Recognition]
"""(learner, base, support, seed) -> what the learner makes of the base."""
Hear = Callable[[Recognition, Sentences, np.ndarray], Reached]
Report = Callable[[int, int, str], None]
"""(adaptations done, in all, what comes next)."""

BOOTSTRAP_SEED, N_RESAMPLES = 0, 10_000
INTERVALS = (
    "95 % intervals from a cluster bootstrap: clusters of test utterances are resampled with all their draws, and the "
    "percentiles taken further out as Student's t asks for so many clusters; they speak of other test speakers or "
    "sentences, and not of other draws of the support."
)
COUNTING = (
    "Errors are substitutions, deletions and insertions over what was said, pooled over utterances and draws; a space "
    "is a character, except in languages where spaces mark no words, in which spaces and word errors are left out."
)


@dataclass(frozen=True)
class TranscriptionProtocol:
    """What is asked: learners, the first of which is compared with the others, at minutes of support, over draws.

    Raises:
        InputError: no learner or one named twice, no minutes or others than 0 and more, fewer than one draw, no test.
    """

    learners: tuple[str, ...]
    minutes: tuple[float, ...] = (0.0, 1.0, 5.0, 10.0)
    n_seeds: int = 3
    split_seed: int = 0
    max_test: int = 200

    def __post_init__(self) -> None:
        double = [name for name in self.learners if self.learners.count(name) > 1]
        if double or not self.learners:
            raise InputError(f"Learner {double[0] if double else '(none)'} is named twice or not at all; name it once.")
        bad = [m for m in self.minutes if not (math.isfinite(m) and m >= 0)]
        if bad or not self.minutes:
            raise InputError(f"--minutes is {bad[0] if bad else '(none)'}; give 0 or more, such as 5.")
        object.__setattr__(self, "minutes", tuple(sorted(set(self.minutes))))
        if len(self.learners) > 1 and not max(self.minutes):
            raise InputError("--minutes is 0, where all learners are the base as it is; give minutes to compare at.")
        if self.n_seeds < 1 or self.max_test < MIN_TEST:
            raise InputError(
                f"--seeds is {self.n_seeds} and --max-test {self.max_test}; the least are 1 and {MIN_TEST}."
            )


@dataclass(frozen=True)
class Material:
    """A split with the features and symbols of its utterances, and the supports that are drawn from it."""

    split: Split
    draws: Draws
    sentences: Sentences
    pool: Int[np.ndarray, " p"]
    """Positions of the pool in ``sentences``."""
    test: Int[np.ndarray, " q"]


@dataclass(frozen=True)
class Scored:
    """Rows, and what they cost."""

    rows: list[Row]
    adapt_seconds: dict[str, dict[str, float]]
    """Mean seconds of an adaptation by learner and minutes."""


# ------------------------------------------------------------------------------------------------------------- material


def open_material(
    split: Split,
    protocol: TranscriptionProtocol,
    utterances: Sequence[Utterance],
    base: Recognition,
    report: Callable[[int, int], None] | None = None,
) -> Material:
    """Supports are drawn, then features computed of ``utterances``: all recordings of the corpora in their order, as
    they are cached, the split's among them.

    Raises:
        InputError: more minutes than there are, texts that cannot be written (both before anything is computed),
            recordings that cannot be read, last more than 40 s or are too short for their texts.
    """
    draws = draw_supports(split, protocol.minutes, protocol.n_seeds, protocol.split_seed)
    require_texts(utterances)
    written = base.symbols.encode_all([u.text for u in utterances], [u.lang for u in utterances])
    targets_of = dict(zip((u.path for u in utterances), written, strict=True))
    bank = build_bank(utterances, base.front_end, n_workers=n_cores(), progress=report)
    targets = [targets_of[u.path] for u in bank.utterances]
    require_room(bank, targets)
    place = {u.path: position for position, u in enumerate(bank.utterances)}
    pool, test = (np.asarray([place[u.path] for u in side]) for side in (split.pool, split.test))
    return Material(split, draws, Sentences(bank, targets, [()] * len(bank)), pool, test)


# ----------------------------------------------------------------------------------------------------------------- rows


def score(
    base: Recognition,
    material: Material,
    protocol: TranscriptionProtocol,
    adapted_by: AdaptedBy,
    hear: Hear = heard,
    report: Report | None = None,
    from_scratch: Collection[str] = ("scratch",),
) -> Scored:
    """Rows of all learners at all minutes, every learner adapting to the same draws.

    At 0 minutes the base is heard as it is, once, and its rows stand for every learner that starts from it, which
    those of ``from_scratch`` do not; their ``seed`` is None, since nothing was drawn.

    Raises:
        InputError: a learner that cannot adapt this base; it is the first round that finds it out.
    """
    rows: list[Row] = []
    seconds: dict[tuple[str, float], list[float]] = defaultdict(list)
    total, done = len(material.draws) * len(protocol.learners) + (0.0 in protocol.minutes), 0

    def tell(what: str) -> None:
        if report is not None:
            report(done, total, what)

    if 0.0 in protocol.minutes:
        tell("as it is")
        reached = hear(base, material.sentences, material.test)
        for learner in protocol.learners:
            if learner not in from_scratch:
                rows += item_rows(reached, material.split.test, base.symbols, learner, 0.0, None)
        done += 1
    for (minutes, seed), drawn in sorted(material.draws.items(), key=lambda item: item[0]):
        positions = material.pool[drawn]
        assert not np.intersect1d(positions, material.test).size, "a test utterance is in the support"
        support = support_of(material.sentences, positions, base.net)
        for learner in protocol.learners:
            tell(f"{learner} {minutes:g} min")
            start_s = time.perf_counter()
            found = adapted_by(learner, base, support, seed)
            seconds[learner, minutes].append(time.perf_counter() - start_s)
            reached = hear(found, material.sentences, material.test)
            rows += item_rows(reached, material.split.test, base.symbols, learner, minutes, seed)
            done += 1
    tell("")
    costs: dict[str, dict[str, float]] = {learner: {} for learner in protocol.learners}
    for (learner, minutes), each in seconds.items():
        costs[learner][f"{minutes:g}"] = round(float(np.mean(each)), 3)
    return Scored(rows, costs)


def item_rows(
    reached: Reached,
    utterances: Sequence[Utterance],
    symbols: Symbols,
    learner: str,
    minutes: float,
    seed: int | None,
) -> list[Row]:
    """One row a test utterance: who said what, what was heard, and the edits between them.

    A space is a character. Where spaces mark no words they are left out, and word errors are None. Mandarin pinyin
    also has its errors without tones.
    """
    langs = [u.lang or symbols.lang for u in utterances]
    texts = [
        tuple(counted(text, lang) for text in pair)
        for pair, lang in zip(zip(reached.said, reached.heard, strict=True), langs, strict=True)
    ]
    characters = cer([said for said, _ in texts], [found for _, found in texts])
    toneless = cer([without_tones(said) for said, _ in texts], [without_tones(found) for _, found in texts])
    words = wer(reached.said, reached.heard)
    rows = []
    for i, (u, lang) in enumerate(zip(utterances, langs, strict=True)):
        row: Row = {
            "learner": learner,
            "minutes": minutes,
            "seed": seed,
            "id": u.id,
            "speaker": u.speaker,
            "said": reached.said[i],
            "heard": reached.heard[i],
            "char_errors": int(characters.edits[i]),
            "chars": int(characters.ref_lengths[i]),
            "word_errors": int(words.edits[i]) if spaces_matter(lang) else None,
            "words": int(words.ref_lengths[i]) if spaces_matter(lang) else None,
        }
        if primary(lang) in MANDARIN and symbols.alphabet == "roman":
            row["char_errors_without_tones"] = int(toneless.edits[i])
            row["chars_without_tones"] = int(toneless.ref_lengths[i])
        rows.append(row)
    return rows


# -------------------------------------------------------------------------------------------------------------- figures


def clustered(rows: Sequence[Row]) -> tuple[Shaped[np.ndarray, " n"], str]:
    """The cluster of each row, and what it is. All draws of a test utterance are in one cluster."""
    clusters, by = clusters_of([row["speaker"] for row in rows], [row["said"] for row in rows])
    return np.asarray(clusters), by


def curve(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Error rates with intervals, one object a learner and minutes, pooled over draws: all errors over all characters.

    ``wer`` is None where spaces mark no words in some utterance, and ``cer_without_tones`` is there where all are in
    Mandarin pinyin.
    """
    found = []
    for (learner, minutes), group in _grouped(rows, "learner", "minutes").items():
        by_seed = _grouped(group, "seed").values()
        point = {"learner": learner, "minutes": minutes, "n": len(group)}
        point |= _rate(group, "cer", "char_errors", "chars") | _rate(group, "wer", "word_errors", "words")
        point["cer_by_seed"] = [sum(r["char_errors"] for r in some) / sum(r["chars"] for r in some) for some in by_seed]
        if all("chars_without_tones" in row for row in group):
            point |= _rate(group, "cer_without_tones", "char_errors_without_tones", "chars_without_tones")
        found.append(point)
    return found


def area(rows: Sequence[Row], ours: str) -> list[dict[str, Any]]:
    """The mean CER over the minutes above 0 of each learner, and how much smaller that of ``ours`` is.

    ``relative_gain`` is 1 - area of ours / area of the other, paired by utterance, minutes and draw; its interval and
    p-value come from one resampling of clusters for both. ``p_holm`` is adjusted for the number of comparisons (Holm
    1979). All three are None where the other makes no error.

    Raises:
        InputError: learners that were not heard on the same utterances of the same draws.
    """
    table = _grouped([row for row in rows if row["minutes"] > 0], "learner")
    if not table:
        return []
    sides = {learner: _paired_rows(group) for (learner,), group in table.items()}
    own = sides[ours]
    found: list[dict[str, Any]] = []
    for learner, group in sides.items():
        if [_asked(row) for row in group] != [_asked(row) for row in own]:
            raise InputError(f"{learner} and {ours} were not heard on the same utterances; evaluate both in one run.")
        point: dict[str, Any] = {"learner": learner, **_rate(group, "area", "char_errors", "chars")}
        if learner != ours:
            point |= {"versus": ours, **_relative_gain(own, group)}
        found.append(point)
    tested = [point for point in found if point.get("p_value") is not None]
    if tested:
        for point, adjusted in zip(tested, holm([point["p_value"] for point in tested]), strict=True):
            point["p_holm"] = float(adjusted)
    return found


def _relative_gain(own: Sequence[Row], other: Sequence[Row]) -> dict[str, Any]:
    """(errors of the other - own errors) / errors of the other: a ratio of sums, resampled as one."""
    ours, theirs = (np.asarray([row["char_errors"] for row in side], np.float64) for side in (own, other))
    if not theirs.sum():
        return {"relative_gain": None, "relative_gain_ci95": [None, None], "p_value": None, "p_holm": None}
    clusters, _ = clustered(own)
    found = paired_bootstrap(
        theirs, ours, per=theirs, clusters=clusters, seed=BOOTSTRAP_SEED, n_resamples=N_RESAMPLES
    )  # fmt: skip
    return {"relative_gain": found.difference, "relative_gain_ci95": found.ci95, "p_value": found.p_value}


def _rate(rows: Sequence[Row], name: str, errors: str, per: str) -> dict[str, Any]:
    if any(row[per] is None for row in rows):
        return {name: None, f"{name}_ci95": [None, None]}
    clusters, _ = clustered(rows)
    values, sizes = (np.asarray([row[key] for row in rows], np.float64) for key in (errors, per))
    found = cluster_bootstrap(values, clusters, per=sizes, seed=BOOTSTRAP_SEED, n_resamples=N_RESAMPLES)
    low, high = found.ci95
    return {name: found.mean, f"{name}_ci95": [None if low is None else max(0.0, low), high]}


def _grouped(rows: Sequence[Row], *keys: str) -> dict[tuple[Any, ...], list[Row]]:
    found: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        found[tuple(row[key] for key in keys)].append(row)
    return found


def _asked(row: Row) -> tuple[Any, ...]:
    return row["minutes"], row["seed"], row["id"], row["said"]


def _paired_rows(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=_asked)


# -------------------------------------------------------------------------------------------------------------- summary


def summary(rows: Sequence[Row], split: Split, protocol: TranscriptionProtocol, **about: Any) -> dict[str, Any]:
    """A flat summary with ``curve`` and ``area``; ``mean`` and ``ci95`` are the CER of the first learner at most
    minutes."""
    ours, points = protocol.learners[0], curve(rows)
    last = next((p for p in points if (p["learner"], p["minutes"]) == (ours, max(protocol.minutes))), None)
    clusters, clustered_by = clustered(rows)
    return {
        "protocol": "transcription",
        "metric": "cer",
        "mean": last and last["cer"],
        "ci95": last["cer_ci95"] if last else [None, None],
        "n": last["n"] if last else 0,
        "learners": list(protocol.learners),
        "minutes": list(protocol.minutes),
        "seeds": protocol.n_seeds,
        "split": split.way,
        "split_seed": protocol.split_seed,
        "n_test": len(split.test),
        "n_test_all": split.n_test_all,
        "max_test": protocol.max_test,
        "n_test_speakers": _n_speakers(split.test),
        "n_pool": len(split.pool),
        "n_pool_speakers": _n_speakers(split.pool),
        "pool_minutes": round(split.pool_s / 60, 2),
        "n_dropped": split.n_dropped,
        "n_shared_speakers": split.n_shared_speakers,
        "clustered_by": clustered_by,
        "n_clusters": len(set(clusters.tolist())),
        "counting": COUNTING,
        "intervals": INTERVALS,
        "n_resamples": N_RESAMPLES,
        "bootstrap_seed": BOOTSTRAP_SEED,
        **about,
        "curve": points,
        "area": area(rows, ours),
    }


def _n_speakers(utterances: Sequence[Utterance]) -> int | None:
    """Speakers of some utterances; None where somebody is not named."""
    speakers = {u.speaker for u in utterances}
    return None if None in speakers else len(speakers)
