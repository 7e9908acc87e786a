"""A purge that an edge sends on for its operator: into log and audit list, and answered with how far it is."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import text

from cache_policies.feed import PURGE_PATH, PurgeWish
from cache_policies.fields import EDGE_KEY_FIELD
from cache_policies.positions import PurgeKind
from origin.accounts import audit
from tests.support.origin import EDGE_KEY, FakeWorker, running_shop, settings_of

pytestmark = pytest.mark.database
KEY = {EDGE_KEY_FIELD: EDGE_KEY}


@pytest.fixture
async def origin(database):
    async with running_shop(settings_of(database)) as running:
        yield running


def wish(*tags: str, kind: PurgeKind = PurgeKind.HARD, wait_s: float = 0.0) -> bytes:
    return PurgeWish("eu", kind, tags, "ordered from 10.1.2.3", wait_s).to_json()


async def test_it_is_logged_and_stands_in_the_audit_list_under_the_edges_name(origin):
    shop, client = origin
    answer = await client.post(PURGE_PATH, content=wish("p:eu-eur:a", "path:/eu-eur/products/lamp"), headers=KEY)
    done = answer.json()
    assert answer.status_code == 200, answer.text
    assert (done["kind"], done["tags"]) == ("hard", ["p:eu-eur:a", "path:/eu-eur/products/lamp"])
    async with shop.database.writes.connect() as connection:
        row = (await connection.execute(text("SELECT * FROM events.purge_log ORDER BY epoch DESC, cv DESC"))).first()
        entries = await audit.entries(connection, audit.AuditFilter(actor="edge eu"))
    assert (f"{row.epoch}.{row.cv}", row.kind) == (done["position"], "hard")
    assert set(done["tags"]) <= set(row.tags)
    assert [(entry.action, entry.reason, entry.purge_id) for entry in entries] == [
        ("purge", "ordered from 10.1.2.3", done["id"])
    ]


async def test_it_answers_when_every_worker_has_applied_it(origin):
    _, client = origin
    worker = FakeWorker(client, "worker-1")
    for answer in await worker.ask():
        worker.apply(answer)
    ordered = asyncio.create_task(client.post(PURGE_PATH, content=wish("p:eu-eur:a", wait_s=10.0), headers=KEY))
    done = None
    while done is None:
        for answer in await worker.ask():
            worker.apply(answer)
        if ordered.done():
            done = (await ordered).json()
    assert [(each["edge"], each["worker"], each["outcome"]) for each in done["workers"]] == [
        ("eu", "worker-1", "acknowledged")
    ]
    assert done["state"] in {"shown", "live"}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{}", 400),
        (b"not JSON", 400),
        (wish("P:EU"), 422),
        (wish("path:no-slash, and a comma"), 422),
        (wish("*", "p:eu-eur:a"), 422),
    ],
)
async def test_what_cannot_be_purged_is_refused(origin, body, status):
    answer = await origin[1].post(PURGE_PATH, content=body, headers=KEY)
    assert answer.status_code == status, answer.text


async def test_nobody_but_an_edge_is_answered(origin):
    assert (await origin[1].post(PURGE_PATH, content=wish("a"))).status_code == 401
    assert (await origin[1].post(PURGE_PATH, content=wish("a"), headers={EDGE_KEY_FIELD: "x"})).status_code == 403
