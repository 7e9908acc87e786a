"""`nearshelf policy diff`: exactly what edges do otherwise, and nothing about how it is written down."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cache_policies.markets import load_markets
from edge.core.policy import CachePolicy, PolicySet
from infra import cli
from infra.policy.diff import Side, as_json, compare, read_side, sample_paths
from tests.policy_tools.shops import SMALL


def edited(folder: Path, *edits: tuple[str, str, str]) -> Path:
    """A copy of the small policies in which each (file, text, other text) is replaced."""
    shutil.copytree(SMALL, folder)
    for name, was, now in edits:
        path = folder / name
        text = path.read_text()
        assert text.count(was) == 1, f"{was!r} is there {text.count(was)} times"
        path.write_text(text.replace(was, now))
    return folder


def differs(tmp_path: Path, *edits: tuple[str, str, str]) -> dict[str, Any]:
    """What the edits change, as JSON."""
    return as_json(compare(read_side(str(SMALL)), read_side(str(edited(tmp_path / "after", *edits)))))


def changes(found: dict[str, Any]) -> dict[str, list[tuple[str, str, str | None, str | None]]]:
    """By route: kind, field, before, after."""
    return {
        route["id"]: [(each["kind"], each["field"], each["before"], each["after"]) for each in route["changes"]]
        for route in found["routes"]
    }


def test_the_same_policies_are_no_change(tmp_path):
    found = differs(tmp_path)
    assert not found["changed"]
    assert found["samples"] > 20


def test_comments_defaults_and_an_order_that_does_not_matter_are_no_change(tmp_path):
    folder = tmp_path / "after"
    shutil.copytree(SMALL, folder)
    pages = (folder / "pages.yaml").read_text()
    head, _, routes = pages.partition("routes:\n")
    list_page, story = routes.split("\n\n")
    defaults = "    fresh: 5m\n    negative: {404: 10s}\n    forward_methods: [GET, HEAD]\n"
    written_out = list_page.replace("    max_fresh", f"{defaults}    max_fresh")
    (folder / "pages.yaml").write_text(f"# Another comment.\n{head}routes:\n{story.rstrip()}\n\n{written_out}\n")
    # Another order of the files, too.
    (folder / "private.yaml").rename(folder / "a-private.yaml")
    found = compare(read_side(str(SMALL)), read_side(str(folder)))
    assert found.before.policies.digest != found.after.policies.digest
    assert not found.changed
    assert cli.run(["policy", "diff", str(SMALL), str(folder)]) == 0


@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        pytest.param(
            [("pages.yaml", "fresh: 60s", "fresh: 90s")],
            {"story": [("lifetime", "fresh", "60 s", "90 s")]},
            id="one lifetime, and not the ceiling that follows it",
        ),
        pytest.param(
            [("pages.yaml", "keep: 1d", "keep: 1h"), ("pages.yaml", "revalidate: 60s", "revalidate: 0s")],
            {
                "list-page": [
                    ("lifetime", "stale_while_revalidate", "60 s", "0 s"),
                    ("lifetime", "keep", "86400 s", "3600 s"),
                ]
            },
            id="two lifetimes",
        ),
        pytest.param(
            [("pages.yaml", "{404: 10s}", "{404: 10s, 410: 60s}")],
            {
                "list-page": [("lifetime", "negative", None, "410: 60 s")],
                "story": [("lifetime", "negative", None, "410: 60 s")],
            },
            id="a default of two routes",
        ),
        pytest.param(
            [("pages.yaml", "query: [sort, page]", "query: [page, color]")],
            {"list-page": [("key", "query", "sort", None), ("key", "query", None, "color")]},
            id="parameters that count",
        ),
        pytest.param(
            [("pages.yaml", "query: [sort, page]", "query: [page, sort]")],
            {"list-page": [("key", "order of query", "sort page", "page sort")]},
            id="their order, which is in the key",
        ),
        pytest.param(
            [("pages.yaml", "    request_fields: [accept-language]\n    vary: [accept-language]\n", "")],
            {
                "story": [
                    ("key", "request_fields", "accept-language", None),
                    ("key", "vary", "accept-language", None),
                ]
            },
            id="variants",
        ),
        pytest.param(
            [("pages.yaml", "{rate: 600/m, burst: 50}", "20/s")],
            {"list-page": [("rule", "throttle", "10/s, 50 at once", "20/s, 20 at once")]},
            id="a throttle",
        ),
        pytest.param(
            [("private.yaml", "refuse: 404", "refuse: 403")],
            {"edge-feed": [("rule", "refuse", "404", "403")]},
            id="a refusal",
        ),
        pytest.param(
            [("private.yaml", "residency: seal", "residency: route")],
            {"vault": [("rule", "residency", "seal", "route")]},
            id="residency",
        ),
    ],
)  # fmt: skip
def test_a_change_of_a_field_is_that_change(edits, expected, tmp_path):
    found = differs(tmp_path, *edits)
    assert changes(found) == expected
    assert (found["moved"], found["markets"], found["origins"], found["dangers"]) == ([], [], [], [])


def test_a_route_that_becomes_cacheable_is_dangerous(tmp_path, capsys):
    edit = ("default.yaml", "store: false\n    query: all", "fresh: 60s\n    query: [q]")
    found = differs(tmp_path, edit)
    assert found["dangers"] == ["default (default.yaml:2) becomes cacheable"]
    assert ("store", "store", "false", "true") in changes(found)["default"]
    (route,) = found["routes"]
    assert route["stored"] == {"before": False, "after": True}
    assert route["dangerous"]
    assert cli.run(["policy", "diff", str(tmp_path / "after"), str(SMALL)]) == 2
    printed = capsys.readouterr().out
    assert "DANGEROUS" not in printed
    assert "is not cacheable any more" in printed


def test_a_route_becomes_cacheable_also_by_the_class_of_its_data(tmp_path):
    personal = "data_class: personal\n    query: all\n    cookies: true\n    auth: required\n    residency: route"
    found = differs(tmp_path, ("private.yaml", personal, "fresh: 60s"))
    assert found["dangers"] == ["letters (private.yaml:12) becomes cacheable"]
    assert ("store", "data_class", "personal", "public") in changes(found)["letters"]


def test_variants_per_url_are_counted_before_and_after(tmp_path):
    edit = ("pages.yaml", "    request_fields: [accept-language]\n    vary: [accept-language]\n", "")
    (route,) = differs(tmp_path, edit)["routes"]
    assert route["variants"]["before"] > 100
    assert route["variants"]["after"] == 2


NEW_ROUTE = "routes:\n  sale:\n    path: /{market}/c/sale\n    fresh: 60s\n\n"


def test_a_new_route_takes_addresses_over_from_the_one_that_had_them(tmp_path):
    found = differs(tmp_path, ("pages.yaml", "routes:\n", NEW_ROUTE))
    assert [(route["id"], route["what"]) for route in found["routes"]] == [("sale", "added")]
    (moved,) = found["moved"]
    assert (moved["before"], moved["after"], moved["dangerous"]) == ("list-page", "sale", False)
    assert moved["example"].endswith("/c/sale")


def test_addresses_that_nobody_stored_and_a_new_route_stores_are_dangerous(tmp_path):
    edit = ("default.yaml", "routes:\n", NEW_ROUTE.replace("/{market}/c/sale", "/{market}/brands"))
    found = differs(tmp_path, edit)
    (moved,) = found["moved"]
    assert (moved["before"], moved["after"], moved["dangerous"]) == ("default", "sale", True)
    assert found["dangers"] == ["/eu-eur/brands was never stored (default) and now is (sale)"]


PAGE = "  page:\n    path: /{market}/{name}/x\n    fresh: 60s\n"
LIST = "  list:\n    path: /{market}/list/{rest...}\n    fresh: 60s\n"
APART = "  apart:\n    path: /{market}/apart\n    fresh: 60s\n"


@pytest.mark.parametrize(
    ("before", "after", "moved"),
    [
        pytest.param(LIST + PAGE, PAGE + LIST, [("list", "page", "/eu-eur/list/x")], id="two routes that meet"),
        pytest.param(LIST + APART, APART + LIST, [], id="two routes that never meet"),
    ],
)
def test_a_new_order_matters_where_two_routes_meet(before, after, moved, tmp_path):
    folders = []
    for name, routes in (("before", before), ("after", after)):
        folders.append(edited(tmp_path / name))
        (folders[-1] / "pages.yaml").write_text(f"routes:\n{routes}")
    found = compare(*(read_side(str(folder)) for folder in folders))
    assert [(each.before.id, each.after.id, each.example) for each in found.moved] == moved
    assert found.routes == ()


def test_a_route_of_another_name_is_renamed(tmp_path):
    found = differs(tmp_path, ("pages.yaml", "  story:", "  tale:"))
    (route,) = found["routes"]
    assert (route["id"], route["what"], changes(found)["tale"]) == (
        "tale",
        "renamed",
        [("rule", "id", "story", "tale")],
    )
    assert found["moved"] == []


def test_a_route_that_is_gone_gives_its_addresses_to_the_next(tmp_path):
    found = differs(
        tmp_path,
        (
            "private.yaml",
            "  vault:\n    path: /{market}/vault/{rest...}\n    data_class: personal\n    residency: seal\n",
            "",
        ),
    )
    assert [(route["id"], route["what"]) for route in found["routes"]] == [("vault", "removed")]
    assert {(each["before"], each["after"]) for each in found["moved"]} == {("vault", "default")}


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (("markets.yaml", "default: us-usd", "default: eu-eur"), {"default"}),
        (("markets.yaml", "countries: [DE, AT, FR]", "countries: [DE, FR]"), {"visitors from AT"}),
        (("markets.yaml", "tax_display: excluded", "tax_display: included"), {"tax_display of us-usd"}),
        (("markets.yaml", "blocked: [KP]", "blocked: [KP, IR]"), {"blocked"}),
        (("markets.yaml", "{ending: .99}", "{round_to: 0.10}"), {"rounding of EUR"}),
    ],
)
def test_changes_of_markets(edit, expected, tmp_path):
    found = differs(tmp_path, edit)
    assert {each["field"] for each in found["markets"]} == expected
    assert found["routes"] == []


def test_changes_of_origins(tmp_path):
    edits = [
        ("origins.yaml", "jurisdictions: [eu]", "jurisdictions: [eu, ch]"),
        ("origins.yaml", "connect_timeout: 2s", "connect_timeout: 3s"),
    ]
    assert [(each["field"], each["after"]) for each in differs(tmp_path, *edits)["origins"]] == [
        ("jurisdictions of shop", "('eu', 'ch')"),
        ("connect_timeout_s of stories", "3.0"),
    ]


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ([str(SMALL), str(SMALL)], 0),
        ([str(SMALL), "AFTER"], 2),
        ([str(SMALL), "AFTER", "--exit-code"], 2),
        ([str(SMALL), "AFTER", "--no-exit-code"], 0),
        ([str(SMALL), "AFTER", "--format", "md"], 2),
        ([str(SMALL), "AFTER", "--format", "json"], 2),
        ([str(SMALL), "no-such-folder"], 1),
        ([str(SMALL), "BROKEN"], 1),
        ([str(SMALL), "AFTER", "--replay", "no-such-log"], 1),
    ],
)
def test_the_exit_status_says_whether_anything_changed(words, status, tmp_path):
    after = edited(tmp_path / "after", ("pages.yaml", "fresh: 60s", "fresh: 90s"))
    (tmp_path / "broken").mkdir()
    named = {"AFTER": str(after), "BROKEN": str(tmp_path / "broken")}
    assert cli.run(["policy", "diff", *[named.get(word, word) for word in words]]) == status


def test_a_table_for_a_pull_request(tmp_path, capsys):
    after = edited(
        tmp_path / "after",
        ("pages.yaml", "fresh: 60s", "fresh: 90s"),
        ("default.yaml", "store: false\n    query: all", "fresh: 60s\n    query: [q]"),
    )
    assert cli.run(["policy", "diff", str(SMALL), str(after), "--format", "md"]) == 2
    printed = capsys.readouterr().out
    assert "> :warning: **default (default.yaml:2) becomes cacheable**" in printed
    assert "| `story` pages.yaml:21 | changed | lifetime `fresh` | `60 s` | `90 s` |" in printed
    rows = [row for row in printed.splitlines() if row.startswith("|")]
    assert {row.count("|") for row in rows} == {6}


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository with the small policies in cache_policies, and a change of them that is not committed."""
    folder = tmp_path / "repository"
    folder.mkdir()
    edited(folder / "cache_policies")
    monkeypatch.chdir(folder)
    for name in ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE"):
        monkeypatch.delenv(name, raising=False)
    for command in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "first"]):
        identity = ["-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *identity, *command], check=True)
    pages = folder / "cache_policies" / "pages.yaml"
    pages.write_text(pages.read_text().replace("fresh: 60s", "fresh: 90s"))
    return folder


@pytest.mark.parametrize("revision", ["HEAD:cache_policies", "main:cache_policies", "HEAD"])
def test_a_revision_is_a_side(revision, repository, capsys):
    assert cli.run(["policy", "diff", revision, "cache_policies", "--format", "json"]) == 2
    found = json.loads(capsys.readouterr().out)
    assert changes(found) == {"story": [("lifetime", "fresh", "60 s", "90 s")]}
    assert cli.run(["policy", "diff", revision, "HEAD"]) == 0


def test_a_revision_is_found_from_within_a_folder_of_the_repository(repository, monkeypatch):
    monkeypatch.chdir(repository / "cache_policies")
    assert cli.run(["policy", "diff", "HEAD:cache_policies", "HEAD"]) == 0


@pytest.mark.parametrize(
    "name", ["nope", "nope:cache_policies", "HEAD:nope", ":", "--output=x", "HEAD:cache_policies/pages.yaml"]
)
def test_what_is_neither_a_folder_nor_a_revision_is_said(name, repository, capsys):
    with pytest.raises(Exception, match="folder"):
        read_side(name)


# -- sample addresses --------------------------------------------------------------------------------------------------

SEGMENT = st.sampled_from(["{market}", "{name}", "c", "list", "eu-eur", "x"])


@st.composite
def patterns(draw: st.DrawFn) -> str:
    segments = draw(st.lists(SEGMENT, min_size=1, max_size=3))
    named = [f"{{n{'abc'[number]}}}" if each == "{name}" else each for number, each in enumerate(segments)]
    if named.count("{market}") > 1:
        named = [each if number == 0 or each != "{market}" else "m" for number, each in enumerate(named)]
    ending = draw(st.sampled_from(["", "", "/{rest...}", "/"]))
    return "/" + "/".join(named) + ending


@settings(max_examples=100, deadline=None)
@given(st.lists(patterns(), min_size=2, max_size=5, unique=True), st.randoms())
def test_an_order_that_changes_any_address_is_found(found, rng):
    """Against every path of up to four segments of the words that the patterns know."""
    markets = load_markets(SMALL)
    rest = CachePolicy("rest", "/{rest...}", store=False)
    routes = [CachePolicy(f"r{number}", path) for number, path in enumerate(found)]
    shuffled = rng.sample(routes, len(routes))
    before, after = (PolicySet([*each, rest], markets) for each in (routes, shuffled))
    words = ["eu-eur", "us-usd", "c", "list", "x", "m", "other"]
    paths = [""]
    every: list[str] = []
    for _ in range(4):
        paths = [f"{path}/{word}" for path in paths for word in words]
        every += [*paths, *(f"{path}/" for path in paths)]
    really = any(before.match(path).policy is not after.match(path).policy for path in every)
    diff = compare(Side("before", before, {}), Side("after", after, {}))
    assert diff.moved or not really


def test_a_third_route_that_comes_before_both_does_not_hide_that_their_order_matters():
    """Seen with /eu-eur/... before /{market}/...: the only sample was of the market that the first one names."""
    markets = load_markets(SMALL)
    rest = CachePolicy("rest", "/{rest...}", store=False)
    first, second, third = (
        CachePolicy(name, path)
        for name, path in (("a", "/eu-eur/{rest...}"), ("b", "/{market}/{rest...}"), ("c", "/{market}/m"))
    )
    before, after = PolicySet([first, third, second, rest], markets), PolicySet([first, second, third, rest], markets)
    (moved,) = compare(Side("before", before, {}), Side("after", after, {})).moved
    assert (moved.before.id, moved.after.id, moved.example) == ("c", "b", "/ch-chf/m")
    assert "/ch-chf/m" in sample_paths(before, after)
