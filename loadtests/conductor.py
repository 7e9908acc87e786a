"""One run from its scenario to its report: prepared, begun, concluded.

Prepare reads everything that could be wrong before anything is sent. Conclude mends what the run has broken, whatever
became of it, and writes the files.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from loadtests import people, staff
from loadtests.client import Connection
from loadtests.deeds import Deeds, Operator
from loadtests.discovery import following, looking_around
from loadtests.execution import PATIENCE_S, Execution, Told
from loadtests.faults import STARTING_S, Breakage, FaultsUnavailable
from loadtests.http1 import NoAnswer
from loadtests.judge import Findings, Judge, violation_line
from loadtests.oracle import Oracle, PriceKey
from loadtests.origin_log import OriginLog
from loadtests.people import ShopFront
from loadtests.plan import Doing, Plan
from loadtests.planning import BadPlan, make_plan
from loadtests.probes import MOST_AT_ONCE, Probes
from loadtests.recorder.machine import versions_here
from loadtests.recorder.recorder import Recorder
from loadtests.recorder.run import Prices, Run, write_run
from loadtests.recorder.scraping import Scraped, Scraper
from loadtests.replay import BadRecording
from loadtests.report.files import write_reports
from loadtests.scenario import Scenario
from loadtests.scenario_files import BadScenario, load_scenario
from loadtests.sightings import Sightings
from loadtests.target import BadTarget, Target, load_target
from loadtests.thresholds import Threshold, ThresholdError, judge, parse_thresholds, read_thresholds
from loadtests.units import count_text, plural

FOLDER = "load"
"""Of all runs, in the state folder."""
PRICES_FILE = "prices.csv"
DEEDS_PATIENCE_S = 10.0
"""How long after the last answer deeds under way are waited for."""
PROBES_PATIENCE_S = 3.0
STOPPING_S = 1.0
"""How long answers on their way are waited for when a run is stopped."""
STOPPING_STEP_S = 0.01
REMARKABLE_WAITING = 0.001
"""Share of requests that waited for a user."""
MOST_FAILURES = 5
"""Of deeds, told one by one."""


class CannotStart(Exception):
    """A run cannot start. Says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Options:
    """What somebody wants to be run."""

    scenario: str
    seed: int = 1
    out: Path | None = None
    """The folder of the run; None: one of its own in the state folder."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Fields of the scenario set from outside, as `load_scenario` takes them."""
    thresholds: Path | None = None
    """Instead of the scenario's own."""
    ready: Path | None = None
    state: Path | None = None


def settings_of(texts: Iterable[str], *, duration: str = "", rate: str = "") -> dict[str, str]:
    """Settings of a scenario as somebody wrote them: `FIELD=VALUE`, and two that have options of their own.

    Raises CannotStart.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise CannotStart(f"--set {text}: expected FIELD=VALUE, such as people.bot=0")
        found[name.strip()] = value.strip()
    return found | {name: value for name, value in (("duration", duration), ("rate", rate)) if value}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What can be known of a run without asking the shop."""

    scenario: Scenario
    thresholds: tuple[Threshold, ...]
    target: Target


def read(options: Options) -> Wanted:
    """Scenario, thresholds and addresses. Raises CannotStart."""
    try:
        scenario = load_scenario(options.scenario, options.settings)
        lines = scenario.thresholds
        thresholds = parse_thresholds(lines) if options.thresholds is None else read_thresholds(options.thresholds)
        return Wanted(scenario, thresholds, load_target(options.ready, options.state))
    except (BadTarget, BadScenario, ThresholdError) as exc:
        raise CannotStart(str(exc)) from exc


class _Ended(Exception):
    """The run is over: what waits for its time waits in vain."""


