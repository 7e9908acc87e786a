"""Memory an object, beside Varnish: `python -m loadtests.bench memory`.

The same objects over HTTP into both: a body of 2 KB, the fields with which the shop's origin sends a page. What counts
is how much the anonymous memory of the processes grows an object: without Varnish's log, which is shared memory and no
object's. Other objects come first, as many as an edge remembers addresses of, so that what is needed once is there.
Then every object is asked for once more, because an edge keeps something of a first hit.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from email.utils import formatdate
from pathlib import Path

from loadtests.bench import measuring, ours, peers
from loadtests.bench.asking import ask_for, until_hit
from loadtests.bench.measuring import BenchError, Server, Verdict
from loadtests.bench.origins import BenchOrigin, Page, labelled, running

BODY_BYTES = 2_048
AIM = 1.3
SHOP_FIELDS = (
    f"date: {formatdate(usegmt=True)}",
    "content-security-policy: default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'",
    "x-content-type-options: nosniff",
    "referrer-policy: strict-origin-when-cross-origin",
)
"""What the shop's origin sends beside the label."""


def main(argv: Sequence[str] | None = None) -> int:
    """1: the aim was missed; 2: it could not run."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench memory", description=__doc__.partition("\n")[0])
    parser.add_argument("--objects", type=int, default=50_000, help="those that count (default 50000)")
    parser.add_argument("--before", type=int, default=50_000, help="those that come first (default 50000)")
    parser.add_argument("--write", type=Path, help="put the table into this file, between its `memory` marks")
    options = parser.parse_args(argv)
    reason = measuring.cannot_run(["varnishd", "taskset"])
    if reason is not None:
        return measuring.complain(reason)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nearshelf-bench-")))
        origin = stack.enter_context(running(BenchOrigin(_page_for)))
        store_bytes = (options.before + options.objects) * 8_000
        makers: dict[str, Callable[[], Server]] = {
            "Varnish": lambda: peers.start_varnish(stack, "Varnish", origin.url, scratch),
            "nearshelf": lambda: ours.start_gateway(
                stack,
                "nearshelf",
                origin.url,
                scratch,
                policies=ours.lasting_policies(scratch / "policies"),
                settings={"NEARSHELF_STORE_BYTES": str(store_bytes)},
            ),
        }
        lines = [
            f"{measuring.today()}: {options.objects:,} objects, after {options.before:,} others",
            "",
            "| | stored, bytes an object | asked for once more | of that, body |",
            "|---|---|---|---|",
        ]
        grown: dict[str, float] = {}
        for name, make in makers.items():
            server = make()
            until_hit(server, _target(0))
            stored, hit = growth(server, options.before, options.objects)
            grown[name] = hit
            lines.append(f"| {name} | {stored:,.0f} | {hit:,.0f} | {BODY_BYTES:,} |")
    verdict = Verdict("memory an object, to Varnish's", grown["nearshelf"] / grown["Varnish"], AIM)
    text = "\n".join([*lines, "", measuring.told([verdict])])
    print(text)
    if options.write is not None:
        measuring.write_between_marks(options.write, "memory", text)
    return int(not verdict.met)


def growth(server: Server, before: int, objects: int) -> tuple[float, float]:
    """By how many bytes the server's memory grew an object: after each was stored, and after each was hit once."""
    ask_for(server, (_target(number) for number in range(before)))
    began = anonymous_bytes(server)
    targets = [_target(number) for number in range(before, before + objects)]
    ask_for(server, targets)
    stored = anonymous_bytes(server)
    hits = ask_for(server, targets).hits
    if hits != objects:
        raise BenchError(f"{server.name} had {hits} of {objects} objects")
    return (stored - began) / objects, (anonymous_bytes(server) - began) / objects


def anonymous_bytes(server: Server) -> int:
    """Resident memory that is the processes' own: no file, nothing shared."""
    total = 0
    for pid in server.pids():
        status = Path(f"/proc/{pid}/status").read_text()
        total += int(status.partition("RssAnon:")[2].split()[0]) * 1024
    return total


def _target(number: int) -> str:
    return f"/eu-eur/products/lamp-{number:07d}"


def _page_for(target: str, _head: str) -> Page:
    name = target.rpartition("/")[2]
    body = f"<!doctype html><title>{name}</title>".encode() + b"<p>As plain as the page it stands on.</p>" * 60
    tags = f"p:eu-eur:{name}, c:eu-eur:lamps, h:eu-eur"
    fields = [line for line in labelled(name) if not line.startswith("cache-tag")]
    return Page(body[:BODY_BYTES], fields=(*fields, f"cache-tag: {tags}", *SHOP_FIELDS))
