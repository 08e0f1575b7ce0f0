"""Maintenance, databases and tablespaces, and what concerns the session alone."""

from __future__ import annotations

from typing import Any

from alembic_safe.postgres.effects.handlers.options import is_on
from alembic_safe.postgres.effects.tally import Handler, Tally
from alembic_safe.postgres.effects.world import Relation
from alembic_safe.postgres.locks import LockMode


def vacuum(node: Any, tally: Tally) -> None:
    """`VACUUM`: SHARE UPDATE EXCLUSIVE, with FULL a new file under ACCESS EXCLUSIVE; outside of a
    transaction block only. `ANALYZE`: SHARE UPDATE EXCLUSIVE, anywhere.

    Raises:
        Refused: it is VACUUM in a transaction block, or a table is certainly not there.
    """
    is_full = is_on(node.options, "full")
    if is_full:
        tally.command = "VACUUM FULL"
    if node.is_vacuumcmd:
        tally.only_outside_transaction()
    relations = [tally.existing(item.vacuum_relation.relation) for item in node.rels]
    if not node.rels:
        relations = [
            relation for relation in tally.world.relations.values() if relation.kind in "rmp"
        ]
        if is_full and not tally.world.complete:
            tally.unknown("which tables there are is not known", forgets=False)
    for relation in relations:
        for member in _with_partitions(relation, tally):
            if is_full:
                tally.lock(member, LockMode.ACCESS_EXCLUSIVE)
                tally.rewrite(member)
            else:
                tally.lock(member, LockMode.SHARE_UPDATE_EXCLUSIVE)


def _with_partitions(relation: Relation, tally: Tally) -> list[Relation]:
    if not relation.complete:
        tally.assume(f"what is a partition of {relation.name} is not known")
    return list(tally.world.family(relation.name)) if relation.is_partitioned else [relation]


def cluster(node: Any, tally: Tally) -> None:
    """`CLUSTER`: a new file under ACCESS EXCLUSIVE; a partitioned table, or every table that was
    ever clustered, outside of a transaction block only.

    Raises:
        Refused: it must not stand in a transaction block, or the table is certainly not there.
    """
    if not node.relation.relname:
        tally.only_outside_transaction()
        tally.unknown("which tables were clustered before is not known", forgets=False)
        return
    relation = tally.existing(node.relation)
    if relation.is_partitioned:
        if tally.world.version < 15:
            tally.refuse("cannot cluster a partitioned table", "0A000")
        tally.only_outside_transaction()
    if node.indexname and relation.complete and node.indexname not in relation.indexes:
        message = f'index "{node.indexname}" for table "{relation.name.name}" does not exist'
        tally.refuse(message, "42704")
    if not node.indexname and relation.complete and not relation.indexes:
        message = f'there is no previously clustered index for table "{relation.name.name}"'
        tally.refuse(message, "42704")
    for member in _with_partitions(relation, tally):
        tally.lock(member, LockMode.ACCESS_EXCLUSIVE)
        tally.rewrite(member)


def only_outside(node: Any, tally: Tally) -> None:
    """`CREATE DATABASE`, `DROP DATABASE`, `CREATE TABLESPACE`, `DROP TABLESPACE`, `ALTER SYSTEM`:
    outside of a transaction block only; no lock on relations.

    Raises:
        Refused: it stands in a transaction block.
    """
    tally.only_outside_transaction()


def alter_database(node: Any, tally: Tally) -> None:
    """`ALTER DATABASE`: with SET TABLESPACE outside of a transaction block only.

    Raises:
        Refused: it stands in a transaction block.
    """
    options = [item.def_elem.defname for item in node.options]
    if "tablespace" in options:
        tally.command = "ALTER DATABASE SET TABLESPACE"
        tally.only_outside_transaction()


def discard(node: Any, tally: Tally) -> None:
    """`DISCARD`: the session is as at its beginning; ALL outside of a transaction block only.

    Raises:
        Refused: it is DISCARD ALL in a transaction block.
    """
    from postgast import pg_query_pb2 as grammar

    world = tally.world
    if node.target == grammar.DISCARD_ALL:
        tally.only_outside_transaction()
        world.prepared.clear()
        for setting in list(world.settings):
            world.set(setting, None)
    if node.target in (grammar.DISCARD_ALL, grammar.DISCARD_TEMP):
        for relation in list(world.relations.values()):
            if relation.persistence == "t":
                world.remove(relation.name)


def nothing(node: Any, tally: Tally) -> None:
    """`CHECKPOINT`, `LISTEN`, `NOTIFY`, `UNLISTEN`, `SHOW`, `LOAD`, settings of a database or a
    tablespace: no lock on relations."""


def move_all(node: Any, tally: Tally) -> None:
    """`ALTER TABLE ALL IN TABLESPACE`: a new file for each, under ACCESS EXCLUSIVE."""
    what = f"which relations are in the tablespace {node.orig_tablespacename} is not known"
    tally.unknown(what, forgets=False)


HANDLERS: dict[str, Handler] = {
    "alter_database_refresh_coll_stmt": nothing,
    "alter_database_set_stmt": nothing,
    "alter_database_stmt": alter_database,
    "alter_system_stmt": only_outside,
    "alter_table_move_all_stmt": move_all,
    "alter_table_space_options_stmt": nothing,
    "check_point_stmt": nothing,
    "cluster_stmt": cluster,
    "create_table_space_stmt": only_outside,
    "createdb_stmt": only_outside,
    "discard_stmt": discard,
    "drop_table_space_stmt": only_outside,
    "dropdb_stmt": only_outside,
    "listen_stmt": nothing,
    "load_stmt": nothing,
    "notify_stmt": nothing,
    "unlisten_stmt": nothing,
    "vacuum_stmt": vacuum,
    "variable_show_stmt": nothing,
}
