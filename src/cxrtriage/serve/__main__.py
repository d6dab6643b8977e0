"""One process of the node: `python -m cxrtriage.serve receiver HOME`, started by `supervise`, not by people."""

import sys

if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    if name == "receiver":  # must not load torch
        from cxrtriage.serve.receiver import main as receive

        receive(*arguments)
    else:
        from cxrtriage.serve.worker import main as score

        score(*arguments)
