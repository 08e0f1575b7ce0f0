"""What the definition of an index or a constraint does not say, and what has to be said again when
it is built again."""

from __future__ import annotations

from alembic.operations import MigrateOperation

from alembic_safe.postgres.catalog import ConstraintInfo, IndexInfo
from alembic_safe.postgres.identifiers import QualifiedName, literal, quote
from alembic_safe.rewrite.recipes.columns import execute

Operations = tuple[MigrateOperation, ...]


def index_details(table: QualifiedName, index: IndexInfo, name: str) -> Operations:
    """Return the operations for the statistics targets and the comment of an index.

    Args:
        table: its table.
        index: the index that has them.
        name: the index that gets them.
    """
    target = table.sibling(name).sql
    sql = [
        f"ALTER INDEX {target} ALTER COLUMN {position} SET STATISTICS {statistics}"
        for position, statistics in index.statistics_targets
    ]
    if index.comment is not None:
        sql.append(f"COMMENT ON INDEX {target} IS {literal(index.comment)}")
    return tuple(execute(statement) for statement in sql)


def constraint_details(table: QualifiedName, constraint: ConstraintInfo, name: str) -> Operations:
    """Return the operation for the comment of a constraint; nothing where it has none.

    Args:
        table: its table.
        constraint: the constraint that has it.
        name: the constraint that gets it.
    """
    if constraint.comment is None:
        return ()
    target = f"{quote(name)} ON {table.sql}"
    return (execute(f"COMMENT ON CONSTRAINT {target} IS {literal(constraint.comment)}"),)
