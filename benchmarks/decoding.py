"""How long compressed 3000 x 3000 16-bit films take to decode, by every decoder among the project's libraries.

The films are phantoms. Decoders take turns on the same bytes in memory, in one thread, and each result is compared with
the film to the bit. Below: what `read_film` takes, which share of preparing a film that is, and what a second process
is worth.
"""

import statistics
import tempfile
import time
import zlib
from collections.abc import Callable
from copy import deepcopy
from io import BytesIO
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import tifffile
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels import get_decoder
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from benchmarks import Figures, race, ratio
from benchmarks.prepare import exhaust, with_cxrtriage
from cxrtriage.config import Recipe
from cxrtriage.data.film.source import read_film
from cxrtriage.data.phantom import make_phantoms
from cxrtriage.data.prepared.prepare import prepare_film
from cxrtriage.data.prepared.workers import Workers

SIDE = 3000  # pixels
FILMS = 2
REPEATS = 3
SLOW = ("DICOM, JPEG-LS", "DICOM, JPEG 2000 lossless")  # seconds a film: one turn
SECONDS_A_TURN = 1.5  # of one process, in the race against two
PREAMBLE_BYTES = 128 + 4 + 12  # of a DICOM file, with the element that holds the length of the meta information
READ, PREPARED = "read_film (the product)", "read_film and prepare_film"
RECIPE = Recipe()
TIFF = {"TIFF, uncompressed": None, "TIFF, LZW": "lzw", "TIFF, deflate": "zlib", "TIFF, PackBits": "packbits"}
DICOM = {
    "DICOM, uncompressed": ExplicitVRLittleEndian,
    "DICOM, deflated": DeflatedExplicitVRLittleEndian,
    "DICOM, RLE": RLELossless,
    "DICOM, JPEG-LS": JPEGLSLossless,
    "DICOM, JPEG lossless (process 14)": JPEGLosslessSV1,
    "DICOM, JPEG 2000 lossless": JPEG2000Lossless,
}
Decoder = Callable[[bytes], np.ndarray]


def measure() -> Figures:
    figures = Figures(
        title=f"Decoding {SIDE} x {SIDE} 16-bit phantoms, one thread",
        columns=("", "ms", "fastest to slowest turn", "times the fastest decoder"),
        rows=[],
    )
    with tempfile.TemporaryDirectory() as folder:
        make_phantoms(Path(folder) / "tiff", FILMS, SIDE)
        make_phantoms(Path(folder) / "dicom", FILMS, SIDE, format="dicom")
        paths = compressed_films(Path(folder))
        for name, films in paths.items():
            add_decoders(figures, name, films)
        gains = {name: of_two_processes(films) for name, films in paths.items()}
    for name, gain in gains.items():
        figures.raw[f"{name}, two processes against one"] = gain
    worst = min(gains, key=lambda name: statistics.median(gains[name]))
    figures.notes.append(
        "prepared films a second by two processes, times one process (goal: at least 1.8): "
        + "; ".join(f"{name} {statistics.median(gain):.2f}" for name, gain in gains.items())
        + f"; least: {worst}"
    )
    return figures


def compressed_films(folder: Path) -> dict[str, list[Path]]:
    """Write every film in every compression; return the paths by its name."""
    paths: dict[str, list[Path]] = {name: [] for name in (*TIFF, *DICOM)}
    for number, path in enumerate(sorted((folder / "tiff" / "images").iterdir())):
        film = tifffile.imread(path)
        for name, compression in TIFF.items():
            paths[name].append(folder / f"{number}_{compression}.tif")
            strips = {} if compression is None else {"rowsperstrip": 16}
            tifffile.imwrite(paths[name][-1], film, compression=compression, **strips)
    for number, path in enumerate(sorted((folder / "dicom" / "images").iterdir())):
        for name, syntax in DICOM.items():
            header = dcmread(path)
            if syntax.is_encapsulated:
                header.PixelData = encapsulate([encoded(header, syntax)])
                header["PixelData"].VR = "OB"
            header.file_meta.TransferSyntaxUID = syntax
            paths[name].append(folder / f"{number}_{syntax}.dcm")
            header.save_as(paths[name][-1], enforce_file_format=True)
    return paths


def encoded(header: Dataset, syntax: str) -> bytes:
    """Compress the film of an uncompressed object for a transfer syntax."""
    film = header.pixel_array
    if syntax == RLELossless:
        planes = deepcopy(header)
        planes.compress(RLELossless, encoding_plugin="pydicom")
        return get_frame(planes.PixelData, 0, number_of_frames=1)
    if syntax == JPEGLSLossless:
        return imagecodecs.jpegls_encode(film)
    if syntax == JPEG2000Lossless:
        return imagecodecs.jpeg2k_encode(film, level=0, reversible=True, codecformat="j2k")
    return imagecodecs.ljpeg_encode(film, bitspersample=header.BitsStored)


