"""`python -m loadtests.whatif`: what it changes, what it holds against what, and how it ends; the long run itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cache_policies.reading import PACKAGED_POLICIES
from edge.policy_files import load_policies
from infra.policy.diff import compare as policies_differ
from infra.policy.diff import read_side
from loadtests import whatif
from loadtests.recorder.histogram import Histogram
from loadtests.recorder.run import Cell, GeneratorCheck, Label, Machine, Phase, Run, Status
from loadtests.scenario_files import load_scenario


def test_every_change_is_made_to_policies_that_edges_take(tmp_path):
    before = whatif.edited(tmp_path / "a", PACKAGED_POLICIES, whatif.BEFORE)
    digests = {load_policies(before).digest}
    for name, edits in whatif.CHANGES.items():
        folder = whatif.edited(tmp_path / name, before, edits)
        digests.add(load_policies(folder).digest)
        assert policies_differ(read_side(str(before)), read_side(str(folder))).changed
    assert len(digests) == 1 + len(whatif.CHANGES)


def test_an_edit_of_what_is_not_there_is_refused(tmp_path):
    with pytest.raises(whatif.Failed, match=r"catalog.yaml has 'fresh: 7s' 0 times"):
        whatif.edited(tmp_path / "a", PACKAGED_POLICIES, [whatif.Edit("catalog.yaml", "fresh: 7s", "fresh: 8s")])


def test_the_scenario_can_be_read():
    scenario = load_scenario(str(whatif.SCENARIO))
    assert scenario.deeds
    assert scenario.phases[0].busting > 0


def test_a_run_of_which_nothing_has_a_ratio_proves_nothing():
    nothing = whatif.Line("longer", "all", 0, None, None, None)
    assert not nothing.good
    assert whatif.Line("longer", "search", 900, None, None, None).good
    assert not whatif.Line("longer", "all", 900, 0.5, 0.5, None).good


def route(before: float | None, after: float | None, requests: int = 1_000, recorded: float | None = None) -> Any:
    return {
        "recorded": before if recorded is None else recorded,
        "before": before,
        "after": after,
        "requests": requests,
    }


def replayed(ratio: dict[str, float], routes: dict[str, Any], requests: int = 2_000) -> dict[str, Any]:
    return {
        "requests": requests,
        "hit_ratio": ratio,
        "routes": routes,
        "origin_requests_per_s": {"before": 10.0, "after": 20.0},
        "objects": {"cold": 3, "at_the_end": 5},
        "cautions": [],
    }


def run_of(hits: int = 70, misses: int = 30, faults: tuple[str, ...] = (), digest: str = "d") -> Run:
    cells = [
        Cell(Label(phase, status, "product", "eu", "eu-eur"), Histogram(), Histogram(), requests)
        for phase, status, requests in (
            ("rest", Status.HIT, hits - 10),
            ("rest", Status.STALE, 10),
            ("rest", Status.MISS, misses),
            ("rest", Status.PASS, 1_000),
            ("warm-up", Status.MISS, 1_000),
        )
    ]
    return Run(
        scenario="whatif",
        description="",
        started_at="2026-11-21T20:00:00.000+00:00",
        seed=1,
        generator="locust",
        open_loop=True,
        duration_s=75.0,
        request_digest=digest,
        machine=Machine("cpu", 2, 1, "kernel"),
        phases=[Phase("warm-up", 0.0, 15.0, counts=False), Phase("rest", 15.0, 75.0)],
        cells=cells,
        check=GeneratorCheck(faults=list(faults)),
    )


PREDICTED = replayed(
    {"recorded": 0.67, "before": 0.67, "after": 0.80},
    {"product-page": route(0.69, 0.85), "home": route(0.96, 1.0, 100), "default": route(None, None, 7)},
)


def measured(all_ratio: float, product: float, home: float = 1.0) -> dict[str, Any]:
    routes = {"product-page": route(product, product), "home": route(home, home, 100)}
    return replayed({"recorded": all_ratio, "before": all_ratio, "after": all_ratio}, routes)


MEASURED = whatif.Measured(run_of(), Path("nowhere"))


def test_two_points_are_the_line():
    assert whatif.compare("longer", PREDICTED, measured(0.782, 0.85), MEASURED).good
    assert not whatif.compare("longer", PREDICTED, measured(0.778, 0.85), MEASURED).good
    assert not whatif.compare("longer", PREDICTED, measured(0.80, 0.872), MEASURED).good


def test_a_route_that_few_ask_for_is_shown_and_not_judged():
    compared = whatif.compare("longer", PREDICTED, measured(0.80, 0.85, home=0.5), MEASURED)
    assert compared.good
    (home,) = [line for line in compared.lines if line.route == "home"]
    assert home.off_points == pytest.approx(50.0)
    assert any(text.startswith("longer") and text.endswith("few") for text in whatif.table([compared]))


def test_a_route_without_hits_or_misses_has_no_line():
    compared = whatif.compare("longer", PREDICTED, measured(0.80, 0.85), MEASURED)
    assert [line.route for line in compared.lines] == ["all", "home", "product-page"]


def test_a_ratio_that_only_one_side_has_is_off():
    gone = replayed({"recorded": 0.80, "before": 0.80, "after": 0.80}, {"product-page": route(None, None)})
    compared = whatif.compare("not-stored", PREDICTED, gone, MEASURED)
    assert not compared.good


def test_viewers_saw_what_counts_without_warm_up_and_passes():
    compared = whatif.compare("longer", PREDICTED, measured(0.80, 0.85), MEASURED)
    assert compared.seen_by_viewers == pytest.approx(0.7)


def test_what_counts_begins_after_the_warm_up():
    assert [moment.isoformat() for moment in MEASURED.span] == [
        "2026-11-21T20:00:15+00:00",
        "2026-11-21T20:01:15+00:00",
    ]


def test_the_origin_is_asked_for_its_own_account(tmp_path):
    began = whatif.Measured(run_of(), tmp_path).span[0].timestamp()
    lines = [
        {"time": began + at, "edge_key": key}
        for at, key in ((-1, True), (0, True), (30, True), (30, False), (59.9, True), (60, True))
    ]
    (tmp_path / whatif.ORIGIN_LOG).write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert whatif.Measured(run_of(), tmp_path).fetched_per_s == pytest.approx(3 / 60)
    assert MEASURED.fetched_per_s is None


@pytest.fixture
def played(monkeypatch, tmp_path) -> Callable[..., int]:
    """`main`, with runs that are made up."""

    def play(real: dict[str, Any], runs: dict[str, Run] | None = None, *arguments: str) -> int:
        def measure(name: str, policies: Path, out: Path, asked: whatif.Asked) -> whatif.Measured:
            assert (policies / "catalog.yaml").is_file()
            return whatif.Measured((runs or {}).get(name, run_of()), out)

        def predict(before: Path, after: Path, found: whatif.Measured) -> dict[str, Any]:
            return real if before == after else PREDICTED

        monkeypatch.setattr(whatif, "measure", measure)
        monkeypatch.setattr(whatif, "predict", predict)
        return whatif.main(["--only", "longer", *arguments])

    return play


def test_it_ends_by_what_was_found(played, capsys):
    assert played(measured(0.80, 0.85)) == 0
    assert "longer  all" in capsys.readouterr().out
    assert played(measured(0.80, 0.70)) == 1
    assert "OFF" in capsys.readouterr().out
    assert played(measured(0.80, 0.85), {"longer": run_of(faults=("too slow",))}) == 3
    assert "the run under longer is invalid: too slow" in capsys.readouterr().err


def test_runs_of_other_requests_are_not_compared(played, capsys):
    assert played(measured(0.80, 0.85), {"longer": run_of(digest="another")}) == 2
    assert "meant other requests" in capsys.readouterr().err


def test_a_folder_that_is_not_empty_is_left_alone(played, tmp_path, capsys):
    (tmp_path / "mine").write_text("x")
    assert played(measured(0.80, 0.85), None, "--keep", str(tmp_path)) == 2
    assert "is not empty" in capsys.readouterr().err


def test_the_table_as_json(played, capsys):
    assert played(measured(0.80, 0.85), None, "--json") == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["change"], found["lines"][0]["predicted"]) == ("longer", 0.80)


def test_an_unknown_change_is_refused(capsys):
    with pytest.raises(SystemExit) as ended:
        whatif.main(["--only", "cheaper"])
    assert ended.value.code == 2
    assert "expected one or several of shorter" in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.database
def test_predictions_hold_for_real_runs(tmp_path):
    """Three policies, predicted and then really run: five minutes on a quiet machine."""
    assert whatif.main(["--only", "shorter,longer,keys", "--keep", str(tmp_path / "runs")]) == 0
