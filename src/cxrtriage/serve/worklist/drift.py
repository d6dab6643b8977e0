"""Whether the model still does what it did: results and verdicts in, a row a week and alarms out; a page shows it.

A new device, another mix of patients or a changed protocol shows in the share of flagged films, in the scores or
in how often readers agree, long before anybody complains. A week is compared with those before under the same model.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import numpy as np
from sqlalchemy import Connection, select

from cxrtriage.serve.models import active_model
from cxrtriage.serve.tables import result, review

FEWEST = 30  # films or verdicts below which a week's share is left to chance
WEEKS = 26


@dataclass(frozen=True, slots=True)
class Week:
    """A week of the active model; shares are None without films or verdicts.

    Parameters
    ----------
    monday : its first day
    films : scored
    flagged_share : of them
    probability : 10th, 50th and 90th percentile
    verdicts : readers' words on this model's scores
    agreement : share of them that agree
    """

    monday: date
    films: int
    flagged_share: float | None
    probability: tuple[float, float, float] | None
    verdicts: int
    agreement: float | None


def weeks(connection: Connection, now: datetime) -> list[Week]:
    """Return the last half year of the active model by week, the oldest first; weeks with nothing are left out."""
    active = active_model(connection)
    if active is None:
        return []
    since = now - timedelta(weeks=WEEKS)
    scored: dict[date, list[tuple[float, bool]]] = defaultdict(list)
    of_model = result.c.model_sha256 == active.sha256
    for row in connection.execute(
        select(result.c.made_at, result.c.probability, result.c.decision).where(of_model, result.c.made_at >= since)
    ):
        scored[_monday(row.made_at)].append((row.probability, row.decision != "normal"))
    agreed: dict[date, list[bool]] = defaultdict(list)
    of_model = review.c.model_sha256 == active.sha256
    for word in connection.execute(
        select(review.c.made_at, review.c.verdict).where(of_model, review.c.made_at >= since)
    ):
        agreed[_monday(word.made_at)].append(word.verdict != "disagree")
    return [_week(monday, scored[monday], agreed[monday]) for monday in sorted({*scored, *agreed})]


def alarms(found: Sequence[Week], limit: float) -> list[str]:
    """Say in sentences what changed by more than a limit in the last week against those before.

    Parameters
    ----------
    found : from `weeks`
    limit : difference of shares, `reading.drift_points`
    """
    if len(found) < 2:
        return []
    *before, last = found
    return [
        sentence
        for name, share, count in (
            ("films flagged", "flagged_share", "films"),
            ("verdicts that agree", "agreement", "verdicts"),
        )
        if (sentence := _alarm(name, last, before, share, count, limit))
    ]


def _alarm(name: str, last: Week, before: Sequence[Week], share: str, count: str, limit: float) -> str:
    earlier = sum(getattr(week, count) for week in before)
    if getattr(last, count) < FEWEST or earlier < FEWEST:
        return ""
    usual = sum(getattr(week, count) * (getattr(week, share) or 0.0) for week in before) / earlier
    now = getattr(last, share)
    if abs(now - usual) <= limit:
        return ""
    return (
        f"The share of {name} was {now:.0%} in the week of {last.monday:%d %B}, {usual:.0%} in the weeks before: "
        f"more than {limit:.0%} apart. Look at devices, patients and protocol before you go on."
    )


def _week(monday: date, scored: list[tuple[float, bool]], agreed: list[bool]) -> Week:
    p10, p50, p90 = np.percentile([value for value, _ in scored], [10, 50, 90]) if scored else (0.0, 0.0, 0.0)
    return Week(
        monday=monday,
        films=len(scored),
        flagged_share=float(np.mean([flagged for _, flagged in scored])) if scored else None,
        probability=(float(p10), float(p50), float(p90)) if scored else None,
        verdicts=len(agreed),
        agreement=float(np.mean(agreed)) if agreed else None,
    )


def _monday(time: datetime) -> date:
    return time.date() - timedelta(days=time.weekday())
