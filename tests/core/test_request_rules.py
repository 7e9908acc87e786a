"""What reaches the origin of a viewer's request."""

from dataclasses import replace

import pytest

from cache_policies.positions import Position
from edge.core.http import Headers
from edge.core.key import CacheKey
from edge.core.policy import ALL, ALL_QUERY, Auth
from edge.core.request_rules import CHALLENGE, RefusedBecause, forward_request, passes_store, refusal
from tests.support.builders import KEY, PAGE, match, request

CONSOLE = replace(PAGE, store=False, cookies=True, query=ALL_QUERY, auth=Auth.OPTIONAL)
EDGE_OWN = {"x-forwarded-host": "shop.example", "x-forwarded-proto": "http", "via": "1.1 nearshelf"}
OURS = (("if-none-match", '"ours"'),)
VIEWER_FIELDS = {
    "accept": "text/html",
    "accept_encoding": "gzip",
    "accept_language": "de",
    "authorization": "Bearer x",
    "cache_control": "no-cache",
    "connection": "x-csrf-token",
    "content_type": "text/plain",
    "cookie": "a=b",
    "forwarded": "for=1.2.3.4",
    "host": "evil.example",
    "if_none_match": '"viewer"',
    "min_catalog_version": "0.0",
    "nearshelf_country": "XX",
    "nearshelf_edge_key": "guess",
    "range": "bytes=0-1",
    "te": "trailers",
    "traceparent": "00-1-2-01",
    "user_agent": "x",
    "x_anything": "1",
    "x_csrf_token": "named by Connection",
    "x_forwarded_for": "1.2.3.4",
    "x_forwarded_host": "evil.example",
}


def forwarded(asked, policy=PAGE, key=KEY, **how):
    return forward_request(asked, match(policy), key, **{"minimum": None, "country": "DE", **how})


def test_on_a_stored_route_nothing_passes_that_is_not_in_the_key():
    made = forwarded(request(**VIEWER_FIELDS))
    assert dict(made.headers) == {"traceparent": "00-1-2-01", **EDGE_OWN}


def test_but_what_the_policy_lists():
    made = forwarded(
        request(**VIEWER_FIELDS), replace(PAGE, request_fields=("accept-language",), vary=("accept-language",))
    )
    assert made.headers.get("accept-language") == "de"
    assert "accept" not in made.headers


def test_the_target_is_rebuilt_from_the_key():
    key = CacheKey("shop.example", "/eu-eur/c/a", (("sort", "a b"),), "eu-eur")
    made = forwarded(request(path="/eu-eur/c/%61", query="utm=1&sort=a+b"), key=key)
    assert (made.method, made.authority, made.path, made.query) == ("GET", "shop.example", "/eu-eur/c/a", "sort=a%20b")


def test_head_on_a_stored_route_is_asked_for_as_get():
    assert forwarded(request("HEAD")).method == "GET"
    assert forwarded(request("HEAD"), CONSOLE).method == "HEAD"


def test_the_precondition_is_the_edges_own():
    made = forwarded(request(if_none_match='"viewer"', if_modified_since="x"), conditions=OURS)
    assert made.headers.lines("if-none-match") == ['"ours"']
    assert "if-modified-since" not in made.headers
    assert "if-none-match" not in forwarded(request(if_none_match='"viewer"')).headers


@pytest.mark.parametrize(("minimum", "text"), [(Position(1, 7), "1.7"), ("head", "head")])
def test_the_minimum(minimum, text):
    assert forwarded(request(min_catalog_version="0.0"), minimum=minimum).headers.lines("min-catalog-version") == [text]


def test_on_an_unstored_route_what_an_application_needs_passes_and_client_copies_of_ours_do_not():
    made = forwarded(request("POST", **VIEWER_FIELDS), CONSOLE)
    fields = dict(made.headers)
    assert made.method == "POST"
    assert fields["cookie"] == "a=b"
    assert fields["authorization"] == "Bearer x"
    assert fields["nearshelf-country"] == "DE"
    assert fields["x-forwarded-for"] == "192.0.2.7"
    assert fields["x-forwarded-host"] == "shop.example"
    assert not fields.keys() & {
        "connection", "te", "x-csrf-token", "x-anything", "forwarded", "host", "min-catalog-version",
        "nearshelf-edge-key",
    }  # fmt: skip
    assert len(fields) == len(made.headers.pairs)


