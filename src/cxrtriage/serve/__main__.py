"""One process of the node: `python -m cxrtriage.serve receiver HOME`, started by `supervise`, not by people."""

import sys
from importlib import import_module

MODULES = {  # one is imported, since receivers must not load torch
    "receiver": "receiver",
    "folder": "intake.folder",
    "listener": "hl7.listener",
    "worker": "worker",
    "sender": "results.sender",
    "web": "web.app",
}

if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    import_module(f"cxrtriage.serve.{MODULES[name]}").main(*arguments)
