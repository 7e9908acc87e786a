"""Where a visitor is: by its connection, by what trusted hops say, by an operator's database."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from edge.core.hops import TrustedHops
from edge.gateway.visitors import Visitor, Visitors, countries_of, registered_country
from tests.support.mmdb import write_mmdb

COUNTRIES = {"203.0.113.9": "DE", "198.51.100.9": "JP", "2a02:db8::9": "GB", "10.0.0.1": "US"}
HOPS = TrustedHops.parse(["10.0.0.0/8"])


class Viewer:
    """As much of a viewer's connection as is looked at."""

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.visitor: Visitor | None = None


class Asked:
    """Countries by address, and how often each was asked for."""

    def __init__(self) -> None:
        self.count: Counter[str] = Counter()

    def __call__(self, address: str) -> str:
        self.count[address] += 1
        return COUNTRIES.get(address, "ZZ")


def found(peer: str, *lines: str, hops: TrustedHops = HOPS, field: str = "") -> Visitor:
    fields = [tuple(part.strip().encode("latin-1") for part in line.split(":", 1)) for line in lines]
    return Visitors(hops, Asked(), field).of(Viewer(peer), [(name, value) for name, value in fields])


def test_who_is_not_trusted_speaks_for_itself():
    expected = Visitor("203.0.113.9", "DE", "203.0.113.9")
    assert found("203.0.113.9", "X-Forwarded-For: 198.51.100.9") == expected
    assert found("::ffff:203.0.113.9", "x-forwarded-for: 198.51.100.9") == expected
    assert found("203.0.113.9", "X-Forwarded-For: 198.51.100.9", hops=TrustedHops()) == expected


def test_a_trusted_hop_says_who_the_visitor_is_in_any_spelling_of_the_field():
    for name in ("X-Forwarded-For", "x-forwarded-for", "X-FORWARDED-FOR"):
        assert found("10.0.0.1", f"{name}: 203.0.113.9") == Visitor("203.0.113.9", "DE", "203.0.113.9")
    assert found("10.0.0.1", "X-Forwarded-For: 203.0.113.9", "x-forwarded-for: 2A02:DB8::9") == Visitor(
        "2a02:db8::9", "GB", "2a02:db8::/64"
    )


def test_a_hop_that_does_not_say_leaves_the_country_unknown_and_is_counted_itself():
    for lines in (
        [],
        ["X-Forwarded-For: unknown"],
        ["X-Forwarded-For: 203.0.113.9, _x"],
        ["Forwarded: for=203.0.113.9"],
    ):
        assert found("10.0.0.1", *lines) == Visitor("", "ZZ", "10.0.0.1")


def test_no_address_at_all():
    assert found("", "X-Forwarded-For: 203.0.113.9") == Visitor("", "ZZ", "")


FIELD = "cloudfront-viewer-country"
CLIENT = "X-Forwarded-For: 203.0.113.9"


@pytest.mark.parametrize(
    ("lines", "country"),
    [
        pytest.param([f"{FIELD}: JP"], "JP", id="two capital letters"),
        pytest.param(["CloudFront-Viewer-Country: JP"], "JP", id="in any spelling"),
        pytest.param([], "ZZ", id="not there"),
        pytest.param([f"{FIELD}:"], "ZZ", id="empty"),
        pytest.param([f"{FIELD}: jp"], "ZZ", id="small letters"),
        pytest.param([f"{FIELD}: JPN"], "ZZ", id="three letters"),
        pytest.param([f"{FIELD}: T1"], "ZZ", id="a digit"),
        pytest.param([f"{FIELD}: JP, DE"], "ZZ", id="a list"),
        pytest.param([f"{FIELD}: DE", f"{FIELD}: JP"], "ZZ", id="twice"),
        pytest.param([f"{FIELD}: ÄÖ"], "ZZ", id="other letters"),
        pytest.param(["cf-ipcountry: JP"], "ZZ", id="another field"),
    ],
)
def test_a_country_in_a_field_is_a_trusted_hops_to_write(lines, country):
    assert found("10.0.0.1", CLIENT, *lines, field=FIELD) == Visitor("203.0.113.9", country, "203.0.113.9")
    assert found("198.51.100.9", CLIENT, *lines, field=FIELD).country == "JP"
    assert found("203.0.113.9", CLIENT, *lines, field=FIELD).country == "DE"
    assert found("10.0.0.1", CLIENT, *lines).country == "DE"


