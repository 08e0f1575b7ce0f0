"""Partitions: CREATE TABLE ... PARTITION OF, ATTACH PARTITION, DETACH PARTITION.

Facts for rules in `details`: `attached` and `detached`, (parent, partition); `proven`, whether
checks prove the bound of an attached partition; `unnamed_locks`, the strongest mode on tables whose
names are not known.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from alembic_safe.postgres.effects.handlers.alter_table import AlterTable, Subcommand
from alembic_safe.postgres.effects.handlers.definitions import needs_version, text_of
from alembic_safe.postgres.effects.handlers.indexes import give_partition_index
from alembic_safe.postgres.effects.predicates import (
    And,
    Atom,
    Condition,
    Or,
    condition_of,
    constant,
    implies,
    negation,
    overlap,
)
from alembic_safe.postgres.effects.tally import Tally
from alembic_safe.postgres.effects.world import Constraint, Relation
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.postgres.locks import LockMode

# Bounds


def bound_of(node: Any) -> str:
    """Return the text of a `PartitionBoundSpec`, as `FOR VALUES FROM (1) TO (2)`."""
    if node.is_default:
        return "DEFAULT"
    if node.strategy == "h":
        return f"FOR VALUES WITH (modulus {node.modulus}, remainder {node.remainder})"
    if node.strategy == "l":
        return f"FOR VALUES IN ({_values(node.listdatums)})"
    return f"FOR VALUES FROM ({_values(node.lowerdatums)}) TO ({_values(node.upperdatums)})"


def _values(nodes: Any) -> str:
    # MINVALUE and MAXVALUE are read as columns.
    return ", ".join(
        text_of(node).upper() if node.HasField("column_ref") else text_of(node) for node in nodes
    )


def _asked_by(node: Any, parent: Relation) -> Condition:
    """Return the condition on the rows of a partition with that bound; None where it is not one
    that checks are known to prove: of several columns, of an expression, by hash."""
    if node.is_default or node.strategy == "h" or parent.has_key_expressions:
        return None
    if len(parent.partition_key) != 1:
        return None
    name = parent.partition_key[0]
    column = parent.columns.get(name)
    parts: list[Condition] = [Atom(name, "is not null")]
    if node.strategy == "l":
        values = [constant(value, column) for value in node.listdatums]
        parts.append(Or(tuple(Atom(name, "=", value) for value in values)))
        return And(tuple(parts)) if None not in values else None
    for datums, operator in ((node.lowerdatums, ">="), (node.upperdatums, "<")):
        if not datums[0].HasField("column_ref"):
            value = constant(datums[0], column)
            parts.append(Atom(name, operator, value) if value is not None else None)
    return And(tuple(parts))


def _known_of(table: Relation) -> Condition:
    """Return what the validated checks and NOT NULLs of a table say about its rows."""
    parts: list[Condition] = [
        Atom(column.name, "is not null") for column in table.columns.values() if column.not_null
    ]
    for check in table.constraints.values():
        if check.type == "c" and check.is_validated and check.is_enforced:
            parts.append(_read(check, table))
    return And(tuple(parts))


def _read(check: Constraint, table: Relation) -> Condition:
    import postgast

    try:
        select = postgast.parse(f"SELECT {check.expression}").stmts[0].stmt.select_stmt
    except (postgast.PgQueryError, RecursionError):
        return None
    targets = select.target_list
    return condition_of(targets[0].res_target.val, table.columns) if len(targets) == 1 else None


def _refuse_overlap(tally: Tally, parent: Relation, name: QualifiedName, bound: Any) -> None:
    wanted = _asked_by(bound, parent)
    for child in parent.children:
        sibling = tally.world.find(child)
        other = _bound_node(sibling.bound) if sibling is not None else None
        if other is not None and overlap(wanted, _asked_by(other, parent)):
            tally.refuse(f'partition "{name.name}" would overlap partition "{child.name}"', "42P17")


def _bound_node(text: str) -> Any:
    """Return the `PartitionBoundSpec` of a bound's text; None where it cannot be read."""
    import postgast

    try:
        tree = postgast.parse(f"ALTER TABLE t ATTACH PARTITION p {text}")
    except postgast.PgQueryError:
        return None
    command = tree.stmts[0].stmt.alter_table_stmt.cmds[0].alter_table_cmd
    return getattr(command, "def").partition_cmd.bound


# What a table gets when it becomes a partition


