"""Load as locust runs it: the people of a scenario as users, open loop, with a report that can be believed.

    locust -f loadtests/locustfile.py
    locust -f loadtests/locustfile.py --headless --scenario flash-sale --seed 7

Where the shop is comes from its ready file (NEARSHELF_READY, or the state folder's); the guard of loadtests/target.py
applies. A scenario and a seed make a plan (loadtests/planning.py); users carry it out (loadtests/execution.py) and end
with it. How many users there are (`-u`) is how many requests can be on their way at the same time: never how many are
sent. `nearshelf load run` is the same without a browser. See docs/load-testing.md.

Exit status: 0 everything is met, 1 a threshold or the promise is broken, 2 the run could not start, 3 it is invalid.
A run that showed a price which it must not show ends with 1, valid or not.
One process only: the judge of prices must know of every change.
"""

from __future__ import annotations

import csv
import gc
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from locust import User, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.exception import StopUser
from locust.runners import LocalRunner
from locust.stats import PERCENTILES_TO_REPORT, StatsCSV

from loadtests import cache_tab, execution
from loadtests.alarm import Alarm
from loadtests.conductor import CannotStart, Conductor, Options, settings_of
from loadtests.deeds import Merchandiser as Orders
from loadtests.execution import Told
from loadtests.plan import Doing, Person, Plan
from loadtests.recorder.run import Cell
from loadtests.report.terminal import exit_status, lines_of
from loadtests.scenario_files import scenario_names
from loadtests.units import plural

USERS = 400
"""What the web UI offers, and the most that a run has unless somebody asks for more."""
SPAWN_RATE = 100
FEWEST = 4
"""Of a kind of person that is needed at all."""
WAITS_S = 4.0
"""For how long an answer keeps a user busy, as far as their number is concerned: far longer than answers take, so that
nobody who is answered at once has to wait for a user who is not."""
WAITS_FOR_LIVE_S = 2.0
"""The same for a merchandiser and what they have ordered."""
MOST_MERCHANDISERS = 32
SAY_EVERY_S = 10.0
ALL_EDGES = "all edges of the running shop"
UNDER_WAY = "a run is under way: stop it first, or wait for its end"
CANNOT_START = 2
FAULT_OF_OURS = 70
REPORT_FILE = "report.html"


class _Names(list[str]):
    """Choices that are offered, and do not keep anybody from naming a file of their own."""

    def __contains__(self, _: object) -> bool:
        return True


