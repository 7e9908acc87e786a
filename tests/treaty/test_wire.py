"""What edge and origin say to each other survives being said, and what is not understood is refused, never guessed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache_policies.feed import Answer, PurgeWish, Question
from cache_policies.positions import ORDERED_KINDS, Position, PurgeEntry, PurgeKind, WireError
from cache_policies.tags import category_tag, product_tag, slug_tag

positions = st.builds(Position, st.integers(0, 10**9 - 1), st.integers(0, 10**18 - 1))
names = st.text(min_size=1, max_size=40)
tags = st.one_of(
    st.builds(product_tag, st.just("eu-eur"), names),
    st.builds(category_tag, st.just("jp-jpy"), names),
    st.builds(slug_tag, st.just("us-usd"), names),
    st.just("*"),
)
purges = st.builds(
    PurgeEntry,
    positions,
    st.uuids().map(str),
    st.sampled_from(ORDERED_KINDS),
    st.lists(tags, min_size=1, max_size=20).map(tuple),
)
epochs = st.builds(
    lambda epoch, fork_cv, entry_id: PurgeEntry(Position(epoch, fork_cv + 1), entry_id, PurgeKind.EPOCH, (), fork_cv),
    st.integers(2, 10**9 - 1),
    st.integers(0, 10**18 - 2),
    st.uuids().map(str),
)
entries = purges | epochs
answers = st.builds(
    Answer,
    st.lists(entries, max_size=5).map(tuple),
    positions,
    st.uuids().map(str),
    st.none() | st.tuples(positions, st.uuids().map(str)),
    st.booleans(),
    st.none() | st.tuples(positions, st.uuids().map(str)),
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


@given(purges, st.integers() | st.none() | st.text(max_size=3) | st.booleans() | st.just([1]))
def test_an_unknown_version_is_refused(entry, version):
    if version == 1 and version is not True:
        return
    with pytest.raises(WireError, match="version"):
        PurgeEntry.from_wire(entry.to_wire() | {"v": version})


@given(
    purges, st.sampled_from(["position", "id", "kind", "tags"]), st.none() | st.booleans() | st.just([]) | st.just("")
)
def test_a_broken_purge_entry_is_refused(entry, field, value):
    with pytest.raises(WireError):
        PurgeEntry.from_wire(entry.to_wire() | {field: value})


@given(epochs, purges)
def test_an_epoch_goes_by_a_version_of_its_own(epoch, purge):
    """Who knows purges alone refuses it, instead of taking it for one that purges nothing."""
    assert (epoch.to_wire()["v"], purge.to_wire()["v"]) == (2, 1)
    for broken in ({"v": 1}, {"kind": "hard"}, {"tags": ["*"]}, {"tags": None}):
        with pytest.raises(WireError):
            PurgeEntry.from_wire(epoch.to_wire() | broken)
    with pytest.raises(WireError, match="epoch"):
        PurgeEntry.from_wire(purge.to_wire() | {"v": 2})
    with pytest.raises(WireError, match="kind"):
        PurgeEntry.from_wire(purge.to_wire() | {"kind": "epoch"})


@given(epochs, st.integers() | st.none() | st.floats() | st.booleans() | st.just([]))
def test_an_epoch_begins_one_past_what_it_inherited(entry, fork_cv):
    if type(fork_cv) is int and fork_cv == entry.fork_cv:
        return
    with pytest.raises(WireError, match="inherited"):
        PurgeEntry.from_wire(entry.to_wire() | {"fork_cv": fork_cv})


def test_nobody_orders_an_epoch():
    wish = json.loads(PurgeWish("eu", PurgeKind.HARD, ("a",)).to_json())
    with pytest.raises(WireError, match="kind"):
        PurgeWish.from_json(json.dumps(wish | {"kind": "epoch"}).encode())


def test_an_answer_of_an_origin_that_knows_no_rewinding_is_understood():
    line = Answer((), Position(1, 5), "id")
    value = json.loads(line.to_json())
    del value["rewind"]
    assert Answer.from_json(json.dumps(value).encode()) == line


@pytest.mark.parametrize("name", ["start", "rewind"])
@pytest.mark.parametrize("place", ["1.5", ["1.5"], ["1.5", 7], ["1.x", "id"], [1.5, "id"], {}, True])
def test_a_place_in_an_answer_is_a_position_and_an_id(name, place):
    value = json.loads(Answer((), Position(1, 5), "id").to_json())
    with pytest.raises(WireError):
        Answer.from_json(json.dumps(value | {name: place}).encode())


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
