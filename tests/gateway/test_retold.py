"""What the access log tells beside how a request ended, so that it can be answered once more under other policies."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge.core.policy import ALL_QUERY, CachePolicy, PolicySet
from edge.gateway.retold import noted_names, noted_query
from edge.gateway.settings import GatewaySettings, SettingsError
from edge.policy_files import load_policies
from tests.gateway.test_settings import GOOD
from tests.support.edge_shop import EdgeShop
from tests.support.scripted_origin import Reply, page

PATH = "/eu-eur/products/boot"


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[EdgeShop]:
    async with EdgeShop(tmp_path, settings={"access_log_query": ("view", "email")}) as shop:
        yield shop


async def test_what_the_origin_said_and_where_it_was_read_is_told_where_it_was_fetched(shop):
    shop.origin.on(PATH, page(cdn="max-age=60, stale-while-revalidate=5", cache_control=""))
    await shop.get(PATH)
    await shop.get(PATH)
    miss, hit = shop.log_lines()
    assert miss["said"] == {"fresh": 60, "stale_while_revalidate": 5}
    assert miss["position"] == "1.5"
    assert 1_550 < miss["size"] < 5_000
    assert miss["aged"] >= 0
    assert not {"said", "aged", "position", "size", "floor", "vary", "variant"} & set(hit)


@pytest.mark.parametrize(
    ("cdn", "said"),
    [
        ("", {}),
        ("max-age=30, no-cache", {"fresh": 30, "no_cache": True}),
        ("max-age=30, must-revalidate", {"fresh": 30, "no_stale": True}),
        ("max-age=30, stale-if-error=9", {"fresh": 30, "stale_if_error": 9}),
    ],
)
async def test_what_the_origin_said(shop, cdn, said):
    shop.origin.on(PATH, page(cdn=cdn, cache_control=""))
    await shop.get(PATH)
    assert shop.log_lines()[0]["said"] == said


async def test_a_purge_is_told_by_its_floor(shop):
    shop.origin.on(PATH, page(tags="p:eu-eur:boot", cdn="max-age=60, stale-while-revalidate=60", cache_control=""))
    await shop.get(PATH)
    floor = shop.purge("p:eu-eur:boot", soft=True)
    shop.origin.on(PATH, page(tags="p:eu-eur:boot", cdn="max-age=60", cache_control="", position=str(floor)))
    await shop.get(PATH)
    await shop.until(lambda: len(shop.gateway._flights) == 0)
    shop.purge("p:eu-eur:boot")
    shop.origin.on(PATH, page(tags="p:eu-eur:boot", cdn="max-age=60", cache_control="", position=str(shop.position)))
    await shop.get(PATH)
    _, soft, hard = shop.log_lines()
    assert (soft["cache"], soft["reason"], soft["floor"]) == ("stale", "purged-soft", "1.6")
    assert (hard["reason"], hard["floor"], hard["position"]) == ("purged-hard", "1.7", "1.7")


VARIES = """\
routes:
  all:
    path: /{rest...}
    fresh: 60s
    vary: [accept-language]
    request_fields: [accept-language]
"""


async def test_variants_are_told_apart_by_four_digits_and_nothing_of_the_request(tmp_path):
    (tmp_path / "default.yaml").write_text(VARIES)
    async with EdgeShop(tmp_path, policies=tmp_path) as shop:
        shop.origin.on("/a", page(Vary="Accept-Language"))
        for language in ("de", "fr", "de"):
            await shop.get("/a", f"Accept-Language: {language}")
        german, french, again = shop.log_lines()
        assert german["vary"] == french["vary"] == "accept-language"
        assert german["variant"] == again["variant"] != french["variant"]
        assert (again["cache"], len(again["variant"])) == ("hit", 4)


async def test_parameters_that_do_not_count_are_told_where_an_operator_names_them(shop):
    shop.origin.on(PATH, page())
    for query in ("view=a&variant=red&utm=x", "view=b&variant=red", "view=a&variant=red", "view=b&variant=red"):
        await shop.get(f"{PATH}?{query}")
    lines = shop.log_lines()
    assert [line["cache"] for line in lines] == ["miss", "hit", "hit", "hit"]
    assert [line["query"] for line in lines] == [
        {"variant": "red", "view": "a"},
        {"variant": "red", "view": "b"},
    ] * 2


async def test_of_personal_routes_no_parameter_is_told(shop):
    shop.origin.on("/eu-eur/cart", Reply(b"x"))
    await shop.get("/eu-eur/cart?view=a")
    assert not {"path", "query"} & set(shop.log_lines()[0])


async def test_what_cannot_be_read_is_not_told_and_not_refused(shop):
    shop.origin.on(PATH, page())
    assert (await shop.get(f"{PATH}?view=a&view=b")).status == 200
    assert "query" not in shop.log_lines()[0]


def test_a_parameter_that_counts_is_told_once():
    policy = CachePolicy("page", "/{rest...}", query=("page", "view"))
    assert noted_names(policy, ("view", "sort")) == ("page", "view", "sort")
    assert noted_query("view=1&sort=2&page=3", policy, ("view", "sort")) == (("sort", "2"),)
    everything = CachePolicy("rest", "/{rest...}", query=ALL_QUERY)
    assert noted_names(everything, ("view",)) == ALL_QUERY


@pytest.mark.parametrize("names", ["a b", "sort, e=mail", ",".join(f"p{number}" for number in range(17))])
def test_names_that_are_none_are_refused(names):
    with pytest.raises(SettingsError, match="NEARSHELF_ACCESS_LOG_QUERY"):
        GatewaySettings.from_env(GOOD | {"NEARSHELF_ACCESS_LOG_QUERY": names})


def test_names_are_read_once_each():
    found = GatewaySettings.from_env(GOOD | {"NEARSHELF_ACCESS_LOG_QUERY": "view, sort,view"})
    assert found.access_log_query == ("view", "sort")


def test_the_shop_itself_counts_few_parameters():
    policies: PolicySet = load_policies()
    category = policies.by_id("category-page")
    assert category is not None
    assert noted_names(category, ("view",)) == ("sort", "page", "view")
