"""Finding out whether ports are free, before anything is started."""

from __future__ import annotations

import contextlib
import random
import socket

from infra.local.errors import LocalError
from infra.local.topology import HOST, Options, Topology, plan

FIRST_FREE = 20_000
BLOCK = 64
BLOCKS = 190
"""Free ports are taken from 20000 to 32159: below what Linux hands out to outgoing connections (32768 and up), so that
nothing takes one of ours while its process is being started again."""


class Ports:
    """The ports of one local shop, and the guard that keeps other shops with free ports off the same block."""

    def __init__(self, topology: Topology, guard: socket.socket | None) -> None:
        self.topology = topology
        self._guard = guard

    def release(self) -> None:
        if self._guard is not None:
            self._guard.close()


def choose(options: Options) -> Ports:
    """The topology on ports that are free now. Raises LocalError that names a port which is taken, and the option."""
    if options.port_base != 0:
        topology = plan(options, options.port_base)
        for port, what in topology.ports().items():
            if not is_free(port):
                raise LocalError(
                    f"port {port}, for {what}, is taken by another program; "
                    "choose other ports with --port-base N, or free ones with --port-base 0"
                )
        return Ports(topology, None)
    if options.ports_needed > BLOCK - 1:
        raise LocalError(f"--port-base 0 has room for {BLOCK - 1} ports and this shop needs {options.ports_needed}")
    for block in random.sample(range(BLOCKS), BLOCKS):
        base = FIRST_FREE + block * BLOCK
        guard = _listen(base + BLOCK - 1)
        if guard is None:
            continue
        topology = plan(options, base)
        if all(is_free(port) for port in topology.ports()):
            return Ports(topology, guard)
        guard.close()
    raise LocalError(
        f"no free ports between {FIRST_FREE} and {FIRST_FREE + BLOCKS * BLOCK}; name some with --port-base"
    )


def is_free(port: int) -> bool:
    """Whether a program could listen there now. Ports that a program shares with others (SO_REUSEPORT) are taken."""
    listening = _listen(port)
    if listening is None:
        return False
    listening.close()
    return True


def _listen(port: int) -> socket.socket | None:
    attempt = socket.socket()
    # As the servers do: connections of an earlier run that linger in TIME_WAIT do not count.
    attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    with contextlib.suppress(OSError):
        attempt.bind((HOST, port))
        attempt.listen(1)
        return attempt
    attempt.close()
    return None
