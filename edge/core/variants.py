"""Vary: what tells the variants under one key apart (RFC 9111 §4.1), and how that reaches the origin.

What requests share an answer by is what the origin gets to see of them: a field is compared in the very spelling in
which it is forwarded, and one that is not forwarded is missing, whatever the viewer sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from cache_policies.fields import MIN_VERSION_FIELD
from edge.core.http import Headers, list_members, one_spelling
from edge.core.policy import ALL, Auth, CachePolicy

AUTHORIZATION_FIELD = "authorization"
CONDITIONS = frozenset({"if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "range"})
"""A viewer's own conditions, and the part it wants: where the answer is to be stored, the whole is asked for, and these
are held against it on delivery."""
NEVER_FORWARDED = frozenset({"content-length", "expect", "forwarded", "host", "max-forwards", "via", MIN_VERSION_FIELD})
"""Written by the edge itself, or no business of the origin's; so is what starts with one of the next."""
NEVER_FORWARDED_PREFIXES = ("nearshelf-", "x-forwarded-")

PREFERENCES = frozenset({"accept-charset", "accept-encoding", "accept-language"})
"""Lists of tokens with weights (RFC 9110 §12.5)."""
_IN_ORDER = "accept-language"
"""Where many origins take the order for a rank among equal weights (RFC 9110 §12.5.4)."""
_CREDENTIALS = frozenset({AUTHORIZATION_FIELD, "cookie"})
_LONG = 128
"""Characters of a value that is kept as it is."""
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
_PREFERENCE = re.compile(r"([!#$%&'*+.^_`|~0-9a-z-]+)(?:[ \t]*;[ \t]*q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?")


def forwards(name: str, policy: CachePolicy) -> bool:
    """Whether a viewer's field reaches the origin on a route that is stored, when the answer may be kept."""
    if name == AUTHORIZATION_FIELD:
        return policy.auth is not Auth.NONE
    if policy.request_fields != ALL:
        return name in policy.request_fields
    if name == "accept-encoding" and policy.compress:
        return False
    return name not in CONDITIONS and may_pass(name)


def may_pass(name: str) -> bool:
    """Whether an end-to-end field is a viewer's to send at all, where every field is forwarded."""
    return name not in NEVER_FORWARDED and not name.startswith(NEVER_FORWARDED_PREFIXES)


def spelling(headers: Headers, name: str, policy: CachePolicy) -> str:
    """A field that is there, as it is forwarded and compared: equal for requests that mean the same.

    Lists of preferences by weight, in small letters and without blanks; other fields that a policy lists in small
    letters too; what passes because everything does, as it came, its lines joined.
    """
    text = headers.joined(name) or ""
    if name in PREFERENCES:
        return preferences(text, ordered=name == _IN_ORDER)
    return text if policy.vary == ALL else one_spelling(headers, name)


@lru_cache(1_024)
def preferences(text: str, *, ordered: bool) -> str:
    """One spelling for a list of weighted tokens (RFC 9110 §12.4.2): the highest weight first, `q=1` left out. Those of
    equal weight stay in their order if `ordered`. A list that cannot be read only loses its blanks and capitals."""
    weighted: list[tuple[float, str]] = []
    members = list_members(text.lower())
    for member in members:
        found = _PREFERENCE.fullmatch(member)
        if found is None:
            return ",".join(members)
        weighted.append((-float(found[2] or 1), found[1]))
    weighted.sort(key=(lambda each: each[0]) if ordered else None)
    return ",".join([name if weight == -1 else f"{name};q={-weight:g}" for weight, name in weighted])


def vary_names(headers: Headers) -> set[str]:
    """The field names a response varies on, lower case; `*` among them when that is there anywhere, or what is no name
    of a field: nobody knows what it varies on then."""
    names = {name.lower() for name in list_members(headers.joined("vary"))}
    return names if all(map(_TOKEN.fullmatch, names)) else {*names, "*"}


def varying_fields(headers: Headers, policy: CachePolicy) -> set[str]:
    """The fields that tell variants of this response apart in our store.

    Where the policy compresses, no viewer's Accept-Encoding reaches the origin: what it sends without a coding is the
    one variant, and we code it ourselves. What it has coded nevertheless is not for everybody.
    """
    names = vary_names(headers)
    return names - {"accept-encoding"} if policy.compress and "content-encoding" not in headers else names


def vary_values(request: Headers, policy: CachePolicy, names: Iterable[str]) -> tuple[tuple[str, str | None], ...]:
    """What tells variants apart: each field as the origin gets to see it; None for one that it does not get. Instead of
    credentials, and of what is long, a digest: it is kept, shown to operators and sent to the site's other workers."""
    return tuple([(name, _told_apart_by(request, name, policy)) for name in names])


def _told_apart_by(request: Headers, name: str, policy: CachePolicy) -> str | None:
    if name not in request or not forwards(name, policy):
        return None
    text = spelling(request, name, policy)
    return _digest(text) if name in _CREDENTIALS or len(text) > _LONG else text


def _digest(text: str) -> str:
    # Imported here, because a Lambda handler keeps nothing and would load OpenSSL for it.
    from hashlib import sha256

    return f"sha256:{sha256(text.encode()).hexdigest()}"
