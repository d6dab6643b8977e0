"""The command that shows why a model calls films what it calls them, and how far to trust that: explain."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from cxrtriage.errors import ConfigError


def add_commands(app: typer.Typer) -> None:
    """Add this file's command to `app`."""
    app.command()(explain)


def explain(
    model: Annotated[Path, typer.Option(help="Model file.")],
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Films and folders of films, in any format that is read.")
    ] = None,
    score: Annotated[
        Path | None, typer.Option(help="Score all methods on labelled films instead: manifest or prepared set.")
    ] = None,
    films: Annotated[int, typer.Option(min=1, help="Most films to score on (for --score).")] = 24,
    images: Annotated[
        Path | None, typer.Option(help="Folder that the manifest's paths are looked up in first (for --score).")
    ] = None,
    method: Annotated[
        Literal["opposite", "grad-cam", "integrated-gradients", "occlusion"],
        typer.Option(help="Change the film until the model calls it the opposite, or colour what it looks at."),
    ] = "opposite",
    out: Annotated[Path, typer.Option(help="Folder for explanations.csv, pictures and arrays.")] = Path("explanations"),
    film_like: Annotated[
        bool, typer.Option("--film-like", help="Smooth changes instead of the study's plain ones (for opposite).")
    ] = False,
    confidence: Annotated[
        float,
        typer.Option(min=0.51, max=0.9999, help="The network's own probability at which a film stops (for opposite)."),
    ] = 0.95,
    steps: Annotated[int, typer.Option(min=1, help="Most steps (for opposite).")] = 100,
    noise: Annotated[int, typer.Option(min=0, help="Also start from N films of noise, each way (for opposite).")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of noise and jitter (for opposite).")] = 0,
) -> None:
    """Show why a model calls films abnormal or normal: a picture, arrays and a row a film. Or score the methods.

    Example: cxrtriage explain films/ --model fitted/run/model.safetensors --out explanations
    """
    if score is not None and not paths:
        _score_methods(model, score, out, images, films, seed)
        return
    if score is not None or not paths:
        raise ConfigError("explain takes either films, or --score and a manifest or prepared set; see --help.")
    from cxrtriage.data.film.source import find_films
    from cxrtriage.explain.opposite import FILM_LIKE, PLAIN
    from cxrtriage.explain.writing import write_explanations
    from cxrtriage.model.bundle import load_model
    from cxrtriage.progress import progress_bar

    if method != "opposite" and (film_like or noise):
        raise ConfigError(
            f"--film-like and --noise are for --method opposite, not for {method}. Leave them out or change the method."
        )
    loaded = load_model(model)
    found = [Path(film) for film in find_films(paths)]
    with progress_bar("explaining", total=len(found) + 2 * noise, unit="films") as advance:
        not_explained = write_explanations(
            loaded,
            found,
            out,
            method=method,
            confidence=confidence,
            steps=steps,
            form=FILM_LIKE if film_like else PLAIN,
            noise=noise,
            seed=seed,
            advance=advance,
        )
    if not_explained:
        typer.echo(f"{not_explained} of {len(found)} films could not be explained; their rows say why.", err=True)
    typer.echo(out)


def _score_methods(model: Path, labelled: Path, out: Path, images: Path | None, films: int, seed: int) -> None:
    """Score all methods, write what the report shows of them, and print the table."""
    from rich.console import Console

    from cxrtriage.explain.scoreboard import scoreboard
    from cxrtriage.pipeline import explain_model

    Console().print(scoreboard(explain_model(model, labelled, out, images=images, explain_films=films, seed=seed)))
    typer.echo(out)
