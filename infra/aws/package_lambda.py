"""The Lambda@Edge packages: a zip with one handler, what it imports of the core, and the policies as Python values.

Standard library only, because Lambda@Edge has no layers; the same bytes for the same sources and policies, because a
function version should change only when what it does changes. No bytecode is shipped: that of another Python than the
runtime's would be ignored, and the one that packs is not the runtime's.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import io
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import cache_policies
import edge
from cache_policies.market_values import Market, Markets
from cache_policies.origins import Origin, Origins
from edge.core.policy import CachePolicy

MAX_ZIP_BYTES = 1_000_000
"""Our own budget, far below AWS's 50 MB: a small package starts fast."""
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time a zip can say."""
_ROOTS = {"cache_policies": cache_policies, "edge": edge}


class PackageTooLarge(Exception):
    """The package is over our budget. Reads: origin-request.zip: 1200000 bytes, at most 1000000: ..."""


@dataclass(frozen=True, slots=True)
class Package:
    content: bytes
    files: int
    handler: str
    """Module and function that Lambda calls."""

    @property
    def digest(self) -> str:
        """SHA-256 of the zip, hexadecimal."""
        return hashlib.sha256(self.content).hexdigest()


def origin_request_package(
    policies: tuple[CachePolicy, ...], markets: Markets, origins: Origins | None = None
) -> Package:
    """The origin-request function: `lambda/origin-request.zip`. Raises PackageTooLarge."""
    source = entry_source("edge.lambda_edge.origin_request", policies, markets, origins or Origins())
    return _packed("origin-request", source)


def origin_response_package(policies: tuple[CachePolicy, ...], markets: Markets) -> Package:
    """The origin-response function: `lambda/origin-response.zip`. Raises PackageTooLarge."""
    source = entry_source("edge.lambda_edge.origin_response", policies, markets)
    return _packed("origin-response", source)


def _packed(event: str, source: str) -> Package:
    module = f"nearshelf_{event.replace('-', '_')}"
    files = {f"{module}.py": source.encode(), **_modules_for(source)}
    buffer = io.BytesIO()
    # Stored, not deflated: the bytes then do not depend on the zlib of the machine that packs, and nothing is
    # inflated at a cold start.
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(files):
            entry = zipfile.ZipInfo(path, _EPOCH)
            entry.create_system = 3  # Unix, wherever this runs
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, files[path])
    content = buffer.getvalue()
    if len(content) > MAX_ZIP_BYTES:
        raise PackageTooLarge(
            f"{event}.zip: {len(content)} bytes, at most {MAX_ZIP_BYTES}: {len(source.encode())} for the policies, the "
            "rest for the code. Let one route take in several ({name}, {rest...})"
        )
    return Package(content, len(files), f"{module}.handler")


def _modules_for(source: str) -> dict[str, bytes]:
    """Path in the zip -> source, of every module of ours that is imported when `source` is run as a module."""
    files: dict[str, bytes] = {}
    waiting = list(_imported(source))
    while waiting:
        path = _file_of(waiting.pop())
        if path is None or path[0] in files:
            continue
        text = with_our_dataclasses(path[1].read_text())
        files[path[0]] = text.encode()
        waiting.extend(_imported(text))
    return files


def with_our_dataclasses(source: str) -> str:
    """`source` with `dataclass`, `field` and `fields` from edge/lambda_edge/values.py, which says why."""
    return re.sub(r"^from dataclasses import", "from edge.lambda_edge.values import", source, flags=re.MULTILINE)


def _imported(source: str) -> Iterator[str]:
    """Names of the modules, and of what may be one, that `source` imports when it is run; packages included.

    Not what a function imports when it is called, nor what only a type checker does.
    """
    for node in ast.parse(source).body:
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[: number + 1]) for number in range(len(parts)))


def _file_of(module: str) -> tuple[str, Path] | None:
    """Path in the zip, and the file; None for what is no module of ours."""
    root, *rest = module.split(".")
    package = _ROOTS.get(root)
    if package is None or package.__file__ is None:
        return None
    folder = Path(package.__file__).parent.joinpath(*rest)
    for path in (folder / "__init__.py", folder.with_suffix(".py")):
        if path.is_file():
            return f"{root}/{path.relative_to(Path(package.__file__).parent).as_posix()}", path
    return None


def entry_source(
    handler_module: str, policies: tuple[CachePolicy, ...], markets: Markets, origins: Origins | None = None
) -> str:
    """The module that Lambda calls: the policies written out as the values they were read into.

    `origins`: for a handler that takes them as a third argument.
    """
    baked: dict[str, object] = {"POLICIES": policies, "MARKETS": markets}
    if origins is not None:
        baked["ORIGINS"] = origins
    used: set[type] = set()
    values = [f"{name} = {_written(value, used)}" for name, value in baked.items()]
    imports = sorted(f"from {each.__module__} import {each.__name__}" for each in used)
    return "\n".join(
        [
            '"""Generated by `nearshelf aws compile` from the cache policies. Do not edit: change the policies."""',
            "",
            *imports,
            f"from {handler_module} import handler_for",
            "",
            *values,
            f"handler = handler_for({', '.join(baked)})",
            "",
        ]
    )


def _written(value: object, used: set[type]) -> str:
    """The expression that makes an equal value; fields that have their default are left out. Notes the types used."""
    kind = type(value)
    if isinstance(value, Enum):
        used.add(kind)
        return f"{kind.__name__}.{value.name}"
    if isinstance(value, CachePolicy | Market | Markets | Origin | Origins):
        used.add(kind)
        found = [(field, getattr(value, field.name)) for field in dataclasses.fields(value) if field.init]
        arguments = [f"{field.name}={_written(each, used)}" for field, each in found if each != field.default]
        return f"{kind.__name__}({', '.join(arguments)})"
    if isinstance(value, tuple):
        if hasattr(value, "_fields"):
            used.add(kind)
            return f"{kind.__name__}({', '.join(_written(each, used) for each in value)})"
        lines = any(isinstance(each, CachePolicy | Market | Origin) for each in value)
        items = "".join(f"{chr(10) if lines else ''}{_written(each, used)}, " for each in value)
        return f"({items})"
    return repr(value)
