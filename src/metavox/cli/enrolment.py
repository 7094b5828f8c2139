"""What ``metavox enroll`` does: findings first, then learning, then one profile, then what it promises."""

import os
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError

if TYPE_CHECKING:
    from ..checkpoint import Model
    from ..runtime.commands import CommandRecognizer
    from ..runtime.take_quality import Finding
    from ..runtime.takes import Clip

N_NAMED = 3
"""Findings of one kind that are printed; JSON has all."""


@dataclass(frozen=True)
class Changes:
    """What is taken from a profile, or named otherwise."""

    remove: tuple[str, ...] = ()
    rename: tuple[tuple[str, str], ...] = ()
    undo: bool = False

    @property
    def any(self) -> bool:
        return bool(self.remove or self.rename or self.undo)


@dataclass(frozen=True)
class Wanted:
    """What is asked of a profile; None is whatever is usual, or what the profile has."""

    target: float | None = None
    per_hour: float | None = None
    confidence: float | None = None
    negatives: tuple[Path, ...] = ()
    places: tuple[Path, ...] = ()
    keep_audio: bool = False
    strict: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """Those of ``CommandRecognizer`` that were given."""
        found: dict[str, Any] = {}
        if self.target is not None:
            found |= {"target": self.target, "per_hour": False}
        if self.per_hour is not None:
            found |= {"target": self.per_hour, "per_hour": True}
        if self.confidence is not None:
            found["confidence"] = self.confidence
        if self.negatives:
            found["negatives"] = list(self.negatives)
        if self.keep_audio:
            found["keep_audio"] = True
        return found


@dataclass(frozen=True)
class Given:
    """Takes that are to be learned from."""

    clips: list["Clip"]
    words: list[str]
    names: list[str]
    synthetic: list[bool]

    def extend(self, clips: Sequence["Clip"], words: Sequence[str], names: Sequence[str], *, made: bool) -> None:
        self.clips.extend(clips)
        self.words.extend(words)
        self.names.extend(names)
        self.synthetic.extend([made] * len(clips))

    def findings(self) -> list["Finding"]:
        """What is wrong with the recordings; synthetic ones are as they were made."""
        from ..runtime.take_quality import clip_findings

        spoken = [i for i, made in enumerate(self.synthetic) if not made]
        return clip_findings(
            [self.clips[i] for i in spoken], [self.words[i] for i in spoken], [self.names[i] for i in spoken]
        )


def learn(
    model: str,
    takes_dir: Path | None,
    out: Path | None,
    spoken: Sequence[tuple[str, str]],
    wanted: Wanted,
    json_out: bool,
) -> None:
    """Write a new profile.

    Raises:
        InputError: takes, negatives or a target that cannot be used, or with ``strict`` a severe finding.
    """
    from ..checkpoint import load_model
    from ..runtime.commands import CommandRecognizer

    if out is None:
        raise InputError("Nothing says where the profile goes; add --out FOLDER.")
    _require_place(out)
    base = load_model(model)
    given = _given(takes_dir, spoken)
    findings = given.findings()
    _refuse(findings, wanted)
    recognizer = CommandRecognizer(base, **_opened(wanted.options, base))
    recognizer.fit(given.clips, given.words, synthetic=given.synthetic)
    _finish(recognizer, out, findings, set(), wanted, json_out)


