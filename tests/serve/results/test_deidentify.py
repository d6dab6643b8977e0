"""De-identified copies: nothing of the patient is left, and the film is the same."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRBigEndian, JPEGLosslessSV1
from sqlalchemy import select
from typer.testing import CliRunner

from cxrtriage.cli import exporting
from cxrtriage.data.film.source import read_film
from cxrtriage.data.phantom.films import make_phantoms
from cxrtriage.errors import ConfigError, SourceError
from cxrtriage.serve.database import reading
from cxrtriage.serve.results.deidentify import KEY_BYTES, copy_study, deidentify, load_key
from cxrtriage.serve.tables import audit, instance, study
from films import film_pixels, make_dicom
from serve.peers import dcmtk
from serve.results.results import Home, errors_of

KEY = b"k" * KEY_BYTES
SECRETS = {  # a word that no copy may hold, in elements that devices really write
    "PatientName": "Secretname^Jane",
    "PatientID": "SECRET-4711",
    "PatientBirthDate": "19311109",
    "AccessionNumber": "SECRETACC",
    "StudyID": "SECRETID",
    "StudyDate": "20260413",
    "StudyTime": "113355",
    "AcquisitionDate": "20260413",
    "ContentDate": "20260413",
    "ReferringPhysicianName": "Secretdoctor",
    "InstitutionName": "Secret Hospital",
    "InstitutionAddress": "Secret Street",
    "StationName": "SECRETSTATION",
    "OperatorsName": "Secretoperator",
    "StudyDescription": "Secret study",
    "SeriesDescription": "Secret series",
    "ProtocolName": "Secret protocol",
    "PatientComments": "Secret comment",
    "ImageComments": "Secret comment",
    "OtherPatientIDs": "SECRETOTHER",
    "DeviceSerialNumber": "SECRETSERIAL",
    "RequestedProcedureDescription": "Secret procedure",
    "PatientAddress": "Secret Street",
    "Occupation": "secret agent",
    "AdmissionID": "SECRETADM",
}


def secret_film(path: Path, **tags: object) -> Path:
    film = make_dicom(path, film_pixels(64, 64), **{**SECRETS, **tags})  # type: ignore[arg-type]
    data = dcmread(film)
    data.private_block(0x0009, "SECRET MAKER", create=True).add_new(1, "LO", "Secret private")
    data.add_new(0x60003000, "OW", b"\0SECRETOVERLAY\0\0")
    data.add_new(0x60000010, "US", 64)
    data.AnatomicRegionSequence = [Dataset()]
    code = data.AnatomicRegionSequence[0]
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "43799004", "SCT", "Chest"
    code.private_block(0x0011, "SECRET MAKER", create=True).add_new(1, "LO", "Secret nested")
    item = Dataset()
    item.PatientName, item.ReferencedSOPInstanceUID = "Secretname^Nested", data.SOPInstanceUID
    data.ReferencedStudySequence = [item]
    data.preamble = b"SECRETPREAMBLE".ljust(128, b"\0")
    data.save_as(film)
    return film


def copied(path: Path, film: Path, key: bytes = KEY) -> Path:
    deidentify(dcmread(film), key).save_as(path, enforce_file_format=True)
    return path


def test_nothing_of_the_patient_is_left_in_the_bytes(tmp_path: Path) -> None:
    film = secret_film(tmp_path / "film.dcm")
    content = copied(tmp_path / "copy.dcm", film).read_bytes()
    before = film.read_bytes()
    source = dcmread(film)
    secrets = [b"SECRET", b"Secret", b"secret", b"20260413", b"113355", b"19311109", b"4711"]
    secrets += [source[name].value.encode() for name in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")]
    for secret in secrets:
        assert secret in before
        assert secret not in content, secret


@pytest.mark.parametrize("syntax", [None, JPEGLosslessSV1, ExplicitVRBigEndian])
def test_the_film_reads_the_same_and_keeps_what_a_model_asks_for(tmp_path: Path, syntax: str | None) -> None:
    film = secret_film(tmp_path / "film.dcm", **({"transfer_syntax": syntax} if syntax else {}))
    before, after = read_film(film), read_film(copied(tmp_path / "copy.dcm", film))
    np.testing.assert_array_equal(before.pixels, after.pixels)
    assert (before.view_position, before.pixel_spacing_mm) == (after.view_position, after.pixel_spacing_mm)
    for fact in ("patient_age_years", "patient_sex", "body_part", "presentation_intent", "compression"):
        assert before.provenance.get(fact) == after.provenance.get(fact), fact


def test_it_says_what_was_done_to_it(tmp_path: Path) -> None:
    made = dcmread(copied(tmp_path / "copy.dcm", secret_film(tmp_path / "film.dcm", PatientAge="093Y")))
    assert (made.PatientIdentityRemoved, made.LongitudinalTemporalInformationModified) == ("YES", "REMOVED")
    assert [item.CodeValue for item in made.DeidentificationMethodCodeSequence] == ["113100", "113108"]
    assert made.PatientAge == "090Y"
    assert made.AnatomicRegionSequence[0].CodeMeaning == "Chest"
    assert made.file_meta.MediaStorageSOPInstanceUID == made.SOPInstanceUID
    assert dcmtk("dcmdump", "-q", tmp_path / "copy.dcm").returncode == 0


def test_a_patient_has_one_number_under_a_key_and_another_under_another(tmp_path: Path) -> None:
    def patient(name: str, key: bytes = KEY, **tags: object) -> tuple[str, str]:
        made = deidentify(dcmread(secret_film(tmp_path / name, **tags)), key)
        return str(made.PatientID), str(made.StudyInstanceUID)

    first = patient("a")
    assert patient("b", SOPInstanceUID="1.2.3") == first
    assert patient("c", PatientID="other")[0] != first[0]
    assert patient("c", StudyInstanceUID="1.2.4") == (first[0], patient("c", StudyInstanceUID="1.2.4")[1])
    assert not set(patient("d", key=b"l" * KEY_BYTES)) & set(first)
    assert patient("e", PatientID="")[0] != patient("e", PatientID="", StudyInstanceUID="1.2.5")[0]


def test_a_copy_has_no_error_that_the_film_had_not(tmp_path: Path) -> None:
    make_phantoms(tmp_path, 2, 128, format="dicom", workers=1, seed=1)
    for number, film in enumerate(sorted((tmp_path / "images").iterdir())):
        assert set(errors_of(copied(tmp_path / f"{number}.dcm", film))) <= set(errors_of(film))


def test_the_key_is_made_once_and_is_its_owners_alone(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from cxrtriage.serve.results.deidentify import load_key\n"
        "print(load_key(Path(sys.argv[1])).hex())"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    keys = {process.communicate()[0].strip() for process in both}
    assert keys == {load_key(tmp_path).hex()}
    assert [path.name for path in tmp_path.iterdir()] == ["deidentify.key"]
    assert (tmp_path / "deidentify.key").stat().st_mode & 0o777 == 0o600
    (tmp_path / "deidentify.key").write_bytes(b"short")
    with pytest.raises(ConfigError, match="5 bytes, expected 32"):
        load_key(tmp_path)


def test_a_study_is_copied_and_the_copy_audited(home: Home, tmp_path: Path) -> None:
    uid = "1.2.826.0.1.7"
    home.film(seed=1, StudyInstanceUID=uid)
    home.film(seed=2, StudyInstanceUID=uid, BurnedInAnnotation="NO")
    made = copy_study(home.engine, home.path, uid, tmp_path / "out")
    assert sorted((tmp_path / "out").iterdir()) == sorted(made.files)
    assert (len(made.files), made.maybe_burned_in) == (2, 1)
    assert len({dcmread(file).StudyInstanceUID for file in made.files}) == 1
    assert copy_study(home.engine, home.path, uid, tmp_path / "again").files[0].name == made.files[0].name
    with reading(home.engine) as connection:
        rows = connection.execute(select(audit).where(audit.c.event == "export")).all()
    assert [(row.study_instance_uid, json.loads(row.detail)["films"]) for row in rows] == [(uid, 2)] * 2


def test_what_cannot_be_copied_is_named(home: Home, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no study 1\.2\.9"):
        copy_study(home.engine, home.path, "1.2.9", tmp_path / "out")
    key = home.film()
    with reading(home.engine) as connection:
        asked = select(instance.c.path, study.c.study_instance_uid).join_from(instance, study)
        path, uid = connection.execute(asked.where(instance.c.id == key)).one()
    (home.path / path).unlink()
    with pytest.raises(SourceError, match="has been deleted"):
        copy_study(home.engine, home.path, uid, tmp_path / "out")


def test_the_command_warns_of_what_may_be_burned_in(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import typer

    (home.path / "cxrtriage.toml").write_text("")
    monkeypatch.setenv("CXRTRIAGE_DATABASE_URL", str(home.engine.url))
    home.film(StudyInstanceUID="1.2.826.0.1.8")
    group = typer.Typer()
    group.callback()(lambda: None)
    exporting.add_commands(group)
    options = ["--home", str(home.path), "--study", "1.2.826.0.1.8", "--out", str(tmp_path / "out")]
    said = CliRunner().invoke(group, ["deidentify", *options])
    assert said.exit_code == 0, said.output
    assert "1 films are in" in said.output
    assert "words in the pixels are not removed" in said.output
