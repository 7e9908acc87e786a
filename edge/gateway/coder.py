"""Coded copies of stored responses: made once each, when the first viewer asks who takes them."""

from __future__ import annotations

import asyncio
from functools import partial

from edge.core.compression import coded
from edge.core.delivery import coded_hit_head, has_coded_form, wants_coded
from edge.core.http import Request
from edge.core.policy import CachePolicy
from edge.core.stored import StoredResponse
from edge.store.base import Store

AT_ONCE_OCTETS = 100_000
"""Larger bodies are coded in a thread, so that no other viewer waits: up to here it takes some two milliseconds."""


class Coder:
    """One worker's. The copy stands in the stored response, counts in the store's size, and goes with it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def head_of(self, stored: StoredResponse, policy: CachePolicy) -> bytes | None:
        """The rendered start of a hit from the coded copy (`delivery.coded_hit_head`); None: send the body as it is."""
        if not has_coded_form(stored, policy) or not self._has_copy(stored):
            return None
        stored.coded_hit_head = coded_hit_head(stored, policy)
        return stored.coded_hit_head

    def prepare(self, request: Request, stored: StoredResponse, policy: CachePolicy) -> None:
        """Make the copy that `deliver` sends to this viewer, if it is one for whom there can be a copy."""
        if wants_coded(request.headers, stored, policy):
            self._has_copy(stored)

    def _has_copy(self, stored: StoredResponse) -> bool:
        if stored.coded is None:
            if len(stored.body) <= AT_ONCE_OCTETS:
                self._keep(stored, coded(stored.body))
            else:
                # Nobody starts it a second time; until it is there the body goes out as it is.
                stored.coded = b""
                made = asyncio.get_running_loop().run_in_executor(None, coded, stored.body)
                made.add_done_callback(partial(self._made, stored))
        return bool(stored.coded)

    def _made(self, stored: StoredResponse, made: asyncio.Future[bytes]) -> None:
        if made.cancelled() or made.exception() is not None:
            return
        # A 304 may have freshened it meanwhile: another response by now, with the same body.
        for variant in self._store.get(stored.key):
            if variant.body is stored.body and not variant.coded:
                self._keep(variant, made.result())

    def _keep(self, stored: StoredResponse, copy: bytes) -> None:
        stored.coded = copy
        if copy and not self._store.grown(stored):
            stored.coded = b""
