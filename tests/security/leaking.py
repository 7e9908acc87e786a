"""Rows 5, 8 and 11 to 14: what is for one person, or is not what it seems, must not be kept for the next."""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

from edge.policy_files import PACKAGED_POLICIES
from tests.security.edges import RFC9111_EDGE, SHOP_EDGE, Kind, Pair, running_pair
from tests.security.lab import Lab
from tests.security.oracle import AGENT, Attack, Tally, judge, judge_all
from tests.security.origin import Say, answer_bytes, storable, told
from tests.security.routes import Place, Route
from tests.security.strict import Request
from tests.security.viewer import request_bytes

VICTIM = (AGENT, ("Cookie", "ns_session=secret-of-the-victim"), ("Authorization", "Bearer secret-of-the-victim"))
SECRET = b"secret-of-the-victim"


def of_victim(says: str, route: Route, place: Place) -> Attack:
    """The victim, logged in, is led to an address; then others ask for it."""
    return Attack(says, route, place, ((request_bytes("GET", place.target, place.host, VICTIM), "GET"),))


# -- row 5 -------------------------------------------------------------------------------------------------------------

_EXTENSIONS = ("css", "js", "png", "svg", "ico", "json", "woff2", "avif", "html", "txt", "pdf", "mp4")
_TAILS = (
    "/x.css", ";x.css", "%23x.css", "%3fx.css", "%00x.css", "%0ax.css", "%2fx.css", "%5cx.css", "?x.css", "#x.css",
    "%253fx.css",
    "/..%2fstatic/x.css", "/%2e%2e/static/x.css", "/../static/x.css", "%2f..%2fstatic%2fx.css", "/.css", "//x.css",
    "/x.css/", ".css",
    "%2ecss", "/x.css%20", "/x.css%0d%0a", "/x.css?y", "/x.css;y", "%c0%afx.css", "/static/x.css", "/%2e/x.css",
    "~x.css", "$x.css",
)  # fmt: skip
_AROUND = (
    "/static/..%2f{p}",
    "/static/../{p}",
    "/static/%2e%2e/{p}",
    "/art/x/..%2f..%2f{p}",
    "/eu-eur/products/..%2f..%2f{p}",
    "//{p}",
)
"""`{p}`: the private address without its first slash."""


async def deception(lab: Lab) -> list[Tally]:
    """An origin that would let everybody keep a private page, whatever stands behind its address."""
    tally = Tally("5", "web cache deception")
    private = [route for route in lab.of(SHOP_EDGE) if route.is_forwarded and not route.is_stored]
    attacks = list(_deceiving(private))
    await judge_all(tally, lab.shop, lab.some(attacks))
    # Where cookies reach an origin, it has to say what is private; then nothing is kept, whatever the address.
    lab.rfc9111.origin.script = _private
    try:
        await judge_all(tally, lab.rfc9111, lab.some(list(_deceiving(lab.of(RFC9111_EDGE)))))
    finally:
        lab.rfc9111.origin.script = None
    return [tally]


def _private(request: Request) -> Say | None:
    if request.get("cookie") is None and request.get("authorization") is None:
        return None
    body = told(request)
    fields = {"content-type": "text/html", "cache-control": "private, max-age=600", "etag": '"mine"'}
    return Say(answer_bytes(200, fields, body, request.method))


def _deceiving(routes: list[Route]) -> Iterator[Attack]:
    octets = [*(chr(number) for number in range(256)), *(f"%{number:02x}" for number in range(256))]
    extensions = itertools.cycle(_EXTENSIONS)
    for route in routes:
        for delimiter in octets:
            place = route.fresh()
            extension = next(extensions)
            for tail in (f"{delimiter}x.{extension}", f"{delimiter}{extension}"):
                yield of_victim(f"{delimiter!r} {extension}", route, Place(place.host, place.target + tail))
        for tail, extension in itertools.product(_TAILS, _EXTENSIONS):
            place = route.fresh()
            target = place.target + tail.replace("css", extension)
            yield of_victim(tail, route, Place(place.host, target))
        for form in _AROUND:
            place = route.fresh()
            yield of_victim(form, route, Place(place.host, form.format(p=place.target[1:])))


