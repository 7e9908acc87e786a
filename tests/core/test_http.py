"""Field lines as values (RFC 9110 §5)."""

from edge.core.http import Headers
from tests.support.builders import stored

LINES = Headers([("a", "1"), ("b", "2"), ("a", "3")])


def test_lookups():
    assert LINES.get("a") == "1"
    assert LINES.lines("a") == ["1", "3"]
    assert LINES.joined("a") == "1, 3"
    assert (LINES.get("c"), LINES.lines("c"), LINES.joined("c")) == (None, [], None)
    assert "b" in LINES
    assert "c" not in LINES


def test_changed_copies_leave_the_order_of_the_rest():
    assert LINES.without(["b"]).pairs == (("a", "1"), ("a", "3"))
    assert LINES.with_(("a", "9"), ("c", "4")).pairs == (("b", "2"), ("a", "9"), ("c", "4"))
    assert LINES.pairs == (("a", "1"), ("b", "2"), ("a", "3"))


def test_equal_by_their_lines():
    assert Headers(LINES) == LINES
    assert hash(Headers(LINES)) == hash(LINES)
    assert Headers([("b", "2"), ("a", "1"), ("a", "3")]) != LINES
    assert LINES.pairs != LINES


def test_the_size_of_a_stored_response_grows_with_what_it_holds():
    assert stored(body=b"x" * 10_000).size > 10_000
    assert stored(headers=Headers([("x", "y" * 5_000)])).size > 5_000


def test_cookies_of_several_lines_are_one_after_the_other():
    """As intermediaries that speak HTTP/2 to viewers may pass them on (RFC 9113 §8.2.3)."""
    assert Headers([("cookie", "a=b"), ("x", "y"), ("cookie", "c=d; e=f")]).joined("cookie") == "a=b; c=d; e=f"
