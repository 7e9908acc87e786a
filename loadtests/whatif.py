"""Is what `nearshelf policy diff --replay` predicts what then really happens?

A shop is run under policies A with access logs; what other policies would make of the same requests is predicted from
them; and then the same requests are really made under those.

    python -m loadtests.whatif [--seed 1] [--rate 50] [--duration 60] [--only shorter,longer] [--keep DIR] [--json]

Every run is a shop of its own on free ports, made anew from the same seed, and ended. Lifetimes are seconds where the
shop's are minutes, so that a run of a minute shows what a day would. Exit status: 0 every hit ratio was predicted to
within two points, in all and for each route that is asked often enough; 1 one was not; 2 a run could not start; 3 a run
was invalid.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from cache_policies.reading import PACKAGED_POLICIES
from loadtests.bench.measuring import BenchError
from loadtests.bench.shops import running_shop
from loadtests.recorder.run import HIT_STATUSES, MISS_STATUSES, BadRun, Run, read_run

ORIGIN_LOG = "origin.access.log"
SCENARIO = Path(__file__).with_suffix(".yaml")
OFF_BY_POINTS = 2.0
"""How far a prediction may be from what is measured."""
ASKED_OFTEN = 400
"""Requests of a route, below which its hit ratio is shown and not judged: chance alone moves it by points."""
NOTED = "utm_source"
"""A parameter that no policy of the shop counts, and that the logs are to tell (NEARSHELF_ACCESS_LOG_QUERY)."""
COMMAND = (sys.executable, "-m", "infra.cli")


class Edit(NamedTuple):
    """One change of a policy file."""

    file: str
    was: str
    now: str


BEFORE = (
    Edit("catalog.yaml", "fresh: 300s", "fresh: 20s"),
    Edit("catalog.yaml", "stale_while_revalidate: 600s", "stale_while_revalidate: 10s"),
    Edit("prices.yaml", "fresh: 300s", "fresh: 20s"),
)
"""Policies A: those of the shop, with lifetimes of seconds."""

PRODUCT_PAGE = """\
  product-page:
    path: /{market}/products/{slug}
    query: [variant]
"""
KEPT_BY_PRODUCT = "    generation: product\n"
"""A route that is moved out of a file with lifetimes for all, and what only one that is stored says."""

CHANGES: dict[str, tuple[Edit, ...]] = {
    "shorter": (
        Edit("catalog.yaml", "fresh: 20s", "fresh: 6s"),
        Edit("catalog.yaml", "stale_while_revalidate: 10s", "stale_while_revalidate: 0s"),
        Edit("prices.yaml", "fresh: 20s", "fresh: 6s"),
    ),
    "longer": (
        Edit("catalog.yaml", "fresh: 20s", "fresh: 120s"),
        Edit("catalog.yaml", "stale_while_revalidate: 10s", "stale_while_revalidate: 0s"),
        Edit("prices.yaml", "fresh: 20s", "fresh: 60s"),
    ),
    "keys": (
        Edit("catalog.yaml", "query: [sort, page]", "query: [page]"),
        Edit("catalog.yaml", "query: [variant]", f"query: [variant, {NOTED}]"),
        Edit("catalog.yaml", "fresh: 20s", "fresh: 60s"),
    ),
    "not-stored": (
        Edit("catalog.yaml", f"\n{PRODUCT_PAGE}{KEPT_BY_PRODUCT}", ""),
        Edit("default.yaml", "  default:\n", f"{PRODUCT_PAGE}    store: false\n\n  default:\n"),
        Edit("catalog.yaml", "stale_while_revalidate: 10s", "stale_while_revalidate: 2s"),
    ),
}
"""What becomes of A. Shorter lifetimes without stale windows; longer ones; other keys; a route that is not stored."""


class Failed(Exception):
    """A run could not be carried out. Says which, and what it said."""


class Asked(NamedTuple):
    """What all runs have in common."""

    seed: int
    products: int
    options: tuple[str, ...]
    """Further ones of `load run`."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A real run under one set of policies."""

    run: Run
    logs: Path

    @property
    def span(self) -> tuple[datetime, datetime]:
        """When what counts began and ended."""
        began = datetime.fromisoformat(self.run.started_at)
        counted = [phase for phase in self.run.phases if phase.counts]
        return began + timedelta(seconds=counted[0].from_s), began + timedelta(seconds=counted[-1].to_s)

    @property
    def fetched_per_s(self) -> float | None:
        """Requests that edges sent to the origin a second, by the origin's own log; None: there is none."""
        since, until = self.span
        fetches = 0
        try:
            with (self.logs / ORIGIN_LOG).open("rb") as file:
                for line in file:
                    said = json.loads(line)
                    fetches += bool(said["edge_key"]) and since.timestamp() <= said["time"] < until.timestamp()
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return fetches / (until - since).total_seconds()


