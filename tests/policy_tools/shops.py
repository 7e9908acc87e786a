"""Policies with every field in use: those of this shop, and a club beside them."""

from __future__ import annotations

import shutil
from pathlib import Path

from cache_policies.reading import PACKAGED_POLICIES

SMALL = Path(__file__).parent / "policies"
"""A field of every kind in three files."""

SMALL_ORIGINS = {"origins": {"stories": ("http://127.0.0.1:9",)}}
"""Settings of a worker: an origin that nothing is sent to while the first one answers."""

CLUB = """\
defaults:
  forward_methods: [GET, HEAD, POST]

routes:
  club-page:
    path: /{market}/club/{name}
    fresh: 60s
    max_fresh: 600s
    stale_while_revalidate: 30s
    stale_if_error: 120s
    keep: 1h
    negative: {404: 5s, 410: 60s}
    query: [page]
    tags: ["club:{market}:{name}", "page:club"]
    auth: optional
    request_fields: [accept-language]
    vary: [accept-language]
    blocked_countries: [FR]

  club-anything:
    path: /{market}/club/{name}/anything
    forward_methods: all
    fresh: 0s
    heuristic: 10
    max_fresh: 1d
    max_stale_while_revalidate: 1m
    max_stale_if_error: 1m
    stale_if_unreachable: 1h
    keep: 0s
    negative: {}
    stale_while_revalidate: 0s
    stale_if_error: 0s
    statuses: any
    query: all
    request_fields: all
    vary: any
    request_directives: honour
    auth: shared
    blocked_countries: []

  club-account:
    path: /{market}/club/{name}/account
    data_class: personal
    auth: required

  club-friends:
    path: /{market}/club/{name}/friends
    data_class: personal
    residency: route

  club-letters:
    path: /{market}/club/{name}/letters/{rest...}
    data_class: personal
    residency: seal
"""

ORIGINS = """\
default: shop
origins:
  shop:
    jurisdictions: [eu, gb]
"""


def club_folder(folder: Path) -> Path:
    """The packaged policies with a club, a blocked country and jurisdictions."""
    folder.mkdir(exist_ok=True)
    for path in PACKAGED_POLICIES.glob("*.yaml"):
        shutil.copy(path, folder)
    (folder / "club.yaml").write_text(CLUB)
    (folder / "origins.yaml").write_text(ORIGINS)
    markets = (folder / "markets.yaml").read_text()
    (folder / "markets.yaml").write_text(markets.replace("\nmarkets:", "\nblocked: [KP]\nmarkets:", 1))
    return folder
