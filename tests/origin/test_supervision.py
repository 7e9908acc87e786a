"""The supervisor's lease: who may take changes, answer questions and call anything live (rule 8)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from cache_policies.feed import FEED_PATH
from cache_policies.fields import EDGE_KEY_FIELD, MIN_VERSION_FIELD
from cache_policies.positions import ZERO, Position
from origin.accounts.service import add_staff
from origin.db import NotInCharge
from origin.events.live import QUIET_S, SUPERVISOR_LEASE_S
from origin.events.messages import CatalogReplaced
from origin.events.observer import read_view
from origin.events.purge_log import read_after
from origin.snapshot import TooOld
from tests.support.origin import EDGE_KEY, FakeWorker, running_shop, settings_of
from tests.support.servers import DatabaseUrls

RENEW = "SELECT events.renew_supervisor_lease(:holder, {basis}, {length})"
STAFF = ("anna@example.com", "admin", "a long enough passphrase")


@pytest.fixture
async def owner(database: DatabaseUrls) -> AsyncIterator[AsyncConnection]:
    engine = create_async_engine(database.admin, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        yield connection


@pytest.fixture
async def origin(database):
    async with running_shop(settings_of(database)) as running:
        yield running


async def renew(
    owner: AsyncConnection, holder: str = "one", basis: str = "clock_timestamp()", length: str = "interval '2 s'"
) -> None:
    await owner.execute(text(RENEW.format(basis=basis, length=length)), {"holder": holder})


async def lapse(owner: AsyncConnection) -> None:
    """The supervisor had this server in charge and was not heard of since."""
    await owner.execute(text("DELETE FROM events.supervisor_lease"))
    await renew(owner, basis="clock_timestamp() - interval '1 minute'")


async def in_charge(owner: AsyncConnection) -> bool:
    return bool((await owner.execute(text("SELECT events.in_charge()"))).scalar_one())


async def refused(owner: AsyncConnection, **how: str) -> str:
    with pytest.raises(DBAPIError) as caught:
        await renew(owner, **how)
    return str(caught.value.orig)


async def test_without_a_supervisor_every_primary_is_in_charge(owner):
    assert await in_charge(owner)


async def test_a_lease_holds_until_it_is_over(owner):
    await renew(owner)
    assert await in_charge(owner)
    await lapse(owner)
    assert not await in_charge(owner)
    await renew(owner)
    assert await in_charge(owner)
    await owner.execute(text("SELECT events.end_supervision()"))
    assert await in_charge(owner)


async def test_a_renewal_that_comes_late_grants_nothing(owner):
    """What waits in the socket of a frozen server was counted from before it was frozen."""
    await renew(owner, basis="clock_timestamp() - interval '30 s'")
    assert not await in_charge(owner)


async def test_the_basis_is_what_this_server_said_before(owner):
    basis = (await owner.execute(text("SELECT clock_timestamp()"))).scalar_one()
    said = (
        await owner.execute(
            text(RENEW.format(basis=":basis", length="interval '1 s'")), {"holder": "one", "basis": basis}
        )
    ).scalar_one()
    assert said >= basis
    until = (await owner.execute(text("SELECT until FROM events.supervisor_lease"))).scalar_one()
    assert (until - basis).total_seconds() == 1.0
    assert "lies in the past" in await refused(owner, basis="clock_timestamp() + interval '1 s'")
    assert "lies in the past" in await refused(owner, basis="NULL")


async def test_no_lease_is_longer_than_a_promoted_primary_waits_out(owner):
    assert QUIET_S > 2 * SUPERVISOR_LEASE_S
    assert "up to 2 s" in await refused(owner, length="interval '2.1 s'")
    assert "up to 2 s" in await refused(owner, length="interval '0'")


async def test_a_clock_that_was_set_back_ends_the_lease(owner):
    await renew(owner)
    later = (
        "UPDATE events.supervisor_lease SET renewed_at = renewed_at + interval '1 h', until = until + interval '1 h'"
    )
    await owner.execute(text(later))
    assert not await in_charge(owner)


async def test_two_supervisors_do_not_share_a_server(owner):
    await renew(owner, holder="one")
    assert "the supervisor one has this server in charge" in await refused(owner, holder="two")
    await lapse(owner)
    await renew(owner, holder="two")
    assert await in_charge(owner)


async def test_a_server_that_was_promoted_is_in_charge_only_once_it_has_begun_an_epoch(owner):
    """With a lease or without one, whoever promoted it. That it writes another timeline is all that it knows."""
    await owner.execute(text("UPDATE events.clock SET timeline = '0000002A'"))
    assert not await in_charge(owner)
    with pytest.raises(DBAPIError, match="not in charge"):
        await owner.execute(text("SELECT events.log_purge('hard', ARRAY['*'], 'psql', 'me')"))
    await renew(owner)
    assert not await in_charge(owner)
    await owner.execute(text("SELECT events.raise_epoch('me')"))
    assert await in_charge(owner)
    await owner.execute(text("SELECT events.end_supervision()"))
    assert await in_charge(owner)


async def test_a_standby_is_not_in_charge(database, owner, postgres):
    await renew(owner)
    postgres.wait_for_replay()
    engine = create_async_engine(database.replica, poolclass=NullPool)
    async with engine.connect() as standby:
        assert not await in_charge(standby)


@pytest.mark.parametrize("statement", ["SELECT events.end_supervision()", RENEW.format(basis="now()", length="'1 s'")])
async def test_the_application_does_not_put_itself_in_charge(database, statement):
    engine = create_async_engine(database.primary, poolclass=NullPool)
    async with engine.connect() as application:
        with pytest.raises(DBAPIError, match="permission denied"):
            await application.execute(text(statement), {"holder": "me"} if ":holder" in statement else {})


async def test_a_server_that_is_not_in_charge_takes_no_change(origin, owner):
    shop, _ = origin
    await lapse(owner)
    with pytest.raises(NotInCharge):
        async with shop.database.unit_of_work(actor="a", cause="b") as work:
            work.record(CatalogReplaced())
    async with shop.database.writes.connect() as connection:
        assert (await connection.execute(text("SELECT cv FROM events.clock"))).scalar_one() == 1
    with pytest.raises(DBAPIError, match="not in charge"):
        await owner.execute(text("SELECT events.log_purge('hard', ARRAY['*'], 'psql', 'me')"))


async def test_it_answers_no_question_and_calls_nothing_live(origin, owner):
    shop, client = origin
    worker = FakeWorker(client, "worker-1")
    await worker.catch_up()
    await lapse(owner)
    answer = await client.post(FEED_PATH, content=worker.question().to_json(), headers={EDGE_KEY_FIELD: EDGE_KEY})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    async with shop.database.log.connect() as connection:
        with pytest.raises(NotInCharge):
            await read_after(connection, ZERO, "")
        with pytest.raises(NotInCharge):
            await read_view(connection)
    await renew(owner)
    await worker.catch_up()


async def test_it_is_no_witness_of_the_head(origin, owner):
    shop, client = origin
    headers = {EDGE_KEY_FIELD: EDGE_KEY, MIN_VERSION_FIELD: "head"}
    assert (await client.get("/api/v1/eu-eur/products", headers=headers)).status_code == 200
    await lapse(owner)
    with pytest.raises(TooOld, match="in charge"):
        async with shop.snapshots.open("head"):
            pass
    answer = await client.get("/api/v1/eu-eur/products", headers=headers)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    # What demands less is answered, labelled with what was read.
    async with shop.snapshots.open(Position(1, 1)) as snapshot:
        assert snapshot.position == Position(1, 1)


async def test_writes_of_staff_are_503_with_retry_after_and_readiness_says_why(origin, owner):
    shop, client = origin
    await add_staff(shop, *STAFF)
    email, _, password = STAFF
    signed_in = await client.post("/api/staff/v1/login", json={"email": email, "password": password})
    bearer = {"authorization": f"Bearer {signed_in.json()['token']}"}
    order = {"kind": "soft", "tags": ["p:eu-eur:sku-1"]}
    assert (await client.post("/api/staff/v1/purges", json=order, headers=bearer)).status_code == 201
    assert (await client.get("/readyz")).status_code == 200
    await lapse(owner)
    refused = await client.post("/api/staff/v1/purges", json=order, headers=bearer)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert "Nothing was changed" in refused.json()["detail"]
    # Signing in takes no position; the look after its commit finds that it may be kept nowhere.
    unknown = await client.post("/api/staff/v1/login", json={"email": email, "password": password})
    assert (unknown.status_code, unknown.headers["retry-after"]) == (503, "2")
    health = await client.get("/readyz")
    assert (health.status_code, health.json()["checks"]["primary"]["ok"]) == (503, False)
