"""The folder in which a local shop lives, and the lock that gives it to one `nearshelf up` at a time.

    STATE/nearshelf-state   says that this folder is ours, and in which layout
    STATE/servers/          the databases' programs (as root) and data
    STATE/logs/             what each process printed; NAME.log.1 is the run before
    STATE/admin-password    of the first member of staff
    STATE/failover.json     who of the databases is the primary; failover-others.json where others run them
    STATE/lost/             changes that only an old primary had, one file for each promotion that lost any
    STATE/env.json          while running: addresses and secrets, for tools on this machine
    STATE/ready.json        while running: the addresses
    STATE/pid               while running: the supervisor

The lock is on the folder itself, so there is no file to leave behind. Sockets live in a runtime folder of their own
under the system's temporary folder, because a unix socket's path must not be longer than 107 bytes.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

from infra.local.errors import LocalError

MARKER = "nearshelf-state"
LAYOUT = "1"
SOCKET_PATH_BYTES = 107
"""sizeof(sockaddr_un.sun_path) - 1 on Linux; macOS has 103."""
LONGEST_SOCKET_NAME = len("/wal/.s.PGSQL.5432")
CHILD_OF = "NEARSHELF_CHILD_OF"
"""In the environment of each Python process of a shop: the state folder it belongs to."""
OUR_OWN = "our own"
"""Databases that `up` runs itself."""
TETHER_S = 10.0
"""How long the tether of a killed run may still be at work."""


class State:
    """A state folder, held. Use as a context manager: entering locks it, leaving gives it back."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._descriptor = -1
        self.runtime = Path()
        """Short, private to this run, removed when it ends."""

    # --- files ---

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def admin_password(self) -> Path:
        return self.folder / "admin-password"

    @property
    def env_file(self) -> Path:
        return self.folder / "env.json"

    @property
    def ready_file(self) -> Path:
        return self.folder / "ready.json"

    @property
    def control(self) -> Path:
        return self.runtime / "control"

    @property
    def descriptor(self) -> int:
        """Of the lock; whoever inherits it keeps the folder locked."""
        return self._descriptor

    # --- holding it ---

    def __enter__(self) -> State:
        """Raises LocalError when the folder is somebody else's, or held by another run."""
        self._make()
        self._descriptor = os.open(self.folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._lock()
            self._sweep()
            write_atomically(self.folder / "pid", f"{os.getpid()}\n")
            self._make_runtime()
            self.logs.mkdir(exist_ok=True)
        except BaseException:
            os.close(self._descriptor)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.runtime, ignore_errors=True)
        for name in ("runtime", "env.json", "ready.json", "pid"):
            (self.folder / name).unlink(missing_ok=True)
        os.close(self._descriptor)

    def remove(self) -> None:
        """Everything, while holding it."""
        for folder in (self.servers_elsewhere(), self.folder):
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=False)

    def _make(self) -> None:
        marker = self.folder / MARKER
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not marker.exists():
                if any(self.folder.iterdir()):
                    raise LocalError(
                        f"{self.folder} is not empty and was not made by nearshelf; "
                        "name another folder with --state, or an empty one"
                    )
                # Root's servers run as another account, which must be able to reach its data below.
                self.folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
                marker.write_text(LAYOUT + "\n")
            found = marker.read_text().strip()
        except OSError as exc:
            raise LocalError(f"the state folder {self.folder} cannot be used: {exc.strerror}; see --state") from exc
        if found != LAYOUT:
            raise LocalError(
                f"{self.folder} was made by another version of nearshelf (layout {found}, this one has {LAYOUT}); "
                "remove it with `nearshelf up --clean`"
            )

    def _lock(self) -> None:
        deadline = time.monotonic() + TETHER_S
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as exc:
                if exc.errno not in (errno.EAGAIN, errno.EACCES):
                    raise LocalError(f"{self.folder} cannot be locked: {exc.strerror}; see --state") from exc
            else:
                return
            holder = self.holder()
            if holder is not None or time.monotonic() > deadline:
                which = f" (process {holder})" if holder is not None else ""
                raise LocalError(
                    f"another `nearshelf up`{which} is running with the state folder {self.folder}; "
                    "stop it with Ctrl-C where it runs, or start this one elsewhere: --state OTHER --port-base 0"
                )
            # The supervisor is gone, but what it left is still being ended (infra.local.tether).
            time.sleep(0.05)

    def holder(self) -> int | None:
        """The supervisor that runs with this folder; None if there is none, or it was killed."""
        try:
            pid = int((self.folder / "pid").read_text())
        except (OSError, ValueError):
            return None
        try:
            os.kill(pid, 0)
        except OSError as exc:
            return pid if isinstance(exc, PermissionError) else None
        return pid

    def _sweep(self) -> None:
        """What a killed run left. We hold the folder, so whatever belongs to it belongs to nobody."""
        leftovers = _processes_of(self.folder)
        with contextlib.suppress(OSError):
            stale = Path((self.folder / "runtime").read_text().strip())
            if stale.name.startswith("nearshelf-"):
                leftovers += processes_in(stale / "valkey")
                shutil.rmtree(stale, ignore_errors=True)
        for pid in leftovers:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        for name in ("runtime", "env.json", "ready.json"):
            (self.folder / name).unlink(missing_ok=True)

    def _make_runtime(self) -> None:
        self.runtime = make_runtime_folder()
        write_atomically(self.folder / "runtime", f"{self.runtime}\n")

    # --- the servers' home ---

    def servers(self) -> Path:
        """Where the databases live: in the state folder, unless the account they run as cannot get there."""
        inside = self.folder / "servers"
        home = inside
        if os.geteuid() == 0 and not reachable_by_others(self.folder):
            digest = hashlib.sha256(str(self.folder).encode()).hexdigest()[:12]
            home = Path("/var/lib/nearshelf") / digest
            record = self.folder / "servers-elsewhere"
            if not record.exists():
                shutil.rmtree(home, ignore_errors=True)  # of a state folder that was removed by hand
            home.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            write_atomically(record, f"{home}\n")
        home.mkdir(mode=0o755, exist_ok=True)
        return home.resolve()  # its processes are found by where they work

    def servers_elsewhere(self) -> Path | None:
        try:
            return Path((self.folder / "servers-elsewhere").read_text().strip())
        except OSError:
            return None

    # --- what later runs know ---

    def remembers(self, what: str, value: str) -> bool:
        """Whether an earlier run noted `value` under `what`."""
        try:
            return (self.folder / f"{what}.done").read_text() == value
        except OSError:
            return False

    def belongs_to(self, databases: str) -> None:
        """What is noted here, and the password of the first member of staff, are of `databases` and of no others.

        Raises LocalError when it belongs to others.
        """
        try:
            known = (self.folder / "databases.done").read_text()
        except FileNotFoundError:
            # Of a folder of before this was noted: who was the primary tells, where there are only our own.
            own = (self.folder / "failover.json").exists() and not (self.folder / "failover-others.json").exists()
            known = OUR_OWN if own else databases
        if known != databases:
            whose = "databases of its own" if known == OUR_OWN else "other databases, by DATABASE_URL"
            raise LocalError(
                f"{self.folder} belongs to a shop with {whose}; name another folder with --state for these"
                + ("" if databases == OUR_OWN else ", or unset DATABASE_URL" if known == OUR_OWN else "")
            )
        self.remember("databases", databases)

    def remember(self, what: str, value: str) -> None:
        write_atomically(self.folder / f"{what}.done", value)

    def forget(self, what: str) -> None:
        (self.folder / f"{what}.done").unlink(missing_ok=True)


