"""docs/edge.md: its commands, in their order, do what it says."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "edge.md").read_text()
COMMANDS = re.findall(r"^\$ (.+)$", DOCUMENT, re.MULTILINE)
SERVERS = ("python -m http.server", "nearshelf edge")


@pytest.fixture
def bin_folder(tmp_path: Path) -> Path:
    """Where `nearshelf` and `python` are found, installed or not."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "python").symlink_to(sys.executable)
    script = folder / "nearshelf"
    script.write_text(
        f'#!{sys.executable}\nimport sys\nsys.path.insert(0, "{ROOT}")\nfrom infra.cli import main\nmain()\n'
    )
    script.chmod(0o755)
    return folder


@contextlib.contextmanager
def running(command: str, ready: str, **more) -> Iterator[None]:
    process = subprocess.Popen(command.split(), stdin=subprocess.DEVNULL, **more)
    try:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(ready, trust_env=False).is_success:
                    break
            assert process.poll() is None, command
            assert time.monotonic() < deadline, command
            time.sleep(0.05)
        yield
    finally:
        # Not SIGINT, which a process started in the background of a script may have to ignore.
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) in {0, -signal.SIGTERM}


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [probe.getsockname()[1] for probe in probes]


def test_five_minutes(tmp_path, bin_folder):
    made, *commands = COMMANDS
    assert [command.startswith(SERVERS) for command in commands] == [True, True, False, False, False, False]
    subprocess.run(["bash", "-c", made], cwd=tmp_path, check=True)
    ports = dict(zip(("8000", "8080", "8081"), free_ports(3), strict=True))

    def here(command: str) -> str:
        for documented, real in ports.items():
            command = re.sub(rf"(?<=127\.0\.0\.1[:-]){documented}|(?<=http\.server ){documented}", str(real), command)
        return command

    environment = os.environ | {
        "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "XDG_STATE_HOME": "",
        "NEARSHELF_STATE": str(tmp_path / "no shop"),
        "PYTHONPATH": str(ROOT),
    }
    environment.pop("NEARSHELF_ADMIN_TOKEN", None)
    quiet = {"env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    said: list[str] = []
    server, edge, *asked = [here(command) for command in commands]
    with (
        running(server, f"http://127.0.0.1:{ports['8000']}/", cwd=tmp_path, **quiet),
        running(edge, f"http://127.0.0.1:{ports['8081']}/readyz", cwd=tmp_path, **quiet),
    ):
        for command in asked:
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", command],
                env=environment,
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=60,
                stdin=subprocess.DEVNULL,
            )
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
            said.append(done.stdout)
    first, second, purged, entries = said
    assert "fwd=uri-miss" in first
    assert "stored" in first
    assert "; hit" in second
    assert purged.startswith("purged hard: path:/; at ")
    assert "2 of 2 workers" in purged
    assert '"entries":[' in entries
