"""What a comparison of recognisers does: who stands beside whom, from which base, and what each target gives."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..config import TranscriptionComparison, TranscriptionExperiment
from ..config.comparison import ALL
from ..contracts import InputError, Utterance
from ..data.corpora import require, require_once
from ..data.manifests import load_corpus
from ..data.sentences import require_texts
from ..evaluation.transcription import TranscriptionProtocol
from ..evaluation.transcription_split import MIN_TEST, Split, draw_supports, split_corpus
from ..learners.preset import Range, named
from ..text.languages import language_key
from ..text.symbols import UNIVERSAL
from ..transcription.adapting import MIN_UTTERANCES
from ..transcription.adapting import Plan as Adapting
from ..transcription.models import Recognition, load_recogniser
from ..transcription.shelf import LR, SHELF
from .apart import among, name_of
from .transcription_cell import COMMON, development, space_of

BASELINES = ("fine-tune", "scratch")
"""Who stands beside the others in any case: the base as it is, and none."""
_LEARNING = "learning."


@dataclass(frozen=True)
class Fold:
    """One target, and what everybody starts from."""

    name: str
    target: str
    """Name of the corpus."""
    path: Path
    """Its folder."""
    base: str
    experiment: TranscriptionExperiment
    """What learning that goes on from the base hears: the recipe without the target and its languages."""
    languages: tuple[str, ...]
    base_hash: str = ""
    """Of the base as it was checked; empty where it was not."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """Learners and folds; every learner goes on from the base of every fold."""

    recipe: TranscriptionComparison
    learners: tuple[str, ...]
    folds: tuple[Fold, ...]
    shares: Mapping[str, str]
    """Learners that are another way to adapt what one training made, and whose training that is."""

    def fold(self, name: str) -> Fold:
        """The fold of a name."""
        return next(fold for fold in self.folds if fold.name == name)


def make_plan(recipe: TranscriptionComparison, *, check: bool = True) -> Plan:
    """Who is compared on what. ``check``: that every base can be opened and has not heard its target, and every target
    has what is asked of it, is found out first.

    Raises:
        InputError: an unknown learner, target or base, a base that heard its target, a target of too few recordings.
    """
    asked = recipe.compare
    names = tuple(SHELF) if asked.learners == (ALL,) else asked.learners
    for name in names:
        named(SHELF, name, "compare.learners")
    learners = (*names, *(name for name in BASELINES if name not in names))
    if not asked.folds:
        raise InputError("compare.folds names no target; give it a target, which is a corpus, and a base.")
    paths = [require(fold.target) for fold in asked.folds]
    require_once(paths)
    folds = [_fold(recipe, n, path, one.base) for n, (path, one) in enumerate(zip(paths, asked.folds, strict=True), 1)]
    targets = [fold.target for fold in folds]
    double = next((name for name in targets if targets.count(name) > 1), None)
    if double is not None:
        raise InputError(f"Two targets are called {double}; rename the folder of one.")
    if check:
        folds = [_checked(fold, recipe) for fold in folds]
    return Plan(recipe, learners, tuple(folds), sharing(learners))


def sharing(learners: Sequence[str]) -> dict[str, str]:
    """Whose training a learner uses: among those that learn alike, that of the one they name, or of the first."""
    found: dict[str, str] = {}
    for name in learners:
        root = SHELF[name].shares
        if root:
            first = root if root in learners else next(n for n in learners if SHELF[n].shares == root)
            if first != name:
                found[name] = first
    return found


def space_for(name: str, *, shared: bool) -> tuple[dict[str, Range], dict[str, float]]:
    """What a learner may try, and what it has by itself; only how it adapts where its training is ``shared``."""
    space, defaults = space_of(name)
    if shared:
        space = {key: one for key, one in space.items() if key != LR and not key.startswith(_LEARNING)}
    return space, {key: defaults[key] for key in space}


# --------------------------------------------------------------------------------------------------------------- folds


def _fold(recipe: TranscriptionComparison, number: int, path: Path, base: str) -> Fold:
    name = name_of(path)
    languages = tuple(sorted({u.lang for u in load_corpus(path) if u.lang}))
    data = recipe.data
    corpora = among((*data.corpora, *data.words), [path])
    update = {
        "leave_out_corpora": tuple(dict.fromkeys([*data.leave_out_corpora, *corpora])),
        "leave_out_languages": tuple(dict.fromkeys([*data.leave_out_languages, *languages])),
    }
    given = {name: getattr(recipe, name) for name in recipe.model_fields_set - {"compare"}}
    experiment = TranscriptionExperiment(**{**given, "data": data.model_copy(update=update)})
    return Fold(f"{number}-{name}", name, path, base, experiment, languages)


def _checked(fold: Fold, recipe: TranscriptionComparison) -> Fold:
    """The fold with what is known of its base, after everything that would fail later."""
    utterances = load_corpus(fold.path)
    base = open_base(fold.base)
    _require_written(fold.target, base, utterances)
    notes = _require_unheard(base, fold, {u.corpus for u in utterances})
    _require_enough(fold.target, recipe, utterances)
    return replace(fold, base_hash=base.hash, notes=notes)


def open_base(source: str) -> Recognition:
    """A recogniser to start from.

    Raises:
        InputError: none there, or one that was adapted or spells otherwise than training does.
    """
    base = load_recogniser(source)
    if base.base is not None or base.symbols != UNIVERSAL:
        raise InputError(
            f"{source} was adapted to a language or voice; name a base that `metavox train` wrote in compare.folds."
        )
    return base


def _require_unheard(base: Recognition, fold: Fold, corpora: set[str]) -> tuple[str, ...]:
    """Notes on what is not known of a base; raise InputError where it heard the target or its languages."""
    missing: list[str] = []
    for about in _history(base, fold.base, missing):
        known = about.get("corpora")
        heard = sorted(corpora & set(known or ()))
        spoken = [
            own for lang in about.get("languages") or () for own in fold.languages
            if language_key(lang) == language_key(own)
        ]  # fmt: skip
        if heard or spoken:
            what = f"the language {spoken[0]} of {fold.target}" if spoken else heard[0]
            raise InputError(
                f"{fold.base} heard {what}, and a base must not know its target; train one with "
                f"data.leave_out_languages=[{', '.join(fold.languages)}]"
                f"{'' if spoken else f' data.leave_out_corpora=[{heard[0]}]'}, or name another."
            )
        if known is None or about.get("languages") is None:
            missing.append(f"What {fold.base} heard is not recorded: whether it knew {fold.target} cannot be said.")
    if not fold.languages:
        missing.append(f"{fold.target} does not say its language: whether {fold.base} knew it cannot be said.")
    return tuple(dict.fromkeys(missing))


def _history(base: Recognition, source: str, missing: list[str]) -> list[Mapping[str, Any]]:
    """What is recorded of a base and of those that it was trained from in turn."""
    found, seen = [base.about], {source}
    while (init := str(found[-1].get("init") or "")) and init not in seen:
        seen.add(init)
        try:
            found.append(load_recogniser(init).about)
        except InputError:
            missing.append(f"{source} began as {init}, which is not here: what that heard cannot be said.")
            break
    return found


# ---------------------------------------------------------------------------------------------------------------- test


def protocol_of(recipe: TranscriptionComparison, learner: str) -> TranscriptionProtocol:
    """What is asked of everybody on every target."""
    asked = recipe.compare
    return TranscriptionProtocol((learner,), asked.support_minutes, asked.draws, asked.seed, asked.max_test)


def choosing_protocol(recipe: TranscriptionComparison, learner: str, within: Split) -> TranscriptionProtocol:
    """What trials are chosen by: one draw of the same minutes, or of all that there is ``within`` the pool if less."""
    asked = recipe.compare
    most = math.floor(within.pool_s / 60 * 100) / 100
    minutes = tuple(sorted({min(minutes, most) for minutes in asked.support_minutes}))
    return TranscriptionProtocol((learner,), minutes, 1, asked.seed, asked.validation_utterances)


def splits_of(recipe: TranscriptionComparison, utterances: Sequence[Utterance]) -> tuple[Split, Split]:
    """The split of the test, and the one within its pool that trials are chosen on.

    Raises:
        InputError: too few recordings for either.
    """
    asked = recipe.compare
    split = split_corpus(utterances, asked.seed, asked.max_test)
    return split, development(split, asked.validation_utterances)


def _require_written(target: str, base: Recognition, utterances: Sequence[Utterance]) -> None:
    """Raise InputError where a text of a target is empty or cannot be written, as every learner would later."""
    try:
        require_texts(utterances)
        base.symbols.encode_all([u.text for u in utterances], [u.lang for u in utterances])
    except InputError as err:
        raise InputError(f"{target} cannot be a target: {err}") from None


def _require_enough(target: str, recipe: TranscriptionComparison, utterances: Sequence[Utterance]) -> None:
    """Raise InputError where a target cannot be parted, or does not have the minutes that are asked for."""
    try:
        split, within = splits_of(recipe, utterances)
    except InputError:
        n_speakers = len({u.speaker for u in utterances})
        raise InputError(
            f"{target} has {len(utterances)} recordings by {n_speakers} speakers, too few for a test of {MIN_TEST} "
            f"utterances, {MIN_TEST} others to choose settings on and a rest to adapt to; add recordings of other "
            "sentences, or leave the target away."
        ) from None
    most = math.floor(split.pool_s / 60 * 100) / 100
    asked = max(recipe.compare.support_minutes)
    if asked > most:
        raise InputError(
            f"compare.support_minutes is {asked:g} and {target} has {most:g} minutes beside its test; ask for at most "
            f"{most:g}."
        )
    for side, protocol in (
        (split, protocol_of(recipe, "any")),
        (within, choosing_protocol(recipe, "any", within)),
    ):
        try:
            draw_supports(side, protocol.minutes, protocol.n_seeds, protocol.split_seed)
        except InputError:
            least = min(recipe.compare.support_minutes)
            raise InputError(
                f"compare.support_minutes is {least:g}, which is fewer than {MIN_UTTERANCES} recordings of {target}; "
                "ask for more."
            ) from None


def adapting_plan(recipe: TranscriptionComparison) -> Adapting:
    """How everybody adapts, but for what adapts and how far a step goes."""
    return replace(COMMON, tuning=replace(COMMON.tuning, steps=recipe.compare.adapt_steps))
