"""CloudFront as far as its functions see it: events, a KeyValueStore, and an engine for the Functions."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from typing import Any

import quickjs

from tests.support.cloudfront_rules import check_function, check_lambda

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
  Promise.resolve(handler(event)).then(
    function (value) { outcome = JSON.stringify(value); },
    function (error) { outcome = JSON.stringify({thrown: String(error)}); }
  );
}
var KVS = null, outcome = null;
"""


class Function:
    """A generated Function in QuickJS, which knows more JavaScript than CloudFront: the source is checked apart."""

    def __init__(self, source: str) -> None:
        self.context = quickjs.Context()
        self.context.set_memory_limit(MEMORY_BYTES)
        self.context.eval(_RUNTIME + source.removeprefix("import cf from 'cloudfront';\n"))

    def __call__(self, event: Mapping[str, Any], kvs: Mapping[str, str] | None = None) -> dict[str, Any]:
        """What the handler returns: a request or a response, which CloudFront would take. `kvs` None: a store that is
        out of order."""
        self.context.eval("outcome = null")
        self.context.get("run")(json.dumps(event), json.dumps(kvs))
        while self.context.execute_pending_job():
            pass
        found = json.loads(self.context.eval("outcome"))
        assert "thrown" not in found, found
        check_function(event, found)
        return found


class ViewerRequest(Function):
    """The viewer-request Function."""

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


def viewer_response_event(
    headers: Mapping[str, str], status: int = 200, request: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """A viewer-response event of a Function."""
    event = viewer_event("/")
    event["context"]["eventType"] = "viewer-response"
    event["request"] = dict(request or event["request"])
    fields = {name: {"value": value} for name, value in headers.items()}
    event["response"] = {"statusCode": status, "statusDescription": "", "headers": fields, "cookies": {}}
    return event


def origin_event(
    request: Mapping[str, Any], *, cookies: bool = True, origin: str = "origin.example", origins: str = ""
) -> dict[str, Any]:
    """The origin-request event of what the Function returned, when CloudFront has nothing stored for it.

    `origin`: domain name of the one that the cache behaviour names. `origins`: its custom header of that name.
    """
    headers = {name: [{"key": name, "value": field["value"]}] for name, field in request["headers"].items()}
    headers["host"] = [{"key": "Host", "value": origin}]
    headers["via"] = [{"key": "Via", "value": "2.0 cloudfront"}]
    headers["x-forwarded-for"] = [{"key": "X-Forwarded-For", "value": "203.0.113.9"}]
    if cookies and request["cookies"]:
        text = "; ".join(f"{name}={item['value']}" for name, item in request["cookies"].items())
        headers["cookie"] = [{"key": "Cookie", "value": text}]
    custom = {"nearshelf-edge-key": [{"key": "nearshelf-edge-key", "value": "secret"}]}
    if origins:
        custom["nearshelf-origins"] = [{"key": "nearshelf-origins", "value": origins}]
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
                                "customHeaders": custom,
                                "domainName": origin,
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


def origin_response_event(
    request: Mapping[str, Any], status: int = 200, headers: Mapping[str, str | list[str]] | None = None
) -> dict[str, Any]:
    """The origin-response event for what an origin-request handler returned."""
    event = {"config": {"distributionDomainName": DISTRIBUTION, "distributionId": "E1", "requestId": "req-1"}}
    event["config"]["eventType"] = "origin-response"
    lines = {name: [value] if isinstance(value, str) else value for name, value in (headers or {}).items()}
    response = {
        "status": str(status),
        "statusDescription": "",
        "headers": {name: [{"key": name.title(), "value": each} for each in values] for name, values in lines.items()},
    }
    return {"Records": [{"cf": {**event, "request": copy.deepcopy(dict(request)), "response": response}}]}


def run_lambda(
    handler: Callable[[Mapping[str, Any], object], dict[str, Any]], event: Mapping[str, Any]
) -> dict[str, Any]:
    """What a Lambda@Edge handler returns, which CloudFront would take; `event` is left as it was."""
    returned = handler(copy.deepcopy(dict(event)), None)
    check_lambda(event, returned)
    return returned