def decoders(name: str, path: Path) -> dict[str, Decoder]:
    """Return what decodes a compression: from the bytes of the file or, of DICOM, of the frame or the data set."""
    if name in TIFF:
        return {
            "tifffile": lambda data: tifffile.imread(BytesIO(data), maxworkers=1),
            "imagecodecs (libtiff)": imagecodecs.tiff_decode,
            "OpenCV": lambda data: cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED),
            "Pillow": lambda data: np.asarray(Image.open(BytesIO(data))),
        }
    film = dcmread(path)
    syntax = film.file_meta.TransferSyntaxUID
    ways: dict[str, Decoder] = {
        DeflatedExplicitVRLittleEndian: {
            "zlib": lambda data: last_pixels(zlib.decompress(data, -zlib.MAX_WBITS)),
            "imagecodecs (libdeflate)": lambda data: last_pixels(
                imagecodecs.deflate_decode(data, raw=True, out=bytearray(2 * SIDE**2 + 50_000))
            ),
        },
        RLELossless: {
            "imagecodecs (dicomrle)": lambda data: last_pixels(
                imagecodecs.dicomrle_decode(data, np.dtype("<u2"), out=bytearray(2 * SIDE**2))
            ),
            "imagecodecs (packbits)": by_planes,
        },
        JPEGLSLossless: {"imagecodecs (CharLS)": imagecodecs.jpegls_decode},
        JPEG2000Lossless: {
            "imagecodecs (OpenJPEG)": imagecodecs.jpeg2k_decode,
            "OpenCV": lambda data: cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED),
        },
        JPEGLosslessSV1: {
            "imagecodecs (libjpeg-turbo)": imagecodecs.jpeg8_decode,
            "imagecodecs (liblj92)": imagecodecs.ljpeg_decode,
            "imagecodecs (jpegsof3)": imagecodecs.jpegsof3_decode,
        },
    }.get(syntax, {})
    if syntax.is_encapsulated:
        decoder = get_decoder(syntax)
        for plugin in decoder.available_plugins:  # these want the data set, whose frame is that of `data`
            ways[f"pydicom ({plugin})"] = lambda _, plugin=plugin: decoder.as_array(film, decoding_plugin=plugin)[0]
    return ways


def last_pixels(content: bytes | bytearray) -> np.ndarray:
    """Return the film at the end of an unpacked data set, or that is all there is."""
    return np.frombuffer(content, "<u2", offset=len(content) - 2 * SIDE**2).reshape(SIDE, SIDE)


def by_planes(frame: bytes) -> np.ndarray:
    """Decode DICOM RLE, PS3.5 G, as PackBits: the high bytes of all pixels, then the low ones."""
    first, second = np.frombuffer(frame[4:12], "<u4")
    pixels = np.empty((SIDE**2, 2), np.uint8)
    pixels[:, 1] = np.frombuffer(imagecodecs.packbits_decode(frame[first:second]), np.uint8)[: SIDE**2]
    pixels[:, 0] = np.frombuffer(imagecodecs.packbits_decode(frame[second:]), np.uint8)[: SIDE**2]
    return pixels.view("<u2").reshape(SIDE, SIDE)


def bytes_to_decode(name: str, path: Path) -> bytes:
    """Return what `decoders` take: a TIFF file, an encapsulated frame, or a deflated data set."""
    content = path.read_bytes()
    if name in TIFF:
        return content
    header = dcmread(path)
    if header.file_meta.TransferSyntaxUID.is_encapsulated:
        return get_frame(header.PixelData, 0, number_of_frames=1)
    return content[PREAMBLE_BYTES + int(header.file_meta.FileMetaInformationGroupLength) :]


def add_decoders(figures: Figures, name: str, paths: list[Path]) -> None:
    """Race the decoders of one compression, and reading and preparing such a film as the product does."""
    path = paths[0]
    data, truth = bytes_to_decode(name, path), read_film(path).pixels
    assert np.array_equal(dcmread(path).pixel_array if name in DICOM else tifffile.imread(path), truth), name
    ways = {}
    for decoder, decode in decoders(name, path).items():
        if np.array_equal(decode(data), truth):
            ways[decoder] = lambda decode=decode: len(decode(data)) // SIDE
        else:
            figures.notes.append(f"{name}: {decoder} is not exact to the bit and left out")
    product = {
        READ: lambda: len(read_film(path, mapped=True).pixels) // SIDE,
        PREPARED: lambda: len(prepare_film(read_film(path, mapped=True), RECIPE)) // RECIPE.size,
    }
    seconds = race(ways | product, 1 if name in SLOW else REPEATS)
    figures.rows.append((f"{name}, {path.stat().st_size / 1e6:.1f} MB:", "", "", ""))
    fastest = min(ways or product, key=lambda way: statistics.median(seconds[way]))
    for way, values in seconds.items():
        each = [f"{1000 * value:.1f}" for value in (statistics.median(values), min(values), max(values))]
        times = ratio(values, seconds[fastest]) if way in ways else ""
        figures.rows.append((f"  {way}", each[0], f"{each[1]} to {each[2]}", times))
        figures.raw[f"{name}, {way}, seconds a film"] = values
    share = statistics.median(r / p for r, p in zip(seconds[READ], seconds[PREPARED], strict=True))
    figures.notes.append(
        f"{name}: reading and decoding are {share:.0%} of preparing; fastest: {fastest}"
        + (f"; the product takes {ratio(seconds[READ], seconds[fastest])} times its time" if ways else "")
    )


def of_two_processes(paths: list[Path]) -> list[float]:
    """Return how many times the films a second of one process two prepare, turn by turn."""
    items = [str(path) for path in paths]
    start = time.perf_counter()
    with_cxrtriage(items[0])
    items *= max(
        2, round(SECONDS_A_TURN / (time.perf_counter() - start) / len(items))
    )  # even: two processes share them
    with Workers(1) as one, Workers(2) as two:
        seconds = race({"one": lambda: prepare_all(one, items), "two": lambda: prepare_all(two, items)}, repeats=2)
    return [alone / shared for alone, shared in zip(seconds["one"], seconds["two"], strict=True)]


def prepare_all(workers: Workers, paths: list[str]) -> int:
    exhaust(workers, with_cxrtriage, paths)
    return len(paths)
