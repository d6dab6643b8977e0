"""A film in, a sentence on why its pixels are none for the model out, "" if nothing is seen; `gate` asks.

A film that looks inverted or turned is not put right here but left to a person. The score would else belong
to another picture than the one that the reader sees; a right film taken for a wrong one would be scored
upside down without anybody knowing; and one film stored wrongly means a device that stores all of them so.
"""

import numpy as np

from cxrtriage.records import SourceImage
from cxrtriage.score import FRONTAL_VIEWS
from cxrtriage.serve.validity.network import FRONTAL, KINDS, packaged_network
from cxrtriage.serve.validity.thumbnail import thumbnail

SENTENCES = {
    "quarter turn": "the film looks turned by 90 degrees",
    "upside down": "the film looks upside down",
    "inverted": "the film looks inverted, black for white",
    "cut off": "the film looks cut off: much of the chest is not on it",
    "lateral": "the film looks like a lateral",
    "not a chest": "the film does not look like a chest",
    "no picture": "the film looks blank or like noise",
}
assert set(SENTENCES) == set(KINDS) - {FRONTAL}


def finding_against(source: SourceImage) -> str:
    """Say what the pixels of a film look like instead of an upright frontal chest; "" if they look like one.

    Where the header says otherwise, that is told too: whoever looks into it needs both.
    """
    network = packaged_network()
    (likely,) = network.probabilities(thumbnail(source.pixels)[np.newaxis])
    if likely[0] >= network.least_frontal:
        return ""
    kind = KINDS[1 + int(likely[1:].argmax())]
    finding = SENTENCES[kind]
    if kind == "lateral" and source.view_position in FRONTAL_VIEWS:
        finding += f", its header says view {source.view_position}"
    if kind == "inverted":
        finding += ", its header says MONOCHROME1" if source.polarity_inverted else ", its header says nothing of it"
    return finding
