"""What a worker of the origin counts: alone, together with others, and after some of them died."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cache_policies.fields import EDGE_KEY_FIELD
from origin.metrics import MOST_POPS, UNKNOWN_POP, Metrics, SharedFolder
from origin.pricing.service import change_price
from tests.support.origin import EDGE_KEY, FakeWorker, OriginClient, running_shop, settings_of
from tests.support.servers import ROOT
from tests.support.small_shop import small_shop

TOKEN = "the-token-of-whoever-runs-it"


def figure(text: str, sample: str, **labels: str) -> float:
    """The sum of the samples of that name with (at least) these labels."""
    return sum(
        found.value
        for family in text_string_to_metric_families(text)
        for found in family.samples
        if found.name == sample and labels.items() <= found.labels.items()
    )


@pytest.fixture
async def shop(database):
    async with running_shop(replace(settings_of(database), admin_token=TOKEN)) as (shop, client):
        yield shop, client


async def metrics_of(client) -> str:
    answer = await client.get("/metrics", headers={"authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-type"].startswith("text/plain")
    return answer.text


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({"authorization": f"Bearer {TOKEN}"}, 200, id="the token"),
        pytest.param({}, 401, id="no token"),
        pytest.param({"authorization": "Bearer another"}, 401, id="another token"),
        pytest.param({"authorization": f"Basic {TOKEN}"}, 401, id="another scheme"),
        pytest.param({"authorization": f"Bearer {TOKEN}", EDGE_KEY_FIELD: EDGE_KEY}, 404, id="through an edge"),
    ],
)
async def test_metrics_are_for_whoever_runs_the_origin(shop, headers, status):
    answer = await shop[1].get("/metrics", headers=headers)
    assert answer.status_code == status
    assert ("nearshelf_" in answer.text) == (status == 200)


async def test_without_a_token_there_is_no_such_address(database):
    async with running_shop(settings_of(database)) as (_, client):
        assert (await client.get("/metrics", headers={"authorization": "Bearer "})).status_code == 404


async def test_requests_are_counted_by_route_method_and_class(shop):
    client = shop[1]
    before = await metrics_of(client)
    for path in ("/livez", "/livez", "/eu-eur/nothing-here", "/nowhere/at/all", "/console/login"):
        await client.get(path)
    await client.request("PROPFIND", "/livez")
    text = await metrics_of(client)

    def more(**labels: str) -> float:
        return figure(text, "nearshelf_origin_requests_total", **labels) - figure(
            before, "nearshelf_origin_requests_total", **labels
        )

    assert more(route="liveness", method="GET", code_class="2xx") == 2
    assert more(route="default", method="GET", code_class="4xx") == 2
    assert more(route="console", code_class="2xx") == 1
    assert more(method="other", code_class="4xx") == 1
    assert more(route="metrics") == 1
    assert figure(text, "nearshelf_origin_request_seconds_count", route="liveness") == 3
    assert figure(text, "nearshelf_origin_request_seconds_bucket", route="liveness", le="+Inf") == 3


async def test_every_metric_is_named_before_anything_was_counted(shop):
    text = Metrics().exposition().decode()
    named = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert {"nearshelf_readthrough_total", "nearshelf_purge_ack_seconds", "process_cpu_seconds_total"} <= named
    assert not any(line.split("{")[0].endswith("_created") for line in text.splitlines())


async def test_snapshots_statements_and_pools_are_counted(shop):
    opened, client = shop
    async with opened.snapshots.open() as snapshot:
        text = await metrics_of(client)
        assert figure(text, "nearshelf_snapshots_total", source=snapshot.source) == 1
        assert figure(text, "nearshelf_database_connections_in_use", pool=snapshot.source) == 1
        assert figure(text, "nearshelf_database_statements_total", pool=snapshot.source) == 1
    text = await metrics_of(client)
    assert figure(text, "nearshelf_database_connections_in_use", pool="replica-0") == 0
    assert figure(text, "nearshelf_database_connections_max", pool="replica-0") == 12


async def test_a_price_change_and_who_applied_it_are_counted(database):
    async with small_shop(database, serving=True) as shop, OriginClient(shop) as client:
        worker = FakeWorker(client, "worker-of-eu")
        await worker.catch_up()
        changed = await change_price(shop, "anna@example.com", "LAMP-1", "eu-eur", "12.00")
        await worker.catch_up()
        await shop.observer.wait_live(changed.position)
        text = _text(shop)
        assert figure(text, "nearshelf_price_changes_total") == 1
        assert figure(text, "nearshelf_purge_ack_seconds_count", pop="eu") == 1
        assert 0 < figure(text, "nearshelf_purge_ack_seconds_sum", pop="eu") < 30


def _text(shop) -> str:
    return shop.metrics.exposition().decode()


def test_edges_with_ever_new_names_make_no_more_labels():
    metrics = Metrics()
    for number in range(MOST_POPS + 50):
        metrics.acknowledged(f"edge-{number}", 0.01)
    metrics.acknowledged("edge-0", 0.01)
    text = metrics.exposition().decode()
    assert figure(text, "nearshelf_purge_ack_seconds_count", pop="edge-0") == 2
    assert figure(text, "nearshelf_purge_ack_seconds_count", pop=UNKNOWN_POP) == 50


# --- several workers ---

_WORKER = """
import sys
from pathlib import Path
from origin.metrics import Metrics, share
metrics = Metrics(share(Path(sys.argv[1])))
print("ready", flush=True)
for line in sys.stdin:
    match line.split():
        case ["count", number]:
            metrics.requests.labels("home", "GET", "2xx").inc(float(number))
            metrics.request_seconds.labels("home").observe(0.002)
            metrics.questions_open.set(float(number))
            print("done", flush=True)
        case ["show"]:
            print(metrics.exposition().decode() + "done", flush=True)
