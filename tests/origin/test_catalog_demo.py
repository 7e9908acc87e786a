"""The demo catalog and its pictures: the same bytes everywhere, and believable."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import uuid
from collections import Counter
from xml.etree import ElementTree as ET

import orjson
import pytest

from origin.catalog import art
from origin.catalog.demo import demo_catalog
from origin.catalog.drawings import MOTIFS
from origin.catalog.import_files import Place
from origin.catalog.import_rows import CATEGORY_FIELDS, PRODUCT_FIELDS, RowReader
from origin.catalog.model import Card, first_colour

PRINT_DIGEST = """
import hashlib, orjson
from origin.catalog.demo import demo_catalog
print(hashlib.sha256(b"".join(map(orjson.dumps, demo_catalog(700, 5)))).hexdigest())
"""


def cards() -> list[Card]:
    return [
        Card(
            id=uuid.UUID(int=0),
            sku=row["sku"],
            slug="",
            name=row["name"],
            category_path=row["category_ids"][0].partition("/")[2],
            colour=first_colour(row.get("options", []), row["attributes"]),
        )
        for row in demo_catalog(1_500, 1)
        if "sku" in row
    ]


def test_the_same_seed_gives_the_same_bytes_whatever_the_hash_seed():
    digests = {
        subprocess.run(
            [sys.executable, "-c", PRINT_DIGEST],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("0", "1", "4242")
    }
    assert len(digests) == 1


def test_the_product_that_the_documents_use_is_in_the_default_catalog():
    assert any(row.get("sku") == "MIL-HAZ-10000" for row in demo_catalog())


def test_another_seed_gives_another_catalog():
    def digest(seed: int) -> str:
        return hashlib.sha256(b"".join(map(orjson.dumps, demo_catalog(50, seed)))).hexdigest()

    assert digest(1) != digest(2)


def test_every_row_is_one_that_an_import_takes():
    for number, row in enumerate(demo_catalog(1_000, 3), 1):
        reader = RowReader(Place("demo", number), row)
        if "sku" in row:
            assert row.keys() <= PRODUCT_FIELDS
            reader.product()
        else:
            assert row.keys() == CATEGORY_FIELDS
        assert reader.faults == []
        assert b"." not in orjson.dumps(row.get("popularity"))


def test_skus_and_names_are_unique_and_prices_end_as_prices_do():
    rows = [row for row in demo_catalog(3_000, 1) if "sku" in row]
    skus = [row["sku"] for row in rows] + [variant["sku"] for row in rows for variant in row.get("variants", [])]
    assert len({sku.lower() for sku in skus}) == len(skus)
    assert len({row["name"] for row in rows}) == len(rows)
    endings = Counter(row["prices"][0]["amount"][-2:] for row in rows)
    assert endings.keys() == {"99", "95", "50", "00"}


def test_popularity_has_a_long_tail():
    popular = sorted((row["popularity"] for row in demo_catalog(2_000, 1) if "sku" in row), reverse=True)
    assert len(set(popular[:100])) == 100
    assert sum(popular[:400]) > sum(popular[400:])


def test_no_products_is_a_tree_alone_and_less_is_refused():
    assert all("parent_id" in row for row in demo_catalog(0))
    with pytest.raises(ValueError, match="products is -1, expected zero or more"):
        next(iter(demo_catalog(-1)))


def test_every_product_of_the_demo_is_drawn_as_what_it_is():
    for card in cards():
        picture = art.draw(card)
        assert len(picture.encode()) < 4_096
        root = ET.fromstring(picture)
        assert root.findtext("{http://www.w3.org/2000/svg}title") == card.name
        assert art.motif_of(card.name, card.category_path) is not None, card.name


@pytest.mark.parametrize(
    ("name", "path", "motif"),
    [
        ("Marlow stoneware mug", "table/mugs-and-cups/mugs", "mug"),
        ("Wendle round-handled steak knife set", "table/cutlery", "cutlery"),
        ("Aldery cast iron Dutch oven", "kitchen/cookware/casseroles", "casserole"),
        ("Eco-Pro Compact Thing", "tools/saw", "tool"),
        ("Dining chairs", "", "chair"),
        ("Zqx", "", None),
    ],
)
def test_words_choose_the_motif(name: str, path: str, motif: str | None):
    assert art.motif_of(name, path) == motif


def test_every_motif_is_well_formed_and_has_a_word():
    named = set(art._WORDS.values())
    assert named == set(MOTIFS)
    for word in sorted(set(art._WORDS)):
        card = Card(uuid.UUID(int=1), f"SKU-{word}", "", word, "", "")
        ET.fromstring(art.draw(card))


def test_what_has_no_motif_gets_its_initial_escaped():
    card = Card(uuid.UUID(int=1), "A&B", "", "<&>", "", "")
    root = ET.fromstring(art.draw(card))
    assert root.findtext("{http://www.w3.org/2000/svg}title") == "<&>"


def test_the_digest_follows_the_name_and_the_colour():
    card = Card(uuid.UUID(int=1), "MUG-1", "mug", "Blue mug", "mugs", "Sage")
    other = [
        Card(uuid.UUID(int=1), "MUG-1", "mug", "Red mug", "mugs", "Sage"),
        Card(uuid.UUID(int=1), "MUG-1", "mug", "Blue mug", "mugs", "Plum"),
        Card(uuid.UUID(int=1), "MUG-2", "mug", "Blue mug", "mugs", "Sage"),
    ]
    assert len({art.digest_of(each) for each in [card, *other]}) == 4
    assert art.path_of(card) == f"/art/{art.digest_of(card)}/MUG-1.svg"