def adopt(tally: Tally, parent: QualifiedName, name: QualifiedName, bound: Any) -> None:
    """Make a table a partition of another.

    The default partition is locked in ACCESS EXCLUSIVE, and read unless its checks prove that none
    of its rows belongs to the new one. Foreign keys and indexes are handed down.

    Args:
        tally: of the statement.
        parent: the partitioned table.
        name: the partition, which has the columns already.
        bound: its `PartitionBoundSpec`.
    """
    world = tally.world
    above = world.relations[parent]
    _refuse_overlap(tally, above, name, bound)
    _check_default_partition(tally, above, bound)
    if world.version >= 15:
        for other, _ in list(world.referencing(parent)):
            tally.lock(other, LockMode.SHARE_ROW_EXCLUSIVE)
    world.put(_as_partition(world.relations[name], above, bound))
    world.put(replace(above, children=(*above.children, name)))
    for index in above.indexes.values():
        owner = above.constraints.get(index.constraint or "")
        give_partition_index(tally, above, index, owner, world.relations[name])
    for constraint in above.constraints.values():
        if constraint.type == "f" and constraint.referenced is not None:
            _hand_down_foreign_key(tally, constraint, name)


def _as_partition(table: Relation, parent: Relation, bound: Any) -> Relation:
    """Return a table as a partition: columns, checks and NOT NULLs count as inherited."""
    columns = {
        name: replace(column, inherited=True) if name in parent.columns else column
        for name, column in table.columns.items()
    }
    constraints = {
        name: replace(constraint, inherited=True)
        if _is_inherited(constraint, parent)
        else constraint
        for name, constraint in table.constraints.items()
    }
    return replace(
        table,
        columns=columns,
        constraints=constraints,
        parents=(parent.name,),
        is_partition=True,
        is_default_partition=bound.is_default,
        bound=bound_of(bound),
    )


def _is_inherited(constraint: Constraint, parent: Relation) -> bool:
    if constraint.type == "c":
        above = parent.constraints.get(constraint.name)
        return above is not None and above.type == "c"
    return constraint.type == "n" and any(
        each.type == "n" and each.columns == constraint.columns
        for each in parent.constraints.values()
    )


def default_partition(tally: Tally, parent: Relation) -> Relation | None:
    """Return the partition of a table for what no other takes."""
    for child in parent.children:
        found = tally.world.find(child)
        if found is not None and found.is_default_partition:
            return found
    return None


def _check_default_partition(tally: Tally, parent: Relation, bound: Any) -> None:
    default = default_partition(tally, parent)
    if default is None:
        if not parent.complete and not bound.is_default:
            tally.assume(f"{parent.name} may have a default partition, which is then read")
            tally.scans[parent.name] = None
        return
    if bound.is_default:
        tally.refuse(
            f'partition conflicts with existing default partition "{default.name.name}"', "42P17"
        )
    tally.lock(default, LockMode.ACCESS_EXCLUSIVE, family=True)
    elsewhere = negation(_asked_by(bound, parent))
    for member in tally.world.family(default.name):
        known = And((_known_of(default), _known_of(member)))
        if not member.is_partitioned and not implies(known, elsewhere):
            tally.scan(member)


def _hand_down_foreign_key(tally: Tally, constraint: Constraint, name: QualifiedName) -> None:
    """Give a partition a foreign key of its parent; its rows are checked unless it has the same."""
    world, partner = tally.world, constraint.referenced
    if partner is None:
        return
    tally.lock(partner, LockMode.SHARE_ROW_EXCLUSIVE, family=True)
    for member in list(world.family(name)):
        same = [
            each
            for each in member.constraints.values()
            if each.type == "f"
            and each.referenced == partner
            and (each.columns, each.referenced_columns)
            == (constraint.columns, constraint.referenced_columns)
        ]
        kept = same[0] if same else replace(constraint, born=world.batch)
        world.put(member.with_constraint(replace(kept, inherited=True)))
        is_empty = tally.is_new(member.name) and member.size == 0
        if not same and not is_empty and constraint.is_enforced and not member.is_partitioned:
            tally.scan(member)
            found = world.find(partner)
            if found is not None:
                tally.scan(found)


# ATTACH


def attach(alter: AlterTable, command: Any) -> None:
    """`ATTACH PARTITION`: SHARE UPDATE EXCLUSIVE on the parent, ACCESS EXCLUSIVE on the partition.

    The partition is read unless its validated checks prove the bound. Indexes of the parent that
    it lacks are built.
    """
    tally = alter.tally
    node = getattr(command, "def").partition_cmd
    alter.lock(LockMode.SHARE_UPDATE_EXCLUSIVE, recurse=False)
    if alter.table.kind == "?":
        alter.put(replace(alter.table, kind="p"))
    parent, child = alter.table, tally.existing(node.name)
    if not parent.is_partitioned:
        tally.refuse(f'table "{parent.name.name}" is not partitioned', "42809")
    if child.is_partition:
        tally.refuse(f'"{child.name.name}" is already a partition', "42809")
    tally.lock(child, LockMode.ACCESS_EXCLUSIVE, family=True)
    _refuse_mismatch(tally, parent, child)
    is_proven = _is_proven(tally, parent, child, node.bound)
    tally.details |= {"attached": (parent.name, child.name), "proven": is_proven}
    adopt(tally, parent.name, child.name, node.bound)


