"""lhotse manifests: cuts, or recordings with supervisions. One supervision is one segment.

Our own code reads the JSON and takes from it what is named here, and nothing else: features, arrays and whatever else
a manifest stores are not looked at, so none of their storage types is ever opened. lhotse itself is handed only a
recording that was built anew from these values, and only to apply its transforms.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from ...audio import MAX_RATE_HZ, MIN_RATE_HZ
from ...contracts import InputError
from ..layouts import printable, shown
from .rows import PICKLES, Row, read_rows, refuse_pickle
from .segments import Options, Segment
from .trust import Made, audio_file, in_turn, require_trust, run_command

SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".yaml", ".yml", ".yaml.gz", ".yml.gz")
MAX_OVERHANG_S = 0.1
"""A supervision that leaves its cut by more says words that the cut does not hold."""

_RATES: dict[str, tuple[float, float]] = {
    "source_sampling_rate": (MIN_RATE_HZ, MAX_RATE_HZ),
    "target_sampling_rate": (MIN_RATE_HZ, MAX_RATE_HZ),
}
TRANSFORMS: dict[str, dict[str, tuple[float, float]]] = {
    "Resample": _RATES,
    "Speed": {"factor": (0.1, 10)},
    "Volume": {"factor": (0, 1000)},
}
"""lhotse's transforms that need no further package, no file and no chance; their parameters and limits."""

_PART = re.compile(r"(?P<prefix>.*[_.-])?(?P<kind>recordings|supervisions|cuts)([_.-].*)?", re.S)
"""The names that lhotse gives: ``librispeech_recordings_dev-clean.jsonl.gz``."""
_AS_FILES = "write the audio out with lhotse (`cuts.save_audios('audio')`) and import that"


