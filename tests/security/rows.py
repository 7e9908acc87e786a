"""All rows, in the order of the table."""

from __future__ import annotations

from tests.security import handling, leaking, poisoning, smuggling
from tests.security.lab import Row

_FOUND: dict[str, Row] = {**poisoning.ROWS, **smuggling.ROWS, **leaking.ROWS, **handling.ROWS}
# The log is read at the end, when everything that happened stands in it.
ROWS: dict[str, Row] = {
    name: _FOUND[name] for name in sorted(_FOUND, key=lambda name: (name == "19", int(name.strip("b"))))
}
"""By the number of the row; `6b`: the sixth, the other way round."""