def test_cookies_pass_only_where_the_policy_says_so():
    assert "cookie" not in forwarded(request(cookie="a=b"), replace(CONSOLE, cookies=False)).headers


@pytest.mark.parametrize("store", [True, False])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_without_leave_no_authorization_reaches_the_origin(store, method):
    made = forwarded(request(method, authorization="Bearer x"), replace(PAGE, store=store, auth=Auth.NONE))
    assert "authorization" not in made.headers


def test_what_passes_the_store_is_asked_for_with_the_same_fields_and_its_authorization():
    optional = replace(PAGE, auth=Auth.OPTIONAL)
    asked = request("HEAD", **VIEWER_FIELDS)
    assert passes_store(asked, optional)
    made = forwarded(asked, optional, conditions=OURS)
    assert made.method == "HEAD"
    assert dict(made.headers) == {
        "authorization": "Bearer x", "range": "bytes=0-1", "traceparent": "00-1-2-01", **EDGE_OWN,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "policy"),
    [
        pytest.param({}, replace(PAGE, auth=Auth.OPTIONAL), id="nothing to let through"),
        pytest.param({"authorization": "Bearer x"}, PAGE, id="no leave"),
        pytest.param({"authorization": "Bearer x"}, CONSOLE, id="no store"),
    ],
)
def test_what_does_not_pass_the_store(fields, policy):
    assert not passes_store(request(**fields), policy)


def test_authorization_that_the_policy_requires():
    required = match(store=False, auth=Auth.REQUIRED)
    refused = refusal(request(), required)
    assert refused is not None
    answer = refused.response
    assert refused.reason is RefusedBecause.AUTHORIZATION_MISSING
    assert (answer.status, answer.headers.get("www-authenticate")) == (401, CHALLENGE)
    assert answer.headers.get("cache-control") == "no-store"
    assert refusal(request(authorization="Bearer x"), required) is None
    assert refusal(request(), match(store=False, auth=Auth.OPTIONAL)) is None
    made = forwarded(request(authorization="Bearer x"), required.policy)
    assert made.headers.lines("authorization") == ["Bearer x"]


def test_a_write_to_a_stored_route_is_forwarded_like_any_write():
    made = forwarded(request("POST", content_type="text/plain", if_match='"a"'), conditions=OURS)
    assert made.headers.get("content-type") == "text/plain"
    assert made.headers.get("if-match") == '"a"'
    assert "if-none-match" not in made.headers
    assert "cookie" not in made.headers


@pytest.mark.parametrize("status", [401, 404, 405])
def test_a_refused_route_is_answered_by_the_edge(status):
    refused = refusal(request(), match(refuse_status=status, store=False))
    assert refused is not None
    answer, reason = refused
    assert (answer.status, reason) == (status, RefusedBecause.REFUSED)
    assert answer.headers.get("cache-control") == "no-store"


def test_a_method_that_is_neither_answered_nor_forwarded():
    route = match(forward_methods=("GET", "HEAD"))
    assert refusal(request("HEAD"), route) is None
    refused = refusal(request("POST"), route)
    assert refused is not None
    answer, reason = refused
    assert (answer.status, answer.headers.get("allow"), reason) == (405, "GET, HEAD", RefusedBecause.METHOD)
    assert refusal(request("POST"), match()) is None


EVERYTHING = replace(
    PAGE, request_fields=ALL, vary=ALL, forward_methods=ALL, query=ALL_QUERY, auth=Auth.SHARED, honour_request=True
)
CONDITIONAL = {"if_match", "if_none_match", "if_modified_since", "if_unmodified_since", "if_range", "range"}


def test_where_everything_passes_every_end_to_end_field_does():
    asked = request(**VIEWER_FIELDS, max_forwards="3", expect="100-continue", content_length="0", upgrade="h2c")
    made = dict(forwarded(asked, EVERYTHING, country=None).headers)
    passing = {
        "accept", "accept-encoding", "accept-language", "authorization", "cache-control", "content-type", "cookie",
        "traceparent", "user-agent", "x-anything",
    }  # fmt: skip
    assert made.keys() == passing | EDGE_OWN.keys()
    assert made["cookie"] == "a=b"
    assert {name: made[name] for name in EDGE_OWN} == EDGE_OWN


