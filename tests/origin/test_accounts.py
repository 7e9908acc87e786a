"""Staff: signing in, roles, the staff API, and an audit list that cannot be altered."""

from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest
from argon2 import PasswordHasher
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from origin.accounts import audit, passwords
from origin.accounts.model import Role, StaffError, TooManyLogins, WrongLogin
from origin.accounts.passwords import Passwords
from origin.accounts.purges import BadPurge, checked_tags
from origin.accounts.service import (
    LOGINS_PER_ACCOUNT,
    LOGINS_PER_ADDRESS,
    add_staff,
    session_of,
    sign_in,
    sign_out,
)
from origin.shop import Shop
from tests.support.servers import DatabaseUrls
from tests.support.small_shop import PASSWORD, client_of, small_shop, staff_of, token_of

API = "/api/staff/v1"


@pytest.fixture
async def shop(database: DatabaseUrls) -> AsyncIterator[Shop]:
    async with small_shop(database, serving=True) as shop:
        yield shop


@pytest.fixture(autouse=True)
def _cheap_hashes(monkeypatch):
    """Tests of other things need not pay for a real hash."""
    monkeypatch.setattr(passwords, "_hasher", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


class InstantPasswords(Passwords):
    """Compares without hashing, for tests of what happens around it."""

    async def matches(self, stored, password):
        return stored is not None and password == PASSWORD


# --- accounts ---


@pytest.mark.parametrize(
    ("role", "needed", "may"),
    [
        (Role.VIEWER, Role.VIEWER, True),
        (Role.VIEWER, Role.EDITOR, False),
        (Role.EDITOR, Role.EDITOR, True),
        (Role.EDITOR, Role.ADMIN, False),
        (Role.ADMIN, Role.VIEWER, True),
    ],
)
def test_each_role_may_do_what_those_below_it_may(role, needed, may):
    assert role.may(needed) is may


async def test_a_password_is_kept_as_argon2id_only(shop):
    await add_staff(shop, " Anna@Example.COM ", "editor", PASSWORD)
    async with shop.database.writes.connect() as connection:
        row = (await connection.execute(text("SELECT email, name, role, password_hash FROM accounts.staff"))).one()
    assert row[:3] == ("anna@example.com", "anna", "editor")
    assert row.password_hash.startswith("$argon2id$")
    assert PASSWORD not in row.password_hash


async def test_staff_that_cannot_be_is_refused_with_the_reason(shop):
    for email, role, password, why in (
        ("anna", "editor", PASSWORD, "not an e-mail"),
        ("a b@example.com", "editor", PASSWORD, "not an e-mail"),
        ("anna@example.com", "owner", PASSWORD, "viewer, editor, admin"),
        ("anna@example.com", "editor", "short", "at least 10"),
        ("anna@example.com", "editor", "x" * 1001, "at most 1000"),
    ):
        with pytest.raises(StaffError, match=why):
            await add_staff(shop, email, role, password)


async def test_adding_somebody_again_changes_them_and_signs_them_out(shop):
    email = await staff_of(shop, "viewer")
    signed_in = await sign_in(shop.database, InstantPasswords(), email, PASSWORD, "192.0.2.1", "browser")
    await add_staff(shop, email, "admin", "another password")
    assert await session_of(shop.database, signed_in.token, "browser") is None
    async with shop.database.writes.connect() as connection:
        [entry] = await audit.entries(connection, limit=1)
    assert entry.action == "staff.change"
    assert (entry.before, entry.after) == ({"name": "Viewer", "role": "viewer"}, {"name": "viewer", "role": "admin"})


async def test_a_session_opens_with_its_token_only_and_ends(shop):
    email = await staff_of(shop, "editor")
    signed_in = await sign_in(shop.database, Passwords(), email.upper(), PASSWORD, "192.0.2.1", "browser")
    found = await session_of(shop.database, signed_in.token, "browser")
    assert found is not None
    assert (found.staff.email, found.staff.role, found.csrf) == (email, Role.EDITOR, signed_in.session.csrf)
    assert await session_of(shop.database, signed_in.token, "token") is None
    assert await session_of(shop.database, signed_in.token + "x", "browser") is None
    async with shop.database.writes.connect() as connection:
        stored = (await connection.execute(text("SELECT token FROM accounts.session"))).scalar_one()
    assert signed_in.token.encode() not in stored
    await sign_out(shop.database, signed_in.token, found)
    assert await session_of(shop.database, signed_in.token, "browser") is None


async def test_a_session_is_over_when_its_time_is(shop):
    email = await staff_of(shop, "editor")
    signed_in = await sign_in(shop.database, InstantPasswords(), email, PASSWORD, "192.0.2.1", "browser")
    async with shop.database.unit_of_work(actor="test", cause="time passes") as work:
        await work.connection.execute(text("UPDATE accounts.session SET expires_at = now() - interval '1 second'"))
    assert await session_of(shop.database, signed_in.token, "browser") is None


@pytest.mark.parametrize(("email", "password"), [("editor@example.com", "wrong"), ("nobody@example.com", PASSWORD)])
async def test_a_wrong_login_does_not_tell_what_was_wrong(shop, email, password):
    await staff_of(shop, "editor")
    with pytest.raises(WrongLogin, match="e-mail or password is wrong"):
        await sign_in(shop.database, Passwords(), email, password, "192.0.2.1", "browser")


async def test_an_unknown_account_costs_as_much_as_a_wrong_password(monkeypatch):
    monkeypatch.undo()  # with the real parameters
    passwords._nobody.cache_clear()
    compared = []
    verify = passwords._hasher.verify

    def watched(stored, password):
        compared.append(stored.rpartition("p=")[0])
        return verify(stored, password)

    monkeypatch.setattr(passwords, "_hasher", SimpleNamespace(hash=passwords._hasher.hash, verify=watched))
    known = await Passwords().hash(PASSWORD)
    assert not await Passwords().matches(known, "wrong")
    assert not await Passwords().matches(None, "wrong")
    assert not await Passwords().matches(None, "no account has this password")
    assert compared == ["$argon2id$v=19$m=65536,t=3,"] * 3
    passwords._nobody.cache_clear()


async def test_failed_logins_are_limited_per_account_even_with_the_right_password_at_last(shop):
    email = await staff_of(shop, "editor")
    for n in range(LOGINS_PER_ACCOUNT):
        with pytest.raises(WrongLogin):
            await sign_in(shop.database, InstantPasswords(), email, "wrong", f"192.0.2.{n}", "browser")
    with pytest.raises(TooManyLogins) as refused:
        await sign_in(shop.database, InstantPasswords(), email, PASSWORD, "198.51.100.1", "browser")
    assert 0 < refused.value.retry_after_s <= 15 * 60


async def test_a_successful_login_starts_the_count_again(shop):
    email = await staff_of(shop, "editor")
    for _ in range(3):
        for _ in range(LOGINS_PER_ACCOUNT - 1):
            with pytest.raises(WrongLogin):
                await sign_in(shop.database, InstantPasswords(), email, "wrong", "192.0.2.1", "browser")
        await sign_in(shop.database, InstantPasswords(), email, PASSWORD, "192.0.2.1", "browser")


async def test_failed_logins_are_limited_per_address_and_leave_few_rows(shop):
    for n in range(LOGINS_PER_ADDRESS):
        with pytest.raises(WrongLogin):
            await sign_in(shop.database, InstantPasswords(), f"{n}@example.com", "x", "2001:db8::1", "browser")
    for n in range(20):
        with pytest.raises(TooManyLogins):
            # Another address of the same /64.
            await sign_in(shop.database, InstantPasswords(), f"new{n}@example.com", "x", "2001:db8::ffff", "browser")
    async with shop.database.writes.connect() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM accounts.login_attempt")) == LOGINS_PER_ADDRESS + 1


async def test_attempts_of_an_earlier_window_do_not_count(shop):
    email = await staff_of(shop, "editor")
    for _ in range(LOGINS_PER_ACCOUNT):
        with pytest.raises(WrongLogin):
            await sign_in(shop.database, InstantPasswords(), email, "wrong", "192.0.2.1", "browser")
    async with shop.database.unit_of_work(actor="test", cause="time passes") as work:
        await work.connection.execute(
            text("UPDATE accounts.login_attempt SET window_start = window_start - interval '16 minutes'")
        )
    await sign_in(shop.database, InstantPasswords(), email, PASSWORD, "192.0.2.1", "browser")


# --- the audit list ---


@pytest.mark.parametrize(
    "statement",
    ["UPDATE accounts.audit SET actor = 'somebody else'", "DELETE FROM accounts.audit", "TRUNCATE accounts.audit"],
)
async def test_no_role_of_the_database_can_alter_the_audit_list(shop, database, statement):
    await staff_of(shop, "viewer")
    with pytest.raises(DBAPIError, match="permission denied"):
        async with shop.database.unit_of_work(actor="test", cause="cover up") as work:
            await work.connection.execute(text(statement))
    owner = create_async_engine(database.admin)
    try:
        with pytest.raises(DBAPIError, match="append-only"):
            async with owner.begin() as connection:
                await connection.execute(text(statement))
    finally:
        await owner.dispose()


async def test_the_database_says_when_something_happened(shop):
    forged = text(
        "INSERT INTO accounts.audit (at, actor, action, subject) VALUES ('2001-01-01', 'anna', 'price.set', 'eu-eur/X')"
    )
    with pytest.raises(DBAPIError, match="permission denied"):
        async with shop.database.unit_of_work(actor="test", cause="an alibi") as work:
            await work.connection.execute(forged)


async def test_the_audit_list_is_filtered_and_paged(shop):
    async with shop.database.unit_of_work(actor="test", cause="many") as work:
        for n in range(25):
            await audit.write(
                work.connection,
                actor=f"{'anna' if n % 2 else 'ben'}@example.com",
                action="price.set",
                subject=f"eu-eur/SKU_{n}",
            )
    async with shop.database.writes.connect() as connection:
        first = await audit.entries(connection, limit=10)
        second = await audit.entries(connection, before_id=first[-1].id, limit=10)
        assert [entry.subject for entry in (*first, *second)] == [f"eu-eur/SKU_{n}" for n in range(24, 4, -1)]
        annas = await audit.entries(connection, audit.AuditFilter(actor="anna@example.com"), limit=100)
        assert len(annas) == 12
        assert len(await audit.entries(connection, audit.AuditFilter(subject="sku_1"), limit=100)) == 11
        assert not await audit.entries(connection, audit.AuditFilter(subject="skux1"))
        assert len(await audit.entries(connection, audit.AuditFilter(action="price"), limit=100)) == 25
        assert not await audit.entries(connection, audit.AuditFilter(action="pri"))


# --- the staff API ---


async def test_nothing_is_told_to_whoever_is_not_signed_in(shop):
    async with client_of(shop) as client:
        for method, path in (
            ("GET", "/products"),
            ("GET", "/products/LAMP-1"),
            ("PUT", "/products/LAMP-1/prices/eu-eur"),
            ("DELETE", "/products/LAMP-1/prices/eu-eur"),
            ("PUT", "/rates/USD/EUR"),
            ("PUT", "/products/LAMP-1/stock"),
            ("PUT", "/products/LAMP-1/listing"),
            ("POST", "/purges"),
            ("GET", "/changes/1.1"),
            ("GET", "/audit"),
            ("POST", "/logout"),
        ):
            for headers in ({}, {"authorization": "Bearer nonsense"}, {"authorization": "Basic eDp5"}):
                answer = await client.request(method, API + path, headers=headers)
                assert answer.status_code == 401, (method, path)
                assert answer.headers["www-authenticate"] == "Bearer"
                assert answer.headers["cache-control"] == "no-store"
                assert answer.headers["content-type"] == "application/problem+json"


async def test_a_program_signs_in_changes_a_price_and_signs_out(shop):
    email = await staff_of(shop, "editor")
    async with client_of(shop) as client:
        client.headers.update(await token_of(client, email))
        found = await client.get(f"{API}/products", params={"q": "brass"})
        assert found.json() == {"products": [{"sku": "LAMP-1", "name": "Brass Lamp", "slug": "lamp-one"}]}

        before = (await client.get(f"{API}/products/LAMP-1")).json()
        europe = {price["market"]: price for price in before["prices"]}["eu-eur"]
        assert (europe["amount"], europe["source"], europe["version"]) == ("8.60", "converted", 0)
        assert (europe["base"], europe["rate"]) == ({"amount": "10.00", "currency": "USD"}, "0.86")
        assert before["band"] == "in_stock"

        changed = await client.put(
            f"{API}/products/LAMP-1/prices/eu-eur", json={"amount": "12.00", "expected_version": 0, "reason": "sale"}
        )
        assert changed.status_code == 200
        assert changed.headers["cache-control"] == "no-store"
        price = changed.json()["price"]
        assert (price["amount"], price["amount_minor"], price["source"], price["version"]) == (
            "12.00",
            1200,
            "explicit",
            1,
        )

        report = (await client.get(f"{API}/changes/{changed.json()['position']}")).json()
        assert report["purge"]["id"] == changed.json()["purge_id"]
        assert report["change"]["reason"] == "sale"
        assert report["workers"] == []

        back = await client.request("DELETE", f"{API}/products/LAMP-1/prices/eu-eur", json={"expected_version": 1})
        assert (back.json()["price"]["amount"], back.json()["price"]["source"]) == ("8.60", "converted")

        trail = (await client.get(f"{API}/audit", params={"limit": 2})).json()["entries"]
        assert [entry["action"] for entry in trail] == ["price.remove", "price.set"]
        assert (await client.post(f"{API}/logout")).status_code == 200
        assert (await client.get(f"{API}/products")).status_code == 401


async def trail_of(client):
    entry = (await client.get(f"{API}/audit", params={"limit": 1})).json()["entries"][0]
    return entry["action"], entry["subject"], entry["before"], entry["after"], entry["reason"]


async def test_a_program_sets_a_rate(shop):
    email = await staff_of(shop, "editor")
    async with client_of(shop) as client:
        client.headers.update(await token_of(client, email))
        changed = await client.put(f"{API}/rates/USD/EUR", json={"rate": "0.90", "reason": "markets moved"})
        assert changed.json()["rate"] == {"base": "USD", "quote": "EUR", "rate": "0.9", "markets": ["eu-eur"]}
        prices = (await client.get(f"{API}/products/LAMP-1")).json()["prices"]
        assert {price["market"]: price["amount"] for price in prices}["eu-eur"] == "9.00"
        report = (await client.get(f"{API}/changes/{changed.json()['position']}")).json()
        assert (report["purge"]["id"], report["purge"]["kind"]) == (changed.json()["purge_id"], "hard")
        assert await trail_of(client) == (
            "rate.set", "USD/EUR", {"rate": "0.86"}, {"rate": "0.9"}, "markets moved",
        )  # fmt: skip


async def test_a_program_sets_stock_and_only_another_band_is_a_change_to_wait_for(shop):
    email = await staff_of(shop, "editor")
    async with client_of(shop) as client:
        client.headers.update(await token_of(client, email))
        same = (await client.put(f"{API}/products/LAMP-1/stock", json={"on_hand": 500})).json()
        assert (same["position"], same["purge_id"]) == (None, None)
        out = (await client.put(f"{API}/products/LAMP-1/stock", json={"on_hand": 0, "reason": "sold"})).json()
        assert out["stock"] == {"sku": "LAMP-1", "on_hand": 0, "band": "out", "before": "in_stock"}
        report = (await client.get(f"{API}/changes/{out['position']}")).json()
        assert "p:eu-eur:lamp-1" in report["purge"]["tags"]
        assert (await trail_of(client))[0::4] == ("stock.set", "sold")


async def test_a_product_that_is_taken_down_is_gone_until_it_is_listed_again(shop):
    email = await staff_of(shop, "editor")
    addresses = ("/eu-eur/products/lamp-one", "/api/v1/eu-eur/products/LAMP-1", "/api/v1/eu-eur/prices/LAMP-1")
    async with client_of(shop) as client:
        client.headers.update(await token_of(client, email))
        for listed, status in ((False, 404), (True, 200)):
            changed = await client.put(f"{API}/products/LAMP-1/listing", json={"listed": listed, "reason": "recall"})
            assert changed.json()["listing"] == {"sku": "LAMP-1", "listed": listed}
            assert [(await client.get(address)).status_code for address in addresses] == [status] * 3
            category = await client.get("/eu-eur/c/lighting")
            assert ("Brass Lamp" in category.text) is listed
            report = (await client.get(f"{API}/changes/{changed.json()['position']}")).json()
            assert report["purge"]["kind"] == "hard"
            assert {"p:eu-eur:lamp-1", "s:eu-eur:lamp-one", "c:eu-eur:lighting"} <= set(report["purge"]["tags"])
            words = [{"status": "taken_down"}, {"status": "listed"}]
            before, after = reversed(words) if not listed else words
            action = "product.list" if listed else "product.takedown"
            assert await trail_of(client) == (action, "LAMP-1", before, after, "recall")
            again = await client.put(f"{API}/products/LAMP-1/listing", json={"listed": listed})
            assert again.status_code == 409


async def test_a_conflict_shows_both_values(shop):
    email = await staff_of(shop, "editor")
    async with client_of(shop) as client:
        client.headers.update(await token_of(client, email))
        path = f"{API}/products/LAMP-1/prices/eu-eur"
        await client.put(path, json={"amount": "12.00"})
        refused = await client.put(path, json={"amount": "11.00", "expected_version": 0})
    assert refused.status_code == 409
    assert refused.json()["yours"] == {"amount": "11.00", "expected_version": 0}
    assert (refused.json()["theirs"]["amount"], refused.json()["theirs"]["version"]) == ("12.00", 1)


REFUSALS = [
    ("PUT", "/products/LAMP-1/prices/eu-eur", {"amount": "12,00"}, 422, "comma"),
    ("PUT", "/products/LAMP-1/prices/eu-eur", {"amount": 12.0}, 422, "amount"),
    ("PUT", "/products/LAMP-1/prices/eu-eur", {}, 422, "amount"),
    ("PUT", "/products/LAMP-1/prices/eu-eur", {"amount": "1.00", "colour": "red"}, 422, "colour"),
    ("PUT", "/products/LAMP-1/prices/eu-eur", {"amount": "1.00", "expected_version": -1}, 422, "expected_version"),
    ("PUT", "/products/LAMP-1/prices/eu-eur", {"amount": "1.00", "expected_version": 2**31}, 422, "expected_version"),
    ("DELETE", "/products/LAMP-1/prices/eu-eur", {"expected_version": 2**63}, 422, "expected_version"),
    ("PUT", "/products/LAMP-1/prices/eu-usd", {"amount": "1.00"}, 404, "known are us-usd"),
    ("PUT", "/products/LAMP/prices/eu-eur", {"amount": "1.00"}, 404, "did you mean LAMP-1"),
    ("DELETE", "/products/LAMP-1/prices/eu-eur", {}, 409, "no price of its own"),
    ("GET", "/products/NOBODY", None, 404, "unknown SKU"),
    ("PUT", "/rates/USD/EUR", {"rate": "0,86"}, 422, "not a rate"),
    ("PUT", "/rates/USD/USD", {"rate": "1"}, 422, "always 1"),
    ("PUT", "/rates/USD/EUR", {"rate": 0.86}, 422, "rate"),
    ("PUT", "/products/NOBODY/stock", {"on_hand": 3}, 404, "unknown SKU"),
    ("PUT", "/products/LAMP-1/stock", {"on_hand": -1}, 422, "zero or more"),
    ("PUT", "/products/LAMP-1/stock", {}, 422, "on_hand"),
    ("PUT", "/products/NOBODY/listing", {"listed": False}, 404, "no product has the SKU"),
    ("PUT", "/products/LAMP-1-RED/listing", {"listed": False}, 404, "a variant goes with its product"),
    ("PUT", "/products/LAMP-1/listing", {"listed": True}, 409, "in the shop already"),
    ("GET", "/products?q=%00", None, 422, "character"),
    ("PUT", "/products/LAMP-1/prices/eu-eur", {"amount": "1.00", "reason": "\x00"}, 422, "character"),
    ("GET", "/changes/9.9", None, 404, "no change at"),
    ("GET", "/changes/yesterday", None, 400, "not a position"),
    ("GET", "/changes/1.1?wait_s=forever", None, 422, "wait_s"),
    ("GET", "/audit?before=x", None, 422, "before"),
    ("POST", "/purges", {}, 422, "exactly one"),
    ("POST", "/purges", {"tags": ["P:x"]}, 422, "not a tag"),
    ("POST", "/purges", {"product": "LAMP-1", "category": "lighting"}, 422, "exactly one"),
    ("POST", "/purges", {"category": "nowhere"}, 422, "no category"),
    ("POST", "/purges", {"product": "LAMP-1", "kind": "gentle"}, 422, "hard or soft"),
]


async def test_what_cannot_be_done_is_refused_with_the_reason(shop):
    email = await staff_of(shop, "admin")
    async with client_of(shop) as client:
        client.headers.update(await token_of(client, email))
        for method, path, body, status, why in REFUSALS:
            answer = await client.request(method, API + path, json=body)
            assert answer.status_code == status, (method, path, body, answer.text)
            assert answer.headers["content-type"] == "application/problem+json"
            assert why in answer.text, (method, path, body, answer.text)


async def test_a_viewer_reads_and_changes_nothing(shop):
    email = await staff_of(shop, "viewer")
    async with client_of(shop) as client:
        client.headers.update(await token_of(client, email))
        assert (await client.get(f"{API}/products/LAMP-1")).status_code == 200
        assert (await client.get(f"{API}/audit")).status_code == 200
        for method, path, body in (
            ("PUT", "/products/LAMP-1/prices/eu-eur", {"amount": "1.00"}),
            ("DELETE", "/products/LAMP-1/prices/eu-eur", {}),
            ("PUT", "/rates/USD/EUR", {"rate": "0.9"}),
            ("PUT", "/products/LAMP-1/stock", {"on_hand": 0}),
            ("PUT", "/products/LAMP-1/listing", {"listed": False}),
            ("POST", "/purges", {"product": "LAMP-1"}),
        ):
            assert (await client.request(method, API + path, json=body)).status_code == 403, path


async def test_a_hard_purge_of_everything_needs_an_admin(shop):
    editor, admin = await staff_of(shop, "editor"), await staff_of(shop, "admin")
    async with client_of(shop) as client:
        for email, body, status in (
            (editor, {"tags": ["*"], "kind": "hard"}, 403),
            (editor, {"tags": [" *"], "kind": "hard"}, 403),
            (editor, {"tags": ["*\u2003", "\t*\n"], "kind": "hard"}, 403),
            (editor, {"tags": ["*"], "kind": "soft"}, 201),
            (editor, {"tags": ["p:eu-eur:lamp-1"], "kind": "hard"}, 201),
            (admin, {"tags": ["*"], "kind": "hard"}, 201),
        ):
            answer = await client.post(f"{API}/purges", json=body, headers=await token_of(client, email))
            assert answer.status_code == status, (email, body, answer.text)


async def test_what_a_purge_names_becomes_tags(shop):
    email = await staff_of(shop, "editor")
    async with client_of(shop) as client:
        client.headers.update(await token_of(client, email))
        for body, tags in (
            ({"product": "LAMP-1-RED", "market": "eu-eur"}, ["p:eu-eur:lamp-1"]),
            (
                {"category": "/lighting/lamps/", "market": "jp-jpy"},
                ["c:jp-jpy:lighting%2flamps", "cp:jp-jpy:lighting%2flamps"],
            ),
            ({"tags": ["n:us-usd", "n:us-usd"]}, ["n:us-usd"]),
        ):
            purged = (await client.post(f"{API}/purges", json=body)).json()
            report = (await client.get(f"{API}/changes/{purged['position']}")).json()
            assert purged["tags"] == tags
            assert set(tags) <= set(report["purge"]["tags"])
            assert report["change"]["action"] == "purge"


async def test_too_many_logins_say_when_to_try_again(shop):
    async with client_of(shop) as client:
        body = {"email": "nobody@example.com", "password": "wrong"}
        statuses = [(await client.post(f"{API}/login", json=body)).status_code for _ in range(LOGINS_PER_ACCOUNT)]
        refused = await client.post(f"{API}/login", json=body)
    assert set(statuses) == {401}
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) > 0


@pytest.mark.parametrize("tag", ["", "a,b", "P:X", "a b", "ä", "x" * 257, "-x", "a\n"])
def test_text_that_no_response_carries_is_no_tag(tag):
    with pytest.raises(BadPurge):
        checked_tags([tag, "x"] if tag != "a\n" else ["a\nb"])


def test_one_purge_names_at_most_a_thousand_tags():
    with pytest.raises(BadPurge, match="1000"):
        checked_tags(f"t{n}" for n in range(1001))
    assert len(checked_tags(f"t{n}" for n in range(1000))) == 1000
    with pytest.raises(BadPurge, match="alone"):
        checked_tags(["*", "a"])
