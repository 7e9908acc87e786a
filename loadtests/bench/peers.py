"""The peers: nginx, Varnish and HAProxy as a bench starts them, one worker each, with the shop's routing and keys.

Each is configured as somebody would who knows it: what our policies do with a target (which parameters count, in which
order, which markets there are) is written down in each one's own language. What one cannot express is said beside it.
"""

from __future__ import annotations

import getpass
import os
import subprocess
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

from loadtests.bench.measuring import SERVER_CORE, Server, ending, free_port, path_of, pinned

MARKETS = ("us-usd", "ca-cad", "eu-eur", "gb-gbp", "jp-jpy", "sg-sgd")
STORE_MB = 512
_MARKET = "(" + "|".join(MARKETS) + ")"

NGINX_SHOP = f"""
    location ~ ^/{_MARKET}/c/.+$ {{ set $key "$uri|$arg_sort|$arg_page"; proxy_pass $shop; }}
    location ~ ^/{_MARKET}/products/[^/]+$ {{ set $key "$uri|$arg_variant"; proxy_pass $shop; }}
    location ~ ^/{_MARKET}/$ {{ set $key "$uri"; proxy_pass $shop; }}
    location ~ ^/api/v1/{_MARKET}/(prices|stock)/[^/]+$ {{ set $key "$uri"; proxy_pass $shop; }}
    location ~ ^/api/v1/{_MARKET}/products$ {{ set $key "$uri|$arg_page"; proxy_pass $shop; }}
    location ~ ^/api/v1/{_MARKET}/products/[^/]+$ {{ set $key "$uri"; proxy_pass $shop; }}
    location ~ ^/(art|static)/[^/]+/[^/]+$ {{ set $key "$uri"; proxy_pass $shop; }}
    location / {{ proxy_cache off; proxy_pass $shop; }}
"""
"""What nginx says of the shop's routes. It has no allow-list of parameters, so each route's key names them; its key
takes a repeated or differently encoded parameter as it comes."""

_QUERY_RULES = (
    (f"^/{_MARKET}/c/", ("sort", "page")),
    (f"^/{_MARKET}/products/", ("variant",)),
    (f"^/api/v1/{_MARKET}/products(\\?|$)", ("page",)),
)


def _vcl_recv() -> str:
    lines: list[str] = []
    for pattern, names in _QUERY_RULES:
        keep = "|".join(names)
        lines.append(
            f'  {"" if not lines else "else "}if (req.url ~ "{pattern}") {{ '
            f'set req.url = regsuball(req.url, "(?<=[?&])(?!({keep})=)[^&]*&?", ""); }}'
        )
    lines.append('  else { set req.url = regsub(req.url, "\\?.*$", ""); }')
    return "\n".join(lines)


VARNISH_SHOP = f"""vcl 4.1;
import std;
backend default {{ .host = "%HOST%"; .port = "%PORT%"; }}
sub vcl_recv {{
  if (req.method != "GET" && req.method != "HEAD") {{ return (pass); }}
  unset req.http.Cookie;
  if (req.url !~ "^/{_MARKET}/(c/|products/|$|\\?)" && req.url !~ "^/api/v1/{_MARKET}/(prices|stock|products)"
      && req.url !~ "^/(art|static)/[^/]+/[^/]+") {{ return (pass); }}
{_vcl_recv()}
  set req.url = std.querysort(regsub(req.url, "[?&]$", ""));
  return (hash);
}}
sub vcl_backend_response {{ unset beresp.http.Set-Cookie; set beresp.ttl = 1d; set beresp.grace = 10m; }}
"""
"""The same in VCL: cookies stripped, parameters by allow-list and sorted, markets known."""

HAPROXY_SHOP = f"""
  acl category path_reg ^/{_MARKET}/c/
  acl product path_reg ^/{_MARKET}/products/
  acl list path_reg ^/api/v1/{_MARKET}/products$
  http-request del-header cookie
  http-request set-var(txn.variant) urlp(variant) if product
  http-request set-var(txn.sort) urlp(sort) if category
  http-request set-var(txn.page) urlp(page) if category or list
  http-request set-query "%[var(txn.none)]" if !category !product !list
  http-request set-query "variant=%[var(txn.variant)]" if product
  http-request set-query "sort=%[var(txn.sort)]&page=%[var(txn.page)]" if category
  http-request set-query "page=%[var(txn.page)]" if list
"""
"""The same for HAProxy, whose key is the whole target: the query is written anew from the parameters that count."""


