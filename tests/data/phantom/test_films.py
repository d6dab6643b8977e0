"""A set of phantoms: exact ratios, the same files however they are made, files that other programs accept."""

import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pydicom
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from cxrtriage.data.film.source import read_film
from cxrtriage.data.labels.manifest import read_manifest
from cxrtriage.data.labels.split import split_manifest
from cxrtriage.data.phantom import draw_phantom, make_phantoms
from cxrtriage.data.phantom.abnormalities import FINDINGS
from cxrtriage.data.phantom.plan import label_counts, plan_films
from cxrtriage.errors import ConfigError

SIZE = 64
EVEN = (1, 1, 1)


@pytest.fixture(scope="module")
def tiffs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve films as TIFF, a third of each label; the folder."""
    return make_phantoms(tmp_path_factory.mktemp("tiff"), 12, SIZE, ratio=EVEN, seed=3, workers=1).parent


@pytest.fixture(scope="module")
def dicoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same twelve as DICOM; the folder."""
    folder = tmp_path_factory.mktemp("dicom")
    return make_phantoms(folder, 12, SIZE, format="dicom", ratio=EVEN, seed=3, workers=1).parent


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def drawn(row: int, seed: int = 3) -> np.ndarray:
    """Return the pixels of a film of the fixtures, drawn directly."""
    plan = plan_films(12, EVEN, seed)[row]
    return draw_phantom(SIZE, plan.finding, plan.severity, seed=seed, patient=plan.patient, film=plan.film).pixels


@given(films=st.integers(1, 5000), ratio=st.tuples(*[st.integers(0, 100)] * 3).filter(any))
def test_labels_come_in_the_ratio_asked_for_to_the_film(films: int, ratio: tuple[int, int, int]) -> None:
    counts = label_counts(films, ratio)
    assert sum(counts) == films
    for count, part in zip(counts, ratio, strict=True):
        assert abs(count - films * part / sum(ratio)) < 1
        assert part > 0 or count == 0


@pytest.mark.parametrize(
    ("films", "ratio", "expected"),
    [
        (500, (60, 35, 5), (300, 175, 25)),
        (7, (60, 35, 5), (4, 3, 0)),
        (3, (0, 0, 1), (0, 0, 3)),
        (1, (1, 1, 1), (1, 0, 0)),
    ],
)
def test_ratios_by_hand(films: int, ratio: tuple[int, int, int], expected: tuple[int, int, int]) -> None:
    assert label_counts(films, ratio) == expected
    planned = Counter(0 if plan.finding == "normal" else 1 for plan in plan_films(films, ratio, seed=0))
    assert planned[0] == expected[0]


def test_patients_have_a_few_films_and_mostly_one_label() -> None:
    plans = pd.DataFrame(plan_films(3000, (60, 35, 5), seed=1))
    films = plans.groupby("patient").size()
    assert films.mean() == pytest.approx(1.3, abs=0.05)
    assert films.max() == 3
    several = plans[plans.patient.isin(films[films > 1].index)].groupby("patient")
    one_label = several.finding.apply(lambda findings: len(set(findings == "normal")) == 1)
    assert 0.8 < one_label.mean() < 1
    one_finding = several.finding.apply(lambda findings: len(set(findings) - {"normal"}) <= 1)
    assert one_finding.mean() > 0.95


def test_how_many_films_a_patient_has_does_not_tell_the_label() -> None:
    plans = pd.concat([pd.DataFrame(plan_films(1500, (1, 1, 0), seed)).assign(seed=seed) for seed in range(6)])
    films = plans.groupby(["seed", "patient"]).finding.transform("size")
    normal = (plans.finding == "normal").groupby(films).mean()
    assert normal.max() - normal.min() < 0.12  # 5400, 2500 and 1100 films: a spread of about 0.03


def test_patients_do_not_depend_on_how_many_films_are_asked_for() -> None:
    few, many = plan_films(20, (60, 35, 5), seed=2), plan_films(200, (60, 35, 5), seed=2)
    assert [plan.patient for plan in few] == [plan.patient for plan in many[:20]]
    # where the label is the same too, so is everything else
    pairs = [(a, b) for a, b in zip(few, many[:20], strict=True) if a.finding == b.finding == "normal"]
    assert len(pairs) > 3
    assert all(a == b for a, b in pairs)
    few, many = plan_films(20, (0, 1, 0), seed=2), plan_films(200, (0, 1, 0), seed=2)
    assert few == many[:20]


