"""Each kind of answer is judged by what it shows, said or only confirmed."""

from __future__ import annotations

import gzip

import pytest

from loadtests import people
from loadtests.http1 import Answer
from loadtests.judge import KEPT_VIOLATIONS, Findings, Judge, violation_line
from loadtests.oracle import Oracle, PriceKey, Verdict
from loadtests.sightings import Sightings

KEY = PriceKey("eu-eur", "SKU-1")
VISIT = people.product("eu-eur", "one")
OLD, NEW = '"old"', '"new"'


@pytest.fixture
def judge() -> Judge:
    """1000 until 1200 became live at 11; pages with both were seen before that."""
    oracle = Oracle()
    oracle.start(KEY, 1000)
    change = oracle.began(KEY, 1200, at=10.0)
    judge = Judge(oracle, Findings())
    for etag, value in ((OLD, 1000), (NEW, 1200)):
        judge.answered("eu", "GET", VISIT, page(value, etag, sent_at=10.5))
    oracle.live(change, at=11.0)
    assert judge.findings.is_clean
    return judge


def page(value: int, etag: str, sent_at: float, status: int = 200, **fields: str) -> Answer:
    headers = {"content-type": "text/html", "etag": etag, "cache-status": "eu; hit; ttl=5", **fields}
    body = f'<!--nearshelf:notice--><data class="price" data-sku="SKU-1" value="{value}">'.encode()
    return Answer(status, headers, body if status == 200 else b"", sent_at, sent_at + 0.01)


@pytest.mark.parametrize(
    ("method", "answer", "old_prices"),
    [
        pytest.param("GET", page(1000, OLD, 12.0), 1, id="an old page"),
        pytest.param("GET", page(1200, NEW, 12.0), 0, id="a new page"),
        pytest.param("GET", page(0, OLD, 12.0, 304), 1, id="not modified, says the edge of the old page"),
        pytest.param("GET", page(0, NEW, 12.0, 304), 0, id="not modified, of the new page"),
        pytest.param("GET", page(0, OLD, 10.9, 304), 0, id="not modified, asked before the change was live"),
        pytest.param("HEAD", Answer(200, page(0, OLD, 12.0).headers, b"", 12.0, 12.1), 1, id="HEAD of the old page"),
        pytest.param("HEAD", Answer(200, page(0, NEW, 12.0).headers, b"", 12.0, 12.1), 0, id="HEAD of the new page"),
        pytest.param("GET", page(0, OLD, 12.0, 503), 0, id="an error shows nothing"),
        pytest.param(
            "GET",
            Answer(
                200,
                {"content-type": "text/html", "cache-status": "eu; hit; detail=stale-marked"},
                b'<p>being confirmed</p><data class="price" data-sku="SKU-1" value="1000">',
                12.0,
                12.1,
            ),
            0,
            id="a page that says that its prices are not confirmed",
        ),
    ],
)
def test_an_answer_after_live(method, answer, old_prices, judge):
    judge.answered("eu", method, VISIT, answer)
    assert judge.findings.old_prices_after_live == old_prices
    if old_prices:
        (violation,) = judge.findings.violations
        assert (violation.shown, violation.expected, violation.replaced_s) == (1000, 1200, 1.0)
        assert "SUPERSEDED: eu " + method in violation_line(violation)


def test_an_unreadable_page_is_never_clean(judge):
    for _ in range(KEPT_VIOLATIONS + 7):
        judge.answered("eu", "GET", VISIT, Answer(200, {"content-type": "application/json"}, b"{", 12.0, 12.1))
    assert not judge.findings.is_clean
    assert judge.findings.unreadable == judge.findings.broken == KEPT_VIOLATIONS + 7
    assert len(judge.findings.unreadable_said) == KEPT_VIOLATIONS


def test_answers_are_counted_by_what_they_could_have_shown(judge):
    before = judge.findings.answers_telling
    judge.answered("eu", "GET", VISIT, page(1200, NEW, 12.0))
    judge.answered("ap", "GET", people.stock("eu-eur", "SKU-1"), Answer(404, {}, b"", 12.0, 12.1))
    judge.finish()
    findings = judge.findings
    assert (findings.answers, findings.answers_checked, findings.answers_telling - before) == (4, 3, 1)
    assert findings.by_edge == {"ap": 1, "eu": 3}
    assert findings.by_code == {"200": 3, "404": 1}
    assert findings.by_status == {"hit": 3, "none": 1}


def test_a_coded_page_is_judged_by_what_it_was_before(judge):
    plain = page(1000, '"coded"', 12.0)
    coded = Answer(200, {**plain.headers, "content-encoding": "gzip"}, gzip.compress(plain.body), 12.0, 12.1)
    judge.answered("eu", "GET", VISIT, coded)
    assert judge.findings.old_prices_after_live == 1


def test_another_body_under_the_same_etag_is_wrong_and_judged_by_what_it_shows(judge):
    judge.answered("eu", "GET", VISIT, page(1000, NEW, 12.0))
    assert judge.findings.old_prices_after_live == 1
    assert judge.findings.unreadable_said == ['eu /eu-eur/products/one: another body under the same ETag "new"']
    judge.answered("eu", "GET", VISIT, page(1000, NEW, 12.0))
    assert judge.findings.unreadable == 1


def test_an_etag_stands_for_a_body_in_each_content_coding(judge):
    plain = page(1200, NEW, 12.0)
    coded = Answer(200, {**plain.headers, "content-encoding": "gzip"}, gzip.compress(plain.body), 12.0, 12.1)
    judge.answered("eu", "GET", VISIT, coded)
    judge.answered("eu", "GET", VISIT, plain)
    assert judge.findings.is_clean


def test_staleness_and_sightings_of_old_prices_before_live():
    oracle, sightings = Oracle(), Sightings()
    oracle.start(KEY, 1000)
    judge = Judge(oracle, Findings(), sightings)
    oracle.committed(oracle.began(KEY, 1200, at=10.0), at=10.5)
    judge.answered("eu", "GET", VISIT, page(1000, OLD, 10.74), "browser 1")
    judge.answered("eu", "GET", VISIT, page(1200, NEW, 10.8), "browser 2")
    assert (judge.staleness.count, judge.staleness.highest_us) == (1, 250_000)
    assert judge.findings.is_clean
    first, second = sightings
    assert (first.who, first.amount, first.verdict) == ("browser 1", 1000, Verdict.OK)
    assert first.stale_s == pytest.approx(0.25)
    assert (second.who, second.amount, second.stale_s) == ("browser 2", 1200, None)
