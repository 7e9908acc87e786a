"""What our gateway does not pass, and why, by the id of the case. What passes after all must leave this table."""

from __future__ import annotations

KNOWN: dict[str, str] = {}
