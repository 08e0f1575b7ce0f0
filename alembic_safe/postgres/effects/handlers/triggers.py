"""Triggers, rules, policies and event triggers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Literal

from alembic_safe.postgres.effects.handlers.definitions import columns_used
from alembic_safe.postgres.effects.handlers.names import split_name, strings
from alembic_safe.postgres.effects.handlers.queries import read_query
from alembic_safe.postgres.effects.model import Change
from alembic_safe.postgres.effects.tally import Handler, Tally
from alembic_safe.postgres.effects.world import Relation
from alembic_safe.postgres.identifiers import QualifiedName, readable
from alembic_safe.postgres.locks import LockMode

Kind = Literal["trigger", "rule", "policy"]

_FIELDS = {"trigger": "triggers", "rule": "rules", "policy": "policies"}


def create_trigger(node: Any, tally: Tally) -> None:
    """`CREATE [OR REPLACE] TRIGGER`: SHARE ROW EXCLUSIVE; FOR EACH ROW of a partitioned table on
    its partitions too.

    Details:
        function: the name of the function that it calls.
        replaced: there was such a trigger already.

    Raises:
        Refused: there is such a trigger, or OR REPLACE is not known to the server (before 14).
    """
    if node.replace and tally.world.version < 14:
        tally.refuse('syntax error at or near "TRIGGER"', "42601")
    relation = tally.existing(node.relation)
    tally.details["function"] = ".".join(strings(node.funcname))
    tally.details["replaced"] = node.trigname in relation.triggers
    if node.trigname in relation.triggers and not node.replace:
        message = f'trigger "{node.trigname}" for relation "{relation.name.name}" already exists'
        tally.refuse(message, "42710")
    _use_function(node.funcname, relation.name, node.trigname, tally)
    columns = {*strings(node.columns), *columns_used(node.when_clause)}
    for member in _members(relation, tally) if node.row else [relation]:
        tally.lock(member, LockMode.SHARE_ROW_EXCLUSIVE)
        key = f"trigger {readable(node.trigname)}"
        _add(member, "trigger", node.trigname, key, columns, tally)


def _use_function(parts: Any, relation: QualifiedName, trigger: str, tally: Tally) -> None:
    """Remember that a trigger calls a function.

    Raises:
        Refused: there is certainly no such function.
    """
    world = tally.world
    name, schema = split_name(strings(parts))
    function = world.functions.get(world.qualified_function(name, schema))
    if function is not None:
        triggers = function.triggers | {(relation, trigger)}
        world.put_function(replace(function, triggers=triggers))
    elif world.complete and name not in _TRIGGER_FUNCTIONS:
        tally.refuse(f"function {name}() does not exist", "42883")


_TRIGGER_FUNCTIONS = frozenset(
    {
        "lo_manage",
        "moddatetime",
        "suppress_redundant_updates_trigger",
        "tsvector_update_trigger",
        "tsvector_update_trigger_column",
    }
)
"""Functions of PostgreSQL and of extensions that come with it, made for triggers."""


def _members(relation: Relation, tally: Tally) -> list[Relation]:
    """Return a relation and, where it is partitioned, its partitions."""
    if not relation.complete:
        tally.assume(f"what is a partition of {relation.name} is not known")
    if not relation.is_partitioned:
        return [relation]
    return list(tally.world.family(relation.name))


def create_rule(node: Any, tally: Tally) -> None:
    """`CREATE [OR REPLACE] RULE`: ACCESS EXCLUSIVE.

    Raises:
        Refused: there is such a rule.
    """
    relation = tally.existing(node.relation)
    if node.rulename in relation.rules and not node.replace:
        message = f'rule "{node.rulename}" for relation "{relation.name.name}" already exists'
        tally.refuse(message, "42710")
    tally.lock(relation, LockMode.ACCESS_EXCLUSIVE)
    _add(relation, "rule", node.rulename, "", set(), tally)


def create_policy(node: Any, tally: Tally) -> None:
    """`CREATE POLICY`: ACCESS EXCLUSIVE.

    Raises:
        Refused: there is such a policy.
    """
    relation = tally.existing(node.table)
    if node.policy_name in relation.policies:
        message = f'policy "{node.policy_name}" for table "{relation.name.name}" already exists'
        tally.refuse(message, "42710")
    tally.lock(relation, LockMode.ACCESS_EXCLUSIVE)
    used = _read_conditions(node, tally)
    key = f"policy {readable(node.policy_name)}"
    _add(tally.existing(node.table), "policy", node.policy_name, key, used, tally)


def alter_policy(node: Any, tally: Tally) -> None:
    """`ALTER POLICY`: ACCESS EXCLUSIVE.

    Raises:
        Refused: there is no such policy.
    """
    relation = tally.existing(node.table)
    tally.lock(relation, LockMode.ACCESS_EXCLUSIVE)
    if relation.complete and node.policy_name not in relation.policies:
        message = f'policy "{node.policy_name}" for table "{relation.name.name}" does not exist'
        tally.refuse(message, "42704")
    _read_conditions(node, tally)


def _read_conditions(node: Any, tally: Tally) -> set[str]:
    """Note what the conditions of a policy name, and return the columns."""
    conditions = [read_query(each, tally, runs=False) for each in (node.qual, node.with_check)]
    return set().union(*(condition.columns for condition in conditions))


def _add(
    relation: Relation, kind: Kind, name: str, key: str, columns: set[str], tally: Tally
) -> None:
    """Remember a trigger, rule or policy, and the columns that it uses."""
    if relation.complete:
        columns = columns & set(relation.columns)
    others = {**relation.other_dependents, key: frozenset(columns)} if columns else None
    tally.world.put(
        replace(
            relation,
            triggers=relation.triggers | ({name} if kind == "trigger" else set()),
            rules=relation.rules | ({name} if kind == "rule" else set()),
            policies=relation.policies | ({name} if kind == "policy" else set()),
            other_dependents=relation.other_dependents if others is None else others,
        )
    )


def _without(relation: Relation, kind: Kind, name: str) -> Relation:
    key = f"{kind} {readable(name)}"
    others = {each: used for each, used in relation.other_dependents.items() if each != key}
    return replace(
        relation,
        triggers=relation.triggers - ({name} if kind == "trigger" else set()),
        rules=relation.rules - ({name} if kind == "rule" else set()),
        policies=relation.policies - ({name} if kind == "policy" else set()),
        other_dependents=others,
    )


def drop_from_table(names: Iterable[list[str]], kind: Kind, node: Any, tally: Tally) -> None:
    """`DROP TRIGGER`, `DROP RULE`, `DROP POLICY`: ACCESS EXCLUSIVE on the table; a trigger FOR
    EACH ROW of a partitioned table goes from its partitions too.

    Args:
        names: the parts of each name: those of the table, and its own.
        kind: what is dropped.
        node: the DROP statement.
        tally: where to write.

    Raises:
        Refused: it is not there and IF EXISTS is not said.
    """
    field = _FIELDS[kind]
    for parts in names:
        name = parts[-1]
        relation = tally.named(*split_name(parts[:-1]), missing_ok=node.missing_ok)
        if relation is None:
            continue
        known: frozenset[str] = getattr(relation, field)
        if relation.complete and name not in known:
            if node.missing_ok:
                continue
            what = f'{kind} "{name}" for {_of(kind)} "{relation.name.name}" does not exist'
            tally.refuse(what, "42704")
        members = _members(relation, tally) if kind == "trigger" else [relation]
        for member in members:
            tally.lock(member, LockMode.ACCESS_EXCLUSIVE)
            tally.world.put(_without(member, kind, name))
        if kind == "trigger":
            tally.change(Change.DROPPED, "trigger", relation.name, name)


def _of(kind: Kind) -> str:
    return "table" if kind in ("trigger", "policy") else "relation"


def event_trigger(node: Any, tally: Tally) -> None:
    """`CREATE EVENT TRIGGER`, `ALTER EVENT TRIGGER`: no lock on relations; from then on its
    function runs with every command of its event."""


HANDLERS: dict[str, Handler] = {
    "alter_event_trig_stmt": event_trigger,
    "alter_policy_stmt": alter_policy,
    "create_event_trig_stmt": event_trigger,
    "create_policy_stmt": create_policy,
    "create_trig_stmt": create_trigger,
    "rule_stmt": create_rule,
}
