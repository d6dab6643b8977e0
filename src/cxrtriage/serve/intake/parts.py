"""A multipart body in, piece by piece as it arrives; files on the disk out, one a part; `web.stow` takes them on.

The boundaries are found by python-multipart, whose parser does not care whether a body is multipart/form-data,
for which it was written, or multipart/related (RFC 2387) as in DICOMweb. Text before the first boundary,
which RFC 2046 allows and no DICOMweb client is known to send, is refused by it.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from io import BufferedWriter
from pathlib import Path

from python_multipart.multipart import MultipartParser


@dataclass(slots=True)
class Part:
    """A part on the disk.

    Parameters
    ----------
    path : the caller removes it
    content_type : as its header says, lower case, without parameters; "" if it does not
    too_large, no_room : why only its beginning is there
    """

    path: Path
    content_type: str = ""
    too_large: bool = False
    no_room: bool = False


class PartFiles:
    """Splits a body into files.

    Parameters
    ----------
    boundary : from the Content-Type
    folder : where to put the files
    max_bytes : what goes beyond it in a part is dropped
    has_room : asked before each write; while it says no, what comes is dropped

    Attributes
    ----------
    finished : bool
        Whether the last boundary has come.
    """

    def __init__(self, boundary: bytes, folder: Path, max_bytes: int, has_room: Callable[[], bool]) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self.has_room = has_room
        self.finished = False
        self._whole: list[Part] = []
        self._returned: list[Part] = []
        self._part: Part | None = None
        self._file: BufferedWriter | None = None
        self._field = self._value = b""
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._add_field,
                "on_header_value": self._add_value,
                "on_header_end": self._end_header,
                "on_part_data": self._write,
                "on_part_end": self._end,
                "on_end": self._finish,
            },
        )

    def feed(self, chunk: bytes) -> list[Part]:
        """Take the next piece of the body; return the parts that it completes.

        Raises
        ------
        python_multipart.exceptions.MultipartParseError
            If the body is not made of parts as announced.
        """
        self._parser.write(chunk)
        self._returned, self._whole = self._whole, []
        return self._returned

    def close(self) -> None:
        """Remove what is not complete, or was not taken on."""
        if self._file is not None:
            self._file.close()
        for part in [*self._returned, *self._whole, *([self._part] if self._part else [])]:
            part.path.unlink(missing_ok=True)

    def _begin(self) -> None:
        self._part = Part(self.folder / f"{secrets.token_hex(8)}.dcm")
        self._file = self._part.path.open("wb")

    def _add_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._part is not None and self._field.lower() == b"content-type":
            self._part.content_type = self._value.split(b";")[0].strip().lower().decode("latin-1")
        self._field = self._value = b""

    def _write(self, data: bytes, start: int, end: int) -> None:
        if self._part is None or self._file is None:
            return
        self._part.too_large |= self._file.tell() + end - start > self.max_bytes
        self._part.no_room |= not self.has_room()
        if not (self._part.too_large or self._part.no_room):
            self._file.write(data[start:end])

    def _end(self) -> None:
        if self._part is not None and self._file is not None:
            self._file.close()
            self._whole.append(self._part)
        self._part = self._file = None

    def _finish(self) -> None:
        self.finished = True
