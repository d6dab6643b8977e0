"""HL7 messages as a hospital's system writes them."""

ZERO = "20261118030000+0000"


def joined(*segments: str) -> bytes:
    return ("\r".join(segments) + "\r").encode()


def header(kind: str, control_id: str = "M1", version: str = "2.5.1", charset: str = "UNICODE UTF-8") -> str:
    return f"MSH|^~\\&|RIS|HOSPITAL|CXRTRIAGE||{ZERO}||{kind}|{control_id}|P|{version}||||||{charset}"


def orm(
    accession: str = "A1",
    *,
    control: str = "NW",
    status: str = "",
    quantity: str = "1^^^^^S",
    timing: str = "",
    provider: str = "4711^Smith^John",
    callback: str = "",
    ward: str = "ICU",
    uid: str = "",
    procedure: str = "CXR2^Chest, two views^L",
    filler: str = "F1",
    control_id: str = "M1",
    version: str = "2.3.1",
) -> bytes:
    """An ORM^O01 with the accession number in OBR-18, the priority in ORC-7 and the Study UID in ZDS-1."""
    segments = [
        header("ORM^O01", control_id, version),
        "PID|1||P1^^^HOSPITAL||DOE^JANE||19500101|F",
        f"PV1|1|I|W3^12^1|||||||{ward}",
        f"ORC|{control}|PL1|{filler}||{status}||{quantity}|||||{provider}||{callback}",
        f"OBR|1|PL1|{filler}|{procedure}||||||||||||{provider}||{accession}|||||||||{timing}",
    ]
    return joined(*segments, *([f"ZDS|{uid}^^Application^DICOM"] if uid else []))


def omi(accession: str = "A1", uid: str = "1.2.3.1", priority: str = "S", control: str = "NW") -> bytes:
    return joined(
        header("OMI^O23^OMI_O23", "M2", "2.5.1"),
        "PID|1||P1^^^HOSPITAL||DOE^JANE||19500101|F",
        f"ORC|{control}|PL1|F1||||||20261118||||ED||||Emergency",
        f"TQ1|1||||||||{priority}",
        "OBR|1|PL1|F1|36554-4^XR Chest^LN||||||||||||815^Miller",
        f"IPC|{accession}|RP1|{uid}|SPS1",
    )


def oru(
    accession: str = "A1",
    *,
    status: str = "F",
    flag: str = "A",
    observed: str = "F",
    patient: str = "P1",
    uid: str = "",
    filler: str = "F1",
    control_id: str = "M3",
) -> bytes:
    segments = [
        header("ORU^R01^ORU_R01", control_id),
        f"PID|1||{patient}^^^HOSPITAL||DOE^JANE||19500101|F",
        f"OBR|1|PL1|{filler}|36554-4^XR Chest^LN||||||||||||||{accession}|||||||{status}",
        f"OBX|1|TX|36554-4^XR Chest^LN||Opacity in the left lower zone.|||{flag}|||{observed}",
    ]
    if uid:
        segments.append(f"OBX|2|ST|110180^Study Instance UID^DCM||{uid}||||||F")
    return joined(*segments)
