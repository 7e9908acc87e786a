"""The work of `nearshelf policy diff`: two sides, a rendering, and the exit status."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from edge.site import settings
from infra.errors import CommandError
from infra.policy import diff, replay
from infra.policy.access_log import read_logs
from infra.policy.replayed_edge import NO_LIMIT


def run(before: str, after: str, *, form: str, logs: Sequence[Path], store_bytes: int | None, exit_code: bool) -> int:
    """Print what is otherwise in `after`, and what becomes of `logs`; 0 or `diff.CHANGED`. Raises CommandError."""
    log = read_logs(logs) if logs else None
    found = diff.compare(diff.read_side(before), diff.read_side(after))
    replayed = None
    if log is not None:
        replayed = replay.replay(log, found.before.policies, found.after.policies, store_bytes or NO_LIMIT)
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


def size_of(text: str) -> int:
    """The bytes of `--store-size`. Raises CommandError."""
    try:
        return settings.size_of("--store-size", text)
    except settings.SiteError as exc:
        raise CommandError(str(exc)) from exc
