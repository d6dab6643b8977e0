"""STOW-RS, the door for films over HTTP (DICOM PS3.18 10.5): a multipart body in, kept films and an answer out.

    200  all are kept, or were there already
    202  some are kept; the answer says which are not and why
    409  none is kept
    413  none is kept, and one is larger than `dicom.max_instance_mib`
    503, 507  none is kept: the database does not answer, or the disk is low. Send again later
    400, 408, 415  the body is cut short or made otherwise than announced; came too slowly; is of another kind

Each instance is written to the disk while it arrives and then goes the way of one that came by C-STORE, so
memory does not grow with its size. Only an API token opens this door (role reader or admin), no signed-in
browser, so that no foreign page can make one send.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse

from cxrtriage.machine import free_bytes
from cxrtriage.serve import files
from cxrtriage.serve.files import FilmStore
from cxrtriage.serve.header import valid_uid
from cxrtriage.serve.intake.parts import Part, PartFiles
from cxrtriage.serve.intake.taking import (
    CANNOT_UNDERSTAND,
    OUT_OF_RESOURCES,
    PROCESSING_FAILURE,
    Announced,
    Answer,
    take,
)
from cxrtriage.serve.web.access import Visitor, require

LOGGER = logging.getLogger(__name__)
NAME = "STOW"  # in place of a calling AE title
DICOM = "application/dicom"
ANSWER_TYPE = "application/dicom+json"
RETRY_AFTER_S = 60
MAY_SEND = require("reader")


@asynccontextmanager
async def _with_store(app: FastAPI) -> AsyncIterator[None]:
    """Give this process a folder to receive into while it runs."""
    state = app.state
    with FilmStore(state.home, state.engine, state.settings.store.min_free_gib) as store:
        state.film_store = store
        yield


router = APIRouter(prefix="/dicom-web", lifespan=_with_store)


@router.post("/studies", response_class=JSONResponse)
@router.post("/studies/{study_instance_uid}", response_class=JSONResponse)
async def store_instances(
    request: Request, visitor: Annotated[Visitor, Depends(MAY_SEND)], study_instance_uid: str | None = None
) -> Response:
    """Keep the DICOM instances of a multipart/related body; with a study in the path, of that study alone."""
    if not visitor.token:
        raise HTTPException(403, "films are taken with an API token only.")
    if study_instance_uid is not None and not valid_uid(study_instance_uid):
        raise HTTPException(400, "the path names no valid Study Instance UID.")
    boundary = _boundary(request)
    store: FilmStore = request.app.state.film_store
    dicom = request.app.state.settings.dicom
    parts = PartFiles(
        boundary, store.incoming, dicom.max_instance_mib * 2**20, lambda: free_bytes(store.home) >= store.min_free_bytes
    )
    door = _Taker(store, visitor, study_instance_uid)
    answers: list[Answer] = []
    try:
        async for chunk in _arriving(request, dicom.idle_s):
            whole = await run_in_threadpool(parts.feed, chunk)
            answers += [await run_in_threadpool(door.take, part) for part in whole]
    except FormParserError as error:
        raise HTTPException(400, f"the body is not made of parts as announced; {_told(answers)}.") from error
    except TimeoutError as error:
        raise HTTPException(408, f"nothing came for {dicom.idle_s:.0f} s; {_told(answers)}.") from error
    except ClientDisconnect:
        LOGGER.warning("a sender left in mid-transfer; %s", _told(answers))
        return Response(status_code=400)
    finally:
        parts.close()
    if not parts.finished or not answers:
        raise HTTPException(400, f"the body ends before its last boundary, or holds nothing; {_told(answers)}.")
    status = door.status(answers)
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status in (503, 507) else None
    return JSONResponse(_answer(answers), status, headers, media_type=ANSWER_TYPE)


class _Taker:
    """Takes the parts of one request, in a thread."""

    def __init__(self, store: FilmStore, visitor: Visitor, study_instance_uid: str | None) -> None:
        self.store = store
        self.visitor = visitor
        self.arrival = files.Door(visitor.name, visitor.address)
        self.study_instance_uid = study_instance_uid
        self.too_large = False

    def take(self, part: Part) -> Answer:
        """Keep a part and write that to the audit trail, or say why not; the part is gone then."""
        announced = Announced.in_file(part.path)
        try:
            if part.no_room:
                return self._refuse(OUT_OF_RESOURCES, "the disk is low (store.min_free_gib).", announced)
            if part.too_large:
                self.too_large = True
                return self._refuse(PROCESSING_FAILURE, "it is larger than dicom.max_instance_mib.", announced)
            if part.content_type not in ("", DICOM):
                return self._refuse(CANNOT_UNDERSTAND, f"its part is not of type {DICOM}.", announced)
            answer = take(self.store, part.path, NAME, announced, self.study_instance_uid, self.arrival)
        finally:
            part.path.unlink(missing_ok=True)
        return answer

    def _refuse(self, status: int, why: str, announced: Announced) -> Answer:
        LOGGER.warning("refused an instance from %r with 0x%04X: %s", self.visitor.name, status, why)
        return Answer(status, why, False, announced)

    def status(self, answers: list[Answer]) -> int:
        """Return the HTTP status, PS3.18 10.5.3.1."""
        kept = sum(answer.kept for answer in answers)
        if kept:
            return 200 if kept == len(answers) else 202
        if self.too_large:
            return 413
        if all(answer.status == OUT_OF_RESOURCES for answer in answers):
            return 507 if self.store.trouble() else 503
        return 409


def _boundary(request: Request) -> bytes:
    """Return the boundary of the body's parts, or refuse what is not DICOM in parts, or an answer not in JSON."""
    wanted = request.headers.get("accept", "*/*")
    if not any(kind in wanted for kind in ("json", "*/*", "application/*")):
        raise HTTPException(406, f"answers come as {ANSWER_TYPE} only.")
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/related" or options.get(b"type", DICOM.encode()).lower() != DICOM.encode():
        raise HTTPException(415, f'expected multipart/related; type="{DICOM}".')
    if request.headers.get("content-encoding", "identity") != "identity":
        raise HTTPException(415, "the body is packed, expected it as it is.")
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= 70:  # RFC 2046 5.1.1
        raise HTTPException(400, "the Content-Type names no boundary of 1 to 70 characters.")
    return boundary


