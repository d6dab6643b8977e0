"""Any film in: a path or URL comes in, a `SourceImage` goes out; `prepare`, `duplicates` and `predict` read it next.

What a file is, its first bytes tell and not its name: TIFF, PNG, JPEG or DICOM, read by the module of that
name. Whatever is wrong with a file, a caller sees one `SourceError`: what the file is called, what was found
and what to do.
"""

import os
import stat
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from cxrtriage.data.film.admission import MAX_FILE_BYTES, check_not_blank, damaged, refusal
from cxrtriage.data.remote.address import WEB, Address, is_url, protocol, shown
from cxrtriage.data.remote.fetch import Copy, at_hand, heads, objects_below
from cxrtriage.errors import SourceError
from cxrtriage.records import SourceImage

FILM_SUFFIXES = {".tif", ".tiff", ".png", ".jpg", ".jpeg", ".dcm", ".dicom"}

HEAD_BYTES = 512

# First bytes of what is no film but may be taken for one: what it is, and what to do
FOREIGN = {
    b"\x1f\x8b": ("it is packed with gzip", "Unpack it with gunzip"),
    b"PK\x03\x04": ("it is a ZIP archive", "Unpack it"),
    b"%PDF": ("it is a PDF document", "Export the film itself as DICOM, TIFF or PNG"),
    b"BM": ("it is a BMP picture, which is not read", "Save it as TIFF or PNG"),
    b"GIF8": ("it is a GIF picture, which is not read", "Save it as TIFF or PNG"),
    b"\x00\x00\x00\x0cjP  ": ("it is a JPEG 2000 file, which is read inside DICOM only", "Save it as TIFF or PNG"),
}


def read_film(film: Address | Copy, *, mapped: bool = False) -> SourceImage:
    """Read one chest film of any format.

    Parameters
    ----------
    film : a TIFF, PNG, JPEG or DICOM file, whatever its name ends in; or the URL of one, or its copy from `fetched`
    mapped : leave the pixels of an uncompressed TIFF in the file, as a read-only memory map, which saves a fifth
        of the time to prepare it. Only for processes that may die: they do if the disk fails while they look

    Returns
    -------
    SourceImage
        Pixels as stored, but min-is-white films turned round so that high is white.

    Raises
    ------
    SourceError
        If the file cannot be read or is no single grey film; says what was found and what to do.
    ConfigError
        If the store of a URL cannot be reached or gives no access.

    Examples
    --------
    >>> read_film(Path("no_such_film.tif"))
    Traceback (most recent call last):
    cxrtriage.errors.SourceError: cannot read no_such_film.tif: there is no such file. Check the path.
    """
    with at_hand(film) as path:
        source = _read_file(path, mapped)
    if isinstance(film, Copy) or is_url(film):
        source.provenance["path"] = shown(film.url if isinstance(film, Copy) else film)
    return source


def find_films(places: Iterable[Address]) -> list[Address]:
    """Find the films among files and folders, here or in a store.

    A file is taken as it is. In folders, and the folders in them, hidden files are skipped; a file is taken
    if its name ends like a film's, damaged or not, or else if its first bytes are a film's (DICOM files
    often have no extension). So tables, notes and DICOMDIR are skipped. The URL of a web server is that of a film.

    Returns
    -------
    list of paths and URLs, sorted by their parts, each once

    Raises
    ------
    SourceError
        If a path is missing or a folder cannot be listed.
    """
    films: dict[Address, Address] = {}
    for place in places:
        if is_url(place):
            films.update((film, film) for film in _films_in_store(place))
            continue
        path = Path(place)
        if not path.exists():
            raise refusal(path, "there is no such file or folder", "Check the path")
        for film in _films_below(path) if path.is_dir() else (path,):
            films.setdefault(film.absolute(), film)
    return sorted(films.values(), key=_order)


