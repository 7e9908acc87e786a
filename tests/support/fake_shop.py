"""A whole shop in one process, small and honest unless told otherwise: what load tests must catch is planted here.

Three edges and an origin over one table of prices, each a listener of its own. With `shows_old_prices` an edge goes on
showing a price that was replaced, after the staff API has called the change live: the bug that the observer exists for.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

MARKETS = ("eu-eur", "jp-jpy")
PRODUCTS = {f"thing-{n}": f"SKU-{n}" for n in range(6)}
EDGES = ("us", "eu")

Answer = tuple[int, dict[str, str], bytes]


class FakeShop:
    """Run it with `running()`; then `ready` is its ready file."""

    def __init__(self, folder: Path, bug: Callable[[str, str], bool] = lambda edge, path: False) -> None:
        self.folder = folder
        self.ready = folder / "ready.json"
        self.bug = bug
        """Whether this edge shows the price of before the last change at this path."""
        self.state = "live"
        self.asked: list[tuple[str, str, str]] = []
        """Edge, method and target of each request that an edge got, in their order."""
        self.stall: tuple[int, float] | None = None
        """After so many requests of shoppers edges answer nothing for so many seconds."""
        self.hangs_up = False
        """The origin closes every connection without an answer."""
        self.purged: list[list[str]] = []
        """The tags of each purge that was ordered."""
        self.told: list[dict[str, Any]] = []
        """What the control socket was told."""
        self.told_something = threading.Condition()
        self.broken: list[str] = []
        """Faults in force, as the control socket tells of them."""
        self.prices = {(market, sku): 1000 + n for n, sku in enumerate(PRODUCTS.values()) for market in MARKETS}
        self.before = dict(self.prices)
        self.changes = 0
        self._loop = asyncio.new_event_loop()
        self._flowing = asyncio.Event()

    # --- pages ---

    def _price(self, edge: str, path: str, market: str, sku: str) -> int:
        prices = self.before if self.bug(edge, path) else self.prices
        return prices[market, sku]

    def at_edge(self, edge: str, method: str, path: str, body: bytes) -> Answer:
        """What an edge answers."""
        if path == "/":
            return 302, {"location": "/eu-eur/"}, b""
        if (found := re.fullmatch(r"/api/v1/([a-z-]+)/(prices|products|stock)/([^/]+)", path)) is not None:
            market, kind, sku = found[1], found[2], unquote(found[3])
            if kind == "stock":
                return 200, {"content-type": "application/json"}, json.dumps({"sku": sku, "band": "low"}).encode()
            minor = self._price(edge, path, market, sku)
            amount = f"{minor // 100}.{minor % 100:02}" if market == "eu-eur" else str(minor)
            price = {"sku": sku, "market": market, "amount": amount, "amount_minor": minor}
            return 200, {"content-type": "application/json"}, json.dumps(price).encode()
        found = re.fullmatch(r"/([a-z]{2}-[a-z]{3})/(.*)", path)
        if found is None or found[1] not in MARKETS:
            return 404, {}, b""
        market, rest = found[1], found[2]
        links = "".join(f'<link rel="alternate" href="/{other}/">' for other in MARKETS)
        if not rest:
            return self._page(links + f'<a href="/{market}/c/things">Things</a>')
        if rest == "c/things":
            cards = "".join(
                f'<a href="/{market}/products/{slug}">{slug}</a>{self._data(edge, path, market, sku)}'
                for slug, sku in PRODUCTS.items()
            )
            return self._page(cards)
        sku = PRODUCTS[rest.removeprefix("products/")]
        return self._page(self._data(edge, path, market, sku))

    def _data(self, edge: str, path: str, market: str, sku: str) -> str:
        return f'<data class="price" data-sku="{sku}" value="{self._price(edge, path, market, sku)}">x</data>'

    @staticmethod
    def _page(body: str) -> Answer:
        return 200, {"content-type": "text/html; charset=utf-8"}, f"<!--nearshelf:notice-->{body}".encode()

    def at_origin(self, edge: str, method: str, path: str, body: bytes) -> Answer:
        """What the staff API answers."""
        if path == "/api/staff/v1/login":
            return _json({"token": "t"})
        if path == "/api/staff/v1/purges":
            self.changes += 1
            self.purged.append(json.loads(body)["tags"])
            return _json({"position": f"1.{self.changes}"})
        if (found := re.fullmatch(r"/api/staff/v1/products/([^/]+)/prices/([^/]+)", path)) is not None:
            sku, market = unquote(found[1]), found[2]
            self.before[market, sku] = self.prices[market, sku]
            self.prices[market, sku] = int(json.loads(body)["amount"].replace(".", ""))
            self.changes += 1
            return _json({"position": f"1.{self.changes}"})
        workers = [{"edge": edge, "worker": "w1", "outcome": "acknowledged"} for edge in EDGES]
        workers[0]["outcome"] = "lease ran out"
        return _json({"state": self.state, "workers": workers})

    # --- running ---

    @contextlib.contextmanager
    def running(self) -> Iterator[FakeShop]:
        """Listens in a thread of its own until left."""
        started = threading.Event()

        async def serve() -> None:
            async with contextlib.AsyncExitStack() as stack:
                urls = {}
                for name in (*EDGES, "origin"):
                    server = await asyncio.start_server(self._handler(name), "127.0.0.1", 0)
                    await stack.enter_async_context(server)
                    urls[name] = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
                control = await asyncio.start_unix_server(self._obey, self.folder / "control")
                await stack.enter_async_context(control)
                self._write(urls)
                self._stop = asyncio.Event()
                self._flowing.set()
                started.set()
                await self._stop.wait()
                for task in self._conversations:
                    task.cancel()
                await asyncio.gather(*self._conversations, return_exceptions=True)

        self._conversations: set[asyncio.Task[Any]] = set()
        thread = threading.Thread(target=self._loop.run_until_complete, args=(serve(),))
        thread.start()
        assert started.wait(10)
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._stop.set)
            thread.join(10)
            self._loop.close()

    def _write(self, urls: dict[str, str]) -> None:
        (self.folder / "password").write_text("secret\n")
        environment = {
            "ADMIN_EMAIL": "a@example.com",
            "ADMIN_PASSWORD_FILE": str(self.folder / "password"),
            "CONTROL": str(self.folder / "control"),
        }
        (self.folder / "env.json").write_text(json.dumps(environment))
        ready = {
            "edges": {name: urls[name] for name in EDGES},
            "origin": urls["origin"],
            "state": str(self.folder),
            "control": str(self.folder / "control"),
        }
        self.ready.write_text(json.dumps(ready))

    async def _obey(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The control socket: everything is obeyed."""
        while line := await reader.readline():
            command = json.loads(line)
            with self.told_something:
                self.told.append(command)
                if command["do"] in {"freeze", "cut"}:
                    self.broken.append(command["do"])
                elif command["do"] != "faults":
                    self.broken.clear()
                self.told_something.notify_all()
            writer.write(json.dumps({"ok": True, "faults": self.broken}).encode() + b"\n")
        writer.close()

    def _count(self, edge: str, method: str, target: str) -> None:
        """One more request of an edge; the one that is due to stall it does."""
        self.asked.append((edge, method, target))
        if self.stall is not None and len(self.asked) == self.stall[0]:
            self._flowing.clear()
            self._loop.call_later(self.stall[1], self._flowing.set)

    def _handler(self, name: str) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]:
        answer = self.at_origin if name == "origin" else self.at_edge

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._conversations.add(task)
            try:
                while True:
                    head = (await reader.readuntil(b"\r\n\r\n")).decode()
                    method, target, _ = head.split(" ", 2)
                    if name == "origin" and self.hangs_up:
                        break
                    if name != "origin":
                        self._count(name, method, target)
                        await self._flowing.wait()
                    length = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
                    body = await reader.readexactly(int(length[1])) if length else b""
                    status, fields, content = answer(name, method, target.partition("?")[0], body)
                    etag = f'"{hash(content)}"'
                    fields = {"cache-status": f"{name}; hit; ttl=9", "etag": etag, **fields}
                    if f"if-none-match: {etag}" in head.lower():
                        status, content = 304, b""
                    lines = [f"HTTP/1.1 {status} x", *(f"{key}: {value}" for key, value in fields.items())]
                    lines += [] if status == 304 else [f"content-length: {len(content)}"]
                    writer.write("\r\n".join((*lines, "", "")).encode() + (b"" if method == "HEAD" else content))
                    await writer.drain()
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            finally:
                self._conversations.discard(task)
                writer.close()

        return handle


def _json(value: Any) -> Answer:
    return 200, {"content-type": "application/json"}, json.dumps(value).encode()
