"""The ten figures of a report, in the order in which performance engineers ask for them."""

from __future__ import annotations

from loadtests.recorder.run import Run
from loadtests.report.figure import Figure
from loadtests.report.plots import (
    arrivals,
    hit_ratio,
    keys,
    latency,
    memory,
    origin,
    outage,
    percentiles,
    purges,
    staleness,
)

PLOTS = (hit_ratio, latency, origin, purges, arrivals, percentiles, keys, memory, staleness, outage)


def figures_of(run: Run) -> list[Figure]:
    """All of them, numbered; one with nothing measured says so."""
    found = [plot.figure(run) for plot in PLOTS]
    for number, figure in enumerate(found, 1):
        figure.number = number
    return found
