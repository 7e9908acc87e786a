"""The benches run: one short round of the gateway alone, or a clear word about what is missing."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

from cache_policies.positions import PurgeKind
from loadtests.bench import hot_tag, measuring
from loadtests.bench.hits import Shop
from loadtests.bench.measuring import BenchError, Row, Run, Verdict
from loadtests.bench.origins import BenchOrigin, Page, running
from loadtests.bench.stampede import tier_program

pytestmark = pytest.mark.alone

COMMAND = [sys.executable, "-m", "loadtests.bench"]


def run(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=110, env=env)


def test_what_is_missing_is_named():
    found = run("hits", env={"PATH": "/nowhere"})
    assert found.returncode == 2
    assert "wrk" in found.stderr
    assert "apt-get install" in found.stderr


def test_the_benches_are_listed():
    found = run()
    assert found.returncode == 0
    assert {"hits", "misses", "stampede", "revalidation"} <= set(found.stdout.split())


@pytest.mark.skipif(shutil.which("taskset") is None, reason="the bench pins its worker to a core")
def test_hits_are_measured_in_the_process_and_so_is_a_scrape():
    found = run("hit_metrics", "--rounds", "1", "--seconds", "0.2")
    assert found.stderr == ""
    assert "| a hit, with the access log |" in found.stdout
    assert "CPU ns a hit in the quickest 2 % of blocks of each round" in found.stdout
    assert "ms that a scrape of 1," in found.stdout


def test_an_unknown_bench_is_refused():
    found = run("hist")
    assert found.returncode == 2
    assert "hits" in found.stdout


@pytest.mark.skipif(any(shutil.which(name) is None for name in ("wrk", "taskset")), reason="needs wrk and taskset")
def test_a_round_gives_a_table():
    short = ["--rounds", "1", "--seconds", "1", "--tries", "1", "--objects", "100", "--requests", "200"]
    found = run("hits", *short, "--only", "nearshelf", "--series", "hits-8k")
    assert found.returncode == 0, found.stderr
    assert "| nearshelf |" in found.stdout
    assert "CPU us/req" in found.stdout


@pytest.mark.skipif(
    any(shutil.which(name) is None for name in ("wrk", "taskset", "nginx")), reason="needs nginx and wrk"
)
@pytest.mark.parametrize(
    ("bench", "row"), [("misses", "| nginx proxy_pass |"), ("writes", "| httpx on our transport |")]
)
def test_a_round_of_what_goes_to_the_origin_gives_a_table_and_a_verdict(bench, row):
    found = run(bench, "--rounds", "1", "--seconds", "1", "--tries", "1", "--connections", "8")
    assert found.returncode in {0, 1}, found.stderr
    assert row in found.stdout
    assert "met: requests a second of" in found.stdout.lower()


@pytest.mark.skipif(tier_program() is None, reason="needs a valkey-server or redis-server")
@pytest.mark.parametrize("row", ["0", "4", "-1"])
def test_a_row_of_the_hot_tag_that_there_is_not_is_refused_and_nothing_is_written(tmp_path, capsys, row):
    document = tmp_path / "edge.md"
    document.write_text("<!-- hot-tag -->\nmeasured\n<!-- /hot-tag -->\n")
    assert hot_tag.main(["--only", row, "--write", str(document)]) == 2
    assert f"--only: rows are 1 to 3, not {row}" in capsys.readouterr().err
    assert "measured" in document.read_text()


def test_a_hot_tag_is_purged_and_every_page_fetched_once_for_each_site():
    found = run("hot_tag", "--keys", "60", "--viewers", "20", "--sites", "2", "--cap", "20", "--only", "1")
    assert found.returncode == 0, found.stdout + found.stderr
    assert "| cap 20, deadline 30 s | 120 | 120 |" in found.stdout


@pytest.mark.skipif(tier_program() is None, reason="needs a valkey-server or redis-server")
def test_beyond_the_deadline_there_is_503_and_nothing_else():
    found = run("hot_tag", "--keys", "400", "--viewers", "200", "--sites", "1", "--cap", "20", "--only", "3")
    assert found.returncode == 0, found.stdout + found.stderr
    assert "met: cap 2, deadline 1 s: answers that are neither 200 nor 503 with Retry-After: 0.00" in found.stdout


def ran(cpu_us: float, foreign: float = 0.0) -> Run:
    return Run(per_s=1e6 / cpu_us, cpu_us=cpu_us, p50_ms=1.0, p99_ms=2.0, foreign=foreign, tries=1)


def test_ratios_are_taken_within_a_round():
    ours = Row("ours", lambda: ran(1), [ran(10), ran(20), ran(40)])
    theirs = Row("theirs", lambda: ran(1), [ran(20), ran(20), ran(50)])
    assert measuring.cpu_ratio(ours, theirs) == 0.8
    assert "| ours | 50,000 (37,500 - 75,000) | 20.0 (15.0 - 30.0) | 1.00 | 2.00 | 0.80 |" in measuring.table(
        [ours, theirs], ["theirs"]
    )


def test_a_disturbed_run_is_repeated_and_the_quietest_counts():
    runs = iter([ran(10, 0.5), ran(11, 0.3), ran(12, 0.4)])
    found = measuring.undisturbed(lambda: next(runs), 3)
    assert (found.cpu_us, found.foreign, found.tries) == (11, 0.3, 3)
    runs = iter([ran(10, 0.5), ran(11, 0.1)])
    assert measuring.undisturbed(lambda: next(runs), 3).tries == 2


def test_a_disturbed_table_says_so():
    row = Row("ours", lambda: ran(1), [ran(10, 0.5)])
    assert "**Disturbed**" in measuring.table([row], [])


def test_verdicts_say_what_was_aimed_at():
    assert str(Verdict("a", 0.8, 0.85)) == "met: a: 0.80, at most 0.85"
    assert str(Verdict("b", 4.0, 5, at_least=True)) == "NOT MET: b: 4.00, at least 5"


def test_a_table_goes_between_its_marks(tmp_path: Path):
    document = tmp_path / "page.md"
    document.write_text("before\n<!-- a -->\nold\n<!-- /a -->\nafter\n")
    measuring.write_between_marks(document, "a", "new")
    assert document.read_text() == "before\n<!-- a -->\n\nnew\n\n<!-- /a -->\nafter\n"
    with pytest.raises(BenchError, match="<!-- b -->"):
        measuring.write_between_marks(document, "b", "new")


def test_no_two_requests_are_alike():
    shop = Shop(50, 2_000)
    requests = shop.requests(200, "shop.example", "identity")
    assert len(set(requests)) == 200
    cookies = [line for each in requests for line in each.split(b"\r\n") if line.startswith(b"Cookie")]
    assert len(set(cookies)) == 200


def test_an_object_has_one_body_whatever_else_is_in_its_address():
    shop = Shop(50, 2_000)
    chosen = random.Random(1)
    for each in shop.objects[:10]:
        pairs = [*each.query, ("gclid", "1")]
        chosen.shuffle(pairs)
        spelt = "&".join(f"{name}={value}" for name, value in pairs)
        plain = "&".join(f"{name}={value}" for name, value in each.query)
        assert shop.page_for(f"{each.path}?{spelt}", "") == shop.page_for(f"{each.path}?{plain}", "")


def test_the_origin_counts_and_its_log_grows():
    with running(BenchOrigin(lambda target, head: Page(target.encode()))) as origin:
        answer = urlopen(f"{origin.url}/a").read()
        assert (answer, origin.fetches["/a"]) == (b"/a", 1)
        before = origin.position
        assert origin.purge("p:1", kind=PurgeKind.SOFT) == origin.position
        assert origin.position > before
