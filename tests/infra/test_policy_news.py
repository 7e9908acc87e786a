"""What `nearshelf up` says when policies change: once, for all the workers of all edges."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from edge.policy_files import PACKAGED_POLICIES, load_policies
from infra.local.policies import PATIENCE_S, PolicyNews, Said
from infra.local.voice import Voice
from tests.support.clock import ManualClock
from tests.support.servers import Stack

OLD, NEW = Said("old", ()), Said("new", ())
BAD = Said("old", ("a.yaml:1:1: no",))


class News(PolicyNews):
    """Over a folder with one file; what was said is in `lines`, how often the workers were asked in `asked`."""

    def __init__(self, folder: Path) -> None:
        self.workers = {"us-1": OLD, "eu-1": OLD, "eu-2": OLD}
        self.lines: list[str] = []
        self.asked = 0
        self.time = ManualClock()
        self.file = folder / "default.yaml"
        self.file.write_text("0")
        super().__init__(
            folder,
            self._ask_all,
            took=lambda digest: self.lines.append(f"took {digest}"),
            refused=lambda digest, faults: self.lines.append(f"refused {faults[0]}, {digest} stay"),
            late=lambda workers: self.lines.append(f"late {' '.join(workers)}"),
            clock=self.time,
        )

    async def _ask_all(self) -> dict[str, Said]:
        self.asked += 1
        return dict(self.workers)

    def all_say(self, said: Said) -> None:
        self.workers = dict.fromkeys(self.workers, said)

    async def saved(self, content: str) -> None:
        self.file.write_text(content)
        await self.look()


@pytest.fixture
async def news(tmp_path: Path) -> News:
    news = News(tmp_path)
    await news.begin()
    news.asked = 0
    return news


async def test_nobody_is_asked_while_nothing_changes(news):
    for _ in range(5):
        await news.look()
    assert (news.asked, news.lines) == (0, [])


async def test_a_change_between_the_start_and_the_first_look_is_not_missed(news):
    news.file.write_text("1.")
    news.all_say(BAD)
    await news.look()
    assert news.lines == ["refused a.yaml:1:1: no, old stay"]


async def test_it_is_said_once_when_the_last_worker_has_them(news):
    await news.saved("1.")
    news.workers |= {"us-1": NEW, "eu-1": NEW}
    await news.look()
    assert news.lines == []
    news.all_say(NEW)
    for _ in range(3):
        await news.look()
    assert news.lines == ["took new"]
    news.time.advance(PATIENCE_S)
    await news.look()
    asked = news.asked
    await news.look()
    assert news.asked == asked


async def test_a_refusal_and_its_end_are_said_although_the_same_policies_stay_in_force(news):
    await news.saved("bad")
    news.all_say(BAD)
    await news.look()
    await news.saved("good")
    await news.look()
    news.all_say(OLD)
    await news.look()
    assert news.lines == ["refused a.yaml:1:1: no, old stay", "took old"]


async def test_each_new_reason_is_said(news):
    other = Said("old", ("b.yaml:2:2: no",))
    for content, said in (("bad", BAD), ("worse", other)):
        await news.saved(content)
        news.all_say(said)
        await news.look()
    assert [line.partition(",")[0] for line in news.lines] == ["refused a.yaml:1:1: no", "refused b.yaml:2:2: no"]


async def test_a_worker_that_does_not_come_along_is_named(news):
    await news.saved("1.")
    news.workers |= {"us-1": NEW, "eu-1": NEW}
    news.time.advance(PATIENCE_S)
    for _ in range(3):
        await news.look()
    assert news.lines == ["late eu-2"]


async def test_workers_that_are_stopped_are_not_waited_for(news):
    await news.saved("1.")
    news.workers = {"us-1": NEW}
    await news.look()
    assert news.lines == ["took new"]
    news.workers = {}
    await news.saved("2..")
    news.time.advance(PATIENCE_S)
    await news.look()
    assert news.lines == ["took new"]


@pytest.mark.parametrize("terminal", [True, False])
def test_the_banner_is_red_on_a_terminal_only(capsys, monkeypatch, terminal):
    voice = Voice(quiet=True)
    voice.colour = terminal
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    voice.alarm("Policies cannot be used", ["a.yaml:1:1: no"])
    said = capsys.readouterr().err
    assert "Policies cannot be used" in said
    assert "\n  a.yaml:1:1: no\n" in said
    assert ("\x1b[1;37;41m" in said) == terminal


# -- a whole shop ------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "policies"
    shutil.copytree(PACKAGED_POLICIES, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__", "*.md"))
    return folder


@pytest.fixture
def shop(
    scratch: Path, tmp_path: Path, folder: Path, _servers_exist: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Stack]:
    """A small shop of the test's own, over a copy of the policies."""
    monkeypatch.setenv("NEARSHELF_POLICIES", str(folder))
    home = scratch / tmp_path.name
    home.mkdir(mode=0o711)
    shop = Stack(home, products=20, arguments=("--origin-workers", "1"))
    shop.start()
    yield shop
    assert shop.stop() == 0, shop.output.read_text()[-4000:]


def until(statement: Callable[[], object], within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not statement():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@pytest.mark.database
@pytest.mark.alone
def test_a_shop_takes_good_policies_refuses_bad_ones_and_says_so_once(shop, folder):
    """Meanwhile a viewer asks for a page again and again over one connection, and is answered each time."""
    catalog = folder / "catalog.yaml"
    good = catalog.read_text()
    with httpx.Client(base_url=shop.edges["us"], trust_env=False) as viewer:

        def said(text: str) -> bool:
            assert viewer.get("/eu-eur/").status_code == 200
            return text in shop.output.read_text()

        catalog.write_text(good.replace("fresh: 300s", "fresh: five minutes", 1))
        until(lambda: said("Every edge goes on with those from before"))
        assert said(f"The policies in {folder} cannot be used")
        assert said("fresh: five minutes, expected a duration")

        catalog.write_text(good.replace("fresh: 300s", "fresh: 310s", 1))
        digest = load_policies(folder).digest
        until(lambda: said(f"policies {digest} are in force on every edge"))
    assert shop.output.read_text().count("cannot be used") == 1
    token = {"authorization": f"Bearer {shop.env['NEARSHELF_ADMIN_TOKEN']}"}
    for url in (url for urls in shop.admin.values() for url in urls):
        policies = httpx.get(f"{url}/status", headers=token, trust_env=False).json()["policies"]
        assert (policies["digest"], policies["refused"]) == (digest, [])
