"""The command line: quick, with examples, and errors in words."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from typer.core import TyperGroup

from infra import cli, commands


def every_command(group=None, path=()):
    group = group or commands.command()
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from every_command(command, (*path, name))
        else:
            yield (*path, name), command


@pytest.mark.parametrize("words", [words for words, _ in every_command()], ids=" ".join)
def test_every_command_s_help_has_an_example(words, capsys):
    assert cli.run([*words, "--help"]) == 0
    text = capsys.readouterr().out
    assert "Example" in text
    assert f"nearshelf {' '.join(words)}" in text


def test_the_version_is_said_without_loading_anything():
    script = "import sys; from infra.cli import run; run(['--version']); print(*sys.modules, sep='\\n')"
    output = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert output.startswith("nearshelf 0.")
    assert not {"typer", "asyncio", "sqlalchemy", "starlette", "httpx"} & set(output.splitlines())


def test_help_loads_no_room():
    script = "import sys; from infra.cli import run; run(['up', '--help']); print(*sys.modules, sep='\\n')"
    output = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    loaded = set(output.splitlines())
    assert not {"asyncio", "asyncpg", "sqlalchemy", "starlette", "httpx", "rich", "origin.db", "edge.core"} & loaded


def test_an_error_is_one_line_and_with_debug_a_traceback(tmp_path, capsys):
    words = ["status", "--state", str(tmp_path / "none")]
    assert cli.run(words) == 1
    error = capsys.readouterr().err
    assert error.startswith("nearshelf: no shop is running")
    assert error.count("\n") == 1
    with pytest.raises(Exception, match="no shop is running"):
        cli.run([*words, "--debug"])


@pytest.mark.parametrize("command", [["check"], ["fmt"], ["test"], ["explain", "--har"]], ids=" ".join)
def test_a_name_cannot_speak_to_the_terminal(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.run(["policy", *command, "no\x1b[31m\u202e\u00e9\r"]) != 0
    error = capsys.readouterr().err
    assert r"no\x1b[31m\u202e" in error
    assert error.replace("\n", "").isprintable()
    assert "\u00e9" in error


def test_an_argument_that_is_not_text_is_named(capsys):
    assert cli.run(["price", "show", os.fsdecode(b"a\xff")]) == 2
    assert "'a\\udcff' is not UTF-8 text" in capsys.readouterr().err


def test_a_fault_of_ours_is_said_to_be_one(monkeypatch, capsys):
    def broken(**_):
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr("infra.local.supervisor.clean", lambda _: broken())
    assert cli.run(["up", "--clean"]) == 70
    error = capsys.readouterr().err
    assert "ZeroDivisionError: by nothing" in error
    assert "--debug" in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(["up", "--rtt", "mars=3"], "--rtt mars=3", id="an edge that is not there"),
        pytest.param(["up", "--port-base", "7"], "--port-base 7", id="a port out of range"),
        pytest.param(["up", "--ready-file", "/no/such/folder/f"], "--ready-file", id="nowhere to write"),
        pytest.param(["catalog", "import", "f", "--rejects", "r"], "--keep-valid", id="rejects without keep-valid"),
    ],
)
def test_a_wrong_option_is_explained_before_anything_starts(words, expected, capsys):
    assert cli.run(words) == 1
    assert expected in capsys.readouterr().err


def test_policy_check_reports_every_fault_with_its_place(tmp_path, capsys):
    assert cli.run(["policy", "check"]) == 0
    assert ": 0 errors, 0 warnings in " in capsys.readouterr().out
    (tmp_path / "default.yaml").write_text("routes:\n  everything:\n    path: /{rest...}\n    fresh: soon\n")
    assert cli.run(["policy", "check", str(tmp_path)]) == 2
    output = capsys.readouterr().out
    assert "default.yaml:4:" in output
    assert "would not start" in output
