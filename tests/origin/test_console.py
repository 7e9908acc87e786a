"""The console without JavaScript: what each page says, and which forms it refuses."""

import asyncio
import re
from collections.abc import AsyncIterator
from html import unescape

import httpx
import pytest
from argon2 import PasswordHasher
from sqlalchemy import text

from cache_policies.positions import PurgeKind
from origin.accounts import passwords
from origin.accounts.orders import Order, PurgeOrders
from origin.accounts.service import LOGINS_PER_ACCOUNT
from origin.progress import MOST_CHANGES
from origin.shop import Shop
from tests.support.epochs import raise_epoch
from tests.support.servers import DatabaseUrls
from tests.support.small_shop import ORIGIN, PASSWORD, client_of, small_shop, staff_of, token_of

PRICE = "/console/products/LAMP-1/prices/eu-eur"


@pytest.fixture(autouse=True)
def _cheap_hashes(monkeypatch):
    monkeypatch.setattr(passwords, "_hasher", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


@pytest.fixture
async def shop(database: DatabaseUrls) -> AsyncIterator[Shop]:
    async with small_shop(database, serving=True) as shop:
        yield shop


def token_in(page: httpx.Response) -> str:
    return found_in(r'name="csrf" value="([^"]+)"', page)


def found_in(pattern: str, page: httpx.Response) -> str:
    found = re.search(pattern, page.text)
    assert found, page.text
    return found[1]


def words_in(page: httpx.Response) -> str:
    """What the page says, without its marks and with single blanks."""
    body = page.text.partition("<main")[2]
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", body)).split())


async def signed_in(shop: Shop, client: httpx.AsyncClient, role: str = "editor") -> str:
    """Sign `role` in; the token for forms."""
    email = await staff_of(shop, role)
    form = {"csrf": token_in(await client.get("/console/login")), "email": email, "password": PASSWORD}
    answer = await client.post("/console/login", data=form)
    assert answer.status_code == 303, answer.text
    return token_in(await client.get("/console/audit"))


async def test_whoever_is_not_signed_in_is_sent_to_the_login_and_back(shop):
    email = await staff_of(shop, "viewer")
    async with client_of(shop) as client:
        sent = await client.get("/console/products/LAMP-1?x=1")
        assert sent.status_code == 303
        login = await client.get(sent.headers["location"])
        form = {
            "csrf": token_in(login),
            "email": email,
            "password": PASSWORD,
            "next": found_in(r'name="next" value="([^"]+)"', login),
        }
        back = await client.post("/console/login", data=form)
        assert back.headers["location"] == "/console/products/LAMP-1?x=1"
        assert (await client.get(back.headers["location"])).status_code == 200


@pytest.mark.parametrize("elsewhere", ["https://evil.example/", "//evil.example", "/console\\@evil", "/consolex", "/x"])
async def test_a_login_leads_nowhere_else(shop, elsewhere):
    email = await staff_of(shop, "viewer")
    async with client_of(shop) as client:
        token = token_in(await client.get("/console/login"))
        form = {"csrf": token, "email": email, "password": PASSWORD, "next": elsewhere}
        assert (await client.post("/console/login", data=form)).headers["location"] == "/console"


async def test_the_session_cookie_is_for_the_console_only_and_out_of_reach_of_scripts(shop):
    email = await staff_of(shop, "viewer")
    async with client_of(shop) as client:
        token = token_in(await client.get("/console/login"))
        answer = await client.post("/console/login", data={"csrf": token, "email": email, "password": PASSWORD})
    cookie = next(field for field in answer.headers.get_list("set-cookie") if field.startswith("nearshelf-session="))
    assert {"HttpOnly", "SameSite=strict", "Path=/console", "Max-Age=43200"} <= set(cookie.split("; "))
    async with client_of(shop) as client:
        client.base_url = ORIGIN.replace("http:", "https:")
        token = token_in(await client.get("/console/login"))
        answer = await client.post("/console/login", data={"csrf": token, "email": email, "password": PASSWORD})
    cookie = next(field for field in answer.headers.get_list("set-cookie") if "-session=" in field)
    assert cookie.startswith("__Host-nearshelf-session=")
    assert {"Secure", "HttpOnly", "Path=/"} <= set(cookie.split("; "))


async def test_a_wrong_login_keeps_the_e_mail_and_tells_no_more(shop):
    email = await staff_of(shop, "viewer")
    async with client_of(shop) as client:
        token = token_in(await client.get("/console/login"))
        answer = await client.post("/console/login", data={"csrf": token, "email": email, "password": "wrong"})
        assert answer.status_code == 401
        assert "E-mail or password is wrong" in words_in(answer)
        assert f'value="{email}"' in answer.text
        for _ in range(LOGINS_PER_ACCOUNT):
            answer = await client.post("/console/login", data={"csrf": token, "email": email, "password": "wrong"})
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize(
    ("headers", "csrf"),
    [
        pytest.param({"origin": "http://evil.example"}, True, id="another origin"),
        pytest.param({"origin": "null"}, True, id="an origin that says nothing"),
        pytest.param({"origin": "http://["}, True, id="an origin that is no address"),
        pytest.param({"sec-fetch-site": "cross-site"}, True, id="another site"),
        pytest.param({"sec-fetch-site": "same-site"}, True, id="a neighbour of the site"),
        pytest.param({"content-type": "text/plain"}, True, id="not a form"),
        pytest.param({}, False, id="no token"),
    ],
)
async def test_forms_from_elsewhere_change_nothing(shop, headers, csrf):
    async with client_of(shop) as client:
        token = await signed_in(shop, client)
        form = {"csrf": token if csrf else "x" * len(token), "amount": "1.00", "do": "set", "version": "0"}
        answer = await client.post(PRICE, data=form, headers=headers)
        assert answer.status_code in {403, 422}
        login = await client.post("/console/login", data={"csrf": "x", "email": "a", "password": "b"})
        assert login.status_code == 403
        shown = await client.get("/api/v1/eu-eur/prices/LAMP-1")
    assert shown.json()["source"] == "converted"


async def test_our_own_forms_are_accepted_with_what_browsers_say_about_them(shop):
    async with client_of(shop) as client:
        token = await signed_in(shop, client)
        said = {"origin": ORIGIN, "sec-fetch-site": "same-origin"}
        form = {"csrf": token, "amount": "12.00", "do": "set", "version": "0"}
        assert (await client.post(PRICE, data=form, headers=said)).status_code == 303


async def test_a_product_is_found_by_name_by_sku_and_by_the_sku_of_a_variant(shop):
    async with client_of(shop) as client:
        await signed_in(shop, client, "viewer")
        assert "Paper Lamp LAMP-2" in words_in(await client.get("/console", params={"q": "lamp"}))
        assert (await client.get("/console?q=lamp-1")).headers["location"] == "/console/products/LAMP-1"
        variant = await client.get("/console?q=LAMP-1-RED")
        assert variant.headers["location"] == "/console/products/LAMP-1-RED"
        assert "Nothing found for “sofa”" in words_in(await client.get("/console?q=sofa"))
        unknown = await client.get("/console/products/LAMP-3")
        assert unknown.status_code == 404
        assert "Unknown SKU 'LAMP-3'" in words_in(unknown)


async def test_a_product_shows_each_market_s_price_and_where_it_comes_from(shop):
    async with client_of(shop) as client:
        token = await signed_in(shop, client)
        await client.post(PRICE, data={"csrf": token, "amount": "12.00", "do": "set", "version": "0"})
        words = words_in(await client.get("/console/products/LAMP-1"))
        assert "Europe eu-eur €12.00 Own price version 1, by editor@example.com" in words
        assert "Converted it would be €8.60 (10.00 USD × 0.86)" in words
        assert "United States us-usd $10.00 Base price 10.00 USD" in words
        assert "Japan jp-jpy ¥1,540 Converted 10.00 USD × 154" in words
        assert "Not sold here" in words_in(await client.get("/console/products/MUG-1"))
        red = words_in(await client.get("/console/products/LAMP-1-RED"))
        assert "a variant of LAMP-1" in red
        assert "low stock" in red


async def test_a_change_leads_to_its_live_view_which_tells_how_far_it_is(shop):
    async with client_of(shop) as client:
        token = await signed_in(shop, client)
        form = {"csrf": token, "amount": "12.00", "do": "set", "version": "0", "reason": "<autumn>"}
        saved = await client.post(PRICE, data=form)
        assert saved.status_code == 303
        view = await client.get(saved.headers["location"])
        words = words_in(view)
        assert "Brass Lamp in Europe €8.60 (converted) → €12.00" in words
        assert "“<autumn>”" in words
        assert "cp:eu-eur:lighting%2flamps" in words
        assert 'aria-live="polite"' in view.text
        part = await client.get(saved.headers["location"] + "?part=progress&wait_s=5")
        assert "<html" not in part.text
        assert 'data-verdict="shown everywhere' in part.text or 'data-verdict="live' in part.text
        assert (await client.get("/console/changes/9.9")).status_code == 404
        assert (await client.get("/console/changes/nonsense")).status_code == 404


async def test_a_change_that_went_down_with_its_primary_is_called_lost_to_who_asks_afterwards(shop, database):
    await raise_epoch(database)
    async with client_of(shop) as client:
        await signed_in(shop, client)
        view = await client.get("/console/changes/1.9999")
        assert view.status_code == 200
        assert "It is shown nowhere: make it again." in words_in(view)
        assert 'id="progress" data-more="no"' in view.text
        client.headers.update(await token_of(client, "editor@example.com"))
        told = (await client.get("/api/staff/v1/changes/1.9999?read_back=yes")).json()
        assert (told["state"], told["final"], told["purge"], told["changes"]) == ("lost", True, None, [])
        assert (await client.get("/api/staff/v1/changes/2.9999")).status_code == 404


async def test_an_amount_that_cannot_be_is_shown_again_with_the_reason(shop):
    async with client_of(shop) as client:
        token = await signed_in(shop, client)
        form = {"csrf": token, "amount": "12,00", "do": "set", "version": "0", "reason": "because"}
        page = await client.post(PRICE, data=form)
        assert page.status_code == 422
        assert "a comma could be either separator" in words_in(page)
        assert 'value="12,00" aria-invalid="true" aria-describedby="e-eu-eur"' in page.text
        assert 'value="because"' in page.text


async def test_of_two_editors_the_second_sees_both_values_and_may_then_choose(shop):
    async with client_of(shop) as client:
        token = await signed_in(shop, client)
        form = {"csrf": token, "amount": "12.00", "do": "set", "version": "0"}
        assert (await client.post(PRICE, data=form)).status_code == 303
        refused = await client.post(PRICE, data={**form, "amount": "11.00"})
        assert refused.status_code == 409
        words = words_in(refused)
        assert "12.00 EUR (version 1)" in words
        assert "your value, 11.00 EUR, was not saved" in words
        assert 'value="11.00"' in refused.text
        again = await client.post(PRICE, data={**form, "amount": "11.00", "version": "1"})
        assert again.status_code == 303


async def test_back_to_the_converted_price(shop):
    async with client_of(shop) as client:
        token = await signed_in(shop, client)
        await client.post(PRICE, data={"csrf": token, "amount": "12.00", "do": "set", "version": "0"})
        assert "Back to the converted price, €8.60" in words_in(await client.get("/console/products/LAMP-1"))
        gone = await client.post(PRICE, data={"csrf": token, "do": "remove", "version": "1"})
        assert gone.status_code == 303
        assert "€12.00 → €8.60 (converted)" in words_in(await client.get(gone.headers["location"]))


async def test_a_viewer_sees_no_forms_and_cannot_use_them(shop):
    async with client_of(shop) as client:
        token = await signed_in(shop, client, "viewer")
        page = await client.get("/console/products/LAMP-1")
        assert "Change the price" not in page.text
        form = {"csrf": token, "amount": "12.00", "do": "set", "version": "0"}
        assert (await client.post(PRICE, data=form)).status_code == 403
        assert "may not purge" in words_in(await client.get("/console/purge"))
        purge = {"csrf": token, "what": "product", "product": "LAMP-1", "kind": "soft"}
        assert (await client.post("/console/purge", data=purge)).status_code == 403


async def test_a_purge_is_soft_unless_asked_and_is_watched(shop):
    async with client_of(shop) as client:
        token = await signed_in(shop, client)
        page = await client.get("/console/purge?what=product&product=LAMP-1")
        assert 'name="kind" value="soft" checked' in page.text
        assert 'value="LAMP-1"' in page.text
        form = {"csrf": token, "what": "product", "product": "LAMP-1", "market": "eu-eur", "kind": "soft"}
        done = await client.post("/console/purge", data=form)
        assert done.status_code == 303
        assert "2 tags, soft p:eu-eur:lamp-1 many:eu-eur" in words_in(await client.get(done.headers["location"]))
        wrong = await client.post("/console/purge", data={**form, "product": "LAMP-3"})
        assert wrong.status_code == 404
        assert "Unknown SKU" in words_in(wrong)
        assert 'value="LAMP-3"' in wrong.text


async def test_a_hard_purge_of_everything_asks_for_the_word_a_reason_and_an_admin(shop):
    everything = {"what": "tags", "tags": "*", "kind": "hard", "word": "everything", "reason": "new design"}
    async with client_of(shop) as client:
        token = await signed_in(shop, client, "admin")
        for missing in ({"word": "every"}, {"reason": " "}):
            refused = await client.post("/console/purge", data={"csrf": token, **everything, **missing})
            assert refused.status_code == 422
        assert (await client.post("/console/purge", data={"csrf": token, **everything})).status_code == 303
    async with client_of(shop) as client:
        token = await signed_in(shop, client, "editor")
        assert (await client.post("/console/purge", data={"csrf": token, **everything})).status_code == 403


async def test_the_audit_list_tells_who_did_what_and_can_be_filtered(shop):
    async with client_of(shop) as client:
        token = await signed_in(shop, client)
        form = {"csrf": token, "amount": "12.00", "do": "set", "version": "0", "reason": "autumn sale"}
        await client.post(PRICE, data=form)
        words = words_in(await client.get("/console/audit"))
        assert "editor@example.com set a price: LAMP-1 in Europe €8.60 (converted) → €12.00 autumn sale" in words
        assert "signed in" in words_in(await client.get("/console/audit?action=login"))
        assert "autumn sale" not in words_in(await client.get("/console/audit?action=login"))
        assert "Nothing here that fits the filter" in words_in(await client.get("/console/audit?subject=LAMP-2"))
        assert "LAMP-1 in Europe €8.60 (converted) → €12.00" in words_in(await client.get("/console?q="))


async def test_what_was_done_together_is_told_with_whom(shop):
    others = PurgeOrders(shop.database, merge_s=600.0)
    await others.enter(Order(PurgeKind.HARD, ("z",), "anna@example.com", "purge by hand", "z", ""))
    together = [
        asyncio.create_task(others.enter(Order(PurgeKind.SOFT, tags, actor, "purge by hand", tags[0], reason)))
        for tags, actor, reason in (
            *((("a",), "anna@example.com", "a typo"), (("b",), "editor@example.com", "")),
            *(((f"t{number}",), "edge eu", "") for number in range(MOST_CHANGES)),
        )
    ]
    await asyncio.sleep(0)
    await others.close()
    purged = await together[0]
    async with client_of(shop) as client:
        await signed_in(shop, client)
        page = await client.get(f"/console/changes/{purged.position}")
        words = words_in(page)
        assert "Purged: b editor@example.com" in words
        assert f"Done together, at this position: {MOST_CHANGES + 2} you purged: b" in words
        assert "anna@example.com purged: a : “a typo”" in words
        everything = re.search(r'href="(/console/audit\?purge_id=[^"]+)"', page.text)
        assert everything
        listed = words_in(await client.get(everything[1]))
        assert "These are what was done at one position" in listed
        assert "a typo" in listed
        assert "purged: z" not in listed


async def test_the_audit_list_is_paged(shop):
    async with shop.database.unit_of_work(actor="test", cause="many") as work:
        await work.connection.execute(
            text(
                "INSERT INTO accounts.audit (actor, action, subject)"
                " SELECT 'anna@example.com', 'login', 'entry ' || n FROM generate_series(1, 120) AS n"
            )
        )
    async with client_of(shop) as client:
        await signed_in(shop, client, "viewer")
        page = await client.get("/console/audit?actor=anna%40example.com")
        seen = re.findall(r"entry (\d+)", page.text)
        while older := re.search(r'href="/console/audit(\?[^"]+)">Older', page.text):
            page = await client.get("/console/audit" + unescape(older[1]))
            seen += re.findall(r"entry (\d+)", page.text)
    assert seen == [str(n) for n in range(120, 0, -1)]


async def test_nothing_but_hashed_files_is_ever_kept_and_nothing_foreign_runs(shop):
    async with client_of(shop) as client:
        await signed_in(shop, client)
        page = await client.get("/console/products/LAMP-1")
        assert page.headers["cache-control"] == "no-store"
        assert "'unsafe" not in page.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
        assert not re.search(r"\sstyle=|\son[a-z]+=", page.text)
        sheet = found_in(r'href="(/console/static/[^"]+console\.css)"', page)
        served = await client.get(sheet)
        assert served.headers["cache-control"] == "private, max-age=31536000, immutable"
        assert "cache-tag" not in served.headers
        assert (await client.get("/console/static/0123456789abcdef/console.css")).status_code == 404


async def test_signing_out_ends_the_session(shop):
    async with client_of(shop) as client:
        token = await signed_in(shop, client)
        cookies = dict(client.cookies)
        assert (await client.post("/console/logout", data={"csrf": token})).status_code == 303
        assert (
            await client.get("/console", headers={"cookie": "; ".join(f"{k}={v}" for k, v in cookies.items())})
        ).status_code == 303