def test_a_viewers_own_conditions_reach_the_origin_only_past_the_store():
    fields = dict.fromkeys(CONDITIONAL, "x")
    spelt = {name.replace("_", "-") for name in CONDITIONAL}
    storing = forwarded(request(**fields), EVERYTHING, conditions=OURS)
    assert storing.headers.lines("if-none-match") == ['"ours"']
    assert {name for name, _ in storing.headers} & spelt == {"if-none-match"}
    past = forwarded(request("HEAD", **fields), EVERYTHING, conditions=OURS, past_store=True)
    assert past.method == "HEAD"
    assert past.headers.lines("if-none-match") == ["x"]
    assert {name for name, _ in past.headers} & spelt == spelt


@pytest.mark.parametrize("past_store", [True, False])
@pytest.mark.parametrize("method", ["GET", "POST", "M-SEARCH"])
def test_what_is_the_edges_own_cannot_be_sent_or_nominated_away(method, past_store):
    asked = request(
        method,
        connection="close, x-forwarded-host, X-Forwarded-Proto, via, min-catalog-version, x-mine",
        x_mine="1",
        x_forwarded_for="1.2.3.4",
        x_forwarded_proto="gopher",
        x_forwarded_anything="1",
        forwarded="for=1.2.3.4",
        nearshelf_country="XX",
        min_catalog_version="0.1",
    )
    made = forwarded(asked, EVERYTHING, minimum=Position(1, 7), past_store=past_store).headers
    assert made.lines("min-catalog-version") == ["1.7"]
    assert {name: made.lines(name) for name in EDGE_OWN} == {name: [value] for name, value in EDGE_OWN.items()}
    assert not {"connection", "x-mine", "forwarded", "x-forwarded-anything"} & {name for name, _ in made}
    assert made.lines("nearshelf-country") == ([] if method == "GET" else ["DE"])


def test_an_edge_with_a_purge_log_of_its_own_says_neither_position_nor_country():
    made = forwarded(request("POST"), EVERYTHING, country=None)
    assert not {"min-catalog-version", "nearshelf-country"} & {name for name, _ in made.headers}


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        pytest.param(EVERYTHING, "1.0 fred, 1.1 p.example, 1.1 nearshelf", id="appended (RFC 9110 §7.6.3)"),
        pytest.param(CONSOLE, "1.0 fred, 1.1 p.example, 1.1 nearshelf", id="also where nothing is stored"),
        pytest.param(PAGE, "1.1 nearshelf", id="what is not keyed chooses nobody's answer"),
    ],
)
def test_via(policy, expected):
    made = forwarded(request(via="1.0 fred, 1.1 p.example"), policy)
    assert made.headers.lines("via") == [expected]


def test_lines_of_a_field_of_any_name_stay_and_preferences_are_spelt_once():
    asked = request(accept_language="en;q=0.5,DE")
    asked = replace(asked, headers=Headers([*asked.headers, ("x-a", "1"), ("x-a", "B")]))
    made = forwarded(asked, EVERYTHING).headers
    assert made.lines("x-a") == ["1", "B"]
    assert made.lines("accept-language") == ["de,en;q=0.5"]


@pytest.mark.parametrize(
    ("hops", "sent"), [("3", ["2"]), ("1", ["0"]), ("x", []), ("-1", []), ("", []), ("9999999999", [])]
)
def test_options_takes_so_many_hops(hops, sent):
    asked = request("OPTIONS", max_forwards=hops)
    assert refusal(asked, match(EVERYTHING)) is None
    assert forwarded(asked, EVERYTHING).headers.lines("max-forwards") == sent
    assert forwarded(request("POST", max_forwards=hops), EVERYTHING).headers.lines("max-forwards") == []


def test_and_none_beyond_the_last():
    """RFC 9110 §7.6.2."""
    refused = refusal(request("OPTIONS", max_forwards="0"), match(EVERYTHING))
    assert refused is not None
    answer, reason = refused
    assert (answer.status, answer.headers.get("allow"), reason) == (
        200, "GET, HEAD, OPTIONS", RefusedBecause.MAX_FORWARDS,
    )  # fmt: skip
    assert answer.headers.get("content-length") == "0"
    assert refusal(request("GET", max_forwards="0"), match(EVERYTHING)) is None


@pytest.mark.parametrize("method", ["OPTIONS", "PROPFIND", "M-SEARCH", "WHATEVER"])
def test_every_method_passes_where_the_policy_says_so(method):
    assert refusal(request(method), match(EVERYTHING)) is None
    assert forwarded(request(method), EVERYTHING).method == method
