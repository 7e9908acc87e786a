"""What a paced run says of a target: who was answered, within which time, and whether its generator can be believed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

from loadtests.bench import measuring
from loadtests.bench.measuring import BenchError
from loadtests.recorder.histogram import Histogram
from loadtests.recorder.run import HIT_STATUSES, MISS_STATUSES, Cell, Run, Status
from loadtests.volume import Schedule, VolumeFailed, volume_run


@dataclass(frozen=True, slots=True)
class Volley:
    """The counted requests of a run, or some of them. Durations count from when each was meant to be sent."""

    requests: int
    latency: Histogram
    """Of all of them; one that got no answer counts for as long as it was waited for."""
    answered: Histogram
    """Of those that were answered, by anything but 5xx."""
    hits: int
    misses: int
    codes: dict[str, int]

    @classmethod
    def of(cls, cells: list[Cell]) -> Volley:
        codes: dict[str, int] = {}
        for cell in cells:
            for code, count in cell.codes.items():
                codes[code] = codes.get(code, 0) + count
        return cls(
            requests=sum(cell.requests for cell in cells),
            latency=Histogram.merged(cell.corrected for cell in cells),
            answered=Histogram.merged(cell.corrected for cell in cells if cell.label.status is not Status.ERROR),
            hits=sum(cell.requests for cell in cells if cell.label.status in HIT_STATUSES),
            misses=sum(cell.requests for cell in cells if cell.label.status in MISS_STATUSES),
            codes=codes,
        )

    def ms(self, share: float) -> float:
        """The percentile, milliseconds."""
        return self.latency.percentile_us(share) / 1000

    def within(self, limit_ms: float) -> float:
        """Per cent answered within so many milliseconds; what was not answered was not."""
        return self.up * self.answered.share_within(limit_ms * 1000)

    @property
    def up(self) -> float:
        """Per cent answered."""
        return 100 * self.answered.count / self.requests if self.requests else 0.0

    @property
    def hit_ratio(self) -> float:
        """Per cent, of hits and misses."""
        return 100 * self.hits / (self.hits + self.misses) if self.hits + self.misses else 0.0


def volley(run: Run, chosen: Callable[[Cell], bool] = lambda cell: True) -> Volley:
    """Those of a run's counted requests that are `chosen`."""
    return Volley.of([cell for cell in run.counted() if chosen(cell)])


def believed(once: Callable[[], Run], tries: int, heading: str) -> Run:
    """A run whose generator kept up and that nothing else on the machine disturbed; the last of `tries` where there was
    none, and what was wrong with it is among its faults."""
    number = 0
    while True:
        number += 1
        watch = measuring.Foreign()
        run = once()
        if (foreign := watch.cores()) > measuring.MAX_FOREIGN_CORES:
            limit = measuring.MAX_FOREIGN_CORES
            run.check.faults.append(f"anything else took {foreign:.2f} of the machine's cores (at most {limit})")
        said = "; ".join(run.check.faults) or f"the generator kept up, foreign {foreign:.2f} core"
        print(f"{heading}: {run.check.done:,} answers, try {number}: {said}", file=sys.stderr, flush=True)
        if run.check.valid or number >= tries:
            return run


def send(schedule: Schedule, name: str, *, seed: int, core: int | None = None) -> Run:
    """Carry out a schedule with the paced generator. `core`: where that is to stay. Raises BenchError."""
    try:
        return volume_run(schedule, scenario=name, seed=seed, core=core)
    except VolumeFailed as exc:
        raise BenchError(f"{name}: {exc}") from exc
