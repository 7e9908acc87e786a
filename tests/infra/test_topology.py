"""Which processes a shop has, and where: tables."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import pytest

from infra.local import ports
from infra.local.errors import LocalError
from infra.local.programs import Programs
from infra.local.state import State
from infra.local.topology import (
    Edge,
    Options,
    Secrets,
    Worker,
    edge_environment,
    origin_environment,
    parse_rtts,
    plan,
)

pytestmark = pytest.mark.alone
"""Ports that a test lets go must not be another's before it looks at them."""


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        pytest.param([], {"us": 2, "eu": 80, "ap": 180}, id="defaults"),
        pytest.param(["eu=120"], {"us": 2, "eu": 120, "ap": 180}, id="one"),
        pytest.param(["eu=120", "ap=0", "eu=30.5"], {"us": 2, "eu": 30.5, "ap": 0}, id="several, the last wins"),
        pytest.param(["us=150ms"], {"us": 150, "eu": 80, "ap": 180}, id="with its unit"),
    ],
)
def test_round_trips(texts, expected):
    assert parse_rtts(texts) == expected


@pytest.mark.parametrize("text", ["eu", "mars=3", "eu=", "eu=-1", "eu=nan", "eu=99999", "eu=1s", "=3"])
def test_a_round_trip_that_makes_no_sense_is_refused_and_quoted(text):
    with pytest.raises(LocalError, match=f"--rtt {text}:"):
        parse_rtts([text])


@pytest.mark.parametrize(
    ("options", "word"),
    [
        pytest.param({"port_base": 80}, "--port-base 80", id="a port that only root may open"),
        pytest.param({"port_base": 65_530}, "--port-base 65530", id="ports beyond the last"),
        pytest.param({"origin_workers": 0}, "--origin-workers 0", id="no origin"),
        pytest.param({"edge_workers": 9}, "--edge-workers 9", id="too many workers"),
        pytest.param({"products": -1}, "--products -1", id="fewer than no products"),
    ],
)
def test_an_option_out_of_range_is_named(options, word):
    with pytest.raises(LocalError, match=word):
        Options(**options)


def test_the_default_addresses():
    shop = plan(Options(), 8080)
    assert shop.addresses() == {
        "edges": {"us": "http://127.0.0.1:8081", "eu": "http://127.0.0.1:8082", "ap": "http://127.0.0.1:8083"},
        "origin": "http://127.0.0.1:8080",
        "console": "http://127.0.0.1:8080/console",
        "admin": {
            "us": ["http://127.0.0.1:8091", "http://127.0.0.1:8092"],
            "eu": ["http://127.0.0.1:8093", "http://127.0.0.1:8094"],
            "ap": ["http://127.0.0.1:8095", "http://127.0.0.1:8096"],
        },
    }
    assert [worker.name for edge in shop.edges for worker in edge.workers] == [
        *("us-1", "us-2", "eu-1", "eu-2", "ap-1", "ap-2")
    ]
    assert [(edge.fills_port, edge.questions_port) for edge in shop.edges] == [(8101, 8102), (8103, 8104), (8105, 8106)]


@pytest.mark.parametrize("edge_workers", range(1, 9))
def test_no_two_processes_get_one_port(edge_workers):
    options = Options(edge_workers=edge_workers)
    shop = plan(options, 5000)
    assert len(shop.ports()) == 2 + 3 + 3 * edge_workers + 6
    assert max(shop.ports()) == 5000 + options.ports_needed - 1


def test_an_edge_reaches_the_origin_only_through_the_relay():
    shop = plan(Options(rtt_ms=parse_rtts(["eu=120"])), 8080)
    edge = shop.edges[1]
    told = {"access_log": "access.log", "siblings": "together", "regional": "unix:///valkey", "run": "r1"}
    environment = edge_environment(edge, edge.workers[1], Secrets("key", "token"), **told)
    relayed = {f"http://127.0.0.1:{channel['port']}": channel for channel in shop.relay_plan()}
    fills, questions = relayed[environment["NEARSHELF_ORIGIN_URL"]], relayed[environment["NEARSHELF_FEED_URL"]]
    assert (fills["edge"], fills["channel"], fills["rtt_ms"]) == ("eu", "fills", 120)
    assert (questions["edge"], questions["channel"], questions["rtt_ms"]) == ("eu", "questions", 120)
    assert (fills["target_port"], questions["target_port"]) == (8080, 8084)
    assert environment["NEARSHELF_LISTEN"] == "127.0.0.1:8082"
    assert environment["NEARSHELF_ADMIN_LISTEN"] == "127.0.0.1:8094"


def test_what_two_runs_keep_in_one_redis_is_told_apart():
    """It may be one of others, which outlives the database that the positions in it are of."""
    told = {"access_log": "access.log", "siblings": "together", "regional": "redis://others:6379/0"}
    us, eu, _ = plan(Options(), 8080).edges

    def space(edge: Edge, worker: Worker, run: str) -> str:
        return edge_environment(edge, worker, Secrets("key", "token"), run=run, **told)["NEARSHELF_REGIONAL_SPACE"]

    shared = space(eu, eu.workers[0], "r1")
    assert shared == space(eu, eu.workers[1], "r1")
    assert len({shared, space(us, us.workers[0], "r1"), space(eu, eu.workers[0], "r2")}) == 3


def test_each_run_is_one_of_its_own(tmp_path):
    spaces = set()
    for _ in range(2):
        with State(tmp_path / "state") as state:
            servers: Any = SimpleNamespace(redis_url="unix:///valkey")
            programs = Programs(state, plan(Options(), 8080), servers, databases=servers)
            spaces |= {program.env["NEARSHELF_REGIONAL_SPACE"] for program in programs.edges()}
    assert len(spaces) == 2 * 3


def test_workers_of_the_origin_know_the_application_s_databases_only():
    shop = plan(Options(), 8080)
    environment = origin_environment(
        *(shop.origin_port, Secrets("key", "token"), "primary", "replica", "redis", "standby1"),
        metrics="counted",
        access_log="origin.log",
    )
    assert environment["NEARSHELF_LISTEN"] == "127.0.0.1:8080"
    assert "ADMIN_DATABASE_URL" not in environment


def test_a_taken_port_is_named_with_what_wants_it_and_the_option_that_moves_it():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(LocalError, match=rf"port {port}, for edge us, is taken .*--port-base"):
            ports.choose(Options(port_base=port - 1))


def test_a_port_that_others_share_is_taken():
    with socket.socket() as sharing:
        sharing.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sharing.bind(("127.0.0.1", 0))
        sharing.listen()
        assert not ports.is_free(sharing.getsockname()[1])


def test_shops_on_free_ports_do_not_choose_the_same():
    chosen = [ports.choose(Options(port_base=0)) for _ in range(5)]
    try:
        taken = [port for each in chosen for port in each.topology.ports()]
        assert len(taken) == len(set(taken))
        assert max(taken) < 32_768
    finally:
        for each in chosen:
            each.release()
