"""`nearshelf load run --generator`: a scenario's requests by the paced generator and wrk, against a scripted shop."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from infra.load import load
from loadtests.conductor import CannotStart, Options
from loadtests.recorder.run import Status, read_run
from loadtests.volume import Generator
from loadtests.volume_scenario import carry_out
from tests.support.fake_shop import FakeShop

pytestmark = pytest.mark.alone

ONLY_SHOPPING = """
description: Nobody does anything to the shop.
duration: 1s
warmup: 0s
rate: 60
people: {browser: 50, searcher: 25, bot: 25}
think: {browser: 1s, searcher: 1s}
thresholds:
  - errors == 0
"""


@pytest.fixture
def shop(tmp_path):
    with FakeShop(tmp_path).running() as found:
        yield found


def written(folder: Path, text: str = ONLY_SHOPPING) -> str:
    path = folder / "mine.yaml"
    path.write_text(text)
    return str(path)


def wanted(shop: FakeShop, text: str = ONLY_SHOPPING) -> Options:
    return Options(written(shop.folder, text), out=shop.folder / "run", state=shop.folder)


def test_a_scenario_is_asked_by_the_paced_generator_and_has_its_report(shop):
    said: list[str] = []
    run, folder = carry_out(wanted(shop), Generator.PACED, connections=8, say=said.append)
    assert folder == shop.folder / "run"
    assert read_run(folder) == run
    assert (folder / "report.html").exists()
    asked = sum(cell.requests for cell in run.cells)
    assert {cell.label.status for cell in run.cells} == {Status.HIT}
    assert {cell.label.edge for cell in run.cells} == {edge for edge, _, _ in shop.asked[-asked:]}
    assert said == [f"mine: {asked:,} requests in 1 s by paced"]
    assert run.check.done == asked
    assert [verdict.met for verdict in run.thresholds] == [True]
    assert "no price was judged: that is locust's" in run.check.remarks


def test_the_same_seed_means_the_same_requests(shop):
    digests = set()
    for number in range(2):
        options = Options(written(shop.folder), out=shop.folder / str(number), state=shop.folder)
        digests.add(carry_out(options, Generator.PACED, say=lambda _: None)[0].request_digest)
    assert len(digests) == 1


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not on this machine")
def test_one_edge_is_asked_by_wrk(shop):
    run, _ = carry_out(wanted(shop), Generator.WRK, edge="eu", connections=4, say=lambda _: None)
    assert {cell.label.edge for cell in run.cells} == {"eu"}
    assert not run.open_loop


def test_an_edge_that_is_not_there_is_named(shop):
    with pytest.raises(CannotStart, match="no edge 'mars'; there are us, eu"):
        carry_out(wanted(shop), Generator.PACED, edge="mars")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["--generator", "fast"], "expected locust, paced or wrk", id="unknown"),
        pytest.param(["--edge", "eu"], "locust plays everybody", id="an edge by locust"),
        pytest.param(["--generator", "wrk"], "wrk asks one edge at a time, not us, eu", id="several edges by wrk"),
        pytest.param(
            ["--generator", "paced", "--set", "deeds=[{do: flush, phase: run}]"],
            "it changes or breaks the shop, which only locust does",
            id="deeds",
        ),
    ],
)
def test_what_cannot_be_run_is_said_with_status_2(shop, arguments, said):
    found = CliRunner().invoke(load, ["run", written(shop.folder), "--state", str(shop.folder), *arguments])
    assert found.exit_code == 2
    assert said in found.stderr
    assert "Traceback" not in found.stderr


def test_the_command_ends_with_the_runs_status(shop):
    command = ["run", written(shop.folder), "--state", str(shop.folder), "--generator", "paced"]
    found = CliRunner().invoke(load, [*command, "--out", str(shop.folder / "run")])
    assert found.exit_code in {0, 3}, found.output  # 3 where this machine is too busy
    assert f"report: {shop.folder / 'run' / 'report.html'}" in found.output
    assert (found.exit_code == 0) is read_run(shop.folder / "run").passed