def _is_proven(tally: Tally, parent: Relation, child: Relation, bound: Any) -> bool:
    """Note the scan of what becomes a partition, and return whether there is none."""
    if bound.is_default and not parent.children and parent.complete:
        return True
    asked, whole = _asked_by(bound, parent), True
    for member in tally.world.family(child.name):
        if member.is_partitioned and member.complete:
            continue
        if not implies(And((_known_of(child), _known_of(member))), asked):
            tally.scan(member)
            whole = False
    return whole


def _refuse_mismatch(tally: Tally, parent: Relation, child: Relation) -> None:
    if not parent.complete or not child.complete:
        return
    name = child.name.name
    for column in parent.columns.values():
        own = child.columns.get(column.name)
        if own is None:
            tally.refuse(f'child table is missing column "{column.name}"', "42804")
        if column.not_null and not own.not_null:
            tally.refuse(
                f'column "{column.name}" in child table "{name}" must be marked NOT NULL', "42804"
            )
    for extra in child.columns.keys() - parent.columns.keys():
        tally.refuse(
            f'table "{name}" contains column "{extra}" not found in parent "{parent.name.name}"',
            "42804",
        )
    for check in parent.constraints.values():
        if check.type == "c" and check.name not in child.constraints:
            tally.refuse(f'child table is missing constraint "{check.name}"', "42804")


# DETACH


def detach(alter: AlterTable, command: Any) -> None:
    """`DETACH PARTITION`: ACCESS EXCLUSIVE on the parent and the partition.

    Up to version 13 only SHARE UPDATE EXCLUSIVE on the partition. With CONCURRENTLY (14) the parent
    is locked in SHARE UPDATE EXCLUSIVE, and the statement must stand outside of a transaction.
    """
    tally = alter.tally
    node = getattr(command, "def").partition_cmd
    if node.concurrent:
        needs_version(tally, 14, "concurrently")
        tally.command = "ALTER TABLE ... DETACH CONCURRENTLY"
        tally.only_outside_transaction()
        tally.command = "ALTER TABLE"
    alter.lock(
        LockMode.SHARE_UPDATE_EXCLUSIVE if node.concurrent else LockMode.ACCESS_EXCLUSIVE,
        recurse=False,
    )
    child = tally.existing(node.name)
    default = default_partition(tally, alter.table)
    if default is not None:
        if node.concurrent:
            tally.refuse(
                "cannot detach partitions concurrently when a default partition exists", "55000"
            )
        tally.lock(default, LockMode.ACCESS_EXCLUSIVE)
    _detach(alter, child, is_concurrent=node.concurrent)


def finalize(alter: AlterTable, command: Any) -> None:
    """`DETACH PARTITION ... FINALIZE` (14), for one that CONCURRENTLY left half done."""
    needs_version(alter.tally, 14, "finalize")
    alter.lock(LockMode.SHARE_UPDATE_EXCLUSIVE, recurse=False)
    _detach(alter, alter.tally.existing(getattr(command, "def").partition_cmd.name))


def _detach(alter: AlterTable, child: Relation, *, is_concurrent: bool = False) -> None:
    tally, world, parent = alter.tally, alter.tally.world, alter.table
    if parent.complete and child.name not in parent.children:
        tally.refuse(
            f'relation "{child.name.name}" is not a partition of relation "{parent.name.name}"',
            "42P01",
        )
    if not child.complete or not parent.complete:
        tally.assume(f"what is a partition of {child.name}, and its foreign keys, are not known")
        tally.details["unnamed_locks"] = LockMode.ACCESS_EXCLUSIVE
    references = list(world.referencing(parent.name))
    is_weak = world.version < 14 and not references
    mode = LockMode.SHARE_UPDATE_EXCLUSIVE if is_weak else LockMode.ACCESS_EXCLUSIVE
    tally.lock(child, mode)
    for below in child.children:
        tally.lock(below, LockMode.ACCESS_EXCLUSIVE, family=True)
    for constraint in child.constraints.values():
        if constraint.type == "f" and constraint.referenced is not None and constraint.inherited:
            tally.lock(constraint.referenced, LockMode.SHARE_ROW_EXCLUSIVE)
    for other, constraint in references:
        tally.lock(other, LockMode.ACCESS_EXCLUSIVE)
        if constraint.is_enforced:
            tally.scan(other)
    tally.details["detached"] = (parent.name, child.name)
    left = tuple(name for name in parent.children if name != child.name)
    alter.put(replace(parent, children=left))
    alter.put(_standing_alone(child))


def _standing_alone(table: Relation) -> Relation:
    return replace(
        table,
        parents=(),
        is_partition=False,
        is_default_partition=False,
        bound="",
        columns={name: replace(c, inherited=False) for name, c in table.columns.items()},
        indexes={name: replace(index, parent=None) for name, index in table.indexes.items()},
        constraints={name: replace(c, inherited=False) for name, c in table.constraints.items()},
    )


SUBCOMMANDS: dict[str, Subcommand] = {
    "AT_AttachPartition": attach,
    "AT_DetachPartition": detach,
    "AT_DetachPartitionFinalize": finalize,
}
