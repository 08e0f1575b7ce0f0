"""VALIDATE CONSTRAINT, DROP CONSTRAINT, ALTER CONSTRAINT.

Facts for rules in `details`: `constraints_validated`, `constraints_dropped` and
`constraints_altered`, lists of (table, `Constraint`) as it was; `unknown_constraints_dropped`, a
list of (table, name); `unnamed_locks`, the strongest mode on tables whose names are not known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from alembic_safe.postgres.effects.handlers.alter_table import AlterTable, Subcommand
from alembic_safe.postgres.effects.handlers.definitions import needs_version
from alembic_safe.postgres.effects.handlers.index_commands import with_partition_indexes
from alembic_safe.postgres.effects.model import Change
from alembic_safe.postgres.effects.tally import Tally
from alembic_safe.postgres.effects.world import Constraint, Relation
from alembic_safe.postgres.locks import LockMode

_INHERITED = "cn"
"""Types of constraints that go to inheriting tables, too; the others go to partitions only."""


def _found(alter: AlterTable, name: str, *, missing_ok: bool = False) -> Constraint | None:
    """Return a constraint of the table; None where it is not known.

    Raises:
        Refused: it is certainly not there, without `missing_ok`.
    """
    table = alter.table
    constraint = table.constraints.get(name)
    if constraint is None and table.complete and not missing_ok:
        alter.tally.refuse(
            f'constraint "{name}" of relation "{table.name.name}" does not exist', "42704"
        )
    return constraint


def _note(alter: AlterTable, key: str, constraint: Constraint) -> None:
    alter.tally.details.setdefault(key, []).append((alter.name, constraint))


# VALIDATE


def validate(alter: AlterTable, command: Any) -> None:
    """`VALIDATE CONSTRAINT`: reads the rows under SHARE UPDATE EXCLUSIVE.

    For a foreign key with ROW SHARE on the table that it references. One that is valid already is
    not looked at.
    """
    tally = alter.tally
    constraint = _found(alter, command.name)
    if constraint is None:
        alter.lock(LockMode.SHARE_UPDATE_EXCLUSIVE)
        tally.assume(f"{command.name} may be a foreign key: the table it references is not known")
        tally.details["unnamed_locks"] = LockMode.ROW_SHARE
        alter.scan()
        return
    table = alter.table
    recurses = constraint.type in _INHERITED or table.kind in "p?"
    alter.lock(LockMode.SHARE_UPDATE_EXCLUSIVE, recurse=recurses)
    if alter.only and recurses and table.children and not constraint.is_validated:
        tally.refuse("constraint must be validated on child tables too", "42P16")
    _refuse_validation(tally, table, constraint)
    _note(alter, "constraints_validated", constraint)
    if constraint.is_validated:
        return
    if constraint.type == "f" and constraint.referenced is not None:
        tally.lock(constraint.referenced, LockMode.ROW_SHARE)
        partner = tally.world.find(constraint.referenced)
        if partner is not None:
            tally.scan(partner)
    for member in list(alter.members()) if recurses else [table]:
        own = member.constraints.get(constraint.name)
        if own is None or own.is_validated:
            continue
        if not member.is_partitioned or not member.complete:
            tally.scan(member)
        alter.put(_with_validated(member, own))


def _refuse_validation(tally: Tally, table: Relation, constraint: Constraint) -> None:
    if constraint.type not in "fcn?":
        kinds = (
            "foreign key, check, or not-null"
            if tally.world.version >= 18
            else ("foreign key or check")
        )
        tally.refuse(
            f'constraint "{constraint.name}" of relation "{table.name.name}" is not a'
            f" {kinds} constraint",
            "42809",
        )
    if not constraint.is_enforced:
        tally.refuse("cannot validate NOT ENFORCED constraint", "55000")


def _with_validated(table: Relation, constraint: Constraint) -> Relation:
    table = table.with_constraint(replace(constraint, is_validated=True))
    if constraint.type == "n":
        for name in constraint.columns:
            column = table.columns.get(name)
            if column is not None:
                table = table.with_column(replace(column, not_null=True))
    return table


# DROP


def drop(alter: AlterTable, command: Any) -> None:
    """`DROP CONSTRAINT`: ACCESS EXCLUSIVE, on the table that a foreign key references too."""
    from postgast import pg_query_pb2 as grammar

    tally, table = alter.tally, alter.table
    cascade = command.behavior == grammar.DROP_CASCADE
    constraint = _found(alter, command.name, missing_ok=command.missing_ok)
    if constraint is None:
        alter.lock(LockMode.ACCESS_EXCLUSIVE)
        if not table.complete:
            _drop_unknown(alter, command.name)
        return
    if constraint.inherited:
        tally.refuse(
            f'cannot drop inherited constraint "{constraint.name}" of relation "{table.name.name}"',
            "42P16",
        )
    alter.lock(
        LockMode.ACCESS_EXCLUSIVE, recurse=constraint.type in _INHERITED or table.kind in "p?"
    )
    if alter.only and constraint.type in _INHERITED:
        for child in table.children:
            tally.lock(child, LockMode.ACCESS_EXCLUSIVE)
    _note(alter, "constraints_dropped", constraint)
    _lock_partner(tally, constraint)
    if constraint.type in "pux":
        _drop_key(alter, constraint, cascade=cascade)
    if constraint.type == "n":
        _refuse_not_null_of_key(tally, table, constraint)
    for member in list(alter.members()):
        own = member.constraints.get(constraint.name)
        if own is not None and (own.inherited or member.name == table.name):
            alter.put(_without(member, own))
    tally.change(Change.DROPPED, "constraint", table.name, constraint.name, born=constraint.born)


def _drop_unknown(alter: AlterTable, name: str) -> None:
    tally = alter.tally
    tally.assume(f"{name} may be a foreign key: the table it references is not known")
    tally.details["unnamed_locks"] = LockMode.ACCESS_EXCLUSIVE
    tally.details.setdefault("unknown_constraints_dropped", []).append((alter.name, name))
    tally.change(Change.DROPPED, "constraint", alter.name, name)


def _lock_partner(tally: Tally, constraint: Constraint) -> None:
    if constraint.type != "f" or constraint.referenced is None:
        return
    partner = tally.world.find(constraint.referenced)
    if tally.world.version >= 15 or partner is None or not partner.is_partitioned:
        tally.lock(constraint.referenced, LockMode.ACCESS_EXCLUSIVE, family=True)
        return
    # Up to version 14 only partitions with rows have triggers, which are dropped.
    tally.lock(constraint.referenced, LockMode.ACCESS_EXCLUSIVE)
    for member in tally.world.family(constraint.referenced):
        if not member.is_partitioned:
            tally.lock(member, LockMode.ACCESS_EXCLUSIVE)


def _without(table: Relation, constraint: Constraint) -> Relation:
    left = {name: each for name, each in table.constraints.items() if name != constraint.name}
    table = replace(table, constraints=left)
    if constraint.type == "n":
        for name in constraint.columns:
            column = table.columns.get(name)
            if column is not None:
                table = table.with_column(replace(column, not_null=False))
    return table


def _refuse_not_null_of_key(tally: Tally, table: Relation, constraint: Constraint) -> None:
    for other in table.constraints.values():
        if other.type == "p" and set(constraint.columns) <= set(other.columns):
            tally.refuse(f'column "{constraint.columns[0]}" is in a primary key', "42P16")
    for name in constraint.columns:
        column = table.columns.get(name)
        if column is not None and column.identity:
            tally.refuse(
                f'column "{name}" of relation "{table.name.name}" is an identity column', "55000"
            )


def _drop_key(alter: AlterTable, constraint: Constraint, *, cascade: bool) -> None:
    """Take a key's index away, with the constraints of partitions, and foreign keys to it."""
    tally, world, table = alter.tally, alter.tally.world, alter.table
    for other, foreign_key in list(_relying(alter, constraint)):
        if not cascade:
            tally.refuse(
                f"cannot drop constraint {constraint.name} on table {table.name.name} because"
                " other objects depend on it",
                "2BP01",
            )
        tally.lock(other, LockMode.ACCESS_EXCLUSIVE)
        tally.change(
            Change.DROPPED, "constraint", other.name, foreign_key.name, born=foreign_key.born
        )
        world.put(_without(world.relations[other.name], foreign_key))
    index = table.indexes.get(constraint.index or constraint.name)
    if index is None:
        return
    for owner, part in list(with_partition_indexes(world, table, index)):
        without = world.remove_index(owner, part.name)
        owned = without.constraints.get(part.constraint or "")
        if owned is not None:
            world.put(_without(without, owned))


