"""The console: staff sign in, find a product, change its price, watch it become live, purge, read the audit list.

Complete without JavaScript; the script only asks for the progress of a change more often. Nothing here is ever
cached, but for the style sheet and the script, whose addresses hold their digests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from cache_policies.positions import PurgeKind, WireError
from cache_policies.tags import EVERYTHING
from origin.accounts import audit
from origin.accounts.http import (
    CSRF_FIELD,
    browser_session,
    check_form,
    check_login_form,
    client_address,
    forget_session,
    keep_login_token,
    keep_session,
    login_token,
)
from origin.accounts.model import Role, Session, TooManyLogins, WrongLogin, require
from origin.accounts.passwords import Passwords
from origin.accounts.purges import PurgeOrder, purge
from origin.accounts.service import BROWSER_SESSION_S, sign_in, sign_out
from origin.caching import uncached
from origin.catalog import service as catalog
from origin.errors import Invalid, ShopError, TooOften
from origin.events.entries import positions_of
from origin.inventory.service import bands
from origin.money import amount_text, format_money, parse_amount
from origin.pricing.model import AmountRefused, PriceVersionConflict, UnknownSku
from origin.pricing.service import change_price, price_facts, remove_price, similar_skus
from origin.problems import status_of
from origin.progress import MAX_WAIT_S, Progress, progress_of

if TYPE_CHECKING:
    from cache_policies.markets import Market, Markets
    from origin.accounts.audit import AuditEntry
    from origin.shop import Shop

HOME = "/console"
MAX_FOUND = 30
RECENT = 8
AUDIT_PAGE = 50
MAX_FIELDS = 20
TYPED_WORD = "everything"
"""What somebody types to confirm a hard purge of everything."""

_ASSETS = {"console.css": "text/css; charset=utf-8", "console.js": "text/javascript; charset=utf-8"}
_ASSET_S = 31_536_000

ACTIONS = {
    "price.set": "set a price",
    "price.remove": "went back to the converted price",
    "rate.set": "set a rate",
    "stock.set": "set stock",
    "product.takedown": "took down",
    "product.list": "listed",
    "purge": "purged",
    "market.refresh": "refreshed a market",
    "catalog.import": "imported",
    "staff.add": "added staff",
    "staff.change": "changed staff",
    "login": "signed in",
    "logout": "signed out",
}
"""What the audit list calls each action."""


@dataclass(frozen=True, slots=True)
class Visit:
    """A request of somebody who is signed in."""

    request: Request
    session: Session
    token: str
    form: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Draft:
    """A price form that was not accepted: what was typed, and why it was not."""

    market: str
    amount: str
    reason: str
    error: str
    conflict: PriceVersionConflict | None = None


@dataclass(frozen=True, slots=True)
class Asset:
    body: bytes
    media_type: str
    address: str


_Page = Callable[[Visit], Awaitable[Response]]


def routes(shop: Shop) -> list[BaseRoute]:
    """The routes of the console."""
    console = _Console(shop)
    page, form = console.page, console.form
    return [
        Route(f"{HOME}/static/{{digest}}/{{name}}", console.asset, methods=["GET"]),
        Route(f"{HOME}/login", console.login_page, methods=["GET"]),
        Route(f"{HOME}/login", console.login, methods=["POST"]),
        Route(f"{HOME}/logout", form(console.logout), methods=["POST"]),
        Route(HOME, page(console.search), methods=["GET"]),
        Route(f"{HOME}/products/{{sku:path}}", page(console.product), methods=["GET"]),
        Route(f"{HOME}/products/{{sku:path}}/prices/{{market}}", form(console.change_price), methods=["POST"]),
        Route(f"{HOME}/changes/{{position}}", page(console.change), methods=["GET"]),
        Route(f"{HOME}/purge", page(console.purge_page), methods=["GET"]),
        Route(f"{HOME}/purge", form(console.purge), methods=["POST"]),
        Route(f"{HOME}/audit", page(console.audit), methods=["GET"]),
    ]


class _Console:
    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._passwords = Passwords()
        self._assets = _read_assets()
        self._templates = _templates(shop.markets, self._assets)

    # --- signing in and out ---

    async def login_page(self, request: Request) -> Response:
        if await browser_session(self._shop, request) is not None:
            return _see_other(_own_address(request.query_params.get("next", "")))
        return self._login_form(request, next_=request.query_params.get("next", ""))

    async def login(self, request: Request) -> Response:
        email, next_ = "", ""
        try:
            form = await _form_of(request)
            email, next_ = form.get("email", "")[:300], form.get("next", "")
            check_login_form(request, form)
            signed_in = await sign_in(
                self._shop.database,
                self._passwords,
                email,
                form.get("password", ""),
                client_address(request),
                "browser",
            )
        except (WrongLogin, TooManyLogins) as exc:
            return self._login_form(request, email=email, next_=next_, error=exc)
        except ShopError as exc:
            return self._login_form(request, email=email, next_=next_, error=exc)
        response = _see_other(_own_address(next_))
        keep_session(request, response, signed_in.token, BROWSER_SESSION_S)
        return response

    def _login_form(
        self, request: Request, *, email: str = "", next_: str = "", error: ShopError | None = None
    ) -> Response:
        token = login_token(request)
        response = self._render(
            "login.html",
            None,
            status=200 if error is None else status_of(error),
            csrf=token,
            email=email,
            next=next_,
            error=None if error is None else str(error),
        )
        if isinstance(error, TooOften):
            response.headers["retry-after"] = str(error.retry_after_s)
        keep_login_token(request, response, token)
        return response

    async def logout(self, visit: Visit) -> Response:
        await sign_out(self._shop.database, visit.token, visit.session)
        response = _see_other(f"{HOME}/login")
        forget_session(visit.request, response)
        return response

    # --- products and prices ---

    async def search(self, visit: Visit) -> Response:
        text = visit.request.query_params.get("q", "").strip()[:200]
        async with self._shop.database.writes.connect() as connection:
            found = await catalog.find_products(connection, text, MAX_FOUND)
            if any(text.lower() == each.sku.lower() for each in found[:1]):
                return _see_other(f"{HOME}/products/{quote(found[0].sku, safe='')}")
            exact = await catalog.product_of(connection, text) if text else None
            if exact is not None:
                return _see_other(f"{HOME}/products/{quote(text, safe='')}")
            recent = [] if text else await audit.entries(connection, audit.AuditFilter(action="price"), limit=RECENT)
            positions = await positions_of(connection, [entry.purge_id for entry in recent if entry.purge_id])
        return self._render("search.html", visit, q=text, found=found, recent=recent, positions=positions)

    async def product(self, visit: Visit) -> Response:
        return await self._product_page(visit, visit.request.path_params["sku"])

    async def _product_page(self, visit: Visit, sku: str, draft: Draft | None = None, status: int = 200) -> Response:
        async with self._shop.database.writes.connect() as connection:
            found = await catalog.product_of(connection, sku)
            if found is None:
                raise UnknownSku(sku, await similar_skus(connection, sku))
            product = await catalog.product_by_sku(connection, found.sku)
            facts = await price_facts(connection, self._shop.markets, sku)
            band = (await bands(connection, [sku]))[sku]
        return self._render(
            "product.html",
            visit,
            status=status,
            sku=sku,
            found=found,
            product=product,
            prices=list(zip(self._shop.markets.all, facts, strict=True)),
            band=band.value,
            draft=draft,
        )

    async def change_price(self, visit: Visit) -> Response:
        require(visit.session.staff, Role.EDITOR, "a price change")
        sku, market_id = visit.request.path_params["sku"], visit.request.path_params["market"]
        form, actor = visit.form, visit.session.staff.email
        amount, reason = form.get("amount", ""), form.get("reason", "")
        version = form.get("version", "")
        expected = int(version) if version.isascii() and version.isdigit() and len(version) < 10 else None
        try:
            if form.get("do") == "remove":
                changed = await remove_price(self._shop, actor, sku, market_id, expected, reason)
            else:
                changed = await change_price(self._shop, actor, sku, market_id, amount, expected, reason)
        except PriceVersionConflict as exc:
            return await self._product_page(visit, sku, Draft(market_id, amount, reason, str(exc), exc), status_of(exc))
        except AmountRefused as exc:
            return await self._product_page(visit, sku, Draft(market_id, amount, reason, str(exc)), status_of(exc))
        return _see_other(f"{HOME}/changes/{changed.position}")

    # --- how far a change is ---

    async def change(self, visit: Visit) -> Response:
        params = visit.request.query_params
        part = params.get("part") == "progress"
        # The page itself comes at once; only the script waits, so that it need not ask so often.
        wait_s = min(_seconds(params.get("wait_s", "")), MAX_WAIT_S) if part else 0.0
        progress = await progress_of(
            self._shop,
            visit.request.path_params["position"],
            asked_by=visit.session.staff.email,
            wait_s=wait_s,
            read_back=True,
        )
        values: dict[str, Any] = {"progress": progress, "edges": _by_edge(progress), "longest_ms": _longest(progress)}
        if part:
            return self._render("progress.html", visit, **values)
        name = None
        if progress.price is not None:
            async with self._shop.database.writes.connect() as connection:
                product = await catalog.product_of(connection, progress.price.sku)
                name = None if product is None else product.name
        return self._render("change.html", visit, name=name, **values)

    # --- purging ---

    async def purge_page(self, visit: Visit) -> Response:
        params = visit.request.query_params
        given = {name: params.get(name, "")[:300] for name in ("what", "product", "category", "tags", "market")}
        return self._purge_form(visit, {"kind": "soft", **given})

    def _purge_form(self, visit: Visit, given: Mapping[str, str], error: ShopError | None = None) -> Response:
        status = 200 if error is None else status_of(error)
        return self._render(
            "purge.html",
            visit,
            status=status,
            given=given,
            error=None if error is None else str(error),
            word=TYPED_WORD,
        )

    async def purge(self, visit: Visit) -> Response:
        form = visit.form
        try:
            purged = await purge(self._shop, visit.session.staff, _purge_order(form))
        except ShopError as exc:
            return self._purge_form(visit, form, exc)
        return _see_other(f"{HOME}/changes/{purged.position}")

    # --- who did what ---

    async def audit(self, visit: Visit) -> Response:
        params = visit.request.query_params
        given = {name: params.get(name, "").strip()[:200] for name in ("actor", "action", "subject", "purge_id")}
        before = params.get("before", "")
        before_id = int(before) if before.isascii() and before.isdigit() and len(before) < 19 else None
        async with self._shop.database.writes.connect() as connection:
            entries = await audit.entries(
                connection, audit.AuditFilter(**given), before_id=before_id, limit=AUDIT_PAGE + 1
            )
            positions = await positions_of(connection, [entry.purge_id for entry in entries if entry.purge_id])
        older = None
        if len(entries) > AUDIT_PAGE:
            entries = entries[:AUDIT_PAGE]
            older = "?" + urlencode({**{k: v for k, v in given.items() if v}, "before": entries[-1].id})
        return self._render(
            "audit.html",
            visit,
            entries=entries,
            positions=positions,
            given=given,
            older=older,
            first=before_id is None,
            actions=ACTIONS,
        )

    # --- files, guards, rendering ---

    async def asset(self, request: Request) -> Response:
        asset = self._assets.get(request.path_params["name"])
        if asset is None or asset.address != request.url.path:
            return uncached(b"not found\n", "text/plain; charset=utf-8", 404)
        headers = {"cache-control": f"private, max-age={_ASSET_S}, immutable"}
        return Response(asset.body, 200, headers, asset.media_type)

    def page(self, show: _Page) -> Callable[[Request], Awaitable[Response]]:
        """A page that whoever is signed in may see; others are sent to the login and back."""

        async def guarded(request: Request) -> Response:
            signed_in = await browser_session(self._shop, request)
            if signed_in is None:
                here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
                return _see_other(f"{HOME}/login?{urlencode({'next': here})}")
            token, session = signed_in
            visit = Visit(request, session, token)
            return await self._or_error(visit, show(visit))

        return guarded

    def form(self, act: _Page) -> Callable[[Request], Awaitable[Response]]:
        """The target of a form of ours, sent by whoever is signed in."""

        async def guarded(request: Request) -> Response:
            signed_in = await browser_session(self._shop, request)
            if signed_in is None:
                return _see_other(f"{HOME}/login")
            token, session = signed_in
            visit = Visit(request, session, token)

            async def checked() -> Response:
                form = await _form_of(request)
                check_form(request, session, form)
                return await act(Visit(request, session, token, form))

            return await self._or_error(visit, checked())

        return guarded

    async def _or_error(self, visit: Visit, page: Awaitable[Response]) -> Response:
        try:
            return await page
        except WireError as exc:
            return self._render("error.html", visit, status=404, error=str(exc))
        except ShopError as exc:
            return self._render("error.html", visit, status=status_of(exc), error=str(exc))

    def _render(self, template: str, visit: Visit | None, *, status: int = 200, **values: Any) -> Response:
        session = None if visit is None else visit.session
        known: dict[str, Any] = {
            "here": "" if visit is None else visit.request.url.path,
            "staff": None if session is None else session.staff,
            "may_edit": session is not None and session.staff.role.may(Role.EDITOR),
            "may_purge_everything": session is not None and session.staff.role.may(Role.ADMIN),
            "markets": self._shop.markets.all,
        }
        if session is not None:
            known["csrf"] = session.csrf
        text = self._templates.get_template(f"console/{template}").render({**known, **values})
        return uncached(text.encode(), "text/html; charset=utf-8", status)


def _purge_order(form: Mapping[str, str]) -> PurgeOrder:
    """What the purge form says. Raises Invalid for what cannot be meant."""
    kind = PurgeKind.HARD if form.get("kind") == "hard" else PurgeKind.SOFT
    reason, market = form.get("reason", ""), form.get("market", "") or None
    match form.get("what"):
        case "product":
            return PurgeOrder(kind, product=form.get("product", "").strip(), market=market, reason=reason)
        case "category":
            return PurgeOrder(kind, category=form.get("category", "").strip(), market=market, reason=reason)
        case "tags":
            tags = tuple(form.get("tags", "").replace(",", " ").split())
            if EVERYTHING in tags and kind is PurgeKind.HARD:
                if form.get("word", "").strip().lower() != TYPED_WORD:
                    raise Invalid(f"to purge everything, hard, type the word {TYPED_WORD}", {"word": "missing"})
                if not reason.strip():
                    raise Invalid("a hard purge of everything needs a reason", {"reason": "missing"})
            return PurgeOrder(kind, tags=tags, reason=reason)
        case _:
            raise Invalid("choose what to purge: a product, a category or tags", {"what": "missing"})


def _by_edge(progress: Progress) -> dict[str, list[Any]]:
    edges: dict[str, list[Any]] = {}
    for worker in progress.report.workers:
        edges.setdefault(worker.edge, []).append(worker)
    return edges


def _longest(progress: Progress) -> float:
    """The length of the time axis, in milliseconds."""
    return max([1.0, *(worker.ms for worker in progress.report.workers)])


async def _form_of(request: Request) -> dict[str, str]:
    """The fields of a form. Raises Invalid for another kind of body, for too many fields and for a repeated one."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/x-www-form-urlencoded":
        raise Invalid("a form was expected")
    try:
        pairs = parse_qsl(
            (await request.body()).decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict"
        )
    except ValueError as exc:
        raise Invalid("the form cannot be read") from exc
    form = dict(pairs)
    if len(form) != len(pairs):
        raise Invalid("the form has a field twice")
    return form


