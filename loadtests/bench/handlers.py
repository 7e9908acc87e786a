"""Sizes of the Functions and Lambda packages, and what the handlers cost: `python -m loadtests.bench handlers`.

Compiles the policies as a platform engineer does, and runs the packages as Lambda does: unpacked, site-packages off, no
bytecode (their folder is read-only there, and none is shipped). Each import is one of a fresh interpreter. All times
are CPU time by the process's own account, so that a busy machine does not look like a slow handler; it still looks
somewhat slow, because caches are shared.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MAX_IMPORT_MS, MAX_HANDLER_MS = 40.0, 1.0
"""Our own budgets, the first for an import in the runtime."""
IN_THE_RUNTIME = "import, in the runtime"
RUNTIME_CLIENT = "importlib, json, logging, os, sys, time, traceback, decimal"
"""What AWS's runtime client has imported before it imports a handler (aws/aws-lambda-python-runtime-interface-client:
awslambdaric/bootstrap.py and lambda_runtime_marshaller.py), as far as it is of the standard library."""

FOR_SCALE = "dataclasses"
"""What it costs on the same machine at the same time to import one module of the standard library that many use."""

_IMPORT = """
import sys
{before}
from time import process_time
sys.path.insert(0, {folder!r})
begun = process_time()
import {module}
print((process_time() - begun) * 1000)
"""
_CALL = """
import json, sys
from time import process_time
sys.path.insert(0, {folder!r})
from {module} import handler
event = sys.stdin.read()
events = [json.loads(event) for _ in range({batches} * {calls} + 1)]
begun = process_time()
handler(events.pop(), None)
times = [(process_time() - begun) * 1000]
for _ in range({batches}):
    batch = [events.pop() for _ in range({calls})]
    begun = process_time()
    for each in batch:
        handler(each, None)
    times.append((process_time() - begun) * 1000 / {calls})
print(json.dumps(times))
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; 1 when a median is over our budgets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--compiled", type=Path, metavar="DIR", help="what `nearshelf aws compile` wrote (default: run it)"
    )
    parser.add_argument("--python", default=sys.executable, help="the interpreter to measure with (default: this one)")
    parser.add_argument("--runs", type=int, default=21, help="fresh interpreters for each import (default 21)")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="nearshelf-handlers-") as scratch:
        compiled = options.compiled
        if compiled is None:
            compiled = Path(scratch) / "compiled"
            cli = [sys.executable, "-c", "from infra.cli import main; main()"]
            found = subprocess.run(
                [*cli, "aws", "compile", "--out", str(compiled)], capture_output=True, text=True, check=False
            )
            if found.returncode:
                print(found.stderr or found.stdout, file=sys.stderr, end="")
                return 2
        packages = sorted((compiled / "lambda").glob("*.zip"))
        if not packages:
            print(f"{compiled} holds no lambda/*.zip; see `nearshelf aws compile --out`", file=sys.stderr)
            return 2
        return report(compiled, packages, Path(scratch), options.python, options.runs)


def report(compiled: Path, packages: list[Path], scratch: Path, python: str, runs: int) -> int:
    """Measure and print; the packages take turns, so that a disturbance falls on all of them."""
    for function in sorted((compiled / "functions").glob("*.js")):
        print(f"{function.name:<22} {function.stat().st_size:>9,} of 10,240 bytes")
    for package in packages:
        print(f"{package.name:<22} {package.stat().st_size:>9,} of 1,000,000 bytes")
        with zipfile.ZipFile(package) as archive:
            archive.extractall(scratch / package.stem)
    version = subprocess.run([python, "-V"], capture_output=True, text=True, check=True).stdout.strip()
    print(f"\nCPU ms, {version}, site-packages off, no bytecode: median (quartiles) of {runs} fresh interpreters")
    imports: dict[tuple[str, str], list[float]] = {}
    for _ in range(runs):
        for package in packages:
            for setting, before in (("import, bare", ""), (IN_THE_RUNTIME, f"import {RUNTIME_CLIENT}")):
                took_ms = import_ms(python, scratch / package.stem, module_of(scratch / package.stem), before)
                imports.setdefault((package.stem, setting), []).append(took_ms)
        imports.setdefault(("for scale", f"import {FOR_SCALE}"), []).append(import_ms(python, scratch, FOR_SCALE, ""))
    over = False
    for (name, setting), times_ms in imports.items():
        print(f"  {name:<16} {setting:<24} {spread(times_ms)}")
        over |= setting == IN_THE_RUNTIME and statistics.median(times_ms) > MAX_IMPORT_MS
    for package in packages:
        first_ms, times_ms = calls_ms(python, scratch / package.stem)
        print(f"  {package.stem:<16} {'an event':<24} {spread(times_ms, 4)}; the first one {first_ms:.1f}")
        over |= statistics.median(times_ms) > MAX_HANDLER_MS
    print(f"budgets: import {MAX_IMPORT_MS:.0f} ms, event {MAX_HANDLER_MS:.0f} ms: {'OVER' if over else 'within'}")
    return int(over)


