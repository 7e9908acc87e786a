"""Invalidation by unsafe methods and by groups (RFC 9111 §4.4, RFC 9875)."""

from __future__ import annotations

from tests.conformance.script import (
    FRESH,
    INFORMATION,
    OPTIONAL,
    REQUIRED,
    Answer,
    Came,
    Case,
    Feature,
    Field,
    Here,
    Kind,
    Together,
    Value,
    again,
    ask,
    case,
    cc,
    fill,
)

ASKED, STORE, ORIGIN = Came.ASKED, Came.STORE, Came.ORIGIN


def _done(status: int = 200, *fields: Field) -> Answer:
    return cc("no-store", *fields, status=status)


def _method(method: str, status: int, came: Came, kind: Kind, says: str) -> Case:
    body = b"x" if method in {"POST", "PUT", "PATCH"} else b""
    return case(
        f"invalidate-{method.lower()}-{status}",
        "9111 §4.4",
        kind,
        says,
        fill(FRESH),
        again(STORE, given=True),
        ask(
            _done(status, *([("Location", "/x")] if 300 <= status < 400 else [])),
            came=Came.ANY if method == "HEAD" else ORIGIN,
            method=method,
            body=body,
            given=True,
        ),
        again(came, FRESH),
    )


METHODS = (
    *(
        _method(method, 200, ASKED, REQUIRED, f"{method} invalidates its address")
        for method in ("POST", "PUT", "DELETE", "PATCH", "M-SEARCH", "PROPPATCH", "LOCK")
    ),
    *(
        _method("POST", status, ASKED, REQUIRED, f"POST that is answered with {status} invalidates its address")
        for status in (201, 204, 302, 303)
    ),
    *(
        _method("POST", status, STORE, OPTIONAL, f"POST that is answered with {status} invalidates nothing")
        for status in (400, 403, 404, 409, 500, 503)
    ),
    *(
        _method("DELETE", status, STORE, OPTIONAL, f"DELETE that is answered with {status} invalidates nothing")
        for status in (404, 500)
    ),
    *(
        _method(method, 200, STORE, OPTIONAL, f"{method} is safe and invalidates nothing")
        for method in ("OPTIONS", "HEAD")
    ),
    case(
        "invalidate-head-stored",
        "9111 §4.4",
        REQUIRED,
        "HEAD is not answered from what POST has invalidated",
        fill(FRESH),
        ask(_done(), method="POST", body=b"x", given=True),
        again(ASKED, FRESH, method="HEAD"),
    ),
    case(
        "invalidate-stays",
        "9111 §4.4",
        OPTIONAL,
        "what is fetched after POST is stored again",
        fill(FRESH),
        ask(_done(), method="POST", body=b"x", given=True),
        again(ASKED, FRESH, given=True),
        again(STORE),
    ),
    case(
        "invalidate-other-path",
        "9111 §4.4",
        OPTIONAL,
        "POST to one address leaves another",
        fill(FRESH, target="/a"),
        ask(_done(), method="POST", body=b"x", target="/b", given=True),
        again(STORE, target="/a"),
    ),
    case(
        "invalidate-other-query",
        "9111 §4.4",
        OPTIONAL,
        "POST with one query leaves another",
        fill(FRESH, target="?a=1"),
        ask(_done(), method="POST", body=b"x", target="?a=2", given=True),
        again(STORE, target="?a=1"),
    ),
    case(
        "invalidate-query",
        "9111 §4.4",
        REQUIRED,
        "POST with a query invalidates the address with that query",
        fill(FRESH, target="?a=1"),
        ask(_done(), method="POST", body=b"x", target="?a=1", given=True),
        again(ASKED, FRESH, target="?a=1"),
    ),
    case(
        "invalidate-stale-if-error",
        "9111 §4.4",
        OPTIONAL,
        "what POST has invalidated is not shown when the origin fails",
        fill(cc("max-age=3600, stale-if-error=3600")),
        ask(_done(), method="POST", body=b"x", given=True),
        again(Came.ANY, cc("no-store", status=503), status=503),
    ),
    case(
        "invalidate-in-flight",
        "9111 §4.4",
        OPTIONAL,
        "what was being fetched while PUT changed it is not kept",
        Together(
            (
                ask(FRESH.but(delay_s=0.9), came=Came.ANY),
                ask(_done(), came=Came.ANY, method="PUT", body=b"x", before_s=0.25),
            )
        ),
        again(ASKED, FRESH),
    ),
)


def _names(
    name: str, kind: Kind, says: str, field: str, value: Value, came: Came, *, target: str = "/b", status: int = 201
) -> Case:
    """POST to /a whose answer names another address in `field`."""
    return case(
        f"invalidate-{field.lower()}-{name}",
        "9111 §4.4",
        kind,
        says,
        fill(FRESH, target=target),
        again(STORE, target=target, given=True),
        ask(_done(status, (field, value)), method="POST", body=b"x", target="/a", given=True),
        again(came, FRESH, target=target),
    )