def _see_other(address: str) -> Response:
    return RedirectResponse(address, 303, {"cache-control": "no-store"})


def _own_address(text: str) -> str:
    """`text` if it is an address of the console, else its first page: nobody is sent elsewhere after login."""
    inside = text == HOME or text.startswith((f"{HOME}/", f"{HOME}?"))
    return text if inside and "\\" not in text and text.isprintable() and len(text) < 1_000 else HOME


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if 0.0 <= value <= MAX_WAIT_S else 0.0


# --- templates ---


def _read_assets() -> dict[str, Asset]:
    assets = {}
    for name, media_type in _ASSETS.items():
        body = files("origin").joinpath(f"static/{name}").read_bytes()
        digest = hashlib.blake2b(body, digest_size=8).hexdigest()
        assets[name] = Asset(body, media_type, f"{HOME}/static/{digest}/{name}")
    return assets


def _templates(markets: Markets, assets: Mapping[str, Asset]) -> Environment:
    environment = Environment(
        loader=PackageLoader("origin", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "asset": lambda name: assets[name].address,
        "csrf_field": CSRF_FIELD,
        "market_name": lambda market_id: _market_name(markets, market_id),
        "action_name": lambda action: ACTIONS.get(action, action),
        "describe": lambda entry: _describe(markets, entry),
    }
    environment.filters |= {
        "money": lambda money, market: format_money(money, market.language),
        "amount": amount_text,
        "read_money": _read_money,
        "plain_rate": lambda rate: f"{rate.normalize():f}",
        "when": _when,
        "iso": lambda moment: moment.astimezone(UTC).isoformat(timespec="seconds"),
        "segment": lambda text: quote(text, safe=""),
        "ms": lambda value: f"{value:,.0f} ms",
    }
    return environment


def _market_name(markets: Markets, market_id: str) -> str:
    market = markets.by_id(market_id)
    return market_id if market is None else market.name


def _read_money(text: str | None, market: Market) -> str:
    """An amount as JSON carries it, as the market's people read it."""
    if text is None:
        return "no price"
    return format_money(parse_amount(text, market.currency), market.language)


def _when(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%-d %b %Y, %H:%M:%S UTC")


def _describe(markets: Markets, entry: AuditEntry) -> dict[str, str | None]:
    """An entry of the audit list in words: what it was done to, before and after."""
    market_id, _, rest = entry.subject.partition("/")
    market = markets.by_id(market_id)
    subject, before, after = entry.subject, _value(entry.before), _value(entry.after)
    if entry.action.startswith("price.") and market is not None:
        subject = f"{rest} in {market.name}"
        before, after = _shown_price(entry.before, market), _shown_price(entry.after, market)
    return {"subject": subject, "before": before, "after": after}


def _shown_price(value: Mapping[str, Any] | None, market: Market) -> str:
    if value is None or value.get("amount") is None:
        return "no price"
    shown = format_money(parse_amount(value["amount"], value.get("currency", market.currency)), market.language)
    return f"{shown} (converted)" if value.get("source") == "converted" else shown


def _value(value: Mapping[str, Any] | None) -> str | None:
    if value is None:
        return None
    parts = []
    for name, item in value.items():
        shown = (
            ", ".join(str(each) for each in item[:6]) + (" ..." if len(item) > 6 else "")
            if isinstance(item, list)
            else str(item)
        )
        parts.append(f"{name.replace('_', ' ')} {shown}")
    return "; ".join(parts)
