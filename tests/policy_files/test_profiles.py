"""Policies that come with nearshelf for other origins than the shop, found by their names."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from ruamel.yaml import YAML

from cache_policies.codes import Severity
from cache_policies.folder import folder_called, profiles
from cache_policies.reading import PROFILES
from edge.core.policy import ALL, ALL_QUERY, Auth
from edge.gateway.settings import GatewaySettings, SettingsError
from edge.policy_files import load_policies, read_policies
from infra.policy.check import check
from infra.policy.schema import schemas


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A working directory in which nothing is called like a profile."""
    monkeypatch.chdir(tmp_path)


def test_a_bare_name_finds_the_profile():
    assert "rfc9111" in profiles()
    assert folder_called("rfc9111") == PROFILES / "rfc9111"


@pytest.mark.parametrize("name", ["policies/rfc9111", "/rfc9111", "rfc911", "..", ".", "rfc9111/default.yaml"])
def test_anything_else_is_a_path(name):
    assert folder_called(name) == Path(name)


def test_what_is_there_under_that_name_wins(tmp_path):
    (tmp_path / "rfc9111").mkdir()
    assert folder_called("rfc9111") == Path("rfc9111")


@pytest.mark.parametrize("name", profiles())
def test_a_profile_has_no_faults_and_its_schema_accepts_it(name):
    (checked,) = check([PROFILES / name]).checked
    assert not checked.faults
    for path in sorted((PROFILES / name).glob("*.yaml")):
        assert path.read_text().startswith("# yaml-language-server: $schema=../../schema/policy.schema.json\n")
        jsonschema.validate(json.loads(json.dumps(YAML(typ="safe", pure=True).load(path))), schemas()["policy"])


@pytest.mark.parametrize("name", profiles())
def test_what_a_profile_allows_is_said_in_it_with_a_reason(name):
    found = [fault for fault in read_policies(PROFILES / name).faults if fault.severity is Severity.WARNING]
    text = "".join(path.read_text() for path in (PROFILES / name).glob("*.yaml"))
    assert all(f"# allow {fault.code}: " in text for fault in found)


def test_rfc9111_stores_what_the_origin_says_and_passes_everything():
    policies = load_policies(PROFILES / "rfc9111")
    (policy,) = policies.policies
    assert policy.methods == ("GET", "HEAD")
    assert policy.forward_methods == policy.request_fields == policy.vary == ALL
    assert policy.query == ALL_QUERY
    assert (policy.any_status, policy.honour_request, policy.heuristic_percent) == (True, True, 10)
    assert policy.auth is Auth.SHARED
    # No lifetime that the origin did not state, and none of its own cut short (RFC 9111 §1.2.2).
    assert (policy.fresh_s, policy.stale_while_revalidate_s, policy.stale_if_error_s) == (0.0, 0.0, 0.0)
    assert policy.max_fresh_s == 2**31
    assert not policies.markets.all


def test_a_worker_finds_a_profile_by_its_name():
    env = {
        "NEARSHELF_LISTEN": "127.0.0.1:8089",
        "NEARSHELF_ADMIN_LISTEN": "127.0.0.1:0",
        "NEARSHELF_ORIGIN_URL": "http://127.0.0.1:8000",
        "NEARSHELF_EDGE": "eu",
        "NEARSHELF_EDGE_KEY": "k" * 16,
        "NEARSHELF_ADMIN_TOKEN": "t" * 16,
    }
    assert GatewaySettings.from_env({**env, "NEARSHELF_POLICIES": "rfc9111"}).policies == PROFILES / "rfc9111"
    with pytest.raises(
        SettingsError, match=r"NEARSHELF_POLICIES: 'rfc911' is neither a folder nor a profile \(rfc9111\)"
    ):
        GatewaySettings.from_env({**env, "NEARSHELF_POLICIES": "rfc911"})