def start_nginx(
    stack: ExitStack,
    name: str,
    origin: str,
    folder: Path,
    *,
    tuned: bool,
    locations: str = NGINX_SHOP,
    cache: str = "proxy_cache_valid 200 1d;",
    log: Path | None = None,
    accept_encoding: str = "",
    core: int | None = SERVER_CORE,
) -> Server:
    """nginx with `proxy_cache` in `folder`; `tuned`: with open_file_cache. `locations` may use $shop, the origin, and
    set $key; `cache`: what says how long and how it refreshes. `accept_encoding`: what the origin is asked for."""
    port = free_port()
    home = folder / f"nginx-{port}"
    home.mkdir(parents=True)
    user = f"user {getpass.getuser()};" if os.geteuid() == 0 else ""
    # tcp_nopush stays off: it cost nginx 40 ms stalls in an earlier series.
    (home / "nginx.conf").write_text(f"""
{user} daemon off; worker_processes 1; pid {home}/pid; error_log {home}/error.log;
events {{ worker_connections 4096; }}
http {{
  log_format json escape=json '{{"time":$msec,"method":"$request_method","path":"$uri","status":$status,'
    '"cache":"$upstream_cache_status","bytes":$bytes_sent,"s":$request_time}}';
  access_log {"off" if log is None else f"{log} json buffer=64k flush=1s"};
  keepalive_requests 1000000000; sendfile on; server_tokens off;
  {"open_file_cache max=100000 inactive=1d; open_file_cache_valid 1d;" if tuned else ""}
  proxy_cache_path {home}/cache levels=1:2 keys_zone=shop:64m max_size={STORE_MB}m inactive=1d;
  proxy_temp_path {home}/temp; client_body_temp_path {home}/body;
  fastcgi_temp_path {home}/f; uwsgi_temp_path {home}/u; scgi_temp_path {home}/s;
  upstream shop {{ server {urlsplit(origin).netloc}; keepalive 64; }}
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    set $shop http://shop; set $key $uri;
    proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Accept-Encoding "{accept_encoding}";
    proxy_cache shop; proxy_cache_key $host$key; proxy_ignore_headers Cache-Control Expires Vary;
    {cache}
    add_header X-Cache $upstream_cache_status;
    {locations}
  }}
}}
""")
    command = [*_pinned(core), path_of("nginx"), "-p", str(home), "-c", str(home / "nginx.conf")]
    process = stack.enter_context(ending(subprocess.Popen(command, stderr=subprocess.DEVNULL)))
    return Server(name, port, process, "X-Cache", lambda said: said == "HIT")


def start_varnish(
    stack: ExitStack,
    name: str,
    origin: str,
    folder: Path,
    *,
    vcl: str = VARNISH_SHOP,
    store_mb: int = STORE_MB,
    log: Path | None = None,
    core: int | None = SERVER_CORE,
) -> Server:
    """varnishd with its store in memory. `log`: beside it varnishncsa writes there, and counts as part of it."""
    port = free_port()
    home = folder / f"varnish-{port}"
    home.mkdir(parents=True)
    # varnishd reads its configuration as a user of its own, who must be able to get there.
    folder.chmod(0o711)
    host, _, origin_port = urlsplit(origin).netloc.partition(":")
    (home / "shop.vcl").write_text(vcl.replace("%HOST%", host).replace("%PORT%", origin_port))
    command = [*_pinned(core), path_of("varnishd"), "-F", "-n", str(home / "work"), "-f", str(home / "shop.vcl")]
    command += ["-a", f"127.0.0.1:{port}", "-s", f"malloc,{store_mb}m"]
    # What the origin has coded stays as it is, and nothing else is coded.
    command += ["-p", "http_gzip_support=off"]
    output = stack.enter_context((home / "output").open("wb"))
    process = stack.enter_context(ending(subprocess.Popen(command, stdout=output, stderr=output)))
    server = Server(name, port, process, "X-Varnish", lambda said: " " in said)
    if log is not None:
        told = [*_pinned(core), path_of("varnishncsa"), "-n", str(home / "work"), "-w", str(log), "-t", "20"]
        server.helpers.append(stack.enter_context(ending(subprocess.Popen(told, stderr=subprocess.DEVNULL))))
    return server


def start_haproxy(
    stack: ExitStack,
    name: str,
    origin: str,
    folder: Path,
    *,
    rules: str = HAPROXY_SHOP,
    max_age_s: int = 86_400,
    log: Path | None = None,
    core: int | None = SERVER_CORE,
) -> Server:
    """HAProxy with its cache, one thread."""
    port = free_port()
    home = folder / f"haproxy-{port}"
    home.mkdir(parents=True)
    (home / "haproxy.cfg").write_text(f"""
global
  nbthread 1
  maxconn 4096
  {"log stdout format raw local0" if log is not None else ""}
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 5s
  {"log global" if log is not None else ""}
  {"option httplog" if log is not None else ""}
cache shop
  total-max-size {STORE_MB}
  max-object-size 1000000
  max-age {max_age_s}
frontend viewers
  bind 127.0.0.1:{port} backlog 1024
{rules}
  http-request cache-use shop
  http-response cache-store shop
  default_backend origin
backend origin
  server origin {urlsplit(origin).netloc}
""")
    output = stack.enter_context((log or home / "output").open("wb"))
    command = [*_pinned(core), path_of("haproxy"), "-db", "-f", str(home / "haproxy.cfg")]
    process = stack.enter_context(ending(subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL)))
    return Server(name, port, process, "Age", lambda said: said.isdigit())


def _pinned(core: int | None) -> list[str]:
    return [] if core is None else pinned(core)
