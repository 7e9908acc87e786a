"""From what merchants' files say to what pages show."""

from __future__ import annotations

import pytest

from origin.catalog.text import plain_text, slugify, tidy_name


@pytest.mark.parametrize(
    ("text", "slug"),
    [
        ("Marlow stoneware mug", "marlow-stoneware-mug"),
        ("  Chef's knife, 20 cm! ", "chefs-knife-20-cm"),
        ("Café crème brûlée", "cafe-creme-brulee"),
        ("Straße Ærø Łódź", "strasse-aero-lodz"),
        ("日本", ""),
        ("a" * 130, "a" * 120),
        ("word " * 40, ("word-" * 40)[:119]),
    ],
)
def test_slugify(text: str, slug: str):
    assert slugify(text) == slug


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("VINTAGE CHRISTMAS PAPER GIFT BAG", "Vintage Christmas Paper Gift Bag"),
        ("SET OF 3 CAKE TINS PANTRY DESIGN ", "Set of 3 Cake Tins Pantry Design"),
        ("*USB OFFICE MIRROR BALL", "USB Office Mirror Ball".replace("USB", "Usb")),
        ("PACK OF 12 T-LIGHTS", "Pack of 12 T-Lights"),
        ("3D DOG PICTURE", "3D Dog Picture"),
        ("salty   snacks", "Salty snacks"),
        ("Bras &amp; Tanks", "Bras & Tanks"),
        ("Already Fine", "Already Fine"),
        ("line\nbreak\ttab", "Line break tab"),
        ("1234", "1234"),
    ],
)
def test_tidy_name(text: str, name: str):
    assert tidy_name(text) == name


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        pytest.param("One.\n\nTwo.", "One.\n\nTwo.", id="plain text stays"),
        pytest.param(
            "<p>One.</p>\n<p>&bull; Two<br />&bull; Three</p>", "One.\n\n• Two\n• Three", id="paragraphs and breaks"
        ),
        pytest.param("<ul><li>a</li><li>b</li></ul>", "a\nb", id="lists"),
        pytest.param("a<script>alert('<p>')</script>b<style>p{}</style>c", "abc", id="scripts and styles are not text"),
        pytest.param("1 < 2 & 3 > 2", "1 < 2 & 3 > 2", id="a bare less-than"),
        pytest.param("&lt;b&gt;", "<b>", id="entities once"),
        pytest.param("<p>a\nb</p>", "a b", id="a line break in HTML is a blank"),
        pytest.param("a\r\nb\x00\x07c", "a\nbc", id="control characters"),
        pytest.param("<p>unclosed <b>bold", "unclosed bold", id="unclosed"),
        pytest.param("", "", id="nothing"),
    ],
)
def test_plain_text(text: str, plain: str):
    assert plain_text(text) == plain
