"""One row of an import: from decoded JSON to what the tables hold, with everything that is wrong with it. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from origin.catalog import tables
from origin.catalog.import_files import Fault, Place
from origin.catalog.text import plain_text, tidy_name
from origin.money import MoneyError, parse_amount

MAX_DESCRIPTION: Final = 20_000
MAX_CATEGORIES: Final = 20
MAX_VARIANTS: Final = 500
MAX_LEVEL: Final = 8
MAX_INT: Final = 2**31 - 1
DEFAULT_QUANTITY: Final = 100
"""Pieces on hand of a product whose source does not say."""

# What a SKU may be made of: it stands in addresses and in cache tags, which have room for 256 characters.
_SKU: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ._+:~-]*[A-Za-z0-9._+:~-])?")
PRODUCT_FIELDS: Final = frozenset({
    "id", "source", "sku", "name", "category_ids", "prices", "sale_prices", "price_tiers", "description", "images",
    "attributes", "options", "variants", "quantity", "popularity", "units_sold", "first_sold_at", "last_sold_at",
    "tax_class", "name_derived",
})  # fmt: skip
CATEGORY_FIELDS: Final = frozenset({"id", "parent_id", "name", "level", "source", "derived"})


@dataclass(slots=True)
class CategoryRow:
    id: str
    parent_id: str | None
    name: str
    place: Place
    raw: bytes


class RowReader:
    """Reads one product or category out of decoded JSON and collects what is wrong with it."""

    def __init__(self, place: Place, value: Mapping[str, Any]) -> None:
        self.place = place
        self.faults: list[Fault] = []
        self._value = value

    def fault(self, name: str, text: str) -> None:
        self.faults.append(Fault(self.place, name, text))

    def product(self) -> dict[str, Any]:
        """The product as the second pass wants it; with faults it is not whole."""
        name = self.text("name", longest=tables.MAX_NAME, tidy=True)
        record: dict[str, Any] = {
            "id": self.text("id", longest=tables.MAX_EXTERNAL_ID),
            "sku": self._sku("sku", self._value),
            "name": name,
            "description": self._description(),
            "categories": self._category_ids(),
            "prices": self._prices("prices", self._value, required=True),
            "attributes": self._attributes(),
            "options": self._options(),
            "popularity": self._whole("popularity", self._value) or 0,
            "quantity": self._whole("quantity", self._value),
            "listed_at": self._moment("first_sold_at"),
            "variants": self._variants(),
        }
        for unused in ("sale_prices", "price_tiers", "images"):
            self._list(unused, self._value, required=False)
        return record

    def text(self, name: str, *, longest: int, required: bool = True, tidy: bool = False) -> str:
        value = self._value.get(name)
        if value is None:
            if required:
                self.fault(name, "missing, expected text" if name not in self._value else "null, expected text")
            return ""
        return self._checked_text(name, value, longest, tidy=tidy, required=required)

    def _checked_text(
        self, name: str, value: object, longest: int, *, tidy: bool = False, required: bool = True
    ) -> str:
        if not isinstance(value, str):
            self.fault(name, f"expected text, not {kind_of(value)}")
            return ""
        if "\x00" in value:
            self.fault(name, "holds a NUL character, which no text may")
            return ""
        text = tidy_name(value) if tidy else value.strip()
        if not text and required:
            self.fault(name, "empty, expected text")
        if len(text) > longest:
            self.fault(name, f"{len(text):,} characters long, at most {longest:,}")
        return text

    def _sku(self, name: str, value: Mapping[str, Any]) -> str:
        if (sku := value.get("sku")) is None:
            self.fault(name, "missing, expected the merchant's code of it")
            return ""
        text = self._checked_text(name, sku, tables.MAX_SKU)
        if text and not _SKU.fullmatch(text):
            self.fault(name, f"{text[:80]!r} may hold only the letters a to z, digits, blanks within, and . _ + : ~ -")
        return text

    def _description(self) -> str:
        text = self._value.get("description")
        if text is None:
            return ""
        if not isinstance(text, str):
            self.fault("description", f"expected text, not {kind_of(text)}")
            return ""
        plain = plain_text(text)
        if len(plain) > MAX_DESCRIPTION:
            self.fault("description", f"{len(plain):,} characters long, at most {MAX_DESCRIPTION:,}")
        return plain

    def _category_ids(self) -> list[str]:
        values = self._list("category_ids", self._value, required=True)
        ids = [
            self._checked_text(f"category_ids[{at}]", value, tables.MAX_EXTERNAL_ID) for at, value in enumerate(values)
        ]
        if len(ids) > MAX_CATEGORIES:
            self.fault("category_ids", f"{len(ids)} categories, at most {MAX_CATEGORIES}")
        return list(dict.fromkeys(each for each in ids if each))

    def _prices(self, name: str, value: Mapping[str, Any], *, required: bool) -> list[tuple[str, int]]:
        found: dict[str, int] = {}
        for at, price in enumerate(self._list(name, value, required=required)):
            where = f"{name}[{at}]"
            if not isinstance(price, dict):
                self.fault(where, f"expected an object with currency and amount, not {kind_of(price)}")
                continue
            currency, amount = price.get("currency"), price.get("amount")
            if not isinstance(currency, str):
                self.fault(
                    f"{where}.currency",
                    "missing, expected an ISO 4217 code such as EUR"
                    if currency is None
                    else f"expected an ISO 4217 code, not {kind_of(currency)}",
                )
                continue
            if not isinstance(amount, str):
                text = "missing" if amount is None else f"{kind_of(amount)}, which may not be exact"
                self.fault(f"{where}.amount", f'{text}, expected a decimal in quotes such as "12.00"')
                continue
            if amount.strip().startswith("-"):
                self.fault(f"{where}.amount", f"{amount[:40]!r} is negative, expected a price of zero or more")
                continue
            try:
                money = parse_amount(amount, currency)
            except MoneyError as exc:
                about_currency = str(exc).startswith("unknown currency") or "no minor unit" in str(exc)
                self.fault(f"{where}.{'currency' if about_currency else 'amount'}", str(exc))
                continue
            if currency in found:
                self.fault(f"{where}.currency", f"a second price in {currency}, expected one in each currency")
                continue
            found[currency] = money.minor_units
        return list(found.items())

    def _attributes(self) -> dict[str, Any]:
        value = self._value.get("attributes")
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.fault("attributes", f"expected an object, not {kind_of(value)}")
            return {}
        kept: dict[str, Any] = {}
        for name, each in value.items():
            where = f"attributes.{name}"
            parts = each if isinstance(each, list) else [each]
            if any(isinstance(part, dict | list) for part in parts):
                self.fault(where, "expected text, a number, true or false, or a list of them; nothing nested")
            elif each is not None:
                clean = [self._clean(part) for part in parts]
                kept[self._clean(name)] = clean if isinstance(each, list) else clean[0]
        return kept

    @staticmethod
    def _clean(value: Any) -> Any:
        return plain_text(value) if isinstance(value, str) else value

    def _options(self) -> list[dict[str, Any]]:
        options = []
        for at, option in enumerate(self._list("options", self._value, required=False)):
            where = f"options[{at}]"
            if not isinstance(option, dict) or not isinstance(option.get("name"), str) or not option["name"].strip():
                self.fault(where, "expected an object with a name and its values")
                continue
            values = self._list("values", option, required=True, where=f"{where}.values")
            if any(not isinstance(value, str) for value in values):
                self.fault(f"{where}.values", "expected texts only")
                continue
            options.append({"name": self._clean(option["name"]), "values": [self._clean(value) for value in values]})
        return options

    def _variants(self) -> list[dict[str, Any]]:
        variants = []
        values = self._list("variants", self._value, required=False)
        if len(values) > MAX_VARIANTS:
            self.fault("variants", f"{len(values):,} variants, at most {MAX_VARIANTS}")
        for at, value in enumerate(values):
            where = f"variants[{at}]"
            if not isinstance(value, dict):
                self.fault(where, f"expected an object, not {kind_of(value)}")
                continue
            options = value.get("options", {})
            if not isinstance(options, dict) or any(not isinstance(each, str) for each in options.values()):
                self.fault(f"{where}.options", 'expected an object of texts, such as {"size": "M"}')
                options = {}
            variants.append(
                {
                    "sku": self._sku(f"{where}.sku", value),
                    "options": {self._clean(name): self._clean(each) for name, each in options.items()},
                    "prices": self._prices_of_variant(where, value),
                    "quantity": self._whole("quantity", value, where=f"{where}.quantity"),
                }
            )
        return variants

    def _prices_of_variant(self, where: str, value: Mapping[str, Any]) -> list[tuple[str, int]]:
        found = len(self.faults)
        prices = self._prices("prices", value, required=False)
        self.faults[found:] = [Fault(each.place, f"{where}.{each.field}", each.text) for each in self.faults[found:]]
        return prices

    def _whole(self, name: str, value: Mapping[str, Any], where: str = "") -> int | None:
        number = value.get(name)
        if number is None:
            return None
        if not isinstance(number, int) or isinstance(number, bool):
            self.fault(where or name, f"expected a whole number, not {kind_of(number)}")
            return None
        if not 0 <= number <= MAX_INT:
            self.fault(where or name, f"{number} is out of range, expected 0 to {MAX_INT:,}")
            return None
        return number

    def _moment(self, name: str) -> str:
        text = self._value.get(name)
        if text is None:
            return ""
        try:
            moment = datetime.fromisoformat(text)
        except (TypeError, ValueError):
            self.fault(name, f"{text!r} is not a date and time, expected for example 2026-01-31T09:00:00Z"[:200])
            return ""
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()

    def _list(self, name: str, value: Mapping[str, Any], *, required: bool, where: str = "") -> list[Any]:
        items = value.get(name)
        if items is None:
            if required:
                self.fault(where or name, "missing, expected a list")
            return []
        if not isinstance(items, list):
            self.fault(where or name, f"expected a list, not {kind_of(items)}")
            return []
        if required and not items:
            self.fault(where or name, "empty, expected at least one")
        return items


def skus_of(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The SKUs of a product and its variants, each with the field that says it."""
    return [
        ("sku", record["sku"]),
        *((f"variants[{at}].sku", each["sku"]) for at, each in enumerate(record["variants"])),
    ]


