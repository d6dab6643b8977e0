"""What the terminal shows at the end of a fit."""

from rich.console import Console

from cxrtriage.evaluate.table import metrics_table
from cxrtriage.pipeline import FitResult


def print_fit(result: FitResult) -> None:
    """Print the figures of a fit, what the audit says, and where everything lies; the model's path last."""
    console = Console()
    console.print(metrics_table(result.metrics))
    console.print(f"figures and predictions: {result.out / 'evaluation'}", soft_wrap=True)
    print(result.model)
