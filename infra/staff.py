"""What staff do from a shell: sign in, look at a price, change it and watch it become live, purge.

    nearshelf login --email anna@example.com
    nearshelf price show LAMP-1
    nearshelf price set LAMP-1 --market eu-eur 12.00 --reason "autumn sale"
    nearshelf purge --category lighting --soft
    nearshelf purge --admin http://127.0.0.1:8081 --path /products/lamp

All but the last goes through the staff API of the origin (`/api/staff/v1`). The token of a login is kept in the user's
configuration folder, readable by nobody else. Exit codes: 0 done (live, where it was waited for), 1 the origin cannot
be reached or failed, 2 the input was refused or nobody is signed in, 3 shown everywhere but not yet replicated, 4 not
live in time.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, ParamSpec
from urllib.parse import quote, urlsplit

import typer

from infra.state_folder import default_state

if TYPE_CHECKING:
    import httpx
    from rich.console import Console, RenderableType

EXIT_FAILED: Final = 1
EXIT_REFUSED: Final = 2
EXIT_NOT_REPLICATED: Final = 3
EXIT_NOT_LIVE: Final = 4

REQUEST_TIMEOUT_S: Final = 15.0
POLL_S: Final = 0.5
"""How long one question for the state of a change is held by the origin, in seconds."""
_API: Final = "/api/staff/v1"

_P = ParamSpec("_P")


class Refused(Exception):
    """What was asked cannot be done; the text says why and what to do next. `code` is the exit code."""

    def __init__(self, text: str, code: int = EXIT_REFUSED) -> None:
        super().__init__(text)
        self.code = code


def _told(command: Callable[_P, None]) -> Callable[_P, None]:
    """Tells the person about a Refused instead of showing a traceback."""

    @functools.wraps(command)
    def wrapped(*args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except Refused as refused:
            typer.echo(f"error: {refused}", err=True)
            raise typer.Exit(refused.code) from None

    return wrapped


Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        help="The origin. Default: NEARSHELF_ORIGIN_URL, else the shop that `nearshelf up` runs in this project.",
        metavar="URL",
    ),
]
Reason = Annotated[str, typer.Option(help="Why; kept in the audit list.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Watch the change until it is live.")]
Timeout = Annotated[float, typer.Option(help="How long to watch, in seconds.", min=0.0, metavar="SECONDS")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

price_app = typer.Typer(help="Look at prices and change them.", no_args_is_help=True)
rate_app = typer.Typer(help="The rates that base prices are converted with.", no_args_is_help=True)
stock_app = typer.Typer(help="What is on hand.", no_args_is_help=True)
product_app = typer.Typer(help="Take products down, and list them again.", no_args_is_help=True)


@_told
def login(
    email: Annotated[str | None, typer.Option(help="Who you are.")] = None,
    password_file: Annotated[
        Path | None,
        typer.Option(help="File whose first line is the password; - reads it from the input. Else it is asked for."),
    ] = None,
    url: Url = None,
) -> None:
    """Sign in; the other commands use the session for 30 days.

    Without any option, at a shop that `nearshelf up` runs here: as its first admin.

    Example: nearshelf login --email anna@example.com
    """
    origin = _origin_url(url)
    if email is None and password_file is None:
        email, password_file = _first_admin(origin)
    email = email or typer.prompt("E-mail", err=True)
    password = _password(password_file) if password_file else typer.prompt("Password", hide_input=True, err=True)
    answer = _Origin(origin, None).ask("POST", "/login", {"email": email, "password": password})
    sessions = _Sessions()
    sessions.keep(origin, {name: answer[name] for name in ("token", "email", "role", "expires_at")})
    typer.echo(f"signed in at {origin} as {answer['email']} ({answer['role']}) until {answer['expires_at'][:10]}")


@_told
def logout(url: Url = None) -> None:
    """Sign out here.

    Example: nearshelf logout
    """
    origin = _origin_url(url)
    sessions = _Sessions()
    session = sessions.of(origin)
    if session is None:
        typer.echo(f"not signed in at {origin}")
        return
    sessions.forget(origin)
    try:
        _Origin(origin, session["token"]).ask("POST", "/logout")
    except Refused as refused:
        if refused.code == EXIT_FAILED:
            raise Refused(
                f"the token is deleted here, but the session at the origin goes on until {session['expires_at'][:10]}: "
                f"{refused}",
                EXIT_FAILED,
            ) from refused
    typer.echo(f"signed out at {origin}")


@price_app.command("show")
@_told
def price_show(
    sku: Annotated[str, typer.Argument(help="SKU of a product or of a variant.")],
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show the price of a SKU in each market, and where it comes from.

    Example: nearshelf price show LAMP-1
    """
    product = _signed_in(url).ask("GET", f"/products/{quote(sku, safe='')}")
    if as_json:
        typer.echo(json.dumps(product, indent=2, ensure_ascii=False))
        return
    typer.echo(f"{product['name']} ({product['sku']}), {product['band'].replace('_', ' ')}")
    rows = [
        (
            price["market"],
            "not sold" if price["amount"] is None else f"{price['amount']} {price['currency']}",
            _where_from(price),
            str(price["version"]),
        )
        for price in product["prices"]
    ]
    _print_table(("market", "price", "from", "version"), rows)


