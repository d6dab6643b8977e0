import shutil
import subprocess
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.processing import apply_modality_lut
from pydicom.sequence import Sequence
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSNearLossless,
    RLELossless,
)

from cxrtriage.data.film.dicom import read_dicom
from cxrtriage.data.film.source import read_film
from cxrtriage.errors import SourceError
from films import ENCODERS, film_pixels, make_dicom

NATIVE = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
LOSSY = {JPEGBaseline8Bit: 10, JPEGExtended12Bit: 20, JPEGLSNearLossless: 2, JPEG2000: 2, HTJ2K: 2}  # levels


def dcmtk(*command: object) -> None:
    """Run a DCMTK program, or skip the test where there is none."""
    if shutil.which(str(command[0])) is None:
        pytest.skip("DCMTK is not installed")
    subprocess.run([str(part) for part in command], check=True, capture_output=True)


def signed(pixels: np.ndarray, bits: int) -> np.ndarray:
    return (pixels.astype(int) - (1 << (bits - 1))).astype(f"i{pixels.dtype.itemsize}")


@pytest.mark.parametrize("syntax", [*NATIVE, *ENCODERS], ids=lambda syntax: syntax.name)
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_every_transfer_syntax_gives_the_levels_as_stored(tmp_path: Path, syntax: Any, bits: int) -> None:
    tolerance = LOSSY.get(syntax, 0)
    lossy_jpeg = syntax in (JPEGBaseline8Bit, JPEGExtended12Bit)
    if lossy_jpeg and bits == 16:
        pytest.skip("lossy JPEG has 8 or 12 bits")
    for pixels in (film_pixels(bits=bits), signed(film_pixels(bits=bits), bits)):
        if lossy_jpeg and pixels.dtype.kind == "i":
            continue  # it has no signed levels
        film = read_dicom(make_dicom(tmp_path / "a.dcm", pixels, bits, transfer_syntax=syntax))
        assert film.pixels.dtype == pixels.dtype
        assert film.bits == bits
        np.testing.assert_allclose(film.pixels.astype(int), pixels, atol=tolerance)
        assert film.pixels.flags.writeable


def test_what_a_lossy_codec_adds_to_white_stays_white(tmp_path: Path) -> None:
    """A film of 10 bits in a stream of 12, with an edge to white, which rings beyond it."""
    pixels = film_pixels(bits=10)
    pixels[20:40, 20:40] = 1023
    path = make_dicom(tmp_path / "a.dcm", pixels, 12, transfer_syntax=JPEGExtended12Bit, BitsStored=10, HighBit=9)
    assert imagecodecs.jpeg8_decode(imagecodecs.jpeg8_encode(pixels, level=95, bitspersample=12)).max() > 1023
    np.testing.assert_allclose(read_dicom(path).pixels.astype(int), pixels, atol=60)


