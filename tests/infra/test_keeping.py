"""Starting the databases of a shop: what is refused, and who is taken where the primary cannot be had."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, cast

import asyncpg
import pytest

from infra.failover.keeping import KeptDatabases
from infra.failover.records import OURS, record, recorded
from infra.failover.steps import Record
from infra.local.errors import LocalError
from infra.local.external import ExternalDatabases
from infra.local.state import OUR_OWN, State
from infra.local.voice import Voice


def of_others(standbys: str) -> ExternalDatabases:
    url = "postgresql+asyncpg://nearshelf@{}/shop"
    found = ExternalDatabases.of(
        {
            "DATABASE_URL": url.format("a"),
            "REPLICA_URLS": url.format("b"),
            "ADMIN_DATABASE_URL": url.format("a"),
            "NEARSHELF_STANDBYS": standbys,
        }
    )
    assert found is not None
    return found


def kept(
    state: State, servers: Any, external: ExternalDatabases | None, failover: Literal["auto", "hand"] | None
) -> KeptDatabases:
    return KeptDatabases(servers, external, state, Voice(quiet=True), failover=failover, moved=lambda: None)


@pytest.mark.parametrize(
    ("standbys", "failover", "is_refused"),
    [
        ("", "auto", True),
        (" , ", "auto", True),
        ("standby1", "auto", False),
        ("", "hand", False),
        ("", None, False),
    ],
)
def test_of_others_nobody_is_promoted_unasked_unless_it_is_told_who_may_be(tmp_path, standbys, failover, is_refused):
    external = of_others(standbys)
    if not is_refused:
        kept(State(tmp_path), SimpleNamespace(), external, failover)
        return
    with pytest.raises(LocalError, match="--failover auto needs NEARSHELF_STANDBYS") as caught:
        kept(State(tmp_path), SimpleNamespace(), external, failover)
    assert "\n" not in str(caught.value)


def test_our_own_standby_has_a_name(tmp_path):
    kept(State(tmp_path), SimpleNamespace(), None, "auto")


class Servers:
    """Two, of which only the standby can be started."""

    def __init__(self, folder: Path, fault: Exception) -> None:
        self.fault = fault
        self.primary_name = "pg-1"
        self.nodes = {}
        for name in ("pg-1", "pg-2"):
            (folder / name).mkdir()
            self.nodes[name] = SimpleNamespace(name=name, data=folder / name, is_standby=name == "pg-2", child=None)

    @property
    def standby(self) -> Any:
        return self.nodes["pg-2"]

    def addresses(self) -> dict[str, Any]:
        return {name: {} for name in self.nodes}

    async def start_primary(self) -> None:
        if self.primary_name == "pg-1":
            raise self.fault
        raise EnoughSeen


class EnoughSeen(Exception):
    """The other one is being started."""


FAULTS = [
    pytest.param(LocalError("pg-1 ended while it was starting"), id="it does not start"),
    pytest.param(asyncpg.DataCorruptedError("invalid page in block 0"), id="it starts and cannot be read"),
    pytest.param(ConnectionResetError("connection reset by peer"), id="it starts and ends"),
]


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_primary_of_ours_that_cannot_be_started_gives_way(tmp_path, fault):
    with State(tmp_path / "state") as state:
        record(state.folder / OURS, Record("pg-1", "pg-2", 1))
        both = kept(state, Servers(tmp_path, fault), None, None)
        with pytest.raises(EnoughSeen):
            await both.start_primary()
        assert recorded(state.folder / OURS) == Record("pg-2", None, 2)


@pytest.mark.parametrize("fault", FAULTS)
async def test_where_the_standby_may_lack_changes_that_is_said_with_why(tmp_path, fault):
    with State(tmp_path / "state") as state:
        record(state.folder / OURS, Record("pg-1", None, 1))
        both = kept(state, Servers(tmp_path, fault), None, None)
        with pytest.raises(LocalError, match=f"{fault}\n  pg-2 may lack changes .*--accept-loss"):
            await both.start_primary()


async def test_a_folder_of_others_databases_is_not_used_for_our_own(tmp_path):
    with State(tmp_path / "state") as state:
        state.belongs_to("7/shop")
        both = kept(state, Servers(tmp_path, LocalError("never asked")), None, None)
        with pytest.raises(LocalError, match="other databases, by DATABASE_URL"):
            await both.start_primary()


async def test_nor_one_of_our_own_for_others(tmp_path, monkeypatch):
    async def find_primary(*_: object, **__: object) -> Record:
        return Record("a:5432", None, 0)

    async def identity_of(*_: object) -> str:
        return "7/shop"

    monkeypatch.setattr("infra.failover.external.ExternalDriver.find_primary", find_primary)
    monkeypatch.setattr("infra.failover.external.ExternalDriver.identity_of", identity_of)
    with State(tmp_path / "state") as state:
        state.belongs_to(OUR_OWN)
        both = kept(state, cast(Any, SimpleNamespace()), of_others("standby1"), None)
        with pytest.raises(LocalError, match="databases of its own"):
            await both.start_primary()
