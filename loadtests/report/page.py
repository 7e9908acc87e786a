"""Pages that need nothing but themselves: one file, one style sheet inside, no script, no network."""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

_TEMPLATES = Path(__file__).parent / "templates"


@lru_cache(maxsize=1)
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )


@lru_cache(maxsize=1)
def _style() -> tuple[str, str]:
    """The style sheet, and the content security policy that lets the page use it and nothing else."""
    text = "\n" + (_TEMPLATES / "style.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return text, f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def render(template: str, **context: Any) -> str:
    """The page. Everything in `context` that is not Markup is text, and is escaped."""
    style, policy = _style()
    # Ours, without user data; and a style sheet is not escaped, or its quotes would be.
    return _environment().get_template(template).render(style=Markup(style), csp=policy, **context)  # noqa: S704


def write_page(path: Path, text: str) -> None:
    """The file, in a folder that is made; whole or not at all. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