def change(
    profile: Path,
    out: Path,
    model: Path | None,
    takes_dir: Path | None,
    spoken: Sequence[tuple[str, str]],
    changes: Changes,
    wanted: Wanted,
    json_out: bool,
) -> None:
    """Change a profile and write it, in one move, to where it was or to another place.

    Raises:
        InputError: as ``learn``, a word that is not enrolled, nothing to undo, or nothing to be changed.
    """
    from ..runtime.commands import CommandRecognizer

    _require_place(out)
    if not os.path.isfile(profile / "profile.json"):
        raise InputError(f"{profile} holds no profile (no profile.json); make one with `metavox enroll`.")
    if not (changes.any or takes_dir or spoken or wanted.options or wanted.places):
        raise InputError(f"Nothing says what to change in {profile}; name takes to add, or --remove, --rename, --undo.")
    recognizer = CommandRecognizer.from_pretrained(profile, model=model)
    known = {finding.sentence for finding in _among(recognizer)} if takes_dir or spoken else None
    if wanted.options:
        recognizer.set_params(**_opened(wanted.options, recognizer.model_))
    given = _given(takes_dir, spoken) if takes_dir or spoken else Given([], [], [], [])
    findings = given.findings()
    _refuse(findings, wanted)
    if changes.undo:
        recognizer.undo()
    for word in changes.remove:
        recognizer.remove(word)
    for old, new in changes.rename:
        recognizer.rename(old, new)
    for word in dict.fromkeys(given.words):
        for made in (False, True):
            mine = [i for i, name in enumerate(given.words) if name == word and given.synthetic[i] == made]
            if mine:
                recognizer.add(word, [given.clips[i] for i in mine], synthetic=made)
    if wanted.options and not given.words and not changes.remove:
        recognizer.recalibrate()
    _finish(recognizer, out, findings, known, wanted, json_out)


def print_words(profile: Path, model: Path | None, json_out: bool) -> None:
    """What is enrolled in a profile."""
    from ..runtime.commands import CommandRecognizer
    from .output import print_json

    if not os.path.isfile(profile / "profile.json"):
        raise InputError(f"{profile} holds no profile (no profile.json); make one with `metavox enroll`.")
    recognizer = CommandRecognizer.from_pretrained(profile, model=model)
    if json_out:
        print_json(_summary(recognizer, profile, []))
        return
    for word, n in recognizer.n_takes_.items():
        n_made = _n_synthetic(recognizer)[word]
        print(f"{word}\t{n} take{'s' * (n > 1)}" + (f", {n_made} synthetic" if n_made else ""))


# ------------------------------------------------------------------------------------------------------------- steps


def _require_place(out: Path) -> None:
    """Raise before anything is computed where no profile can be written."""
    from .output import require_writable

    if out.exists() and not (out / "profile.json").is_file():
        raise InputError(f"{out} exists and is no profile; choose another name or remove it.")
    require_writable(out / "profile.json")


def _given(takes_dir: Path | None, spoken: Sequence[tuple[str, str]]) -> Given:
    from ..runtime.takes import takes_in

    found = Given([], [], [], [])
    if takes_dir is not None:
        paths, words = takes_in(takes_dir)
        names = [os.path.relpath(path, takes_dir) if takes_dir.is_dir() else str(path) for path in paths]
        found.extend(paths, words, names, made=False)
    if spoken:
        from ..runtime.synthetic_takes import synthetic_takes

        for word, lang in spoken:
            clips = synthetic_takes(word, lang)
            found.extend(clips, [word] * len(clips), [f"{word} (synthetic)"] * len(clips), made=True)
    return found


def _opened(options: dict[str, Any], base: "Model") -> dict[str, Any]:
    """Options whose negatives are embedded, with a bar."""
    if "negatives" not in options:
        return options
    from ..runtime.negatives import negatives_in
    from .progress import bars

    with bars() as report:
        negatives = negatives_in(
            options["negatives"], base, progress=lambda done, total: report("negatives", done, total)
        )
    return {**options, "negatives": negatives}


def _adapt(recognizer: "CommandRecognizer", places: Sequence[Path]) -> None:
    """Adapt to the noise in files or folders."""
    from ..runtime.negatives import recordings_in

    clips: list[Path] = []
    for place in places:
        try:
            clips += recordings_in(place)
        except InputError:
            raise InputError(
                f"{place} holds no recording of noise; make one with `metavox record --noise 10 --out FOLDER`."
            ) from None
    recognizer.adapt_to_place(clips)


def _among(recognizer: "CommandRecognizer") -> list["Finding"]:
    """What is wrong with the enrolled takes among each other."""
    from ..runtime.word_quality import word_findings

    names = [f"{take.word}/{take.name}" for take in recognizer.takes_]
    return word_findings(recognizer.model_.learner, recognizer.state_, recognizer.labels_, names)


