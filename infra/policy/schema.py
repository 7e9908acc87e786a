"""JSON Schema (draft 2020-12) of the files that people write, for editors: made from the tables that read them.

What a schema cannot say of one file is in `BEYOND_A_SCHEMA`; the rest it accepts exactly as `policy check` does, by
test. A contradiction between two fields of a route is a condition on what the route and the file's `defaults` say
together: `defaults` supplies some of the fields, the route the others, and each such split is a clause of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from cache_policies.codes import CODES
from cache_policies.kinds import Field, described, field_schema
from cache_policies.markets import MARKETS_FIELDS
from cache_policies.origins_file import ORIGINS_FIELDS
from cache_policies.positions import MAX_TAGS_PER_RESPONSE
from cache_policies.reading import PACKAGED_POLICIES
from edge.policy_checks import LIFETIME_FIELDS
from edge.policy_files import POLICY_FIELDS
from edge.route_fields import ROUTE_FIELDS

DIALECT = "https://json-schema.org/draft/2020-12/schema"
PUBLISHED = PACKAGED_POLICIES / "schema"
"""Where the schemas lie that the first lines of the packaged files name."""

BEYOND_A_SCHEMA = {
    "NS131": "that the default market is one of the markets",
    "NS132": "that no country is led to two markets",
    "NS133": "that a market's own country is one of its countries",
    "NS134": "that the default origin is one of the origins",
    "NS204": "that `max_fresh` is at least `fresh`, and so for the stale windows",
    "NS209": "that each of `request_fields` is in `vary`, on a stored route",
    "NS217": "that the names in `tags` are captured by `path`",
    "NS219": "that a tag without its braces has at most 256 characters",
    "NS306": "that `reads_fail_over_to` names another origin",
    "NS307": "that no origin fails over to itself",
    "NS308": "that no market's own country is blocked",
}
"""Errors of one file alone that JSON Schema has no words for."""

Schema = dict[str, Any]
_NEVER: Schema = {"not": {}}
_FALSE: Schema = {"const": False}
_TRUE: Schema = {"const": True}


@dataclass(frozen=True, slots=True)
class _Says:
    """A route, or its file's `defaults` where the route is silent, says something of a field."""

    field: str
    what: Mapping[str, Any]
    """Schema of the value."""
    or_silent: bool = False
    """Whether saying nothing is the same."""


@dataclass(frozen=True, slots=True)
class _Writes:
    """Any of the fields is written, in the route or in the `defaults` of its file."""

    fields: tuple[str, ...]


_Condition = _Says | _Writes


def _passing(name: str) -> str:
    return rf"/\{{(?:{name})(?:\.\.\.)?\}}(?:/|$)"


def _other_than(*values: str) -> Schema:
    return {"not": {"enum": list(values)}}


_PERSONAL = _Says("data_class", {"const": "personal"})
_UNSTORED = _Says("store", _FALSE)
_STORED = (_Says("store", _TRUE, or_silent=True), _Says("data_class", {"const": "public"}, or_silent=True))
_LIFETIME = _Writes(LIFETIME_FIELDS)
_A_TIME: Schema = {"pattern": "^[1-9]"}
_NO_TIME: Schema = {"pattern": "^0"}
_PUBLIC_METHODS: Schema = {"items": {"enum": ["GET", "HEAD"]}}
_WITH_AUTHORIZATION: Schema = {"type": "array", "contains": {"const": "authorization"}}
_GENERATION = "generation"

