"""What `nearshelf policy explain` prints for people: the same as its JSON, in a dozen lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from infra.policy.renderings import printable

_LABEL = 11
_COLUMN = 46
"""Where the place or reason beside a value begins."""

Told = Mapping[str, Any]


def in_text(found: Told) -> str:
    """One explanation, ready to be printed."""
    return "\n".join(_lines(found)) + "\n"


def _lines(found: Told) -> Iterator[str]:
    said = "nobody was asked" if found["answer"] == "offline" else "the edge was asked, too: see live below"
    yield line(found["answer"], f"policies {found['policies']}", said)
    yield from _request(found)
    yield from _outcome(found)
    if found["route"] is not None:
        yield from _route(found["route"])
    yield from _market(found)
    if found["key"] is not None:
        yield from _key(found["key"])
    if "store" in found:
        if found["lifetimes"] is not None:
            yield from _lifetimes(found["lifetimes"])
        yield from _store(found)
        yield from _rules(found)
        yield from _forward(found["forward"], found["rules"]["origin"])
        yield from _cloudfront(found["cloudfront"])


def line(label: str, value: str, beside: str = "") -> str:
    """A line with its label, and in a column of its own where the value comes from. Addresses, log lines and archives
    are somebody else's words: what a terminal would obey is left out."""
    text = f"{label:<{_LABEL}}{value}"
    return printable(f"{text:<{_LABEL + _COLUMN}}  {beside}".rstrip() if beside else text.rstrip())


def _request(found: Told) -> Iterator[str]:
    request, normal = found["request"], found["normalised"]
    host = f" of {request['authority']}" if request["authority"] else ""
    yield line("request", f"{request['method']} {request['target']}{host}")
    if normal is not None:
        same = "as it came" if normal["target"] == request["target"] and not normal["dropped"] else ""
        yield line("", f"{request['method']} {normal['target']}", f"normalised{': ' + same if same else ''}")
        for dropped in normal["dropped"]:
            yield line("", f"dropped {dropped['parameter']}", f"{dropped['by']}")


def _outcome(found: Told) -> Iterator[str]:
    outcome = found["outcome"]
    status = f"{outcome['status']} " if outcome["status"] else ""
    who = "by the edge itself" if outcome["cache"] == "edge" else f"{outcome['cache']}; {outcome['reason']}"
    reason = f" ({outcome['reason']})" if outcome["cache"] == "edge" else ""
    yield line("answer", f"{status}{who}{reason}", outcome["why"])


def _route(route: Told) -> Iterator[str]:
    yield line("rule", f"{route['id']} {route['path']}", f"{route['at']}  version {route['version']}")
    width = max((len(passed["id"]) for passed in route["passed_over"]), default=0)
    for passed in route["passed_over"]:
        yield line("", f"not {passed['id']:<{width}}  {passed['at']}", passed["why"])


def _market(found: Told) -> Iterator[str]:
    visitor, market = found["visitor"], found["market"]
    yield line("country", visitor["country"]["value"], visitor["country"]["from"])
    if market is None:
        lead = f"the entry page would lead to {_choice(visitor['market'])}" if visitor["market"] else "there are none"
        yield line("market", "none in the address", lead)
        return
    yield line("market", market["value"], _from(market))
    if visitor["market"]["value"] != market["value"]:
        yield line("", "", f"the entry page would lead this visitor to {_choice(visitor['market'])}")
    for name in ("currency", "language", "tax_display", "jurisdiction"):
        yield line("", f"{name.replace('_', ' ')} {market[name]['value']}", market[name]["at"] or "")
    yield line("", market["price_list"]["value"])
    if market["price_list"]["at"]:
        yield line("", "", market["price_list"]["at"])


def _choice(choice: Told) -> str:
    at = f", {choice['at']}" if choice["at"] else ""
    return f"{choice['value']} ({choice['from']}{at})"


def _from(value: Told) -> str:
    return f"{value['from']}; {value['at']}" if value["at"] else str(value["from"])


def _key(key: Told) -> Iterator[str]:
    for number, part in enumerate(key["parts"]):
        value = "any" if part["value"] is None else part["value"]
        yield line("" if number else "key", f"{part['part']} {value}", part["from"])
    for field in key["variant"]:
        value = "absent" if field["value"] is None else field["value"]
        yield line("", f"varies on {field['field']}: {value}", field["from"])
    yield line("", f"digest {key['digest']}")


