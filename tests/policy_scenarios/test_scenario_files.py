"""Broken scenario files: every fault at once, each with its line and column; and nothing is played."""

import re
from pathlib import Path

import pytest

from cache_policies.codes import CODES
from cache_policies.kinds import Field
from edge.policy_files import load_policies
from infra.policy import expectations, scenario_files
from infra.policy.scenario_files import read_scenarios
from infra.policy.scenarios import play

POLICIES = load_policies()
DOCUMENT = (Path(__file__).parents[2] / "docs" / "policies.md").read_text()


def faults(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    found = read_scenarios(path, POLICIES).faults
    for fault in found:
        assert fault.code in CODES
        assert fault.fix
    return [str(fault).removeprefix("a.yaml:") for fault in found]


def steps(tmp_path: Path, *lines: str) -> list[str]:
    return faults(tmp_path, "scenarios:\n  one:\n    steps:\n" + "".join(f"      - {line}\n" for line in lines))


GOOD = "{request: /, expect: {status: 302}}"

BROKEN = [
    ("{at: 30, request: /}", "5:14 scenarios.one.steps[1].at: 30, expected a duration with its unit", "[NS105]"),
    ("{at: 4000d}", "5:14 scenarios.one.steps[1].at: later than ten years", "[NS118]"),
    ("{att: 30s, request: /}", "5:10 scenarios.one.steps[1].att: no such field; did you mean at?", "[NS101]"),
    ("{request: [a]}", "5:19 scenarios.one.steps[1].request: a list, expected an address", "[NS103]"),
    ("{request: {}}", "5:19 scenarios.one.steps[1].request: url is missing", "[NS102]"),
    ("{request: get /}", "5:19 scenarios.one.steps[1].request: get /, expected an address, or a method", "[NS109]"),
    ("{request: {url: /, times: 0}}", "5:35 scenarios.one.steps[1].request.times: 0, expected a number", "NS118"),
    ("{request: {url: /, country: de}}", "5:37 scenarios.one.steps[1].request.country: de, expected two", "[NS119]"),
    ("{request: {url: /, client: me}}", "5:36 scenarios.one.steps[1].request.client: me, expected an add", "[NS103]"),
    ("{request: {url: /, headers: {a b: c}}}", "5:38 scenarios.one.steps[1].request.headers.a b: a b, exp", "[NS111]"),
    ("{purge: {}}", "5:17 scenarios.one.steps[1].purge: tags is missing", "[NS102]"),
    ("{purge: {tags: [A]}}", "5:25 scenarios.one.steps[1].purge.tags[0]: A, expected a cache tag", "[NS116]"),
    ("{purge: {tags: [a], kind: sofd}}", "5:35 scenarios.one.steps[1].purge.kind: sofd, expected one of", "[NS104]"),
    ("{origin: of}", "5:18 scenarios.one.steps[1].origin: of, expected one of up, down", "[NS104]"),
    ("{origin: {shp: down}}", "5:24 scenarios.one.steps[1].origin.shp: an unknown origin, shp; did you mean", "NS304"),
    ("{lease: lapsed}", "5:17 scenarios.one.steps[1].lease: lapsed, expected one of lapses", "[NS104]"),
    ("{expect: {status: 200}}", "5:18 scenarios.one.steps[1].expect: expect without a request", "[NS102]"),
    ("{answers: {eu: {}}}", "5:20 scenarios.one.steps[1].answers.eu: eu, expected an address", "[NS113]"),
    ("{answers: {/: {fails: x}}}", "5:31 scenarios.one.steps[1].answers./.fails: x, expected one of", "[NS104]"),
    ("{answers: {/: {position: 1}}}", "5:34 scenarios.one.steps[1].answers./.position: 1, expected head", "[NS104]"),
    ("{answers: {/: {body: abc, size: 2B}}}", "5:41 scenarios.one.steps[1].answers./.size: less than", "[NS118]"),
    ("{answers: {/: {slow: 1.5s}}}", "5:30 scenarios.one.steps[1].answers./.slow: 1.5s, expected a dur", "[NS105]"),
    ("{answers: {/: []}}", "5:23 scenarios.one.steps[1].answers./: a list, expected an answer or", "[NS103]"),
    ("{request: /, expect: {stats: 200}}", "5:31 scenarios.one.steps[1].expect.stats: no such field; did", "NS101"),
    ("{request: /, expect: {outcome: hits}}", "5:40 scenarios.one.steps[1].expect.outcome: hits, expected", "NS104"),
    ("{request: /, expect: {reason: cald}}", "5:39 scenarios.one.steps[1].expect.reason: cald, expected a", "NS104"),
    ("{request: /, expect: {route: hom}}", "5:38 scenarios.one.steps[1].expect.route: hom, expected the", "mean home"),
    ("{request: /, expect: {same_key_as: x}}", "5:44 scenarios.one.steps[1].expect.same_key_as: x, expecte", "NS104"),
    ("{request: /, expect: {stored: yes}}", "5:39 scenarios.one.steps[1].expect.stored: yes, expected true", "NS107"),
    ("{request: /, expect: {key: {pth: /}}}", "5:37 scenarios.one.steps[1].expect.key.pth: no such field", "NS101"),
    ("{request: /, expect: {origin_fetches: x}}", "5:47 scenarios.one.steps[1].expect.origin_fetches: x", "NS118"),
    ("{request: /, expect: {present: etag}}", "5:40 scenarios.one.steps[1].expect.present: etag, expected", "NS103"),
    ("{request: /, expect: {headers: {etag: []}}}", "5:47 scenarios.one.steps[1].expect.headers.etag: a l", "NS103"),
]  # fmt: skip


@pytest.mark.parametrize(("step", "said", "more"), BROKEN)
def test_a_fault_is_reported_where_it_is(tmp_path, step, said, more):
    found = steps(tmp_path, GOOD, step)
    assert len(found) == 1
    assert found[0].startswith(said)
    assert more in found[0]


def test_steps_stand_in_the_order_of_their_time(tmp_path):
    found = steps(tmp_path, "{at: 30s, request: /}", "{at: 10s, request: /, expect: {status: 302}}")
    assert found == ["5:14 scenarios.one.steps[1].at: 10s, earlier than the step before it [NS118]"]


def test_an_id_is_given_once(tmp_path):
    found = steps(tmp_path, "{id: a, request: /}", "{id: a, request: /, expect: {same_key_as: a}}")
    assert found == ["5:14 scenarios.one.steps[1].id: id a a second time [NS302]"]


def test_a_scenario_that_cannot_fail_is_a_fault(tmp_path):
    assert steps(tmp_path, "{request: /}") == [
        "2:3 scenarios.one: nothing is expected, so that it could not fail [NS102]"
    ]
    assert steps(tmp_path, "{request: /, expect: {}}") == [
        "2:3 scenarios.one: nothing is expected, so that it could not fail [NS102]"
    ]


def test_every_fault_of_a_file_is_reported_at_once(tmp_path):
    text = (
        "answer: {}\nscenarios:\n  One Two:\n    stepz: []\n  two: text\n  three:\n    steps:\n"
        "      - {at: x, request: /, expect: {status: 20}}\n"
    )
    assert [re.sub(r":.*\[", " [", fault, count=1).split(" ")[-1] for fault in faults(tmp_path, text)] == [
        "[NS101]",
        "[NS114]",
        "[NS102]",
        "[NS101]",
        "[NS103]",
        "[NS105]",
        "[NS108]",
    ]


def test_a_file_that_is_no_yaml(tmp_path):
    assert "[NS003]" in str(faults(tmp_path, "scenarios: ["))
    assert "[NS004]" in str(faults(tmp_path, ""))
    assert "scenarios is missing [NS102]" in str(faults(tmp_path, "answers: {}\n"))


TABLES: dict[str, tuple[Field, ...]] = {
    "A scenario file": scenario_files.FILE_FIELDS,
    "A scenario": scenario_files.SCENARIO_FIELDS,
    "A step": scenario_files.STEP_FIELDS,
    "An answer of the origin": scenario_files.ANSWER_FIELDS,
    "`proposes`": scenario_files.PROPOSED_FIELDS,
    "`purge`": scenario_files.PURGE_FIELDS,
    "`request`": scenario_files.REQUEST_FIELDS,
    "`expect`": expectations.EXPECT_FIELDS,
    "`cache_status`": expectations.STATUS_MEMBERS,
    "`key`": expectations.KEY_PARTS,
    "`forwarded`": expectations.FORWARDED_PARTS,
    "`lifetimes`": expectations.LIFETIMES,
}


def test_the_documented_example_plays(tmp_path):
    example = re.search(r"^```yaml\n(answers:\n.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert example is not None
    path = tmp_path / "lamp.yaml"
    path.write_text(example[1])
    file = read_scenarios(path, POLICIES)
    assert file.faults == ()
    assert [play(scenario, POLICIES).failures for scenario in file.scenarios] == [[]]


@pytest.mark.parametrize("heading", TABLES)
def test_every_field_is_documented_and_no_other(heading):
    section = re.search(rf"^#### {re.escape(heading)}\n(.*?)(?=^#|\Z)", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert section is not None
    rows = re.findall(r"^\| `.*\|$", section[1], re.MULTILINE)
    assert rows == [each.documented for each in TABLES[heading]]
