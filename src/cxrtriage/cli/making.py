"""Commands that make data: phantom, manifest, prepare."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cxrtriage.config import Recipe
from cxrtriage.data.remote.address import address, is_url, shown
from cxrtriage.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

Seed = Annotated[int, typer.Option(help="Seed of every random choice.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes; all processors unless given.")]
ClusterAddress = Annotated[
    str | None, typer.Option(help="Ray cluster to do it on: auto, HOST:PORT, ray://HOST:PORT, or local to try it.")
]
Images = Annotated[str | None, typer.Option(help="Folder or URL that the table's paths are looked up in first.")]


def add_commands(app: typer.Typer) -> None:
    """Add this file's commands to `app`."""
    app.command()(prepare)
    app.command()(manifest)
    app.command()(phantom)


def phantom(
    out: Annotated[Path, typer.Argument(help="Folder for images/, masks and labels.csv.")],
    films: Annotated[int, typer.Option(min=1, help="How many films.")] = 100,
    size: Annotated[int, typer.Option(min=64, max=4096, help="Side of a film in pixels.")] = 512,
    format: Annotated[Literal["tiff", "dicom"], typer.Option(help="File format.")] = "tiff",  # noqa: A002
    seed: Seed = 0,
    ratio: Annotated[str, typer.Option(help="Normal : abnormal : emergent.")] = "60:35:5",
    workers: Workers = None,
) -> None:
    """Make synthetic radiographs with labels and lesion masks, for trying things out and for tests.

    Example: cxrtriage phantom phantoms --films 200 --size 512 --seed 1
    """
    from cxrtriage.data.phantom import make_phantoms

    labels = make_phantoms(out, films, size, format=format, seed=seed, ratio=_parse_ratio(ratio), workers=workers)
    typer.echo(labels)


def manifest(
    source: Annotated[
        str,
        typer.Argument(help="CSV or Parquet table or its URL, folder of class folders, public set, or node's folder."),
    ],
    out: Annotated[Path, typer.Option(help="Manifest to write (.csv or .parquet).")],
    images: Images = None,
    public_set: Annotated[
        str | None, typer.Option("--from", help="Original label files of a public set: nih, chexpert, mimic, ...")
    ] = None,
    from_node: Annotated[
        bool, typer.Option("--from-node", help="SOURCE is a node's folder: films that its readers judged.")
    ] = False,
    split_by: Annotated[
        Literal["patient", "image"], typer.Option(help="'image' is the study's way; it leaks.")
    ] = "patient",
    test: Annotated[float, typer.Option(min=0.0, max=0.9, help="Share of patients for the test.")] = 0.1,
    validation: Annotated[float, typer.Option(min=0.0, max=0.9, help="Share of the rest for validation.")] = 0.1,
    seed: Seed = 0,
) -> None:
    """Check a labelled set, split it by patient and save it as one table.

    Example: cxrtriage manifest labels.csv --images films --out manifest.csv
    """
    from cxrtriage.data.labels.manifest import read_labelled, save_manifest
    from cxrtriage.data.labels.split import split_manifest

    where = None if images is None else address(images)
    frame = _from_node(Path(source)) if from_node else read_labelled(address(source), where, public_set)
    for reason, count in frame.attrs.get("left_out", {}).items():
        typer.echo(f"left out: {count} films, {reason}", err=True)
    frame = split_manifest(frame, test=test, validation=validation, by=split_by, seed=seed)
    digest = save_manifest(frame, out)
    counts = frame.pivot_table(index="split", columns="label", aggfunc="size", fill_value=0)
    typer.echo(counts.to_string(), err=True)
    typer.echo(f"sha256 {digest}", err=True)
    typer.echo(out)


def _from_node(home: Path) -> "pd.DataFrame":
    from cxrtriage.data.labels.manifest import check_manifest
    from cxrtriage.serve.database import reading
    from cxrtriage.serve.open_node import open_node
    from cxrtriage.serve.worklist.labelled import reviewed_films

    with open_node(home) as (_, engine), reading(engine) as connection:
        return check_manifest(reviewed_films(connection, home), str(home))


def prepare(
    manifest: Annotated[
        str, typer.Argument(help="Manifest (.csv or .parquet), or its URL, such as s3://bucket/manifest.csv.")
    ],
    out: Annotated[str, typer.Option(help="Folder of the prepared set, or URL to put it to.")],
    size: Annotated[int, typer.Option(help="Side of the prepared films in pixels.")] = 224,
    downsample: Annotated[
        Literal["random", "area"], typer.Option(help="One random pixel a cell, or its mean.")
    ] = "random",
    fit: Annotated[
        Literal["stretch", "pad"], typer.Option(help="Stretch to a square, or keep proportions.")
    ] = "stretch",
    crop_edges: Annotated[bool, typer.Option("--crop-edges", help="Cut constant borders away.")] = False,
    mask_border: Annotated[
        bool, typer.Option("--mask-border", help="Leave border and saturated markers out of the histogram.")
    ] = False,
    contrast: Annotated[
        Literal["equalise", "none", "clahe"], typer.Option(help="The study's equalisation, none, or CLAHE.")
    ] = "equalise",
    like: Annotated[Path | None, typer.Option(help="Model file whose preparation to use instead.")] = None,
    draws: Annotated[int, typer.Option(min=1, help="Random draws of each training film.")] = 1,
    images: Images = None,
    workers: Workers = None,
    cluster: ClusterAddress = None,
    max_rejected: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of films that may fail.")] = 0.05,
) -> None:
    """Equalise and downsample films into a set that training reads at full speed.

    Films, manifest and --out may lie in an object store; see docs/scale.md.

    Example: cxrtriage prepare manifest.csv --out prepared --size 224
    """
    from cxrtriage.data.labels.manifest import read_manifest
    from cxrtriage.data.prepared.build import prepare_set
    from cxrtriage.data.prepared.upload import prepare_into_store

    if cluster is not None and workers is not None:
        raise ConfigError("--workers counts the processes of one machine; on a --cluster, Ray does. Give one of them.")
    if like is None:
        recipe = Recipe(
            size=size,
            downsample=downsample,
            fit=fit,
            crop_edges=crop_edges,
            mask_border=mask_border,
            contrast=contrast,
        )
    else:
        from cxrtriage.model.card import load_card

        recipe = load_card(like).recipe
    prepare_films = prepare_into_store if is_url(out) else prepare_set
    prepare_films(
        read_manifest(address(manifest), None if images is None else address(images)),
        address(out),  # type: ignore[arg-type]  # of the kind that the function takes
        recipe,
        draws=draws,
        workers=workers,
        cluster=cluster,
        max_rejected=max_rejected,
    )
    typer.echo(shown(out))


def _parse_ratio(text: str) -> tuple[float, float, float]:
    """Return "60:35:5" as three numbers."""
    try:
        normal, abnormal, emergent = (float(part) for part in text.split(":"))
    except ValueError:
        raise ConfigError(
            f"--ratio is {text!r}, expected three numbers normal:abnormal:emergent such as 60:35:5."
        ) from None
    return normal, abnormal, emergent
