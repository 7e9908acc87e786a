"""The explorer: what an edge holds, what it answers and why, for people. Works without JavaScript; with it, requests
appear as they happen. Everything that is shown comes from JSON that programs can have as well (`gateway/admin.py`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from edge.gateway.entries import STATES, Wanted
from edge.gateway.explorer.html import Content, Html, join, tag

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
"""Nothing inline, nothing from elsewhere: what a cached page is called cannot become a script here."""
_HERE = Path(__file__).parent
FILES = {
    "explorer.css": ("text/css; charset=utf-8", _HERE / "explorer.css"),
    "explorer.js": ("text/javascript; charset=utf-8", _HERE / "explorer.js"),
    "favicon.svg": ("image/svg+xml", _HERE / "favicon.svg"),
}
REQUESTS_SHOWN = 25
_OUTCOMES = ("hit", "stale", "validated", "miss", "pass", "edge", "error", "gone")
"""As `ExchangeRecord.outcome` says them, the best first."""
_FROM_HERE = ("hit", "stale", "validated")
_TAGS_SHOWN = 3
_NUMBERS = frozenset(
    {"Status", "TTL", "Age", "ms", "Origin ms", "Size", "Hits", "Variants", "Stored", "Memory", "Viewers", "Restarts"}
)
"""Columns whose values stand at the right."""
_BLANK = "\N{NO-BREAK SPACE}"
_NOTHING = "\N{EN DASH}"


def page(title: str, *content: Content) -> str:
    """A whole document."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("title", title),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("link", rel="icon", href="/favicon.svg"),
        tag("link", rel="stylesheet", href="/explorer.css"),
        tag("script", src="/explorer.js", defer=True),
    )
    return "<!doctype html>" + tag("html", head, tag("body", *content), lang="en")


def front(
    overview: Mapping[str, Any],
    requests: Sequence[Mapping[str, Any]],
    found: Mapping[str, Any],
    wanted: Wanted,
    done: str,
) -> str:
    """`/`: figures, requests, entries, workers. `done`: what a purge from this page has come to, if there was one."""
    return page(
        f"{overview['name']} - nearshelf explorer",
        tag("a", "Skip to the entries", class_="skip", href="#entries"),
        _header(overview, heading=True),
        tag(
            "main",
            tag("p", done, class_="done", role="status") if done else None,
            _figures(overview),
            _requests(requests),
            _entries(found, wanted),
            tag("div", _purge(), _workers(overview), class_="pair"),
            id="main",
        ),
    )


def entry(overview: Mapping[str, Any], url: str, found: Mapping[str, Any]) -> str:
    """`/entry`: everything about one address: what would be decided, and each response that is held for it."""
    decision, held = found["decision"], found["stored"]
    outcome, key, route = decision["outcome"], decision["key"], decision["route"]
    facts: list[tuple[str, Content]] = [
        ("route", _NOTHING if route is None else route["id"]),
        ("with nothing stored", f"{outcome['cache']}, {outcome['reason']}"),
        ("host", "served here" if found["served"] else "not served here: 421"),
    ]
    if key is not None and key["market"]:
        facts.append(("market", key["market"]))
    return page(
        f"{url} - nearshelf explorer",
        _header(overview),
        tag(
            "main",
            tag("p", tag("a", "All entries", href="/#entries"), class_="crumbs"),
            tag("h1", url.partition("://")[2] or url),
            _list(facts),
            *(_held(stored, number, len(held)) for number, stored in enumerate(held, 1)),
            None if held else tag("p", "Nothing is held for this address.", class_="none"),
            id="main",
        ),
    )


def overview_only(overview: Mapping[str, Any]) -> str:
    """The parts of the front page that change by themselves, for `explorer.js`."""
    return page("overview", _header(overview, heading=True), _figures(overview))


def trouble(status: int, text: str) -> str:
    """What went wrong with a form that was sent from a page."""
    said = tag("main", tag("h1", str(status)), tag("p", text), tag("p", tag("a", "Back to the explorer", href="/")))
    return page(f"{status} - nearshelf explorer", said)


# --- parts of the front page ---


