"""What this machine offers."""

import os
import shutil
from pathlib import Path


def cpu_count() -> int:
    """Return the number of processors that this process may use (affinity respected), at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return max(1, os.cpu_count() or 1)


def cache_home() -> Path:
    """Return where this user's programs keep what they can make again: $XDG_CACHE_HOME, or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def free_bytes(folder: Path) -> int:
    """Return the free space in bytes at `folder` or its nearest existing parent."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
