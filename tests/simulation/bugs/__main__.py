"""`python -m tests.simulation.bugs [NAME ...]`: every planted bug, and after how many checked serves it is caught."""

from __future__ import annotations

import argparse
import sys

from tests.simulation.bugs.hunt import BUGS, hunt_all


def main() -> int:
    """0: each was caught; 1: one was not."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.bugs", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(BUGS)}; none: all of them")
    names = parser.parse_args().names
    unknown = [name for name in names if name not in BUGS]
    if unknown:
        parser.error(f"no planted bug is called {unknown[0]!r}")
    return 1 if hunt_all(names) else 0


if __name__ == "__main__":
    sys.exit(main())
