"""A release that renders otherwise takes a position with `*`, once, whoever starts first (rule 1)."""

from __future__ import annotations

import asyncio
import shutil
from importlib.metadata import version as installed
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from cache_policies.markets import PACKAGED_POLICIES, load_markets
from cache_policies.positions import Position
from origin import release
from origin.app import make_app
from origin.db import Database
from origin.release import CONTRACTS, ORIGIN, note_release, noted_release, release_digest
from tests.support.origin import settings_of, until

MARKETS = load_markets()


@pytest.fixture
async def shop_database(database):
    opened = Database(database.primary, markets=MARKETS)
    yield opened
    await opened.close()


async def purges(database: Database) -> list[tuple[Position, str, list[str]]]:
    async with database.log.connect() as connection:
        rows = (await connection.execute(text("SELECT * FROM events.purge_log ORDER BY epoch, cv"))).all()
    return [(Position(row.epoch, row.cv), row.kind, row.tags) for row in rows]


async def test_a_release_that_renders_otherwise_purges_everything_once(shop_database):
    before = await purges(shop_database)
    first = await note_release(shop_database, "a" * 64)
    assert first == Position(1, before[-1][0].cv + 1)
    assert await note_release(shop_database, "a" * 64) is None
    assert await purges(shop_database) == [*before, (first, "hard", ["*"])]
    second = await note_release(shop_database, "b" * 64)
    assert await purges(shop_database) == [*before, (first, "hard", ["*"]), (second, "hard", ["*"])]


async def test_workers_that_start_together_take_one_position(shop_database, database):
    """Both have seen the old digest before either has the lock: the second look is what keeps it at one."""
    other = Database(database.primary, markets=MARKETS)
    before = len(await purges(shop_database))
    try:
        async with shop_database.writes.begin() as held:
            await held.execute(text("SELECT FROM events.release FOR UPDATE"))
            starting = [asyncio.ensure_future(note_release(each, "a" * 64)) for each in (shop_database, other)]
            waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
            async with asyncio.timeout(10):
                while (await held.execute(waiting)).scalar_one() < 2:
                    await asyncio.sleep(0.01)
            assert not any(task.done() for task in starting)
        positions = await asyncio.gather(*starting)
    finally:
        await other.close()
    assert [position for position in positions if position is not None] == [Position(1, before + 1)]
    assert len(await purges(shop_database)) == before + 1


async def test_a_starting_worker_notes_its_release_before_it_serves(shop_database, database):
    settings = settings_of(database)
    before = len(await purges(shop_database))
    for _ in range(2):  # the second is a restart of the same release
        app = make_app(settings, MARKETS)
        async with app.router.lifespan_context(app):
            assert len(await purges(shop_database)) == before + 1
    assert await note_release(shop_database, release_digest(settings.policies)) is None


async def test_the_digest_does_not_change_without_a_position(shop_database):
    with pytest.raises(SQLAlchemyError, match=r"events\.release.*without a purge-log row"):
        async with shop_database.writes.begin() as connection:
            await connection.execute(text("UPDATE events.release SET digest = 'x'"))


async def test_a_primary_that_does_not_answer_delays_the_position_and_not_the_start(shop_database, monkeypatch):
    monkeypatch.setattr(release, "RETRY_S", 0.01)
    original, refused = release.note_release, 0
    before = len(await purges(shop_database))
    done = asyncio.Event()

    async def sometimes(database: Database, digest: str) -> Position | None:
        nonlocal refused
        if refused < 2:
            refused += 1
            raise ConnectionRefusedError("no primary")
        position = await original(database, digest)
        done.set()
        return position

    monkeypatch.setattr(release, "note_release", sometimes)
    async with noted_release(shop_database, "a" * 64):
        assert refused == 1
        assert len(await purges(shop_database)) == before
        await until(done.is_set)
    assert refused == 2
    assert len(await purges(shop_database)) == before + 1


@pytest.fixture
def tree(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A copy of what renders: policies, origin, contracts."""
    folders = (tmp_path / "policies", tmp_path / "origin", tmp_path / "contracts")
    for source, copy in zip((PACKAGED_POLICIES, ORIGIN, CONTRACTS), folders, strict=True):
        shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return folders


def test_the_same_files_elsewhere_are_the_same_release(tree):
    assert release_digest(*tree) == release_digest(PACKAGED_POLICIES)


@pytest.mark.parametrize(
    "file",
    [
        "origin/templates/product.html",
        "origin/static/site.css",
        "origin/catalog/pages.py",
        "origin/money.py",
        "contracts/tags.py",
        "policies/markets.yaml",
    ],
)
def test_what_renders_changes_the_digest(tree, tmp_path, file):
    before = release_digest(*tree)
    changed = tmp_path / file
    changed.write_bytes(changed.read_bytes() + b"\n")
    assert release_digest(*tree) != before


def test_another_rounding_of_prices_is_another_release(tree):
    """Every converted price in the currency may change with it, and no row says so."""
    before = release_digest(*tree)
    markets = tree[0] / "markets.yaml"
    markets.write_text(f"{markets.read_text()}\ncurrencies:\n  EUR: {{ending: .99}}\n")
    assert release_digest(*tree) != before


@pytest.mark.parametrize("library", ["babel", "iso4217", "jinja2"])
def test_another_version_of_a_library_changes_the_digest(monkeypatch, library):
    before = release_digest(PACKAGED_POLICIES)
    monkeypatch.setattr(release, "version", lambda name: "0.0.1" if name == library else installed(name))
    assert release_digest(PACKAGED_POLICIES) != before


@pytest.mark.parametrize("file", ["origin/migrations/env.py", "policies/prices.yaml"])
def test_what_does_not_render_leaves_the_digest(tree, tmp_path, file):
    before = release_digest(*tree)
    changed = tmp_path / file
    changed.write_bytes(changed.read_bytes() + b"\n")
    assert release_digest(*tree) == before