def test_one_look_up_for_a_connection_and_one_for_each_request_of_a_hop():
    asked = Asked()
    visitors = Visitors(HOPS, asked)
    direct, hop = Viewer("203.0.113.9"), Viewer("10.0.0.1")
    for client in (b"198.51.100.9", b"203.0.113.9", b"198.51.100.9"):
        fields = [(b"X-Forwarded-For", client)]
        assert visitors.of(direct, fields).country == "DE"
        assert visitors.of(hop, fields).address == client.decode()
    assert asked.count == {"203.0.113.9": 2, "198.51.100.9": 2}
    assert hop.visitor is None


def test_the_registries_delegations():
    assert registered_country("8.8.8.8") == "US"
    assert registered_country("133.1.1.1") == "JP"
    assert registered_country("2a02:2e0:3fe:1001:302::") == "DE"
    assert registered_country("127.0.0.1") == "ZZ"
    assert registered_country("") == "ZZ"


# -- an operator's database --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "record",
    [
        pytest.param({"country": {"iso_code": "CH", "names": {"en": "Switzerland"}}}, id="GeoLite2"),
        pytest.param({"country": "CH", "continent": "EU"}, id="text"),
        pytest.param({"country_code": "CH"}, id="code"),
        pytest.param({"country": "Switzerland", "country_code": "CH"}, id="name and code"),
    ],
)
def test_a_database_in_any_of_the_layouts_there_are(tmp_path, record):
    country_of = countries_of(write_mmdb(tmp_path / "a.mmdb", {"192.0.2.0/24": record, "2001:db8::/32": record}))
    assert country_of("192.0.2.77") == country_of("2001:db8:1::1") == "CH"
    assert country_of("192.0.3.1") == country_of("2001:db9::1") == country_of("8.8.8.8") == "ZZ"
    assert country_of("not an address") == "ZZ"


def test_what_names_no_country_in_capitals_is_unknown(tmp_path):
    records = {
        "192.0.2.0/25": {"country": {"iso_code": "CH"}},
        "192.0.2.128/26": {"country": {"iso_code": "ch"}},
        "192.0.2.192/26": {"registered_country": {"iso_code": "CH"}},
    }
    country_of = countries_of(write_mmdb(tmp_path / "a.mmdb", records))
    assert [country_of(f"192.0.2.{last}") for last in (1, 129, 193)] == ["CH", "ZZ", "ZZ"]


def test_a_database_of_ipv4_alone(tmp_path):
    country_of = countries_of(write_mmdb(tmp_path / "a.mmdb", {"192.0.2.0/24": {"country_code": "CH"}}, ip_version=4))
    assert country_of("192.0.2.1") == "CH"
    assert country_of("2001:db8::1") == "ZZ"


def of_another_kind(path: Path) -> None:
    write_mmdb(path, {"192.0.2.0/24": {"autonomous_system": "AS64500"}}, kind="Test-ASN")


def cut_short(path: Path) -> None:
    write_mmdb(path, {"192.0.2.0/24": {"country_code": "CH"}})
    path.write_bytes(path.read_bytes()[:-120])


def damaged(path: Path) -> None:
    write_mmdb(path, {"192.0.2.0/24": {"country_code": "CH"}})
    whole = path.read_bytes()
    path.write_bytes(b"\xff" * 300 + whole[300:])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        pytest.param(lambda path: None, "cannot be read: No such file", id="missing"),
        pytest.param(lambda path: path.mkdir(), "is no usable MMDB file|cannot be read", id="a folder"),
        pytest.param(lambda path: path.write_bytes(b""), "is no usable MMDB file", id="empty"),
        pytest.param(
            lambda path: path.write_bytes(b"country,DE\n" * 99), "is no usable MMDB file", id="something else"
        ),
        pytest.param(cut_short, "is no usable MMDB file", id="cut short"),
        pytest.param(damaged, "is no usable MMDB file", id="damaged"),
        pytest.param(of_another_kind, "names no country, it is of the kind Test-ASN", id="of another kind"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_words(tmp_path, spoil, said):
    path = tmp_path / "a.mmdb"
    spoil(path)
    with pytest.raises(ValueError, match=said):
        countries_of(path)