def kind_of(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return f"the number {value}"
        case str():
            return f"the text {value[:40]!r}"
        case list():
            return "a list"
        case _:
            return "an object"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A product on its way into the tables."""

    record: Mapping[str, Any]
    slug: str
    digest: bytes

    def _priced(self) -> Iterator[tuple[str, Sequence[tuple[str, int]]]]:
        """Each SKU with its prices; a variant without prices has the product's."""
        yield self.record["sku"], self.record["prices"]
        for variant in self.record["variants"]:
            yield variant["sku"], variant["prices"] or self.record["prices"]

    def base_prices(self) -> Iterator[tuple[str, str, int]]:
        for sku, prices in self._priced():
            currency, minor_units = prices[0]
            yield sku, currency, minor_units

    def market_prices(self, markets: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str, str, int]]:
        """Prices after the first are the own prices of the markets that sell in their currency."""
        for sku, prices in self._priced():
            for currency, minor_units in prices[1:]:
                for market_currency, market in markets:
                    if market_currency == currency:
                        yield sku, market, currency, minor_units

    def stock(self) -> Iterator[tuple[str, int]]:
        quantities = [variant["quantity"] for variant in self.record["variants"]]
        own = self.record["quantity"]
        if own is None:
            known = [quantity for quantity in quantities if quantity is not None]
            own = sum(known) if known else DEFAULT_QUANTITY
        yield self.record["sku"], min(own, MAX_INT)
        for variant, quantity in zip(self.record["variants"], quantities, strict=True):
            yield variant["sku"], own if quantity is None else quantity
