"""The work of `nearshelf policy diff`: two sides, a rendering, and the exit status."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from edge.site.settings import SiteError, size_of
from infra.errors import CommandError
from infra.policy import diff, replay
from infra.policy.access_log import read_logs
from infra.policy.replayed_edge import NO_LIMIT


@dataclass(frozen=True, slots=True)
class Prediction:
    """What is to be predicted from."""

    logs: Sequence[Path]
    store_bytes: int
    counted: replay.Span


def prediction(logs: Sequence[Path], *, store_size: str, since: str, until: str) -> Prediction | None:
    """What the options of the command line ask for; None: nothing. Raises CommandError."""
    given = {"--store-size": store_size, "--since": since, "--until": until}
    if not logs:
        for option, text in given.items():
            if text:
                raise CommandError(f"{option} is about a prediction: give a log with --replay, too")
        return None
    try:
        store_bytes = size_of("--store-size", store_size) if store_size else NO_LIMIT
    except SiteError as exc:
        raise CommandError(str(exc)) from exc
    counted = replay.ALL
    if since:
        counted = counted._replace(since=_moment("--since", since))
    if until:
        counted = counted._replace(until=_moment("--until", until))
    return Prediction(logs, store_bytes, counted)


def run(before: str, after: str, *, form: str, prediction: Prediction | None, exit_code: bool) -> int:
    """Print what is otherwise in `after`, and what is predicted; 0 or `diff.CHANGED`. Raises CommandError."""
    log = None if prediction is None else read_logs(prediction.logs)
    found = diff.compare(diff.read_side(before), diff.read_side(after))
    replayed = None
    if log is not None and prediction is not None:
        replayed = replay.replay(
            log,
            found.before.policies,
            found.after.policies,
            store_bytes=prediction.store_bytes,
            counted=prediction.counted,
        )
    if form == "json":
        told = diff.as_json(found)
        if replayed is not None:
            told["replay"] = replay.as_json(replayed)
        print(json.dumps(told, indent=2, ensure_ascii=False))
    elif form == "md":
        print(diff.as_markdown(found), end="")
        if replayed is not None:
            print("```\n" + "\n".join(replay.lines_of_text(replayed)) + "\n```")
    else:
        print(diff.as_text(found), end="")
        if replayed is not None:
            print("\n" + "\n".join(replay.lines_of_text(replayed)))
    return diff.CHANGED if found.changed and exit_code else 0


def _moment(option: str, text: str) -> float:
    """Seconds since the epoch. Raises CommandError."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError as exc:
        raise CommandError(f"{option} {text}: expected a time such as 2026-11-21T20:00:00Z") from exc
    return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()
