"""What the documents say exists, and what exists is in the documents."""

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from typer.main import get_command

from cxrtriage import config
from cxrtriage.cli import app

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXT = "\n".join(path.read_text() for path in DOCUMENTS)


def command_names() -> list[str]:
    return list(get_command(app).commands)  # type: ignore[attr-defined]


def helps_below(command: Any) -> list[str]:
    """Return the help of a command, or of all commands in a group and in its groups."""
    if not hasattr(command, "commands"):
        return [command.help]
    return [text for below in command.commands.values() for text in helps_below(below)]


@pytest.mark.parametrize("name", command_names())
def test_every_command_is_documented_and_shows_an_example(name: str) -> None:
    assert f"cxrtriage {name}" in TEXT
    command = get_command(app).commands[name]  # type: ignore[attr-defined]
    assert all("Example: cxrtriage" in text for text in helps_below(command))


@pytest.mark.parametrize("settings", [config.Recipe, config.TrainSettings])
def test_every_setting_is_explained_in_its_docstring(settings: type[BaseModel]) -> None:
    for field in settings.model_fields:
        assert re.search(rf"^    [\w, ]*\b{field}\b[\w, ]* : ", settings.__doc__ or "", re.MULTILINE), field


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_pictures_in_documents_exist(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", document.read_text()):
        if "://" not in target:
            assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_in_documents_parse(document: Path) -> None:
    """Every option that a document gives to a command, on a line of its own or in a sentence, is one that it has."""
    text = document.read_text()
    lines = re.findall(r"^\s*(cxrtriage .*)$", text, re.MULTILINE) + re.findall(r"`(cxrtriage [^`]+)`", text)
    for line in lines:
        words = line.split("#")[0].split()[1:]
        command: Any = get_command(app)
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        if hasattr(command, "commands"):
            continue
        known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        unknown = {word.split("=")[0] for word in words if word.startswith("--")} - known - {"--help"}
        assert not unknown, f"{document.name}: {line}"
