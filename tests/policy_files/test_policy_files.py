"""Policies as they are written: every fault at once, with file, line and column, and what was meant."""

import dataclasses
import re
import shutil
from pathlib import Path

import pytest
from iso4217 import Currency

from cache_policies.codes import Severity
from cache_policies.currencies import DIGITS
from cache_policies.markets import MARKET_FIELDS, MARKETS_FIELDS, ROUNDING_FIELDS, Market, Markets, load_markets
from cache_policies.origins import Origin
from cache_policies.origins_file import ORIGIN_FIELDS, ORIGINS_FIELDS
from edge.core.policy import (
    ALL,
    ALL_QUERY,
    Auth,
    CachePolicy,
    DataClass,
    Generation,
    OnLeaseLapse,
    PolicySet,
    Redirect,
    Throttle,
)
from edge.policy_files import PACKAGED_POLICIES, POLICY_FIELDS, PolicyError, load_policies, read_policies
from edge.route_fields import ROUTE_FIELDS
from edge.route_kinds import THROTTLE_FIELDS

DEFAULT = """\
routes:
  default:
    path: /{rest...}
    store: false
    query: all
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(PACKAGED_POLICIES / "markets.yaml", tmp_path)
    (tmp_path / "default.yaml").write_text(DEFAULT)
    return tmp_path


def routes(folder: Path, text: str, name: str = "a.yaml"):
    (folder / name).write_text("routes:\n" + text)
    return load_policies(folder)


def faults(folder: Path, text: str, name: str = "a.yaml") -> list[str]:
    with pytest.raises(PolicyError) as caught:
        routes(folder, text, name)
    assert str(caught.value) == "\n".join(str(fault) for fault in caught.value.faults)
    return str(caught.value).splitlines()


def test_a_route_with_every_field(folder):
    policies = routes(
        folder,
        """\
  everything:
    path: /{market}/x/{slug}
    data_class: public
    methods: [GET]
    forward_methods: [GET, POST]
    redirect: none
    store: true
    fresh: 300s
    max_fresh: 12h
    stale_while_revalidate: 10m
    stale_if_error: 1d
    keep: 2d
    negative: {404: 10s, 410: 1m}
    query: [page, sort]
    request_fields: [accept-language]
    vary: [accept-language, accept]
    cookies: false
    shows_price: true
    on_lease_lapse: stale-marked
    generation: product
    collapse_wait: 3s
    max_body: 500kB
