"""The report: ten figures in their order, each with its table; nothing measured is a sentence; text is never HTML."""

from __future__ import annotations

import csv
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from cache_policies.reading import Place
from loadtests.recorder.histogram import Histogram
from loadtests.recorder.run import Address, Cell, Event, Label, Purge, Run, Status
from loadtests.report.files import own_figures, report_html, write_reports
from loadtests.report.plots import figures_of
from loadtests.report.terminal import exit_status, lines_of
from loadtests.thresholds import judge, parse_threshold
from tests.support.load_runs import Shape, made_run

TITLES = [
    "Hit ratio over time",
    "Latency by cache status",
    "Viewers against origin",
    "Purge to fresh",
    "Intended against achieved rate",
    "Corrected and uncorrected",
    "Key fragmentation",
    "Memory and evictions",
    "Price staleness",
    "Errors and stale answers",
]
STYLE = (Path(__file__).parents[2] / "loadtests/report/templates/style.css").read_text()
VOID = {"meta", "br"}


def plain(text: str) -> str:
    return text.replace("\u202f", " ").replace("\u00a0", " ").replace("\u2212", "-")


def held_to(run: Run, *texts: str) -> Run:
    run.thresholds = judge(run, [parse_threshold(text, Place("night.yaml", 7, 3)) for text in texts])
    return run


def late_and_wrong(run: Run) -> None:
    run.check.faults.append("late")
    run.prices.old_after_live = 1


def bare_run(**changes) -> Run:
    """One that measured nothing but itself."""
    run = made_run(Shape(seconds=10, warmup=2, changes=0, scraped=False))
    run.cells, run.seconds, run.addresses, run.asked_urls, run.events = [], [], [], {}, []
    for name, value in changes.items():
        setattr(run, name, value)
    return run


