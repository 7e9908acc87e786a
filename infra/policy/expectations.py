"""What a scenario expects of a request, read from its file and held against what happened.

One table: every field of `expect` with how it is written, what it is compared with and what it means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from cache_policies.kinds import BOOLEAN, DURATION, Field, Kind, only, spelled, whole_number
from cache_policies.reading import Refused, Value, closest, did_you_mean
from cache_policies.tags import is_path_tag
from edge.core import residency
from edge.core.key import CacheKey, TargetFault, query_text
from edge.core.policy import PolicySet
from edge.core.request_rules import RefusedBecause
from edge.core.reuse import FwdReason, Why
from edge.core.stored import StoredResponse
from edge.core.storing import Reason
from edge.gateway.exchange import MARKET_REDIRECT
from edge.gateway.explain import kept_of, key_digest
from edge.gateway.origin import ErrorKind
from edge.gateway.server import Refusal
from infra.policy.scenario_kinds import FIELD_NAME, METHOD, STATUS, TAGS, field_value, kind, members, plain_text, url
from infra.policy.virtual_edge import Viewed, stored_by, why_not_stored

T = TypeVar("T")

SHOWN_CHARACTERS = 200
"""Of a body in a message."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What can be expected of one viewer's request: at the moment when it was answered, and nothing more happens."""

    viewed: Viewed
    collapsed: int
    """Viewers of the same step who got what another one had asked for."""
    held: StoredResponse | None
    """The newest that the store holds under its key."""
    fetches_so_far: int
    purged_by: Sequence[str]
    keys: Mapping[str, CacheKey | None]
    """By the id of an earlier step."""


@dataclass(frozen=True, slots=True)
class Check:
    """One expectation as it stands in a file. `judge` gives what was got in its place; None: what was expected."""

    value: Value
    name: str
    want: str
    judge: Callable[[Seen], str | None]


Checks = Callable[[Value], Iterator[Check]]


@dataclass(frozen=True, slots=True)
class Expectation(Field[Any]):
    """A field of `expect`. Its kind only says that there is one; `checks` reads it."""

    checks: Checks = field(kw_only=True)


OUTCOMES = ("hit", "stale", "validated", "miss", "pass", "edge", "error")
"""As the access log has them in `cache`."""
NO_REASON = "none"
REASONS = sorted(
    {
        each.value
        for words in (Why, Reason, Refusal, RefusedBecause, ErrorKind, TargetFault, residency.Why)
        for each in words
    }
    | {MARKET_REDIRECT, NO_REASON, "edge-key-refused"}
)


def read_expectations(value: Value, policies: PolicySet, steps: Sequence[str]) -> Iterator[Check]:
    """The checks of one `expect`; what cannot be read is noted. `steps`: ids of the steps before it."""
    only(value, EXPECT_FIELDS)
    known = {"route": [policy.id for policy in policies.policies], "same_key_as": steps, "other_key_than": steps}
    for each in EXPECT_FIELDS:
        entry = value.fields().get(each.name)
        if entry is None:
            continue
        words = known.get(each.name)
        if words is not None and entry[1].written not in words:
            expected = "a route" if each.name == "route" else "an earlier step"
            what = f"{entry[1].shown}, expected the id of {expected}"
            meant = entry[1].written if isinstance(entry[1].written, str) else ""
            near = closest(meant, words) if meant else ""
            fix = f"Write {near}." if near else "Name one."
            entry[1].fault(what + did_you_mean(meant, words), "NS104", fix)
            continue
        with suppress(Refused):
            yield from each.checks(entry[1])


# -- how a check is made -----------------------------------------------------------------------------------------------


def _is(read: Kind[T], got: Callable[[Seen], T | None], show: Callable[[Any], str] = str) -> Checks:
    """The value is the one that is written."""

    def checks(value: Value) -> Iterator[Check]:
        want = read.read(value)

        def judge(seen: Seen) -> str | None:
            found = got(seen)
            return None if found == want else "nothing" if found is None else show(found)

        yield Check(value, value.path, show(want), judge)

    return checks


def _each(table: Callable[[], Sequence[Expectation]]) -> Checks:
    """A mapping with fields of its own."""

    def checks(value: Value) -> Iterator[Check]:
        value.fields()
        only(value, table())
        for each in table():
            entry = value.fields().get(each.name)
            if entry is not None:
                with suppress(Refused):
                    yield from each.checks(entry[1])

    return checks


def _fields_are(got: Callable[[Seen, str], str | None]) -> Checks:
    """A mapping from the name of a header field to its value, several lines as one list."""

    def checks(value: Value) -> Iterator[Check]:
        for name, entry in members(value, FIELD_NAME, "the name of a header field", "NS111", _itself).items():
            with suppress(Refused):
                yield from _is(kind(field_value), _of_field(got, name.lower()))(entry)

    return checks


