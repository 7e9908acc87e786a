"""The round trip finds what is wrong: one planted mistake after the other in what was compiled."""

from __future__ import annotations

import json
import shutil
import zipfile
from base64 import b64encode
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from edge.policy_files import load_policies
from tests.support.cloudfront_reader.distribution import Distribution
from tests.treaty.announced import Keys, unexplained
from tests.treaty.generated_requests import generated_requests
from tests.treaty.two_edges import TwoEdges, compiled, parameters_of


class Folder:
    """What was compiled, to be spoilt: the parts that belong together stay so."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.template: dict[str, Any] = json.loads((path / "templates/edge.json").read_text())

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Properties of all resources of a type."""
        resources = self.template["Resources"].values()
        return [each["Properties"] for each in resources if each["Type"] == f"AWS::{kind}"]

    @property
    def config(self) -> dict[str, Any]:
        return dict(self.of("CloudFront::Distribution")[0])["DistributionConfig"]

    def behaviour(self, pattern: str) -> dict[str, Any]:
        return next(each for each in self.config["CacheBehaviors"] if each["PathPattern"] == pattern)

    def function(self, event: str, old: str, new: str) -> None:
        file = self.path / f"functions/{event}.js"
        source = file.read_text()
        assert old in source, f"{event}.js does not say {old!r} any more: this mistake spoils nothing"
        for each in self.of("CloudFront::Function"):
            if each["FunctionCode"] == source:
                each["FunctionCode"] = source.replace(old, new)
        file.write_text(source.replace(old, new))

    def handler(self, event: str, module: str, old: str, new: str) -> None:
        file = self.path / f"lambda/{event}.zip"
        before = b64encode(sha256(file.read_bytes()).digest()).decode()
        with zipfile.ZipFile(file) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        assert old in parts[module].decode(), f"{module} does not say {old!r} any more: this mistake spoils nothing"
        parts[module] = parts[module].decode().replace(old, new).encode()
        with zipfile.ZipFile(file, "w") as archive:
            for name, content in parts.items():
                archive.writestr(name, content)
        for each in self.of("Lambda::Version"):
            if each["CodeSha256"] == before:
                each["CodeSha256"] = b64encode(sha256(file.read_bytes()).digest()).decode()

    def save(self) -> Path:
        (self.path / "templates/edge.json").write_text(json.dumps(self.template))
        return self.path


def _all(folder: Folder, kind: str, change: Callable[[dict[str, Any]], object]) -> None:
    """Change every policy of a kind."""
    for each in folder.of(f"CloudFront::{kind}"):
        change(each[f"{kind}Config"])


def _key(folder: Folder, change: Callable[[list[str]], object]) -> None:
    """Change which fields are in every key."""
    _all(
        folder,
        "CachePolicy",
        lambda policy: change(policy["ParametersInCacheKeyAndForwardedToOrigin"]["HeadersConfig"]["Headers"]),
    )


def _without_the_query(policy: dict[str, Any]) -> None:
    queries = policy["ParametersInCacheKeyAndForwardedToOrigin"]["QueryStringsConfig"]
    queries["QueryStringBehavior"] = "none"


def _swap(folder: Folder, one: str, other: str) -> None:
    first, second = folder.behaviour(one), folder.behaviour(other)
    first["PathPattern"], second["PathPattern"] = other, one


def _detach(folder: Folder, kind: str) -> None:
    for behaviour in folder.config["CacheBehaviors"]:
        behaviour[kind].pop()


_RESPONSE = "edge/lambda_edge/origin_response.py"
_RULES = "edge/core/request_rules.py"
_PATH = "request.uri=path;"

MISTAKES: dict[str, Callable[[Folder], object]] = {
    "the generation is not in the key": lambda it: _key(it, lambda names: names.remove("nearshelf-generation")),
    "the host is not in the key": lambda it: _key(it, lambda names: names.remove("x-forwarded-host")),
    "a field too many in the key": lambda it: _key(it, lambda names: names.append("accept-language")),
    "the query is not in the key": lambda it: _all(it, "CachePolicy", _without_the_query),
    "MinTTL overrides no-store": lambda it: _all(it, "CachePolicy", lambda policy: policy.update(MinTTL=1)),
    "MaxTTL cuts what may be kept": lambda it: _all(it, "CachePolicy", lambda policy: policy.update(MaxTTL=10)),
    "errors are kept for ten seconds": lambda it: it.config.pop("CustomErrorResponses"),
    "tags under another name": lambda it: it.config["CacheTagConfig"].update(HeaderName="Surrogate-Key"),
    "a behaviour is missing": lambda it: it.config["CacheBehaviors"].remove(it.behaviour("/??-???/products/*")),
    "two behaviours have changed places": lambda it: _swap(it, "/??-???/c/*", "/??-???/cart/*"),
    "cookies stay behind": lambda it: _all(
        it, "OriginRequestPolicy", lambda policy: policy.update(CookiesConfig={"CookieBehavior": "none"})
    ),
    "tags of errors reach viewers": lambda it: _all(
        it, "ResponseHeadersPolicy", lambda policy: policy.update(RemoveHeadersConfig={"Items": []})
    ),
    "no viewer-response Function": lambda it: _detach(it, "FunctionAssociations"),
    "no origin-response handler": lambda it: _detach(it, "LambdaFunctionAssociations"),
    "the Function does not sort": lambda it: it.function(
        "viewer-request", "request.querystring=query;", "request.querystring=request.rawQueryString()||'';"
    ),
    "the Function leaves the path as it is": lambda it: it.function("viewer-request", _PATH, ""),
    "the Function leads to another market": lambda it: it.function(
        "viewer-request", "DEFAULT_MARKET='us-usd'", "DEFAULT_MARKET='jp-jpy'"
    ),
    "the Function writes what it must not": lambda it: it.function(
        "viewer-request", _PATH, f"{_PATH}headers.via={{value:'x'}};"
    ),
    "one second more": lambda it: it.handler("origin-response", _RESPONSE, "{int(fresh_s)}", "{int(fresh_s) + 1}"),
    "silence about errors": lambda it: it.handler("origin-response", _RESPONSE, ", stale-if-error={int(error_s)}", ""),
    "the handler asks for no position": lambda it: it.handler(
        "origin-request", _RULES, "pairs.append((MIN_VERSION_FIELD, str(minimum)))", "pass"
    ),
    "the handler knows no country": lambda it: it.handler(
        "origin-request", _RULES, "pairs.append((COUNTRY_FIELD, country))", "pass"
    ),
}


async def test_planted_mistakes_are_found(tmp_path: Path) -> None:
    policies = load_policies()
    clean = compiled(None, tmp_path / "clean")
    unnoticed: dict[str, str] = {}
    async with TwoEdges(policies, clean, tmp_path) as edges:
        recorded = [(sent, await edges.at_gateway_afresh(sent)) for sent in generated_requests(policies, 600, seed=21)]
        for name, spoil in {"nothing": lambda it: None, **MISTAKES}.items():
            folder = Folder(Path(shutil.copytree(clean, tmp_path / "spoilt")))
            spoil(folder)
            keys, used, found = Keys(), Counter[str](), Counter[str]()
            with Distribution(folder.save(), parameters_of(policies)) as distribution:
                for sent, ours in recorded:
                    both = edges.both(sent, ours, distribution)
                    found.update(each.what for each in [*unexplained(both, used), *keys.faults(both)])
                    if found and name != "nothing":
                        break
            shutil.rmtree(folder.path)
            if bool(found) is (name == "nothing"):
                unnoticed[name] = f"{dict(found)}"
    assert unnoticed == {}
