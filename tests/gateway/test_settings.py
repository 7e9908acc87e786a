"""The environment of one worker: everything wrong is named at once."""

from __future__ import annotations

import pytest

from edge.gateway import settings as module
from edge.gateway.settings import Address, GatewaySettings, SettingsError

GOOD = {
    "NEARSHELF_EDGE": "eu",
    "NEARSHELF_LISTEN": "127.0.0.1:8082",
    "NEARSHELF_ADMIN_LISTEN": "127.0.0.1:8093",
    "NEARSHELF_ORIGIN_URL": "http://127.0.0.1:8101",
    "NEARSHELF_EDGE_KEY": "key",
    "NEARSHELF_ADMIN_TOKEN": "token",
}


def test_what_is_not_said_has_a_default():
    settings = GatewaySettings.from_env(GOOD)
    assert settings.listen == Address("127.0.0.1", 8082)
    assert settings.public_url == "http://127.0.0.1:8082"
    assert settings.feed_url == settings.origin_url
    assert (settings.store_bytes, settings.access_log, settings.loop) == (256_000_000, "", "asyncio")


def test_every_fault_is_named():
    wrong = GOOD | {
        "NEARSHELF_LISTEN": "8082",
        "NEARSHELF_ORIGIN_URL": "127.0.0.1",
        "NEARSHELF_STORE_BYTES": "256MB",
        "NEARSHELF_LOOP": "trio",
        "NEARSHELF_POLICIES": "/nowhere",
        "NEARSHELF_EDGE": "eu west",
    }
    del wrong["NEARSHELF_EDGE_KEY"]
    with pytest.raises(SettingsError) as found:
        GatewaySettings.from_env(wrong)
    for name in ("LISTEN", "ORIGIN_URL", "STORE_BYTES", "LOOP", "POLICIES", "EDGE", "EDGE_KEY"):
        assert f"NEARSHELF_{name}: " in str(found.value)


def test_a_loop_that_is_not_installed_is_named_with_what_brings_it(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"NEARSHELF_LOOP: uvloop is not installed.*nearshelf\[fast\]"):
        GatewaySettings.from_env(GOOD | {"NEARSHELF_LOOP": "uvloop"})


def test_the_authorities_are_loopback_the_public_one_and_those_listed():
    settings = GatewaySettings.from_env(
        GOOD | {"NEARSHELF_PUBLIC_URL": "https://Shop.example", "NEARSHELF_HOSTS": "a.example, B.example:8443"}
    )
    assert settings.authorities(8082) == {
        "127.0.0.1:8082",
        "localhost:8082",
        "[::1]:8082",
        "shop.example",
        "a.example",
        "b.example:8443",
    }
