"""Where the admin token of a site lies, so that the same user's commands find it and nobody else does.

One file per admin address in the user's state folder, readable by its owner only; there while the site runs.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

MIN_CHARACTERS = 16
"""Of a token that somebody chooses: it is all that keeps strangers from purging."""
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_ANYWHERE = ("0.0.0.0", "::")  # noqa: S104 - names, not something that is listened at


class TokenUnusable(Exception):
    """A token file cannot be read or written, or is not safe to be believed; the text says which and why."""


def user_state(env: Mapping[str, str]) -> Path:
    """The folder for this user's state of nearshelf: in $XDG_STATE_HOME, by default ~/.local/state."""
    home = env.get("XDG_STATE_HOME") or ""
    return (Path(home) if Path(home).is_absolute() else Path.home() / ".local" / "state") / "nearshelf"


def token_file(env: Mapping[str, str], host: str, port: int) -> Path:
    """Of the site whose admin listener is at that address."""
    return user_state(env) / "admin" / f"{host.strip('[]').replace(':', '_')}-{port}.token"


def write_token(file: Path) -> str:
    """Make a token and write it to `file`, for the owner's eyes. Raises TokenUnusable."""
    token = secrets.token_urlsafe(32)
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = file.parent.stat()
        if found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise TokenUnusable(
                f"{file.parent} is not this user's alone, so no token is written there; see XDG_STATE_HOME"
            )
        draft = file.with_name(f".{file.name}.{os.getpid()}")
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as out:
            out.write(token + "\n")
        draft.replace(file)
    except OSError as exc:
        raise TokenUnusable(f"the admin token cannot be written to {file}: {exc.strerror}; see XDG_STATE_HOME") from exc
    return token


def find_token(env: Mapping[str, str], url: str) -> str | None:
    """The token of the site whose admin listener is at `url`, if this user runs it. Raises TokenUnusable for a file
    that others may have written or read."""
    for file in _candidates(env, url):
        try:
            descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as exc:
            raise TokenUnusable(f"{file} cannot be read: {exc.strerror}") from exc
        with os.fdopen(descriptor, encoding="ascii", errors="replace") as text:
            found = os.fstat(text.fileno())
            if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
                raise TokenUnusable(f"{file} is not readable by its owner only, so its token is not used; delete it")
            return text.read().strip()
    return None


def _candidates(env: Mapping[str, str], url: str) -> Iterator[Path]:
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    # What listens everywhere is found by the names of this machine alone: another one at that port is somebody else's.
    for name in dict.fromkeys([host, *((*_LOOPBACK, *_ANYWHERE) if host in _LOOPBACK else ())]):
        yield token_file(env, name, port)
