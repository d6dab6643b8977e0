"""The command that runs the triage node: serve."""

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from cxrtriage.errors import ConfigError


def add_commands(app: typer.Typer) -> None:
    """Add this file's command to `app`."""
    app.command()(serve)


def serve(
    home: Annotated[Path, typer.Option(help="Folder of the node: settings, films, database. Made at the first start.")],
    model: Annotated[
        Path | None,
        typer.Option(help="Model file to make active, unless this node knows it already; else the one it has."),
    ] = None,
    role: Annotated[
        Literal["all", "receiver", "worker", "web"], typer.Option(help="What to run on this machine.")
    ] = "all",
    database: Annotated[
        str | None, typer.Option(metavar="URL", help="postgresql://user@host/name, instead of SQLite under HOME.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only say whether disk, database, port, model and peers answer.")
    ] = False,
    acceptance: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Only measure the active model on this site's labelled films, and fit it."),
    ] = None,
) -> None:
    """Run the triage node: films in, the urgent ones first, evidence and notices out.

    Example: cxrtriage serve --home /var/lib/cxrtriage --model fitted/run/model.safetensors
    """
    try:
        import pynetdicom  # noqa: F401
        import sqlalchemy  # noqa: F401
    except ImportError as error:
        raise ConfigError("the node needs more packages. Install them with: pip install 'cxrtriage[serve]'.") from error
    from cxrtriage.serve.settings import DATABASE_VARIABLE
    from cxrtriage.serve.supervise import prepare_home
    from cxrtriage.serve.supervise import serve as run_node

    if database is not None:
        os.environ[DATABASE_VARIABLE] = database  # the node's processes inherit it, and no process list shows it
    if acceptance is not None:
        _accept(home, acceptance)
        return
    if not check:
        run_node(home, model, role)
        return
    from cxrtriage.serve.check import check_node

    settings = prepare_home(home)
    findings = list(check_node(home, model, settings))
    for finding in findings:
        typer.echo(f"{'ok    ' if finding.works else 'FAILED'}  {finding.sentence}")
    if not all(finding.works for finding in findings):
        raise typer.Exit(1)


def _accept(home: Path, films: Path) -> None:
    from rich.console import Console

    from cxrtriage.acceptance import accept
    from cxrtriage.evaluate.table import metrics_table

    accepted = accept(home, films)
    Console().print(metrics_table(accepted.metrics))
    for path, reason in accepted.not_assessed.items():
        typer.echo(f"not assessed: {path}: {reason}", err=True)
    typer.echo(f"model {accepted.version.sha256[:12]}, recalibrated on half of these films, is active from now on")
