"""The state folder: whose it is, who has it, and what a killed run leaves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.local.errors import LocalError
from infra.local.state import OUR_OWN, SOCKET_PATH_BYTES, State, make_runtime_folder, read_env, write_atomically
from infra.local.supervisor import clean


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "state"


def test_a_folder_that_is_not_ours_is_not_touched(folder):
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    for use in (State(folder).__enter__, lambda: clean(folder)):
        with pytest.raises(LocalError, match="was not made by nearshelf"):
            use()
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]


def test_a_folder_of_another_layout_is_refused(folder):
    with State(folder):
        pass
    (folder / "nearshelf-state").write_text("99\n")
    with pytest.raises(LocalError, match="layout 99"):
        State(folder).__enter__()


def test_one_run_at_a_time_and_the_second_says_whose(folder):
    with State(folder), pytest.raises(LocalError, match=rf"process {os.getpid()}\) is running .*--state"):
        State(folder).__enter__()
    with State(folder):
        pass


def test_leaving_removes_what_is_only_for_a_run(folder):
    with State(folder) as state:
        runtime = state.runtime
        assert runtime.is_dir()
        write_atomically(state.env_file, "{}")
        write_atomically(state.ready_file, "{}")
    assert not runtime.exists()
    assert sorted(path.name for path in folder.iterdir()) == ["logs", "nearshelf-state"]


def test_what_a_killed_run_left_is_swept_away(folder):
    script = "import os, sys; from pathlib import Path; from infra.local.state import State\n"
    script += "state = State(Path(sys.argv[1])).__enter__(); state.env_file.write_text('{}'); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", script, str(folder)], check=False)
    left = Path((folder / "runtime").read_text().strip())
    assert left.is_dir()
    with State(folder) as state:
        assert not left.exists()
        assert not state.env_file.exists()
        assert state.holder() == os.getpid()


def test_sockets_are_short_however_deep_the_state_folder(tmp_path):
    deep = tmp_path.joinpath(*["a-folder-with-a-long-name"] * 8)
    with State(deep) as state:
        assert len(os.fsencode(state.runtime / "pg" / ".s.PGSQL.5432")) <= SOCKET_PATH_BYTES


def test_sockets_fall_back_to_tmp_when_the_temporary_folder_is_deep(tmp_path, monkeypatch):
    deep = tmp_path.joinpath(*["a-folder-with-a-long-name"] * 8)
    deep.mkdir(parents=True)
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    runtime = make_runtime_folder()
    try:
        assert len(os.fsencode(runtime / "pg" / ".s.PGSQL.5432")) <= SOCKET_PATH_BYTES
    finally:
        runtime.rmdir()


def test_secrets_are_for_our_own_account_only(folder):
    with State(folder) as state:
        write_atomically(state.env_file, "{}")
        assert state.env_file.stat().st_mode & 0o777 == 0o600
        assert state.runtime.stat().st_mode & 0o066 == 0


def test_clean_removes_everything_unless_somebody_runs_there(folder):
    with State(folder), pytest.raises(LocalError, match="is running"):
        clean(folder)
    assert clean(folder)
    assert not folder.exists()
    assert not clean(folder)


def test_asking_a_shop_that_does_not_run_says_how_to_start_it(folder):
    with pytest.raises(LocalError, match="nearshelf up"):
        read_env(folder)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"", id="cut short"),
        pytest.param(b"\xff\xfe", id="no text"),
        pytest.param(b"[]", id="no object"),
        pytest.param(b"{}", id="of nothing"),
        pytest.param(b'{"CONTROL": 7}', id="no path"),
    ],
)
def test_an_environment_that_makes_no_sense_is_said_in_one_line(folder, text):
    folder.mkdir()
    (folder / "env.json").write_bytes(text)
    with pytest.raises(LocalError, match=r"env.json cannot be read \(.*start the shop again") as caught:
        read_env(folder)
    assert "\n" not in str(caught.value)


def test_asking_at_an_address_that_is_no_folder_is_said_in_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(LocalError, match="nearshelf up"):
        read_env(tmp_path / "file")
    with pytest.raises(LocalError, match="cannot be read"):
        read_env(tmp_path / ("x" * 300))


# --- whose databases it knows of ---


@pytest.mark.parametrize("first", [OUR_OWN, "7/shop"])
def test_a_folder_belongs_to_one_shop_s_databases(folder, first):
    """Which tables were made, what was seeded, and the first password are true of those alone."""
    with State(folder) as state:
        state.belongs_to(first)
        state.belongs_to(first)
    for other in {OUR_OWN, "7/shop", "7/other", "8/shop"} - {first}:
        with State(folder) as state, pytest.raises(LocalError, match="another folder with --state") as caught:
            state.belongs_to(other)
        assert "\n" not in str(caught.value)
    with State(folder) as state:
        state.belongs_to(first)


@pytest.mark.parametrize(
    ("left", "are_our_own"),
    [
        pytest.param((), False, id="a new one"),
        pytest.param(("migrated.done", "failover.json"), True, id="our own databases"),
        pytest.param(("migrated.done",), False, id="those of others, never handed over"),
        pytest.param(("failover.json", "failover-others.json"), False, id="both: which of them is not told"),
    ],
)
def test_a_folder_of_before_that_was_noted_belongs_to_what_it_was_used_with(folder, left, are_our_own):
    with State(folder) as state:
        for name in left:
            (folder / name).touch()
        if not are_our_own:
            state.belongs_to("7/shop")
            return
        with pytest.raises(LocalError, match="or unset DATABASE_URL"):
            state.belongs_to("7/shop")
        state.belongs_to(OUR_OWN)


def test_servers_behind_a_link_are_where_their_processes_are_found(scratch):
    disk = scratch / "disk"
    disk.mkdir()
    with State(scratch / "linked") as state:
        (state.folder / "servers").symlink_to(disk)
        assert state.servers() == disk.resolve()
