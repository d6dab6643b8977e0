"""The structured report: says what the result says, belongs where the film is, and is the same each time."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from highdicom import sr
from pydicom import dcmread

from cxrtriage.data.phantom.films import make_phantoms
from cxrtriage.serve.hl7.orders import Order
from cxrtriage.serve.results.dicom_object import device_uid
from cxrtriage.serve.results.facts import ResultFacts
from cxrtriage.serve.results.outbox import Refused
from cxrtriage.serve.results.stow import encoded
from cxrtriage.serve.results.structured_report import NORMALITY, make_structured_report
from serve.peers import dcmtk
from serve.results.results import Home, errors_of, written

STUDY: dict[str, Any] = {
    "StudyDate": "20261118",
    "StudyTime": "025900",
    "StudyID": "S1",
    "AccessionNumber": "A1",
    "ReferringPhysicianName": "Doc^Ann",
    "StudyDescription": "Chest",
}
NAMES = {
    "ASCII": (None, "Doe^Jane"),
    "Latin-1": ("ISO_IR 100", "Müller^Jörg"),
    "UTF-8": ("ISO_IR 192", "山田^太郎"),
    "Cyrillic": ("ISO_IR 144", "Люкceмбypг"),
    "Japanese": (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    "half-width": (["ISO 2022 IR 13", "ISO 2022 IR 87"], "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"),
    "Korean": (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
}
ORDER = Order(
    accession_number="A1",
    study_instance_uid="",
    priority="stat",
    provider_id="dr7",
    provider_email="",
    service="ED",
    procedure_code="XRCH1",
    procedure_scheme="99RIS",
    procedure_text="Thorax p.a.",
    placer_order_number="P1",
    filler_order_number="F1",
)


@pytest.fixture
def facts(home: Home) -> ResultFacts:
    return home.facts(home.result(home.film(**STUDY), probability=0.8734567))


@pytest.mark.parametrize(("named", "name"), NAMES.values(), ids=NAMES)
def test_it_is_valid_and_has_the_patient_in_the_films_own_characters(
    home: Home, tmp_path: Path, named: str | list[str] | None, name: str
) -> None:
    tags = {**STUDY, "PatientName": name} | ({"SpecificCharacterSet": named} if named else {})
    facts = home.facts(home.result(home.film(**tags)))
    report = written(make_structured_report(facts), tmp_path / "sr.dcm")
    assert errors_of(report) == []
    made, film = dcmread(report), dcmread(facts.film)
    assert str(made.PatientName) == name
    assert made.get("SpecificCharacterSet") == film.get("SpecificCharacterSet")
    assert raw(report, "PatientName") == raw(facts.film, "PatientName")
    for keyword in (*STUDY, "PatientID", "PatientBirthDate", "PatientSex", "PatientAge", "StudyInstanceUID"):
        assert made[keyword].value == film[keyword].value, keyword


def raw(path: Path, keyword: str) -> bytes:
    """Return an element as encoded."""
    value = dcmread(path).get_item(keyword).value
    assert isinstance(value, bytes)
    return value


def test_a_film_that_names_no_characters_but_has_others_is_called_latin_1(home: Home, tmp_path: Path) -> None:
    facts = home.facts(home.result(home.film(PatientName="Müller^Jörg", SpecificCharacterSet="ISO_IR 100")))
    film = dcmread(facts.film)
    del film.SpecificCharacterSet
    film.save_as(facts.film)
    report = written(make_structured_report(facts), tmp_path / "sr.dcm")
    assert errors_of(report) == []
    assert dcmread(report).SpecificCharacterSet == "ISO_IR 100"
    assert dcmread(report).PatientName == "Müller^Jörg"


def test_a_procedure_that_the_films_characters_lack_makes_it_utf_8(home: Home, tmp_path: Path) -> None:
    facts = home.facts(home.result(home.film(**STUDY, SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Jörg")))
    facts = replace(facts, order=replace(ORDER, procedure_text="胸部単純撮影"))
    report = written(make_structured_report(facts), tmp_path / "sr.dcm")
    assert errors_of(report) == []
    made = sr.srread(report)
    assert (made.SpecificCharacterSet, made.PatientName) == ("ISO_IR 192", "Müller^Jörg")
    assert "胸部単純撮影" in str(made)


def test_another_reader_finds_the_result_in_it(facts: ResultFacts, tmp_path: Path) -> None:
    report = sr.srread(written(make_structured_report(facts), tmp_path / "sr.dcm"))
    (group,) = report.content.get_image_measurement_groups()
    (probability,) = group.get_measurements()
    (normality,) = group.get_qualitative_evaluations(name=NORMALITY)
    assert (probability.name.value, probability.value) == ("122157", pytest.approx(0.873457))
    assert (normality.name.value, normality.value.value) == ("121402", "263654008")
    assert group.finding_sites[0].topographical_modifier is None
    assert group.finding_sites[0].value.value == "816094009"
    assert [image.referenced_sop_instance_uid for image in group.source_images] == [facts.sop_instance_uid]
    assert (report.CompletionFlag, report.VerificationFlag, report.PreliminaryFlag) == (
        "COMPLETE",
        "UNVERIFIED",
        "PRELIMINARY",
    )
    (equipment,) = report.ContributingEquipmentSequence
    assert equipment.DeviceUID == device_uid(facts)
    (evidence,) = report.CurrentRequestedProcedureEvidenceSequence
    assert evidence.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == (
        facts.sop_instance_uid
    )


def test_dsrdump_reads_it(facts: ResultFacts, tmp_path: Path) -> None:
    normal = replace(facts, decision="normal", probability=0.125)
    said = dcmtk("dsrdump", "+Pl", written(make_structured_report(normal), tmp_path / "sr.dcm")).stdout
    for line in (
        '<has concept mod CODE:(,,"Procedure reported")=(36554-4,LN,"XR Chest Single view")>',
        '<has concept mod CODE:(,,"Algorithm Family")=(123110,DCM,"Artificial Intelligence")>',
        '<contains NUM:(,,"Probability")="0.125" (1,UCUM,"no units")>',
        '<contains CODE:(,,"Normality")=(17621005,SCT,"Normal")>',
        '<has concept mod TEXT:(,,"Algorithm Parameters")="called normal">',
        "Verification Flag   : UNVERIFIED",
    ):
        assert line in said, said


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (ORDER, ("XRCH1", "99RIS", "Thorax p.a.")),
        (replace(ORDER, procedure_text=""), ("XRCH1", "99RIS", "XRCH1")),
        (replace(ORDER, procedure_text="a\\b\r" + "x" * 80), ("XRCH1", "99RIS", "a b " + "x" * 60)),
        (replace(ORDER, procedure_scheme=""), ("36554-4", "LN", "XR Chest Single view")),
        (replace(ORDER, procedure_code="x" * 17), ("36554-4", "LN", "XR Chest Single view")),
    ],
)
def test_the_procedure_reported_is_the_orders_where_dicom_can_hold_it(
    facts: ResultFacts, tmp_path: Path, order: Order, expected: tuple[str, str, str]
) -> None:
    report = written(make_structured_report(replace(facts, order=order)), tmp_path / "sr.dcm")
    assert errors_of(report) == []
    items = dcmread(report).ContentSequence
    (found,) = (item for item in items if item.ConceptNameCodeSequence[0].CodeMeaning == "Procedure reported")
    code = found.ConceptCodeSequence[0]
    assert (code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning) == expected


def test_it_is_the_same_each_time_byte_for_byte(facts: ResultFacts) -> None:
    assert encoded(make_structured_report(facts)) == encoded(make_structured_report(facts))


def test_its_uids_change_with_film_content_and_model_and_with_nothing_else(facts: ResultFacts) -> None:
    def uids(**changes: Any) -> tuple[str, str, str]:
        made = make_structured_report(replace(facts, **changes))
        return made.SOPInstanceUID, made.SeriesInstanceUID, made.ContributingEquipmentSequence[0].DeviceUID

    first = uids()
    assert uids(probability=0.1, decision="normal", result_id=99) == first
    other_model = uids(model_sha256="b" * 64)
    assert not set(other_model) & set(first)
    other_film = uids(sop_instance_uid="1.2.3")
    assert (other_film[0] != first[0], other_film[1:]) == (True, first[1:])
    assert uids(content_sha256="b" * 64)[0] != first[0]


def test_phantoms_get_valid_reports(home: Home, tmp_path: Path) -> None:
    make_phantoms(tmp_path, 1, 128, format="dicom", workers=1, seed=2)
    (film,) = (tmp_path / "images").iterdir()
    facts = home.facts(home.result(home.film(film)))
    assert errors_of(written(make_structured_report(facts), tmp_path / "sr.dcm")) == []


def test_a_film_that_is_gone_or_damaged_is_refused_without_its_path(facts: ResultFacts) -> None:
    facts.film.write_bytes(b"nothing")
    with pytest.raises(Refused, match="cannot be read"):
        make_structured_report(facts)
    facts.film.unlink()
    with pytest.raises(Refused, match="has been deleted"):
        make_structured_report(facts)
