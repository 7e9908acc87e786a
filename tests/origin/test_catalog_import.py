"""Importing a catalog: every fault named, all of it or nothing, and the same again is nothing new."""

from __future__ import annotations

import asyncio
import gzip
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import text

from cache_policies.markets import load_markets
from origin.catalog import import_command
from origin.catalog.import_files import Fault, FileSource, RowSource
from origin.catalog.import_purges import MOST_NAMED
from origin.catalog.import_report import Outcome
from origin.catalog.importer import Importer
from origin.db import Database
from tests.support.servers import DatabaseUrls


@dataclass
class Heard:
    """A reporter that remembers."""

    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def fault(self, fault: Fault) -> None:
        self.faults.append(str(fault))

    def warning(self, fault: Fault) -> None:
        self.warnings.append(str(fault))

    def read(self, file: str, rows: int, done_bytes: int, total_bytes: int) -> None: ...

    def finished(self, file: str, rows: int) -> None: ...

    def written(self, rows: int, of: int) -> None: ...


class Shelf:
    """A database, and imports into it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.heard = Heard()

    async def take(self, *files: Any, keep_valid: bool = False, rejects: io.BytesIO | None = None) -> Outcome:
        """Imports files (paths) and lists of rows, as one."""
        self.heard = Heard()
        sources = [
            FileSource(file) if isinstance(file, Path) else RowSource(f"rows{number}", file)
            for number, file in enumerate(files, 1)
        ]
        each = Importer(
            self.database,
            self.database.markets,
            self.heard,
            actor="test",
            keep_valid=keep_valid,
            rejects=rejects,
        )
        return await each.run(sources)

    async def rows(self, statement: str) -> list[tuple[Any, ...]]:
        async with self.database.writes.connect() as connection:
            return [tuple(row) for row in await connection.execute(text(statement))]

    async def head(self) -> int:
        [[cv]] = await self.rows("SELECT cv FROM events.clock")
        return cv


@pytest.fixture
async def shelf(database: DatabaseUrls):
    opened = Database(database.primary, markets=load_markets())
    yield Shelf(opened)
    await opened.close()


def product(number: int = 1, **fields: Any) -> dict[str, Any]:
    row = {
        "id": f"p{number}",
        "sku": f"SKU-{number}",
        "name": f"Product {number}",
        "category_ids": ["tools"],
        "prices": [{"currency": "USD", "amount": "12.00"}],
    }
    return {name: value for name, value in (row | fields).items() if value is not ...}


def category(category_id: str, parent: str | None = None, name: str = "") -> dict[str, Any]:
    return {"id": category_id, "parent_id": parent, "name": name or category_id, "level": 1}


TOOLS = category("tools", name="Tools")

FAULTS: list[tuple[Any, list[str]]] = [
    (b"{not json", ["not JSON: unexpected character, expected a string key at column 2"]),
    (b"[1, 2]", ["a row is a JSON object, not a list"]),
    (
        b'{"id": "x", "name": "y"}',
        ["neither a product (no sku, prices or category_ids) nor a category (no parent_id or level)"],
    ),
    (b"\xff\xfe{}", ["not JSON: str is not valid UTF-8: surrogates not allowed at column 1"]),
    (product(1, id=...), ["id: missing, expected text"]),
    (product(1, sku=...), ["sku: missing, expected the merchant's code of it"]),
    (product(1, name=None), ["name: null, expected text"]),
    (product(1, name=7), ["name: expected text, not the number 7"]),
    (product(1, name="  "), ["name: empty, expected text"]),
    (product(1, name="x" * 256), ["name: 256 characters long, at most 255"]),
    (product(1, sku="S" * 65), ["sku: 65 characters long, at most 64"]),
    (product(1, sku="a/b"), ["sku: 'a/b' may hold only the letters a to z, digits, blanks within, and . _ + : ~ -"]),
    (product(1, category_ids=...), ["category_ids: missing, expected a list"]),
    (product(1, category_ids=[]), ["category_ids: empty, expected at least one"]),
    (product(1, category_ids="tools"), ["category_ids: expected a list, not the text 'tools'"]),
    (product(1, prices=...), ["prices: missing, expected a list"]),
    (product(1, prices=[]), ["prices: empty, expected at least one"]),
    (product(1, prices=[{"amount": "1.00"}]), ["prices[0].currency: missing, expected an ISO 4217 code such as EUR"]),
    (
        product(1, prices=[{"currency": "USD"}]),
        ['prices[0].amount: missing, expected a decimal in quotes such as "12.00"'],
    ),
    (
        product(1, prices=[{"currency": "USD", "amount": 1.5}]),
        ['prices[0].amount: the number 1.5, which may not be exact, expected a decimal in quotes such as "12.00"'],
    ),
    (
        product(1, prices=[{"currency": "USD", "amount": "-1.00"}]),
        ["prices[0].amount: '-1.00' is negative, expected a price of zero or more"],
    ),
    (
        product(1, prices=[{"currency": "USD", "amount": "1.005"}]),
        ["prices[0].amount: '1.005' has 3 digits after the point, USD has 2, expected for example 12.50"],
    ),
    (
        product(1, prices=[{"currency": "JPY", "amount": "10.0"}]),
        ["prices[0].amount: '10.0' has 1 digits after the point, JPY has none, expected for example 1250"],
    ),
    (
        product(1, prices=[{"currency": "ZZZ", "amount": "1.00"}]),
        ["prices[0].currency: unknown currency 'ZZZ', expected an ISO 4217 code such as EUR"],
    ),
    (
        product(1, prices=[{"currency": "NOK", "amount": "1.00"}]),
        ["prices[0].currency: there is no rate from NOK to any market's currency: set one first (nearshelf rate set)"],
    ),
    (
        product(1, prices=[{"currency": "USD", "amount": "1.00"}, {"currency": "USD", "amount": "2.00"}]),
        ["prices[1].currency: a second price in USD, expected one in each currency"],
    ),
    (product(1, quantity=-4), ["quantity: -4 is out of range, expected 0 to 2,147,483,647"]),
    (product(1, quantity=1.5), ["quantity: expected a whole number, not the number 1.5"]),
    (product(1, popularity=True), ["popularity: expected a whole number, not true"]),
    (product(1, attributes=[]), ["attributes: expected an object, not a list"]),
    (
        product(1, attributes={"size": {"a": 1}}),
        ["attributes.size: expected text, a number, true or false, or a list of them; nothing nested"],
    ),
    (product(1, options=[{"values": ["S"]}]), ["options[0]: expected an object with a name and its values"]),
    (product(1, options=[{"name": "size", "values": [1]}]), ["options[0].values: expected texts only"]),
    (product(1, description=5), ["description: expected text, not the number 5"]),
    (product(1, description="x" * 20_001), ["description: 20,001 characters long, at most 20,000"]),
    (
        product(1, first_sold_at="yesterday"),
        ["first_sold_at: 'yesterday' is not a date and time, expected for example 2026-01-31T09:00:00Z"],
    ),
    (
        product(1, variants=[{"sku": "V-1", "prices": [{"currency": "USD", "amount": "x"}]}, {"sku": "V-1"}, 3]),
        [
            (
                "variants[0].prices[0].amount: 'x' is not an amount: only the digits 0 to 9 and one point are allowed, "
                "expected for example 12.50"
            ),
            "variants[2]: expected an object, not the number 3",
            "variants[1].sku: duplicate SKU 'V-1', first in variants[0].sku of the same row",
        ],
    ),
    (product(1, sale_prices={}), ["sale_prices: expected a list, not an object"]),
    (
        product(1, sku="bad/", name="", prices=[{"currency": "USD", "amount": "-1"}]),
        [
            "name: empty, expected text",
            "sku: 'bad/' may hold only the letters a to z, digits, blanks within, and . _ + : ~ -",
            "prices[0].amount: '-1' is negative, expected a price of zero or more",
        ],
    ),
    (category("", name="x"), ["id: empty, expected text"]),
    (
        category("c", parent="nowhere"),
        ["parent_id: unknown parent 'nowhere': neither a good row here nor the shop has it"],
    ),
]
"""Rows, and all that is wrong with each."""


async def test_every_fault_is_named_with_its_place_and_nothing_is_changed(shelf: Shelf, tmp_path: Path):
    file = tmp_path / "broken.jsonl"
    lines = []
    expected = []
    for number, (row, faults) in enumerate(FAULTS, 1):
        # Each with names of its own, so that it is at fault for its own reason only.
        if isinstance(row, dict) and "category_ids" in row | {"category_ids": 0} and row.get("id") == "p1":
            row = row | {"id": f"p{number}"}
            if row.get("sku") == "SKU-1":
                row["sku"] = f"SKU-{number}"
        lines.append(row if isinstance(row, bytes) else orjson.dumps(row))
        expected += [f"{file}:{number}: {fault}" for fault in faults]
    file.write_bytes(b"\n".join([*lines, orjson.dumps(TOOLS), orjson.dumps(product(999))]))
    before = await shelf.head()
    outcome = await shelf.take(file)
    assert sorted(shelf.heard.faults) == sorted(expected)
    assert not outcome.committed
    assert outcome.faults == len(expected)
    assert outcome.rejected == len(FAULTS)
    assert await shelf.head() == before
    assert await shelf.rows("SELECT sku FROM catalog.product") == []
    assert await shelf.rows("SELECT base FROM pricing.rate") == []


async def test_duplicates_name_both_places(shelf: Shelf):
    rows = [
        TOOLS,
        product(1),
        product(2, sku="SKU-1"),
        product(1, sku="SKU-3"),
        product(4, variants=[{"sku": "SKU-1"}]),
    ]
    outcome = await shelf.take(rows, [product(5, sku="SKU-3"), TOOLS])
    assert shelf.heard.faults == [
        "rows1:3: sku: duplicate SKU 'SKU-1', first at rows1:2",
        "rows1:4: id: duplicate product 'p1', first at rows1:2",
        "rows1:5: variants[0].sku: duplicate SKU 'SKU-1', first at rows1:2",
        "rows2:1: sku: duplicate SKU 'SKU-3', first at rows1:4",
        "rows2:2: id: duplicate category 'tools', first at rows1:1",
    ]
    assert not outcome.committed


async def test_cycles_and_what_hangs_below_a_lost_parent(shelf: Shelf):
    rows = [category("a", "b"), category("b", "a"), category("c", "nix"), category("d", "c"), category("e", "e")]
    await shelf.take(rows)
    assert shelf.heard.faults == [
        "rows1:1: parent_id: its parents form a cycle: 'a' > 'b' > 'a'",
        "rows1:2: parent_id: its parents form a cycle: 'a' > 'b' > 'a'",
        "rows1:5: parent_id: its parents form a cycle: 'e' > 'e'",
        "rows1:3: parent_id: unknown parent 'nix': neither a good row here nor the shop has it",
        "rows1:4: parent_id: unknown parent 'c': neither a good row here nor the shop has it",
    ]


async def test_a_tree_has_eight_levels_at_most(shelf: Shelf):
    rows = [category("c0"), *(category(f"c{level}", f"c{level - 1}") for level in range(1, 10))]
    await shelf.take(rows)
    assert shelf.heard.faults[0] == "rows1:9: parent_id: this is level 9 of the tree, which has at most 8"


async def test_a_sku_of_another_product_in_the_shop_is_a_fault(shelf: Shelf):
    await shelf.take([TOOLS, product(1, variants=[{"sku": "V-1"}])])
    await shelf.take([product(2, sku="V-1"), product(3, sku="SKU-1")])
    assert shelf.heard.faults == [
        "rows1:1: sku: SKU 'V-1' belongs to product 'p1', which is in the shop",
        "rows1:2: sku: SKU 'SKU-1' belongs to product 'p1', which is in the shop",
    ]


async def test_keep_valid_imports_the_rest_and_the_rejected_rows_can_be_mended(shelf: Shelf):
    rejects = io.BytesIO()
    bad = product(2, prices=[{"currency": "USD", "amount": "-1.00"}])
    outcome = await shelf.take([TOOLS, product(1), bad, product(3)], keep_valid=True, rejects=rejects)
    assert outcome.committed
    assert (outcome.added, outcome.rejected, outcome.faults) == (2, 1, 1)
    assert rejects.getvalue() == orjson.dumps(bad) + b"\n"
    assert await shelf.rows("SELECT sku FROM catalog.product ORDER BY sku") == [("SKU-1",), ("SKU-3",)]
    mended = orjson.loads(rejects.getvalue()) | {"prices": [{"currency": "USD", "amount": "1.00"}]}
    assert (await shelf.take([mended])).added == 1


async def test_an_import_is_one_entry_of_the_purge_log_and_the_same_again_is_none(shelf: Shelf):
    rows = [TOOLS, product(1), product(2, variants=[{"sku": "V-1", "options": {"size": "S"}}])]
    before = await shelf.head()
    first = await shelf.take(rows)
    assert (first.added, first.updated, first.unchanged) == (2, 0, 0)
    assert await shelf.head() == before + 1
    # Categories are new as well: whatever any market shows, and every picture.
    [(kind, tags)] = await shelf.rows("SELECT kind, tags FROM events.purge_log ORDER BY cv DESC LIMIT 1")
    assert (kind, set(tags)) == ("hard", {"pics", *(f"m:{market.id}" for market in load_markets().all)})
    again = await shelf.take(rows)
    assert (again.added, again.updated, again.unchanged, again.position) == (0, 0, 2, "")
    assert await shelf.head() == before + 1


async def test_a_few_changed_products_are_named_and_many_are_not(shelf: Shelf):
    await shelf.take([TOOLS, category("knives", "tools", "Knives"), *(product(number) for number in range(1, 60))])
    moved = product(1, sku="SKU-NEW", category_ids=["knives"])
    await shelf.take([moved, product(60)])
    [(kind, tags)] = await shelf.rows("SELECT kind, tags FROM events.purge_log ORDER BY cv DESC LIMIT 1")
    assert kind == "hard"
    # What was there before the change, what is there after it, and every list that either is in.
    named = ["p:eu-eur:sku-1", "p:eu-eur:sku-new", "p:eu-eur:sku-60", "c:eu-eur:tools", "c:eu-eur:tools%2fknives"]
    assert set(named) | {"l:eu-eur", "h:eu-eur", "many:eu-eur", "pic:sku-1"} <= set(tags)
    assert not {"p:eu-eur:sku-2", "m:eu-eur", "*"} & set(tags)
    await shelf.take([product(number, name="New name") for number in range(2, MOST_NAMED + 3)])
    [(kind, tags)] = await shelf.rows("SELECT kind, tags FROM events.purge_log ORDER BY cv DESC LIMIT 1")
    patterns = ("d:M:tools", "c:M:tools", "cp:M:tools", "cp:M:", "l:M", "h:M", "many:M")
    assert set(tags) == {
        "pics",
        *(pattern.replace("M", market.id) for pattern in patterns for market in load_markets().all),
    }


async def test_a_changed_row_updates_in_place_and_keeps_its_address(shelf: Shelf):
    await shelf.take(
        [TOOLS, category("knives", "tools", "Knives"), product(1, name="Bread Knife", variants=[{"sku": "V-1"}])]
    )
    changed = product(1, name="Cake Knife", sku="SKU-9", category_ids=["knives"], variants=[{"sku": "V-2"}])
    outcome = await shelf.take([changed])
    assert (outcome.added, outcome.updated) == (0, 1)
    assert await shelf.rows("SELECT sku, slug, name, version FROM catalog.product") == [
        ("SKU-9", "bread-knife", "Cake Knife", 2)
    ]
    assert await shelf.rows("SELECT sku FROM catalog.variant") == [("V-2",)]
    paths = "SELECT c.path FROM catalog.category c JOIN catalog.product_category m ON m.category_id = c.id"
    assert await shelf.rows(paths) == [("tools/knives",)]


async def test_slugs_are_unique(shelf: Shelf):
    rows = [TOOLS, *(product(number, name="Same Name") for number in range(1, 4)), product(4, name="日本")]
    await shelf.take(rows)
    assert await shelf.rows("SELECT slug FROM catalog.product ORDER BY sku") == [
        ("same-name",),
        ("same-name-sku-2",),
        ("same-name-sku-3",),
        ("product",),
    ]


async def test_categories_may_come_after_their_children_and_in_another_file(shelf: Shelf):
    await shelf.take(
        [product(1, category_ids=["c"])],
        [category("c", "b", "Leaf"), category("b", "a", "Mid")],
        [category("a", name="Top")],
    )
    assert shelf.heard.warnings == []
    assert await shelf.rows("SELECT path, level FROM catalog.category ORDER BY level") == [
        ("top", 1),
        ("top/mid", 2),
        ("top/mid/leaf", 3),
    ]


async def test_a_category_that_nobody_describes_is_made_from_its_id(shelf: Shelf):
    outcome = await shelf.take([product(1, category_ids=["tools/hand-saws"])])
    assert shelf.heard.warnings == [
        f"rows1:1: category_ids[0]: no file describes category {made!r}, it was made from its id as {name!r}"
        for made, name in (("tools/hand-saws", "Hand saws"), ("tools", "Tools"))
    ]
    assert (outcome.warnings, outcome.committed) == (2, True)
    assert await shelf.rows("SELECT path, name FROM catalog.category ORDER BY level") == [
        ("tools", "Tools"),
        ("tools/hand-saws", "Hand saws"),
    ]


async def test_a_category_moves_with_all_below_it_and_siblings_do_not_collide(shelf: Shelf):
    await shelf.take(
        [category("a", name="A"), category("b", name="B"), category("c", "a", "C"), category("d", "c", "D")]
    )
    await shelf.take([category("c", "b", "Renamed"), category("x", "b", "C")])
    assert await shelf.rows("SELECT external_id, path FROM catalog.category ORDER BY external_id") == [
        ("a", "a"),
        ("b", "b"),
        ("c", "b/c"),
        ("d", "b/c/d"),
        ("x", "b/x"),
    ]


async def test_two_categories_may_swap_their_places(shelf: Shelf):
    await shelf.take(
        [category("a", name="A"), category("b", name="B"), category("ax", "a", "X"), category("bx", "b", "X")]
    )
    await shelf.take([category("ax", "b", "X"), category("bx", "a", "X")])
    assert shelf.heard.faults == []
    assert await shelf.rows("SELECT external_id, path FROM catalog.category WHERE level = 2 ORDER BY 1") == [
        ("ax", "b/x"),
        ("bx", "a/x"),
    ]


async def test_prices_after_the_first_belong_to_the_markets_of_their_currency(shelf: Shelf):
    prices = [
        {"currency": "GBP", "amount": "10.00"},
        {"currency": "JPY", "amount": "1980"},
        {"currency": "SEK", "amount": "99.00"},
    ]
    await shelf.take([TOOLS, product(1, prices=prices, variants=[{"sku": "V-1"}])])
    assert await shelf.rows("SELECT sku, currency, minor_units FROM pricing.base_price ORDER BY sku") == [
        ("SKU-1", "GBP", 1000),
        ("V-1", "GBP", 1000),
    ]
    assert await shelf.rows("SELECT sku, market, currency, minor_units FROM pricing.price ORDER BY sku") == [
        ("SKU-1", "jp-jpy", "JPY", 1980),
        ("V-1", "jp-jpy", "JPY", 1980),
    ]


async def test_stock_is_what_the_row_says_else_the_variants_sum_else_enough(shelf: Shelf):
    await shelf.take(
        [
            TOOLS,
            product(1, quantity=3),
            product(2, variants=[{"sku": "V-1", "quantity": 2}, {"sku": "V-2", "quantity": 5}]),
            product(3),
        ]
    )
    assert await shelf.rows("SELECT sku, on_hand FROM inventory.stock ORDER BY sku") == [
        ("SKU-1", 3),
        ("SKU-2", 7),
        ("SKU-3", 100),
        ("V-1", 2),
        ("V-2", 5),
    ]


async def test_descriptions_become_plain_paragraphs(shelf: Shelf):
    await shelf.take(
        [TOOLS, product(1, description="<p>One &amp; two.</p><script>alert(1)</script><ul><li>a</li></ul>")]
    )
    assert await shelf.rows("SELECT description FROM catalog.product") == [("One & two.\n\na",)]


@pytest.mark.parametrize("packed", [False, True])
async def test_gzip_is_known_by_its_content(shelf: Shelf, tmp_path: Path, packed: bool):
    content = b"\n".join(map(orjson.dumps, [TOOLS, product(1)])) + b"\n\n"
    file = tmp_path / "catalog.data"
    file.write_bytes(gzip.compress(content) if packed else content)
    assert (await shelf.take(file)).added == 1


async def test_a_broken_gzip_and_a_missing_file_are_faults(shelf: Shelf, tmp_path: Path):
    whole = gzip.compress(b"\n".join(orjson.dumps(product(number)) for number in range(2_000)))
    file = tmp_path / "cut.jsonl.gz"
    file.write_bytes(whole[: len(whole) // 2])
    outcome = await shelf.take(file, tmp_path / "none.jsonl")
    assert not outcome.committed
    [cut, missing] = shelf.heard.faults
    assert cut.startswith(f"{file}:")
    assert cut.endswith("what follows was not read")
    assert missing == f"{tmp_path / 'none.jsonl'}:1: the file cannot be read: no such file or directory"


async def test_a_line_without_end_is_skipped_and_the_next_is_read(shelf: Shelf, tmp_path: Path):
    file = tmp_path / "long.jsonl"
    long = orjson.dumps(product(1, description="x" * 3_000_000))
    file.write_bytes(b"\n".join([orjson.dumps(TOOLS), long, orjson.dumps(product(2, quantity=-1))]))
    await shelf.take(file)
    assert shelf.heard.faults == [
        f"{file}:2: the line is longer than 1,048,576 bytes, it was skipped",
        f"{file}:3: quantity: -1 is out of range, expected 0 to 2,147,483,647",
    ]


def test_a_stream_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("origin.catalog.import_files.MAX_SKIPPED_BYTES", 3_000_000)
    [(number, line, why)] = FileSource(Path("/dev/zero")).lines()
    assert (number, line) == (1, None)
    assert why == "a line without end (after 3,145,728 bytes); no more was read"


async def test_unknown_fields_are_told_once(shelf: Shelf):
    await shelf.take([TOOLS, product(1, colour="red"), product(2, colour="blue", weight=3)])
    assert shelf.heard.warnings == [
        "rows1:1: colour: not a field of docs/catalog-import.md, ignored in 2 rows",
        "rows1:1: weight: not a field of docs/catalog-import.md, ignored in 1 row",
    ]


async def test_the_demo_is_loaded_once(shelf: Shelf):
    outcome = await import_command.seed(shelf.database, products=60, seed=1)
    assert outcome is not None
    assert (outcome.added, outcome.faults, outcome.warnings) == (60, 0, 0)
    assert await import_command.seed(shelf.database, products=60, seed=1) is None


@pytest.mark.parametrize("keep_valid", [False, True])
async def test_the_command(database: DatabaseUrls, tmp_path: Path, capfd: pytest.CaptureFixture[str], keep_valid: bool):
    good, bad, rejects = tmp_path / "good.jsonl", tmp_path / "bad.jsonl", tmp_path / "rejects.jsonl"
    good.write_bytes(orjson.dumps(TOOLS) + b"\n" + orjson.dumps(product(1)))
    bad.write_bytes(orjson.dumps(product(2, name=...)))
    status = await asyncio.to_thread(
        import_command.command, [good, bad], keep_valid=keep_valid, rejects=rejects, dsn=database.primary
    )
    said = capfd.readouterr().err
    assert f"{bad}:1: name: missing, expected text\n" in said
    if keep_valid:
        assert status == 0
        assert rejects.read_bytes() == bad.read_bytes() + b"\n"
        assert "1 product and 1 category in" in said
        assert f"1 fault in 1 row that were not imported; they are in {rejects}.\n" in said
    else:
        assert status == 2
        assert not rejects.exists()
        assert "1 fault in 1 row: nothing was changed. Mend them, or import the rest with --keep-valid.\n" in said


@pytest.mark.parametrize("linked", [False, True])
def test_rejected_rows_never_replace_what_is_read(tmp_path: Path, capfd: pytest.CaptureFixture[str], linked: bool):
    rows, rejects = tmp_path / "rows.jsonl", tmp_path / "link.jsonl" if linked else tmp_path / "." / "rows.jsonl"
    rows.write_bytes(b"{}\n")
    if linked:
        rejects.symlink_to(rows)
    assert (
        import_command.command([rows], keep_valid=True, rejects=rejects, dsn="postgresql+asyncpg://nobody@/none") == 2
    )
    assert "rejected rows cannot be written to a file that is read" in capfd.readouterr().err
    assert rows.read_bytes() == b"{}\n"


def test_an_import_that_breaks_off_leaves_the_rejected_rows_of_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async def broken(*_: object, rejects: io.BufferedWriter, **__: object) -> None:
        rejects.write(b"half\n")
        raise ConnectionRefusedError

    monkeypatch.setattr(import_command, "_import", broken)
    rows, rejects = tmp_path / "rows.jsonl", tmp_path / "rejects.jsonl"
    rows.write_bytes(b"{}\n")
    rejects.write_bytes(b"earlier\n")
    with pytest.raises(ConnectionRefusedError):
        import_command.command([rows], keep_valid=True, rejects=rejects, dsn="unused")
    assert rejects.read_bytes() == b"earlier\n"
    assert sorted(tmp_path.iterdir()) == [rejects, rows]