@pytest.mark.parametrize(
    ("program", "options", "compression"),
    [
        ("dcmcjpeg", ["+eb"], "jpeg"),
        ("dcmcjpeg", ["+ee"], "jpeg"),
        *(("dcmcjpeg", ["+el", "+sv", str(predictor)], "jpeg-lossless") for predictor in range(1, 8)),
        ("dcmcjpeg", ["+e1"], "jpeg-lossless"),
        ("dcmcjpls", ["+el"], "jpeg-ls"),
        ("dcmcjpls", ["+en"], "jpeg-ls"),
        ("dcmcjpls", ["+el", "+fs", "1"], "jpeg-ls"),
        ("dcmcrle", [], "rle"),
        ("dcmconv", ["+ti"], "none"),
        ("dcmconv", ["+te"], "none"),
        ("dcmconv", ["+tb"], "none"),
        ("dcmconv", ["+td"], "deflate"),
    ],
)
def test_dcmtk_decodes_its_own_files_to_the_same_levels(
    tmp_path: Path, program: str, options: list[str], compression: str
) -> None:
    decoder = {"dcmcjpeg": "dcmdjpeg", "dcmcjpls": "dcmdjpls", "dcmcrle": "dcmdrle", "dcmconv": "dcmconv"}[program]
    for bits in (8, 12):
        if options == ["+eb"] and bits == 12:
            continue
        original = make_dicom(tmp_path / "a.dcm", film_pixels(bits=bits), bits)
        dcmtk(program, *options, original, tmp_path / "b.dcm")
        dcmtk(decoder, "+te", tmp_path / "b.dcm", tmp_path / "c.dcm")
        film = read_dicom(tmp_path / "b.dcm")
        expected = pydicom.dcmread(tmp_path / "c.dcm").pixel_array
        # the inverse DCT may round differently, by one level
        np.testing.assert_allclose(film.pixels.astype(int), expected, atol=1 if compression == "jpeg" else 0)
        assert film.provenance["compression"] == compression


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEG2000, JPEGLosslessSV1, JPEGLSNearLossless, RLELossless])
def test_pydicom_decodes_the_same_levels(tmp_path: Path, syntax: str) -> None:
    for pixels in (film_pixels(bits=16), signed(film_pixels(bits=16), 16)):
        path = make_dicom(tmp_path / "a.dcm", pixels, 16, transfer_syntax=syntax)
        np.testing.assert_array_equal(read_dicom(path).pixels, pydicom.dcmread(path).pixel_array)


def test_big_endian_words_of_8_bit_pixels_are_put_right(tmp_path: Path) -> None:
    for width in (80, 81):
        pixels = film_pixels(height=33, width=width, bits=8)
        make_dicom(tmp_path / "a.dcm", pixels, 8)
        dataset = pydicom.dcmread(tmp_path / "a.dcm")
        dataset["PixelData"].VR = "OW"
        dataset.save_as(tmp_path / "a.dcm")
        dcmtk("dcmconv", "+tb", tmp_path / "a.dcm", tmp_path / "b.dcm")
        np.testing.assert_array_equal(read_dicom(tmp_path / "b.dcm").pixels, pixels)


@pytest.mark.parametrize("slope", [None, 2, -1])
@pytest.mark.parametrize("shape", [None, "IDENTITY", "INVERSE"])
@pytest.mark.parametrize("photometric_interpretation", ["MONOCHROME1", "MONOCHROME2"])
def test_polarity_is_that_of_dcmtks_picture(
    tmp_path: Path, photometric_interpretation: str, shape: str | None, slope: int | None
) -> None:
    ramp = np.tile(np.linspace(0, 4095, 64).astype(np.uint16), (64, 1))
    tags: dict[str, Any] = {} if shape is None else {"PresentationLUTShape": shape}
    if slope is not None:
        tags |= {"RescaleSlope": slope, "RescaleIntercept": 4095, "RescaleType": "US"}
    path = make_dicom(tmp_path / "a.dcm", ramp, photometric_interpretation=photometric_interpretation, **tags)
    film = read_dicom(path)
    assert film.polarity_inverted == (film.pixels[0, 0] > film.pixels[0, -1])
    np.testing.assert_array_equal(film.pixels, 4095 - ramp if film.polarity_inverted else ramp)
    if (photometric_interpretation, shape) == ("MONOCHROME1", "IDENTITY"):
        # the two contradict each other; DCMTK believes the second, real devices mean the first
        assert film.polarity_inverted == (slope != -1)
        return
    dcmtk("dcm2pnm", "+Wm", path, tmp_path / "a.pgm")
    with Image.open(tmp_path / "a.pgm") as image:
        picture = np.asarray(image).astype(int)
    assert film.polarity_inverted == bool(picture[0, -1] < picture[0, 0]), "a falling ramp was turned round"


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, JPEGLosslessSV1, JPEG2000Lossless, RLELossless])
def test_monochrome1_reads_like_its_inverted_monochrome2(tmp_path: Path, syntax: str) -> None:
    for bits in (8, 12, 16):
        pixels = film_pixels(bits=bits)
        for stored, turned in (
            (pixels, (1 << bits) - 1 - pixels.astype(int)),
            (signed(pixels, bits), -1 - signed(pixels, bits).astype(int)),
        ):
            path = make_dicom(tmp_path / "a.dcm", stored, bits, "MONOCHROME1", transfer_syntax=syntax)
            film = read_dicom(path)
            assert film.polarity_inverted
            np.testing.assert_array_equal(film.pixels, turned)


