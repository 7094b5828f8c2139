"""The document of ELAN, an .eaf file, as plain values: read by expat, without declarations, entities or depth.

Reference: ELAN Annotation Format 3.0, Max Planck Institute for Psycholinguistics.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from ...contracts import InputError
from ..layouts import printable, shown
from .clips import read_text

MAX_DEPTH = 16
"""An .eaf file nests five deep."""


@dataclass(slots=True)
class Annotation:
    """One annotation: between two time slots, or referring to another annotation."""

    id: str
    tier: str
    begin: str | None = None
    """Id of a time slot; None for one that refers."""
    end: str | None = None
    parent: str | None = None
    """Id of the annotation that it refers to."""
    previous: str | None = None
    """Id of the one before it, of those that subdivide the same parent."""
    lang: str | None = None
    text: str = ""


@dataclass(slots=True)
class Tier:
    """One tier with its annotations in the order of the file."""

    id: str
    kind: str
    """Id of its linguistic type."""
    parent: str | None = None
    participant: str | None = None
    lang: str | None = None
    locale: str | None = None
    annotations: list[Annotation] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Media:
    """A recording that the document names."""

    url: str
    relative: str
    mime: str
    origin_s: float
    """Where in the recording the time of the document starts, in seconds."""


@dataclass(slots=True)
class Document:
    """Everything of an .eaf file that says who says what, and when."""

    name: str
    media: list[Media] = field(default_factory=list)
    slots: dict[str, float | None] = field(default_factory=dict)
    """Time slots in their order: id -> seconds, None for one that is not aligned."""
    tiers: dict[str, Tier] = field(default_factory=dict)
    constraints: dict[str, str] = field(default_factory=dict)
    """Linguistic type -> ``Symbolic_Subdivision`` and so on."""
    annotations: dict[str, Annotation] = field(default_factory=dict)

    def wrong(self, what: str, remedy: str = "open and save the file in ELAN") -> InputError:
        """The error for this document."""
        return InputError(f"{self.name}: {what}; {remedy}.")


def read_eaf(path: Path) -> Document:
    """Parse an .eaf file.

    Raises:
        InputError: no XML, another kind of XML, a DOCTYPE (which could hold entities that unfold to any size or name
            other files), elements nested too deeply, an id that comes twice, a time that is no number.
    """
    data = read_text(path)
    parser = _Parser(Document(printable(path.name)))
    xml = expat.ParserCreate()
    xml.StartElementHandler = parser.start
    xml.EndElementHandler = parser.end
    xml.CharacterDataHandler = parser.characters
    xml.StartDoctypeDeclHandler = parser.doctype
    xml.buffer_text = True
    document = parser.document
    try:
        xml.Parse(data, True)
    except expat.ExpatError as error:
        reason = expat.ErrorString(error.code)
        raise document.wrong(f"no well-formed XML in line {error.lineno} ({reason})", "restore the file") from None
    except (LookupError, ValueError) as error:  # an encoding that Python does not know; InputError is a ValueError
        if isinstance(error, InputError):
            raise
        raise document.wrong(f"its encoding cannot be read ({error})", "save it as UTF-8") from None
    return document


class _Parser:
    """Handlers of expat that fill a document."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self._depth = 0
        self._tier: Tier | None = None
        self._annotation: Annotation | None = None
        self._in_value = False

    def doctype(self, *_: object) -> None:
        raise self.document.wrong("it declares a DOCTYPE, as no .eaf file does", "remove the declaration")

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        self._depth += 1
        if self._depth == 1 and name != "ANNOTATION_DOCUMENT":
            raise self.document.wrong(f"it starts with <{shown(name)[1:-1]}>", "name an .eaf file of ELAN")
        if self._depth > MAX_DEPTH:
            raise self.document.wrong(f"its elements nest more than {MAX_DEPTH} deep", "restore the file")
        handler = _STARTS.get(name)
        if handler is not None:
            handler(self, attributes)

    def end(self, name: str) -> None:
        self._depth -= 1
        if name == "ANNOTATION_VALUE":
            self._in_value = False
        elif name == "TIER":
            self._tier = None
        elif name in ("ALIGNABLE_ANNOTATION", "REF_ANNOTATION"):
            self._annotation = None

    def characters(self, text: str) -> None:
        if self._in_value and self._annotation is not None:
            self._annotation.text += text

    def _needed(self, attributes: Mapping[str, str], key: str) -> str:
        if not (value := attributes.get(key, "").strip()):
            raise self.document.wrong(f"an element lacks its {key}")
        return value

    def _seconds(self, milliseconds: str, what: str) -> float:
        if not (milliseconds.isascii() and milliseconds.isdecimal() and len(milliseconds) < 16):
            raise self.document.wrong(f"{what} is {shown(milliseconds)} and must be whole milliseconds from 0 on")
        return int(milliseconds) / 1000

    def _media(self, attributes: Mapping[str, str]) -> None:
        origin_s = self._seconds(attributes.get("TIME_ORIGIN") or "0", "TIME_ORIGIN")
        keys = ("MEDIA_URL", "RELATIVE_MEDIA_URL", "MIME_TYPE")
        url, relative, mime = (attributes.get(key, "").strip() for key in keys)
        self.document.media.append(Media(url, relative, mime, origin_s))

    def _slot(self, attributes: Mapping[str, str]) -> None:
        slot, value = self._needed(attributes, "TIME_SLOT_ID"), attributes.get("TIME_VALUE")
        if slot in self.document.slots:
            raise self.document.wrong(f"the time slot {shown(slot)} comes twice")
        self.document.slots[slot] = None if value is None else self._seconds(value, f"TIME_VALUE of {shown(slot)}")

    def _start_tier(self, attributes: Mapping[str, str]) -> None:
        name = self._needed(attributes, "TIER_ID")
        if name in self.document.tiers:
            raise self.document.wrong(f"the tier {shown(name)} comes twice")
        keys = ("PARENT_REF", "PARTICIPANT", "LANG_REF", "DEFAULT_LOCALE")
        parent, participant, lang, locale = (attributes.get(key, "").strip() or None for key in keys)
        self._tier = Tier(name, attributes.get("LINGUISTIC_TYPE_REF", ""), parent, participant, lang, locale)
        self.document.tiers[name] = self._tier

    def _start_annotation(self, attributes: Mapping[str, str]) -> None:
        if self._tier is None:
            raise self.document.wrong("an annotation stands outside the tiers")
        name = self._needed(attributes, "ANNOTATION_ID")
        if name in self.document.annotations:
            raise self.document.wrong(f"the annotation {shown(name)} comes twice")
        found = Annotation(name, self._tier.id, lang=attributes.get("LANG_REF"))
        if "ANNOTATION_REF" in attributes:
            found.parent, found.previous = attributes["ANNOTATION_REF"], attributes.get("PREVIOUS_ANNOTATION") or None
        else:
            found.begin, found.end = (self._needed(attributes, f"TIME_SLOT_REF{i}") for i in (1, 2))
        self._annotation = self.document.annotations[name] = found
        self._tier.annotations.append(found)

    def _start_value(self, _: Mapping[str, str]) -> None:
        self._in_value = True

    def _type(self, attributes: Mapping[str, str]) -> None:
        name = self._needed(attributes, "LINGUISTIC_TYPE_ID")
        self.document.constraints[name] = attributes.get("CONSTRAINTS", "")


_STARTS = {
    "MEDIA_DESCRIPTOR": _Parser._media,
    "TIME_SLOT": _Parser._slot,
    "TIER": _Parser._start_tier,
    "ALIGNABLE_ANNOTATION": _Parser._start_annotation,
    "REF_ANNOTATION": _Parser._start_annotation,
    "ANNOTATION_VALUE": _Parser._start_value,
    "LINGUISTIC_TYPE": _Parser._type,
}
