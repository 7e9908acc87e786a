"""Figures of edges and origin, second by second."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator

import pytest

from loadtests import scraped
from loadtests.recorder.scraping import Look, Scraper, merged, read_figures
from tests.support.load_runs import Shape, made_run

WORKER = """\
# HELP nearshelf_edge_requests_total Requests answered.
# TYPE nearshelf_edge_requests_total counter
nearshelf_edge_requests_total{pop="eu",route="product",status="hit",reason="",code_class="2xx"} 10
nearshelf_edge_requests_total{pop="eu",route="category",status="hit",reason="",code_class="2xx"} 5
nearshelf_edge_requests_total{pop="eu",route="product",status="miss",reason="cold",code_class="2xx"} 2
# TYPE nearshelf_edge_request_seconds histogram
nearshelf_edge_request_seconds_bucket{pop="eu",route="product",status="hit",le="0.00025"} 9
nearshelf_edge_request_seconds_sum{pop="eu",route="product",status="hit"} 0.004
nearshelf_edge_request_seconds_count{pop="eu",route="product",status="hit"} 15
nearshelf_edge_requests_created{pop="eu"} 1.7e9
# TYPE nearshelf_cache_bytes gauge
nearshelf_cache_bytes 4096
nearshelf_policy_info{digest="ab12"} 1
nearshelf_build_info{version="0.1.0",python="3.11.7"} 1
process_resident_memory_bytes 5.0e7
python_gc_objects_collected_total{generation="0"} 3
"""


def test_figures_are_added_up_over_what_they_are_not_told_apart_by():
    figures, infos = read_figures(WORKER, of_an_edge=True)
    assert figures == {
        "nearshelf_edge_requests_total{status=hit}": 15.0,
        "nearshelf_edge_requests_total{status=miss}": 2.0,
        "nearshelf_edge_request_seconds_sum{status=hit}": 0.004,
        "nearshelf_edge_request_seconds_count{status=hit}": 15.0,
        "nearshelf_cache_bytes": 4096.0,
        "process_resident_memory_bytes": 5.0e7,
    }
    assert infos == {"digest": "ab12", "build": "3.11.7 0.1.0"}


def test_the_origin_tells_edges_apart():
    text = 'nearshelf_purge_ack_seconds_count{pop="eu"} 3\nnearshelf_purge_ack_seconds_count{pop="us"} 4\n'
    assert read_figures(text, of_an_edge=False)[0] == {
        "nearshelf_purge_ack_seconds_count{pop=eu}": 3.0,
        "nearshelf_purge_ack_seconds_count{pop=us}": 4.0,
    }


def look(tick: int, worker: str, figures: dict[str, float] | None, edge: str = "eu", **infos: str) -> Look:
    return Look(tick, 100.0 + tick, edge, worker, figures, infos)


def test_workers_of_an_edge_are_added_up():
    found = merged(
        [
            look(0, "a", {"x_total{status=hit}": 1, "cache_bytes": 10}),
            look(0, "b", {"x_total{status=hit}": 2, "cache_bytes": 30}),
            look(1, "a", {"x_total{status=hit}": 4, "cache_bytes": 11}),
            look(1, "b", {"x_total{status=hit}": 8, "cache_bytes": 31}),
        ],
        began_at=100.0,
    )
    assert found.series == {
        "x_total{edge=eu,status=hit}": [(0.0, 3.0), (1.0, 12.0)],
        "cache_bytes{edge=eu}": [(0.0, 40.0), (1.0, 42.0)],
        "workers_answering{edge=eu}": [(0.0, 2.0), (1.0, 2.0)],
    }
    assert found.remarks == []


def test_of_some_levels_an_edge_has_that_of_its_last_worker():
    levels = {"nearshelf_purge_position": 7.0, "nearshelf_purge_lag_messages": 0.0}
    behind = {"nearshelf_purge_position": 5.0, "nearshelf_purge_lag_messages": 2.0}
    found = merged([look(0, "a", levels), look(0, "b", behind)], began_at=100.0)
    assert found.series["nearshelf_purge_position{edge=eu}"] == [(0.0, 5.0)]
    assert found.series["nearshelf_purge_lag_messages{edge=eu}"] == [(0.0, 2.0)]


def test_a_silent_worker_keeps_what_it_had_counted_and_its_edge_has_no_level():
    found = merged(
        [
            look(0, "a", {"x_total": 1, "cache_bytes": 10}),
            look(0, "b", {"x_total": 2, "cache_bytes": 30}),
            look(1, "a", {"x_total": 4, "cache_bytes": 11}),
            look(1, "b", None),
            look(2, "a", {"x_total": 5, "cache_bytes": 11}),  # b still hangs in its look before
            look(3, "a", {"x_total": 6, "cache_bytes": 11}),
            look(3, "b", {"x_total": 9, "cache_bytes": 31}),
        ],
        began_at=100.0,
    )
    assert found.series["x_total{edge=eu}"] == [(0.0, 3.0), (1.0, 6.0), (2.0, 7.0), (3.0, 15.0)]
    assert found.series["cache_bytes{edge=eu}"] == [(0.0, 40.0), (3.0, 42.0)]
    assert found.series["workers_answering{edge=eu}"] == [(0.0, 2.0), (1.0, 1.0), (2.0, 1.0), (3.0, 2.0)]
    assert found.remarks == ["eu gave no figures at b/metrics in 2 of 4 looks"]


def test_a_worker_that_missed_the_first_look_counts_from_its_own_first_answer():
    found = merged(
        [
            look(0, "a", {"x_total": 100}),
            look(0, "b", None),
            look(1, "a", {"x_total": 101}),
            look(1, "b", {"x_total": 5000}),
            look(2, "a", {"x_total": 102}),
            look(2, "b", {"x_total": 5007, "late_total": 3}),  # a label that it had never counted before
            look(3, "a", {"x_total": 102}),
            look(3, "b", {"x_total": 2, "late_total": 3}),  # started again
        ],
        began_at=100.0,
    )
    assert found.series["x_total{edge=eu}"] == [(0.0, 100.0), (1.0, 101.0), (2.0, 109.0), (3.0, 111.0)]
    assert found.series["late_total{edge=eu}"] == [(2.0, 3.0), (3.0, 3.0)]


def test_an_edge_whose_every_worker_missed_the_first_look_has_not_counted_all_of_its_life_in_the_run():
    looks = [look(0, "a", None), look(0, "o", {"y_total": 1.0}, edge="")]
    looks += [look(tick, "a", {"x_total": 5000.0 + tick}) for tick in (1, 2, 3)]
    run = made_run(Shape(seconds=4, warmup=0, scraped=False))
    run.series = merged(looks, began_at=100.0).series
    assert scraped.increase(run, "x_total", [(0, 4)]) == 2


def test_what_a_killed_worker_had_counted_is_kept_when_its_successor_counts_from_nothing():
    counts = [5.0, 9.0, 2.0, 4.0]
    found = merged([look(tick, "a", {"x_total": count}) for tick, count in enumerate(counts)], began_at=100.0)
    assert [value for _, value in found.series["x_total{edge=eu}"]] == [5.0, 9.0, 11.0, 13.0]


def test_the_origin_has_no_edge_and_no_count_of_workers():
    found = merged([look(0, "o", {"y_total": 1.0, "z_total{pop=eu}": 2.0}, edge="")], began_at=99.5)
    assert found.series == {"y_total": [(0.5, 1.0)], "z_total{pop=eu}": [(0.5, 2.0)]}


def test_policies_are_those_of_the_beginning_and_workers_that_differ_are_shown():
    found = merged(
        [
            look(0, "a", {}, digest="ab", build="0.1.0"),
            look(0, "b", {}, digest="cd", build="0.1.0"),
            look(1, "a", {}, digest="ef", build="0.1.0"),
            look(1, "b", {}, digest="ef", build="0.1.0"),
        ],
        began_at=100.0,
    )
    assert found.policy_digests == {"eu": "ab and cd"}
    assert found.builds == {"eu": "0.1.0"}


class Worker(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        allowed = self.path == "/metrics" and self.headers["Authorization"] == "Bearer s3cret"
        body = WORKER.encode() if allowed else b"no"
        self.send_response(200 if allowed else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def worker() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Worker)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_process_of_its_own_looks_before_the_run_and_after_it(worker):
    nobody = "http://127.0.0.1:1"
    scraper = Scraper.start({"eu": [worker], "us": [nobody]}, worker, "s3cret")
    began_at = time.monotonic()
    found = scraper.stop(began_at)
    hits = found.series["nearshelf_edge_requests_total{edge=eu,status=hit}"]
    assert [value for _, value in hits] == [15.0] * len(hits)
    assert hits[0][0] <= 0 <= hits[-1][0]
    assert found.series["nearshelf_cache_bytes{edge=eu}"][0][1] == 4096.0
    assert "nearshelf_edge_requests_total{pop=eu,status=hit}" in found.series  # asked as the origin
    assert found.policy_digests["eu"] == "ab12"
    assert found.builds == {"eu": "3.11.7 0.1.0", "origin": "3.11.7 0.1.0"}
    assert len(found.remarks) == 1
    assert found.remarks[0].startswith(f"us gave no figures at {nobody}/metrics in ")


def test_the_wrong_token_is_a_silence_and_not_an_end(worker):
    scraper = Scraper.start({"eu": [worker]}, None, "wrong")
    found = scraper.stop(time.monotonic())
    assert set(found.series) == {"workers_answering{edge=eu}"}
    assert found.remarks


def test_a_scraper_that_was_killed_says_that_its_figures_are_lost(worker):
    scraper = Scraper.start({"eu": [worker]}, None, "s3cret")
    scraper.abandon()
    found = scraper.stop(time.monotonic())
    assert found.series == {}
    assert found.remarks[0].startswith("figures of edges and origin were lost")
