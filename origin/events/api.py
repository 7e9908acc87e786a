"""What edges ask of the origin beside pages: the feed, and leave to go. Edge key only."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from cache_policies.feed import FEED_PATH, LEAVE_PATH, Question
from cache_policies.positions import WireError
from origin.errors import NotSignedIn
from origin.events.feed import Feed, leave

if TYPE_CHECKING:
    from origin.shop import Shop

MAX_URL_CHARACTERS = 200


class _Lines(StreamingResponse):
    """An answer that gives its place back however it ends."""

    def __init__(self, lines: AsyncIterator[bytes], feed: Feed) -> None:
        super().__init__(
            lines,
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
            media_type="application/x-ndjson",
        )
        self._feed = feed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._feed.release()


def routes(shop: Shop) -> list[BaseRoute]:
    """The feed and leave."""
    feed = Feed(shop.database, shop.tail)

    async def ask(request: Request) -> Response:
        _edges_only(request)
        question = _strict(Question.from_json(await request.body()))
        feed.admit()
        lines = feed.answer(question)
        try:
            # Made before the status is sent: a database that does not answer is a 503, not half of a 200.
            first = await anext(lines)
        except BaseException:
            feed.release()
            raise
        return _Lines(_chain(first, lines), feed)

    async def go(request: Request) -> Response:
        _edges_only(request)
        await leave(shop.database, _worker_of(await request.body()))
        return Response(status_code=204, headers={"cache-control": "no-store"})

    return [
        Route(FEED_PATH, ask, methods=["POST"], name="edge-feed"),
        Route(LEAVE_PATH, go, methods=["POST"], name="edge-leave"),
    ]


async def _chain(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for line in rest:
        yield line


def _edges_only(request: Request) -> None:
    if not request.state.from_edge:
        raise NotSignedIn("this address answers edges only: the edge key is missing")


def _strict(question: Question) -> Question:
    """`question`, when its parts fit the registry. Raises WireError."""
    if question.contact >= 2**63:
        raise WireError("a contact number has at most 63 bits")
    if not (_is_plain(question.worker) and _is_plain(question.edge)):
        raise WireError("the names of a worker and its edge are printable ASCII without spaces")
    url = question.public_url
    parts = urlsplit(url)
    if len(url) > MAX_URL_CHARACTERS or not _is_plain(url) or parts.scheme not in {"http", "https"} or not parts.netloc:
        raise WireError("the public address of an edge is an http or https URL of at most 200 characters")
    return question


def _worker_of(body: bytes) -> str:
    try:
        worker = json.loads(body)["worker"]
    except (ValueError, KeyError, TypeError) as exc:
        raise WireError('expected {"worker": "..."}') from exc
    if not isinstance(worker, str) or not 8 <= len(worker) <= 64 or not _is_plain(worker):
        raise WireError("a worker's name is 8 to 64 printable ASCII characters")
    return worker


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text