class Session:
    """What this process runs: one run after the other in the web UI, one alone without it."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.conductor: Conductor | None = None
        self.status = FAULT_OF_OURS
        """Exit status of the last run."""
        self._shown: Conductor | None = None
        self.users = 0
        """Of the run that is prepared."""
        self.begun = threading.Event()
        """All users are there: those who came first wait for it, or they would send before the run has a second 0."""
        self._concluding = threading.Lock()

    @property
    def running(self) -> Conductor:
        """The run that users are spawned for."""
        assert self.conductor is not None
        return self.conductor

    def prepare(self, options: Options, users: int | None) -> None:
        """Make everything ready for a run; `users` None: as many as it needs. Raises CannotStart."""
        if self.conductor is not None:
            self.conductor.abandon()
            gc.unfreeze()
        self.conductor = None
        self.begun.clear()
        made = Conductor.prepare(options, say=_say, tell=self.tell)
        pool = pool_of(made.plan)
        try:
            if users is not None or sum(pool.values()) > USERS:
                pool = scaled(pool, users or USERS)
        except CannotStart:
            made.abandon()
            raise
        classes: list[type[_OneOfThePool]] = [*VIEWERS.values(), Merchandiser]
        for user_class in classes:
            user_class.fixed_count = pool.get(user_class.__name__, 0)
        self.conductor = self._shown = made
        self.users = sum(pool.values())
        # Millions of small objects that live as long as the run: nobody needs to look through them for cycles.
        gc.collect()
        gc.freeze()
        _say(
            f"{made.scenario.name}, seed {options.seed}: {plural(len(made.plan.arrivals), 'request')} and "
            f"{plural(len(made.plan.deeds), 'deed')} in {made.plan.phases[-1].to_s:.0f} s, {self.users} users"
        )

    def tell(self, told: Told) -> None:
        """Locust's own figures are kept beside ours."""
        arrival = told.arrival
        self.environment.events.request.fire(  # type: ignore[no-untyped-call]  # locust leaves it without types
            request_type=arrival.method,
            name=f"{arrival.edge} {arrival.visit.kind}",
            response_time=told.seconds * 1000,
            response_length=told.body_bytes,
            exception=None if told.why is None else RuntimeError(told.why),
            context={},
        )

    def begin(self) -> None:
        """The users are there."""
        conductor = self.running
        conductor.begin()
        self.begun.set()

        def end() -> None:
            runner = self.environment.runner
            assert runner is not None
            try:
                conductor.wait()
                self.conclude(None)
            finally:
                if self.environment.web_ui is None:
                    runner.quit()
                else:
                    runner.stop()

        threading.Thread(target=end, daemon=True).start()
        if self.environment.web_ui is None:
            threading.Thread(target=self._say_how_far, args=(conductor,), daemon=True).start()

    def _say_how_far(self, conductor: Conductor) -> None:
        """A line every SAY_EVERY_S, for whoever waits at a terminal."""
        execution = conductor.execution
        while not execution.done.wait(SAY_EVERY_S) and self.conductor is conductor:
            rows = cache_tab.rows_of(self.cells())
            if not rows:
                continue
            done_s, all_s, total = execution.seconds(time.monotonic()), conductor.plan.phases[-1].to_s, rows[0]
            _say(
                f"{done_s:.0f} of {all_s:.0f} s: {total['requests']} requests, hit ratio {total['hit_ratio']}, "
                f"hits p99 {total['hit_p99']}, errors {total['error']}"
            )

    def conclude(self, cut_short: str | None) -> None:
        """Once for each run, whoever is first: its end, or whoever stops it."""
        with self._concluding:
            conductor, self.conductor = self.conductor, None
            if conductor is None:
                return
            try:
                if not conductor.is_begun:
                    conductor.abandon()
                    self.status = CANNOT_START
                    return
                run = conductor.conclude(cut_short=cut_short, locust=_locust_figures(self.environment))
                _write_locust_csv(self.environment, conductor.folder)
                self.status = exit_status(run)
            finally:
                gc.unfreeze()
        for line in lines_of(run):
            print(line)
        print(f"report: {conductor.folder / REPORT_FILE}", flush=True)

    def cells(self) -> list[Cell]:
        """Of the run under way, else of the last one."""
        return [] if self._shown is None else self._shown.recorder.so_far()


def _locust_figures(environment: Environment) -> dict[str, Any]:
    stats = environment.stats
    return {
        "requests": stats.total.num_requests,
        "failures": stats.total.num_failures,
        "rows": [entry.to_dict() for entry in sorted(stats.entries.values(), key=lambda entry: entry.name)],
    }


def _write_locust_csv(environment: Environment, folder: Path) -> None:
    """Locust's own tables: locust_requests.csv, locust_failures.csv."""
    tables = StatsCSV(environment, PERCENTILES_TO_REPORT)
    for name, write in (("requests", tables.requests_csv), ("failures", tables.failures_csv)):
        with (folder / f"locust_{name}.csv").open("w", newline="", encoding="utf-8") as file:
            write(csv.writer(file))


_sessions: list[Session] = []


def the_session() -> Session:
    return _sessions[-1]


class _OneOfThePool(User):
    """A user that does what the plan has for its kind, and stops with it."""

    abstract = True

    def on_start(self) -> None:
        self.alarm = Alarm()

    def on_stop(self) -> None:
        self.alarm.close()


class _Viewer(_OneOfThePool):
    abstract = True
    person: Person

    @task
    def carry_out(self) -> None:
        """Every arrival of this kind that nobody else of the pool takes."""
        the_session().begun.wait()
        user = execution.User(the_session().running.execution, self.person, self.alarm.sleep_until)
        while user.next():
            pass
        raise StopUser