def _lifetimes(lived: Told) -> Iterator[str]:
    shown = [name for name in _SHOWN if _says_something(name, lived)]
    for number, name in enumerate(shown):
        value = lived[name]
        said = f"{name.replace('_', ' ')} {value['seconds']:.12g} s"
        yield line("" if number else "lifetimes", said, _written(value))
        if name == "fresh" and (guessed := lived["heuristic"])["percent"]:
            yield line("", f"or {guessed['percent']} % since Last-Modified, 1 d at most", _written(guessed))
    for value in lived["negative"]:
        yield line("", f"fresh {value['seconds']:g} s with status {value['status']}", _written(value))
    yield line("", f"the origin's own word: {lived['proposed']}")


_SHOWN = (
    "fresh", "max_fresh", "stale_while_revalidate", "max_stale_while_revalidate", "stale_if_error",
    "max_stale_if_error", "stale_if_unreachable", "keep",
)  # fmt: skip


def _says_something(name: str, lived: Told) -> bool:
    """Whether it is neither a ceiling that is the default itself, nor a window that few routes have."""
    seconds = lived[name]["seconds"]
    if name.startswith("max_"):
        return bool(seconds != lived[name.removeprefix("max_")]["seconds"])
    return name != "stale_if_unreachable" or seconds > 0


def _written(value: Told) -> str:
    if value["at"] is None:
        return str(value["from"])
    return str(value["at"]) if value["from"] == "route" else f"{value['at']} ({value['from']})"


def _store(found: Told) -> Iterator[str]:
    store, tags, viewer = found["store"], found["tags"], found["viewer"]
    answer = "yes" if store["storable"] else f"no ({store['reason']})"
    yield line("store", answer, f"{store['why']}{'; ' + store['at'] if store['at'] else ''}")
    if store["storable"]:
        for number, tag in enumerate(tags["values"]):
            yield line("" if number else "tags", tag["tag"], tag["at"] or "")
        yield line("" if tags["values"] else "tags", f"the origin's own, {tags['of_the_origin']}")
        yield line("", f"{len(tags['values'])} of {tags['limit']} known")
        reached = " | ".join(found["purged_by"])
        more = "" if tags["of_the_origin"] == "in the list" else " | every tag of the origin's"
        yield line("purged by", reached + more)
    yield line("viewer", f"cache-control: {viewer['cache_control']['value']}", _written(viewer["cache_control"]))
    vary = ", ".join(viewer["vary"]["value"]) or "nothing; an answer that varies is not stored"
    yield line("", f"vary: {vary}", _written(viewer["vary"]))


def _rules(found: Told) -> Iterator[str]:
    rules = found["rules"]
    yield line("auth", f"{rules['auth']['value']}: {rules['auth']['effect']}", _written(rules["auth"]))
    throttle = rules["throttle"]["value"]
    if throttle is not None:
        said = f"{throttle['rate_per_s']:g} a second, {throttle['burst']} at once, by {throttle['counted_by']}"
        yield line("throttle", said, _written(rules["throttle"]))
    if rules["request_directives"]["value"] != "ignore":
        yield line("requests", "their Cache-Control counts", _written(rules["request_directives"]))
    if rules["residency"]["value"] != "none":
        said = f"{rules['residency']['value']}: {rules['residency']['why']}"
        yield line("residency", said, _written(rules["residency"]))
    if rules["blocked"]["value"]:
        yield line("blocked", " ".join(rules["blocked"]["value"]), _written(rules["blocked"]))


def _forward(forward: Told | None, origin: Told) -> Iterator[str]:
    if forward is None:
        return
    to = origin["value"] or "nobody"
    yield line("forward", f"{forward['method']} {forward['target']}", f"to origin {to}; {_written(origin)}")
    if origin.get("reads_fail_over_to"):
        yield line("", "", f"reads fail over to {origin['reads_fail_over_to']}")


def _cloudfront(compiled: Told) -> Iterator[str]:
    if "does_not_compile" in compiled:
        yield line("compiles", "no", compiled["does_not_compile"])
        return
    behaviour = f'behaviour {compiled["behaviour"]} of {compiled["of"]} "{compiled["pattern"]}"'
    yield line("compiles", behaviour, f"at most {compiled['max_ttl_s']} s")
    yield line("", compiled["cache_policy"], "cache policy")
    yield line("", compiled["origin_request_policy"], "origin request policy")
    for each in compiled["functions"]:
        yield line("", each["function"], each["event"])
    for number, difference in enumerate(compiled["otherwise"]):
        yield line("" if number else "otherwise", difference)
