"""The schemas for editors accept exactly what the reader accepts of one file, as far as a schema has words for it."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from io import StringIO
from itertools import combinations
from typing import Any

import jsonschema
import pytest
import quickjs
from ruamel.yaml import YAML
from typer.testing import CliRunner

from cache_policies.codes import CODES, Severity
from cache_policies.markets import load_markets, read_markets
from cache_policies.origins import Origin, Origins
from cache_policies.origins_file import read_origins
from cache_policies.reading import PACKAGED_POLICIES, Fault, Value, parse_document
from edge.policy_checks import check_all, check_markets, check_origins
from edge.policy_files import read_routes
from edge.route_fields import ROUTE_FIELDS
from infra.errors import CommandError
from infra.policy.commands import policy
from infra.policy.schema import BEYOND_A_SCHEMA, CONTRADICTIONS, PUBLISHED, schemas, text

ROUNDS = {"policy": 3_000, "markets": 1_500, "origins": 750}
"""Files tried of each kind: by how many fields it has."""
BETWEEN_FILES = {
    "NS301": "routes hide each other",
    "NS302": "ids of several files",
    "NS303": "the last route of default.yaml",
    "NS304": "origins.yaml",
    "NS305": "markets.yaml and origins.yaml",
    "NS308": "markets.yaml",
}
"""Errors that need more than one route or file."""
OF_SPELLING = {"NS001", "NS002", "NS003", "NS004", "NS006", "NS007", "NS008", "NS009", "NS010", "NS011", "NS012"} | {
    "NS013", "NS014",
}  # fmt: skip
"""About how a file is written; a schema sees what YAML made of it."""

Document = Any


def as_ecma(pattern: str) -> str:
    """In ECMA-262 `$` is the end of the text; in Python it is also before a line end there."""
    return re.sub(r"\$(?=\)|$)", r"\\Z", pattern)


@cache
def validator(name: str) -> Any:
    original = jsonschema.Draft202012Validator.VALIDATORS

    def pattern(of: Any, pattern: str, instance: Any, schema: Any) -> Any:
        yield from original["pattern"](of, as_ecma(pattern), instance, schema)

    def pattern_properties(of: Any, patterns: Any, instance: Any, schema: Any) -> Any:
        in_python = {as_ecma(each): below for each, below in patterns.items()}
        yield from original["patternProperties"](of, in_python, instance, schema)

    def additional_properties(of: Any, below: Any, instance: Any, schema: Any) -> Any:
        in_python = {as_ecma(each): True for each in schema.get("patternProperties", {})}
        yield from original["additionalProperties"](of, below, instance, {**schema, "patternProperties": in_python})

    kind = jsonschema.validators.extend(
        jsonschema.Draft202012Validator,
        {
            "pattern": pattern,
            "patternProperties": pattern_properties,
            "additionalProperties": additional_properties,
        },
    )
    return kind(schemas()[name])


def accepts(name: str, document: Document) -> bool:
    return bool(validator(name).is_valid(document))


# What each kind of file is read by.


@cache
def markets() -> Any:
    return load_markets()


ORIGINS = Origins((Origin("shop", ("eu", "us")), Origin("far")))


def policy_errors(file: Value, faults: list[Fault]) -> None:
    routes = read_routes(file, markets())
    check_all(routes, markets(), ORIGINS, faults)


def markets_errors(file: Value, faults: list[Fault]) -> None:
    found = read_markets(file)
    if found is not None:
        check_markets(file, found)


def origins_errors(file: Value, faults: list[Fault]) -> None:
    found = read_origins(file)
    if found is not None:
        check_origins(file, found)


READERS: dict[str, Callable[[Value, list[Fault]], None]] = {
    "policy": policy_errors,
    "markets": markets_errors,
    "origins": origins_errors,
}


def errors(name: str, written: str) -> set[str]:
    """The codes of all errors in a file that has this text."""
    faults: list[Fault] = []
    file = parse_document(written, f"{name}.yaml", faults)
    if file is not None:
        READERS[name](file, faults)
    return {fault.code for fault in faults if fault.severity is Severity.ERROR}


# Documents. Each example is a value as a schema sees it.

GOOD: dict[str, list[Any]] = {
    "path": [],
    "data_class": ["public", "public", "personal"],
    "methods": [["GET"], ["GET", "HEAD"], [], ["GET", "POST"]],
    "forward_methods": [["GET", "HEAD"], [], ["GET", "POST", "PURGE"], "all"],
    "refuse": [404, 400, 499, "none"],
    "redirect": ["none", "none", "market"],
    "store": [True, True, False],
    "fresh": ["0s", "300s", "1d", "999999999d", "0s"],
    "heuristic": [0, 10, 100],
    "max_fresh": ["0s", "10m", "2d", "2147483648s"],
    "stale_while_revalidate": ["0s", "600s"],
    "max_stale_while_revalidate": ["0s", "600s", "1d"],
    "stale_if_error": ["0s", "0d", "1d", "1s"],
    "max_stale_if_error": ["0s", "1d", "2d"],
    "stale_if_unreachable": ["0s", "0m", "30d"],
    "keep": ["0h", "1h"],
    "negative": [{}, {"404": "10s"}, {"400": "0s", "599": "1m"}],
    "statuses": ["cacheable", "any"],
    "tags": [[], ["page:x"], ["a:{market}", "%2f~._-"], [f"t{number}" for number in range(51)], ["{nobody}"]],
    "query": ["all", [], ["page", "sort"], ["1"], ["utm_source~.-"]],
    "request_fields": [[], ["accept-language"], ["x-a", "accept"], ["authorization"], "all", "all"],
    "vary": [[], ["accept-language"], ["accept-encoding"], ["x-a", "accept", "authorization"], "any"],
    "request_directives": ["ignore", "honour"],
    "cookies": [True, False],
    "auth": ["none", "optional", "required", "shared"],
    "throttle": ["100/s", "600/m", "none", {"rate": "1/h"}, {"rate": "5/s", "burst": 1_000_000}],
    "blocked_countries": [[], ["KP"], ["NO", "SY"]],
    "residency": ["none", "none", "route", "tokenise", "seal"],
    "origin": ["shop", "far", "nowhere"],
    "shows_price": [True, False],
    "on_lease_lapse": ["fail", "stale-marked"],
    "generation": ["none", "product", "category", "market"],
    "compress": [True, False],
    "collapse_wait": ["0s", "5s"],
    "max_body": ["1B", "500kB", "999999MB"],
}
BAD: dict[str, list[Any]] = {
    "path": ["", "a", "//", "/a//b", "/{x...}/b", "/{x}{y}", "/{x}/{x}", "/{x}/{x...}", "/a b", "/{X}", "/%41", "/a\n"],
    "data_class": ["", "secret", "Public"],
    "methods": ["GET", ["get"], ["GET", "GET"], [""], ["G" * 21], ["GET\n"], [["GET"]]],
    "forward_methods": ["GET", ["get"], ["POST", "POST"], [7], "any", ["all"]],
    "refuse": [399, 500, "404", -404, 4_040, "all", 404.5],
    "redirect": ["home", ""],
    "store": ["true", 1, "yes"],
    "fresh": ["", "5", "-5s", "1.5s", "5 s", "05s", "10000000000s", "5w", "5s\n", 5],
    "heuristic": [-1, 101, "10", "10%", 0.5, True, 1000],
    "max_fresh": ["never"],
    "stale_while_revalidate": ["600"],
    "max_stale_while_revalidate": ["600"],
    "stale_if_error": ["1D"],
    "max_stale_if_error": [1],
    "stale_if_unreachable": ["30", 0],
    "keep": [0],
    "negative": [{"200": "5s"}, {"404": 5}, {"404": "5"}, {"04": "5s"}, {"4040": "5s"}, ["404"], {"404\n": "5s"}],
    "statuses": ["all", 200, [200], ""],
    "tags": ["x", ["A"], ["a b"], ["a,b"], ["*"], [""], ["{x...}"], ["{a"], ["a", "a"], ["é"], ["a\n"]],
    "query": ["page", ["a b"], ["page", "page"], ["x" * 41], [1], [True], [""]],
    "request_fields": [["cookie"], ["host"], ["x-forwarded-for"], ["if-none-match"], ["nearshelf-x"], ["te"],
                       ["A"], ["a"] * 2, "any"],
    "vary": [["Accept"], ["accept", "accept"], ["-a"], ["a" * 62], "accept", "all"],
    "request_directives": ["honor", True, ""],
    "cookies": ["false", 0],
    "auth": ["basic", ""],
    "throttle": ["100", 100, "0/s", "1/d", "100/s\n", {}, {"burst": 5}, {"rate": "5/s", "burst": 0}, {"rate": 5},
                 {"rate": "5/s", "x": 1}, {"rate": "5/s", "burst": "9"}, {"rate": "5/s", "burst": 1_000_001}, ["5/s"]],
    "blocked_countries": [["kp"], ["KPR"], ["KP", "KP"], "KP", [""], ["K1"]],
    "residency": ["eu", "route "],
    "origin": ["", "Shop", "a" * 41, "1shop", "shop\n"],
    "shows_price": ["no"],
    "on_lease_lapse": ["stale_marked", "stale"],
    "generation": ["page", "Market"],
    "compress": ["gzip", 1],
    "collapse_wait": ["5"],
    "max_body": ["0B", "2 MB", "2mb", "2GB", "1000000MB", "02B", 2],
}  # fmt: skip
OF_ANY_TYPE: list[Any] = [None, "", "x", 0, 7, -1, 1.5, True, False, [], {}, [None], {"x": "y"}, [[]], "\n", "null"]
PATHS = [
    "/p{n}", "/{{market}}/p{n}/{{slug}}", "/api/prices/p{n}/{{sku}}", "/{{market}}/stock/p{n}/{{sku}}", "/p{n}/prices",
    "/{{market}}/c{n}/{{category...}}", "/p{n}/{{market}}/", "/p{n}/prices-list/{{x}}", "/p{n}/{{market...}}",
    "/{{market}}/p{n}/{{sku...}}", "/p{n}/{{sku}}/{{slug}}",
]  # fmt: skip


def test_every_field_of_a_route_has_examples():
    names = [each.name for each in ROUTE_FIELDS]
    assert list(GOOD) == list(BAD) == names


def some_fields(rng: random.Random, likely: float) -> dict[str, Any]:
    return {
        name: rng.choice(values)
        for name, values in GOOD.items()
        if values and rng.random() < likely * (0.3 if name in {"refuse", "redirect", "residency", "data_class"} else 1)
    }


def a_policy_file(rng: random.Random) -> Document:
    """Most are without a fault of a single value; many contradict themselves."""
    likely = rng.choice([0.03, 0.08, 0.2])
    file: dict[str, Any] = {"routes": {}}
    if rng.random() < 0.5:
        file["defaults"] = some_fields(rng, likely)
        if rng.random() < 0.5:
            file["defaults"]["fresh"] = "5m"
    for number in range(rng.choice([0, 1, 1, 2, 3])):
        route = {"path": rng.choice(PATHS).format(n=number), **some_fields(rng, likely)}
        if rng.random() < 0.8:
            route |= rng.choice(
                [{"store": True, "fresh": "300s"}, {"fresh": "1h"}, {"store": False}, {"data_class": "personal"}]
            )
        file["routes"][f"route-{number}"] = route
    return file


def a_markets_file(rng: random.Random) -> Document:
    ids = rng.sample(["eu-eur", "us-usd", "jp-jpy", "kw-kwd", "no-nok"], rng.choice([1, 2, 3]))
    file: dict[str, Any] = {"default": rng.choice(ids), "markets": {}}
    for market in ids:
        country = market[:2].upper().replace("EU", "DE")
        file["markets"][market] = {
            "name": rng.choice(["Here", "Norge", "日本", "No", "1x"]),
            "country": country,
            "countries": rng.choice([[country], [country, "KP", "NO"], [country, f"X{country[0]}"]]),
            "currency": market[3:].upper(),
            "language": rng.choice(["en", "no", "en-GB", "ja-JP"]),
            "tax_display": rng.choice(["included", "excluded"]),
            "jurisdiction": rng.choice(["eu", "us", "nordics"]),
        }
    if rng.random() < 0.4:
        file["blocked"] = rng.choice([[], ["IR"], ["IR", "SY"]])
    if rng.random() < 0.7:
        possible: dict[str, list[dict[str, float]]] = {
            "EUR": [{"ending": 0.99}, {"ending": 0}, {"round_to": 0.05}, {"round_to": 2.5}],
            "JPY": [{"round_to": 1}, {"round_to": 250}, {"round_to": 10_000}],
            "KWD": [{"round_to": 0.005}, {"round_to": 0.001}, {"ending": 0.95}],
            "CLF": [{"round_to": 0.0001}, {"round_to": 1.0}],
        }
        file["currencies"] = {
            currency: rng.choice(roundings) for currency, roundings in possible.items() if rng.random() < 0.5
        }
    return file


def an_origins_file(rng: random.Random) -> Document:
    names = rng.sample(["shop", "far", "a", "x-1"], rng.choice([1, 2]))
    file: dict[str, Any] = {"default": rng.choice(names), "origins": {}}
    for name in names:
        examples: dict[str, list[Any]] = {
            "jurisdictions": [[], ["eu"], ["eu", "us"]],
            "connect_timeout": ["1s", "10s"],
            "response_timeout": ["30s", "2m"],
        }
        file["origins"][name] = {each: rng.choice(values) for each, values in examples.items() if rng.random() < 0.5}
    if len(names) == 2 and rng.random() < 0.3:
        file["origins"][names[0]]["reads_fail_over_to"] = names[1]
    return file


OTHER_BAD: dict[str, list[Any]] = {
    "country": ["de", "DEU", ""],
    "countries": [["de"], ["DE", "DE"], "DE", [False]],
    "currency": ["EUO", "eur", "", "XXX"],
    "language": ["EN", "en_GB", "english", "en-gb"],
    "tax_display": ["without"],
    "jurisdiction": ["EU", "e", "europeanunion"],
    "name": ["", 7],
    "default": ["", "eu", "Shop"],
    "blocked": [["no"], ["NO", "NO"], "NO", ["NOR"]],
    "currencies": [{"EUO": {"round_to": 1}}, {"eur": {}}, []],
    "EUR": [{}, {"round_to": 0.03}, {"round_to": 0}, {"round_to": 0.05, "ending": 0.99}, {"ending": 1}, {"step": 5},
            {"ending": 0.999}, {"ending": ".99"}, {"round_to": 0.001}, {"round_to": "0.05"}, {"round_to": 20_000},
            {"ending": -0.01}],
    "JPY": [{"ending": 0.99}, {"round_to": 0.05}, {"round_to": 3}, 10],
    "KWD": [{"round_to": 0.0005}, {"ending": 0.995}],
    "jurisdictions": [["EU"], ["eu", "eu"], "eu", ["e"]],
    "reads_fail_over_to": ["", "Far", "-"],
    "connect_timeout": ["0s", "5", "500ms"],
    "response_timeout": ["00s", 30],
}  # fmt: skip


def spoiled(rng: random.Random, document: Document) -> Document:
    """A copy with one thing changed, somewhere: a value, a name, or what is there at all."""
    copy = json.loads(json.dumps(document))
    holders = [copy, *_holders(copy)]
    holder = rng.choice(holders)
    if isinstance(holder, list):
        if holder and rng.random() < 0.7:
            holder[rng.randrange(len(holder))] = rng.choice(OF_ANY_TYPE)
        else:
            holder.append(rng.choice([*OF_ANY_TYPE, *holder]))
        return copy
    name = rng.choice(list(holder)) if holder else "nothing"
    match rng.randrange(6):
        case 0:
            holder.pop(name, None)
        case 1:
            holder[rng.choice([name.upper(), name + "s", "x", "", "path", "defaults", "7", "eu-eur", name + "\n"])] = (
                holder.get(name)
            )
        case 2:
            holder[name] = rng.choice(OF_ANY_TYPE)
        case _:
            bad = {**BAD, **OTHER_BAD}
            candidates = [each for each in holder if each in bad]
            if "path" in holder and rng.random() < 0.7:
                each = rng.choice(list(BAD))
                holder[each] = rng.choice(BAD[each])
            elif candidates:
                each = rng.choice(candidates)
                holder[each] = rng.choice(bad[each])
            else:
                holder["defaults" if holder is copy else name] = rng.choice(OF_ANY_TYPE)
    return copy


def _holders(value: Any) -> list[Any]:
    below = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    return [found for each in below if isinstance(each, dict | list) for found in (each, *_holders(each))]


def written_out(rng: random.Random, document: Document) -> str:
    """JSON is YAML, too; sometimes as people write it, without quotes where none are needed."""
    if rng.random() < 0.8:
        return json.dumps(document, ensure_ascii=rng.random() < 0.5)
    stream = StringIO()
    YAML(typ="safe", pure=True).dump(json.loads(json.dumps(document)), stream)  # no object twice: no alias
    return stream.getvalue()


GENERATORS = {"policy": a_policy_file, "markets": a_markets_file, "origins": an_origins_file}


@pytest.mark.parametrize("name", GENERATORS)
def test_a_schema_accepts_what_the_reader_accepts(name):
    rng = random.Random(f"schema {name}")
    seen: Counter[str] = Counter()
    alone: Counter[str] = Counter()
    accepted = 0
    for number in range(ROUNDS[name]):
        document = GENERATORS[name](rng)
        if number % 2:
            document = spoiled(rng, document)
        source = written_out(rng, document)
        found = errors(name, source)
        unsayable = found & (BEYOND_A_SCHEMA.keys() | BETWEEN_FILES.keys())
        sayable = found - unsayable
        seen.update(found)
        accepted += not sayable
        if len(sayable) == 1:
            alone.update(sayable)
        assert accepts(name, document) == (not sayable), (sorted(found), source)
    assert accepted > ROUNDS[name] / 8
    if name == "policy":
        assert {code for code, _ in CONTRADICTIONS} <= seen.keys(), seen
        assert len(alone.keys() & PLANTED_CODES) >= len(PLANTED_CODES) - 4, alone
        assert {code for code in CODES if "NS101" <= code <= "NS119"} <= seen.keys(), seen
    if name == "markets":
        assert {"NS119", "NS120", "NS121", "NS122", "NS123", "NS125", "NS131", "NS132", "NS133"} <= seen.keys(), seen
    if name == "origins":
        assert {"NS105", "NS122", "NS124", "NS134"} <= seen.keys(), seen


FRESH = {"fresh": "5s"}
PLANTED: list[tuple[str, dict[str, Any]]] = [
    ("NS201", {"data_class": "personal", "store": True}),
    ("NS202", {"data_class": "personal", "keep": "1h"}),
    ("NS202", {"store": False, "negative": {}}),
    ("NS203", {}),
    ("NS203", {"store": True, "data_class": "public", "keep": "1h"}),
    ("NS205", {**FRESH, "cookies": True}),
    ("NS207", {**FRESH, "refuse": 404}),
    ("NS208", {**FRESH, "methods": ["GET", "POST"]}),
    ("NS210", {**FRESH, "stale_if_error": "1d", "shows_price": True}),
    ("NS210", {**FRESH, "stale_if_error": "1d", "shows_price": True, "on_lease_lapse": "fail"}),
    ("NS210", {**FRESH, "max_stale_if_error": "1d", "shows_price": True}),
    ("NS210", {**FRESH, "stale_if_unreachable": "1d", "shows_price": True}),
    ("NS211", {**FRESH, "on_lease_lapse": "stale-marked"}),
    ("NS211", {**FRESH, "on_lease_lapse": "stale-marked", "stale_if_error": "0d"}),
    ("NS212", {**FRESH, "path": "/api/prices/{sku}"}),
    ("NS212", {**FRESH, "path": "/stock", "shows_price": False}),
    ("NS213", {**FRESH, "redirect": "market"}),
    ("NS213", {"store": False, "redirect": "market", "refuse": 404}),
    ("NS214", {**FRESH, "auth": "required"}),
    ("NS215", {**FRESH, "residency": "tokenise"}),
    ("NS216", {**FRESH, "compress": True, "vary": ["accept-encoding"]}),
    ("NS218", {**FRESH, "tags": [f"t{number}" for number in range(51)]}),
    ("NS220", {**FRESH, "generation": "market", "path": "/a"}),
    ("NS220", {**FRESH, "generation": "product", "path": "/{market}/a"}),
    ("NS220", {**FRESH, "generation": "category", "path": "/{market}/{slug}"}),
    ("NS221", {**FRESH, "request_fields": ["authorization"]}),
    ("NS221", {**FRESH, "store": True, "vary": ["authorization"]}),
    ("NS222", {**FRESH, "heuristic": 10}),
    ("NS223", {**FRESH, "vary": "any"}),
    ("NS223", {**FRESH, "vary": "any", "request_fields": ["accept-language"]}),
    ("NS224", {"data_class": "personal", "auth": "shared"}),
    ("NS224", {"store": False, "auth": "shared"}),
    ("NS225", {**FRESH, "request_directives": "honour", "shows_price": True}),
]
PLANTED_CODES = {code for code, _ in PLANTED}


def splits(route: dict[str, Any]) -> Iterator[Document]:
    """Files in which `defaults` supplies some of the fields, and the route the others."""
    names = [name for name in route if name != "path"]
    for count in range(len(names) + 1):
        for inherited in combinations(names, count):
            own = {"path": "/a", **{name: value for name, value in route.items() if name not in inherited}}
            yield {"defaults": {name: route[name] for name in inherited}, "routes": {"a": own}}


@pytest.mark.parametrize(("code", "route"), PLANTED, ids=lambda each: each if isinstance(each, str) else "")
def test_a_contradiction_is_seen_however_it_is_split_between_defaults_and_route(code, route):
    for file in splits(route):
        found = errors("policy", json.dumps(file)) - BETWEEN_FILES.keys()
        # What is personal and stored always contradicts something else, too.
        assert found == {code} or (code == "NS201" and code in found), file
        assert not accepts("policy", file), file


def test_every_contradiction_of_the_schema_is_planted_and_known():
    assert {code for code, _ in CONTRADICTIONS} == PLANTED_CODES
    assert {code for code in CODES if "NS201" <= code <= "NS299"} == PLANTED_CODES | {
        code for code in BEYOND_A_SCHEMA if "NS201" <= code <= "NS299"
    }


# What is published.


@pytest.mark.parametrize("name", schemas())
def test_the_published_schema_is_what_the_generator_writes(name):
    path = PUBLISHED / f"{name}.schema.json"
    assert path.read_text(encoding="utf-8") == text(name), "run: nearshelf policy schema --out cache_policies/schema"
    jsonschema.Draft202012Validator.check_schema(json.loads(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", sorted(PACKAGED_POLICIES.glob("*.yaml")), ids=lambda path: path.name)
def test_a_packaged_file_names_its_schema_and_is_accepted_by_it(path):
    named = re.match(r"# yaml-language-server: \$schema=(schema/([a-z]+)\.schema\.json)\n", path.read_text())
    assert named is not None
    assert named[2] == {"markets.yaml": "markets", "origins.yaml": "origins"}.get(path.name, "policy")
    assert (path.parent / named[1]).is_file()
    document = YAML(typ="safe", pure=True).load(path.read_text())
    assert accepts(named[2], json.loads(json.dumps(document))), validator(named[2]).iter_errors(document)


def test_what_a_schema_cannot_say_is_documented():
    readme = (PACKAGED_POLICIES / "README.md").read_text()
    section = readme.split("## What an editor knows")[1]
    listed = dict(re.findall(r"^- `(NS[0-9]{3})`: (.*)$", section, re.MULTILINE))
    assert listed == BEYOND_A_SCHEMA


def test_every_field_of_a_schema_says_what_it_means():
    def fields(value: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(value, dict):
            yield from value.get("properties", {}).items() if value.get("additionalProperties") is False else ()
            for below in value.values():
                yield from fields(below)

    for name, schema in schemas().items():
        for field, below in fields(schema):
            described = schema["$defs"][field] if "$ref" in below else below
            assert described["description"].endswith("."), (name, field)


def test_the_command_prints_one_and_writes_all(tmp_path):
    runner = CliRunner()
    printed = runner.invoke(policy, ["schema", "markets"])
    assert (printed.exit_code, printed.output) == (0, text("markets"))
    assert runner.invoke(policy, ["schema"]).output == text("policy")
    written = runner.invoke(policy, ["schema", "--out", str(tmp_path / "s")])
    assert written.exit_code == 0
    assert {path.name: path.read_text() for path in (tmp_path / "s").iterdir()} == {
        f"{name}.schema.json": text(name) for name in schemas()
    }
    (tmp_path / "file").touch()
    refused = runner.invoke(policy, ["schema", "--out", str(tmp_path / "file")])
    assert isinstance(refused.exception, CommandError)
    assert "cannot be written to" in str(refused.exception)


def test_every_pattern_means_in_an_editor_what_it_means_here():
    """Editors match with ECMA-262 and its `u` flag; the tests above match as Python does."""
    patterns = {name: sorted(set(_patterns(schema))) for name, schema in schemas().items()}
    samples = sorted({text for text in _texts([GOOD, BAD, OTHER_BAD, OF_ANY_TYPE]) if len(text) < 60})
    samples += [path.format(n=1) for path in PATHS]
    context = quickjs.Context()
    context.eval("function matches(pattern, text) { return new RegExp(pattern, 'u').test(text); }")
    matches = context.get("matches")
    compared = 0
    for pattern in {each for some in patterns.values() for each in some}:
        for sample in samples:
            assert matches(pattern, sample) == bool(re.search(as_ecma(pattern), sample)), (pattern, sample)
            compared += 1
    assert compared > 5_000


def _patterns(schema: Any) -> Iterator[str]:
    for value in _mappings(schema):
        if isinstance(value.get("pattern"), str):
            yield value["pattern"]
        if isinstance(value.get("patternProperties"), dict):
            yield from value["patternProperties"]


def _mappings(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for below in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _mappings(below)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for below in [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _texts(below)
