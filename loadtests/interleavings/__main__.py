"""Play the interleavings that put an old price back against ours, Varnish and nginx, and print the table.

    python -m loadtests.interleavings [--only a1,c3] [--against nearshelf,Varnish] [--write docs/freshness.md]

Starts everything on free ports and ends it again, in about a minute. A peer that is not installed is left out.
Exit status: 0 when ours did what it claims, 1 otherwise, 2 when it could not run. What a peer does fails nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from loadtests.bench.measuring import BenchError, today, write_between_marks
from loadtests.interleavings.caches import Cache, CannotStart, Edge, Site
from loadtests.interleavings.origin import Origin
from loadtests.interleavings.peers import Nginx, NginxStale, Varnish, path_of, version_of
from loadtests.interleavings.scenes import SCENES, Scene
from loadtests.interleavings.stage import Stage, Vacuous
from loadtests.interleavings.table import Column, Finding, Verdict, notes, table

CACHES: Sequence[type[Cache]] = (Edge, Site, Varnish, Nginx, NginxStale)


async def play(kind: type[Cache], scenes: Sequence[Scene], folder: Path) -> dict[str, Finding]:
    """What came of each of `scenes` at one cache, started for it in `folder`. Raises CannotStart."""
    findings: dict[str, Finding] = {}
    async with Origin() as origin:
        cache = kind(origin, folder)

        async def one(scene: Scene) -> None:
            try:
                found = await scene.play(Stage(origin, cache, scene.id))
            except Vacuous as exc:
                found = Finding(Verdict.NOT_PLAYED, str(exc))
            findings[scene.id] = found
            print(f"{scene.id} {kind.name:16} {found}", flush=True)

        try:
            await cache.start()
            await asyncio.gather(*(one(scene) for scene in scenes if not scene.alone))
            for scene in scenes:
                if scene.alone:
                    await one(scene)
        finally:
            await cache.end()
    return findings


async def columns_of(kinds: Sequence[type[Cache]], scenes: Sequence[Scene]) -> list[Column]:
    """All of them side by side. Raises CannotStart."""
    with ExitStack() as stack:
        folders = [stack.enter_context(TemporaryDirectory(prefix="nearshelf-interleavings-")) for _ in kinds]
        played = await asyncio.gather(
            *(play(kind, scenes, Path(folder)) for kind, folder in zip(kinds, folders, strict=True)),
            return_exceptions=True,
        )
    for each in played:
        if isinstance(each, BaseException):
            raise each
    return [
        Column(named(kind), kind.about, found)
        for kind, found in zip(kinds, played, strict=True)
        if not isinstance(found, BaseException)
    ]


def named(kind: type[Cache]) -> str:
    """Its name, with its version where it is not ours."""
    return f"{kind.name} {version_of(kind.needs[0], kind.version_flag)}".strip() if kind.needs else kind.name


def broken_claims(kinds: Sequence[type[Cache]], columns: Sequence[Column]) -> list[str]:
    """What ours claims to stand and did not."""
    return [
        f"{column.name}, {row}: {finding}"
        for kind, column in zip(kinds, columns, strict=True)
        for row, finding in column.findings.items()
        if finding.verdict is not Verdict.HOLDS and (kind.claims is None or row in kind.claims)
    ]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtests.interleavings", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", help="comma list of rows: a1, b1, ...; or of letters")
    parser.add_argument("--against", default="", help="comma list of caches, by their names")
    parser.add_argument("--write", type=Path, help="put the table into this file, between its `interleavings` marks")
    options = parser.parse_args(argv)
    rows = [start.strip() for start in options.only.split(",") if start.strip()]
    scenes = [scene for scene in SCENES if not rows or any(scene.id.startswith(row) for row in rows)]
    wanted = {name.strip().lower() for name in options.against.split(",") if name.strip()}
    kinds = [kind for kind in CACHES if not wanted or kind.name.lower() in wanted]
    if not (scenes and kinds):
        print(
            f"nothing to play: rows are {', '.join(scene.id for scene in SCENES)}; "
            f"caches are {', '.join(kind.name for kind in CACHES)}",
            file=sys.stderr,
        )
        return 2
    lacking = {kind: [each for each in kind.needs if path_of(each) is None] for kind in kinds}
    for kind, commands in lacking.items():
        if commands:
            print(f"without {kind.name}: not found: {', '.join(commands)}", file=sys.stderr)
    kinds = [kind for kind in kinds if not lacking[kind]]
    # Whoever is told to end ends what it has started, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        columns = asyncio.run(columns_of(kinds, scenes))
        text = "\n\n".join(
            (
                f"{today()}, by `python -m loadtests.interleavings`:",
                table([(scene.id, scene.title) for scene in scenes], columns),
                notes(columns),
            )
        )
        print(f"\n{text}")
        if options.write is not None:
            write_between_marks(options.write, "interleavings", text)
    except (CannotStart, BenchError) as exc:
        print(exc, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    broken = broken_claims(kinds, columns)
    for claim in broken:
        print(f"BROKEN: {claim}", file=sys.stderr)
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
