"""Scenario files of `nearshelf policy test`: what is written in them, and every fault of it with its place.

The tables of fields are the reader and, by test, what docs/policies.md lists. What is expected of an answer is in
`infra.policy.expectations`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from cache_policies.kinds import COUNTRY, DURATION, NAME, SIZE, Field, choice, meant_name, only, whole_number
from cache_policies.market_values import UNKNOWN_COUNTRY
from cache_policies.positions import ORDERED_KINDS, PurgeKind
from cache_policies.reading import Fault, Place, Refused, Value, closest, did_you_mean, read_document
from edge.core.policy import PolicySet
from infra.policy.expectations import Check, read_expectations
from infra.policy.scenario_kinds import (
    METHOD,
    MOMENT,
    STATUS,
    STEP_ID,
    TAGS,
    address,
    field_value,
    header_fields,
    kind,
    members,
    plain_text,
    position,
    url,
)
from infra.policy.virtual_edge import Failure, NoLabel, ScriptedAnswer

MAX_CROWD = 5_000
"""Viewers of one step: fewer than the connections that a worker takes."""
LONGEST_S = 10 * 365 * 86_400.0
"""How long a scenario may last: further on, the clock's microseconds would be lost beside the years."""
SOMEWHERE = "192.0.2.1"
"""The viewer's address where none is written (RFC 5737)."""

Answers = Mapping[str, tuple[ScriptedAnswer, ...]]


@dataclass(frozen=True, slots=True)
class Asked:
    """A step's request."""

    place: Place
    path: str
    url: str
    method: str = "GET"
    country: str = UNKNOWN_COUNTRY
    client: str = SOMEWHERE
    fields: tuple[tuple[str, str], ...] = ()
    body: str = ""
    times: int = 1


@dataclass(frozen=True, slots=True)
class Purge:
    tags: tuple[str, ...]
    kind: PurgeKind


class Power(StrEnum):
    UP = "up"
    DOWN = "down"


class LeaseTurn(StrEnum):
    LAPSES = "lapses"
    RENEWED = "renewed"


@dataclass(frozen=True, slots=True)
class Step:
    """What happens at one moment, in the order of these fields."""

    at_s: float
    """From the beginning of the scenario."""
    id: str
    answers: Answers
    origins: Mapping[str, Power]
    lease: LeaseTurn | None
    purge: Purge | None
    asked: Asked | None
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class Scenario:
    file: Path
    id: str
    about: str
    place: Place
    answers: Answers
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class ScenarioFile:
    """One file: its scenarios, and what is wrong with it. With any fault none of them is run."""

    path: Path
    text: str
    scenarios: tuple[Scenario, ...]
    faults: tuple[Fault, ...]


def read_scenarios(path: Path, policies: PolicySet) -> ScenarioFile:
    """The scenarios in `path`, for an edge with `policies`."""
    faults: list[Fault] = []
    texts: dict[str, str] = {}
    document = read_document(path, faults, texts)
    scenarios: list[Scenario] = []
    if document is not None:
        reader = _Reader(path, policies)
        only(document, FILE_FIELDS)
        shared = ANSWERS_FIELD.of(document, {})
        for name, (place, value) in SCENARIOS_FIELD.of(document, {}).items():
            if re.fullmatch(NAME, name) is None:
                what = f"id {name}, expected small letters, digits and hyphens, such as home-page"
                faults.append(Fault(place, value.path, what, "NS114", f"Call it {meant_name(name)}."))
            with suppress(Refused):
                scenarios.append(reader.scenario(name, place, value, shared))
    return ScenarioFile(path, texts.get(path.name, ""), tuple(scenarios), tuple(sorted(set(faults))))


# -- answers of the origin -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Proposed:
    fresh: float | None
    stale_while_revalidate: float | None
    stale_if_error: float | None

    @property
    def text(self) -> str:
        parts = {
            "max-age": self.fresh,
            "stale-while-revalidate": self.stale_while_revalidate,
            "stale-if-error": self.stale_if_error,
        }
        return ", ".join(f"{name}={seconds:.0f}" for name, seconds in parts.items() if seconds is not None)


