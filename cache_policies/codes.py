"""Everything that can be wrong with a policy, by a code that never changes its meaning. docs/lints.md explains each.

NS0xx a file cannot be read; NS1xx a field cannot be understood; NS2xx the fields of one route contradict each other;
NS3xx routes, markets and origins contradict each other; NS4xx allowed, and probably a mistake; NS5xx CloudFront cannot
do it, and what it does instead. Errors keep an edge from starting; warnings and notes do not.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class Code(NamedTuple):
    """What a code means, in a few words."""

    title: str
    severity: Severity = Severity.ERROR


CODES: dict[str, Code] = {
    "": Code("not numbered yet"),
}
