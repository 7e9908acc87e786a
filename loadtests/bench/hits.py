"""Hits on one core beside nginx, in one interleaved run: `python -m loadtests.bench.hits`.

An 8 KB page, keep-alive, 32 connections, the same request fields for everybody. The server is pinned to core 0 and wrk
to core 1. Runs alternate A B C A B C ..., because this kind of figure moves by a quarter between blocks minutes apart:
compare only inside one table. CPU microseconds a request are utime and stime of the server's processes over the
requests wrk counted: the steadier figure. A run during which anything else took more than 0.12 of a core is repeated.
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
import http.client
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from cache_policies.feed import FEED_PATH, Answer, Question
from cache_policies.positions import Position

PATH = "/eu-eur/products/bench"
BODY = (b"<!doctype html><title>bench</title>" + b"<p>A lamp that is as plain as the page it stands on.</p>" * 200)[
    :8192
]
FIELDS = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36",
    "Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8",
    "Accept-Language": "de-DE,de;q=0.9,en;q=0.8",
    # Nobody compresses: the same 8 KB for everybody.
    "Accept-Encoding": "identity",
    "Referer": "https://shop.example/eu-eur/c/lamps",
}
TICKS = os.sysconf("SC_CLK_TCK")
MAX_FOREIGN_CORES = 0.12


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.hits", description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=7, help="rounds of the interleaved run (default 7)")
    parser.add_argument("--seconds", type=int, default=3, help="length of one run (default 3)")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--tries", type=int, default=6, help="repetitions of a run that was disturbed (default 6)")
    parser.add_argument("--write", type=Path, help="put the table into this file, between its `hits` marks")
    parser.add_argument("--only", default="", help="comma list of targets, by the start of their names")
    parser.add_argument("--loop", default="asyncio", help="the gateway's event loop: asyncio, uvloop or both")
    options = parser.parse_args()

    missing = [name for name in ("wrk", "nginx", "taskset") if shutil.which(name) is None]
    if missing:
        print(
            f"not found: {', '.join(missing)}. On Debian: apt-get install nginx-light wrk util-linux", file=sys.stderr
        )
        return 2
    if (os.cpu_count() or 1) < 2:
        print("this takes two cores: one for the server, one for wrk", file=sys.stderr)
        return 2

    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nearshelf-bench-")))
        memory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nearshelf-bench-", dir="/dev/shm")))
        origin = stack.enter_context(running_origin())
        makers: dict[str, Callable[[], Target]] = {}
        loops = ["asyncio", "uvloop"] if options.loop == "both" else [options.loop]
        for loop in loops:
            name = "nearshelf" if loop == "asyncio" else f"nearshelf, {loop}"
            for log_name, log in (("no log", ""), ("access log", str(scratch / f"{loop}.log"))):
                called = f"{name}, {log_name}"
                makers[called] = partial(start_gateway, stack, called, origin, scratch, log=log, loop=loop)
        makers["nginx, stock"] = lambda: start_nginx(stack, "nginx, stock", origin, scratch, tuned=False)
        makers["nginx, tmpfs + open_file_cache"] = lambda: start_nginx(
            stack, "nginx, tmpfs + open_file_cache", origin, memory, tuned=True
        )
        wanted = [start.strip() for start in options.only.split(",") if start.strip()]
        targets = [
            make() for name, make in makers.items() if not wanted or any(name.startswith(start) for start in wanted)
        ]
        for target in targets:
            target.warm()
        for number in range(options.pairs):
            for target in targets:
                run = measure(target, options.seconds, options.connections, options.tries)
                target.runs.append(run)
                print(
                    f"round {number + 1}: {target.name:32} {run.per_s:9,.0f} req/s {run.cpu_us:6.2f} us "
                    f"p99 {run.p99_ms:5.2f} ms  foreign {run.foreign:.2f} core, try {run.tries}",
                    flush=True,
                )
        table = report(targets, options.seconds, options.connections)
        print(f"\n{table}")
    if options.write is not None:
        write_between_marks(options.write, table)
    return 0


def write_between_marks(document: Path, table: str) -> None:
    """Replace what stands between the two marks. Raises ValueError when the document has none."""
    before, begin, rest = document.read_text().partition("<!-- hits -->\n")
    _, end, after = rest.partition("<!-- /hits -->")
    if not (begin and end):
        raise ValueError(f"{document} has no <!-- hits --> ... <!-- /hits --> to write between")
    document.write_text(f"{before}{begin}\n{table}\n\n{end}{after}")


@dataclass(frozen=True, slots=True)
class Run:
    per_s: float
    cpu_us: float
    p99_ms: float
    foreign: float
    """Cores taken by anything but the server and wrk."""
    tries: int


@dataclass
class Target:
    name: str
    port: int
    process: subprocess.Popen[bytes]
    hit_mark: tuple[str, str]
    """A response field, and what it holds on a hit."""
    runs: list[Run] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{PATH}"

    def pids(self) -> list[int]:
        """The server's process and its children."""
        own = self.process.pid
        children = Path(f"/proc/{own}/task/{own}/children").read_text().split()
        return [own, *map(int, children)]

    def ticks(self) -> int:
        total = 0
        for pid in self.pids():
            parts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(parts[11]) + int(parts[12])
        return total

    def warm(self) -> None:
        """Ask until it is a hit. Raises RuntimeError when it never is."""
        name, mark = self.hit_mark
        said = ""
        for _ in range(200):
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
            try:
                connection.request("GET", PATH, headers=FIELDS)
                response = connection.getresponse()
                said = response.headers.get(name, "")
                if mark in said and response.read() == BODY:
                    return
            except OSError as exc:
                said = str(exc)
            finally:
                connection.close()
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended with status {self.process.returncode}")
            time.sleep(0.05)
        raise RuntimeError(f"{self.name} gives no hit: {name}: {said}")


