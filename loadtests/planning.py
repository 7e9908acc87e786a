"""A scenario, a seed and what a shop sells -> everything that a run will do and when. Pure; the same in, the same out.

Requests arrive as a Poisson process whose rate follows shape and phases exactly. Each arrival is taken by whoever has
waited longest for their next look (their think time is over), or by somebody new: so the rate is the scenario's and
never follows from how fast the shop answers, and a session still reads like one person's.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from cache_policies.tags import category_prices_tag, category_tag, home_tag, path_tag, product_tag
from loadtests import shapes
from loadtests.oracle import PriceKey
from loadtests.people import (
    CRAWLER_AGENT,
    HELD_BY_BROWSERS,
    Kind,
    Mix,
    ShopFront,
    ShownProduct,
    Taste,
    Visit,
    browse,
    crawl,
    listing,
    popularity_of,
    product,
    search,
)
from loadtests.plan import Arrival, Deed, Doing, Person, Plan
from loadtests.recorder.run import Phase
from loadtests.replay import read_recordings, replayed
from loadtests.scenario import WARM_UP, Act, DeedPlan, People, PhasePlan, Scenario

PAUSE_BETWEEN_SESSIONS_S = 20.0
"""On average; of somebody who comes back."""
RELOADS = 0.25
"""Share of a crowd's requests by somebody who has the page already and cannot wait."""
WARMING_UP = shapes.Shape(shapes.ShapeKind.RAMP, first=0.3, last=1.0)
ABSURD_PAGES = 0.1
"""Share of a cache buster's requests that use the one parameter that counts, with a page that no listing has."""
_BOT_FIELDS = (("User-Agent", CRAWLER_AGENT),)
_SESSIONS = {Person.BROWSER: browse, Person.SEARCHER: search}


class BadPlan(Exception):
    """A scenario cannot be played at this shop. Says why, and what to do."""


def make_plan(scenario: Scenario, front: ShopFront, edges: Sequence[str], seed: int) -> Plan:
    """The plan of a run that starts with the scenario's warm-up at 0.

    `edges`: names, at least one. Raises BadPlan where the shop has too little for the scenario, BadRecording where what
    is to be replayed cannot be read.
    """
    if not edges or not front.products or not front.markets:
        raise BadPlan("nothing to ask for: no product was found by following links; is the shop seeded?")
    needs_cold = any(phase.crowd for phase in scenario.phases)
    if needs_cold and len(front.products) < 2:
        raise BadPlan(f"{scenario.name}: a crowd wants a product that nobody else asks for, and the shop has only one")
    people = scenario.people
    # What few like is what is cold; that really nobody asks for it is seen to here.
    cold = front.products[popularity_of(front, seed)[-1]] if needs_cold else None
    taste = Taste(front, seed, people.popularity, people.products, hidden=[cold.sku] if cold else [])
    return _Planner(scenario, front, tuple(edges), seed, taste, cold).plan()


class _Span(NamedTuple):
    """A phase with its times in the run. Seconds."""

    phase: PhasePlan
    from_s: float
    to_s: float
    counts: bool


class _Visitor:
    """Somebody in the middle of a session."""

    __slots__ = ("edge", "held", "market", "next", "number", "visits")

    def __init__(self, number: int, market: str, edge: str, visits: Iterator[Visit]) -> None:
        self.number = number
        self.market = market
        self.edge = edge
        self.visits = visits
        self.next = next(visits, None)
        self.held: set[str] = set()
        """What their browser holds."""