def make_runtime_folder() -> Path:
    """A new folder short enough for sockets; the caller removes it."""
    parents = [tempfile.gettempdir(), "/tmp"]  # noqa: S108 - mkdtemp makes it private
    for parent in parents:
        if len(os.fsencode(parent)) + len("/nearshelf-12345678") + LONGEST_SOCKET_NAME > SOCKET_PATH_BYTES - 4:
            continue
        if os.geteuid() == 0 and not reachable_by_others(Path(parent)):
            continue
        try:
            runtime = Path(tempfile.mkdtemp(prefix="nearshelf-", dir=parent))
        except OSError:
            continue
        if os.geteuid() == 0:
            runtime.chmod(0o711)
        return runtime
    raise LocalError(
        f"no folder for sockets: of {' and '.join(dict.fromkeys(parents))} none is writable, reachable for the "
        "servers' account and short enough; set TMPDIR to one that is"
    )


def reachable_by_others(folder: Path) -> bool:
    """Whether an account without rights of its own can get into `folder`."""
    real = folder.resolve()
    return all(path.stat().st_mode & 0o001 for path in (real, *real.parents))


def _processes_of(folder: Path) -> list[int]:
    """The Python processes of that state folder (Linux). The servers overwrite the environment they were given; they
    are found by where they work."""
    marker = f"{CHILD_OF}={folder}".encode()
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if marker in environment.read_bytes().split(b"\0"):
                found.append(int(environment.parent.name))
    return [pid for pid in found if pid != os.getpid()]


def processes_in(folder: Path) -> list[int]:
    """Processes whose working directory is `folder` (Linux). PostgreSQL works in its data, Valkey beside its socket."""
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            if link.readlink() == folder:
                found.append(int(link.parent.name))
    return found


def write_atomically(path: Path, text: str, mode: int = 0o600, *, lasting: bool = False) -> None:
    """The whole text or nothing appears under `path`. `lasting`: it is on the disk when this returns."""
    descriptor, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        os.fchmod(descriptor, mode)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            if lasting:
                file.flush()
                os.fsync(file.fileno())
        Path(partial).replace(path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
    if lasting:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the name
        finally:
            os.close(folder)


def read_env(folder: Path) -> dict[str, Any]:
    """env.json of the shop that runs with this state folder.

    Raises LocalError when none runs there.
    """
    path = folder / "env.json"
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(value, dict) or not isinstance(value.get("CONTROL"), str):
            raise ValueError("it does not say how the shop is controlled")
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise LocalError(
            f"no shop is running with the state folder {folder}; start one with `nearshelf up`, "
            "or name its folder with --state"
        ) from exc
    except PermissionError as exc:
        raise LocalError(f"the shop in {folder} was started by somebody else: {exc.strerror}") from exc
    except (OSError, ValueError) as exc:
        raise LocalError(f"{path} cannot be read ({exc}); start the shop again, it is written anew") from exc
    return value
