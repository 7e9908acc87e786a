"""The tags of a response: those that its fields name, and those that a policy adds."""

from __future__ import annotations

from collections.abc import Iterable

from cache_policies.percent import percent_decoded
from cache_policies.tags import filled_tag, site_tag
from edge.core.policy import Match


def policy_tags(match: Match) -> tuple[str, ...]:
    """The policy's `tags` with what the path captured, in their order; each name once.

    Bytes of the path that are not UTF-8 count as U+FFFD: such addresses share a tag, which purges too much, never too
    little.
    """
    if not match.policy.tags:
        return ()
    captured = {
        name: percent_decoded(text.encode()).decode("utf-8", "replace") for name, text in match.captured.items()
    }
    return tuple(dict.fromkeys([filled_tag(template, captured) for template in match.policy.tags]))


def field_tags(names: Iterable[str]) -> list[str]:
    """The tags that `names`, read from fields, stand for; empty ones name nothing.

    Fields are bytes, which `Headers` shows decoded as Latin-1; what no byte decodes to, somebody typed for a try.
    """
    return [site_tag(name.encode("latin-1", "replace")) for name in names if name]