def _of_field(got: Callable[[Seen, str], str | None], name: str) -> Callable[[Seen], str | None]:
    return lambda seen: got(seen, name)


def _itself(value: Value) -> Value:
    plain_text(value)
    return value


def _has(got: Callable[[Seen, str], str | None], *, there: bool) -> Checks:
    """A list of header fields that are there, or are not."""

    def checks(value: Value) -> Iterator[Check]:
        for entry in value.items("a list of header fields"):
            with suppress(Refused):
                name = _FIELD.read(entry).lower()

                def judge(seen: Seen, name: str = name) -> str | None:
                    found = got(seen, name)
                    if (found is not None) is there:
                        return None
                    return f"{name}: {found}" if found is not None else f"no {name}"

                yield Check(entry, value.path, name if there else f"no {name}", judge)

    return checks


def _body_has(*, there: bool) -> Checks:
    def checks(value: Value) -> Iterator[Check]:
        for entry in value.written if isinstance(value.written, list) else [value]:
            with suppress(Refused):
                text = plain_text(entry)

                def judge(seen: Seen, text: str = text) -> str | None:
                    return None if (text in _body(seen)) is there else f"the body {_shown_body(_body(seen))}"

                yield Check(entry, value.path, f"a body {'with' if there else 'without'} {text!r}", judge)

    return checks


def _key_is(*, same: bool) -> Checks:
    def checks(value: Value) -> Iterator[Check]:
        step = plain_text(value)

        def judge(seen: Seen) -> str | None:
            then, now = seen.keys.get(step), seen.viewed.key
            if then is None or now is None:
                return f"no key {'now' if then is not None else f'in {step}'}"
            if (then == now) is same:
                return None
            return f"{_shown_key(now)}, there {_shown_key(then)}" if same else f"the same, {_shown_key(now)}"

        yield Check(value, value.path, f"{'the' if same else 'another'} key {'of' if same else 'than'} {step}", judge)

    return checks


# -- what is looked at -----------------------------------------------------------------------------------------------


def _body(seen: Seen) -> str:
    return seen.viewed.body.decode("utf-8", "replace")


def _shown_body(text: str) -> str:
    return repr(text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}...")


def _shown_key(key: CacheKey) -> str:
    query = query_text(key)
    return f"{key.path}{'?' if query else ''}{query} [{key_digest(key)}]"


def _held_tags(seen: Seen) -> list[str] | None:
    """Without that of its path, which everything has, on this edge alone."""
    return None if seen.held is None else sorted([tag for tag in seen.held.tags if not is_path_tag(tag)])


def _shown_list(tags: Sequence[str]) -> str:
    return f"[{', '.join(tags)}]"


def shown_seconds(seconds: float) -> str:
    """A duration in one unit, the largest in which it is a whole number: `90s`, `5m`, `1d`."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        if seconds and seconds % length == 0:
            return f"{seconds / length:.0f}{unit}"
    return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"


def _yes(value: bool) -> str:
    return "true" if value else "false"


def cache_status(viewed: Viewed) -> str:
    """Our member of the answer's Cache-Status: the last, because caches further from the viewer come first."""
    lines = viewed.headers.lines("cache-status")
    return lines[-1] if lines else ""


def _status_member(name: str) -> Callable[[Seen], str | None]:
    def got(seen: Seen) -> str | None:
        parameters = dict(part.partition("=")[::2] for part in cache_status(seen.viewed).split("; ")[1:])
        return parameters.get(name)

    return got


def _status_flag(name: str) -> Callable[[Seen], bool]:
    return lambda seen: _status_member(name)(seen) is not None


def _status_number(name: str) -> Callable[[Seen], int | None]:
    def got(seen: Seen) -> int | None:
        text = _status_member(name)(seen)
        return None if text is None else int(text)

    return got


def _age(seen: Seen) -> float | None:
    text = seen.viewed.headers.get("age")
    return None if text is None else float(text)


def _answer_field(seen: Seen, name: str) -> str | None:
    return seen.viewed.headers.joined(name)


def _asked_field(seen: Seen, name: str) -> str | None:
    fetches = seen.viewed.caused.fetches
    return fetches[-1].headers.joined(name) if fetches else None


def _asked(attribute: str) -> Callable[[Seen], str | None]:
    def got(seen: Seen) -> str | None:
        fetches = seen.viewed.caused.fetches
        return getattr(fetches[-1], attribute) if fetches else None

    return got


