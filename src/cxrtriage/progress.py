"""One progress bar for every long stage: how far, how fast, how long still."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn


@contextmanager
def progress_bar(description: str, total: int, unit: str, start: int = 0) -> Iterator[Callable[[int], None]]:
    """Show a bar on standard error while the block runs; yield the function that moves it on.

    Parameters
    ----------
    description : what is being done, e.g. "preparing"
    total : number of items in all
    unit : what the items are, in the plural, e.g. "films"
    start : items that were done already in an earlier run

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
        console=console,
        disable=not console.is_terminal,
    )
    with progress:
        task = progress.add_task(description, total=total, completed=start, rate="")

        def advance(count: int) -> None:
            progress.advance(task, count)
            speed = progress.tasks[0].speed
            if speed:
                progress.update(task, rate=f"{speed:.1f} {unit}/s")

        yield advance