def test_every_severity_occurs() -> None:
    plans = pd.DataFrame(plan_films(3000, (0, 1, 0), seed=1))
    assert set(plans.finding) == set(FINDINGS)
    nodules = plans[plans.finding == "nodule"].severity
    assert nodules.min() < 0.15
    assert nodules.max() > 0.95


def test_the_table_is_a_manifest_and_can_be_split(tiffs: Path) -> None:
    manifest = read_manifest(tiffs / "labels.csv")
    assert manifest.label.value_counts().to_dict() == {0: 4, 1: 4, 2: 4}
    assert all(Path(path).is_file() for path in manifest.path)
    assert all(Path(path).is_file() for path in manifest.lung_mask)
    assert (manifest.lesion_mask.notna() == (manifest.label > 0)).all()
    assert set(manifest.source) == {"phantom"}
    assert manifest.groupby("patient_id").age.nunique().max() == 1
    split = split_manifest(manifest, test=0.3, validation=0.3, seed=0)
    assert split.groupby("patient_id").split.nunique().max() == 1
    assert set(split.split) == {"train", "validation", "test"}


def test_the_folder_can_be_moved(tiffs: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(tiffs, moved)
    manifest = read_manifest(moved / "labels.csv")
    assert all(path.startswith(str(moved)) for path in [*manifest.path, *manifest.lung_mask])


def test_tiff_holds_what_is_drawn(tiffs: Path) -> None:
    for row, path in enumerate(read_manifest(tiffs / "labels.csv").path):
        np.testing.assert_array_equal(tifffile.imread(path), drawn(row))
        np.testing.assert_array_equal(read_film(Path(path)).pixels, drawn(row))


def test_tiff_is_not_compressed_and_tells_its_spacing(tiffs: Path) -> None:
    with tifffile.TiffFile(next((tiffs / "images").iterdir())) as file:
        page = file.pages.first
        assert page.compression == 1
        assert page.dtype == np.uint16
        pixels, unit = page.tags["XResolution"].value
        assert 180 < SIZE * 10 * unit / pixels < 440  # the field in mm; a small child's is the least


def test_masks_are_black_and_white_pictures_of_the_films_size(tiffs: Path) -> None:
    manifest = read_manifest(tiffs / "labels.csv")
    for path in [*manifest.lung_mask, *manifest.lesion_mask.dropna()]:
        mask = cv2.imread(path, cv2.IMREAD_UNCHANGED)
        assert mask.shape == (SIZE, SIZE)
        assert mask.dtype == np.uint8
        assert set(np.unique(mask)) == {0, 255}


def test_every_file_has_the_same_size_whatever_its_label(tiffs: Path) -> None:
    assert len({path.stat().st_size for path in (tiffs / "images").iterdir()}) == 1


def test_several_workers_write_the_same_bytes(tiffs: Path, tmp_path: Path) -> None:
    make_phantoms(tmp_path, 12, SIZE, ratio=EVEN, seed=3, workers=2)
    assert contents(tmp_path) == contents(tiffs)


def test_an_interrupted_set_goes_on_where_it_was(tiffs: Path, tmp_path: Path) -> None:
    make_phantoms(tmp_path, 12, SIZE, ratio=EVEN, seed=3, workers=1)
    kept = tmp_path / "images" / "phantom_00001.tiff"
    written = kept.stat().st_mtime_ns
    (tmp_path / "labels.csv").unlink()
    (tmp_path / "images" / "phantom_00007.tiff").unlink()
    (tmp_path / "masks" / "phantom_00007_lung.png").write_bytes(b"half")
    make_phantoms(tmp_path, 12, SIZE, ratio=EVEN, seed=3, workers=1)
    assert kept.stat().st_mtime_ns == written
    assert contents(tmp_path) == contents(tiffs)


def test_another_order_does_not_go_on_with_a_set(tiffs: Path) -> None:
    with pytest.raises(
        ConfigError, match=r'holds other phantoms, .*"films": 12.*asked for were .*"films": 13.*Choose another folder'
    ):
        make_phantoms(tiffs, 13, SIZE, ratio=EVEN, seed=3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"films": 0}, "at least 1 film"),
        ({"size": 20}, "20 pixels"),
        ({"seed": -1}, "seed of 0 or more"),
        ({"format": "png"}, "tiff, dicom"),
        ({"ratio": (0, 0, 0)}, "0:0:0 .* one above 0"),
        ({"ratio": (2, -1, 1)}, "2:-1:1 .* no negative"),
        ({"ratio": (1, float("nan"), 1)}, "1:nan:1 .* no negative"),
    ],
)
def test_settings_out_of_range_are_refused_before_anything_is_written(
    settings: dict, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        make_phantoms(tmp_path / "out", **{"films": 1, **settings})
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"cannot write phantoms into .*file/out: .*another folder"):
        make_phantoms(tmp_path / "file" / "out", 1, SIZE)


