"""`python -m cxrtriage` is the command `cxrtriage`."""

from cxrtriage.cli import main

if __name__ == "__main__":
    main()