async def _arriving(request: Request, idle_s: float) -> AsyncIterator[bytes]:
    """Yield the body as it comes; TimeoutError if the sender is silent for too long."""
    stream = aiter(request.stream())
    while True:
        try:
            async with asyncio.timeout(idle_s):
                chunk = await anext(stream)
        except StopAsyncIteration:
            return
        yield chunk


def _told(answers: list[Answer]) -> str:
    return f"{sum(answer.kept for answer in answers)} instances that came whole before are kept"


def _answer(answers: list[Answer]) -> dict[str, Any]:
    """Return the Store Instances Response Module (PS3.18 10.5.3.3) as DICOM JSON."""
    kept: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    unnamed: list[dict[str, Any]] = []
    for answer in answers:
        reason: dict[str, Any] = {} if answer.kept else {"00081197": {"vr": "US", "Value": [answer.status]}}
        uids = answer.announced.sop_class_uid, answer.announced.sop_instance_uid
        if all(map(valid_uid, uids)):
            named = {tag: {"vr": "UI", "Value": [uid]} for tag, uid in zip(("00081150", "00081155"), uids, strict=True)}
            (kept if answer.kept else failed).append(named | reason)
        else:
            unnamed.append(reason)
    sequences = {"00081199": kept, "00081198": failed, "0008119A": unnamed}  # Referenced, Failed, Other Failures
    present = {tag: {"vr": "SQ", "Value": items} for tag, items in sequences.items() if items}
    return {"00081190": {"vr": "UR"}, **present}  # Retrieve URL: empty, since nothing is given out here
