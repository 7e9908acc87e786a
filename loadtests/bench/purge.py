"""A purge of everything in the store but a hot set: `python -m loadtests.bench purge`.

Every entry carries one tag; the hot set, a thousand other pages, does not. Measured: how long after the purge was put
into the origin's log the worker reports it applied, and how fast the hot set is answered before and right after it,
while what was purged is swept. Varnish beside it, with a ban on the same tag (its free modules have no tags).
"""

from __future__ import annotations

import argparse
import http.client
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from loadtests.bench import measuring, ours, peers
from loadtests.bench.asking import Answers, ask_for, until_hit
from loadtests.bench.measuring import BenchError, Server, Verdict
from loadtests.bench.origins import BenchOrigin, Page, labelled, running

TAG = "c:eu-eur:everything"
HOT = 1_000
BODY_BYTES = 200
MAX_PURGE_MS, MAX_P99_RATIO = 5.0, 1.5
MORE_PURGES = 15
"""After the one that counts for latency: to see how their times spread."""
CONNECTIONS, PAUSE_S = 8, 0.004
"""Some 1,500 requests a second: what a worker answers without a queue."""

BANS = """
sub vcl_recv {
  if (req.method == "BAN") { ban("obj.http.cache-tag ~ " + req.http.tag); return (synth(200)); }
}
"""


class Purged(NamedTuple):
    """What became of one server."""

    purge_ms: list[float]
    before_ms: float
    """p99 of hits, in milliseconds, as the next."""
    after_ms: float


def main(argv: Sequence[str] | None = None) -> int:
    """1: an aim was missed; 2: it could not run."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench purge", description=__doc__.partition("\n")[0])
    parser.add_argument("--entries", type=int, default=50_000, help="entries with the tag (default 50000)")
    parser.add_argument("--long", action="store_true", help="a million entries: takes ten minutes and 4 GB")
    parser.add_argument("--seconds", type=float, default=6.0, help="of hits before and after, each (default 6)")
    parser.add_argument("--write", type=Path, help="put the table into this file, between its `purge` marks")
    options = parser.parse_args(argv)
    if options.long:
        options.entries, options.seconds = 1_000_000, 5 * options.seconds
    reason = measuring.cannot_run(["taskset"])
    if reason is not None:
        return measuring.complain(reason)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nearshelf-bench-")))
        origin = BenchOrigin(lambda target, _: _page(target, origin))
        stack.enter_context(running(origin))
        makers: dict[str, Callable[[], Server]] = {
            "nearshelf": lambda: ours.start_gateway(
                stack,
                "nearshelf",
                origin.url,
                scratch,
                policies=ours.lasting_policies(scratch / "policies"),
                settings={"NEARSHELF_STORE_BYTES": str((HOT + options.entries) * 4_000)},
            )
        }
        if not measuring.missing(["varnishd"]):
            vcl = peers.VARNISH_SHOP.replace("sub vcl_recv {", f"{BANS.strip()}\nsub vcl_recv {{", 1)
            makers["Varnish, a ban"] = lambda: peers.start_varnish(
                stack, "Varnish", origin.url, scratch, vcl=vcl, store_mb=options.entries // 400 + 100
            )
        about = f"{options.entries:,} entries with the tag, {HOT:,} without it; hits over {CONNECTIONS} connections"
        lines = [
            f"{measuring.today()}: {about}, {options.seconds:.0f} s before and after",
            "",
            "| | first purge, ms | others: median (quartiles) | hit p99 before, ms | after | ratio |",
            "|---|---|---|---|---|---|",
        ]
        verdicts: list[Verdict] = []
        for name, make in makers.items():
            server = make()
            purge = _by_log(origin) if name == "nearshelf" else _by_ban(server)
            done = purged(server, purge, options.entries, options.seconds)
            lines.append(_row(name, done))
            if name == "nearshelf":
                verdicts += [
                    Verdict(f"purge of a tag on {options.entries:,} entries, ms", done.purge_ms[0], MAX_PURGE_MS),
                    Verdict("hit p99 after the purge to before it", done.after_ms / done.before_ms, MAX_P99_RATIO),
                ]
    text = "\n".join([*lines, "", measuring.told(verdicts)])
    print(text)
    if options.write is not None:
        measuring.write_between_marks(options.write, "purge", text)
    return int(not all(verdict.met for verdict in verdicts))


def purged(server: Server, purge: Callable[[], float], entries: int, seconds: float) -> Purged:
    """Fill, warm, measure, purge, measure. Raises BenchError when what was purged is still answered from the store."""
    until_hit(server, _hot(0))
    ask_for(server, [_hot(number) for number in range(HOT)])
    ask_for(server, (_entry(number) for number in range(entries)))
    ask_for(server, _hot_for(seconds / 3), connections=CONNECTIONS, pause_s=PAUSE_S)
    before = ask_for(server, _hot_for(seconds), connections=CONNECTIONS, pause_s=PAUSE_S)
    took_ms = [purge() * 1000]
    after = ask_for(server, _hot_for(seconds), connections=CONNECTIONS, pause_s=PAUSE_S)
    for answers in (before, after):
        if answers.hits != answers.count:
            raise BenchError(f"{server.name}: {answers.count - answers.hits} of the hot set were no hits")
    if ask_for(server, [_entry(number) for number in range(0, entries, entries // 50)]).hits:
        raise BenchError(f"{server.name} still answers what was purged")
    for _ in range(MORE_PURGES):
        time.sleep(0.1)
        took_ms.append(purge() * 1000)
    return Purged(took_ms, _p99_ms(before), _p99_ms(after))


def _by_log(origin: BenchOrigin) -> Callable[[], float]:
    """An entry in the purge log, until the worker has reported it: the seconds it took."""

    def purge() -> float:
        position, until = origin.purge(TAG), time.monotonic() + 10.0
        while position not in origin.reported_s:
            if time.monotonic() > until:
                raise BenchError("the worker does not report the purge")
            time.sleep(0.001)
        return origin.reported_s[position]

    return purge


def _by_ban(server: Server) -> Callable[[], float]:
    def purge() -> float:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        connection.connect()
        began = time.perf_counter()
        connection.request("BAN", "/", headers={"Tag": TAG})
        status = connection.getresponse().status
        took_s = time.perf_counter() - began
        connection.close()
        if status != 200:
            raise BenchError(f"{server.name} answered a ban with status {status}")
        return took_s

    return purge


def _row(name: str, done: Purged) -> str:
    first, *others = done.purge_ms
    return (
        f"| {name} | {first:.2f} | {measuring.spread(others, '.2f')} | {done.before_ms:.2f} | {done.after_ms:.2f} | "
        f"{done.after_ms / done.before_ms:.2f} |"
    )


def _p99_ms(answers: Answers) -> float:
    return statistics.quantiles(answers.took_s, n=100)[98] * 1000


def _hot_for(seconds: float) -> Iterator[str]:
    until, number = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        yield _hot(number % HOT)
        number += 1


def _hot(number: int) -> str:
    return f"/eu-eur/products/hot-{number}"


def _entry(number: int) -> str:
    return f"/eu-eur/products/lamp-{number}"


def _page(target: str, origin: BenchOrigin) -> Page:
    name = target.rpartition("/")[2]
    tags = f"p:eu-eur:{name}" if name.startswith("hot-") else f"p:eu-eur:{name},{TAG}"
    fields = labelled(tags, position=str(origin.position))
    # Without a validator there is no use for what was purged, and it is swept.
    return Page(name.encode().ljust(BODY_BYTES, b"."), fields=tuple(line for line in fields if line[:4] != "etag"))
