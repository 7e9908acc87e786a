"""The environment of one worker: everything wrong is named at once."""

from __future__ import annotations

import pytest

from cache_policies.origins import Origin, Origins
from edge.core.hops import TrustedHops
from edge.gateway import settings as module
from edge.gateway.origin import Caps
from edge.gateway.settings import Address, GatewaySettings, SettingsError
from tests.support.mmdb import write_mmdb

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
    assert settings.feed_urls == settings.origin_urls
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


@pytest.mark.parametrize(
    "url",
    ["redis://127.0.0.1", "redis://:secret@cache.example:6379/1", "rediss://cache.example:6380", "unix:///run/redis"],
)
def test_the_store_of_a_site_is_a_redis(url):
    assert GatewaySettings.from_env(GOOD | {"NEARSHELF_REGIONAL": url}).regional == url


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:6379",
        "http://127.0.0.1",
        "redis://",
        "redis://h:x",
        "redis://h/zero",
        "unix://run",
        "redis://:secret@/",
    ],
)
def test_what_is_no_redis_is_named_without_its_password(url):
    with pytest.raises(SettingsError, match=r"NEARSHELF_REGIONAL: .* expected redis://HOST:PORT/DB") as found:
        GatewaySettings.from_env(GOOD | {"NEARSHELF_REGIONAL": url})
    assert "secret" not in str(found.value)


def test_a_loop_that_is_not_installed_is_named_with_what_brings_it(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"NEARSHELF_LOOP: uvloop is not installed.*nearshelf\[fast\]"):
        GatewaySettings.from_env(GOOD | {"NEARSHELF_LOOP": "uvloop"})


def test_where_visitors_are_is_asked_of_whoever_is_trusted(tmp_path):
    mmdb = write_mmdb(tmp_path / "countries.mmdb", {"192.0.2.0/24": {"country_code": "CH"}})
    settings = GatewaySettings.from_env(
        GOOD
        | {
            "NEARSHELF_TRUSTED_HOPS": "10.0.0.0/8, 2001:db8::/32,192.0.2.1",
            "NEARSHELF_MMDB": str(mmdb),
            "NEARSHELF_COUNTRY_FIELD": "CloudFront-Viewer-Country",
        }
    )
    assert settings.trusted_hops == TrustedHops.parse(["10.0.0.0/8", "2001:db8::/32", "192.0.2.1/32"])
    assert (settings.mmdb, settings.country_field) == (mmdb, "cloudfront-viewer-country")
    assert not GatewaySettings.from_env(GOOD).trusted_hops


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("TRUSTED_HOPS", "10.0.0.1/8", "10.0.0.1/8 has host bits set; expected a network such as 10.0.0.0/8"),
        ("TRUSTED_HOPS", "10.0.0.0/8, cdn", "'cdn' does not appear to be an IPv4 or IPv6 network; expected a network"),
        ("TRUSTED_HOPS", "0.0.0.0/0", "0.0.0.0/0 takes in every address, so that visitors could choose their country"),
        ("MMDB", "/nowhere.mmdb", "'/nowhere.mmdb' cannot be read: No such file or directory"),
        ("MMDB", __file__, "is no usable MMDB file"),
        ("COUNTRY_FIELD", "cf ipcountry", "'cf ipcountry', expected a field such as cloudfront-viewer-country"),
        ("COUNTRY_FIELD", "cf-ipcountry", "set without NEARSHELF_TRUSTED_HOPS, and nobody else's word for it counts"),
    ],
)
def test_where_visitors_are_said_wrongly(name, value, said):
    with pytest.raises(SettingsError) as found:
        GatewaySettings.from_env(GOOD | {f"NEARSHELF_{name}": value})
    assert f"NEARSHELF_{name}: " in str(found.value)
    assert said in str(found.value)


SECOND = Origins((Origin("shop"), Origin("second"), Origin("third")), "shop")


def test_every_origin_but_the_default_has_an_address():
    told = "second=http://10.0.0.2:80/, third = https://third.example"
    settings = GatewaySettings.from_env(GOOD | {"NEARSHELF_ORIGINS": told})
    assert settings.origins == {"second": ("http://10.0.0.2:80",), "third": ("https://third.example",)}
    assert settings.address_faults(SECOND) == ()
    assert GatewaySettings.from_env(GOOD).address_faults(Origins()) == ()


def test_an_origin_may_have_several_addresses():
    told = {
        "NEARSHELF_ORIGIN_URL": "http://10.0.0.1:80/, http://10.0.0.2:80",
        "NEARSHELF_ORIGINS": "second=http://b | http://c:8080/,third=http://d",
    }
    settings = GatewaySettings.from_env(GOOD | told)
    assert settings.origin_urls == settings.feed_urls == ("http://10.0.0.1:80", "http://10.0.0.2:80")
    assert settings.origins == {"second": ("http://b", "http://c:8080"), "third": ("http://d",)}


