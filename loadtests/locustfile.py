"""Shoppers and a merchandiser as locust users, against every edge of a running shop.

    locust -f loadtests/locustfile.py --headless -u 20 -t 60s

Where the shop is comes from its ready file (NEARSHELF_READY, or the state folder's); the guard of loadtests/target.py
applies. At the end a table by Cache-Status is printed. Exit status 1 when a request failed, when a price was shown
after a change that had replaced it was live, or when nothing was proved because no changed price was seen.

One process only: the oracle must know of every change, so `--processes` and workers are refused.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import random
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from locust import events, task
from locust.contrib.fasthttp import FastHttpUser
from locust.env import Environment
from locust.runners import LocalRunner

from loadtests import people, staff
from loadtests.discovery import looking_around
from loadtests.http1 import Answer
from loadtests.judge import Findings, Judge, violation_line
from loadtests.oracle import Oracle, PriceKey
from loadtests.reading import cache_status
from loadtests.statistics import percentile_text, percentiles
from loadtests.target import BadTarget, Target, load_target

SEED = int(os.environ.get("NEARSHELF_LOAD_SEED", "1"))
PRODUCTS = 100
"""Products that shoppers know."""
PRICES = 12
"""Prices that the merchandiser changes: of the most popular products, so that many see them."""
CHANGE_EVERY_S = 1.0
"""From one change being live to the next."""
WAIT_LIVE_S = 30.0
LIVE_STATES = frozenset({"live", "shown"})


class Run:
    """What all users of a run share."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.rng = random.Random(SEED)
        self.front = people.ShopFront((), (), ())
        self.popularity: list[int] = []
        self.oracle = Oracle()
        self.findings = Findings()
        self.judge = Judge(self.oracle, self.findings)
        self.keys: list[PriceKey] = []
        self.digits: dict[str, int] = {}
        self.numbers = itertools.count()
        self.milliseconds: dict[str, list[float]] = defaultdict(list)
        """By Cache-Status."""
        self.live_ms: list[float] = []

    def look_around(self) -> None:
        """Find products by following links, and read the prices that will change. Raises BadTarget."""
        first = next(iter(self.target.edges.values()))
        walk = looking_around(PRODUCTS)
        target = next(walk)
        while True:
            try:
                target = walk.send(_get(first, target))
            except StopIteration as found:
                self.front = found.value
                break
        if not self.front.products:
            raise BadTarget(f"{first}: no product was found by following links; is the shop seeded?")
        self.popularity = people.popularity_of(self.front, SEED)
        popular = [self.front.products[place].sku for place in self.popularity[:PRICES]]
        self.keys = [PriceKey(self.rng.choice(self.front.markets), sku) for sku in popular]
        for key in self.keys:
            price = json.loads(_get(first, people.price(*key).target))
            self.oracle.start(key, price["amount_minor"])
            self.digits[key.market] = len(price["amount"].partition(".")[2])


def _get(base_url: str, target: str) -> bytes:
    """A page, redirects followed. Raises BadTarget."""
    parts = urlsplit(base_url)
    status = 0
    for _ in range(4):
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=15)
        try:
            connection.request("GET", target)
            answer = connection.getresponse()
            status, location, body = answer.status, answer.getheader("location"), answer.read()
        except OSError as exc:
            raise BadTarget(f"{base_url}{target}: {exc}") from exc
        finally:
            connection.close()
        if status == 200:
            return body
        if location is None:
            break
        target = location.removeprefix(base_url)
    raise BadTarget(f"{base_url}{target}: {status}, expected a page")


_runs: list[Run] = []


def the_run() -> Run:
    return _runs[-1]


def prepare(environment: Environment, **_: Any) -> None:
    """Find the shop before anybody is spawned; without one, end at once with the reason."""
    if not isinstance(environment.runner, LocalRunner):
        raise SystemExit("locust: the oracle must know of every change: run it in one process")
    try:
        run = Run(load_target())
        run.look_around()
    except BadTarget as exc:
        raise SystemExit(f"locust: {exc}") from exc
    _runs.append(run)


def conclude(environment: Environment, **_: Any) -> None:
    """Print the table by Cache-Status and set the exit status."""
    if not _runs:
        return
    run = the_run()
    run.judge.finish()
    findings = run.findings
    print(f"\n{'cache status':<44}{'answers':>9}  milliseconds")
    for name, values in sorted(run.milliseconds.items(), key=lambda item: -len(item[1])):
        print(f"{name:<44}{len(values):>9}  {percentile_text(percentiles(values))}")
    print(f"\nprice changes live             {len(run.live_ms)}  {percentile_text(percentiles(run.live_ms))} ms")
    print(f"answers checked                {findings.answers_checked} of {findings.answers}")
    print(f"  of a price changed and live  {findings.answers_telling}")
    print(f"old prices shown after live    {findings.old_prices_after_live}")
    print(f"prices never set               {findings.wrong_prices}")
    for text in (*findings.unreadable, *(violation_line(violation) for violation in findings.violations)):
        print(text)
    failures = environment.stats.total.num_failures
    proved = findings.answers_telling > 0
    if not proved:
        print("nothing was proved: no answer showed a price that had changed; run longer")
    environment.process_exit_code = 0 if findings.is_clean and proved and not failures else 1


