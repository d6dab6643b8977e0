"""The command that puts the study's claims to the test on any labelled set: experiment."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from cxrtriage.errors import ConfigError

Kind = Literal["volume", "architecture", "resolution", "split", "visualise", "recipe", "all", "again"]

# Which experiments an option is for; the others are for all.
OPTION_OF = {"sizes": "resolution", "nets": "architecture", "volumes": "volume", "init": "recipe"}


def add_commands(app: typer.Typer) -> None:
    """Add this file's command to `app`."""
    app.command()(experiment)


def experiment(
    kind: Annotated[
        Kind, typer.Argument(help="What to compare; 'again' makes tables and figures again from the runs.")
    ],
    manifest: Annotated[
        Path | None, typer.Argument(help="Manifest, split by patient; see 'cxrtriage manifest'.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for all experiments on these films.")] = Path("experiments"),
    size: Annotated[int | None, typer.Option(min=128, help="Side of the films in pixels (224).")] = None,
    sizes: Annotated[str | None, typer.Option(help="Sides to compare (224,512).")] = None,
    nets: Annotated[str | None, typer.Option(help="Networks to compare (googlenet,inception_v3,resnet152).")] = None,
    volumes: Annotated[str | None, typer.Option(help="Training films to compare, or shares up to 1.0.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Runs of each arm (3).")] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs; chosen by the number of films unless given.")
    ] = None,
    batch: Annotated[int | None, typer.Option(min=2, help="Films a step; chosen unless given.")] = None,
    budget: Annotated[str | None, typer.Option(help="Wall-clock time for each run, such as 90s, 30m or 1h30m.")] = None,
    films: Annotated[int | None, typer.Option(min=32, help="Training films at most, whole patients at random.")] = None,
    init: Annotated[Path | None, typer.Option("--init", help="Weights to compare with a fresh start (recipe).")] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder that the manifest's paths are looked up in first.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A few films and epochs: shows that everything runs.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that prepare films.")] = None,
) -> None:
    """Put the 2017 study's claims to the test: several seeds, one test set, an interval and a verdict for each.

    Interrupted at any moment and started again with the same options, it goes on where it was.

    Example: cxrtriage experiment volume manifest.csv --out experiments --size 128 --volumes 0.1,0.33,1.0
    """
    from pydantic import ValidationError

    from cxrtriage.cli.learning import parse_duration
    from cxrtriage.experiments import KINDS, ExperimentSettings, run_experiments, write_again
    from cxrtriage.experiments.settings import QUICK

    if kind == "again":
        typer.echo(write_again(out))
        return
    if manifest is None:
        raise ConfigError(
            f"experiment {kind} needs a manifest. Make one: cxrtriage manifest labels.csv --out manifest.csv."
        )
    given: dict[str, Any] = {
        "size": size,
        "sizes": None if sizes is None else _list(sizes, int, "--sizes"),
        "nets": None if nets is None else _list(nets, str, "--nets"),
        "volumes": None if volumes is None else _list(volumes, float, "--volumes"),
        "seeds": seeds,
        "epochs": epochs,
        "batch": batch,
        "budget_s": parse_duration(budget),
        "films": films,
        "init": init,
    }
    given = {name: value for name, value in given.items() if value is not None}
    for name in given:
        if kind not in ("all", OPTION_OF.get(name, kind)):
            raise ConfigError(f"--{name} is for experiment {OPTION_OF[name]}, not for {kind}. Leave it out.")
    try:
        settings = ExperimentSettings(**(QUICK if quick else {}) | given, quick=quick)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]).replace("budget_s", "budget")
        raise ConfigError(f"--{name} cannot be {first['input']!r}: {first['msg'].lower()}.") from None
    kinds = KINDS if kind == "all" else (kind,)
    typer.echo(run_experiments(kinds, manifest, out, settings, images=images, workers=workers))


def _list(text: str, kind: type[int] | type[float] | type[str], option: str) -> tuple[Any, ...]:
    """Return "224,512" as a tuple."""
    try:
        return tuple(kind(part.strip()) for part in text.split(","))
    except ValueError:
        example = {int: "224,512", float: "0.1,0.33,1.0"}.get(kind, "googlenet,resnet152")
        raise ConfigError(f"{option} is {text!r}, expected values separated by commas, such as {example}.") from None
