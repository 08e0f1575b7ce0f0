"""A backfill as a script, for `--sql`: the same work, committed batch by batch."""

from __future__ import annotations

from alembic_safe.operations import BackfillOp
from alembic_safe.postgres.identifiers import literal

_BLOCKS_PER_BATCH = 100


def backfill_script(operation: BackfillOp) -> str:
    """Return SQL that fills a table in ranges of blocks; to be run outside a transaction."""
    table = operation.table.sql
    update = (
        f"UPDATE %s SET {_percent(operation.assignments)}"
        " WHERE ctid >= %L::tid AND ctid < %L::tid"
        f" AND ({_percent(operation.where)})"
    )
    again = (
        f"    EXIT WHEN NOT EXISTS (SELECT FROM {table} WHERE {operation.where});\n"
        if operation.until_none_left
        else "    EXIT;\n"
    )
    body = (
        "\nDECLARE\n"
        "  leaf regclass;\n"
        "  block bigint;\n"
        "BEGIN\n"
        "  LOOP\n"
        "    FOR leaf IN SELECT c.oid FROM pg_class AS c\n"
        f"        WHERE c.oid = {literal(table)}::regclass AND c.relkind = 'r'\n"
        f"        UNION ALL SELECT p.relid FROM pg_partition_tree({literal(table)}) AS p\n"
        f"        WHERE p.isleaf AND p.relid <> {literal(table)}::regclass\n"
        "    LOOP\n"
        "      block := 0;\n"
        "      WHILE block <= pg_relation_size(leaf) / current_setting('block_size')::bigint LOOP\n"
        f"        EXECUTE format({literal(update)}, leaf,\n"
        f"            format('(%s,0)', block), format('(%s,0)', block + {_BLOCKS_PER_BATCH}));\n"
        "        COMMIT;\n"
        f"        block := block + {_BLOCKS_PER_BATCH};\n"
        "      END LOOP;\n"
        "    END LOOP;\n"
        f"{again}"
        "  END LOOP;\n"
        "END\n"
    )
    return f"DO {literal(body)};\n"


def _percent(sql: str) -> str:
    return sql.replace("%", "%%")
