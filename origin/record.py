"""One line and one count for every request: the origin's access log and its request metrics (docs/wire.md).

The log is the origin's own account of what edges fetched. Questions of edges are counted and not logged: they ask for
nothing that is shown, four times a second each.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import orjson
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cache_policies.feed import FEED_PATH
from origin.metrics import Metrics

STDOUT = "-"
NO_ROUTE = "none"
OTHER_METHOD = "other"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
"""Those that become labels."""
STAFF_PATHS = {"/console": "console", "/api/staff/": "staff-api"}
"""Beginnings of addresses that are one route in the metrics, and whose queries are nobody's business."""


class AccessLog:
    """Appends lines to `target`, a path or `-` for standard output. Several workers may share one file.

    Each line is one write: lines of several processes never mix, and whoever saw an answer finds its line. A full disk
    loses lines, never answers. Raises OSError when the file cannot be opened.
    """

    def __init__(self, target: str) -> None:
        if target == STDOUT:
            self._descriptor = os.dup(sys.stdout.fileno())
            return
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        # Not waiting for a reader, if it is a pipe.
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC
        self._descriptor = os.open(target, flags, 0o640)
        os.set_blocking(self._descriptor, True)

    def write(self, line: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            os.write(self._descriptor, orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))

    def close(self) -> None:
        os.close(self._descriptor)


class Records:
    """What one worker keeps of its requests. `log` None: no lines."""

    def __init__(self, metrics: Metrics, log: AccessLog | None = None) -> None:
        self.metrics = metrics
        self.log = log
        self._names: dict[Callable[..., Any], str] = {}

    def learn(self, routes: Iterable[BaseRoute]) -> None:
        """The names that routes have in the metrics: those of the cache policies, where a policy is for the route."""
        for route in routes:
            if isinstance(route, Route):
                self._names[route.endpoint] = next(
                    (name for start, name in STAFF_PATHS.items() if route.path.startswith(start)), route.name
                )

    def name_of(self, scope: Scope) -> str:
        """The route of a request that was answered; `none` where no route was found for it."""
        return self._names.get(scope.get("endpoint", None), NO_ROUTE)

    def keep(self, scope: Scope, status: int, sent_bytes: int, seconds: float) -> None:
        """A request is over. `status` 0: it was never answered."""
        name = self.name_of(scope)
        method = scope["method"] if scope["method"] in METHODS else OTHER_METHOD
        self.metrics.requests.labels(name, method, f"{status // 100}xx" if status else "none").inc()
        self.metrics.request_seconds.labels(name).observe(seconds)
        if self.log is None or scope["path"] == FEED_PATH:
            return
        state = scope["state"]
        from_edge = state.get("from_edge", False)
        fields = dict(scope["headers"])
        host = (fields.get(b"x-forwarded-host") if from_edge else None) or fields.get(b"host", b"")
        is_staff = name in STAFF_PATHS.values()
        self.log.write(
            {
                "time": round(time.time(), 3),
                "worker": os.getpid(),
                "edge_key": from_edge,
                "host": host.decode("latin-1"),
                "method": scope["method"],
                "route": name,
                "path": scope["path"],
                "query": "" if is_staff else scope["query_string"].decode("latin-1"),
                "status": status,
                "bytes": sent_bytes,
                "ms": round(seconds * 1000, 3),
                "source": state.get("source"),
            }
        )


class Recorded:
    """The outermost layer: measures each request from its head to the end of its answer."""

    def __init__(self, app: ASGIApp, records: Records) -> None:
        self._app = app
        self._records = records

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        scope.setdefault("state", {})
        status = sent_bytes = 0

        async def counted(message: Message) -> None:
            nonlocal status, sent_bytes
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                sent_bytes += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, counted)
        finally:
            self._records.keep(scope, status, sent_bytes, time.perf_counter() - started)