class Page(HTMLParser):
    """A page taken apart: whether its elements are well nested, and what they are."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.words: dict[str, list[str]] = {}
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.words.setdefault(self.open[-1], []).append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.seen if name == tag]


@pytest.fixture(scope="module")
def whole() -> Run:
    run = made_run(Shape(seconds=40, warmup=5, outage=(20, 30)))
    return held_to(run, "p99{status=hit} < 15ms", "hit_ratio > 0.99", "errors == 0", "live_p99 < 2s")


@pytest.fixture(scope="module")
def page(whole) -> Page:
    return Page(report_html(whole))


# --- the page -------------------------------------------------------------------------------------------------------


def test_the_ten_figures_are_there_in_their_order_each_with_a_chart_and_a_table(whole):
    figures = figures_of(whole)
    assert [figure.title for figure in figures] == TITLES
    assert [figure.number for figure in figures] == list(range(1, 11))
    for figure in figures:
        assert not figure.nothing, figure.title
        assert figure.charts, figure.title
        assert figure.tables, figure.title
        assert all(table.rows and len({len(row) for row in table.rows}) == 1 for table in figure.tables), figure.title
        assert all(len(table.rows[0]) == len(table.head) for table in figure.tables), figure.title
        assert figure.finding.endswith("."), figure.title


def test_the_page_needs_nothing_but_itself(page):
    for tag, attributes in page.seen:
        assert tag not in {"script", "link", "img", "iframe", "object", "embed", "base", "form", "use", "image"}
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("href", "src", "xlink:href"):
            assert str(attributes.get(name) or "#").startswith("#")
    assert "url(" not in STYLE
    assert "@import" not in STYLE
    (policy,) = [each["content"] for each in page.all("meta") if each.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'sha256-")


def test_every_drawing_says_in_words_what_it_shows_and_every_name_is_given_once(page):
    drawings = [each for each in page.all("svg") if each.get("role") == "img"]
    assert len(drawings) >= 2 * 12
    ids = [attributes["id"] for _, attributes in page.seen if "id" in attributes]
    assert len(ids) == len(set(ids))
    for drawing in drawings:
        assert set(str(drawing["aria-labelledby"]).split()) <= set(ids)
    assert all(each.get("aria-hidden") == "true" for each in page.all("svg") if each.get("role") != "img")
    assert all(text.strip() for text in page.words["desc"])
    assert len(page.all("caption")) == len(page.all("table"))
    assert len(page.all("h1")) == 1
    for link in page.all("a"):
        assert str(link["href"]).removeprefix("#") in ids


def test_no_number_is_nan_or_infinite(whole):
    assert not re.search(r"\b(nan|inf|None)\b", report_html(whole))


def test_the_first_screen_says_the_verdict_each_threshold_and_what_was_measured_where(whole):
    text = plain(report_html(whole)).partition('class="figure"')[0]
    assert "Failed</strong> 2 of 4 thresholds not met." in text
    for each in whole.thresholds:
        assert f"<code>{each.text.replace('<', '&lt;').replace('>', '&gt;')}</code>" in text
    assert text.count('class="met"') >= 2
    assert text.count('class="broken"') == 2
    assert "Written in night.yaml" in text
    for fact in ("Example CPU", "2 cores", "0.3 %", "locust 2.47", "ee5faa0c1d2e", "9f2c41d07be3", f"{7:032x}"):
        assert fact in text
    assert "5.00 s of warm-up are shown and not counted" in text


def test_the_definition_of_the_hit_ratio_stands_on_its_plot(whole):
    figure = figures_of(whole)[0]
    assert any("hits / (hits + misses), pass apart" in words for _, _, words in figure.charts[0].legend)


def test_the_same_run_gives_the_same_page(whole):
    assert report_html(whole) == report_html(whole)


def test_whatever_a_run_says_is_text(tmp_path):
    evil = "<img src=x onerror=alert(1)>\"'&</style></svg>"
    run = made_run(Shape(seconds=12, warmup=2))
    run.scenario = run.description = run.request_digest = run.started_at = evil
    run.machine.cpu = run.versions["revision"] = run.policy_digests["eu"] = evil
    run.check.faults.append(evil)
    run.prices.violations.append(evil)
    run.prices.old_after_live = 1
    run.addresses = [Address(evil, evil, 9, 5)]
    run.events.append(Event(3, "fault", evil))
    run.phases[1].name = evil
    for cell in run.cells:
        cell.label = cell.label._replace(
            edge=evil, route=evil, phase=evil if cell.label.phase == "steady" else "warm-up"
        )
    for second in run.seconds:
        second.requests = {status: {evil: sum(per.values())} for status, per in second.requests.items()}
    run.series = {key.replace("eu", "e<u>"): points for key, points in run.series.items()}
    held_to(run, "errors == 0")
    run.thresholds[0].text = run.thresholds[0].said = evil
    text = report_html(run)
    assert "<img" not in text
    Page(text)
    write_reports(run, tmp_path)
    ET.parse(tmp_path / "junit.xml")


# --- nothing measured -----------------------------------------------------------------------------------------------


def test_a_run_that_measured_nothing_says_so_in_ten_sentences():
    run = bare_run()
    figures = figures_of(run)
    assert [figure.title for figure in figures] == TITLES
    for figure in figures:
        assert figure.nothing, figure.title
        assert not figure.charts
        assert figure.finding.endswith("."), figure.title
    Page(report_html(run))
    assert lines_of(run)


def test_without_scraped_figures_the_origin_and_the_stores_are_a_sentence():
    figures = {figure.title: figure for figure in figures_of(made_run(Shape(seconds=20, scraped=False)))}
    assert figures["Viewers against origin"].nothing
    assert "nearshelf_origin_fetches_total" in figures["Viewers against origin"].finding
    assert figures["Memory and evictions"].nothing
    assert not figures["Hit ratio over time"].nothing


def test_a_run_without_price_changes_says_that_none_could_be_stale():
    figures = {figure.title: figure for figure in figures_of(made_run(Shape(seconds=20, changes=0)))}
    assert "it changed no price" in figures["Price staleness"].finding
    assert "No price was changed" in figures["Purge to fresh"].finding


def test_a_price_that_a_probe_never_saw_counts_as_longer_than_all_that_were():
    run = made_run(Shape(seconds=20, changes=10))
    for change in run.changes[:6]:
        change.fresh_ms["eu"] = None
    run.changes[0].live_ms = None
    figure = figures_of(run)[3]
    assert "6 probes never saw the new price." in plain(figure.finding)
    assert "1 of 10 changes never became live." in plain(figure.finding)
    rows = {row[0]: row[1:] for row in figure.tables[0].rows}
    assert rows["fresh at eu"] == ["10", "never", "never", "never", "never"]
    assert rows["live"][4] == "never"
    assert "never" not in rows["fresh at us"]


def test_changes_that_no_probe_followed_are_told_beside_purge_to_fresh():
    run = made_run(Shape(seconds=20, changes=10))
    assert "no probe" not in plain(figures_of(run)[3].finding)
    for change in run.changes[:4]:
        change.fresh_ms = {}
    assert "4 of 10 changes had no probe: fresh is of the others." in plain(figures_of(run)[3].finding)


def test_locust_s_own_statistics_stand_beside_ours():
    run = made_run(Shape(seconds=6, warmup=1))
    row = {"method": "GET", "name": "eu <product>", "num_requests": 1204, "num_failures": 0, "median_response_time": 3}
    run.locust = {"requests": 1204, "rows": [row, "odd"]}
    text = plain(report_html(run))
    Page(text)
    assert "GET eu &lt;product&gt;" in text
    assert "<td>1 204</td>" in text


def test_a_closed_loop_has_no_intended_rate_and_nothing_to_correct():
    run = made_run(Shape(seconds=20, open_loop=False))
    figures = {figure.title: figure for figure in figures_of(run)}
    assert "closed loop" in figures["Intended against achieved rate"].finding
    assert figures["Corrected and uncorrected"].finding.startswith("Only uncorrected")
    assert "closed loop" in plain("\n".join(lines_of(run)))
    Page(report_html(run))


@pytest.mark.parametrize("seconds", [1, 3, 700])
def test_runs_of_any_length_are_drawn(seconds):
    run = made_run(Shape(seconds=seconds, warmup=0, rate=20, changes=3))
    text = report_html(run)
    Page(text)
    assert not re.search(r"\b(nan|inf)\b", text)


def test_one_request_is_drawn():
    one = Histogram()
    one.add(400)
    run = bare_run(cells=[Cell(Label("steady", Status.HIT, "product", "eu", "eu-eur"), one, one, 1, 0, {"304": 1})])
    text = plain(report_html(run))
    Page(text)
    assert "400 us" in text


# --- figures that are right -------------------------------------------------------------------------------------------


def test_a_hit_of_0_4_ms_reads_400_us_and_not_0_or_1():
    found = Histogram()
    found.add(400, times=1000)
    run = bare_run(cells=[Cell(Label("steady", Status.HIT, "product", "eu", "eu-eur"), found, found, 1000, 9_000_000)])
    latency = figures_of(run)[1]
    assert [plain(text) for text in latency.tables[0].rows[0]] == ["HIT", "1 000", *["400 us"] * 4]


def test_a_stall_of_2_s_is_named_by_the_corrected_figure_and_stands_beside_the_uncorrected_one():
    figure = figures_of(made_run(Shape(seconds=40, stall=(20, 22))))[5]
    assert figure.finding.startswith("Waiting hides in the uncorrected figure: p99 of HIT is 1.")
    rows = {row[0]: row[1:] for row in figure.tables[0].rows}
    assert rows["p99"][0].endswith("\u00a0s")
    assert rows["p99"][1].endswith(("\u00a0us", "\u00a0ms"))
    steady = figures_of(made_run(Shape(seconds=40)))[5]
    assert steady.finding.startswith("Nobody waited to be sent")


def test_the_table_of_hit_ratios_is_hits_over_hits_and_misses_of_what_counts(whole):
    table = figures_of(whole)[0].tables[0]
    for row in table.rows:
        cells = [cell for cell in whole.counted() if row[0] in {cell.label.edge, "all edges"}]
        hits = sum(cell.requests for cell in cells if cell.label.status in {Status.HIT, Status.STALE})
        misses = sum(cell.requests for cell in cells if cell.label.status in {Status.MISS, Status.REVALIDATED})
        assert plain(row[1]) == f"{hits / (hits + misses):.1%}".replace("%", " %")
        assert int(plain(row[5]).replace(" ", "")) == misses


def test_an_outage_says_what_share_of_requests_was_answered(whole):
    figure = figures_of(whole)[9]
    during = [second for second in whole.seconds if 20 <= second.at_s < 30]
    requests = sum(sum(per.values()) for second in during for per in second.requests.values())
    errors = sum(sum(second.requests.get(Status.ERROR, {}).values()) for second in during)
    assert errors > 0
    assert f"{1 - errors / requests:.1%} of {requests:,} requests".replace("%", " %").replace(",", " ") in plain(
        figure.finding
    )


def test_what_the_run_did_to_the_shop_stands_in_a_table_by_the_names_of_thresholds():
    run = made_run(Shape(seconds=12, warmup=2))
    assert own_figures(run) is None
    run.figures = {"origin_fetches{edge=eu}": 1.0, "deeds_late": 1204.0}
    run.purges = [Purge(3.0, 1, 40.0), Purge(4.0, 2, 60.0), Purge(5.0, 1, None)]
    table = own_figures(run)
    assert table is not None
    assert [plain(" ".join(row[:2])) for row in table.rows] == [
        "origin_fetches{edge=eu} 1", "deeds_late 1 204",
        "purge_live_p50 60.0 ms", "purge_live_p99 –", "purge_live_max –",
    ]  # fmt: skip
    assert plain(table.rows[2][2]).endswith("of 3 purges, 1 never live")
    assert plain(table.rows[3][2]).endswith("1 of 3 purges never became live")
    assert "What the run did to the shop" in report_html(run)


# --- verdicts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spoil", "status", "word"),
    [
        (lambda run: None, 0, "PASSED"),
        (lambda run: held_to(run, "hit_ratio > 2"), 1, "FAILED. 1 of 1 threshold not met."),
        (lambda run: held_to(run, "p99{route=nothing} < 1s"), 1, "FAILED"),
        (lambda run: setattr(run.prices, "old_after_live", 1), 1, "FAILED. The promise was broken: 1 old price after"),
        (lambda run: setattr(run.prices, "wrong", 1), 1, "FAILED"),
        (lambda run: run.check.faults.append("97 % of the intended requests were sent"), 3, "INVALID"),
        (lambda run: (run.check.faults.append("late"), held_to(run, "hit_ratio > 2")), 3, "INVALID"),
        (late_and_wrong, 1, "FAILED. The promise was broken: 1 old price after"),
    ],
)  # fmt: skip
def test_the_exit_status_is_the_verdict(spoil, status, word):
    run = made_run(Shape(seconds=12, warmup=2))
    spoil(run)
    assert exit_status(run) == status
    assert lines_of(run)[0].startswith(f"steady-day: {word}")
    assert ("cannot be believed" in lines_of(run)[0]) == (not run.check.valid)


def test_a_line_is_printed_for_each_threshold_and_each_fault(whole):
    whole.check.faults.append("it fell behind")
    try:
        lines = [plain(line) for line in lines_of(whole)]
    finally:
        whole.check.faults.clear()
    assert [line for line in lines if line.startswith("met      ")] == [
        line for line in lines if line.startswith(("met      p99{status=hit} < 15ms: ", "met      live_p99 < 2s: 0."))
    ]
    assert sum(line.startswith("NOT MET  ") for line in lines) == 2
    assert "✗ it fell behind" in lines


# --- the other files ------------------------------------------------------------------------------------------------


def test_the_files_of_a_run(tmp_path, whole):
    written = write_reports(whole, tmp_path / "new" / "folder")
    assert [path.name for path in written] == ["report.html", "cells.csv", "seconds.csv", "junit.xml"]
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == sorted(
        path.name for path in written
    )
    with written[1].open(newline="") as file:
        cells = list(csv.DictReader(file))
    assert sum(int(row["requests"]) for row in cells) == sum(cell.requests for cell in whole.cells)
    assert {row["counts"] for row in cells if row["phase"] == "warm-up"} == {"no"}
    one = next(row for row in cells if row["status"] == "hit")
    assert float(one["corrected_p50_us"]) > 0
    with written[2].open(newline="") as file:
        seconds = list(csv.DictReader(file))
    assert sum(int(row["requests"]) for row in seconds) == sum(cell.requests for cell in whole.cells)
    assert {int(row["second"]) for row in seconds} == set(range(40))


def test_no_cell_of_a_table_is_a_formula(tmp_path):
    run = made_run(Shape(seconds=5, warmup=0, changes=0))
    run.cells[0].label = run.cells[0].label._replace(route="=cmd|' /C calc'!A0")
    write_reports(run, tmp_path)
    assert "'=cmd|" in (tmp_path / "cells.csv").read_text()


def test_junit_has_a_case_for_everything_that_a_run_is_held_to(tmp_path, whole):
    write_reports(whole, tmp_path)
    suite = ET.parse(tmp_path / "junit.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("6", "2", "0")
    failed = [case.get("name") for case in suite if case.find("failure") is not None]
    assert failed == ["hit_ratio > 0.99", "errors == 0"]
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert str(failure.get("message")).startswith("night.yaml:7: ")


def test_an_invalid_run_is_an_error_in_junit_and_a_broken_promise_a_failure(tmp_path):
    run = made_run(Shape(seconds=5, warmup=0))
    run.check.faults.append("late\x00")
    run.prices.old_after_live, run.prices.violations = 1, ["eu showed 12.00 at /x"]
    write_reports(run, tmp_path)
    suite = ET.parse(tmp_path / "junit.xml").getroot()
    assert (suite.get("failures"), suite.get("errors")) == ("1", "1")
    assert suite.find("testcase/error") is not None


# --- colours --------------------------------------------------------------------------------------------------------


def _colours(block: str) -> dict[str, str]:
    return dict(re.findall(r"--([a-z0-9-]+):(#[0-9a-f]{3,6})", block))


def _luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * each for each in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_has_a_contrast_of_4_5_and_lines_of_3(dark):
    light_block, _, rest = STYLE.partition("@media screen and (prefers-color-scheme:dark)")
    colours = _colours(light_block)
    if dark:
        colours |= _colours(rest.partition("}}")[0])
    texts = [
        *(("ink", back) for back in ("card", "page", "fault", "bad-back")),
        *(("soft", back) for back in ("card", "page", "uncounted")),
        *((tone, back) for tone in ("good", "bad", "odd") for back in ("card", f"{tone}-back")),
        ("link", "card"),
        ("error", "fault"),
    ]
    # Names of lines are written in their colours behind their ends, on the card.
    series = [
        "hit",
        "stale",
        "revalidated",
        "miss",
        "pass",
        "edge",
        "error",
        "direct",
        *(f"e{number}" for number in range(1, 7)),
    ]
    texts += [(name, "card") for name in series if name not in {"stale", "direct"}]
    for text, back in texts:
        assert contrast(colours[text], colours[back]) >= 4.5, (text, back, contrast(colours[text], colours[back]))
    for name in series:
        assert contrast(colours[name], colours["card"]) >= 3, name
