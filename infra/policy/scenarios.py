"""`nearshelf policy test`: scenarios played on a virtual clock, and which routes they exercise.

What is in a file is `scenario_files`, what is expected `expectations`, the edge that is asked `virtual_edge`; how it
is printed is `scenario_reports`.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cache_policies.folder import policy_files_in
from cache_policies.reading import PACKAGED_POLICIES, Place
from edge.core.key import CacheKey
from edge.core.policy import PolicySet
from edge.policy_files import PolicyFiles, read_policies
from infra.policy.expectations import Check, Seen, cache_status
from infra.policy.scenario_files import Asked, LeaseTurn, Power, Scenario, ScenarioFile, Step, read_scenarios
from infra.policy.virtual_edge import Caused, Viewed, VirtualShop
from infra.policy.virtual_time import START_S, VirtualLoop

SCENARIOS_FOLDER = "scenarios"
"""Below the folder of the policies."""


class NoScenarios(Exception):
    """What was named holds none. The text says what, why and what to name instead."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One thing that was expected and is not so."""

    place: Place
    field: str
    """Dotted path: `scenarios.home.steps[2].expect.outcome`."""
    expected: str
    got: str
    answered: str
    """The answer in one line."""


@dataclass(slots=True)
class Played:
    """One scenario after it was played."""

    scenario: Scenario
    failures: list[Failure] = field(default_factory=list)
    checks: int = 0
    """Expectations that were held against an answer."""
    routes: set[str] = field(default_factory=set)
    """Ids of the routes that decided about a request."""
    virtual_s: float = 0.0
    spent_ms: float = 0.0

    @property
    def passed(self) -> bool:
        return not self.failures


@dataclass(frozen=True, slots=True)
class Run:
    """All scenarios that were asked for."""

    folder: Path
    """Of the policies."""
    policies: PolicyFiles
    files: tuple[ScenarioFile, ...]
    played: tuple[Played, ...]

    @property
    def is_readable(self) -> bool:
        return self.policies.policies is not None and not any(file.faults for file in self.files)

    @property
    def routes(self) -> tuple[str, ...]:
        policies = self.policies.policies
        return () if policies is None else tuple(policy.id for policy in policies.policies)

    @property
    def never_exercised(self) -> tuple[str, ...]:
        exercised = {route for each in self.played for route in each.routes}
        return tuple(route for route in self.routes if route not in exercised)

    @property
    def coverage_percent(self) -> float:
        """Of the routes, how many decided about at least one request."""
        return 100.0 * (1 - len(self.never_exercised) / len(self.routes)) if self.routes else 0.0

    def exit_status(self, min_coverage: float) -> int:
        """0 passed; 1 an expectation failed, or coverage is below `min_coverage` percent; 2 something is unreadable."""
        if not self.is_readable:
            return 2
        return int(any(not each.passed for each in self.played) or self.coverage_percent < min_coverage)


def run_scenarios(paths: Sequence[Path], folder: Path | None) -> Run:
    """Play the scenarios in `paths` (files, or folders of *.yaml; none: `scenarios/` below the policies) against the
    policies in `folder` (None: those of this shop).

    Nothing is played while anything cannot be read. Raises NoScenarios.
    """
    folder = folder or PACKAGED_POLICIES
    found = _files(paths or [folder / SCENARIOS_FOLDER])
    policies = read_policies(folder)
    if policies.policies is None:
        return Run(folder, policies, (), ())
    files = tuple(read_scenarios(path, policies.policies) for path in found)
    played: Iterable[Played] = ()
    if not any(file.faults for file in files):
        played = [play(scenario, policies.policies) for file in files for scenario in file.scenarios]
    return Run(folder, policies, files, tuple(played))


def _files(paths: Sequence[Path]) -> list[Path]:
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            inside = policy_files_in(path)
            if not inside:
                raise NoScenarios(f"{path} holds no *.yaml; name a scenario file, or a folder of them")
            found.update(dict.fromkeys(inside))
        elif path.is_file():
            found[path] = None
        else:
            raise NoScenarios(f"{path} is neither a folder nor a file; name a scenario file, or a folder of them")
    return list(found)


def play(scenario: Scenario, policies: PolicySet) -> Played:
    """One scenario, from an empty store, in a loop of its own."""
    played = Played(scenario)
    began = time.perf_counter()
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(_Player(policies, played).play())
        played.virtual_s = runner.get_loop().time() - START_S
    played.spent_ms = (time.perf_counter() - began) * 1000
    return played


