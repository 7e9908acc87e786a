"""One edge worker that is given requests in its own process, for `hit_metrics.py`: told by one JSON argument, it prints
one JSON object. Started by its path, with the edge that is measured on PYTHONPATH.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import Iterable
from typing import Any

from edge import clock
from edge.gateway.app import Gateway
from edge.gateway.record import ExchangeRecord
from edge.gateway.server import ViewerConnection
from edge.gateway.settings import GatewaySettings
from edge.policy_files import load_policies

PAGES, REQUESTS = 400, 4_000
AT_ONCE = 500
"""Requests in a block: short, so that some blocks end before the system gives the core to somebody else."""
SCRAPES = 15
BROWSER = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36"
SCRAPE = b"GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer bench\r\nConnection: close\r\n\r\n"


class Sink(asyncio.Transport):
    """A viewer who takes everything."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self.answers += 1


def settings(origin: str, log: str) -> GatewaySettings:
    return GatewaySettings.from_env(
        {
            "NEARSHELF_EDGE": "bench",
            "NEARSHELF_LISTEN": "127.0.0.1:0",
            "NEARSHELF_ADMIN_LISTEN": "127.0.0.1:0",
            "NEARSHELF_PUBLIC_URL": "http://shop.example",
            "NEARSHELF_ORIGIN_URL": origin,
            "NEARSHELF_EDGE_KEY": "bench",
            "NEARSHELF_ADMIN_TOKEN": "bench",
            "NEARSHELF_ACCESS_LOG": log,
        }
    )


def request(number: int) -> bytes:
    lines = (
        f"GET /eu-eur/products/p{number % PAGES}?utm_source=mail&gclid={number} HTTP/1.1",
        "Host: shop.example",
        f"User-Agent: {BROWSER}",
        "Accept: text/html,application/xhtml+xml",
        "Accept-Language: de-DE,de;q=0.9",
        "Accept-Encoding: identity",
        f"Cookie: session={number * 7919:032x}; seen=1",
        "Connection: keep-alive",
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def fill(gateway: Gateway) -> None:
    reader, writer = await asyncio.open_connection(*gateway.address)
    for number in range(PAGES):
        writer.write(request(number))
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
    writer.close()


async def blocks(gateway: Gateway, requests: list[bytes], seconds: float) -> list[float]:
    """Nanoseconds of CPU a hit, of each block in which all were hits: on a busy machine the lease may run out."""
    assert gateway.server is not None
    found: list[float] = []
    parts = [requests[at : at + AT_ONCE] for at in range(0, len(requests), AT_ONCE)]
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        # Answers of the purge log come meanwhile, and the access log is written.
        await asyncio.sleep(0.002)
        await confirmed(gateway)
        sink = Sink()
        viewer = ViewerConnection(gateway.server)
        viewer.connection_made(sink)
        received = viewer.received
        for part in parts:
            before = sink.answers
            from_ns = time.thread_time_ns()
            for data in part:
                received(data)
            took_ns = time.thread_time_ns() - from_ns
            if sink.answers - before != len(part):
                break
            found.append(took_ns / len(part))
        viewer.connection_lost(None)
    if not found:
        raise SystemExit("the machine is too busy: no block of requests was answered by hits alone")
    return found


async def confirmed(gateway: Gateway) -> None:
    """Wait for the lease; TimeoutError after ten seconds."""
    async with asyncio.timeout(10):
        while not gateway.holds_lease:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


def seem_busy(gateway: Gateway) -> None:
    """As if exchanges had ended in many ways on many routes."""
    for route in range(12):
        for outcome in ("stale", "miss", "pass", "edge", "error", "validated"):
            for reason in ("cold", "stale-while-revalidate", "not-stored"):
                record = ExchangeRecord(clock.now(), b'"route":"bench",', f"route-{route}", outcome, reason)
                record.status = 200
                gateway.book.note(record)


async def scrape(gateway: Gateway) -> int:
    """How many series are exported."""
    reader, writer = await asyncio.open_connection(*gateway.admin_address)
    writer.write(SCRAPE)
    _, _, text = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return sum(not line.startswith(b"#") for line in text.splitlines())


async def held_by_a_scrape(gateway: Gateway) -> dict[str, float]:
    """How many series a scrape has; the CPU time of the longest turn of the loop meanwhile, and of a whole scrape, in
    milliseconds, medians of SCRAPES."""
    seem_busy(gateway)
    longest_ns, over, series = 0, False, 0

    async def turn() -> None:
        nonlocal longest_ns
        at_ns = time.thread_time_ns()
        while not over:
            await asyncio.sleep(0)
            now_ns = time.thread_time_ns()
            longest_ns, at_ns = max(longest_ns, now_ns - at_ns), now_ns

    held, took = [], []
    for _ in range(SCRAPES):
        over = False
        turning = asyncio.create_task(turn())
        await asyncio.sleep(0.01)
        longest_ns = 0
        series = await scrape(gateway)
        over = True
        await turning
        held.append(longest_ns / 1e6)
        # And without turns that nobody needs.
        before_ns = time.thread_time_ns()
        await scrape(gateway)
        took.append((time.thread_time_ns() - before_ns) / 1e6)
    return {"series": series, "held_ms": middle(held), "took_ms": middle(took)}


def middle(values: Iterable[float]) -> float:
    ordered = sorted(values)
    return ordered[len(ordered) // 2]


async def main(asked: dict[str, Any]) -> None:
    gateway = Gateway(settings(asked["origin"], asked["log"]), load_policies(None))
    await gateway.start()
    try:
        await confirmed(gateway)
        await fill(gateway)
        requests = [request(number) for number in range(REQUESTS)]
        gc.collect()
        gc.freeze()
        found: dict[str, Any] = {"blocks": await blocks(gateway, requests, asked["seconds"])}
        if asked["scrape"]:
            found |= await held_by_a_scrape(gateway)
        print(json.dumps(found))
    finally:
        await gateway.stop()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