CONTRADICTIONS: tuple[tuple[str, tuple[_Condition, ...]], ...] = (
    ("NS201", (_PERSONAL, _Says("store", _TRUE))),
    ("NS202", (_PERSONAL, _LIFETIME)),
    ("NS202", (_UNSTORED, _LIFETIME)),
    ("NS203", (*_STORED, _Says("fresh", _NEVER, or_silent=True))),
    ("NS205", (*_STORED, _Says("cookies", _TRUE))),
    ("NS207", (*_STORED, _Says("refuse", {"type": "integer"}))),
    ("NS208", (*_STORED, _Says("methods", {"not": _PUBLIC_METHODS}))),
    *(
        (
            "NS210",
            (
                _Says(name, _A_TIME),
                _Says("shows_price", _TRUE),
                _Says("on_lease_lapse", {"const": "fail"}, or_silent=True),
            ),
        )
        for name in ("stale_if_error", "max_stale_if_error", "stale_if_unreachable")
    ),
    (
        "NS211",
        (_Says("on_lease_lapse", {"const": "stale-marked"}), _Says("stale_if_error", _NO_TIME, or_silent=True)),
    ),
    (
        "NS212",
        (_Says("path", {"pattern": "/(?:prices|stock)(?:/|$)"}), _Says("shows_price", _FALSE, or_silent=True)),
    ),
    ("NS213", (*_STORED, _Says("redirect", {"const": "market"}))),
    ("NS213", (_Says("redirect", {"const": "market"}), _Says("refuse", {"type": "integer"}))),
    ("NS214", (*_STORED, _Says("auth", {"const": "required"}))),
    ("NS215", (*_STORED, _Says("residency", _other_than("none")))),
    (
        "NS216",
        (
            *_STORED,
            _Says("compress", _TRUE),
            _Says("vary", {"type": "array", "contains": {"const": "accept-encoding"}}),
        ),
    ),
    ("NS218", (_Says("tags", {"minItems": MAX_TAGS_PER_RESPONSE + 1}),)),
    ("NS220", (_Says(_GENERATION, _other_than("none")), _Says("path", {"not": {"pattern": _passing("market")}}))),
    (
        "NS220",
        (_Says(_GENERATION, {"const": "product"}), _Says("path", {"not": {"pattern": _passing("slug|sku")}})),
    ),
    (
        "NS220",
        (_Says(_GENERATION, {"const": "category"}), _Says("path", {"not": {"pattern": _passing("category")}})),
    ),
    ("NS221", (*_STORED, _Says("request_fields", _WITH_AUTHORIZATION))),
    ("NS221", (*_STORED, _Says("vary", _WITH_AUTHORIZATION))),
    ("NS222", (*_STORED, _Says("heuristic", {"minimum": 1}), _Says("fresh", _A_TIME))),
    ("NS223", (*_STORED, _Says("vary", {"const": "any"}), _Says("request_fields", {"type": "array"}, or_silent=True))),
    ("NS224", (_PERSONAL, _Says("auth", {"const": "shared"}))),
    ("NS224", (_UNSTORED, _Says("auth", {"const": "shared"}))),
    ("NS225", (*_STORED, _Says("request_directives", {"const": "honour"}), _Says("shows_price", _TRUE))),
)
"""What `edge.policy_checks` refuses in one route, as far as a schema can say it: code, and the conditions that hold
together."""


def _clauses() -> Iterator[Schema]:
    """For each contradiction and each split of its conditions between `defaults` and route: that no route has it."""
    for code, conditions in CONTRADICTIONS:
        for count in range(len(conditions) + 1):
            for inherited in combinations(conditions, count):
                clause = _clause(code, [each for each in conditions if each not in inherited], inherited)
                if clause is not None:
                    yield clause


def _clause(code: str, own: Sequence[_Condition], inherited: Sequence[_Condition]) -> Schema | None:
    """None where the split cannot be: `path` is never inherited, and nobody writes what never is."""
    says = [each for each in inherited if isinstance(each, _Says)]
    if any(each.field == "path" for each in says):
        return None
    if any(isinstance(each, _Says) and each.what is _NEVER for each in own):
        return None
    route = _mapping(own, {each.field for each in own if isinstance(each, _Says)})
    if says:
        silent: Schema = {"not": {"anyOf": [{"required": [each.field]} for each in says]}}
        route = {"allOf": [route, silent]} if own else silent
    refused: Schema = {"not": route, "errorMessage": f"{code}: {CODES[code].title}"}
    routes: Schema = {"properties": {"routes": {"additionalProperties": refused}}}
    if not inherited:
        return routes
    defaults = _mapping(inherited, {each.field for each in says if not each.or_silent})
    spoken = len(says) < len(inherited) or "required" in defaults
    named: Schema = {"required": ["defaults"]} if spoken else {}
    return {"if": {"properties": {"defaults": defaults}, **named}, "then": routes}