def _proposed(value: Value) -> str:
    value.fields("a mapping, such as {fresh: 60s}")
    only(value, PROPOSED_FIELDS)
    return _Proposed(*(each.of(value, None) for each in PROPOSED_FIELDS)).text


PROPOSED_FIELDS: tuple[Field[Any], ...] = (
    Field("fresh", DURATION, "duration", "not said", "`max-age`"),
    Field("stale_while_revalidate", DURATION, "duration", "not said", "`stale-while-revalidate`"),
    Field("stale_if_error", DURATION, "duration", "not said", "`stale-if-error`"),
)

ANSWER_FIELDS: tuple[Field[Any], ...] = (
    Field("status", STATUS, "status", "200", "its status"),
    Field("type", kind(field_value), "text", "`text/html; charset=utf-8`", "`Content-Type`"),
    Field("body", kind(plain_text), "text", "empty", "its body"),
    Field("size", SIZE, "size", "as `body` says", "pads the body with blanks to this size"),
    Field("tags", TAGS, "list of tags", "none", "`Cache-Tag`"),
    Field(
        "position",
        kind(position),
        "`EPOCH.CV`, `head`, `none`",
        "`head`",
        "`Catalog-Version`: the state it was read from; `head`: that of the moment in which it was asked for",
    ),
    Field("proposes", kind(_proposed), "mapping", "nothing", "lifetimes, said in `CDN-Cache-Control`"),
    Field(
        "etag",
        kind(field_value),
        "text with its quotes, or `none`",
        "made from the body of a 200",
        "`ETag`; a request that has it already is answered 304",
    ),
    Field("headers", kind(header_fields), "mapping", "none", "other fields; they win over those made from the above"),
    Field("slow", MOMENT, "duration", "`0s`", "how long it takes; what is purged meanwhile is not in it"),
    Field(
        "fails",
        choice(Failure),
        "`reset`, `silent`, `cut`",
        "it does not",
        "hangs up without a word, never answers, or hangs up before the body's end",
    ),
)


def _answer(value: Value) -> ScriptedAnswer:
    value.fields("an answer: a mapping with fields such as body and tags")
    only(value, ANSWER_FIELDS)
    said: dict[str, Any] = {each.name: each.of(value, None) for each in ANSWER_FIELDS}
    body = (said["body"] or "").encode("utf-8", "surrogateescape")
    if said["size"] is not None:
        if said["size"] < len(body):
            value.fields()["size"][1].fault(f"less than the {len(body)} bytes of body", "NS118", "Write a larger one.")
        body = body.ljust(said["size"])
    headers = [("content-type", said["type"] or "text/html; charset=utf-8")]
    if said["proposes"]:
        headers.append(("cdn-cache-control", said["proposes"]))
    headers += [(name.lower(), text) for name, text in said["headers"] or ()]
    return ScriptedAnswer(
        status=said["status"] or 200,
        body=body,
        headers=tuple(headers),
        tags=said["tags"] or (),
        position=said["position"] or NoLabel.HEAD,
        etag="" if said["etag"] == "none" else said["etag"],
        slow_s=said["slow"] or 0.0,
        failure=said["fails"],
    )


def _turns(value: Value) -> tuple[ScriptedAnswer, ...]:
    """One answer, or several in turn."""
    if not isinstance(value.written, list):
        return (_answer(value),)
    if not value.written:
        raise value.refuse("an answer or several", "NS103")
    return tuple(_answer(each) for each in value.written)


def _answers(value: Value) -> dict[str, tuple[ScriptedAnswer, ...]]:
    return members(value, r"/[!-~]*|\*", "an address such as /eu-eur/, or *", "NS113", _turns)


# -- requests and purges -----------------------------------------------------------------------------------------------

_COOKIE = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"