@dataclass(frozen=True, slots=True)
class Line:
    """One hit ratio: as it was, as it was predicted, and as it was measured. Between 0 and 1."""

    change: str
    route: str
    """`all` for every request."""
    requests: int
    before: float | None
    predicted: float | None
    measured: float | None

    @property
    def off_points(self) -> float | None:
        if self.predicted is None or self.measured is None:
            return None if self.predicted is self.measured else 100.0
        return 100 * (self.predicted - self.measured)

    @property
    def judged(self) -> bool:
        return self.route == "all" or self.requests >= ASKED_OFTEN

    @property
    def good(self) -> bool:
        if self.off_points is None:
            # A route may have no ratio before and after; a run of which nothing has one proves nothing.
            return self.route != "all"
        return not self.judged or abs(self.off_points) <= OFF_BY_POINTS


@dataclass(frozen=True, slots=True)
class Compared:
    """A prediction beside the run that it was about."""

    change: str
    lines: tuple[Line, ...]
    seen_by_viewers: float | None
    origin_per_s: tuple[float, float, float | None]
    """Requests a second to the origin: before and after by the model, and after by the origin's own log."""
    cold: tuple[int, int]
    """Objects that go cold when the policies are taken, of those stored."""
    cautions: tuple[str, ...]

    @property
    def good(self) -> bool:
        return all(line.good for line in self.lines)


def edited(folder: Path, source: Path, edits: Sequence[Edit]) -> Path:
    """A copy of the policies in `source`. Raises Failed where they are not what is to be edited."""
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__", "profiles"))
    for file, was, now in edits:
        path = folder / file
        text = path.read_text("utf-8")
        if text.count(was) != 1:
            raise Failed(f"{file} has {was!r} {text.count(was)} times, expected once: mend the edits in whatif.py")
        path.write_text(text.replace(was, now), "utf-8")
    return folder


def predict(before: Path, after: Path, measured: Measured) -> dict[str, Any]:
    """What `policy diff --replay` says of the logs of a run. Raises Failed."""
    since, until = measured.span
    asked = [
        *(*COMMAND, "policy", "diff", str(before), str(after), "--format", "json", "--no-exit-code"),
        *("--replay", str(measured.logs), "--since", since.isoformat(), "--until", until.isoformat()),
    ]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"policy diff: {done.stderr.strip()}")
    found: dict[str, Any] = json.loads(done.stdout)["replay"]
    return found


def measure(name: str, policies: Path, out: Path, asked: Asked) -> Measured:
    """Play the scenario in a shop of its own under `policies`. Raises Failed."""
    settings = {"NEARSHELF_POLICIES": str(policies), "NEARSHELF_ACCESS_LOG_QUERY": NOTED}
    try:
        with running_shop(products=asked.products, settings=settings) as shop:
            state = shop.target.state
            done = subprocess.run(
                [
                    *(*COMMAND, "load", "run", str(SCENARIO), "--seed", str(asked.seed), "--out", str(out)),
                    *("--ready", str(state / "ready.json"), "--state", str(state), *asked.options),
                ],
                capture_output=True,
                text=True,
                check=False,
            )
            logs = out / "logs"
            logs.mkdir(parents=True)
            for path in (state / "logs").glob("*.access.log"):
                shutil.copy(path, logs)
            if shop.target.origin_log is not None:
                shutil.copy(shop.target.origin_log, logs / ORIGIN_LOG)
    except BenchError as exc:
        raise Failed(str(exc)) from exc
    try:
        return Measured(read_run(out), logs)
    except BadRun as exc:
        said = f"{done.stdout}{done.stderr}".strip()[-1_000:]
        raise Failed(f"the run under {name} left nothing ({exc}); it said:\n{said}") from exc


def compare(change: str, predicted: Mapping[str, Any], real: Mapping[str, Any], measured: Measured) -> Compared:
    """A prediction (`predict`) beside what the logs of the real run say (`predict` with the same policies twice)."""
    ratio = predicted["hit_ratio"]
    lines = [Line(change, "all", real["requests"], ratio["before"], ratio["after"], real["hit_ratio"]["recorded"])]
    none = {"recorded": None, "before": None, "after": None, "requests": 0}
    for route in sorted({*predicted["routes"], *real["routes"]}):
        foretold, became = predicted["routes"].get(route, none), real["routes"].get(route, none)
        if foretold["before"] is None and foretold["after"] is None and became["recorded"] is None:
            continue
        lines.append(Line(change, route, became["requests"], foretold["before"], foretold["after"], became["recorded"]))
    origin = predicted["origin_requests_per_s"]
    return Compared(
        change,
        tuple(lines),
        _seen_by_viewers(measured.run),
        (origin["before"], origin["after"], measured.fetched_per_s),
        (predicted["objects"]["cold"], predicted["objects"]["at_the_end"]),
        tuple(predicted["cautions"]),
    )


