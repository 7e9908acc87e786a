"""What a run under faults found, for a person."""

from __future__ import annotations

from collections import Counter

from loadtests.chaos.checkers import SOON_S
from loadtests.chaos.history import REPAIRED_WITHIN_S
from loadtests.chaos.schedule import KINDS
from loadtests.chaos.tally import Tally
from loadtests.recorder.histogram import Histogram


def rendered(tally: Tally) -> str:
    """The whole of it as text."""
    never = [kind for kind in KINDS if not tally.felt[kind]]
    lines = [
        f"faults that bit                {tally.faults:,} of {tally.made.total():,}",
        *(f"  {kind:<28} {count:,} of {tally.made[kind]:,}" for kind, count in tally.felt.most_common()),
        *([f"  none of                      {', '.join(never)}"] if never else []),
        *([f"  could not be made            {_counts(tally.refused)}"] if tally.refused else []),
        f"it took                        {_time(tally.seconds)}, {_sessions(tally.sessions)}, ended: {tally.ended}",
        *(f"  load                         {load}: {_sessions(count)}" for load, count in tally.loads.items()),
        f"answers                        {tally.answers:,}, of which 4xx, 5xx or none: {_counts(tally.failed)}",
        f"  judged as calm               {_counts(tally.calm_answers)}; for {_counts(tally.calm_s)} s",
        f"  that showed a watched price  {tally.checked:,}",
        f"  that could have been old     {tally.telling:,}: asked for after a change of what they showed was live",
        f"    within {SOON_S:g} s of it            {tally.soon:,}",
        f"  pages marked as unconfirmed  {tally.marked:,}",
        f"old prices shown after live    {tally.old_prices:,}",
        f"prices gone with a database    {tally.ghosts:,}",
        f"prices never set               {tally.other_verdicts:,}",
        f"answers that nobody can read   {tally.unreadable:,}",
        f"changes and purges confirmed   {tally.confirmed:,}, live {tally.live:,}",
        f"  never live                   {tally.never_live:,}",
        f"  lost with a database         {tally.gone:,}",
        f"change to live, calm           {_times(tally.calm)}",
        f"  under faults                 {_times(tally.faulty)}",
        f"a replaced price shown for     {_times(tally.staleness)}",
        f"repaired once it could ask     {_times(tally.repairs)}, {_within(tally.repairs)}",
        f"  begun anew after a kill      {_times(tally.restarts)}",
        f"  after mending or a kill      {_times(tally.repairs_in_all)}: until processes run again, too",
        f"a process grew at most by      {tally.most_memory_bytes >> 20:,} MiB, {tally.most_files:,} open files",
    ]
    lines += [f"wrong: {text}" for text in tally.wrong]
    lines += [f"not proved: {text}" for text in tally.unproved]
    lines.append("PASSED" if tally.passed else "FAILED")
    return "\n".join(lines)


def _times(found: Histogram) -> str:
    if not found.count:
        return "none"
    p50, p99 = (found.percentile_us(share) / 1000 for share in (0.5, 0.99))
    return f"p50 {p50:,.0f} ms, p99 {p99:,.0f} ms, max {found.highest_us / 1000:,.0f} ms ({found.count:,})"


def _within(found: Histogram) -> str:
    return f"{found.share_within(REPAIRED_WITHIN_S * 1e6):.2%} within {REPAIRED_WITHIN_S:g} s"


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _sessions(count: int) -> str:
    return "1 session" if count == 1 else f"{count} sessions"


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items())) or "none"
