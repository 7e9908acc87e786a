"""What `nearshelf up` lets people count: the origin's own log and figures, and one fetch for each edge."""

from __future__ import annotations

import concurrent.futures
import json
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.servers import Stack

pytestmark = [pytest.mark.database, pytest.mark.alone]


def fetches(stack: Stack, path: str) -> list[dict[str, object]]:
    """The origin's lines about `path`."""
    lines = Path(stack.addresses["origin_log"]).read_text().splitlines()
    return [line for line in map(json.loads, lines) if line["path"] == path]


def figures(stack: Stack) -> dict[str, float]:
    """The origin's figures, summed over their labels."""
    token = {"authorization": f"Bearer {stack.env['NEARSHELF_ADMIN_TOKEN']}"}
    answer = httpx.get(f"{stack.origin}/metrics", headers=token, trust_env=False)
    assert answer.status_code == 200
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0) + sample.value
    return found


def test_the_origins_figures_are_no_business_of_viewers(stack):
    token = {"authorization": f"Bearer {stack.env['NEARSHELF_ADMIN_TOKEN']}"}
    for edge in stack.edges.values():
        for path in ("/metrics", "/%6detrics", "/metrics?a=b"):
            answer = httpx.get(edge + path, headers=token, trust_env=False)
            assert answer.status_code == 404, path
            assert "nearshelf_" not in answer.text
    assert httpx.get(f"{stack.origin}/metrics", trust_env=False).status_code == 401


def test_all_workers_of_the_origin_are_added_up(stack):
    before = figures(stack)
    for _ in range(20):  # each on a connection of its own, so that both workers have some
        assert httpx.get(f"{stack.origin}/livez", trust_env=False).status_code == 200
    after = figures(stack)
    # The feed goes on meanwhile, and each look at the figures is a request itself.
    assert after["nearshelf_origin_requests_total"] - before["nearshelf_origin_requests_total"] >= 21
    assert after["nearshelf_questions_open"] >= 6
    assert after["process_resident_memory_bytes"] > 100_000_000


def test_a_crowd_at_both_workers_of_an_edge_is_one_fetch_by_the_origins_own_log(stack):
    listed = httpx.get(f"{stack.origin}/api/v1/sg-sgd/products?page=3", trust_env=False).json()["products"]
    path = str(listed[0]["url"])
    for edge in stack.edges.values():
        with concurrent.futures.ThreadPoolExecutor(16) as crowd:
            answers = list(crowd.map(lambda _, url=edge + path: httpx.get(url, trust_env=False), range(16)))
        assert {answer.status_code for answer in answers} == {200}
    found = fetches(stack, path)
    assert [line["host"] for line in found] == [urlsplit(edge).netloc for edge in stack.edges.values()]
    assert {(line["edge_key"], line["route"], line["method"], line["status"]) for line in found} == {
        (True, "product-page", "GET", 200)
    }


def test_what_one_edge_has_fetched_is_read_for_another_without_the_database(stack):
    """A value that takes longer than 20 ms on a busy machine is read anew: any of these products will do."""
    listed = httpx.get(f"{stack.origin}/api/v1/sg-sgd/products?page=4", trust_env=False).json()["products"]
    seen = []
    for product in listed:
        path = f"/api/v1/sg-sgd/products/{product['sku']}"
        bodies = {httpx.get(edge + path, trust_env=False).content for edge in stack.edges.values()}
        assert len(bodies) == 1
        seen.append([line["source"] for line in fetches(stack, path)])
        if seen[-1][1:] == ["readthrough", "readthrough"]:
            return
    raise AssertionError(f"nothing was read once for all edges: {seen}")
