"""A failing run as people read it: what was broken, then who did what when, until it was seen."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from tests.simulation.asking import Manner

if TYPE_CHECKING:
    from tests.simulation.plan import Plan
    from tests.simulation.promise import Violation
    from tests.simulation.world import Result

LAST_S = 1.0
"""Everything is told of the last seconds before a violation; of what was before, what is about it."""
MOST_LINES = 220
_VIEWS = tuple(f"{manner.value} " for manner in Manner)


def story_of(result: Result) -> list[str]:
    """The lines of the story of a run that was told (`World(telling=True)`)."""
    lines = [f"run {result.seed}: {len(result.violations)} violations after {result.checked:,} checked serves"]
    if result.plan is not None:
        lines += _plan(result.plan)
    for violation in result.violations[:3]:
        lines += ["", f"{violation.invariant.value} at {violation.at:.4f} s: {violation.text}"]
    if result.violations:
        lines += ["", *_told(result, result.violations[0])]
    return lines


def _plan(plan: Plan) -> list[str]:
    return [f"  {field.name}: {getattr(plan, field.name)}" for field in fields(plan)]


def _told(result: Result, violation: Violation) -> list[str]:
    """What happened, but for what is neither late nor about the same things."""
    told = []
    left_out = 0
    for at, who, text in result.story:
        if at > violation.at:
            break
        late = at >= violation.at - LAST_S
        concerned = any(name in text or name == who for name in violation.about)
        # Of viewers there are very many.
        if (late and concerned) if text.startswith(_VIEWS) else (late or concerned):
            told.append(f"{at:10.4f}  {who:<10} {text}")
        else:
            left_out += 1
    if len(told) > MOST_LINES:
        left_out += len(told) - MOST_LINES
        told = told[-MOST_LINES:]
    return [f"what happened ({left_out:,} lines that are about something else are left out):", *told]
