"""What a reader sees first: the verdict, whether the figures can be believed, and what was measured where."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from loadtests.measures import counted_changes, take
from loadtests.recorder.check import (
    LATE_S,
    MAX_CPU_SHARE,
    MAX_LAG_P99_MS,
    MAX_LATE_SHARE,
    MIN_ACHIEVED,
    REMARKABLE_STEAL,
)
from loadtests.recorder.run import Run, Verdict
from loadtests.units import (
    bytes_text,
    count_text,
    digits,
    in_words,
    plural,
    rate_text,
    share_text,
    time_text,
)


@dataclass(frozen=True, slots=True)
class Said:
    """A sentence with its colour and its sign; the words alone say everything."""

    look: str
    sign: str
    said: str
    word: str = ""


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure, large."""

    name: str
    value: str
    beside: str


GOOD, BAD, ODD = ("good", "✓"), ("bad", "✗"), ("odd", "!")


def verdict_of(run: Run) -> Said:
    """The one thing to know."""
    broken = [verdict for verdict in run.thresholds if not verdict.met]
    said = []
    if run.prices.promise_broken:
        said.append(
            f"The promise was broken: {plural(run.prices.old_after_live, 'old price')} after live, "
            f"{plural(run.prices.wrong, 'price')} that nobody set."
        )
    if broken:
        said.append(f"{len(broken)} of {plural(len(run.thresholds), 'threshold')} not met.")
    if not run.check.valid:
        unbelieved = "The figures below cannot be believed: see why."
        if run.prices.promise_broken:
            # Proved by the answers that showed them, whatever the generator did.
            return Said(*BAD, " ".join([said[0], unbelieved, *said[1:]]), "Failed")
        return Said(*ODD, " ".join([unbelieved, *said]), "Invalid")
    if said:
        return Said(*BAD, " ".join(said), "Failed")
    if run.thresholds:
        said.append(f"All {plural(len(run.thresholds), 'threshold')} met.")
    else:
        said.append("It was held to no thresholds.")
    if run.prices.answers_telling:
        said.append("No old price was shown after live.")
    if run.open_loop:
        said.append("The generator kept up with its plan.")
    return Said(*GOOD, " ".join(said), "Passed")


def started_text(run: Run) -> str:
    """When it began, to the second."""
    try:
        moment = datetime.fromisoformat(run.started_at)
    except ValueError:
        return run.started_at
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def measured_text(verdict: Verdict) -> str:
    """What was measured for a threshold, without the threshold."""
    return verdict.said.removeprefix(f"{verdict.text}: ").removeprefix("not met, ").removeprefix("measured ")


def places_of(run: Run) -> str:
    return in_words(sorted({verdict.where.rpartition(":")[0] for verdict in run.thresholds}))


def tiles_of(run: Run) -> list[Tile]:
    """The figures that everybody asks for; those that were measured."""
    times = "" if run.open_loop else "uncorrected_"
    found: list[Tile] = []

    def tile(name: str, value: float | None, text: str, beside: str) -> None:
        if value is not None:
            found.append(Tile(name, text, beside))

    ratio, by_byte = take(run, "hit_ratio"), take(run, "byte_hit_ratio")
    tile("hit ratio", ratio, share_text(ratio or 0), "" if by_byte is None else f"by byte {share_text(by_byte)}")
    for status in ("hit", "miss"):
        middle, late = take(run, f"{times}p50", status=status), take(run, f"{times}p99", status=status)
        tile(f"{status} p99", late, time_text(late or 0), "" if middle is None else f"p50 {time_text(middle)}")
    origin, viewers = take(run, "origin_rps"), take(run, "rps")
    tile("viewers", viewers, rate_text(viewers or 0), plural(int(take(run, "requests") or 0), "request"))
    tile("origin", origin, rate_text(origin or 0), _offload(origin, viewers))
    live = take(run, "live_p95")
    tile(
        "price live, p95",
        live,
        time_text(live or 0),
        plural(len(counted_changes(run)), "change"),
    )
    if run.prices.answers_checked:
        old = run.prices.old_after_live
        found.append(Tile("old prices", count_text(old), f"after live, of {count_text(run.prices.answers_telling)}"))
    errors = take(run, "errors")
    tile("errors", errors, count_text(errors or 0), f"stale {count_text(take(run, 'requests', status='stale') or 0)}")
    return found


