"""What a report looks like: for people, for programs, for the pages of a code review."""

from __future__ import annotations

from collections.abc import Callable

from alembic_safe.lint.formats.github import github
from alembic_safe.lint.formats.gitlab import gitlab
from alembic_safe.lint.formats.plain_json import plain_json
from alembic_safe.lint.formats.sarif import sarif
from alembic_safe.lint.formats.text import text
from alembic_safe.lint.report import Report

FORMATS: dict[str, Callable[[Report], str]] = {
    "text": text,
    "json": plain_json,
    "github": github,
    "gitlab": gitlab,
    "sarif": sarif,
}
"""By the name behind `--format`; each returns whole lines."""
