"""Changed policies are taken while a worker runs, between two requests; what cannot be used is refused in words.

The files are looked at again and again, which costs a few system calls; they are read, in a thread, when they look
otherwise than the last time. No notification is asked for: those of network file systems and containers do not arrive.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cache_policies.codes import Severity
from cache_policies.folder import Contents, Looks, contents_of, looks_of
from edge.core.policy import PolicySet
from edge.policy_files import PolicyFiles, read_policies

logger = logging.getLogger("nearshelf.policies")

LOOK_EVERY_S = 0.5
SETTLE_S = 0.2
"""Files that look otherwise are read once more after this long, and taken only when they have not changed meanwhile: an
editor may still be writing, and a deployment copies one file after the other."""


class PolicyReload:
    """Watches one folder. `run` does so until it is cancelled.

    `in_force` are the policies that the worker started with, read from the files when they looked like `seen`. `use`
    puts others in their place, at once, or gives the reasons why it cannot. `wall` gives seconds since the epoch.
    """

    def __init__(
        self,
        folder: Path,
        in_force: PolicySet,
        seen: Looks,
        use: Callable[[PolicySet], Sequence[str]],
        wall: Callable[[], float],
        read: Callable[[Path], PolicyFiles] = read_policies,
    ) -> None:
        self.folder = folder
        self.refused: tuple[str, ...] = ()
        """Every fault of the files as they are now; empty when they are in force."""
        self._refused_at: float | None = None
        self.digest = in_force.digest
        """Of the policies in force."""
        self._loaded_at = wall()
        self._decided: Looks | None = seen
        """How the files looked when they were decided about last; None: whatever they look like, read them."""
        self._draft: Contents | None = None
        """What was in them at the last look, if that was not decided about."""
        self._use = use
        self._wall = wall
        self._read = read
        self._asked = asyncio.Event()

    def status(self) -> dict[str, Any]:
        """What `/status` shows."""
        return {
            "digest": self.digest,
            "loaded_at": _when(self._loaded_at),
            "refused": list(self.refused),
            "refused_at": None if self._refused_at is None else _when(self._refused_at),
        }

    def look_now(self) -> None:
        """Read the files although nothing about them seems to have changed: somebody asks for it."""
        self._decided = None
        self._asked.set()

    async def run(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S if self._draft is None else SETTLE_S):
                    await self._asked.wait()
            self._asked.clear()
            try:
                await self.look()
            except Exception:
                # Whatever it is, requests are answered, and the next look may go well.
                logger.exception("looking at the policies in %s failed: a fault of this program", self.folder)

    async def look(self) -> None:
        """Look at the files once. A change is decided about at the second look that finds the same in them."""
        looks = await asyncio.to_thread(looks_of, self.folder)
        if looks == self._decided:
            self._draft = None
            return
        contents = await asyncio.to_thread(contents_of, self.folder)
        if contents != self._draft:
            self._draft = contents
            return
        found = await asyncio.to_thread(self._read, self.folder)
        if await asyncio.to_thread(contents_of, self.folder) != contents:
            self._draft = None
            return
        self._decided, self._draft = looks, None
        self._decide(found)

    def _decide(self, found: PolicyFiles) -> None:
        """Take what was read, or say why not. There is no await in here: a request sees the old or the new ones."""
        if found.policies is None:
            self._refuse([str(fault) for fault in found.faults if fault.severity is Severity.ERROR])
            return
        before = self.digest
        reasons = self._use(found.policies)
        if reasons:
            self._refuse(reasons)
            return
        self.digest, self._loaded_at = found.policies.digest, self._wall()
        if self.digest != before:
            logger.info("policies %s of %s are in force, in place of %s", self.digest, self.folder, before)
        elif self.refused:
            logger.info("policies %s of %s are in force, as before", self.digest, self.folder)
        self.refused, self._refused_at = (), None

    def _refuse(self, reasons: Sequence[str]) -> None:
        self.refused, self._refused_at = tuple(reasons), self._wall()
        logger.error(
            "the policies in %s cannot be used, those from before (%s) stay in force:\n  %s",
            self.folder,
            self.digest,
            "\n  ".join(self.refused),
        )


def _when(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
