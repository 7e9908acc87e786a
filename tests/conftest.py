"""Fixtures for tests that need real servers; everything else in the tests needs none of this.

`postgres`, `valkey` and `stack` are made once a session (of each process, where tests run in several); a test that asks
for one is marked `database` by itself, and for a whole shop `alone`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.servers import DatabaseUrls, EmbeddedServers, Stack, scratch_folder, why_not_here

NEED_SERVERS = {"postgres", "database", "valkey", "stack", "faults"}
NEED_A_SHOP = {"stack", "faults"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if NEED_SERVERS & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.database)
        if NEED_A_SHOP & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.alone)


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """A folder for the session's servers."""
    with scratch_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def _servers_exist() -> None:
    reason = why_not_here()
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture(scope="session")
def postgres(scratch: Path, _servers_exist: None) -> Iterator[EmbeddedServers]:
    """An embedded primary with its standby and the origin's tables: `postgres.urls()`, `postgres.pause_replay()`.

    The database `nearshelf` is the template of `database`: leave it without connections.
    """
    with EmbeddedServers(scratch / "postgres") as servers:
        servers.start_postgres()
        yield servers


@pytest.fixture
def database(postgres: EmbeddedServers) -> Iterator[DatabaseUrls]:
    """A database of the test's own, with the origin's tables, on the primary and the standby."""
    urls = postgres.copy()
    yield urls
    postgres.drop(urls.name)


@pytest.fixture(scope="session")
def valkey(scratch: Path, _servers_exist: None) -> Iterator[EmbeddedServers]:
    """An embedded Valkey: `valkey.redis_url`."""
    with EmbeddedServers(scratch / "valkey") as servers:
        servers.start_valkey()
        yield servers


@pytest.fixture(scope="session")
def stack(scratch: Path, _servers_exist: None) -> Iterator[Stack]:
    """A whole shop, run by `nearshelf up` with 300 products. Tests that break it use `faults`, which mends it."""
    folder = scratch / "stack"
    folder.mkdir(mode=0o711)
    shop = Stack(folder)
    shop.start()
    yield shop
    assert shop.stop() == 0, shop.output.read_text()[-4000:]


@pytest.fixture
def faults(stack: Stack) -> Iterator[Stack]:
    """The running shop for a test that breaks it: afterwards every fault is ended."""
    yield stack
    stack.ask("heal")
