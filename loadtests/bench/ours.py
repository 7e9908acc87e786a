"""Our gateway as a bench starts it: one worker, the shipped policies, nothing else of the shop."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import cache_policies
from loadtests.bench.measuring import SERVER_CORE, Server, ending, free_port, pinned

HIT_FIELD = "Cache-Status"


def is_hit(cache_status: str) -> bool:
    return "; hit" in cache_status


def lasting_policies(folder: Path) -> Path:
    """The shipped policies in `folder`, all of them, with lifetimes so long that nothing expires meanwhile."""
    folder.mkdir(parents=True, exist_ok=True)
    shipped = Path(cache_policies.__file__).parent
    for path in sorted(shipped.glob("*.yaml")):
        (folder / path.name).write_text(path.read_text().replace("fresh: 300s", "fresh: 1d"))
    return folder


def start_gateway(
    stack: ExitStack,
    name: str,
    origin: str,
    scratch: Path,
    *,
    log: str = "",
    loop: str = "",
    policies: Path | None = None,
    core: int | None = SERVER_CORE,
    port: int = 0,
    settings: dict[str, str] | None = None,
) -> Server:
    """One worker in front of `origin`. `log`: where its access log goes. `loop`: the event loop, as NEARSHELF_LOOP has
    it; empty: the worker's own choice. `core` None: any. `settings`: further variables of the environment."""
    port = port or free_port()
    env = {
        **os.environ,
        "NEARSHELF_EDGE": "bench",
        "NEARSHELF_LISTEN": f"127.0.0.1:{port}",
        "NEARSHELF_ADMIN_LISTEN": f"127.0.0.1:{free_port()}",
        "NEARSHELF_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "NEARSHELF_ORIGIN_URL": origin,
        "NEARSHELF_EDGE_KEY": "bench",
        "NEARSHELF_ADMIN_TOKEN": "bench",
        "NEARSHELF_ACCESS_LOG": log,
        **({"NEARSHELF_LOOP": loop} if loop else {}),
        **({"NEARSHELF_POLICIES": str(policies)} if policies else {}),
        **(settings or {}),
    }
    errors = stack.enter_context((scratch / f"gateway-{free_port()}.err").open("wb"))
    command = [*(pinned(core) if core is not None else ()), sys.executable, "-m", "edge.gateway"]
    process = stack.enter_context(ending(subprocess.Popen(command, env=env, stderr=errors)))
    return Server(name, port, process, HIT_FIELD, is_hit)
