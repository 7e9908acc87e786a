"""Requests passed through to the origin on one core, beside nginx: `python -m loadtests.bench misses`.

A visitor's cart: never stored, with a cookie of its own in every request, 8 KB of answer. The origin is an nginx that
serves a file, on the client's core, the same for everybody; the gateway under test has the other core for itself, and
everybody keeps connections to the origin open.
"""

from __future__ import annotations

import argparse
import getpass
import http.client
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from loadtests.bench import measuring, ours
from loadtests.bench.hits import BROWSERS, LANGUAGES, versions
from loadtests.bench.measuring import CLIENT_CORE, SERVER_CORE, BenchError, Row, Server, Verdict
from loadtests.bench.origins import BenchOrigin, Page, running

PATH = "/eu-eur/cart"
BODY = (b"<!doctype html><title>Your cart</title>" + b"<p>A lamp that is as plain as the page it stands on.</p>" * 200)[
    :8192
]
SEED = 6
LEAST = 0.8
"""Requests a second, ours to nginx's."""
NGINX = "nginx proxy_pass"


def main(argv: Sequence[str] | None = None) -> int:
    """1: an aim was missed; 2: it could not run."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench misses", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7, help="rounds of the interleaved run (default 7)")
    parser.add_argument("--seconds", type=int, default=3, help="length of one run (default 3)")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--requests", type=int, default=4_000, help="different requests (default 4000)")
    parser.add_argument("--tries", type=int, default=6, help="repetitions of a run that was disturbed (default 6)")
    parser.add_argument("--logs", action="store_true", help="with an access log, everybody")
    parser.add_argument("--loop", default="", help="comma list of event loops of the gateway; default: its own choice")
    parser.add_argument("--write", type=Path, help="put the table into this file, between its `misses` marks")
    options = parser.parse_args(argv)
    reason = measuring.cannot_run(["wrk", "taskset", "nginx"])
    if reason is not None:
        return measuring.complain(reason)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nearshelf-bench-", dir="/dev/shm")))
        shop = start_nginx(stack, scratch / "origin", _ORIGIN, CLIENT_CORE)
        rows = [
            Row(server.name, partial(_once, server, shop, options, scratch))
            for server in _servers(stack, shop, scratch, options)
        ]
        measuring.take_turns(rows, options.rounds, options.tries, heading="misses, ")
    verdicts = [
        Verdict(
            f"requests a second of {row.name} to {NGINX}", measuring.rate_ratio(row, rows[-1]), LEAST, at_least=True
        )
        for row in rows[:-1]
    ]
    text = (
        f"{time.strftime('%Y-%m-%d', time.gmtime())}: 8 KB passed through; {options.requests:,} different requests, "
        f"{options.rounds} rounds of {options.seconds} s, {options.connections} connections, access logs "
        f"{'on' if options.logs else 'off'}; {versions(['varnishd', 'haproxy'])}\n\n"
        f"{measuring.table(rows, [NGINX])}\n\n{measuring.told(verdicts)}"
    )
    print(f"\n{text}\n")
    if options.write is not None:
        measuring.write_between_marks(options.write, "misses", text)
    return int(not all(verdict.met for verdict in verdicts))


def _servers(stack: ExitStack, shop: Server, scratch: Path, options: argparse.Namespace) -> list[Server]:
    """Ours, one for each event loop that is asked for, and then nginx: all answering."""
    feed = stack.enter_context(running(BenchOrigin(lambda target, head: Page(b"", status=404))))
    servers = [
        ours.start_gateway(
            stack,
            f"nearshelf, {loop}" if loop else "nearshelf",
            shop.url,
            scratch,
            log=str(scratch / f"nearshelf-{loop}.log") if options.logs else "",
            loop=loop,
            settings={"NEARSHELF_FEED_URL": feed.url},
        )
        for loop in options.loop.split(",")
    ]
    log = f"{scratch}/nginx.log json buffer=64k flush=1s" if options.logs else "off"
    location = _PROXY.replace("ORIGIN", shop.url.removeprefix("http://")).replace("LOG", log)
    servers.append(start_nginx(stack, scratch / "proxy", location, SERVER_CORE, NGINX))
    for server in servers:
        _until_it_answers(server)
    return servers


def _once(server: Server, shop: Server, options: argparse.Namespace, scratch: Path) -> measuring.Run:
    script = scratch / f"{server.port}.lua"
    if not script.exists():
        measuring.wrk_script(script, _requests(options.requests, f"127.0.0.1:{server.port}"))
    run = partial(measuring.wrk, server, script, seconds=options.seconds, connections=options.connections)
    return run(helpers=[shop])


def _requests(count: int, host: str) -> list[bytes]:
    chosen = random.Random(SEED)
    found = []
    for _ in range(count):
        lines = [
            f"GET {PATH} HTTP/1.1",
            f"Host: {host}",
            f"User-Agent: {chosen.choice(BROWSERS)}",
            "Accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8",
            f"Accept-Language: {chosen.choice(LANGUAGES)}",
            "Accept-Encoding: identity",
            f"Referer: https://shop.example/eu-eur/c/{chosen.getrandbits(20):x}",
            f"Cookie: session={chosen.getrandbits(128):x}; cart={chosen.getrandbits(64):x}; consent=1",
        ]
        found.append(("\r\n".join(lines) + "\r\n\r\n").encode())
    return found


def _until_it_answers(server: Server) -> None:
    """Raises BenchError when it does not give the page within half a minute."""
    said = ""
    for _ in range(300):
        server.check_alive()
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=2)
        try:
            connection.request("GET", PATH, headers={"Cookie": "session=1"})
            response = connection.getresponse()
            if response.read() == BODY:
                return
            said = f"{response.status} with another body"
        except OSError as exc:
            said = str(exc)
        finally:
            connection.close()
        time.sleep(0.1)
    raise BenchError(f"{server.name} does not pass the page through: {said}")


_ORIGIN = """
  access_log off; open_file_cache max=10 inactive=1d; open_file_cache_valid 1d;
  server {
    listen 127.0.0.1:PORT backlog=1024; root HOME/pages; default_type "text/html; charset=utf-8";
    add_header Cache-Control "private, no-store"; add_header Vary Cookie;
  }