def test_bits_above_and_below_the_stored_ones_are_dropped(tmp_path: Path) -> None:
    pixels = film_pixels(bits=12)
    overlay = np.random.default_rng(0).integers(0, 16, pixels.shape).astype(np.uint16)
    for syntax in (ExplicitVRLittleEndian, RLELossless):
        path = make_dicom(tmp_path / "a.dcm", pixels | overlay << 12, 12, transfer_syntax=syntax)
        np.testing.assert_array_equal(read_dicom(path).pixels, pixels)
        path = make_dicom(tmp_path / "a.dcm", pixels << 4 | overlay, 12, HighBit=15, transfer_syntax=syntax)
        np.testing.assert_array_equal(read_dicom(path).pixels, pixels)
        stored = (signed(pixels, 12).view(np.uint16) & 0xFFF | overlay << 12).view(np.int16)
        path = make_dicom(tmp_path / "a.dcm", stored, 12, transfer_syntax=syntax)
        np.testing.assert_array_equal(read_dicom(path).pixels, signed(pixels, 12))
    path = make_dicom(tmp_path / "a.dcm", pixels, 12, HighBit=3)  # contradicts Bits Stored
    np.testing.assert_array_equal(read_dicom(path).pixels, pixels)


@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_a_modality_lut_is_applied(tmp_path: Path, syntax: str, bits: int) -> None:
    table = ((2**bits - 1) * np.exp(-np.arange(3000) / 1500)).astype(np.uint16)  # film densities: not linear
    for pixels, first in ((film_pixels(bits=12), 500), (signed(film_pixels(bits=12), 12), -1500)):
        lut = Dataset()
        lut.LUTDescriptor = [len(table), first % 65536, bits]
        lut.ModalityLUTType = "OD"
        lut.LUTData = table.tobytes()
        lut["LUTDescriptor"].VR, lut["LUTData"].VR = "US", "OW"
        path = make_dicom(tmp_path / "a.dcm", pixels, transfer_syntax=syntax, ModalityLUTSequence=Sequence([lut]))
        film = read_dicom(path)
        assert film.bits == bits
        np.testing.assert_array_equal(film.pixels, table[(pixels.astype(int) - first).clip(0, len(table) - 1)])
        if bits == 16 and first > 0:  # pydicom takes no other
            dataset = pydicom.dcmread(path)
            np.testing.assert_array_equal(film.pixels, apply_modality_lut(dataset.pixel_array, dataset))
        path = make_dicom(tmp_path / "b.dcm", pixels, 12, "MONOCHROME1", syntax, ModalityLUTSequence=Sequence([lut]))
        np.testing.assert_array_equal(read_dicom(path).pixels, 2**bits - 1 - film.pixels)


