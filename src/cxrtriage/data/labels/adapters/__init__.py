"""Public sets: the label files as published come in, manifests go out.

One short function a set, each saying in its docstring what counts as normal, what as abnormal, and what is left
out and why. How many films were left out for which reason stands in `manifest.attrs["left_out"]`. No public set
labels urgency, so none has the label 2 (emergent).
"""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from cxrtriage.data.labels.adapters.chexpert import chexpert
from cxrtriage.data.labels.adapters.guangzhou import guangzhou
from cxrtriage.data.labels.adapters.mimic import mimic
from cxrtriage.data.labels.adapters.nih import nih
from cxrtriage.data.labels.adapters.openi import openi
from cxrtriage.data.labels.adapters.padchest import padchest
from cxrtriage.data.labels.adapters.rsna import rsna
from cxrtriage.data.labels.adapters.tuberculosis import montgomery, shenzhen
from cxrtriage.data.labels.adapters.vindr import vindr

# name of the set -> function of (label file, or the set's folder; folder of the films or None)
ADAPTERS: dict[str, Callable[[Path, Path | None], pd.DataFrame]] = {
    "nih": nih,
    "chexpert": chexpert,
    "mimic": mimic,
    "padchest": padchest,
    "vindr": vindr,
    "rsna": rsna,
    "openi": openi,
    "shenzhen": shenzhen,
    "montgomery": montgomery,
    "guangzhou": guangzhou,
}
