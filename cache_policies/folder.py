"""The folder of policy files from outside: which files play a part, and how they look to whoever watches them."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from cache_policies.reading import MAX_FILE_BYTES, PROFILES

ENDINGS = frozenset({".yaml", ".yml"})
"""Of files that play a part: those that are read, and those that only seem to be."""

Looks = tuple[tuple[str, int, int, int], ...]
"""Of every file its name, inode, size and time of change: of the inode, which copying tools cannot set back."""
Contents = tuple[tuple[str, bytes | None], ...]


def folder_called(name: str | Path) -> Path:
    """The folder of policies that a person means by `name`: a path, or the bare name of a profile that comes with
    nearshelf, `rfc9111`.

    What is there under that name wins over a profile, so that a profile which a later version brings along changes
    nothing for whoever has a folder called so. What is neither comes back as it is, for the caller to refuse.
    """
    path = Path(name)
    if path.parent != Path() or os.path.lexists(path) or path.name not in profiles():
        return path
    return PROFILES / path.name


def why_unreadable(folder: Path) -> str:
    """Why this user may not look into `folder`, in the words of the system; empty where nothing forbids it, and where
    there is no folder."""
    try:
        with os.scandir(folder):
            pass
        (folder / "default.yaml").stat()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as exc:
        return exc.strerror or str(exc)
    return ""


def profiles() -> tuple[str, ...]:
    """The names of the profiles that come with nearshelf."""
    return tuple(sorted(folder.name for folder in PROFILES.iterdir() if folder.is_dir()))


def looks_of(folder: Path) -> Looks:
    """How the policy files of `folder` look from outside; nothing where there is no folder."""
    found = []
    for path in policy_files_in(folder):
        with suppress(OSError):
            about = path.stat()
            found.append((path.name, about.st_ino, about.st_size, about.st_ctime_ns))
    return tuple(found)


def contents_of(folder: Path) -> Contents:
    """What is in them; None for one that cannot be read."""
    found: list[tuple[str, bytes | None]] = []
    for path in policy_files_in(folder):
        content: bytes | None = None
        with suppress(OSError):
            if path.is_file():
                with path.open("rb") as file:
                    content = file.read(MAX_FILE_BYTES + 1)
        found.append((path.name, content))
    return tuple(found)


def policy_files_in(folder: Path) -> list[Path]:
    """Every file of `folder` that plays a part, by name; none where there is no folder.

    Hidden files play none: editors and file systems put their own there, such as `.#catalog.yaml` while somebody
    changes catalog.yaml.
    """
    try:
        found = (path for path in folder.iterdir() if path.suffix.lower() in ENDINGS)
        return sorted(path for path in found if not path.name.startswith("."))
    except OSError:
        return []
