"""What only an old primary had: told by the ids of its rows, wherever the histories have gone since."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infra.local import lost_changes
from infra.local.lost_changes import lost_rows

Row = tuple[int, int, str]
"""Epoch, cv, id."""


class Server:
    """The rows of its purge log and of its audit list."""

    def __init__(self, log: list[Row], audit: list[tuple[int, str]] | None = None) -> None:
        self.log = sorted(log)
        self.audit = audit or []

    async def fetchval(self, query: str) -> int:
        return self.log[-1][0] if "events.clock" in query else max((number for number, _ in self.audit), default=0)

    async def fetch(self, query: str, *values: Any) -> list[Any]:
        match query:
            case lost_changes._PURGES:
                return self.log[::-1]
            case lost_changes._PURGES_SEEN:
                return [(row[2],) for row in self.log]
            case lost_changes._LOST_PURGES:
                return [(json.dumps({"id": row[2]}),) for row in self.log if row[:2] > values]
            case lost_changes._LATEST_AUDIT:
                return [{"row": row} for number, row in self.audit if number > values[0]]
            case lost_changes._AUDIT_SEEN:
                return [(row,) for number, row in self.audit if number > values[0]]
        raise AssertionError(query)


def history(epoch: int, first: int, last: int, on: str) -> list[Row]:
    """What was committed on that server."""
    return [(epoch, cv, f"{on}-{epoch}.{cv}") for cv in range(first, last + 1)]


SHARED = history(1, 1, 40, "a")


@pytest.mark.parametrize(
    ("old", "new", "lost"),
    [
        pytest.param(SHARED, SHARED + history(2, 41, 60, "b"), [], id="nothing"),
        pytest.param(
            SHARED + history(1, 41, 42, "a"), SHARED + history(2, 41, 60, "b"), ["a-1.41", "a-1.42"], id="its last ones"
        ),
        pytest.param(
            SHARED + history(2, 41, 42, "b"),
            SHARED + history(1, 41, 50, "a") + history(3, 51, 60, "a"),
            ["b-2.41", "b-2.42"],
            id="one that was given up went on in positions that the other has used as well",
        ),
        pytest.param(
            SHARED + history(1, 41, 41, "a"),
            history(1, 40, 40, "a") + history(2, 41, 60, "b"),
            ["a-1.41"],
            id="the new one has forgotten most of what both had",
        ),
        pytest.param(
            history(1, 39, 41, "a"),
            history(3, 900, 950, "b"),
            ["a-1.39", "a-1.40", "a-1.41"],
            id="the new one has forgotten all of it: rather too much than nothing",
        ),
    ],
)
async def test_what_only_the_old_one_has(old, new, lost):
    epoch, rows = await lost_rows(Server(old), Server(new))
    assert epoch == max(new)[0]
    assert rows == [{"table": "events.purge_log", "id": each} for each in lost]


async def test_who_changed_what_is_there_as_well():
    same, gone = (7, json.dumps({"id": 7, "who": "eva"})), (8, json.dumps({"id": 8, "who": "eva"}))
    other = (8, json.dumps({"id": 8, "who": "ole"}))
    old, new = Server(SHARED, [same, gone]), Server(SHARED + history(2, 41, 41, "b"), [same, other])
    assert await lost_rows(old, new) == (2, [{"table": "accounts.audit", "id": 8, "who": "eva"}])
