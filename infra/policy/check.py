"""`nearshelf policy check`: everything that is wrong with policy files, or probably is, in one run.

Reading is `edge.policy_files`, judging `edge.policy_checks` and `edge.policy_lints`; what CloudFront makes of the
policies is added by `infra.policy.cloudfront`. Here it is brought together, and what a file allows with a reason is
taken out. How it is printed is in `infra.policy.renderings`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from cache_policies.codes import CODES, Severity
from cache_policies.folder import profiles, why_unreadable
from cache_policies.reading import PACKAGED_POLICIES, Fault, Place
from edge.policy_files import PolicyFiles, read_policies

ALLOWANCE = re.compile(r"(?:^|\s)#\s*allow\s+(NS[0-9]{3}(?:\s*,\s*NS[0-9]{3})*)(?:\s*:\s*(\S.*)?|\s.*)?$")
"""`# allow NS414: reviews are posted here`, at the end of the line it is about, or on lines of its own before that.
What stands there without the colon is no reason."""


LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
"""As YAML counts lines (YAML 1.1, which our reader of YAML follows there)."""


class Target(StrEnum):
    """Where the policies are to run."""

    LOCAL = "local"
    CLOUDFRONT = "cloudfront"


class NotPolicies(Exception):
    """What was named holds no policies. The text says what, why and what to name instead."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found in one folder."""

    folder: Path
    files: PolicyFiles
    faults: tuple[Fault, ...]
    """Of the files that were asked for, by file, line and column; without what the files allow."""
    elsewhere: int
    """Errors and warnings in files of the folder that were not asked for."""
    spent_ms: float

    def path(self, file: str) -> str:
        """The file as one may open it from here."""
        path = self.folder / file if file else self.folder
        here = Path.cwd()
        return str(path.relative_to(here)) if path.is_absolute() and path.is_relative_to(here) else str(path)


@dataclass(frozen=True, slots=True)
class Report:
    checked: tuple[Checked, ...]
    target: Target

    @property
    def faults(self) -> Iterator[tuple[Checked, Fault]]:
        return ((checked, fault) for checked in self.checked for fault in checked.faults)

    def count(self, severity: Severity) -> int:
        return sum(fault.severity is severity for _, fault in self.faults)

    def exit_status(self, *, strict: bool) -> int:
        """0 clean, 1 warnings and `strict`, 2 errors. Notes never count."""
        if self.count(Severity.ERROR):
            return 2
        return 1 if strict and self.count(Severity.WARNING) else 0


def check(paths: Sequence[Path], target: Target = Target.LOCAL) -> Report:
    """Check folders of policies, or some files of them; without any, the packaged ones.

    A file is judged as part of its folder, because routes hide each other and name markets and origins; only what is
    wrong with the named files is reported. Raises NotPolicies when a path is none of both.
    """
    return Report(tuple(_check(folder, names, target) for folder, names in _folders(paths).items()), target)


def _folders(paths: Sequence[Path]) -> Mapping[Path, set[str] | None]:
    """Folder -> the names asked for in it; None: all of them."""
    found: dict[Path, set[str] | None] = {}
    for path in paths or [PACKAGED_POLICIES]:
        if why := why_unreadable(path):
            raise NotPolicies(f"{path} cannot be read: {why}; let this user read the folder and enter it")
        if path.is_dir():
            found[path] = None
        elif not path.is_file():
            raise NotPolicies(
                f"{path} is neither a folder, a file nor a profile ({', '.join(profiles())}); name the folder that "
                "holds the *.yaml files"
            )
        elif path.suffix != ".yaml":
            raise NotPolicies(f"{path} does not end in .yaml, so no edge reads it; name a policy file or its folder")
        else:
            names = found.setdefault(path.parent, set())
            if names is not None:
                names.add(path.name)
    return found


def _check(folder: Path, names: set[str] | None, target: Target) -> Checked:
    began = time.monotonic()
    files = read_policies(folder)
    faults = list(files.faults)
    if target is Target.CLOUDFRONT and files.policies is not None:
        # The compiler takes longer to import than everything else to run.
        from infra.policy.cloudfront import cloudfront_faults

        faults += cloudfront_faults(files.policies, files.places)
    faults = sorted(set(_without_allowed(faults, files.texts)))
    shown = [fault for fault in faults if names is None or fault.place.file in names]
    hidden = [fault for fault in faults if fault not in shown and fault.severity is not Severity.NOTE]
    return Checked(folder, files, tuple(shown), len(hidden), (time.monotonic() - began) * 1000)


def _without_allowed(faults: Sequence[Fault], texts: Mapping[str, str]) -> Iterator[Fault]:
    """`faults` without the warnings and notes that a comment with a reason allows, and what is wrong with comments."""
    allowed: dict[tuple[str, int, str], Place] = {}
    for file, text in texts.items():
        for place, about, codes, reason in _allowances(file, text):
            for code in codes:
                if code not in CODES or CODES[code].severity is Severity.ERROR:
                    yield Fault(
                        place, "", f"allows {code}, which is no warning or note", "NS427", "Remove the comment."
                    )
                elif not reason:
                    yield Fault(
                        place,
                        "",
                        f"allows {code} without a reason",
                        "NS426",
                        f"Write why: # allow {code}: the reason.",
                    )
                else:
                    allowed[file, about, code] = place
    used = set()
    for fault in faults:
        key = (fault.place.file, fault.place.line, fault.code)
        if key in allowed:
            used.add(key)
        else:
            yield fault
    if any(fault.severity is Severity.ERROR for fault in faults):
        # What an error keeps from being looked at may well need it.
        return
    for key, place in allowed.items():
        # Notes on CloudFront are made only when it is asked about.
        if key not in used and not key[2].startswith("NS5"):
            yield Fault(place, "", f"allows {key[2]}, and nothing there needs it", "NS427", "Remove the comment.")


def _allowances(file: str, text: str) -> Iterator[tuple[Place, int, list[str], str]]:
    """Each allowance: its place, the line it is about, its codes, its reason or nothing."""
    waiting: list[tuple[Place, list[str], str]] = []
    for number, line in enumerate(LINE_BREAK.split(text), 1):
        found = ALLOWANCE.search(line)
        if found is not None:
            place = Place(file, number, line.index("#", found.start()) + 1)
            waiting.append((place, re.findall(r"NS[0-9]{3}", found[1]), (found[2] or "").strip()))
        if line.strip() and not line.lstrip().startswith("#"):
            yield from ((place, number, codes, reason) for place, codes, reason in waiting)
            waiting = []
    yield from ((place, place.line, codes, reason) for place, codes, reason in waiting)
