"""A stored page: hits, conditions, HEAD, what leaves the edge and what does not."""

from __future__ import annotations

import pytest

from tests.support.scripted_origin import Reply, page

PAGE = "/eu-eur/products/lamp"


async def test_the_first_request_is_forwarded_and_stored_and_the_second_is_a_hit(shop):
    shop.origin.on(PAGE, page(b"<p>lamp</p>"))
    first = await shop.get(PAGE)
    shop.later(1)
    second = await shop.get(PAGE)
    assert (first.status, second.status) == (200, 200)
    assert first.body == second.body == b"<p>lamp</p>"
    assert first.cache_status == "nearshelf-eu; fwd=uri-miss; fwd-status=200; ttl=60; stored; detail=cold"
    assert second.cache_status == "nearshelf-eu; hit; ttl=59"
    assert second.headers["age"] == "1"
    assert shop.origin.count(PAGE) == 1


async def test_the_viewer_may_not_keep_the_page_and_gets_its_etag_and_nothing_internal(shop):
    shop.origin.on(PAGE, page(nearshelf_secret="x", connection="x-hop", x_hop="1"))
    for _ in range(2):
        response = await shop.get(PAGE)
        assert response.headers["cache-control"] == "no-cache, no-store"
        assert response.headers["etag"] == '"v1"'
        assert not {"catalog-version", "cache-tag", "cdn-cache-control", "nearshelf-secret", "x-hop"} & set(
            response.headers
        )


async def test_the_origin_is_asked_with_the_edges_own_fields_only(shop):
    shop.origin.on(PAGE, page())
    await shop.get(
        PAGE,
        "Nearshelf-Edge-Key: stolen",
        "Min-Catalog-Version: 9.9",
        "Nearshelf-Country: US",
        "X-Forwarded-Host: evil.example",
        "Cookie: session=1",
        "Authorization: Bearer x",
        "Connection: nearshelf-edge-key, x-forwarded-host",
        'If-None-Match: "other"',
        "Accept-Language: de",
    )
    seen = shop.origin.last(PAGE)
    assert seen.headers["nearshelf-edge-key"] == "the-key"
    assert seen.headers["x-forwarded-host"] == shop.host == seen.headers["host"]
    assert seen.minimum == "1.5"
    names = [name for name, _ in seen.pairs]
    assert len(names) == len(set(names))
    assert not {"cookie", "authorization", "if-none-match", "nearshelf-country"} & set(names)


@pytest.mark.parametrize("warm", [False, True])
async def test_a_viewer_who_has_the_page_gets_304(shop, warm):
    shop.origin.on(PAGE, page())
    if warm:
        await shop.get(PAGE)
    response = await shop.get(PAGE, 'If-None-Match: W/"x", "v1"')
    assert (response.status, response.body) == (304, b"")
    assert response.headers["etag"] == '"v1"'
    assert "content-length" not in response.headers
    assert response.is_hit is warm
    assert (await shop.get(PAGE)).is_hit


@pytest.mark.parametrize("warm", [False, True])
async def test_head_is_answered_from_the_stored_page(shop, warm):
    shop.origin.on(PAGE, page(b"x" * 500))
    if warm:
        await shop.get(PAGE)
    response = await shop.get(PAGE, method="HEAD")
    assert (response.status, response.headers["content-length"]) == (200, "500")
    assert shop.origin.seen[0].method == "GET"
    assert (await shop.get(PAGE)).is_hit


async def test_an_expired_page_is_validated_and_freshened(shop):
    shop.origin.on("/api/v1/eu-eur/prices/x", page(b"{}", cdn="max-age=10"))
    await shop.get("/api/v1/eu-eur/prices/x")
    shop.later(11)
    shop.origin.on("/api/v1/eu-eur/prices/x", page(b"", status=304, position="1.5"))
    validated = await shop.get("/api/v1/eu-eur/prices/x")
    assert shop.origin.seen[-1].headers["if-none-match"] == '"v1"'
    assert (validated.status, validated.body) == (200, b"{}")
    assert "fwd=stale; fwd-status=304" in validated.cache_status
    assert (await shop.get("/api/v1/eu-eur/prices/x")).is_hit


async def test_parameters_that_do_not_count_share_a_page_and_are_not_forwarded(shop):
    shop.origin.on("/eu-eur/c/shoes", page())
    await shop.get("/eu-eur/c/shoes?utm_source=x&sort=price&page=2")
    assert (await shop.get("/eu-eur/c/shoes?page=2&sort=price&utm_source=y")).is_hit
    assert shop.origin.seen[-1].target == "/eu-eur/c/shoes?sort=price&page=2"
    assert not (await shop.get("/eu-eur/c/shoes?sort=name")).is_hit


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(page(catalog_version=""), id="no position"),
        pytest.param(page(tags=""), id="no tags"),
        pytest.param(page(cdn="no-store"), id="no-store"),
        pytest.param(page(cdn="private"), id="private"),
        pytest.param(page(set_cookie="a=1"), id="Set-Cookie"),
        pytest.param(page(vary="*"), id="Vary *"),
        pytest.param(page(vary="user-agent"), id="Vary on what the policy does not list"),
        pytest.param(page(status=500), id="an error"),
        pytest.param(Reply(b"whole?", headers=page().headers, until_close=True), id="a body without length"),
        pytest.param(page(b"x" * 2_100_000), id="too large"),
    ],
)
async def test_what_may_not_be_kept_passes_through_whole_and_is_not_kept(shop, reply):
    shop.origin.on(PAGE, reply)
    for number in (1, 2):
        response = await shop.get(PAGE)
        assert response.status == reply.status
        assert response.body == reply.body
        assert "set-cookie" not in response.headers
        assert not response.is_hit
        assert response.detail
        assert shop.origin.count(PAGE) >= number


