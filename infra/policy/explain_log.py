"""`nearshelf policy explain --log`, `--har`, `--curl`: requests that really happened, or are about to.

A log line or a HAR entry says how a request ended; what the policies say is held against it. What depends on more than
the policies (what was stored, what the origin said, who had asked before) is told apart from what contradicts them.
"""

from __future__ import annotations

import codecs
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from edge.core.policy import CachePolicy, PolicySet
from edge.core.request_rules import RefusedBecause
from edge.core.reuse import FwdReason, Why
from edge.core.storing import Reason
from edge.gateway.server import REFUSALS, Refusal
from infra.errors import CommandError
from infra.policy.explain import Asked
from infra.policy.explain_text import line

_FROM_STORE = frozenset({"hit", "stale", "validated"})


@dataclass(frozen=True, slots=True)
class Happened:
    """How a request ended, as a log line or a Cache-Status says it."""

    status: int
    cache: str
    """hit, stale, validated, miss, pass, edge, error or gone; empty: not said."""
    reason: str
    route: str = ""
    """Empty: not said."""
    age_s: int | None = None
    ttl_s: int | None = None


@dataclass(frozen=True, slots=True)
class Real:
    """A request that happened: as it can be asked again, and how it ended."""

    asked: Asked | None
    """None: its address is not written down."""
    happened: Happened
    unknown: tuple[str, ...] = ()
    """What of the request is not written down."""


# -- reading -----------------------------------------------------------------------------------------------------------

_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
"""What JSON of another shape raises: lists for objects, an infinite status, arrays without end."""


def of_log(text: str, country: str = "") -> Real:
    """A line of the edge's access log. Raises CommandError for anything else."""
    try:
        found = json.loads(text)
        status, cache, route, method = int(found["status"]), str(found["cache"]), str(found["route"]), found["method"]
        path, query = found.get("path"), dict(found.get("query", {}))
        age_s, ttl_s = (None if found.get(name) is None else int(found[name]) for name in ("age", "ttl"))
        pairs = "&".join(f"{quote(str(name), safe='')}={quote(str(value), safe='')}" for name, value in query.items())
    except _UNREADABLE as exc:
        raise CommandError(
            "this is no line of an edge's access log: expected one JSON object with time, method, route, status and "
            f"cache, in single quotes ({type(exc).__name__}: {exc})"
        ) from exc
    happened = Happened(status, cache, str(found.get("reason") or ""), "" if route == "-" else route, age_s, ttl_s)
    unknown = ["the host", "the viewer's country" if not country else "", "request fields"]
    asked = None
    if path is not None:
        asked = Asked(f"{path}?{pairs}" if pairs else str(path), str(method), country=country)
        unknown.append("parameters that do not count")
    return Real(asked, happened, tuple(each for each in unknown if each))


