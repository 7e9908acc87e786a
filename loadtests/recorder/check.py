"""Whether a generator can be believed: the rules by which a run is valid. Pure.

What is judged belongs to the phases that count (Run.phases); a slow start is the warm-up's business.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from loadtests.recorder.histogram import Histogram
from loadtests.recorder.run import GeneratorCheck

LATE_S = 0.010
"""A request sent later than this after it was meant to be is late."""
MIN_ACHIEVED = 0.98
MAX_LATE_SHARE = 0.01
MAX_LAG_P99_MS = 10.0
MAX_CPU_SHARE = 0.9
CPU_WINDOW_S = 5.0
"""The generator's processor time is judged over the busiest stretch of this length: a storm of ten seconds would drown
in the mean of a run."""
REMARKABLE_STEAL = 0.05


@dataclass(frozen=True, slots=True)
class CpuWindow:
    """A stretch of the run, and which share of a core the generator took in it."""

    from_s: float
    to_s: float
    share: float

    @property
    def length_s(self) -> float:
        return self.to_s - self.from_s


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the recorder knows about its generator."""

    open_loop: bool
    planned_s: float
    """How long the run was meant to be."""
    ended_s: float
    """When the last request was answered or given up."""
    cut_short: str | None
    """Why the run ended before its time; None: it did not."""
    intended: int
    """Requests meant to be sent, told by the plan before the run."""
    in_time: int
    """Of these, those sent before the planned end."""
    sent: int
    done: int
    unaccounted: int
    """Meant to be sent, and nobody said what became of them."""
    unforeseen: int
    """Told of without having been meant."""
    late: int
    """Sent more than LATE_S after they were meant to be, although somebody was free."""
    lag: Histogram
    """How late the generator's loop came round to each of its pulses; beside wrk, how late another process did."""
    busiest: CpuWindow | None
    """None: not measured."""
    cores: int
    """Cores that the generator may use: one, but for threads of wrk."""
    cpu_share: float
    steal_share: float


def achieved(in_time: int, intended: int) -> float:
    """Which share of the requests that were meant to be sent was sent before the run's planned end: at most 1.

    What was meant for a warm-up and sent after it is the warm-up's; what nobody had meant to be sent is no achievement.
    """
    return min(1.0, in_time / intended)


def judged(found: Evidence) -> GeneratorCheck:
    """The figures with every reason why the run is invalid, and what else a reader should know."""
    faults: list[str] = []
    if found.cut_short is not None:
        faults.append(f"it ended after {found.ended_s:.1f} of {found.planned_s:.1f} s: {found.cut_short}")
    late_share = found.late / found.sent if found.sent else 0.0
    lag_p99_ms = found.lag.percentile_us(0.99) / 1000
    if found.open_loop:
        faults += _rate_faults(found)
        if late_share > MAX_LATE_SHARE:
            faults.append(
                f"{late_share:.1%} of the requests were sent more than {LATE_S * 1000:.0f} ms late although somebody "
                f"was free to send them (at most {MAX_LATE_SHARE:.0%}): the generator is too slow, not the shop"
            )
    elif not found.done:
        faults.append("nothing was answered")
    if not found.lag.count:
        faults.append("its loop was never timed, so nobody knows how late it was")
    elif lag_p99_ms > MAX_LAG_P99_MS:
        faults.append(
            f"its loop came round {lag_p99_ms:.0f} ms late at p99 (at most {MAX_LAG_P99_MS:.0f} ms): every "
            f"duration may be that much too long"
        )
    faults += _cpu_faults(found)
    return GeneratorCheck(
        intended=found.intended,
        sent=found.sent,
        done=found.done,
        late_share=late_share,
        lag_p99_ms=lag_p99_ms,
        cpu_share=found.cpu_share,
        steal_share=found.steal_share,
        faults=faults,
        remarks=_remarks(found),
    )


def _rate_faults(found: Evidence) -> list[str]:
    if not found.intended:
        return ["nothing was meant to be sent"]
    faults: list[str] = []
    share = achieved(found.in_time, found.intended)
    if share < MIN_ACHIEVED:
        faults.append(
            f"{share:.1%} of the requests were sent before the end ({found.in_time:,} of {found.intended:,}, at "
            f"least {MIN_ACHIEVED:.0%}): fewer requests a second, or more users"
        )
    never_sent = found.intended + found.unforeseen - found.sent - found.unaccounted
    if never_sent > 0:
        faults.append(f"{_requests(never_sent)} never sent: whoever could have sent them waited for answers to the end")
    if found.unaccounted > 0:
        faults.append(f"{_requests(found.unaccounted)} meant to be sent, and nobody said what became of them")
    if found.unforeseen > 0:
        faults.append(f"{_requests(found.unforeseen)} sent that the plan does not have")
    return faults


def _requests(count: int) -> str:
    return "1 request was" if count == 1 else f"{count:,} requests were"


def _cpu_faults(found: Evidence) -> list[str]:
    if found.busiest is None:
        return ["its processor time was not measured"]
    limit = MAX_CPU_SHARE * found.cores
    if found.busiest.share < limit:
        return []
    cores = "a core" if found.cores == 1 else f"{found.cores} cores"
    stretch = f"from second {found.busiest.from_s:.0f} to {found.busiest.to_s:.0f}"
    return [
        f"it took {found.busiest.share:.2f} of {cores} {stretch} (below {limit:.1f}): it may have been the bottleneck"
    ]


def _remarks(found: Evidence) -> list[str]:
    remarks: list[str] = []
    if found.steal_share > REMARKABLE_STEAL:
        remarks.append(f"the machine's host gave {found.steal_share:.1%} of its time to others: expect a slow tail")
    return remarks


def busiest_window(shares: Sequence[CpuWindow], length_s: float = CPU_WINDOW_S) -> CpuWindow | None:
    """The stretch of at least `length_s` in which most was taken; all of it where there is less; None for nothing.

    `shares`: one after the other.
    """
    best: CpuWindow | None = None
    window: deque[CpuWindow] = deque()
    for each in shares:
        window.append(each)
        while len(window) > 1 and _length_s(window) - window[0].length_s >= length_s:
            window.popleft()
        if _length_s(window) >= length_s or (best is None and each is shares[-1]):
            share = sum(one.share * one.length_s for one in window) / (_length_s(window) or 1.0)
            if best is None or share > best.share:
                best = CpuWindow(window[0].from_s, each.to_s, share)
    return best


def _length_s(window: Iterable[CpuWindow]) -> float:
    return sum(each.length_s for each in window)
