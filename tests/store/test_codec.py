"""What workers tell each other: whole, or refused."""

from __future__ import annotations

from dataclasses import fields, replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache_policies.positions import Position
from edge.core.http import Headers
from edge.core.key import CacheKey
from edge.core.stored import StoredResponse
from edge.store.codec import Unreadable, decode, encode, key_record, key_recorded
from tests.support.builders import stored

FOUND_OUT = {"judged_at", "received", "coded"}
"""What each worker finds out for itself."""
TIMES = {"stored_at", "fresh_until", "revalidate_until", "error_until", "keep_until", "unreachable_until"}

names = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_!#", min_size=1, max_size=12)
values = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=30)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
moments = st.floats(0, 2**33)
keys = st.builds(CacheKey, texts, texts, st.lists(st.tuples(texts, texts), max_size=3).map(tuple), texts)
responses = st.builds(
    StoredResponse,
    key=keys,
    policy_version=texts,
    status=st.integers(200, 599),
    headers=st.lists(st.tuples(names, values), max_size=5).map(Headers),
    body=st.binary(max_size=100),
    vary=st.lists(st.tuples(names, st.none() | values), max_size=3).map(tuple),
    etag=st.none() | values,
    position=st.builds(Position, st.integers(0, 999_999_999), st.integers(0, 10**18 - 1)),
    tags=st.lists(texts, max_size=5).map(tuple),
    stored_at=moments,
    initial_age_s=moments,
    no_cache=st.booleans(),
    fresh_until=moments,
    revalidate_until=moments,
    error_until=moments,
    keep_until=moments,
    unreachable_until=moments,
)


def told(response: StoredResponse) -> dict[str, object]:
    return {field.name: getattr(response, field.name) for field in fields(response) if field.name not in FOUND_OUT}


@given(responses)
def test_a_record_holds_everything_but_what_each_worker_finds_out_for_itself(response):
    found = decode(encode(response))
    assert told(found) == told(response)
    assert (found.judged_at, found.received, found.coded) == (-1, None, None)


@given(keys)
def test_a_key_is_read_as_it_was_written(key):
    assert key_recorded(key_record(key)) == key


@given(keys, keys)
def test_different_keys_have_different_records(one, other):
    assert (key_record(one) == key_record(other)) == (one == other)


@given(responses, st.floats(-1e9, 1e9))
def test_times_move_from_clock_to_clock_together(response, ahead_s):
    found = decode(encode(response, ahead_s=ahead_s), ahead_s=ahead_s)
    for name in TIMES:
        assert getattr(found, name) == pytest.approx(getattr(response, name), abs=1e-5)
    assert found.initial_age_s == response.initial_age_s


@given(responses, st.data())
def test_a_record_that_is_cut_short_or_longer_is_refused(response, data):
    record = encode(response)
    cut = data.draw(st.integers(0, len(record) - 1))
    for broken in (record[:cut], record + b"x"):
        with pytest.raises(Unreadable):
            decode(broken)


@given(st.binary(max_size=200))
def test_anything_else_is_refused(noise):
    for read in (decode, key_recorded):
        with pytest.raises(Unreadable):
            read(noise)


LEAVES = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | texts
VALUES = st.recursive(LEAVES, lambda of: st.lists(of, max_size=3) | st.dictionaries(texts, of, max_size=3))


@given(st.sampled_from(sorted(orjson.loads(encode(stored()).partition(b"\n")[0]))), VALUES)
def test_whatever_stands_in_a_member_the_record_is_read_or_refused(member, value):
    about = orjson.loads(encode(stored()).partition(b"\n")[0])
    try:
        found = decode(orjson.dumps(about | {member: value}) + b"\nbody")
    except Unreadable:
        return
    assert told(decode(encode(found))) == told(found)


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("v", 2),
        ("v", 5),
        ("key", ["shop.example", "/", []]),
        ("key", ["shop.example", "/", [["q"]], "eu-eur"]),
        ("status", 101),
        ("status", True),
        ("status", "200"),
        ("headers", [["x", "a\r\nset-cookie: b"]]),
        ("headers", [["x", "a\x00"]]),
        ("headers", [["x y", "a"]]),
        ("headers", [["X", "a"]]),
        ("headers", [["", "a"]]),
        ("headers", {"x": "a"}),
        ("etag", '"a"\r\n'),
        ("vary", [["accept", 1]]),
        ("position", "1"),
        ("tags", "p:a"),
        ("tags", ["t"] * 1_000),
        ("no_cache", 0),
        ("times", [0, 1, 2]),
        ("times", [0, 1, 2, 3, 4, 5, None]),
        ("times", [-1, 1, 2, 3, 4, 5, 6]),
        ("length", 3),
    ],
)
def test_what_is_not_exactly_a_record_is_refused(member, value):
    about = orjson.loads(encode(stored()).partition(b"\n")[0])
    with pytest.raises(Unreadable):
        decode(orjson.dumps(about | {member: value}) + b"\nbody")


def test_a_record_without_one_of_its_members_is_refused():
    about = orjson.loads(encode(replace(stored(), etag='"a"')).partition(b"\n")[0])
    for member in set(about) - {"etag"}:
        left = {name: value for name, value in about.items() if name != member}
        with pytest.raises(Unreadable):
            decode(orjson.dumps(left) + b"\nbody")
