"""Which rate rules of a web ACL count a request (WAF:waf-rule-statement-type-rate-based)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote


def counted_by(web_acl: Mapping[str, Any], path: str) -> Iterator[str]:
    for rule in web_acl.get("Rules", []):
        rate = rule["Statement"].get("RateBasedStatement")
        if rate is not None and ("ScopeDownStatement" not in rate or _holds(rate["ScopeDownStatement"], path)):
            yield str(rule["Name"])


def _holds(statement: Mapping[str, Any], path: str) -> bool:
    ((kind, content),) = statement.items()
    if kind == "NotStatement":
        return not _holds(content["Statement"], path)
    if kind == "AndStatement":
        return all(_holds(each, path) for each in content["Statements"])
    if kind == "OrStatement":
        return any(_holds(each, path) for each in content["Statements"])
    assert kind == "RegexMatchStatement", f"{kind} is not known here"
    assert content["FieldToMatch"] == {"UriPath": {}}, content["FieldToMatch"]
    for change in sorted(content["TextTransformations"], key=lambda each: each["Priority"]):
        assert change["Type"] in {"NONE", "URL_DECODE"}, change
        if change["Type"] == "URL_DECODE":
            path = unquote(path, "latin-1")
    return re.search(content["RegexString"], path) is not None
