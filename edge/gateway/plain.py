"""The plain request: what nearly every hit is, read by one expression.

A subset of what the complete parser takes (`server.py`, llhttp), so narrow that there is nothing to be understood in
two ways: GET, an origin-form target, HTTP/1.1, one Host, fields on which no decision about a stored response depends,
no body, no end of the connection. Whatever does not match goes to the complete parser, which says what it is;
`tests/gateway/test_plain.py` holds the two against each other.
"""

from __future__ import annotations

import re

_NAMES = (
    "user-agent",
    "accept",
    "accept-language",
    "cookie",
    "referer",
    "sec-ch-ua",
    "sec-ch-ua-mobile",
    "sec-ch-ua-platform",
    "sec-fetch-dest",
    "sec-fetch-mode",
    "sec-fetch-site",
    "sec-fetch-user",
    "upgrade-insecure-requests",
    "priority",
    "dnt",
    "sec-gpc",
    "save-data",
    "origin",
    "x-forwarded-for",
    "x-requested-with",
    "via",
    "accept-charset",
    "device-memory",
    "downlink",
    "ect",
    "from",
    "keep-alive",
    "purpose",
    "rtt",
    "sec-purpose",
)
"""Those of every browser first: they are tried in this order."""

PLAIN_FIELDS = frozenset(spelt.encode() for name in (*_NAMES, "accept-encoding") for spelt in (name, name.title()))
"""Fields on which no decision about a stored response without Vary depends, as clients spell them. Any other takes the
longer way."""

_CAPITALS = {"dnt": "DNT", "sec-ch-ua": "Sec-CH-UA", "sec-gpc": "Sec-GPC"}
_SPELT = dict.fromkeys(
    spelt for form in (str.title, _CAPITALS.get, str) for name in _NAMES if (spelt := form(name)) is not None
)
_LINES = (
    # A group that has matched once must not match again: two Hosts, or two lists, are for the complete parser.
    r"[Hh]ost: (?(2)(?!))([0-9A-Za-z.:\[\]_-]++)\r\n",
    r"[Aa]ccept-[Ee]ncoding: (?(3)(?!))([\t -~]*+)\r\n",
    r"[Cc]onnection: [Kk]eep-[Aa]live\r\n",
    *(rf"{name}: [\t -~\x80-\xff]*+\r\n" for name in _SPELT),
)
"""One alternative for each line: tried by its first letter, which is faster than a list of names within one."""

read_plain = re.compile(rf"GET (/[!-~]*+) HTTP/1\.1\r\n(?:{'|'.join(_LINES)})*+\r\n".encode("latin-1")).fullmatch
"""Target, Host and Accept-Encoding (None without) of bytes that are one whole plain request; None: read them in full.
Without a Host it matches as well, with None for it: there is no site of that name."""