async def test_a_404_lives_for_seconds_and_is_purged_like_a_page(shop):
    shop.origin.on(PAGE, page(b"none", status=404, tags="s:eu-eur:lamp"))
    assert (await shop.get(PAGE)).status == 404
    assert (await shop.get(PAGE)).is_hit
    shop.purge("s:eu-eur:lamp")
    shop.origin.on(PAGE, page(b"here", position="1.6", tags="s:eu-eur:lamp"))
    assert (await shop.get(PAGE)).body == b"here"


async def test_the_entry_page_redirects_to_the_visitors_market(shop):
    response = await shop.get("/", "CF-IPCountry: JP", "X-Country: JP", "X-Forwarded-For: 133.1.1.1")
    assert response.status == 302
    assert response.headers["location"] == f"/{shop.gateway.policies.markets.default}/"
    assert response.headers["cache-control"] == "no-store"
    remembered = await shop.get("/", "Cookie: ns_market=jp-jpy")
    assert remembered.headers["location"] == "/jp-jpy/"
    assert not shop.origin.seen


@pytest.mark.parametrize(
    ("target", "lines", "method", "status"),
    [
        pytest.param("/", (), "TRACE", 405, id="TRACE"),
        pytest.param("/", (), "PURGE", 405, id="PURGE"),
        pytest.param("shop:80", (), "CONNECT", 405, id="CONNECT"),
        pytest.param(PAGE, (), "DELETE", 405, id="a method that is not for the route"),
        pytest.param("/eu-eur/%2e%2e/x", (), "GET", 400, id="dot segments"),
        pytest.param("/eu-eur//x", (), "GET", 400, id="empty segments"),
        pytest.param("/a%2fb", (), "GET", 400, id="an encoded slash"),
        pytest.param("/a#b", (), "GET", 400, id="a fragment"),
        pytest.param("*", (), "OPTIONS", 400, id="asterisk"),
        pytest.param("http://evil.example/", (), "GET", 400, id="absolute form for another host"),
    ],
)
async def test_what_the_edge_refuses_never_reaches_the_origin(shop, target, lines, method, status):
    response = await shop.get(target, *lines, method=method)
    assert response.status == status
    assert response.detail
    assert not shop.origin.seen


async def test_a_foreign_host_is_misdirected(shop):
    viewer = await shop.viewer()
    viewer.get(PAGE, "evil.example")
    response = await viewer.response()
    assert response.status == 421
    assert await viewer.is_closed()
    assert not shop.origin.seen


async def test_absolute_form_for_this_host_is_the_same_page(shop):
    shop.origin.on(PAGE, page())
    await shop.get(PAGE)
    assert (await shop.get(f"http://{shop.host}{PAGE}")).is_hit


async def test_each_line_of_the_access_log_says_why(shop):
    shop.origin.on(PAGE, page())
    await shop.get(PAGE + "?variant=red&secret=1", "Cookie: session=abc")
    await shop.get(PAGE + "?variant=red&secret=2")
    await shop.get("/nothing?email=a@b")
    miss, hit, passed = shop.log_lines()
    assert set(hit) == {
        "time", "edge", "worker", "method", "route", "path", "query", "status", "cache", "ttl", "age", "bytes", "ms",
        "origin_ms",
    }  # fmt: skip
    assert (hit["cache"], hit["path"], hit["query"], hit["route"]) == ("hit", PAGE, {"variant": "red"}, "product-page")
    assert (miss["cache"], miss["reason"], miss["fwd"], miss["fwd_status"], miss["stored"]) == (
        "miss",
        "cold",
        "uri-miss",
        200,
        True,
    )
    assert miss["origin_ms"] >= 0
    assert passed["reason"] == "policy-never-stores"
    text = shop.log_path.read_text()
    assert not any(secret in text for secret in ("secret", "session", "127.0.0.1", "a@b"))


@pytest.mark.parametrize("target", ["/", "/nothing", "/bare", "/eu-eur//x"])
async def test_every_answer_has_one_date_and_a_cache_status(shop, target):
    shop.origin.on("/bare", Reply(b"x"))
    response = await shop.get(target)
    names = [name for name, _ in response.pairs]
    assert (names.count("date"), names.count("cache-status")) == (1, 1)


@pytest.mark.parametrize(
    ("peer", "country"),
    [
        pytest.param("193.99.144.80", "DE", id="an address of a German publisher"),
        pytest.param("127.0.0.1", "ZZ", id="loopback"),
        pytest.param("", "ZZ", id="no address"),
    ],
)
async def test_the_country_is_that_of_the_sockets_other_end(shop, peer, country):
    shop.origin.on("/elsewhere", Reply(b"x"))
    viewer = await shop.viewer()
    await shop.until(lambda: bool(shop.gateway.server.connections))
    (connection,) = shop.gateway.server.connections
    connection.peer = peer
    viewer.get("/elsewhere", shop.host, "Nearshelf-Country: US", "CF-IPCountry: US", "X-Forwarded-For: 8.8.8.8")
    await viewer.response()
    assert shop.origin.last("/elsewhere").headers["nearshelf-country"] == country


async def test_what_the_edge_answers_itself_is_dated(shop):
    for target, method in (("/", "GET"), ("/eu-eur/%zz", "GET"), ("/", "PURGE")):
        response = await shop.get(target, method=method)
        assert response.status in {302, 400, 405}
        assert response.headers["date"].endswith(" GMT")