NAMED = tuple(
    found
    for field in ("Location", "Content-Location")
    for found in (
        _names("path", OPTIONAL, f"the path in {field} is invalidated", field, Here("/b"), ASKED),
        _names("relative", OPTIONAL, f"a relative {field} is resolved", field, "b", ASKED),
        _names(
            "absolute",
            OPTIONAL,
            f"the address in {field} is invalidated on the same origin",
            field,
            Here("/b", "http://{authority}{path}"),
            ASKED,
        ),
        _names("query", OPTIONAL, f"the query in {field} counts", field, Here("/b?a=1"), ASKED, target="/b?a=1"),
        _names(
            "other-host",
            REQUIRED,
            f"{field} on another host invalidates nothing here",
            field,
            Here("/b", "http://elsewhere.example{path}"),
            STORE,
        ),
        _names(
            "other-port",
            REQUIRED,
            f"{field} on another port invalidates nothing here",
            field,
            Here("/b", "http://127.0.0.1:1{path}"),
            STORE,
        ),
        _names(
            "other-scheme",
            REQUIRED,
            f"{field} with another scheme invalidates nothing here",
            field,
            Here("/b", "https://{authority}{path}"),
            STORE,
        ),
        _names(
            "no-scheme-other-host",
            REQUIRED,
            f"{field} that names another host without a scheme invalidates nothing here",
            field,
            Here("/b", "//elsewhere.example{path}"),
            STORE,
        ),
        _names("error", OPTIONAL, f"{field} of an error invalidates nothing", field, Here("/b"), STORE, status=403),
    )
)

SAFE_NAMED = (
    case(
        "invalidate-get-location",
        "9111 §4.4",
        OPTIONAL,
        "Location of an answer to GET invalidates nothing",
        fill(FRESH, target="/b"),
        ask(cc("no-store", ("Location", Here("/b")), status=302), target="/a", given=True),
        again(STORE, target="/b"),
    ),
    case(
        "invalidate-get-content-location",
        "9111 §4.4",
        OPTIONAL,
        "Content-Location of an answer to GET invalidates nothing",
        fill(FRESH, target="/b"),
        ask(cc("no-store", ("Content-Location", Here("/b"))), target="/a", given=True),
        again(STORE, target="/b"),
    ),
)


def _grouped(*groups: str) -> Answer:
    return cc("max-age=3600", *(("Cache-Groups", line) for line in groups))


def _group(name: str, kind: Kind, says: str, groups: tuple[str, ...], said: tuple[str, ...], came: Came, **how) -> Case:
    fields: tuple[Field, ...] = tuple(("Cache-Group-Invalidation", line) for line in said)
    method = how.get("method", "POST")
    return case(
        f"group-{name}",
        "9875 §3",
        kind,
        says,
        fill(_grouped(*groups), target="/b"),
        again(STORE, target="/b", given=True),
        ask(
            _done(how.get("status", 200), *fields),
            method=method,
            body=b"x" if method == "POST" else b"",
            target="/a",
            given=True,
        ),
        again(came, FRESH, target="/b"),
        needs=Feature.GROUPS,
    )


GROUPS = (
    _group("invalidated", OPTIONAL, "the group that POST names is invalidated", ('"one-a"',), ('"one-a"',), ASKED),
    _group("of-several", OPTIONAL, "one of several groups is enough", ('"x", "one-b"',), ('"one-b"',), ASKED),
    _group("lines", OPTIONAL, "groups may stand in several lines", ('"x"', '"one-c"'), ('"y"', '"one-c"'), ASKED),
    _group("parameters", OPTIONAL, "parameters of a group do not count", ('"one-d";a=1',), ('"one-d";b=2',), ASKED),
    _group("other", OPTIONAL, "another group stays", ('"one-e"',), ('"two-e"',), STORE),
    _group("case", OPTIONAL, "groups are compared with regard to case", ('"one-f"',), ('"ONE-F"',), STORE),
    _group("safe", REQUIRED, "GET invalidates no group", ('"one-g"',), ('"one-g"',), STORE, method="GET"),
    _group("error", OPTIONAL, "an error invalidates no group", ('"one-h"',), ('"one-h"',), STORE, status=500),
    _group("malformed", REQUIRED, "a list that does not parse invalidates nothing", ('"one-i"',), ('"one-i',), STORE),
    _group("token", REQUIRED, "a token is no group", ("one-j",), ("one-j",), STORE),
    case(
        "group-other-host",
        "9875 §2",
        OPTIONAL,
        "groups of another host stay",
        fill(_grouped('"one-k"'), host="localhost", target="/b"),
        again(STORE, host="localhost", target="/b", given=True),
        ask(_done(200, ("Cache-Group-Invalidation", '"one-k"')), method="POST", body=b"x", target="/a", given=True),
        again(STORE, host="localhost", target="/b"),
        needs=Feature.GROUPS,
    ),
    case(
        "group-passed-on",
        "9875 §2",
        INFORMATION,
        "Cache-Groups is passed on",
        fill(_grouped('"one-l"')),
        again(STORE, has={"Cache-Groups": '"one-l"'}),
        needs=Feature.GROUPS,
    ),
)

CASES = (*METHODS, *NAMED, *SAFE_NAMED, *GROUPS)
