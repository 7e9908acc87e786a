"""Prices in a file, for `nearshelf price batch`: CSV with a head, or JSON lines. Every fault with its line and column.

    sku,market,amount,expected_version
    LAMP-1,eu-eur,12.00,3

    {"sku": "LAMP-1", "market": "eu-eur", "amount": "12.00", "expected_version": 3}

What is read here is whether a price was written down at all; whether it can be is the origin's to say, and what it says
is put beside the line that it is about (`faults_of`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

MOST_PRICES: Final = 500
"""In one transaction, as the origin has it (`origin/pricing/batch.py`)."""
MAX_BYTES: Final = 1_000_000
"""Of a file: many times what so many prices take."""
FIELDS: Final = ("sku", "market", "amount", "expected_version")
_NEEDED: Final = frozenset({"sku", "amount"})
_SEPARATORS: Final = ",;\t"
_ABOUT_ROW: Final = re.compile(r"prices\.(\d+)(?:\.(\w+))?")


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong. Reads `file:line:column: field: what and why`; lines and columns count from 1."""

    file: str
    line: int
    column: int
    field: str
    text: str

    def __str__(self) -> str:
        about = f"{self.field}: " if self.field else ""
        return f"{self.file}:{self.line}:{self.column}: {about}{self.text}"