class _Player:
    def __init__(self, policies: PolicySet, played: Played) -> None:
        self._policies = policies
        self._played = played
        self._keys: dict[str, CacheKey | None] = {}
        """By the id of the step."""

    async def play(self) -> None:
        scenario = self._played.scenario
        shop = VirtualShop(self._policies, scenario.answers)
        under_way: list[asyncio.Task[None]] = []
        try:
            for step in scenario.steps:
                # At least one turn of the loop, in which an answer of this very moment is looked at.
                await asyncio.sleep(max(0.0, START_S + step.at_s - shop.loop.time()))
                await shop.loop.settled()
                # As a worker does it once a second.
                shop.store.sweep(limit=shop.store.stats().keys)
                _act(shop, step)
                if step.asked is not None:
                    under_way.append(asyncio.create_task(self._ask(shop, step, step.asked)))
                await shop.loop.settled()
            await asyncio.gather(*under_way)
        finally:
            await shop.close()

    async def _ask(self, shop: VirtualShop, step: Step, asked: Asked) -> None:
        """Send a step's requests, wait for their answers, and hold them against what is expected."""
        caused = Caused()
        crowd = [Viewed(asked.country, caused) for _ in range(asked.times)]
        body = asked.body.encode("utf-8", "surrogateescape")
        viewing = [
            asyncio.create_task(shop.view(asked.method, asked.url, asked.fields, body, asked.client, viewed))
            for viewed in crowd
        ]
        await asyncio.gather(*viewing)
        await shop.loop.settled()
        self._played.routes.update(viewed.route for viewed in crowd)
        if step.id:
            self._keys[step.id] = crowd[0].key
        collapsed = sum(viewed.collapsed for viewed in crowd)
        seen = [self._seen(shop, viewed, collapsed) for viewed in crowd]
        for check in step.checks:
            self._hold(check, seen)
        if not any(check.name.endswith(".complete") for check in step.checks):
            self._complete(asked, crowd)

    def _seen(self, shop: VirtualShop, viewed: Viewed, collapsed: int) -> Seen:
        held = shop.store.peek(viewed.key) if viewed.key is not None else ()
        return Seen(
            viewed,
            collapsed,
            held[0] if held else None,
            len(shop.fetches),
            shop.purged_by(viewed.found[0]) if viewed.found else (),
            self._keys,
        )

    def _hold(self, check: Check, seen: Sequence[Seen]) -> None:
        self._played.checks += 1
        found = [(check.judge(each), each.viewed) for each in seen]
        got = Counter(each for each, _ in found if each is not None)
        if got:
            first = next(viewed for each, viewed in found if each is not None)
            self._fail(check.value.place, check.name, check.want, _of_a_crowd(got, len(seen)), first)

    def _complete(self, asked: Asked, crowd: Sequence[Viewed]) -> None:
        cut = [viewed for viewed in crowd if not viewed.complete]
        if cut:
            got = _of_a_crowd(Counter({"a connection that ended before its end": len(cut)}), len(crowd))
            self._fail(asked.place, asked.path, "a whole answer", got, cut[0])

    def _fail(self, place: Place, path: str, expected: str, got: str, viewed: Viewed) -> None:
        answered = f"{viewed.status} {cache_status(viewed)}".strip() if viewed.status else "nothing"
        self._played.failures.append(Failure(place, path, expected, got, answered))


def _of_a_crowd(got: Counter[str], viewers: int) -> str:
    if viewers == 1 or (got.total() == viewers and len(got) == 1):
        return next(iter(got))
    return "; ".join(f"{each} ({count} of {viewers} viewers)" for each, count in got.most_common())


def _act(shop: VirtualShop, step: Step) -> None:
    """What happens at the origin and to the log, in this order, before anybody asks."""
    shop.answers.update({address: list(turns) for address, turns in step.answers.items()})
    for name, power in step.origins.items():
        if power is Power.DOWN:
            shop.origins[name].go_down()
        else:
            shop.origins[name].come_up()
    if step.lease is LeaseTurn.LAPSES:
        shop.lapse()
    elif step.lease is LeaseTurn.RENEWED:
        shop.renew()
    if step.purge is not None:
        shop.purge(step.purge.tags, step.purge.kind)