class Browser(_Viewer):
    person = Person.BROWSER


class Searcher(_Viewer):
    person = Person.SEARCHER


class Bot(_Viewer):
    person = Person.BOT


class Crowd(_Viewer):
    person = Person.CROWD


class Buster(_Viewer):
    person = Person.BUSTER


class Merchandiser(_OneOfThePool):
    """Changes prices and orders purges, and waits until each is live."""

    @task
    def carry_out(self) -> None:
        the_session().begun.wait()
        orders = Orders(the_session().running.deeds, self.alarm.sleep_until)
        while orders.next():
            pass
        raise StopUser


VIEWERS: dict[Person, type[_Viewer]] = {each.person: each for each in (Browser, Searcher, Bot, Crowd, Buster)}


def pool_of(plan: Plan) -> dict[str, int]:
    """How many users of each class carry a plan out: as many as may wait for answers in its busiest second."""
    busiest: dict[Person, int] = {}
    for (person, _), arrivals in Counter((arrival.person, int(arrival.at_s)) for arrival in plan.arrivals).items():
        busiest[person] = max(busiest.get(person, 0), arrivals)
    pool = {VIEWERS[person].__name__: max(FEWEST, round(most * WAITS_S)) for person, most in busiest.items()}
    orders = Counter(int(deed.at_s) for deed in plan.deeds if deed.doing not in {Doing.FAULT, Doing.HEAL})
    if orders:
        pool[Merchandiser.__name__] = min(MOST_MERCHANDISERS, FEWEST + round(max(orders.values()) * WAITS_FOR_LIVE_S))
    return pool