def import_ms(python: str, folder: Path, module: str, before: str) -> float:
    """CPU time of one import of `module` from `folder` in a fresh interpreter that has run `before`."""
    source = _IMPORT.format(before=before, folder=str(folder), module=module)
    return float(run(python, source, ""))


def calls_ms(python: str, folder: Path, batches: int = 15, calls: int = 200) -> tuple[float, list[float]]:
    """CPU time of the first event, and of one event in each of several batches."""
    source = _CALL.format(folder=str(folder), module=module_of(folder), batches=batches, calls=calls)
    first_ms, *times_ms = json.loads(run(python, source, json.dumps(event_for(folder.name))))
    return first_ms, times_ms


def run(python: str, source: str, stdin: str) -> str:
    """What a fresh interpreter prints, as Lambda would start it. Raises CalledProcessError."""
    flags = ["-I", "-S", "-B"]
    return subprocess.run(
        [python, *flags, "-c", source], input=stdin, capture_output=True, text=True, check=True
    ).stdout


def module_of(folder: Path) -> str:
    """The module that Lambda calls: the only one at the top of the package."""
    return next(path.stem for path in folder.glob("*.py"))


def spread(values: list[float], digits: int = 1) -> str:
    first, middle, third = statistics.quantiles(values, n=4)
    return f"{middle:.{digits}f} ({first:.{digits}f} to {third:.{digits}f})"


def event_for(kind: str) -> dict[str, Any]:
    """A fill of a category page, as CloudFront hands it to a handler of this kind."""
    lines = {
        "host": "origin.example",
        "via": "2.0 d111111abcdef8.cloudfront.net (CloudFront)",
        "user-agent": "Amazon CloudFront",
        "x-forwarded-for": "203.0.113.9",
        "x-forwarded-host": "shop.example",
        "nearshelf-generation": "1.7041",
        "min-catalog-version": "1.7041",
    }
    custom = {
        "customHeaders": {},
        "domainName": "origin.example",
        "path": "",
        "port": 443,
        "protocol": "https",
        "keepaliveTimeout": 60,
        "readTimeout": 30,
        "sslProtocols": ["TLSv1.2"],
    }
    answer = {
        "content-type": "text/html; charset=utf-8",
        "content-length": "18000",
        "date": "Sat, 21 Nov 2026 12:00:00 GMT",
        "etag": '"0123456789abcdef"',
        "cache-control": "public, max-age=0, s-maxage=300, stale-while-revalidate=600, stale-if-error=0",
        "cdn-cache-control": "max-age=300, stale-while-revalidate=600, stale-if-error=86400",
        "catalog-version": "1.7041",
        "cache-tag": ", ".join(f"p:eu-eur:sku-{number}" for number in range(24)),
    }
    cf: dict[str, Any] = {
        "config": {"distributionDomainName": "d111111abcdef8.cloudfront.net", "eventType": kind, "requestId": "opaque"},
        "request": {
            "clientIp": "203.0.113.9",
            "method": "GET",
            "uri": "/eu-eur/c/lighting/desk",
            "querystring": "sort=price&page=2",
            "headers": _header_map(lines),
            "origin": {"custom": custom},
        },
    }
    if kind == "origin-response":
        cf["response"] = {"status": "200", "statusDescription": "OK", "headers": _header_map(answer)}
    return {"Records": [{"cf": cf}]}


def _header_map(fields: dict[str, str]) -> dict[str, list[dict[str, str]]]:
    return {name: [{"key": name, "value": value}] for name, value in fields.items()}


if __name__ == "__main__":
    sys.exit(main())
