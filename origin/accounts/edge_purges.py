"""What an operator of an edge orders purged, entered into the shop's purge log. Edge key only.

The edge has made sure who asks, by its admin token; the audit list names the edge, which says from where it was asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from cache_policies.feed import PURGE_PATH, PurgeWish
from origin.accounts.purges import purge_for_edge
from origin.caching import uncached
from origin.errors import NotSignedIn
from origin.events.live import LiveState

if TYPE_CHECKING:
    from origin.shop import Shop


def routes(shop: Shop) -> list[BaseRoute]:
    """The one address that edges send purges to."""

    async def enter(request: Request) -> Response:
        if not request.state.from_edge:
            raise NotSignedIn("this address answers edges only: the edge key is missing")
        wish = PurgeWish.from_json(await request.body())
        purged = await purge_for_edge(shop, wish)
        report = await shop.observer.wait_live(purged.position, wish.wait_s)
        return uncached(
            orjson.dumps(
                {
                    "position": str(purged.position),
                    "id": purged.purge_id,
                    "kind": purged.kind.value,
                    "tags": list(purged.tags),
                    "live": report.state is LiveState.LIVE,
                    "state": report.state.value,
                    "seconds": report.elapsed_ms / 1000,
                    "workers": [
                        {
                            "edge": worker.edge,
                            "worker": worker.worker,
                            "outcome": worker.outcome.value,
                            "ms": worker.ms,
                        }
                        for worker in report.workers
                    ],
                }
            ),
            "application/json",
        )

    return [Route(PURGE_PATH, enter, methods=["POST"], name="edge-purge")]