def test_what_an_origin_is_given_has_defaults():
    settings = GatewaySettings.from_env(GOOD)
    assert (settings.origin_caps, settings.origin_health, settings.origin_ca) == (Caps(64, 128, 1.0), "", None)
    assert settings.refresh_hottest == 100
    told = {"CONNECTIONS": "8", "TAG_CONNECTIONS": "4", "QUEUE": "0", "QUEUE_S": "0.25", "HEALTH": "/healthz?deep=1"}
    settings = GatewaySettings.from_env(GOOD | {f"NEARSHELF_ORIGIN_{name}": value for name, value in told.items()})
    assert (settings.origin_caps, settings.origin_health) == (Caps(8, 0, 0.25, 4), "/healthz?deep=1")
    assert GatewaySettings.from_env(GOOD | {"NEARSHELF_REFRESH_HOTTEST": "0"}).refresh_hottest == 0


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("URL", "http://a,http://a/", "the same address twice"),
        ("URL", "http://a,http://b/path", "'http://b/path', expected http://HOST:PORT"),
        ("URL", "http://user@a", "expected http://HOST:PORT"),
        ("CONNECTIONS", "0", "'0', expected connections, 1 or more"),
        ("CONNECTIONS", "many", "'many', expected connections"),
        ("QUEUE", "-1", "'-1', expected requests, 0 or more"),
        ("QUEUE", "1.5", "'1.5', expected requests"),
        ("QUEUE_S", "inf", "'inf', expected seconds, 0 or more"),
        ("HEALTH", "healthz", "'healthz', expected a path such as /healthz"),
        ("HEALTH", "/a b", "expected a path"),
        ("HEALTH", "/a\r\nx: y", "expected a path"),
        ("HEALTH", "/a#b", "expected a path"),
        ("CA", "/nowhere.pem", "'/nowhere.pem' holds no certificates that can be read"),
        ("CA", __file__, "holds no certificates that can be read"),
    ],
)
def test_what_an_origin_cannot_be_given(name, value, said):
    with pytest.raises(SettingsError) as found:
        GatewaySettings.from_env(GOOD | {f"NEARSHELF_ORIGIN_{name}": value})
    assert f"NEARSHELF_ORIGIN_{name}: " in str(found.value)
    assert said in str(found.value)


UNDECLARED = "and origins.yaml declares no such origin"


@pytest.mark.parametrize(
    ("told", "faults"),
    [
        pytest.param(
            "third=http://c",
            ("origins.yaml declares the origin second, and there is no address for it: set NEARSHELF_ORIGINS=second=",),
            id="an origin without an address",
        ),
        pytest.param(
            "secnod=http://b,third=http://c",
            (
                f"NEARSHELF_ORIGINS has an address for secnod, {UNDECLARED}; did you mean second?",
                "origins.yaml declares the origin second, and there is no address for it",
            ),
            id="a misspelt name",
        ),
        pytest.param(
            "second=http://b,third=http://c,shop=http://a",
            (f"NEARSHELF_ORIGINS has an address for shop, {UNDECLARED}; the address of shop, the default one, is",),
            id="the default one",
        ),
    ],
)
def test_origins_and_addresses_that_do_not_go_together(told, faults):
    found = GatewaySettings.from_env(GOOD | {"NEARSHELF_ORIGINS": told}).address_faults(SECOND)
    assert len(found) == len(faults)
    for said, expected in zip(found, faults, strict=True):
        assert said.startswith(expected)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("http://b", "'http://b', expected NAME=http://HOST:PORT"),
        ("Second=http://b", "'Second=http://b', expected NAME="),
        ("second=b:80", "'second=b:80', expected NAME="),
        ("second=http://b/path", "expected NAME="),
        ("second=http://user@b", "expected NAME="),
        ("second=http://b:port", "expected NAME="),
        ("second=http://b|http://b/path", "expected NAME="),
        ("second=http://b|", "several addresses with | between them"),
        ("second=http://b|http://b/", "the same address twice, expected each once"),
        ("second=http://b,second=http://c", "second is there twice, expected once: NAME=URL|URL"),
    ],
)
def test_addresses_that_cannot_be(told, said):
    with pytest.raises(SettingsError) as found:
        GatewaySettings.from_env(GOOD | {"NEARSHELF_ORIGINS": told})
    assert "NEARSHELF_ORIGINS: " in str(found.value)
    assert said in str(found.value)


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
