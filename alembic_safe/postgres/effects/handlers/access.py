"""Privileges, roles, comments, publications, subscriptions and extended statistics."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from alembic_safe.postgres.effects.handlers.definitions import columns_used
from alembic_safe.postgres.effects.handlers.names import is_system, object_name, split_name, strings
from alembic_safe.postgres.effects.handlers.options import is_on
from alembic_safe.postgres.effects.model import Change
from alembic_safe.postgres.effects.tally import Handler, Tally
from alembic_safe.postgres.effects.world import Relation
from alembic_safe.postgres.identifiers import QualifiedName, readable
from alembic_safe.postgres.locks import LockMode


def grant(node: Any, tally: Tally) -> None:
    """`GRANT`, `REVOKE`: no lock that reads or writes wait for. What is revoked is hidden from the
    running release, if it is its role that loses it.

    Details:
        privileges: their names in lower case; empty is ALL.
    """
    from postgast import pg_query_pb2 as grammar

    privileges = [item.access_priv.priv_name for item in node.privileges]
    tally.details["privileges"] = tuple(privileges)
    for item in node.objects:
        if item.WhichOneof("node") == "range_var" and not is_system(
            item.range_var.relname, item.range_var.schemaname or None
        ):
            tally.existing(item.range_var)
    if node.is_grant:
        return
    kind = grammar.ObjectType.Name(node.objtype).removeprefix("OBJECT_").lower()
    detail = ", ".join(privileges).upper() or "ALL"
    for item in node.objects:
        if node.targtype == grammar.ACL_TARGET_ALL_IN_SCHEMA:
            schema = QualifiedName(item.string.sval)
            tally.change(Change.HIDDEN, "schema", schema, detail=f"{detail} on all in it")
        elif item.WhichOneof("node") == "range_var":
            table = item.range_var
            hidden = tally.world.qualified(table.relname, table.schemaname or None)
            tally.change(Change.HIDDEN, kind, hidden, detail=detail)
        else:
            name, schema_name = split_name(object_name(item) or [""])
            tally.change(Change.HIDDEN, kind, QualifiedName(name, schema_name), detail=detail)


def no_lock(node: Any, tally: Tally) -> None:
    """Roles, memberships, default privileges, user mappings: no lock on relations."""


def revoke_role(node: Any, tally: Tally) -> None:
    """`GRANT role`, `REVOKE role`: no lock; a role that is revoked takes its privileges along."""
    if node.is_grant:
        return
    for role in node.granted_roles:
        name = QualifiedName(role.access_priv.priv_name)
        tally.change(Change.HIDDEN, "role", name, detail="membership")


def comment(node: Any, tally: Tally) -> None:
    """`COMMENT`, `SECURITY LABEL`: SHARE UPDATE EXCLUSIVE on a relation or index; that of a
    constraint, trigger, rule or policy is only looked at.

    Raises:
        Refused: the relation is certainly not there.
    """
    from postgast import pg_query_pb2 as grammar

    kind = grammar.ObjectType.Name(node.objtype).removeprefix("OBJECT_")
    parts = object_name(node.object)
    if kind == "COLUMN":
        parts = parts[:-1]
    if kind in ("COLUMN", *_RELATIONS) and parts:
        lock_named(parts, LockMode.SHARE_UPDATE_EXCLUSIVE, tally, is_index=kind == "INDEX")
    if kind == "COLUMN":
        _check_column(parts, object_name(node.object)[-1], tally)


_RELATIONS = ("TABLE", "VIEW", "MATVIEW", "SEQUENCE", "INDEX", "FOREIGN_TABLE")


def _check_column(parts: list[str], column: str, tally: Tally) -> None:
    relation = tally.world.find(tally.world.qualified(*split_name(parts)))
    if relation is not None and relation.complete and column not in relation.columns:
        message = f'column "{column}" of relation "{relation.name.name}" does not exist'
        tally.refuse(message, "42703")


def lock_named(parts: list[str], mode: LockMode, tally: Tally, *, is_index: bool = False) -> None:
    """Note a lock on a relation or index by its name."""
    world = tally.world
    name = world.qualified(*split_name(parts))
    if name in world.index_tables or (is_index and world.find(name) is None):
        if name not in world.index_tables and world.is_gone(name):
            tally.refuse(f'relation "{name.name}" does not exist', "42P01")
        tally.lock(name, mode)
        return
    relation = tally.named(*split_name(parts))
    assert relation is not None
    tally.lock(relation, mode)


# Publications and subscriptions


def publication(node: Any, tally: Tally) -> None:
    """`CREATE PUBLICATION`, `ALTER PUBLICATION`: SHARE UPDATE EXCLUSIVE on each table named.

    Raises:
        Refused: a table is certainly not there.
    """
    from postgast import pg_query_pb2 as grammar

    key = f"publication {readable(node.pubname)}"
    is_alter = node.DESCRIPTOR.name == "AlterPublicationStmt"
    if is_alter and node.action == grammar.AP_SetObjects:
        tally.assume(f"which tables {key} had before is not known")
        for relation in list(tally.world.relations.values()):
            if key in relation.other_dependents:
                tally.lock(relation, LockMode.SHARE_UPDATE_EXCLUSIVE)
                _set_dependent(relation, key, None, tally)
    removes = is_alter and node.action == grammar.AP_DropObjects
    for item in node.pubobjects:
        table = item.publication_obj_spec.pubtable
        if not table.relation.relname:
            continue
        relation = tally.existing(table.relation)
        family = table.relation.inh and not relation.is_partitioned
        tally.lock(relation, LockMode.SHARE_UPDATE_EXCLUSIVE, family=family)
        used = {*strings(table.columns), *columns_used(table.where_clause)}
        _set_dependent(relation, key, None if removes else frozenset(used), tally)


def drop_publications(names: Iterable[list[str]], tally: Tally) -> None:
    """`DROP PUBLICATION`: no lock that reads or writes wait for."""
    for parts in names:
        for relation in list(tally.world.relations.values()):
            _set_dependent(relation, f"publication {readable(parts[-1])}", None, tally)


def _set_dependent(
    relation: Relation, key: str, columns: frozenset[str] | None, tally: Tally
) -> None:
    """Remember which columns something uses; None is that it uses the relation no more."""
    left = {name: used for name, used in relation.other_dependents.items() if name != key}
    if columns is not None:
        left[key] = columns
    if left != relation.other_dependents:
        tally.world.put(replace(relation, other_dependents=left))


def subscription(node: Any, tally: Tally) -> None:
    """`CREATE SUBSCRIPTION`: outside of a transaction block where it makes a replication slot.

    Raises:
        Refused: it stands in a transaction block.
    """
    if all(is_on(node.options, option, default=True) for option in ("connect", "create_slot")):
        tally.only_outside_transaction()


def alter_subscription(node: Any, tally: Tally) -> None:
    """`ALTER SUBSCRIPTION`: what fetches the tables of the publisher anew stands outside of a
    transaction block.

    Raises:
        Refused: it stands in a transaction block.
    """
    from postgast import pg_query_pb2 as grammar

    kind = grammar.AlterSubscriptionType.Name(node.kind)
    refreshes = kind.endswith(("REFRESH", "_PUBLICATION"))
    if refreshes and all(
        is_on(node.options, option, default=True) for option in ("refresh", "copy_data")
    ):
        tally.only_outside_transaction()


def drop_subscription(node: Any, tally: Tally) -> None:
    """`DROP SUBSCRIPTION`: outside of a transaction block, where it has a replication slot.

    Raises:
        Refused: it stands in a transaction block.
    """
    tally.only_outside_transaction()


# Extended statistics


def create_statistics(node: Any, tally: Tally) -> None:
    """`CREATE STATISTICS`: SHARE UPDATE EXCLUSIVE on its table.

    Raises:
        Refused: the table is certainly not there, or there are expressions (before 14).
    """
    if tally.world.version < 14 and any(item.stats_elem.HasField("expr") for item in node.exprs):
        message = "only simple column references are allowed in CREATE STATISTICS"
        tally.refuse(message, "0A000")
    columns = frozenset(item.stats_elem.name for item in node.exprs if item.stats_elem.name)
    for item in node.relations:
        relation = tally.existing(item.range_var)
        tally.lock(relation, LockMode.SHARE_UPDATE_EXCLUSIVE)
        names = strings(node.defnames)
        if names:
            found = {**relation.extended_statistics, names[-1]: columns}
            tally.world.put(replace(relation, extended_statistics=found))


def drop_statistics(names: Iterable[list[str]], tally: Tally) -> None:
    """`DROP STATISTICS`: SHARE UPDATE EXCLUSIVE on the table."""
    if not tally.world.complete:
        tally.assume("which table has these statistics is not known")
    for parts in names:
        for relation in list(tally.world.relations.values()):
            if parts[-1] in relation.extended_statistics:
                tally.lock(relation, LockMode.SHARE_UPDATE_EXCLUSIVE)
                found = dict(relation.extended_statistics)
                del found[parts[-1]]
                tally.world.put(replace(relation, extended_statistics=found))


# What belongs to a role


def drop_owned(node: Any, tally: Tally) -> None:
    """`DROP OWNED`: everything of a role, each under ACCESS EXCLUSIVE."""
    tally.unknown("what the roles own, and all of it is dropped, is not known")


def reassign_owned(node: Any, tally: Tally) -> None:
    """`REASSIGN OWNED`: everything of a role gets another owner, each under ACCESS EXCLUSIVE."""
    what = "what the roles own, and is locked in ACCESS EXCLUSIVE mode, is not known"
    tally.unknown(what, forgets=False)


HANDLERS: dict[str, Handler] = {
    "alter_default_privileges_stmt": no_lock,
    "alter_publication_stmt": publication,
    "alter_role_set_stmt": no_lock,
    "alter_role_stmt": no_lock,
    "alter_stats_stmt": no_lock,
    "alter_subscription_stmt": alter_subscription,
    "alter_user_mapping_stmt": no_lock,
    "comment_stmt": comment,
    "create_publication_stmt": publication,
    "create_role_stmt": no_lock,
    "create_stats_stmt": create_statistics,
    "create_subscription_stmt": subscription,
    "create_user_mapping_stmt": no_lock,
    "drop_owned_stmt": drop_owned,
    "drop_role_stmt": no_lock,
    "drop_subscription_stmt": drop_subscription,
    "drop_user_mapping_stmt": no_lock,
    "grant_role_stmt": revoke_role,
    "grant_stmt": grant,
    "reassign_owned_stmt": reassign_owned,
    "sec_label_stmt": comment,
}
