"""What `nearshelf up` says while policies change under a running shop: once for all edge workers, when they agree."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from cache_policies.folder import Looks, looks_of

LOOK_EVERY_S = 0.5
PATIENCE_S = 10.0
"""How long after a change of the files the workers are asked. They look twice a second, and are busy at times."""


class Said(NamedTuple):
    """What one worker says of its policies (`/status`)."""

    digest: str
    refused: tuple[str, ...]


class PolicyNews:
    """Watches `folder`, which costs a few system calls; asks the workers only for a while after it has changed.

    `ask` gives the word of each worker that answers, by its name. `took` and `refused` are told what to say: the
    former which policies are in force, the latter besides why those in the files are not. `late` is told which workers
    are not like the others when time is up.
    """

    def __init__(
        self,
        folder: Path,
        ask: Callable[[], Awaitable[Mapping[str, Said]]],
        *,
        took: Callable[[str], None],
        refused: Callable[[str, tuple[str, ...]], None],
        late: Callable[[list[str]], None],
        clock: Callable[[], float],
    ) -> None:
        self._folder = folder
        self._ask = ask
        self._took = took
        self._refused = refused
        self._late = late
        self._clock = clock
        self._looks: Looks = looks_of(folder)
        self._known: Said | None = None
        """What was said last, or in force at the start."""
        self._until: float | None = None
        """While the workers are asked."""

    async def begin(self) -> None:
        """Note what is in force, once all workers answer and before anybody is told that they do."""
        self._known = _agreed(await self._ask())

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            await self.look()

    async def look(self) -> None:
        """Look at the files once, and ask the workers if they changed a while ago."""
        looks = looks_of(self._folder)
        if looks != self._looks:
            self._looks, self._until = looks, self._clock() + PATIENCE_S
        if self._until is None:
            return
        said = await self._ask()
        agreed = _agreed(said)
        if agreed is not None and agreed != self._known:
            self._known = agreed
            if agreed.refused:
                self._refused(agreed.digest, agreed.refused)
            else:
                self._took(agreed.digest)
        if self._clock() >= self._until:
            self._until = None
            if said and agreed is None:
                words = list(said.values())
                most = max(words, key=words.count)
                self._late(sorted(name for name, word in said.items() if word != most))


def _agreed(said: Mapping[str, Said]) -> Said | None:
    """What all of them say; None when they differ, or nobody says anything."""
    words = set(said.values())
    return words.pop() if len(words) == 1 else None
