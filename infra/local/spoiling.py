"""What a relay can do to the answers that come through it, beside letting them pass. Pure.

Each thing is one connection's: it is made when the connection is, or when the fault begins.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Protocol

LONGEST_ANSWER = 24_000
"""Bytes after which a truncated connection ends: in the head of an answer, in its body, or in a later one's. As often
between 10 and 100 as between 1,000 and 10,000: answers to questions are short, and pages long."""
HIGHEST_SLOWNESS_MS = 600_000


class Spoiler(Protocol):
    """Changes what one connection is told."""

    def take(self, data: bytes) -> tuple[bytes, bool]:
        """What becomes of `data`, and whether the connection ends after it."""
        ...


class Garbage:
    """As many bytes as came, none of which mean anything."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def take(self, data: bytes) -> tuple[bytes, bool]:
        return self._rng.randbytes(len(data)), False


class Truncation:
    """What came, up to a number of bytes; then the end, in good order."""

    def __init__(self, rng: random.Random) -> None:
        self._left = round(LONGEST_ANSWER ** rng.random())

    def take(self, data: bytes) -> tuple[bytes, bool]:
        kept = data[: self._left]
        self._left -= len(kept)
        return kept, self._left == 0


@dataclass(frozen=True, slots=True)
class Slowness:
    """How much later answers come, and how many bytes of them in a second."""

    ms: float = 0.0
    bytes_per_s: int | None = None

    @classmethod
    def of(cls, command: dict[str, Any]) -> Slowness:
        """Raises ValueError that says what is wrong with the command."""
        ms, bytes_per_s = command.get("ms", 0), command.get("bytes_per_s")
        if isinstance(ms, bool) or not isinstance(ms, int | float) or not 0 <= ms <= HIGHEST_SLOWNESS_MS:
            raise ValueError(f"slow: ms is a number from 0 to {HIGHEST_SLOWNESS_MS}, not {ms!r}")
        if bytes_per_s is not None and (
            isinstance(bytes_per_s, bool) or not isinstance(bytes_per_s, int) or bytes_per_s < 1
        ):
            raise ValueError(f"slow: bytes_per_s is a whole number from 1, not {bytes_per_s!r}")
        if not ms and bytes_per_s is None:
            raise ValueError("slow: by how much? ms, bytes_per_s or both")
        return cls(float(ms), bytes_per_s)

    def __str__(self) -> str:
        parts = [f"by {self.ms:g} ms"] if self.ms else []
        parts += [f"to {self.bytes_per_s} bytes a second"] if self.bytes_per_s is not None else []
        return " and ".join(parts)


def seed_of(command: dict[str, Any]) -> int:
    """Of `garble` and `truncate`. Raises ValueError that says what is wrong with the command."""
    seed = command.get("seed", 0)
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise ValueError(f"{command['do']}: seed is a whole number, not {seed!r}")
    return seed


def spoiler(how: str, seed: int, number: int) -> Spoiler:
    """For the connection with this number, under the fault `garble` or `truncate` of this seed."""
    rng = random.Random(f"{how} {seed} {number}")
    return Garbage(rng) if how == "garble" else Truncation(rng)
