"""The tags that a policy adds to those of the response."""

from __future__ import annotations

from cache_policies.percent import percent_decoded
from cache_policies.tags import filled_tag
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
