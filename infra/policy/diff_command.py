"""The work of `nearshelf policy diff`: two sides, a rendering, and the exit status."""

from __future__ import annotations

import json
from pathlib import Path

from infra.policy import diff, replay


def run(before: str, after: str, *, form: str, log: Path | None, exit_code: bool) -> int:
    """Print what is otherwise in `after`; 0 or `diff.CHANGED`. Raises CommandError."""
    lines = None if log is None else replay.read_log(log)
    found = diff.compare(diff.read_side(before), diff.read_side(after))
    replayed = None if lines is None else replay.replay(lines, found.before.policies, found.after.policies)
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
