"""Price changes over the staff API, as a program of the shop's staff would make them (docs/merchandising.md).

The exchanges are values, so that locust and the observer send the same ones by their own means.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from loadtests.http1 import Connection, NoAnswer
from loadtests.oracle import PriceKey
from loadtests.target import BadTarget, Target, read_object

PREFIX = "/api/staff/v1"
HOLD_S = 10.0
"""How long one question about a change is held by the origin."""
LEASE_RAN_OUT = "lease ran out"
"""Outcome of a worker that did not acknowledge a change: it was waited for until nothing it holds counts as fresh."""


class StaffError(Exception):
    """The staff API refused or failed. Reads: PUT /api/staff/v1/...: 409 the price has changed meanwhile."""

    def __init__(self, text: str, *, refused: bool = False, status: int | None = None) -> None:
        super().__init__(text)
        self.refused = refused
        """It certainly changed nothing."""
        self.status = status
        """What it answered; None: it did not."""


class Exchange(NamedTuple):
    """A request to the staff API."""

    method: str
    target: str
    body: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Credentials:
    email: str
    password: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a change is."""

    state: str
    waited_out: tuple[str, ...]
    """Edge/worker of each worker whose lease was waited out."""


def credentials_of(state: Path) -> Credentials:
    """The first member of staff of a shop on this machine, from its state folder. Raises BadTarget."""
    remedy = "is the shop running with this state folder?"
    environment = read_object(state / "env.json", remedy)
    try:
        password = Path(environment["ADMIN_PASSWORD_FILE"]).read_text("utf-8").splitlines()[0]
        return Credentials(environment["ADMIN_EMAIL"], password)
    except (KeyError, IndexError, OSError) as exc:
        raise BadTarget(f"{state / 'env.json'}: no staff credentials ({exc!r}); {remedy}") from exc


def sign_in(credentials: Credentials) -> Exchange:
    return Exchange("POST", f"{PREFIX}/login", {"email": credentials.email, "password": credentials.password})


def change_price(
    key: PriceKey, amount: str, reason: str = "load test", expected_version: int | None = None
) -> Exchange:
    """`expected_version`: of the price that is to be replaced; another one is refused."""
    target = f"{PREFIX}/products/{quote(key.sku, safe='')}/prices/{quote(key.market, safe='')}"
    expected = {} if expected_version is None else {"expected_version": expected_version}
    return Exchange("PUT", target, {"amount": amount, "reason": reason, **expected})


def show_product(sku: str) -> Exchange:
    """Its prices as the primary has them, each with its version."""
    return Exchange("GET", f"{PREFIX}/products/{quote(sku, safe='')}")


def order_purge(tags: Sequence[str], *, soft: bool = False, reason: str = "load test") -> Exchange:
    return Exchange(
        "POST", f"{PREFIX}/purges", {"tags": list(tags), "kind": "soft" if soft else "hard", "reason": reason}
    )


def ask_progress(position: str, wait_s: float) -> Exchange:
    return Exchange("GET", f"{PREFIX}/changes/{quote(position, safe='')}?wait_s={wait_s:g}")


def request_parts(exchange: Exchange, token: str | None) -> tuple[dict[str, str], bytes | None]:
    """Header fields and body."""
    headers = {"Accept": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    if exchange.body is None:
        return headers, None
    return headers | {"Content-Type": "application/json"}, json.dumps(exchange.body).encode()


def read_answer(exchange: Exchange, status: int, body: bytes) -> dict[str, Any]:
    """The object in a successful answer. Raises StaffError."""
    where = f"{exchange.method} {exchange.target}: {status}"
    try:
        document = json.loads(body)
    except ValueError as exc:
        raise StaffError(f"{where} and no JSON", status=status) from exc
    if not isinstance(document, dict):
        raise StaffError(f"{where} and no JSON object", status=status)
    if not 200 <= status < 300:
        why = document.get("detail") or document.get("title")
        raise StaffError(f"{where} {why}", refused=400 <= status < 500, status=status)
    return document


def progress_of(document: Mapping[str, Any]) -> Progress:
    """Raises StaffError when the answer does not say how far the change is."""
    try:
        waited_out = tuple(
            f"{worker['edge']}/{worker['worker']}"
            for worker in document["workers"]
            if worker["outcome"] == LEASE_RAN_OUT
        )
        return Progress(str(document["state"]), waited_out)
    except (KeyError, TypeError) as exc:
        raise StaffError(f"a change without {exc}") from exc


class StaffSession:
    """One connection of a signed-in member of staff."""

    def __init__(self, connection: Connection, token: str | None) -> None:
        self._connection = connection
        self._token = token

    async def ask(self, exchange: Exchange) -> dict[str, Any]:
        """The object in the answer. Raises StaffError."""
        headers, body = request_parts(exchange, self._token)
        try:
            answer = await self._connection.request(exchange.method, exchange.target, headers, body)
        except NoAnswer as exc:
            raise StaffError(str(exc)) from exc
        return read_answer(exchange, answer.status, answer.body)

    async def set_price(self, key: PriceKey, amount: str) -> str:
        """Change a price; the position of the change. Raises StaffError."""
        return str((await self.ask(change_price(key, amount)))["position"])

    async def until(self, position: str, states: Collection[str], timeout_s: float) -> Progress:
        """How far a change is once its state is one of `states`. Raises StaffError when it is not after `timeout_s`."""
        give_up_at = time.monotonic() + timeout_s
        while True:
            left_s = give_up_at - time.monotonic()
            progress = progress_of(await self.ask(ask_progress(position, max(0.0, min(left_s, HOLD_S)))))
            if progress.state in states:
                return progress
            if left_s <= 0:
                raise StaffError(f"still {progress.state!r} after {timeout_s:g} s")


class StaffApi:
    """The staff API of a target, signed in."""

    def __init__(self, origin: str, token: str) -> None:
        self._origin = origin
        self.token = token

    @classmethod
    async def signed_in(cls, target: Target) -> StaffApi:
        """Raises BadTarget without credentials, StaffError when they are refused."""
        async with Connection(target.origin) as connection:
            answer = await StaffSession(connection, None).ask(sign_in(credentials_of(target.state)))
        return cls(target.origin, str(answer["token"]))

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[StaffSession]:
        """A connection of its own."""
        async with Connection(self._origin, timeout_s=HOLD_S + 10.0) as connection:
            yield StaffSession(connection, self.token)
