"""The commands about the models of a node: node model list, add, activate, back, retire."""

from pathlib import Path
from typing import Annotated

import typer

Home = Annotated[Path, typer.Option(help="Folder of the node.")]


def add_commands(node: typer.Typer) -> None:
    """Add the group `model` to the group `node`."""
    group = typer.Typer(help="The models that a node runs: one is shown, others score in shadow.", no_args_is_help=True)
    group.command("list")(list_models)
    group.command("add")(add)
    group.command("activate")(activate)
    group.command("back")(back)
    group.command("retire")(retire)
    node.add_typer(group, name="model")


def list_models(home: Home) -> None:
    """List the models, the latest first.

    Example: cxrtriage node model list --home /var/lib/cxrtriage
    """
    from cxrtriage.serve.database import reading
    from cxrtriage.serve.models import all_models
    from cxrtriage.serve.open_node import open_node

    with open_node(home) as (_, engine), reading(engine) as connection:
        for version in all_models(connection):
            validated = "accepted here" if version.acceptance else "not validated here"
            typer.echo(f"{version.sha256[:12]}  {version.role:8}  {version.name}  ({validated})")


def add(
    file: Annotated[Path, typer.Argument(help="Model file.")],
    home: Home,
    active: Annotated[
        bool, typer.Option("--active", help="Show its results at once, instead of scoring in shadow.")
    ] = False,
) -> None:
    """Add a model: it scores what comes, and all unread studies, beside the present one and shown to nobody.

    Example: cxrtriage node model add better.safetensors --home /var/lib/cxrtriage
    """
    from cxrtriage.serve.models import add_model
    from cxrtriage.serve.open_node import open_node

    with open_node(home) as (_, engine):
        version = add_model(engine, home, file, "active" if active else "shadow")
    typer.echo(f"{version.sha256[:12]} is {version.role}")


def activate(
    model: Annotated[str, typer.Argument(help="Its hash, or the beginning of it.")],
    home: Home,
) -> None:
    """Show this model's results from now on; open studies are scored again, older results stay.

    Example: cxrtriage node model activate 3f9a --home /var/lib/cxrtriage
    """
    from cxrtriage.serve import models
    from cxrtriage.serve.open_node import open_node

    with open_node(home) as (_, engine):
        version = models.activate(engine, model)
    typer.echo(f"{version.sha256[:12]} is {version.role}")


def back(home: Home) -> None:
    """Go back to the model that was active before.

    Example: cxrtriage node model back --home /var/lib/cxrtriage
    """
    from cxrtriage.serve import models
    from cxrtriage.serve.open_node import open_node

    with open_node(home) as (_, engine):
        version = models.go_back(engine)
    typer.echo(f"{version.sha256[:12]} is {version.role}")


def retire(
    model: Annotated[str, typer.Argument(help="Its hash, or the beginning of it.")],
    home: Home,
) -> None:
    """Stop a shadow model.

    Example: cxrtriage node model retire 3f9a --home /var/lib/cxrtriage
    """
    from cxrtriage.serve import models
    from cxrtriage.serve.open_node import open_node

    with open_node(home) as (_, engine):
        version = models.retire(engine, model)
    typer.echo(f"{version.sha256[:12]} is {version.role}")
