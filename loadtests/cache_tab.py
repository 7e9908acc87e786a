"""The tab of cache figures in locust's web UI: what each edge answered from where, while the run is under way."""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from loadtests.recorder.histogram import Histogram
from loadtests.recorder.run import HIT_STATUSES, MISS_STATUSES, Cell, Status
from loadtests.units import share_text, time_text

KEY = "cache"
TITLE = "Cache"
CSV_PATH = "/cache/csv"
ALL = "all"

COLUMNS = (
    ("edge", "Edge"),
    ("route", "Route"),
    ("requests", "Requests"),
    ("hit_ratio", "Hit ratio"),
    ("byte_hit_ratio", "By bytes"),
    ("hit", "Hit"),
    ("stale", "Stale"),
    ("revalidated", "Revalidated"),
    ("miss", "Miss"),
    ("pass", "Pass"),
    ("edge_answers", "Edge's own"),
    ("error", "Error"),
    ("hit_p50", "Hit p50"),
    ("hit_p99", "Hit p99"),
    ("miss_p50", "Miss p50"),
    ("miss_p99", "Miss p99"),
)
"""Key and title. Hit ratio: hits / (hits + misses); pass, edge's own and error apart. Times count from when a request
was meant to be sent."""

Row = dict[str, str | int]


def rows_of(cells: Iterable[Cell]) -> list[Row]:
    """A row for everything, one for each edge, and one for each edge and route."""
    groups: dict[tuple[str, str], list[Cell]] = defaultdict(list)
    for cell in cells:
        for group in ((ALL, ALL), (cell.label.edge, ALL), (cell.label.edge, cell.label.route)):
            groups[group].append(cell)
    # `all` first among its like.
    order = sorted(groups, key=lambda group: [(name != ALL, name) for name in group])
    return [{"edge": edge, "route": route, **_figures(groups[edge, route])} for edge, route in order]


def _figures(cells: list[Cell]) -> Row:
    requests: dict[Status, int] = defaultdict(int)
    octets: dict[Status, int] = defaultdict(int)
    for cell in cells:
        requests[cell.label.status] += cell.requests
        octets[cell.label.status] += cell.body_bytes
    hits = Histogram.merged(cell.corrected for cell in cells if cell.label.status in HIT_STATUSES)
    misses = Histogram.merged(cell.corrected for cell in cells if cell.label.status in MISS_STATUSES)
    found: Row = {
        "requests": sum(requests.values()),
        "hit_ratio": _ratio(requests),
        "byte_hit_ratio": _ratio(octets),
        "edge_answers": requests[Status.EDGE] + requests[Status.DIRECT],
        "hit_p50": _time(hits, 0.5),
        "hit_p99": _time(hits, 0.99),
        "miss_p50": _time(misses, 0.5),
        "miss_p99": _time(misses, 0.99),
    }
    for status in (Status.HIT, Status.STALE, Status.REVALIDATED, Status.MISS, Status.PASS, Status.ERROR):
        found[status.value] = requests[status]
    return found


def _ratio(counts: dict[Status, int]) -> str:
    hits = sum(counts[status] for status in HIT_STATUSES)
    judged = hits + sum(counts[status] for status in MISS_STATUSES)
    return share_text(hits / judged) if judged else "-"


def _time(found: Histogram, share: float) -> str:
    return time_text(found.percentile_us(share)) if found.count else "-"


def install(web_ui: Any, cells: Callable[[], Iterable[Cell]]) -> None:
    """Add the tab to locust's pages, and its figures as CSV."""
    app = web_ui.app
    web_ui.template_args |= {
        "extended_tabs": [{"title": TITLE, "key": KEY}],
        "extended_tables": [{"key": KEY, "structure": [{"key": key, "title": title} for key, title in COLUMNS]}],
        "extended_csv_files": [{"href": CSV_PATH, "title": "Download cache figures CSV"}],
    }

    def extend(response: Any) -> Any:
        from flask import request

        if request.path.endswith("/stats/requests") and response.is_json:
            extended = [{"key": KEY, "data": rows_of(cells())}]
            response.set_data(json.dumps({**response.json, "extended_stats": extended}))
        return response

    def as_csv() -> Any:
        text = io.StringIO()
        table = csv.DictWriter(text, [key for key, _ in COLUMNS])
        table.writerow(dict(COLUMNS))
        table.writerows(rows_of(cells()))
        return app.response_class(text.getvalue(), mimetype="text/csv")

    app.after_request(extend)
    app.add_url_rule(CSV_PATH, "cache_csv", as_csv)
