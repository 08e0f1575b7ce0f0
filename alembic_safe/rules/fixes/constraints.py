"""Constraints: NOT VALID first, validated in a transaction of its own."""

from __future__ import annotations

from typing import Any

from alembic_safe.postgres.deparsing import expression_sql, statement_sql
from alembic_safe.postgres.effects import Effects, World
from alembic_safe.postgres.effects.world import Relation
from alembic_safe.postgres.identifiers import (
    QualifiedName,
    readable,
)
from alembic_safe.rules.finding import Fix, Surroundings
from alembic_safe.rules.fixes.writing import (
    call,
    copy_of,
    deferrable,
    exact,
    execute,
    fix,
    name_of_new,
    one_by_one,
    phase_of,
    sql_name,
)
from alembic_safe.rules.reading import (
    Subcommand,
    constraint_type,
    only_subcommand,
    strings,
    table_of,
    written,
)

ON_PARTITIONED_TABLES = 18
"""The first version where a foreign key of a partitioned table can be NOT VALID."""


@exact
def constraint_not_valid(effects: Effects, surroundings: Surroundings) -> Fix | None:
    """`NOT VALID`, then `VALIDATE CONSTRAINT`."""
    subcommand = only_subcommand(effects, "AddConstraint", "AddColumn")
    if subcommand is None:
        return None
    if subcommand.kind == "AddColumn":
        return _column_then_constraint(effects, subcommand, surroundings)
    constraint = subcommand.definition
    changed = copy_of(effects.node)
    definition = getattr(changed.cmds[0].alter_table_cmd, "def").constraint
    return _not_valid(effects, changed, definition, constraint_type(constraint), surroundings)


def _not_valid(
    effects: Effects, statement: Any, constraint: Any, kind: str, surroundings: Surroundings
) -> Fix | None:
    """Return the fix for `statement`, an ALTER TABLE that adds just this constraint of its tree."""
    world = surroundings.world
    table = table_of(effects, world)
    relation = world.find(table)
    if relation is None:
        return None
    if kind == "FOREIGN" and relation.is_partitioned and world.version < ON_PARTITIONED_TABLES:
        return None
    constraint.conname = constraint.conname or name_of_new(effects, relation, kind)
    constraint.skip_validation = True
    constraint.initially_valid = False
    add = statement_sql("alter_table_stmt", statement)
    if not constraint.conname:
        return None
    name, shown = constraint.conname, written(table, world)
    validate = f"ALTER TABLE {sql_name(shown)} VALIDATE CONSTRAINT {readable(name)}"
    calls = [
        _add_not_valid(shown, constraint, kind, world) or execute(add),
        call("validate_constraint", name, shown.name, schema=shown.schema),
    ]
    phase = phase_of(effects, surroundings)
    return fix(one_by_one(*calls), [add, validate], surroundings, phase=phase)


def _add_not_valid(table: QualifiedName, constraint: Any, kind: str, world: World) -> str:
    """Return the call of our operation; empty where it cannot say what the constraint says."""
    if kind == "CHECK" and not constraint.is_no_inherit:
        condition = expression_sql(constraint.raw_expr)
        return call(
            "create_check_constraint_not_valid",
            constraint.conname,
            table.name,
            condition,
            schema=table.schema,
        )
    if kind != "FOREIGN" or constraint.fk_with_period:
        return ""
    referenced = world.qualified(constraint.pktable.relname, constraint.pktable.schemaname or None)
    remote = strings(constraint.pk_attrs) or _primary_key(world.find(referenced))
    if not remote:
        return ""
    shown = written(referenced, world)
    return call(
        "create_foreign_key_not_valid",
        constraint.conname,
        table.name,
        shown.name,
        local_cols=strings(constraint.fk_attrs),
        remote_cols=remote,
        options=_foreign_key_options(constraint) or None,
        source_schema=table.schema,
        referent_schema=shown.schema,
    )


_ACTIONS = {"c": "CASCADE", "n": "SET NULL", "d": "SET DEFAULT", "r": "RESTRICT"}


def _foreign_key_options(constraint: Any) -> str:
    """Return what stands behind the columns of a foreign key."""
    options = ["MATCH FULL"] if constraint.fk_matchtype == "f" else []
    if constraint.fk_upd_action in _ACTIONS:
        options.append(f"ON UPDATE {_ACTIONS[constraint.fk_upd_action]}")
    if constraint.fk_del_action in _ACTIONS:
        options.append(f"ON DELETE {_ACTIONS[constraint.fk_del_action]}")
        columns = strings(constraint.fk_del_set_cols)
        if columns:
            options.append(f"({', '.join(readable(column) for column in columns)})")
    return " ".join([*options, deferrable(constraint)]).strip()


def _column_then_constraint(
    effects: Effects, subcommand: Subcommand, surroundings: Surroundings
) -> Fix | None:
    """Return the column without its one CHECK or foreign key, and that behind it."""
    kinds = [constraint_type(node.constraint) for node in subcommand.definition.constraints]
    checked = [kind for kind in kinds if kind in ("CHECK", "FOREIGN")]
    if len(checked) != 1 or set(kinds) - {"CHECK", "FOREIGN", "DEFAULT", "NULL", "NOTNULL"}:
        return None
    column, adding = copy_of(effects.node), copy_of(effects.node)
    in_column = getattr(column.cmds[0].alter_table_cmd, "def").column_def.constraints
    place = kinds.index(checked[0])
    constraint = copy_of(in_column[place].constraint)
    del in_column[place]
    cmd = adding.cmds[0].alter_table_cmd
    cmd.Clear()
    cmd.subtype = "AT_AddConstraint"
    cmd.behavior = "DROP_RESTRICT"
    definition = getattr(cmd, "def").constraint
    definition.CopyFrom(constraint)
    if checked[0] == "FOREIGN" and not definition.fk_attrs:
        definition.fk_attrs.add().string.sval = subcommand.definition.colname
    add_column = statement_sql("alter_table_stmt", column)
    rest = _not_valid(effects, adding, definition, checked[0], surroundings)
    if rest is None:
        return None
    return fix(
        f"{execute(add_column)}\n{rest.operations}",
        [add_column, *rest.sql.removesuffix(";").split(";\n")],
        surroundings,
        phase=rest.phase,
    )


def _primary_key(relation: Relation | None) -> list[str]:
    constraints = relation.constraints.values() if relation is not None else ()
    return next((list(c.columns) for c in constraints if c.type == "p"), [])
