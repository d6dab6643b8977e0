"""The commands that keep a node's disk and its copies: node backup, node restore, node retain."""

from pathlib import Path
from typing import Annotated

import typer

Home = Annotated[Path, typer.Option(help="Folder of the node.")]


def add_commands(node: typer.Typer) -> None:
    """Add this file's commands to the group `node`."""
    node.command()(backup)
    node.command()(restore)
    node.command()(retain)


def backup(
    home: Home,
    out: Annotated[Path, typer.Option(help="New folder, or that of an earlier backup, which is brought up to date.")],
) -> None:
    """Copy the node while it runs: database, films, models, settings.

    Example: cxrtriage node backup --home /var/lib/cxrtriage --out /mnt/backup/cxrtriage
    """
    from cxrtriage.serve.backup import back_up
    from cxrtriage.serve.open_node import open_node

    with open_node(home) as (settings, engine):
        copied = back_up(home, out, settings, engine)
    typer.echo(f"{copied.films} films in the backup, {copied.new} of them new")
    if copied.linked:
        typer.echo(f"{copied.linked} films were linked, not copied: the backup is on the same disk as the node.")
    if copied.deleted:
        typer.echo(f"{copied.deleted} films had been deleted by the node before")
    typer.echo(out)
    if copied.damaged:
        typer.echo(f"{copied.damaged} films are no longer as they were received: check the node's disk.", err=True)
        raise typer.Exit(1)


def restore(
    source: Annotated[Path, typer.Option("--from", metavar="DIR", help="Folder that `node backup` wrote.")],
    home: Annotated[Path, typer.Option(help="Folder to make the node in: new or empty.")],
) -> None:
    """Make a node from a backup, in a new folder; start it with `cxrtriage serve` after that.

    Example: cxrtriage node restore --from /mnt/backup/cxrtriage --home /var/lib/cxrtriage
    """
    from cxrtriage.serve.restore import restore as restore_node

    restored = restore_node(source, home)
    typer.echo(f"restored the node as of {restored.made_at}: {restored.films} films")
    for sentence in restored.warnings:
        typer.echo(sentence, err=True)
    for path in restored.lost:
        typer.echo(f"lost: {path} is missing from the backup or damaged", err=True)
    typer.echo(home)
    if restored.lost or restored.warnings:
        raise typer.Exit(1)


def retain(
    home: Home,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how much would be deleted.")] = False,
) -> None:
    """Delete the films of studies read more than retention.films_days ago; a running node does it daily.

    Example: cxrtriage node retain --home /var/lib/cxrtriage --dry-run
    """
    from cxrtriage.errors import ConfigError
    from cxrtriage.serve import retention
    from cxrtriage.serve.open_node import open_node

    with open_node(home) as (settings, engine):
        days = settings.retention.films_days
        if not days:
            raise ConfigError("retention.films_days is 0: films are kept for ever. Set it in cxrtriage.toml.")
        deleted = retention.retain(engine, home, days, actor="command line", dry_run=dry_run)
    verb = "would delete" if dry_run else "deleted"
    size = deleted.bytes / 2**30
    typer.echo(f"{verb} {deleted.films} films of {deleted.studies} studies read over {days:g} days ago, {size:.1f} GiB")
