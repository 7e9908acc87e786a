"""The figures of a site: those of all of its workers added up, also of workers that are no more.

A process counts from zero, and a sum over processes would fall when one of them ends: what ended processes had counted
is kept. They are asked every LOOK_EVERY_S and for each scrape; what one counts between the last look and its end is
lost, so that a sum stands still for a moment and never falls, and `nearshelf_site_restarts_total` says that it was so.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

from edge.gateway.figures import Counts, Figures
from edge.gateway.metrics import add_gauges

LOOK_EVERY_S = 2.0


class AddedUp:
    """Of the workers of one site, each in its place; a place has one process after the other."""

    def __init__(self, pop: str) -> None:
        self._pop = pop
        self._latest: dict[str, Figures] = {}
        """By place."""
        self._ended = Counts()
        """Of processes that others have taken the place of."""

    def take(self, place: str, figures: Figures) -> None:
        """What the process in `place` says now. To be called in the order in which they were asked for."""
        before = self._latest.get(place)
        if before is not None and before.worker != figures.worker:
            self._ended.add(before.counts)
        self._latest[place] = figures

    def total(self, alive: Iterable[str], own: Figures) -> Figures:
        """The counts of all processes that there ever were, and what is the case now in the places that are `alive`;
        with what the site has to say itself, `own`."""
        total = Figures(self._pop, "", copy.deepcopy(self._ended), copy.deepcopy(own.gauges))
        total.counts.add(own.counts)
        for figures in self._latest.values():
            total.counts.add(figures.counts)
        for place in alive:
            if place in self._latest:
                add_gauges(total.gauges, self._latest[place].gauges)
        return total
