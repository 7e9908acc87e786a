"""What the environment says, and that every fault is named at once."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from cache_policies.markets import PACKAGED_POLICIES
from origin.settings import OriginSettings, SettingsError

ENOUGH = {"DATABASE_URL": "postgresql+asyncpg://nearshelf@/nearshelf", "NEARSHELF_EDGE_KEY": "sixteen letters!"}


def test_the_least_is_enough():
    settings = OriginSettings.from_env(ENOUGH)
    assert settings == OriginSettings(
        database_url="postgresql+asyncpg://nearshelf@/nearshelf",
        replica_urls=(),
        redis_url="",
        listen_host="127.0.0.1",
        listen_port=8080,
        edge_key="sixteen letters!",
        policies=PACKAGED_POLICIES,
        standbys=(),
    )


def test_lists_and_addresses():
    replicas = "postgresql+asyncpg://a@/b, ,postgresql+asyncpg://c@/d,"
    more = {"REPLICA_URLS": replicas, "NEARSHELF_LISTEN": "[::1]:0", "NEARSHELF_STANDBYS": "one, two"}
    settings = OriginSettings.from_env(ENOUGH | more)
    assert settings.replica_urls == ("postgresql+asyncpg://a@/b", "postgresql+asyncpg://c@/d")
    assert (settings.listen_host, settings.listen_port) == ("::1", 0)
    assert settings.standbys == ("one", "two")


def test_every_fault_is_named_at_once(tmp_path):
    with pytest.raises(SettingsError) as caught:
        OriginSettings.from_env(
            {
                "REPLICA_URLS": "mysql://x",
                "NEARSHELF_LISTEN": "8080",
                "NEARSHELF_EDGE_KEY": "short",
                "NEARSHELF_POLICIES": str(tmp_path / "nowhere"),
                "REDIS_URL": "memcached://x",
                "NEARSHELF_READTHROUGH": "maybe",
                "NEARSHELF_ADMIN_TOKEN": "short",
            }
        )
    for name in (
        *("DATABASE_URL", "REPLICA_URLS", "NEARSHELF_LISTEN", "NEARSHELF_EDGE_KEY", "NEARSHELF_POLICIES"),
        *("REDIS_URL", "NEARSHELF_READTHROUGH", "NEARSHELF_ADMIN_TOKEN"),
    ):
        assert name in str(caught.value)


def test_what_operations_may_say():
    more = {
        "REDIS_URL": "unix:///run/valkey/socket",
        "NEARSHELF_READTHROUGH": "off",
        "NEARSHELF_ADMIN_TOKEN": "a token of 16 characters",
        "NEARSHELF_METRICS_DIR": "/dev/shm/nearshelf",
        "NEARSHELF_ACCESS_LOG": "-",
    }
    settings = OriginSettings.from_env(ENOUGH | more)
    assert (settings.redis_url, settings.readthrough) == ("unix:///run/valkey/socket", False)
    assert (settings.metrics, settings.access_log) == (Path("/dev/shm/nearshelf"), "-")
    assert "a token of 16" not in repr(settings)


@pytest.mark.parametrize("listen", ["", ":1", "host:", "host:x", "host:99999", "host:-1"])
def test_what_is_no_address_is_refused(listen):
    with pytest.raises(SettingsError, match="NEARSHELF_LISTEN"):
        OriginSettings.from_env(ENOUGH | {"NEARSHELF_LISTEN": listen})


def test_the_secret_is_not_printed():
    assert "sixteen" not in repr(OriginSettings.from_env(ENOUGH))


def test_markets_are_refreshed_at_the_midnight_of_their_own_zone():
    assert OriginSettings.from_env(ENOUGH).midnight == {}
    told = {"NEARSHELF_MIDNIGHT": "eu-eur=Europe/Berlin, us-usd = UTC", "NEARSHELF_MIDNIGHT_JITTER": "0"}
    settings = OriginSettings.from_env(ENOUGH | told | {"NEARSHELF_MIDNIGHT_WARM": "20"})
    assert settings.midnight == {"eu-eur": ZoneInfo("Europe/Berlin"), "us-usd": UTC}
    assert (settings.midnight_jitter_s, settings.midnight_warm) == (0.0, 20)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NEARSHELF_MIDNIGHT", "eu-eur"),
        ("NEARSHELF_MIDNIGHT", "eu-eur=Europe/Atlantis"),
        ("NEARSHELF_MIDNIGHT", "eu-eur=../../etc/passwd"),
        ("NEARSHELF_MIDNIGHT_JITTER", "3601"),
        ("NEARSHELF_MIDNIGHT_JITTER", "1.5"),
        ("NEARSHELF_MIDNIGHT_WARM", "-1"),
    ],
)
def test_a_midnight_that_cannot_be_is_named(name, value):
    with pytest.raises(SettingsError, match=name):
        OriginSettings.from_env(ENOUGH | {name: value})