@price_app.command("set")
@_told
def price_set(
    sku: Annotated[str, typer.Argument(help="SKU of a product or of a variant.")],
    amount: Annotated[str, typer.Argument(help="The new price, with a point: 12.00 (or `converted`: no own price).")],
    market: Annotated[str, typer.Option("--market", "-m", help="The market, such as eu-eur.")],
    reason: Reason = "",
    expected_version: Annotated[
        int | None,
        typer.Option(min=0, help="Refuse if the price has another version by now (see `price show`)."),
    ] = None,
    wait: Wait = True,
    timeout: Timeout = 10.0,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Set the price of a SKU in one market, and watch it become live on every edge.

    Example: nearshelf price set LAMP-1 --market eu-eur 12.00 --reason "autumn sale"
    """
    origin = _signed_in(url)
    path = f"/products/{quote(sku, safe='')}/prices/{quote(market, safe='')}"
    body: dict[str, Any] = {"reason": reason}
    if expected_version is not None:
        body["expected_version"] = expected_version
    if amount == "converted":
        changed = origin.ask("DELETE", path, body)
    else:
        changed = origin.ask("PUT", path, {"amount": amount, **body})
    price = changed["price"]
    saved = f"{price['sku']} in {price['market']}: {price['amount']} {price['currency']} ({price['source']})"
    _finish(origin, changed, saved, wait=wait, timeout=timeout, as_json=as_json)


@rate_app.command("set")
@_told
def rate_set(
    base: Annotated[str, typer.Argument(metavar="BASE", help="The currency of base prices, such as USD.")],
    quote_: Annotated[str, typer.Argument(metavar="QUOTE", help="The currency of the markets, such as EUR.")],
    rate: Annotated[str, typer.Argument(metavar="RATE", help="How many QUOTE one BASE is, with a point: 0.86")],
    reason: Reason = "",
    wait: Wait = True,
    timeout: Timeout = 10.0,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Set a rate: every converted price between the two currencies moves with it.

    Example: nearshelf rate set USD EUR 0.86
    """
    origin = _signed_in(url)
    path = f"/rates/{quote(base, safe='')}/{quote(quote_, safe='')}"
    changed = origin.ask("PUT", path, {"rate": rate, "reason": reason})
    moved = changed["rate"]
    saved = f"1 {moved['base']} is {moved['rate']} {moved['quote']}, for {', '.join(moved['markets'])}"
    _finish(origin, changed, saved, wait=wait, timeout=timeout, as_json=as_json)


@stock_app.command("set")
@_told
def stock_set(
    sku: Annotated[str, typer.Argument(help="SKU of a product or of a variant.")],
    on_hand: Annotated[int, typer.Argument(metavar="N", help="Pieces on hand.")],
    reason: Reason = "",
    wait: Wait = True,
    timeout: Timeout = 10.0,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Set how many pieces are on hand. Only where that changes what shoppers see, there is something to watch.

    Example: nearshelf stock set LAMP-1 0
    """
    origin = _signed_in(url)
    changed = origin.ask("PUT", f"/products/{quote(sku, safe='')}/stock", {"on_hand": on_hand, "reason": reason})
    stock = changed["stock"]
    saved = f"{stock['sku']}: {stock['on_hand']} on hand, {stock['band'].replace('_', ' ')}"
    if changed["position"] is None:
        typer.echo(json.dumps({"changed": changed}, indent=2) if as_json else f"{saved} as before; saved")
        return
    _finish(origin, changed, saved, wait=wait, timeout=timeout, as_json=as_json)


@product_app.command("takedown")
@_told
def product_takedown(
    sku: Annotated[str, typer.Argument(help="SKU of a product.")],
    reason: Reason = "",
    wait: Wait = True,
    timeout: Timeout = 10.0,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Take a product out of the shop: its addresses are 404, nothing shows it any more.

    Example: nearshelf product takedown LAMP-1 --reason "recalled"
    """
    _set_listed(sku, False, reason, wait=wait, timeout=timeout, url=url, as_json=as_json)


@product_app.command("list")
@_told
def product_list(
    sku: Annotated[str, typer.Argument(help="SKU of a product.")],
    reason: Reason = "",
    wait: Wait = True,
    timeout: Timeout = 10.0,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Put a product that was taken down back into the shop.

    Example: nearshelf product list LAMP-1
    """
    _set_listed(sku, True, reason, wait=wait, timeout=timeout, url=url, as_json=as_json)


def _set_listed(
    sku: str, listed: bool, reason: str, *, wait: bool, timeout: float, url: str | None, as_json: bool
) -> None:
    origin = _signed_in(url)
    changed = origin.ask("PUT", f"/products/{quote(sku, safe='')}/listing", {"listed": listed, "reason": reason})
    saved = f"{changed['listing']['sku']} is {'in the shop' if listed else 'taken down'}"
    _finish(origin, changed, saved, wait=wait, timeout=timeout, as_json=as_json)


@_told
def purge(
    tags: Annotated[
        list[str] | None, typer.Option("--tag", help="A cache tag, or * for everything; repeatable.")
    ] = None,
    product: Annotated[str | None, typer.Option("--product", help="SKU of a product.", metavar="SKU")] = None,
    category: Annotated[str | None, typer.Option("--category", help="Path of a category.", metavar="PATH")] = None,
    market: Annotated[str | None, typer.Option("--market", "-m", help="Only in this market.")] = None,
    soft: Annotated[bool, typer.Option("--soft", help="Serve the old copy as stale until it is refreshed.")] = False,
    admin: Annotated[
        str | None,
        typer.Option("--admin", metavar="URL", help="The admin listener of an edge (nearshelf edge, or a shop's)."),
    ] = None,
    paths: Annotated[
        list[str] | None, typer.Option("--path", help="With --admin: a path, whatever its query; repeatable.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="With --admin: everything.")] = False,
    reason: Reason = "",
    wait: Wait = True,
    timeout: Timeout = 10.0,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Purge by tag, product or category on every edge. Hard, unless --soft: the old copy is never served again.

    With --admin through an edge: by tag, path or everything. Its token is found if the edge is yours, else it is that
    in NEARSHELF_ADMIN_TOKEN.

    \b
    Examples:
      nearshelf purge --product LAMP-1 --soft
      nearshelf purge --admin http://127.0.0.1:8081 --path /products/lamp
    """
    if admin is not None:
        if product is not None or category is not None or market is not None or url is not None:
            raise Refused("--product, --category, --market and --url go to an origin, not to the --admin of an edge")
        from infra.edge_purge import purge_through

        purge_through(admin, tags or (), paths or (), everything, soft=soft, reason=reason, as_json=as_json)
        return
    if paths or everything:
        raise Refused("--path and --all need --admin, the admin listener of an edge; see nearshelf purge --help")
    named = [bool(tags), product is not None, category is not None]
    if sum(named) != 1:
        raise Refused("say what to purge, one of --tag, --product and --category; see nearshelf purge --help")
    body: dict[str, Any] = {"kind": "soft" if soft else "hard", "reason": reason}
    body |= {"tags": tags} if tags else {"product": product} if product is not None else {"category": category}
    if market is not None:
        body["market"] = market
    origin = _signed_in(url)
    purged = origin.ask("POST", "/purges", body)
    names = ", ".join(purged["tags"][:3]) + (f" and {len(purged['tags']) - 3} more" if len(purged["tags"]) > 3 else "")
    _finish(origin, purged, f"purged {body['kind']}: {names}", wait=wait, timeout=timeout, as_json=as_json)


# --- watching a change ---


def _finish(
    origin: _Origin, changed: Mapping[str, Any], saved: str, *, wait: bool, timeout: float, as_json: bool
) -> None:
    """Tells what was saved, watches it if that was asked for, and ends with the exit code that says how it went."""
    position = changed["position"]
    if not wait:
        if as_json:
            typer.echo(json.dumps({"changed": changed}, indent=2, ensure_ascii=False))
        else:
            typer.echo(f"{saved}; saved at {position}, {origin.url}/console/changes/{position} shows how far it is")
        return
    if not as_json:
        typer.echo(f"{saved}; saved at {position}")
    report = _watch(origin, position, timeout, quiet=as_json)
    verdict, code = _verdict(report, timeout)
    if as_json:
        document = {"changed": changed, "report": report, "verdict": verdict, "exit_code": code}
        typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        typer.echo(verdict)
    if code:
        raise typer.Exit(code)


def _watch(origin: _Origin, position: str, timeout: float, *, quiet: bool) -> dict[str, Any]:
    """Asks until the change is live or `timeout` seconds are over; shows each answer on a terminal, else the last."""
    deadline = time.monotonic() + timeout
    console = _console()
    display = nullcontext() if quiet or not console.is_terminal else _live(console)
    with display as live:
        while True:
            left_s = deadline - time.monotonic()
            wait_s = max(0.0, min(POLL_S, left_s))
            report = origin.ask("GET", f"/changes/{position}?wait_s={wait_s:.3f}&read_back=yes", wait_s=wait_s)
            if live is not None:
                live.update(_report_tables(report))
            if report["final"] or left_s <= 0:
                break
    if not quiet and not console.is_terminal:
        for line in _report_lines(report):
            typer.echo(line)
    return report


def _verdict(report: Mapping[str, Any], timeout: float) -> tuple[str, int]:
    """The last line, and the exit code."""
    workers = report["workers"]
    done = [worker for worker in workers if worker["outcome"] != "waiting"]
    count = f"{len(done)} of {len(workers)} workers"
    wrong = [read for read in report["read_back"] if not read["as_expected"]]
    if report["state"] == "live":
        late = [worker for worker in done if worker["outcome"] == "lease ran out"]
        line = f"live in {report['elapsed_ms']:.0f} ms: {count}"
        if late:
            line += f", of which the lease of {_names(late)} was waited out"
        if wrong:
            line += f"; not read back as expected from {', '.join(read['edge'] for read in wrong)}"
        return line, 0
    if report["state"] == "shown":
        missing = [standby["name"] for standby in report["standbys"] if not standby["flushed"]]
        why = f"waiting for {', '.join(missing)}" if missing else "no standby is connected"
        return f"shown everywhere, not yet replicated: {count}, {why}", EXIT_NOT_REPLICATED
    if report["state"] == "lost":
        return f"{report['verdict']}; make it again", EXIT_NOT_LIVE
    waiting = [worker for worker in workers if worker["outcome"] == "waiting"]
    return f"not live after {timeout:g} s: {count}, waiting for {_names(waiting)}", EXIT_NOT_LIVE


def _names(workers: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"{worker['edge']} {worker['worker'][:6]}" for worker in workers) or "the edges' first reports"


_OUTCOMES: Final = {"acknowledged": "applied", "left": "stopped"}
"""What people are told instead of the report's own words."""
_WORKER_HEAD: Final = ("edge", "worker", "outcome", "ms")
_STANDBY_HEAD: Final = ("standby", "flushed")
_READ_HEAD: Final = ("read back from", "price", "ms", "Cache-Status")


def _worker_rows(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    return [
        (worker["edge"], worker["worker"][:6], _OUTCOMES.get(worker["outcome"], worker["outcome"]), _ms(worker["ms"]))
        for worker in report["workers"]
    ]


def _standby_rows(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    return [(standby["name"], "yes" if standby["flushed"] else "not yet") for standby in report["standbys"]]


def _read_rows(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            read["edge"],
            _shown(read),
            _ms(read["ms"]),
            read["cache_status"] or "",
        )
        for read in report["read_back"]
    ]


def _shown(read: Mapping[str, Any]) -> str:
    if read["amount"] is None:
        return str(read["error"] or f"answered {read['status']}")
    return f"{read['amount']} {read['currency']}" + ("" if read["as_expected"] else " (unexpected)")


def _report_lines(report: Mapping[str, Any]) -> list[str]:
    lines: list[str] = []
    for head, rows in (
        (_WORKER_HEAD, _worker_rows(report)),
        (_STANDBY_HEAD, _standby_rows(report)),
        (_READ_HEAD, _read_rows(report)),
    ):
        if rows:
            lines.extend(_plain(head, rows))
    return lines


def _report_tables(report: Mapping[str, Any]) -> RenderableType:
    from rich.console import Group

    tables = [
        _table(head, rows)
        for head, rows in (
            (_WORKER_HEAD, _worker_rows(report)),
            (_STANDBY_HEAD, _standby_rows(report)),
            (_READ_HEAD, _read_rows(report)),
        )
        if rows
    ]
    return Group(*tables)


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"


def _where_from(price: Mapping[str, Any]) -> str:
    if price["source"] == "explicit":
        return "own price"
    base = price["base"]
    if base is None:
        return "no base price"
    shown = f"{base['amount']} {base['currency']}"
    if base["currency"] == price["currency"]:
        return f"base price {shown}"
    if not price["rate"]:
        return f"{shown}, no rate"
    # Said only where the currency has a rounding of its own; half up to its digits goes without saying.
    rounded = f", rounded {price['rounded']}" if price.get("rounded") else ""
    return f"{shown} × {price['rate']}{rounded}"


# --- the origin ---


class _Origin:
    """The staff API of one origin, as one signed-in person."""

    def __init__(self, url: str, token: str | None) -> None:
        self.url = url
        self._token = token

    def ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, wait_s: float = 0.0
    ) -> dict[str, Any]:
        """The decoded answer. Raises Refused with what the origin said, or that it cannot be reached."""
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
                timeout=REQUEST_TIMEOUT_S + wait_s,
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
        raise Refused(detail, EXIT_FAILED if answer.status_code >= 500 else EXIT_REFUSED)

    def _url_option(self) -> str:
        return "" if _default_url() == self.url else f" --url {self.url}"


def _signed_in(url: str | None) -> _Origin:
    origin = _origin_url(url)
    session = _Sessions().of(origin)
    if session is None:
        option = "" if url is None else f" --url {origin}"
        raise Refused(f"not signed in at {origin}; run: nearshelf login{option} --email YOU")
    return _Origin(origin, session["token"])


def _origin_url(url: str | None) -> str:
    found = url or _default_url()
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


def _default_url() -> str | None:
    if found := os.environ.get("NEARSHELF_ORIGIN_URL"):
        return found.rstrip("/")
    running = running_shop()
    return None if running is None else running["ORIGIN_URL"].rstrip("/")


def _first_admin(origin: str) -> tuple[str | None, Path | None]:
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


class _Sessions:
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


def _password(file: Path) -> str:
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise Refused(f"the password file {file} cannot be read: {exc}") from exc
    lines = text.splitlines()
    if not lines or not lines[0]:
        raise Refused(f"the first line of the password file {file} is empty")
    return lines[0]


# --- printing ---


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False)


def _live(console: Console) -> AbstractContextManager[Any]:
    from rich.live import Live

    return Live(console=console, refresh_per_second=20)


def _print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    console = _console()
    if console.is_terminal:
        console.print(_table(head, rows))
    else:
        for line in _plain(head, rows):
            typer.echo(line)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for name in head:
        table.add_column(name, justify="right" if name in {"ms", "version"} else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def _plain(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns of text, two blanks apart: for pipes and files."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)
    ]
