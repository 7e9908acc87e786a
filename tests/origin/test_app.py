"""The application: who is believed, what is refused, what every response bears, health."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from cache_policies.fields import EDGE_KEY_FIELD
from cache_policies.positions import WireError
from origin import errors
from origin.app import MAX_BODY_BYTES, BodyLimit, EdgeKey, Faults, SecurityFields
from origin.problems import STATUS_OF, handlers, status_of
from origin.settings import OriginSettings
from origin.shop import open_shop
from origin.snapshot import TooOld
from tests.support.origin import EDGE_KEY, OriginClient, running_shop, settings_of

KEY = "0123456789abcdef"


class PriceMoved(errors.Conflict):
    """As a module of the shop defines one."""


RAISED: dict[str, Exception] = {
    "invalid": errors.Invalid("that cannot be", {"amount": "not a number"}),
    "moved": PriceMoved("look again"),
    "nobody": errors.NotSignedIn("sign in"),
    "forbidden": errors.NotAllowed("no"),
    "missing": errors.NotFound("none"),
    "busy": errors.TooOften("slower", retry_after_s=7),
    "old": TooOld("behind", retry_after_s=2),
    "wire": WireError("what?"),
    "os": ConnectionRefusedError("no database"),
    "bug": ZeroDivisionError("a secret detail"),
}


async def seen(request: Request) -> Response:
    return JSONResponse({"edge": request.state.from_edge, "headers": dict(request.headers)})


async def fail(request: Request) -> Response:
    raise RAISED[request.path_params["name"]]


async def read(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


async def page(request: Request) -> Response:
    kind = request.path_params["kind"]
    headers = {"content-security-policy": "default-src 'self'"} if kind == "own" else {}
    media_type = {"svg": "image/svg+xml", "json": "application/json"}.get(kind, "text/html; charset=utf-8")
    return Response(b"x", media_type=media_type, headers=headers)


async def halfway(request: Request) -> Response:
    async def body():
        yield b"half"
        raise ZeroDivisionError

    return StreamingResponse(body())


@pytest.fixture
async def client():
    app = Starlette(
        routes=[
            Route("/seen", seen),
            Route("/api/fail/{name}", fail),
            Route("/fail/{name}", fail),
            Route("/read", read, methods=["POST"]),
            Route("/page/{kind}", page),
            Route("/halfway", halfway),
        ],
        exception_handlers=dict(handlers()),
        middleware=[
            Middleware(SecurityFields),
            Middleware(Faults),
            Middleware(EdgeKey, key=KEY),
            Middleware(BodyLimit),
        ],
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://origin") as client:
        yield client


EDGE_WORDS = {
    "Min-Catalog-Version": "1.7",
    "Nearshelf-Country": "DE",
    "X-Forwarded-Host": "shop.example",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-For": "198.51.100.1",
}


async def test_words_of_strangers_are_deleted(client):
    answer = (await client.get("/seen", headers={**EDGE_WORDS, "Accept": "text/html"})).json()
    assert answer["edge"] is False
    assert not {name.lower() for name in EDGE_WORDS} & answer["headers"].keys()
    assert EDGE_KEY_FIELD not in answer["headers"]
    assert answer["headers"]["accept"] == "text/html"


@pytest.mark.parametrize(
    "keys", [("",), (KEY[:-1],), (KEY + "x",), (KEY.upper(),), ("é",), (KEY, "x"), ("x", KEY)], ids=repr
)
async def test_a_wrong_key_is_refused_instead_of_forgotten_with_the_position_it_demands(client, keys):
    raw = [(name.encode(), value.encode()) for name, value in EDGE_WORDS.items()]
    raw += [(EDGE_KEY_FIELD.encode(), key.encode()) for key in keys]
    for path, media_type in (("/seen", "text/html; charset=utf-8"), ("/api/fail/none", "application/problem+json")):
        response = await client.get(path, headers=raw)
        assert response.status_code == 403
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["content-type"] == media_type
        assert response.headers["x-content-type-options"] == "nosniff"
        assert "NEARSHELF_EDGE_KEY" in response.text


async def test_words_of_an_edge_are_believed(client):
    answer = (await client.get("/seen", headers={**EDGE_WORDS, EDGE_KEY_FIELD: KEY})).json()
    assert answer["edge"] is True
    assert {name.lower(): value for name, value in EDGE_WORDS.items()}.items() <= answer["headers"].items()


async def test_without_a_key_of_its_own_the_origin_believes_nobody():
    app = Starlette(routes=[Route("/seen", seen)], middleware=[Middleware(EdgeKey, key="")])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://origin") as client:
        assert (await client.get("/seen")).json()["edge"] is False
        assert (await client.get("/seen", headers={EDGE_KEY_FIELD: ""})).status_code == 403


@pytest.mark.parametrize(
    ("name", "status", "retry_after"),
    [
        ("invalid", 422, None),
        ("moved", 409, None),
        ("nobody", 401, None),
        ("forbidden", 403, None),
        ("missing", 404, None),
        ("busy", 429, "7"),
        ("old", 503, "2"),
        ("wire", 400, None),
        ("os", 503, "1"),
        ("bug", 500, None),
    ],
)
async def test_every_error_has_one_status(client, name, status, retry_after):
    for response in (await client.get(f"/api/fail/{name}"), await client.get(f"/fail/{name}")):
        assert response.status_code == status
        assert response.headers["cache-control"] == "no-store"
        assert response.headers.get("retry-after") == retry_after
        assert response.headers["x-content-type-options"] == "nosniff"
        assert "secret" not in response.text
        assert "Traceback" not in response.text
    assert (await client.get(f"/api/fail/{name}")).headers["content-type"] == "application/problem+json"
    assert (await client.get(f"/fail/{name}")).headers["content-type"].startswith("text/html")


async def test_a_problem_names_the_faults(client):
    assert (await client.get("/api/fail/invalid")).json() == {
        "type": "about:blank",
        "title": "Unprocessable Entity",
        "status": 422,
        "detail": "that cannot be",
        "errors": [{"pointer": "amount", "detail": "not a number"}],
    }
    assert "amount: not a number" in (await client.get("/fail/invalid")).text


def test_every_kind_of_error_is_in_the_table():
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.ShopError)}
    assert kinds - {errors.ShopError} == set(STATUS_OF)
    assert status_of(PriceMoved("x")) == 409


async def test_unknown_addresses_and_methods(client):
    response = await client.get("/api/none")
    assert (response.status_code, response.json()["detail"]) == (404, "There is nothing at this address.")
    response = await client.get("/read")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")


async def test_an_answer_that_fails_halfway_is_cut_and_not_continued(client):
    with pytest.raises(ZeroDivisionError):
        await client.get("/halfway")


async def test_a_client_that_leaves_is_no_fault_of_ours(caplog):
    async def handler(scope, receive, send):
        await Request(scope, receive).body()

    async def gone():
        return {"type": "http.disconnect"}

    async def send(message):
        raise AssertionError("there is nobody to answer")

    caplog.set_level("INFO")
    scope = {"type": "http", "method": "POST", "path": "/console/login", "headers": [], "query_string": b""}
    await Faults(handler)(scope, gone, send)
    assert [(record.levelname, record.exc_info) for record in caplog.records] == [("INFO", None)]


async def test_bodies_have_a_limit_announced_or_not(client):
    assert (await client.post("/read", content=b"x" * MAX_BODY_BYTES)).text == str(MAX_BODY_BYTES)
    assert (await client.post("/read", content=b"x" * (MAX_BODY_BYTES + 1))).status_code == 413

    async def chunks():
        for _ in range(MAX_BODY_BYTES // 1000 + 1):
            yield b"x" * 1000

    assert (await client.post("/read", content=chunks())).status_code == 413


@pytest.mark.parametrize(
    ("kind", "policy"),
    [
        ("html", "default-src 'none'; script-src 'self'"),
        ("svg", "default-src 'none'; style-src 'unsafe-inline'; sandbox"),
        ("own", "default-src 'self'"),
        ("json", ""),
    ],
)
async def test_what_a_browser_is_told_to_trust(client, kind, policy):
    headers = (await client.get(f"/page/{kind}")).headers
    assert headers.get("content-security-policy", "").startswith(policy)
    assert headers["x-content-type-options"] == "nosniff"
    assert "unsafe-inline" not in headers.get("content-security-policy", "") or kind == "svg"


async def test_health_says_what_is_critical(database):
    settings = replace(settings_of(database), redis_url="unix:///nowhere")
    async with running_shop(settings) as (_, client):
        assert (await client.get("/livez")).text == "ok\n"
        response = await client.get("/readyz")
        assert response.status_code == 200
        assert response.json() == {
            "ready": True,
            "checks": {
                "primary": {"critical": True, "ok": True},
                "replica-0": {"critical": False, "ok": True},
                "redis": {"critical": False, "ok": False},
            },
        }


async def test_without_the_primary_a_worker_lives_and_is_not_ready(database):
    nowhere = database.primary.replace("port=", "port=1")
    settings = OriginSettings(database_url=nowhere, replica_urls=(database.replica,), edge_key=EDGE_KEY)
    async with open_shop(settings) as shop, OriginClient(shop) as client:
        assert (await client.get("/livez")).status_code == 200
        response = await client.get("/readyz")
        assert response.status_code == 503
        assert response.json()["checks"]["replica-0"]["ok"] is True
        # Reads go on; what needs the primary says when to come back.
        assert (await client.get("/api/v1/eu-eur/prices/x")).status_code == 404
        head = {EDGE_KEY_FIELD: EDGE_KEY, "Min-Catalog-Version": "head"}
        response = await client.get("/api/v1/eu-eur/prices/x", headers=head)
        assert (response.status_code, response.json()["status"]) == (503, 503)
        assert int(response.headers["retry-after"]) >= 1


async def test_the_minimum_of_an_edge_is_kept_and_a_strangers_ignored(database):
    async with running_shop(settings_of(database)) as (shop, client):
        address = "/api/v1/eu-eur/prices/none"
        response = await client.get(address, headers={"Min-Catalog-Version": "1.999"})
        assert (response.status_code, response.headers["catalog-version"]) == (404, "1.1")
        response = await client.get(address, headers={"Min-Catalog-Version": "1.999", EDGE_KEY_FIELD: EDGE_KEY})
        assert response.status_code == 503
        response = await client.get(address, headers={"Min-Catalog-Version": "nonsense", EDGE_KEY_FIELD: EDGE_KEY})
        assert response.status_code == 422
        assert shop.snapshots.served["replica-0"] == 1


async def test_one_worker_serves_many_at_once(database):
    async with running_shop(settings_of(database)) as (_, client):
        responses = await asyncio.gather(*(client.get("/api/v1/eu-eur/products") for _ in range(40)))
        assert {response.status_code for response in responses} == {200}
        assert json.loads(responses[0].content)["count"] == 0