def _header(overview: Mapping[str, Any], *, heading: bool = False) -> Html:
    return tag(
        "header",
        tag("a", "near", tag("b", "shelf"), class_="brand", href="/"),
        tag("h1" if heading else "span", overview["name"], class_="edge"),
        tag("span", overview["state"], class_=f"pill {overview['state']}", id="state"),
        tag("span", "purge log at ", tag("b", overview["position"] or _NOTHING, id="position"), class_="position"),
    )


def _figures(overview: Mapping[str, Any]) -> Html:
    outcomes = overview["outcomes"]
    total = sum(outcomes.values())
    from_here = sum(outcomes.get(name, 0) for name in _FROM_HERE)
    workers = overview["workers"]
    share = _NOTHING if not total else f"{100 * from_here / total:.1f}{_BLANK}%"
    budget = overview["max_bytes"] or 1
    counted = [(name, outcomes[name]) for name in _OUTCOMES if outcomes.get(name)]
    return tag(
        "section",
        tag(
            "div",
            _figure("Answered from here", share, f"{from_here:,} of {total:,} requests", "share"),
            _figure("Stored responses", f"{overview['responses']:,}", f"under {overview['keys']:,} keys", "responses"),
            _figure(
                "Memory",
                _size(overview["size_bytes"]),
                f"{100 * overview['size_bytes'] / budget:.0f}{_BLANK}% of {_size(overview['max_bytes'])}",
                "memory",
            ),
            _figure(
                "Workers",
                f"{sum(worker['state'] == 'ready' for worker in workers)} of {len(workers)}",
                "follow the purge log",
                "workers",
            ),
            class_="figures",
        ),
        _bar(counted, total),
        tag(
            "ul",
            *(tag("li", tag("i", class_=f"dot {name}"), f"{name} {count:,}") for name, count in counted),
            class_="legend",
        ),
        class_="overview",
        aria_label="Overview",
    )


def _figure(name: str, value: str, below: str, id_: str) -> Html:
    return tag("div", tag("h2", name), tag("p", value, class_="value", id=id_), tag("p", below, class_="below"))


def _bar(counted: Sequence[tuple[str, int]], total: int) -> Html | None:
    """How the requests ended, as one bar; its legend says the same in figures."""
    at, parts = 0.0, []
    for name, count in counted:
        width = 1000 * count / total
        parts.append(tag("rect", x=f"{at:.2f}", y=0, width=f"{width:.2f}", height=10, class_=name))
        at += width
    if not parts:
        return None
    return tag("svg", *parts, viewBox="0 0 1000 10", preserveAspectRatio="none", aria_hidden="true", class_="bar")


def _requests(requests: Sequence[Mapping[str, Any]]) -> Html:
    return tag(
        "section",
        tag(
            "h2",
            "Requests ",
            tag("span", "the last before this page was loaded", class_="live", id="live"),
            tag("button", "Pause", type="button", id="pause", hidden=True),
        ),
        tag(
            "div",
            _table(
                ("Time", "Request", "Status", "Answer", "Why", "TTL", "Age", "ms", "Origin ms", "Worker"),
                [_request(request) for request in requests],
                id_="requests",
            ),
            class_="scroll tall",
            tabindex=0,
            role="region",
            aria_label="Requests",
        ),
    )


def _request(request: Mapping[str, Any]) -> Html:
    """A row; `explorer.js` makes the same ones."""
    path = request.get("path", "")
    query = "&".join(f"{name}={value}" for name, value in request.get("query", {}).items())
    said = request.get("reason") or ("collapsed" if request.get("collapsed") else "")
    return tag(
        "tr",
        tag("td", datetime.fromtimestamp(request["time"], UTC).strftime("%H:%M:%S.%f")[:-3], class_="mono"),
        tag(
            "td",
            tag("b", request["method"]),
            " ",
            path or request["route"],
            f"?{query}" if query else "",
            class_="path",
        ),
        tag("td", request["status"], class_="number"),
        tag("td", tag("span", request["cache"], class_=f"pill {request['cache']}")),
        tag("td", said),
        tag("td", _number(request["ttl"]), class_="number"),
        tag("td", _number(request["age"]), class_="number"),
        tag("td", f"{request['ms']:.2f}", class_="number"),
        tag("td", "" if request["origin_ms"] is None else f"{request['origin_ms']:.1f}", class_="number"),
        tag("td", request["worker"][:9], class_="mono"),
    )


