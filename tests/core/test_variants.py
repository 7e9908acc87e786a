"""What tells variants apart, in the spelling in which it is forwarded (RFC 9111 §4.1)."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.core.http import Headers
from edge.core.policy import ALL, Auth
from edge.core.request_rules import forward_request
from edge.core.reuse import selected
from edge.core.variants import forwards, preferences, vary_names, vary_values, varying_fields
from tests.support.builders import KEY, PAGE, match, request, stored

LISTED = replace(
    PAGE, vary=("accept-language", "x-theme"), request_fields=("accept-language", "x-theme"), auth=Auth.OPTIONAL
)
WHATEVER = replace(PAGE, vary=ALL, request_fields=ALL, auth=Auth.SHARED)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param([], set(), id="none"),
        pytest.param(["Accept-Language, X-A"], {"accept-language", "x-a"}, id="a list"),
        pytest.param(["X-A", "x-b"], {"x-a", "x-b"}, id="over all lines"),
        pytest.param(["*"], {"*"}, id="star"),
        pytest.param(["*, *"], {"*"}, id="star twice"),
        pytest.param([", *"], {"*"}, id="an empty member and star"),
        pytest.param(["foo, *"], {"foo", "*"}, id="star among others"),
        pytest.param(["", "*"], {"*"}, id="an empty line and star"),
        pytest.param(["foo bar"], {"foo bar", "*"}, id="what is no name is everything"),
        pytest.param(["foo;bar, x"], {"foo;bar", "x", "*"}, id="nor is one with a parameter"),
    ],
)
def test_names(lines, expected):
    assert vary_names(Headers([("vary", line) for line in lines])) == expected


def test_where_the_policy_compresses_who_takes_what_tells_nobody_apart():
    headers = Headers([("vary", "Accept-Encoding, X-A")])
    assert varying_fields(headers, replace(WHATEVER, compress=True)) == {"x-a"}
    assert varying_fields(headers, WHATEVER) == {"accept-encoding", "x-a"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gzip", "gzip"),
        ("GZIP ,  br", "br,gzip"),
        ("br, gzip", "br,gzip"),
        ("gzip;q=1.0, br;q=0.50", "gzip,br;q=0.5"),
        ("br;q=0.5,gzip", "gzip,br;q=0.5"),
        ("gzip;q=0, *", "*,gzip;q=0"),
        ("gzip;q=0.000", "gzip;q=0"),
        ("", ""),
        (",,", ""),
        ("gzip;level=9, BR", "gzip;level=9,br"),
        ("gzip;q=2", "gzip;q=2"),
    ],
)
def test_who_takes_which_coding_has_one_spelling(text, expected):
    assert preferences(text, ordered=False) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("DE , en;q=0.5", "de,en;q=0.5"),
        ("en;q=0.5,de", "de,en;q=0.5"),
        ("de;q=1,en;q=0.500", "de,en;q=0.5"),
        # Of equal weight the first is preferred by many origins.
        ("en, de", "en,de"),
        ("de, en", "de,en"),
    ],
)
def test_who_reads_which_language(text, expected):
    assert preferences(text, ordered=True) == expected


TOKENS = st.lists(
    st.tuples(
        st.sampled_from(["gzip", "BR", "zstd", "*", "identity"]), st.sampled_from(["", ";q=0.5", " ; q=1", ";q=0"])
    ),
    max_size=5,
)


@given(TOKENS, st.booleans(), st.randoms())
def test_a_spelling_spells_itself_and_order_says_nothing_where_it_may_not(members, ordered, random):
    text = ", ".join(name + weight for name, weight in members)
    spelt = preferences(text, ordered=ordered)
    assert preferences(spelt, ordered=ordered) == spelt
    shuffled = members[:]
    random.shuffle(shuffled)
    if not ordered:
        assert preferences(",".join(name + weight for name, weight in shuffled), ordered=False) == spelt


@pytest.mark.parametrize(
    ("name", "listed", "whatever"),
    [
        ("accept-language", True, True),
        ("accept-encoding", False, True),
        ("cookie", False, True),
        ("user-agent", False, True),
        ("authorization", True, True),
        ("if-none-match", False, False),
        ("range", False, False),
        ("host", False, False),
        ("min-catalog-version", False, False),
        ("nearshelf-country", False, False),
        ("x-forwarded-for", False, False),
    ],
)
def test_what_reaches_the_origin_of_a_stored_route(name, listed, whatever):
    assert forwards(name, LISTED) is listed
    assert forwards(name, WHATEVER) is whatever


def test_what_the_edge_codes_itself_is_not_asked_for():
    assert not forwards("accept-encoding", replace(WHATEVER, compress=True))


def test_without_leave_authorization_tells_nobody_apart():
    assert not forwards("authorization", replace(WHATEVER, auth=Auth.NONE))


FIELDS = {"accept_language": "en;q=0.5 ,DE", "x_theme": "Dark", "user_agent": "Mozilla/5.0 (X11)", "cookie": "A=1"}


@pytest.mark.parametrize("policy", [LISTED, WHATEVER])
def test_what_is_compared_is_what_is_forwarded(policy):
    asked = request(**FIELDS)
    made = forward_request(asked, match(policy), KEY, minimum=None, country=None)
    for name, value in vary_values(asked.headers, policy, ("accept-language", "x-theme", "user-agent")):
        assert made.headers.joined(name) == value
    # And the origin's own answer is judged by the forwarded request, which must read the same.
    names = ("accept-language", "x-theme")
    assert vary_values(made.headers, policy, names) == vary_values(asked.headers, policy, names)


def test_fields_of_one_meaning_are_one_variant_and_others_are_as_they_came():
    assert dict(vary_values(request(**FIELDS).headers, WHATEVER, ("accept-language", "user-agent", "x-none"))) == {
        "accept-language": "de,en;q=0.5",
        "user-agent": "Mozilla/5.0 (X11)",
        "x-none": None,
    }


@pytest.mark.parametrize("name", ["authorization", "cookie", "x-long"])
def test_credentials_and_what_is_long_are_told_apart_without_being_kept(name):
    def value_of(text):
        ((_, value),) = vary_values(Headers([(name, text)]), WHATEVER, (name,))
        return value

    secret = "Basic " + "x" * 200
    assert value_of(secret) == value_of(secret) != value_of(secret + "x")
    assert "Basic" not in value_of(secret)
    assert len(value_of(secret)) < 80
    assert value_of("Basic 1") == "Basic 1" if name == "x-long" else "Basic" not in value_of("Basic 1")


@pytest.mark.parametrize(
    ("kept", "fields", "expected"),
    [
        pytest.param((("x-a", "1"),), {"x_a": "1"}, True, id="the same"),
        pytest.param((("x-a", "1"),), {"x_a": "2"}, False, id="another"),
        pytest.param((("x-a", "1"),), {}, False, id="a missing one"),
        pytest.param((("x-a", None),), {}, True, id="missing both times"),
        pytest.param((("x-a", None),), {"x_a": ""}, False, id="an empty one is not missing"),
        pytest.param((("x-a", "1"), ("x-b", "2")), {"x_a": "1", "x_b": "2"}, True, id="all of them"),
        pytest.param((("x-a", "1"), ("x-b", "2")), {"x_a": "1", "x_b": "3"}, False, id="all but one"),
    ],
)
def test_the_variant_for_a_request(kept, fields, expected):
    assert selected(request(**fields), stored(vary=kept), WHATEVER) is expected
