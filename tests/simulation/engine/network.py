"""The network between simulated processes: links that fail, and everything that travels over them."""

from __future__ import annotations

from collections.abc import Callable

from tests.simulation.engine.connections import Connections
from tests.simulation.engine.links import NEAR_S, Links
from tests.simulation.engine.loop import SimLoop
from tests.simulation.engine.messages import Messages
from tests.simulation.engine.sessions import Sessions


class Network(Links):
    """`delay_between` gives the delay of a link by the names of its ends, in virtual seconds (from, to)."""

    def __init__(
        self, loop: SimLoop, delay_between: Callable[[str, str], tuple[float, float]] = lambda origin, target: NEAR_S
    ) -> None:
        super().__init__(loop, delay_between)
        connections = Connections(self)
        self.listen, self.stop_listening = connections.listen, connections.stop_listening
        self.reset = connections.reset
        loop.connect_over = connections.connect
        self.messages = messages = Messages(self)
        self.serve, self.ask = messages.serve, messages.ask
        self.hear, self.tell = messages.hear, messages.tell
        sessions = Sessions(self)
        self.take_sessions, self.open = sessions.take, sessions.open
