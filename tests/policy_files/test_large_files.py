"""What somebody writes to keep a reader busy costs it in proportion, not in squares."""

from __future__ import annotations

from collections.abc import Iterator

from cache_policies.kinds import Kind, listed
from cache_policies.markets import load_markets
from cache_policies.reading import Fault, Place, Value, parse_document
from edge.policy_checks import check_all
from edge.policy_files import read_routes
from edge.policy_remarks import Noted

PLACE = Place("a.yaml", 1, 1)


class Word(str):
    """Text that counts what it is compared with."""

    __slots__ = ()
    __hash__ = str.__hash__
    compared = 0

    def __eq__(self, other: object) -> bool:
        Word.compared += 1
        return str.__eq__(self, other)


class Faults(list[Fault]):
    """A list that counts how often it is read from its beginning."""

    read = 0

    def __iter__(self) -> Iterator[Fault]:
        self.read += 1
        return super().__iter__()


def test_a_list_of_words_is_not_compared_word_by_word():
    Word.compared = 0
    faults: list[Fault] = []
    words = [Value(PLACE, f"query[{number}]", Word(f"w{number % 400}"), faults) for number in range(800)]
    kind = listed(Kind(lambda value: value.written, {}), "words")  # type: ignore[arg-type, return-value]
    assert len(kind.read(Value(PLACE, "query", words, faults))) == 400
    assert [fault.code for fault in faults] == ["NS112"] * 400
    assert Word.compared <= 800


def test_faults_are_not_read_anew_for_every_route():
    faults = Faults()
    text = "routes:\n" + "".join(f"  r{n}:\n    path: /r{n}\n    fresh: soon\n    kept: 1h\n" for n in range(50))
    document = parse_document(text, "a.yaml", faults)
    assert document is not None
    markets = load_markets()
    check_all(read_routes(document, markets), markets, None, faults)
    assert len(faults) > 100
    assert faults.read <= 2


def test_where_a_fault_was_noted():
    noted = Noted(Fault(PLACE, field, "", "NS101") for field in ("routes.ab.fresh", "routes.b.vary[1]", "routes.c"))
    for path in ("routes", "routes.ab", "routes.ab.fresh", "routes.b", "routes.b.vary", "routes.b.vary[1]", "routes.c"):
        assert noted.at(path), path
    for path in ("routes.a", "routes.ab.fres", "routes.b.var", "routes.b.vary[11]", "routes.c.path", "defaults", "z"):
        assert not noted.at(path), path
