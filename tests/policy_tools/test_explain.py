"""What `nearshelf policy explain` says offline: of every part of the answer, where it is written."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from edge.core.key import TargetFault
from infra import cli
from infra.policy.explain import Asked, Explainer
from infra.policy.explain_text import in_text
from infra.policy.explain_words import FAULTS
from tests.policy_tools.shops import SMALL

HERE = Path(__file__).parent
GOLDEN = HERE / "golden"

CASES = {
    "list": ("/eu-eur/c/lamps/desk?utm_source=mail&page=2&gclid=1", "--country", "AT"),
    "story": ("http://shop.example/ch-chf/stories/one", "--country", "US", "--header", "Accept-Language: de, fr;q=0.5"),
    "story-signed-in": ("/ch-chf/stories/one", "--header", "Authorization: Bearer x"),
    "entry": ("/", "--country", "AT", "--cookie", "ns_market=ch-chf", "--cookie", "a=b"),
    "letters": ("/eu-eur/letters?b=2&a=1", "--country", "DE", "--header", "Authorization: Bearer x"),
    "refused-target": ("/eu-eur/c/../letters", "--country", "DE"),
    "repeated-parameter": ("/eu-eur/c/lamps?page=2&page=3",),
    "blocked": ("/eu-eur/c/lamps", "--country", "FR"),
    "proposed": ("/eu-eur/c/lamps", "--answer", "CDN-Cache-Control: max-age=450", "--answer", "Catalog-Version: 1.7",
                 "--answer", "Cache-Tag: c:eu-eur:lamps"),
}  # fmt: skip
"""Name of the golden file -> arguments."""


def explained(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> dict[str, Any]:
    """What the command prints with --json."""
    assert cli.run(["policy", "explain", *words, "--json", "--policies", str(SMALL)]) == status
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def said(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> str:
    """What it prints for people; blanks squeezed."""
    assert cli.run(["policy", "explain", *words, "--policies", str(SMALL)]) == status
    return re.sub(" +", " ", capsys.readouterr().out)


@pytest.mark.parametrize("name", CASES)
def test_the_json_is_as_it_was_reviewed(name, capsys):
    found = explained(capsys, *CASES[name])
    compiled = found.pop("cloudfront", None)
    assert compiled is None or compiled["behaviour"] >= 1
    # Digests move with every field that a policy may get; what they stand for is in the file.
    text = re.sub(r'"[0-9a-f]{16}"', '"DIGEST"', json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    assert text == (GOLDEN / f"{name}.json").read_text(encoding="utf-8")


def test_nobody_is_asked(monkeypatch, capsys):
    def refuse(*_: object) -> None:
        raise AssertionError("explain went to the network")

    for name in ("connect", "connect_ex", "bind", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for words in CASES.values():
        explained(capsys, *words)


def test_people_read_the_same(capsys):
    text = said(capsys, *CASES["list"])
    for line in (
        "request GET /eu-eur/c/lamps/desk?utm_source=mail&page=2&gclid=1",
        " GET /eu-eur/c/lamps/desk?page=2 normalised",
        " dropped utm_source pages.yaml:10",
        "rule list-page /{market}/c/{category...} pages.yaml:8",
        "country AT --country",
        "market eu-eur the address; markets.yaml:8",
        " currency EUR markets.yaml:12",
        " query page 2 listed by pages.yaml:10",
        "lifetimes fresh 300 s pages.yaml:4 (defaults)",
        " max fresh 600 s pages.yaml:11",
        " fresh 10 s with status 404 pages.yaml:5 (defaults)",
        "tags list:eu-eur:lamps%2fdesk pages.yaml:17",
        "purged by list:eu-eur:lamps%2fdesk | page:list | * | every tag of the origin's",
        "throttle 10 a second, 50 at once, by client address pages.yaml:18",
        "blocked FR pages.yaml:19",
    ):
        assert line in text, line


def test_each_route_that_was_passed_over_says_which_segment_was_why(capsys):
    found = explained(capsys, "/eu-eur/cart")
    assert found["route"]["id"] == "default"
    assert [(each["id"], each["segment"], each["why"]) for each in found["route"]["passed_over"]] == [
        ("list-page", 2, "segment 2 is cart, expected c"),
        ("story", 2, "segment 2 is cart, expected stories"),
        ("entry", 1, "segment 1 is eu-eur, expected nothing more"),
        ("edge-feed", 1, "segment 1 is eu-eur, expected edge"),
        ("letters", 2, "segment 2 is cart, expected letters"),
        ("vault", 2, "segment 2 is cart, expected vault"),
    ]
    why = [each["why"] for each in explained(capsys, "/xx-xxx/c/")["route"]["passed_over"]]
    assert why[0] == "segment 1 is xx-xxx, which is no market"
    why = [each["why"] for each in explained(capsys, "/eu-eur/c/")["route"]["passed_over"]]
    assert why[0] == "segment 3 is empty, expected {category...}"
    why = [each["why"] for each in explained(capsys, "/eu-eur")["route"]["passed_over"]]
    assert why[0] == "the path ends before segment 2, expected c"


@pytest.mark.parametrize(
    ("words", "country", "market", "source"),
    [
        pytest.param(("--country", "CH"), "CH", "ch-chf", "country CH", id="by country"),
        pytest.param(("--country", "BR"), "BR", "us-usd", "default: no market names BR", id="a country without one"),
        pytest.param((), "ZZ", "us-usd", "default: no market names ZZ", id="nothing known"),
        pytest.param(
            ("--country", "CH", "--cookie", "ns_market=eu-eur"),
            "CH",
            "eu-eur",
            "cookie ns_market, of the market switcher",
            id="the switcher wins",
        ),
        pytest.param(
            ("--country", "CH", "--header", "User-Agent: Googlebot"),
            "CH",
            "us-usd",
            "a crawler's user agent: the default market",
            id="a crawler",
        ),
        pytest.param(("--peer", "193.5.216.1"), "CH", "ch-chf", "country CH", id="by the viewer's address"),
        pytest.param(("--country", "DE", "--peer", "193.5.216.1"), "DE", "eu-eur", "country DE", id="--country first"),
    ],
)
def test_the_market_of_a_visitor_and_why(words, country, market, source, capsys):
    found = explained(capsys, "/", *words)
    assert found["outcome"]["location"] == f"/{market}/"
    assert found["visitor"]["country"]["value"] == country
    assert (found["visitor"]["market"]["value"], found["visitor"]["market"]["from"]) == (market, source)
    assert found["market"]["value"] == market


@pytest.mark.parametrize(
    ("words", "status", "reason"),
    [
        pytest.param(("/eu-eur/c/lamps", "--country", "FR"), 451, "country-blocked", id="a country of the route's"),
        pytest.param(("/eu-eur/letters", "--country", "KP"), 451, "country-blocked", id="a country of all routes"),
        pytest.param(("/eu-eur/letters",), 401, "authorization-missing", id="no Authorization"),
        pytest.param(("/ch-chf/letters", "--header", "Authorization: x"), 503, "residency", id="no origin may have it"),
        pytest.param(("/eu-eur/vault/x",), 503, "no-vault", id="no vault"),
        pytest.param(("/edge/v1/feed",), 404, "refused", id="refused by its policy"),
        pytest.param(("/eu-eur/c/lamps", "--method", "POST"), 405, "method", id="a method of no list"),
        pytest.param(("/eu-eur/c/lamps", "--method", "TRACE"), 405, "method", id="a method of no edge"),
        pytest.param(("//x",), 400, "empty-segment", id="an empty segment"),
        pytest.param(("/a%2Fb",), 400, "encoded-slash", id="an encoded slash"),
        pytest.param(("/caf\u00e9",), 400, "bad-character", id="a letter beyond ASCII"),
    ],
)
def test_what_the_edge_answers_itself_is_explained_like_anything_else(words, status, reason, capsys):
    outcome = explained(capsys, *words)["outcome"]
    assert (outcome["cache"], outcome["status"], outcome["reason"]) == ("edge", status, reason)
    assert outcome["why"]


@pytest.mark.parametrize(
    ("words", "reason", "not_stored"),
    [
        (("/robots.txt",), "policy-never-stores", "policy-never-stores"),
        (("/eu-eur/stories/one", "--header", "Authorization: x"), "authorization", "authorization"),
    ],
)
def test_what_passes_the_store_says_why(words, reason, not_stored, capsys):
    found = explained(capsys, *words)
    assert (found["outcome"]["cache"], found["outcome"]["reason"]) == ("pass", reason)
    assert found["outcome"]["why"].startswith("forwarded: ")
    assert (found["store"]["storable"], found["store"]["reason"]) == (False, not_stored)
    assert found["lifetimes"] is None


def test_every_fault_of_an_address_has_its_words():
    assert set(FAULTS) == {fault.value for fault in TargetFault}


def test_a_letter_beyond_ascii_is_shown_as_a_browser_sends_it(capsys):
    assert "a browser sends /eu-eur/c/caf%C3%A9" in said(capsys, "/eu-eur/c/caf\u00e9")


def test_the_origin_s_answer_sets_lifetimes_tags_and_whether_it_is_stored(capsys):
    found = explained(capsys, "/eu-eur/c/lamps", "--answer", "Catalog-Version: 1.7", "--answer", "Cache-Tag: b, a",
                      "--answer", "CDN-Cache-Control: max-age=1000000, stale-if-error=5")  # fmt: skip
    lived = found["lifetimes"]
    assert (lived["fresh"]["seconds"], lived["fresh"]["from"]) == (600, "the origin's answer")
    assert (lived["stale_if_error"]["seconds"], lived["stale_if_error"]["from"]) == (5, "the origin's answer")
    assert (lived["stale_while_revalidate"]["seconds"], lived["stale_while_revalidate"]["at"]) == (60, "pages.yaml:12")
    assert [each["tag"] for each in found["tags"]["values"]] == ["b", "a", "list:eu-eur:lamps", "page:list"]
    for field, reason in (("Set-Cookie: a=b", "set-cookie"), ("Vary: cookie", "vary"), ("X: y", "no-label")):
        words = ("--answer", "Catalog-Version: 1.7") if reason != "no-label" else ()
        found = explained(capsys, "/eu-eur/c/lamps", "--answer", field, *words)
        assert (found["store"]["storable"], found["store"]["reason"]) == (False, reason)
        assert found["purged_by"] == []


def test_what_the_compiler_makes_of_the_route(capsys):
    found = explained(capsys, "/eu-eur/c/lamps")["cloudfront"]
    assert found["pattern"] == "/??-???/c/*"
    assert found["cache_policy"].startswith("CachePolicy")
    assert found["max_ttl_s"] > 0
    assert {"event": "viewer-request", "function": "ViewerRequest"} in found["functions"]
    assert any(text.startswith("on_lease_lapse") for text in found["otherwise"])
    default = explained(capsys, "/robots.txt")["cloudfront"]
    assert (default["pattern"], default["behaviour"], default["max_ttl_s"]) == ("*", default["of"], 0)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        pytest.param(("eu-eur/",), "is no address", id="no slash"),
        pytest.param(("ftp://shop.example/",), "is no address", id="another scheme"),
        pytest.param(("/", "--country", "Germany"), "is no country", id="a country in words"),
        pytest.param(("/", "--peer", "nobody"), "is no address", id="no IP address"),
        pytest.param(("/", "--method", "get it"), "is no method", id="no method"),
        pytest.param(("/", "--header", "nothing"), "is no field", id="a header without a colon"),
        pytest.param(("/", "--header", "b ad: x"), "is no field", id="a name with a blank"),
        pytest.param((), "say which request", id="no request"),
        pytest.param(("/", "--curl", "curl x"), "say which request", id="two requests"),
        pytest.param(("--curl", "curl x", "--method", "POST"), "leave --method out", id="more of a curl command"),
        pytest.param(("--log", "{}", "--live", "eu"), "leave --live out", id="a line of a log cannot be asked"),
    ],
)
def test_what_is_no_request_is_said_in_one_line(words, complaint, capsys):
    assert cli.run(["policy", "explain", *words, "--policies", str(SMALL)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("nearshelf: ")
    assert complaint in error
    assert error.count("\n") == 1


def test_policies_that_no_edge_would_start_with_are_not_explained(tmp_path, capsys):
    (tmp_path / "default.yaml").write_text("routes: {}\n")
    assert cli.run(["policy", "explain", "/", "--policies", str(tmp_path)]) == 1
    assert "policy check" in capsys.readouterr().err
    assert cli.run(["policy", "explain", "/", "--policies", str(tmp_path / "none")]) == 1
    assert "is neither a folder nor a profile (rfc9111)" in capsys.readouterr().err


def test_the_packaged_policies_are_explained_in_words_for_every_route():
    explainer = Explainer()
    for policy in explainer.policies.policies:
        path = re.sub(r"\{[^}]+\}", "x", policy.path.replace("{market}", "eu-eur"))
        found = explainer.explain(Asked(path, country="DE"))
        assert found["route"]["id"] == policy.id
        assert policy.id in in_text(found)


def of_the_profile(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert cli.run(["policy", "explain", *words, "--json", "--policies", "rfc9111"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_profile_without_markets_is_explained(capsys):
    found = of_the_profile(capsys, "/a?b=2&b=1")
    assert found["visitor"]["market"] is None
    assert found["market"] is None
    assert {"part": "query", "value": "b=2&b=1", "from": "as received, by default.yaml:22"} in found["key"]["parts"]
    assert found["forward"]["target"] == "/a?b=2&b=1"
    assert found["rules"]["auth"]["value"] == "shared"
    assert found["rules"]["request_directives"]["value"] == "honour"
    text = in_text(found)
    assert "there are none" in text
    assert "or 10 % since Last-Modified, 1 d at most" in text
    assert "varies on what the answer's Vary names" in text


def test_a_lifetime_is_guessed_from_last_modified(capsys):
    answer = (
        "Date: Thu, 01 Jan 1970 00:50:00 GMT", "Last-Modified: Thu, 01 Jan 1970 00:00:00 GMT", "Catalog-Version: 1.1",
        "Cache-Tag: a",
    )  # fmt: skip
    found = of_the_profile(capsys, "/a", *(word for line in answer for word in ("--answer", line)))
    assert found["lifetimes"]["fresh"] == {"seconds": 300.0, "from": "the origin's answer", "at": None}


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        ("no-store", ("pass", "request-no-store", None)),
        ("only-if-cached", ("edge", "only-if-cached", 504)),
        ("no-cache", ("miss", "cold", None)),
    ],
)
def test_what_a_request_says_of_caching_counts_where_the_route_honours_it(said, outcome, capsys):
    found = of_the_profile(capsys, "/a", "--header", f"Cache-Control: {said}")["outcome"]
    assert (found["cache"], found["reason"], found["status"]) == outcome
    assert found["why"]