class Conductor:
    """One run. `say`: where a person is told what happens."""

    def __init__(
        self,
        options: Options,
        wanted: Wanted,
        plan: Plan,
        say: Callable[[str], None],
        tell: Callable[[Told], None],
    ) -> None:
        self.target = target = wanted.target
        self.scenario = scenario = wanted.scenario
        self.plan = plan
        self.folder = options.out or folder_of(target, scenario)
        self.recorder = Recorder(
            scenario=scenario.name,
            description=scenario.description,
            seed=options.seed,
            generator="locust",
            request_digest=plan.digest,
            phases=plan.phases,
            duration_s=plan.phases[-1].to_s,
        )
        self.oracle = Oracle()
        self.sightings = Sightings()
        self.judge = Judge(self.oracle, Findings(), self.sightings)
        self.execution = Execution(plan, target.edges, self.recorder, self.judge, tell=tell)
        self.probes = Probes(target.edges, self.oracle, self.judge)
        self.breakage = Breakage(target.control)
        self.deeds = Deeds(plan, target.origin, self.recorder, self.oracle, self.probes, self.breakage)
        self._thresholds = wanted.thresholds
        self._say = say
        self._origin_log = OriginLog(target.origin_log)
        self._scraper: Scraper | None = None
        self._remarks: list[str] = list(plan.remarks)
        self._ended = threading.Event()
        self._operator = threading.Thread(target=self._operate, daemon=True)

    @classmethod
    def prepare(
        cls, options: Options, say: Callable[[str], None] = print, tell: Callable[[Told], None] = lambda _: None
    ) -> Conductor:
        """Read the scenario, look around in the shop, make the plan and everything it needs. Raises CannotStart.

        `tell`: called after each request of the run.
        """
        wanted = read(options)
        edges = wanted.target.edges
        try:
            with Connection(next(iter(edges.values()))) as connection:
                front = look_around(connection, wanted.scenario.people.to_find)
                plan = make_plan(wanted.scenario, front, list(edges), options.seed)
                made = cls(options, wanted, plan, say, tell)
                made.deeds.digits = made._watch(connection, plan.watched)
            made._get_ready()
        except (BadTarget, BadPlan, BadRecording, staff.StaffError) as exc:
            raise CannotStart(str(exc)) from exc
        except FaultsUnavailable as exc:
            raise CannotStart(f"{options.scenario} breaks the shop on purpose, which it cannot here: {exc}") from exc
        return made

    def _watch(self, connection: Connection, watched: Iterable[PriceKey]) -> dict[str, int]:
        """Tell the oracle what each watched price is; digits of each market's currency. Raises BadTarget."""
        digits: dict[str, int] = {}
        for key in watched:
            target = people.price(*key).target
            try:
                shown = json.loads(_get(connection, target))
                self.oracle.start(key, int(shown["amount_minor"]))
                digits[key.market] = len(str(shown["amount"]).partition(".")[2])
            except (ValueError, KeyError, TypeError) as exc:
                raise BadTarget(f"{connection.base_url}{target}: no price as docs/wire.md has it: {exc!r}") from exc
        return digits

    def _get_ready(self) -> None:
        doings = {deed.doing for deed in self.plan.deeds}
        if doings & {Doing.PRICE, Doing.PURGE, Doing.FLUSH}:
            self.deeds.sign_in(staff.credentials_of(self.target.state))
        if doings & {Doing.FAULT, Doing.HEAL} and (broken := self.breakage.in_force()):
            raise CannotStart(
                f"the shop is broken already ({'; '.join(broken)}); mend it with `nearshelf fault heal`, then try again"
            )
        if self.target.admin and self.target.admin_token is not None:
            self._scraper = Scraper.start(self.target.admin, self.target.origin, self.target.admin_token)
        else:
            self._remarks.append("edges and origin were not asked for their figures: no admin listener is known")

    # --- the run itself ---

    def begin(self) -> None:
        """The users are on their places: second 0 is a moment away."""
        self.execution.begin(time.monotonic())
        self.deeds.begun_at = self.execution.begun_at
        threading.Thread(target=self._pulse, daemon=True).start()
        self._operator.start()

    def _pulse(self) -> None:
        if self._ended.wait(max(0.0, self.execution.begun_at - time.monotonic())):
            return
        self._origin_log.begin()
        self.recorder.begin()
        while not self._ended.is_set():
            self.recorder.pulse(self.execution.seconds(time.monotonic()))
            # Until the next pulse is due, not for as long as one: late once would be late for ever.
            time.sleep(max(0.0, self.execution.begun_at + self.recorder.next_pulse_s - time.monotonic()))

    def _operate(self) -> None:
        operator = Operator(self.deeds, self._sleep_until)
        with contextlib.suppress(_Ended):
            while operator.next():
                pass

    def _sleep_until(self, at: float) -> None:
        """Raises _Ended."""
        if self._ended.wait(max(0.0, at - time.monotonic())):
            raise _Ended

    def wait(self) -> None:
        """Until everything is answered and done, or patience is at an end."""
        self.execution.done.wait(max(0.0, self.execution.ends_at + PATIENCE_S - time.monotonic()))
        # Phases last to their end, although the last request may be answered before.
        time.sleep(max(0.0, self.execution.ends_at - time.monotonic()))
        self.deeds.done.wait(DEEDS_PATIENCE_S)
        self.probes.stop(PROBES_PATIENCE_S)

    @property
    def is_begun(self) -> bool:
        """Second 0 is over: there is something to judge."""
        return self.recorder.is_begun

    def stop(self) -> None:
        """Somebody ends the run before its time: nothing more is due, and what was may come in."""
        execution = self.execution
        execution.stopped_at = min(execution.stopped_at, time.monotonic())
        give_up_at = execution.stopped_at + STOPPING_S
        while execution.has_unfinished() and time.monotonic() < give_up_at:
            time.sleep(STOPPING_STEP_S)

    def conclude(self, *, cut_short: str | None = None, locust: Mapping[str, Any] | None = None) -> Run:
        """Mend the shop, judge the run and write its files. Nobody may be sending any more.

        `cut_short`: why it ended before its time. `locust`: locust's own figures.
        """
        now = min(time.monotonic(), self.execution.stopped_at)
        self._ended.set()
        self.execution.give_up(now)
        # A command on its way might be obeyed after the one that mends it: it comes to its end first.
        self._operator.join(STARTING_S)
        for text in self.breakage.mend():
            self._say(f"the shop could not be mended: {text}")
            self._remarks.append(f"the shop could not be mended: {text}")
        self.probes.stop(0.0)
        self.execution.close()
        scraped = Scraped() if self._scraper is None else self._scraper.stop(self.execution.begun_at)
        run = self.recorder.finish(self.execution.seconds(now), cut_short=cut_short)
        if cut_short is None:
            run.check.faults += self.deeds.undone()
        run.series |= scraped.series
        run.policy_digests = dict(scraped.policy_digests)
        run.versions = versions_here(["locust"]) | {f"{name} build": build for name, build in scraped.builds.items()}
        run.prices = self._prices()
        run.figures = self._figures()
        told = (*self._waited(run), *self._failures(), *left_out(run, self.sightings), *scraped.remarks)
        run.check.remarks += [*self._remarks, *told]
        run.locust = dict(locust or {})
        run.thresholds = judge(run, self._thresholds)
        write_run(run, self.folder)
        self.sightings.write(self.folder / PRICES_FILE, self.execution.begun_at)
        write_reports(run, self.folder)
        return run

    def abandon(self) -> None:
        """The run was prepared and is not wanted any more; second 0 has not come."""
        self._ended.set()
        if self._scraper is not None:
            self._scraper.abandon()

    def _waited(self, run: Run) -> list[str]:
        share = self.execution.waited / run.check.sent if run.check.sent else 0.0
        said = (
            f"{share:.1%} of the requests waited for a free user, and count from when they were due all the same, as"
            " the next shopper would have felt it; with more users (-u) they would have waited at the shop"
        )
        return [said] if share >= REMARKABLE_WAITING else []

    def _failures(self) -> list[str]:
        failed = self.deeds.outcomes.failed
        more = [f"and {len(failed) - MOST_FAILURES} more that could not be done"] if len(failed) > MOST_FAILURES else []
        return [f"could not be done: {text}" for text in failed[:MOST_FAILURES]] + more

    def _prices(self) -> Prices:
        findings = self.judge.findings
        return Prices(
            answers_checked=findings.answers_checked,
            answers_telling=findings.answers_telling,
            old_after_live=findings.old_prices_after_live,
            wrong=findings.wrong_prices + findings.unreadable,
            marked=findings.marked_pages,
            staleness=self.judge.staleness,
            violations=[
                *map(violation_line, findings.violations),
                *(f"UNREADABLE: {said}" for said in findings.unreadable_said),
            ],
        )

    def _figures(self) -> dict[str, float]:
        """Those of loadtests/measures.py that only the run itself knows, under their names there."""
        outcomes = self.deeds.outcomes
        figures: dict[str, float] = {}
        if self.plan.deeds:
            figures |= {
                "prices_changed": outcomes.prices,
                "purges": outcomes.purges,
                "purged_tags": outcomes.tags,
                "deeds_late": outcomes.late,
                "deeds_failed": len(outcomes.failed),
                "leases_waited_out": sum(outcomes.waited_out.values()),
            }
        if self.plan.spotlight:
            hosts = {urlsplit(url).netloc: edge for edge, url in self.target.edges.items()}
            fetches = self._origin_log.fetches(self.plan.spotlight, hosts)
            if fetches is None:
                self._remarks.append("the origin keeps no log that could be read: its fetches were not counted")
            else:
                figures |= {f"origin_fetches{{edge={edge}}}": count for edge, count in fetches.items()}
        return figures


