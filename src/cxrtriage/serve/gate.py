"""The gate before the model: a film that was read and prepared in, a reason not to score it out; `worker` asks.

What the header says against the film is found by `score.scope_warning`, the same findings that `cxrtriage
score` prints as a warning; what the pixels say, by `validity`. On a node either decides: the film is *not
assessed*, with the reasons beside it, and never looks like a normal one.
"""

from dataclasses import replace

import numpy as np

from cxrtriage.errors import SourceError
from cxrtriage.model.card import ModelCard
from cxrtriage.records import SourceImage
from cxrtriage.score import scope_warning
from cxrtriage.serve.validity.finding import finding_against


def reason_against(source: SourceImage, film: np.ndarray, card: ModelCard, age_years: float | None) -> str:
    """Say in a sentence why a film is none for the model; empty if nothing is known against it.

    Parameters
    ----------
    source : the film as read
    film : (S, S) uint8, the same film prepared
    card : of the model
    age_years : the patient's age where the header of the received film told it, also by the birth date
    """
    if age_years is not None:
        source = replace(source, provenance={**source.provenance, "patient_age_years": age_years})
    return "; ".join(filter(None, (scope_warning(source, film, card), finding_against(source))))


def reason_unreadable(error: SourceError) -> str:
    """Say why a film cannot be read, without the path that means nothing to a reader of the list."""
    finding = str(error).partition(": ")[2] or str(error)
    return f"unreadable: {finding}"


def may_pass(error: SourceError) -> bool:
    """Tell whether another attempt may succeed: the disk or the memory failed, not the film."""
    return isinstance(error.__cause__, OSError | MemoryError)
