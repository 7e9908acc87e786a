"""Servers of others: which of them is the primary, and when that is not for us to say."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from infra.failover.external import ExternalDriver
from infra.failover.records import OF_OTHERS, record, recorded
from infra.failover.steps import Probe, Record, Seen
from infra.local.errors import LocalError
from infra.local.external import ExternalDatabases
from infra.local.state import State

URL = "postgresql+asyncpg://{}@/shop?host=a:5432&host=b:5433&target_session_attrs={}"
A, B = "a:5432", "b:5433"


def primary(node: str, epoch: int, timeline: int = 1) -> Seen:
    return Seen(node, 0.0, in_recovery=False, timeline=timeline, epoch=epoch)


def standby(node: str, epoch: int = 1) -> Seen:
    return Seen(node, 0.0, in_recovery=True, epoch=epoch)


def found(tmp_path: Path, seen: dict[str, Seen], known: Record | None, *, accept_loss: bool = False) -> Record:
    """Who is found to be the primary; who is not in `seen` does not answer."""
    state = State(tmp_path)
    if known is not None:
        record(state.folder / OF_OTHERS, known)
    driver = ExternalDriver({A: {}, B: {}} | {node: {} for node in seen}, state, "me", moved=lambda _: None)

    async def probe(step: Probe) -> Seen:
        if step.node not in seen:
            raise ConnectionRefusedError("connection refused")
        return seen[step.node]

    async def epoch_of(node: str) -> int:
        return seen[node].epoch

    driver._sql.probe = probe  # type: ignore[method-assign]
    driver._sql.epoch_of = epoch_of  # type: ignore[method-assign, assignment]
    return asyncio.run(driver.find_primary(accept_loss=accept_loss))


@pytest.mark.parametrize(
    ("seen", "known", "chosen"),
    [
        pytest.param({A: primary(A, 1), B: standby(B)}, None, Record(A, None, 0), id="the only one"),
        pytest.param({A: primary(A, 3)}, Record(A, B, 3), Record(A, None, 3), id="as it was"),
        pytest.param(
            {A: primary(A, 1), B: primary(B, 2)}, Record(B, None, 2), Record(B, None, 2), id="not the old one"
        ),
        pytest.param({B: primary(B, 1)}, Record(B, None, 2), Record(B, None, 2), id="promoted, and not opened yet"),
        pytest.param({B: primary(B, 2)}, Record(A, None, 2), Record(B, None, 2), id="promoted by somebody else"),
        pytest.param(
            {A: primary(A, 1), B: primary(B, 2)}, Record(A, None, 1), Record(B, None, 1), id="and the old one is back"
        ),
        pytest.param(
            {A: primary(A, 1), B: primary(B, 1, timeline=2)},
            Record(A, None, 1),
            Record(B, None, 1),
            id="not opened yet",
        ),
        pytest.param(
            {A: primary(A, 1), B: standby(B)}, Record(B, None, 2), Record(A, None, 2), id="recorded, and not promoted"
        ),
    ],
)
def test_who_is_the_primary(tmp_path, seen, known, chosen):
    assert found(tmp_path, seen, known) == chosen


@pytest.mark.parametrize(
    ("seen", "known", "why"),
    [
        pytest.param({A: standby(A)}, None, "none is a primary that answers", id="none"),
        pytest.param(
            {B: standby(B)},
            Record(B, None, 2),
            r"b:5433 was to be it: .* `SELECT pg_promote\(\)`",
            id="not promoted yet",
        ),
        pytest.param({A: primary(A, 1), B: primary(B, 1)}, None, "more than one is a primary", id="two"),
        pytest.param(
            {A: primary(A, 2), B: primary(B, 1, timeline=2)}, Record(A, None, 2), "more than one", id="neither is newer"
        ),
        pytest.param(
            {A: primary(A, 1), B: standby(B, epoch=2)}, Record(B, None, 2), "a:5432 may lack", id="of somebody else"
        ),
        pytest.param({A: primary(A, 1)}, Record("c:1", None, 2), "may lack changes that c:1", id="of one unknown here"),
        pytest.param({A: primary(A, 1)}, Record(B, None, 2), "a:5432 may lack changes that b:5433", id="the old one"),
    ],
)
def test_what_is_not_clear_is_said_in_one_line(tmp_path, seen, known, why):
    with pytest.raises(LocalError, match=why) as caught:
        found(tmp_path, seen, known)
    assert "\n" not in str(caught.value)


def test_nobody_is_told_to_promote_a_standby_of_which_there_are_primaries(tmp_path):
    servers = ["a:1", "b:1", "c:1"]
    seen = dict(zip(servers, [primary("a:1", 2), primary("b:1", 1, timeline=2), standby("c:1")], strict=True))
    with pytest.raises(LocalError, match="more than one is a primary") as caught:
        found(tmp_path, seen, Record("c:1", None, 3))
    assert "pg_promote" not in str(caught.value)


def test_whoever_accepts_the_loss_goes_on_with_the_old_one_in_an_epoch_of_its_own(tmp_path):
    known = Record(B, None, 2)
    # Above 2, which it has not heard of: SqlServers.open.
    assert found(tmp_path, {A: primary(A, 1)}, known, accept_loss=True) == Record(A, None, 2)


@pytest.mark.parametrize(
    ("env", "why"),
    [
        ({"DATABASE_URL": "postgresql+asyncpg://a@b/c"}, "needs ADMIN_DATABASE_URL"),
        ({"REPLICA_URLS": "postgresql+asyncpg://a@b/c"}, "DATABASE_URL is not"),
        ({"DATABASE_URL": "mysql://a", "ADMIN_DATABASE_URL": "postgresql+asyncpg://a@b/c"}, "DATABASE_URL must start"),
        ({"DATABASE_URL": "postgresql+asyncpg://a@b:x/c"}, "DATABASE_URL"),
        ({"DATABASE_URL": "postgresql+asyncpg://a@/c?host=b:1&host=c"}, "DATABASE_URL"),
    ],
)
def test_addresses_that_cannot_be_used_are_refused_in_one_line(env, why):
    if "needs" not in why and "DATABASE_URL" in env:
        env = {"ADMIN_DATABASE_URL": "postgresql+asyncpg://a@b/c", **env}
    with pytest.raises(LocalError, match=why) as caught:
        ExternalDatabases.of(env)
    assert "\n" not in str(caught.value)


def test_without_addresses_the_servers_are_our_own():
    assert ExternalDatabases.of({}) is None


def test_every_server_of_others_is_reached_as_their_administrator():
    found = ExternalDatabases.of(
        {
            "DATABASE_URL": URL.format("nearshelf", "primary"),
            "REPLICA_URLS": "postgresql+asyncpg://nearshelf@c:6000/shop, " + URL.format("nearshelf", "standby"),
            "ADMIN_DATABASE_URL": "postgresql+asyncpg://owner:secret@a:5432/shop",
        }
    )
    assert found is not None
    assert list(found.addresses()) == ["a:5432", "b:5433", "c:6000"]
    for address in found.addresses().values():
        assert (address["user"], address["password"], address["database"]) == ("owner", "secret", "shop")


@pytest.mark.parametrize(
    "text",
    [
        '{"primary": "pg-1", "promotable": null, "epoch": "3"}',
        '{"primary": 1, "promotable": null, "epoch": 3}',
        '{"primary": "pg-1", "promotable": true, "epoch": 3}',
        '{"primary": "pg-1", "promotable": null, "epoch": true}',
    ],
)
def test_a_record_that_was_mended_wrongly_by_hand_is_refused(tmp_path, text):
    path = tmp_path / OF_OTHERS
    path.write_text(text)
    with pytest.raises(LocalError, match=r'failover-others.json says .* like {"primary": "pg-1", "promotable": null'):
        recorded(path)
