"""Prices from a file: what is read, and that every fault is found with its line and column."""

import pytest

from infra.price_file import FIELDS, MAX_BYTES, MOST_PRICES, BadPrices, faults_of, read_prices
from origin.pricing import batch
from origin.pricing.batch import NewPrice


def read(text: str | bytes, market: str | None = None) -> list[dict[str, object]]:
    data = text.encode() if isinstance(text, str) else text
    return [row.price for row in read_prices("f", data, market)]


def faults(text: str | bytes, market: str | None = None) -> list[str]:
    with pytest.raises(BadPrices) as refused:
        read(text, market)
    return [str(fault) for fault in refused.value.faults]


LAMP = {"sku": "LAMP-1", "market": "eu-eur", "amount": "12.00"}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("sku,market,amount\nLAMP-1,eu-eur,12.00\n", id="CSV"),
        pytest.param("\ufeffSKU;Amount;Market\r\n\r\nLAMP-1;12.00;eu-eur", id="of a spreadsheet"),
        pytest.param('amount\tmarket\tsku\texpected_version\n"12.00"\t eu-eur \t"LAMP-1"\t\n', id="tabs and quotes"),
        pytest.param('{"sku": "LAMP-1", "market": "eu-eur", "amount": "12.00"}\n', id="JSON lines"),
        pytest.param('\n{"amount": 12.00, "sku":"LAMP-1","market":"eu-eur","expected_version":null}', id="a number"),
    ],
)
def test_prices_are_read(text):
    assert read(text) == [LAMP]


def test_a_market_may_be_named_for_all():
    assert read("sku,amount\nLAMP-1,12.00\n", "eu-eur") == [LAMP]
    assert read('{"sku": "LAMP-1", "amount": "12.00"}', "eu-eur") == [LAMP]
    mixed = read("sku,market,amount\nLAMP-1,,12.00\nMUG,jp-jpy,1500\n", "eu-eur")
    assert [price["market"] for price in mixed] == ["eu-eur", "jp-jpy"]


def test_what_is_quoted_and_versions():
    assert read('sku,market,amount,expected_version\n"A ""1"", b",eu-eur,1,3\n') == [
        {"sku": 'A "1", b', "market": "eu-eur", "amount": "1", "expected_version": 3}
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param("", ["f:1:1: no price in it: a head (sku,market,amount,expected_version) and rows"], id="empty"),
        pytest.param("sku,market,amount\n", ["f:1:1: no price in it"], id="a head alone"),
        pytest.param("LAMP-1,eu-eur,12.00\n", ["f:1:1: 'LAMP-1' is no column of prices: they are sku"], id="no head"),
        pytest.param("sku,market\nA,b\n", ["f:1:1: there is no column amount"], id="no amounts"),
        pytest.param("sku,amount\nA,1\n", ["f:1:1: there is no column market (or --market for all)"], id="no market"),
        pytest.param("sku,amount,sku\n", ["f:1:12: the column sku is there twice"], id="a column twice"),
        pytest.param(
            "sku,market,amount\nA,eu-eur\nB,eu-eur,1,2\n,eu-eur,1\nC,,1\n",
            [
                "f:2:9: amount: missing",
                "f:3:12: a field too many: the head has 3",
                "f:4:1: sku: missing",
                "f:5:3: market: missing; --market names one for all",
            ],
            id="rows of another length, and empty fields",
        ),
        pytest.param(
            'sku,market,amount\nA,"eu-eur,1\nB,x"y"z,1\n',
            ["f:2:3: a quote that does not begin or end", "f:3:4: a quote that does not begin or end"],
            id="quotes",
        ),
        pytest.param(
            "sku,market,amount,expected_version\nA,m,1,x\nB,m,1,-1\n",
            ["f:2:7: expected_version: 'x' is not a whole number", "f:3:7: expected_version: '-1' is not"],
            id="versions",
        ),
        pytest.param(
            "sku,market,amount\nA,m,1\nB,m,1\nA,m,2\n",
            ["f:4:1: sku: the same SKU and market as in line 2"],
            id="twice the same",
        ),
        pytest.param(
            "sku,market,amount\nL\u00e4mpli,m,1\n".encode("latin-1"),
            ["f:2:2: not UTF-8; save it as UTF-8"],
            id="another encoding",
        ),
        pytest.param(
            '{"sku": "A", "market": "m", "amount": true}\n{"sku": "B" "market": "m"}\n{"sku": "C", "prize": "1"}\n'
            '{"sku": "D", "sku": "E"}\n["F"]\n{"sku": "G", "market": "m"}\n{"sku": {"x": 1}}\n',
            [
                "f:1:39: amount: a text or a number",
                "f:2:13: not JSON: Expecting ',' delimiter",
                "f:3:23: prize: no field of a price",
                "f:4:21: sku: there twice",
                "f:5:1: a row is a JSON object",
                "f:6:1: amount: missing",
                "f:7:9: sku: a text or a number",
            ],
            id="JSON lines",
        ),
        pytest.param('{"sku": ' + "[" * 100_000, ["f:1:1: not a row of prices"], id="too deep"),
    ],
)
def test_every_fault_has_its_line_and_column(text, found):
    told = faults(text)
    assert len(told) == len(found), told
    assert all(each.startswith(start) for each, start in zip(told, found, strict=True)), told


def test_too_many_are_refused_before_they_are_sent():
    rows = "".join(f"S{number},m,1\n" for number in range(2 * MOST_PRICES))
    [told] = faults("sku,market,amount\n" + rows)
    assert told.startswith(f"f:{MOST_PRICES + 2}:1: more than {MOST_PRICES} prices: one transaction takes no more")
    assert faults(b" " * (MAX_BYTES + 1)) == ["f:1:1: larger than 1,000,000 bytes: this is no list of prices"]


def test_the_limit_and_the_fields_are_the_origin_s():
    assert MOST_PRICES == batch.MOST_PRICES
    assert set(FIELDS) == set(NewPrice.__dataclass_fields__)


def test_what_the_origin_says_is_put_beside_its_line():
    rows = read_prices("f", b"sku,market,amount\nA,m,1\n\nB,m,1\n")
    errors = [
        {"pointer": "prices.1.amount", "detail": "too many digits"},
        {"pointer": "prices.0", "detail": "odd"},
        {"pointer": "reason", "detail": "too long"},
    ]
    assert [str(fault) for fault in faults_of("f", rows, {"errors": errors})] == [
        "f:4:5: amount: too many digits",
        "f:2:1: odd",
        "f:1:1: reason: too long",
    ]
    conflict = {"detail": "it is version 4 by now", "theirs": {"sku": "B", "market": "m"}}
    assert [str(fault) for fault in faults_of("f", rows, conflict)] == [
        "f:4:1: expected_version: it is version 4 by now"
    ]
    assert faults_of("f", rows, {"detail": "not now"}) == []
