"""A purge through the admin listener of a worker of the shop: into the shop's own log, live on every edge."""

from __future__ import annotations

import json

import httpx
import pytest

pytestmark = [pytest.mark.database, pytest.mark.alone]
PAGE = "/eu-eur/"


def test_it_is_entered_into_the_shops_log_and_live_everywhere(stack):
    for edge in stack.edges.values():
        httpx.get(edge + PAGE, trust_env=False)
        assert "; hit" in httpx.get(edge + PAGE, trust_env=False).headers["cache-status"]
    worker = stack.admin["eu"][0]
    done = json.loads(stack.nearshelf("purge", "--admin", worker, "--path", PAGE, "--json").stdout)
    assert done["live"]
    assert done["tags"] == ["path:/eu-eur/"]
    assert {each["edge"] for each in done["workers"]} == set(stack.edges)
    assert {each["outcome"] for each in done["workers"]} <= {"acknowledged", "left"}
    for edge in stack.edges.values():
        assert "; hit" not in httpx.get(edge + PAGE, trust_env=False).headers["cache-status"]
    audit = json.loads(stack.nearshelf("purge", "--admin", worker, "--tag", "p:eu-eur:nothing", "--json").stdout)
    assert audit["position"] > done["position"] or len(audit["position"]) > len(done["position"])