@pytest.mark.parametrize("photometric_interpretation", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_in_either_polarity(tmp_path: Path, photometric_interpretation: str) -> None:
    pixels = film_pixels(bits=12) // 2 + 500
    for values, padding in ((pixels, 0), (pixels, 4095), (signed(pixels, 12), -2000)):
        values[:, :5] = padding
        path = make_dicom(tmp_path / "a.dcm", values, 12, photometric_interpretation, PixelPaddingValue=padding)
        film = read_dicom(path)
        black = 0 if values.dtype.kind == "u" else -2048
        assert (film.pixels[:, :5] == black).all()
        assert (film.pixels[:, 5:] > black).all()
    values = pixels.copy()
    values[:, :5], values[:, 5:9] = 4090, 4095
    path = make_dicom(tmp_path / "a.dcm", values, PixelPaddingValue=4095, PixelPaddingRangeLimit=4090)
    film = read_dicom(path)
    assert (film.pixels[:, :9] == 0).all()
    np.testing.assert_array_equal(film.pixels[:, 9:], values[:, 9:])


def test_provenance_has_the_facts_and_no_identity(tmp_path: Path) -> None:
    path = make_dicom(tmp_path / "a.dcm", film_pixels(), PixelSpacing=[0.2, 0.3])
    film = read_film(path)
    assert film.view_position == "PA"
    assert film.pixel_spacing_mm == (0.2, 0.3)
    assert film.provenance == {
        "path": str(path),
        "file_bytes": path.stat().st_size,
        "format": "dicom",
        "compression": "none",
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.1.1",
        "sop_instance_uid": "1.2.826.0.1.3680043.8.498.1",
        "study_instance_uid": "1.2.826.0.1.3680043.8.498.2",
        "series_instance_uid": "1.2.826.0.1.3680043.8.498.3",
        "modality": "DX",
        "body_part": "CHEST",
        "presentation_intent": "FOR PRESENTATION",
        "patient_sex": "F",
        "patient_age_years": 54.0,
    }
    bare = {
        "PatientAge": "",
        "PatientSex": "",
        "ViewPosition": "",
        "ImagerPixelSpacing": None,
        "BodyPartExamined": None,
    }
    film = read_dicom(make_dicom(tmp_path / "b.dcm", film_pixels(), **bare))
    assert film.view_position is None
    assert film.pixel_spacing_mm is None
    assert {"patient_age_years", "patient_sex", "body_part"} & set(film.provenance) == set()


@pytest.mark.parametrize(
    ("age", "years"), [("054Y", 54), ("018M", 1.5), ("026W", 0.498), ("010D", 0.0274), ("54", None), ("999Y", None)]
)
def test_an_age_becomes_years(tmp_path: Path, age: str, years: float | None) -> None:
    with pytest.warns() if age == "54" else pytest.MonkeyPatch.context():  # pydicom warns as it writes
        path = make_dicom(tmp_path / "a.dcm", film_pixels(), PatientAge=age)
    found = read_film(path).provenance.get("patient_age_years")
    assert found == (None if years is None else pytest.approx(years, abs=1e-3))


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_bare_data_set_is_recognised_and_read(tmp_path: Path, syntax: str) -> None:
    pixels = film_pixels()
    path = make_dicom(tmp_path / "a", pixels, transfer_syntax=syntax, preamble=False)
    np.testing.assert_array_equal(read_film(path).pixels, pixels)
    path = make_dicom(tmp_path / "b", pixels)
    whole = path.read_bytes()
    path.write_bytes(whole[132:])  # file meta information without its preamble
    np.testing.assert_array_equal(read_film(path).pixels, pixels)


def test_a_bare_compressed_data_set_is_read_although_nothing_names_its_codec(tmp_path: Path) -> None:
    pixels = film_pixels()
    for syntax in (JPEGLosslessSV1, JPEG2000Lossless, RLELossless):
        path = make_dicom(tmp_path / "a", pixels, transfer_syntax=syntax, preamble=False)
        np.testing.assert_array_equal(read_film(path).pixels, pixels)


def test_a_frame_in_several_fragments_is_put_together(tmp_path: Path) -> None:
    pixels = film_pixels()
    path = make_dicom(tmp_path / "a.dcm", pixels, transfer_syntax=JPEGLosslessSV1)
    dataset = pydicom.dcmread(path)
    frame = ENCODERS[JPEGLosslessSV1](pixels, 12)
    for has_table in (False, True):
        dataset.PixelData = encapsulate([frame], fragments_per_frame=5, has_bot=has_table)
        dataset.save_as(path)
        np.testing.assert_array_equal(read_dicom(path).pixels, pixels)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless, JPEG2000Lossless, JPEGBaseline8Bit])
