"""Who a visitor is when trusted hops stand in front."""

from __future__ import annotations

import random
from ipaddress import IPv4Address

import pytest

from edge.core.hops import TrustedHops, client_address, counted_as, parse_address

TRUSTED = TrustedHops.parse(["10.0.0.0/8", "198.51.100.7", "2001:db8:ed9e::/48"])


@pytest.mark.parametrize(
    ("peer", "lines", "expected"),
    [
        pytest.param("203.0.113.9", [], "203.0.113.9", id="nobody in front"),
        pytest.param("203.0.113.9", ["133.1.1.1"], "203.0.113.9", id="who is not trusted speaks for itself alone"),
        pytest.param("::ffff:203.0.113.9", ["133.1.1.1"], "203.0.113.9", id="the same on a dual-stack socket"),
        pytest.param("10.0.0.1", ["203.0.113.9"], "203.0.113.9", id="one hop"),
        pytest.param("::ffff:10.0.0.1", ["203.0.113.9"], "203.0.113.9", id="one hop on a dual-stack socket"),
        pytest.param("10.0.0.1", ["133.1.1.1, 203.0.113.9"], "203.0.113.9", id="what the client wrote is not read"),
        pytest.param("10.0.0.1", ["nonsense, 203.0.113.9"], "203.0.113.9", id="and need not be readable"),
        pytest.param("10.0.0.1", ["133.1.1.1", "203.0.113.9"], "203.0.113.9", id="lines are one list, in their order"),
        pytest.param("10.0.0.1", ["203.0.113.9, 10.2.0.1", "198.51.100.7"], "203.0.113.9", id="a chain of hops"),
        pytest.param("10.0.0.1", ["203.0.113.9, 192.0.2.1, 10.9.9.9"], "192.0.2.1", id="a hop nobody trusts"),
        pytest.param("10.0.0.1", ["10.0.0.9, 203.0.113.9"], "203.0.113.9", id="a client that calls itself a hop"),
        pytest.param("2001:db8:ed9e::1", ["203.0.113.9"], "203.0.113.9", id="a hop on IPv6"),
        pytest.param("2001:db8:ed9f::1", ["203.0.113.9"], "2001:db8:ed9f::1", id="one beside the trusted network"),
        pytest.param("198.51.100.8", ["203.0.113.9"], "198.51.100.8", id="one beside the trusted address"),
        pytest.param("10.0.0.1", ["2A02:2E0:3FE:1001:302::"], "2a02:2e0:3fe:1001:302::", id="IPv6 in one spelling"),
        pytest.param("10.0.0.1", ["::ffff:203.0.113.9"], "203.0.113.9", id="mapped"),
        pytest.param("10.0.0.1", ["::ffff:cb00:7109"], "203.0.113.9", id="mapped, in hexadecimal"),
        pytest.param("10.0.0.1", ["203.0.113.9, ::ffff:10.1.1.1"], "203.0.113.9", id="a mapped hop"),
        pytest.param("10.0.0.1", ["64:ff9b::cb00:7109"], "203.0.113.9", id="through a translator"),
        pytest.param("10.0.0.1", ["203.0.113.9, 64:ff9b::10.1.1.1"], "203.0.113.9", id="a hop behind a translator"),
        pytest.param("10.0.0.1", ["64:ff9b:1::cb00:7109"], "64:ff9b:1::cb00:7109", id="a local translator's prefix"),
        pytest.param("10.0.0.1", ["203.0.113.9:51234"], "203.0.113.9", id="a port"),
        pytest.param("10.0.0.1", ["[2a02::1]:443"], "2a02::1", id="brackets and a port"),
        pytest.param("10.0.0.1", ["[2a02::1]"], "2a02::1", id="brackets"),
        pytest.param("10.0.0.1", ["fe80::1%eth0"], "fe80::1", id="a zone id"),
        pytest.param("10.0.0.1", ["[fe80::1%25eth0]:80"], "fe80::1", id="a zone id spelled as in a URL"),
        pytest.param("10.0.0.1", ["[fe80::1%eth0]:80"], "fe80::1", id="a zone id in brackets"),
        pytest.param("10.0.0.1", ["203.0.113.9, 10.0.0.2:80, [2001:db8:ed9e::9]:80"], "203.0.113.9", id="hops as well"),
        pytest.param("10.0.0.1", [" \t203.0.113.9\t ,\t10.0.0.2 "], "203.0.113.9", id="blanks"),
        pytest.param("10.0.0.1", ["203.0.113.9,,", "", " , 10.0.0.2,"], "203.0.113.9", id="empty members"),
        pytest.param("10.0.0.1", [], None, id="a hop that does not say"),
        pytest.param("10.0.0.1", ["", " , ,"], None, id="nothing but empty members"),
        pytest.param("10.0.0.1", ["10.0.0.2, 10.0.0.3"], None, id="nobody but hops"),
        pytest.param("10.0.0.1", ["203.0.113.9, unknown"], None, id="a hop that does not know"),
        pytest.param("10.0.0.1", ["203.0.113.9, unknown, 10.0.0.2"], None, id="or one further left"),
        pytest.param("10.0.0.1", ["203.0.113.9, _hidden"], None, id="a hop that hides it"),
        pytest.param("", ["203.0.113.9"], None, id="no peer"),
        pytest.param("/run/edge.sock", ["203.0.113.9"], None, id="a peer without an address"),
    ],
)
def test_the_client_is_the_right_most_address_that_no_trusted_hop_has(peer, lines, expected):
    assert client_address(peer, lines, TRUSTED) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "-", "unknown", "localhost", "1.2.3", "1.2.3.4.5", "256.1.1.1", "01.2.3.4", "1.2.3.4/32", "1.2.3.4:",
        "1.2.3.4:x", "1.2.3.4:123456", "1.2.3.4%eth0", "0x7f.0.0.1", "2130706433", "[1.2.3.4]", "[2a02::1", "2a02::1]",
        "[2a02::1]443", "[]", "[]:80", "2a02:::1", "2a02::1::2", "2a02::1%", "2a02::1%a b", "2a02::12345", "g::1",
        '"1.2.3.4"', "for=1.2.3.4", "1.2.3.4 5.6.7.8", "1.2.3.4;5.6.7.8", "\u0661.2.3.4", "1.2.3.4\x00", "1.2.3.4\n",
        "\xa01.2.3.4", "2a02::1%" + "z" * 80,
    ],
)  # fmt: skip
def test_what_is_no_address_is_not_guessed_at(text):
    assert parse_address(text) is None
    assert client_address("10.0.0.1", [f"203.0.113.9, {text or '-'}"], TRUSTED) is None


