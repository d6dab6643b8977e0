"""Why the model says what it says of a film, as a picture: worked out when a reader asks, one at a time, and kept.

It runs in the web process, on a thread of its own: scoring must not wait for it, and pages must not either.
What the picture shows stands in a caption inside the PNG, so that both are kept together.
"""

import asyncio
import io
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cxrtriage.errors import CxrTriageError
from cxrtriage.serve.web.pictures import Pictures, marked

if TYPE_CHECKING:
    from cxrtriage.explain import Explanation
    from cxrtriage.model.bundle import Model

Method = Literal["grad-cam", "integrated-gradients", "opposite"]
SIDE = 512  # pixels of a panel
STEPS = 40  # most, of an opposite-label image: a reader waits for it
MOST_WAITING = 4
CAPTION = "Description"
ONE_AT_A_TIME = ThreadPoolExecutor(1, thread_name_prefix="explain")
_waiting = 0


class BusyError(CxrTriageError):
    """Too many ask at once."""


async def explained(
    pictures: Pictures, film: Path, content_sha256: str, model_file: Path, model_sha256: str, method: Method
) -> bytes:
    """Return the picture of an explanation, from those kept or worked out now.

    Parameters
    ----------
    pictures : where it is kept
    film, content_sha256 : the DICOM file, and the hash of its content
    model_file, model_sha256 : the model whose score is explained
    method : of `cxrtriage.explain`

    Raises
    ------
    BusyError
        If others wait already.
    SourceError, ModelError
        If film or model cannot be read.
    """
    global _waiting  # of one event loop
    what = f"{model_sha256[:16]}-{method}"
    kept = pictures.find(content_sha256, what)
    if kept is not None:
        return kept
    if _waiting >= MOST_WAITING:
        raise BusyError("others are waiting for explanations too. Ask again in a minute.")
    _waiting += 1
    try:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            ONE_AT_A_TIME,
            lambda: (
                pictures.find(content_sha256, what)
                or _work_out(pictures, film, content_sha256, model_file, what, method)
            ),
        )
    finally:
        _waiting -= 1


def caption_of(content: bytes) -> str:
    """Return the sentence that says what a picture shows."""
    with Image.open(io.BytesIO(content)) as picture:
        picture.load()
        return str(picture.info.get(CAPTION, ""))


def _work_out(
    pictures: Pictures, film: Path, content_sha256: str, model_file: Path, what: str, method: Method
) -> bytes:
    from cxrtriage.explain import explain  # torch takes seconds, and most nodes show no explanations

    found = explain(_model(model_file), [film], method, steps=STEPS)
    facts = PngInfo()
    facts.add_itxt(CAPTION, _caption(found))
    file = io.BytesIO()
    Image.fromarray(_picture(found)).save(file, "PNG", compress_level=2, pnginfo=facts)
    return pictures.keep(content_sha256, what, file.getvalue())


def _picture(found: "Explanation") -> np.ndarray:
    """Return (H, W, 3) uint8: the film as the network sees it, what it was changed to, and the evidence on it."""
    from cxrtriage.explain.attribution import FINE_METHODS, smooth_evidence
    from cxrtriage.explain.overlay import colour_overlay, strongest_of

    evidence = found.evidence
    if found.method in FINE_METHODS:  # evidence of single pixels, which no eye can read
        evidence = smooth_evidence(evidence)
    panels = [np.repeat(found.films[0][..., None], 3, axis=2)]
    if found.opposite is not None:
        panels.append(np.repeat(found.opposite.after[0][..., None], 3, axis=2))
    panels.append(colour_overlay(found.films[0], evidence[0], strongest_of(evidence[0])))
    resized = [marked(cv2.resize(panel, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)) for panel in panels]
    gap = np.zeros((SIDE, 8, 3), np.uint8)
    return np.hstack([part for panel in resized for part in (panel, gap)][:-1])


def _caption(found: "Explanation") -> str:
    if found.opposite is None:
        return (
            "Left: the film as the network sees it. Right: orange speaks for abnormal, blue for normal. It shows where "
            "the network looks, not where disease is."
        )
    known = found.opposite.probability[0][~np.isnan(found.opposite.probability[0])]
    target = ("normal", "abnormal")[int(found.opposite.target[0])]
    done = "" if found.opposite.reached[0] else ", which it did not reach"
    side = "abnormal, and had to go" if target == "normal" else "normal, and had to go"
    return (
        f"Left: the film as the network sees it. Middle: the film changed towards {target}{done}: probability "
        f"{known[0]:.2f} before, {known[-1]:.2f} after. Right, coloured: what was changed; it spoke for {side}."
    )


@lru_cache(maxsize=1)
def _model(path: Path) -> "Model":
    import torch

    from cxrtriage.model.bundle import load_model

    torch.set_num_threads(1)  # the other processors score films and serve pages
    return load_model(path)