"""


class Counting:
    """A process that counts in a folder."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _WORKER, str(folder)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._answer("ready") == ""

    def _answer(self, end: str) -> str:
        assert self.process.stdout is not None
        lines = []
        while (line := self.process.stdout.readline()).strip() != end:
            assert line, "the worker ended"
            lines.append(line)
        return "".join(lines)

    def ask(self, command: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self._answer("done")

    def requests(self) -> float:
        return figure(self.ask("show"), "nearshelf_origin_requests_total")

    def open_questions(self) -> float:
        return figure(self.ask("show"), "nearshelf_questions_open")

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextmanager
def workers(folder: Path, count: int) -> Iterator[list[Counting]]:
    found = [Counting(folder) for _ in range(count)]
    try:
        yield found
    finally:
        for worker in found:
            worker.end()


def test_whichever_worker_is_asked_shows_the_sum_and_the_dead_keep_what_they_counted(tmp_path):
    with workers(tmp_path, 2) as (one, other):
        one.ask("count 3")
        other.ask("count 4")
        assert one.requests() == other.requests() == 7
        text = one.ask("show")
        assert figure(text, "nearshelf_origin_request_seconds_count") == 2
        assert figure(text, "nearshelf_origin_request_seconds_bucket", le="0.0025") == 2
        assert figure(text, "nearshelf_build_info") == 1
        assert one.open_questions() == 7
        other.end()
        assert one.requests() == 7
        assert one.open_questions() == 3
        files = sorted(path.name for path in tmp_path.glob("*.db"))
        again = Counting(tmp_path)
        try:
            assert again.requests() == 7
            again.ask("count 1")
            assert one.requests() == 8
            assert one.open_questions() == 4
            assert sorted(path.name for path in tmp_path.glob("*.db")) == files
        finally:
            again.end()


def test_the_first_worker_of_all_begins_at_nothing(tmp_path):
    with workers(tmp_path, 1) as (one,):
        one.ask("count 3")
    with workers(tmp_path, 1) as (one,):
        assert one.requests() == 0


def test_numbers_are_given_to_one_at_a_time(tmp_path):
    held = [SharedFolder(tmp_path) for _ in range(3)]
    assert [shared.number for shared in held] == [1, 2, 3]


def test_a_folder_that_cannot_be_made_is_said_before_anything_starts(database, tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    environment = {
        "DATABASE_URL": database.primary,
        "NEARSHELF_EDGE_KEY": EDGE_KEY,
        "NEARSHELF_LISTEN": "127.0.0.1:0",
        "PATH": "/usr/bin:/bin",
    }
    for name, value in (("NEARSHELF_METRICS_DIR", file / "below"), ("NEARSHELF_ACCESS_LOG", file / "below")):
        run = subprocess.run(
            [sys.executable, "-m", "origin"],
            cwd=ROOT,
            env=environment | {name: str(value)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert run.returncode == 2
        assert name in run.stderr
        assert "Traceback" not in run.stderr
