"""A viewer's preconditions against what would be sent (RFC 9110 §13)."""

import pytest

from edge.core.http import Headers
from edge.core.preconditions import precondition_status, range_applies
from tests.support.builders import DATE, request, response

EARLIER = "Sat, 21 Nov 2026 11:59:59 GMT"
LATER = "Sat, 21 Nov 2026 12:00:01 GMT"


def status_for(fields, has=None, status=200, method="GET"):
    has = response(last_modified=DATE, date=LATER).headers if has is None else has
    return precondition_status(request(method, **fields), status, has)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({}, None, id="none"),
        pytest.param({"if_none_match": '"a"'}, 304, id="If-None-Match (RFC 9110 §13.1.2)"),
        pytest.param({"if_none_match": 'W/"a"'}, 304, id="is compared weakly"),
        pytest.param({"if_none_match": '"b", "a"'}, 304, id="with every member"),
        pytest.param({"if_none_match": '"b","c"'}, None, id="none of which is it"),
        pytest.param({"if_none_match": '"x,"a","y"'}, None, id="read from the left"),
        pytest.param({"if_none_match": "a"}, None, id="without quotes"),
        pytest.param({"if_none_match": "*"}, 304, id="whatever there is"),
        pytest.param({"if_none_match": '"b"', "if_modified_since": DATE}, None, id="it beats If-Modified-Since"),
        pytest.param({"if_none_match": '"a"', "if_modified_since": EARLIER}, 304, id="both ways"),
        pytest.param({"if_modified_since": DATE}, 304, id="If-Modified-Since (§13.1.3)"),
        pytest.param({"if_modified_since": LATER}, 304, id="later than that"),
        pytest.param({"if_modified_since": EARLIER}, None, id="before that"),
        pytest.param({"if_modified_since": "yesterday"}, None, id="no date: it does not count"),
        pytest.param({"if_match": '"a"'}, None, id="If-Match (§13.1.1)"),
        pytest.param({"if_match": '"b", "a"'}, None, id="one of them"),
        pytest.param({"if_match": "*"}, None, id="there is one"),
        pytest.param({"if_match": '"b"'}, 412, id="there is another"),
        pytest.param({"if_match": 'W/"a"'}, 412, id="is compared strongly"),
        pytest.param({"if_match": ""}, 412, id="an empty list"),
        pytest.param({"if_unmodified_since": DATE}, None, id="If-Unmodified-Since (§13.1.4)"),
        pytest.param({"if_unmodified_since": EARLIER}, 412, id="modified since"),
        pytest.param({"if_unmodified_since": "yesterday"}, None, id="a date that is none does not count either"),
        pytest.param({"if_match": '"a"', "if_unmodified_since": EARLIER}, None, id="If-Match beats it (§13.2.2)"),
        pytest.param({"if_match": '"b"', "if_none_match": '"a"'}, 412, id="and comes first"),
        pytest.param({"if_match": '"a"', "if_none_match": '"a"'}, 304, id="then If-None-Match"),
        pytest.param({"if_unmodified_since": DATE, "if_modified_since": DATE}, 304, id="then the dates"),
    ],
)
def test_in_their_order(fields, expected):
    assert status_for(fields) == expected
    assert status_for(fields, method="HEAD") == expected


@pytest.mark.parametrize("since", [DATE, LATER])
@pytest.mark.parametrize("made", [DATE, EARLIER, "yesterday", None])
def test_a_date_of_the_same_second_confirms_nothing(since, made):
    """RFC 9110 §8.8.2.2: the body may have changed once more in that second."""
    assert status_for({"if_modified_since": since}, response(last_modified=DATE, date=made).headers) is None


@pytest.mark.parametrize("fields", [{"if_none_match": '"a"'}, {"if_match": '"b"'}, {"if_modified_since": DATE}])
@pytest.mark.parametrize("status", [206, 301, 304, 404, 500])
def test_only_a_success_is_conditional(fields, status):
    assert status_for(fields, status=status) is None


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "M-SEARCH"])
def test_what_another_method_did_is_done(method):
    assert status_for({"if_none_match": "*"}, method=method) is None
    assert status_for({"if_match": '"b"'}, method=method) is None


def test_an_entity_tag_may_hold_a_comma():
    assert status_for({"if_none_match": '"x", "a,b"'}, Headers([("etag", '"a,b"')])) == 304
    assert status_for({"if_match": '"x", "a,b"'}, Headers([("etag", '"a,b"')])) is None


def test_and_even_a_blank_though_it_may_not():
    assert status_for({"if_none_match": '"x", "a, b"'}, Headers([("etag", '"a, b"')])) == 304


def test_without_an_etag_only_a_star_matches():
    assert status_for({"if_none_match": '"a"'}, Headers()) is None
    assert status_for({"if_none_match": "*"}, Headers()) == 304
    assert status_for({"if_match": '"a"'}, Headers()) == 412


def test_a_weak_stored_etag_matches_weakly_only():
    weak = Headers([("etag", 'W/"a"')])
    assert status_for({"if_none_match": '"a"'}, weak) == 304
    assert status_for({"if_match": '"a"'}, weak) == 412
    assert status_for({"if_match": 'W/"a"'}, weak) == 412


@pytest.mark.parametrize(
    ("if_range", "fields", "expected"),
    [
        pytest.param('"a"', {}, True, id="the strong ETag (RFC 9110 §13.1.5)"),
        pytest.param('"b"', {}, False, id="another"),
        pytest.param('W/"a"', {}, False, id="a weak one never"),
        pytest.param('W/"a"', {"etag": 'W/"a"'}, False, id="not even to itself"),
        pytest.param('"a"', {"etag": 'W/"a"'}, False, id="nor to a strong one"),
        pytest.param('"a"', {"etag": None}, False, id="there is none"),
        pytest.param(EARLIER, {"last_modified": EARLIER}, True, id="the very date, a second before Date"),
        pytest.param(DATE, {"last_modified": DATE}, False, id="of the same second: a weak validator (§8.8.2.2)"),
        pytest.param(EARLIER, {"last_modified": DATE}, False, id="an earlier date"),
        pytest.param(DATE, {"last_modified": EARLIER}, False, id="a later date"),
        pytest.param(EARLIER, {"last_modified": EARLIER, "date": None}, False, id="nobody knows when it was made"),
        pytest.param("yesterday", {"last_modified": EARLIER}, False, id="no validator at all"),
        pytest.param("", {}, False, id="nothing"),
    ],
)
def test_if_range(if_range, fields, expected):
    assert range_applies(request(if_range=if_range), response(**fields).headers) is expected


def test_without_if_range_a_range_always_applies():
    assert range_applies(request(), Headers())
