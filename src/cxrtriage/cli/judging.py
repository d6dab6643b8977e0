"""Commands that judge and use a model: evaluate, recalibrate, score, model show and export."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from cxrtriage import __version__
from cxrtriage.cli.making import ClusterAddress
from cxrtriage.data.remote.address import Address, address, shown
from cxrtriage.errors import ConfigError, SourceError
from cxrtriage.records import Prediction

Prevalence = Annotated[
    float | None,
    typer.Option(
        min=0.0001, max=0.9999, help="Share of abnormal films where the model is used; shifts the probabilities."
    ),
]

model_commands = typer.Typer(no_args_is_help=True, help="Look into model files, and hand them on.")


def add_commands(app: typer.Typer) -> None:
    """Add this file's commands to `app`."""
    app.command()(evaluate)
    app.command()(recalibrate)
    app.command()(score)
    app.add_typer(model_commands, name="model")


def evaluate(
    manifest: Annotated[Path | None, typer.Argument(help="Labelled films: manifest or prepared set.")] = None,
    model: Annotated[Path | None, typer.Option(help="Model file.")] = None,
    predictions: Annotated[
        Path | None, typer.Option(help="CSV with label,probability[,patient_id,source,...].")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for predictions.csv, metrics.json and figures.")] = Path(
        "evaluation"
    ),
    threshold: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Abnormal from here on; else the model's own, or 0.5.")
    ] = None,
    prevalence: Prevalence = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder that the manifest's paths are looked up in first.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
) -> None:
    """Measure a model on labelled films, or any CSV of labels and probabilities.

    Example: cxrtriage evaluate --predictions predictions.csv --out evaluation
    """
    from rich.console import Console

    from cxrtriage.evaluate.table import metrics_table
    from cxrtriage.pipeline import evaluate_csv, evaluate_model

    if predictions is not None and model is None and manifest is None:
        metrics = evaluate_csv(predictions, out, threshold=threshold, prevalence=prevalence, seed=seed)
    elif model is not None and manifest is not None and predictions is None:
        metrics = evaluate_model(
            model, manifest, out, images=images, threshold=threshold, prevalence=prevalence, seed=seed
        )
    else:
        raise ConfigError("evaluate takes either --predictions FILE, or --model FILE and a MANIFEST; see --help.")
    Console().print(metrics_table(metrics))
    typer.echo(out)


def recalibrate(
    model: Annotated[Path, typer.Argument(help="Model file.")],
    manifest: Annotated[Path, typer.Argument(help="Labelled films of the new place: manifest or prepared set.")],
    out: Annotated[Path, typer.Option(help="Model file to write.")],
    images: Annotated[
        Path | None, typer.Option(help="Folder that the manifest's paths are looked up in first.")
    ] = None,
) -> None:
    """Fit a model's probabilities and operating points to another place, without training it again.

    Example: cxrtriage recalibrate model.safetensors local.csv --out local-model.safetensors
    """
    from cxrtriage.pipeline import recalibrate_for

    recalibrate_for(model, manifest, out, images=images)
    typer.echo(out)


def score(
    paths: Annotated[
        list[str],
        typer.Argument(
            help="Films and folders of films, in any format that is read, or URLs, such as s3://bucket/films."
        ),
    ],
    model: Annotated[Path | None, typer.Option(help="Model file; the packaged model unless given.")] = None,
    out: Annotated[
        str, typer.Option(help="CSV to write, or URL to put it to: path,probability,decision,reason,warning.")
    ] = "scores.csv",
    prevalence: Prevalence = None,
    engine: Annotated[
        Literal["auto", "torch", "openvino", "openvino-bf16", "openvino-int8"],
        typer.Option(
            help="What runs the network; 'auto' is OpenVINO, in int8 or bf16 if the model may (not on a cluster)."
        ),
    ] = "auto",
    cluster: ClusterAddress = None,
) -> None:
    """Score films: a row each, with a reason where a film was not assessed. Interrupted and called again, it goes on.

    Films and --out may lie in an object store; see docs/scale.md.

    Example: cxrtriage score films/ --model fitted/run/model.safetensors --out scores.csv
    """
    from cxrtriage.data.film.source import find_films
    from cxrtriage.digest import sha256_of
    from cxrtriage.engines import engine_of_file
    from cxrtriage.progress import progress_bar
    from cxrtriage.score import packaged_model, score_films
    from cxrtriage.score_cluster import score_on_cluster
    from cxrtriage.scores import write_scores

    file = model or packaged_model()
    if cluster is not None and engine == "auto":
        engine = "openvino"  # the same everywhere: not every machine need compute in bf16
    card, run = engine_of_file(file, engine)
    films = find_films(map(address, paths))
    if not films:
        raise SourceError(f"there is no film in {shown(paths[0])}: no TIFF, PNG, JPEG or DICOM file. Check the folder.")
    with progress_bar("scoring", total=len(films), unit="films") as advance:

        def score_rest(rest: Sequence[Address]) -> Iterator[Prediction]:
            advance(len(films) - len(rest))
            if cluster is not None:
                return score_on_cluster(cluster, model, rest, prevalence=prevalence, engine=engine, advance=advance)
            return score_films(card, rest, prevalence=prevalence, engine=run, advance=advance)

        made_from = f"{__version__} {sha256_of(file)} {engine} {prevalence}"
        not_assessed = write_scores(films, address(out), score_rest, made_from)
    if not_assessed:
        typer.echo(f"{not_assessed} of {len(films)} films could not be assessed; their rows say why.", err=True)
    typer.echo(shown(out))


@model_commands.command("show")
def show(model: Annotated[Path, typer.Argument(help="Model file.")]) -> None:
    """Print what a model file says of itself: network, preparation, data, calibration, operating points.

    Example: cxrtriage model show fitted/run/model.safetensors
    """
    from cxrtriage.model.card import load_card

    typer.echo(load_card(model).model_dump_json(indent=2))


@model_commands.command("export")
def export(
    model: Annotated[Path, typer.Argument(help="Model file.")],
    out: Annotated[Path, typer.Option(help="ONNX file to write.")] = Path("model.onnx"),
) -> None:
    """Write a model's network as ONNX, for other programs; what else they need is in its metadata.

    Example: cxrtriage model export fitted/run/model.safetensors --out model.onnx
    """
    from cxrtriage.export import export_onnx

    export_onnx(model, out)
    typer.echo(out)