def _entries(found: Mapping[str, Any], wanted: Wanted) -> Html:
    shown, matched = len(found["entries"]), found["matched"]
    told = f"{shown:,} of {matched:,}" if shown < matched else f"{matched:,}"
    if not found["complete"]:
        told += " or more: the store is too large to look at all of it"
    return tag(
        "section",
        tag("h2", "Entries ", tag("span", told, class_="live")),
        tag(
            "form",
            _field("Address contains", "key", wanted.key, size=28),
            _field("Tag", "tag", wanted.tag, size=18),
            _field(
                "Older than (s)", "older", f"{wanted.older_s:g}" if wanted.older_s else "", size=8, inputmode="numeric"
            ),
            tag(
                "label",
                "State ",
                tag(
                    "select",
                    tag("option", "any", value="", selected=not wanted.state),
                    *(tag("option", state, value=state, selected=state == wanted.state) for state in STATES),
                    name="state",
                ),
            ),
            tag("button", "Show", type="submit"),
            tag("a", "Clear", href="/#entries") if wanted != Wanted(limit=wanted.limit) else None,
            class_="filter",
            action="/#entries",
            method="get",
        ),
        tag(
            "div",
            _table(
                ("Address", "Status", "State", "TTL", "Age", "Size", "Tags", "Position", "Hits", "Variants", "Held by"),
                [_entry(each) for each in found["entries"]],
            ),
            class_="scroll",
            tabindex=0,
            role="region",
            aria_label="Entries",
        ),
        None if found["entries"] else tag("p", "Nothing is stored that fits.", class_="none"),
        id="entries",
    )


def _entry(each: Mapping[str, Any]) -> Html:
    vary = "; ".join(f"{name}: {_NOTHING if value is None else value}" for name, value in each["vary"])
    return tag(
        "tr",
        tag(
            "td",
            tag(
                "a", each["target"], href="/entry?" + urlencode({"url": f"http://{each['authority']}{each['target']}"})
            ),
            tag("small", each["authority"] + (f" · {vary}" if vary else "")),
            class_="path",
        ),
        tag("td", each["status"], class_="number"),
        tag("td", tag("span", each["state"], class_=f"pill {each['state']}", title=each["why"] or None)),
        tag("td", _span(each["ttl_s"]), class_="number"),
        tag("td", _span(each["age_s"]), class_="number"),
        tag("td", _size(each["body_bytes"]), class_="number"),
        tag("td", _tags(each["tags"]), class_="tags"),
        tag("td", each["position"], class_="mono"),
        tag("td", f"{each['hits']:,}", class_="number"),
        tag("td", each["variants"], class_="number"),
        tag("td", each.get("held_by", ""), class_="held"),
    )


def _tags(tags: Sequence[str]) -> Html:
    shown = [
        tag("a", name, href="/?" + urlencode({"tag": name}) + "#entries", class_="tag") for name in tags[:_TAGS_SHOWN]
    ]
    more = len(tags) - len(shown)
    return join([*shown, tag("small", f"+{more}", title=" ".join(tags[_TAGS_SHOWN:])) if more else None], " ")


def _purge() -> Html:
    return tag(
        "section",
        tag("h2", "Purge"),
        tag(
            "form",
            tag(
                "label",
                "What ",
                tag(
                    "select",
                    tag("option", "tag", value="tag"),
                    tag("option", "path", value="path"),
                    tag("option", "everything", value="all"),
                    name="what",
                ),
            ),
            _field("Name", "name", "", size=30, autocomplete="off"),
            tag(
                "label",
                tag("input", type="checkbox", name="soft", value="yes"),
                " soft: may be shown while it is refreshed",
                class_="check",
            ),
            tag("button", "Purge", type="submit", class_="strong"),
            class_="filter",
            action="/purge",
            method="post",
        ),
    )


