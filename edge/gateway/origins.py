"""The origins that the policies name, and where they are: one pool of connections for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cache_policies.origins import Origin, Origins
from edge.gateway.origin import Deadlines, OriginPool


class OriginPools:
    """Pools by the name of their origin.

    `url` is the address of the default origin, `others` has those of all the others, by name; they stay what they are,
    whatever policies come later. `clock` gives seconds of the edge's clock.
    """

    def __init__(self, url: str, others: Mapping[str, str], origins: Origins, clock: Callable[[], float]) -> None:
        self._default = OriginPool(url, clock)
        self._pools = {name: OriginPool(address, clock) for name, address in others.items()}
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

    def status(self) -> dict[str, dict[str, Any]]:
        """What `/status` shows of each origin."""
        return {
            name: {"connections_opened": pool.opened, "left_alone": pool.breaker.is_open}
            for name, pool in ((name, self._pools[name]) for name in self._names)
        }

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()
