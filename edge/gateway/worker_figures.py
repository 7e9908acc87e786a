"""What one worker exports of itself, at one moment."""

from __future__ import annotations

import asyncio
import math
from importlib.metadata import version as installed
from typing import TYPE_CHECKING

from prometheus_client import ProcessCollector

from edge.gateway.figures import Counts, Figures, Labels, Spread, counted

if TYPE_CHECKING:
    from edge.gateway.app import Gateway

Rows = dict[str, dict[Labels, float]]
_PROCESS = ProcessCollector(registry=None)


async def figures_of(gateway: Gateway) -> Figures:
    """Everything but the process's own account is read in one step of the loop."""
    # In a thread: of a worker with thousands of viewers the kernel takes milliseconds to list the descriptors.
    of_process = await asyncio.to_thread(process_figures)
    figures = Figures(gateway.settings.edge, gateway.worker, _counts(gateway), _gauges(gateway))
    figures.counts.counters |= of_process.counts.counters
    figures.gauges |= of_process.gauges
    return figures


def process_figures() -> Figures:
    """What the system says of this process, and its version; without a name."""
    figures = Figures("", "", gauges={"nearshelf_build_info": {(installed("nearshelf"),): 1.0}})
    for metric in _PROCESS.collect():
        rows = figures.counts.counters if metric.type == "counter" else figures.gauges
        rows[metric.name] = {(): metric.samples[0].value}
    return figures


def _counts(gateway: Gateway) -> Counts:
    found = counted(gateway.book.counters)
    store, follower, server = gateway.store, gateway.follower, gateway.server
    found.counters = {
        "nearshelf_origin_failovers": {(): gateway.origins.failed_over},
        "nearshelf_edge_connections": {(): 0 if server is None else server.accepted},
        "nearshelf_cache_evictions": {(why.value,): count for why, count in store.evictions.items()},
        "nearshelf_cache_refused": {(): store.stats().refused},
        "nearshelf_purges": {(kind.value,): count for kind, count in follower.entries.items()},
        "nearshelf_purge_flushes": {(): follower.flushes},
        "nearshelf_purge_refreshed": {(): gateway.hottest.refreshed},
        "nearshelf_edge_log_lines_lost": {(): gateway.log_lines_lost},
    }
    siblings = gateway.siblings
    if siblings is not None:
        found.counters["nearshelf_sibling_messages"] = {
            ("told",): siblings.told,
            ("heard",): siblings.heard,
            ("lost",): siblings.lost,
        }
    ages = store.evicted_ages
    found.spreads = {"nearshelf_cache_evicted_age_seconds": {(): Spread(tuple(ages.counts), ages.seconds)}}
    return found


def _gauges(gateway: Gateway) -> Rows:
    now, stats, follower = gateway.now(), gateway.store.stats(), gateway.follower
    lease, server = gateway.lease, gateway.server
    contact_age_s = now - (lease.until - lease.length_s)
    applied = follower.applied
    return {
        "nearshelf_edge_viewers": {(): 0 if server is None else len(server.connections)},
        "nearshelf_edge_flights": {(): gateway.flights},
        "nearshelf_cache_bytes": {(): stats.size_bytes},
        "nearshelf_cache_max_bytes": {(): stats.max_bytes},
        "nearshelf_cache_objects": {(): stats.responses},
        "nearshelf_cache_keys": {(): stats.keys},
        "nearshelf_purge_lag_messages": {(): follower.behind},
        "nearshelf_purge_epoch": {} if applied is None else {(): applied.epoch},
        "nearshelf_purge_position": {} if applied is None else {(): applied.cv},
        "nearshelf_purge_contact_age_seconds": {(): contact_age_s} if math.isfinite(contact_age_s) else {},
        "nearshelf_purge_floors": {(): len(gateway.floors)},
        "nearshelf_lease_held": {(): int(lease.held(now))},
        "nearshelf_policy_info": {(gateway.reload.digest,): 1},
        "nearshelf_policy_refused": {(): int(bool(gateway.reload.refused))},
    }
