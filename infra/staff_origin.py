"""The staff API of an origin as a shell reaches it: which origin, who is signed in there, and what it says."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from infra.state_folder import default_state

if TYPE_CHECKING:
    import httpx

EXIT_FAILED: Final = 1
EXIT_REFUSED: Final = 2
EXIT_NOT_REPLICATED: Final = 3
EXIT_NOT_LIVE: Final = 4

REQUEST_TIMEOUT_S: Final = 15.0
_API: Final = "/api/staff/v1"


class Refused(Exception):
    """What was asked cannot be done; the text says why and what to do next. `code` is the exit code, `problem` what the
    origin said of it (RFC 9457), if it was the origin."""

    def __init__(self, text: str, code: int = EXIT_REFUSED, problem: Mapping[str, Any] | None = None) -> None:
        super().__init__(text)
        self.code = code
        self.problem = problem or {}


class Origin:
    """The staff API of one origin, as one signed-in person."""

    def __init__(self, url: str, token: str | None) -> None:
        self.url = url
        self._token = token

    def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        wait_s: float = 0.0,
        within_s: float = math.inf,
    ) -> dict[str, Any]:
        """The decoded answer. Raises Refused with what the origin said, or that it cannot be reached.

        `wait_s`: how long it was asked to hold the question. `within_s`: the caller's own patience.
        """
        import httpx

        headers = {"accept": "application/json"}
        if self._token is not None:
            headers["authorization"] = f"Bearer {self._token}"
        try:
            answer = httpx.request(
                method,
                self.url + _API + path,
                json=body,
                headers=headers,
                timeout=min(REQUEST_TIMEOUT_S + wait_s, within_s),
                # A proxy has nothing to do with a shop on this machine.
                trust_env=urlsplit(self.url).hostname not in {"127.0.0.1", "::1", "localhost"},
            )
        except httpx.InvalidURL as exc:
            raise Refused(f"{self.url!r} is not an address: {exc}") from exc
        except httpx.TransportError as exc:
            raise Refused(
                f"the origin at {self.url} cannot be reached: {str(exc) or type(exc).__name__}; is it running "
                "(nearshelf up), is --url right?",
                EXIT_FAILED,
            ) from exc
        return self._read(answer, path)

    def _read(self, answer: httpx.Response, path: str) -> dict[str, Any]:
        try:
            document = answer.json()
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise Refused(
                f"{self.url}{_API}{path.partition('?')[0]} answered {answer.status_code} and no JSON: is this the "
                "origin of a nearshelf shop?",
                EXIT_FAILED,
            )
        if answer.is_success:
            return document
        detail = str(document.get("detail") or document.get("title") or answer.status_code)
        if answer.status_code == 401 and self._token is not None:
            raise Refused(f"not signed in at {self.url} any more; run: nearshelf login{self._url_option()}")
        raise Refused(detail, EXIT_FAILED if answer.status_code >= 500 else EXIT_REFUSED, document)

    def _url_option(self) -> str:
        return "" if default_url() == self.url else f" --url {self.url}"


def signed_in(url: str | None) -> Origin:
    origin = origin_url(url)
    session = Sessions().of(origin)
    if session is None:
        option = "" if url is None else f" --url {origin}"
        raise Refused(f"not signed in at {origin}; run: nearshelf login{option} --email YOU")
    return Origin(origin, session["token"])


def origin_url(url: str | None) -> str:
    found = url or default_url()
    if found is None:
        raise Refused(
            "which shop? no NEARSHELF_ORIGIN_URL is set and no shop runs in this folder; start one with "
            "`nearshelf up`, name the state folder of one that runs in NEARSHELF_STATE, or its origin with --url"
        )
    try:
        parts = urlsplit(found)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise Refused(f"{found!r} is not the address of an origin, expected for example http://127.0.0.1:8080")
    return found.rstrip("/")


def default_url() -> str | None:
    if found := os.environ.get("NEARSHELF_ORIGIN_URL"):
        return found.rstrip("/")
    running = running_shop()
    return None if running is None else running["ORIGIN_URL"].rstrip("/")


def first_admin(origin: str) -> tuple[str | None, Path | None]:
    """E-mail and password file of the first admin of the shop that runs here, if `origin` is that shop."""
    running = running_shop()
    if running is None or running["ORIGIN_URL"].rstrip("/") != origin:
        return None, None
    password_file = running.get("ADMIN_PASSWORD_FILE")
    return running.get("ADMIN_EMAIL"), None if password_file is None else Path(password_file)


def running_shop() -> dict[str, str] | None:
    """What `nearshelf up` wrote down about the shop that it runs in this project (`env.json`), and where: `STATE`."""
    here = Path.cwd()
    for state in (default_state(), *(folder / ".nearshelf" for folder in (here, *here.parents))):
        file = state / "env.json"
        try:
            if file.is_file():
                shop: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
                if isinstance(shop["ORIGIN_URL"], str):
                    return shop | {"STATE": str(state)}
        except (OSError, ValueError, KeyError, TypeError) as exc:
            raise Refused(f"{file} cannot be read ({exc}); name the origin with --url") from exc
    return None


class Sessions:
    """Who is signed in where: one file of the user's, readable by nobody else."""

    def __init__(self) -> None:
        home = os.environ.get("XDG_CONFIG_HOME") or ""
        base = Path(home) if Path(home).is_absolute() else Path.home() / ".config"
        self.file = base / "nearshelf" / "sessions.json"

    def of(self, origin: str) -> dict[str, str] | None:
        return self._read().get(origin)

    def keep(self, origin: str, session: dict[str, str]) -> None:
        self._write(self._read() | {origin: session})

    def forget(self, origin: str) -> None:
        sessions = self._read()
        if sessions.pop(origin, None) is not None:
            self._write(sessions)

    def _read(self) -> dict[str, dict[str, str]]:
        try:
            sessions = json.loads(self.file.read_text())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as exc:
            raise Refused(f"{self.file} cannot be read ({exc}); delete it and sign in again") from exc
        if not isinstance(sessions, dict):
            raise Refused(f"{self.file} holds no sessions; delete it and sign in again")
        return sessions

    def _write(self, sessions: Mapping[str, Mapping[str, str]]) -> None:
        try:
            self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft = self.file.with_name(f".{self.file.name}.{os.getpid()}")
            draft.unlink(missing_ok=True)
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as out:
                json.dump(sessions, out, indent=2)
            draft.replace(self.file)
        except OSError as exc:
            raise Refused(f"{self.file} cannot be written: {exc.strerror}; see XDG_CONFIG_HOME") from exc


def bytes_in(file: Path, most: int) -> bytes:
    """What `file` holds, at most `most` bytes of it; - is the input. Raises Refused."""
    try:
        if str(file) == "-":
            return sys.stdin.buffer.read(most)
        with file.open("rb") as opened:
            return opened.read(most)
    except OSError as exc:
        raise Refused(f"{file} cannot be read: {exc.strerror}") from exc


def password_in(file: Path) -> str:
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise Refused(f"the password file {file} cannot be read: {exc}") from exc
    lines = text.splitlines()
    if not lines or not lines[0]:
        raise Refused(f"the first line of the password file {file} is empty")
    return lines[0]
