"""The command line: one function a command, which reads options and calls the room that does the work.

Heavy imports stand inside the commands, so that `cxrtriage --help` answers at once. Exit status: 0 done;
1 the work failed, with one sentence on standard error; 2 wrong usage; 130 interrupted.
"""

import logging
import os
import sys

import typer

from cxrtriage import __version__
from cxrtriage.cli import (
    accounts,
    auditing,
    experimenting,
    explaining,
    exporting,
    judging,
    keeping,
    learning,
    making,
    modelling,
    reporting,
    serving,
)
from cxrtriage.errors import CxrTriageError

INTERRUPTED = 130  # what Typer makes of Ctrl-C: 128 + SIGINT

app = typer.Typer(
    name="cxrtriage",
    help="Chest X-ray triage: learn normal from abnormal on your own films, and prove how well. Not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"cxrtriage {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
) -> None:
    """Options that stand before the command."""


learning.add_commands(app)
making.add_commands(app)
judging.add_commands(app)
explaining.add_commands(app)
experimenting.add_commands(app)
reporting.add_commands(app)
serving.add_commands(app)
node = typer.Typer(help="Look after a triage node: its models, accounts, copies.", no_args_is_help=True)
modelling.add_commands(node)
accounts.add_commands(node)
keeping.add_commands(node)
exporting.add_commands(node)
app.add_typer(node, name="node")
auditing.add_commands(app)


def main() -> None:
    """Run the command line; every error a user can cause ends in one sentence and status 1."""
    logger = logging.getLogger("cxrtriage")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    try:
        app(standalone_mode=True)
    except CxrTriageError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)
    except ValueError as error:
        from pydantic import ValidationError  # not for commands that end well

        if not isinstance(error, ValidationError):
            raise
        first = error.errors()[0]
        name = str(first["loc"][0]).removesuffix("_s").replace("_", "-") if first["loc"] else "settings"
        print(f"ConfigError: --{name} cannot be {first['input']!r}: {first['msg'].lower()}.", file=sys.stderr)
        sys.exit(1)
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            print("interrupted; the same command goes on after what is done.", file=sys.stderr)
        raise
    except BrokenPipeError:  # the reader of our output, `head` say, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.filename is None:
            raise
        print(
            f"{type(error).__name__}: cannot use {error.filename}: {error.strerror}. Check the path, what this account "
            "may do there, and the disk.",
            file=sys.stderr,
        )
        sys.exit(1)