def _relying(alter: AlterTable, constraint: Constraint) -> Iterator[tuple[Relation, Constraint]]:
    index = constraint.index or constraint.name
    for other, foreign_key in alter.tally.world.referencing(alter.name):
        if foreign_key.index == index:
            yield other, foreign_key


# ALTER


def alter_constraint(alter: AlterTable, command: Any) -> None:
    """`ALTER CONSTRAINT`: ACCESS EXCLUSIVE.

    A foreign key that becomes ENFORCED (18) is checked under it, and the table that it references
    is locked too.
    """
    tally, table = alter.tally, alter.table
    wanted = getattr(command, "def").atalter_constraint
    if wanted.alter_enforceability:
        needs_version(tally, 18, "ENFORCED")
    if wanted.alter_inheritability:
        needs_version(tally, 18, "INHERIT")
    alter.lock(LockMode.ACCESS_EXCLUSIVE, recurse=table.kind in "p?")
    constraint = _found(alter, wanted.conname)
    if constraint is None:
        _alter_unknown(alter, wanted)
        return
    if constraint.type != "f" and not wanted.alter_inheritability:
        tally.refuse(
            f'constraint "{constraint.name}" of relation "{table.name.name}" is not a foreign'
            " key constraint",
            "42809",
        )
    _note(alter, "constraints_altered", constraint)
    changed = constraint
    if wanted.alter_deferrability:
        changed = replace(changed, is_deferrable=wanted.deferrable)
    if wanted.alter_enforceability and constraint.is_enforced != wanted.is_enforced:
        _change_enforcement(alter, constraint, enforced=wanted.is_enforced)
        changed = replace(changed, is_enforced=wanted.is_enforced, is_validated=wanted.is_enforced)
    for member in list(alter.members()) if table.is_partitioned else [table]:
        own = member.constraints.get(constraint.name)
        if own is not None:
            alter.put(member.with_constraint(replace(changed, inherited=own.inherited)))


