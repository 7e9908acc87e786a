"""Content coding at the edge: in which one a viewer is answered, which answers are coded, what their fields become.

A response is stored once, as the origin sent it; its coded copies stand beside it and share its key, its lifetimes and
its tags. Making them is the gateway's business (`edge/gateway/coder.py`): the standard library knows only gzip.
"""

from __future__ import annotations

import re

from edge.core.http import Headers, is_strong
from edge.core.policy import CachePolicy

CODINGS = ("br", "zstd", "gzip")
"""The codings that the edge makes; the first of those that a viewer likes best is taken (RFC 9659 for zstd)."""
MIN_OCTETS = 1_000
MAX_OCTETS = 10_000_000
"""The sizes, first and last included, that CloudFront compresses as well."""
MAX_ACCEPT_ENCODING = 1_000
"""Characters of Accept-Encoding that are read: a browser's has thirty, and reading costs time on every hit."""

COMPRESSIBLE_TYPES = frozenset(
    {
        "application/dash+xml",
        "application/eot",
        "application/font",
        "application/font-sfnt",
        "application/javascript",
        "application/json",
        "application/opentype",
        "application/otf",
        "application/pdf",
        "application/pkcs7-mime",
        "application/protobuf",
        "application/rss+xml",
        "application/truetype",
        "application/ttf",
        "application/vnd.apple.mpegurl",
        "application/vnd.mapbox-vector-tile",
        "application/vnd.ms-fontobject",
        "application/wasm",
        "application/x-font-opentype",
        "application/x-font-truetype",
        "application/x-font-ttf",
        "application/x-httpd-cgi",
        "application/x-javascript",
        "application/x-mpegurl",
        "application/x-opentype",
        "application/x-otf",
        "application/x-perl",
        "application/x-ttf",
        "application/xhtml+xml",
        "application/xml",
        "font/eot",
        "font/opentype",
        "font/otf",
        "font/ttf",
        "image/svg+xml",
        "text/css",
        "text/csv",
        "text/html",
        "text/javascript",
        "text/js",
        "text/plain",
        "text/richtext",
        "text/tab-separated-values",
        "text/x-component",
        "text/x-java-source",
        "text/x-script",
        "text/xml",
    }
)
"""What CloudFront compresses, so that both edges code the same answers (its guide, "Serving compressed files")."""

# A token or `*`, and its weight (RFC 9110 §5.6.2, §12.4.2); in lower case.
_CODING = re.compile(r"[ \t]*([!#$%&'*+.^_`|~0-9a-z-]+)(?:[ \t]*;[ \t]*q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?[ \t]*")


def coding_for(accept_encoding: str | None) -> str:
    """The coding in which a viewer with this Accept-Encoding (all lines joined) is answered (RFC 9110 §12.5.3).

    The one with the highest weight, the first of CODINGS among equals; empty: identity, which is what a server falls
    back on. That also without the field, because nobody asked for a coding, where identity is named with a higher
    weight, and for a field of more than MAX_ACCEPT_ENCODING characters. `x-gzip` is gzip (§8.4.1.3). `*` stands for
    each coding that is not named, and of those gzip is taken alone: who names none may not know the others. A member
    that cannot be read does not count.
    """
    if accept_encoding is None or len(accept_encoding) > MAX_ACCEPT_ENCODING:
        return ""
    weights: dict[str, float] = {}
    for member in accept_encoding.lower().split(","):
        read = _CODING.fullmatch(member)
        if read is not None:
            name = "gzip" if read[1] == "x-gzip" else read[1]
            # Of two weights for one coding the lower: who names it with q=0 has a reason.
            weights[name] = min(float(read[2] or 1), weights.get(name, 1.0))
    weights.setdefault("gzip", weights.get("*", 0.0))
    best = max(CODINGS, key=lambda coding: weights.get(coding, 0.0))
    weight = weights.get(best, 0.0)
    return best if weight > 0 and weight >= weights.get("identity", 0.0) else ""


def may_be_coded(policy: CachePolicy, status: int, headers: Headers, octets: int) -> bool:
    """Whether a response with a body of so many octets has a coded form beside its own.

    Not what carries a coding already, nor what the origin forbids to change (`no-transform`, RFC 9110 §7.7).
    """
    return (
        policy.compress
        and status == 200
        and MIN_OCTETS <= octets <= MAX_OCTETS
        and "content-encoding" not in headers
        and (headers.get("content-type") or "").partition(";")[0].strip(" \t").lower() in COMPRESSIBLE_TYPES
        and "no-transform" not in (headers.joined("cache-control") or "").lower()
    )


def chosen_by_coding(headers: Headers) -> Headers:
    """The fields of a response that has coded forms, whichever of them is sent: Vary names Accept-Encoding."""
    vary = headers.joined("vary")
    if vary is None:
        return headers.with_(("vary", "Accept-Encoding"))
    named = {member.strip(" \t").lower() for member in vary.split(",")}
    return headers if named & {"*", "accept-encoding"} else headers.with_(("vary", f"{vary}, Accept-Encoding"))


def of_the_coded(headers: Headers, coding: str) -> Headers:
    """The fields of the coded form: Content-Encoding, and the entity tag weak.

    Two byte sequences may share a weak tag and never a strong one (RFC 9110 §8.8.3.3). Content-Length, Vary
    (`chosen_by_coding`) and what does not travel are the delivery's business. Accept-Ranges and digests of the
    uncoded bytes are not true of the coded ones and go.
    """
    etag = headers.get("etag")
    kept = headers.without(_OF_THE_UNCODED_BYTES)
    weak = (("etag", f"W/{etag}"),) if is_strong(etag) else ()
    return kept.with_(*weak, ("content-encoding", coding))


_OF_THE_UNCODED_BYTES = frozenset({"accept-ranges", "content-digest", "content-md5", "digest", "repr-digest"})
