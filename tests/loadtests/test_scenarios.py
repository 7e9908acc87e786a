"""Scenario files: the ones that come with the project are complete, and every fault of one is said in one run."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.plan import Person
from loadtests.recorder.run import Status
from loadtests.scenario import Act
from loadtests.scenario_files import BadScenario, load_scenario, scenario_names

NAMES = (
    "bot-crawl",
    "cache-busting",
    "cold-start",
    "country-shift",
    "flash-sale",
    "origin-outage",
    "price-storm",
    "purge-storm",
    "replay",
    "steady-day",
)
LEAST = "description: A try.\nduration: 10s\nrate: 5\n"


def written(folder: Path, text: str) -> str:
    path = folder / "my.yaml"
    path.write_text(text, "utf-8")
    return str(path)


def faults_of(folder: Path, text: str, settings: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(BadScenario) as caught:
        load_scenario(written(folder, text), settings)
    return str(caught.value).splitlines()


def test_the_scenarios_that_come_with_the_project_are_these():
    assert scenario_names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_scenario_can_be_read_says_what_it_is_and_what_has_to_be_true(name):
    scenario = load_scenario(name)
    assert scenario.name == name
    assert len(scenario.description) > 40
    assert scenario.thresholds
    assert [phase.from_s for phase in scenario.phases] == sorted({phase.from_s for phase in scenario.phases})


def test_people_stand_in_their_own_file():
    people = load_scenario("steady-day").people
    assert people.popularity == 0.8
    shares = people.people
    assert shares[Person.BOT] / sum(shares.values()) == pytest.approx(0.35)
    assert people.funnel == {"view": 96.7, "add": 2.5, "buy": 0.8}
    assert people.home_edges["gb-gbp"] == "eu"


def test_the_documents_figures_are_in_the_scenarios():
    assert load_scenario("steady-day").shape.busiest == 5.4
    assert load_scenario("flash-sale").phases[1].crowd == 20
    storm = load_scenario("purge-storm")
    purges = next(deed for deed in storm.deeds if deed.act is Act.PURGES)
    assert purges.per_minute == 1_000
    assert storm.duration_s - storm.phases[1].from_s == 300


def test_the_least_is_a_description_a_duration_and_a_rate(tmp_path):
    scenario = load_scenario(written(tmp_path, LEAST))
    assert (scenario.name, scenario.duration_s, scenario.warmup_s, scenario.rate) == ("my", 10, 0, 5)
    assert [phase.name for phase in scenario.phases] == ["run"]
    assert scenario.people == load_scenario("steady-day").people


def test_a_scenario_says_only_what_differs_from_people_yaml(tmp_path):
    text = LEAST + "popularity: 1.1\nthink: {browser: 9s}\nbots: {heads: 0}\nhome_edges: {eu-eur: mars}\n"
    people, usual = load_scenario(written(tmp_path, text)).people, load_scenario("steady-day").people
    assert people.popularity == 1.1
    assert people.think == {Person.BROWSER: 9, Person.SEARCHER: usual.think[Person.SEARCHER]}
    assert (people.bots.heads, people.bots.crawlers) == (0, usual.bots.crawlers)
    assert (people.home_edges["eu-eur"], people.home_edges["us-usd"]) == ("mars", "us")
    assert people.markets == usual.markets


def test_every_fault_is_said_at_once_with_place_field_and_what_was_expected(tmp_path):
    text = """\
duraton: 3s
rate: fast
shape: {kind: dya}
phases:
  - {name: rest, from: 0s}
  - {name: Up, from: 60s}
  - {name: storm, from: 10s, lod: 3}
people: {browzer: 3}
markets: {eu: 5}
deeds:
  - {do: price, phase: storm}
  - {do: prices, phase: storm, per_minute: 0}
  - {do: fault, phase: rest, command: cut, name: eu}
bots: {crawlers: 0}
popularity: 2
thresholds:
  - p99{status=hti} < 15ms
  - p98 < 15
