"""An index of a partitioned table as a script, for `--sql`: psql executes what its queries
return."""

from __future__ import annotations

from alembic_safe.operations import CreatePartitionedIndexOp
from alembic_safe.postgres.conditions import INDEX_SHAPE
from alembic_safe.postgres.identifiers import literal
from alembic_safe.runtime.sessions import milliseconds

FOR_PSQL = "-- For psql"
"""How the script begins."""

_TREE = "alembic_safe_tree"


def partitioned_index_script(operation: CreatePartitionedIndexOp, lock_timeout: float) -> str:
    """Return a script for psql; to be run outside a transaction.

    Which partitions there are the database knows when it runs.

    Args:
        operation: the index.
        lock_timeout: seconds, for what blocks.
    """
    kind = "UNIQUE INDEX" if operation.unique else "INDEX"
    timeout = f"SET lock_timeout = '{milliseconds(lock_timeout)}';\n"
    (create,) = operation.statements(None)[0].sql
    on_only = literal(f"CREATE {kind} ON ONLY %s %s")
    concurrently = literal(f"CREATE {kind} CONCURRENTLY ON %s %s")
    body = literal(operation.body)
    return (
        f"{FOR_PSQL}, which executes what the queries before \\gexec return.\n"
        f"{timeout}{create};\n"
        f"{_view(operation)}"
        f"SELECT format({on_only}, relation, {body})\n"
        f"  FROM {_TREE} WHERE relkind = 'p' AND index IS NULL ORDER BY level, relation\n"
        "\\gexec\n"
        "SET lock_timeout = 0;\n"
        f"SELECT format({concurrently}, relation, {body})\n"
        f"  FROM {_TREE} WHERE relkind <> 'p' AND index IS NULL ORDER BY level, relation\n"
        "\\gexec\n"
        f"{timeout}"
        "SELECT format('ALTER INDEX %s ATTACH PARTITION %s', parent, index)\n"
        f"  FROM {_TREE} WHERE parent IS NOT NULL AND NOT is_attached ORDER BY level, relation\n"
        "\\gexec\n"
        f"DROP VIEW {_TREE};\n"
        "RESET lock_timeout;\n"
    )


def _view(operation: CreatePartitionedIndexOp) -> str:
    """Return the statement that creates a view of the partitions, each with its index of the same
    definition and the index of its parent. Foreign tables have none."""
    table = operation.table.regclass
    index = operation.table.sibling(operation.index_name).regclass
    shapes = "pg_index AS i JOIN pg_class AS r ON r.oid = i.indexrelid"
    return (
        f"CREATE TEMP VIEW {_TREE} AS WITH RECURSIVE tree AS (\n"
        f"  SELECT {table}::oid AS oid, 'p'::\"char\" AS relkind, 0 AS level,\n"
        f"      {index}::oid AS index, NULL::oid AS parent\n"
        "  UNION ALL\n"
        "  SELECT c.oid, c.relkind, t.level + 1,\n"
        f"      (SELECT min(i.indexrelid) FROM {shapes}\n"
        "        LEFT JOIN pg_inherits AS h ON h.inhrelid = i.indexrelid\n"
        "        WHERE i.indrelid = c.oid AND (i.indisvalid OR r.relkind = 'I')\n"
        "        AND (h.inhparent IS NULL OR h.inhparent = t.index)\n"
        "        AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = i.indexrelid)\n"
        f"        AND {INDEX_SHAPE} = (SELECT {INDEX_SHAPE}\n"
        f"        FROM {shapes} WHERE i.indexrelid = {index})), t.index\n"
        "    FROM tree AS t JOIN pg_inherits AS p ON p.inhparent = t.oid\n"
        "    JOIN pg_class AS c ON c.oid = p.inhrelid AND c.relispartition AND c.relkind <> 'f'\n"
        ") SELECT level, relkind, oid::regclass AS relation, index::regclass, parent::regclass,\n"
        "    EXISTS (SELECT FROM pg_inherits WHERE inhrelid = index) AS is_attached FROM tree;\n"
    )
