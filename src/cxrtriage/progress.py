"""One progress bar for every long stage: how far, how fast, how long still."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn


class Advance(Protocol):
    """Moves a bar on by `count`; may show a `note` beside it and correct the `total`."""

    def __call__(self, count: int, note: str = "", total: int | None = None) -> None: ...


@contextmanager
def progress_bar(description: str, total: int, unit: str, start: int = 0, *, hidden: bool = False) -> Iterator[Advance]:
    """Show a bar on standard error while the block runs; yield the function that moves it on.

    Parameters
    ----------
    description : what is being done, e.g. "preparing"
    total : number of items in all
    unit : what the items are, in the plural, e.g. "films"
    start : items that were done already in an earlier run
    hidden : show nothing, for work too short to be worth a bar

    Examples
    --------
    >>> with progress_bar("counting", total=3, unit="films") as advance:
    ...     for _ in range(3):
    ...         advance(1)
    """
    console = Console(stderr=True)
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        disable=hidden or not console.is_terminal,
    )
    with progress:
        task = progress.add_task(description, total=total, completed=start, rate="", note="")

        def advance(count: int, note: str = "", total: int | None = None) -> None:
            progress.advance(task, count)
            speed = progress.tasks[0].speed
            progress.update(task, note=note, total=total, rate=f"{speed:.1f} {unit}/s" if speed else "")

        yield advance
