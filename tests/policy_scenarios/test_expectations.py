"""Every expectation holds where it should, and is reported at its place where it should not: none is decoration."""

from pathlib import Path

import pytest

from edge.policy_files import load_policies
from infra.policy.expectations import (
    EXPECT_FIELDS,
    FORWARDED_PARTS,
    KEY_PARTS,
    LIFETIMES,
    STATUS_MEMBERS,
)
from infra.policy.scenario_files import read_scenarios
from infra.policy.scenarios import Played, play

POLICIES = load_policies()

STEPS = {
    "miss": "    - {id: first, request: '/eu-eur/?utm_source=x'",
    "hit": "    - {at: 30s, request: /eu-eur/",
    "soft": "    - {at: 40s, purge: {tags: ['h:eu-eur'], kind: soft}, request: {url: /eu-eur/, times: 3}",
    "crowd": "    - {at: 50s, request: {url: /eu-eur/c/x, times: 3}",
    "pass": "    - {at: 60s, request: {url: '/eu-eur/cart?a=b', method: POST, cookies: {c: d}}",
    "edge": "    - {at: 70s, request: PUT /eu-eur/",
    "cut": "    - {at: 80s, request: /cut",
}
ANSWERS = """\
answers:
  /eu-eur/: {body: "<h1>Home</h1>", tags: ["h:eu-eur", "n:eu-eur"], etag: '"v1"'}
  /eu-eur/c/x: {body: "x", tags: ["c:eu-eur:x"], slow: 1s, headers: {set-cookie: a=b}}
  /eu-eur/cart: {body: "cart"}
  /cut: {size: 1MB, fails: cut}
"""

