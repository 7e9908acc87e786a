"""What `nearshelf status` prints."""

from __future__ import annotations

import json
from typing import Any


def show_status(status: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({key: value for key, value in status.items() if key != "ok"}, indent=2))
        return
    print(f"{'PROCESS':12} {'CONDITION':10} {'PID':>8} {'UP':>9} {'RESTARTS':>9}")
    for process in status["processes"]:
        pid, up_s = process["pid"] or "-", process["up_s"]
        up = "-" if up_s is None else f"{up_s:.0f} s"
        role = f"  {process['role']}" if process["role"] else ""
        print(f"{process['name']:12} {process['condition']:10} {pid!s:>8} {up:>9} {process['restarts']:>9}{role}")
    print()
    for port, what in status["ports"].items():
        print(f"port {port}  {what}")
    print()
    replication = status["replication"]
    if "error" in replication:
        print(f"standby: unknown ({replication['error']})")
    else:
        lag = replication["unreplayed_bytes"]
        paused = ", replay paused" if replication["replay_paused"] else ""
        waited_for = ", commits wait for it" if replication["waited_for"] else ""
        print(f"standby: {replication['state']}, {'?' if lag is None else lag} bytes behind{paused}{waited_for}")
    if failover := status["failover"]:
        print(
            f"primary: {failover['primary']} (epoch {failover['epoch']}, {failover['phase']}); "
            f"may be promoted: {failover['promotable'] or 'nobody'}; failovers: {failover['moves']}"
        )
    print("faults:  " + ("; ".join(status["faults"]) if status["faults"] else "none"))
