"""What a policy says and CloudFront cannot, and what costs extra, as notes (NS5xx); what it refuses, as errors (NS55x).

The differences are those of the compiler's report (`infra.aws.differences`), the errors those that the compiler ends
with; here they get their codes and their places in the policies.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from cache_policies.reading import Fault, Place
from edge.core.policy import PolicySet
from edge.policy_checks import DEFAULT_FILE
from infra.aws.compile import CompileError, compile_policies
from infra.aws.differences import differences
from infra.aws.functions import FunctionTooLarge
from infra.aws.lint import Finding
from infra.aws.package_lambda import PackageTooLarge

_NOTE_OF_FIELD = {
    "path": "NS501",
    "methods": "NS502",
    "forward_methods": "NS502",
    "data_class": "NS503",
    "fresh": "NS504",
    "max_fresh": "NS504",
    "stale_while_revalidate": "NS505",
    "stale_if_error": "NS506",
    "keep": "NS507",
    "negative": "NS508",
    "on_lease_lapse": "NS509",
    "refuse": "NS510",
    "redirect": "NS510",
    "tags": "NS512",
    "auth": "NS513",
    "throttle": "NS514",
    "residency": "NS515",
    "origin": "NS516",
    "compress": "NS517",
    "blocked_countries": "NS518",
    "vary": "NS519",
    "statuses": "NS521",
    "request_fields": "NS524",
    "request_directives": "NS522",
    "stale_if_unreachable": "NS523",
    "max_stale_while_revalidate": "NS505",
    "max_stale_if_error": "NS506",
}
_OF_EVERY_ROUTE = "NS500"
_OTHER = "NS511"
_COSTS = "NS520"
_ERROR_OF_RULE = {"EDGE121": "NS551", "EDGE126": "NS552", "EDGE117": "NS553", "EDGE112": "NS557"}
"""Rules of the compiler's own lint (`infra.aws.lint`) that are about one route; all others are NS556."""

Places = Mapping[str, Mapping[str, Place]]


def cloudfront_faults(policies: PolicySet, places: Places) -> list[Fault]:
    """Notes on what CloudFront does otherwise and what costs extra, and errors for what it refuses."""
    return [*_differences(policies, places), *_compiled(policies, places)]


def note_code(field: str) -> str:
    """The code of a difference in `field`, which may be followed by more: `negative 404`."""
    return _NOTE_OF_FIELD.get(field.split(" ", maxsplit=1)[0], _OTHER)


def _differences(policies: PolicySet, places: Places) -> Iterator[Fault]:
    for difference in differences(policies):
        if not difference.policy_id:
            yield Fault(Place(DEFAULT_FILE, 1, 1), "", f"{difference.field}: {difference.instead}", _OF_EVERY_ROUTE)
            continue
        name = difference.field.split(" ")[0]
        yield Fault(
            _place(policies, places, difference.policy_id, name),
            f"routes.{difference.policy_id}.{difference.field.replace(' ', '.')}",
            difference.instead,
            note_code(difference.field),
        )


def _place(policies: PolicySet, places: Places, policy_id: str, field: str) -> Place:
    """Where the field was written, else where its route begins."""
    written = places.get(policy_id, {})
    policy = policies.by_id(policy_id)
    if field in written or policy is None:
        return written.get(field, Place(DEFAULT_FILE, 1, 1))
    file, line, column = policy.where.rsplit(":", 2)
    return Place(file, int(line), int(column))


def _compiled(policies: PolicySet, places: Places) -> Iterator[Fault]:
    """What the compiler refuses, or says of the price."""
    top = Place(DEFAULT_FILE, 1, 1)
    try:
        costs = compile_policies(policies, places=places).report.costs
    except FunctionTooLarge as exc:
        yield Fault(top, "", str(exc), "NS554", "Use fewer routes or markets, or shorter paths.")
    except PackageTooLarge as exc:
        yield Fault(top, "", str(exc), "NS555", "Use fewer routes or markets.")
    except CompileError as exc:
        for finding in exc.findings:
            yield _found(finding, _ERROR_OF_RULE.get(finding.code, "NS556"), places, top)
    else:
        for finding in costs:
            yield _found(finding, _COSTS, places, top)


def _found(finding: Finding, code: str, places: Places, top: Place) -> Fault:
    """A finding of the compiler's lint at its place in the policies, else at `top`."""
    place, route = _named(finding.place, places)
    return Fault(
        place or top,
        f"routes.{route}" if route else "",
        f"{finding.what} ({finding.code}, {finding.where})",
        code,
        finding.fix[:1].upper() + finding.fix[1:] + ".",
    )


def _named(text: str, places: Places) -> tuple[Place | None, str]:
    """The place and the route in `catalog.yaml:5:3 home and 2 more`, which the compiler's lint says; None: in none."""
    found = re.match(r"(.+):([0-9]+):([0-9]+) (\S+)", text)
    if found is None:
        return None, ""
    place = Place(found[1], int(found[2]), int(found[3]))
    return next((each for each in places.get(found[4], {}).values() if each[:3] == place[:3]), place), found[4]
