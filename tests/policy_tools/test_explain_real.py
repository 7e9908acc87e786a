"""Requests that really happened: lines of an access log, HTTP Archives, curl commands."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edge.policy_files import load_policies
from infra import cli
from infra.errors import CommandError
from infra.policy.explain_log import Happened, of_cache_status, of_curl
from tests.policy_tools.shops import SMALL, SMALL_ORIGINS
from tests.support.edge_shop import EdgeShop
from tests.support.scripted_origin import Reply, page


def happened(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> Any:
    """What the command prints with --json."""
    ended = cli.run(["policy", "explain", *words, "--json", "--policies", str(SMALL)])
    printed = capsys.readouterr()
    assert ended == status, printed
    return json.loads(printed.out)


def line(**said: Any) -> str:
    """A line of the log of a worker."""
    known = {
        "time": 1.0,
        "edge": "eu",
        "worker": "w",
        "method": "GET",
        "route": "list-page",
        "path": "/eu-eur/c/lamps",
        "status": 200,
        "cache": "hit",
        "ttl": 200,
        "age": 100,
        "bytes": 10,
        "ms": 0.1,
        "origin_ms": None,
    }
    return json.dumps({name: value for name, value in (known | said).items() if value is not ...})


@pytest.mark.parametrize(
    ("said", "differs", "agrees"),
    [
        pytest.param({}, [], ["route list-page", "hit", "lifetime 300 s of at most 600 s"], id="a hit"),
        pytest.param(
            {"ttl": 800}, ["lifetime 900 s then, at most 600 s by these policies"], ["route list-page", "hit"],
            id="a lifetime that is too long",
        ),
        pytest.param(
            {"route": "lists"}, ["route lists then, list-page by these policies"],
            ["hit", "lifetime 300 s of at most 600 s"], id="another route",
        ),
        pytest.param(
            {"status": 404, "ttl": 4, "age": 5}, [], ["route list-page", "hit", "lifetime 9 s of at most 10 s"],
            id="a negative entry",
        ),
        pytest.param(
            {"cache": "miss", "reason": "cold", "fwd": "uri-miss", "age": None}, [], ["route list-page", "miss cold"],
            id="a miss",
        ),
        pytest.param(
            {"cache": "miss", "reason": "policy-never-stores", "age": None, "ttl": None},
            ["policy-never-stores then, and these policies store it"],
            ["route list-page", "miss policy-never-stores"],
            id="a miss that was never stored",
        ),
        pytest.param(
            {"route": "default", "path": "/robots.txt"}, ["hit then, pass policy-never-stores now"], ["route default"],
            id="a hit of what is not stored",
        ),
        pytest.param(
            {"route": "default", "path": "/robots.txt", "cache": "pass", "reason": "policy-never-stores"}, [],
            ["route default", "pass policy-never-stores"], id="passed on",
        ),
        pytest.param(
            {"route": "edge-feed", "path": "/edge/v1/feed", "cache": "edge", "reason": "refused", "status": 404}, [],
            ["route edge-feed", "404 edge refused"], id="refused",
        ),
        pytest.param(
            {"route": "edge-feed", "path": "/edge/v1/feed", "cache": "edge", "reason": "refused", "status": 403},
            ["403 edge refused then, 404 edge refused now"], ["route edge-feed"], id="refused with another status",
        ),
        pytest.param(
            {"cache": "edge", "reason": "throttled", "status": 429}, [],
            ["route list-page", "throttled: this route is"], id="throttled",
        ),
        pytest.param(
            {"cache": "edge", "reason": "country-blocked", "status": 451},
            ["451 edge country-blocked then, miss cold now"], ["route list-page"],
            id="blocked by a country that the line does not say",
        ),
        pytest.param(
            {"cache": "error", "reason": "connection_refused", "status": 503}, [], ["route list-page"], id="an error",
        ),
    ],
)  # fmt: skip
def test_a_log_line_is_held_against_the_policies(said, differs, agrees, capsys):
    found = happened(capsys, "--log", line(**said), status=3 if differs else 0)["happened"]
    assert (found["differs"], found["agrees"]) == (differs, agrees)
    assert found["status"] == said.get("status", 200)
    assert "the host" in found["not_written_down"]


def test_with_the_country_a_blocked_request_agrees(capsys):
    text = line(cache="edge", reason="country-blocked", status=451)
    found = happened(capsys, "--log", text, "--country", "FR")["happened"]
    assert found["agrees"] == ["route list-page", "451 edge country-blocked"]


@pytest.mark.parametrize(
    ("said", "beyond"),
    [
        ({"route": "-", "path": ..., "status": 421, "cache": "edge", "reason": "host-unknown"}, "not serve that host"),
        ({"route": "-", "path": ..., "status": 400, "cache": "edge", "reason": "dot-segment"}, "address was refused"),
        ({"route": "letters", "path": ..., "cache": "pass", "reason": "policy-never-stores"}, "a personal route"),
    ],
)  # fmt: skip
def test_a_line_without_an_address_says_what_it_can(said, beyond, capsys):
    found = happened(capsys, "--log", line(**said))
    assert beyond in found["happened"]["beyond"][0]
    assert "route" not in found


async def test_the_lines_of_a_running_worker_agree(tmp_path, capsys, monkeypatch):
    targets = (
        "/eu-eur/c/lamps?page=2&x=1", "/eu-eur/c/lamps?page=2", "/eu-eur/stories/one", "/", "/a%2Fb", "/robots.txt",
        "/eu-eur/letters", "/edge/x", "/eu-eur/vault/x",
    )  # fmt: skip
    async with EdgeShop(tmp_path, policies=load_policies(SMALL), settings=SMALL_ORIGINS) as shop:
        shop.origin.on("/eu-eur/c/lamps", page())
        shop.origin.on("/eu-eur/stories/one", Reply(headers={"set-cookie": "a=b", "catalog-version": "1.5"}))
        for target in targets:
            await shop.get(target)
            await shop.get(target, method="DELETE")
        lines = [json.dumps(each) for each in shop.log_lines()]
    monkeypatch.setattr("sys.stdin", [text + "\n" for text in lines])
    found = happened(capsys, "--log", "-")
    assert len(found) == 2 * len(targets)
    assert all(each["happened"]["differs"] == [] for each in found)
    told = [each["happened"]["agrees"] for each in found]
    assert ["route list-page", "hit", "lifetime 60 s of at most 600 s"] in told
    assert ["route list-page", "405 edge method"] in told
    assert sum("edge" in " ".join(each) for each in told) >= 7


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON",
        "[]",
        "{}",
        '{"status": "x", "cache": "hit", "route": "a", "method": "GET"}',
        line(status=float("inf")),
        line(age="old"),
        line(ttl=[]),
        line(query={"page": "\ud800"}),
        "[" * 100_000,
    ],
    ids=lambda text: text[:20],
)
def test_what_is_no_line_of_a_log_is_said(text, capsys):
    assert cli.run(["policy", "explain", "--log", text or " ", "--policies", str(SMALL)]) == 1
    assert "no line of an edge's access log" in capsys.readouterr().err


def entry(url: str, status: int, cache_status: str = "", method: str = "GET") -> dict[str, Any]:
    fields = [{"name": "Cache-Status", "value": cache_status}] if cache_status else []
    request = {
        "method": method,
        "url": url,
        "headers": [{"name": ":path", "value": "x"}, {"name": "Accept", "value": "*/*"}],
    }
    return {"request": request, "response": {"status": status, "headers": fields}}


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["/eu-eur/\x1b[31m"], id="path"),
        pytest.param(["/eu-eur/c/lamps?%1b[31m=1"], id="name of a parameter"),
        pytest.param(["--log", line(cache="hi\x1b[31mt", reason="\x9b31m")], id="log"),
        pytest.param(["--log", line(path="/eu-eur/\u202e\ud800")], id="what turns or is no text"),
        pytest.param(["--curl", "curl $'http://h/\\x1b[31m'"], id="curl"),
    ],
)
def test_nothing_that_a_terminal_obeys_is_printed(words, capsys):
    assert cli.run(["policy", "explain", *words, "--policies", str(SMALL)]) in {0, 3}
    printed = capsys.readouterr().out
    assert [character for character in printed if character != "\n" and not character.isprintable()] == []
    assert cli.run(["policy", "explain", *words, "--json", "--policies", str(SMALL)]) in {0, 3}
    assert capsys.readouterr().out.isascii()


def test_every_entry_of_an_archive_is_explained(tmp_path, capsys):
    entries = [
        entry("http://shop.example/eu-eur/c/lamps?utm_source=x", 200, "nearshelf-eu; hit; ttl=20"),
        entry(
            "http://shop.example/eu-eur/c/lamps",
            200,
            "shield; fwd=stale, nearshelf-eu; fwd=uri-miss; stored; detail=cold",
        ),
        entry("http://shop.example/eu-eur/c/../x", 400, "nearshelf-eu; detail=dot-segment"),
        entry("http://shop.example/robots.txt", 200, "nearshelf-eu; hit"),
        entry("data:text/plain,x", 200),
        entry("http://shop.example/edge/x", 404),
        entry("http://shop.example/edge/x", 200),
    ]
    archive = tmp_path / "shop.har"
    archive.write_text(json.dumps({"log": {"version": "1.2", "entries": entries}}), encoding="utf-8-sig")
    found = [each["happened"] for each in happened(capsys, "--har", str(archive), status=3)]
    assert [each["differs"] for each in found] == [
        [],
        [],
        [],
        ["hit then, pass policy-never-stores now"],
        [],
        ["200 then, 404 edge refused now"],
    ]
    assert found[2]["agrees"] == ["400 edge dot-segment"]
    assert cli.run(["policy", "explain", "--har", str(archive), "--policies", str(SMALL)]) == 3
    assert "DIFFERS hit then, pass policy-never-stores now" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text",
    ["", "{}", '{"log": {"entries": [{}]}}', '{"log": {"entries": 3}}', "[" * 100_000],
    ids=lambda text: text[:9],
)
def test_what_is_no_archive_is_said(text, tmp_path, capsys):
    archive = tmp_path / "shop.har"
    archive.write_text(text)
    assert cli.run(["policy", "explain", "--har", str(archive)]) == 1
    assert "no HTTP Archive" in capsys.readouterr().err
    assert cli.run(["policy", "explain", "--har", str(tmp_path / "none.har")]) == 1
    assert "cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("status", "text", "expected"),
    [
        (200, "", Happened(200, "", "")),
        (200, "other; hit", Happened(200, "", "")),
        (200, "nearshelf-eu; hit; ttl=7", Happened(200, "hit", "", ttl_s=7)),
        (200, "nearshelf-eu; hit; ttl=-3; detail=purged-soft", Happened(200, "stale", "purged-soft", ttl_s=-3)),
        (200, "nearshelf-eu; fwd=stale; fwd-status=304; ttl=9; stored", Happened(200, "validated", "", ttl_s=9)),
        (200, "nearshelf-eu; fwd=bypass; detail=policy-never-stores", Happened(200, "pass", "policy-never-stores")),
        (400, "nearshelf-eu; detail=dot-segment", Happened(400, "edge", "dot-segment")),
    ],
)
def test_cache_status_says_what_our_edge_did(status, text, expected):
    assert of_cache_status(status, text) == expected


@pytest.mark.parametrize(
    ("command", "url", "method", "fields"),
    [
        ("curl http://shop.example/eu-eur/", "http://shop.example/eu-eur/", "GET", ()),
        ("curl -I shop.example", "http://shop.example", "HEAD", ()),
        ("/usr/bin/curl -sSIL --compressed 'http://s/?a=1&b=2'", "http://s/?a=1&b=2", "HEAD", ()),
        ("curl -XPOST -d a=b http://s/", "http://s/", "POST", ()),
        ("curl --data-raw a=b http://s/", "http://s/", "POST", ()),
        ("curl -G -d a=b -d c=d http://s/?x", "http://s/?x&a=b&c=d", "GET", ()),
        ("curl http://s/ \\\n  -H 'Accept-Language: de' \\\n  -b 'ns_market=eu-eur; a=b'", "http://s/", "GET",
         (("Accept-Language", "de"), ("cookie", "ns_market=eu-eur; a=b"))),
        ("curl -o /dev/null -w '%{http_code}' -A bingbot http://s/", "http://s/", "GET", (("user-agent", "bingbot"),)),
        ("curl $'http://s/\\u00e9?a=\\'b' -H $'X: \\x41'", "http://s/\u00e9?a='b", "GET", (("X", "A"),)),
        ("curl --url http://s/ -u me:secret", "http://s/", "GET", (("authorization", "me:secret"),)),
    ],
)  # fmt: skip
def test_a_curl_command_is_a_request(command, url, method, fields):
    asked = of_curl(command)
    assert (asked.url, asked.method, asked.fields) == (url, method, fields)


@pytest.mark.parametrize(
    "command", ["", "curl", "curl -H", "curl 'http://s/", "curl http://a/ http://b/", "curl $'\\x'"]
)
def test_what_is_no_curl_command_is_said(command):
    with pytest.raises(CommandError):
        of_curl(command)


def test_a_curl_command_is_explained(capsys):
    found = happened(
        capsys, "--curl", "curl -I 'http://shop.example/eu-eur/c/lamps?page=2' -H 'Accept: */*'", "--country", "DE"
    )
    assert found["request"]["method"] == "HEAD"
    assert found["route"]["id"] == "list-page"
    assert found["forward"]["method"] == "GET"
