"""What every door does with a film that has arrived: checked, kept, answered; `receiver`, `folder` and `stow` call it.

In comes a whole DICOM file in the store's `incoming` folder, out goes a DICOM status and, in a sentence, why.
The doors differ in how they tell their senders.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydicom.filereader import read_file_meta_info
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
)
from sqlalchemy.exc import SQLAlchemyError

from cxrtriage.serve.files import DiskLowError, Door, FilmStore
from cxrtriage.serve.header import NotUnderstoodError, read_header, valid_uid

LOGGER = logging.getLogger(__name__)

# PS3.4 B.2.3, PS3.18 I.2.2
SUCCESS = 0x0000
PROCESSING_FAILURE = 0x0110
SOP_CLASS_NOT_SUPPORTED = 0x0122
OUT_OF_RESOURCES = 0xA700
OTHER_SOP_CLASS = 0xA900
CANNOT_UNDERSTAND = 0xC000
SYNTAX_NOT_SUPPORTED = 0xC122

SOP_CLASSES = (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,  # taken, so that it is seen to be not assessed and why
)
TRANSFER_SYNTAXES = [
    f"1.2.840.10008.{tail}"
    for tail in (
        "1.2.1", "1.2", "1.2.2", "1.2.1.99",  # explicit little, implicit, explicit big endian, deflated
        "1.2.4.70", "1.2.4.57", "1.2.4.80", "1.2.4.81", "1.2.4.90", "1.2.4.91", "1.2.5",  # JPEG, -LS, 2000, RLE
        "1.2.4.50", "1.2.4.51", "1.2.4.201", "1.2.4.202", "1.2.4.203",  # lossy JPEG, HTJ2K
    )
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Announced:
    """What a sender says that an instance is: in C-STORE with the request, in a file in its meta information."""

    sop_instance_uid: str
    sop_class_uid: str

    @classmethod
    def in_file(cls, path: Path) -> Self:
        """Read the file meta information; "" for what it does not tell."""
        try:
            meta = read_file_meta_info(path)
            return cls(str(meta.get("MediaStorageSOPInstanceUID", "")), str(meta.get("MediaStorageSOPClassUID", "")))
        except Exception:  # a damaged file breaks wherever it likes; `read_header` says what is wrong with it
            return cls("", "")


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of an instance.

    Parameters
    ----------
    status : DICOM status; `SUCCESS` if it is kept, or was there already
    why : a sentence, "" with `SUCCESS`; no name, no birth date
    new : whether it was not there before
    announced : what it was said to be
    study_instance_uid : "" where that is not known
    """

    status: int
    why: str
    new: bool
    announced: Announced
    study_instance_uid: str = ""

    @property
    def kept(self) -> bool:
        """Whether the film is on the disk and in the database."""
        return self.status == SUCCESS


def take(
    store: FilmStore,
    part: Path,
    calling_ae: str,
    announced: Announced,
    study_instance_uid: str | None = None,
    door: Door | None = None,
) -> Answer:
    """Keep one film, or say why not.

    Parameters
    ----------
    store : entered
    part : a whole DICOM file in `store.incoming`; stays there, the caller removes it
    calling_ae : who sent it, or the door's name
    announced : the data set must agree with it
    study_instance_uid : the study that it must belong to, where the sender named one
    door : see `FilmStore.keep`
    """
    uid = announced.sop_instance_uid if valid_uid(announced.sop_instance_uid) else "with an invalid UID"

    def refuse(status: int, why: object) -> Answer:
        LOGGER.warning("refused instance %s from %r with 0x%04X: %s", uid, calling_ae, status, why)
        return Answer(status, str(why), False, announced)

    try:
        store.require_room()
        header = read_header(part)
        if header.sop_instance_uid != announced.sop_instance_uid:
            return refuse(CANNOT_UNDERSTAND, "its data set has another SOP Instance UID than was announced.")
        if header.sop_class_uid != announced.sop_class_uid:
            return refuse(OTHER_SOP_CLASS, "its data set is of another SOP class than was announced.")
        if header.sop_class_uid not in SOP_CLASSES:
            return refuse(SOP_CLASS_NOT_SUPPORTED, "it is no CR or DX image, which alone are taken here.")
        if header.transfer_syntax_uid not in TRANSFER_SYNTAXES:
            return refuse(SYNTAX_NOT_SUPPORTED, "its transfer syntax is not one that is read here.")
        if study_instance_uid not in (None, header.study_instance_uid):
            return refuse(PROCESSING_FAILURE, "it belongs to another study than the one that it was sent to.")
        new = store.keep(part, header, calling_ae, door)
    except NotUnderstoodError as error:
        return refuse(CANNOT_UNDERSTAND, error)
    except DiskLowError as error:
        return refuse(OUT_OF_RESOURCES, error)
    except OSError as error:
        return refuse(OUT_OF_RESOURCES, f"the disk fails ({error.strerror}).")
    except SQLAlchemyError as error:
        return refuse(OUT_OF_RESOURCES, f"the database does not answer ({type(error).__name__}).")
    except Exception as error:  # ours to mend; its text could quote the header
        return refuse(CANNOT_UNDERSTAND, f"an error of this program ({type(error).__name__}).")
    LOGGER.info("%s instance %s from %r", "kept" if new else "had already", uid, calling_ae)
    return Answer(SUCCESS, "", new, announced, header.study_instance_uid)
