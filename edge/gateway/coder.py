"""Coded copies of stored responses: each made once, when the first viewer asks who takes that coding."""

from __future__ import annotations

import asyncio
import zlib
from functools import partial

import brotli  # type: ignore[import-untyped]
import zstandard

from edge.core.delivery import has_coded_forms, wanted_coding
from edge.core.http import Request
from edge.core.policy import CachePolicy
from edge.core.stored import Form, StoredResponse
from edge.store.base import Store

AT_ONCE_OCTETS = 100_000
"""Larger bodies are coded in a thread, so that no other viewer waits: up to here it takes some two milliseconds."""

BROTLI_QUALITY = 5
ZSTD_LEVEL = 9
GZIP_LEVEL = 6
"""Of each the last step before time grows faster than bytes shrink: a 60 kB page takes about a millisecond in each of
them, and a fifty-fold of that would save a tenth more."""

_GZIP = 16 + zlib.MAX_WBITS
"""`wbits` for the gzip format with the largest window; without a file name and a time, so equal bodies give equal
copies."""


def coded(body: bytes, coding: str) -> bytes:
    """`body` in one of `compression.CODINGS`; empty when that is not shorter. Some 20 ns an octet of HTML."""
    match coding:
        case "br":
            copy: bytes = brotli.compress(body, quality=BROTLI_QUALITY)
        case "zstd":
            # One for each call: a compressor must not be used by two threads at a time.
            copy = zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(body)
        case "gzip":
            copy = zlib.compress(body, GZIP_LEVEL, _GZIP)
        case _:
            raise ValueError(f"{coding!r} is no coding that the edge makes")
    return copy if len(copy) < len(body) else b""


class Coder:
    """One worker's. A copy stands in the stored response, counts in the store's size, and goes with it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def form_of(self, stored: StoredResponse, policy: CachePolicy, coding: str) -> Form:
        """The form to send to a viewer for whom `coding` was chosen: as received, where there is no copy in it yet, and
        where there can be none."""
        if coding and policy.compress and has_coded_forms(stored, policy):
            form = self._copy(stored, coding)
            if form.body or not form.coding:
                return form
            return self._as_received(stored)
        received = self._as_received(stored)
        stored.keep_form(coding, received)
        return received

    def prepare(self, request: Request, stored: StoredResponse, policy: CachePolicy) -> None:
        """Make the copy that `deliver` sends to this viewer, if it is one for whom there can be a copy."""
        coding = wanted_coding(request.headers, stored, policy)
        if coding:
            self._copy(stored, coding)

    @staticmethod
    def _as_received(stored: StoredResponse) -> Form:
        form = stored.form("")
        if form is None:
            form = Form("", stored.body)
            stored.keep_form("", form)
        return form

    def _copy(self, stored: StoredResponse, coding: str) -> Form:
        """The form in `coding`: being made, there, or the one as received where no copy would be shorter."""
        form = stored.form(coding)
        if form is None:
            form = Form(coding, b"")
            stored.keep_form(coding, form)
            if len(stored.body) <= AT_ONCE_OCTETS:
                self._keep(stored, coding, coded(stored.body, coding))
            else:
                # Nobody starts it a second time; until it is there the body goes out as it is.
                made = asyncio.get_running_loop().run_in_executor(None, coded, stored.body, coding)
                made.add_done_callback(partial(self._made, stored, coding))
        return stored.form(coding) or form

    def _made(self, stored: StoredResponse, coding: str, made: asyncio.Future[bytes]) -> None:
        if made.cancelled() or made.exception() is not None:
            return
        # A 304 may have freshened it meanwhile: another response by now, with the same body.
        for variant in self._store.get(stored.key):
            form = variant.form(coding)
            if variant.body is stored.body and form is not None and not form.body:
                self._keep(variant, coding, made.result())

    def _keep(self, stored: StoredResponse, coding: str, copy: bytes) -> None:
        """`copy` is that of `stored` in `coding`; empty: there is none that would be shorter."""
        form = stored.form(coding)
        assert form is not None
        form.body = copy
        if not copy or not self._store.grown(stored):
            form.body = b""
            stored.keep_form(coding, self._as_received(stored))
