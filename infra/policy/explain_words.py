"""What `nearshelf policy explain` says of a decision: the closed vocabularies of the edge, for people."""

from __future__ import annotations

from urllib.parse import quote

from edge.core.policy import Auth, Mismatch
from edge.gateway.explain import Decision


def in_words(found: Mismatch) -> str:
    """Why a pattern did not match, for people."""
    segment = f"segment {found.segment}"
    if found.found is None:
        wanted = "a slash there" if not found.expected else found.expected
        return f"the path ends before {segment}, expected {wanted}"
    if not found.expected:
        return f"{segment} is {_shown(found.found)}, expected nothing more"
    if found.expected == "{market}":
        return f"{segment} is {_shown(found.found)}, which is no market"
    if found.expected.startswith("{"):
        return f"{segment} is empty, expected {found.expected}"
    return f"{segment} is {_shown(found.found)}, expected {found.expected}"


def _shown(segment: str) -> str:
    return segment or "empty"


PASSED = {
    "policy-never-stores": "forwarded: nothing of this route is stored",
    "unsafe-method": "forwarded: this method is not answered from the store",
    "authorization": "forwarded: what carries Authorization passes the store, both ways",
    "request-no-store": "forwarded: the request says no-store, and the route honours that",
}

NOT_STORED = {
    "personal-data": "data_class personal: never, whatever a header says",
    "policy-never-stores": "the route stores nothing",
    "method": "only answers to GET and HEAD are stored",
    "authorization": "the answer may be for one person only",
    "no-store": "the request or the answer says no-store",
}

AUTH = {
    Auth.NONE: "never reaches the origin",
    Auth.OPTIONAL: "is forwarded, and passes the store",
    Auth.SHARED: "is forwarded; the answer is for everybody where it says public, must-revalidate or s-maxage",
    Auth.REQUIRED: "without it 401",
}
"""What becomes of the field Authorization."""

FAULTS = {
    "not-a-path": "the path does not start with a slash",
    "bad-character": "a control, blank, backslash, # or a letter beyond ASCII that is not percent-encoded",
    "bad-encoding": "a % without two hexadecimal digits, or a value that is not UTF-8",
    "encoded-slash": "%2F or %5C in the path: origins disagree about what it means",
    "encoded-control": "an encoded control character",
    "dot-segment": "a segment . or ..: origins disagree about what it means",
    "empty-segment": "// in the path: origins disagree about what it means",
    "repeated-parameter": "a parameter that counts is there twice: two readers would choose differently",
}


def refusal_in_words(decision: Decision) -> str:
    if decision.reason in FAULTS:
        hint = ""
        path = decision.request.path
        if decision.reason == "bad-character" and not path.isascii():
            hint = f"; a browser sends {quote(path, safe='/%', errors='replace')}"
        return f"refused: {FAULTS[decision.reason]}{hint}"
    if decision.location:
        return f"led to {decision.location}, the home of the visitor's market"
    if decision.match is None:
        return f"no edge takes {decision.request.method}"
    policy = decision.match.policy
    match decision.status:
        case 451:
            return f"visitors from {decision.country} are not served (RFC 7725)"
        case 401:
            return "the route wants an Authorization field"
        case 504:
            return "the request takes nothing but what is stored (only-if-cached), and an empty store has nothing"
        case 204:
            return "an OPTIONS that was not to go any further (Max-Forwards: 0)"
        case 503:
            return "no origin may be sent this request"
        case 405:
            methods = ", ".join(dict.fromkeys((*policy.methods, *policy.forward_methods))) or "none"
            return f"{decision.request.method} is not for this route; methods: {methods}"
        case status:
            return f"the route is refused with {status} by its policy"