"""
    assert faults_of(tmp_path, text) == [
        "my.yaml:1:1: description is missing",
        "my.yaml:1:1: duration is missing",
        "my.yaml:1:1 duraton: no such field; did you mean duration?",
        "my.yaml:2:7 rate: fast, expected requests a second, from 0.1 to 100000",
        "my.yaml:3:15 shape.kind: dya, expected one of steady, day, ramp; did you mean day?",
        "my.yaml:6:12 phases[1].name: Up, expected small letters, digits and hyphens, such as storm; did you mean up?",
        "my.yaml:7:30 phases[2].lod: no such field; did you mean load?",
        "my.yaml:8:10 people.browzer: browzer, expected one of browser, searcher, bot; did you mean browser?",
        "my.yaml:9:11 markets.eu: eu, expected the id of a market, such as eu-eur",
        "my.yaml:11:10 deeds[0].do: price, expected one of prices, purges, flush, fault; did you mean prices?",
        "my.yaml:12:5 deeds[1]: prices is missing",
        "my.yaml:12:44 deeds[1].per_minute: 0, expected a number above zero, such as 60",
        "my.yaml:13:5 deeds[2]: edge is missing: cut wants to know what",
        "my.yaml:13:50 deeds[2].name: cut takes no name",
        "my.yaml:14:18 bots.crawlers: 0, expected a whole number from 1 to 1000",
        "my.yaml:15:13 popularity: 2, expected an exponent from 0.6 to 1.1",
        f"my.yaml:17:16 thresholds: hti, expected a status: {', '.join(Status)}; did you mean hit?",
        "my.yaml:18:11 thresholds: 15 without a unit, expected one such as 15ms or 2s",
    ]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        pytest.param(
            "phases: [{name: late, from: 2s}]",
            "my.yaml:4:29 phases[0].from: the first phase begins at 0s, where the warm-up ends",
            id="a first phase that is not the first",
        ),
        pytest.param(
            "phases: [{name: a, from: 0s}, {name: b, from: 0s}]",
            "my.yaml:4:47 phases[1].from: not after a begins, expected phases in their order",
            id="two phases at a time",
        ),
        pytest.param(
            "phases: [{name: a, from: 0s}, {name: a, from: 5s}]",
            "my.yaml:4:31 phases[1]: a a second time, expected each phase once",
            id="one phase twice",
        ),
        pytest.param(
            "phases: [{name: a, from: 0s}, {name: b, from: 10s}]",
            "my.yaml:4:47 phases[1].from: b begins when the scenario is over, expected before its duration",
            id="a phase after the end",
        ),
        pytest.param(
            "phases: [{name: warm-up, from: 0s}]",
            "my.yaml:4:10 phases[0]: warm-up is the name of the part before all phases",
            id="a phase that is called as the warm-up",
        ),
        pytest.param(
            "phases: [{name: storm, from: 0s}]\ndeeds: [{do: flush, phase: strom}]",
            "my.yaml:5:28 deeds[0].phase: strom, expected one of warm-up, storm; did you mean storm?",
            id="a deed in no phase",
        ),
        pytest.param(
            "thresholds: ['errors{phase=rnu} == 0']",
            "my.yaml:4:14 thresholds: there is no phase rnu, expected one of warm-up, run; did you mean run?",
            id="a threshold on no phase",
        ),
        pytest.param(
            "people: {browser: 0}",
            "my.yaml:4:9 people: a mapping, expected a mapping from browser, searcher and bot to their shares, "
            "one of them above zero",
            id="nobody at all",
        ),
        pytest.param(
            "replay: {order: x.gz}",
            "my.yaml:4:10 replay.order: no such field; did you mean orders?",
            id="a field of a recording",
        ),
        pytest.param("shape: flat", "my.yaml:4:8 shape: flat, expected one of steady, day, ramp", id="a shape"),
    ],
)
def test_what_contradicts_itself_is_a_fault(tmp_path, more, said):
    assert faults_of(tmp_path, LEAST + more) == [said]


def test_a_misspelt_name_is_met_with_the_nearest():
    with pytest.raises(BadScenario, match=r"stedy-day: no scenario of that name; did you mean steady-day\?"):
        load_scenario("stedy-day")


def test_a_name_like_no_other_is_met_with_all_names():
    with pytest.raises(BadScenario, match=r"nope: no scenario of that name\. There are bot-crawl, .*; a file of"):
        load_scenario("nope")


def test_a_file_that_is_not_there_is_said_so(tmp_path):
    with pytest.raises(BadScenario, match=r"none\.yaml:1:1: cannot be read: No such file or directory"):
        load_scenario(str(tmp_path / "none.yaml"))


def test_single_fields_are_set_from_outside():
    settings = {"rate": "7", "people.bot": "0", "phases.flash.crowd": "5", "phases.0.load": "2", "returns": "0"}
    scenario, usual = load_scenario("flash-sale", settings), load_scenario("flash-sale")
    assert scenario.rate == 7
    assert scenario.people.people == {**usual.people.people, Person.BOT: 0}
    assert scenario.people.returns == 0
    assert [(phase.crowd, phase.load) for phase in scenario.phases] == [(0, 2), (5, 1)]
    assert load_scenario("flash-sale") == usual


def test_another_duration_keeps_the_phases_shares_and_never_a_longer_warm_up():
    usual = load_scenario("flash-sale")
    short, long = (load_scenario("flash-sale", {"duration": text}) for text in ("6s", "10m"))
    assert (short.duration_s, short.warmup_s, short.phases[1].from_s) == (6, 2, 3)
    assert (long.duration_s, long.warmup_s, long.phases[1].from_s) == (600, usual.warmup_s, 300)


@pytest.mark.parametrize(
    ("key", "text", "said"),
    [
        ("rate", "many", "--set rate=many:1:1 rate: many, expected requests a second, from 0.1 to 100000"),
        ("people.bto", "3", "people.bto: bto, expected one of browser, searcher, bot; did you mean bot?"),
        ("phases.flahs.crowd", "1", "phases has no flahs to set something of, expected one of rest, flash"),
        ("duration", "9", "duration: 9, expected a duration of one second or more, such as 5s; did you mean 9s?"),
        ("bots.crawlers", "{a", "bots.crawlers: not YAML: expected ',' or '}', but got '<stream end>'"),
        ("Rate", "1", "no path of fields, expected names with dots between them, such as people.bot"),
        ("rate.high", "1", "rate.high: rate is 12, which has no high"),
    ],
)
def test_a_setting_that_means_nothing_is_a_fault_at_the_setting(key, text, said):
    with pytest.raises(BadScenario) as caught:
        load_scenario("flash-sale", {key: text})
    assert said in str(caught.value)
    assert f"--set {key}={text}:1:" in str(caught.value)
