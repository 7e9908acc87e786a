"""An origin for tests: a shop on embedded servers, and edge workers that are nothing but their questions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from inspect import isawaitable

import httpx

from cache_policies.feed import FEED_PATH, LEAVE_PATH, Answer, Question
from cache_policies.fields import EDGE_KEY_FIELD
from cache_policies.positions import Position
from origin.app import app_of
from origin.events.feed import Feed
from origin.settings import OriginSettings
from origin.shop import Shop, open_shop
from tests.support.servers import DatabaseUrls

EDGE_KEY = "the key of the edges in tests"


def settings_of(database: DatabaseUrls, *, replicas: bool = True, redis_url: str = "") -> OriginSettings:
    """What an origin worker on `database` would be told."""
    return OriginSettings(
        database_url=database.primary,
        replica_urls=(database.replica,) if replicas else (),
        redis_url=redis_url,
        edge_key=EDGE_KEY,
    )


class OriginClient(httpx.AsyncClient):
    """A client of the application, without a network between them."""

    def __init__(self, shop: Shop) -> None:
        super().__init__(transport=httpx.ASGITransport(app=app_of(shop)), base_url="http://origin", timeout=10)
        self.shop = shop


@asynccontextmanager
async def running_shop(settings: OriginSettings) -> AsyncIterator[tuple[Shop, OriginClient]]:
    """A serving shop, and a client of it."""
    async with open_shop(settings, serving=True) as shop, OriginClient(shop) as client:
        yield shop, client


@dataclass
class FakeWorker:
    """One edge worker: asks when told to."""

    client: OriginClient
    name: str
    edge: str = "eu"
    public_url: str = "http://127.0.0.1:9"
    contact: int = 0
    applied: Position | None = None
    applied_id: str | None = None

    def question(self) -> Question:
        self.contact += 1
        return Question(self.name, self.edge, self.contact, self.applied, self.applied_id, self.public_url)

    async def ask(self, question: Question | None = None) -> list[Answer]:
        """Ask over HTTP and hear the whole answer, which takes as long as the origin holds it; nothing is applied."""
        question = question or self.question()
        response = await self.client.post(FEED_PATH, content=question.to_json(), headers={EDGE_KEY_FIELD: EDGE_KEY})
        assert response.status_code == 200, response.text
        return [Answer.from_json(line) for line in response.content.splitlines()]

    def apply(self, answer: Answer) -> None:
        """Take `answer` as applied, as a follower would."""
        if answer.start is not None:
            self.applied, self.applied_id = answer.start
        if answer.flush:
            self.applied, self.applied_id = answer.head, answer.head_id
        for entry in answer.entries:
            self.applied, self.applied_id = entry.position, entry.id

    async def glance(self, question: Question | None = None) -> Answer:
        """Ask and hang up after the first line, which comes at once."""
        lines = Feed(self.client.shop.database, self.client.shop.tail).answer(question or self.question())
        try:
            return Answer.from_json(await anext(lines))
        finally:
            await lines.aclose()

    async def catch_up(self) -> None:
        """Ask until everything is applied and that is reported."""
        while True:
            asked_after = self.applied
            answer = await self.glance()
            self.apply(answer)
            if asked_after == answer.head == self.applied:
                return

    async def leave(self) -> None:
        response = await self.client.post(LEAVE_PATH, json={"worker": self.name}, headers={EDGE_KEY_FIELD: EDGE_KEY})
        assert response.status_code == 204, response.text


async def until(condition, within_s: float = 5.0, what: str = "what was waited for") -> None:
    """Wait until `condition()` is true, or what it awaits is. `what`: what never came about, in a few words."""
    try:
        async with asyncio.timeout(within_s):
            while not (await found if isawaitable(found := condition()) else found):
                await asyncio.sleep(0.002)
    except TimeoutError as exc:
        raise AssertionError(f"{what} did not come about within {within_s:g} s") from exc


def without_standbys(settings: OriginSettings) -> OriginSettings:
    """The same for a shop whose standby may not be promoted: none of that name exists."""
    return replace(settings, standbys=("nobody",))
