"""Rows: changed in batches that commit one by one."""

from __future__ import annotations

from typing import Any

from alembic_safe.postgres.deparsing import expression_sql
from alembic_safe.postgres.effects import Effects
from alembic_safe.postgres.identifiers import QualifiedName, readable
from alembic_safe.rules.finding import Fix, Surroundings
from alembic_safe.rules.fixes.writing import call, exact, fix, sql_name
from alembic_safe.rules.reading import has_calls, has_columns, table_of, written

BATCH_ROWS = 10_000
"""Rows of one batch in SQL that is repeated by hand: well below a second on common hardware."""


@exact
def in_batches(effects: Effects, surroundings: Surroundings) -> Fix | None:
    """`op.backfill` for an UPDATE that can be done again without harm.

    That is one of plain values that use no column: then a row that has them is done.
    """
    node = effects.node
    if effects.node_name != "update_stmt" or node.from_clause:
        return None
    if any(field.name.startswith("returning") for field, _ in node.ListFields()):
        return None
    if node.HasField("with_clause") or node.relation.HasField("alias") or not node.relation.inh:
        return None
    targets = [each.res_target for each in node.target_list]
    if any(target.indirection or not _is_plain(target.val) for target in targets):
        return None
    table = written(table_of(effects, surroundings.world), surroundings.world)
    values = {target.name: expression_sql(target.val) for target in targets}
    differs = " OR ".join(
        f"{readable(column)} IS DISTINCT FROM {value}" for column, value in values.items()
    )
    condition = f"({differs})" if len(values) > 1 else differs
    if node.HasField("where_clause"):
        condition = f"({expression_sql(node.where_clause)}) AND {condition}"
    assignments = ", ".join(f"{readable(column)} = {value}" for column, value in values.items())
    return fix(
        call("backfill", table.name, values, where=condition, schema=table.schema),
        batched_update(table, assignments, condition),
        surroundings,
    )


def _is_plain(value: Any) -> bool:
    kind = value.WhichOneof("node")
    return kind != "set_to_default" and not has_columns(value) and not has_calls(value)


def batched_update(table: QualifiedName, assignments: str, condition: str) -> list[str]:
    """Return an UPDATE of some rows, and when to repeat it."""
    name = sql_name(table)
    return [
        "-- Repeat this until it updates no row; each run commits by itself.",
        f"UPDATE {name} SET {assignments} WHERE ctid = ANY (ARRAY("
        f"SELECT ctid FROM {name} WHERE {condition} LIMIT {BATCH_ROWS}))",
    ]