def _workers(overview: Mapping[str, Any]) -> Html:
    rows = [
        tag(
            "tr",
            tag("td", worker["name"]),
            tag("td", tag("span", worker["state"], class_=f"pill {worker['state']}")),
            tag("td", worker["applied"] or _NOTHING, class_="mono"),
            tag("td", f"{worker['responses']:,}", class_="number"),
            tag("td", _size(worker["size_bytes"]), class_="number"),
            tag("td", f"{worker['viewers']:,}", class_="number"),
            tag("td", worker["restarts"], class_="number"),
        )
        for worker in overview["workers"]
    ]
    return tag(
        "section",
        tag("h2", "Workers"),
        tag(
            "div",
            _table(("Worker", "State", "Applied", "Stored", "Memory", "Viewers", "Restarts"), rows),
            class_="scroll",
            tabindex=0,
            role="region",
            aria_label="Workers",
        ),
    )


# --- parts of the page of one address ---


def _held(stored: Mapping[str, Any], number: int, count: int) -> Html:
    vary = ", ".join(f"{name}: {_NOTHING if value is None else value}" for name, value in stored["vary"])
    kept = stored["lifetimes"]
    purges = [
        tag(
            "form",
            tag("input", type="hidden", name="what", value="tag"),
            tag("input", type="hidden", name="name", value=name),
            tag("a", name, href="/?" + urlencode({"tag": name}) + "#entries", class_="tag"),
            tag("button", "Purge", type="submit", aria_label=f"Purge {name}"),
            action="/purge",
            method="post",
        )
        for name in stored["tags"]
    ]
    lived = (
        f"fresh {_span(kept['fresh_s'])}, while revalidated {_span(kept['stale_while_revalidate_s'])}, "
        f"if the origin fails {_span(kept['stale_if_error_s'])}, kept {_span(kept['keep_s'])} more"
    )
    state = stored["state"]
    return tag(
        "section",
        tag("h2", "Stored response" + (f" {number} of {count}" if count > 1 else "")),
        _list(
            [
                ("state", join([tag("span", state, class_=f"pill {state.partition(' ')[0]}"), stored["why"]], " ")),
                ("status", stored["status"]),
                ("age, time to live", f"{_span(stored['age_s'])}, {_span(stored['ttl_s'])}"),
                ("lifetimes", lived),
                ("position", stored["position"]),
                ("varies on", vary or "nothing"),
                ("ETag", stored["etag"] or "none"),
                ("memory", _size(stored["size_bytes"])),
                ("if the origin fails", stored["if_the_origin_fails"] or "the error is shown"),
                ("held by", stored.get("held_by", "")),
                ("tags", tag("div", *purges, class_="purges")),
            ]
        ),
        tag("details", tag("summary", "Fields"), _list([(name, value) for name, value in stored.get("fields", [])])),
    )


# --- small parts ---


def _table(head: Sequence[str], rows: Sequence[Html], id_: str | None = None) -> Html:
    return tag(
        "table",
        tag("thead", tag("tr", *(tag("th", name, scope="col", class_=_aligned(name)) for name in head))),
        tag("tbody", *rows, id=id_),
    )


def _aligned(name: str) -> str | None:
    return "number" if name in _NUMBERS else None


def _list(facts: Sequence[tuple[str, Content]]) -> Html:
    return tag("dl", *(join([tag("dt", name), tag("dd", content)]) for name, content in facts))


def _field(label: str, name: str, value: str, **more: str | int) -> Html:
    return tag("label", f"{label} ", tag("input", type="text", name=name, value=value, **more))


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _span(seconds: float) -> str:
    """A duration in its two largest units."""
    whole, sign = int(abs(seconds)), "-" if seconds <= -1 else ""
    for unit, length, smaller, part in (("d", 86_400, "h", 3_600), ("h", 3_600, "m", 60), ("m", 60, "s", 1)):
        if whole >= length:
            rest = whole % length // part
            return f"{sign}{whole // length:,}{_BLANK}{unit}" + (f"{_BLANK}{rest}{_BLANK}{smaller}" if rest else "")
    return f"{sign}{whole}{_BLANK}s"


def _size(count: int) -> str:
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f}{_BLANK}{unit}" if unit == "B" or size >= 100 else f"{size:.1f}{_BLANK}{unit}"
        size /= 1000
    return f"{size:.1f}{_BLANK}GB"
