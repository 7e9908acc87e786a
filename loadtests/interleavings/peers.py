"""Varnish and nginx as somebody sets them up who knows them and wants what the origin's fields say.

No lifetimes of their own, validation, collapsing and refreshing in the background on, a cap on requests at the origin,
and each way to purge that the free version has. What one cannot express is said in its `about`.
"""

from __future__ import annotations

import asyncio
import getpass
import os
import re
import shutil
import subprocess
from typing import ClassVar

from cache_policies.positions import PurgeKind
from loadtests.interleavings.caches import ORIGIN_AT_ONCE, Cache, Change, Told

_SBIN = ("/usr/sbin", "/usr/local/sbin")


def path_of(command: str) -> str | None:
    """Where it is, also in folders that only root has in its PATH."""
    return shutil.which(command, path=os.pathsep.join((os.environ.get("PATH", ""), *_SBIN)))


VCL = """vcl 4.1;
import purge;
import std;
backend default {
  .host = "127.0.0.1"; .port = "%ORIGIN%"; .max_connections = %AT_ONCE%;
  .first_byte_timeout = 3s; .between_bytes_timeout = 3s;
}
sub vcl_recv {
  if (req.method == "PURGE") { return (purge); }
  if (req.method == "SOFTPURGE") { return (hash); }
  if (req.method == "BAN") {
    if (std.ban("obj.http.cache-tag ~ (^|,.?)" + req.http.tag + "($|,)")) { return (synth(200)); }
    return (synth(400));
  }
  if (req.url == "/ready") { return (synth(200)); }
}
sub vcl_hit { if (req.method == "SOFTPURGE") { purge.soft(0s); return (synth(200)); } }
sub vcl_miss { if (req.method == "SOFTPURGE") { purge.soft(0s); return (synth(200)); } }
sub vcl_backend_response {
  # There is one window for both, in which a copy is refreshed behind the viewer's back: the longer one.
  if (beresp.http.cache-control ~ "stale-if-error=") {
    set beresp.http.window = regsub(beresp.http.cache-control, "^.*stale-if-error=([0-9]+).*$", "\\1s");
    if (std.duration(beresp.http.window, 0s) > beresp.grace) {
      set beresp.grace = std.duration(beresp.http.window, 0s);
    }
    unset beresp.http.window;
  }
  # A failed refresh leaves what is stored alone.
  if (beresp.status >= 500 && bereq.is_bgfetch) { return (abandon); }
}
sub vcl_backend_error { if (bereq.is_bgfetch) { return (abandon); } }
"""


class Varnish(Cache):
    name = "Varnish"
    needs = ("varnishd", "gcc")
    version_flag = "-V"
    about = (
        "`varnishd` with its store in memory. A hard purge is a `PURGE` of the address and a `BAN` of the tag, both; "
        "a soft one `purge.soft()`, by address, because a ban is always hard. *Done* is the 200 to them. "
        "`stale-if-error` is read in VCL, into the one window that it has. VCL as it comes has no variables that "
        "outlive a request, so nothing can be held against an answer that arrives after a purge; `vmod_var` of "
        "varnish-modules has some, and floors could be written with it by hand, which was not tried here; nor was its "
        "`xkey`, which finds by tag what is stored, as the ban does. There is no lease, and nobody that it could ask "
        "what it has missed. What is over the cap at the origin is refused, because this version has no queue for it; "
        "without the cap, as it comes, nobody is refused, and nothing keeps the origin from getting all at once (d)"
    )

    async def _start(self) -> None:
        recipe = self.folder / "edge.vcl"
        recipe.write_text(
            VCL.replace("%ORIGIN%", self.upstream.rpartition(":")[2]).replace("%AT_ONCE%", str(ORIGIN_AT_ONCE))
        )
        command = [path_of("varnishd") or "varnishd", "-F", "-j", "none", "-n", str(self.folder / "work")]
        command += ["-a", f"127.0.0.1:{self.port}", "-f", str(recipe), "-s", "malloc,64m"]
        for parameter in (
            *("default_ttl=0", "default_grace=0", "default_keep=3600", "http_gzip_support=off"),
            *("backend_local_error_holddown=0", "backend_remote_error_holddown=0"),
        ):
            command += ["-p", parameter]
        await self.process(*command, ready=f"{self.url}/ready")

    async def tell(self, change: Change, within_s: float) -> Told:
        del within_s
        hard = change.kind is PurgeKind.HARD
        answers = []
        if len(change.pages) == 1:
            answers.append(await self.order(self.url, "PURGE" if hard else "SOFTPURGE", change.pages[0].path, {}))
        if hard:
            answers.append(await self.order(self.url, "BAN", "/", {"Tag": change.tag}))
        if not all(answer is not None and answer.status == 200 for answer in answers):
            return Told(False, "the order is lost")
        return Told(True, "200 to its order")