class _Planner:
    """Makes one plan. Each part draws from a generator of its own: more price changes are not other requests."""

    def __init__(
        self,
        scenario: Scenario,
        front: ShopFront,
        edges: tuple[str, ...],
        seed: int,
        taste: Taste,
        cold: ShownProduct | None,
    ) -> None:
        self.scenario = scenario
        self.front = front
        self.edges = edges
        self.seed = seed
        self.taste = taste
        self.cold = cold
        self.people: People = scenario.people
        self.markets = _known_markets(self.people.markets, front.markets)
        self.end_s = scenario.warmup_s + scenario.duration_s
        self.spans = self._spans()
        self.shape = self._shape()

    def plan(self) -> Plan:
        recordings = read_recordings(self.scenario.replay) if self.scenario.replay else None
        recorded = (
            replayed(recordings, self.front, self.edge_of, (self.scenario.warmup_s, self.end_s), self.rng("replay"))
            if recordings
            else None
        )
        arrivals = [*self._people(), *self._crowd(), *self._busters()]
        deeds = [*self._made_cold(), *self._deeds()]
        if recorded is not None:
            arrivals += [arrival._replace(phase=self._phase_at(arrival.at_s)) for arrival in recorded.arrivals]
            deeds += recorded.deeds
        # Stable: what falls on the same moment stays in the order of the parts.
        arrivals.sort(key=lambda arrival: arrival.at_s)
        deeds.sort(key=lambda deed: deed.at_s)
        return Plan(
            scenario=self.scenario.name,
            seed=self.seed,
            phases=tuple(Phase(span.phase.name, span.from_s, span.to_s, span.counts) for span in self.spans),
            arrivals=tuple(arrivals),
            deeds=tuple(deeds),
            watched=tuple(dict.fromkeys(deed.key for deed in deeds if deed.key is not None)),
            spotlight=(self._spotlight().target,) if self.cold else (),
            remarks=recorded.remarks if recorded else (),
        )

    def rng(self, part: str) -> random.Random:
        """Seeded by text: the same in every process, whatever its hash seed."""
        return random.Random(f"{self.seed} {part}")

    def edge_of(self, market: str) -> str:
        """The edge near a market's visitors; where the shop has none there, the edges in turn."""
        home = self.people.home_edges.get(market)
        if home in self.edges:
            return home
        return self.edges[self.front.markets.index(market) % len(self.edges)]

    # --- when ---

    def _spans(self) -> list[_Span]:
        warmup_s = self.scenario.warmup_s
        first = self.scenario.phases[0]
        # People as the first phase has them, and nothing else: what is to be measured has not begun.
        warm = PhasePlan(WARM_UP, 0.0, first.load, markets=first.markets, people=first.people)
        spans = [_Span(warm, 0.0, warmup_s, counts=False)] if warmup_s else []
        begins = [warmup_s + phase.from_s for phase in self.scenario.phases]
        for phase, from_s, to_s in zip(self.scenario.phases, begins, [*begins[1:], self.end_s], strict=True):
            spans.append(_Span(phase, from_s, to_s, counts=True))
        return spans

    def _shape(self) -> list[shapes.Stretch]:
        """Over the whole run: the warm-up rises to what the shape is on average, or cold caches would be overrun."""
        warmup_s = self.scenario.warmup_s
        warm = shapes.stretches(WARMING_UP, 0.0, warmup_s) if warmup_s else []
        return warm + shapes.stretches(self.scenario.shape, warmup_s, self.end_s)

    def _phase_at(self, at_s: float) -> str:
        return next((span.phase.name for span in self.spans if at_s < span.to_s), self.spans[-1].phase.name)

    # --- who asks for what ---

    def _people(self) -> Iterator[Arrival]:
        """Browsers, searchers and bots."""
        times, rng = self.rng("times of people"), self.rng("people")
        waiting: dict[Person, list[tuple[float, int, _Visitor]]] = {Person.BROWSER: [], Person.SEARCHER: []}
        numbers = {person: itertools.count() for person in waiting}
        bots = self._bots()
        for span in self.spans:
            phase = span.phase
            who = Mix(phase.people or self.people.people)
            markets = Mix(_known_markets(phase.markets, self.front.markets) if phase.markets else self.markets)
            parts = shapes.within(self.shape, span.from_s, span.to_s, phase.load)
            for at_s in shapes.arrivals(parts, self.scenario.rate, times):
                person = who.draw(rng)
                if person is Person.BOT:
                    yield self._crawled(bots, at_s, phase.name, rng)
                    continue
                queue = waiting[person]
                if queue and queue[0][0] <= at_s:
                    visitor = heapq.heappop(queue)[2]
                else:
                    market = markets.draw(rng)
                    visits = _SESSIONS[person](self.taste, market, rng)
                    visitor = _Visitor(next(numbers[person]), market, self.edge_of(market), visits)
                visit = visitor.next
                assert visit is not None
                again = visit.target in visitor.held
                if visit.kind in HELD_BY_BROWSERS:
                    visitor.held.add(visit.target)
                yield Arrival(at_s, phase.name, person, visitor.number, visitor.edge, "GET", visit, (), again)
                self._looks_on(visitor, person, at_s, queue, rng)

    def _looks_on(
        self,
        visitor: _Visitor,
        person: Person,
        at_s: float,
        queue: list[tuple[float, int, _Visitor]],
        rng: random.Random,
    ) -> None:
        """Put the visitor back into the queue, if there is anything more that they want to see."""
        pause_s = self.people.think[person]
        visitor.next = next(visitor.visits, None)
        if visitor.next is None:
            if rng.random() >= self.people.returns:
                return
            visitor.visits = _SESSIONS[person](self.taste, visitor.market, rng)
            visitor.next = next(visitor.visits)
            pause_s = PAUSE_BETWEEN_SESSIONS_S
        due_s = at_s + (rng.expovariate(1 / pause_s) if pause_s else 0.0)
        heapq.heappush(queue, (due_s, visitor.number, visitor))

    def _bots(self) -> list[_Visitor]:
        """Crawlers, spread over the markets from the largest on."""
        rng = self.rng("bots")
        markets = sorted(self.markets, key=lambda market: (-self.markets[market], market))
        chosen = itertools.islice(itertools.cycle(markets), self.people.bots.crawlers)
        return [
            _Visitor(number, market, self.edge_of(market), crawl(self.taste, market, rng))
            for number, market in enumerate(chosen)
        ]

    def _crawled(self, bots: Sequence[_Visitor], at_s: float, phase: str, rng: random.Random) -> Arrival:
        habits = self.people.bots
        bot = bots[rng.randrange(len(bots))]
        visit = bot.next
        assert visit is not None
        bot.next = next(bot.visits)
        head = rng.random() < habits.heads
        again = not head and visit.target in bot.held and rng.random() < habits.asks_again
        if not head:
            bot.held.add(visit.target)
        method = "HEAD" if head else "GET"
        return Arrival(at_s, phase, Person.BOT, bot.number, bot.edge, method, visit, _BOT_FIELDS, again)

    def _spotlight(self) -> Visit:
        """The one page that a campaign leads to: a link names its market, so it is the same at every edge."""
        assert self.cold is not None
        return product(max(self.markets, key=lambda market: self.markets[market]), self.cold.slug)

    def _crowd(self) -> Iterator[Arrival]:
        """Everybody at one page, from all edges alike."""
        times, rng = self.rng("times of the crowd"), self.rng("crowd")
        numbers = itertools.count()
        visitors: list[tuple[int, str]] = []
        for span in self.spans:
            if not span.phase.crowd:
                continue
            visit = self._spotlight()
            parts = shapes.within(self.shape, span.from_s, span.to_s, span.phase.crowd)
            for at_s in shapes.arrivals(parts, self.scenario.rate, times):
                if visitors and rng.random() < RELOADS:
                    number, edge = visitors[rng.randrange(len(visitors))]
                else:
                    number = next(numbers)
                    edge = self.edges[number % len(self.edges)]
                    visitors.append((number, edge))
                yield Arrival(at_s, span.phase.name, Person.CROWD, number, edge, "GET", visit)

    def _busters(self) -> Iterator[Arrival]:
        """Random parameters that no policy counts, and absurd values of one that does."""
        times, rng = self.rng("times of busters"), self.rng("busters")
        markets = Mix(self.markets)
        for span in self.spans:
            if not span.phase.busting:
                continue
            parts = shapes.within(self.shape, span.from_s, span.to_s, span.phase.busting)
            for number, at_s in enumerate(shapes.arrivals(parts, self.scenario.rate, times)):
                visit = self._busting(markets.draw(rng), rng)
                edge = self.edges[number % len(self.edges)]
                yield Arrival(at_s, span.phase.name, Person.BUSTER, number, edge, "GET", visit)

    def _busting(self, market: str, rng: random.Random) -> Visit:
        category = self.taste.category(rng)
        if category is not None and rng.random() < ABSURD_PAGES:
            # Beyond every listing, and still a number that the shop takes for a page.
            return listing(market, category, page=rng.randint(2_000, 9_999))._replace(kind=Kind.NOT_THERE)
        visit = product(market, self.taste.product(rng).slug)
        name = rng.choice(("utm_source", "gclid", "fbclid", "q", f"{rng.getrandbits(24):x}"))
        return visit._replace(target=f"{visit.target}?{name}={rng.getrandbits(64):016x}")

    # --- what is done to the shop ---

    def _made_cold(self) -> Iterator[Deed]:
        """An earlier run may have asked for what this one's crowd comes for: it is purged before anything else."""
        if self.cold is not None:
            yield Deed(0.0, Doing.PURGE, tags=(path_tag(self._spotlight().target),))

    def _deeds(self) -> list[Deed]:
        found: list[Deed] = []
        spans = {span.phase.name: span for span in self.spans}
        for number, deed in enumerate(self.scenario.deeds):
            span = spans.get(deed.phase)
            if span is None:  # a warm-up of no length
                continue
            rng = self.rng(f"deed {number}")
            match deed.act:
                case Act.PRICES:
                    found += self._price_changes(deed, span, rng)
                case Act.PURGES:
                    found += self._purges(deed, span, rng)
                case Act.FLUSH:
                    found.append(Deed(span.from_s, Doing.FLUSH, soft=deed.soft))
                case Act.FAULT:
                    found.append(Deed(span.from_s, Doing.FAULT, command=deed.command))
                    found.append(Deed(span.to_s, Doing.HEAL, command=deed.mend))
        return found

    def _price_changes(self, deed: DeedPlan, span: _Span, rng: random.Random) -> Iterator[Deed]:
        """Popular prices in turn, evenly, so that one price's changes are as far apart as they can be."""
        popular = self.taste.products[: max(deed.prices, 1)]
        markets = Mix(self.markets)
        keys = list(dict.fromkeys(PriceKey(markets.draw(rng), item.sku) for item in popular))
        # Where there are fewer products than prices to change, those of other markets as well.
        known = set(keys)
        others = (PriceKey(market, item.sku) for market, item in itertools.product(self.markets, popular))
        keys += itertools.islice((key for key in others if key not in known), deed.prices - len(keys))
        rng.shuffle(keys)
        for at_s, key in zip(_evenly(span, deed.per_minute, rng), itertools.cycle(keys), strict=False):
            yield Deed(at_s, Doing.PRICE, key=key)

    def _purges(self, deed: DeedPlan, span: _Span, rng: random.Random) -> Iterator[Deed]:
        """Every tag of the shop's products and listings, shuffled; again from the start when all have been purged."""
        tags = [product_tag(market, item.sku) for market in self.front.markets for item in self.front.products]
        for market in self.front.markets:
            tags.append(home_tag(market))
            tags += [category_tag(market, path) for path in self.front.categories]
            tags += [category_prices_tag(market, path) for path in self.front.categories]
        tags = list(dict.fromkeys(tags))
        rng.shuffle(tags)
        turning = itertools.cycle(tags)
        size = min(deed.tags_per_order, len(tags))
        for at_s in _evenly(span, deed.per_minute / size, rng):
            yield Deed(at_s, Doing.PURGE, tags=tuple(itertools.islice(turning, size)), soft=deed.soft)


def _evenly(span: _Span, per_minute: float, rng: random.Random) -> Iterator[float]:
    """Moments `per_minute` of a span, one somewhere in each equal part of it."""
    gap_s = 60.0 / per_minute
    for number in itertools.count():
        at_s = span.from_s + (number + rng.random() * 0.5) * gap_s
        if at_s >= span.to_s:
            return
        yield at_s


def _known_markets(wanted: Mapping[str, float], found: Sequence[str]) -> dict[str, float]:
    """The mix of those markets that the shop has; all alike where it has none of them."""
    known = {market: share for market, share in wanted.items() if market in found and share > 0}
    return known or dict.fromkeys(found, 1.0)
