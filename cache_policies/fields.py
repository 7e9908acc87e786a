"""Names of the fields that edge and origin say to each other (docs/wire.md), in lower case."""

from __future__ import annotations

EDGE_KEY_FIELD = "nearshelf-edge-key"
MIN_VERSION_FIELD = "min-catalog-version"
MIN_VERSION_HEAD = "head"
"""Value of Min-Catalog-Version: at least the head of the log as the primary has it when the request arrives."""
VERSION_FIELD = "catalog-version"
TAGS_FIELD = "cache-tag"
REFUSED_FIELD = "nearshelf-refused"
REFUSED_EDGE_KEY = "edge-key"
"""Value of Nearshelf-Refused on the origin's 403 to a wrong edge key: the edge is at fault, not its viewer."""
HARD_END_FIELD = "nearshelf-expires-at"
"""Epoch seconds past which the body is neither fresh nor stale."""
