"""Routes -> cache behaviours: their path patterns, their order, and which of them are needed at all.

CloudFront takes the first behaviour whose pattern matches, as we take the first route, but its patterns know no
segments: `*` runs across slashes, `?` is any one character. So a pattern may take in paths that fall under another
route. Where the order of two behaviours matters, the one comes first whose own paths the other would take.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from cache_policies.market_values import Markets
from edge.core.policy import CachePolicy, PolicySet, parse_pattern

MARKET_PATTERN = "??-???"
"""The shape of every market's id."""
_ANY = "x"
"""A segment that no pattern names."""
_DEEPER = 8
"""Segments more than routes have."""


class Behaviour(NamedTuple):
    """A policy's place in the distribution."""

    policy: CachePolicy
    """The one whose content it has."""
    pattern: str
    """CloudFront's path pattern: `*` for any run of characters, `?` for one."""


class Misfit(NamedTuple):
    """A path that CloudFront gives to the behaviour of another route."""

    path: str
    route: CachePolicy
    """Which the path falls under, here and in the Function."""
    behaviour: Behaviour
    """Which CloudFront takes for it."""


def path_pattern(policy: CachePolicy) -> str:
    """The narrowest CloudFront pattern that takes in everything that the policy's pattern matches.

    It may take in more, because `*` runs across slashes and `??-???` is any market's shape: the Function and the
    handlers match exactly, and what is not stored has a key of its own.
    """
    segments = []
    for part in parse_pattern(policy.path):
        if not part.name:
            segments.append(part.literal)
        else:
            segments.append(MARKET_PATTERN if part.name == "market" else "*")
    return "/" + "/".join(segments)


def ordered_behaviours(policies: PolicySet) -> list[Behaviour]:
    """One behaviour for each pattern but the last route's, which is the default one, in an order that suits all routes.

    Policies whose patterns become the same are one behaviour, under the first of them.
    """
    by_pattern: dict[str, Behaviour] = {}
    for policy in policies.policies[:-1]:
        by_pattern.setdefault(path_pattern(policy), Behaviour(policy, path_pattern(policy)))
    left = list(by_pattern.values())
    after: dict[str, set[str]] = {item.pattern: set() for item in left}
    for one, other in itertools.permutations(left, 2):
        if overlap(one.pattern, other.pattern) and _would_lose(one, other, policies):
            after[other.pattern].add(one.pattern)
    ordered: list[Behaviour] = []
    while left:
        # Behaviours that would take each other's paths keep the order of the policies: see `misfits`.
        free = (item for item in left if not after[item.pattern] & {other.pattern for other in left})
        ordered.append(next(free, left[0]))
        left.remove(ordered[-1])
    return ordered


def needed_behaviours(policies: PolicySet, content: Callable[[CachePolicy], object]) -> list[Behaviour]:
    """The ordered behaviours without those that change nothing.

    A behaviour is left out where all of its paths would get the same content without it: from behaviours behind it
    that are equal to it, up to one that takes in its whole pattern. `content` says what a behaviour consists of.
    """
    behaviours = [*ordered_behaviours(policies), Behaviour(policies.policies[-1], "*")]
    kept: list[Behaviour] = []
    for behaviour in reversed(behaviours):
        if not _repeats(behaviour, kept, content):
            kept.insert(0, behaviour)
    return kept[:-1]


def _repeats(behaviour: Behaviour, behind: Sequence[Behaviour], content: Callable[[CachePolicy], object]) -> bool:
    for later in behind:
        if content(later.policy) == content(behaviour.policy):
            if takes_in(later.pattern, behaviour.pattern):
                return True
        elif overlap(later.pattern, behaviour.pattern):
            return False
    return False


def chosen(behaviours: Sequence[Behaviour], path: str, default: CachePolicy) -> Behaviour:
    """The behaviour that CloudFront takes for a path."""
    for behaviour in behaviours:
        if matches(behaviour.pattern, path):
            return behaviour
    return Behaviour(default, "*")


def misfits(
    policies: PolicySet, behaviours: Sequence[Behaviour], content: Callable[[CachePolicy], object]
) -> Iterator[Misfit]:
    """One path for each route and each behaviour of other content that takes some of the route's paths.

    Found by trying every route's pattern with what the other patterns name, so a pair that overlaps only in names that
    no pattern has is not looked for. Unknown markets are not tried: they have no route of their own.
    """
    default = policies.policies[-1]
    seen: set[tuple[str, str]] = set()
    for policy in policies.policies:
        for behaviour in behaviours:
            if (policy.id, behaviour.pattern) in seen or content(policy) == content(behaviour.policy):
                continue
            for path in _paths(policy, behaviour.policy, policies.markets):
                if (
                    matches(behaviour.pattern, path)
                    and chosen(behaviours, path, default) == behaviour
                    and policies.match(path).policy is policy
                ):
                    seen.add((policy.id, behaviour.pattern))
                    yield Misfit(path, policy, behaviour)
                    break


