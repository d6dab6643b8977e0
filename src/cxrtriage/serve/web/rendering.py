"""Templates to pages: a template's name and values in, an HTML answer out; every page of the node is made here.

Nothing in a page is inline, so that the content security policy can forbid inline script and style altogether.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from fastapi import Request
from jinja2 import Environment, PackageLoader, StrictUndefined
from sqlalchemy import Engine
from starlette.responses import HTMLResponse

from cxrtriage import __version__
from cxrtriage.serve.settings import NodeSettings
from cxrtriage.serve.web import words
from cxrtriage.serve.web.access import Visitor
from cxrtriage.serve.web.banners import Banner, banners

STATIC = files("cxrtriage.serve.web") / "static"


def render(request: Request, visitor: Visitor | None, name: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """Return a page, or a part of one.

    Parameters
    ----------
    request : what is answered
    visitor : who asked; None before the sign-in, and then the page says nothing about the node
    name : of the template
    status : of the answer
    values : for the template
    """
    content = (
        environment()
        .get_template(name)
        .render(
            visitor=visitor,
            csrf_token=visitor.csrf_token if visitor else "",
            path=request.url.path,
            banners=banners_of(request) if visitor else (),
            **values,
        )
    )
    return HTMLResponse(content, status)


def banners_of(request: Request) -> Sequence[Banner]:
    """Return what every page says of the node, worked out once a request."""
    state = request.app.state
    if not hasattr(request.state, "banners"):
        engine: Engine = state.engine
        settings: NodeSettings = state.settings
        request.state.banners = banners(engine, settings, state.home)
    found: Sequence[Banner] = request.state.banners
    return found


@cache
def environment() -> Environment:
    """Return the templates with what they may call."""
    made = Environment(
        loader=PackageLoader("cxrtriage.serve.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "age": words.age,
        "duration": words.duration,
        "moment": moment,
        "name": words.person_name,
        "percent": words.percent,
        "score": words.score,
        "sex": words.sex,
    }
    made.globals |= {"RANKS": words.RANK_WORDS, "version": __version__}
    return made


def moment(time: datetime | None, form: Literal["short", "whole"] = "short") -> str:
    """Return a time in the node's own zone: the hour today, else with its date; "" for None."""
    if time is None:
        return ""
    local = time.astimezone()
    today = datetime.now().astimezone().date()
    if form == "short" and local.date() == today:
        return f"{local:%H:%M}"
    return f"{local:%d %b %H:%M}" if form == "short" and local.year == today.year else f"{local:%Y-%m-%d %H:%M:%S}"
