"""Rules of the user: from `alembic_safe.configure(rules=[...])` and from installed packages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import EntryPoint, entry_points

from alembic_safe.errors import InvalidRule
from alembic_safe.postgres.effects import Effects
from alembic_safe.rules.catalogue import RULES
from alembic_safe.rules.finding import Finding, Rule, Surroundings

ENTRY_POINT_GROUP = "alembic_safe.rules"
"""Where a package names its rules in its `pyproject.toml`."""


def load_rules(extra: Iterable[object] = ()) -> Sequence[Rule]:
    """Return all rules: the package's own, `extra`, and those of installed packages.

    What a rule of the user raises while it judges becomes an `InvalidRule` that names the rule
    and the statement.

    Args:
        extra: functions as `Rule` describes them, or where they are, as `package.module:function`.

    Raises:
        InvalidRule: one of them cannot be imported, or cannot be called.
    """
    return (
        *RULES,
        *(_checked(_loaded(rule), _name(rule)) for rule in extra),
        *(_checked(rule, name) for rule, name in _installed()),
    )


def _loaded(rule: object) -> object:
    if not isinstance(rule, str):
        return rule
    try:
        return EntryPoint(name=rule, value=rule, group=ENTRY_POINT_GROUP).load()
    except Exception as error:
        raise InvalidRule(rule, f"it cannot be imported: {_said(error)}") from error


def _installed() -> Iterable[tuple[object, str]]:
    for entry_point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda each: each.name):
        name = f"{entry_point.name} ({entry_point.value})"
        try:
            rule = entry_point.load()
        except Exception as error:
            raise InvalidRule(name, f"it cannot be imported: {_said(error)}") from error
        yield rule, name


def _checked(rule: object, name: str) -> Rule:
    if not callable(rule):
        raise InvalidRule(name, f"it is {rule!r}, which cannot be called")
    called: Callable[[Effects, Surroundings], object] = rule

    def judge(effects: Effects, surroundings: Surroundings) -> tuple[Finding, ...]:
        try:
            found = called(effects, surroundings)
            findings = tuple(found) if isinstance(found, Iterable) else found
        except Exception as error:
            raise InvalidRule(name, f"it failed: {_said(error)}", effects.sql) from error
        if not isinstance(findings, tuple):
            raise InvalidRule(name, f"it returned {found!r}, not findings", effects.sql)
        for finding in findings:
            if not isinstance(finding, Finding):
                raise InvalidRule(name, f"it gave {finding!r}, not a Finding", effects.sql)
        return findings

    judge.__dict__.update(getattr(rule, "__dict__", {}))  # its scope
    return judge


def _name(rule: object) -> str:
    if isinstance(rule, str):
        return rule
    module = getattr(rule, "__module__", None)
    name = getattr(rule, "__qualname__", None)
    return f"{module}.{name}" if module and name else repr(rule)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
