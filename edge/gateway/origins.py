"""The origins that the policies name, and where they are: one pool of connections for each."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from cache_policies.origins import Origin, Origins
from edge.gateway.origin import Caps, Deadlines, OriginPool


class OriginPools:
    """Pools by the name of their origin, so that one that is slow or gone takes nothing from the others.

    `urls` are the addresses of the default origin, `others` has those of all the others, by name; they stay what they
    are, whatever policies come later. `clock` gives seconds of the edge's clock. `health` is the path by which every
    address is checked; empty: none is. `wired`: as in `OriginPool`.
    """

    def __init__(
        self,
        urls: Sequence[str],
        others: Mapping[str, Sequence[str]],
        origins: Origins,
        clock: Callable[[], float],
        *,
        caps: Caps | None = None,
        tls: ssl.SSLContext | None = None,
        health: str = "",
        wired: bool = True,
    ) -> None:
        make = partial(OriginPool, clock=clock, caps=caps, tls=tls, wired=wired)
        self._default = make(urls)
        self._pools = {name: make(theirs) for name, theirs in others.items()}
        self._health = health
        self.failed_over = 0
        """Reads that the first origin gave no usable answer to."""
        self.use(origins)

    def use(self, origins: Origins) -> None:
        """Keep to the timeouts of `origins` from the next request on.

        Their names are those that there are addresses for (`GatewaySettings.address_faults`). But the default one may
        have got another name: then its pool has both, the former for requests under way.
        """
        self._names = tuple(origin.name for origin in origins.all)
        self._pools[origins.default] = self._default
        for origin in origins.all:
            deadlines = Deadlines(connect_s=origin.connect_timeout_s, head_s=origin.response_timeout_s)
            self._pools[origin.name].deadlines = deadlines

    def pool(self, origin: Origin) -> OriginPool:
        return self._pools[origin.name]

    @property
    def default(self) -> OriginPool:
        return self._default

    async def watch(self) -> None:
        """Check the health of every address, for ever, where a path to ask for is set."""
        if self._health:
            await asyncio.gather(*(pool.watch(self._health) for pool in set(self._pools.values())))

    def status(self) -> dict[str, dict[str, Any]]:
        """What `/status` shows of each origin."""
        return {name: self._pools[name].status() for name in self._names}

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()
