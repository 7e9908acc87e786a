"""What a flight asks of the tier that the workers of its site share, before it asks the origin.

Nothing in memory answers, so that another worker is asked first: whether it has the response, or is fetching it. What
comes from there is held against this worker's floors, its lease, its policies and the viewer's request like what this
worker stored itself. Never past the lease: what another worker fetched then may be older than this viewer's arrival
(docs/freshness.md, rule 5).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from cache_policies.positions import ZERO, Position
from edge.core.floors import Floors, Lease
from edge.core.key import CacheKey
from edge.core.policy import ALL
from edge.core.reuse import Fresh, MustValidate, Stale, decide_reuse
from edge.core.stored import StoredResponse
from edge.core.variants import vary_values
from edge.gateway.landings import Errand
from edge.store.base import Claim, Tier


class Found(NamedTuple):
    """What the tier gave: a response to answer with, else one to validate, if any."""

    fresh: StoredResponse | None = None
    validate: StoredResponse | None = None
    claim: Claim | None = None
    """Of a flight of the site: where it is ours, it is to be released whatever happens."""
    vary: tuple[str, ...] = ()
    """Fields that the answers there vary on."""


class Regional:
    """One worker's dealings with `tier`. `clock` gives seconds of the edge's clock.

    `overtaken` says of a response that this worker knows of a write which came after it: another worker may have been
    about to keep it when the write dropped its key.

    `applied`, where the purge log is the site's own: what this worker has applied. Nothing in the tier can be newer
    but what another worker stored in the moment since, or what no worker of this log has stored: a purge would not
    reach that until the log has come as far.
    """

    def __init__(
        self,
        tier: Tier,
        floors: Floors,
        lease: Lease,
        clock: Callable[[], float],
        overtaken: Callable[[StoredResponse], bool],
        applied: Callable[[], Position | None] | None = None,
    ) -> None:
        self._tier = tier
        self._floors = floors
        self._lease = lease
        self._clock = clock
        self._overtaken = overtaken
        self._applied = applied

    def may_answer(self, errand: Errand) -> bool:
        """Whether it is asked at all."""
        return not errand.demand_head and self._lease.held(self._clock())

    async def look(self, errand: Errand) -> Found:
        """What the tier has for `errand` now. A fresh response is not below the floors at the moment this returns."""
        candidates = await self._tier.find(errand.key, errand.match.policy.version)
        vary = tuple([name for name, _ in candidates[0].vary]) if candidates else ()
        return self._judged(errand, candidates)._replace(vary=vary)

    async def claim(self, errand: Errand, seen: Found) -> Found:
        """The same with the claim of a flight, by a worker that can ask the origin at once: no claim is held while its
        worker waits for its turn, and a worker that dies holds its claim for no longer than others wait for it.

        `seen`: what was found before. Nothing fresh, and no claim of ours: another worker flies, see `landing`.
        """
        claim = await self._tier.claim(_name_of(errand, seen.vary), errand.match.policy.collapse_wait_s)
        if not claim.mine:
            return seen._replace(fresh=None, claim=claim)
        try:
            # Once more: another worker may have landed, and released, between the first look and this claim.
            found = await self.look(errand)
        except BaseException:
            claim.release()
            raise
        if found.fresh is None:
            return found._replace(claim=claim)
        claim.release()
        return found

    async def landing(self, errand: Errand, claim: Claim) -> Found:
        """What the tier has when the worker that flies has landed, or was waited for long enough."""
        await claim.landed(errand.match.policy.collapse_wait_s)
        return await self.look(errand)

    def keep(self, stored: StoredResponse) -> None:
        self._tier.keep(stored)

    def drop(self, key: CacheKey) -> None:
        self._tier.drop(key)

    def _judged(self, errand: Errand, candidates: Sequence[StoredResponse]) -> Found:
        candidates = [stored for stored in candidates if not self._overtaken(stored)]
        if self._applied is not None:
            head = self._applied() or ZERO
            candidates = [stored for stored in candidates if stored.position <= head]
        match decide_reuse(errand.request, candidates, errand.match.policy, self._floors, self._lease, self._clock()):
            case Fresh(stored):
                return Found(fresh=stored)
            case Stale(stored) | MustValidate(stored):
                return Found(validate=stored)
            case _:
                return Found()


def _name_of(errand: Errand, varies_on: tuple[str, ...]) -> bytes:
    """What every worker of the site calls this flight: as `Flights` tells variants apart."""
    policy = errand.match.policy
    names = varies_on if policy.vary == ALL else policy.vary
    return repr((tuple(errand.key), policy.version, vary_values(errand.request.headers, policy, names))).encode()
