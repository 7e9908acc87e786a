"""The Lambda packages run with nothing but the standard library, as they must at the edge."""

from __future__ import annotations

import ast
import copy
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from edge.core.policy import Auth, CachePolicy, PolicySet, Residency, Throttle
from edge.lambda_edge.origin_request import handler_for as handler_for_request
from edge.lambda_edge.origin_response import handler_for as handler_for_response
from edge.policy_files import load_policies
from infra.aws.package_lambda import (
    MAX_ZIP_BYTES,
    Package,
    PackageTooLarge,
    entry_source,
    origin_request_package,
    origin_response_package,
)
from tests.support.cloudfront import DISTRIBUTION, origin_event, origin_response_event
from tests.support.cloudfront_rules import check_lambda
from tests.treaty.requests import CASES

POLICIES = load_policies()
FILL = origin_event(
    {
        "method": "GET",
        "uri": "/eu-eur/c/lighting",
        "querystring": "sort=price",
        "headers": {"x-forwarded-host": {"value": DISTRIBUTION}, "nearshelf-generation": {"value": "1.9"}},
        "cookies": {},
    }
)
ANSWER = origin_response_event(
    FILL["Records"][0]["cf"]["request"],
    200,
    {"content-length": "10", "catalog-version": "1.9", "cache-tag": "c:eu-eur:lighting"},
)
HANDLERS = {
    "origin-request": (origin_request_package(POLICIES.policies, POLICIES.markets, POLICIES.origins), FILL),
    "origin-response": (origin_response_package(POLICIES.policies, POLICIES.markets), ANSWER),
}

PROBE = """
import json, sys
sys.path.insert(0, sys.argv[1])
module, name = sys.argv[2].split(".")
handler = getattr(__import__(module), name)
sent = [handler(event, None) for event in json.loads(sys.stdin.read())]
files = {name: str(getattr(module, "__file__", "")) for name, module in sys.modules.items()}
print(json.dumps({"sent": sent, "files": files}))
"""


def run_package(package: Package, folder: Path, events: list[dict]) -> tuple[list[dict], set[str]]:
    """What the handler in the package returns for each event, and the files that were imported for it."""
    with zipfile.ZipFile(io.BytesIO(package.content)) as archive:
        archive.extractall(folder)
    found = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", PROBE, str(folder), package.handler],
        input=json.dumps(events),
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    result = json.loads(found.stdout)
    return result["sent"], set(result["files"].values())


@pytest.fixture(params=HANDLERS)
def package(request) -> Package:
    return HANDLERS[request.param][0]


def names(package: Package) -> list[str]:
    with zipfile.ZipFile(io.BytesIO(package.content)) as archive:
        assert archive.testzip() is None
        return archive.namelist()


@pytest.mark.parametrize("name", HANDLERS)
def test_a_package_handles_an_event_with_site_packages_off_and_uses_all_that_is_in_it(name, tmp_path):
    package, event = HANDLERS[name]
    (sent,), files = run_package(package, tmp_path, [event])
    assert not [file for file in files if "site-packages" in file]
    assert {str(Path(file).relative_to(tmp_path)) for file in files if file.startswith(str(tmp_path))} == set(
        names(package)
    )
    check_lambda(event, sent)
    field, start = {
        "origin-request": ("min-catalog-version", "1.9"),
        "origin-response": ("cache-control", "max-age=0, s-maxage=60"),
    }[name]
    assert sent["headers"][field][0]["value"].startswith(start)


def test_a_package_decides_as_its_sources_do(tmp_path):
    """Its classes are made by edge/lambda_edge/values.py, not by dataclasses."""
    filled = [filled_event(case.target, case.method) for case in CASES if not case.fault]
    ask = handler_for_request(POLICIES.policies, POLICIES.markets, POLICIES.origins)
    asked = [ask(copy.deepcopy(event), None) for event in filled]
    assert run_package(HANDLERS["origin-request"][0], tmp_path / "request", filled)[0] == asked
    answered = [
        origin_response_event(event["Records"][0]["cf"]["request"], status, {"content-length": "10", **headers})
        for event in filled
        for status in (200, 404, 500)
        for headers in (
            {},
            {"catalog-version": "1.9", "cache-tag": "t:a", "cdn-cache-control": "max-age=50", "etag": '"e"'},
            {"catalog-version": "1.9", "cache-tag": "t:a", "cache-control": "private", "set-cookie": "a=b"},
            {"cache-control": "max-age=60", "expires": "Sat, 21 Nov 2026 12:00:00 GMT"},
        )
    ]
    judge = handler_for_response(POLICIES.policies, POLICIES.markets)
    expected = [judge(copy.deepcopy(event), None) for event in answered]
    assert run_package(HANDLERS["origin-response"][0], tmp_path / "response", answered)[0] == expected


