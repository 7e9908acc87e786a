"""Our lint finds each planted mistake, names its place, and finds nothing in what the compiler makes."""

from __future__ import annotations

import copy
import json
import random
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge.policy_files import load_policies, read_policies
from infra.aws.compile import GATE, TEMPLATE, compile_policies, compile_to
from infra.aws.lint import RULES, lint
from infra.commands import app
from tests.infra_aws.planted import GATE_PLANTED, PLANTED

FULL = Path(__file__).parents[1] / "support" / "policies_full"
FILES = read_policies(FULL)
POLICIES = load_policies(FULL)
COMPILED = compile_policies(POLICIES, ["shop.example"])
CLEAN = {name: json.loads(COMPILED.files[name]) for name in (TEMPLATE, GATE)}
CASES = [
    *(pytest.param(TEMPLATE, code, planted, id=code) for code, planted in PLANTED.items()),
    *(pytest.param(GATE, code, planted, id=f"{code} in the gate") for code, planted in GATE_PLANTED.items()),
]


def findings_after(name, change):
    template = copy.deepcopy(CLEAN[name])
    change(template)
    return lint(template, POLICIES, FILES.places)


@pytest.mark.parametrize("folder", [None, FULL], ids=["the shipped policies", "policies with every field"])
def test_nothing_in_what_the_compiler_makes(folder):
    policies = load_policies(folder)
    for hosts in ((), ("shop.example",)):
        compiled = compile_policies(policies, hosts)
        for name in (TEMPLATE, GATE):
            assert lint(json.loads(compiled.files[name]), policies) == []


def test_every_rule_has_a_mistake_and_what_only_looks_like_it():
    assert {*PLANTED, *GATE_PLANTED} == set(RULES)
    assert len(RULES) >= 45


@pytest.mark.parametrize(("name", "code", "planted"), CASES)
def test_a_planted_mistake_is_found(name, code, planted):
    found = [finding for finding in findings_after(name, planted.bad) if finding.code == code]
    assert found
    for finding in found:
        assert finding.where
        assert finding.what
        assert finding.fix == RULES[code].fix
        assert re.fullmatch(r"docs\.aws\.amazon\.com/[A-Za-z0-9/_-]+\.html", finding.source)
        assert str(finding).startswith(f"{finding.where}: {code} {finding.what}; {finding.fix} ({finding.source})")


@pytest.mark.parametrize(("name", "code", "planted"), CASES)
def test_what_only_looks_like_it_is_not(name, code, planted):
    template = copy.deepcopy(CLEAN[name])
    planted.good(template)
    assert template != CLEAN[name]
    assert code not in {finding.code for finding in lint(template, POLICIES, FILES.places)}


@pytest.mark.parametrize(
    ("code", "place"),
    [
        pytest.param("EDGE113", "pages.yaml:4:3 product-page", id="a default of the file"),
        pytest.param("EDGE202", "pages.yaml:33:5 product-page", id="a field of the route"),
        pytest.param("EDGE195", "private.yaml:19:5 account", id="a field in another file"),
        pytest.param("EDGE106", "pages.yaml:28:3 product-page", id="no field: where the route begins"),
    ],
)
def test_a_finding_names_the_line_of_the_policy_that_it_stems_from(code, place):
    (finding,) = [item for item in findings_after(TEMPLATE, PLANTED[code].bad) if item.code == code]
    assert finding.place == place
    assert str(finding).endswith(f"[{place}]")


def test_a_finding_about_several_routes_counts_them():
    def change(template):
        for resource in template["Resources"].values():
            if resource["Type"] == "AWS::CloudFront::CachePolicy":
                resource["Properties"]["CachePolicyConfig"]["MinTTL"] = 5

    places = {item.place for item in findings_after(TEMPLATE, change) if item.code == "EDGE123"}
    assert "pages.yaml:4:3 home and 2 more" in places


TAKE_AWAY = {
    "EDGE105", "EDGE107", "EDGE108", "EDGE112", "EDGE115", "EDGE116", "EDGE117", "EDGE125", "EDGE127", "EDGE129",
    "EDGE136", "EDGE139", "EDGE149", "EDGE160", "EDGE163", "EDGE173", "EDGE193", "EDGE202", "EDGE203", "EDGE205",
    "EDGE206", "EDGE212", "EDGE213",
}  # fmt: skip
"""Mistakes that take away what another mistake is made in."""


