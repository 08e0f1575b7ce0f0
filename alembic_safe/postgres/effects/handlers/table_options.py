"""Properties of a table that touch none of its columns: options, tablespace, owner, inheritance.

Facts for rules in `details`: `options`, names of those that SET (...) and RESET (...) change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from alembic_safe.postgres.effects.handlers.alter_table import AlterTable, Subcommand
from alembic_safe.postgres.effects.handlers.definitions import needs_version
from alembic_safe.postgres.effects.model import Change
from alembic_safe.postgres.effects.world import Relation
from alembic_safe.postgres.locks import LockMode

_STRONG_OPTIONS = frozenset({"user_catalog_table", "check_option", "security_barrier"})
"""Storage parameters that need ACCESS EXCLUSIVE (reloptions.c); others need less."""


_OPTIONS = (
    "autovacuum_",
    "fillfactor",
    "log_autovacuum_",
    "parallel_workers",
    "toast_tuple_target",
    "user_catalog_table",
    "vacuum_",
)
"""How storage parameters of tables begin (reloptions.c)."""


def set_options(alter: AlterTable, command: Any) -> None:
    """`SET (...)`, `RESET (...)`: SHARE UPDATE EXCLUSIVE for nearly all parameters; on a view
    ACCESS EXCLUSIVE."""
    names = [item.def_elem.defname for item in getattr(command, "def").list.items]
    for name in names:
        if alter.table.kind in "rpm" and not name.startswith(_OPTIONS):
            alter.tally.refuse(f'unrecognized parameter "{name}"', "22023")
    alter.tally.details.setdefault("options", []).extend(names)
    is_strong = any(name in _STRONG_OPTIONS for name in names) or alter.table.kind == "v"
    mode = LockMode.ACCESS_EXCLUSIVE if is_strong else LockMode.SHARE_UPDATE_EXCLUSIVE
    alter.lock(mode, recurse=False)


def replace_options(alter: AlterTable, command: Any) -> None:
    """What `CREATE OR REPLACE VIEW` does with a view's options: ACCESS EXCLUSIVE."""
    alter.lock(LockMode.ACCESS_EXCLUSIVE, recurse=False)


def set_tablespace(alter: AlterTable, command: Any) -> None:
    """`SET TABLESPACE`: ACCESS EXCLUSIVE while the table's files are copied; its indexes stay."""
    alter.lock(LockMode.ACCESS_EXCLUSIVE, recurse=False)
    table = alter.table
    is_default = command.name == "pg_default" and table.tablespace is None and table.complete
    if is_default or table.tablespace == command.name:
        return
    if not table.is_partitioned:
        alter.tally.rewrite(table)
    alter.put(replace(table, tablespace=command.name))


def set_access_method(alter: AlterTable, command: Any) -> None:
    """`SET ACCESS METHOD` (15): ACCESS EXCLUSIVE while the rows are written again."""
    needs_version(alter.tally, 15, "ACCESS")
    alter.lock(LockMode.ACCESS_EXCLUSIVE, recurse=False)
    table = alter.table
    if table.is_partitioned and alter.tally.world.version < 17:
        alter.tally.refuse("cannot change access method of a partitioned table", "42809")
    method = command.name or alter.tally.world.settings.get("default_table_access_method", "heap")
    if (table.access_method or ("heap" if table.complete else None)) == method:
        return
    if not table.complete:
        alter.tally.assume(f"the access method of {table.name.name} is not {method} yet")
    if not table.is_partitioned:
        alter.rewritten = True
        alter.tally.rewrite(table)
    alter.put(replace(table, access_method=method))


def set_logged(alter: AlterTable, command: Any) -> None:
    """`SET LOGGED`: ACCESS EXCLUSIVE while the rows are written again."""
    _set_persistence(alter, "p")


def set_unlogged(alter: AlterTable, command: Any) -> None:
    """`SET UNLOGGED`: ACCESS EXCLUSIVE while the rows are written again."""
    _set_persistence(alter, "u")