def _change_enforcement(alter: AlterTable, constraint: Constraint, *, enforced: bool) -> None:
    tally = alter.tally
    if constraint.referenced is None:
        return
    mode = LockMode.SHARE_ROW_EXCLUSIVE if enforced else LockMode.ACCESS_EXCLUSIVE
    tally.lock(constraint.referenced, mode, family=True)
    if enforced:
        alter.scan()
        partner = tally.world.find(constraint.referenced)
        if partner is not None:
            tally.scan(partner)
        tally.change(
            Change.TIGHTENED, "constraint", alter.name, constraint.name, detail="FOREIGN KEY"
        )


def _alter_unknown(alter: AlterTable, wanted: Any) -> None:
    if not wanted.alter_enforceability:
        return
    tally = alter.tally
    tally.assume(f"the table that {wanted.conname} references is not known")
    if wanted.is_enforced:
        alter.scan()
        tally.details["unnamed_locks"] = LockMode.SHARE_ROW_EXCLUSIVE
        tally.change(Change.TIGHTENED, "constraint", alter.name, wanted.conname, detail="ENFORCED")
    else:
        tally.details["unnamed_locks"] = LockMode.ACCESS_EXCLUSIVE


SUBCOMMANDS: dict[str, Subcommand] = {
    "AT_ValidateConstraint": validate,
    "AT_DropConstraint": drop,
    "AT_AlterConstraint": alter_constraint,
}