def measure(target: Target, seconds: int, connections: int, max_tries: int) -> Run:
    """One run of wrk; the quietest of `max_tries` when none is quiet enough."""
    best: Run | None = None
    for tries in range(1, max_tries + 1):
        run = measure_once(target, seconds, connections, tries)
        if best is None or run.foreign < best.foreign:
            best = run
        if best.foreign <= MAX_FOREIGN_CORES:
            break
    assert best is not None
    return best


def measure_once(target: Target, seconds: int, connections: int, tries: int) -> Run:
    command = [*pinned(1), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", target.url]
    for name, value in FIELDS.items():
        command += ["-H", f"{name}: {value}"]
    server_before, all_before, began = target.ticks(), busy_ticks(), time.monotonic()
    children_before = os.times()
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    elapsed = time.monotonic() - began
    children = os.times()
    server, everything = target.ticks() - server_before, busy_ticks() - all_before
    wrk = (
        children.children_user + children.children_system - children_before.children_user
        - children_before.children_system
    )  # fmt: skip
    if "Non-2xx" in output or "Socket errors" in output:
        raise RuntimeError(f"{target.name}: wrk reports errors:\n{output}")
    requests = int(_found(r"(\d+) requests in", output))
    unit = _found(r"99%\s+[\d.]+(us|ms|s)", output)
    p99_ms = float(_found(r"99%\s+([\d.]+)", output)) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[unit]
    return Run(
        per_s=float(_found(r"Requests/sec:\s+([\d.]+)", output)),
        cpu_us=server / TICKS / requests * 1e6,
        p99_ms=p99_ms,
        foreign=max(0.0, (everything - server) / TICKS - wrk) / elapsed,
        tries=tries,
    )


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise RuntimeError(f"wrk's output is not understood:\n{text}")
    return match[1]


def busy_ticks() -> int:
    """Ticks that any process took on any core, since the machine started."""
    user, nice, system, _idle, _wait, irq, soft, *_ = map(
        int, Path("/proc/stat").read_text().split("\n")[0].split()[1:]
    )
    return user + nice + system + irq + soft


def report(targets: list[Target], seconds: int, connections: int) -> str:
    """A Markdown table: medians with quartiles, and the ratio to each nginx."""
    peers = [target for target in targets if target.name.startswith("nginx")]
    nginx = subprocess.run([shutil.which("nginx") or "nginx", "-v"], capture_output=True, text=True, check=True).stderr
    version = nginx.strip().rpartition("/")[2]
    about = f"{len(targets[0].runs)} rounds of {seconds} s, {connections} connections"
    lines = [
        f"{time.strftime('%Y-%m-%d', time.gmtime())}: {about}, Python {sys.version.split()[0]}, nginx {version}",
        "",
        "| | req/s, median (quartiles) | CPU us/req, median (quartiles) | p99 ms |"
        + "".join(f" CPU x {peer.name} |" for peer in peers),
        "|---|---|---|---|" + "---|" * len(peers),
    ]
    for target in targets:
        per_s = [run.per_s for run in target.runs]
        cpu = [run.cpu_us for run in target.runs]
        row = f"| {target.name} | {_spread(per_s, ',.0f')} | {_spread(cpu, '.1f')} | "
        row += f"{statistics.median(run.p99_ms for run in target.runs):.2f} |"
        for peer in peers:
            ratios = [ours.cpu_us / theirs.cpu_us for ours, theirs in zip(target.runs, peer.runs, strict=True)]
            row += f" {statistics.median(ratios):.2f} |"
        lines.append(row)
    foreign = max(run.foreign for target in targets for run in target.runs)
    lines += ["", f"The most that anything else took during a run that counts: {foreign:.2f} core, of two."]
    if foreign > MAX_FOREIGN_CORES:
        lines.append(
            f"**Disturbed**: more than {MAX_FOREIGN_CORES} core. Take the ratios with care, and measure again."
        )
    return "\n".join(lines)


def _spread(values: list[float], form: str) -> str:
    if len(values) < 2:
        return f"{values[0]:{form}}"
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle:{form}} ({low:{form}} - {high:{form}})"


