"""Forwarded writes over httpx on our transport, beside stock httpx: `python -m loadtests.bench writes`.

Both clients post the same small order to the same origin, over and over, with so many requests under way at once; both
are httpx.AsyncClient, and differ only in the transport below it. Each runs in a process of its own on one core, the
origin, an nginx that answers 201, on the other: this file knows nothing of the edge, the client that it starts does.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import httpx

from loadtests.bench import measuring
from loadtests.bench.measuring import CLIENT_CORE, SERVER_CORE, TICKS, BenchError, Row, Run, Server, Verdict
from loadtests.bench.misses import start_nginx

PATH = "/api/v1/eu-eur/orders"
LEAST = 5.0
"""Requests a second, ours to stock httpx's."""
OURS, STOCK = "httpx on our transport", "httpx, stock"

_STOCK = """
limits = httpx.Limits(max_connections={at_once}, max_keepalive_connections={at_once})
transport = httpx.AsyncHTTPTransport(limits=limits)
"""
_OURS = """
from edge import clock
from edge.gateway.origin import OriginPool, PoolTransport
transport = PoolTransport(OriginPool(({url!r},), clock.now))
"""
_CLIENT = """
import asyncio, json, os, time
import httpx

async def main():
{transport}
    body = b'{{"lines":[{{"sku":"MIL-HAZ-10000","quantity":1}}],"note":"' + b"x" * 400 + b'"}}'
    headers = {{"content-type": "application/json", "cookie": "session=0123456789abcdef"}}
    took_s = []
    async with httpx.AsyncClient(transport=transport, base_url={url!r}, timeout=10) as client:
        until = time.monotonic() + {seconds}
        async def one_after_the_other():
            while (began := time.monotonic()) < until:
                response = await client.post({path!r}, content=body, headers=headers)
                assert response.status_code == 201, response.status_code
                took_s.append(time.monotonic() - began)
        began, used = time.monotonic(), os.times()
        await asyncio.gather(*(one_after_the_other() for _ in range({at_once})))
        after = os.times()
    took_s.sort()
    cpu_s = after.user + after.system - used.user - used.system
    print(json.dumps([len(took_s), time.monotonic() - began, cpu_s,
                      took_s[len(took_s) // 2], took_s[len(took_s) * 99 // 100]]))

asyncio.run(main())
"""


def main(argv: Sequence[str] | None = None) -> int:
    """1: the aim was missed; 2: it could not run."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench writes", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7, help="rounds of the interleaved run (default 7)")
    parser.add_argument("--seconds", type=int, default=3, help="length of one run (default 3)")
    parser.add_argument("--connections", type=int, default=32, help="requests under way at once (default 32)")
    parser.add_argument("--tries", type=int, default=6, help="repetitions of a run that was disturbed (default 6)")
    parser.add_argument("--write", type=Path, help="put the table into this file, between its `writes` marks")
    options = parser.parse_args(argv)
    reason = measuring.cannot_run(["taskset", "nginx"])
    if reason is not None:
        return measuring.complain(reason)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nearshelf-bench-", dir="/dev/shm")))
        shop = start_nginx(stack, scratch / "origin", _ORIGIN, CLIENT_CORE, "origin")
        _until_it_answers(shop)
        rows = [
            Row(name, partial(_once, shop, transport, options.seconds, options.connections))
            for name, transport in ((OURS, _OURS), (STOCK, _STOCK))
        ]
        measuring.take_turns(rows, options.rounds, options.tries, heading="writes, ")
    ours, stock = rows
    verdict = Verdict(
        f"requests a second of {OURS} to {STOCK}", measuring.rate_ratio(ours, stock), LEAST, at_least=True
    )
    text = (
        f"{time.strftime('%Y-%m-%d', time.gmtime())}: posts of 460 bytes, {options.connections} under way at once, "
        f"{options.rounds} x {options.seconds} s; Python {sys.version.split()[0]}, httpx {httpx.__version__}\n\n"
        f"{measuring.table(rows, [STOCK])}\n\n{measuring.told([verdict])}"
    )
    print(f"\n{text}\n")
    if options.write is not None:
        measuring.write_between_marks(options.write, "writes", text)
    return int(not verdict.met)


def _once(shop: Server, transport: str, seconds: int, at_once: int) -> Run:
    """One run of one client, in a process of its own. Raises BenchError when it fails."""
    made = transport.format(url=shop.url, at_once=at_once).strip().replace("\n", "\n    ")
    source = _CLIENT.format(transport=f"    {made}", url=shop.url, path=PATH, seconds=seconds, at_once=at_once)
    shop_before, children_before = shop.ticks(), _children_ticks()
    all_before, began = measuring.busy_ticks(), time.monotonic()
    command = [*measuring.pinned(SERVER_CORE), sys.executable, "-c", source]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    elapsed = time.monotonic() - began
    known = shop.ticks() - shop_before + _children_ticks() - children_before
    foreign = max(0.0, (measuring.busy_ticks() - all_before - known) / TICKS) / elapsed
    if found.returncode:
        raise BenchError(f"the client failed:\n{found.stderr}")
    count, took_s, cpu_s, p50_s, p99_s = json.loads(found.stdout)
    return Run(count / took_s, cpu_s / count * 1e6, p50_s * 1000, p99_s * 1000, foreign, 1)


def _children_ticks() -> float:
    """What processes that this one started and waited for have used, in clock ticks."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (used.ru_utime + used.ru_stime) * TICKS


def _until_it_answers(shop: Server) -> None:
    """Raises BenchError when it does not within ten seconds."""
    for _ in range(100):
        shop.check_alive()
        try:
            if httpx.post(f"{shop.url}{PATH}", content=b"{}", trust_env=False).status_code == 201:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise BenchError("the origin does not answer")


_ORIGIN = """
  access_log off;
  server {
    listen 127.0.0.1:PORT backlog=1024; default_type application/json;
    location / { add_header Cache-Control no-store; return 201 '{"order":"10000","state":"taken"}'; }
  }
"""


if __name__ == "__main__":
    sys.exit(main())
