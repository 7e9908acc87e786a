"""The work of `nearshelf policy explain`: which requests, what is said of each, and the exit status."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from infra.errors import CommandError
from infra.policy.explain import Asked, Explainer
from infra.policy.explain_log import Real, compare, compared_text, of_har, of_log
from infra.policy.explain_text import in_text

CONTRADICTED = 3
"""Exit status when an edge, or what happened, is not what the policies say."""


def explain_asked(asked: Asked, folder: Path | None, *, live: str, state: Path, as_json: bool) -> int:
    """One request, offline, and with `live` from a running edge, too. Raises CommandError."""
    explainer = Explainer(folder)
    if not live:
        _print([explainer.explain(asked)], as_json=as_json, single=True)
        return 0
    from edge.gateway.explain import decide, told
    from infra.policy import explain_live
    from infra.policy.explain import visitor_of

    place = explain_live.place_of(live, state)
    answers = explain_live.ask(place, asked)
    authority = explain_live.authority_of(answers)
    found = explainer.explain(asked, authority)
    found["answer"] = "live"
    # Without the answer that was assumed here: the workers know of none.
    offline = decide(asked.request(authority), explainer.policies, visitor_of(asked).country)
    found["live"] = explain_live.live(place, told(offline, explainer.policies), answers)
    if as_json:
        _print([found], as_json=True, single=True)
    else:
        sys.stdout.write(in_text(found))
        print("\n".join(explain_live.live_text(found["live"], found["policies"])))
    contradicted = any(worker["contradictions"] for worker in found["live"]["workers"])
    return CONTRADICTED if contradicted else 0


def explain_log(text: str, folder: Path | None, country: str, *, as_json: bool) -> int:
    """A line of an access log; `-`: every line of standard input."""
    lines = [line for line in sys.stdin if line.strip()] if text == "-" else [text]
    return _explain_real([of_log(line, country) for line in lines], folder, as_json=as_json, single=text != "-")


def explain_har(path: Path, folder: Path | None, country: str, *, as_json: bool) -> int:
    """Every entry of an HTTP Archive."""
    return _explain_real(of_har(path, country), folder, as_json=as_json, single=False)


def _explain_real(real: Iterable[Real], folder: Path | None, *, as_json: bool, single: bool) -> int:
    explainer = Explainer(folder)
    found = []
    for each in real:
        explained = None if each.asked is None else explainer.explain(each.asked)
        happened = compare(each.happened, explained, explainer.policies)
        found.append(
            {**(explained or {"answer": "offline"}), "happened": {**happened, "not_written_down": list(each.unknown)}}
        )
    _print(found, as_json=as_json, single=single)
    return CONTRADICTED if any(each["happened"]["differs"] for each in found) else 0


def _print(found: list[dict[str, Any]], *, as_json: bool, single: bool) -> None:
    if as_json:
        print(json.dumps(found[0] if single else found, indent=2))
        return
    print("\n\n".join("\n".join(_text(each)) for each in found))


def _text(found: dict[str, Any]) -> Iterator[str]:
    if "request" in found:
        yield in_text(found).rstrip("\n")
    if "happened" in found:
        yield from compared_text(found["happened"], tuple(found["happened"]["not_written_down"]))


def one_way(ways: Mapping[str, object], said_of_a_url: Mapping[str, object]) -> str:
    """The one of several ways to name a request that was taken: `url`, `log`, `har` or `curl`.

    Raises CommandError for none or two, and for options that say more of a URL beside one of the others.
    """
    taken = [way for way, value in ways.items() if value]
    names = ", ".join("a URL" if way == "url" else f"--{way}" for way in ways)
    if len(taken) != 1:
        raise CommandError(f"say which request in one of these ways: {names}; see `nearshelf policy explain --help`")
    more = [name for name, value in said_of_a_url.items() if value]
    if more and taken[0] != "url":
        raise CommandError(f"--{more[0]} says more of a URL, and --{taken[0]} says it all; leave --{more[0]} out")
    return taken[0]