class BadPrices(Exception):
    """A file that is not sent; `faults` is all that is wrong with it."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults


@dataclass(frozen=True, slots=True)
class PriceRow:
    """One price as it was written, and where."""

    price: dict[str, Any]
    """As the staff API takes it."""
    line: int
    columns: Mapping[str, int]
    """Where each field stands."""


class _Wrong(Exception):
    """What is wrong at a column of the line at hand."""

    def __init__(self, column: int, text: str, field: str = "") -> None:
        super().__init__(text)
        self._column, self._text, self._field = column, text, field

    def at(self, file: str, line: int) -> Fault:
        return Fault(file, line, self._column, self._field, self._text)


def read_prices(file: str, data: bytes, market: str | None = None) -> list[PriceRow]:
    """The prices in `data`, which is called `file`; `market` is that of rows that name none. Raises BadPrices."""
    if len(data) > MAX_BYTES:
        raise BadPrices([Fault(file, 1, 1, "", f"larger than {MAX_BYTES:,} bytes: this is no list of prices")])
    lines = [
        (number, raw) for number, raw in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1) if raw.strip()
    ]
    columns: _Columns | None = None
    if lines and not lines[0][1].lstrip().startswith(b"{"):
        number, head = lines.pop(0)
        try:
            columns = _Columns(_text(head), market)
        except _Wrong as wrong:
            # Without it nothing else of a CSV file can be read.
            raise BadPrices([wrong.at(file, number)]) from None
    faults: list[Fault] = []
    rows: list[PriceRow] = []
    first_of: dict[tuple[str, str], int] = {}
    for number, raw in lines:
        try:
            line = _text(raw)
            fields = _members(line) if columns is None else columns.fields(line)
            row = PriceRow(_price(fields, market), number, {name: column for name, (column, _) in fields.items()})
            first = first_of.setdefault((row.price["sku"], row.price["market"]), number)
            if first != number:
                raise _Wrong(row.columns["sku"], f"the same SKU and market as in line {first}", "sku")
        except _Wrong as wrong:
            faults.append(wrong.at(file, number))
            continue
        rows.append(row)
        if len(rows) > MOST_PRICES:
            text = f"more than {MOST_PRICES} prices: one transaction takes no more; send several files, or import them"
            faults.append(Fault(file, number, 1, "", text))
            break
    if not rows and not faults:
        faults.append(Fault(file, 1, 1, "", f"no price in it: a head ({','.join(FIELDS)}) and rows, or JSON lines"))
    if faults:
        raise BadPrices(faults)
    return rows


def faults_of(file: str, rows: Sequence[PriceRow], problem: Mapping[str, Any]) -> list[Fault]:
    """What the origin says is wrong (RFC 9457), beside the rows that it is about; empty: it says nothing of rows."""
    theirs = problem.get("theirs")
    if isinstance(theirs, Mapping):
        named = (theirs.get("sku"), theirs.get("market"))
        found = next((row for row in rows if (row.price["sku"], row.price["market"]) == named), None)
        return [] if found is None else [_beside(file, found, "expected_version", str(problem.get("detail", "")))]
    faults = []
    for error in problem.get("errors", ()):
        about, text = _ABOUT_ROW.fullmatch(error["pointer"]), error["detail"]
        if about is not None and int(about[1]) < len(rows):
            faults.append(_beside(file, rows[int(about[1])], about[2] or "", text))
        else:
            faults.append(Fault(file, 1, 1, error["pointer"], text))
    return faults


def _beside(file: str, row: PriceRow, field: str, text: str) -> Fault:
    return Fault(file, row.line, row.columns.get(field, 1), field, text)


def _text(raw: bytes) -> str:
    try:
        return raw.removesuffix(b"\r").decode()
    except UnicodeDecodeError as exc:
        column = len(raw[: exc.start].decode()) + 1
        raise _Wrong(column, "not UTF-8; save it as UTF-8 (a spreadsheet calls it CSV UTF-8)") from exc


def _price(fields: Mapping[str, tuple[int, str]], market: str | None) -> dict[str, Any]:
    """As the staff API takes it. Raises _Wrong."""
    price: dict[str, Any] = {}
    for name in ("sku", "market", "amount"):
        column, text = fields.get(name, (1, ""))
        price[name] = text or (market if name == "market" else None)
        if not price[name]:
            raise _Wrong(column, "missing; --market names one for all" if name == "market" else "missing", name)
    column, text = fields.get("expected_version", (1, ""))
    if text:
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise _Wrong(column, f"{text[:40]!r} is not a whole number", "expected_version")
        price["expected_version"] = int(text)
    return price


# --- CSV (RFC 4180), a row to a line ---


class _Columns:
    """What the head says. Raises _Wrong for one that says too little."""

    def __init__(self, head: str, market: str | None) -> None:
        self._separator = max(_SEPARATORS, key=head.count)
        self._names: list[str] = []
        for column, text in _cells(head, self._separator):
            name = text.lower()
            if name not in FIELDS:
                raise _Wrong(column, f"{text[:40]!r} is no column of prices: they are {', '.join(FIELDS)}")
            if name in self._names:
                raise _Wrong(column, f"the column {name} is there twice")
            self._names.append(name)
        for name in FIELDS:
            if name not in self._names and (name in _NEEDED or (name == "market" and market is None)):
                hint = " (or --market for all)" if name == "market" else ""
                raise _Wrong(1, f"there is no column {name}{hint}")

    def fields(self, line: str) -> dict[str, tuple[int, str]]:
        """By name: the column at which it begins, and the text. Raises _Wrong."""
        cells = list(_cells(line, self._separator))
        if len(cells) > len(self._names):
            raise _Wrong(cells[len(self._names)][0], f"a field too many: the head has {len(self._names)}")
        if len(cells) < len(self._names):
            raise _Wrong(len(line) + 1, "missing", self._names[len(cells)])
        return dict(zip(self._names, cells, strict=True))


def _cells(line: str, separator: str) -> Iterator[tuple[int, str]]:
    cell = re.compile(rf'"((?:[^"]|"")*)"|([^"{separator}]*)')
    at = 0
    while True:
        found = cell.match(line, at)
        assert found is not None
        quoted, plain = found.groups()
        yield at + 1, (plain if quoted is None else quoted.replace('""', '"')).strip()
        at = found.end()
        if at == len(line):
            return
        if line[at] != separator:
            raise _Wrong(at + 1, "a quote that does not begin or end a field, or has no second one in its line")
        at += 1


# --- JSON lines ---


def _members(line: str) -> dict[str, tuple[int, str]]:
    """The same of a JSON object. Numbers are taken as they are written: no float comes of them."""
    try:
        pairs = json.loads(line, object_pairs_hook=list, parse_float=str, parse_int=str)
    except json.JSONDecodeError as exc:
        raise _Wrong(exc.colno, f"not JSON: {exc.msg}") from exc
    except RecursionError as exc:
        raise _Wrong(1, "not a row of prices") from exc
    if not (line.lstrip().startswith("{") and isinstance(pairs, list)):
        raise _Wrong(1, "a row is a JSON object, as those before it")
    members: dict[str, tuple[int, str]] = {}
    for name, value in pairs:
        written = list(re.finditer(rf"{re.escape(json.dumps(name))}\s*:\s*", line))
        column = written[-1].end() + 1 if written else 1
        if name not in FIELDS:
            raise _Wrong(column, f"no field of a price: they are {', '.join(FIELDS)}", str(name)[:40])
        if name in members:
            raise _Wrong(column, "there twice", name)
        if value is not None and not isinstance(value, str):
            raise _Wrong(column, "a text or a number", name)
        members[name] = (column, (value or "").strip())
    return members
