"""CloudFront as far as its functions see it: events, a KeyValueStore, and an engine for the viewer-request Function."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import quickjs

DISTRIBUTION = "d111111abcdef8.cloudfront.net"
MEMORY_BYTES = 2_000_000
"""What CloudFront gives a Function."""

_RUNTIME = """
var logged = [];
var console = {log: function (text) { logged.push(String(text)); }};
var cf = {kvs: function () {
  function entry(key) {
    if (KVS === null) throw new Error('the store is out of order');
    return KVS[key];
  }
  return {
    exists: async function (key) { return entry(key) !== undefined; },
    get: async function (key) {
      if (entry(key) === undefined) throw new Error('no such key');
      return KVS[key];
    }
  };
}};
function run(text, kvs) {
  KVS = JSON.parse(kvs);
  const event = JSON.parse(text);
  const raw = event.rawQuery;
  event.request.rawQueryString = function () { return raw === null ? undefined : raw; };
  handler(event).then(
    function (value) { outcome = JSON.stringify(value); },
    function (error) { outcome = JSON.stringify({thrown: String(error)}); }
  );
}
var KVS = null, outcome = null;
"""


class ViewerRequest:
    """The generated Function in QuickJS, which knows more JavaScript than CloudFront: the source is checked apart."""

    def __init__(self, source: str) -> None:
        self.context = quickjs.Context()
        self.context.set_memory_limit(MEMORY_BYTES)
        self.context.eval(_RUNTIME + source.removeprefix("import cf from 'cloudfront';\n"))

    def __call__(self, event: Mapping[str, Any], kvs: Mapping[str, str] | None = None) -> dict[str, Any]:
        """What the handler returns: a request or a response. `kvs` None: a store that is out of order."""
        self.context.eval("outcome = null")
        self.context.get("run")(json.dumps(event), json.dumps(kvs))
        while self.context.execute_pending_job():
            pass
        found = json.loads(self.context.eval("outcome"))
        assert "thrown" not in found, found
        return found

    def route(self, path: str) -> int:
        """Number of the route of a normalised path, by the Function's own table."""
        segments = f"{json.dumps(path)}.split('/')"
        found = f"ROUTES.findIndex(route => captured(route.split('/'), {segments}))"
        return int(self.context.eval(f"({found} + ROUTES.length) % ROUTES.length"))


def viewer_event(
    target: str,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    cookies: Mapping[str, str] | None = None,
    host: str = DISTRIBUTION,
    country: str | None = None,
) -> dict[str, Any]:
    """A viewer-request event of a Function."""
    path, mark, query = target.partition("?")
    fields = {"host": host, **{name.lower(): value for name, value in (headers or {}).items()}}
    if country is not None:
        fields["cloudfront-viewer-country"] = country
    return {
        "version": "1.0",
        "context": {
            "distributionDomainName": DISTRIBUTION,
            "distributionId": "E1",
            "eventType": "viewer-request",
            "requestId": "req-1",
        },
        "viewer": {"ip": "203.0.113.9"},
        "rawQuery": query if mark else None,
        "request": {
            "method": method,
            "uri": path,
            "querystring": {},
            "headers": {name: {"value": value} for name, value in fields.items()},
            "cookies": {name: {"value": value} for name, value in (cookies or {}).items()},
        },
    }


def origin_event(request: Mapping[str, Any], *, cookies: bool = True) -> dict[str, Any]:
    """The origin-request event of what the Function returned, when CloudFront has nothing stored for it."""
    headers = {name: [{"key": name, "value": field["value"]}] for name, field in request["headers"].items()}
    headers["host"] = [{"key": "Host", "value": "origin.example"}]
    headers["via"] = [{"key": "Via", "value": "2.0 cloudfront"}]
    headers["x-forwarded-for"] = [{"key": "X-Forwarded-For", "value": "203.0.113.9"}]
    if cookies and request["cookies"]:
        text = "; ".join(f"{name}={item['value']}" for name, item in request["cookies"].items())
        headers["cookie"] = [{"key": "Cookie", "value": text}]
    return {
        "Records": [
            {
                "cf": {
                    "config": {
                        "distributionDomainName": DISTRIBUTION,
                        "distributionId": "E1",
                        "eventType": "origin-request",
                        "requestId": "req-1",
                    },
                    "request": {
                        "clientIp": "203.0.113.9",
                        "method": request["method"],
                        "uri": request["uri"],
                        "querystring": request["querystring"],
                        "headers": headers,
                        "origin": {
                            "custom": {
                                "customHeaders": {},
                                "domainName": "origin.example",
                                "path": "",
                                "port": 443,
                                "protocol": "https",
                                "keepaliveTimeout": 60,
                                "readTimeout": 30,
                                "sslProtocols": ["TLSv1.2"],
                            }
                        },
                    },
                }
            }
        ]
    }