def _mapping(conditions: Sequence[_Condition], required: set[str]) -> Schema:
    """The conditions on one mapping; its fields that are `required` must be there, the others may be silent."""
    schema: Schema = {}
    says = [each for each in conditions if isinstance(each, _Says)]
    if required:
        schema["required"] = [each.field for each in says if each.field in required]
    if says:
        schema["properties"] = {each.field: dict(each.what) for each in says}
    for each in conditions:
        if isinstance(each, _Writes):
            schema["anyOf"] = [{"required": [name]} for name in each.fields]
    return schema


def _policy() -> Schema:
    return {
        **_document("policy", "A file of cache policies: routes, and what holds for all of them.", POLICY_FIELDS),
        "allOf": list(_clauses()),
        "$defs": {each.name: field_schema(each) for each in ROUTE_FIELDS},
    }


def _document(name: str, description: str, table: Sequence[Field[Any]]) -> Schema:
    return {
        "$schema": DIALECT,
        "title": f"nearshelf {name} file",
        "description": f"{description} Every field: cache_policies/README.md.",
        **described(table),
    }


def schemas() -> dict[str, Schema]:
    """The schema of each kind of file, by its name: policy, markets, origins."""
    return {
        "policy": _policy(),
        "markets": _document("markets", "Markets, and which countries are led to them.", MARKETS_FIELDS),
        "origins": _document("origins", "Origins by name: who may be asked for what.", ORIGINS_FIELDS),
    }


def text(name: str) -> str:
    """The schema as it is printed and published: what fits on a line stands on one."""
    return f"{_laid_out(schemas()[name], 0, 0)}\n"


def write_schemas(folder: Path) -> list[Path]:
    """Write every schema into `folder`, which is made where it is missing. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name in schemas():
        path = folder / f"{name}.schema.json"
        path.write_text(text(name), encoding="utf-8")
        written.append(path)
    return written


_WIDTH = 120


def _laid_out(value: Any, depth: int, before: int) -> str:
    """JSON with two spaces a level; `before`: columns taken on the first line by what stands before the value."""
    flat = json.dumps(value, ensure_ascii=False)
    if len(flat) + before + 2 * depth < _WIDTH or not isinstance(value, dict | list) or not value:
        return flat
    indent, inner = "  " * depth, "  " * (depth + 1)
    if isinstance(value, dict):
        opening, closing = "{", "}"
        lines = []
        for name, each in value.items():
            label = f"{json.dumps(name)}: "
            lines.append(label + _laid_out(each, depth + 1, len(label)))
    else:
        opening, closing = "[", "]"
        # The clauses of contradictions, each on its line: nobody reads them, and there are many.
        lines = [json.dumps(each) if depth == 1 else _laid_out(each, depth + 1, 0) for each in value]
    if isinstance(value, list) and all(isinstance(each, str | int | float) for each in value):
        return opening + "\n" + _filled(lines, inner) + "\n" + indent + closing
    return opening + "\n" + ",\n".join(inner + line for line in lines) + "\n" + indent + closing


def _filled(words: Sequence[str], indent: str) -> str:
    """Words separated by commas, as many on a line as fit."""
    lines = [indent]
    for number, word in enumerate(words):
        word_and_comma = word + ("," if number + 1 < len(words) else "")
        if len(lines[-1]) + len(word_and_comma) + 1 > _WIDTH and lines[-1] != indent:
            lines.append(indent)
        lines[-1] += (" " if lines[-1] != indent else "") + word_and_comma
    return "\n".join(lines)
