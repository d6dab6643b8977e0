"""How long it takes, and whether the model still does what it did: figures in tables and two small charts."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from cxrtriage.serve.database import now, reading
from cxrtriage.serve.web.access import Visitor, require
from cxrtriage.serve.web.pages.charts import Chart, weekly_chart
from cxrtriage.serve.web.pages.opened import node_of
from cxrtriage.serve.web.rendering import render
from cxrtriage.serve.worklist import drift, turnaround
from cxrtriage.serve.worklist.reading_list import scores_hidden

router = APIRouter()
HOURS = {"8": "8 hours", "24": "24 hours", "168": "7 days"}


@router.get("/figures")
def figures_page(
    request: Request,
    visitor: Annotated[Visitor, Depends(require("reader"))],
    hours: Literal["8", "24", "168"] = "24",
) -> Response:
    """Return the figures of the last hours, and those of the model by week."""
    node = node_of(request)
    with reading(node.engine) as connection:
        figures = turnaround.figures(connection, now(), float(hours))
        hidden = scores_hidden(connection, node.settings)
        weeks = [] if hidden else drift.weeks(connection, now())
    return render(
        request,
        visitor,
        "figures.html.j2",
        figures=figures,
        hours=hours,
        choices=HOURS,
        hidden=hidden,
        weeks=weeks,
        alarms=drift.alarms(weeks, node.settings.reading.drift_points),
        longest_read=_longest(figures["time_to_read_s"], figures["first_come_first_served_s"]),
        longest_wait=_longest(figures["waiting_s"]),
        charts=_charts(weeks),
    )


def _longest(*groups: dict[str, Any]) -> float:
    """Return the longest 95th percentile of tables whose bars are compared, in seconds, at least one."""
    longest: float = max([1.0, *(times["p95"] for group in groups for times in group.values() if times["p95"])])
    return longest


def _charts(weeks: list[drift.Week]) -> list[Chart]:
    if len(weeks) < 2:
        return []
    return [
        weekly_chart("Share of films flagged", [week.flagged_share for week in weeks]),
        weekly_chart("Share of verdicts that agree", [week.agreement for week in weeks]),
    ]