def _seen_by_viewers(run: Run) -> float | None:
    """The hit ratio as the generator saw it: without the run's own probes, which are in the logs."""
    hits = misses = 0
    for cell in run.counted():
        hits += cell.requests * (cell.label.status in HIT_STATUSES)
        misses += cell.requests * (cell.label.status in MISS_STATUSES)
    return hits / (hits + misses) if hits + misses else None


def play(changes: Sequence[str], asked: Asked, folder: Path, say: Callable[[str], None]) -> list[Compared]:
    """Run A, predict, and run each of `changes`. Raises Failed."""
    before = edited(folder / "policies-a", PACKAGED_POLICIES, BEFORE)
    after = {change: edited(folder / f"policies-{change}", before, CHANGES[change]) for change in changes}
    say("running policies A")
    first = measure("A", before, folder / "run-a", asked)
    _say_if_invalid("A", first.run, say)
    found = []
    for change in changes:
        foretold = predict(before, after[change], first)
        say(f"running {change}: predicted {_percent(foretold['hit_ratio']['after'])}")
        second = measure(change, after[change], folder / f"run-{change}", asked)
        _say_if_invalid(change, second.run, say)
        if second.run.request_digest != first.run.request_digest:
            raise Failed(f"the run under {change} meant other requests than that under A: the shops are not the same")
        real = predict(after[change], after[change], second)
        found.append(compare(change, foretold, real, second))
    return found


def _say_if_invalid(name: str, run: Run, say: Callable[[str], None]) -> None:
    for fault in run.check.faults:
        say(f"the run under {name} is invalid: {fault}")


def table(found: Sequence[Compared]) -> Iterator[str]:
    """For people."""
    heads = ("change", "route", "requests", "before", "predicted", "measured", "off", "")
    rows = [heads]
    for compared in found:
        for line in compared.lines:
            off = "-" if line.off_points is None else f"{line.off_points:+.1f}"
            verdict = "" if line.good and line.judged else "few" if line.good else "OFF"
            rows.append(
                (
                    *(line.change, line.route, f"{line.requests:,}"),
                    *(_percent(line.before), _percent(line.predicted), _percent(line.measured), off, verdict),
                )
            )
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    for row in rows:
        cells = [
            text.ljust(width) if column < 2 else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()
    for compared in found:
        was, foretold, became = compared.origin_per_s
        yield ""
        counted = "no log of its own" if became is None else f"{became:.1f} by its own log"
        yield (
            f"{compared.change}: origin {was:.1f} -> {foretold:.1f} requests a second predicted, {counted}; "
            f"{compared.cold[0]:,} of {compared.cold[1]:,} objects go cold; "
            f"viewers saw {_percent(compared.seen_by_viewers)} hits, probes left out"
        )
        yield from (f"{compared.change}: {caution}" for caution in compared.cautions)


def _percent(ratio: float | None) -> str:
    return "-" if ratio is None else f"{100 * ratio:.1f} %"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.whatif", description=(__doc__ or "").partition("\n\n")[0]
    )
    parser.add_argument("--seed", type=int, default=1, help="of the plan: the same for all runs (default 1)")
    parser.add_argument("--rate", type=float, help="requests a second (default: that of whatif.yaml)")
    parser.add_argument("--duration", type=float, help="seconds that count (default: those of whatif.yaml)")
    parser.add_argument("--products", type=int, default=300, help="of each shop (default 300)")
    parser.add_argument("--only", default="", help=f"some of the changes: {', '.join(CHANGES)}")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep policies, runs and logs there")
    parser.add_argument("--json", action="store_true", help="the table as JSON")
    given = parser.parse_args(arguments)
    changes = [name.strip() for name in given.only.split(",") if name.strip()] or list(CHANGES)
    if unknown := [name for name in changes if name not in CHANGES]:
        parser.error(f"--only {unknown[0]}: expected one or several of {', '.join(CHANGES)}")
    options = [] if given.rate is None else ["--rate", f"{given.rate:g}"]
    options += [] if given.duration is None else ["--duration", f"{given.duration:g}s"]
    asked = Asked(given.seed, given.products, tuple(options))
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        print(text, file=sys.stderr, flush=True)

    try:
        with _kept(given.keep) as folder:
            found = play(changes, asked, folder, say)
    except Failed as exc:
        print(exc, file=sys.stderr)
        return 2
    if given.json:
        print(json.dumps([asdict(compared) for compared in found], indent=2))
    else:
        print("\n".join(table(found)))
    if any("is invalid" in text for text in said):
        return 3
    return 0 if all(compared.good for compared in found) else 1


@contextmanager
def _kept(folder: Path | None) -> Iterator[Path]:
    """Where everything goes; a folder of its own that is removed, unless one is named."""
    if folder is not None:
        if folder.exists() and any(folder.iterdir()):
            raise Failed(f"{folder} is not empty: name another folder with --keep")
        folder.mkdir(parents=True, exist_ok=True)
        yield folder.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="nearshelf-whatif-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


if __name__ == "__main__":
    sys.exit(main())
