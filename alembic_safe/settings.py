"""Settings: one frozen object, and where each value comes from.

In this order, the later ones win: `[tool.alembic_safe]` in `pyproject.toml`, the keywords of
`alembic_safe.configure()`, environment variables `ALEMBIC_SAFE_*`, and `-x` on the command line.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from alembic_safe.durations import seconds_of
from alembic_safe.end_rules import EndRule, parse_end_rules
from alembic_safe.errors import SettingError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TOMLDecodeError = tomllib.TOMLDecodeError

ENVIRONMENT_PREFIX = "ALEMBIC_SAFE_"

CONTRACT_CHOICES = ("due", "now", "hold")
LOCKING_CHOICES = ("supervised", "ladder")
GUARD_CHOICES = ("error", "warn", "off")


@dataclass(frozen=True)
class Settings:
    """What a user can set. Durations are seconds.

    Args:
        release: identifier of the deploy that runs this command (a git SHA, an image tag).
        contract: which contract revisions `upgrade` applies: those that are `due`, all that can
            be applied `now`, or none (`hold`).
        soak: how long the revision that a contract revision completes must have been applied.
        lock_timeout: how long an attempt may wait at most for a lock that blocks reads or writes;
            the first three wait 50 ms, the next three twice as long, and so on. Below
            PostgreSQL's `deadlock_timeout` (1 s), so that a wait does not cancel an autovacuum.
        blocking_timeout: how long a statement that blocks reads or writes may take once it has
            its lock; a shorter `statement_timeout` of the session stays.
        lock_budget: how long all sessions of the application together may wait because of one
            attempt, where a second connection can tell.
        concurrent_lock_timeout: how long a statement may wait for others that makes nobody wait:
            a concurrent index build, a validation.
        locking: `supervised` waits in the queue for as long as that costs others little, which a
            second connection watches; `ladder` knows only short timeouts.
        lock_deadline: how long a run may spend on waiting for such locks in total.
        old_transaction: from which age on a transaction that is in the way is waited for outside
            of the queue, where nobody waits behind.
        retry_base: upper bound of the first pause between two attempts; it doubles each time. A
            pause ends when those who were in the way are gone.
        retry_cap: upper bound of every pause between two attempts.
        retry: a function of the user's own, or `package.module:function`, that is given the number
            of an attempt and the statement, and returns the attempt's lock timeout and the pause
            after it in seconds. The deadline stays.
        end_blockers: who is ended where it is in the way and is waited for; nobody by default.
        show_queries: whether messages about who is in the way show the queries, too.
        upgrade_deadline: how long to wait while another session migrates this database.
        batch_size: rows that one batch of a backfill looks at.
        rename: renames that the models do not tell, as `table.old:new`.
        guard: what happens to a statement of an upgrade that is not safe: it is an `error` and not
            sent, or sent after a warning (`warn`), or nobody looks (`off`).
        rules: rules of the user's own, as functions or as `package.module:function`.
    """

    release: str | None = None
    contract: str = "due"
    soak: float = 0.0
    lock_timeout: float = 0.2
    blocking_timeout: float = 5.0
    lock_budget: float = 4.0
    concurrent_lock_timeout: float = 3600.0
    locking: str = "supervised"
    lock_deadline: float = 300.0
    old_transaction: float = 5.0
    retry_base: float = 0.5
    retry_cap: float = 20.0
    retry: Callable[[int, str], tuple[float, float]] | str | None = None
    end_blockers: tuple[EndRule, ...] = ()
    show_queries: bool = False
    upgrade_deadline: float = 3600.0
    batch_size: int = 5000
    rename: tuple[str, ...] = ()
    guard: str = "error"
    rules: tuple[Callable[..., Any] | str, ...] = ()


def load_settings(
    *,
    keywords: Mapping[str, Any],
    x_arguments: Mapping[str, str],
    project_file: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """Return the settings in force.

    Args:
        keywords: the keywords of `configure()`.
        x_arguments: what stood behind `-x`. Names that are not settings are the user's own.
        project_file: a `pyproject.toml`, if there is one.
        environment: environment variables; `os.environ` by default.

    Raises:
        SettingError: an unknown key, or a value that is not allowed.
    """
    if environment is None:
        environment = os.environ
    from_environment = {
        name[len(ENVIRONMENT_PREFIX) :].lower(): value
        for name, value in environment.items()
        if name.startswith(ENVIRONMENT_PREFIX)
    }
    from_x = {name: value for name, value in x_arguments.items() if name in _PARSERS}
    sources: list[tuple[str, Mapping[str, Any]]] = [
        (
            f"[tool.alembic_safe] in {project_file}",
            _without_tables(read_project_file(project_file)),
        ),
        ("alembic_safe.configure()", keywords),
        (f"the environment ({ENVIRONMENT_PREFIX}*)", from_environment),
        ("-x on the command line", from_x),
    ]
    settings = Settings()
    for source, values in sources:
        settings = replace(settings, **_parsed(values, source))
    return settings


def project_file(config_file: str | None) -> Path | None:
    """Return the `pyproject.toml` beside Alembic's configuration, or in a folder above it."""
    start = Path(config_file).absolute().parent if config_file else Path.cwd()
    for folder in (start, *start.parents):
        candidate = folder / "pyproject.toml"
        if candidate.is_file():
            return candidate
    return None


