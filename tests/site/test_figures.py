"""A site's figures: of all workers, and never less than before."""

from __future__ import annotations

import asyncio
import os
import signal

from edge.gateway.counters import ExchangeLabel
from edge.gateway.figures import Counts, Ended, Figures, Spread
from edge.site.figures import AddedUp
from tests.support.raw_http import RawViewer
from tests.support.scraped import Scrape, scrape
from tests.support.scripted_origin import Reply, ScriptedOrigin
from tests.support.site import RunningSite

HIT = ExchangeLabel("page", "hit", "", "2xx")
REQUESTS = "nearshelf_edge_requests_total"


def said(worker: str, hits: int, objects: int = 1, lease: int = 1) -> Figures:
    took = Spread((hits, *[0] * 15), hits * 0.001)
    counts = Counts({HIT: Ended(took, hits * 100, 0)}, counters={"nearshelf_purges": {("hard",): hits}})
    gauges: dict[str, dict[tuple[str, ...], float]] = {
        "nearshelf_cache_objects": {(): objects},
        "nearshelf_lease_held": {(): lease},
        "nearshelf_policy_info": {(f"digest-of-{lease}",): 1},
    }
    return Figures("site", worker, counts, gauges)


def hits(total: Figures) -> int:
    return sum(total.counts.exchanges[HIT].took.counts)


def test_workers_are_added_up_or_the_worst_of_them_counts():
    added = AddedUp("site")
    added.take("worker-1", said("a", 3, objects=5))
    added.take("worker-2", said("b", 4, objects=7, lease=0))
    total = added.total(["worker-1", "worker-2"], Figures("", ""))
    assert hits(total) == 7
    assert total.counts.counters["nearshelf_purges"] == {("hard",): 7}
    assert total.gauges["nearshelf_cache_objects"] == {(): 12}
    assert total.gauges["nearshelf_lease_held"] == {(): 0}
    # Two digests are two rows: an alert looks for that.
    assert total.gauges["nearshelf_policy_info"] == {("digest-of-1",): 1, ("digest-of-0",): 1}


def test_what_a_process_counted_that_ended_is_kept_and_what_was_the_case_in_it_is_not():
    added = AddedUp("site")
    added.take("worker-1", said("a", 3, objects=5))
    added.take("worker-2", said("b", 4, objects=7))
    down = added.total(["worker-2"], Figures("", ""))
    assert (hits(down), down.gauges["nearshelf_cache_objects"]) == (7, {(): 7})
    added.take("worker-1", said("c", 1, objects=2))
    again = added.total(["worker-1", "worker-2"], Figures("", ""))
    assert (hits(again), again.gauges["nearshelf_cache_objects"]) == (8, {(): 9})
    for process, count in (("c", 2), ("d", 0), ("e", 5)):
        added.take("worker-1", said(process, count))
    assert hits(added.total([], Figures("", ""))) == 3 + 4 + 2 + 0 + 5
    # To add up changes nothing of what is added.
    assert hits(added.total([], Figures("", ""))) == 14


async def ask(site: RunningSite, path: str, times: int) -> None:
    """Over several connections, so that both workers are met."""
    for _ in range(times):
        async with await RawViewer.open(("127.0.0.1", site.port)) as viewer:
            viewer.get(path, f"127.0.0.1:{site.port}")
            assert (await viewer.response()).status == 200


async def scraped(site: RunningSite) -> Scrape:
    return await scrape(site.admin.rstrip("/"), site.token)


async def test_the_sums_of_a_site_do_not_fall_when_workers_are_killed(tmp_path):
    async with ScriptedOrigin() as origin:
        origin.on("/page", Reply(b"page", headers={"cache-control": "max-age=600", "cache-tag": "a"}))
        async with RunningSite(tmp_path, "--origin", origin.url) as site:
            await ask(site, "/page", 30)
            await site.purge(tags=["nothing"])
            before = await scraped(site)
            assert before.total(REQUESTS) == 30
            assert before.rows("nearshelf_site_workers", "state") == {("ready",): 2}
            assert before.rows("nearshelf_purges_total", "mode") == {("hard",): 1}
            assert before.total("nearshelf_purge_ack_seconds_count") == 2
            assert before.total("nearshelf_purge_lag_messages") == 0
            assert before.total("nearshelf_lease_held") == 1
            assert len(before.rows("nearshelf_policy_info", "digest")) == 1

            killed = await site.pids()
            for pid in killed:
                os.kill(pid, signal.SIGKILL)
            # While they are down, and when others have taken their places.
            while len(set(killed) & set(await site.pids())):
                during = await scraped(site)
                assert during.total(REQUESTS) == 30
                await asyncio.sleep(0)
            await site.until_ready(2)
            after = await scraped(site)
            assert after.total(REQUESTS) == 30
            assert after.total("nearshelf_site_restarts_total") == 2
            assert after.total("process_cpu_seconds_total") > before.total("process_cpu_seconds_total")
            await ask(site, "/page", 20)
            again = await scraped(site)
            assert again.total(REQUESTS) == 50
            for (name, labels), value in before.samples.items():
                if name.endswith(("_total", "_bucket", "_count", "_sum")):
                    assert again.samples[name, labels] >= value, (name, labels)


async def test_a_worker_that_hangs_counts_with_what_it_said_last(tmp_path):
    async with ScriptedOrigin() as origin:
        origin.on("/page", Reply(b"page", headers={"cache-control": "max-age=600", "cache-tag": "a"}))
        async with RunningSite(tmp_path, "--origin", origin.url) as site:
            await ask(site, "/page", 20)
            assert (await scraped(site)).total(REQUESTS) == 20
            pid = (await site.pids())[0]
            os.kill(pid, signal.SIGSTOP)
            try:
                assert (await scraped(site)).total(REQUESTS) == 20
            finally:
                os.kill(pid, signal.SIGCONT)