def test_one_mistake_does_not_hide_another():
    template = copy.deepcopy(CLEAN[TEMPLATE])
    planted = [code for code in PLANTED if code not in TAKE_AWAY]
    for code in planted:
        PLANTED[code].bad(template)
    found = {finding.code for finding in lint(template, POLICIES, FILES.places)}
    assert set(planted) <= found
    assert len(planted) >= 60


def test_a_template_that_makes_no_sense_is_linted_all_the_same():
    """Whatever stands in the place of any part: cfn-lint says that it is wrong, ours goes on."""
    chance = random.Random(20_261_121)
    nonsense: list[object] = [
        None,
        {},
        [],
        "",
        "x",
        7,
        -1,
        True,
        [None],
        {"Ref": "Nothing"},
        {"Ref": 3},
        {"Fn::GetAtt": []},
        [[]],
    ]
    for _ in range(500):
        template = copy.deepcopy(CLEAN[chance.choice([TEMPLATE, TEMPLATE, GATE])])
        for _ in range(chance.randint(1, 3)):
            spoil(template, chance, nonsense)
        lint(template, POLICIES, FILES.places)


def spoil(node, chance, nonsense):
    """Replace one part somewhere in the tree, or take it out."""
    while True:
        children = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not children:
            return
        chosen = chance.choice(children)
        if isinstance(node[chosen], dict | list) and node[chosen] and chance.random() < 0.8:
            node = node[chosen]
            continue
        if chance.random() < 0.3:
            del node[chosen]
        else:
            node[chosen] = chance.choice(nonsense)
        return


# --- the command -----------------------------------------------------------------------------------------------


def run(*arguments):
    return CliRunner().invoke(app, ["aws", "lint", *map(str, arguments)])


def test_the_command_says_that_there_is_nothing(tmp_path):
    compile_to(None, tmp_path)
    result = run(tmp_path / TEMPLATE)
    assert (result.exit_code, result.output) == (0, f"no finding in {tmp_path / TEMPLATE}: {len(RULES)} rules\n")


def test_the_command_lists_what_a_hand_has_changed(tmp_path):
    template = copy.deepcopy(CLEAN[TEMPLATE])
    PLANTED["EDGE123"].bad(template)
    PLANTED["EDGE201"].bad(template)
    changed = tmp_path / "changed.json"
    changed.write_text(json.dumps(template))
    result = run(changed, "--policies", FULL)
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert [re.findall("EDGE[0-9]+", line) for line in lines[:-1]] == [["EDGE123"], ["EDGE124"], ["EDGE201"]]
    assert lines[-1] == "3 findings"
    assert "EDGE241" in run(changed).output


@pytest.mark.parametrize(
    ("written", "said"),
    [
        pytest.param(None, "cannot be read: No such file or directory", id="nothing there"),
        pytest.param(b"{\n  nothing", ":2:3: no JSON", id="no JSON"),
        pytest.param(b"\xff", "is not UTF-8 text", id="no text"),
        pytest.param(b"[]", "has no Resources", id="no template"),
        pytest.param(b"[" * 100_000, "nested too deep", id="endless"),
    ],
)
def test_what_is_no_template_is_refused_in_words(tmp_path, written, said):
    template = tmp_path / "template.json"
    if written is not None:
        template.write_bytes(written)
    result = run(template)
    assert said in str(result.exception)
    assert type(result.exception).__name__ == "CommandError"


def test_policies_with_faults_are_named(tmp_path):
    compile_to(None, tmp_path)
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "default.yaml").write_text("routes: {}\n")
    result = run(tmp_path / TEMPLATE, "--policies", tmp_path / "policies")
    assert "the policies that the template is held against have faults:" in str(result.exception)


def test_the_rules_can_be_read():
    result = run("--rules")
    assert result.exit_code == 0
    for rule in RULES.values():
        assert f"{rule.code} {rule.title}\n  fix: {rule.fix}\n  {rule.source}\n" in result.output


def test_a_template_must_be_named():
    assert "no template; name the edge.json" in str(run().exception)