def _offload(origin: float | None, viewers: float | None) -> str:
    return "" if origin is None or not viewers or origin > viewers else f"offload {share_text(1 - origin / viewers)}"


def validity_of(run: Run) -> list[Said]:
    """Why the figures can, or cannot, be believed."""
    check = run.check
    found = [Said("broken", "✗", fault) for fault in check.faults]
    if check.valid:
        found.append(Said("met", "✓", "Valid: the generator was not the bottleneck."))
    found += [Said("odd", "!", remark) for remark in check.remarks]
    if run.open_loop:
        achieved = take(run, "achieved") or 0.0
        found.append(
            _line(
                achieved >= MIN_ACHIEVED and check.late_share <= MAX_LATE_SHARE,
                f"{plural(check.sent, 'request')} of {count_text(check.intended)} intended were sent, "
                f"{share_text(achieved)} before the end; "
                f"{share_text(check.late_share)} more than {LATE_S * 1000:.0f} ms late although somebody was free to "
                "send them.",
            )
        )
    else:
        found.append(
            Said("odd", "!", f"{run.generator} is a closed loop: a slow server is asked less, and waiting is not seen.")
        )
    found.append(
        _line(
            check.cpu_share < MAX_CPU_SHARE and check.lag_p99_ms <= MAX_LAG_P99_MS,
            f"The generator took {share_text(check.cpu_share)} of a core; its own loop woke up "
            f"{digits(check.lag_p99_ms)} ms late at p99.",
        )
    )
    if check.steal_share:
        found.append(
            _line(
                check.steal_share <= REMARKABLE_STEAL,
                f"The machine's host gave {share_text(check.steal_share)} of its time to others.",
            )
        )
    return found


def _line(good: bool, said: str) -> Said:
    return Said("met", "✓", said) if good else Said("odd", "!", said)


def facts_of(run: Run) -> list[tuple[str, str]]:
    """What was measured where, for whoever wants to do it again."""
    machine = run.machine
    versions = dict(run.versions)
    revision = versions.pop("revision", "")
    uncounted = [phase for phase in run.phases if not phase.counts]
    warm = sum(phase.to_s - phase.from_s for phase in uncounted)
    hardware = f"{machine.cpu}, {plural(machine.cores, 'core')}, {bytes_text(machine.memory_bytes)}, {machine.kernel}"
    length = f"{digits(run.duration_s)} s{_phases(run)}"
    return [
        ("length", length + (f"; {digits(warm)} s of warm-up are shown and not counted" if uncounted else "")),
        ("generator", f"{run.generator}, {'open loop: sends when it is due' if run.open_loop else 'closed loop'}"),
        ("machine", hardware),
        ("steal", share_text(run.check.steal_share)),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items()) or "not recorded"),
        ("revision", revision or "not recorded"),
        ("policies", _policies(run)),
        ("seed", str(run.seed)),
        ("request digest", run.request_digest),
    ]


def _phases(run: Run) -> str:
    counting = [phase for phase in run.phases if phase.counts]
    if len(counting) < 2:
        return ""
    return ": " + in_words([f"{phase.name} {digits(phase.to_s - phase.from_s)} s" for phase in counting])


def _policies(run: Run) -> str:
    if not run.policy_digests:
        return "not recorded"
    if len(set(run.policy_digests.values())) == 1:
        return f"{next(iter(run.policy_digests.values()))} at {in_words(sorted(run.policy_digests))}"
    return ", ".join(f"{edge} {digest}" for edge, digest in sorted(run.policy_digests.items()))
