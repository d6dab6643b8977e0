"""Evidence for the PACS: a delivery in, a DICOM object made and sent; `sender` calls it for SR and overlay."""

from collections.abc import Callable

from pydicom import Dataset

from cxrtriage.serve.database import reading
from cxrtriage.serve.results import c_store, stow
from cxrtriage.serve.results.facts import ResultFacts, result_facts
from cxrtriage.serve.results.outbox import Context, Delivery
from cxrtriage.serve.settings import NodeSettings

SEND: dict[str, Callable[[Dataset, NodeSettings], None]] = {"pacs": c_store.store, "stow": stow.store}


def deliver(delivery: Delivery, context: Context) -> None:
    """Make the object that a delivery is about, the same each time, and send it.

    Raises
    ------
    DeliveryError
        If another attempt may succeed.
    Refused
        If none will before somebody acts.
    """
    if delivery.result_id is None:
        raise ValueError(f"delivery {delivery.id} of kind {delivery.kind} is about no result")
    with reading(context.engine) as connection:
        facts = result_facts(connection, context.home, delivery.result_id)
    SEND[delivery.destination](make(delivery.kind, facts, context), context.settings)


def make(kind: str, facts: ResultFacts, context: Context) -> Dataset:
    """Return the object of a kind, "structured_report" or "overlay"."""
    if kind == "structured_report":
        from cxrtriage.serve.results.structured_report import make_structured_report

        return make_structured_report(facts)
    from cxrtriage.serve.results.overlay import make_overlay

    return make_overlay(facts, context)
