"""Commands that learn: demo, fit, train."""

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from cxrtriage.errors import ConfigError

Net = Annotated[Literal["googlenet", "inception_v3", "resnet152"], typer.Option(help="Network.")]
TrainingRecipe = Annotated[
    Literal["study", "clinical"], typer.Option(help="The study's training, or a gentler and longer-sighted one.")
]
Epochs = Annotated[int | None, typer.Option(min=1, help="Epochs; chosen by the number of films unless given.")]
Batch = Annotated[int | None, typer.Option(min=2, help="Films a step; chosen unless given (the study took 256).")]
Budget = Annotated[str | None, typer.Option(help="Wall-clock time to stay within, such as 90s, 30m or 1h30m.")]
ClassWeight = Annotated[str, typer.Option(help="none, balanced, or the weight of an abnormal film.")]
Classes = Annotated[
    Literal["auto", "2", "3"],
    typer.Option(help="3 tells emergent from abnormal; auto takes it where there are enough."),
]
Initial = Annotated[
    Path | None, typer.Option("--init", help="Weights to start from (torchvision .pth or .safetensors).")
]
Devices = Annotated[int, typer.Option(min=1, help="GPUs, or processes on a CPU, per machine.")]
Nodes = Annotated[int, typer.Option(min=1, help="Machines.")]
Seed = Annotated[int, typer.Option(help="Seed of every random choice.")]


def add_commands(app: typer.Typer) -> None:
    """Add this file's commands to `app`."""
    app.command()(demo)
    app.command()(fit)
    app.command()(train)


def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything the demo makes.")] = Path("demo"),
    films: Annotated[int, typer.Option(min=20, help="Phantoms to train on; half as many again are tested.")] = 360,
    seed: Seed = 0,
) -> None:
    """See it work in minutes: make phantoms, fit a network, measure it, score DICOM films.

    Example: cxrtriage demo --out demo
    """
    from cxrtriage.cli.tables import print_fit
    from cxrtriage.demo import run_demo

    print_fit(run_demo(out, films=films, seed=seed))


def fit(
    images: Annotated[Path, typer.Argument(help="Folder of films; or of normal/, abnormal/, emergent/.")],
    labels: Annotated[Path | None, typer.Argument(help="CSV or Parquet with path,label[,patient_id,...].")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the model, its figures and everything between.")] = Path(
        "fitted"
    ),
    net: Net = "googlenet",
    size: Annotated[int | None, typer.Option(min=128, help="Side in pixels; chosen unless given.")] = None,
    recipe: TrainingRecipe = "clinical",
    epochs: Epochs = None,
    batch: Batch = None,
    budget: Budget = None,
    class_weight: ClassWeight = "none",
    classes: Classes = "auto",
    init: Initial = None,
    crop_edges: Annotated[bool, typer.Option("--crop-edges", help="Cut constant borders away.")] = False,
    mask_border: Annotated[bool, typer.Option("--mask-border", help="Leave borders and markers unequalised.")] = False,
    contrast: Annotated[
        Literal["equalise", "none", "clahe"], typer.Option(help="The study's equalisation, none, or CLAHE.")
    ] = "equalise",
    split_by: Annotated[
        Literal["patient", "image"], typer.Option(help="'image' is the study's way; it leaks.")
    ] = "patient",
    max_rejected: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of films that may fail.")] = 0.05,
    explain_films: Annotated[
        int, typer.Option(min=0, help="Films that explanations are scored on; 0 leaves them out.")
    ] = 24,
    devices: Devices = 1,
    nodes: Nodes = 1,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that prepare films.")] = None,
    seed: Seed = 0,
) -> None:
    """From labelled films to a trained, calibrated, measured and explained model and its report, in one command.

    Interrupted at any moment and started again with the same options, it goes on where it was.

    Example: cxrtriage fit images/ labels.csv --out fitted --budget 1h
    """
    from cxrtriage.cli.tables import print_fit
    from cxrtriage.pipeline import fit as fit_films

    result = fit_films(
        images,
        labels,
        out,
        net=net,
        size=size,
        recipe=recipe,
        epochs=epochs,
        batch=batch,
        budget_s=parse_duration(budget),
        class_weight=parse_class_weight(class_weight),
        classes=parse_classes(classes),
        init=init,
        crop_edges=crop_edges,
        mask_border=mask_border,
        contrast=contrast,
        split_by=split_by,
        max_rejected=max_rejected,
        explain_films=explain_films,
        devices=devices,
        nodes=nodes,
        workers=workers,
        seed=seed,
    )
    print_fit(result)


def train(
    prepared: Annotated[Path, typer.Argument(help="Prepared set.")],
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    net: Net = "googlenet",
    recipe: TrainingRecipe = "clinical",
    epochs: Epochs = None,
    batch: Batch = None,
    budget: Budget = None,
    class_weight: ClassWeight = "none",
    classes: Classes = "auto",
    init: Initial = None,
    learning_rate: Annotated[float, typer.Option(min=1e-8, help="Highest learning rate of Adam.")] = 0.001,
    precision: Annotated[
        Literal["auto", "fp32", "bf16"], typer.Option(help="'auto' is bf16 where the hardware computes in it.")
    ] = "auto",
    compiled: Annotated[bool, typer.Option("--compile", help="Compile the network first; for long GPU runs.")] = False,
    devices: Devices = 1,
    nodes: Nodes = 1,
    resume: Annotated[bool, typer.Option(help="Go on from the run's last checkpoint.")] = True,
    seed: Seed = 0,
) -> None:
    """Train a network on a prepared set and calibrate it on the validation films.

    Example: cxrtriage train prepared --out run --net googlenet --epochs 30
    """
    from cxrtriage.config import TrainSettings
    from cxrtriage.data.prepared.store import open_prepared
    from cxrtriage.pipeline import train_and_calibrate

    settings = TrainSettings(
        net=net,
        recipe=recipe,
        classes=parse_classes(classes),
        epochs=epochs,
        batch=batch,
        budget_s=parse_duration(budget),
        learning_rate=learning_rate,
        class_weight=parse_class_weight(class_weight),
        init=init,
        precision=precision,
        compiled=compiled,
        devices=devices,
        nodes=nodes,
        seed=seed,
    )
    typer.echo(train_and_calibrate(open_prepared(prepared), out, settings, resume=resume))


def parse_classes(text: Literal["auto", "2", "3"]) -> Literal["auto", 2, 3]:
    """Return the number of classes, or "auto"."""
    return text if text == "auto" else 3 if text == "3" else 2


def parse_duration(text: str | None) -> float | None:
    """Return a duration such as "1h30m" in seconds.

    Examples
    --------
    >>> parse_duration("1h30m")
    5400.0
    """
    if text is None:
        return None
    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text.strip())
    if not match or not any(match.groups()):
        raise ConfigError(f"--budget is {text!r}, expected a time such as 90s, 30m or 1h30m.")
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return 3600.0 * hours + 60.0 * minutes + seconds


def parse_class_weight(text: str) -> float | Literal["none", "balanced"]:
    """Return "none" and "balanced" as they are and anything else as a number."""
    if text == "none":
        return "none"
    if text == "balanced":
        return "balanced"
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"--class-weight is {text!r}, expected none, balanced or a number such as 2.5.") from None
