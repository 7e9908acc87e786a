"""The interleavings, in the order of the table: (a) to (f) of what goes wrong with caches over asynchronous replicas.

Each is played by the events themselves: the origin says when it has read its database, the viewer asks after the change
was reported done. What is left to time is age, and how long somebody may wait for an origin that says nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from cache_policies.positions import PurgeKind
from loadtests.interleavings.caches import ORIGIN_AT_ONCE, Change
from loadtests.interleavings.origin import SOON_S, Barrier, Page, Trouble
from loadtests.interleavings.stage import AT_ONCE_S, LONG, OLD_ENOUGH_S, PAUSE_S, UNSEEN_S, Shown, Stage, Vacuous
from loadtests.interleavings.table import Finding, Verdict

STALE_AT_ONCE = "max-age=1, stale-while-revalidate=300, stale-if-error=300"
MANY = 200
"""Pages under the hot tag."""
CROWD = 50
REFRESHED_S = 3.0
"""Within so long after its origin answers again a cache must have what it refreshes."""
REFRESH_S = 0.5
"""How long two tiers are given to refresh a page, one after the other."""
READ_S = 0.02
"""How long the origin takes for each of many."""
ERROR_WINDOW_S = 3
BOUND_S = 1 + ERROR_WINDOW_S
BOUND_ERROR_S = 1.3
"""A cache may count in whole seconds."""


class Scene(NamedTuple):
    id: str
    title: str
    play: Callable[[Stage], Awaitable[Finding]]
    alone: bool = False
    """Nothing else is played meanwhile: the whole origin is in trouble, or busy, or the cache is restarted."""


# --- (a) a fill races a purge ---


async def fill_in_flight(stage: Stage) -> Finding:
    page = stage.page()
    barrier = page.barrier()
    early = stage.asking(page)
    await reached(barrier)
    told = await stage.change(page)
    barrier.release()
    await early
    return stage.judged(page, told, [await stage.ask(page), await stage.ask(page)])


async def late_viewer_joins(stage: Stage) -> Finding:
    page = stage.page()
    barrier = page.barrier()
    early = stage.asking(page)
    await reached(barrier)
    told = await stage.change(page)
    late = stage.asking(page)
    await asyncio.wait([late], timeout=UNSEEN_S)
    barrier.release()
    await early
    return stage.judged(page, told, [await late])


async def confirmed_by_304(stage: Stage) -> Finding:
    page = stage.page(lives="max-age=1")
    await stage.stored(page)
    await stage.cache.wait(OLD_ENOUGH_S)
    page.lives = LONG
    barrier = page.barrier()
    early = stage.asking(page)
    await reached(barrier)
    if barrier.statuses != [304]:
        raise Vacuous("it does not validate")
    told = await stage.change(page)
    barrier.release()
    await early
    return stage.judged(page, told, [await stage.ask(page), await stage.ask(page)])


async def refresh_in_background(stage: Stage) -> Finding:
    page = stage.page(lives=STALE_AT_ONCE)
    await stage.stored(page)
    await stage.cache.wait(OLD_ENOUGH_S)
    page.lives = LONG
    barrier = page.barrier(whole=True)
    early = stage.asking(page)
    await reached(barrier)
    told = await stage.change(page)
    late = stage.asking(page)
    await asyncio.wait([late], timeout=UNSEEN_S)
    barrier.release()
    await early
    return stage.judged(page, told, [await late, await stage.ask(page)])


async def purged_in_mid_body(stage: Stage) -> Finding:
    page = stage.page(bytes_long=600_000)
    barrier = page.barrier(mid_body=True)
    early = stage.asking(page)
    await reached(barrier)
    told = await stage.change(page)
    barrier.release()
    await early
    return stage.judged(page, told, [await stage.ask(page), await stage.ask(page)])


async def listed_meanwhile(stage: Stage) -> Finding:
    page = stage.page(price=None)
    barrier = page.barrier()
    early = stage.asking(page)
    await reached(barrier)
    told = await stage.change(page)
    barrier.release()
    await early
    return stage.judged(page, told, [await stage.ask(page), await stage.ask(page)])


# --- (b) a refill from a replica that lags ---


async def replica_lags(stage: Stage) -> Finding:
    page = stage.page()
    await stage.stored(page)
    page.replica_at = stage.origin.head.cv
    change = stage.happens(page)
    told = await stage.cache.tell(change, SOON_S)
    behind = await stage.ask(page)
    page.replica_at = None
    caught_up = await stage.ask(page)
    found = stage.judged(page, told, [behind, caught_up])
    if found.verdict is Verdict.FAILS and found.words.startswith("old price"):
        await stage.cache.tell(change, SOON_S)
        again = stage.judged(page, told, [await stage.ask(page)])
        healed = again.verdict is Verdict.HOLDS
        return Finding(found.verdict, f"{found.words}; {'until' if healed else 'even after'} a second purge")
    return found


# --- (c) a lost message ---


async def message_lost(stage: Stage) -> Finding:
    page = stage.page()
    await stage.stored(page)
    async with stage.messages_lost():
        told = await stage.change(page)
        return stage.judged(page, told, [await stage.ask(page)])


async def message_lost_and_healed(stage: Stage) -> Finding:
    page = stage.page()
    await stage.stored(page)
    async with stage.messages_lost():
        change = stage.happens(page)
        await stage.cache.tell(change, 0.0)
    told = await stage.cache.heard_later(change, SOON_S)
    return stage.judged(page, told, [await stage.ask(page)])


async def cut_off(stage: Stage, page: Page) -> Finding:
    await stage.stored(page)
    await stage.origin.refuse()
    try:
        async with stage.messages_lost():
            told = await stage.change(page)
            return stage.judged(page, told, [await stage.ask(page)], may_refuse=True)
    finally:
        await stage.origin.listen()
        await stage.until_answered(stage.page("-after"))


async def page_when_cut_off(stage: Stage) -> Finding:
    return await cut_off(stage, stage.page())


async def price_when_cut_off(stage: Stage) -> Finding:
    return await cut_off(stage, stage.price_resource())


async def purged_while_down(stage: Stage) -> Finding:
    page = stage.page()
    await stage.stored(page)
    await stage.cache.stop()
    told = await stage.change(page)
    await stage.cache.start()
    return stage.judged(page, told, [await stage.ask(page)])


# --- (d) a hot tag ---


async def hot_tag(stage: Stage) -> Finding:
    tag = "c:eu-eur:hot"
    pages = [stage.page(f"-{number}", tag=tag) for number in range(MANY)]
    origin = stage.origin
    for start in range(0, MANY, 10):
        await asyncio.gather(*(stage.stored(page) for page in pages[start : start + 10]))
    for page in pages:
        page.fetches = 0
    origin.delay_s, origin.most_under_way = READ_S, 0
    try:
        change = Change(pages, tag, PurgeKind.HARD, origin.change(pages, tag))
        told = await stage.cache.tell(change, SOON_S)
        shown = await asyncio.gather(*(stage.ask(page) for page in pages for _ in range(2)))
    finally:
        origin.delay_s = 0.0
    fetches, failed = sum(page.fetches for page in pages), sum(each.status != 200 for each in shown)
    words = f"{fetches} fetches, {origin.most_under_way} at once, {failed} of {len(shown)} viewers refused"
    if not stage.cache.purges_tags:
        return Finding(Verdict.CANNOT, f"no tags, each address by itself: {words}")
    old = sum(each.status == 200 and each.price != pages[0].price for each in shown)
    held = told.done and not old and not failed and fetches == MANY and origin.most_under_way <= ORIGIN_AT_ONCE
    return Finding(Verdict.HOLDS if held else Verdict.FAILS, f"{words}{f', {old} shown the old price' if old else ''}")


# --- (e) stale windows and a hard purge ---


async def slow_origin_after_a_hard_purge(stage: Stage) -> Finding:
    page = stage.page(lives=STALE_AT_ONCE)
    await stage.stored(page)
    await stage.cache.wait(OLD_ENOUGH_S)
    barrier = page.barrier(most=1_000)
    try:
        told = await stage.change(page, AT_ONCE_S)
        late = stage.asking(page)
        await asyncio.wait([late], timeout=AT_ONCE_S)
    finally:
        barrier.release()
    return stage.judged(page, told, [await late], may_refuse=True)


async def broken_origin_after_a_hard_purge(stage: Stage) -> Finding:
    page = stage.page(lives=STALE_AT_ONCE)
    await stage.stored(page)
    await stage.cache.wait(OLD_ENOUGH_S)
    page.trouble = Trouble.ERROR_503
    told = await stage.change(page)
    return stage.judged(page, told, [await stage.ask(page), await stage.ask(page)], may_refuse=True)


async def soft_purge(stage: Stage) -> Finding:
    page = stage.page()
    await stage.stored(page)
    barrier = page.barrier(most=1_000)
    try:
        telling = asyncio.create_task(stage.change(page, SOON_S, PurgeKind.SOFT))
        await asyncio.wait([telling], timeout=AT_ONCE_S)
        viewer = stage.asking(page)
        await asyncio.wait([viewer], timeout=AT_ONCE_S)
        at_once = viewer.done()
    finally:
        barrier.release()
    told, first = await telling, await viewer
    until, then = time.monotonic() + REFRESHED_S, first
    while then.price != page.price and time.monotonic() < until:
        await asyncio.sleep(PAUSE_S)
        then = await stage.ask(page)
    if not (told.done and at_once and then.price == page.price):
        why = "the viewer waits" if not at_once else told.words if not told.done else "it is never refreshed"
        return Finding(Verdict.FAILS, why)
    return Finding(Verdict.HOLDS, "old copy at once, then the new one")


async def stale_in_the_inner_tier(stage: Stage) -> Finding:
    """Nothing is purged here: what the page shows changes without a word, as where only lifetimes tell."""
    page = stage.page(lives="max-age=2, stale-while-revalidate=300, stale-if-error=300")
    async with stage.outer() as outer:
        await stage.stored(page)
        await stage.cache.wait(OLD_ENOUGH_S + 1.0)
        page.prices.append((stage.origin.head.cv, 1200))
        shown = []
        for _ in range(3):
            shown.append(await outer.ask(page))
            await outer.cache.wait(REFRESH_S)
    if shown[-1].price == page.price:
        times = sum(each.price != page.price for each in shown)
        return Finding(Verdict.HOLDS, f"new price; answers before it that were stale: {times}")
    return Finding(Verdict.FAILS, "old price: stale inside, fresh again outside")


# --- (f) a long outage ---


async def outage_beyond_the_bound(stage: Stage) -> Finding:
    page = stage.page(lives=f"max-age=1, stale-if-error={ERROR_WINDOW_S}")
    cache = stage.cache
    began = cache.clock()
    await stage.ask(page)
    await stage.origin.refuse()
    last_s, statuses = 0.0, Counter[int]()
    try:
        while (now_s := cache.clock() - began) < BOUND_S + BOUND_ERROR_S + 1.0:
            shown = await stage.ask(page)
            if shown.status == 200:
                last_s = now_s
            elif now_s > BOUND_S:
                statuses[shown.status] += 1
            await cache.wait(0.05)
    finally:
        await stage.origin.listen()
        await stage.until_answered(stage.page("-after"))
    words = f"shown until {last_s:.1f} s of {BOUND_S}, then {' and '.join(map(str, sorted(statuses))) or 'still'}"
    within = abs(last_s - BOUND_S) <= BOUND_ERROR_S and all(status >= 500 for status in statuses)
    return Finding(Verdict.HOLDS if within else Verdict.FAILS, words)


async def kinds_of_failure(stage: Stage) -> Finding:
    kinds = [trouble for trouble in Trouble if trouble is not Trouble.NONE]
    pages = [
        stage.page(f"-{number}", lives="max-age=1, stale-if-error=300", bytes_long=5_000)
        for number, _ in enumerate(kinds)
    ]
    await asyncio.gather(*(stage.stored(page) for page in pages))
    await stage.cache.wait(OLD_ENOUGH_S)
    for page, trouble in zip(pages, kinds, strict=True):
        page.trouble = trouble
    shown = await asyncio.gather(*(stage.ask(page) for page in pages))
    not_shown = [kind.value for kind, each in zip(kinds, shown, strict=True) if each.status != 200]
    await stage.until_answered(stage.page("-after"))
    exceptions = f"; not when {', '.join(not_shown)}" if not_shown else ""
    words = f"{len(kinds) - len(not_shown)} of {len(kinds)}{exceptions}"
    return Finding(Verdict.FAILS if not_shown else Verdict.HOLDS, words)


async def recovery(stage: Stage) -> Finding:
    page = stage.page(lives="max-age=1")
    await stage.stored(page)
    await stage.cache.wait(OLD_ENOUGH_S)
    await stage.origin.refuse()
    await asyncio.gather(*(stage.ask(page) for _ in range(10)))
    page.fetches, page.lives = 0, LONG
    stage.origin.delay_s = 10 * READ_S
    await stage.origin.listen()

    async def patient() -> Shown:
        shown = await stage.ask(page)
        until = time.monotonic() + SOON_S
        while shown.status != 200 and time.monotonic() < until:
            await asyncio.sleep(0.1)
            shown = await stage.ask(page)
        return shown

    try:
        shown = await asyncio.gather(*(patient() for _ in range(CROWD)))
    finally:
        stage.origin.delay_s = 0.0
    served = sum(each.status == 200 for each in shown)
    words = f"{page.fetches} fetch{'' if page.fetches == 1 else 'es'} for {served} of {CROWD} viewers"
    return Finding(Verdict.HOLDS if page.fetches == 1 and served == CROWD else Verdict.FAILS, words)


async def reached(barrier: Barrier) -> None:
    """Raises Vacuous when the cache does not ask its origin."""
    try:
        await barrier.reached()
    except TimeoutError:
        raise Vacuous("it does not ask") from None


SCENES: Sequence[Scene] = (
    Scene("a1", "an answer that was read before the change arrives after the purge", fill_in_flight),
    Scene("a2", "somebody asks after the purge, and joins that fetch", late_viewer_joins),
    Scene("a3", "a 304 that was said before the change arrives after the purge", confirmed_by_304),
    Scene("a4", "the same for a refresh in the background", refresh_in_background),
    Scene("a5", "half of a long answer is there when it is purged", purged_in_mid_body),
    Scene("a6", "a 404 of a product that is listed meanwhile", listed_meanwhile),
    Scene("b1", "the refetch is answered by a replica that lags", replica_lags),
    Scene("c1", "the message is lost; the origin can be reached", message_lost, alone=True),
    Scene("c2", "then messages get through again, and nobody repeats it", message_lost_and_healed, alone=True),
    Scene("c3", "the edge is cut off from everything: a page", page_when_cut_off, alone=True),
    Scene("c4", "the same: a price in JSON", price_when_cut_off, alone=True),
    Scene("c5", "it is down when the purge is sent, then started again", purged_while_down, alone=True),
    Scene(
        "d1",
        f"{MANY} pages purged by one tag, {2 * MANY} viewers at once, an origin that takes {ORIGIN_AT_ONCE} at a time",
        hot_tag,
        alone=True,
    ),
    Scene("e1", "a hard purge in the stale-while-revalidate window, slow origin", slow_origin_after_a_hard_purge),
    Scene(
        "e2",
        "a hard purge in the stale-if-error window, broken origin",
        broken_origin_after_a_hard_purge,
        alone=True,
    ),
    Scene("e3", "a soft purge, slow origin: the old copy at once, then the new one", soft_purge),
    Scene(
        "e4",
        "two tiers: what is stale in the inner one, refreshed in the background",
        stale_in_the_inner_tier,
        alone=True,
    ),
    Scene(
        "f1",
        f"an outage longer than max-age=1, stale-if-error={ERROR_WINDOW_S}, asked all the time",
        outage_beyond_the_bound,
        alone=True,
    ),
    Scene("f2", "a stale copy for each kind of failure", kinds_of_failure, alone=True),
    Scene("f3", f"the origin is back, and {CROWD} viewers wait for one page", recovery, alone=True),
)
