"""The console for programs: `/api/staff/v1`, with a bearer token, never cached (docs/merchandising.md)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from cache_policies.markets import Market
from cache_policies.positions import MAX_TAGS_PER_ENTRY, WireError, ordered_kind
from origin.accounts import audit
from origin.accounts.http import client_address, token_session
from origin.accounts.model import Role, Session, require
from origin.accounts.passwords import Passwords
from origin.accounts.purges import PurgeOrder, purge
from origin.accounts.service import sign_in, sign_out
from origin.caching import uncached
from origin.catalog import service as catalog
from origin.errors import Invalid
from origin.inventory.service import bands, set_stock
from origin.money import amount_text
from origin.pricing.batch import NewPrice, change_prices
from origin.pricing.model import PriceFacts, PriceVersionConflict, UnknownSku
from origin.pricing.service import (
    Changed,
    change_price,
    market_of,
    price_facts,
    price_json,
    remove_price,
    set_rate,
    similar_skus,
)
from origin.progress import MAX_WAIT_S, audit_json, progress_of

if TYPE_CHECKING:
    from origin.shop import Shop

PREFIX = "/api/staff/v1"
MAX_FOUND = 20
MAX_AUDIT = 200

_Version = Annotated[int, Field(ge=0, lt=2**31)]
"""Of a price, as the database counts them (integer)."""
_Reason = Annotated[str, Field(max_length=audit.MAX_REASON_CHARACTERS)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Login(_Body):
    email: Annotated[str, Field(max_length=300)]
    password: Annotated[str, Field(max_length=2_000)]


class _Price(_Body):
    amount: Annotated[str, Field(max_length=100)]
    expected_version: _Version | None = None
    reason: _Reason = ""


class _PriceOf(_Body):
    sku: Annotated[str, Field(max_length=300)]
    market: Annotated[str, Field(max_length=40)]
    amount: Annotated[str, Field(max_length=100)]
    expected_version: _Version | None = None


class _Prices(_Body):
    prices: list[_PriceOf]
    reason: _Reason = ""


class _Removal(_Body):
    expected_version: _Version | None = None
    reason: _Reason = ""


class _Rate(_Body):
    rate: Annotated[str, Field(max_length=100)]
    reason: _Reason = ""


class _Stock(_Body):
    on_hand: int
    reason: _Reason = ""


class _Listing(_Body):
    listed: bool
    reason: _Reason = ""


class _Purge(_Body):
    kind: str = "hard"
    tags: Annotated[list[str], Field(max_length=MAX_TAGS_PER_ENTRY)] = []
    product: str | None = None
    category: str | None = None
    market: str | None = None
    reason: _Reason = ""


_AnyBody = TypeVar("_AnyBody", bound=_Body)


class BadRequest(Invalid):
    """The body or a parameter is not what this address takes; every fault is named."""


def facts_json(facts: PriceFacts) -> dict[str, Any]:
    """A price in one market and where it comes from."""
    price, base = facts.price, facts.base
    return {
        "market": facts.market,
        "currency": facts.currency,
        "amount": None if price is None else amount_text(price.money),
        "amount_minor": None if price is None else price.money.minor_units,
        "source": None if price is None else price.source,
        "version": facts.version,
        "base": None if base is None else {"amount": amount_text(base), "currency": base.currency},
        "rate": None if facts.rate is None else f"{facts.rate.normalize():f}",
        "rounded": facts.rounded or None,
        "changed_at": None if facts.changed_at is None else facts.changed_at.isoformat(),
        "changed_by": facts.changed_by,
    }


def routes(shop: Shop) -> list[BaseRoute]:
    """The staff API. Every address but the login wants `Authorization: Bearer TOKEN`."""
    passwords = Passwords()

    async def login(request: Request) -> Response:
        body = await _body(request, _Login)
        signed_in = await sign_in(shop.database, passwords, body.email, body.password, client_address(request), "token")
        staff = signed_in.session.staff
        return _json(
            {
                "token": signed_in.token,
                "email": staff.email,
                "name": staff.name,
                "role": staff.role.value,
                "expires_at": signed_in.session.expires_at.isoformat(),
            }
        )

    async def logout(request: Request) -> Response:
        token, session = await token_session(shop, request)
        await sign_out(shop.database, token, session)
        return _json({"signed_out": session.staff.email})

    async def find(request: Request, session: Session) -> Response:
        text = request.query_params.get("q", "")
        async with shop.database.writes.connect() as connection:
            found = await catalog.find_products(connection, text[:200], MAX_FOUND)
        return _json({"products": [{"sku": each.sku, "name": each.name, "slug": each.slug} for each in found]})

    async def show(request: Request, session: Session) -> Response:
        sku = request.path_params["sku"]
        async with shop.database.writes.connect() as connection:
            product = await catalog.product_of(connection, sku)
            if product is None:
                raise UnknownSku(sku, await similar_skus(connection, sku))
            facts = await price_facts(connection, shop.markets, sku)
            band = (await bands(connection, [sku]))[sku]
        return _json(
            {
                "sku": sku,
                "product": product.sku,
                "name": product.name,
                "slug": product.slug,
                "band": band.value,
                "prices": [facts_json(fact) for fact in facts],
            }
        )

    async def set_price(request: Request, session: Session) -> Response:
        require(session.staff, Role.EDITOR, "a price change")
        market, body = market_of(shop.markets, request.path_params["market"]), await _body(request, _Price)
        try:
            changed = await change_price(
                shop,
                session.staff.email,
                request.path_params["sku"],
                market.id,
                body.amount,
                body.expected_version,
                body.reason,
            )
        except PriceVersionConflict as conflict:
            return _conflict(conflict)
        return _changed(changed, market)

    async def set_prices(request: Request, session: Session) -> Response:
        require(session.staff, Role.EDITOR, "a price change")
        body = await _body(request, _Prices)
        wanted = [NewPrice(each.sku, each.market, each.amount, each.expected_version) for each in body.prices]
        try:
            changed = await change_prices(shop, session.staff.email, wanted, body.reason)
        except PriceVersionConflict as conflict:
            return _conflict(conflict)
        prices = [{**price_json(price, market), "version": price.version} for market, price in changed.prices]
        return _json({"position": str(changed.position), "purge_id": changed.purge_id, "prices": prices})

    async def drop_price(request: Request, session: Session) -> Response:
        require(session.staff, Role.EDITOR, "a price change")
        market, body = market_of(shop.markets, request.path_params["market"]), await _body(request, _Removal)
        try:
            changed = await remove_price(
                shop, session.staff.email, request.path_params["sku"], market.id, body.expected_version, body.reason
            )
        except PriceVersionConflict as conflict:
            return _conflict(conflict)
        return _changed(changed, market)

    async def put_rate(request: Request, session: Session) -> Response:
        require(session.staff, Role.EDITOR, "a rate change")
        body, base, quote = await _body(request, _Rate), *(request.path_params[end] for end in ("base", "quote"))
        changed = await set_rate(shop, session.staff.email, base, quote, body.rate, body.reason)
        rate = {"base": base, "quote": quote, "rate": f"{changed.rate.normalize():f}", "markets": list(changed.markets)}
        return _json({"position": str(changed.position), "purge_id": changed.purge_id, "rate": rate})

    async def put_stock(request: Request, session: Session) -> Response:
        require(session.staff, Role.EDITOR, "a stock change")
        sku, body = request.path_params["sku"], await _body(request, _Stock)
        changed = await set_stock(shop, session.staff.email, sku, body.on_hand, body.reason)
        # Nothing public changed while the band stays: there is no position to wait for then.
        position = None if changed.position is None else str(changed.position)
        stock = {"sku": sku, "on_hand": body.on_hand, "band": changed.band.value, "before": changed.before.value}
        return _json({"position": position, "purge_id": changed.purge_id if position else None, "stock": stock})

    async def put_listing(request: Request, session: Session) -> Response:
        require(session.staff, Role.EDITOR, "taking a product down or listing it")
        sku, body = request.path_params["sku"], await _body(request, _Listing)
        changed = await catalog.set_listed(shop, session.staff.email, sku, body.listed, body.reason)
        listing = {"sku": changed.sku, "listed": changed.listed}
        return _json({"position": str(changed.position), "purge_id": changed.purge_id, "listing": listing})

    async def order_purge(request: Request, session: Session) -> Response:
        body = await _body(request, _Purge)
        try:
            kind = ordered_kind(body.kind)
        except WireError as exc:
            raise BadRequest("a purge is hard or soft", {"kind": f"{body.kind[:20]!r} is not hard or soft"}) from exc
        order = PurgeOrder(kind, tuple(body.tags), body.product, body.category, body.market, body.reason)
        purged = await purge(shop, session.staff, order)
        return _json(
            {
                "position": str(purged.position),
                "purge_id": purged.purge_id,
                "kind": purged.kind.value,
                "tags": list(purged.tags),
            },
            201,
        )

    async def change(request: Request, session: Session) -> Response:
        wait_s = _number(request, "wait_s", 0.0, MAX_WAIT_S)
        read_back = request.query_params.get("read_back", "no") == "yes"
        progress = await progress_of(
            shop,
            request.path_params["position"],
            asked_by=session.staff.email,
            wait_s=wait_s,
            read_back=read_back,
        )
        return _json(progress.to_json())

    async def audit_list(request: Request, session: Session) -> Response:
        limit, before = round(_number(request, "limit", 50, MAX_AUDIT)), request.query_params.get("before")
        if before is not None and not (before.isascii() and before.isdigit() and len(before) < 19):
            raise BadRequest("before is the id of an entry", {"before": f"{before[:40]!r} is not an id"})
        wanted = audit.AuditFilter(
            *(request.query_params.get(name, "").strip()[:200] for name in ("actor", "action", "subject", "purge_id"))
        )
        async with shop.database.writes.connect() as connection:
            entries = await audit.entries(
                connection, wanted, before_id=None if before is None else int(before), limit=max(1, limit)
            )
        return _json({"entries": [audit_json(entry) for entry in entries]})

    def signed_in(
        handler: Callable[[Request, Session], Awaitable[Response]],
    ) -> Callable[[Request], Awaitable[Response]]:
        async def guarded(request: Request) -> Response:
            _, session = await token_session(shop, request)
            return await handler(request, session)

        return guarded

    return [
        Route(f"{PREFIX}/login", login, methods=["POST"]),
        Route(f"{PREFIX}/logout", logout, methods=["POST"]),
        Route(f"{PREFIX}/products", signed_in(find), methods=["GET"]),
        Route(f"{PREFIX}/prices", signed_in(set_prices), methods=["PUT"]),
        Route(f"{PREFIX}/products/{{sku:path}}/prices/{{market}}", signed_in(set_price), methods=["PUT"]),
        Route(f"{PREFIX}/products/{{sku:path}}/prices/{{market}}", signed_in(drop_price), methods=["DELETE"]),
        Route(f"{PREFIX}/products/{{sku:path}}/stock", signed_in(put_stock), methods=["PUT"]),
        Route(f"{PREFIX}/products/{{sku:path}}/listing", signed_in(put_listing), methods=["PUT"]),
        Route(f"{PREFIX}/products/{{sku:path}}", signed_in(show), methods=["GET"]),
        Route(f"{PREFIX}/rates/{{base}}/{{quote}}", signed_in(put_rate), methods=["PUT"]),
        Route(f"{PREFIX}/purges", signed_in(order_purge), methods=["POST"]),
        Route(f"{PREFIX}/changes/{{position}}", signed_in(change), methods=["GET"]),
        Route(f"{PREFIX}/audit", signed_in(audit_list), methods=["GET"]),
    ]


def _json(document: dict[str, Any], status: int = 200) -> Response:
    return uncached(orjson.dumps(document), "application/json", status)


def _changed(changed: Changed, market: Market) -> Response:
    return _json(
        {
            "position": str(changed.position),
            "purge_id": changed.purge_id,
            "price": {**price_json(changed.price, market), "version": changed.price.version},
        }
    )


def _conflict(conflict: PriceVersionConflict) -> Response:
    """409 with both values (RFC 9457 extension members): a program can show them and ask its person to choose."""
    document = {
        "type": "about:blank",
        "title": "Conflict",
        "status": 409,
        "detail": str(conflict),
        "yours": {
            "amount": None if conflict.wanted is None else amount_text(conflict.wanted),
            "expected_version": conflict.expected_version,
        },
        "theirs": {"sku": conflict.facts.sku, **facts_json(conflict.facts)},
    }
    return uncached(orjson.dumps(document), "application/problem+json", 409)


async def _body(request: Request, model: type[_AnyBody]) -> _AnyBody:
    """The JSON body as `model`; an empty one is an empty object. Raises BadRequest naming every fault."""
    text = await request.body() or b"{}"
    media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise BadRequest(f"the body must be application/json, not {media_type[:60]!r}")
    try:
        return model.model_validate_json(text)
    except ValidationError as exc:
        faults = {
            ".".join(str(part) for part in fault["loc"]) or "body": fault["msg"]
            for fault in exc.errors(include_url=False, include_input=False, include_context=False)
        }
        summary = "; ".join(f"{name}: {why}" for name, why in faults.items())
        raise BadRequest(f"the body cannot be used: {summary}"[:1_000], faults) from exc


def _number(request: Request, name: str, default: float, largest: float) -> float:
    text = request.query_params.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= largest:
        raise BadRequest(f"{name} is a number from 0 to {largest:g}", {name: f"{text[:40]!r} is not"})
    return value
