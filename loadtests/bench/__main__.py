"""`python -m loadtests.bench NAME`: each bench prints its figures beside the peers' and its verdict."""

from __future__ import annotations

import importlib
import sys

from loadtests.bench.measuring import BenchError

BENCHES = {
    "documents": "what the customer's documents ask for: rates, times, distances, with a verdict each",
    "eviction": "ten million keys into one store; hit ratios of eviction policies",
    "handlers": "sizes of the Functions and Lambda packages, and what the handlers cost",
    "hit_metrics": "what a hit costs in the process, and what counting it adds",
    "hits": "hits on one core, beside nginx, Varnish and HAProxy",
    "hot_tag": "a tag of ten thousand pages purged under a thousand viewers",
    "memory": "memory an object, beside Varnish",
    "misses": "requests passed through, beside nginx",
    "purge": "a tag on a million entries",
    "readthrough": "the origin's read-through cache, hit and miss, beside the origin without it",
    "revalidation": "latency while entries are refreshed behind the viewers' backs",
    "shopper": "what Chromium sees at 80 ms: edge hit, edge miss, no edge",
    "stampede": "a cold crowd on one key",
    "writes": "forwarded writes over httpx, beside stock httpx",
}


def main(arguments: list[str]) -> int:
    """1: an aim was missed; 2: it could not run."""
    if not arguments or arguments[0] not in BENCHES:
        print("python -m loadtests.bench NAME [--help]; NAME is one of:")
        for name, about in BENCHES.items():
            print(f"  {name:<14}{about}")
        return 0 if arguments in ([], ["-h"], ["--help"]) else 2
    bench = importlib.import_module(f"loadtests.bench.{arguments[0]}")
    try:
        status: int = bench.main(arguments[1:])
    except BenchError as exc:
        print(exc, file=sys.stderr)
        return 2
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
