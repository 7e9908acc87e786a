"""origins.yaml -> Origins: who may be asked for what. The file is optional; without it there is one origin, `shop`."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

from cache_policies.kinds import (
    JURISDICTION,
    NAME,
    ORIGIN_NAME,
    TIMEOUT,
    Field,
    Kind,
    described,
    listed,
    meant_name,
    only,
    whole,
)
from cache_policies.origins import Origin, Origins
from cache_policies.reading import Fault, Refused, Value

ORIGINS_FILE = "origins.yaml"

ORIGIN_FIELDS: tuple[Field[Any], ...] = (
    Field(
        "jurisdictions",
        listed(JURISDICTION, "names such as eu"),
        "list of names",
        "`[]`",
        "whose personal data may be sent here, as markets name them; what `residency: route` looks at",
    ),
    Field(
        "reads_fail_over_to",
        ORIGIN_NAME,
        "name of an origin",
        "none",
        "where GET and HEAD go when this one is unreachable or answers 500, 502, 503 or 504; writes never fail over",
        ("fail_over_to", "failover", "failover_to", "fallback", "backup"),
    ),
    Field(
        "connect_timeout",
        TIMEOUT,
        "duration, `1s` or more",
        "`2s`",
        "how long connecting may take",
        ("connection_timeout",),
    ),
    Field(
        "response_timeout",
        TIMEOUT,
        "duration, `1s` or more",
        "`5s`",
        "how long the head of the response may take",
        ("read_timeout", "timeout"),
    ),
)


def _origins(value: Value) -> tuple[Origin, ...]:
    found: list[Origin] = []
    for name, (place, entry) in value.fields("a mapping from name to origin").items():
        if re.fullmatch(NAME, name) is None:
            what = f"name {name}, expected small letters, digits and hyphens, such as shop"
            value.faults.append(Fault(place, entry.path, what, "NS124", f"Call it {meant_name(name)}."))
        with suppress(Refused):
            found.append(_read_origin(name, entry))
    return tuple(found)


def _read_origin(name: str, value: Value) -> Origin:
    value.fields("a mapping from field to value")
    only(value, ORIGIN_FIELDS)
    default = Origin(name)
    known = (default.jurisdictions, default.reads_fail_over_to, default.connect_timeout_s, default.response_timeout_s)
    return Origin(name, *(each.of(value, otherwise) for each, otherwise in zip(ORIGIN_FIELDS, known, strict=True)))


ORIGINS_FIELDS: tuple[Field[Any], ...] = (
    Field("default", ORIGIN_NAME, "name of an origin", "required", "for routes that name none"),
    Field(
        "origins",
        Kind(
            _origins,
            {"type": "object", "propertyNames": whole(NAME), "additionalProperties": described(ORIGIN_FIELDS)},
        ),
        "name: origin",
        "required",
        "every origin, by its name; where they are is said to each edge (`NEARSHELF_ORIGINS`), not here",
    ),
)


def read_origins(document: Value) -> Origins | None:
    """The origins that `origins.yaml` says; None, with the faults noted, when anything is wrong with them."""
    before = len(document.faults)
    only(document, ORIGINS_FIELDS)
    default, origins = (each.of(document, None) for each in ORIGINS_FIELDS)
    entries = document.fields()["origins"][1].written if "origins" in document.fields() else None
    if default is not None and isinstance(entries, dict) and default not in entries:
        at, written = document.fields()["default"]
        what = f"{default} is no origin here, expected one of {', '.join(entries) or 'those below origins'}"
        document.faults.append(Fault(at, written.path, what, "NS134", "Write the name of an origin below."))
    return None if len(document.faults) > before else Origins(origins, default)
