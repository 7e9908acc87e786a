"""The watch over a folder of policies: what is taken, what is refused, and when. Each look is made by hand."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from cache_policies.folder import looks_of
from edge.core.policy import PolicySet
from edge.gateway import reload as module
from edge.gateway.reload import PolicyReload
from edge.policy_files import PACKAGED_POLICIES, load_policies, read_policies

ROUTES = """\
routes:
  page:
    path: /page
    fresh: {fresh}
  default:
    path: /{{rest...}}
    store: false
"""


def write(folder: Path, fresh: str = "60s", more: str = "") -> None:
    (folder / "default.yaml").write_text(ROUTES.format(fresh=fresh) + more)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "policies"
    folder.mkdir()
    shutil.copy(PACKAGED_POLICIES / "markets.yaml", folder)
    write(folder)
    return folder


class Watch(PolicyReload):
    """With what it took, and a wall clock that stands at 0 until it is set."""

    def __init__(self, folder: Path, read: Callable[[Path], object] = read_policies) -> None:
        self.taken: list[PolicySet] = []
        self.reasons: Sequence[str] = ()
        self.time = 0.0
        super().__init__(
            folder,
            load_policies(folder),
            looks_of(folder),
            self._take,
            lambda: self.time,
            read,  # type: ignore[arg-type]
        )

    def _take(self, policies: PolicySet) -> Sequence[str]:
        if not self.reasons:
            self.taken.append(policies)
        return self.reasons

    @property
    def lifetimes(self) -> list[float]:
        """Of the page, in each set that was taken."""
        return [policies.policies[0].fresh_s for policies in self.taken]


@pytest.fixture
def watch(folder: Path) -> Watch:
    return Watch(folder)


async def looks(watch: PolicyReload, times: int = 2) -> None:
    for _ in range(times):
        await watch.look()


async def test_nothing_is_read_while_nothing_changes(folder):
    read: list[Path] = []
    watch = Watch(folder, read.append)
    await looks(watch, 5)
    assert read == []


async def test_changed_policies_are_taken_when_two_looks_find_the_same(watch, folder):
    before = watch.status()
    write(folder, "90s")
    watch.time = 1_795_262_400.0
    await watch.look()
    assert watch.taken == []
    await watch.look()
    assert watch.lifetimes == [90.0]
    after = watch.status()
    assert after["digest"] == load_policies(folder).digest != before["digest"]
    assert after["loaded_at"] == "2026-11-21T12:00:00.000Z"
    assert (after["refused"], after["refused_at"]) == ([], None)
    await looks(watch, 3)
    assert len(watch.taken) == 1


async def test_half_of_a_file_is_neither_taken_nor_refused(watch, folder):
    write(folder, "9")
    await watch.look()
    write(folder, "90s")
    await watch.look()
    assert (watch.taken, watch.refused) == ([], ())
    await watch.look()
    assert watch.lifetimes == [90.0]


async def test_files_that_change_while_they_are_read_are_read_again(folder):
    rest = ["120s", "150s"]

    def read(folder: Path) -> object:
        found = read_policies(folder)
        if rest:
            write(folder, rest.pop(0))
        return found

    watch = Watch(folder, read)
    write(folder, "90s")
    await looks(watch, 6)
    assert watch.lifetimes == [150.0]


async def test_a_change_that_is_taken_back_before_it_was_read_is_none(watch, folder):
    (folder / "more.yaml").write_text("routes: {}\n")
    await watch.look()
    (folder / "more.yaml").unlink()
    await looks(watch, 3)
    assert watch.taken == []


async def test_what_cannot_be_used_is_refused_with_every_fault_and_the_old_stay(watch, folder, caplog):
    digest = watch.status()["digest"]
    write(folder, "-5s", "  other:\n    path: nowhere\n")
    watch.time = 1_795_262_400.0
    with caplog.at_level(logging.ERROR, "nearshelf.policies"):
        await looks(watch)
    assert watch.taken == []
    status = watch.status()
    assert status["digest"] == digest
    assert status["refused_at"] == "2026-11-21T12:00:00.000Z"
    for place in ("default.yaml:4:12 ", "default.yaml:9:11 "):
        assert any(fault.startswith(place) for fault in status["refused"]), status["refused"]
    (record,) = caplog.records
    assert all(fault in record.getMessage() for fault in status["refused"])
    assert digest in record.getMessage()
    await looks(watch, 3)
    assert len(caplog.records) == 1


@pytest.mark.parametrize("fresh", ["60s", "90s"])
async def test_a_mended_file_ends_the_refusal(watch, folder, fresh):
    """Also where the files say again what is in force."""
    write(folder, "soon")
    await looks(watch)
    assert watch.refused
    write(folder, fresh)
    await looks(watch)
    assert (watch.refused, watch.status()["refused_at"]) == ((), None)
    assert watch.status()["digest"] == load_policies(folder).digest


async def test_what_the_worker_cannot_use_is_refused_too(watch, folder):
    watch.reasons = ["there is no address for the origin eu"]
    write(folder, "90s")
    await looks(watch)
    assert watch.status()["refused"] == ["there is no address for the origin eu"]


async def test_a_folder_that_is_gone_is_refused_until_it_is_back(watch, folder):
    folder.rename(folder.with_name("away"))
    await looks(watch)
    assert any(fault.startswith("default.yaml:1:1") for fault in watch.refused)
    folder.with_name("away").rename(folder)
    await looks(watch)
    assert watch.refused == ()


async def test_what_editors_put_beside_a_file_is_none_of_ours(watch, folder):
    (folder / ".#default.yaml").symlink_to("somebody@somewhere.1234")
    (folder / ".default.yaml.swp").write_bytes(b"\x00")
    (folder / "default.yaml~").write_text("routes: {}\n")
    (folder / "._default.yaml").write_bytes(b"\x00")
    watch.look_now()
    await looks(watch)
    assert watch.refused == ()
    assert len(watch.taken) == 1


async def test_a_file_replaced_by_one_of_the_same_size_and_time_is_a_change(watch, folder):
    target = folder / "default.yaml"
    about = target.stat()
    draft = folder / "default.new"
    draft.write_text(ROUTES.format(fresh="90s"))
    os.utime(draft, ns=(about.st_atime_ns, about.st_mtime_ns))
    draft.replace(target)
    assert (target.stat().st_size, target.stat().st_mtime_ns) == (about.st_size, about.st_mtime_ns)
    await looks(watch)
    assert watch.lifetimes == [90.0]


async def test_who_asks_for_a_look_has_the_files_read_whatever_they_look_like(folder):
    read: list[Path] = []

    def reading(folder: Path) -> object:
        read.append(folder)
        return read_policies(folder)

    watch = Watch(folder, reading)
    watch.look_now()
    await looks(watch)
    assert read == [folder]
    await looks(watch)
    assert read == [folder]


async def test_the_watch_outlives_a_fault_of_the_reader(folder, monkeypatch, caplog):
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.001)
    monkeypatch.setattr(module, "SETTLE_S", 0.001)
    faults = [RuntimeError("a fault"), None]

    def read(folder: Path) -> object:
        fault = faults.pop(0)
        if fault is not None:
            raise fault
        return read_policies(folder)

    watch = Watch(folder, read)
    running = asyncio.create_task(watch.run())
    write(folder, "90s")
    async with asyncio.timeout(20):
        while not watch.taken:
            await asyncio.sleep(0.001)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert watch.lifetimes == [90.0]
    assert "a fault of this program" in caplog.text
