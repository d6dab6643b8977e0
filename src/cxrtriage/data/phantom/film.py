"""One phantom film as arrays.

Comes in: which patient and which film of a seed, and what is wrong. Goes out: a `Phantom`: pixels, masks
and facts. Read next by `films`, which writes sets of them.

Each thing that varies is drawn from a generator of its own, numbered by patient or by film. So a film with
an abnormality and the same film without it differ in nothing else, and no choice depends on how many films
are made.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from cxrtriage.data.phantom.abnormalities import NORMAL, Lesion, draw_lesion
from cxrtriage.data.phantom.anatomy import build_anatomy
from cxrtriage.data.phantom.confounders import Devices, burn_in, draw_devices, side_marker
from cxrtriage.data.phantom.detector import Technique, blacken_margins, draw_technique, expose
from cxrtriage.data.phantom.geometry import join
from cxrtriage.data.phantom.lungs import Tissue
from cxrtriage.data.phantom.patient import LEFT, RIGHT, Change, Patient, draw_patient
from cxrtriage.data.phantom.positioning import Stance, draw_stance
from cxrtriage.data.phantom.radiograph import project

FINEST = 1600  # pixels a side that rays are traced for; larger films are enlarged before the noise is added

SIDE_NAMES = {RIGHT: "right", 0: "", LEFT: "left"}

# one generator each; the number of the patient or of the film follows
STREAMS = (
    "patient",
    "implants",
    "lesion",
    "stance",
    "devices",
    "technique",
    "texture",
    "noise",
    "file",
    "visits",
    "diagnosis",
    "course",
)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is true of a phantom film.

    Parameters
    ----------
    label : 0 normal, 1 abnormal, 2 emergent
    finding : "normal", or a name in `abnormalities.FINDINGS`
    severity : 0 subtle to 1 gross; 0 when normal
    side : "left", "right", or "" for a normal film and for the heart
    age, sex : years; "M" or "F"
    view_position : "PA" or "AP"
    confounders : harmless devices on the film, names in `confounders.SHARES`
    pixel_spacing_mm : on the detector
    bits : bits stored, 12 or 14
    """

    label: int
    finding: str
    severity: float
    side: str
    age: float
    sex: str
    view_position: str
    confounders: tuple[str, ...]
    pixel_spacing_mm: float
    bits: int


@dataclass(frozen=True, slots=True)
class Phantom:
    """A film.

    Parameters
    ----------
    pixels : (S, S) uint16 below 2 ** `facts.bits`, bone white and air black (MONOCHROME2)
    lung_mask, lesion_mask : (S, S) bool; the lungs' fields, and where an abnormality shows (nowhere when normal)
    facts : what is true of it
    """

    pixels: np.ndarray
    lung_mask: np.ndarray
    lesion_mask: np.ndarray
    facts: Facts


@dataclass(frozen=True, slots=True)
class Scene:
    """A film before the beam is switched on: all choices made, nothing drawn."""

    size: int
    patient: Patient
    lesion: Lesion | None
    stance: Stance
    devices: Devices
    technique: Technique
    texture_rng: np.random.Generator
    noise_rng: np.random.Generator

    @property
    def facts(self) -> Facts:
        """What will be true of the film."""
        lesion = self.lesion
        return Facts(
            label=0 if lesion is None else lesion.label,
            finding=NORMAL if lesion is None else lesion.finding,
            severity=0.0 if lesion is None else lesion.severity,
            side="" if lesion is None else SIDE_NAMES[lesion.side],
            age=self.patient.age,
            sex=self.patient.sex,
            view_position=self.stance.view_position,
            confounders=self.devices.names,
            pixel_spacing_mm=self.stance.field / self.size,
            bits=self.technique.bits,
        )


def generator(seed: int, stream: str, number: int) -> np.random.Generator:
    """Return the generator of one kind of choice (see STREAMS) for a patient or film."""
    return np.random.default_rng([seed, STREAMS.index(stream), number])