def test_dicom_holds_what_is_drawn_in_either_polarity(dicoms: Path) -> None:
    polarities = Counter()
    for row, path in enumerate(read_manifest(dicoms / "labels.csv").path):
        file = pydicom.dcmread(path)
        stored, top = file.pixel_array, 2**file.BitsStored - 1
        polarities[file.PhotometricInterpretation] += 1
        inverted = file.PhotometricInterpretation == "MONOCHROME1"
        assert file.PresentationLUTShape == ("INVERSE" if inverted else "IDENTITY")
        np.testing.assert_array_equal(top - stored if inverted else stored, drawn(row))
        film = read_film(Path(path))
        assert film.polarity_inverted == inverted
        np.testing.assert_array_equal(film.pixels, drawn(row))
    assert set(polarities) == {"MONOCHROME1", "MONOCHROME2"}


def test_dicom_headers_agree_with_the_table(dicoms: Path) -> None:
    for row in read_manifest(dicoms / "labels.csv").itertuples():
        file = pydicom.dcmread(row.path)
        assert file.SOPClassUID == "1.2.840.10008.5.1.4.1.1.1.1"
        assert (file.Modality, file.BodyPartExamined, file.PresentationIntentType) == (
            "DX",
            "CHEST",
            "FOR PRESENTATION",
        )
        assert (file.ViewPosition, file.PatientSex, file.PatientID) == (row.view_position, row.sex, row.patient_id)
        assert file.PatientAge == f"{row.age:03.0f}Y"
        assert int(file.StudyDate[:4]) - int(file.PatientBirthDate[:4]) == row.age
        assert str(file.PatientName).startswith("PHANTOM^0")
        assert 180 < SIZE * file.ImagerPixelSpacing[0] < 440
    files = [pydicom.dcmread(path, stop_before_pixels=True) for path in (dicoms / "images").iterdir()]
    assert len({file.SOPInstanceUID for file in files}) == len({file.StudyInstanceUID for file in files}) == 12


def test_dicom_passes_the_validator(dicoms: Path) -> None:
    validator = Path(sys.executable).parent / "dciodvfy"
    for path in sorted((dicoms / "images").iterdir()):
        said = subprocess.run([validator, path], capture_output=True, text=True, check=False)
        assert "DXImageForPresentation" in said.stderr + said.stdout
        assert "Error" not in said.stderr + said.stdout, said.stderr


def test_the_header_of_a_film_is_the_same_whatever_is_wrong_with_it(tmp_path: Path) -> None:
    headers = []
    for name, ratio in (("well", (1, 0, 0)), ("ill", (0, 1, 0)), ("dying", (0, 0, 1))):
        make_phantoms(tmp_path / name, 3, SIZE, format="dicom", ratio=ratio, seed=5, workers=1)
        file = pydicom.dcmread(tmp_path / name / "images" / "phantom_00002.dcm", stop_before_pixels=True)
        for keyword in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "AccessionNumber"):
            delattr(file, keyword)  # these tell films apart
        headers.append(file)
    assert headers[0] == headers[1] == headers[2]