# -- row 8 -------------------------------------------------------------------------------------------------------------

_SPLITTING = (
    "\nSet-Cookie: injected=1", "\rSet-Cookie: injected=1", "\0injected",
    "\r\n injected", "\x0binjected", "\x1finjected", "\x7finjected", "%0d%0aSet-Cookie:%20injected=1",
    "%0aInjected:1", "%00injected",
    "\xc0\x8d\xc0\x8aSet-Cookie: injected=1", "\xe5\x98\x8a\xe5\x98\x8dSet-Cookie: injected=1",
    "\u010a".encode().decode("latin-1"),
    "\x85injected", "\xa0injected", "\r\r\ninjected: 1",
)  # fmt: skip
_REFLECTED = (
    "location",
    "cache-tag",
    "catalog-version",
    "etag",
    "content-type",
    "vary",
    "x-echo",
    "link",
    "date",
    "cdn-cache-control",
)


async def splitting(lab: Lab) -> list[Tally]:
    """Line breaks in what an origin reflects: refused, or passed on as what they are; never a line of their own."""
    tally = Tally("8", "response splitting")
    for pair, kind in zip(lab.pairs, (SHOP_EDGE, RFC9111_EDGE), strict=True):
        routes = [route for route in lab.of(kind) if route.is_forwarded]
        for route, name, text in lab.some(list(itertools.product(routes, _REFLECTED, _SPLITTING))):
            place = route.fresh()

            def script(request: Request, name: str = name, text: str = text) -> Say:
                fields = storable(b"echo") | {name: f"/echo{text}"}
                return Say(
                    answer_bytes(302 if name == "location" else 200, fields, b"echo", request.method), then_close=True
                )

            pair.origin.script = script
            answer = await pair.attacked.attacker.get(place.target, place.host)
            pair.origin.script = None
            tally.requests += 1
            injected = [
                found for found, value in answer.fields if found in {"injected", "set-cookie"} and "injected" in value
            ]
            tally.hold(
                not injected and b"injected</script>" not in answer.body,
                f"{route.id}: {name} {text!r} split the response",
            )
            tally.hold(answer.status > 0, f"{route.id}: {name} {text!r} gave what cannot be read: {answer.body[:80]!r}")
            if any(letter in text for letter in "\r\n\0\x0b\x1f\x7f"):
                tally.hold(answer.status == 502, f"{route.id}: {name} {text!r} was answered {answer.status}")
                await judge(tally, pair, Attack(f"{name}: {text!r}", route, place, ()))
            tally.attacks += 1
            tally.routes.add(route.id)
    return [tally]


# -- rows 11 to 13 -----------------------------------------------------------------------------------------------------

_VARYING = (
    "*",
    "cookie, *",
    ", ".join(f"x-name-{n}" for n in range(50)),
    "cookie",
    "user-agent",
    "authorization",
    "x\x20y",
    "accept, *",
)


async def varying(lab: Lab) -> list[Tally]:
    """Vary on everything, on persons, on fifty fields; and as many variants as an attacker likes."""
    tally = Tally("11", "Vary abuse")
    for pair, kind in zip(lab.pairs, (SHOP_EDGE, RFC9111_EDGE), strict=True):
        for route, vary in lab.some(
            [(route, vary) for route in lab.of(kind) if route.is_forwarded for vary in _VARYING]
        ):

            def script(request: Request, vary: str = vary) -> Say:
                body = told(request)
                return Say(answer_bytes(200, storable(body, vary=vary), body, request.method))

            # The same origin for those who come after: what it says depends on who asks.
            if kind is RFC9111_EDGE and vary in {"cookie", "user-agent", "authorization"}:
                continue
            pair.origin.script = script
            try:
                await judge(tally, pair, of_victim(f"Vary: {vary[:30]}", route, route.fresh()))
            finally:
                pair.origin.script = None
    route = lab.route("everything", RFC9111_EDGE)
    place = route.fresh()
    for number in range(400 if lab.is_whole else 60):
        lines = (("Accept-Language", f"x{number}"),)
        await lab.rfc9111.attacked.attacker.get(place.target, place.host, lines)
        tally.requests += 1
    await judge(tally, lab.rfc9111, Attack("many variants", route, place, ()))
    return [tally]