TABLES = frozenset({"lint"})
"""Tables inside of `[tool.alembic_safe]` that are read elsewhere."""


def read_project_file(path: Path | None) -> Mapping[str, Any]:
    """Return the table `[tool.alembic_safe]` of a `pyproject.toml`; empty where there is none.

    Raises:
        SettingError: it is not TOML, or not a table.
    """
    return read_tool_table(path, "alembic_safe")


def read_tool_table(path: Path | None, tool: str) -> Mapping[str, Any]:
    """Return the table of a tool in a `pyproject.toml`; empty where there is none.

    Raises:
        SettingError: it is not TOML, or not a table.
    """
    if path is None or not path.is_file():
        return {}
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise SettingError(f"tool.{tool}", str(path), f"not a TOML file: {error}") from None
    tools = document.get("tool", {})
    table = tools.get(tool, {}) if isinstance(tools, dict) else None
    if not isinstance(table, dict):
        raise SettingError(f"tool.{tool}", str(path), "it has to be a table")
    return table


def _without_tables(values: Mapping[str, Any]) -> Mapping[str, Any]:
    return {key: value for key, value in values.items() if key not in TABLES}


def _parsed(values: Mapping[str, Any], source: str) -> dict[str, Any]:
    parsed = {}
    for key, value in values.items():
        if key not in _PARSERS:
            raise SettingError(key, source, f"unknown; known are {', '.join(_PARSERS)}")
        try:
            parsed[key] = _PARSERS[key](value)
        except ValueError as error:
            raise SettingError(key, source, f"{value!r} is not allowed; {error}") from None
    return parsed


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("give a text that is not empty")
    return value.strip()


def _one_of(*choices: str) -> Callable[[Any], str]:
    def choice(value: Any) -> str:
        if value not in choices:
            raise ValueError(f"give one of {', '.join(choices)}")
        return str(value)

    return choice


def _switch(value: Any) -> bool:
    words = {"true": True, "on": True, "yes": True, "false": False, "off": False, "no": False}
    text = str(value).strip().lower()
    if text not in words:
        raise ValueError("give true or false")
    return words[text]


def _positive_duration(value: Any) -> float:
    seconds = seconds_of(value)
    # PostgreSQL reads a timeout of 0 as "wait for ever", and it counts in milliseconds.
    if seconds < 0.001:
        raise ValueError("give at least 1ms")
    return seconds


def _row_count(value: Any) -> int:
    problem = "give a whole number of rows, at least 1"
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError(problem)
    if not re.fullmatch(r"\d+", str(value)) or int(value) < 1:
        raise ValueError(problem)
    return int(value)


def _renames(value: Any) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    problem = "give table.old:new, or several with a comma between them"
    if not isinstance(parts, (list, tuple)):
        raise ValueError(problem)
    renames = tuple(part.strip() for part in parts if isinstance(part, str))
    if len(renames) != len(parts) or not all(
        re.fullmatch(r"[^:]+\.[^.:]+:[^:]+", rename) for rename in renames
    ):
        raise ValueError(problem)
    return renames


def _rules(value: Any) -> tuple[Callable[..., Any] | str, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    problem = "give functions, or texts such as package.module:function"
    if not isinstance(parts, (list, tuple)):
        raise ValueError(problem)
    rules = tuple(part.strip() if isinstance(part, str) else part for part in parts)
    if not all(_is_function(rule) for rule in rules):
        raise ValueError(problem)
    return rules


def _function(value: Any) -> Callable[[int, str], tuple[float, float]] | str:
    if not _is_function(value):
        raise ValueError("give a function, or a text such as package.module:function")
    function: Callable[[int, str], tuple[float, float]] | str = value
    return function


def _is_function(value: Any) -> bool:
    is_name = isinstance(value, str) and re.fullmatch(r"[\w.]+:\w+", value)
    return bool(is_name) or callable(value)


_PARSERS: dict[str, Callable[[Any], Any]] = {
    "release": _text,
    "contract": _one_of(*CONTRACT_CHOICES),
    "soak": seconds_of,
    "lock_timeout": _positive_duration,
    "blocking_timeout": _positive_duration,
    "lock_budget": _positive_duration,
    "concurrent_lock_timeout": _positive_duration,
    "locking": _one_of(*LOCKING_CHOICES),
    "lock_deadline": _positive_duration,
    "old_transaction": seconds_of,
    "retry_base": _positive_duration,
    "retry_cap": _positive_duration,
    "retry": _function,
    "end_blockers": parse_end_rules,
    "show_queries": _switch,
    "upgrade_deadline": seconds_of,
    "batch_size": _row_count,
    "rename": _renames,
    "guard": _one_of(*GUARD_CHOICES),
    "rules": _rules,
}

# A field without a parser could never be set.
assert set(_PARSERS) == {field.name for field in fields(Settings)}