TABLE = [
    # (field, step, what holds, what does not, "expected X, got Y")
    ("status", "miss", "200", "404", "expected 404, got 200"),
    ("status", "edge", "405", "200", "expected 200, got 405"),
    ("outcome", "miss", "miss", "hit", "expected hit, got miss"),
    ("outcome", "hit", "hit", "stale", "expected stale, got hit"),
    ("reason", "soft", "purged-soft", "expired", "expected expired, got purged-soft"),
    ("reason", "hit", "none", "cold", "expected cold, got none"),
    ("cache_status.hit", "hit", "true", "false", "expected false, got true"),
    ("cache_status.fwd", "miss", "uri-miss", "stale", "expected stale, got uri-miss"),
    ("cache_status.fwd", "edge", None, "stale", "expected stale, got nothing"),
    ("cache_status.fwd_status", "miss", "200", "304", "expected 304, got 200"),
    ("cache_status.ttl", "hit", "270s", "271s", "expected 271s, got 270s"),
    ("cache_status.stored", "miss", "true", "false", "expected false, got true"),
    ("cache_status.collapsed", "miss", "false", "true", "expected true, got false"),
    ("cache_status.detail", "miss", "cold", "expired", "expected expired, got cold"),
    ("age", "hit", "30s", "31s", "expected 31s, got 30s"),
    ("age", "edge", None, "0s", "expected 0s, got nothing"),
    ("ttl", "hit", "270s", "-270s", "expected -270s, got 270s"),
    ("headers", "hit", "{etag: '\"v1\"'}", "{etag: '\"v2\"'}", 'expected "v2", got "v1"'),
    ("headers", "hit", None, "{X-Other: a}", "expected a, got nothing"),
    ("present", "hit", "[ETag]", "[set-cookie]", "expected set-cookie, got no set-cookie"),
    ("absent", "hit", "[set-cookie]", "[etag]", 'expected no etag, got etag: "v1"'),
    ("body", "hit", "<h1>Home</h1>", "Home", "expected 'Home', got '<h1>Home</h1>'"),
    ("body_has", "hit", "[Home, h1]", "[h1, House]", "expected a body with 'House', got the body '<h1>Home</h1>'"),
    ("body_lacks", "hit", "House", "Home", "expected a body without 'Home', got the body '<h1>Home</h1>'"),
    ("complete", "cut", "false", "true", "expected true, got false"),
    ("route", "miss", "home", "cart", "expected cart, got home"),
    ("key.authority", "miss", "shop.example", "other.example", "expected other.example, got shop.example"),
    ("key.path", "miss", "/eu-eur/", "/eu-eur", "expected /eu-eur, got /eu-eur/"),
    ("key.path", "edge", None, "/eu-eur/", "expected /eu-eur/, got nothing"),
    ("key.query", "miss", "''", "utm_source=x", "expected utm_source=x, got "),
    ("key.market", "miss", "eu-eur", "us-usd", "expected us-usd, got eu-eur"),
    ("same_key_as", "crowd", None, "first", "expected the key of first, got /eu-eur/c/x ["),
    ("same_key_as", "edge", None, "first", "expected the key of first, got no key now"),
    ("same_key_as", "hit", "first", None, ""),
    ("other_key_than", "hit", None, "first", "expected another key than first, got the same, /eu-eur/ ["),
    ("other_key_than", "crowd", "first", None, ""),
    ("origin_fetches", "miss", "1", "0", "expected 0, got 1"),
    ("origin_fetches", "hit", "0", "1", "expected 1, got 0"),
    ("origin_fetches_so_far", "soft", "2", "1", "expected 1, got 2"),
    ("background_fetches", "soft", "1", "0", "expected 0, got 1"),
    ("background_fetches", "miss", "0", "1", "expected 1, got 0"),
    ("collapsed", "crowd", "0", "2", "expected 2, got 0"),
    ("forwarded.origin", "pass", "shop", "vault", "expected vault, got shop"),
    ("forwarded.method", "pass", "POST", "GET", "expected GET, got POST"),
    ("forwarded.target", "pass", "/eu-eur/cart?a=b", "/eu-eur/cart", "expected /eu-eur/cart, got /eu-eur/cart?a=b"),
    ("forwarded.target", "hit", None, "/eu-eur/", "expected /eu-eur/, got nothing"),
    ("forwarded.headers", "pass", "{cookie: c=d}", "{cookie: d=c}", "expected d=c, got c=d"),
    ("forwarded.absent", "miss", "[cookie]", "[via]", "expected no via, got via: 1.1 nearshelf"),
    ("forwarded.absent", "hit", None, "[cookie]", "expected no cookie, got no request to the origin"),
    ("stored", "miss", "true", "false", "expected false, got true"),
    ("stored", "hit", "false", "true", "expected true, got false"),
    ("why_not_stored", "crowd", "set-cookie", "private", "expected private, got set-cookie"),
    ("why_not_stored", "miss", "none", "vary", "expected vary, got none"),
    ("why_not_stored", "pass", "policy-never-stores", "none", "expected none, got policy-never-stores"),
    ("lifetimes.fresh", "miss", "5m", "60s", "expected 1m, got 5m"),
    ("lifetimes.fresh", "pass", None, "60s", "expected 1m, got nothing"),
    ("lifetimes.stale_while_revalidate", "hit", "600s", "1s", "expected 1s, got 10m"),
    ("lifetimes.stale_if_error", "hit", "1d", "2d", "expected 2d, got 1d"),
    ("lifetimes.stale_if_unreachable", "hit", "0s", "1s", "expected 1s, got 0s"),
    ("lifetimes.keep", "hit", "24h", "0s", "expected 0s, got 1d"),
    ("tags", "hit", "['n:eu-eur', 'h:eu-eur']", "['h:eu-eur']", "expected [h:eu-eur], got [h:eu-eur, n:eu-eur]"),
    ("position", "soft", "1.2", "1.1", "expected 1.1, got 1.2"),
    ("purged_by", "soft", "['h:eu-eur']", "[]", "expected [], got [h:eu-eur]"),
    ("purged_by", "hit", "[]", "['h:eu-eur']", "expected [h:eu-eur], got []"),
]  # fmt: skip


