"""`python -m edge.gateway`: one edge worker, told by its environment (docs/settings.md)."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys

from cache_policies.folder import Looks, looks_of
from edge.core.policy import PolicySet
from edge.gateway.app import Gateway
from edge.gateway.canary import shared_by_mistake
from edge.gateway.settings import GatewaySettings, Positions, SettingsError
from edge.policy_files import PACKAGED_POLICIES, PolicyError, load_policies

EXIT_SETTINGS = 2
EXIT_LOST_HISTORY = 3
EXIT_ADDRESS = 4


def main() -> int:
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for name in ("httpx", "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        settings = GatewaySettings.from_env(os.environ)
    except SettingsError as exc:
        print(exc, file=sys.stderr)
        return EXIT_SETTINGS
    seen = looks_of(settings.policies or PACKAGED_POLICIES)
    try:
        policies = load_policies(settings.policies)
    except PolicyError as exc:
        print(f"this edge worker cannot start, its policies cannot be used:\n{exc}", file=sys.stderr)
        return EXIT_SETTINGS
    address_faults = settings.address_faults(policies.origins)
    if address_faults:
        print("this edge worker cannot start:\n  " + "\n  ".join(address_faults), file=sys.stderr)
        return EXIT_SETTINGS
    mistakes = shared_by_mistake(policies, own_positions=settings.positions is Positions.SITE)
    if mistakes:
        print("this edge worker cannot start, for its policies:\n  " + "\n  ".join(mistakes), file=sys.stderr)
        return EXIT_SETTINGS
    if settings.loop == "uvloop":
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(serve(settings, policies, seen))
    with asyncio.Runner() as runner:
        return runner.run(serve(settings, policies, seen))


async def serve(settings: GatewaySettings, policies: PolicySet, seen: Looks) -> int:
    """Run one worker until SIGINT or SIGTERM; the process's exit status. SIGHUP: read the policies again.

    `policies` were read from files that looked like `seen`.
    """
    gateway = Gateway(settings, policies, files_seen=seen)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, gateway.stopped.set)
    loop.add_signal_handler(signal.SIGHUP, gateway.reload.look_now)
    if settings.lifeline is not None:
        # Nothing is ever written there: that it can be read means that the parent, which held its other end, is gone.
        loop.add_reader(settings.lifeline, _parent_gone, gateway, settings.lifeline)
    try:
        await gateway.start()
    except OSError as exc:
        print(exc, file=sys.stderr)
        return EXIT_ADDRESS
    # What was loaded so far lives as long as the process: no collection needs to look at it again.
    gc.collect()
    gc.freeze()
    await gateway.stopped.wait()
    await gateway.stop()
    return EXIT_LOST_HISTORY if gateway.lost_history else 0


def _parent_gone(gateway: Gateway, lifeline: int) -> None:
    asyncio.get_running_loop().remove_reader(lifeline)
    logging.getLogger("nearshelf.edge").error("the process that started this worker is gone: stopping")
    gateway.stopped.set()


if __name__ == "__main__":
    sys.exit(main())