def _asked_lacks() -> Checks:
    """As `_has`, but with nothing asked nothing can be said of it."""
    plain = _has(_asked_field, there=False)

    def checks(value: Value) -> Iterator[Check]:
        for each in plain(value):

            def judge(seen: Seen, each: Check = each) -> str | None:
                return each.judge(seen) if seen.viewed.caused.fetches else "no request to the origin"

            yield Check(each.value, each.name, each.want, judge)

    return checks


def _key_part(part: Callable[[CacheKey], str]) -> Callable[[Seen], str | None]:
    return lambda seen: None if seen.viewed.key is None else part(seen.viewed.key)


def _lifetime(attribute: str) -> Callable[[Seen], float | None]:
    return lambda seen: None if seen.held is None else round(getattr(kept_of(seen.held), attribute), 3)


def _reason(value: Value) -> str:
    text = plain_text(value)
    if text not in REASONS:
        meant = closest(text, REASONS)
        raise value.refuse("a reason" + did_you_mean(text, REASONS), "NS104", f"Write {meant}." if meant else "")
    return "" if text == NO_REASON else text


def _or_none(text: str) -> str:
    return text or NO_REASON


def _tag_list(value: Value) -> list[str]:
    return sorted(TAGS.read(value))


def _outcome(value: Value) -> str:
    text = plain_text(value)
    if text not in OUTCOMES:
        meant = closest(text, OUTCOMES)
        fix = f"Write {meant}." if meant else ""
        raise value.refuse("one of " + ", ".join(OUTCOMES) + did_you_mean(text, OUTCOMES), "NS104", fix)
    return text


_FIELD = spelled(FIELD_NAME, "the name of a header field", "NS111")
_TEXT = kind(plain_text)
_COUNT = whole_number(0, 1_000_000, "a number of zero or more", "NS118")


def _signed_seconds(value: Value) -> int:
    text = plain_text(value)
    negative = text.startswith("-")
    seconds = DURATION.read(Value(value.place, value.path, text.removeprefix("-"), value.faults, value.quoted))
    return int(-seconds if negative else seconds)


_SIGNED = kind(_signed_seconds)
_ANY = kind(lambda value: value)
_UNSAID = "not looked at"


def _expect(name: str, unit: str, meaning: str, checks: Checks) -> Expectation:
    return Expectation(name, _ANY, unit, _UNSAID, meaning, checks=checks)


STATUS_MEMBERS: tuple[Expectation, ...] = (
    _expect("hit", "`true`, `false`", "whether it says `hit`", _is(BOOLEAN, _status_flag("hit"), _yes)),
    _expect(
        "fwd",
        ", ".join(f"`{each.value}`" for each in FwdReason),
        "why the origin was asked",
        _is(_TEXT, _status_member("fwd")),
    ),
    _expect("fwd_status", "status", "what the origin answered", _is(STATUS, _status_number("fwd-status"))),
    _expect("ttl", "duration, also `-30s`", "freshness left", _is(_SIGNED, _status_number("ttl"), shown_seconds)),
    _expect("stored", "`true`, `false`", "whether it says `stored`", _is(BOOLEAN, _status_flag("stored"), _yes)),
    _expect(
        "collapsed", "`true`, `false`", "whether it says `collapsed`", _is(BOOLEAN, _status_flag("collapsed"), _yes)
    ),
    _expect("detail", "text", "its `detail`", _is(_TEXT, _status_member("detail"))),
)

KEY_PARTS: tuple[Expectation, ...] = (
    _expect("authority", "text", "the host", _is(_TEXT, _key_part(lambda key: key.authority))),
    _expect("path", "text", "the path in its one spelling", _is(_TEXT, _key_part(lambda key: key.path))),
    _expect("query", "text", "the parameters that count, in order", _is(_TEXT, _key_part(query_text))),
    _expect("market", "text", "the market; empty for none", _is(_TEXT, _key_part(lambda key: key.market))),
)

FORWARDED_PARTS: tuple[Expectation, ...] = (
    _expect("origin", "name", "which origin", _is(_TEXT, _asked("origin"))),
    _expect("method", "method", "the method", _is(METHOD, _asked("method"))),
    _expect("target", "address", "path and query", _is(kind(url), _asked("target"))),
    _expect("headers", "mapping", "fields and their values", _fields_are(_asked_field)),
    _expect("absent", "list", "fields that are not in it", _asked_lacks()),
)