REQUEST_FIELDS: tuple[Field[Any], ...] = (
    Field("url", kind(url), "address", "required", "as it is sent, with its query"),
    Field("method", METHOD, "method", "`GET`", "its method"),
    Field("country", COUNTRY, "two capital letters", "unknown", "where the viewer is"),
    Field("client", kind(address), "IP address", f"`{SOMEWHERE}`", "the viewer's address, which a throttle counts"),
    Field("headers", kind(header_fields), "mapping", "none", "its fields; `Host` is `shop.example` unless written"),
    Field(
        "cookies",
        kind(lambda value: members(value, _COOKIE, "the name of a cookie", "NS111", field_value)),
        "mapping",
        "none",
        "`Cookie`",
    ),
    Field("body", kind(plain_text), "text", "none", "what it sends"),
    Field(
        "times",
        whole_number(1, MAX_CROWD, f"a number from 1 to {MAX_CROWD:,}", "NS118"),
        "number",
        "`1`",
        "so many viewers ask at the same moment; every one of them must get what is expected",
    ),
)


def _request(value: Value) -> Asked:
    if isinstance(value.written, str):
        method, _, target = value.written.rpartition(" ")
        if method and re.fullmatch("[A-Z][A-Z-]{0,19}", method) is None:
            raise value.refuse("an address, or a method and an address: POST /eu-eur/cart", "NS109")
        return Asked(value.place, value.path, url(_part(value, target)), method or "GET")
    value.fields("an address, or a mapping with url")
    only(value, REQUEST_FIELDS)
    said: dict[str, Any] = {each.name: each.of(value, None) for each in REQUEST_FIELDS}
    fields = list(said["headers"] or ())
    if said["cookies"]:
        fields.append(("cookie", "; ".join(f"{name}={text}" for name, text in said["cookies"].items())))
    return Asked(
        value.place,
        value.path,
        said["url"] or "/",
        said["method"] or "GET",
        said["country"] or UNKNOWN_COUNTRY,
        said["client"] or SOMEWHERE,
        tuple(fields),
        said["body"] or "",
        said["times"] or 1,
    )


def _part(value: Value, text: str) -> Value:
    """`value` as if only `text` stood there."""
    return Value(value.place, value.path, text, value.faults, value.quoted)


_PURGE_KIND = choice(PurgeKind, ORDERED_KINDS)
PURGE_FIELDS: tuple[Field[Any], ...] = (
    Field("tags", TAGS, "list of tags", "required", 'what it names; `"*"` is everything'),
    Field("kind", _PURGE_KIND, "`hard`, `soft`", "`hard`", "soft: still shown while it is refreshed"),
)


def _purge(value: Value) -> Purge:
    value.fields("a mapping with tags")
    only(value, PURGE_FIELDS)
    tags, purge_kind = (each.of(value, None) for each in PURGE_FIELDS)
    return Purge(tags or (), purge_kind or PurgeKind.HARD)


# -- steps and scenarios -----------------------------------------------------------------------------------------------


def _origins(value: Value) -> dict[str, Power]:
    """By name; under the empty name for all of them."""
    if isinstance(value.written, dict):
        return members(value, NAME, "the name of an origin", "NS124", choice(Power).read)
    return {"": choice(Power).read(value)}


def _mapping(value: Value) -> Value:
    value.fields()
    return value


ANSWERS_FIELD: Field[Any] = Field(
    "answers",
    kind(_answers),
    "address: answer, or a list of them",
    "404 for everything",
    "what the origin says; an address with its query comes before one without, `*` is every other. Of a list each"
    " request gets the next, and the last one stays",
)
SCENARIOS_FIELD: Field[Any] = Field(
    "scenarios", kind(lambda value: value.fields("a mapping from id to scenario")), "id: scenario", "required",
    "each begins anew: an empty store, the lease held, the purge log at 1.1",
)  # fmt: skip
FILE_FIELDS: tuple[Field[Any], ...] = (ANSWERS_FIELD, SCENARIOS_FIELD)

SCENARIO_FIELDS: tuple[Field[Any], ...] = (
    Field("about", kind(plain_text), "text", "none", "one sentence for whoever reads the report"),
    ANSWERS_FIELD,
    Field(
        "steps", kind(lambda value: value.items("a list of steps")), "list", "required", "in the order of their time"
    ),
)

