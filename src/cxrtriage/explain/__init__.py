"""Why a network calls a film abnormal: opposite-label images, saliency maps, and how far to trust either.

`explain` is what a notebook calls; the files beside it measure the methods and write cases for the report.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cxrtriage.explain.explaining import Explanation, explain

__all__ = ["Explanation", "explain"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.explaining"), name)  # on first use: torch takes seconds