def test_without_trusted_hops_no_list_is_read():
    assert client_address("10.0.0.1", ["203.0.113.9"], TrustedHops()) == "10.0.0.1"
    assert not TrustedHops()


def test_no_list_moves_the_client_while_the_trusted_hops_write_the_truth():
    """What a client puts in front, in any number of members and lines, changes nothing: 2,000 seeded lists."""
    chosen = random.Random(4)
    junk = [
        "10.0.0.1",
        "133.1.1.1",
        "2a02::1",
        "",
        " ",
        "unknown",
        "::ffff:10.0.0.9",
        "[::1]:80",
        "1.2.3.4:99999",
        '"',
        "a b",
    ]
    for _ in range(2_000):
        client = chosen.choice(["203.0.113.9", "192.0.2.44", "2a02:2e0::5"])
        forged = [", ".join(chosen.choices(junk, k=chosen.randrange(6))) for _ in range(chosen.randrange(3))]
        hops = chosen.choices(["10.0.0.2", "198.51.100.7", "2001:db8:ed9e::4"], k=chosen.randrange(4))
        told = [client, *hops]
        if forged and chosen.random() < 0.5:
            lines = [*forged[:-1], ", ".join([forged[-1], *told])]
        else:
            lines = [*forged, *told]
        assert client_address("10.0.0.1", lines, TRUSTED) == client


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("10.0.0.1/8", "host bits set"),
        ("10.0.0.0/33", "10.0.0.0/33"),
        ("cdn.example", "expected a network such as 10.0.0.0/8"),
        ("0.0.0.0/0", "takes in every address"),
        ("::/0", "takes in every address"),
        ("::ffff:0:0/96", "takes in every address"),
        ("64:ff9b::/96", "takes in every address"),
        ("0.0.0.0/1,128.0.0.0/1", "0.0.0.0/1, 128.0.0.0/1 together take in every address"),
        ("::ffff:0.0.0.0/97,10.0.0.0/8,128.0.0.0/2,192.0.0.0/2", "together take in every address"),
        ("::/1,10.0.0.0/8,8000::/1", "::/1, 8000::/1 together take in every address"),
    ],
)
def test_networks_that_cannot_be_trusted(text, said):
    with pytest.raises(ValueError, match=said):
        TrustedHops.parse(text.split(","))


def test_mapped_networks_are_those_of_ipv4():
    assert TrustedHops.parse(["::ffff:10.0.0.0/104"]) == TrustedHops.parse(["10.0.0.0/8"])
    assert TrustedHops.parse(["64:ff9b::10.0.0.0/104"]) == TrustedHops.parse(["10.0.0.0/8"])
    assert TrustedHops.parse(["0.0.0.0/1", "::/1"])


def test_many_networks_of_one_length_are_one_step():
    hops = TrustedHops.parse([f"10.{number}.0.0/16" for number in range(200)])
    assert len(hops._by_length) == 1
    assert IPv4Address("10.199.3.4") in hops
    assert IPv4Address("10.200.0.1") not in hops


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2a02:2e0:3fe:1001:302::", "2a02:2e0:3fe:1001::/64"),
        ("2a02:2e0:3fe:1001:ffff::9", "2a02:2e0:3fe:1001::/64"),
        ("2a02:2e0:3fe:1002::9", "2a02:2e0:3fe:1002::/64"),
    ],
)
def test_ipv6_is_counted_by_its_64(address, counted):
    assert counted_as(address) == counted
