"""The layout of docs/design.md holds: data flows one way, and the stages stay apart."""

import ast
from pathlib import Path

import cxrtriage

PACKAGE = Path(cxrtriage.__file__).parent

# The rooms and the number of each; a file may import its own room and lower ones.
ROOMS = {
    "errors": 0, "records": 0, "config": 0, "metrics": 0, "machine": 0, "atomic": 0, "digest": 0, "progress": 0,
    "data": 1,
    "model": 2,
    "train": 3, "engines": 3, "predict": 3, "score": 3, "scores": 3, "score_cluster": 3, "export": 3,
    "evaluate": 4, "explain": 4,
    "budget": 5, "choices": 5, "pipeline": 5, "experiments": 5, "report": 5,
    "serve": 6,
    "demo": 7, "demo_node": 7, "acceptance": 7, "cli": 7,
}  # fmt: skip

FORBIDDEN = {
    "serve": {"train", "evaluate", "report", "pipeline"},
    "report": {"predict", "train", "model"},
}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("cxrtriage.")} & set(ROOMS)


def test_every_file_stands_in_a_room() -> None:
    rooms = {room_of(path) for path in PACKAGE.rglob("*.py")} - {"__init__", "__main__"}
    assert rooms <= set(ROOMS)


def test_files_import_their_own_room_and_lower_ones_only() -> None:
    for path in PACKAGE.rglob("*.py"):
        room = room_of(path)
        if room in ("__init__", "__main__"):
            continue
        for imported in imported_rooms(path):
            assert ROOMS[imported] <= ROOMS[room], f"{path.name} ({room}) imports {imported}, which is above it"
            assert imported not in FORBIDDEN.get(room, set()), f"{path.name} ({room}) must not import {imported}"


def test_reading_and_preparing_films_does_not_load_torch() -> None:
    """Worker processes that prepare films stay under 500 MB because of this."""
    for name in ("film", "labels", "prepared", "phantom", "remote"):
        paths = list((PACKAGE / "data" / name).rglob("*.py"))
        assert paths
        for path in paths:
            assert "import torch" not in path.read_text(), f"{path} imports torch"