""",
    )
    found = policies.policies[0]
    assert (found.id, found.where) == ("everything", "a.yaml:2:3")
    assert (found.path, found.data_class, found.methods) == ("/{market}/x/{slug}", DataClass.PUBLIC, ("GET",))
    assert (found.forward_methods, found.redirect, found.store) == (("GET", "POST"), Redirect.NONE, True)
    assert (found.fresh_s, found.max_fresh_s, found.stale_while_revalidate_s) == (300.0, 43_200.0, 600.0)
    assert (found.stale_if_error_s, found.keep_s) == (86_400.0, 172_800.0)
    assert (found.negative_s, found.query) == (((404, 10.0), (410, 60.0)), ("page", "sort"))
    assert (found.request_fields, found.vary) == (("accept-language",), ("accept-language", "accept"))
    assert (found.cookies, found.shows_price, found.on_lease_lapse) == (False, True, OnLeaseLapse.STALE_MARKED)
    assert (found.generation, found.collapse_wait_s, found.max_body_bytes) == (Generation.PRODUCT, 3.0, 500_000)


def test_what_is_left_out_has_its_default(folder):
    personal, plain = routes(
        folder, "  one:\n    path: /one\n    data_class: personal\n  two:\n    path: /two\n    fresh: 5s\n"
    ).policies[:2]
    assert (personal.store, plain.store) == (False, True)
    assert (plain.max_fresh_s, plain.methods, plain.on_lease_lapse) == (5.0, ("GET", "HEAD"), OnLeaseLapse.FAIL)
    assert (plain.query, plain.max_body_bytes, plain.collapse_wait_s) == ((), 2_000_000, 5.0)


@pytest.mark.parametrize(
    ("field", "at", "what"),
    [
        ("fresh: -5s", "3:12 routes.a.fresh", "-5s, expected a duration of zero or more with its unit"),
        ("fresh: 5", "3:12 routes.a.fresh", "5, expected a duration"),
        ("fresh: 1.5s", "3:12 routes.a.fresh", "1.5s, expected a duration"),
        ("fresh: [5s]", "3:12 routes.a.fresh", "a list, expected a duration"),
        ("fresh:", "3:5 routes.a.fresh", "nothing, expected a duration"),
        ("frehs: 5s", "3:5 routes.a.frehs", "no such field; did you mean fresh?"),
        ("colour: red", "3:5 routes.a.colour", "no such field, expected one of path, data_class"),
        ("store: yes", "3:12 routes.a.store", "yes, expected true or false"),
        ('store: "true"', "3:12 routes.a.store", '"true", expected true or false'),
        ("store: NO", "3:12 routes.a.store", "NO, expected true or false"),
        ("data_class: personel", "3:17 routes.a.data_class", "did you mean personal?"),
        ("on_lease_lapse: stale_marked", "3:21 routes.a.on_lease_lapse", "did you mean stale-marked?"),
        ("max_body: 2 MB", "3:15 routes.a.max_body", "2 MB, expected a size with its unit"),
        ("max_body: 0MB", "3:15 routes.a.max_body", "0MB, expected a size"),
        ("query: page", "3:12 routes.a.query", "page, expected a list of parameter names, or the word all"),
        ("query: [page, page]", "3:19 routes.a.query[1]", "page a second time"),
        ("query: [a b]", "3:13 routes.a.query[0]", "a b, expected parameter names"),
        ("methods: [get]", "3:15 routes.a.methods[0]", "get, expected methods in capitals"),
        ("negative: {200: 5s}", "3:16 routes.a.negative.200", "status 200, expected one from 400 to 599"),
        ("negative: {404: 5}", "3:21 routes.a.negative.404", "5, expected a duration"),
        ("negative: 404", "3:15 routes.a.negative", "404, expected a mapping"),
        ("refuse: 200", "3:13 routes.a.refuse", "200, expected a status from 400 to 499"),
        ("refuse: ４０４", "3:13 routes.a.refuse", "expected a status"),
        ("vary: [Accept]", "3:12 routes.a.vary[0]", "Accept, expected field names in small letters"),
        ("request_fields: [cookie]", "3:22 routes.a.request_fields[0]", "cookie is written by the edge itself"),
        ("request_fields: [x-forwarded-for]", "3:22 routes.a.request_fields[0]", "written by the edge itself"),
        ("request_fields: [nearshelf-country]", "3:22 routes.a.request_fields[0]", "written by the edge itself"),
        ("request_fields: [accept]", "3:22 routes.a.request_fields[0]", "accept is forwarded but not in vary"),
        ("max_fresh: 1s\n    fresh: 5s", "3:5 routes.a.max_fresh", "less than fresh"),
        ("cookies: true", "3:5 routes.a.cookies", "true on a stored route"),
        ("heuristic: 10\n    fresh: 5s", "3:5 routes.a.heuristic", "beside fresh"),
        ("heuristic: 101", "3:16 routes.a.heuristic", "101, expected a share in percent from 0 to 100"),
        ("statuses: all", "3:15 routes.a.statuses", "all, expected one of cacheable, any"),
        ("request_directives: honor", "3:25 routes.a.request_directives", "did you mean honour?"),
        ("forward_methods: any", "3:22 routes.a.forward_methods", "a list of methods in capitals, or the word all"),
        ("vary: any", "3:5 routes.a.vary", "any where the origin gets to see the fields of a list only"),
        ("store: false\n    auth: shared", "4:5 routes.a.auth", "shared with store false"),
        ("refuse: 404", "3:5 routes.a.refuse", "on a stored route"),
        ("redirect: market", "3:5 routes.a.redirect", "on a route that is stored"),
        ("methods: [GET, POST]", "3:20 routes.a.methods[1]", "more than GET and HEAD on a stored route"),
        ("on_lease_lapse: stale-marked", "3:5 routes.a.on_lease_lapse", "stale-marked without stale_if_error"),
        ("stale_if_error: 5s\n    shows_price: true", "3:5 routes.a.stale_if_error", "a route that shows a price"),
        ("data_class: personal\n    fresh: 5s", "4:5 routes.a.fresh", "a lifetime with data_class personal"),
        ("data_class: personal\n    store: true", "4:5 routes.a.store", "true with data_class personal"),
        ("store: false\n    keep: 5s", "4:5 routes.a.keep", "a lifetime with store false"),
    ],
)
def test_a_fault_says_where_what_and_what_was_expected(folder, field, at, what):
    lines = faults(folder, f"  a:\n    {field}\n    path: /a\n" + ("" if "fresh:" in field else "    fresh: 0s\n"))
    assert [line for line in lines if line.startswith(f"a.yaml:{at}: ") and what in line], lines


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("a/b", "starts with /"),
        ("/a//b", "empty segment"),
        ("/{x...}/b", "nothing may follow"),
        ("/{x}{y}", "neither plain text"),
        ("[/a, /b]", "expected a path pattern"),
    ],
)
def test_a_path_that_cannot_be_matched(folder, path, what):
    (line,) = faults(folder, f"  a:\n    path: {path}\n    fresh: 5s\n")
    assert line.startswith("a.yaml:3:11 routes.a.path: ")
    assert what in line


def test_a_missing_path_and_a_missing_lifetime(folder):
    lines = faults(folder, "  a:\n    store: true\n")
    assert lines[0] == "a.yaml:3:5 routes.a: path is missing [NS102]"
    assert lines[1].startswith("a.yaml:3:5 routes.a.fresh: missing on a stored route, expected the lifetime")


@pytest.mark.parametrize("segment", ["prices", "stock"])
def test_an_address_of_prices_must_say_that_it_shows_them(folder, segment):
    (line,) = faults(folder, f"  a:\n    path: /api/{segment}/{{sku}}\n    fresh: 5s\n")
    assert line.startswith("a.yaml:3:5 routes.a.shows_price: false for an address of prices or stock")


def test_a_key_written_twice_names_both_lines(folder):
    (line,) = faults(folder, "  a:\n    path: /a\n    fresh: 5s\n    fresh: 6s\n")
    assert line == "a.yaml:5:5 routes.a.fresh: written a second time, first on line 4; expected once [NS008]"


def test_an_id_taken_in_another_file_names_it(folder):
    (folder / "0.yaml").write_text("routes:\n  a:\n    path: /a\n    fresh: 5s\n")
    (line,) = faults(folder, "  a:\n    path: /b\n    fresh: 5s\n")
    assert line == "a.yaml:3:5 routes.a: a is an id already taken at 0.yaml:2:3, expected another [NS302]"


def test_a_route_that_is_never_reached_names_its_shadow(folder):
    lines = faults(
        folder,
        "  wide:\n    path: /{market}/{x...}\n    fresh: 5s\n  narrow:\n    path: /eu-eur/sale\n    fresh: 5s\n",
    )
    assert "\n".join(lines) == (
        "a.yaml:6:11 routes.narrow.path: /eu-eur/sale is never reached: wide (a.yaml:2:3) matches all of it first, "
        "expected another path or an earlier place [NS301]"
    )


def test_every_fault_of_every_file_at_once_in_order(folder):
    (folder / "b.yaml").write_text("routes:\n  b:\n    path: b\n    fresh: x\n    keep: y\n")
    (folder / "c.yaml").write_text("routes: [\n")
    markets = folder / "markets.yaml"
    markets.write_text(markets.read_text().replace("currency: CAD", "currency: cad"))
    lines = faults(folder, "  a:\n    path: /a\n")
    assert [line.split(":")[0] for line in lines] == ["a.yaml", "b.yaml", "b.yaml", "b.yaml", "c.yaml", "markets.yaml"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "default.yaml:1:1: the file is empty"),
        ("- a\n", "default.yaml:1:1: a list, expected a mapping [NS005]"),
        ("a: {\n", "default.yaml:2:1: not YAML"),
        ("a: 'x\n", "not YAML"),
        ("a: !!binary x\n", "default.yaml:1:4: a tag, !!binary; expected the value alone [NS010]"),
        ("routes: &all\n  a: *all\n", "default.yaml:2:6 routes.a: an alias, *all; expected the value itself"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "default.yaml:2:8 b[0]: an alias, *a;"),
        ("a: " + 5_000 * "[", "default.yaml:1:23: nested more than 20 levels deep"),
        ("".join(" " * depth + "a:\n" for depth in range(1_000)), "default.yaml:20:20: nested more than 20 levels"),
        ("rules: {}\n", "default.yaml:1:1 rules: no such field; did you mean routes?"),
        ("routes: []\n", "default.yaml:1:9 routes: a list, expected a mapping from id to route"),
        ("routes:\n  Big:\n    path: /{rest...}\n    store: false\n", "id Big, expected small letters"),
        ("routes:\n  a: 5\n", "default.yaml:2:6 routes.a: 5, expected a mapping"),
        ("routes:\n  a:\n    path: /a\n    fresh: 5s\n", "the last route must have the path /{rest...}"),
    ],
)
def test_a_default_file_that_is_none(folder, text, what):
    (folder / "default.yaml").write_text(text)
    with pytest.raises(PolicyError, match=re.escape(what)):
        load_policies(folder)


def test_bytes_that_are_no_text(folder):
    (folder / "a.yaml").write_bytes(b"routes:\n  a:\n    path: /\xff\n")
    with pytest.raises(PolicyError, match=r"a\.yaml:3:12: not UTF-8 text: the byte 0xFF \[NS002\]"):
        load_policies(folder)


def test_an_empty_folder_says_what_is_missing(tmp_path):
    with pytest.raises(PolicyError) as caught:
        load_policies(tmp_path)
    assert str(caught.value).splitlines() == [
        "default.yaml:1:1: cannot be read: No such file or directory [NS001]",
        "default.yaml:1:1: the last route must have the path /{rest...}, so that every request has one [NS303]",
    ]


@pytest.mark.parametrize(
    ("route", "why"),
    [
        ("path: /{market}/sale\n    fresh: 5s", "its path has {market}"),
        ("path: /\n    store: false\n    redirect: market", "redirect: market leads to one"),
        ("path: /a\n    store: false\n    residency: route", "residency: route goes by the jurisdiction of one"),
    ],
)
def test_without_markets_no_route_may_need_one(tmp_path, route, why):
    (tmp_path / "default.yaml").write_text(
        f"routes:\n  a:\n    {route}\n  rest:\n    path: /{{rest...}}\n    store: false\n"
    )
    (fault,) = (fault for fault in read_policies(tmp_path).faults if fault.severity is Severity.ERROR)
    cannot = "markets.yaml:1:1: cannot be read: No such file or directory"
    assert str(fault) == f"{cannot}; a (default.yaml:2:3) needs a market: {why} [NS001]"


def test_without_markets_there_are_none(tmp_path):
    (tmp_path / "default.yaml").write_text(
        "routes:\n  a:\n    path: /eu-eur/{x}\n    fresh: 5s\n  b:\n    path: /{rest...}\n    store: false\n"
    )
    policies = load_policies(tmp_path)
    assert policies.markets == Markets()
    assert policies.match("/eu-eur/x")[1:] == ("/eu-eur/x", "")
    assert {policy.blocked_countries for policy in policies.policies} == {()}


def test_what_passes_everything_is_read_as_such(folder):
    (folder / "a.yaml").write_text(
        "routes:\n  a:\n    path: /a\n    fresh: 0s\n    forward_methods: all\n    query: all\n"
        "    request_fields: all\n    vary: any\n    statuses: any\n    heuristic: 10\n"
        "    request_directives: honour\n    auth: shared\n    stale_if_unreachable: 1d\n"
    )
    policy = load_policies(folder).by_id("a")
    assert policy is not None
    assert policy.forward_methods == policy.request_fields == policy.vary == ALL
    assert policy.query == ALL_QUERY
    assert (policy.any_status, policy.heuristic_percent, policy.honour_request) == (True, 10, True)
    assert (policy.auth, policy.stale_if_unreachable_s) == (Auth.SHARED, 86_400.0)
    # What Last-Modified promises is not more than a day.
    assert policy.max_fresh_s == 86_400.0


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("default: us-usd", "default: us-eur", "us-eur is no market here, expected one of us-usd, ca-cad"),
        ("default: us-usd", "", "default is missing"),
        ("countries: [CA]", "countries: [CA, NO]", "NO is already led to"),
        ("countries: [CA]", "countries: [MX]", "country CA is not in countries"),
        ("countries: [CA]", "countries: [Canada]", "Canada, expected two capital letters"),
        ("currency: CAD", "currency: $", "$, expected a currency such as EUR"),
        ("currency: CAD", "curency: CAD", "no such field; did you mean currency?"),
        ("ca-cad:", "canada:", "id canada, expected country-currency such as eu-eur"),
        ("language: en-CA", "language: English", "English, expected a language tag"),
        ("tax_display: excluded", "tax_display: without", "without, expected one of included, excluded"),
    ],
)
def test_faults_in_markets(folder, old, new, what):
    markets = folder / "markets.yaml"
    text = markets.read_text()
    assert old in text
    markets.write_text(text.replace(old, new, 1))
    with pytest.raises(PolicyError, match=re.escape(what)) as caught:
        load_markets(folder)
    assert all(fault.place.line > 0 for fault in caught.value.faults)


def test_norway_stays_norway(folder):
    assert "NO" in load_markets(folder).for_country("NO").countries


# What is packaged.


@pytest.fixture(scope="module")
def packaged() -> PolicySet:
    return load_policies()


@pytest.mark.parametrize(
    ("path", "policy", "market"),
    [
        ("/", "entry", ""),
        ("/eu-eur/", "home", "eu-eur"),
        ("/eu-eur/c/shoes/boots", "category-page", "eu-eur"),
        ("/jp-jpy/products/trail-boot", "product-page", "jp-jpy"),
        ("/api/v1/gb-gbp/products", "product-list", "gb-gbp"),
        ("/api/v1/gb-gbp/products/SKU-1", "product", "gb-gbp"),
        ("/api/v1/gb-gbp/prices/SKU-1", "price", "gb-gbp"),
        ("/api/v1/gb-gbp/stock/SKU-1", "stock", "gb-gbp"),
        ("/api/v1/xx-xxx/prices/SKU-1", "default", ""),
        ("/art/0a1b/SKU-1.svg", "art", ""),
        ("/static/0a1b/shop.css", "static", ""),
        ("/market", "market-switcher", ""),
        ("/console", "console", ""),
        ("/console/login", "console-pages", ""),
        ("/api/staff/v1/products", "staff-api", ""),
        ("/eu-eur/cart", "cart", "eu-eur"),
        ("/eu-eur/checkout/pay", "checkout-pages", "eu-eur"),
        ("/eu-eur/account", "account", "eu-eur"),
        ("/edge/v1/feed", "edge-feed", ""),
        ("/edge/v1/leave", "edge-feed", ""),
        ("/livez", "liveness", ""),
        ("/readyz", "readiness", ""),
        ("/readyz/more", "default", ""),
        ("/eu-eur/nothing", "default", ""),
    ],
)
def test_the_packaged_policies_by_address(packaged, path, policy, market):
    found = packaged.match(path)
    assert (found.policy.id, found.market) == (policy, market)


def test_the_packaged_policies_keep_the_promises(packaged):
    for policy in packaged.policies:
        if policy.data_class is DataClass.PERSONAL:
            assert not policy.store
        if policy.store:
            assert not policy.cookies
            assert policy.query != ALL_QUERY
            assert policy.shows_price or policy.id in {"art", "static"}
        if policy.shows_price and policy.on_lease_lapse is OnLeaseLapse.FAIL:
            assert policy.stale_if_error_s == policy.stale_while_revalidate_s == 0
    edge_feed = packaged.by_id("edge-feed")
    assert edge_feed is not None
    assert edge_feed.refuse_status == 404


def test_the_digest_is_the_same_for_the_same_policies(folder):
    text = "  a:\n    path: /a\n    fresh: 5s\n"
    digest = routes(folder, text).digest
    assert routes(folder, "\n\n" + text).digest == digest
    assert routes(folder, text.replace("5s", "6s")).digest != digest


# What is documented.


README = (PACKAGED_POLICIES / "README.md").read_text()
TABLES = {
    "Fields of a policy file": POLICY_FIELDS,
    "Fields of a route": ROUTE_FIELDS,
    "Fields of a throttle": THROTTLE_FIELDS,
    "Fields of markets.yaml": MARKETS_FIELDS,
    "Fields of a market": MARKET_FIELDS,
    "Fields of a rounding": ROUNDING_FIELDS,
    "Fields of origins.yaml": ORIGINS_FIELDS,
    "Fields of an origin": ORIGIN_FIELDS,
}


@pytest.mark.parametrize("heading", TABLES)
def test_every_field_is_documented_with_its_unit_and_default_and_no_other(heading):
    (section,) = re.findall(rf"^##+ {heading}$(.*?)(?=^##|\Z)", README, re.MULTILINE | re.DOTALL)
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    assert rows == [each.documented for each in TABLES[heading]]


def test_every_table_of_the_readme_is_one_of_the_reader():
    assert re.findall(r"^##+ (Fields of .*)$", README, re.MULTILINE) == list(TABLES)


@pytest.mark.parametrize("heading", TABLES)
def test_what_a_field_is_called_elsewhere_is_one_field_and_none_of_ours(heading):
    ours = [each.name for each in TABLES[heading]]
    elsewhere = [name for each in TABLES[heading] for name in each.other_names]
    assert len(elsewhere) == len(set(elsewhere))
    assert not set(ours) & set(elsewhere)


def test_the_digits_of_currencies_are_those_of_iso_4217():
    assert {currency.code: currency.exponent for currency in Currency if currency.exponent is not None} == DIGITS


def test_everything_that_decides_can_be_written():
    def attributes(of: type) -> set[str]:
        return {each.name for each in dataclasses.fields(of) if each.init and not each.name.startswith("_")}

    assert {each.becomes for each in ROUTE_FIELDS} == attributes(CachePolicy) - {"id", "where"}
    assert {each.name for each in MARKET_FIELDS} == attributes(Market) - {"id"}
    assert {each.name for each in ORIGIN_FIELDS} == {name.removesuffix("_s") for name in attributes(Origin) - {"name"}}


BY_OTHER_FIELDS = {"path", "store", "fresh", "max_fresh", "auth", "blocked_countries", "burst", "origin"} | {
    "max_stale_while_revalidate", "max_stale_if_error",
}  # fmt: skip
LITERAL_DEFAULTS = [each for each in ROUTE_FIELDS if each.name not in BY_OTHER_FIELDS]


@pytest.mark.parametrize("each", LITERAL_DEFAULTS, ids=lambda each: each.name)
def test_a_default_that_is_written_out_changes_nothing(folder, each):
    a = "  a:\n    path: /a\n    fresh: 5s\n"
    absent = routes(folder, a).policies[0]
    written = routes(folder, f"{a}    {each.name}: {each.default.strip('`')}\n").policies[0]
    assert written.version == absent.version


def test_defaults_that_depend_on_other_fields(folder):
    (folder / "origins.yaml").write_text("default: near\norigins: {far: {}, near: {}}\n")
    markets = folder / "markets.yaml"
    markets.write_text(markets.read_text() + "\nblocked: [KP, SY]\n")
    found = routes(
        folder,
        """\
  stored:
    path: /a
    fresh: 5s
    stale_while_revalidate: 6s
    stale_if_error: 7s
    throttle: 90/m
  unstored:
    path: /b
    store: false
    throttle: {rate: 5/h}
    origin: far
    blocked_countries: []
  personal:
    path: /c
    data_class: personal
    throttle: {rate: 5/s, burst: 50}
  guessed:
    path: /d
    fresh: 0s
    heuristic: 10
