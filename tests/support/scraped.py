"""The answer to a scrape, as a test asks about it."""

from __future__ import annotations

from dataclasses import dataclass, field

import httpx
from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True)
class Scrape:
    """`samples`: by name and labels. `kinds`: by the name that the text gives a family, `_total` included."""

    samples: dict[tuple[str, tuple[tuple[str, str], ...]], float] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    labels: dict[str, frozenset[str]] = field(default_factory=dict)
    """By the same, without `le`; a family without samples has none."""

    @classmethod
    def of(cls, text: str) -> Scrape:
        found = cls()
        for family in text_string_to_metric_families(text):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            assert name not in found.kinds, f"{name} is there twice"
            found.kinds[name] = family.type
            for sample in family.samples:
                key = sample.name, tuple(sorted(sample.labels.items()))
                assert key not in found.samples, f"{key} is there twice"
                found.samples[key] = sample.value
                names = frozenset(sample.labels) - {"le"}
                assert found.labels.setdefault(name, names) == names, f"{name} has now these labels, now those"
        return found

    def total(self, name: str, **labels: str) -> float:
        """The sum of all samples of that name with these labels."""
        return sum(
            value
            for (found, pairs), value in self.samples.items()
            if found == name and labels.items() <= dict(pairs).items()
        )

    def rows(self, name: str, *labels: str) -> dict[tuple[str, ...], float]:
        """The samples of that name that are not 0, by the values of these labels; those that are alike added up."""
        rows: dict[tuple[str, ...], float] = {}
        for (found, pairs), value in self.samples.items():
            if found == name and value:
                values = tuple(dict(pairs)[label] for label in labels)
                rows[values] = rows.get(values, 0.0) + value
        return rows


async def scrape(url: str, token: str) -> Scrape:
    """What the admin listener, or the origin, at `url` exports."""
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        answer = await client.get(f"{url}/metrics", headers={"authorization": f"Bearer {token}"})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return Scrape.of(answer.text)
