"""The commands that read the audit trail: audit verify, audit export."""

from pathlib import Path
from typing import Annotated

import typer

Home = Annotated[Path, typer.Option(help="Folder of the node.")]


def add_commands(app: typer.Typer) -> None:
    """Add the group `audit` to `app`."""
    audit = typer.Typer(help="Check and export a node's audit trail.", no_args_is_help=True)
    audit.command()(verify)
    audit.command()(export)
    app.add_typer(audit, name="audit")


def verify(
    home: Home,
    head: Annotated[
        str | None,
        typer.Option(metavar="NUMBER:SHA256", help="What an earlier run printed; else the one kept under HOME."),
    ] = None,
) -> None:
    """Tell whether rows of the audit trail were changed, taken out or cut off; exit status 1 if so.

    Example: cxrtriage audit verify --home /var/lib/cxrtriage
    """
    from cxrtriage.serve import audit
    from cxrtriage.serve.database import reading
    from cxrtriage.serve.open_node import open_node

    before = audit.kept_head(home) if head is None else audit.Head.parse(head)
    with open_node(home) as (_, engine), reading(engine) as connection:
        sentences = audit.verify(connection, before)
        head_now = audit.head_of(connection)
    for sentence in sentences:
        typer.echo(sentence, err=True)
    if sentences:
        raise typer.Exit(1)
    audit.keep_head(home, head_now)
    against = f"and it goes on from row {before.rows} as kept before" if before else "with no earlier head to compare"
    typer.echo(f"The audit trail is whole: {head_now.rows} rows, {against}.")
    typer.echo(
        f"Keep this where who looks after the node cannot write; give it as --head to detect a cut end:\n{head_now}"
    )


def export(home: Home, out: Annotated[Path, typer.Option(help="File to write: XML, one AuditMessage a line.")]) -> None:
    """Write the audit trail in the form of DICOM PS3.15 A.5; that it was read is recorded in it.

    Example: cxrtriage audit export --home /var/lib/cxrtriage --out audit.xml
    """
    from cxrtriage.atomic import replacing
    from cxrtriage.serve import audit
    from cxrtriage.serve.audit_message import as_dicom_xml
    from cxrtriage.serve.database import reading
    from cxrtriage.serve.open_node import open_node

    with open_node(home) as (_, engine):
        with engine.begin() as connection:
            audit.record(connection, "audit_used", actor="command line", action="R", detail={"file": out.name})
        with reading(engine) as connection, replacing(out) as temporary, temporary.open("w", encoding="utf-8") as file:
            file.write("<AuditMessages>\n")
            for row in audit.rows_of(connection):
                file.write(f"{as_dicom_xml(row)}\n")
            file.write("</AuditMessages>\n")
    typer.echo(out)
