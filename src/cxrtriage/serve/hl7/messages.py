"""HL7 v2 messages: bytes in, segments whose parts can be asked for out; and text out as HL7 has it.

`orders` and `reports` ask, `listener` and `results.oru` answer and write. Only the segments that the node uses
are taken apart, and only so many parts, so that no message takes more memory than it should. Values are never
part of an error: they may be a patient's name.

References
----------
HL7 Version 2.5.1, 2.5 (delimiters), 2.7 (escape sequences), 2.9.2 (answers), table 0211 (character sets).
"""

import logging
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import hl7  # type: ignore[import-untyped]

from cxrtriage.errors import SourceError

logging.getLogger("hl7").setLevel(logging.CRITICAL + 1)  # its warnings quote fields

USED = ("MSH", "PID", "PV1", "ORC", "TQ1", "OBR", "OBX", "IPC", "ZDS", "MSA", "ERR")
MOST_PARTS = 200_000  # each takes some hundred bytes when taken apart
CODECS = {
    "ASCII": "ascii", "ISO IR6": "ascii", "8859/15": "iso8859-15", "UNICODE": "utf-8", "UNICODE UTF-8": "utf-8",
    "UTF-8": "utf-8", "UTF8": "utf-8", "ISO IR14": "shift_jis",
    "ISO IR87": "iso2022_jp", "ISO IR159": "iso2022_jp_2", "GB 18030-2000": "gb18030",
    "KS X 1001": "euc_kr", "BIG-5": "big5",
    **{f"8859/{part}": f"iso8859-{part}" for part in range(1, 10)},
}  # fmt: skip
ESCAPES = {"|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\", "\\": "\\E\\"}
NULL = '""'  # what stood there is no more, where "" says nothing of it


class NotHl7Error(SourceError):
    """What came is no HL7 v2 message that this node understands."""


class Message:
    """A message taken apart.

    Parameters
    ----------
    content : as it came, without the frame

    Raises
    ------
    NotHl7Error
        If it is no HL7 v2 message, or is in an unknown character set.
    """

    def __init__(self, content: bytes) -> None:
        lines = [line for line in re.split("[\r\n]+", _decoded(content)) if line[:3] in USED]
        if not lines or not lines[0].startswith("MSH") or len(lines[0]) < 8:
            raise NotHl7Error("it does not begin with a segment MSH.")
        separators = lines[0][3:8]
        if len(set(separators)) < 5 or any(sign.isalnum() or sign.isspace() for sign in separators):
            raise NotHl7Error("its MSH-1 and MSH-2 do not name five different delimiters.")
        if sum(line.count(sign) for line in lines for sign in separators) > MOST_PARTS:
            raise NotHl7Error(f"it has more than {MOST_PARTS} fields and parts of fields.")
        self._separators = separators
        try:
            parsed = hl7.parse("\r".join(lines) + "\r")
        except Exception as error:  # it breaks as it likes on what is damaged
            raise NotHl7Error(f"it cannot be taken apart ({type(error).__name__}).") from None
        self.segments = [Segment(segment, separators) for segment in parsed]
        self.header = self.segments[0]

    @property
    def kind(self) -> tuple[str, str]:
        """Message type and trigger event, such as ("ORM", "O01")."""
        return self.header.value(9).upper(), self.header.value(9, 2).upper()

    @property
    def control_id(self) -> str:
        """MSH-10, which an answer repeats."""
        return self.header.value(10)

    def named(self, name: str) -> list["Segment"]:
        """Return the segments of a name."""
        return [segment for segment in self.segments if segment.name == name]


class Segment:
    """One segment of a message; asked for a part that it lacks, it has ""."""

    def __init__(self, parsed: Any, separators: str) -> None:
        self._parsed = parsed
        self._separators = separators
        self.name = str(parsed[0])

    def value(self, field: int, component: int = 1, repetition: int = 1, subcomponent: int = 1) -> str:
        """Return a part as text, without escapes and control characters; all numbers count from 1."""
        part = self._parsed[field] if field < len(self._parsed) else ""
        for number in (repetition, component, subcomponent):
            part = _part(part, number)
        return _unescaped(str(part), self._separators)

    def repetitions(self, field: int) -> range:
        """Return the numbers of a field's repetitions."""
        return range(1, len(self._parsed[field]) + 1) if field < len(self._parsed) else range(0)


def escaped(text: str) -> str:
    """Return text as it stands in a field, with the usual delimiters; control characters become spaces."""
    return "".join(ESCAPES.get(sign, sign if sign.isprintable() else " ") for sign in text)


def segment(name: str, fields: dict[int, str]) -> str:
    """Return a segment as text from its fields by number; MSH begins with its third."""
    first = 3 if name == "MSH" else 1
    start = "MSH|^~\\&" if name == "MSH" else name
    return "|".join([start, *(fields.get(number, "") for number in range(first, max(fields) + 1))])


def timestamp(time: datetime) -> str:
    """Return a time with its zone as HL7 has it (2.5.1, 2.A.22)."""
    return time.strftime("%Y%m%d%H%M%S%z")


def joined(segments: Sequence[str]) -> bytes:
    """Return segments as a message in UTF-8."""
    return ("\r".join(segments) + "\r").encode()


def _decoded(content: bytes) -> str:
    """Return a message as text.

    What MSH-18 names is tried; many senders name nothing, or ASCII, and mean Latin-1. A wrong letter in a
    name is no reason to miss an order, so what does not fit is replaced.
    """
    first = re.split(b"[\r\n]", content, maxsplit=1)[0]
    fields = first.split(first[3:4]) if len(first) > 3 else []
    named = fields[17].decode("ascii", "replace").split("~") if len(fields) > 17 else []
    # of several sets the first is where a text begins; "" is ASCII, which the sets with escapes contain
    names = [name.strip().upper() for name in named if name.strip().upper() not in ("", "ASCII", "ISO IR6")]
    codec = CODECS.get(names[0]) if names else "utf-8"
    if codec is None:
        raise NotHl7Error("its MSH-18 names a character set that is not in table 0211. Send UNICODE UTF-8.")
    try:
        return content.decode(codec)
    except UnicodeDecodeError:
        return content.decode(codec, "replace") if names else content.decode("latin-1")


def _part(content: Any, number: int) -> Any:
    if isinstance(content, str):
        return content if number == 1 else ""
    return content[number - 1] if number <= len(content) else ""


def _unescaped(text: str, separators: str) -> str:
    """Resolve the escapes of delimiters; what formats a text, or switches character sets, is left out."""
    field, component, repetition, escape, subcomponent = list(separators)
    signs = {"F": field, "S": component, "T": subcomponent, "R": repetition, "E": escape}
    sequence = re.escape(escape)
    plain = re.sub(f"{sequence}([^{sequence}]*){sequence}", lambda found: signs.get(found[1], " "), text)
    return "".join(sign for sign in plain if sign.isprintable()).strip()