def filled_event(target: str, method: str) -> dict:
    path, _, query = target.partition("?")
    headers = {"x-forwarded-host": {"value": DISTRIBUTION}, "nearshelf-generation": {"value": "1.9"}}
    return origin_event({"method": method, "uri": path, "querystring": query, "headers": headers, "cookies": {}})


def test_heavy_modules_of_the_standard_library_are_not_imported(package):
    """Each of these costs milliseconds of every cold start."""
    heavy = {"calendar", "dataclasses", "datetime", "email", "hashlib", "http", "inspect", "json", "pathlib", "urllib"}
    with zipfile.ZipFile(io.BytesIO(package.content)) as archive:
        for name in archive.namelist():
            for node in ast.parse(archive.read(name)).body:
                modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                assert not {module.split(".")[0] for module in modules} & heavy, name


def test_a_package_is_the_same_to_the_byte_and_within_our_budget(package):
    again = {
        "nearshelf_origin_request.handler": lambda: origin_request_package(POLICIES.policies, POLICIES.markets),
        "nearshelf_origin_response.handler": lambda: origin_response_package(POLICIES.policies, POLICIES.markets),
    }[package.handler]()
    assert again.content == package.content
    assert len(package.content) < MAX_ZIP_BYTES


def test_only_modules_and_no_policy_files_are_in_it(package):
    found = names(package)
    assert all(name.endswith(".py") for name in found)
    assert {name.split("/")[0] for name in found} == {"cache_policies", "edge", package.handler.split(".")[0] + ".py"}
    assert not [name for name in found if name.startswith(("edge/gateway", "edge/store", "edge/policy_files"))]
    assert package.files == len(found)


def test_a_handler_carries_only_what_it_imports():
    asked, answered = names(HANDLERS["origin-request"][0]), names(HANDLERS["origin-response"][0])
    assert "edge/core/request_rules.py" in set(asked) - set(answered)
    assert "edge/core/storing.py" in set(answered) - set(asked)


def test_too_much_is_refused_with_what_takes_the_room():
    many = tuple(CachePolicy(f"route-{number}", f"/{number}", store=False) for number in range(20_000))
    with pytest.raises(PackageTooLarge, match=r"origin-request.zip: \d+ bytes, at most 1000000: \d+ for the policies"):
        origin_request_package(many, POLICIES.markets)


def baked(policies: PolicySet) -> dict:
    namespace: dict = {}
    source = entry_source("edge.lambda_edge.origin_request", policies.policies, policies.markets, policies.origins)
    exec(compile(source, "entry", "exec"), namespace)
    return namespace


def test_the_policies_are_baked_in_as_equal_values():
    found = baked(POLICIES)
    assert found["POLICIES"] == POLICIES.policies
    assert found["MARKETS"] == POLICIES.markets
    assert found["ORIGINS"] == POLICIES.origins


def test_every_kind_of_value_is_baked_in():
    policies = PolicySet(
        [
            CachePolicy(
                "all",
                "/all",
                store=False,
                auth=Auth.REQUIRED,
                throttle=Throttle(1.5, 3),
                residency=Residency.SEAL,
                tags=("a:{b}", "it's"),
                negative_s=((404, 1.0),),
                blocked_countries=("KP",),
            ),
            CachePolicy("rest", "/{rest...}", store=False),
        ],
        POLICIES.markets,
    )
    found = baked(policies)
    assert found["POLICIES"] == policies.policies
    assert isinstance(found["POLICIES"][0].throttle, Throttle)