def _set_persistence(alter: AlterTable, persistence: str) -> None:
    alter.lock(LockMode.ACCESS_EXCLUSIVE, recurse=False)
    tally, table = alter.tally, alter.table
    if table.persistence == "t":
        tally.refuse(
            f'cannot change logged status of table "{table.name.name}" because it is temporary',
            "42P16",
        )
    if table.is_partitioned and tally.world.version >= 18:
        tally.refuse(
            f"ALTER action {'SET LOGGED' if persistence == 'p' else 'SET UNLOGGED'} cannot be"
            f' performed on relation "{table.name.name}"',
            "42809",
        )
    if table.complete and table.persistence == persistence:
        return
    if not table.complete:
        other = "unlogged" if persistence == "p" else "logged"
        tally.assume(f"{table.name.name} is {other}")
    _refuse_keys_between(alter, table, persistence)
    if not table.is_partitioned:
        alter.rewritten = True
        tally.rewrite(table)
    alter.put(replace(table, persistence=persistence))
    for column in table.columns.values():
        sequence = column.sequence and tally.world.find(column.sequence)
        if sequence and tally.world.version >= 15:
            tally.lock(sequence, LockMode.ACCESS_EXCLUSIVE)
            alter.put(replace(sequence, persistence=persistence))


def _refuse_keys_between(alter: AlterTable, table: Relation, persistence: str) -> None:
    """Refuse a permanent table that references an unlogged one."""
    world = alter.tally.world
    for constraint in table.constraints.values():
        partner = world.find(constraint.referenced) if constraint.referenced else None
        if partner is None or partner.name == table.name or persistence == "u":
            continue
        if partner.persistence == "u":
            alter.tally.refuse(
                f'could not change table "{table.name.name}" to logged because it references'
                f' unlogged table "{partner.name.name}"',
                "42P16",
            )
    for other, _ in world.referencing(table.name):
        if persistence == "u" and other.name != table.name and other.persistence == "p":
            alter.tally.refuse(
                f'could not change table "{table.name.name}" to unlogged because it references'
                f' logged table "{other.name.name}"',
                "42P16",
            )


def cluster_on(alter: AlterTable, command: Any) -> None:
    """`CLUSTER ON`: SHARE UPDATE EXCLUSIVE; nothing is sorted yet."""
    alter.lock(LockMode.SHARE_UPDATE_EXCLUSIVE, recurse=False)
    _need_index(alter, command.name)


def drop_cluster(alter: AlterTable, command: Any) -> None:
    """`SET WITHOUT CLUSTER`: SHARE UPDATE EXCLUSIVE."""
    alter.lock(LockMode.SHARE_UPDATE_EXCLUSIVE, recurse=False)


def replica_identity(alter: AlterTable, command: Any) -> None:
    """`REPLICA IDENTITY`: ACCESS EXCLUSIVE."""
    alter.lock(LockMode.ACCESS_EXCLUSIVE, recurse=False)
    name = getattr(command, "def").replica_identity_stmt.name
    if name:
        _need_index(alter, name)


def _need_index(alter: AlterTable, name: str) -> None:
    table = alter.table
    if table.complete and name not in table.indexes:
        alter.tally.refuse(f'index "{name}" for table "{table.name.name}" does not exist', "42704")


def add_inherit(alter: AlterTable, command: Any) -> None:
    """`INHERIT`: ACCESS EXCLUSIVE, and SHARE UPDATE EXCLUSIVE on the parent."""
    alter.lock(LockMode.ACCESS_EXCLUSIVE, recurse=False)
    tally, table = alter.tally, alter.table
    parent = tally.relation(getattr(command, "def").range_var)
    assert parent is not None  # without missing_ok
    tally.lock(parent, LockMode.SHARE_UPDATE_EXCLUSIVE)
    if table.is_partition or parent.is_partition or parent.is_partitioned or table.is_partitioned:
        tally.refuse("cannot change inheritance of a partition or partitioned table", "42809")
    if parent.name in table.parents:
        tally.refuse(
            f'relation "{parent.name.name}" would be inherited from more than once', "42P07"
        )
    if parent.name in {member.name for member in tally.world.family(table.name)}:
        tally.refuse("circular inheritance not allowed", "42P07")
    if table.complete and parent.complete:
        missing = [name for name in parent.columns if name not in table.columns]
        if missing:
            tally.refuse(f'child table is missing column "{missing[0]}"', "42804")
        for constraint in parent.constraints.values():
            if constraint.type == "c" and constraint.name not in table.constraints:
                # One that is NO INHERIT need not be there.
                tally.may_fail(f'child table is missing constraint "{constraint.name}"', "42804")
    alter.put(replace(parent, children=(*parent.children, table.name)))
    inherited = {
        name: replace(column, inherited=True) if name in parent.columns else column
        for name, column in table.columns.items()
    }
    alter.put(replace(table, parents=(*table.parents, parent.name), columns=inherited))


