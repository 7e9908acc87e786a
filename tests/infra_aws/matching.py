"""What a statement of a web ACL says of a path, as AWS documents it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote


def statement_matches(statement: Mapping[str, Any], path: str) -> bool:
    """Only the kinds that the compiler makes."""
    ((kind, content),) = statement.items()
    match kind:
        case "NotStatement":
            return not statement_matches(content["Statement"], path)
        case "AndStatement":
            return all(statement_matches(each, path) for each in content["Statements"])
        case "OrStatement":
            return any(statement_matches(each, path) for each in content["Statements"])
        case "RegexMatchStatement":
            assert content["FieldToMatch"] == {"UriPath": {}}
            assert [item["Type"] for item in content["TextTransformations"]] == ["URL_DECODE"]
            return re.search(content["RegexString"], unquote(path)) is not None
    raise AssertionError(kind)