# ---------------------------------------------------------------------------------------------------------- recordings


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording as lhotse describes it: files or commands that hold some of its channels each."""

    id: str
    place: str
    sources: dict[int, tuple[Path | str, int]]
    """Channel -> (file, or command as text) and the index of the channel in it."""
    rate_hz: int
    n_samples: int
    duration_s: float
    transforms: tuple[dict[str, Any], ...]

    def channel(self, wanted: list[int], place: str) -> int:
        """The first of the channels that are asked for; a microphone array is heard through one microphone."""
        if wanted[0] not in self.sources:
            there = ", ".join(map(str, sorted(self.sources)))
            raise InputError(f"{place}: channel {wanted[0]} is not in recording {shown(self.id)}, which has {there}.")
        return wanted[0]


def read_recording(row: Row, open_source: Callable[[Row], Path | str], place: str) -> Recording:
    """A recording; ``open_source`` says which file, or command, a source is, or refuses it."""
    sources: dict[int, tuple[Path | str, int]] = {}
    for source in row.children("sources"):
        where = open_source(source)
        for index, channel in enumerate(source.integers("channels", [0])):
            sources[channel] = where, index
    if not sources:
        raise row.wrong("the recording has no sources")
    transforms = tuple(_transform(transform) for transform in row.children("transforms"))
    name = row.text("id")
    if transforms and any(isinstance(where, str) for where, _ in sources.values()):
        raise row.wrong(f"recording {shown(name)} has transforms over a command", _AS_FILES)
    rate_hz, n_samples = row.number("sampling_rate"), row.number("num_samples", 0.0)
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise row.wrong(f"sampling_rate is {rate_hz:g} Hz and must be from {MIN_RATE_HZ} to {MAX_RATE_HZ}")
    return Recording(name, place, sources, int(rate_hz), int(n_samples), row.number("duration"), transforms)


def local_source(source: Row, folder: Path, options: Options) -> Path | str:
    """The file, or trusted command, of a source of a manifest in ``folder``; everything else is refused."""
    kind, name = source.values.get("type"), source.values.get("source")
    if kind == "memory":
        raise source.wrong("the recording is stored inside the manifest (memory)", _AS_FILES)
    if kind == "shar":
        raise source.wrong("the audio is in the tar files of a Shar folder", "import that folder")
    if kind == "url":
        raise source.wrong(f"the recording is at the address {shown(name)}", "download it and name the file")
    if kind not in ("file", "command"):
        raise source.wrong(f"a source of type {shown(kind)} is not read", "use sources of type file")
    name = source.text("source")
    if kind == "command" or name.startswith(("pipe:", "|")) or name.endswith("|"):
        require_trust(name, options, source.place)
        return name.removeprefix("pipe:").strip().strip("|").strip()
    return audio_file(name, folder, source.place)


def _transform(row: Row) -> dict[str, Any]:
    name = row.values.get("name")
    limits = TRANSFORMS.get(name) if isinstance(name, str) else None
    if limits is None:
        raise row.wrong(f"the transform {shown(name)} is none of {', '.join(TRANSFORMS)}", _AS_FILES)
    kwargs, known = row.child("kwargs"), {}
    if set(kwargs.values) != set(limits):
        raise row.wrong(f"the transform {name} must have {' and '.join(limits)} and nothing else")
    for key, (low, high) in limits.items():
        value = kwargs.number(key)
        if not low <= value <= high:
            raise row.wrong(f"{key} of the transform {name} is {value:g} and must be from {low} to {high}")
        known[key] = kwargs.values[key]
    return {"name": name, "kwargs": known}


def _transformed(recording: Recording, channel: int, start_s: float, duration_s: float, path: Path) -> None:
    """Write what lhotse loads: the transforms reach back into the recording, so each stretch is loaded by itself."""
    import soundfile

    try:
        from lhotse.audio import Recording as Loaded
        from lhotse.audio import audio_backend
    except ImportError:
        raise InputError(
            f"{recording.place}: the recording has transforms, which need lhotse; pip install 'metavox[data]'."
        ) from None
    where, index = recording.sources[channel]
    n_channels = 1 + max(i for file, i in recording.sources.values() if file == where)
    rebuilt = {
        "id": "recording",
        "sources": [{"type": "file", "channels": list(range(n_channels)), "source": str(where)}],
        "sampling_rate": recording.rate_hz,
        "num_samples": recording.n_samples,
        "duration": recording.duration_s,
        "transforms": list(recording.transforms),
    }
    try:
        with audio_backend("LibsndfileBackend"):
            audio = Loaded.from_dict(rebuilt).load_audio(channels=index, offset=start_s, duration=duration_s)
    except Exception as error:
        reason = shown(" ".join(str(error).split())[:90])
        raise InputError(f"{recording.place}: lhotse cannot apply the transforms ({reason}); {_AS_FILES}.") from None
    soundfile.write(str(path), audio[0], recording.rate_hz, subtype="FLOAT", format="WAV")


# -------------------------------------------------------------------------------------------------------------- cuts


def plan_recording(
    segment: Segment, recording: Recording, channel: int, start_s: float, duration_s: float
) -> tuple[Segment, Made | None]:
    """The segment with its place in the file, or with the way to make the audio."""
    where, index = recording.sources[channel]
    if recording.transforms:
        make = partial(_transformed, recording, channel, start_s, duration_s)
        return segment, Made((segment.id,), make)
    segment = replace(segment, channel=index, start_s=start_s, end_s=start_s + duration_s)
    if isinstance(where, str):
        return segment, Made((where,), partial(run_command, where, place=recording.place), command=where)
    return replace(segment, audio=where), None


def facts_of(supervision: Row, cut: Row) -> dict[str, Any]:
    """What a supervision says, by the names of a Segment; custom fields of the cut where it is silent."""
    own, of_cut = supervision.child("custom"), cut.child("custom")

    def custom(*keys: str) -> str | None:
        for row in (own, of_cut):
            for key in keys:
                value = row.values.get(key)
                if isinstance(value, str) and row.optional_text(key):
                    return row.optional_text(key)
                if key == "age" and isinstance(value, int) and not isinstance(value, bool):
                    return str(value)
        return None

    return {
        "text": supervision.optional_text("text") or "",
        "speaker": supervision.optional_text("speaker"),
        "lang": supervision.optional_text("language"),
        "gender": supervision.optional_text("gender") or custom("gender", "sex"),
        "accent": custom("accent", "dialect", "accents"),
        "age": custom("age"),
        "label": custom("label", "keyword"),
    }


@dataclass(frozen=True, slots=True)
class Stretch:
    """A segment of a cut, in seconds of its recording."""

    segment: Segment
    channels: list[int]
    start_s: float
    duration_s: float


def stretches(cut: Row, split: str | None) -> list[Stretch]:
    """One stretch for each supervision of a cut, or the whole of a cut that has none.

    As lhotse's ``trim_to_supervisions``: times are relative to the cut, and end with it. A supervision that leaves
    its cut by more than 0.1 s is refused, since its text is not all there.
    """
    kind = cut.values.get("type", "MonoCut")
    if kind not in ("MonoCut", "MultiCut", "Cut"):
        raise cut.wrong(f"a cut of type {shown(kind)} is mixed from several", _AS_FILES)
    name, start_s, length_s = cut.text("id"), cut.number("start"), cut.number("duration")
    channels = cut.integers("channel", [0])
    if start_s < 0 or length_s <= 0:
        raise cut.wrong(f"cut {shown(name)} starts at {start_s:g} s and lasts {length_s:g} s")
    supervisions = cut.children("supervisions")
    if not supervisions:
        facts = facts_of(Row(cut.place, {}), cut)
        return [Stretch(Segment(name, Path(), split=split, **facts), channels, start_s, length_s)]
    found = []
    for row in supervisions:
        begin_s, own_s = row.number("start"), row.number("duration")
        overhang_s = max(-begin_s, begin_s + own_s - length_s)
        own_name = row.text("id")
        if own_s <= 0:
            raise row.wrong(f"supervision {shown(own_name)} lasts {own_s:g} s and must last longer than 0")
        if overhang_s > MAX_OVERHANG_S:
            remedy = "cut windows with keep_excessive_supervisions=False"
            raise row.wrong(f"supervision {shown(own_name)} leaves its cut by {overhang_s:.3g} s", remedy)
        if begin_s < 0 or begin_s + own_s > length_s:
            begin_s, own_s = max(0.0, begin_s), min(begin_s + own_s, length_s) - max(0.0, begin_s)
        heard = [c for c in row.integers("channel", channels) if c in channels] or channels
        unique = name if len(supervisions) == 1 else f"{name}-{own_name}"
        segment = Segment(unique, Path(), split=split, **facts_of(row, cut))
        found.append(Stretch(segment, heard, start_s + begin_s, own_s))
    return found


# ------------------------------------------------------------------------------------------------------------ manifests


def manifests(path: Path) -> list[tuple[str | None, str, Path]]:
    """(split, kind, file) of what a file or folder holds; kind is cuts, recordings or supervisions.

    lhotse names parts ``corpus_recordings_train.jsonl.gz``: what follows the kind is the split.
    """
    if path.is_file():
        first = next(iter(read_rows(path)), None)
        if first is None:
            raise InputError(f"{printable(path.name)} has no rows; give a manifest that is not empty.")
        kind = "cuts" if "supervisions" in first.values or "recording" in first.values else ""
        kind = kind or ("recordings" if "sources" in first.values else "supervisions")
        return [(None, kind, path)]
    found = []
    for file in sorted(path.iterdir()):
        match = _PART.fullmatch(file.name.lower())
        if match and file.suffix.lower() in PICKLES:
            refuse_pickle(file)
        suffix = next((s for s in sorted(SUFFIXES, key=len, reverse=True) if file.name.lower().endswith(s)), None)
        if match and suffix:
            split = file.name[match.end("kind") : len(file.name) - len(suffix)].strip("_-. ")
            found.append((split or None, match["kind"], file))
    return found


def _prefix(file: Path) -> str | None:
    match = _PART.fullmatch(file.name.lower())
    return match["prefix"] if match else None


def is_lhotse(path: Path) -> bool:
    """Whether a path is a lhotse manifest, or a folder with cuts or recordings."""
    if path.is_file():
        if _PART.fullmatch(path.name.lower()):
            return path.name.lower().endswith((*SUFFIXES, *PICKLES))
        if not path.name.lower().endswith(SUFFIXES):
            return False
        try:
            first = next(iter(read_rows(path)), None)
        except InputError:
            return False
        return first is not None and bool({"recording", "sources", "supervisions"} & set(first.values))
    return path.is_dir() and any(kind != "supervisions" for _, kind, _ in manifests(path))


def read_cuts(path: Path, options: Options) -> Iterator[Segment]:
    """Segments of a lhotse manifest of cuts or of recordings, or of a folder of them with their supervisions.

    A folder with cuts is read from these alone. ``options.split`` keeps one part (``cuts_train.jsonl.gz``).

    Raises:
        InputError: a manifest that cannot be read, contradicts itself, or names what is not to be opened; nothing was
            run or decoded before all rows were read.
    """
    files = manifests(path)
    if any(kind == "cuts" for _, kind, _ in files):
        files = [item for item in files if item[1] == "cuts"]
    if not any(kind != "supervisions" for _, kind, _ in files):
        raise InputError(f"{printable(str(path))} has no lhotse cuts or recordings; name cuts.jsonl.gz or its folder.")
    if options.split is not None and path.is_dir():
        splits = sorted({split for split, _, _ in files if split})
        files = [item for item in files if item[0] == options.split]
        if not files:
            raise InputError(
                f"{printable(path.name)} has no split {shown(options.split)}; "
                f"choose one of {printable(', '.join(splits)) or '(none: leave --split out)'}."
            )
    plans: list[Iterator[tuple[Segment, Made | None]]] = []
    for split, kind, file in files:
        open_source = partial(local_source, folder=file.parent, options=options)
        if kind == "cuts":
            plans.append(_plan_cuts(file, split, open_source))
        elif kind == "recordings":
            described = [(part, other) for part, its_kind, other in files if its_kind == "supervisions"]
            beside = [other for part, other in described if part == split and _prefix(other) == _prefix(file)]
            plans.append(_plan_recordings(file, beside, split, open_source))
    return in_turn(list(chain.from_iterable(plans)), options)


def _plan_cuts(
    file: Path, split: str | None, open_source: Callable[[Row], Path | str]
) -> Iterator[tuple[Segment, Made | None]]:
    for row in read_rows(file):
        found = stretches(row, split)
        if not row.values.get("recording"):
            raise row.wrong(f"cut {shown(row.text('id'))} has no recording", "attach the recordings and save it again")
        recording = read_recording(row.child("recording"), open_source, row.place)
        for part in found:
            channel = recording.channel(part.channels, row.place)
            yield plan_recording(part.segment, recording, channel, part.start_s, part.duration_s)


def _plan_recordings(
    file: Path, supervision_files: list[Path], split: str | None, open_source: Callable[[Row], Path | str]
) -> Iterator[tuple[Segment, Made | None]]:
    by_recording: dict[str, list[Row]] = {}
    for supervision in chain.from_iterable(map(read_rows, supervision_files)):
        by_recording.setdefault(supervision.text("recording_id"), []).append(supervision)
    for row in read_rows(file):
        recording = read_recording(row, open_source, row.place)
        whole = {"id": recording.id, "start": 0, "duration": recording.duration_s, "channel": sorted(recording.sources)}
        supervisions = by_recording.pop(recording.id, [])
        if not supervisions and not supervision_files:
            (part,) = stretches(Row(row.place, whole), split)
            channel = recording.channel(part.channels, row.place)
            yield plan_recording(part.segment, recording, channel, part.start_s, part.duration_s)
        for supervision in supervisions:  # with none: what nobody described is no utterance, as in lhotse
            (part,) = stretches(Row(supervision.place, whole | {"supervisions": [supervision.values]}), split)
            segment = replace(part.segment, id=supervision.text("id"))
            channel = recording.channel(part.channels, supervision.place)
            yield plan_recording(segment, recording, channel, part.start_s, part.duration_s)
    if by_recording:
        name, rows = next(iter(by_recording.items()))
        raise rows[0].wrong(
            f"there is no recording {shown(name)} in {printable(file.name)}", "add it or the right file"
        )