STEP_FIELDS: tuple[Field[Any], ...] = (
    Field("at", MOMENT, "duration", "as the step before", "when, from the beginning; `0s` for the first"),
    Field("id", STEP_ID, "name", "none", "what later steps call it in `same_key_as` and `other_key_than`"),
    Field("answers", kind(_answers), "as above", "unchanged", "what the origin says from now on, address by address"),
    Field(
        "origin",
        kind(_origins),
        "`up`, `down`, or `{NAME: down}`",
        "unchanged",
        "`down`: refuses connections and hangs up on those there are; by name where there are several origins",
    ),
    Field(
        "lease",
        choice(LeaseTurn),
        "`lapses`, `renewed`",
        "unchanged",
        "`lapses`: the edge has not heard from the purge log for two seconds, nor does it until `renewed`",
    ),
    Field("purge", kind(_purge), "mapping", "none", "the next entry of the purge log"),
    Field(
        "request", kind(_request), "address, or mapping", "none", "what a viewer asks for: `/eu-eur/`, `POST /market`"
    ),
    Field("expect", kind(_mapping), "mapping", "nothing", "what must come of the request"),
)


class _Reader:
    """Of one file, for one set of policies."""

    def __init__(self, path: Path, policies: PolicySet) -> None:
        self._path = path
        self._policies = policies

    def scenario(self, name: str, place: Place, value: Value, shared: Answers) -> Scenario:
        """Raises Refused when it is no mapping."""
        value.fields("a scenario: a mapping with steps")
        only(value, SCENARIO_FIELDS)
        about, answers, steps = (each.of(value, None) for each in SCENARIO_FIELDS)
        read: list[Step] = []
        for each in steps or ():
            with suppress(Refused):
                read.append(self._step(each, read))
        if steps is not None and not value.faults and not any(step.checks for step in read):
            what = "nothing is expected, so that it could not fail"
            value.faults.append(Fault(place, value.path, what, "NS102", "Add expect to a step."))
        return Scenario(self._path, name, about or "", place, {**shared, **(answers or {})}, tuple(read))

    def _step(self, value: Value, before: Sequence[Step]) -> Step:
        value.fields("a step: a mapping with at, request and expect")
        only(value, STEP_FIELDS)
        said: dict[str, Any] = {each.name: each.of(value, None) for each in STEP_FIELDS}
        earliest = before[-1].at_s if before else 0.0
        at_s = earliest if said["at"] is None else said["at"]
        if at_s < earliest:
            written = value.fields()["at"][1]
            what = f"{written.shown}, earlier than the step before it"
            written.fault(what, "NS118", "Put the steps in the order of their time.")
        if at_s > LONGEST_S:
            value.fields()["at"][1].fault("later than ten years, 3650d", "NS118", "Write an earlier time.")
        ids = [step.id for step in before if step.id]
        if said["id"] in ids:
            value.fields()["id"][1].fault(f"id {said['id']} a second time", "NS302", "Give each step its own id.")
        origins = said["origin"] or {}
        known = [origin.name for origin in self._policies.origins.all]
        for origin in origins:
            if origin and origin not in known:
                named = value.fields()["origin"][1].fields()[origin][1]
                what = f"an unknown origin, {origin}{did_you_mean(origin, known)}"
                named.fault(what, "NS304", f"Write {closest(origin, known) or known[0]}.")
        checks: Iterable[Check] = ()
        if said["expect"] is not None:
            if said["request"] is None and "request" not in value.fields():
                value.fields()["expect"][1].fault("expect without a request", "NS102", "Add request to the step.")
            checks = read_expectations(said["expect"], self._policies, ids)
        return Step(
            at_s,
            said["id"] or "",
            said["answers"] or {},
            {name: power for origin, power in origins.items() for name in ([origin] if origin else known)},
            said["lease"],
            said["purge"],
            said["request"],
            tuple(checks),
        )