def drop_inherit(alter: AlterTable, command: Any) -> None:
    """`NO INHERIT`: ACCESS EXCLUSIVE."""
    alter.lock(LockMode.ACCESS_EXCLUSIVE, recurse=False)
    tally, table = alter.tally, alter.table
    parent = tally.relation(getattr(command, "def").range_var)
    assert parent is not None  # without missing_ok
    if table.is_partition:
        tally.refuse("cannot change inheritance of a partition", "42809")
    if table.complete and parent.name not in table.parents:
        tally.refuse(
            f'relation "{parent.name.name}" is not a parent of relation "{table.name.name}"',
            "42P01",
        )
    left = tuple(child for child in parent.children if child != table.name)
    alter.put(replace(parent, children=left))
    parents = tuple(each for each in table.parents if each != parent.name)
    still = [p for each in parents if (p := tally.world.find(each)) is not None]
    own = {
        name: replace(column, inherited=any(name in each.columns for each in still))
        for name, column in table.columns.items()
    }
    alter.put(replace(alter.table, parents=parents, columns=own))
    tally.change(Change.HIDDEN, "table", table.name, detail=f"no part of {parent.name} any more")


def trigger_state(alter: AlterTable, command: Any) -> None:
    """`ENABLE TRIGGER`, `DISABLE TRIGGER`: SHARE ROW EXCLUSIVE, on partitions too since 15."""
    has_partitions = alter.table.is_partitioned or not alter.table.complete
    alter.lock(LockMode.SHARE_ROW_EXCLUSIVE, recurse=has_partitions)
    table = alter.table
    if command.name and table.complete and command.name not in table.triggers:
        alter.tally.refuse(
            f'trigger "{command.name}" for table "{table.name.name}" does not exist', "42704"
        )


def rule_state(alter: AlterTable, command: Any) -> None:
    """`ENABLE RULE`, `DISABLE RULE`: ACCESS EXCLUSIVE."""
    alter.lock(LockMode.ACCESS_EXCLUSIVE, recurse=False)
    table = alter.table
    if table.complete and table.kind != "v" and command.name not in table.rules:
        alter.tally.refuse(
            f'rule "{command.name}" for relation "{table.name.name}" does not exist', "42704"
        )


def change_owner(alter: AlterTable, command: Any) -> None:
    """`OWNER TO`: ACCESS EXCLUSIVE, on owned sequences too."""
    alter.lock(LockMode.ACCESS_EXCLUSIVE, recurse=False)
    for column in alter.table.columns.values():
        if column.sequence is not None:
            alter.tally.lock(column.sequence, LockMode.ACCESS_EXCLUSIVE)


def _alone(alter: AlterTable, command: Any) -> None:
    """Row level security, `OF`, `NOT OF`, `SET WITHOUT OIDS`, options of a foreign table: ACCESS
    EXCLUSIVE on the table alone."""
    alter.lock(LockMode.ACCESS_EXCLUSIVE, recurse=False)


_TRIGGERS: tuple[str, ...] = (
    "AT_EnableTrig",
    "AT_EnableAlwaysTrig",
    "AT_EnableReplicaTrig",
    "AT_DisableTrig",
    "AT_EnableTrigAll",
    "AT_DisableTrigAll",
    "AT_EnableTrigUser",
    "AT_DisableTrigUser",
)
_RULES: tuple[str, ...] = (
    "AT_EnableRule",
    "AT_EnableAlwaysRule",
    "AT_EnableReplicaRule",
    "AT_DisableRule",
)
_OTHERS: tuple[str, ...] = (
    "AT_EnableRowSecurity",
    "AT_DisableRowSecurity",
    "AT_ForceRowSecurity",
    "AT_NoForceRowSecurity",
    "AT_AddOf",
    "AT_DropOf",
    "AT_DropOids",
    "AT_GenericOptions",
)


def _each(names: tuple[str, ...], does: Callable[[AlterTable, Any], None]) -> dict[str, Subcommand]:
    return dict.fromkeys(names, does)


SUBCOMMANDS: dict[str, Subcommand] = {
    "AT_SetRelOptions": set_options,
    "AT_ResetRelOptions": set_options,
    "AT_ReplaceRelOptions": replace_options,
    "AT_SetTableSpace": set_tablespace,
    "AT_SetAccessMethod": set_access_method,
    "AT_SetLogged": set_logged,
    "AT_SetUnLogged": set_unlogged,
    "AT_ClusterOn": cluster_on,
    "AT_DropCluster": drop_cluster,
    "AT_ReplicaIdentity": replica_identity,
    "AT_AddInherit": add_inherit,
    "AT_DropInherit": drop_inherit,
    "AT_ChangeOwner": change_owner,
    **_each(_TRIGGERS, trigger_state),
    **_each(_RULES, rule_state),
    **_each(_OTHERS, _alone),
}