def of_har(path: Path, country: str = "") -> Iterator[Real]:
    """Every entry of an HTTP Archive 1.2 that went over HTTP. Raises CommandError when the file is none."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8-sig"))["log"]["entries"]
        for entry in entries:
            request, response = entry["request"], entry["response"]
            if not str(request["url"]).startswith(("http://", "https://")):
                continue
            fields = tuple(
                (str(each["name"]), str(each["value"]))
                for each in request["headers"]
                # HTTP/2 pseudo-fields say again what the method and the address say.
                if not str(each["name"]).startswith(":")
            )
            said = [str(each["value"]) for each in response["headers"] if str(each["name"]).lower() == "cache-status"]
            asked = Asked(str(request["url"]), str(request["method"]), fields, country=country)
            yield Real(asked, of_cache_status(int(response["status"]), ", ".join(said)))
    except OSError as exc:
        raise CommandError(f"{path} cannot be read: {exc.strerror}") from exc
    except _UNREADABLE as exc:
        raise CommandError(
            f"{path} is no HTTP Archive: expected what a browser saves as HAR ({type(exc).__name__}: {exc})"
        ) from exc


_MEMBER = re.compile(r"(nearshelf-[A-Za-z0-9-]+)((?:;[^,]*)?)")


def of_cache_status(status: int, text: str) -> Happened:
    """What Cache-Status (RFC 9211) says of our edge; the cache is empty where no edge of ours has written it."""
    members = _MEMBER.findall(text)
    if not members:
        return Happened(status, "", "")
    said: dict[str, str] = {}
    for part in members[-1][1].split(";"):
        name, _, value = part.strip().partition("=")
        said[name] = value.strip('"')
    detail, fwd = said.get("detail", ""), said.get("fwd", "")
    if "hit" in said:
        cache = "stale" if detail else "hit"
    elif fwd in {FwdReason.BYPASS, FwdReason.METHOD}:
        cache = "pass"
    elif fwd:
        cache = "validated" if said.get("fwd-status") == "304" else "miss"
    else:
        cache = "edge"
    ttl = said.get("ttl", "")
    return Happened(status, cache, detail, ttl_s=int(ttl) if re.fullmatch(r"-?[0-9]+", ttl) else None)


_ANSI_QUOTED = re.compile(r"\$'((?:[^'\\]|\\.)*)'", re.DOTALL)

_WITH_VALUE = frozenset(
    {
        *("-o", "--output", "-m", "--max-time", "--connect-timeout", "-x", "--proxy", "--resolve", "-w", "--write-out"),
        *("--cacert", "-E", "--cert", "--key", "--retry", "-c", "--cookie-jar", "-F", "--form", "-T", "--upload-file"),
        *("-r", "--range", "--max-redirs", "-D", "--dump-header", "--limit-rate", "-K", "--config", "--connect-to"),
        *("--interface", "--ciphers", "--tls-max", "--url-query", "-t", "-C", "--continue-at", "-y", "-Y", "-z"),
    }
)
"""Options of curl whose value says nothing about the request, as far as policies go."""
_DATA = frozenset({"-d", "--data", "--data-raw", "--data-binary", "--data-urlencode", "--data-ascii", "--json"})
_FIELD_OF = {
    "-A": "user-agent",
    "--user-agent": "user-agent",
    "-e": "referer",
    "--referer": "referer",
    "-b": "cookie",
    "--cookie": "cookie",
    "-u": "authorization",
    "--user": "authorization",
    "--oauth2-bearer": "authorization",
}


def of_curl(text: str) -> Asked:
    """The request of a curl command, as typed or as a browser copies it. Raises CommandError."""
    try:
        text = _ANSI_QUOTED.sub(lambda found: shlex.quote(codecs.decode(found[1], "unicode_escape")), text)
        words = shlex.split(text.replace("\\\n", " "))
    except ValueError as exc:
        raise CommandError(f"this is no shell command: {exc}") from exc
    if words and words[0].rpartition("/")[2] == "curl":
        words = words[1:]
    url, method, fields, data, query = "", "", [], [], False
    rest = iter(_split_options(words))
    for word in rest:

        def value(of: str = word) -> str:
            found = next(rest, None)
            if found is None:
                raise CommandError(f"curl's {of} needs a value, and the command ends there")
            return found

        if word in {"-X", "--request"}:
            method = value()
        elif word in {"-H", "--header"}:
            name, _, content = value().partition(":")
            fields.append((name.strip(), content.strip()))
        elif word in _FIELD_OF:
            fields.append((_FIELD_OF[word], value()))
        elif word in _DATA:
            data.append(value())
        elif word in {"-I", "--head"}:
            method = method or "HEAD"
        elif word in {"-G", "--get"}:
            query = True
        elif word == "--url":
            url = value()
        elif word in _WITH_VALUE:
            value()
        elif not word.startswith("-"):
            if url:
                raise CommandError(f"a second address, {word!r}; explain one request at a time")
            url = word
    if not url:
        raise CommandError("no address in this curl command; expected curl 'http://HOST/PATH' ...")
    if "://" not in url:
        url = f"http://{url}"
    if data and query:
        url += ("&" if "?" in url else "?") + "&".join(data)
    elif data:
        method = method or "POST"
    return Asked(url, method or "GET", tuple(fields))


def _split_options(words: list[str]) -> Iterator[str]:
    """`--name=value` does not exist in curl, but `-XPOST` and `-sI` do: one option and its value each."""
    takes = {word for word in (*_FIELD_OF, *_DATA, *_WITH_VALUE, "-X", "-H") if len(word) == 2}
    for word in words:
        if not re.fullmatch(r"-[A-Za-z].+", word, re.DOTALL):
            yield word
            continue
        for number, letter in enumerate(word[1:], start=2):
            yield f"-{letter}"
            if f"-{letter}" in takes:
                if word[number:]:
                    yield word[number:]
                break


# -- holding against the policies --------------------------------------------------------------------------------------


def compare(happened: Happened, explained: Mapping[str, Any] | None, policies: PolicySet) -> dict[str, Any]:
    """How a request ended beside what the policies say, as JSON: `agrees`, `differs`, `beyond` (what no policy
    decides). `explained` is None where the address is not known."""
    agrees: list[str] = []
    differs: list[str] = []
    beyond: list[str] = []
    if explained is None:
        beyond.append(_without_address(happened))
    else:
        _compare_route(happened, explained, agrees, differs)
        _compare_end(happened, explained, policies, agrees, differs, beyond)
    return {
        "status": happened.status,
        "cache": happened.cache or None,
        "reason": happened.reason or None,
        "agrees": agrees,
        "differs": differs,
        "beyond": beyond,
    }


_BY_POLICY = {
    RefusedBecause.REFUSED.value: "The policy refuses this address.",
    RefusedBecause.AUTHORIZATION_MISSING.value: "This address needs an Authorization field.",
}


def _without_address(happened: Happened) -> str:
    refusals = {refusal.value: REFUSALS[refusal][2] for refusal in Refusal} | _BY_POLICY
    if happened.reason in refusals:
        return f"{happened.status} {happened.reason}: {refusals[happened.reason]}"
    if happened.cache == "edge" and not happened.route:
        return f"{happened.status} {happened.reason}: the address was refused, and is not written down"
    return f"{happened.status}: the address of a personal route is not written down"


def _compare_route(happened: Happened, explained: Mapping[str, Any], agrees: list[str], differs: list[str]) -> None:
    if not happened.route:
        return
    ours = explained["route"]["id"] if explained["route"] is not None else "none"
    if ours == happened.route:
        agrees.append(f"route {ours}")
    else:
        differs.append(f"route {happened.route} then, {ours} by these policies")


def _compare_end(
    happened: Happened,
    explained: Mapping[str, Any],
    policies: PolicySet,
    agrees: list[str],
    differs: list[str],
    beyond: list[str],
) -> None:
    outcome = explained["outcome"]
    policy = None if explained["route"] is None else policies.by_id(explained["route"]["id"])
    if happened.reason == Refusal.THROTTLED and policy is not None and policy.throttle is not None:
        agrees.append("throttled: this route is")
        beyond.append("how many requests this client had made")
        return
    if outcome["cache"] == "edge" or happened.cache == "edge":
        if outcome["cache"] == "edge" and not happened.cache:
            same = outcome["status"] == happened.status
            (agrees if same else differs).append(_ends(happened, outcome))
            return
        same = (outcome["cache"], outcome["status"], outcome["reason"]) == (
            happened.cache,
            happened.status,
            happened.reason,
        )
        (agrees if same else differs).append(_ends(happened, outcome))
        return
    beyond.append(f"status {happened.status} is the origin's word")
    if not happened.cache:
        beyond.append("no Cache-Status of an edge of ours: what it did is not known")
    elif happened.cache in _FROM_STORE or happened.cache == "miss":
        stored = outcome["cache"] == "miss"
        (agrees if stored else differs).append(
            f"{happened.cache} {happened.reason}".rstrip() + ("" if stored else f" then, {_said(outcome)} now")
        )
        if stored and policy is not None:
            _compare_lifetime(happened, policy, explained, agrees, differs)
            _compare_reason(happened, differs, beyond)
    elif happened.cache == "pass":
        same = (outcome["cache"], outcome["reason"]) == ("pass", happened.reason)
        (agrees if same else differs).append(
            f"pass {happened.reason}" + ("" if same else f" then, {_said(outcome)} now")
        )
    else:
        beyond.append(f"{happened.cache} {happened.reason}: between this edge, its origin and its viewer")


def _compare_reason(happened: Happened, differs: list[str], beyond: list[str]) -> None:
    """Why a route that is stored had to ask the origin, or did not store what it said."""
    if not happened.reason:
        return
    if happened.reason in {Reason.POLICY_NEVER_STORES.value, Reason.PERSONAL_DATA.value}:
        differs.append(f"{happened.reason} then, and these policies store it")
    elif happened.reason in {why.value for why in Why}:
        beyond.append(f"{happened.reason}: what this edge held then")
    elif happened.reason in {reason.value for reason in Reason}:
        beyond.append(f"{happened.reason}: what the origin answered")
    else:
        beyond.append(f"{happened.reason}: between this edge and its origin")


def _compare_lifetime(
    happened: Happened, policy: CachePolicy, explained: Mapping[str, Any], agrees: list[str], differs: list[str]
) -> None:
    """Age and remaining lifetime of a stored response add up to a lifetime that the policy must allow."""
    if happened.age_s is None or happened.ttl_s is None or happened.cache not in {"hit", "stale"}:
        return
    lived_s = happened.age_s + happened.ttl_s
    negative = dict(policy.negative_s).get(happened.status)
    ceiling_s = explained["lifetimes"]["max_fresh"]["seconds"] if negative is None else negative
    # Both are whole seconds, rounded down.
    if lived_s <= ceiling_s:
        agrees.append(f"lifetime {lived_s} s of at most {ceiling_s:g} s")
    else:
        differs.append(f"lifetime {lived_s} s then, at most {ceiling_s:g} s by these policies")


def _ends(happened: Happened, outcome: Mapping[str, Any]) -> str:
    then = f"{happened.status} {happened.cache} {happened.reason}".rstrip()
    now = _said(outcome)
    return then if then == now else f"{then} then, {now} now"


def _said(outcome: Mapping[str, Any]) -> str:
    status = f"{outcome['status']} " if outcome["status"] else ""
    return f"{status}{outcome['cache']} {outcome['reason']}"


def compared_text(found: Mapping[str, Any], unknown: tuple[str, ...] = ()) -> Iterator[str]:
    """The comparison for people."""
    said = " ".join(str(each) for each in (found["status"], found["cache"], found["reason"]) if each is not None)
    yield line("happened", said)
    for each in found["differs"]:
        yield line("", f"DIFFERS {each}")
    for each in found["agrees"]:
        yield line("", f"agrees: {each}")
    for each in found["beyond"]:
        yield line("", f"beyond the policies: {each}")
    if unknown:
        yield line("", f"not written down: {', '.join(unknown)}")