def set_scene(size: int, finding: str, severity: float, *, seed: int, patient: int, film: int) -> Scene:
    """Make all choices for a film; the arguments are those of `draw_phantom`."""
    person = draw_patient(generator(seed, "patient", patient))
    stance = draw_stance(person, generator(seed, "stance", film))
    lesion_rng = generator(seed, "lesion", patient)  # the patient's, so that it is in the same place next time
    return Scene(
        size=size,
        patient=person,
        lesion=None if finding == NORMAL else draw_lesion(finding, severity, person, lesion_rng),
        stance=stance,
        devices=draw_devices(generator(seed, "implants", patient), generator(seed, "devices", film)),
        technique=draw_technique(stance.view_position, person.thickness, generator(seed, "technique", film)),
        texture_rng=generator(seed, "texture", film),
        noise_rng=generator(seed, "noise", film),
    )


def draw_phantom(
    size: int = 512, finding: str = NORMAL, severity: float = 0.5, *, seed: int = 0, patient: int = 0, film: int = 0
) -> Phantom:
    """Draw one synthetic radiograph of the chest.

    Parameters
    ----------
    size : pixels along a side, at least 64
    finding : "normal", "nodule", "consolidation", "effusion", "pneumothorax" or "cardiomegaly"
    severity : 0 subtle to 1 gross; effusion and pneumothorax are emergent from 0.7; unused when normal
    seed, patient, film : non-negative numbers; patients differ in build, films of one patient in position
        and exposure. The anatomy does not depend on `size`

    Returns
    -------
    Phantom

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> phantom = draw_phantom(64, "nodule", severity=1.0)
    >>> phantom.pixels.shape, phantom.pixels.dtype.name, phantom.facts.label
    ((64, 64), 'uint16', 1)
    >>> bool(phantom.lesion_mask.any())
    True
    """
    if size < 64:
        raise ValueError(f"size must be at least 64 pixels, got {size}")
    return take_film(set_scene(size, finding, severity, seed=seed, patient=patient, film=film))


def take_film(scene: Scene) -> Phantom:
    """Switch the beam on."""
    lesion, stance, technique, size = scene.lesion, scene.stance, scene.technique, scene.size
    traced = -(-size // -(-size // FINEST))  # size divided by the smallest whole number that brings it to FINEST
    view = stance.view(traced)
    change = Change() if lesion is None else lesion.change
    anatomy = build_anatomy(scene.patient, change, stance.breath, stance.blades, stance.arms).placed(stance.placement)
    worn = scene.devices.tubes.placed(scene.patient.size).placed(stance.placement)
    devices = join([worn, side_marker(view, scene.devices.marker)])
    tissue = Tissue(scene.patient.lung_density, _texture(traced, stance.field, scene.texture_rng))
    integrals, masks = project(anatomy, lesion, devices, tissue, view)
    pixels = expose(integrals, technique, size, stance.field, scene.noise_rng)
    lung_mask, lesion_mask = (_enlarged(mask, size) for mask in (masks.lung, masks.lesion))
    for image in (pixels, lung_mask, lesion_mask):
        blacken_margins(image, technique.margins)
    if "writing" in scene.devices.names:
        burn_in(pixels, technique.bits, stance.view_position, scene.devices.writing)
    return Phantom(pixels, lung_mask, lesion_mask, scene.facts)


def _texture(size: int, field: float, rng: np.random.Generator) -> np.ndarray:
    """Return the unevenness of lung tissue: (S, S) float32 of mean 0 and spread 1, with grains of 3 to 14 mm."""
    texture = np.zeros((size, size), dtype=np.float32)
    for grain in (14.0, 6.0, 3.0):
        side = round(field / grain)
        cells = rng.standard_normal((side, side), dtype=np.float32)
        texture += cv2.resize(cells, (size, size), interpolation=cv2.INTER_LINEAR)
    texture /= texture.std()
    return texture


def _enlarged(mask: np.ndarray, size: int) -> np.ndarray:
    """Return a (size, size) bool mask."""
    if len(mask) == size:
        return mask
    return cv2.resize(mask.view(np.uint8), (size, size), interpolation=cv2.INTER_NEAREST).view(bool)
