"""Style, scripts and icon: the few files that every page needs, open to everybody, since they tell nothing."""

from fastapi import APIRouter, HTTPException
from starlette.responses import Response

from cxrtriage.serve.web.rendering import STATIC

router = APIRouter()
TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml", "txt": "text/plain"}
FILES = {entry.name: entry for entry in STATIC.iterdir() if entry.is_file()}


@router.get("/static/{name}")
def static_file(name: str) -> Response:
    """Return a file by its name; what the package does not have does not exist."""
    if name not in FILES:
        raise HTTPException(404, "there is no such file.")
    # asked for again after an hour, so that an upgraded node is not seen in an old style for long
    headers = {"Cache-Control": "public, max-age=3600"}
    return Response(FILES[name].read_bytes(), media_type=TYPES[name.rpartition(".")[2]], headers=headers)
