"""Content coding at the edge: who is answered in gzip, which answers are coded, and what their fields become.

A response is stored once, as the origin sent it; its coded copy stands beside it and shares its key, its lifetimes and
its tags. Brotli is CloudFront's alone: the standard library has no coder for it.
"""

from __future__ import annotations

import re
import zlib

from edge.core.http import Headers, is_strong
from edge.core.policy import CachePolicy

LEVEL = 6
"""zlib's own default: a 60 kB page takes about a millisecond, and a higher level saves a hundredth."""
MIN_OCTETS = 1_000
MAX_OCTETS = 10_000_000
"""The sizes, first and last included, that CloudFront compresses as well."""
MAX_ACCEPT_ENCODING = 1_000
"""Characters of Accept-Encoding that are read: a browser's has thirty, and reading costs time on every hit."""

_GZIP = 16 + zlib.MAX_WBITS
"""`wbits` for the gzip format with the largest window; without a file name and a time, so equal bodies give equal
copies."""

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


def accepts_gzip(accept_encoding: str | None) -> bool:
    """Whether a viewer with this Accept-Encoding (all lines joined) is answered in gzip (RFC 9110 §12.5.3).

    Without the field nobody asked for a coding; one of more than MAX_ACCEPT_ENCODING characters counts as none.
    `x-gzip` is gzip (§8.4.1.3), `*` stands for each coding that is not named. Not where gzip has `q=0`, nor where
    identity is named with a higher weight. A member that cannot be read does not count. A viewer who wants neither gets
    identity: the answer without a coding is what a server falls back on.
    """
    if accept_encoding is None or len(accept_encoding) > MAX_ACCEPT_ENCODING:
        return False
    weights: dict[str, float] = {}
    for member in accept_encoding.lower().split(","):
        read = _CODING.fullmatch(member)
        if read is not None:
            name = "gzip" if read[1] == "x-gzip" else read[1]
            # Of two weights for one coding the lower: who names it with q=0 has a reason.
            weights[name] = min(float(read[2] or 1), weights.get(name, 1.0))
    gzip = weights.get("gzip", weights.get("*", 0.0))
    return gzip > 0 and gzip >= weights.get("identity", 0.0)


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


def coded(body: bytes) -> bytes:
    """`body` in gzip; empty when that is not shorter. Some 17 ns an octet of HTML."""
    copy = zlib.compress(body, LEVEL, _GZIP)
    return copy if len(copy) < len(body) else b""


def chosen_by_coding(headers: Headers) -> Headers:
    """The fields of a response that has a coded form, whichever of the two is sent: Vary names Accept-Encoding."""
    vary = headers.joined("vary")
    if vary is None:
        return headers.with_(("vary", "Accept-Encoding"))
    named = {member.strip(" \t").lower() for member in vary.split(",")}
    return headers if named & {"*", "accept-encoding"} else headers.with_(("vary", f"{vary}, Accept-Encoding"))


def of_the_coded(headers: Headers) -> Headers:
    """The fields of the coded form: Content-Encoding, and the entity tag weak.

    Two byte sequences may share a weak tag and never a strong one (RFC 9110 §8.8.3.3). Content-Length, Vary
    (`chosen_by_coding`) and what does not travel are the delivery's business. Accept-Ranges and digests of the
    uncoded bytes are not true of the coded ones and go.
    """
    etag = headers.get("etag")
    kept = headers.without(_OF_THE_UNCODED_BYTES)
    weak = (("etag", f"W/{etag}"),) if is_strong(etag) else ()
    return kept.with_(*weak, ("content-encoding", "gzip"))


_OF_THE_UNCODED_BYTES = frozenset({"accept-ranges", "content-digest", "content-md5", "digest", "repr-digest"})
