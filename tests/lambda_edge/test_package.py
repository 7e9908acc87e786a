"""The Lambda package runs with nothing but the standard library, as it must at the edge."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile

from edge.policy_files import load_policies
from infra.aws.package_lambda import HANDLER, MAX_ZIP_BYTES, entry_source, origin_request_package
from tests.support.cloudfront import DISTRIBUTION, origin_event

POLICIES = load_policies()

PROBE = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
event = json.loads(sys.stdin.read())
begun = time.process_time()
import nearshelf_origin_request
imported_s = time.process_time() - begun
nearshelf_origin_request.handler(json.loads(json.dumps(event)), None)
begun = time.process_time()
for _ in range(200):
    sent = nearshelf_origin_request.handler(json.loads(json.dumps(event)), None)
handled_s = (time.process_time() - begun) / 200
files = {name: str(getattr(module, "__file__", "")) for name, module in sys.modules.items()}
foreign = sorted(name for name, file in files.items() if "site-packages" in file)
print(json.dumps({"sent": sent, "foreign": foreign, "import_ms": imported_s * 1000, "handler_ms": handled_s * 1000}))
"""


def test_the_package_is_imported_and_handles_an_event_with_site_packages_off(tmp_path, record_property, capsys):
    package = origin_request_package(POLICIES.policies, POLICIES.markets)
    with zipfile.ZipFile(io.BytesIO(package.content)) as archive:
        assert archive.testzip() is None
        archive.extractall(tmp_path)
    request = {
        "method": "GET",
        "uri": "/eu-eur/c/lighting",
        "querystring": "sort=price",
        "headers": {"x-forwarded-host": {"value": DISTRIBUTION}, "nearshelf-generation": {"value": "1.9"}},
        "cookies": {},
    }
    found = subprocess.run(
        [sys.executable, "-I", "-S", "-c", PROBE, str(tmp_path)],
        input=json.dumps(origin_event(request)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    result = json.loads(found.stdout)
    assert result["foreign"] == []
    assert result["sent"]["headers"]["min-catalog-version"][0]["value"] == "1.9"
    # CPU time, compiling the sources included, as in a cold start. Reported, not asserted: the machine that runs the
    # tests is busy. Aims: 40 ms and 1 ms.
    for name in ("import_ms", "handler_ms"):
        record_property(name, result[name])
    with capsys.disabled():
        print(
            f"\n  lambda package: {len(package.content):,} bytes, import {result['import_ms']:.1f} ms, "
            f"handler {result['handler_ms']:.3f} ms of CPU"
        )


def test_the_package_is_the_same_to_the_byte_and_within_our_budget():
    first, second = (origin_request_package(POLICIES.policies, POLICIES.markets) for _ in range(2))
    assert first.content == second.content
    assert len(first.content) < MAX_ZIP_BYTES


def test_only_modules_and_no_policy_files_are_in_it():
    package = origin_request_package(POLICIES.policies, POLICIES.markets)
    with zipfile.ZipFile(io.BytesIO(package.content)) as archive:
        names = archive.namelist()
    assert all(name.endswith(".py") for name in names)
    assert {name.split("/")[0] for name in names} == {"cache_policies", "edge", "nearshelf_origin_request.py"}
    assert not [
        name for name in names if name.startswith(("edge/gateway", "edge/store", "edge/purge", "edge/policy_files"))
    ]
    assert HANDLER == "nearshelf_origin_request.handler"


def test_the_policies_are_baked_in_as_equal_values():
    namespace: dict = {}
    exec(compile(entry_source(POLICIES.policies, POLICIES.markets), "entry", "exec"), namespace)
    assert namespace["POLICIES"] == POLICIES.policies
    assert namespace["MARKETS"] == POLICIES.markets
