"""The commands about who may come in: node account add, close, list; node token add, close, list."""

from pathlib import Path
from typing import Annotated, Literal

import typer

Home = Annotated[Path, typer.Option(help="Folder of the node.")]
Name = Annotated[str, typer.Argument(help="Its name.")]


def add_commands(node: typer.Typer) -> None:
    """Add the groups `account` and `token` to the group `node`."""
    account = typer.Typer(help="People who may sign in.", no_args_is_help=True)
    account.command("add")(add_account)
    account.command("close")(close_account)
    account.command("list")(list_accounts)
    node.add_typer(account, name="account")
    token = typer.Typer(help="Programs that may use the JSON API and send films by STOW-RS.", no_args_is_help=True)
    token.command("add")(add_token)
    token.command("close")(close_token)
    token.command("list")(list_tokens)
    node.add_typer(token, name="token")


def add_account(
    name: Name,
    home: Home,
    role: Annotated[Literal["reader", "referrer", "admin"], typer.Option(help="What it may do.")] = "reader",
    recipient: Annotated[str, typer.Option(help="A referrer's key in recipients.csv.")] = "",
) -> None:
    """Print a link with which somebody chooses a password, for a new account or one that is there; good for three days.

    Example: cxrtriage node account add dr.smith --home /var/lib/cxrtriage
    """
    from cxrtriage.serve.open_node import open_node
    from cxrtriage.serve.web.accounts import invite

    with open_node(home) as (settings, engine), engine.begin() as connection:
        secret = invite(connection, name, role, recipient)
        link = f"{settings.web.base_url}/invitations/{secret}"
    typer.echo(link)


def close_account(name: Name, home: Home) -> None:
    """Close an account and end its sessions.

    Example: cxrtriage node account close dr.smith --home /var/lib/cxrtriage
    """
    from cxrtriage.serve.open_node import open_node
    from cxrtriage.serve.web.accounts import close

    with open_node(home) as (_, engine), engine.begin() as connection:
        close(connection, name)
    typer.echo(f"{name} is closed")


def list_accounts(home: Home) -> None:
    """List the accounts with their roles.

    Example: cxrtriage node account list --home /var/lib/cxrtriage
    """
    from sqlalchemy import select

    from cxrtriage.serve.database import reading
    from cxrtriage.serve.open_node import open_node
    from cxrtriage.serve.tables import account

    with open_node(home) as (_, engine), reading(engine) as connection:
        for row in connection.execute(select(account).order_by(account.c.name)).all():
            typer.echo(f"{row.name}  {row.role}{'  closed' if row.closed_at else ''}")


def add_token(
    name: Name,
    home: Home,
    role: Annotated[Literal["reader", "admin"], typer.Option(help="What it may do.")] = "reader",
) -> None:
    """Print a new API token; it is shown once.

    Example: cxrtriage node token add dashboard --home /var/lib/cxrtriage
    """
    from cxrtriage.serve.open_node import open_node
    from cxrtriage.serve.web.accounts import add_token as add

    with open_node(home) as (_, engine), engine.begin() as connection:
        secret = add(connection, name, role)
    typer.echo(secret)


def close_token(name: Name, home: Home) -> None:
    """Close an API token.

    Example: cxrtriage node token close dashboard --home /var/lib/cxrtriage
    """
    from cxrtriage.serve.open_node import open_node
    from cxrtriage.serve.web.accounts import close_token as close

    with open_node(home) as (_, engine), engine.begin() as connection:
        close(connection, name)
    typer.echo(f"{name} is closed")


def list_tokens(home: Home) -> None:
    """List the API tokens with their roles.

    Example: cxrtriage node token list --home /var/lib/cxrtriage
    """
    from sqlalchemy import select

    from cxrtriage.serve.database import reading
    from cxrtriage.serve.open_node import open_node
    from cxrtriage.serve.tables import api_token

    with open_node(home) as (_, engine), reading(engine) as connection:
        for row in connection.execute(select(api_token).order_by(api_token.c.name)).all():
            typer.echo(f"{row.name}  {row.role}{'  closed' if row.closed_at else ''}")
