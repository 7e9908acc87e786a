"""What ./dev promises, tried in toy checkouts: no test here makes a real environment or needs a network."""

import ast
import contextlib
import importlib.machinery
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]

TOY_LOCK = """\
left==1.0 \\
    --hash=sha256:aa
    # via nearshelf (pyproject.toml)
uv==9.9.9 ; python_version >= '3.11' \\
    --hash=sha256:bb \\
    --hash=sha256:cc
"""


def load_dev(folder: Path) -> ModuleType:
    """The script in `folder` as a module; its ROOT is that folder."""
    loader = importlib.machinery.SourceFileLoader("dev_under_test", str(folder / "dev"))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


class Checkout:
    """A folder with ./dev, a toy lock and a toy project."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        shutil.copy(ROOT / "dev", self.folder / "dev")
        (self.folder / "requirements.lock").write_text(TOY_LOCK)
        (self.folder / "pyproject.toml").write_text('[dependency-groups]\nbuild = ["uv==9.9.9"]\n')
        self.dev = load_dev(self.folder)

    @property
    def venv(self) -> Path:
        return self.folder / ".venv"

    @property
    def stamp(self) -> Path:
        return Path(self.dev.STAMP)

    def make_ready(self, nearshelf: str = "exit 0") -> None:
        """An environment that counts as installed, with `nearshelf` as the shell script it starts."""
        (self.venv / "bin").mkdir(parents=True)
        (self.venv / "lib" / "python3.11" / "site-packages" / "uv-9.9.9.dist-info").mkdir(parents=True)
        (self.venv / "bin" / "python").symlink_to(sys.executable)
        for name, body in {"nearshelf": nearshelf, "uv": "exit 0"}.items():
            script = self.venv / "bin" / name
            script.write_text(f"#!/bin/sh\n{body}\n")
            script.chmod(0o755)
        self.dev.write_stamp(self.dev.wanted_stamp())

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        command = [sys.executable, str(self.folder / "dev"), *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, str(self.folder / "dev"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


class Installers:
    """Stands in for venv, pip and uv: keeps what was asked, fails where told."""

    def __init__(self, checkout: Checkout) -> None:
        self.checkout = checkout
        self.asked: list[str] = []
        self.failing: dict[str, str] = {}

    def __call__(self, command: list[str], held: int | None = None) -> str | None:
        what = self.name(command)
        self.asked.append(what)
        if what in self.failing:
            return self.failing[what]
        if what == "venv":
            self.checkout.make_ready()
            self.checkout.stamp.unlink()
            shutil.rmtree(self.checkout.venv / "lib" / "python3.11" / "site-packages" / "uv-9.9.9.dist-info")
        return None

    @staticmethod
    def name(command: list[str]) -> str:
        if "venv" in command:
            return "venv"
        tool = "uv" if command[0].endswith("/uv") else "pip"
        if "-e" in command:
            assert "--no-deps" in command
            assert "--no-build-isolation" in command
            return f"{tool}: the project"
        assert "--require-hashes" in command
        return f"{tool}: the lock" if command[-1].endswith("requirements.lock") else f"{tool}: uv"


@pytest.fixture
def installers(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> Installers:
    installers = Installers(checkout)
    monkeypatch.setattr(checkout.dev, "run", installers)
    return installers


FROM_NOTHING = ["venv", "pip: uv", "uv: the lock", "uv: the project"]


# --- before anything is installed ---------------------------------------------------------------------------


def test_an_old_python_is_told_in_one_line_what_to_use(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    newer = tmp_path / "bin" / "python3.13"
    newer.parent.mkdir()
    newer.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(newer.parent))
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    monkeypatch.setattr(sys, "argv", ["dev", "up"])
    with pytest.raises(SystemExit) as refusal:
        checkout.dev.refuse_what_cannot_work()
    text = str(refusal.value.code)
    assert text.startswith("dev: nearshelf needs Python 3.11 or newer, and this is 3.9 (")
    assert text.endswith("; try: python3.13 dev up")
    assert "\n" not in text


def test_an_old_python_gets_as_far_as_that_line() -> None:
    ast.parse((ROOT / "dev").read_text(), feature_version=(3, 6))


def test_only_the_standard_library_is_imported() -> None:
    tree = ast.parse((ROOT / "dev").read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in imported} <= sys.stdlib_module_names


def test_help_needs_no_environment(checkout: Checkout) -> None:
    for arguments in [["--help"], ["-h"], []]:
        answer = checkout.run(*arguments)
        assert answer.returncode == 0
        assert "./dev up" in answer.stdout
    assert not checkout.venv.exists()


def test_a_python_without_venv_is_told_which_package_to_install(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ensurepip" else object())
    with pytest.raises(checkout.dev.Failure, match=r"apt-get install python3-venv"):
        checkout.dev.ensure_environment()


def test_an_incomplete_checkout_is_said_not_traced(checkout: Checkout) -> None:
    (checkout.folder / "requirements.lock").unlink()
    answer = checkout.run("up")
    assert answer.returncode == 1
    assert answer.stderr.startswith("dev: cannot read requirements.lock")
    assert "Traceback" not in answer.stderr


# --- with everything installed ------------------------------------------------------------------------------


def test_an_unknown_command_goes_to_nearshelf_with_its_arguments_and_exit_status(checkout: Checkout) -> None:
    checkout.make_ready(nearshelf='printf "<%s>" "$@"; exit 7')
    answer = checkout.run("policy", "explain", "--path", "/eu-eur/a b")
    assert answer.stdout == "<policy><explain><--path></eu-eur/a b>"
    assert answer.returncode == 7
    assert answer.stderr == ""


def test_help_is_nearshelfs_own(checkout: Checkout) -> None:
    checkout.make_ready(nearshelf='printf "<%s>" "$@"')
    assert checkout.run("help").stdout == "<--help>"


def test_a_command_takes_the_place_of_dev_so_signals_reach_it(checkout: Checkout) -> None:
    checkout.make_ready(nearshelf='trap "echo stopped; exit 3" TERM; echo $$; while :; do sleep 0.01; done')
    with checkout.start("up") as process:
        assert process.stdout is not None
        assert int(process.stdout.readline()) == process.pid
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "stopped\n"
    assert process.returncode == 3


def test_the_environments_programs_come_first_on_the_path(checkout: Checkout) -> None:
    checkout.make_ready(nearshelf='echo "$PATH"')
    assert checkout.run("up").stdout.startswith(f"{checkout.venv}/bin:")


def test_nothing_is_installed_when_the_stamp_fits(checkout: Checkout, installers: Installers) -> None:
    checkout.make_ready()
    checkout.dev.ensure_environment()
    assert installers.asked == []


# --- making and mending the environment ---------------------------------------------------------------------


def test_a_fresh_clone_gets_uv_then_the_lock_then_the_project(checkout: Checkout, installers: Installers) -> None:
    checkout.dev.ensure_environment()
    assert installers.asked == FROM_NOTHING
    assert checkout.dev.is_ready()


@pytest.mark.parametrize("file", ["requirements.lock", "pyproject.toml"])
def test_a_changed_lock_or_project_is_installed_into_the_same_environment(
    checkout: Checkout, installers: Installers, file: str
) -> None:
    checkout.make_ready()
    with (checkout.folder / file).open("a") as opened:
        opened.write("# changed\n")
    checkout.dev.ensure_environment()
    assert installers.asked == ["uv: the lock", "uv: the project"]
    assert checkout.dev.is_ready()


def unfinished(checkout: Checkout) -> None:
    checkout.stamp.unlink()


def garbled(checkout: Checkout) -> None:
    checkout.stamp.write_bytes(b"\xff\x00")


def made_elsewhere(checkout: Checkout) -> None:
    checkout.stamp.write_text(checkout.stamp.read_text().replace(str(checkout.folder), "/somewhere/else"))


def its_python_vanished(checkout: Checkout) -> None:
    (checkout.venv / "bin" / "python").unlink()
    (checkout.venv / "bin" / "python").symlink_to("/nowhere/python3.11")


def its_python_replaced(checkout: Checkout) -> None:
    (checkout.venv / "bin" / "python").unlink()
    (checkout.venv / "bin" / "python").symlink_to("/bin/sh")


def a_dangling_link(checkout: Checkout) -> None:
    shutil.rmtree(checkout.venv)
    checkout.venv.symlink_to("/nowhere")


@pytest.mark.parametrize(
    "harm", [unfinished, garbled, made_elsewhere, its_python_vanished, its_python_replaced, a_dangling_link]
)
def test_an_unusable_environment_is_made_anew(
    checkout: Checkout, installers: Installers, harm: Callable[[Checkout], None]
) -> None:
    checkout.make_ready()
    (checkout.venv / "leftover").touch()
    harm(checkout)
    checkout.dev.ensure_environment()
    assert installers.asked == FROM_NOTHING
    assert not (checkout.venv / "leftover").exists()
    assert checkout.dev.is_ready()


def test_pip_installs_the_lock_where_uv_cannot_be_had(checkout: Checkout, installers: Installers) -> None:
    installers.failing["pip: uv"] = "ERROR: No matching distribution found for uv"
    checkout.dev.ensure_environment()
    assert installers.asked == ["venv", "pip: uv", "pip: the lock", "pip: the project"]


def test_pip_installs_the_lock_where_uv_fails(checkout: Checkout, installers: Installers) -> None:
    installers.failing["uv: the lock"] = "error: no such index"
    checkout.dev.ensure_environment()
    assert installers.asked == ["venv", "pip: uv", "uv: the lock", "pip: the lock", "pip: the project"]


@pytest.mark.parametrize(
    ("output", "said"),
    [
        pytest.param(
            "WARNING: Retrying after NewConnectionError('...')\nERROR: No matching distribution",
            "the package index cannot be reached",
            id="no network",
        ),
        pytest.param("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES", "does not have the hash", id="wrong hash"),
        pytest.param("OSError: [Errno 28] No space left on device", "no space left", id="full disk"),
        pytest.param("ERROR: something new", "something new", id="anything else is shown"),
    ],
)
def test_a_failed_download_is_explained(checkout: Checkout, installers: Installers, output: str, said: str) -> None:
    installers.failing = {"pip: uv": output, "pip: the lock": output}
    with pytest.raises(checkout.dev.Failure, match=said):
        checkout.dev.ensure_environment()
    assert not checkout.stamp.exists()


def test_a_failed_update_leaves_the_environment_to_be_updated_later(checkout: Checkout, installers: Installers) -> None:
    checkout.make_ready()
    before = checkout.stamp.read_text()
    (checkout.folder / "requirements.lock").write_text(TOY_LOCK + "new==1 --hash=sha256:dd\n")
    installers.failing = {"uv: the lock": "offline", "pip: the lock": "offline"}
    with pytest.raises(checkout.dev.Failure):
        checkout.dev.ensure_environment()
    assert checkout.stamp.read_text() == before
    assert not checkout.dev.is_ready()


def test_a_killed_update_leaves_no_stamp(
    checkout: Checkout, installers: Installers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_held: int) -> None:
        raise KeyboardInterrupt

    checkout.make_ready()
    (checkout.folder / "requirements.lock").write_text(TOY_LOCK + "new==1 --hash=sha256:dd\n")
    monkeypatch.setattr(checkout.dev, "install", interrupted)
    with pytest.raises(KeyboardInterrupt):
        checkout.dev.ensure_environment()
    assert not checkout.stamp.exists()


def test_a_second_dev_waits_for_the_first_and_installs_nothing(checkout: Checkout) -> None:
    with contextlib.ExitStack() as first:
        first.enter_context(checkout.dev.FolderLock())
        with checkout.start("up") as second:
            assert second.stderr is not None
            assert second.stderr.readline() == "dev: another ./dev is installing; waiting for it\n"
            checkout.make_ready(nearshelf="echo shop")
            first.close()
            output, errors = second.communicate(timeout=30)
    assert output == "shop\n"
    assert errors == ""


def test_an_installer_that_outlives_its_dev_keeps_the_lock(checkout: Checkout) -> None:
    with checkout.dev.FolderLock() as held:
        installer = subprocess.Popen(["sleep", "60"], pass_fds=(held,))
    with installer, checkout.start("up") as second:
        assert second.stderr is not None
        assert "waiting" in second.stderr.readline()
        checkout.make_ready(nearshelf="echo shop")
        installer.kill()
        assert second.communicate(timeout=30)[0] == "shop\n"


# --- clean --------------------------------------------------------------------------------------------------


@pytest.fixture
def littered(checkout: Checkout) -> Checkout:
    checkout.make_ready()
    for name in [".nearshelf/postgres", "edge/core/__pycache__", ".mypy_cache/3.11", "dist", ".git/__pycache__"]:
        (checkout.folder / name).mkdir(parents=True)
    (checkout.folder / "edge" / "core" / "key.py").touch()
    return checkout


def test_clean_removes_what_was_made_and_nothing_else(littered: Checkout) -> None:
    assert littered.run("clean").returncode == 0
    left = {str(path.relative_to(littered.folder)) for path in littered.folder.rglob("*") if path.name != "dev"}
    left = {name for name in left if not name.startswith("__pycache__")}
    assert left == {
        ".git",
        ".git/__pycache__",
        "edge",
        "edge/core",
        "edge/core/key.py",
        "pyproject.toml",
        "requirements.lock",
    }


def test_clean_does_not_pull_the_data_from_under_a_running_shop(littered: Checkout) -> None:
    (littered.folder / ".nearshelf" / "postgres" / "postmaster.pid").write_text(f"{os.getpid()}\n/data\n")
    answer = littered.run("clean")
    assert answer.returncode == 1
    assert "still running" in answer.stderr
    assert littered.venv.exists()


# --- the lock itself ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def locked() -> dict[str, str]:
    return dict(load_dev(ROOT).requirements(ROOT / "requirements.lock"))


def test_the_lock_names_no_host_and_no_path() -> None:
    text = (ROOT / "requirements.lock").read_text()
    assert not re.search(r"://|(?m:^\s*-[^-])|--(extra-)?index-url|--find-links| @ |/(home|root|tmp|Users)/", text)


def test_every_locked_package_has_an_exact_version_and_hashes(locked: dict[str, str]) -> None:
    assert len(locked) > 80
    for name, entry in locked.items():
        assert re.match(rf"{re.escape(name)}(\[\S+\])?==\S+ ", entry), entry
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry


def test_everything_the_project_asks_for_is_locked(locked: dict[str, str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = [project["project"]["dependencies"], *project["project"]["optional-dependencies"].values()]
    groups += project["dependency-groups"].values()
    asked = {re.split(r"[\[<>=!~; ]", wish)[0].lower().replace(".", "-") for group in groups for wish in group}
    assert asked <= set(locked)


def test_the_build_backend_is_the_locked_one(locked: dict[str, str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert set(project["build-system"]["requires"]) <= set(project["dependency-groups"]["build"])
    for pinned in project["dependency-groups"]["build"]:
        assert locked[pinned.split("==")[0]].startswith(pinned)


def test_a_new_lock_is_told_package_by_package(checkout: Checkout) -> None:
    after = TOY_LOCK.replace("left==1.0", "left==1.1").replace("uv==9.9.9", "right==2")
    assert checkout.dev.changes(TOY_LOCK, after) == ["left 1.0 -> 1.1", "right new -> 2", "uv 9.9.9 -> gone"]
    assert checkout.dev.changes(TOY_LOCK, TOY_LOCK) == ["every pin is as before"]


def test_locust_and_gevent_stay_out_of_the_test_process() -> None:
    assert not {"locust", "gevent", "pytest_locust.plugin"} & set(sys.modules)