def scaled(pool: Mapping[str, int], users: int) -> dict[str, int]:
    """The pool with so many users in all, at least one of each class. Raises CannotStart where these are more."""
    if users < len(pool):
        raise CannotStart(
            f"{users} users: one of each kind is the least, {', '.join(pool)}; give -u {len(pool)} or more"
        )
    spare, total = users - len(pool), sum(pool.values())
    found = {name: 1 + size * spare // total for name, size in pool.items()}
    # What rounding left over goes to the largest.
    found[max(pool, key=lambda name: pool[name])] += users - sum(found.values())
    return found


# --- locust's events -----------------------------------------------------------------------------------------------


def add_options(parser: LocustArgumentParser, **_: Any) -> None:
    """Options of a run, for the command line and the form of the web UI."""
    group = parser.add_argument_group("nearshelf", "What is run (docs/load-testing.md)")
    add = group.add_argument
    shown = [
        add(
            "--scenario",
            metavar="NAME",
            choices=_Names(scenario_names()),
            default="steady-day",
            help="a scenario, or the path of one",
        ),
        add(
            "--seed", type=int, default=1, metavar="N", help="the same seed over the same shop sends the same requests"
        ),
        add("--duration", default="", metavar="TIME", help="instead of the scenario's own, such as 20s"),
        add("--rate", default="", metavar="N", help="requests a second, instead of the scenario's own"),
        add(
            "--set",
            dest="settings",
            action="append",
            metavar="FIELD=VALUE",
            help="any field of the scenario, such as people.bot=0; repeat it (in a form: commas between)",
        ),
    ]
    for action in shown:
        # What locust's own `add_argument` would note; an argument of a group is asked for it as well.
        action.include_in_web_ui = True
    for name, text in (
        ("out", "folder of the run (default: one of its own in the state folder)"),
        ("thresholds", "a file of thresholds instead of the scenario's own"),
        ("ready", "ready file of the shop (default: NEARSHELF_READY, or the state folder's)"),
        ("state", "state folder of the shop (default: NEARSHELF_STATE, or .nearshelf)"),
    ):
        add(f"--{name}", type=Path, metavar="PATH", help=text)


def options_of(given: Mapping[str, Any]) -> Options:
    """Raises CannotStart."""
    duration = given["duration"] or (f"{given['run_time']}s" if given["run_time"] else "")
    return Options(
        scenario=given["scenario"],
        seed=int(given["seed"]),
        settings=settings_of(given["settings"] or (), duration=duration, rate=given["rate"]),
        **{name: given[name] for name in ("out", "thresholds", "ready", "state")},
    )


def prepare(environment: Environment, **_: Any) -> None:
    """Without a browser: read everything before anybody is spawned, and end at once where something is wrong."""
    if not isinstance(environment.runner, LocalRunner):
        _refuse("the judge of prices must know of every change: run it in one process")
    session = Session(environment)
    _sessions.append(session)
    options = environment.parsed_options
    assert options is not None
    if environment.web_ui is not None:
        options.num_users, options.spawn_rate = options.num_users or USERS, options.spawn_rate or SPAWN_RATE
        # What the form calls a host is nobody's to choose here: each request goes to the edge near its visitor.
        environment.host = ALL_EDGES
        cache_tab.install(environment.web_ui, session.cells)
        app: Any = environment.web_ui.app
        app.before_request(_before_the_form_is_obeyed)
        return
    try:
        session.prepare(options_of(vars(options)), options.num_users)
    except CannotStart as exc:
        _refuse(str(exc))
    # The plan says when a run ends; locust's own clock would cut off its last answers.
    options.run_time = None
    options.num_users, options.spawn_rate = session.users, SPAWN_RATE


def _say(text: str) -> None:
    print(f"nearshelf: {text}", file=sys.stderr, flush=True)


def _refuse(text: str) -> NoReturn:
    _say(text)
    raise SystemExit(CANNOT_START)


def _before_the_form_is_obeyed() -> Any:
    """In the web UI: prepare what the form asks for, or say there why it cannot be run."""
    from flask import jsonify, request
    from werkzeug.datastructures import MultiDict

    session = the_session()
    if request.method != "POST" or not request.path.endswith("/swarm"):
        return None
    if session.conductor is not None and session.begun.is_set():
        # A run has the users that it began with, and whatever it broke is its own to mend.
        return jsonify({"success": False, "message": UNDER_WAY, "host": session.environment.host})
    options = vars(session.environment.parsed_options)
    # The scenario says how long a run is; locust's own clock would cut off its last answers.
    request.form = MultiDict((name, value) for name, value in request.form.items() if name != "run_time")  # type: ignore[assignment]
    form: dict[str, Any] = {name: value for name, value in request.form.items() if name in options and value}
    form["settings"] = [text.strip() for text in request.form.get("settings", "").split(",") if text.strip()]
    try:
        session.prepare(options_of({**options, "run_time": None, **form}), int(form.get("user_count", USERS)))
    except (CannotStart, ValueError) as exc:
        return jsonify({"success": False, "message": str(exc), "host": session.environment.host})
    return None


def users_are_there(**_: Any) -> None:
    the_session().begin()


def stopping(**_: Any) -> None:
    """Somebody stops the run, or it has ended by itself and is concluded already."""
    conductor = the_session().conductor if _sessions else None
    if conductor is not None and conductor.is_begun:
        conductor.stop()


def stopped(**_: Any) -> None:
    """Nobody sends any more."""
    if _sessions:
        the_session().conclude("it was stopped")


def quitting(environment: Environment, **_: Any) -> None:
    if not _sessions:
        return
    session, runner = the_session(), environment.runner
    if session.conductor is not None and runner is not None:
        # Users first, nobody may be sending while the run is judged; that concludes it, if it had begun.
        runner.stop()
        session.conclude("it was stopped")
    environment.process_exit_code = session.status


events.init_command_line_parser.add_listener(add_options)  # type: ignore[no-untyped-call]  # without types
events.init.add_listener(prepare)  # type: ignore[no-untyped-call]
events.spawning_complete.add_listener(users_are_there)  # type: ignore[no-untyped-call]
events.test_stopping.add_listener(stopping)  # type: ignore[no-untyped-call]
events.test_stop.add_listener(stopped)  # type: ignore[no-untyped-call]
events.quitting.add_listener(quitting)  # type: ignore[no-untyped-call]
