"""The database's schema, by Alembic: one file in `versions/` per step, each in one transaction."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config


def config(database_url: str) -> Config:
    """Alembic's settings for the database at `database_url`, which must belong to its owner."""
    settings = Config()
    settings.set_main_option("script_location", str(Path(__file__).parent))
    settings.set_main_option("path_separator", "os")
    settings.attributes["database_url"] = database_url
    return settings


def upgrade(database_url: str, revision: str = "head") -> None:
    """Bring the database to `revision`. Does nothing when it is there; several may call it at once."""
    command.upgrade(config(database_url), revision)