""",
    )
    stored, unstored, personal, guessed = found.policies[:4]
    assert (stored.store, unstored.store, personal.store) == (True, False, False)
    assert (stored.auth, unstored.auth, personal.auth) == (Auth.NONE, Auth.OPTIONAL, Auth.OPTIONAL)
    assert (stored.max_fresh_s, unstored.max_fresh_s, guessed.max_fresh_s) == (5.0, 0.0, 86_400.0)
    assert (stored.max_stale_while_revalidate_s, stored.max_stale_if_error_s) == (6.0, 7.0)
    assert (stored.throttle, unstored.throttle) == (Throttle(1.5, 2), Throttle(5 / 3600, 1))
    assert personal.throttle == Throttle(5.0, 50)
    assert (stored.blocked_countries, unstored.blocked_countries) == (("KP", "SY"), ())
    assert [found.origins.by_name(policy.origin).name for policy in (stored, unstored)] == ["near", "far"]


def test_the_examples_in_the_guide_are_policies(folder):
    guide = (PACKAGED_POLICIES.parent / "docs" / "policies.md").read_text()
    smallest, *blocks = re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL)
    alone = folder / "alone"
    alone.mkdir()
    (alone / "default.yaml").write_text(smallest)
    assert [policy.id for policy in load_policies(alone).policies] == ["pages", "everything-else"]
    assert read_policies(alone).faults == ()
    text = "".join(block.removeprefix("routes:\n") for block in blocks if "path:" in block)
    (origins,) = [block for block in blocks if "origins:" in block]
    (folder / "origins.yaml").write_text(origins)
    found = [policy.id for policy in routes(folder, text).policies]
    assert found == ["brand-page", "price", "wishlist", "account", "default"]