events.init.add_listener(prepare)  # type: ignore[no-untyped-call]  # locust leaves it without types
events.quitting.add_listener(conclude)  # type: ignore[no-untyped-call]  # the same


class Browser(FastHttpUser):
    """A shopper of one edge, one session after another."""

    weight = 19
    insecure = False

    def __init__(self, environment: Environment) -> None:
        run = the_run()
        number = next(run.numbers)
        self.edge = list(run.target.edges)[number % len(run.target.edges)]
        self.host = run.target.edges[self.edge]
        self.browser = people.Browser(run.front, seed=SEED * 1_000_003 + number, popularity=run.popularity)
        self.etags: dict[str, str] = {}
        super().__init__(environment)

    def wait_time(self) -> float:
        """Seconds between two sessions."""
        return self.browser.think_s()

    @task
    def session(self) -> None:
        """Look around as one person does."""
        for number, visit in enumerate(self.browser.session()):
            if number:
                time.sleep(self.browser.think_s())
            self.look(visit)

    def look(self, visit: people.Visit) -> None:
        """One exchange, judged; a failure of the edge fails the request in locust's statistics too."""
        run = the_run()
        headers = {"If-None-Match": self.etags[visit.target]} if visit.target in self.etags else {}
        sent_at = time.monotonic()
        with self.client.get(
            visit.target, headers=headers, name=f"{self.edge} {visit.kind}", catch_response=True, allow_redirects=False
        ) as response:
            received_at = time.monotonic()
            if not response.status_code:
                response.failure(str(response.error))
                return
            fields = {name.lower(): value for name, value in (response.headers or {}).items()}
            answer = Answer(response.status_code, fields, response.content or b"", sent_at, received_at)
            run.milliseconds[str(cache_status(fields))].append((received_at - sent_at) * 1000)
            before = len(run.findings.violations)
            run.judge.answered(self.edge, "GET", visit, answer)
            if "etag" in fields:
                self.etags[visit.target] = fields["etag"]
            if len(run.findings.violations) > before:
                response.failure("an old price after live")
            elif response.status_code in {200, 304}:
                response.success()
            else:
                response.failure(f"status {response.status_code}")


class Merchandiser(FastHttpUser):
    """One member of staff at the origin, who changes one price after the other and waits until each is live."""

    fixed_count = 1

    def __init__(self, environment: Environment) -> None:
        run = the_run()
        self.host = run.target.origin
        self.rng = random.Random(f"{SEED} merchandiser")
        self.merchandiser = people.Merchandiser(SEED)
        self.token: str | None = None
        super().__init__(environment)

    def wait_time(self) -> float:
        """Seconds between two changes."""
        return CHANGE_EVERY_S

    def on_start(self) -> None:
        """Sign in with the credentials of the state folder."""
        answer = self.ask(staff.sign_in(staff.credentials_of(the_run().target.state)), "sign in")
        self.token = str(answer["token"]) if answer else None

    @task
    def change(self) -> None:
        """Change a price, wait until it is live, tell the oracle."""
        run = the_run()
        key = self.rng.choice(run.keys)
        current = run.oracle.current(key)
        assert current is not None
        amount = self.merchandiser.next_amount(key, current)
        change = run.oracle.began(key, amount, time.monotonic())
        answer = self.ask(staff.change_price(key, people.amount_text(amount, run.digits[key.market])), "change a price")
        if answer is None:
            # Not known whether it was committed, and then in which order: this price is not touched again.
            run.keys.remove(key)
            return
        give_up_at = time.monotonic() + WAIT_LIVE_S
        while time.monotonic() < give_up_at:
            found = self.ask(staff.ask_progress(str(answer["position"]), staff.HOLD_S), "wait until live")
            if found is None:
                return
            if staff.progress_of(found).state in LIVE_STATES:
                live_at = time.monotonic()
                run.oracle.live(change, live_at)
                run.live_ms.append((live_at - change.begun_at) * 1000)
                return

    def ask(self, exchange: staff.Exchange, name: str) -> Mapping[str, Any] | None:
        """The staff API's answer; None, counted as a failure, when it refused or did not answer."""
        headers, body = staff.request_parts(exchange, self.token)
        data = None if body is None else body.decode()
        with self.client.request(
            exchange.method, exchange.target, headers=headers, data=data, name=f"staff: {name}", catch_response=True
        ) as response:
            if not response.status_code:
                response.failure(str(response.error))
                return None
            try:
                found = staff.read_answer(exchange, response.status_code, response.content or b"")
            except staff.StaffError as exc:
                response.failure(str(exc))
                return None
            response.success()
            return found
