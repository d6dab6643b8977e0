"""Who is to be told of a result: a new result in, rows of the outbox out, in the same transaction; `worker` calls it.

Nothing leaves in shadow mode, for the result of a model that runs in shadow, or while the model is off; such a
result is not told later either, since by then it may have been read.
"""

from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Connection, select

from cxrtriage.serve import node_state
from cxrtriage.serve.notify import notices
from cxrtriage.serve.results import outbox
from cxrtriage.serve.settings import NodeSettings
from cxrtriage.serve.tables import instance, model_version, result


def result_ready(connection: Connection, settings: NodeSettings, result_id: int, home: Path) -> None:
    """Put what a result is to be told in the outbox: one row for each destination and kind, once.

    Parameters
    ----------
    connection : of the transaction that writes the result
    settings : which destinations there are
    result_id : key of the result
    home : the node's folder
    """
    if held(connection, settings):
        return
    row = connection.execute(
        select(instance.c.study_id, result.c.decision, model_version.c.role)
        .join_from(result, instance)
        .join(model_version, model_version.c.sha256 == result.c.model_sha256)
        .where(result.c.id == result_id)
    ).first()
    if row is None or row.role != "active":
        return
    for destination, kind in destinations(settings):
        key = f"{destination} {kind} result {result_id}"
        outbox.put(connection, destination=destination, kind=kind, key=key, study_id=row.study_id, result_id=result_id)
    if settings.notice.when == "result" and row.decision != "normal":
        notices.tell(connection, settings, home, row.study_id)


def held(connection: Connection, settings: NodeSettings) -> bool:
    """Tell whether nothing may leave at present: shadow mode, or the model is off."""
    return settings.reading.shadow or bool(node_state.get(connection, node_state.MODEL_OFF))


def destinations(settings: NodeSettings) -> Iterator[tuple[str, str]]:
    """Yield each configured destination with a kind of message that it gets of every result."""
    for name, section, there in (
        ("pacs", settings.pacs, settings.pacs.host),
        ("stow", settings.stow, settings.stow.url),
    ):
        if there and section.structured_report:
            yield name, "structured_report"
        if there and section.overlay:
            yield name, "overlay"
    if settings.hl7_out.host:
        yield "hl7_out", "oru"
    if settings.fhir.url:
        yield "fhir", "fhir"
