"""`nearshelf policy explain --live`: a running worker is asked, and held against the policy files here."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from cache_policies.feed import LEASE_S
from edge.policy_files import load_policies
from edge.site.tokens import token_file, write_token
from infra import cli
from infra.policy.explain_live import place_of
from tests.policy_tools.shops import SMALL, SMALL_ORIGINS
from tests.support.edge_shop import EdgeShop
from tests.support.scripted_origin import page

LAMPS = "/eu-eur/c/lamps"


@pytest_asyncio.fixture
async def shop(tmp_path: Path) -> AsyncIterator[EdgeShop]:
    async with EdgeShop(tmp_path, policies=load_policies(SMALL), settings=SMALL_ORIGINS) as shop:
        shop.origin.on(LAMPS, page(tags="c:eu-eur:lamps", cdn="max-age=100, stale-while-revalidate=60"))
        yield shop


class Command:
    """The command as somebody types it, while the worker goes on in this process's loop."""

    def __init__(self, shop: EdgeShop, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.shop = shop
        self._capsys = capsys
        monkeypatch.setenv("NEARSHELF_ADMIN_TOKEN", "the-token")

    @property
    def admin_url(self) -> str:
        host, port = self.shop.gateway.admin_address
        return f"http://{host}:{port}"

    async def text(self, *words: str, status: int = 0, policies: Path = SMALL) -> str:
        every = ["policy", "explain", *words, "--live", self.admin_url, "--policies", str(policies)]
        ended = await asyncio.to_thread(cli.run, every)
        printed = self._capsys.readouterr()
        assert ended == status, printed
        return printed.out + printed.err

    async def json(self, *words: str, status: int = 0, policies: Path = SMALL) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(await self.text(*words, "--json", status=status, policies=policies))
        return found

    async def stored(self, *words: str) -> list[dict[str, Any]]:
        found = await self.json(*words)
        stored: list[dict[str, Any]] = found["live"]["workers"][0]["stored"]
        return stored


@pytest.fixture
def explain(shop: EdgeShop, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    return Command(shop, capsys, monkeypatch)


@pytest.fixture
def url(shop: EdgeShop) -> str:
    """The address under which viewers ask this worker."""
    return f"http://{shop.host}{LAMPS}"


async def test_a_worker_that_holds_nothing_says_so_and_decides_as_the_files_do(explain):
    found = await explain.json(LAMPS, "--country", "AT")
    (worker,) = found["live"]["workers"]
    assert (found["answer"], worker["contradictions"], worker["stored"]) == ("live", [], [])
    assert (worker["edge"], worker["applied"], worker["lease_held"]) == ("eu", "1.5", True)
    # Asked without a host, for the edge's public one.
    assert found["request"]["authority"] == "shop.example"


async def test_what_is_stored_is_told_with_its_age_and_what_it_is_good_for(shop, explain, url):
    await shop.get(LAMPS)
    shop.later(30)
    (stored,) = await explain.stored(url)
    assert {name: stored[name] for name in ("state", "why", "status", "age_s", "ttl_s", "position", "below_floor")} == {
        "state": "fresh",
        "why": None,
        "status": 200,
        "age_s": 30,
        "ttl_s": 70,
        "position": "1.5",
        "below_floor": None,
    }
    assert stored["tags"] == ["c:eu-eur:lamps", "list:eu-eur:lamps", "page:list", "path:/eu-eur/c/lamps"]
    assert stored["lifetimes"]["fresh_s"] == 100
    assert stored["size_bytes"] > 1_000

    shop.later(80)
    (stored,) = await explain.stored(url)
    assert (stored["state"], stored["why"], stored["ttl_s"]) == ("stale", "stale-while-revalidate", -10)
    shop.later(100)
    (stored,) = await explain.stored(url)
    assert (stored["state"], stored["why"]) == ("kept", "expired")
    assert stored["if_the_origin_fails"] == "stale-if-error"
    shop.purge("page:list")
    (stored,) = await explain.stored(url)
    assert (stored["state"], stored["why"], stored["below_floor"]) == ("below floor", "purged-hard", "purged")
    assert stored["if_the_origin_fails"] is None
    shop.later(LEASE_S, lease=False)
    (stored,) = await explain.stored(url)
    assert (stored["state"], stored["why"]) == ("kept", "lease-lapsed")


async def test_looking_does_not_count_as_a_use(shop, explain, url):
    await shop.get(LAMPS)
    (entry,) = shop.gateway.store._entries.entries.values()
    entry.used = False
    await explain.stored(url)
    assert not entry.used
    await shop.get(LAMPS)
    assert entry.used
    assert shop.origin.count(LAMPS) == 1


async def test_variants_are_told_apart(shop, explain):
    story = "/eu-eur/stories/one"
    shop.origin.on(story, page(vary="accept-language"))
    for language in ("de", "fr"):
        await shop.get(story, f"Accept-Language: {language}")
    found = await explain.stored(f"http://{shop.host}{story}", "--header", "Accept-Language: fr")
    assert [(each["state"], each["vary"]) for each in found] == [
        ("fresh", [["accept-language", "fr"]]),
        ("another variant", [["accept-language", "de"]]),
    ]


async def test_people_read_which_of_the_two_it_was(shop, explain, url):
    await shop.get(LAMPS)
    text = await explain.text(url)
    assert text.startswith("live")
    for words in ("decides as offline", "the same as offline", "fresh", "age 0 s, 100 s left", "c:eu-eur:lamps"):
        assert words in text


@pytest.mark.parametrize(
    ("was", "now", "what"),
    [
        pytest.param("query: [sort, page]", "query: [sort, page, color]", "policy version", id="another policy"),
        pytest.param("max_fresh: 600s", "max_fresh: 300s\n    fresh: 10s", "lifetimes", id="another lifetime"),
        pytest.param("list-page:", "lists:", "route", id="another route"),
        pytest.param("blocked_countries: [FR]", "blocked_countries: [AT]", "answer", id="another answer"),
        pytest.param('"page:list"', '"page:lists"', "tags", id="other tags"),
    ],
)
async def test_an_edge_with_other_policies_contradicts(was, now, what, shop, explain, tmp_path):
    folder = tmp_path / "other"
    folder.mkdir()
    for path in SMALL.glob("*.yaml"):
        text = path.read_text()
        (folder / path.name).write_text(text.replace(was, now) if path.name == "pages.yaml" else text)
    found = await explain.json(f"{LAMPS}?page=2", "--country", "AT", status=3, policies=folder)
    (worker,) = found["live"]["workers"]
    assert what in {each["what"] for each in worker["contradictions"]}
    text = await explain.text(f"{LAMPS}?page=2", "--country", "AT", status=3, policies=folder)
    assert f"CONTRADICTS {what}" in text
    assert "others than offline; --policies FOLDER" in text
    assert "None" not in text
    assert "'" not in text.partition(f"CONTRADICTS {what}")[2].partition("\n")[0]


async def test_an_answer_that_is_assumed_here_contradicts_nobody(explain):
    found = await explain.json(LAMPS, "--answer", "Set-Cookie: a=b", "--answer", "Catalog-Version: 1.1")
    assert found["store"]["reason"] == "set-cookie"
    assert found["live"]["workers"][0]["contradictions"] == []


async def test_a_curl_command_is_asked_as_well(shop, explain):
    found = await explain.json("--curl", f"curl -I http://{shop.host}{LAMPS} -H 'Accept: */*'", "--country", "AT")
    assert found["live"]["workers"][0]["decision"]["forward"]["method"] == "GET"


async def test_a_worker_that_took_other_policies_decides_by_them(shop, explain, tmp_path):
    folder = tmp_path / "changed"
    shutil.copytree(SMALL, folder)
    pages = (folder / "pages.yaml").read_text()
    (folder / "pages.yaml").write_text(pages.replace("max_fresh: 600s", "max_fresh: 700s"))
    assert shop.gateway._use(load_policies(folder)) == ()
    assert "CONTRADICTS policy version" in await explain.text(LAMPS, status=3)
    assert "decides as offline" in await explain.text(LAMPS, policies=folder)


async def test_a_host_that_the_edge_does_not_serve_contradicts(explain):
    text = await explain.text(f"http://other.example{LAMPS}", status=3)
    assert "CONTRADICTS host" in text
    assert "421" in text


async def test_who_cannot_be_asked_is_named(shop, explain, monkeypatch):
    monkeypatch.setenv("NEARSHELF_ADMIN_TOKEN", "wrong")
    assert "refuses the token" in await explain.text("/", status=1)
    monkeypatch.delenv("NEARSHELF_ADMIN_TOKEN")
    assert "NEARSHELF_ADMIN_TOKEN is not set" in await explain.text("/", status=1)


def test_an_edge_of_no_shop_and_a_worker_that_is_not_there(tmp_path, capsys, monkeypatch):
    words = ["policy", "explain", "/", "--state", str(tmp_path)]
    assert cli.run([*words, "--live", "eu"]) == 1
    assert "no shop is running" in capsys.readouterr().err
    (tmp_path / "env.json").write_text('{"NEARSHELF_ADMIN_TOKEN": "x", "CONTROL": "/nowhere"}')
    assert cli.run([*words, "--live", "eu"]) == 1
    assert "not ready yet" in capsys.readouterr().err
    (tmp_path / "ready.json").write_text('{"admin": {"us": ["http://127.0.0.1:1"]}}')
    assert cli.run([*words, "--live", "mars"]) == 1
    assert "'mars' is no edge" in capsys.readouterr().err
    assert cli.run([*words, "--live", "us"]) == 1
    assert "http://127.0.0.1:1 cannot be asked" in capsys.readouterr().err


async def test_the_page_wants_the_token_and_a_request(shop, explain):
    async with httpx.AsyncClient(base_url=explain.admin_url, trust_env=False) as client:
        assert (await client.get("/explain?url=/")).status_code == 401
        token = {"authorization": "Bearer the-token"}
        refused = await client.get("/explain", headers=token)
        assert refused.status_code == 400
        assert "?url=" in refused.json()["error"]
        found = (await client.get("/explain?url=/&country=AT&field=Cookie:+ns_market=ch-chf", headers=token)).json()
        assert found["decision"]["outcome"]["location"] == "/ch-chf/"
    assert (await shop.get("/explain?url=/")).status == 404


@pytest.mark.database
def test_every_worker_of_a_running_edge_decides_as_the_files_do(stack):
    run = stack.nearshelf("policy", "explain", "/eu-eur/", "--live", "eu", "--json")
    workers = json.loads(run.stdout)["live"]["workers"]
    assert len(workers) == len(stack.admin["eu"])
    assert all(worker["contradictions"] == [] and worker["edge"] == "eu" for worker in workers)


def test_the_token_of_ones_own_edge_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("NEARSHELF_ADMIN_TOKEN", "of another")
    token = write_token(token_file({"XDG_STATE_HOME": str(tmp_path)}, "127.0.0.1", 8081))
    assert place_of("http://127.0.0.1:8081", tmp_path).token == token
    assert place_of("http://127.0.0.1:8082", tmp_path).token == "of another"
