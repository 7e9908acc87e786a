"""Processes that play the runs of one seed, some at a time, and hand over what came of them in the order of the runs.

Whatever ends the whole - also a kill -9 - loses no more than the runs that are being played at that moment: a player
whose other end is gone ends by itself.
"""

from __future__ import annotations

import gc
import multiprocessing
import signal
from collections.abc import Callable, Generator
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from tests.simulation.runs import Totals, play

RUNS_AT_ONCE = 4
"""Played by a process before it reports."""
LOOK_EVERY_S = 0.5
"""How often somebody who waits for players looks whether to stop."""
ENDS = frozenset({signal.SIGINT, signal.SIGTERM})

Play = Callable[[int, int, int], Totals]
"""As `runs.play`."""


class PlayerEnded(Exception):
    """A process has ended that was to go on. Reads: the process that played runs 40 to 43 of seed 1 has ended with exit
    code -9; what it said is above, and the same command goes on from here."""


def prepare() -> None:
    """To be called once in each process that plays: what is loaded by now is out of the collector's sight."""
    gc.collect()
    gc.freeze()


def batches(
    seed: int, first: int, processes: int, stopping: Callable[[], bool], playing: Play = play
) -> Generator[Totals, None, None]:
    """What came of runs `first` and on of `seed`, RUNS_AT_ONCE at a time and in their order, until nobody wants more or
    `stopping` says so. Raises PlayerEnded. Whoever takes less than all closes it."""
    players: dict[Connection, BaseProcess] = {}
    given: dict[Connection, int] = {}
    done: dict[int, Totals] = {}
    following = first

    def give(player: Connection) -> None:
        nonlocal following
        given[player] = following
        player.send(following)
        following += RUNS_AT_ONCE

    try:
        for _ in range(processes):
            player, process = _started(seed, playing)
            players[player] = process
            give(player)
        while not stopping():
            if first in done:
                # In their order, so that the same are counted each time.
                yield done.pop(first)
                first += RUNS_AT_ONCE
                continue
            for heard in wait(list(players), LOOK_EVERY_S):
                assert isinstance(heard, Connection)
                try:
                    done[given[heard]] = heard.recv()
                    give(heard)
                except (EOFError, OSError):
                    raise PlayerEnded(_told(seed, given[heard], players[heard])) from None
    finally:
        for player, process in players.items():
            process.kill()
            process.join()
            player.close()


def _started(seed: int, playing: Play) -> tuple[Connection, BaseProcess]:
    """A process that plays, and the way to it."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_play, args=(there, seed, playing), daemon=True)
    # What is blocked stays so in the new process: Ctrl-C reaches all, and is for who started them to obey.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ENDS)
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        there.close()
    return here, process


def _play(orders: Connection, seed: int, playing: Play) -> None:
    prepare()
    while True:
        try:
            first = orders.recv()
        except EOFError:
            return
        totals = playing(seed, first, RUNS_AT_ONCE)
        try:
            orders.send(totals)
        except OSError:
            return


def _told(seed: int, first: int, process: BaseProcess) -> str:
    process.join()
    return (
        f"the process that played runs {first} to {first + RUNS_AT_ONCE - 1} of seed {seed} has ended with exit code "
        f"{process.exitcode}; what it said is above, and the same command goes on from here"
    )