def played(tmp_path: Path, step: str, expect: str) -> Played:
    """The steps, with `expect` at one of them."""
    lines = [f"{text}{f', expect: {expect}' if name == step else ''}}}" for name, text in STEPS.items()]
    if step != "cut":
        lines.pop()
    path = tmp_path / "scenarios.yaml"
    path.write_text(f"{ANSWERS}scenarios:\n  one:\n    steps:\n" + "\n".join(lines) + "\n")
    file = read_scenarios(path, POLICIES)
    assert [str(fault) for fault in file.faults] == []
    return play(file.scenarios[0], POLICIES)


def written(field: str, value: str) -> str:
    outer, _, inner = field.partition(".")
    value = value if value[0] in "[{'" else f'"{value}"' if "<" in value else value
    return f"{{{outer}: {{{inner}: {value}}}}}" if inner else f"{{{outer}: {value}}}"


@pytest.mark.parametrize(("field", "step", "holds", "fails", "said"), TABLE)
def test_an_expectation_holds_or_is_reported(tmp_path, field, step, holds, fails, said):
    if holds is not None:
        good = played(tmp_path, step, written(field, holds))
        assert good.checks >= 1
        assert [failure for failure in good.failures if not failure.field.endswith(".request")] == []
    if fails is not None:
        failures = [
            failure
            for failure in played(tmp_path, step, written(field, fails)).failures
            if not failure.field.endswith(".request")
        ]
        assert len(failures) == 1
        failure = failures[0]
        assert f"expected {failure.expected}, got {failure.got}".startswith(said)
        assert failure.field.startswith(f"scenarios.one.steps[{list(STEPS).index(step)}].expect.{field}")
        assert failure.answered
        line = 9 + list(STEPS).index(step)
        assert failure.place.line == line
        text = (tmp_path / "scenarios.yaml").read_text().splitlines()[line - 1]
        start, end = failure.place.column - 1, failure.place.end_column - 1
        assert text[start:end].strip("'\"")
        assert text[start:end].strip("'\"") in fails.replace("\\", "")


def test_every_expectation_is_in_the_table():
    nested = {
        "cache_status": STATUS_MEMBERS,
        "key": KEY_PARTS,
        "forwarded": FORWARDED_PARTS,
        "lifetimes": LIFETIMES,
    }
    names = [
        f"{each.name}.{part.name}" if each.name in nested else each.name
        for each in EXPECT_FIELDS
        for part in nested.get(each.name, (each,))
    ]
    assert sorted({field for field, _, holds, _, _ in TABLE if holds is not None}) == sorted(names)
    assert sorted({field for field, _, _, fails, _ in TABLE if fails is not None}) == sorted(names)


def test_all_that_is_wrong_is_reported_not_only_the_first(tmp_path):
    failures = played(tmp_path, "hit", "{status: 404, outcome: miss, age: 1s, headers: {etag: a, vary: b}}").failures
    assert [failure.field.rpartition(".")[2] for failure in failures] == ["status", "outcome", "age", "etag", "vary"]


def test_of_a_crowd_everybody_is_looked_at(tmp_path):
    path = tmp_path / "scenarios.yaml"
    path.write_text(
        "answers:\n  /eu-eur/: {body: x, tags: ['h:eu-eur'], slow: 1s}\nscenarios:\n  crowd:\n    steps:\n"
        "      - request: {url: /eu-eur/, times: 50}\n"
        "        expect: {collapsed: 49, origin_fetches: 1, cache_status: {collapsed: false}}\n"
    )
    failures = play(read_scenarios(path, POLICIES).scenarios[0], POLICIES).failures
    assert [(failure.expected, failure.got) for failure in failures] == [("false", "true (49 of 50 viewers)")]


def test_a_body_cut_short_is_reported_without_being_asked_about(tmp_path):
    failures = played(tmp_path, "cut", "{status: 200}").failures
    assert [(failure.expected, failure.got) for failure in failures] == [
        ("a whole answer", "a connection that ended before its end")
    ]
    assert failures[0].field == "scenarios.one.steps[6].request"
