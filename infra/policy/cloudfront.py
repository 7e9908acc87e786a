"""What a policy says and CloudFront cannot, as notes (NS5xx), and what it would refuse, as errors (NS55x).

The differences themselves are `infra.aws.differences`, which also makes the compiler's report; here they get
their code and the place in the policy. Limits are AWS's (docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/
cloudfront-limits.html, DownloadDistValuesCacheBehavior.html, adding-cloudfront-headers.html).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from cache_policies.reading import Fault, Place
from edge.core.policy import Auth, CachePolicy, PolicySet
from edge.policy_checks import DEFAULT_FILE
from infra.aws.compile import CompileError, compile_policies
from infra.aws.differences import differences
from infra.aws.functions import FunctionTooLarge
from infra.aws.lint import MAX_NAMES, NOT_IN_A_CACHE_KEY
from infra.aws.package_lambda import PackageTooLarge
from infra.aws.templates.edge import path_pattern

MAX_PATTERN_CHARACTERS = 255
_NOT_IN_A_PATTERN = re.compile(r"[^A-Za-z0-9_.*$/~\"'@:+&?-]")
_KEYED_ALWAYS = 2
"""Headers of every key: the generation, and the name of the shop."""

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
}
_OF_EVERY_ROUTE = "NS500"
_OTHER = "NS511"

Places = Mapping[str, Mapping[str, Place]]


def cloudfront_faults(policies: PolicySet, places: Places) -> list[Fault]:
    """Notes on what CloudFront does otherwise, and errors for what it refuses."""
    return [*_differences(policies, places), *_refused(policies, places)]


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


def _refused(policies: PolicySet, places: Places) -> Iterator[Fault]:
    own = list(_refused_routes(policies, places))
    yield from own
    if own:
        # The compiler would only say the same again, without the place.
        return
    top = Place(DEFAULT_FILE, 1, 1)
    try:
        compile_policies(policies)
    except FunctionTooLarge as exc:
        yield Fault(top, "", str(exc), "NS554", "Use fewer routes or markets, or shorter paths.")
    except PackageTooLarge as exc:
        yield Fault(top, "", str(exc), "NS555", "Use fewer routes or markets.")
    except CompileError as exc:
        for finding in exc.findings:
            fix = finding.fix[:1].upper() + finding.fix[1:] + "."
            yield Fault(top, "", f"{finding.where}: {finding.what} ({finding.code})", "NS556", fix)


def _refused_routes(policies: PolicySet, places: Places) -> Iterator[Fault]:
    for policy in policies.policies:
        pattern = path_pattern(policy)
        bad = sorted(set(_NOT_IN_A_PATTERN.findall(pattern)))
        path = f"routes.{policy.id}.path"
        if bad:
            yield Fault(
                _place(policies, places, policy.id, "path"),
                path,
                f"{' '.join(bad)} cannot stand in a path pattern of CloudFront",
                "NS553",
                "Use letters, digits and - _ . $ ~ ' @ : + & in the plain parts of path.",
            )
        if len(pattern) > MAX_PATTERN_CHARACTERS:
            yield Fault(
                _place(policies, places, policy.id, "path"),
                path,
                f"{len(pattern)} characters, a path pattern of CloudFront has {MAX_PATTERN_CHARACTERS}",
                "NS553",
                "Shorten the plain parts of path.",
            )
        if policy.store:
            yield from _refused_keys(policy, _place(policies, places, policy.id, "vary"))


def _refused_keys(policy: CachePolicy, place: Place) -> Iterator[Fault]:
    field = f"routes.{policy.id}.vary"
    keyed = [name for name in policy.vary if name != "accept-encoding"]
    always = _KEYED_ALWAYS + (policy.auth is Auth.OPTIONAL)
    if len(keyed) + always > MAX_NAMES:
        yield Fault(
            place,
            field,
            f"{len(keyed)} fields and {always} that are always there, a key of CloudFront takes {MAX_NAMES} headers",
            "NS551",
            f"Vary on {MAX_NAMES - always} fields at the most.",
        )
    for name in sorted(NOT_IN_A_CACHE_KEY.intersection(keyed)):
        yield Fault(
            place,
            field,
            f"{name} cannot be part of a key of CloudFront",
            "NS552",
            f"Remove {name} from vary.",
        )