def sniff(head: bytes) -> str | None:
    """Return the format that a file's first bytes tell: "dicom", "tiff", "png", "jpeg", or None if no film's."""
    if head[128:132] == b"DICM":  # first, since a DICOM file may begin like a TIFF
        return "dicom"
    if head[:4] in (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+"):
        return "tiff"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    return "dicom" if _starts_like_a_data_set(head) else None


def _read_file(path: Path, mapped: bool) -> SourceImage:
    """Read a film of this machine."""
    head, file_bytes = _opening(path)
    film_format = sniff(head)
    if film_format is None:
        raise _not_a_film(path, head)
    if file_bytes > MAX_FILE_BYTES:
        finding = f"it has {file_bytes / 2**30:.1f} GiB, more than the {MAX_FILE_BYTES / 2**30:.0f} GiB a film may have"
        raise refusal(path, finding, "Export the film alone")
    try:
        with warnings.catch_warnings():
            # what the libraries find odd but can read is no news to the user
            warnings.simplefilter("ignore")
            film = _decode(path, film_format, mapped)
    except SourceError:
        raise
    except MemoryError as error:
        raise refusal(path, "there is not enough memory to decode it", "Read fewer films at once") from error
    except Exception as error:  # decoders of damaged files raise whatever they stumble over
        if isinstance(error, OSError) and error.errno:
            raise refusal(path, f"the system cannot read it ({error.strerror})", "Check the disk") from error
        detail = f"{type(error).__name__}: {error}".splitlines()[0][:120].rstrip(". :")
        finding = f"its {film_format.upper()} data are damaged or of a kind that is not read ({detail})"
        raise damaged(path, finding) from error
    check_not_blank(path, film.pixels)
    return replace(film, provenance={"path": str(path), "file_bytes": file_bytes, **film.provenance})


def _decode(path: Path, film_format: str, mapped: bool) -> SourceImage:
    """Read a film with the module of its format, imported only when needed: pydicom alone takes 0.3 s."""
    match film_format:
        case "tiff":
            from cxrtriage.data.film.tiff import read_tiff

            return read_tiff(path, mapped)
        case "png":
            from cxrtriage.data.film.png import read_png

            return read_png(path)
        case "jpeg":
            from cxrtriage.data.film.jpeg import read_jpeg

            return read_jpeg(path)
        case _:
            from cxrtriage.data.film.dicom import read_dicom

            return read_dicom(path)


def _opening(path: Path) -> tuple[bytes, int]:
    """Return the first bytes of a file and its size; refuse what is no readable file."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise refusal(path, "it is a folder, expected a file", "Name the films in it")
        if not stat.S_ISREG(status.st_mode):
            raise refusal(path, "it is a device or pipe, expected a file", "Copy it into a file")
        with path.open("rb") as file:
            return file.read(HEAD_BYTES), status.st_size
    except (FileNotFoundError, NotADirectoryError) as error:
        raise refusal(path, "there is no such file", "Check the path") from error
    except PermissionError as error:
        raise refusal(path, "permission is denied", "Give this user the right to read it") from error
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
        reason = getattr(error, "strerror", None) or error
        raise refusal(path, f"the system cannot open it ({reason})", "Check the path and the disk") from error


def _starts_like_a_data_set(head: bytes) -> bool:
    """Tell whether a file starts with a DICOM element of group 0002 or 0008, stored without preamble."""
    has_vr = head[4:6].isalpha() and head[4:6].isupper()
    if head[:2] in (b"\x02\x00", b"\x08\x00") and head[3:4] == b"\x00":
        length = int.from_bytes(head[4:8], "little")  # where the VR is implicit
        return has_vr or (len(head) > 8 and length < len(head))
    return head[:3] == b"\x00\x08\x00" and has_vr


def _not_a_film(path: Path, head: bytes) -> SourceError:
    """Say what a file is that is no film."""
    if not head:
        return refusal(path, "it is empty (0 bytes)", "Copy it again from its source")
    for start, (finding, remedy) in FOREIGN.items():
        if head.startswith(start):
            return refusal(path, finding, remedy)
    if all(byte >= 32 or byte in b"\t\n\r\f" for byte in head):
        return refusal(path, "it holds text, expected a TIFF, PNG, JPEG or DICOM film", "Leave it out")
    finding = f"it is neither TIFF, PNG, JPEG nor DICOM (it starts with the bytes {head[:4].hex(' ')})"
    return refusal(path, finding, "Export it again as one of them or leave it out")


def _films_below(folder: Path) -> Iterator[Path]:
    """Walk a folder, links to folders included, and yield its films."""

    def fail(error: OSError) -> None:
        raise refusal(Path(error.filename), f"the folder cannot be listed ({error.strerror})", "Check its permissions")

    seen = set()
    for root, folders, names in os.walk(folder, onerror=fail, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:  # a link that leads back up
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(root, name)
            if not name.startswith(".") and name != "DICOMDIR" and _is_film(path):
                yield path


def _is_film(path: Path) -> bool:
    """Tell by its name, else by its first bytes, whether a file in a folder is meant to be a film."""
    if _is_named_like_a_film(path.name):
        return True
    try:
        head, _ = _opening(path)
    except SourceError:
        return False
    return sniff(head) is not None


def _films_in_store(url: str) -> list[str]:
    """Return the URLs of the films below one, chosen as in a folder."""
    if protocol(url) in WEB:
        return [url]
    objects = objects_below(url)
    if objects == [url]:
        return objects
    if not objects:
        raise SourceError(f"cannot read {shown(url)}: there is no such object, and none below it. Check the path.")
    names = {found: found[len(url) :].strip("/").split("/") for found in objects}
    seen = [
        found
        for found, parts in names.items()
        if not any(part.startswith(".") for part in parts) and parts[-1] != "DICOMDIR"
    ]
    films = [found for found in seen if _is_named_like_a_film(names[found][-1])]
    others = [found for found in seen if not _is_named_like_a_film(names[found][-1])]
    return films + [found for found, head in zip(others, heads(others, HEAD_BYTES), strict=True) if sniff(head)]


def _is_named_like_a_film(name: str) -> bool:
    """Tell whether a film has such a name; damaged and packed ones too, so that the user hears of them."""
    return Path(name.lower().removesuffix(".gz")).suffix in FILM_SUFFIXES


def _order(place: Address) -> tuple[bool, list[str]]:
    """Sort by folder and name, whether in a folder or below a URL."""
    return isinstance(place, str), place.split("/") if isinstance(place, str) else list(place.parts)
