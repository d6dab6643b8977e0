"""docs/conformance.md says what the node does: its tables beside the program, and beside a real negotiation."""

import re
from pathlib import Path

import pytest
from pydicom.sr.codedict import codes
from pydicom.uid import UID, Comprehensive3DSRStorage, SecondaryCaptureImageStorage
from pynetdicom import AE, PYNETDICOM_IMPLEMENTATION_UID
from sqlalchemy import Engine

from cxrtriage.errors import DeliveryError
from cxrtriage.serve.files import FilmStore
from cxrtriage.serve.intake import taking
from cxrtriage.serve.receiver import NEGOTIATION_S, PDU_BYTES, VERIFICATION, Receiver
from cxrtriage.serve.results.answers import judge
from cxrtriage.serve.results.dicom_object import IMPLEMENTATION_NAME, IMPLEMENTATION_UID
from cxrtriage.serve.results.outbox import Refused
from cxrtriage.serve.results.structured_report import NORMALITY, SINGLE_VIEW
from cxrtriage.serve.settings import DicomSettings, NodeSettings
from serve.peers import free_port

STATEMENT = (Path(__file__).resolve().parents[2] / "docs" / "conformance.md").read_text()


def section(number: str) -> str:
    """Return a section's text, without the next one's."""
    return re.split(r"^#+ ", STATEMENT.split(f"# {number} ")[1], maxsplit=1, flags=re.MULTILINE)[0]


def table(number: str, heading: str) -> list[list[str]]:
    """Return the rows of the table whose first heading is this."""
    block = section(number).split(f"| {heading} |")[1].split("\n\n")[0]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in block.splitlines()[2:]]


def test_the_receivers_tables_name_what_the_code_accepts() -> None:
    classes = table("4.1", "SOP class")
    syntaxes = table("4.1", "transfer syntax")
    assert [uid for _, uid in classes] == [VERIFICATION, *taking.SOP_CLASSES]
    assert [uid for _, uid in syntaxes] == taking.TRANSFER_SYNTAXES
    assert all(UID(uid).name.startswith(name) for name, uid in [*classes, *syntaxes])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_peer_that_proposes_more_is_given_just_that(sqlite: Engine, tmp_path: Path) -> None:
    classes = [uid for _, uid in table("4.1", "SOP class")[1:]]
    syntaxes = [uid for _, uid in table("4.1", "transfer syntax")]
    others = ["1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.4.110"]  # MPEG2, JPEG XL lossless
    settings = DicomSettings(host="127.0.0.1", port=free_port())
    accepted = set()
    with FilmStore(tmp_path / "home", sqlite, 0.001) as store, Receiver(settings, store):
        for sop_class in [*classes, "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.7"]:
            entity = AE("PEER")
            for syntax in [*syntaxes, *others]:
                entity.add_requested_context(sop_class, syntax)
            peer = entity.associate("127.0.0.1", settings.port)
            accepted |= {(cx.abstract_syntax, cx.transfer_syntax[0]) for cx in peer.accepted_contexts}
            peer.release()
        entity = AE("PEER")
        entity.add_requested_context(classes[0], syntaxes[::-1])
        peer = entity.associate("127.0.0.1", settings.port)
        assert peer.accepted_contexts[0].transfer_syntax == [syntaxes[0]]  # the order of the table decides
        peer.release()
    assert accepted == {(sop_class, syntax) for sop_class in classes for syntax in syntaxes}


def test_the_receivers_statuses_and_failure_reasons_are_those_of_the_code() -> None:
    by_store = {taking.SUCCESS, taking.OUT_OF_RESOURCES, taking.OTHER_SOP_CLASS, taking.CANNOT_UNDERSTAND}
    by_file = {taking.PROCESSING_FAILURE, taking.SOP_CLASS_NOT_SUPPORTED, taking.SYNTAX_NOT_SUPPORTED}
    assert {int(code, 16) for _, code, _ in table("4.1", "status of C-STORE")} == by_store
    assert {int(code, 16) for _, code in table("4.3", "failure reason (0008,1197)")} == (by_store | by_file) - {0}


def test_the_senders_table_names_what_is_sent() -> None:
    sent = {uid for _, uid, _ in table("4.2", "SOP class")}
    assert sent == {VERIFICATION, Comprehensive3DSRStorage, SecondaryCaptureImageStorage}


def test_the_sender_does_what_its_table_says_of_a_pacss_answer() -> None:
    for _, written, action in table("4.2", "status of the PACS"):
        again = None
        for code in filter(None, (code.strip() for code in written.split(","))):
            status = int(code.replace("x", "1"), 16)
            again = action.startswith(("tries again", "the same"))
            if action.startswith("done"):
                judge(status, "PACS")
                continue
            with pytest.raises(DeliveryError) as refused:
                judge(status, "PACS")
            assert again
            assert not isinstance(refused.value, Refused), written
    with pytest.raises(Refused):
        judge(0xC000, "PACS")


def test_numbers_and_codes_in_the_text_are_those_of_the_code() -> None:
    defaults = NodeSettings()
    receiver, sender = section("4.1"), section("4.2")
    assert f"{PDU_BYTES:,} bytes" in receiver
    assert f"within {NEGOTIATION_S:g} s" in receiver
    assert f"`dicom.max_associations`, {defaults.dicom.max_associations};" in receiver
    assert f"`dicom.idle_s`, {defaults.dicom.idle_s:g} s" in receiver
    assert f"`dicom.max_instance_mib` ({defaults.dicom.max_instance_mib})" in receiver
    assert PYNETDICOM_IMPLEMENTATION_UID.split(".3.0.")[0] in receiver
    assert f"`delivery.limit_s`, {defaults.delivery.limit_s:g} s" in sender
    assert IMPLEMENTATION_UID in section("8.3")
    assert IMPLEMENTATION_NAME in section("8.3")
    report = section("8.1")
    for code in (NORMALITY, SINGLE_VIEW, codes.DCM.Probability, codes.DCM.MeasurementGroup):
        assert str(code.value) in report, code


def test_the_statement_keeps_the_order_of_the_standard() -> None:
    headings = re.findall(r"^## \d (.*)$", STATEMENT, re.MULTILINE)
    assert headings == [
        "Overview", "Introduction", "Implementation model", "AE specifications", "Media interchange",
        "Character sets", "Security", "Annexes",
    ]  # fmt: skip
