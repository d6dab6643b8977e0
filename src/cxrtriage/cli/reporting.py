"""The command that writes the page: report."""

from pathlib import Path
from typing import Annotated

import typer


def add_commands(app: typer.Typer) -> None:
    """Add this file's commands to `app`."""
    app.command()(report)


def report(
    run: Annotated[Path, typer.Argument(help="Folder that fit or evaluate wrote.")],
    out: Annotated[Path | None, typer.Option(help="File to write; RUN/report.html unless given.")] = None,
    identify: Annotated[bool, typer.Option("--identify", help="Add file names, which may identify patients.")] = False,
) -> None:
    """Write one self-contained HTML page about a fit or an evaluation; no model is run.

    Example: cxrtriage report fitted --out report.html
    """
    from cxrtriage.report import write_report

    typer.echo(write_report(run, out, identify=identify))
