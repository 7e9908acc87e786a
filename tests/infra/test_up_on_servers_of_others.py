"""`nearshelf up` on databases and a Valkey that others run: it starts none, and hands the primary over when told to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.servers import EmbeddedServers, Stack

pytestmark = [
    pytest.mark.database,
    pytest.mark.alone,
    # Two servers, a shop, two failovers: half a minute.
    pytest.mark.long,
    pytest.mark.timeout(300),
]


@pytest.fixture
def others(scratch: Path, _servers_exist: None) -> Iterator[EmbeddedServers]:
    with EmbeddedServers(scratch / "others") as servers:
        servers.run(servers.servers.start_primary())
        servers.run(servers.servers.start_standby())
        servers.start_valkey()
        yield servers


@pytest.fixture
def shop(others: EmbeddedServers, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    servers = others.servers
    monkeypatch.setenv("DATABASE_URL", servers.database_url)
    monkeypatch.setenv("REPLICA_URLS", servers.replica_url)
    monkeypatch.setenv("ADMIN_DATABASE_URL", servers.admin_database_url)
    monkeypatch.setenv("REDIS_URL", servers.redis_url)
    folder = scratch / "on-others"
    folder.mkdir(mode=0o711)
    shop = Stack(folder, products=20, arguments=("--origin-workers", "1", "--edge-workers", "1"))
    shop.start()
    yield shop
    assert shop.stop() == 0, shop.output.read_text()[-4000:]


def change_a_price(shop: Stack, amount: str, *more: str) -> str:
    listed = httpx.get(f"{shop.origin}/api/v1/eu-eur/products").json()
    words = ("price", "set", listed["products"][0]["sku"], "--market", "eu-eur", amount)
    # Not 0 as long as it is shown and not replicated.
    return shop.nearshelf(*words, *more, check=False).stdout


def test_it_runs_none_of_its_own_and_hands_over_when_told_to(others, shop):
    servers = others.servers
    names = {process["name"] for process in shop.ask("status")["processes"]}
    assert not names & {"pg-1", "pg-2", "valkey"}
    assert "\nlive" in change_a_price(shop, "12.00", "--wait")

    # What is not ours is not broken either, and that is said in a line.
    for words in (("fault", "pause-replay"), ("fault", "cut", "replication"), ("fault", "kill", "primary")):
        refused = shop.nearshelf(*words, check=False)
        assert (refused.returncode, refused.stderr.count("\n")) == (1, 1), refused.stderr

    old, new = servers.primary, servers.standby
    told = shop.nearshelf("failover").stdout
    assert f"{servers.sockets}:{new.port} is the primary" in told
    assert "no standby is connected" in change_a_price(shop, "13.00")
    assert shop.ask("status")["failover"]["epoch"] == 2

    # The old one still runs, and is no standby: nobody to hand over to.
    refused = shop.nearshelf("failover", check=False)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1), refused.stderr
    assert "does not answer" in refused.stderr

    # Its owner makes it the new one's standby.
    others.run(servers.end(old.name))
    servers.primary_name = new.name
    others.run(servers.follow(old.name))
    assert "\nlive" in change_a_price(shop, "14.00", "--wait")
    assert f"{servers.sockets}:{old.port} is the primary" in shop.nearshelf("failover").stdout
    assert shop.ask("status")["failover"]["epoch"] == 3
