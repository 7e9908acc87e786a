"""Data folders: what cannot be finished is never taken for data, and costs none."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from infra.local import postgres_data as module
from infra.local.binaries import Binaries
from infra.local.errors import LocalError
from infra.local.postgres_data import DataFolders
from infra.local.postgres_data import _put_in_place as put_in_place


class Folders(DataFolders):
    """With tools that do what a test wants."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._sockets = home
        self._binaries = Binaries(home, home, None)
        self.fails = False
        self.ran: list[str] = []

    async def _tool(self, name: str, *arguments: str) -> None:
        self.ran.append(name)
        if self.fails:
            raise LocalError(f"{name} failed")
        if name == "pg_basebackup":
            draft = Path(arguments[1])
            draft.mkdir()
            (draft / "PG_VERSION").write_text("copied")


class Connection:
    async def execute(self, statement: str, *values: Any) -> None:
        """The slot is gone."""


@pytest.fixture
def folders(tmp_path, monkeypatch) -> Folders:
    @contextlib.asynccontextmanager
    async def session(*_: object) -> AsyncIterator[Connection]:
        yield Connection()

    monkeypatch.setattr(module, "session", session)
    return Folders(tmp_path)


@pytest.fixture
def data(tmp_path) -> Path:
    data = tmp_path / "pg-1"
    (data / "pg_replslot").mkdir(parents=True)
    (data / "PG_VERSION").write_text("old")
    return data


async def test_data_is_replaced_by_a_whole_copy_and_by_nothing_less(folders, data):
    folders.fails = True
    with pytest.raises(LocalError):
        await folders.copy(data, 5432)
    assert (data / "PG_VERSION").read_text() == "old"
    folders.fails = False
    await folders.copy(data, 5432)
    assert (data / "PG_VERSION").read_text() == "copied"
    assert (data / "standby.signal").exists()
    assert [path.name for path in data.parent.iterdir()] == ["pg-1"]


async def test_what_a_rewind_left_half_done_is_copied_and_not_rewound_again(folders, data):
    folders.fails = True
    assert not await folders.rewind(data, 5432)
    folders.fails = False
    assert not folders.can_rewind(data)
    assert not await folders.rewind(data, 5432)
    assert folders.ran == ["pg_rewind"]
    await folders.copy(data, 5432)
    assert folders.can_rewind(data)


async def test_a_rewound_server_is_a_standby_without_the_slots_of_its_followers(folders, data):
    (data / "pg_replslot" / "standby1").mkdir()
    assert await folders.rewind(data, 5432)
    assert (data / "standby.signal").exists()
    assert not list((data / "pg_replslot").iterdir())
    assert folders.can_rewind(data)


def test_data_that_was_put_aside_when_everything_ended_is_put_back(folders, data):
    data.rename(data.with_name("pg-1.former"))
    folders.mend(data)
    assert (data / "PG_VERSION").read_text() == "old"


async def test_a_copy_that_was_whole_when_everything_ended_is_not_taken_for_half_a_rewind(folders, data, monkeypatch):
    """Else what only this server has, once it has been the primary again, would never be written down."""
    folders.fails = True
    assert not await folders.rewind(data, 5432)
    folders.fails = False

    def put_in_place_and_end(*folders: Path) -> None:
        put_in_place(*folders)
        raise InterruptedError

    monkeypatch.setattr(module, "_put_in_place", put_in_place_and_end)
    with pytest.raises(InterruptedError):
        await folders.copy(data, 5432)
    assert (data / "PG_VERSION").read_text() == "copied"
    assert not folders.can_rewind(data)
    folders.mend(data)
    assert folders.can_rewind(data)


async def test_a_copy_is_not_taken_for_half_a_rewind_from_when_what_was_there_before_goes(folders, data, monkeypatch):
    folders.fails = True
    assert not await folders.rewind(data, 5432)
    folders.fails = False
    could = []
    rmtree = shutil.rmtree

    def seen(path: Path) -> None:
        could.append(folders.can_rewind(data))
        rmtree(path)

    monkeypatch.setattr(shutil, "rmtree", seen)
    await folders.copy(data, 5432)
    assert could == [True]


async def test_half_a_rewind_is_still_one_in_the_next_run(folders, data):
    folders.fails = True
    assert not await folders.rewind(data, 5432)
    data.rename(data.with_name("pg-1.former"))
    folders.mend(data)
    assert not folders.can_rewind(data)
