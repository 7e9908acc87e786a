"""docs/load-testing.md names every scenario, every field and every figure, in the words of the code.

    python -m tests.loadtests.test_load_docs

writes the tables into the page anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from cache_policies.kinds import Field
from loadtests.measures import _TIMES, MEASURES
from loadtests.people_file import PEOPLE_FIELDS
from loadtests.scenario_files import (
    ACT_FIELDS,
    PHASE_FIELDS,
    REPLAY_FIELDS,
    SCENARIO_FIELDS,
    SHAPE_FIELDS,
    load_scenario,
    scenario_names,
)

PAGE = Path(__file__).parents[2] / "docs" / "load-testing.md"


def fields(*found: Field[Any], of: str = "field") -> list[str]:
    return [f"| {of} | value | default | meaning |", "|---|---|---|---|", *(each.documented for each in found)]


def scenarios() -> Iterable[str]:
    yield "| scenario | seconds | requests a second | what happens |"
    yield "|---|---|---|---|"
    for name in scenario_names():
        scenario = load_scenario(name)
        length = f"{scenario.warmup_s:g} + {scenario.duration_s:g}"
        yield f"| `{name}` | {length} | {scenario.rate:g} | {scenario.description} |"


def deeds() -> Iterable[str]:
    yield "| deed | field | value | default | meaning |"
    yield "|---|---|---|---|---|"
    for act, known in ACT_FIELDS.items():
        for each in known:
            yield f"| `{act}` {each.documented}"


def thresholds() -> Iterable[str]:
    yield "| figure | of | may name | meaning |"
    yield "|---|---|---|---|"
    for family, (labels, meaning) in _TIMES.items():
        yield f"| `{f'{family}_' if family else ''}p99` | time | {', '.join(labels) or '-'} | {meaning} |"
    for name, measure in MEASURES.items():
        yield f"| `{name}` | {measure.kind.value} | {', '.join(measure.labels) or '-'} | {measure.meaning} |"


def shapes() -> Iterable[str]:
    yield "| shape | field | value | default | meaning |"
    yield "|---|---|---|---|---|"
    for kind, known in SHAPE_FIELDS.items():
        for each in known:
            yield f"| `{kind}` {each.documented}"


TABLES: dict[str, list[str]] = {
    "scenarios": list(scenarios()),
    "fields": fields(*(each for each in SCENARIO_FIELDS if each not in PEOPLE_FIELDS)),
    "shapes": list(shapes()),
    "people": fields(*PEOPLE_FIELDS),
    "phases": fields(*PHASE_FIELDS),
    "deeds": list(deeds()),
    "replay": fields(*REPLAY_FIELDS),
    "thresholds": list(thresholds()),
}


def marked(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- table: {name} -->\n).*?(<!-- end -->)", re.DOTALL)


@pytest.mark.parametrize("name", TABLES)
def test_the_page_has_what_the_code_says(name):
    found = marked(name).search(PAGE.read_text("utf-8"))
    assert found is not None
    told = found[0].splitlines()[1:-1]
    assert told == TABLES[name], "write it anew: python -m tests.loadtests.test_load_docs"


def write() -> None:
    text = PAGE.read_text("utf-8")
    for name, rows in TABLES.items():
        found = marked(name).search(text)
        assert found is not None
        text = text[: found.end(1)] + "\n".join(rows) + "\n" + text[found.start(2) :]
    PAGE.write_text(text, "utf-8")


if __name__ == "__main__":
    write()