async def cookies(lab: Lab) -> list[Tally]:
    """A Set-Cookie is for one viewer: not stored, whatever the status, and not given to those who wait with it."""
    tally = Tally("12", "Set-Cookie")
    for pair, kind in zip(lab.pairs, (SHOP_EDGE, RFC9111_EDGE), strict=True):
        given = itertools.count()
        held = asyncio.Event()

        def script(request: Request, given: Iterator[int] = given, held: asyncio.Event = held) -> Say:
            status = int(request.target.rpartition("-st")[2][:3]) if "-st" in request.target else 200
            fields = storable(b"cookie", set_cookie=f"mine={next(given)}; Path=/")
            if status in {301, 302}:
                fields["location"] = "/elsewhere"
            waits = held if "-held" in request.target else None
            return Say(answer_bytes(status, fields, b"cookie", request.method), hold=waits)

        routes = [route for route in lab.of(kind) if route.takes("HEAD")]
        pair.origin.script = script
        try:
            for route, status, method in lab.some(
                list(itertools.product(routes, (200, 301, 302, 404), ("GET", "HEAD")))
            ):
                place = route.fresh()
                target = f"{place.target}?x=-st{status}" if route.policy.query == ("*",) else place.target
                got = [await pair.attacked.clean.get(target, place.host, (AGENT,), method) for _ in range(3)]
                got.append(await pair.attacked.clean.get(target, place.host, VICTIM))
                _each_its_own(tally, route, [answer.all("set-cookie") for answer in got], f"{status} to {method}")
                tally.hold(
                    not any(answer.is_hit for answer in got), f"{route.id}: a response with Set-Cookie was stored"
                )
                tally.requests += 4
                tally.attacks += 1
                tally.routes.add(route.id)
            # Those who ask while the first is being answered.
            for route in [
                route for route in routes if route.is_stored and "{" in route.policy.path.replace("{market}", "")
            ]:
                place = route.fresh()
                target = place.target + "-held"
                asking = [asyncio.create_task(pair.attacked.clean.get(target, place.host, (AGENT,))) for _ in range(8)]
                while not pair.origin.about(target):
                    await asyncio.sleep(0.01)
                held.set()
                answers = await asyncio.gather(*asking)
                held.clear()
                _each_its_own(tally, route, [answer.all("set-cookie") for answer in answers], "followers")
                tally.hold(
                    all(answer.status == 200 for answer in answers), f"{route.id}: {[a.status for a in answers]}"
                )
                tally.requests += 8
                tally.attacks += 1
                held.set()
        finally:
            held.set()
            pair.origin.script = None
    return [tally]


def _each_its_own(tally: Tally, route: Route, cookies: list[list[str]], says: str) -> None:
    given = [cookie for each in cookies for cookie in each]
    tally.hold(len(set(given)) == len(given), f"{route.id}: {says}: two viewers got the same cookie: {given}")


_SAYS = ("", "public", "s-maxage=60", "must-revalidate", "max-age=60", "public, max-age=60", "private", "no-cache")


