"""`nearshelf edge` as somebody runs it: starts, purges, loses workers, stops, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.scripted_origin import Reply, ScriptedOrigin
from tests.support.site import COMMAND, ROOT, RunningSite, is_running

ORIGIN = ("--origin", "http://127.0.0.1:9")


def fresh(body: bytes = b"hello", tags: str = "a, b", **more: str) -> Reply:
    return Reply(
        body, headers={"cache-control": "max-age=600", "cache-tag": tags, "content-type": "text/plain", **more}
    )


async def get(url: str) -> httpx.Response:
    """Over a connection of its own: the kernel chooses a worker for it."""
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.get(url)


async def shown(site: RunningSite, path: str, times: int = 12) -> set[str]:
    return {(await get(f"{site.url}{path}")).text for _ in range(times)}


async def test_it_caches_and_a_purge_reaches_every_worker(tmp_path):
    async with ScriptedOrigin() as origin:
        origin.on("/page", fresh(b"old"))
        origin.on("/other", fresh(b"other", tags="c"))
        async with RunningSite(tmp_path, "--origin", origin.url) as site:
            assert await shown(site, "/page") == {"old"}
            assert await shown(site, "/other") == {"other"}
            assert origin.count("/page") <= 2
            origin.on("/page", fresh(b"new"))
            assert await shown(site, "/page") == {"old"}
            done = await site.purge(tags=["A"])
            assert (done["live"], done["kind"], done["tags"]) == (True, "hard", ["a"])
            assert [worker["outcome"] for worker in done["workers"]] == ["applied", "applied"]
            assert done["objects"] >= 1
            others = origin.count("/other")
            assert await shown(site, "/page") == {"new"}
            assert await shown(site, "/other") == {"other"}
            assert origin.count("/other") == others

            origin.on("/page", fresh(b"newer"))
            await site.purge(paths=["/page?whatever=1"])
            assert await shown(site, "/page") == {"newer"}
            origin.on("/page", fresh(b"newest"))
            await site.purge(all=True)
            assert await shown(site, "/page") == {"newest"}


async def test_the_explorer_shows_the_site_as_one(tmp_path):
    async with ScriptedOrigin() as origin:
        origin.on("/page", fresh())
        async with RunningSite(tmp_path, "--origin", origin.url) as site:
            first = (await site.client.get("/requests")).json()["requests"]
            assert first == []
            async with site.client.stream("GET", "/requests/live") as stream:
                await shown(site, "/page", times=30)
                seen: list[dict[str, Any]] = []
                async with asyncio.timeout(10):
                    async for line in stream.aiter_lines():
                        if line:
                            seen += json.loads(line.removeprefix("data: "))["requests"]
                        if len(seen) >= 30:
                            break
            assert {request["worker"] for request in seen} == {"worker-1", "worker-2"}
            told = (await site.client.get("/requests?limit=10")).json()["requests"]
            assert [request["time"] for request in told] == sorted((each["time"] for each in told), reverse=True)
            found = (await site.client.get("/entries")).json()
            (entry,) = found["entries"]
            assert (entry["target"], entry["held_by"], entry["state"]) == ("/page", "worker-1, worker-2", "fresh")
            assert entry["hits"] == sum(request["cache"] == "hit" for request in seen)
            one = (await site.client.get("/entries/one", params={"url": f"{site.url}/page"})).json()
            assert one["stored"][0]["held_by"] == "worker-1, worker-2"
            overview = (await site.client.get("/overview")).json()
            assert (overview["state"], overview["responses"], sum(overview["outcomes"].values())) == ("ready", 2, 30)
            ready = await get(f"{site.admin}/readyz")
            assert ready.json() == {"status": "ready", "workers": {"ready": 2, "of": 2}}
            assert (await site.client.get("/explain?url=nonsense")).status_code == 400


async def test_what_was_fetched_before_a_purge_is_not_stored_after_it(tmp_path):
    async with ScriptedOrigin() as origin:
        with origin.holding("/page") as held:
            async with RunningSite(tmp_path, "--origin", origin.url) as site:
                slow = asyncio.create_task(get(f"{site.url}/page"))
                await held.arrived()
                assert (await site.purge(tags=["a"]))["live"]
                origin.on("/page", fresh(b"new"))
                held.answer(fresh(b"old"))
                assert (await slow).text in {"old", "new"}
                assert await shown(site, "/page") == {"new"}


async def test_purges_are_remembered_over_a_restart(tmp_path):
    async with ScriptedOrigin() as origin:
        origin.on("/page", fresh())
        async with RunningSite(tmp_path, "--origin", origin.url, workers=1) as site:
            first = (await site.purge(tags=["a"]))["position"]
        async with RunningSite(tmp_path, "--origin", origin.url, workers=1) as site:
            status = await site.status()
            assert status["position"] == first
            assert status["log"]["began_anew"] is None
            epoch, cv = map(int, first.split("."))
            assert (await site.purge(tags=["a"]))["position"] == f"{epoch}.{cv + 1}"


async def test_a_worker_that_is_killed_takes_only_its_own_requests_with_it(tmp_path):
    async with ScriptedOrigin() as origin:
        origin.on("/page", fresh())
        async with RunningSite(tmp_path, "--origin", origin.url) as site:
            victim = (await site.status())["workers"][0]
            load = Load(site.url + "/page", connections=24)
            await load.warm_up()
            held = (await site.status())["workers"][0]["status"]["viewers"]
            os.kill(victim["pid"], signal.SIGKILL)
            await site.until_ready(restarts=1)
            answered = load.answered
            await load.until(lambda: load.answered > answered + 200)
            await load.stop()
            # One request for each connection that it held, at the most: who lost one came back, and was answered.
            assert load.failed <= held
            assert 0 < held < 24
            assert any("signal 9" in line for line in site.errors)
            assert (await site.purge(all=True))["live"]


class Load:
    """Viewers that ask again and again, each over a connection that it keeps while it can."""

    def __init__(self, url: str, connections: int) -> None:
        self.answered = 0
        self.failed = 0
        self._url = url
        self._viewers = [asyncio.create_task(self._view()) for _ in range(connections)]

    async def _view(self) -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
            while True:
                try:
                    answer = await client.get(self._url)
                except httpx.HTTPError:
                    self.failed += 1
                else:
                    assert answer.status_code == 200
                    self.answered += 1
                await asyncio.sleep(0)

    async def until(self, statement) -> None:
        async with asyncio.timeout(30):
            while not statement():
                await asyncio.sleep(0.01)

    async def warm_up(self) -> None:
        await self.until(lambda: self.answered >= 10 * len(self._viewers))

    async def stop(self) -> None:
        for viewer in self._viewers:
            viewer.cancel()
        ended = await asyncio.gather(*self._viewers, return_exceptions=True)
        assert all(isinstance(each, asyncio.CancelledError) for each in ended), ended


async def test_a_frozen_worker_is_waited_for_no_longer_than_its_lease(tmp_path):
    async with ScriptedOrigin() as origin, RunningSite(tmp_path, "--origin", origin.url) as site:
        frozen = (await site.pids())[0]
        os.kill(frozen, signal.SIGSTOP)
        try:
            # The admin listener asks each worker how many responses it holds; the frozen one cannot say.
            done = await site.purge(tags=["a"])
        finally:
            os.kill(frozen, signal.SIGCONT)
    assert done["live"]
    assert {worker["worker"]: worker["outcome"] for worker in done["workers"]} == {
        "worker-1": "lease ran out",
        "worker-2": "applied",
    }
    assert 1.0 < done["seconds"] < 6.0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_stops_with_all_of_its_workers(tmp_path, number):
    async with ScriptedOrigin() as origin, RunningSite(tmp_path, "--origin", origin.url) as site:
        pids = await site.pids()
        runtime = Path((tmp_path / "state" / "runtime").read_text().strip())
        assert runtime.is_dir()
        site.process.send_signal(number)
        assert await asyncio.wait_for(site.process.wait(), 20) == 0
        assert not any(is_running(pid) for pid in pids)
    assert not runtime.exists()
    assert list((tmp_path / "xdg" / "nearshelf" / "admin").iterdir()) == []
    assert site.lines[-1].startswith("stopped in ")


async def test_workers_end_when_their_parent_is_killed(tmp_path):
    async with ScriptedOrigin() as origin:
        async with RunningSite(tmp_path, "--origin", origin.url) as site:
            pids = await site.pids()
            site.process.kill()
            await site.process.wait()
            async with asyncio.timeout(15):
                while any(is_running(pid) for pid in pids):
                    await asyncio.sleep(0.02)
        # What the killed run left does not keep the next one from starting.
        async with RunningSite(tmp_path, "--origin", origin.url) as site:
            assert (await site.purge(all=True))["live"]


async def test_a_worker_that_cannot_start_again_is_tried_later_and_later_with_its_reason(tmp_path):
    policies = tmp_path / "policies"
    policies.mkdir()
    text = (ROOT / "cache_policies" / "profiles" / "rfc9111" / "default.yaml").read_text()
    (policies / "default.yaml").write_text(text)
    async with ScriptedOrigin() as origin:
        origin.on("/page", fresh())
        async with RunningSite(tmp_path, "--origin", origin.url, "--policies", str(policies)) as site:
            (policies / "default.yaml").write_text("routes: {}\n")
            os.kill((await site.pids())[0], signal.SIGKILL)
            async with asyncio.timeout(20):
                while not any("does not start" in line for line in site.errors):
                    await asyncio.sleep(0.02)
            assert (await get(f"{site.url}/page")).status_code == 200
            assert (await site.purge(tags=["a"]))["live"]
            (policies / "default.yaml").write_text(text)
            await site.until_ready(restarts=2)


async def test_another_edge_on_the_same_port_or_with_the_same_state_is_found_out(tmp_path):
    async with RunningSite(tmp_path, *ORIGIN, workers=1) as site:
        assert any("nobody answers there yet" in line for line in site.lines)
        state = str(tmp_path / "state")
        told = await asyncio.to_thread(refused, tmp_path / "b", *ORIGIN, "--listen", f"127.0.0.1:{site.port}")
        assert f"--listen 127.0.0.1:{site.port}" in told
        told = await asyncio.to_thread(refused, tmp_path / "c", *ORIGIN, "--listen", "127.0.0.1:0", "--state", state)
        assert "another edge runs with the state folder" in told


def refused(tmp_path: Path, *arguments: str) -> str:
    """What a start that must fail says; it leaves no process and no token."""
    done = subprocess.run(
        [*COMMAND, "edge", *arguments],
        env=os.environ | {"XDG_STATE_HOME": str(tmp_path / "xdg"), "NO_COLOR": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not list((tmp_path / "xdg").rglob("*.token"))
    return done.stderr
