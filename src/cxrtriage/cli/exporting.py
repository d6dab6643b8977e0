"""The command that hands films on without their patients: node deidentify."""

from pathlib import Path
from typing import Annotated

import typer


def add_commands(node: typer.Typer) -> None:
    """Add this file's command to the group `node`."""
    node.command()(deidentify)


def deidentify(
    home: Annotated[Path, typer.Option(help="Folder of the node.")],
    study: Annotated[str, typer.Option(metavar="UID", help="Study Instance UID of the study.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the copies; made if it is not there.")],
) -> None:
    """Copy a study's films without their patient: DICOM PS3.15 basic profile; sex and age stay, dates and names go.

    Example: cxrtriage node deidentify --home /var/lib/cxrtriage --study 1.2.840.1 --out copies
    """
    from cxrtriage.serve.open_node import open_node
    from cxrtriage.serve.results.deidentify import copy_study

    with open_node(home) as (_, engine):
        copied = copy_study(engine, home, study, out)
    typer.echo(f"{len(copied.files)} films are in {out}")
    if copied.maybe_burned_in:
        typer.echo(
            f"{copied.maybe_burned_in} of them do not say that nothing is burned in. Look at each: words in the "
            "pixels are not removed.",
            err=True,
        )
