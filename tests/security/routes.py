"""Every route of a set of policies, and for each as many addresses as are wanted that nobody has asked for yet."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from cache_policies.folder import folder_called
from edge.core.policy import CachePolicy, DataClass, PolicySet
from edge.policy_files import load_policies
from tests.security.edges import HOSTS, Kind, host_name

_HOLE = re.compile(r"\{([a-z_]+)(\.\.\.)?\}")


@dataclass(frozen=True, slots=True)
class Place:
    """An address: Host and target."""

    host: str
    target: str


@dataclass
class Route:
    """`fresh()` gives an address of it that no earlier call gave."""

    policy: CachePolicy
    markets: tuple[str, ...]
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def id(self) -> str:
        return self.policy.id

    @property
    def is_stored(self) -> bool:
        return self.policy.store

    @property
    def is_personal(self) -> bool:
        return self.policy.data_class is DataClass.PERSONAL

    @property
    def is_forwarded(self) -> bool:
        """Whether a GET for it reaches the origin."""
        return not self.policy.refuse_status and self.policy.takes("GET") and self.policy.redirect.value == "none"

    def takes(self, method: str) -> bool:
        return not self.policy.refuse_status and self.policy.takes(method) and self.is_forwarded

    def fresh(self) -> Place:
        number = next(self._numbers)
        if any(name != "market" for name, _ in _HOLE.findall(self.policy.path)):
            market = self.markets[number % len(self.markets)] if self.markets else ""
            return Place(host_name(0), _filled(self.policy.path, market, f"s{number}"))
        # No part of the path is free: another host has keys of its own.
        count = HOSTS - 1
        nth, host = divmod(number, count)
        if nth >= max(1, len(self.markets)) and self.is_stored:
            raise AssertionError(f"{self.id} has no more addresses that nobody asked for")
        name = self.markets[nth % len(self.markets)] if self.markets else ""
        return Place(host_name(1 + host), _filled(self.policy.path, name, ""))


def _filled(pattern: str, market: str, text: str) -> str:
    return _HOLE.sub(lambda hole: market if hole[1] == "market" else text, pattern)


def policies_of(kind: Kind) -> PolicySet:
    return load_policies(folder_called(kind.policies) if kind.policies else None)


def routes_of(kind: Kind) -> list[Route]:
    policies = policies_of(kind)
    markets = tuple(market.id for market in policies.markets.all)
    return [Route(policy, markets) for policy in policies.policies]