def test_colours_are_taken_only_if_they_are_equal(tmp_path: Path, syntax: str) -> None:
    grey = film_pixels(bits=8)
    rgb = np.stack([grey] * 3, axis=-1)
    interpretation = "YBR_FULL_422" if syntax == JPEGBaseline8Bit else "RGB"
    film = read_dicom(make_dicom(tmp_path / "a.dcm", rgb, 8, interpretation, syntax))
    np.testing.assert_allclose(film.pixels.astype(int), grey, atol=LOSSY.get(syntax, 0))
    if syntax == ExplicitVRLittleEndian:
        planes = np.moveaxis(rgb, -1, 0).tobytes()
        path = make_dicom(tmp_path / "b.dcm", rgb, 8, "RGB", PlanarConfiguration=1, PixelData=planes)
        np.testing.assert_array_equal(read_dicom(path).pixels, grey)
    rgb[..., 0] = 255 - grey
    with pytest.raises(SourceError, match=r"differ by up to \d+ levels \(colour\)"):
        read_dicom(make_dicom(tmp_path / "c.dcm", rgb, 8, interpretation, syntax))


@pytest.mark.parametrize(
    ("tags", "finding"),
    [
        ({"NumberOfFrames": 3}, "it holds 3 frames, expected a single film"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "Photometric Interpretation 'PALETTE COLOR', expected 1 of"),
        ({"PhotometricInterpretation": None}, "Photometric Interpretation '', expected 1 of"),
        ({"SamplesPerPixel": 4}, "it has 4 samples a pixel"),
        ({"BitsAllocated": 32}, "12 of 32 bits"),
        ({"BitsStored": 1}, "1 of 16 bits"),
        ({"Rows": 60_000, "Columns": 60_000}, "60000 x 60000 pixels"),
        ({"Rows": 1}, "80 x 1 pixels"),
        ({"Rows": 97}, "cut short: its pixels need 15520 bytes, 15360 are there"),
        ({"PixelData": None}, r"it has no Pixel Data \(7FE0,0010\)"),
        (
            {"Rows": None, "SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.11"},
            r"it is a DICOM Basic Text SR Storage without image \(Rows missing\)",
        ),
    ],
)
def test_what_is_no_single_grey_film_is_named(tmp_path: Path, tags: dict[str, Any], finding: str) -> None:
    with pytest.raises(SourceError, match=finding):
        read_film(make_dicom(tmp_path / "a.dcm", film_pixels(), **tags))


@pytest.mark.parametrize("syntax", [JPEGLosslessSV1, JPEG2000Lossless, RLELossless])
def test_a_header_that_contradicts_its_image_data_is_refused(tmp_path: Path, syntax: str) -> None:
    for tags in ({"Rows": 90}, {"Columns": 90}, {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}):
        with pytest.raises(SourceError, match="Export or copy it again"):
            read_film(make_dicom(tmp_path / "a.dcm", film_pixels(), transfer_syntax=syntax, **tags))


@pytest.mark.parametrize("syntax", [*NATIVE, *ENCODERS], ids=lambda syntax: syntax.name)
def test_every_cut_is_noticed(tmp_path: Path, syntax: str) -> None:
    whole = make_dicom(tmp_path / "a.dcm", film_pixels(), transfer_syntax=syntax).read_bytes()
    # the last 10 bytes are padding and the item that ends the sequence of fragments
    for length in (*range(0, len(whole) - 10, len(whole) // 19), len(whole) - 11):
        (tmp_path / "cut.dcm").write_bytes(whole[:length])
        with pytest.raises(SourceError):
            read_film(tmp_path / "cut.dcm")


def test_a_deflated_bomb_is_not_unpacked_beyond_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_dicom(tmp_path / "a.dcm", film_pixels(), transfer_syntax=DeflatedExplicitVRLittleEndian)
    monkeypatch.setattr("cxrtriage.data.film.dicom.MAX_INFLATED_BYTES", 10_000)  # its pixels alone have 15,360
    with pytest.raises(SourceError, match="deflated data set is cut short or larger"):
        read_film(path)


def test_what_pydicom_warns_of_reaches_nobody(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = make_dicom(tmp_path / "a.dcm", film_pixels())
    path.write_bytes(path.read_bytes().replace(b"3680043.8.498.2", b"3680043.8.x98.2"))  # no valid UID
    assert "x98" in read_film(path).provenance["study_instance_uid"]
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""