def _refuse(findings: Sequence["Finding"], wanted: Wanted) -> None:
    """Raise where takes must be good and are not."""
    severe = [finding.sentence.rstrip(".") for finding in findings if finding.severe and finding.kind != "unusable"]
    if wanted.strict and severe:
        more = f"; and {len(severe) - N_NAMED} more" if len(severe) > N_NAMED else ""
        raise InputError(f"{'; '.join(severe[:N_NAMED])}{more}; leave --strict out to enrol all the same.")


def _finish(
    recognizer: "CommandRecognizer",
    out: Path,
    findings: list["Finding"],
    known: Collection[str] | None,
    wanted: Wanted,
    json_out: bool,
) -> None:
    """Adapt to the place, judge takes among each other (not what is ``known``; None judges nothing), write and tell."""
    if recognizer.calibration_.promise is None and (wanted.target, wanted.per_hour, wanted.confidence) != (None,) * 3:
        raise InputError(
            f"Model {recognizer.model_.name} brings no negatives, and nothing can be promised without; add --negatives "
            "DIR with recordings of what the device will hear."
        )
    if wanted.places:
        _adapt(recognizer, wanted.places)
    among = [] if known is None else [one for one in _among(recognizer) if one.sentence not in known]
    _refuse(among, wanted)
    recognizer.save_pretrained(out)
    _tell(recognizer, out, [*findings, *among], json_out)


# ---------------------------------------------------------------------------------------------------------- printing


def _n_synthetic(recognizer: "CommandRecognizer") -> Counter[str]:
    return Counter(take.word for take in recognizer.takes_ if take.source == "synthetic")


def _n_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _summary(recognizer: "CommandRecognizer", out: Path, findings: Sequence["Finding"]) -> dict[str, Any]:
    from ..calibration.bounds import as_sentence
    from ..contracts import as_row

    calibration = recognizer.calibration_
    promise = calibration.promise
    return {
        "profile": str(out),
        "model": recognizer.model_.name,
        "model_hash": recognizer.model_.hash[:16],
        "revision": recognizer.revision_,
        "takes": recognizer.n_takes_,
        "synthetic": dict(_n_synthetic(recognizer)),
        **{key: value for key, value in as_row(calibration).items() if key != "promise"},
        "promise": None if promise is None else as_row(promise) | {"sentence": as_sentence(promise)},
        "expected_refusals": recognizer.expected_refusals_,
        "bytes": _n_bytes(out),
        "findings": [as_row(finding) for finding in findings],
    }


def _tell(recognizer: "CommandRecognizer", out: Path, findings: Sequence["Finding"], json_out: bool) -> None:
    from ..calibration.bounds import as_sentence
    from .output import note, print_json

    n_said: Counter[str] = Counter()
    for finding in findings:
        n_said[finding.kind] += 1
        if n_said[finding.kind] <= N_NAMED:
            note(f"! {finding.sentence}")
    for kind, n in n_said.items():
        if n > N_NAMED:
            note(f"! {n - N_NAMED} more of that kind ({kind}); --json lists them all.")
    if json_out:
        print_json(_summary(recognizer, out, findings))
        return
    made = _n_synthetic(recognizer)
    counts = ", ".join(
        f"{word} ({n}{f', {made[word]} synthetic' if made[word] else ''})" for word, n in recognizer.n_takes_.items()
    )
    print(f"Wrote {out}: {counts}; {_n_bytes(out) / 1000:.0f} kB beside {recognizer.model_.name}.")
    calibration = recognizer.calibration_
    if calibration.promise is not None:
        print(as_sentence(calibration.promise))
    else:
        print(
            f"Refuses below {calibration.threshold:.2f}; set on {calibration.n_target} scores of takes with their own "
            f"word and {calibration.n_nontarget} with other words ({calibration.source}), which promises no rate."
        )
    if recognizer.expected_refusals_ is not None:
        print(
            f"That costs {100 * recognizer.expected_refusals_:.0f} % of the enrolled takes, each judged as if it were "
            "not enrolled."
        )
