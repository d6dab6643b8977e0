"""A phantom film as a DICOM object: Digital X-Ray Image, for presentation.

Comes in: a `Phantom`, whose it is, and a random generator of the file. Goes out: a pydicom
dataset that passes `dciodvfy`. Read next by `films`.

Nothing in the header depends on what is abnormal.
"""

import hashlib

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from cxrtriage import __version__
from cxrtriage.data.phantom.film import Phantom

MONOCHROME1_SHARE = 0.2  # of all files: low is white
YEAR = 2021  # of all films, so that a patient's age and birthday agree on each of them

# how (0018,5101) is coded: DICOM CID 4010 "DX View"
VIEW_CODES = {"PA": ("399348003", "postero-anterior"), "AP": ("399067008", "antero-posterior")}


def dicom_object(phantom: Phantom, patient_id: str, rng: np.random.Generator) -> Dataset:
    """Return the film as a DICOM object that `save_as` writes.

    Parameters
    ----------
    patient_id : ends in "-" and the patient's number
    rng : of the file; decides polarity, date and time

    References
    ----------
    DICOM PS3.3 A.26 (Digital X-Ray Image IOD).
    """
    facts, pixels = phantom.facts, phantom.pixels
    low_is_white = bool(rng.random() < MONOCHROME1_SHARE)
    top = 2**facts.bits - 1
    date = f"{YEAR}{rng.integers(1, 13):02}{rng.integers(1, 29):02}"
    time = f"{rng.integers(7, 19):02}{rng.integers(60):02}{rng.integers(60):02}"
    digest = hashlib.sha256(pixels.tobytes()).hexdigest()

    def uid(kind: str) -> str:
        """The same film gets the same UIDs again, and no other film does."""
        return generate_uid(entropy_srcs=["cxrtriage phantom", kind, patient_id, digest])

    d = Dataset()
    d.SpecificCharacterSet = "ISO_IR 100"
    d.SOPClassUID = DigitalXRayImageStorageForPresentation
    d.SOPInstanceUID = uid("instance")
    # patient and study
    d.PatientName = f"PHANTOM^{patient_id.rpartition('-')[2]}"
    d.PatientID = patient_id
    d.PatientBirthDate = f"{YEAR - int(facts.age)}0101"
    d.PatientSex = facts.sex
    d.PatientAge = f"{int(facts.age):03}Y"
    d.StudyInstanceUID = uid("study")
    d.StudyDate = d.SeriesDate = d.ContentDate = d.AcquisitionDate = date
    d.StudyTime = d.SeriesTime = d.ContentTime = d.AcquisitionTime = time
    d.StudyID = "1"
    d.AccessionNumber = digest[:12].upper()
    d.ReferringPhysicianName = ""
    # series and equipment
    d.Modality = "DX"
    d.SeriesInstanceUID = uid("series")
    d.SeriesNumber = d.InstanceNumber = 1
    d.PresentationIntentType = "FOR PRESENTATION"
    d.Manufacturer = "cxrtriage"
    d.ManufacturerModelName = "phantom"
    d.SoftwareVersions = __version__
    d.DeviceSerialNumber = "1"
    # what was filmed, and how
    d.BodyPartExamined = "CHEST"
    d.AnatomicRegionSequence = [_code("43799004", "SCT", "Chest")]
    d.ImageLaterality = "U"
    d.ViewPosition = facts.view_position
    code, meaning = VIEW_CODES[facts.view_position]
    d.ViewCodeSequence = [_code(code, "SCT", meaning)]
    d.ViewCodeSequence[0].ViewModifierCodeSequence = []
    d.PatientOrientation = ["L", "F"]
    d.PositionerType = ""
    d.AcquisitionContextSequence = []
    d.DetectorType = "SCINTILLATOR"
    d.DetectorConfiguration = "AREA"
    d.KVP = "120"
    d.ImagerPixelSpacing = [f"{facts.pixel_spacing_mm:.6f}"] * 2
    # image
    d.ImageType = ["ORIGINAL", "PRIMARY"]
    d.Rows, d.Columns = pixels.shape
    d.SamplesPerPixel = 1
    d.PhotometricInterpretation = "MONOCHROME1" if low_is_white else "MONOCHROME2"
    d.PresentationLUTShape = "INVERSE" if low_is_white else "IDENTITY"
    d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = 16, facts.bits, facts.bits - 1, 0
    d.PixelIntensityRelationship = "LOG"
    d.PixelIntensityRelationshipSign = 1 if low_is_white else -1  # -1: many X-rays give low, black values
    d.RescaleIntercept, d.RescaleSlope, d.RescaleType = "0", "1", "US"
    d.WindowCenter, d.WindowWidth = f"{(top + 1) / 2:.0f}", f"{top + 1}"
    d.BurnedInAnnotation = "NO"
    d.LossyImageCompression = "00"
    stored = top - pixels if low_is_white else pixels
    d.PixelData = stored.astype("<u2").tobytes()

    d.file_meta = FileMetaDataset()
    d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return d


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    """Return an item of a code sequence."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item