LIFETIMES: tuple[Expectation, ...] = (
    _expect("fresh", "duration", "from when the origin made it", _is(DURATION, _lifetime("fresh_s"), shown_seconds)),
    _expect(
        "stale_while_revalidate",
        "duration",
        "from the end of freshness",
        _is(DURATION, _lifetime("stale_while_revalidate_s"), shown_seconds),
    ),
    _expect(
        "stale_if_error",
        "duration",
        "from the end of freshness",
        _is(DURATION, _lifetime("stale_if_error_s"), shown_seconds),
    ),
    _expect(
        "stale_if_unreachable",
        "duration",
        "from the end of freshness",
        _is(DURATION, _lifetime("stale_if_unreachable_s"), shown_seconds),
    ),
    _expect("keep", "duration", "from the end of all of these", _is(DURATION, _lifetime("keep_s"), shown_seconds)),
)

EXPECT_FIELDS: tuple[Expectation, ...] = (
    _expect("status", "status", "the answer's status", _is(STATUS, lambda seen: seen.viewed.status or None)),
    _expect(
        "outcome",
        ", ".join(f"`{word}`" for word in OUTCOMES),
        "where the answer came from, as `cache` in the access log",
        _is(kind(_outcome), lambda seen: seen.viewed.outcome or None),
    ),
    _expect(
        "reason",
        "word, or `none`",
        "why, as `reason` in the access log",
        _is(kind(_reason), lambda seen: seen.viewed.reason, _or_none),
    ),
    _expect("cache_status", "mapping", "members of `Cache-Status`", _each(lambda: STATUS_MEMBERS)),
    _expect("age", "duration", "the field `Age`", _is(DURATION, _age, shown_seconds)),
    _expect(
        "ttl",
        "duration, also `-30s`",
        "freshness left, as in `Cache-Status`",
        _is(_SIGNED, _status_number("ttl"), shown_seconds),
    ),
    _expect("headers", "mapping", "header fields and their values", _fields_are(_answer_field)),
    _expect("present", "list", "header fields that are there", _has(_answer_field, there=True)),
    _expect("absent", "list", "header fields that are not there", _has(_answer_field, there=False)),
    _expect("body", "text", "the whole body", _is(_TEXT, _body, _shown_body)),
    _expect("body_has", "text, or a list", "text in the body", _body_has(there=True)),
    _expect("body_lacks", "text, or a list", "text that is not in it", _body_has(there=False)),
    _expect(
        "complete",
        "`true`, `false`",
        "whether the whole answer came; without this field it must",
        _is(BOOLEAN, lambda seen: seen.viewed.complete, _yes),
    ),
    _expect("route", "id", "the route that decided", _is(_TEXT, lambda seen: seen.viewed.route or None)),
    _expect("key", "mapping", "parts of the key", _each(lambda: KEY_PARTS)),
    _expect("same_key_as", "id of a step", "the key is the same as there", _key_is(same=True)),
    _expect("other_key_than", "id of a step", "the key is another one", _key_is(same=False)),
    _expect(
        "origin_fetches",
        "number",
        "requests of this step that reached an origin, those in the background included",
        _is(_COUNT, lambda seen: len(seen.viewed.caused.fetches)),
    ),
    _expect(
        "origin_fetches_so_far",
        "number",
        "requests that reached an origin since the beginning",
        _is(_COUNT, lambda seen: seen.fetches_so_far),
    ),
    _expect(
        "background_fetches",
        "number",
        "those of this step that nobody waits for",
        _is(_COUNT, lambda seen: sum(fetch.background for fetch in seen.viewed.caused.fetches)),
    ),
    _expect(
        "collapsed",
        "number",
        "viewers of this step who got what another one's request brought",
        _is(_COUNT, lambda seen: seen.collapsed),
    ),
    _expect("forwarded", "mapping", "the last request to the origin of this step", _each(lambda: FORWARDED_PARTS)),
    _expect(
        "stored",
        "`true`, `false`",
        "whether this step put an answer into the store",
        _is(BOOLEAN, lambda seen: stored_by(seen.viewed.caused), _yes),
    ),
    _expect(
        "why_not_stored",
        "word",
        "why the answer was not stored",
        _is(kind(_reason), lambda seen: why_not_stored(seen.viewed), _or_none),
    ),
    _expect("lifetimes", "mapping", "of what the store now holds under the key", _each(lambda: LIFETIMES)),
    _expect(
        "tags",
        "list",
        "all tags of what the store now holds, in any order",
        _is(kind(_tag_list), _held_tags, _shown_list),
    ),
    _expect(
        "position",
        "`EPOCH.CV`",
        "of what the store now holds",
        _is(_TEXT, lambda seen: None if seen.held is None else str(seen.held.position)),
    ),
    _expect(
        "purged_by",
        "list of tags",
        "by which purges hit what the store held when the request came; `[]`: none did",
        _is(kind(_tag_list), lambda seen: sorted(seen.purged_by), _shown_list),
    ),
)
