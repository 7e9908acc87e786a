"""Lambda@Edge handlers run out of their packages, each in an interpreter of its own that sees nothing of this tree."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_DRIVER = """
import importlib, json, sys, time
now = [0.0]
time.time = lambda: now[0]
package, name = sys.argv[1:]
sys.path.insert(0, package)
module_name, function_name = name.rsplit('.', 1)
module = importlib.import_module(module_name)
handler = getattr(module, function_name)
assert all(package in each.__file__ for each in map(sys.modules.get, ('edge', 'cache_policies')))
from edge.core.policy import PolicySet
policies = PolicySet(module.POLICIES, module.MARKETS)
for line in sys.stdin:
    question = json.loads(line)
    now[0] = question['wall']
    try:
        route = policies.match(question['event']['Records'][0]['cf']['request']['uri']).policy.id
        answer = {'returned': handler(question['event'], None), 'route': route}
    except Exception as exc:
        answer = {'raised': repr(exc)}
    sys.stdout.write(json.dumps(answer) + '\\n')
    sys.stdout.flush()
"""
"""Isolated: only the package and the standard library. Its clock is told with every question."""


class HandlerFailed(Exception):
    """The handler raised, which CloudFront answers with 503."""


class Package:
    """A zip with a handler in it. Use as a context manager."""

    def __init__(self, path: Path, handler: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _DRIVER, str(path), handler],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Package:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=10)
        self._process.stdout.close()

    def __call__(self, event: Mapping[str, Any], wall: float) -> tuple[dict[str, Any], str]:
        """What the handler returns at the time `wall`, seconds since the epoch, and the id of the route that the path
        of the event falls under by the policies in the package. Raises HandlerFailed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"event": event, "wall": wall}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the handler's interpreter has ended; its traceback is above"
        answer = json.loads(line)
        if "raised" in answer:
            raise HandlerFailed(answer["raised"])
        return answer["returned"], answer["route"]
