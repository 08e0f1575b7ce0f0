"""Settings of lint, which the guard obeys too: the table `[tool.alembic_safe.lint]` of
`pyproject.toml`."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from alembic_safe.errors import SettingError
from alembic_safe.postgres.effects.world import NEWEST_SERVER, OLDEST_SERVER
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.rules.finding import Finding, Severity
from alembic_safe.settings import read_project_file


@dataclass(frozen=True)
class Ignored:
    """Findings that are let through by the settings.

    Args:
        code: of the rule.
        reason: why that is right here.
        revisions: only of these revisions, or of these `.sql` files by name; none is all.
        tables: only about these tables, and about no other beside them; none is all.
    """

    code: str
    reason: str
    revisions: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()

    def covers(self, finding: Finding, names: Collection[str]) -> bool:
        """Return whether a finding is let through.

        Args:
            finding: what was found.
            names: the identifier of the revision in which it was found, and its file.
        """
        if finding.code != self.code:
            return False
        if self.revisions and not set(self.revisions) & set(names):
            return False
        if not self.tables:
            return True
        relations = finding.relations
        return bool(relations) and all(is_among(each, self.tables) for each in relations)


@dataclass(frozen=True)
class LintSettings:
    """What a user can set.

    Args:
        start_after: revision of the baseline: lint does not judge it, nor any before it.
        postgres: major version of the oldest server on which the revisions run; without a
            database.
        hot_tables: tables whose warnings are errors; `name` or `schema.name`.
        small_tables: tables on which work under a lock is over in an instant.
        small_table_bytes: where a database tells sizes, tables are small that have at most this one
            together, when one statement works through them.
        severity: for the code of a rule another severity: `error`, `warning` or `off`.
        ignore: findings that are let through, each with a reason.
    """

    start_after: str | None = None
    postgres: int = OLDEST_SERVER
    hot_tables: tuple[str, ...] = ()
    small_tables: tuple[str, ...] = ()
    small_table_bytes: int = 1024 * 1024
    severity: Mapping[str, Severity] = field(default_factory=dict)
    ignore: tuple[Ignored, ...] = ()


def load_lint_settings(project_file: Path | None) -> LintSettings:
    """Return the settings of a `pyproject.toml`.

    Raises:
        SettingError: an unknown key, or a value that is not allowed.
    """
    table = read_project_file(project_file).get("lint", {})
    source = f"[tool.alembic_safe.lint] in {project_file}"
    if not isinstance(table, dict):
        raise SettingError("lint", str(project_file), "it has to be a table")
    values = {}
    for key, value in table.items():
        if key not in _PARSERS:
            raise SettingError(key, source, f"unknown; known are {', '.join(_PARSERS)}")
        try:
            values[key] = _PARSERS[key](value)
        except ValueError as error:
            raise SettingError(key, source, f"{value!r} is not allowed; {error}") from None
    return LintSettings(**values)


def is_among(relation: QualifiedName, names: tuple[str, ...]) -> bool:
    """Return whether a relation is one of those that a setting names, with or without schema."""
    schema = relation.schema or "public"
    return relation.name in names or f"{schema}.{relation.name}" in names


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("give a text that is not empty")
    return value.strip()


def server_version(value: Any) -> int:
    """Return the major version of a server that was written as a number or as a text.

    Raises:
        ValueError: it is not one that is supported.
    """
    problem = f"give a version from {OLDEST_SERVER} to {NEWEST_SERVER}"
    if isinstance(value, bool) or not re.fullmatch(r"\d{1,2}", str(value)):
        raise ValueError(problem)
    if not OLDEST_SERVER <= int(value) <= NEWEST_SERVER:
        raise ValueError(problem)
    return int(value)


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(v, str) and v.strip() for v in value):
        raise ValueError("give a list of names")
    return tuple(value)


_UNITS = {"": 1, "kB": 1024, "MB": 1024**2, "GB": 1024**3}


def _size(value: Any) -> int:
    match = re.fullmatch(r"(\d+)\s*(kB|MB|GB|)", str(value))
    if match is None or isinstance(value, bool):
        raise ValueError("give a number of bytes, or a text such as 500kB, 10MB")
    return int(match[1]) * _UNITS[match[2]]


def _severities(value: Any) -> dict[str, Severity]:
    allowed = ", ".join(severity.value for severity in Severity)
    if not isinstance(value, dict):
        raise ValueError('give a table such as {"index-not-concurrent" = "warning"}')
    try:
        return {code: Severity(severity) for code, severity in value.items()}
    except ValueError:
        raise ValueError(f"a severity is one of {allowed}") from None


def _ignored(value: Any) -> tuple[Ignored, ...]:
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise ValueError('give a list of tables such as {code = "...", reason = "..."}')
    return tuple(_one_ignored(entry) for entry in value)


def _one_ignored(entry: dict[str, Any]) -> Ignored:
    known = [field.name for field in fields(Ignored)]
    unknown = ", ".join(key for key in entry if key not in known)
    if unknown:
        raise ValueError(f"{unknown} is unknown; known are {', '.join(known)}")
    for key in ("code", "reason"):
        if not isinstance(entry.get(key), str) or not entry[key].strip():
            raise ValueError(f"each needs a {key}, a text that is not empty")
    return Ignored(
        code=entry["code"].strip(),
        reason=entry["reason"].strip(),
        revisions=_names(entry.get("revisions", [])),
        tables=_names(entry.get("tables", [])),
    )


_PARSERS: dict[str, Callable[[Any], Any]] = {
    "start_after": _text,
    "postgres": server_version,
    "hot_tables": _names,
    "small_tables": _names,
    "small_table_bytes": _size,
    "severity": _severities,
    "ignore": _ignored,
}

# A field without a parser could never be set.
assert set(_PARSERS) == {field.name for field in fields(LintSettings)}
