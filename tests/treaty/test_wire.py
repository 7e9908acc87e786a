"""What edge and origin say to each other survives being said, and what is not understood is refused, never guessed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache_policies.feed import Answer, Question
from cache_policies.positions import Position, PurgeEntry, PurgeKind, WireError
from cache_policies.tags import category_tag, product_tag, slug_tag

positions = st.builds(Position, st.integers(0, 10**9 - 1), st.integers(0, 10**18 - 1))
names = st.text(min_size=1, max_size=40)
tags = st.one_of(
    st.builds(product_tag, st.just("eu-eur"), names),
    st.builds(category_tag, st.just("jp-jpy"), names),
    st.builds(slug_tag, st.just("us-usd"), names),
    st.just("*"),
)
entries = st.builds(
    PurgeEntry,
    positions,
    st.uuids().map(str),
    st.sampled_from(PurgeKind),
    st.lists(tags, min_size=1, max_size=20).map(tuple),
)
answers = st.builds(
    Answer,
    st.lists(entries, max_size=5).map(tuple),
    positions,
    st.uuids().map(str),
    st.none() | st.tuples(positions, st.uuids().map(str)),
    st.booleans(),
)
plain = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=32)


@given(positions)
def test_a_position_survives(position):
    assert Position.parse(str(position)) == position


@given(positions, positions)
def test_positions_are_ordered_as_pairs(one, other):
    assert (one < other) == (tuple(one) < tuple(other))


@pytest.mark.parametrize("text", ["", "1", "1.", ".1", "01.1", "1.01", "1.1 ", "-1.1", "1.1.1", "1,1", "1.١", "9" * 40])
def test_what_is_no_position_is_refused(text):
    with pytest.raises(WireError):
        Position.parse(text)


@given(entries)
def test_a_purge_entry_survives(entry):
    assert PurgeEntry.from_wire(json.loads(json.dumps(entry.to_wire()))) == entry


@given(entries, st.integers() | st.none() | st.text(max_size=3))
def test_an_unknown_version_is_refused(entry, version):
    if version == 1:
        return
    with pytest.raises(WireError, match="version"):
        PurgeEntry.from_wire(entry.to_wire() | {"v": version})


@given(
    entries, st.sampled_from(["position", "id", "kind", "tags"]), st.none() | st.booleans() | st.just([]) | st.just("")
)
def test_a_broken_purge_entry_is_refused(entry, field, value):
    with pytest.raises(WireError):
        PurgeEntry.from_wire(entry.to_wire() | {field: value})


@given(answers)
def test_an_answer_survives_and_is_one_line(answer):
    line = answer.to_json()
    assert b"\n" not in line
    assert Answer.from_json(line) == answer


@given(plain, st.integers(1, 2**62), st.none() | positions, st.uuids().map(str))
def test_a_question_survives(worker, contact, after, after_id):
    question = Question(worker, "eu", contact, after, after_id if after else None, "http://127.0.0.1:8082")
    assert Question.from_json(question.to_json()) == question


@given(st.binary(max_size=60))
def test_noise_is_refused(noise):
    for kind in (Answer, Question):
        with pytest.raises(WireError):
            kind.from_json(noise)


@given(names, names)
def test_a_tag_can_travel_in_a_list_and_is_one_spelling(market, name):
    tag = product_tag("eu-eur", name)
    assert tag == tag.lower()
    assert not set(tag) & set(', \t\r\n"')
    assert tag.isascii()
