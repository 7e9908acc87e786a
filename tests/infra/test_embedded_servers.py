"""The embedded PostgreSQL and Valkey: a real standby, whose replay can be held back."""

from __future__ import annotations

import asyncpg
import pytest
import redis

from infra.local.postgres import PRIMARY_PORT, STANDBY_PORT


@pytest.fixture
def shelf(postgres, database):
    """Runs SQL as the superuser in a database of its own, on either node."""

    def ask(port, statement):
        async def run():
            async with postgres.servers.connection(port, database.name) as connection:
                return await connection.fetchval(statement)

        return postgres.run(run())

    return ask


def test_the_standby_follows_asynchronously_under_its_own_name(postgres, shelf):
    state = postgres.run(postgres.servers.replication())
    assert state["state"] == "streaming"
    row = shelf(PRIMARY_PORT, "SELECT application_name || ' ' || sync_state FROM pg_stat_replication")
    assert row == f"{postgres.standby_name} async"


def test_what_is_committed_reaches_the_standby(postgres, shelf):
    shelf(PRIMARY_PORT, "CREATE TABLE note AS SELECT 1 AS number")
    postgres.wait_for_replay()
    assert shelf(STANDBY_PORT, "SELECT number FROM note") == 1


def test_a_paused_standby_receives_but_does_not_show(postgres, shelf):
    shelf(PRIMARY_PORT, "CREATE TABLE note AS SELECT 1 AS number")
    postgres.wait_for_replay()
    postgres.pause_replay()
    try:
        shelf(PRIMARY_PORT, "UPDATE note SET number = 2")
        assert shelf(STANDBY_PORT, "SELECT number FROM note") == 1
        assert postgres.run(postgres.servers.replication())["replay_paused"]
    finally:
        postgres.resume_replay()
    postgres.wait_for_replay()
    assert shelf(STANDBY_PORT, "SELECT number FROM note") == 2


def test_a_delayed_standby_shows_a_commit_later(postgres, shelf):
    shelf(PRIMARY_PORT, "CREATE TABLE note AS SELECT 1 AS number")
    postgres.wait_for_replay()
    postgres.delay_replay(60_000)
    try:
        shelf(PRIMARY_PORT, "UPDATE note SET number = 2")
        assert shelf(STANDBY_PORT, "SELECT number FROM note") == 1
        assert postgres.run(postgres.servers.replication())["replay_delay"] == "1min"
    finally:
        postgres.delay_replay(0)
    postgres.wait_for_replay()
    assert shelf(STANDBY_PORT, "SELECT number FROM note") == 2


def test_the_standby_refuses_writes(shelf):
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        shelf(STANDBY_PORT, "CREATE TABLE note (number int)")


def test_the_application_is_no_superuser_and_sees_how_far_standbys_have_flushed(postgres, database):
    async def ask():
        connection = await asyncpg.connect(
            host=str(postgres.servers.sockets), port=PRIMARY_PORT, user="nearshelf", database=database.name
        )
        try:
            return await connection.fetchrow(
                "SELECT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS super,"
                " (SELECT flush_lsn IS NOT NULL FROM pg_stat_replication) AS sees"
            )
        finally:
            await connection.close()

    row = postgres.run(ask())
    assert not row["super"]
    assert row["sees"]


def test_commits_are_durable(shelf):
    assert shelf(PRIMARY_PORT, "SHOW fsync") == "on"


def test_nothing_listens_on_tcp(shelf):
    assert shelf(PRIMARY_PORT, "SHOW listen_addresses") == ""


def test_valkey_answers_on_its_socket(valkey):
    with redis.Redis.from_url(valkey.redis_url) as client:
        assert client.ping()
        assert client.info("persistence")["aof_enabled"] == 0
