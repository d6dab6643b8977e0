"""Write a file so that it is either there whole or not there at all, and by one process at a time."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from cxrtriage.errors import ConfigError, CxrTriageError
from cxrtriage.machine import free_bytes


@contextmanager
def disk_full_told(path: Path) -> Iterator[None]:
    """Turn "no space left" while writing `path` into one sentence for the user."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        free_mib = free_bytes(path.parent) / 2**20
        raise CxrTriageError(
            f"cannot write {path}: the disk is full ({free_mib:.0f} MiB free). "
            "Free some space and run the same command again; what is done is kept."
        ) from error


def lock_or_refuse(file: IO[Any], refusal: str) -> None:
    """Lock an open file for this process until it is closed or the process dies; ConfigError if another one has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError(refusal) from None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success flush it to disk and rename it to `path`.

    On an error the temporary file is removed and an earlier `path` stays as it was.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with replacing(folder / "a.txt") as temporary:
    ...     _ = temporary.write_text("whole")
    >>> (folder / "a.txt").read_text()
    'whole'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with disk_full_told(path):
            temporary.touch()  # OSError with a file name, which libraries that write files themselves do not all give
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