NGINX = """
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log warn; {user}
events {{ worker_connections 2048; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  proxy_cache_path {folder}/cache keys_zone=shop:10m inactive=1d use_temp_path=off;
  upstream origin {{ server 127.0.0.1:{origin} max_fails=0 max_conns={at_once}; keepalive {at_once}; }}
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location = /ready {{ return 200; }}
    location / {{
      proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $http_host; proxy_read_timeout 3s;
      proxy_cache shop; proxy_cache_key $http_host$request_uri;
      proxy_cache_revalidate on; proxy_cache_lock on; proxy_cache_background_update on;
      proxy_cache_bypass $http_refresh; {stale}
    }}
  }}
}}
"""


class Nginx(Cache):
    name = "nginx"
    needs = ("nginx",)
    version_flag = "-v"
    about = (
        "nginx with `proxy_cache` on disk. The free version has no purge and no tags; what it has is "
        "`proxy_cache_bypass`: a request with a secret field is fetched and replaces what is stored, one for each "
        "address that the shop can name. *Done* is its 200. What is stored cannot be made unusable, only replaced, and "
        "that needs the origin. Of stale copies the origin's `stale-while-revalidate` and `stale-if-error` decide. It "
        "sends no `Age` (e4). The module `ngx_cache_purge` was not tried: it would delete what is stored (e1, e2), one "
        "address at a time"
    )
    purges_tags = False
    stale: ClassVar[str] = ""
    """A directive beside the origin's own words about stale copies."""

    async def _start(self) -> None:
        recipe = self.folder / "nginx.conf"
        user = f"user {getpass.getuser()};" if os.geteuid() == 0 else ""
        recipe.write_text(
            NGINX.format(
                folder=self.folder,
                port=self.port,
                origin=self.upstream.rpartition(":")[2],
                user=user,
                at_once=ORIGIN_AT_ONCE,
                stale=self.stale,
            )
        )
        errors = str(self.folder / "error.log")
        command = (path_of("nginx") or "nginx", "-p", str(self.folder), "-c", str(recipe), "-e", errors)
        await self.process(*command, ready=f"{self.url}/ready")

    async def tell(self, change: Change, within_s: float) -> Told:
        """Refresh each address, as many at a time as the origin takes."""
        turn = asyncio.Semaphore(ORIGIN_AT_ONCE)

        async def refresh(path: str) -> str:
            async with turn:
                answer = await self.order(self.url, "GET", path, {"Refresh": "1"})
                return "lost" if answer is None else str(answer.status)

        try:
            async with asyncio.timeout(within_s):
                said = set(await asyncio.gather(*(refresh(page.path) for page in change.pages)))
        except TimeoutError:
            return Told(False, "the refresh waits for the origin")
        if said != {"200"}:
            failed = ", ".join(sorted(said - {"200"}))
            return Told(False, "the order is lost" if failed == "lost" else f"the refresh is answered with {failed}")
        return Told(True, "200 to its refresh")


class NginxStale(Nginx):
    name = "nginx use_stale"
    about = (
        "the same with `proxy_cache_use_stale updating error timeout http_500 http_503`, as many set it: what is "
        "stored is shown in place of a failure, and while it is fetched anew, without a bound"
    )
    stale = "proxy_cache_use_stale updating error timeout http_500 http_503;"


def version_of(command: str, flag: str) -> str:
    """The first thing in its own words that looks like a version; empty when nothing does."""
    done = subprocess.run([path_of(command) or command, flag], capture_output=True, text=True, check=False)
    found = re.search(r"\d+\.\d+(\.\d+)?", done.stdout + done.stderr)
    return found[0] if found else ""
