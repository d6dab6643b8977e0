"""What a PACS answers when it is asked to store: a DICOM status in, nothing or an error out; `c_store` and `stow` ask.

Only Success and warnings are "sent". Of the failures, those that time may mend are tried again, the rest are
parked with status and meaning. The PACS's own comment is not repeated: it may quote the header.
"""

from pynetdicom.status import STORAGE_SERVICE_CLASS_STATUS

from cxrtriage.errors import DeliveryError
from cxrtriage.serve.results.outbox import Refused

SUCCESS = 0x0000
WARNINGS = (
    0x0107,  # attribute list error
    0x0111,  # duplicate SOP instance: it has it
    0x0116,  # attribute value out of range
)
PASSING = (
    0x0110,  # processing failure
    0x0213,  # resource limitation
)


def judge(status: int, peer: str) -> None:
    """Return if a status says that an object is stored.

    Parameters
    ----------
    status : of a C-STORE response, or a Failure Reason (0008,1197)
    peer : what the PACS is called in messages

    Raises
    ------
    DeliveryError
        If it says that another attempt may succeed.
    Refused
        If it says that none will, or nothing that the standard knows.

    References
    ----------
    DICOM PS3.4 B.2.3 (Storage), PS3.7 C (status type encoding), PS3.18 I.2.2 (Store Instances).
    """
    if status == SUCCESS or status in WARNINGS or status & 0xF000 == 0xB000:
        return
    told = f"{peer} answered {status:04X}H ({_meaning(status)})"
    if status in PASSING or status & 0xFF00 == 0xA700:
        raise DeliveryError(f"{told}; trying again.")
    raise Refused(f"{told} and will not take it. Ask its administrator, then try again.")


def _meaning(status: int) -> str:
    category, meaning = STORAGE_SERVICE_CLASS_STATUS.get(status, ("Failure", ""))
    return (meaning or category).lower()
