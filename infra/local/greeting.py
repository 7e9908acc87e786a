"""What a person is told once a shop runs: where it is, and what to try."""

from __future__ import annotations

import shlex
import time
from pathlib import Path

from infra.local.state import State
from infra.local.topology import Topology
from infra.local.voice import Voice
from infra.state_folder import usual_state


def greet(voice: Voice, state: State, chosen: Topology, *, sku: str, email: str) -> None:
    """`sku`: a product to try things on. `email`: of the first member of staff."""
    edges = chosen.edges
    command = _how_to_call()
    far = max(edges, key=lambda edge: edge.rtt_ms)
    voice.line()
    voice.line(voice.strong(f"ready in {time.monotonic() - voice.started:.1f} s"))
    voice.line()
    for number, edge in enumerate(edges):
        distance = f"{edge.rtt_ms:g} ms from the origin, {len(edge.workers)} workers"
        voice.line(f"  {'shop' if number == 0 else '':10}{edge.name}  {voice.strong(edge.url)}/   {distance}")
    voice.line(f"  {'origin':10}    {chosen.origin_url}/")
    voice.line(f"  {'console':10}    {chosen.origin_url}/console")
    voice.line(f"  {'':10}    sign in as {email}; the password is in {state.admin_password}")
    voice.line(f"  {'logs':10}    {state.logs}")
    voice.line()
    voice.line("Three things to try, in another terminal:")
    if state.folder != usual_state().resolve():
        voice.line(f"     export NEARSHELF_STATE={shlex.quote(str(state.folder))}")
    voice.line("  1. Look at the same page twice from far away, and compare Cache-Status:")
    voice.line(f"       curl -sD- -o/dev/null {far.url}/eu-eur/")
    voice.line("  2. Sign in, then change a price and watch it become live on every edge:")
    voice.line(f"       {command} login")
    voice.line(f"       {command} price set {sku} --market eu-eur 12.00 --wait")
    voice.line("  3. Stop the origin and go on browsing; then let it come back:")
    voice.line(f"       {command} fault stop origin")
    voice.line(f"       {command} fault start origin")
    voice.line()
    voice.line("Ctrl-C stops everything.")


def _how_to_call() -> str:
    """The command as somebody in this checkout would type it."""
    here = Path(__file__).parents[2] / "dev"
    if not here.exists():
        return "nearshelf"
    return "./dev" if here.parent == Path.cwd() else str(here)
