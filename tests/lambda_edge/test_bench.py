"""The bench of the handlers runs what was compiled, and says when it is over our budgets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edge.policy_files import load_policies
from infra.aws.package_lambda import origin_request_package, origin_response_package
from loadtests.bench import handlers

POLICIES = load_policies()


@pytest.fixture
def compiled(tmp_path) -> Path:
    for folder in ("lambda", "functions"):
        (tmp_path / folder).mkdir()
    asked = origin_request_package(POLICIES.policies, POLICIES.markets, POLICIES.origins)
    (tmp_path / "lambda" / "origin-request.zip").write_bytes(asked.content)
    answered = origin_response_package(POLICIES.policies, POLICIES.markets)
    (tmp_path / "lambda" / "origin-response.zip").write_bytes(answered.content)
    (tmp_path / "functions" / "viewer-request.js").write_text("x" * 6_000)
    return tmp_path


def test_it_prints_sizes_imports_and_handlers(compiled):
    command = [sys.executable, "-m", "loadtests.bench.handlers", "--compiled", str(compiled), "--runs", "2"]
    found = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert found.returncode in (0, 1), found.stderr  # 1: this machine is busy
    assert "viewer-request.js          6,000 of 10,240 bytes" in found.stdout
    for line in (
        "origin-request   import, bare",
        "origin-response  import, in the runtime",
        "origin-response  an event",
    ):
        assert line in found.stdout
    assert "budgets: import 40 ms, event 1 ms" in found.stdout


@pytest.mark.parametrize(("allowed_ms", "code", "said"), [(60_000.0, 0, "within"), (0.0, 1, "OVER")])
def test_it_fails_when_a_median_is_over_the_budget(allowed_ms, code, said, compiled, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(handlers, "MAX_IMPORT_MS", allowed_ms)
    monkeypatch.setattr(handlers, "MAX_HANDLER_MS", allowed_ms)
    packages = sorted((compiled / "lambda").glob("*.zip"))
    assert handlers.report(compiled, packages, tmp_path, sys.executable, 2) == code
    assert said in capsys.readouterr().out


def test_a_folder_that_was_not_compiled_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["handlers", "--compiled", str(tmp_path)])
    assert handlers.main() == 2
    assert f"{tmp_path} holds no lambda/*.zip" in capsys.readouterr().err
