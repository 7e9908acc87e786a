"""`nearshelf policy diff A B`: what edges do otherwise under other policies, route by route and address by address.

Semantic: files, comments, defaults and the order of routes that never meet make no difference. Whether an order
matters is found out by asking both sets of policies about addresses that two routes could answer.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from cache_policies.codes import Severity
from cache_policies.folder import folder_called
from cache_policies.market_values import Markets
from cache_policies.origins import Origins
from cache_policies.reading import Place
from edge.core.policy import CachePolicy, PatternPart, PolicySet, parse_pattern
from edge.policy_checks import LIFETIME_FIELDS
from edge.policy_files import read_policies
from edge.policy_lints import estimated_variants
from edge.route_fields import ROUTE_FIELDS
from infra.errors import CommandError

CHANGED = 2
"""Exit status when there is a change."""
PACKAGED_FOLDER = "cache_policies"
_UNKNOWN_MARKET = "xx-xxx"
_ANY = "x"


class Kind(StrEnum):
    """What a change of a field is about."""

    KEY = "key"
    LIFETIME = "lifetime"
    STORE = "store"
    RULE = "rule"


_KEY_FIELDS = frozenset({"query", "vary", "request_fields", "generation"})
_LIFETIME_FIELDS = frozenset(LIFETIME_FIELDS)
_STORE_FIELDS = frozenset({"store", "data_class", "methods", "statuses"})
_WORDS: dict[tuple[str, Any], str] = {
    ("statuses", True): "any",
    ("statuses", False): "cacheable",
    ("request_directives", True): "honour",
    ("request_directives", False): "ignore",
    ("vary", "*"): "any",
    ("request_fields", "*"): "all",
    ("forward_methods", "*"): "all",
    ("query", "*"): "all",
}
"""Values as policies write them."""


class Change(NamedTuple):
    """One thing that is not as it was; of a list, one member."""

    field: str
    kind: Kind
    before: str | None
    """None: it is new."""
    after: str | None
    """None: it is gone."""
    at: str | None
    """file:line after, else before."""


@dataclass(frozen=True, slots=True)
class RouteDiff:
    """A route on one side or both."""

    id: str
    what: str
    """added, removed, changed or renamed."""
    at: str
    changes: tuple[Change, ...]
    before: CachePolicy | None
    after: CachePolicy | None

    @property
    def stored(self) -> tuple[bool | None, bool | None]:
        """Whether anything of it is kept, before and after; None where there is no such route."""
        return (
            self.before.store if self.before is not None else None,
            self.after.store if self.after is not None else None,
        )

    @property
    def dangerous(self) -> bool:
        """It was never stored, and now is."""
        return self.stored == (False, True)


@dataclass(frozen=True, slots=True)
class Moved:
    """Addresses that another route answers now, though both routes were there before, or one took them over."""

    before: CachePolicy
    after: CachePolicy
    example: str
    count: int
    """Of the sample addresses."""

    @property
    def dangerous(self) -> bool:
        """They were never stored, and are now."""
        return self.after.store and not self.before.store


@dataclass(frozen=True, slots=True)
class Diff:
    before: Side
    after: Side
    routes: tuple[RouteDiff, ...]
    moved: tuple[Moved, ...]
    markets: tuple[Change, ...]
    origins: tuple[Change, ...]
    samples: int

    @property
    def changed(self) -> bool:
        return bool(self.routes or self.moved or self.markets or self.origins)

    @property
    def dangers(self) -> tuple[str, ...]:
        """What becomes storable, in words."""
        found = [f"{route.id} ({route.at}) becomes cacheable" for route in self.routes if route.dangerous]
        found += [
            f"{moved.example} was never stored ({moved.before.id}) and now is ({moved.after.id})"
            for moved in self.moved
            if moved.dangerous
        ]
        return tuple(found)


# -- sides -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Side:
    """Policies to compare: a folder's, or a revision's."""

    name: str
    policies: PolicySet
    places: Mapping[str, Mapping[str, Place]]

    def writes(self, policy: CachePolicy, field: str) -> bool:
        """Whether the route or the defaults of its file say what the field is."""
        place = self.places.get(policy.id, {}).get(field)
        return place is not None and place.file == policy.where.partition(":")[0]

    def at(self, policy: CachePolicy, field: str) -> str:
        """file:line of a field, else of its route."""
        place = self.places.get(policy.id, {}).get(field)
        return f"{place.file}:{place.line}" if place else policy.where.rpartition(":")[0]


def read_side(name: str) -> Side:
    """The policies of a folder, of a profile by its name, or of `REV:FOLDER` in the git repository here; of `REV`
    alone, its cache_policies.

    Raises CommandError when there are none, or no edge would start with them.
    """
    if (folder := folder_called(name)).is_dir():
        return _side(name, folder)
    with _revision(name) as folder:
        return _side(name, folder)


def _side(name: str, folder: Path) -> Side:
    found = read_policies(folder)
    if found.policies is None:
        first = next((fault for fault in found.faults if fault.severity is Severity.ERROR), "")
        raise CommandError(f"no edge would start with the policies in {name}: {first}")
    return Side(name, found.policies, found.places)


@contextmanager
def _revision(name: str) -> Iterator[Path]:
    revision, colon, folder = name.partition(":")
    git = shutil.which("git")
    if git is None:
        raise CommandError(
            f"{name} is neither a folder nor a profile, and there is no git here to look for it in a revision"
        )
    tree = _git(git, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}:{folder or PACKAGED_FOLDER}")
    if tree is None or not revision:
        where = f"{revision}:{folder}" if colon else f"{revision}:{PACKAGED_FOLDER}"
        raise CommandError(f"{name} is neither a folder nor, as {where}, a folder of a git revision here")
    top = (_git(git, "rev-parse", "--show-toplevel") or b".").decode().strip()
    archive = _git(git, "-C", top, "archive", "--format=tar", tree.decode().strip())
    if archive is None:
        raise CommandError(f"{name} is a file of that revision, expected a folder of *.yaml files")
    with tempfile.TemporaryDirectory(prefix="nearshelf-diff-") as scratch:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(scratch, filter="data")
        yield Path(scratch)


def _git(*command: str) -> bytes | None:
    """What git prints; None when it does not know."""
    run = subprocess.run(command, capture_output=True, check=False)
    return run.stdout if run.returncode == 0 else None


# -- comparing ---------------------------------------------------------------------------------------------------------


def compare(before: Side, after: Side) -> Diff:
    """Everything that edges with the policies of `after` do otherwise than edges with those of `before`."""
    samples = sample_paths(before.policies, after.policies)
    routes = tuple(_routes(before, after))
    return Diff(
        before,
        after,
        routes,
        tuple(_moved(before.policies, after.policies, samples, routes)),
        tuple(_markets(before.policies.markets, after.policies.markets)),
        tuple(_origins(before.policies.origins, after.policies.origins)),
        len(samples),
    )


def _routes(before: Side, after: Side) -> Iterator[RouteDiff]:
    old = {policy.id: policy for policy in before.policies.policies}
    new = {policy.id: policy for policy in after.policies.policies}
    gone = [policy for policy in old.values() if policy.id not in new]
    for policy in after.policies.policies:
        earlier = old.get(policy.id)
        if earlier is None:
            renamed = next((each for each in gone if replace(each, id=policy.id).version == policy.version), None)
            if renamed is None:
                yield RouteDiff(policy.id, "added", after.at(policy, ""), tuple(_added(policy, after)), None, policy)
                continue
            gone.remove(renamed)
            change = Change("id", Kind.RULE, renamed.id, policy.id, after.at(policy, ""))
            yield RouteDiff(policy.id, "renamed", after.at(policy, ""), (change,), renamed, policy)
        elif changes := tuple(_changes(earlier, policy, before, after)):
            yield RouteDiff(policy.id, "changed", after.at(policy, ""), changes, earlier, policy)
    for policy in gone:
        change = Change("path", Kind.RULE, policy.path, None, before.at(policy, "path"))
        yield RouteDiff(policy.id, "removed", before.at(policy, ""), (change,), policy, None)


def _added(policy: CachePolicy, after: Side) -> Iterator[Change]:
    yield Change("path", Kind.RULE, None, policy.path, after.at(policy, "path"))
    if policy.store:
        yield Change("store", Kind.STORE, None, "true", after.at(policy, "store"))


def _changes(old: CachePolicy, new: CachePolicy, before: Side, after: Side) -> Iterator[Change]:
    for field in ROUTE_FIELDS:
        was, now = getattr(old, field.becomes), getattr(new, field.becomes)
        if was == now:
            continue
        name = field.name
        at = after.at(new, name)
        if not (before.writes(old, name) or after.writes(new, name)):
            # It follows from another field, or from markets.yaml, which is told of by itself.
            continue
        kind = Kind.RULE
        for of_kind, names in ((Kind.KEY, _KEY_FIELDS), (Kind.LIFETIME, _LIFETIME_FIELDS), (Kind.STORE, _STORE_FIELDS)):
            kind = of_kind if name in names else kind
        if isinstance(was, tuple) and isinstance(now, tuple) and not hasattr(now, "_fields"):
            yield from _members(name, kind, was, now, at)
            continue
        yield Change(name, kind, _shown(name, was), _shown(name, now), at)


def _members(name: str, kind: Kind, was: tuple[Any, ...], now: tuple[Any, ...], at: str) -> Iterator[Change]:
    for member in was:
        if member not in now:
            yield Change(name, kind, _shown(name, member), None, at)
    for member in now:
        if member not in was:
            yield Change(name, kind, None, _shown(name, member), at)
    if was != now and sorted(map(str, was)) == sorted(map(str, now)):
        yield Change(f"order of {name}", kind, " ".join(map(str, was)), " ".join(map(str, now)), at)


def _shown(name: str, value: Any) -> str:
    """A value as people read it."""
    if isinstance(value, str | bool) and (name, value) in _WORDS:
        return _WORDS[name, value]
    if name == "heuristic":
        return f"{value} %"
    if name == "negative" and isinstance(value, tuple):
        return f"{value[0]}: {value[1]:g} s"
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "none"
    if hasattr(value, "rate_per_s"):
        return f"{value.rate_per_s:g}/s, {value.burst} at once"
    if isinstance(value, float):
        return f"{value:g} s"
    return str(value) or "none"


def _moved(before: PolicySet, after: PolicySet, samples: Iterable[str], routes: Iterable[RouteDiff]) -> Iterator[Moved]:
    """Sample addresses that fall under another route. An address of a route whose own pattern is what changed says
    nothing new, unless it is stored now and was not."""
    told = {route.id: route for route in routes}
    found: dict[tuple[str, str], list[str]] = {}
    for path in samples:
        old, new = before.match(path).policy, after.match(path).policy
        if old.id == new.id:
            continue
        renamed = told.get(new.id)
        if (
            renamed is not None
            and renamed.what == "renamed"
            and renamed.before is not None
            and renamed.before.id == old.id
        ):
            continue
        found.setdefault((old.id, new.id), []).append(path)
    for paths in found.values():
        yield Moved(before.match(paths[0]).policy, after.match(paths[0]).policy, paths[0], len(paths))


def _markets(before: Markets, after: Markets) -> Iterator[Change]:
    if before.default != after.default:
        yield Change("default", Kind.RULE, before.default or None, after.default or None, None)
    for market in before.all:
        if after.by_id(market.id) is None:
            yield Change(f"market {market.id}", Kind.RULE, market.name, None, None)
    for market in after.all:
        earlier = before.by_id(market.id)
        if earlier is None:
            yield Change(f"market {market.id}", Kind.RULE, None, market.name, None)
            continue
        for name in ("name", "country", "currency", "language", "tax_display", "jurisdiction"):
            was, now = str(getattr(earlier, name)), str(getattr(market, name))
            if was != now:
                yield Change(f"{name} of {market.id}", Kind.RULE, was, now, None)
    countries = {country for each in (before, after) for market in each.all for country in market.countries}
    for country in sorted(countries) if before.all and after.all else ():
        was, now = before.for_country(country).id, after.for_country(country).id
        if was != now:
            yield Change(f"visitors from {country}", Kind.RULE, was, now, None)
    yield from _members("blocked", Kind.RULE, before.blocked, after.blocked, "markets.yaml")
    currencies = sorted({currency for each in (before, after) for currency, _ in each.rounding})
    for currency in currencies:
        old, new = before.rounding_of(currency), after.rounding_of(currency)
        if old != new:
            yield Change(f"rounding of {currency}", Kind.RULE, str(old), str(new), None)


def _origins(before: Origins, after: Origins) -> Iterator[Change]:
    if before.default != after.default:
        yield Change("default origin", Kind.RULE, before.default, after.default, None)
    names = dict.fromkeys([origin.name for each in (before, after) for origin in each.all])
    known, now_known = ({origin.name: origin for origin in each.all} for each in (before, after))
    for name in names:
        was, now = known.get(name), now_known.get(name)
        if was is None or now is None:
            yield Change(
                f"origin {name}", Kind.RULE, None if was is None else name, None if now is None else name, None
            )
            continue
        for field in fields(now):
            old, new = getattr(was, field.name), getattr(now, field.name)
            if old != new:
                yield Change(f"{field.name} of {name}", Kind.RULE, str(old), str(new), None)


# -- sample addresses --------------------------------------------------------------------------------------------------


def sample_paths(*sets: PolicySet) -> tuple[str, ...]:
    """Addresses for each pattern alone, and for each pair of patterns some that both match, where there are any.

    Where two routes overlap, the order decides, unless a third one comes before both. What is captured is filled with
    words that no pattern names, and rests are made longer than any pattern: a third pattern that takes in such an
    address takes in every address of its length that the two share.
    """
    patterns = list(dict.fromkeys(policy.path for policies in sets for policy in policies.policies))
    parsed = [parse_pattern(pattern) for pattern in patterns]
    named = {part.literal for parts in parsed for part in parts}
    markets = list(dict.fromkeys(market.id for policies in sets for market in policies.markets.all))
    unnamed = [market for market in markets if market not in named] or markets
    # A market of one side only is none on the other.
    one_sided = [each for each in markets if any(policies.markets.by_id(each) is None for policies in sets)]
    fill = _Fill(
        _unnamed(_ANY, named),
        tuple(dict.fromkeys([*unnamed[:1], *one_sided, _unnamed(_UNKNOWN_MARKET, named | set(markets))])),
        max(len(parts) for parts in parsed) + 1,
    )
    found: dict[str, None] = {}
    for number, one in enumerate(parsed):
        for other in parsed[number:]:
            for market in fill.markets:
                found.update(dict.fromkeys(_common(one, other, market, fill)))
    return tuple(found)


class _Fill(NamedTuple):
    """What captures are filled with."""

    word: str
    """That no pattern names."""
    markets: tuple[str, ...]
    segments: int
    """More than any pattern has."""


def _unnamed(word: str, named: Container[str]) -> str:
    """`word`, or longer, so that it is none of `named`."""
    while word in named:
        word += word[-1]
    return word


def _common(one: tuple[PatternPart, ...], other: tuple[PatternPart, ...], market: str, fill: _Fill) -> Iterator[str]:
    """Paths that both patterns may match, with `market` where a market is wanted: one for each number of segments."""
    segments: list[str] = []
    for number in range(max(len(one), len(other))):
        ours = one[number] if number < len(one) else None
        theirs = other[number] if number < len(other) else None
        if (ours is not None and ours.rest) or (theirs is not None and theirs.rest):
            yield from _ends(segments, other[number:] if ours is not None and ours.rest else one[number:], market, fill)
            return
        segment = None if ours is None or theirs is None else _both(ours, theirs, market, fill.word)
        if segment is None:
            return
        segments.append(segment)
    yield "/" + "/".join(segments)


def _ends(segments: list[str], rest: tuple[PatternPart, ...], market: str, fill: _Fill) -> Iterator[str]:
    """What a rest takes in of what the other pattern goes on with."""
    path = [*segments, *(_both(part, part, market, fill.word) or "" for part in rest if not part.rest)]
    if not (rest and rest[-1].rest):
        if path != [*segments, ""] and len(path) > len(segments):
            yield "/" + "/".join(path)
        return
    while len(path) < fill.segments:
        path.append(fill.word)
        yield "/" + "/".join(path)
        yield "/" + "/".join(path) + "/"


def _both(one: PatternPart, other: PatternPart, market: str, word: str) -> str | None:
    """A segment that both parts match; None: there is none."""
    if not one.name and not other.name:
        return one.literal if one.literal == other.literal else None
    if not one.name or not other.name:
        return one.literal or other.literal or None
    return market if "market" in {one.name, other.name} else word


# -- renderings --------------------------------------------------------------------------------------------------------


def as_json(diff: Diff) -> dict[str, Any]:
    """Everything, for programs."""
    return {
        "before": {"name": diff.before.name, "digest": diff.before.policies.digest},
        "after": {"name": diff.after.name, "digest": diff.after.policies.digest},
        "changed": diff.changed,
        "dangers": list(diff.dangers),
        "routes": [
            {
                "id": route.id,
                "what": route.what,
                "at": route.at,
                "dangerous": route.dangerous,
                "stored": {"before": route.stored[0], "after": route.stored[1]},
                "variants": dict(zip(("before", "after"), _variants(route), strict=True)),
                "changes": [each._asdict() for each in route.changes],
            }
            for route in diff.routes
        ],
        "moved": [
            {
                "before": moved.before.id,
                "after": moved.after.id,
                "example": moved.example,
                "samples": moved.count,
                "dangerous": moved.dangerous,
            }
            for moved in diff.moved
        ],
        "markets": [each._asdict() for each in diff.markets],
        "origins": [each._asdict() for each in diff.origins],
        "samples": diff.samples,
    }


def _variants(route: RouteDiff) -> tuple[int | None, int | None]:
    """Answers that one URL may have, before and after; None where nothing is stored."""
    before, after = (
        estimated_variants(policy) if policy is not None and policy.store else None
        for policy in (route.before, route.after)
    )
    return before, after


def as_text(diff: Diff) -> str:
    """For people at a desk."""
    return "\n".join(_text(diff)) + "\n"


def _text(diff: Diff) -> Iterator[str]:
    yield f"{diff.before.name} ({diff.before.policies.digest}) -> {diff.after.name} ({diff.after.policies.digest})"
    if not diff.changed:
        same = "equal" if diff.before.policies.digest == diff.after.policies.digest else "reordered, and equal"
        yield f"no change: {same} for {diff.samples} sample addresses"
        return
    for danger in diff.dangers:
        yield f"DANGEROUS  {danger}"
    for route in diff.routes:
        yield ""
        yield f"{route.what:<10} {route.id} ({route.at})"
        for change in route.changes:
            yield f"           {_line(change)}"
        yield from (f"           {text}" for text in _consequences(route))
    if diff.moved:
        yield ""
        yield f"addresses that another route answers (of {diff.samples} samples)"
        for moved in diff.moved:
            yield f"           {moved.example}: {moved.before.id} -> {moved.after.id}{_stored_now(moved)}"
    for title, changes in (("markets", diff.markets), ("origins", diff.origins)):
        if changes:
            yield ""
            yield title
            yield from (f"           {_line(change)}" for change in changes)


def _line(change: Change) -> str:
    at = f"  {change.at}" if change.at else ""
    if change.before is None:
        return f"+ {change.kind} {change.field}: {change.after}{at}"
    if change.after is None:
        return f"- {change.kind} {change.field}: {change.before}{at}"
    return f"~ {change.kind} {change.field}: {change.before} -> {change.after}{at}"


def _consequences(route: RouteDiff) -> Iterator[str]:
    before, after = route.stored
    if before is False and after:
        yield "becomes cacheable"
    elif before and after is False:
        yield "is not cacheable any more"
    variants = _variants(route)
    if variants[0] != variants[1] and None not in variants:
        yield f"variants per URL: {variants[0]} -> {variants[1]}"
    if before and after and route.what == "changed":
        yield "what is stored of it counts as absent: the policy's version is another"


def _stored_now(moved: Moved) -> str:
    if moved.dangerous:
        return ", stored now and never before"
    if moved.before.store and not moved.after.store:
        return ", not stored any more"
    return ""


def as_markdown(diff: Diff) -> str:
    """For the description of a pull request."""
    return "\n".join(_markdown(diff)) + "\n"


def _markdown(diff: Diff) -> Iterator[str]:
    yield f"### Cache policies: `{diff.before.policies.digest}` → `{diff.after.policies.digest}`"
    yield ""
    if not diff.changed:
        yield "No change."
        return
    for danger in diff.dangers:
        yield f"> :warning: **{_cell(danger)}**"
        yield ">"
    if diff.dangers:
        yield ""
    if diff.routes:
        yield "| route | what | field | before | after |"
        yield "|---|---|---|---|---|"
        for route in diff.routes:
            for number, change in enumerate(route.changes):
                name = f"`{route.id}` {route.at}" if number == 0 else ""
                what = route.what if number == 0 else ""
                before, after = (
                    f"`{_cell(each)}`" if each is not None else "" for each in (change.before, change.after)
                )
                yield f"| {name} | {what} | {change.kind} `{change.field}` | {before} | {after} |"
            for text in _consequences(route):
                yield f"| | | {text} | | |"
        yield ""
    if diff.moved:
        yield "| address | before | after | |"
        yield "|---|---|---|---|"
        for moved in diff.moved:
            note = _stored_now(moved).removeprefix(", ")
            yield f"| `{_cell(moved.example)}` | `{moved.before.id}` | `{moved.after.id}` | {note} |"
        yield ""
    for title, changes in (("Markets", diff.markets), ("Origins", diff.origins)):
        if changes:
            yield f"**{title}**"
            yield ""
            yield from (f"- `{_cell(_line(change))}`" for change in changes)
            yield ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("`", "'").replace("\n", " ")
