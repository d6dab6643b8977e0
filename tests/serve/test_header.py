import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, generate_uid

from cxrtriage.serve.header import NotUnderstoodError, read_header, valid_uid
from films import film_pixels, make_dicom
from serve.peers import PREAMBLE, data_set, film


def test_the_facts_are_those_of_the_header(tmp_path: Path) -> None:
    header = read_header(film(tmp_path / "a.dcm", SOPInstanceUID="1.2.3", AccessionNumber="A1", PatientAge="018M"))
    assert (header.sop_instance_uid, header.accession_number) == ("1.2.3", "A1")
    assert (header.modality, header.body_part, header.view_position) == ("DX", "CHEST", "PA")
    assert header.age_years == 1.5
    assert header.patient.name == "Doe^Jane"
    assert header.file_bytes == (tmp_path / "a.dcm").stat().st_size


def test_a_missing_age_is_taken_from_birth_and_study_date(tmp_path: Path) -> None:
    tags: dict[str, Any] = {"PatientAge": None, "PatientBirthDate": "20200101", "StudyDate": "20240101"}
    assert read_header(film(tmp_path / "a.dcm", **tags)).age_years == pytest.approx(4, abs=0.01)
    tags["PatientBirthDate"] = "20250101"  # after the study: not to be believed
    assert read_header(film(tmp_path / "b.dcm", **tags)).age_years is None


@pytest.mark.parametrize("syntax", [DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_other_encodings_have_the_same_facts(tmp_path: Path, syntax: str) -> None:
    header = read_header(make_dicom(tmp_path / "a.dcm", film_pixels(), transfer_syntax=syntax))
    assert header.patient.patient_id == "P1"
    assert header.transfer_syntax_uid == syntax


def test_content_is_the_same_unless_pixels_or_a_fact_differ(tmp_path: Path) -> None:
    uids = {"SOPInstanceUID": "1.2.1", "StudyInstanceUID": "1.2.2", "SeriesInstanceUID": "1.2.3"}

    def content(seed: int = 0, **tags: Any) -> str:
        return read_header(film(tmp_path / "a.dcm", seed, **{**uids, **tags})).content_sha256

    first = content()
    assert content(InstitutionName="Elsewhere", StationName="X") == first  # what a PACS on the way may write
    others = [content(seed=1), content(PatientID="P2"), content(ViewPosition="LL"), content(StudyInstanceUID="1.2.9")]
    assert len({first, *others}) == 5


def test_text_that_databases_refuse_is_cleaned(tmp_path: Path) -> None:
    path = film(tmp_path / "a.dcm", PatientName="Doe^Jane^QQ", AccessionNumber="A" * 16)
    path.write_bytes(path.read_bytes().replace(b"Jane^QQ", b"Jane^\x00\x1b").replace(b"A" * 16, b"\xff\xfe" * 8))
    header = read_header(path)
    assert header.patient.name.isprintable()
    header.patient.name.encode()
    assert len(header.accession_number) <= 16


def test_a_patient_is_not_shown_where_an_object_is_printed(tmp_path: Path) -> None:
    assert "Doe" not in repr(read_header(film(tmp_path / "a.dcm")))


@pytest.mark.parametrize("uid", ["", "1.2.", ".1", "../../etc/passwd", "1" * 65, "1.2\x00", "1.2\n"])
def test_what_is_no_uid_is_not_taken_for_one(uid: str) -> None:
    assert not valid_uid(uid)


@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID"])
def test_a_film_without_a_uid_is_not_understood(tmp_path: Path, keyword: str) -> None:
    path = make_dicom(tmp_path / "a.dcm", film_pixels(), **{keyword: None})
    with pytest.raises(NotUnderstoodError, match=keyword):
        read_header(path)


def test_nonsense_is_not_understood(tmp_path: Path) -> None:
    good = film(tmp_path / "a.dcm").read_bytes()
    for number, content in enumerate([b"", b"hello", good[:200], good[: PREAMBLE + 100], bytes(5000)]):
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(content)
        with pytest.raises(NotUnderstoodError):
            read_header(path)


def test_a_deflated_bomb_takes_little_memory(tmp_path: Path) -> None:
    path = make_dicom(tmp_path / "a.dcm", film_pixels(), transfer_syntax=DeflatedExplicitVRLittleEndian)
    plain = zlib.decompress(data_set(path), -zlib.MAX_WBITS)
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = b"".join([packer.compress(plain), *(packer.compress(bytes(2**20)) for _ in range(300)), packer.flush()])
    path.write_bytes(path.read_bytes().removesuffix(data_set(path)) + bomb)
    tracemalloc.start()
    try:
        read_header(path)
        assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    finally:
        tracemalloc.stop()


def test_uids_made_by_pydicom_are_valid() -> None:
    assert all(valid_uid(generate_uid()) for _ in range(20))
