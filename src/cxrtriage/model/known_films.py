"""Which films a model was trained or calibrated on, so that nobody measures it on them unawares.

A film is known by a fingerprint of what it was prepared to, whatever its file is called. Fingerprints travel in the
metadata of the model file, beside the card, which `bundle` writes; nothing of a film can be read from them.
"""

import base64
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from safetensors import safe_open

from cxrtriage.model.card import METADATA_KEY

KNOWN_FILMS = "films"  # their entry beside the card
BYTES = 6  # two of a million different films are alike once in 600 times
CHARACTERS = 8  # of base64, in which they are written


def fingerprints(films: Iterable[np.ndarray]) -> frozenset[str]:
    """Return the fingerprints of prepared films, 8 characters each.

    Parameters
    ----------
    films : (S, S) uint8 each, as a model sees them

    Examples
    --------
    >>> fingerprints(np.zeros((2, 4, 4), dtype=np.uint8))
    frozenset({'KTB9uKUC'})
    """
    return frozenset(
        base64.b64encode(hashlib.blake2b(film.tobytes(), digest_size=BYTES).digest()).decode() for film in films
    )


def known_films(path: Path) -> frozenset[str]:
    """Return the fingerprints of the films that a model was trained or calibrated on; empty where it does not tell."""
    with safe_open(path, framework="numpy") as file:
        text = json.loads(file.metadata()[METADATA_KEY]).get(KNOWN_FILMS, "")
    return frozenset(text[start : start + CHARACTERS] for start in range(0, len(text), CHARACTERS))
