"""What staff do from a shell: sign in, look at a price, change it and watch it become live, purge.

    nearshelf login --email anna@example.com
    nearshelf price show LAMP-1
    nearshelf price set LAMP-1 --market eu-eur 12.00 --reason "autumn sale"
    nearshelf price batch sale.csv --market eu-eur
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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec
from urllib.parse import quote

import typer

from infra.staff_origin import (
    EXIT_FAILED,
    Origin,
    Refused,
    Sessions,
    bytes_in,
    first_admin,
    origin_url,
    password_in,
    signed_in,
)
from infra.staff_report import finish, print_table

if TYPE_CHECKING:
    from infra.price_file import Fault

_P = ParamSpec("_P")


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
    origin = origin_url(url)
    if email is None and password_file is None:
        email, password_file = first_admin(origin)
    email = email or typer.prompt("E-mail", err=True)
    password = password_in(password_file) if password_file else typer.prompt("Password", hide_input=True, err=True)
    answer = Origin(origin, None).ask("POST", "/login", {"email": email, "password": password})
    sessions = Sessions()
    sessions.keep(origin, {name: answer[name] for name in ("token", "email", "role", "expires_at")})
    typer.echo(f"signed in at {origin} as {answer['email']} ({answer['role']}) until {answer['expires_at'][:10]}")


@_told
def logout(url: Url = None) -> None:
    """Sign out here.

    Example: nearshelf logout
    """
    origin = origin_url(url)
    sessions = Sessions()
    session = sessions.of(origin)
    if session is None:
        typer.echo(f"not signed in at {origin}")
        return
    sessions.forget(origin)
    try:
        Origin(origin, session["token"]).ask("POST", "/logout")
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
    product = signed_in(url).ask("GET", f"/products/{quote(sku, safe='')}")
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
    print_table(("market", "price", "from", "version"), rows)


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
    origin = signed_in(url)
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
    finish(origin, changed, saved, wait=wait, timeout=timeout, as_json=as_json)


@price_app.command("batch")
@_told
def price_batch(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV with a head, or JSON lines; - reads the input.")],
    market: Annotated[
        str | None, typer.Option("--market", "-m", help="The market of rows that name none, such as eu-eur.")
    ] = None,
    reason: Reason = "",
    wait: Wait = True,
    timeout: Timeout = 10.0,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Set up to 500 prices from a file: all of them or none, live at one moment.

    Columns, or members: sku, market, amount and, if it is to be refused when somebody was quicker, expected_version.
    Every fault is told with file, line and column.

    Example: nearshelf price batch sale.csv --market eu-eur --reason "autumn sale"
    """
    from infra.price_file import MAX_BYTES, BadPrices, faults_of, read_prices

    name = "the input" if str(file) == "-" else str(file)
    try:
        rows = read_prices(name, bytes_in(file, MAX_BYTES + 1), market)
    except BadPrices as exc:
        raise Refused(_in_file(exc.faults)) from exc
    origin = signed_in(url)
    try:
        changed = origin.ask("PUT", "/prices", {"prices": [row.price for row in rows], "reason": reason})
    except Refused as refused:
        if faults := faults_of(name, rows, refused.problem):
            raise Refused(_in_file(faults)) from refused
        raise
    markets = ", ".join(sorted({row.price["market"] for row in rows}))
    count = "1 price" if len(rows) == 1 else f"{len(rows)} prices"
    finish(origin, changed, f"{count} in {markets}", wait=wait, timeout=timeout, as_json=as_json)


def _in_file(faults: Sequence[Fault]) -> str:
    """All of them, a line each, as editors find them."""
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    return "\n".join((f"{count}, nothing was changed", *map(str, faults)))


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
    origin = signed_in(url)
    path = f"/rates/{quote(base, safe='')}/{quote(quote_, safe='')}"
    changed = origin.ask("PUT", path, {"rate": rate, "reason": reason})
    moved = changed["rate"]
    saved = f"1 {moved['base']} is {moved['rate']} {moved['quote']}, for {', '.join(moved['markets'])}"
    finish(origin, changed, saved, wait=wait, timeout=timeout, as_json=as_json)


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
    origin = signed_in(url)
    changed = origin.ask("PUT", f"/products/{quote(sku, safe='')}/stock", {"on_hand": on_hand, "reason": reason})
    stock = changed["stock"]
    saved = f"{stock['sku']}: {stock['on_hand']} on hand, {stock['band'].replace('_', ' ')}"
    if changed["position"] is None:
        typer.echo(json.dumps({"changed": changed}, indent=2) if as_json else f"{saved} as before; saved")
        return
    finish(origin, changed, saved, wait=wait, timeout=timeout, as_json=as_json)


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
    origin = signed_in(url)
    changed = origin.ask("PUT", f"/products/{quote(sku, safe='')}/listing", {"listed": listed, "reason": reason})
    saved = f"{changed['listing']['sku']} is {'in the shop' if listed else 'taken down'}"
    finish(origin, changed, saved, wait=wait, timeout=timeout, as_json=as_json)


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
    origin = signed_in(url)
    purged = origin.ask("POST", "/purges", body)
    names = ", ".join(purged["tags"][:3]) + (f" and {len(purged['tags']) - 3} more" if len(purged["tags"]) > 3 else "")
    finish(origin, purged, f"purged {body['kind']}: {names}", wait=wait, timeout=timeout, as_json=as_json)


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