"""
_PROXY = """
  log_format json escape=json '{"time":$msec,"method":"$request_method","status":$status,"bytes":$bytes_sent,'
    '"s":$request_time,"origin_s":$upstream_header_time}';
  access_log LOG;
  upstream shop { server ORIGIN; keepalive 64; keepalive_requests 1000000000; }
  server {
    listen 127.0.0.1:PORT backlog=1024;
    location / {
      proxy_pass http://shop; proxy_http_version 1.1;
      proxy_set_header Connection ""; proxy_set_header Host $host; proxy_set_header X-Real-IP $remote_addr;
    }
  }
"""


def start_nginx(stack: ExitStack, home: Path, servers: str, core: int, name: str = "origin") -> Server:
    """One worker of nginx with these `servers`, on one core."""
    port = measuring.free_port()
    page = home / "pages" / PATH.lstrip("/")
    page.parent.mkdir(parents=True)
    page.write_bytes(BODY)
    for folder in (home.parent, home, home / "pages", *page.parents[:-1]):
        if home in (folder, *folder.parents) or folder == home.parent:
            folder.chmod(0o755)
    user = f"user {getpass.getuser()};" if os.geteuid() == 0 else ""
    (home / "nginx.conf").write_text(f"""
{user} daemon off; worker_processes 1; pid {home}/pid; error_log {home}/error.log;
events {{ worker_connections 4096; }}
http {{
  keepalive_requests 1000000000; sendfile on; server_tokens off;
  proxy_temp_path {home}/temp; client_body_temp_path {home}/body;
  fastcgi_temp_path {home}/f; uwsgi_temp_path {home}/u; scgi_temp_path {home}/s;
  {servers.replace("PORT", str(port)).replace("HOME", str(home))}
}}
""")
    command = [*measuring.pinned(core), measuring.path_of("nginx"), "-p", str(home), "-c", str(home / "nginx.conf")]
    process = stack.enter_context(measuring.ending(subprocess.Popen(command, stderr=subprocess.DEVNULL)))
    return Server(name, port, process)
