"""What every process of the node does first: log, stop when told to, and die with its parent."""

import logging
import os
import signal
import sys
import threading
import warnings

CANNOT_START = 78  # EX_CONFIG of sysexits.h: the settings, a port or the model are wrong, and have been named
GRACE_S = 15.0  # to stop cleanly after the parent is gone


def begin(name: str) -> threading.Event:
    """Prepare this process; return the event that is set when it shall stop.

    It stops on SIGTERM, and when its standard input ends: the parent holds the other end of that pipe, so
    it ends however the parent did. SIGINT is the parent's to handle.
    """
    log_to_stderr(name)
    stopping = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    threading.Thread(target=_follow_parent, args=[stopping], name="parent", daemon=True).start()
    return stopping


def log_to_stderr(name: str) -> None:
    """Write this package's log lines to standard error, with time and process."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)s {name}: %(message)s"))
    logger = logging.getLogger("cxrtriage")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    silence_libraries()


def silence_libraries() -> None:
    """Let pydicom and pynetdicom say nothing: their messages and warnings may quote a header."""
    for quiet in ("pydicom", "pynetdicom"):
        logging.getLogger(quiet).setLevel(logging.CRITICAL + 1)
    warnings.simplefilter("ignore")


def _follow_parent(stopping: threading.Event) -> None:
    while os.read(sys.stdin.fileno(), 1):  # nothing is ever sent: it returns when the parent is gone
        pass
    stopping.set()
    threading.Event().wait(GRACE_S)
    os._exit(1)
