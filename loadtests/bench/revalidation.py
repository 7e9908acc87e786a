"""Latency while entries are refreshed behind the viewers' backs, beside nginx and Varnish.

`python -m loadtests.bench revalidation`: pages that live for a second and may be shown stale while they are refreshed,
by an origin that takes 300 ms; beside them pages that stay fresh. Runs on either alternate, and the ratio of their 99th
percentiles says what a refresh costs the viewers of the others.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from loadtests.bench import measuring, ours, peers
from loadtests.bench.asking import until_hit
from loadtests.bench.hits import versions
from loadtests.bench.measuring import Row, Server, Verdict
from loadtests.bench.origins import BenchOrigin, Page, labelled, running

ORIGIN_S = 0.3
LIVES_S = 1
MAX_RATIO = 1.5
BODY = b"<!doctype html><title>bench</title>" + b"<p>A lamp that is as plain as its page.</p>" * 180
FRESH, REFRESHED = "/eu-eur/products/rest-", "/eu-eur/products/refreshed-"
NGINX_CACHE = "proxy_cache_valid 200 1d; proxy_cache_use_stale updating; proxy_cache_background_update on;"


def main(argv: Sequence[str] | None = None) -> int:
    """1: an aim was missed; 2: it could not run."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.bench revalidation", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=7, help="pairs of runs for each row (default 7)")
    parser.add_argument("--seconds", type=int, default=4, help="length of one run (default 4)")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--pages", type=int, default=20, help="pages of either kind (default 20)")
    parser.add_argument("--tries", type=int, default=6, help="repetitions of a run that was disturbed (default 6)")
    parser.add_argument("--only", default="", help="comma list of rows, by the start of their names")
    parser.add_argument("--write", type=Path, help="put the table into this file, between its `revalidation` marks")
    options = parser.parse_args(argv)
    reason = measuring.cannot_run(["wrk", "taskset"])
    if reason is not None:
        return measuring.complain(reason)
    lacking = measuring.missing(["nginx", "varnishd"])
    if lacking:
        print(f"without some peers: {measuring.how_to_get(lacking)}", file=sys.stderr)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nearshelf-bench-", dir="/dev/shm")))
        origin = stack.enter_context(running(BenchOrigin(page_for)))
        wanted = [start.strip() for start in options.only.split(",") if start.strip()]
        pairs: dict[str, tuple[Row, Row]] = {}
        for server in _servers(stack, origin.url, scratch, lacking):
            if wanted and not any(server.name.startswith(start) for start in wanted):
                continue
            for number in range(options.pages):
                until_hit(server, f"{FRESH}{number}")
                until_hit(server, f"{REFRESHED}{number}")
            pairs[server.name] = (
                _row(f"{server.name}, at rest", server, FRESH, options, scratch),
                _row(f"{server.name}, refreshing", server, REFRESHED, options, scratch),
            )
        origin.delay_s = ORIGIN_S
        fetched_before = sum(origin.fetches.values())
        measuring.take_turns([row for pair in pairs.values() for row in pair], options.rounds, options.tries)
        refreshes = sum(origin.fetches.values()) - fetched_before
    text, verdicts = report(pairs, options, refreshes, lacking)
    print(f"\n{text}")
    if options.write is not None:
        measuring.write_between_marks(options.write, "revalidation", text)
    return int(not all(verdict.met for verdict in verdicts))


def page_for(target: str, head: str) -> Page:
    """nginx is told by a field of its own, because its key zone ignores the others for everybody."""
    tag = f"p:eu-eur:{target.rpartition('/')[2]}"
    if target.startswith(REFRESHED):
        directives = ", stale-while-revalidate=600"
        fields = (*labelled(tag, fresh_s=LIVES_S, directives=directives), f"x-accel-expires: {LIVES_S}")
        return Page(BODY, fields=fields)
    return Page(BODY, fields=labelled(tag))


def _servers(stack: ExitStack, origin: str, scratch: Path, lacking: Sequence[str]) -> list[Server]:
    policies = ours.lasting_policies(scratch / "policies")
    found = [ours.start_gateway(stack, "nearshelf", origin, scratch, policies=policies)]
    if "nginx" not in lacking:
        name = "nginx, background_update"
        found.append(peers.start_nginx(stack, name, origin, scratch, tuned=False, cache=NGINX_CACHE))
    if "varnishd" not in lacking:
        vcl = peers.VARNISH_SHOP.replace("set beresp.ttl = 1d; ", "")
        found.append(peers.start_varnish(stack, "Varnish", origin, scratch, vcl=vcl))
    return found


def _row(name: str, server: Server, start: str, options: argparse.Namespace, scratch: Path) -> Row:
    requests = [
        f"GET {start}{number} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nAccept: text/html\r\n\r\n".encode()
        for number in range(options.pages)
    ]
    script = measuring.wrk_script(scratch / f"{server.port}{start.replace('/', '-')}.lua", requests)
    return Row(name, partial(measuring.wrk, server, script, seconds=options.seconds, connections=options.connections))


def report(
    pairs: dict[str, tuple[Row, Row]], options: argparse.Namespace, refreshes: int, lacking: Sequence[str]
) -> tuple[str, list[Verdict]]:
    """The table, and the verdict on our row."""
    lines = [
        (
            f"{time.strftime('%Y-%m-%d', time.gmtime())}: {options.pages} pages, fresh for {LIVES_S} s, origin "
            f"{ORIGIN_S * 1000:.0f} ms, {options.rounds} pairs of {options.seconds} s, "
            f"{options.connections} connections; {refreshes:,} refreshes; {versions(['haproxy', *lacking])}"
        ),
        "",
        "| | p99 at rest, ms, median (quartiles) | p99 while refreshing | ratio, pair by pair |",
        "|---|---|---|---|",
    ]
    verdicts: list[Verdict] = []
    for name, (rest, refreshing) in pairs.items():
        ratios = [during.p99_ms / still.p99_ms for during, still in zip(refreshing.runs, rest.runs, strict=True)]
        cells = [name]
        cells += [measuring.spread([run.p99_ms for run in row.runs], ".2f") for row in (rest, refreshing)]
        lines.append(f"| {' | '.join([*cells, measuring.spread(ratios, '.2f')])} |")
        if name == "nearshelf":
            what = "p99 while entries are refreshed, to p99 at rest"
            verdicts.append(Verdict(what, statistics.median(ratios), MAX_RATIO))
    foreign = max(run.foreign for pair in pairs.values() for row in pair for run in row.runs)
    lines += ["", f"The most that anything else took during a run that counts: {foreign:.2f} core."]
    return "\n".join([*lines, "", measuring.told(verdicts)]), verdicts


if __name__ == "__main__":
    sys.exit(main())
