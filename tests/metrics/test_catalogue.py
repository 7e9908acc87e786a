"""docs/metrics.md is the whole of what is exported: a running shop and a site are scraped and held against it."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from edge.gateway import metrics
from tests.support.scraped import Scrape, scrape
from tests.support.scripted_origin import Reply, ScriptedOrigin
from tests.support.servers import Stack
from tests.support.site import RunningSite

PAGE = Path(__file__).parents[2] / "docs/metrics.md"
ROW = re.compile(r"^\| `(?P<name>\w+)` \| (?P<kind>\w+) \|(?P<labels>[^|]*)\| (?P<by>[^|]+) \| (?P<about>[^|]+) \|$")
EXPORTERS = {"worker", "site", "origin"}
BASE_UNITS = ("_seconds", "_bytes")
NO_UNITS = re.compile(
    r"(requests|coalesced|stale_served|fetches|failovers|viewers|connections|flights|log_lines_lost|objects|keys"
    r"|evictions|refused|messages|purges|flushes|epoch|position|floors|held|workers|restarts|snapshots|readthrough"
    r"|changes|open|statements|in_use|max|fds|moves|charge|standbys|refreshed)$"
)
"""What is counted or is the case without a unit, by how its name ends."""
WRONG_UNITS = re.compile(r"_(ms|milliseconds|us|micros|minutes|kb|mb|megabytes|percent|ratio|rate)(_|$)")
NOBODYS = {
    "path",
    "url",
    "host",
    "query",
    "key",
    "method_spelt",
    "ip",
    "address",
    "visitor",
    "tag",
    "sku",
    "worker",
    "pid",
}
"""Labels whose values are without bound, or mean another thing after each restart."""


class Row(NamedTuple):
    kind: str
    labels: frozenset[str]
    by: frozenset[str]


def catalogue() -> dict[str, Row]:
    found: dict[str, Row] = {}
    for number, line in enumerate(PAGE.read_text().splitlines(), 1):
        if not line.startswith("| `nearshelf_") and not line.startswith("| `process_"):
            continue
        row = ROW.match(line)
        assert row is not None, f"docs/metrics.md:{number}: cannot be read: {line}"
        assert row["name"] not in found, f"docs/metrics.md:{number}: {row['name']} is there twice"
        labels = frozenset(label.strip() for label in row["labels"].split(",") if label.strip())
        found[row["name"]] = Row(row["kind"], labels, frozenset(by.strip() for by in row["by"].split(",")))
    return found


def difference(scraped: Scrape, exporter: str) -> list[str]:
    """What the catalogue and an exporter do not say alike."""
    rows = {name: row for name, row in catalogue().items() if exporter in row.by}
    return [
        *(
            f"{name} is exported by the {exporter} and not in docs/metrics.md"
            for name in scraped.kinds.keys() - rows.keys()
        ),
        *(
            f"{name} is in docs/metrics.md and not exported by the {exporter}"
            for name in rows.keys() - scraped.kinds.keys()
        ),
        *(
            f"{name}: a {kind}, by docs/metrics.md a {rows[name].kind}"
            for name, kind in scraped.kinds.items()
            if name in rows and rows[name].kind != kind
        ),
        *(
            f"{name}: labels {sorted(labels)}, by docs/metrics.md {sorted(rows[name].labels)}"
            for name, labels in scraped.labels.items()
            if name in rows and rows[name].labels != labels
        ),
    ]


# -- the page itself ---------------------------------------------------------------------------------------------------


def test_names_follow_the_rules():
    wrong = []
    for name, row in catalogue().items():
        bare = name.removesuffix("_total").removesuffix("_info")
        if not re.fullmatch(r"(nearshelf|process)(_[a-z]+)+", name):
            wrong.append(f"{name}: small letters, one word before the first line")
        if name.endswith("_total") is not (row.kind == "counter"):
            wrong.append(f"{name}: counters end in _total, and nothing else does")
        if row.kind == "histogram" and not name.endswith(BASE_UNITS):
            wrong.append(f"{name}: a histogram says its unit")
        if WRONG_UNITS.search(name):
            wrong.append(f"{name}: base units only, and no ratios")
        if not (bare.endswith(BASE_UNITS) or name.endswith("_info") or NO_UNITS.search(bare)):
            wrong.append(f"{name}: no unit that is known here, and nothing that is counted")
        if row.labels & NOBODYS:
            wrong.append(f"{name}: labels without bound: {sorted(row.labels & NOBODYS)}")
        if not row.by or row.by - EXPORTERS:
            wrong.append(f"{name}: exported by {sorted(row.by)}, expected some of {sorted(EXPORTERS)}")
        if row.kind not in {"counter", "gauge", "histogram"}:
            wrong.append(f"{name}: {row.kind} is no type")
    assert not wrong, "\n".join(wrong)


def test_every_family_of_an_edge_is_in_the_catalogue_with_its_labels():
    """Also those that the running ones below happen to have no samples of."""
    rows = catalogue()
    families = [
        metrics.REQUESTS, metrics.REQUEST_SECONDS, metrics.RESPONSE_BYTES, metrics.COALESCED, metrics.STALE_SERVED,
        metrics.FETCHES, metrics.FETCH_SECONDS, *metrics.SIMPLE,
    ]  # fmt: skip
    for family in families:
        name = f"{family.name}_total" if family.kind is metrics.Kind.COUNTER else family.name
        labels = frozenset(("pop", *family.labels) if family.has_pop else family.labels)
        assert (name, rows[name].kind, rows[name].labels) == (name, family.kind.value, labels)
    edges = {name for name, row in rows.items() if row.by & {"worker", "site"}}
    assert len(edges) == len(families)


def test_a_row_that_differs_is_found():
    gauge = '# TYPE nearshelf_purge_ack_seconds gauge\nnearshelf_purge_ack_seconds{edge="eu"} 1\n'
    text = f"{gauge}# TYPE nearshelf_new gauge\n"
    found = "\n".join(difference(Scrape.of(text), "origin"))
    assert "nearshelf_new is exported by the origin and not in docs/metrics.md" in found
    assert "nearshelf_purge_ack_seconds: a gauge, by docs/metrics.md a histogram" in found
    assert "nearshelf_purge_ack_seconds: labels ['edge'], by docs/metrics.md ['pop']" in found
    assert "nearshelf_build_info is in docs/metrics.md and not exported by the origin" in found


# -- running ones ------------------------------------------------------------------------------------------------------


@pytest.fixture
async def visited(stack: Stack) -> Stack:
    """The shop, after requests of many kinds."""
    async with httpx.AsyncClient(trust_env=False) as client:
        for url in stack.edges.values():
            for path in ("/eu-eur/", "/eu-eur/", "/nowhere", "/api/v1/eu-eur/products"):
                await client.get(f"{url}{path}")
    return stack


async def test_what_a_worker_exports_is_the_catalogue(visited):
    for pop, listeners in visited.admin.items():
        for listener in listeners:
            found = await scrape(listener, visited.env["NEARSHELF_ADMIN_TOKEN"])
            assert not difference(found, "worker")
            assert {dict(labels)["pop"] for _, labels in found.samples if "pop" in dict(labels)} == {pop}


async def test_what_the_origin_exports_is_the_catalogue(visited):
    found = await scrape(visited.origin, visited.env["NEARSHELF_ADMIN_TOKEN"])
    assert not difference(found, "origin")


async def test_no_edge_passes_the_origins_metrics_on(visited):
    async with httpx.AsyncClient(trust_env=False) as client:
        for url in visited.edges.values():
            token = {"authorization": f"Bearer {visited.env['NEARSHELF_ADMIN_TOKEN']}"}
            answer = await client.get(f"{url}/metrics", headers=token)
            assert answer.status_code == 404
            assert "nearshelf_" not in answer.text


async def test_every_worker_of_the_shop_has_the_same_policies_and_says_so(visited):
    found = await asyncio.gather(
        *(
            scrape(listener, visited.env["NEARSHELF_ADMIN_TOKEN"])
            for listeners in visited.admin.values()
            for listener in listeners
        )
    )
    assert len({digest for each in found for digest in each.rows("nearshelf_policy_info", "digest")}) == 1


async def test_what_a_site_exports_is_the_catalogue(tmp_path):
    async with ScriptedOrigin() as origin:
        origin.on("/page", Reply(b"page", headers={"cache-control": "max-age=600", "cache-tag": "a"}))
        async with RunningSite(tmp_path, "--origin", origin.url) as site:
            async with httpx.AsyncClient(trust_env=False) as client:
                for path in ("/page", "/page", "/nowhere"):
                    await client.get(f"{site.url}{path}")
            await site.purge(tags=["a"])
            assert not difference(await scrape(site.admin.rstrip("/"), site.token), "site")
