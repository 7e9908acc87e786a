"""Every price that changed is read at every edge, and held against what the primary says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import SimpleNamespace

import pytest

from loadtests import people
from loadtests.failovers import looking
from loadtests.failovers.looking import LINES, TIMES, Reading, judged, readings
from loadtests.http1 import Answer, NoAnswer
from loadtests.oracle import PriceKey

KEYS = [PriceKey("eu-eur", f"LAMP-{number}") for number in range(LINES + 1)]
LAMP = KEYS[0]
EDGES = {"eu": "http://eu", "us": "http://us"}


def showing(amount: int = 1200) -> Answer:
    return Answer(200, {}, json.dumps({"sku": "LAMP-0", "amount_minor": amount}).encode(), 1.0, 1.1)


REFUSED = Answer(503, {"retry-after": "1"}, b"", 1.0, 1.1)


class Edge:
    """Shows each price at 12.00, but for the answers that are waiting for one."""

    def __init__(self) -> None:
        self.waiting: dict[PriceKey, list[Answer | NoAnswer]] = {}
        self.asked: list[str] = []

    def __call__(self, url: str, timeout_s: float) -> Edge:
        return self

    async def __aenter__(self) -> Edge:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def request(self, method: str, target: str, fields: Mapping[str, str]) -> Answer:
        self.asked.append(target)
        waiting = next((self.waiting[key] for key in self.waiting if people.price(*key).target == target), [])
        answer = waiting.pop(0) if waiting else showing()
        if isinstance(answer, NoAnswer):
            raise answer
        return answer


@pytest.fixture
def edge(monkeypatch: pytest.MonkeyPatch) -> Edge:
    told = Edge()
    monkeypatch.setattr(looking, "Connection", told)
    monkeypatch.setattr(looking, "AGAIN_S", 0.0)
    return told


async def test_each_price_is_read_at_each_edge_more_than_once(edge):
    found = await readings(EDGES, KEYS, 60.0)
    assert sorted(found) == sorted(Reading(name, key, 1200) for name in EDGES for key in KEYS for _ in range(TIMES))


@pytest.mark.parametrize(
    "instead",
    [
        REFUSED,
        NoAnswer("connection reset"),
        Answer(200, {}, b"{}", 1.0, 1.1),
        Answer(200, {}, b"12", 1.0, 1.1),
        Answer(200, {}, b"<html>", 1.0, 1.1),
    ],
)
async def test_what_an_edge_does_not_show_is_asked_for_again(edge, instead):
    edge.waiting[LAMP] = [instead] * 3
    found = await readings({"eu": "http://eu"}, [LAMP], 60.0)
    assert found == [Reading("eu", LAMP, 1200)] * TIMES
    assert len(edge.asked) == 3 + TIMES


async def test_a_price_that_is_never_shown_has_not_been_read(edge, monkeypatch):
    edge.waiting[LAMP] = [REFUSED] * 100
    times = iter(range(10))
    monkeypatch.setattr(looking, "TIMES", 1)
    monkeypatch.setattr(looking, "time", SimpleNamespace(monotonic=lambda: float(next(times))))
    found = await readings({"eu": "http://eu"}, [LAMP], 5.0)
    assert found == [Reading("eu", LAMP, None, "503")]
    look = judged(found, [{LAMP: 1200}], set())
    assert (look.asked, look.read, look.unread) == (1, 0, ["eu: eu-eur LAMP-0: 503"])


TRUE, LOST, REPLACED, LATE = 1200, 1300, 1100, 1400


@pytest.mark.parametrize(
    ("amount", "ghosts", "old"),
    [
        pytest.param(TRUE, 0, 0, id="what the primary has"),
        pytest.param(LOST, 1, 0, id="a change that was never acknowledged, or may be lost"),
        pytest.param(REPLACED, 0, 1, id="an acknowledged one that another has replaced"),
        pytest.param(LATE, 0, 0, id="one that came while prices were read"),
    ],
)
def test_whatever_is_shown_and_is_not_true_is_wrong(amount, ghosts, old):
    doubtful = {(LAMP, LOST), (LAMP, LATE)}
    look = judged([Reading("eu", LAMP, amount)], [{LAMP: TRUE}, {LAMP: LATE}], doubtful)
    assert (len(look.ghosts), len(look.old), look.unread, look.read) == (ghosts, old, [], 1)


def test_it_is_told_where_a_wrong_price_was_shown():
    look = judged([Reading("eu", LAMP, REPLACED)], [{LAMP: TRUE}], set())
    assert look.old == ["eu: eu-eur LAMP-0 shown at 1100, and is 1200"]
