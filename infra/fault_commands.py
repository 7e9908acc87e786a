"""`nearshelf fault`: break the running shop on purpose, and mend it (docs/faults.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from infra.running_shop import State, ask_shop

fault = typer.Typer(
    help="Break the running shop on purpose, and mend it (docs/faults.md).", no_args_is_help=True, rich_markup_mode=None
)

Process = Annotated[
    str, typer.Argument(metavar="NAME", help="A process (see `nearshelf status`), `origin`, or an edge.")
]
EdgeName = Annotated[str, typer.Argument(metavar="EDGE", help="us, eu, ap or all.")]
ChannelName = Annotated[str, typer.Option(help="questions (the purge log), fills (everything else) or all.")]


@fault.command("list")
def fault_list(state: State) -> None:
    """Show the faults in force.

    \b
    Example:
      nearshelf fault list
    """
    _fault(state, {"do": "faults"})


@fault.command("stop")
def fault_stop(name: Process, state: State) -> None:
    """Stop a process in good order, and leave it stopped.

    \b
    Examples:
      nearshelf fault stop origin
      nearshelf fault stop standby
    """
    _fault(state, {"do": "stop", "name": name})


@fault.command("start")
def fault_start(name: Process, state: State) -> None:
    """Start what was stopped, and wait until it answers.

    \b
    Example:
      nearshelf fault start origin
    """
    _fault(state, {"do": "start", "name": name})


@fault.command("kill")
def fault_kill(name: Process, state: State) -> None:
    """Kill a process without warning; `up` starts it again.

    \b
    Example:
      nearshelf fault kill eu-1
    """
    _fault(state, {"do": "kill", "name": name})


@fault.command("freeze")
def fault_freeze(name: Process, state: State) -> None:
    """Freeze a process: it keeps its connections and says nothing.

    \b
    Example:
      nearshelf fault freeze ap-2
    """
    _fault(state, {"do": "freeze", "name": name})


@fault.command("thaw")
def fault_thaw(name: Process, state: State) -> None:
    """Let a frozen process go on.

    \b
    Example:
      nearshelf fault thaw ap-2
    """
    _fault(state, {"do": "thaw", "name": name})


@fault.command("cut")
def fault_cut(edge: EdgeName, channel: ChannelName = "all", *, state: State) -> None:
    """Cut an edge off from the origin: connections are reset, new ones refused.

    \b
    Examples:
      nearshelf fault cut eu
      nearshelf fault cut ap --channel questions
    """
    _fault(state, {"do": "cut", "edge": edge, "channel": channel})


@fault.command("stall")
def fault_stall(edge: EdgeName, channel: ChannelName = "all", *, state: State) -> None:
    """Let nothing through between an edge and the origin, without a word: connections stay open.

    \b
    Example:
      nearshelf fault stall eu --channel questions
    """
    _fault(state, {"do": "stall", "edge": edge, "channel": channel})


@fault.command("disarm")
def fault_disarm(
    fence: Annotated[str, typer.Argument(metavar="FENCE", help="kill, lease or sync.")],
    state: State,
) -> None:
    """Fail over without one of the three things that keep an old primary from going on, to try the others.

    \b
    Example:
      nearshelf fault disarm kill
    """
    _fault(state, {"do": "disarm", "fence": fence})


Milliseconds = Annotated[int, typer.Option(metavar="MS", help="How much later each answer comes.")]
Bytes = Annotated[int | None, typer.Option(metavar="N", help="How many bytes of answers come through in a second.")]
Seed = Annotated[int, typer.Option(metavar="N", help="The same seed does the same.")]


@fault.command("slow")
def fault_slow(
    edge: EdgeName, channel: ChannelName = "all", ms: Milliseconds = 0, bytes_per_s: Bytes = None, *, state: State
) -> None:
    """Slow down what the origin tells an edge; with `replication`, what the standby gets.

    \b
    Examples:
      nearshelf fault slow eu --channel fills --ms 800
      nearshelf fault slow replication --bytes-per-s 20000
    """
    limit = {} if bytes_per_s is None else {"bytes_per_s": bytes_per_s}
    _fault(state, {"do": "slow", "edge": edge, "channel": channel, "ms": ms, **limit})


@fault.command("truncate")
def fault_truncate(edge: EdgeName, channel: ChannelName = "all", seed: Seed = 0, *, state: State) -> None:
    """End each connection between an edge and the origin somewhere in an answer.

    \b
    Example:
      nearshelf fault truncate eu --channel fills
    """
    _fault(state, {"do": "truncate", "edge": edge, "channel": channel, "seed": seed})


@fault.command("garble")
def fault_garble(edge: EdgeName, channel: ChannelName = "all", seed: Seed = 0, *, state: State) -> None:
    """Answer an edge with bytes that mean nothing.

    \b
    Example:
      nearshelf fault garble ap --channel questions
    """
    _fault(state, {"do": "garble", "edge": edge, "channel": channel, "seed": seed})


@fault.command("wipe")
def fault_wipe(
    name: Annotated[str, typer.Argument(metavar="NAME", help="valkey")],
    state: State,
) -> None:
    """Forget everything that is in Valkey.

    \b
    Example:
      nearshelf fault wipe valkey
    """
    _fault(state, {"do": "wipe", "name": name})


@fault.command("fill-disk")
def fault_fill_disk(state: State) -> None:
    """Leave no room on the shop's disk, where that is a small one of its own (docs/faults.md).

    \b
    Example:
      nearshelf fault fill-disk
    """
    _fault(state, {"do": "fill-disk"})


@fault.command("empty-disk")
def fault_empty_disk(state: State) -> None:
    """Give back the room that `fill-disk` took.

    \b
    Example:
      nearshelf fault empty-disk
    """
    _fault(state, {"do": "empty-disk"})


@fault.command("step-clock")
def fault_step_clock(
    name: Process,
    s: Annotated[float, typer.Option("--s", metavar="SECONDS", help="How wrong it is; 0: right again.")],
    state: State,
) -> None:
    """Make the wall clock of an edge's or the origin's worker wrong, as if somebody had set it.

    \b
    Examples:
      nearshelf fault step-clock eu-1 --s -3600
      nearshelf fault step-clock eu-1 --s 0
    """
    _fault(state, {"do": "step-clock", "name": name, "s": s})


@fault.command("heal")
def fault_heal(
    edge: Annotated[
        str | None, typer.Argument(metavar="[EDGE]", help="us, eu, ap or all; none: end every fault.")
    ] = None,
    *,
    state: State,
) -> None:
    """End cuts and stalls of an edge; without EDGE, end every fault of any kind.

    \b
    Examples:
      nearshelf fault heal eu
      nearshelf fault heal
    """
    _fault(state, {"do": "heal", "edge": edge})


@fault.command("pause-replay")
def fault_pause_replay(state: State) -> None:
    """The standby goes on receiving changes but shows none of them.

    \b
    Example:
      nearshelf fault pause-replay
    """
    _fault(state, {"do": "pause-replay"})


@fault.command("resume-replay")
def fault_resume_replay(state: State) -> None:
    """The standby shows again what it receives, at once.

    \b
    Example:
      nearshelf fault resume-replay
    """
    _fault(state, {"do": "resume-replay"})


@fault.command("delay-replay")
def fault_delay_replay(
    ms: Annotated[int, typer.Argument(metavar="MS", help="Milliseconds; 0: at once.")],
    state: State,
) -> None:
    """The standby shows each change this much later.

    \b
    Example:
      nearshelf fault delay-replay 1500
    """
    _fault(state, {"do": "delay-replay", "ms": ms})


def _fault(state: Path, request: dict[str, Any]) -> None:
    faults = ask_shop(state, request)["faults"]
    print("faults in force:" if faults else "no faults in force")
    for line in faults:
        print(f"  {line}")
