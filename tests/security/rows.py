"""All rows, in the order of the table."""

from __future__ import annotations

from tests.security import poisoning
from tests.security.lab import Row

_FOUND: dict[str, Row] = {**poisoning.ROWS}
ROWS: dict[str, Row] = {name: _FOUND[name] for name in sorted(_FOUND, key=lambda name: (len(name), name))}
"""By the number of the row."""
