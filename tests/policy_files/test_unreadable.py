"""Folders and files of policies that this user may not read: said with their names, never a traceback."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cache_policies.folder import folder_called, why_unreadable
from cache_policies.reading import PROFILES
from edge.gateway.settings import GatewaySettings, SettingsError
from edge.policy_files import PolicyError, load_policies
from infra.cli import run

NOBODY = 65_534


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of policies, for a process that may not read what is closed to it: root may read everything."""
    outer = Path(tempfile.mkdtemp(prefix="nearshelf-policies-"))
    outer.chmod(0o755)
    inner = outer / "policies"
    inner.mkdir()
    shutil.copyfile(PROFILES / "rfc9111" / "default.yaml", inner / "default.yaml")
    load_policies(inner)
    was = os.geteuid()
    if was == 0:
        os.seteuid(NOBODY)
    try:
        yield inner
    finally:
        os.seteuid(was)
        inner.chmod(0o700)
        shutil.rmtree(outer)


def close(path: Path, mode: int = 0) -> None:
    was = os.geteuid()
    os.seteuid(os.getuid())
    path.chmod(mode)
    os.seteuid(was)


@pytest.mark.parametrize("mode", [0o000, 0o444])
def test_a_closed_folder(folder, capsys, mode):
    close(folder, mode)
    assert why_unreadable(folder) == "Permission denied"
    with pytest.raises(PolicyError, match=f"the folder {folder} cannot be read: Permission denied"):
        load_policies(folder)
    for command in (
        ["policy", "check", str(folder)],
        ["policy", "check", str(folder / "deeper")],
        ["edge", "--origin", "http://127.0.0.1:9", "--listen", "127.0.0.1:0", "--policies", str(folder)],
    ):
        assert run(command) == 2
        told = " ".join(capsys.readouterr().err.replace("│", " ").split())
        assert "cannot be read: Permission denied" in told
        assert "fault of nearshelf" not in told


def test_a_closed_folder_is_no_setting_of_a_worker(folder):
    close(folder)
    with pytest.raises(SettingsError, match=r"NEARSHELF_POLICIES: '.*policies' cannot be read: Permission denied"):
        GatewaySettings.from_env({"NEARSHELF_POLICIES": str(folder)})


def test_a_closed_file(folder, capsys):
    close(folder / "default.yaml")
    with pytest.raises(PolicyError, match=r"default\.yaml:1:1: cannot be read: Permission denied"):
        load_policies(folder)
    assert run(["policy", "check", str(folder)]) == 2
    assert "Permission denied" in capsys.readouterr().out


def test_what_is_no_folder_is_not_unreadable(tmp_path):
    assert why_unreadable(tmp_path) == ""
    assert why_unreadable(tmp_path / "none") == ""
    assert why_unreadable(folder_called("rfc9111")) == ""
