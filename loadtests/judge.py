"""Answers judged one by one: what they showed, against what was live when their request was sent."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from loadtests.bodies import AnotherBody, Bodies, Shown
from loadtests.http1 import Answer
from loadtests.oracle import Oracle, Verdict
from loadtests.people import Visit
from loadtests.reading import cache_status
from loadtests.recorder.histogram import Histogram
from loadtests.sightings import Sighting, Sightings

KEPT_VIOLATIONS = 50


@dataclass(slots=True)
class Violation:
    """An answer that broke the promise."""

    verdict: str
    edge: str
    target: str
    market: str
    sku: str
    shown: int
    expected: int | None
    replaced_s: float
    """How long before the request was sent a live change had replaced what was shown."""
    method: str
    cache_status: str


@dataclass(slots=True)
class Findings:
    """What was seen while judging."""

    answers: int = 0
    answers_checked: int = 0
    """Answers that showed a price this run watches."""
    answers_telling: int = 0
    """Of these, how many showed a price that a live change had touched: they could have been wrong."""
    prices_checked: int = 0
    old_prices_after_live: int = 0
    wrong_prices: int = 0
    """Prices that were never this product's in this market."""
    marked_pages: int = 0
    """Pages that said that their prices were being confirmed; not judged as current."""
    by_status: dict[str, int] = field(default_factory=dict)
    by_code: dict[str, int] = field(default_factory=dict)
    by_edge: dict[str, int] = field(default_factory=dict)
    unreadable: int = 0
    """Answers that hid what they showed, or came under the ETag of another body."""
    unreadable_said: list[str] = field(default_factory=list)
    """The first of them, and why."""
    violations: list[Violation] = field(default_factory=list)
    """The first of old and wrong prices."""

    @property
    def broken(self) -> int:
        """How often an answer broke the promise, or hid what it showed."""
        return self.old_prices_after_live + self.wrong_prices + self.unreadable

    @property
    def is_clean(self) -> bool:
        return not self.broken


class Judge:
    """Turns answers into verdicts and counts."""

    def __init__(self, oracle: Oracle, findings: Findings, sightings: Sightings | None = None) -> None:
        self.oracle = oracle
        self.findings = findings
        self.staleness = Histogram()
        """From the commit of a change to each answer that still showed what it replaced."""
        self._sightings = sightings
        self._statuses: Counter[str] = Counter()
        self._codes: Counter[str] = Counter()
        self._edges: Counter[str] = Counter()
        self._bodies = Bodies(oracle)

    def answered(self, edge: str, method: str, visit: Visit, answer: Answer, who: str = "") -> None:
        """Count an answer and judge every price that it shows, or that the body its ETag names shows.

        `who` asked, for the list of who saw which price when.
        """
        self.findings.answers += 1
        self._statuses[str(cache_status(answer.headers))] += 1
        self._codes[str(answer.status)] += 1
        self._edges[edge] += 1
        self._read(edge, method, visit, answer, who)

    def probed(self, edge: str, visit: Visit, answer: Answer, who: str) -> Shown:
        """Judge a GET that is not one of the run's requests, and say which watched prices it showed."""
        return self._read(edge, "GET", visit, answer, who)

    def _read(self, edge: str, method: str, visit: Visit, answer: Answer, who: str) -> Shown:
        findings = self.findings
        try:
            shown = self._bodies.shown(method, visit, answer)
        except ValueError as exc:
            findings.unreadable += 1
            if len(findings.unreadable_said) < KEPT_VIOLATIONS:
                findings.unreadable_said.append(f"{edge} {visit.target}: {exc}")
            if not isinstance(exc, AnotherBody):
                return []
            shown = exc.shown
        if shown is None:
            findings.marked_pages += 1
            return []
        self._judge(edge, method, visit, answer, shown, who)
        return shown

    def _judge(
        self,
        edge: str,
        method: str,
        visit: Visit,
        answer: Answer,
        shown: Shown,
        who: str,
    ) -> None:
        checked = telling = False
        status = str(cache_status(answer.headers)) if shown and self._sightings is not None else ""
        for key, amount in shown:
            judged = self.oracle.judge(key, amount, answer.sent_at, answer.received_at)
            if judged is None:
                continue
            checked = True
            telling = telling or not judged.vacuous
            self.findings.prices_checked += 1
            if judged.stale_s is not None:
                self.staleness.add(judged.stale_s * 1e6)
            if self._sightings is not None:
                self._sightings.add(
                    Sighting(
                        answer.received_at, edge, who, visit.kind, key, amount, judged.verdict, judged.stale_s, status
                    )
                )
            if judged.verdict is Verdict.OK:
                continue
            if judged.verdict is Verdict.SUPERSEDED:
                self.findings.old_prices_after_live += 1
            else:
                self.findings.wrong_prices += 1
            if len(self.findings.violations) < KEPT_VIOLATIONS:
                self.findings.violations.append(
                    Violation(
                        verdict=judged.verdict.value,
                        edge=edge,
                        target=visit.target,
                        market=key.market,
                        sku=key.sku,
                        shown=amount,
                        expected=judged.superseded_by.amount if judged.superseded_by else self.oracle.current(key),
                        replaced_s=round(judged.replaced_s, 4),
                        method=method,
                        cache_status=answer.headers.get("cache-status", ""),
                    )
                )
        self.findings.answers_checked += checked
        self.findings.answers_telling += telling

    def finish(self) -> None:
        self.findings.by_status = dict(self._statuses.most_common())
        self.findings.by_code = dict(sorted(self._codes.items()))
        self.findings.by_edge = dict(sorted(self._edges.items()))


def violation_line(violation: Violation) -> str:
    """One violation for a person."""
    return (
        f"{violation.verdict.upper()}: {violation.edge} {violation.method} {violation.target} showed {violation.sku} "
        f"({violation.market}) for {violation.shown}, expected {violation.expected}, replaced "
        f"{violation.replaced_s:.3f} s before; Cache-Status: {violation.cache_status}"
    )