async def authorised(lab: Lab) -> list[Tally]:
    """Answers to requests with credentials, with and without a word that lets them be shared."""
    tally = Tally("13", "Authorization")
    schemes = (
        "Bearer secret-of-the-victim",
        "bearer secret-of-the-victim",
        "Basic secret-of-the-victim",
        "secret-of-the-victim",
        "",
    )
    for pair, kind in zip(lab.pairs, (SHOP_EDGE, RFC9111_EDGE), strict=True):
        cases = list(itertools.product([route for route in lab.of(kind) if route.is_forwarded], _SAYS, schemes))
        for route, said, scheme in lab.some(cases):
            shares = any(word in said for word in ("public", "s-maxage", "must-revalidate"))
            if kind is RFC9111_EDGE and (shares or not scheme):
                # RFC 9111 §3.5: such an origin says that the answer is for everybody; of cookies it says nothing.
                continue

            def script(request: Request, said: str = said) -> Say:
                body = told(request)
                fields = storable(body, cache_control=said, cdn_cache_control="" if said else "max-age=60")
                return Say(answer_bytes(200, fields, body, request.method))

            place = route.fresh()
            credential = (("Authorization", scheme),) if scheme else (("Cookie", "token=secret-of-the-victim"),)
            pair.origin.script = script
            try:
                tally.requests += 1
                tally.attacks += 1
                tally.routes.add(route.id)
                await pair.attacked.attacker.get(place.target, place.host, (AGENT, *credential))
                answer = await pair.attacked.clean.get(place.target, place.host, (AGENT,))
            finally:
                pair.origin.script = None
            tally.hold(SECRET not in answer.body, f"{route.id}: {said!r}: somebody else got what {scheme!r} was given")
    return [tally]


# -- row 14 ------------------------------------------------------------------------------------------------------------


async def after_reload(lab: Lab) -> list[Tally]:
    """An address without a word about caching, asked for with two logins, before and after each reload of policies."""
    tally = Tally("14", "a canary after each reload")
    folder = lab.folder / "reloaded"
    shutil.copytree(
        PACKAGED_POLICIES, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__", "profiles", "schema")
    )
    async with running_pair(lab.folder / "reload", Kind("reload", policies=str(folder))) as pair:
        for turn in range(3 if lab.is_whole else 1):
            await _two_logins(tally, lab, pair)
            await _changed(pair, folder / "private.yaml", turn)
        await _two_logins(tally, lab, pair)
    return [tally]


async def _two_logins(tally: Tally, lab: Lab, pair: Pair) -> None:
    def silent(request: Request) -> Say:
        body = told(request)
        return Say(answer_bytes(200, {"content-type": "text/html"}, body, request.method))

    pair.origin.script = silent
    for route in [route for route in lab.of(SHOP_EDGE) if route.is_forwarded]:
        place = route.fresh()
        tally.attacks += 1
        tally.routes.add(route.id)
        for who in ("one", "two"):
            lines = (AGENT, ("Cookie", f"session={who}"), ("Authorization", f"Bearer {who}"))
            answer = await pair.attacked.clean.get(place.target, place.host, lines)
            other = b"two" if who == "one" else b"session=one"
            tally.requests += 1
            tally.hold(
                not answer.is_hit and other not in answer.body, f"{route.id}: login {who} was answered from the store"
            )
    pair.origin.script = None


async def _changed(pair: Pair, path: Path, turn: int) -> None:
    """Change a policy, and wait until the edge decides by it."""
    import httpx

    from tests.security.edges import TOKEN

    assert pair.edge is not None
    async with httpx.AsyncClient(trust_env=False, headers={"authorization": f"Bearer {TOKEN}"}) as client:
        url = f"{pair.edge.admin_url}/status"
        before = (await client.get(url)).json()["policies"]
        text = path.read_text()
        path.write_text(
            text.replace(
                "routes:", f"routes:\n  canary-{turn}:\n    path: /canary-{turn}/{{rest...}}\n    store: false\n", 1
            )
        )
        pair.edge.process.send_signal(1)
        async with asyncio.timeout(20):
            while (await client.get(url)).json()["policies"] == before:
                await asyncio.sleep(0.02)


ROWS = {
    "5": deception,
    "8": splitting,
    "11": varying,
    "12": cookies,
    "13": authorised,
    "14": after_reload,
}
