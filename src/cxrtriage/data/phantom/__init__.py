"""Synthetic chest radiographs with known truth, by closed-form X-ray projection.

Comes in: how many films, of what kind, and a seed. Goes out: arrays (`draw_phantom`), or a folder of films,
masks and a manifest (`make_phantoms`) that the other stages read like any hospital's.

    plan            which patients, which films, what is wrong with each
    patient, skin, anatomy, bones, vessels, abnormalities, confounders, positioning
                    what stands before the detector, in mm
    geometry        ellipsoids and tubes
    projection      where rays enter and leave them, in closed form
    lungs, radiograph
                    line integrals of soft tissue, bone and metal
    detector        spectrum, scatter, blur, noise, response -> pixels
    film            one film as arrays
    header, films   files

Sizes and densities are textbook figures; the films are made to be *sound* (labels, masks and physics agree,
and nothing but anatomy tells the label), not to be mistaken for a patient's.
"""

from cxrtriage.data.phantom.film import Facts, Phantom, draw_phantom
from cxrtriage.data.phantom.films import make_phantoms

__all__ = ["Facts", "Phantom", "draw_phantom", "make_phantoms"]
