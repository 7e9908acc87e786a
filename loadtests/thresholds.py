"""What a run must meet, one condition a line, and the verdict on each.

    p99{status=hit} < 15ms
    p99{status=hit,phase=storm} < 1.5 * p99{status=hit,phase=rest}      # against another figure of the same run
    hit_ratio{route=category} > 0.92

The names are those of `measures`. Durations, shares and bytes take a unit: us, ms, s, %, B, kB, MB, GB.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, NoReturn

from cache_policies.reading import Place, did_you_mean
from loadtests.measures import EXAMPLES, Labels, Measure, NotMeasured, measure_called
from loadtests.recorder.run import Run, Status, Verdict
from loadtests.units import NO_BREAK, UNITS, Kind, count_text, digits, in_words, text_of

COMPARISONS = {
    "<=": lambda measured, limit: measured <= limit,
    ">=": lambda measured, limit: measured >= limit,
    "==": lambda measured, limit: measured == limit,
    "!=": lambda measured, limit: measured != limit,
    "<": lambda measured, limit: measured < limit,
    ">": lambda measured, limit: measured > limit,
}
_UNIT_OF_KIND = {Kind.TIME: "such as 15ms or 2s", Kind.BYTES: "such as 30kB or 64MB"}
_TOKEN = re.compile(
    r"(?P<space>[ \t]+)"
    r"|(?P<number>\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)"
    r"|(?P<word>[A-Za-z_%][A-Za-z0-9_.%-]*)"
    r"|(?P<mark><=|>=|==|!=|[<>{}=,*])"
    r"|(?P<other>.)",
    re.DOTALL,
)


class Problem(NamedTuple):
    """One thing wrong with a threshold."""

    place: Place
    what: str

    def __str__(self) -> str:
        return f"{self.place}: {self.what}"


class ThresholdError(Exception):
    """Thresholds cannot be used. The text lists every problem, one a line: `nightly.txt:3:5: expected ...`."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of the run, as a threshold names it."""

    name: str
    labels: tuple[tuple[str, str], ...]
    measure: Measure

    @property
    def choice(self) -> Labels:
        return dict(self.labels)


@dataclass(frozen=True, slots=True)
class Threshold:
    """One condition on a run."""

    text: str
    place: Place
    figure: Figure
    comparison: str
    """Of COMPARISONS."""
    limit: float
    """In the kept unit of the figure's kind; beside `against`, how many times that."""
    unit: str
    """Of UNITS; empty for plain numbers."""
    against: Figure | None = None
    """Another figure of the same run and kind."""


# --- reading ------------------------------------------------------------------------------------------------------


class _Token(NamedTuple):
    kind: str
    text: str
    at: int
    """Characters before it."""


class _Line:
    """The words of one threshold, taken from left to right."""

    def __init__(self, text: str, place: Place) -> None:
        self._place = place
        found = [_Token(str(match.lastgroup), match[0], match.start()) for match in _TOKEN.finditer(text)]
        self._tokens = [token for token in found if token.kind != "space"]
        self._end = len(text)
        self._next = 0

    def peek(self) -> _Token:
        if self._next < len(self._tokens):
            return self._tokens[self._next]
        return _Token("end", "", self._end)

    def take(self) -> _Token:
        token = self.peek()
        self._next += 1
        return token

    def took(self, mark: str) -> bool:
        if self.peek().text == mark:
            self._next += 1
            return True
        return False

    def fail(self, token: _Token, what: str) -> NoReturn:
        place = self._place._replace(column=self._place.column + token.at, end_column=0)
        raise ThresholdError([Problem(place, what)])

    def expected(self, token: _Token, what: str, hint: str = "") -> NoReturn:
        shown = token.text if token.text.isprintable() else repr(token.text)[1:-1]
        self.fail(token, f"{shown or 'the end of the line'}, expected {what}{hint}")

    def follows(self, token: _Token) -> bool:
        """Whether the next word stands right behind this one."""
        return self.peek().at == token.at + len(token.text) and self.peek().kind == "word"


def parse_threshold(text: str, place: Place) -> Threshold:
    """The threshold that is written at a place. Raises ThresholdError with file, line and column."""
    line = _Line(text, place)
    figure = _figure(line)
    token = line.take()
    if token.text not in COMPARISONS:
        hint = "; write == for equal" if token.text == "=" else ""
        line.expected(token, f"a comparison: {', '.join(sorted(COMPARISONS))}", hint)
    comparison, against, unit = token.text, None, ""
    if line.peek().kind == "word":
        token, limit, against = line.peek(), 1.0, _figure(line)
        if line.took("*"):
            limit = _number(line)
    else:
        limit_token = line.peek()
        limit = _number(line)
        if line.follows(limit_token) or line.peek().text in UNITS:
            limit, unit = _in_unit(line, limit, figure)
        if line.took("*"):
            if unit:
                line.fail(limit_token, f"a factor with a unit, {limit_token.text}{unit}; expected a plain number")
            token = line.peek()
            against = _figure(line)
        elif not unit and figure.measure.kind in _UNIT_OF_KIND:
            line.fail(
                limit_token, f"{limit_token.text} without a unit, expected one {_UNIT_OF_KIND[figure.measure.kind]}"
            )
    if against is not None and against.measure.kind is not figure.measure.kind:
        line.fail(
            token,
            f"{against.name} is {against.measure.kind}, expected what {figure.name} can be held against: "
            f"{figure.measure.kind}",
        )
    token = line.peek()
    if token.kind != "end":
        line.expected(token, "nothing more: one threshold a line")
    return Threshold(text.strip(), place, figure, comparison, limit, unit, against)