# -- what is measured --------------------------------------------------------------------------------------------------


def pinned(core: int) -> list[str]:
    taskset = shutil.which("taskset")
    assert taskset is not None
    return [taskset, "-c", str(core)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def start_gateway(stack: ExitStack, name: str, origin: str, scratch: Path, *, log: str, loop: str) -> Target:
    port = free_port()
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
        "NEARSHELF_LOOP": loop,
    }
    errors = (scratch / f"gateway-{port}.err").open("wb")
    stack.callback(errors.close)
    process = stack.enter_context(
        ending(subprocess.Popen([*pinned(0), sys.executable, "-m", "edge.gateway"], env=env, stderr=errors))
    )
    return Target(name, port, process, ("Cache-Status", "; hit"))


def start_nginx(stack: ExitStack, name: str, origin: str, folder: Path, *, tuned: bool) -> Target:
    port = free_port()
    home = folder / f"nginx-{port}"
    home.mkdir(parents=True)
    # tcp_nopush stays off: it cost nginx 40 ms stalls in an earlier series.
    user = f"user {getpass.getuser()};" if os.geteuid() == 0 else ""
    (home / "nginx.conf").write_text(f"""
{user} daemon off; worker_processes 1; pid {home}/pid; error_log {home}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 1000000000; sendfile on;
  {"open_file_cache max=10000 inactive=600s; open_file_cache_valid 600s;" if tuned else ""}
  proxy_cache_path {home}/cache keys_zone=hits:10m max_size=200m inactive=1h;
  proxy_temp_path {home}/temp; client_body_temp_path {home}/body;
  fastcgi_temp_path {home}/f; uwsgi_temp_path {home}/u; scgi_temp_path {home}/s;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass {origin}; proxy_cache hits; proxy_cache_key $host$uri;
      proxy_cache_valid 200 1h; proxy_ignore_headers Cache-Control Expires Vary;
      add_header X-Cache $upstream_cache_status;
    }}
  }}
}}
""")
    nginx = shutil.which("nginx")
    assert nginx is not None
    process = stack.enter_context(
        ending(
            subprocess.Popen(
                [*pinned(0), nginx, "-p", str(home), "-c", str(home / "nginx.conf")],
                stderr=subprocess.DEVNULL,
            )
        )
    )
    return Target(name, port, process, ("X-Cache", "HIT"))


@contextmanager
def ending(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def running_origin() -> Iterator[str]:
    """An origin in a thread of this process: one page, and a purge log in which nothing happens."""
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    port = 0

    async def start() -> None:
        nonlocal port
        server = await asyncio.start_server(_serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        ready.set()

    def run() -> None:
        loop.run_until_complete(start())
        loop.run_forever()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    ready.wait()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            length = re.search(r"(?i)\ncontent-length: (\d+)", head)
            body = await reader.readexactly(int(length[1])) if length else b""
            if f" {FEED_PATH} " in head:
                writer.write(_response("application/x-ndjson", _feed(body)))
            else:
                writer.write(
                    _response(
                        "text/html; charset=utf-8",
                        BODY,
                        "catalog-version: 1.1",
                        "cache-tag: p:eu-eur:bench",
                        "cdn-cache-control: max-age=3600",
                        "cache-control: max-age=3600",
                        'etag: "bench"',
                    )
                )
            await writer.drain()
            if "connection: close" in head.lower() or "http/1.0" in head.lower():
                break
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


def _feed(body: bytes) -> bytes:
    head = Position(1, 1)
    start = (head, "first") if body and Question.from_json(body).after is None else None
    return Answer((), head, "first", start).to_json() + b"\n"


def _response(media_type: str, body: bytes, *lines: str) -> bytes:
    fields = [f"content-type: {media_type}", f"content-length: {len(body)}", *lines]
    return ("HTTP/1.1 200 OK\r\n" + "\r\n".join(fields) + "\r\n\r\n").encode() + body


if __name__ == "__main__":
    sys.exit(main())
