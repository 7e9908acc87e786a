"""All cases, by chapter."""

from __future__ import annotations

from tests.conformance.cases import (
    cache_control,
    concurrency,
    freshness,
    heuristics,
    invalidation,
    messages,
    preconditions,
    purge,
    ranges,
    requests,
    stale,
    status,
    storing,
    targeted,
    validation,
    vary,
    visible,
)
from tests.conformance.script import Case

CHAPTERS: dict[str, tuple[Case, ...]] = {
    "Lifetimes": freshness.LIFETIMES,
    "Age": freshness.AGES,
    "Expires": freshness.EXPIRES,
    "Date": freshness.DATES,
    "Cache-Control as text": cache_control.CASES,
    "Heuristics": heuristics.CASES,
    "Statuses": status.CASES,
    "What is not kept": storing.FORBIDDEN,
    "Cookies": storing.COOKIES,
    "Methods": storing.METHODS,
    "Keys": storing.KEYS,
    "Answers cut short": storing.CUTS,
    "Fields": storing.FIELDS,
    "Vary": vary.CASES,
    "Validation": validation.ASKING,
    "Freshening": validation.FRESHENING,
    "Preconditions": preconditions.PRECONDITIONS,
    "HEAD": preconditions.HEAD,
    "Invalidation": (*invalidation.METHODS, *invalidation.NAMED, *invalidation.SAFE_NAMED),
    "Groups": invalidation.GROUPS,
    "Stale while revalidating": stale.WHILE_REVALIDATE,
    "Stale on errors": stale.IF_ERROR,
    "Stale unasked": stale.UNASKED,
    "Targeted fields": targeted.CASES,
    "Ranges": ranges.FROM_WHOLE,
    "Partial answers": ranges.FROM_PARTS,
    "Request directives": requests.DIRECTIVES,
    "Authorization": requests.CREDENTIALS,
    "Hop by hop": requests.HOPS,
    "Interim responses": messages.INTERIM,
    "Form of messages": messages.MESSAGES,
    "Many at once": concurrency.CASES,
    "Cache-Status": visible.CASES,
    "Purges": purge.CASES,
}

CASES: tuple[Case, ...] = tuple(case for chapter in CHAPTERS.values() for case in chapter)
BY_ID: dict[str, Case] = {case.id: case for case in CASES}