def _would_lose(one: Behaviour, other: Behaviour, policies: PolicySet) -> bool:
    """Whether some path of the route of `one` would be taken by `other`, if that stood first."""
    return any(
        matches(other.pattern, path) and policies.match(path).policy is one.policy
        for path in _paths(one.policy, other.policy, policies.markets)
    )


def _paths(policy: CachePolicy, other: CachePolicy, markets: Markets) -> Iterator[str]:
    """Paths of a route, made of its own segments and of those that the other route names."""
    market = markets.all[0].id if markets.all else ""
    segments = [market if part.name == "market" else part.literal or _ANY for part in parse_pattern(other.path)]
    words = list(dict.fromkeys([_ANY, *segments]))
    choices: list[list[str]] = []
    for part in parse_pattern(policy.path):
        if part.name == "market":
            choices.append([market])
        elif part.rest:
            choices.append(_runs(words, segments))
        elif part.name:
            choices.append(words)
        else:
            choices.append([part.literal])
    for chosen_segments in itertools.product(*choices):
        yield "/" + "/".join(chosen_segments)


def _runs(words: Sequence[str], segments: Sequence[str]) -> list[str]:
    """What the rest of a path may be: one or two segments; or the other pattern from any place on, with one or many
    segments more in any place, which its stars take in and its route does not."""
    runs = ["/".join(run) for length in (1, 2) for run in itertools.product(words, repeat=length)]
    for start in range(len(segments)):
        tail = segments[start:]
        runs.append("/".join(tail))
        for more, place in itertools.product((1, _DEEPER), range(len(tail) + 1)):
            runs.append("/".join([*tail[:place], *[_ANY] * more, *tail[place:]]))
    return list(dict.fromkeys(run for run in runs if run))


def matches(pattern: str, path: str) -> bool:
    """Whether CloudFront's pattern matches a path."""
    return _regex(pattern).fullmatch(path) is not None


@lru_cache(maxsize=1_000)
def _regex(pattern: str) -> re.Pattern[str]:
    return re.compile("".join({"*": ".*", "?": "."}.get(character, re.escape(character)) for character in pattern))


def takes_in(wide: str, narrow: str) -> bool:
    """Whether every path that pattern `narrow` matches is matched by `wide`."""
    # reached[j]: some path for what was read of `narrow` brings `wide` to position j.
    reached = _with_stars({0}, wide)
    for character in narrow:
        if character == "*":
            # An unknown run must be swallowed by a star that is already reached.
            reached = {j for j in reached if j < len(wide) and wide[j] == "*"}
        else:
            moved = set()
            for j in reached:
                if j == len(wide):
                    continue
                if wide[j] == "*":
                    moved.add(j)
                elif wide[j] == "?" or wide[j] == character:
                    moved.add(j + 1)
            reached = moved
        reached = _with_stars(reached, wide)
    return len(wide) in reached


def overlap(one: str, other: str) -> bool:
    """Whether some path matches both patterns."""
    reached = {(0, 0)}
    todo = [(0, 0)]
    while todo:
        i, j = todo.pop()
        star_one, star_other = one[i : i + 1] == "*", other[j : j + 1] == "*"
        moved = []
        if star_one:
            moved.append((i + 1, j))
        if star_other:
            moved.append((i, j + 1))
        if i < len(one) and j < len(other):
            if star_one and not star_other:
                moved.append((i, j + 1))
            elif star_other and not star_one:
                moved.append((i + 1, j))
            elif not star_one and (one[i] == other[j] or "?" in (one[i], other[j])):
                moved.append((i + 1, j + 1))
        for state in moved:
            if state not in reached:
                reached.add(state)
                todo.append(state)
    return (len(one), len(other)) in reached


def _with_stars(positions: set[int], pattern: str) -> set[int]:
    """The positions, and those behind stars that match nothing."""
    found = set(positions)
    for start in positions:
        for j in range(start, len(pattern)):
            if pattern[j] != "*":
                break
            found.add(j + 1)
    return found
