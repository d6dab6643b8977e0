"""What the terminal shows at the end of a fit."""

from rich.console import Console

from cxrtriage.evaluate.table import metrics_table
from cxrtriage.explain.scoreboard import scoreboard
from cxrtriage.pipeline import FitResult


def print_fit(result: FitResult) -> None:
    """Print the figures of a fit, what the audit says, how far to trust explanations, and the report's path last."""
    console = Console()
    console.print(metrics_table(result.metrics))
    if result.explanations is not None:
        console.print(scoreboard(result.explanations))
    console.print(f"model: {result.model}", soft_wrap=True)
    print(result.report)