def _figure(line: _Line) -> Figure:
    token = line.take()
    if token.kind != "word":
        line.expected(token, "the name of a figure, such as p99 or hit_ratio")
    measure = measure_called(token.text)
    if measure is None:
        line.fail(token, f"no figure is called {token.text}{did_you_mean(token.text, EXAMPLES)}")
    labels: dict[str, str] = {}
    if line.took("{"):
        while True:
            _label(line, token.text, measure, labels)
            if line.took("}"):
                break
            if not line.took(","):
                line.expected(line.peek(), "a comma or }")
    return Figure(token.text, tuple(sorted(labels.items())), measure)


def _label(line: _Line, name: str, measure: Measure, labels: dict[str, str]) -> None:
    label = line.take()
    if label.kind != "word" or label.text not in measure.labels:
        known = f"one of the labels of {name}: {in_words(list(measure.labels))}" if measure.labels else ""
        if not known:
            line.fail(label, f"{name} takes no labels")
        line.expected(label, known, did_you_mean(label.text, measure.labels))
    if label.text in labels:
        line.fail(label, f"{label.text} a second time, expected it once")
    if not line.took("="):
        line.expected(line.peek(), f"= behind {label.text}")
    value = line.take()
    if value.kind not in {"word", "number"}:
        line.expected(value, f"what {label.text} must be")
    text = value.text
    if value.kind == "number" and line.follows(value):
        text += line.take().text
    if label.text == "status":
        text = text.lower()
        if text not in set(Status):
            line.expected(value, f"a status: {', '.join(Status)}", did_you_mean(text, Status))
    labels[label.text] = text


def _number(line: _Line) -> float:
    token = line.take()
    if token.kind != "number":
        line.expected(token, "a number or a figure")
    return float(token.text)


def _in_unit(line: _Line, number: float, figure: Figure) -> tuple[float, str]:
    token = line.take()
    its = [unit for unit, (kind, _) in UNITS.items() if kind is figure.measure.kind]
    if token.text not in its:
        expected = f"a unit of {figure.name}: {', '.join(its)}" if its else f"none: {figure.name} is a plain number"
        line.expected(token, expected, did_you_mean(token.text, its))
    return number * UNITS[token.text][1], token.text


def parse_thresholds(lines: Sequence[tuple[str, Place]]) -> tuple[Threshold, ...]:
    """All of them. Raises ThresholdError with everything that is wrong."""
    found: list[Threshold] = []
    problems: list[Problem] = []
    for text, place in lines:
        try:
            found.append(parse_threshold(text, place))
        except ThresholdError as exc:
            problems += exc.problems
    if problems:
        raise ThresholdError(problems)
    return tuple(found)


def read_thresholds(path: Path) -> tuple[Threshold, ...]:
    """Those in a file: one a line, `#` begins a comment. Raises ThresholdError."""
    start = Place(path.name, 1, 1)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as exc:
        raise ThresholdError([Problem(start, f"cannot be read: {exc.strerror}; name a file of thresholds")]) from exc
    except UnicodeDecodeError as exc:
        raise ThresholdError([Problem(start, f"not UTF-8 text: byte {exc.start}; save the file as UTF-8")]) from exc
    lines = []
    for number, line in enumerate(text.splitlines(), 1):
        content = line.partition("#")[0].rstrip()
        if content.strip():
            indent = len(content) - len(content.lstrip())
            lines.append((content.lstrip(), Place(path.name, number, indent + 1)))
    if not lines:
        raise ThresholdError([Problem(start, "no threshold, expected one a line such as p99{status=hit} < 15ms")])
    return parse_thresholds(lines)


# --- judging ------------------------------------------------------------------------------------------------------


def judge(run: Run, thresholds: Iterable[Threshold]) -> list[Verdict]:
    """The verdict on each. What was not measured is not met."""
    return [_judge_one(run, threshold) for threshold in thresholds]


def _judge_one(run: Run, threshold: Threshold) -> Verdict:
    figure, against = threshold.figure, threshold.against
    where = f"{threshold.place.file}:{threshold.place.line}"
    try:
        found = figure.measure.take(run, figure.choice)
        limit, beside = threshold.limit, ""
        if against is not None:
            other = against.measure.take(run, against.choice)
            limit *= other.value
            factor = f"{threshold.limit:g} × " if threshold.limit != 1 else ""
            beside = f" against {factor}{text_of(other.value, against.measure.kind)}"
            beside += f" = {text_of(limit, figure.measure.kind)}" if factor else ""
    except NotMeasured as exc:
        return Verdict(threshold.text, where, None, False, f"{threshold.text}: not met, nothing was measured: {exc}")
    met = COMPARISONS[threshold.comparison](found.value, limit)
    said = _told(found.value, limit, threshold) + beside + (f", {found.of}" if found.of else "")
    verdict = "" if met else "not met, "
    measured = found.value / UNITS[threshold.unit][1] if threshold.unit else found.value
    return Verdict(threshold.text, where, measured, met, f"{threshold.text}: {verdict}measured {said}")


def _told(value: float, limit: float, threshold: Threshold) -> str:
    """The figure in the threshold's own unit, with as many digits as it takes to tell it from the limit."""
    kind = threshold.figure.measure.kind
    if not threshold.unit and (threshold.against is not None or kind in {Kind.TIME, Kind.BYTES}):
        return text_of(value, kind)
    one = UNITS[threshold.unit][1] if threshold.unit else 1.0
    unit = f"{NO_BREAK}{threshold.unit}" if threshold.unit else ""
    if kind is Kind.COUNT and value == round(value):
        return count_text(value)
    for significant in range(3, 9):
        text = digits(value / one, significant)
        if value == limit or text != digits(limit / one, significant):
            return text + unit
    return f"{value / one!r}{unit}"