def left_out(run: Run, sightings: Sightings) -> list[str]:
    """What happened and has no figure of its own, in sentences."""
    found = []
    if unfollowed := sum(not change.fresh_ms for change in run.changes):
        found.append(
            f"{count_text(unfollowed)} of {plural(len(run.changes), 'change')} of prices had no probe, which follow "
            f"{MOST_AT_ONCE} at a time: purge to fresh is of the others"
        )
    if sightings.left_out:
        found.append(
            f"{PRICES_FILE} has {count_text(len(sightings))} of the prices that were seen; "
            f"{count_text(sightings.left_out)} more were judged and had no room in it"
        )
    return found


def look_around(connection: Connection, products: int) -> ShopFront:
    """What a stranger finds by following links. Raises BadTarget."""
    walk = looking_around(products)
    target = next(walk)
    while True:
        try:
            target = walk.send(_get(connection, target))
        except StopIteration as found:
            front: ShopFront = found.value
            return front


def _get(connection: Connection, target: str) -> bytes:
    """A page of the shop, redirects followed. Raises BadTarget."""
    way = following(connection.base_url, target)
    asked = next(way)
    while True:
        try:
            asked = way.send(connection.request("GET", asked))
        except NoAnswer as exc:
            raise BadTarget(str(exc)) from exc
        except StopIteration as found:
            page: bytes = found.value
            return page


def folder_of(target: Target, scenario: Scenario) -> Path:
    stamp = dt.datetime.now(dt.UTC).strftime("%Y%m%d-%H%M%S")
    return target.state / FOLDER / f"{scenario.name}-{stamp}"
