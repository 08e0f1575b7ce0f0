"""The rows that a unique index would refuse, asked for before it is built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from alembic_safe.postgres.deparsing import expression_sql
from alembic_safe.postgres.identifiers import QualifiedName, quote

_SHOWN_VALUES = 3
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True)
class Duplicates:
    """What stands in the way of a unique index.

    A build that meets a duplicate fails late, and leaves an invalid index that may refuse the
    writes of the application until it is dropped.

    Args:
        table: the table.
        body: what stands behind the table's name in `CREATE UNIQUE INDEX`.
    """

    table: QualifiedName
    body: str

    def query(self) -> str | None:
        """Return a query with one row: how many values are there more than once, how many rows
        have them, and the first of them as text (NULL where there is none).

        It reads the whole table and blocks nobody. None where the index compares its values in
        another way than `GROUP BY`, or cannot be read: its build tells then.
        """
        index = _index(f"CREATE UNIQUE INDEX i ON t {self.body}")
        if index is None:
            return None
        try:
            keys = [_key(node.index_elem) for node in index.index_params]
            where = (
                f" WHERE {expression_sql(index.where_clause)}"
                if index.HasField("where_clause")
                else ""
            )
        except ValueError:
            return None
        names = [f"key{place}" for place in range(1, len(keys) + 1)]
        columns = ", ".join(f"{sql} AS {name}" for sql, name in zip(keys, names, strict=True))
        having_all = "" if index.nulls_not_distinct else " WHERE " + _none_is_null(names)
        shown = ", ".join(
            # Columns of two collations could not be put together.
            f"""coalesce(left({name}::text, {_SHOWN_CHARACTERS}) COLLATE "C", 'NULL')"""
            for name in names
        )
        first = f"SELECT * FROM found ORDER BY times DESC, shown LIMIT {_SHOWN_VALUES}"
        return (
            f"WITH found AS (SELECT concat_ws(', ', {shown}) AS shown, count(*) AS times"
            # The index of a table does not have the rows of tables that inherit from it.
            f" FROM (SELECT {columns} FROM ONLY {self.table.sql}{where}) AS keys{having_all}"
            f" GROUP BY {', '.join(names)} HAVING count(*) > 1)"
            " SELECT (SELECT count(*) FROM found), (SELECT sum(times)::bigint FROM found),"
            " (SELECT string_agg('(' || shown || ') ' || times || ' times', ', ')"
            f" FROM ({first}) AS first)"
        )

    @staticmethod
    def told(values: int, rows: int, first: str) -> str:
        """Return what to say of the row that the query returned.

        Args:
            values: how many values are there more than once; not 0.
            rows: how many rows have them.
            first: the first of them.
        """
        more = ", ..." if values > _SHOWN_VALUES else ""
        return (
            f"{rows} rows share {values} value{'s' if values > 1 else ''} that may be there only "
            f"once: {first}{more}. Nothing was built. Change or delete such rows, then run the "
            "same command again."
        )


def _index(sql: str) -> Any:
    """Return the tree of a CREATE INDEX; None where that is not what the text is."""
    import postgast
    from google.protobuf.message import DecodeError

    try:
        statements = postgast.parse(sql).stmts
    except (postgast.PgQueryError, DecodeError):
        return None
    if len(statements) != 1 or not statements[0].stmt.HasField("index_stmt"):
        return None
    return statements[0].stmt.index_stmt


def _key(element: Any) -> str:
    """Return the SQL of a key.

    Raises:
        ValueError: it has an operator class of its own.
    """
    if element.opclass:
        raise ValueError("an operator class")
    sql = f"({expression_sql(element.expr)})" if element.HasField("expr") else quote(element.name)
    if element.collation:
        sql += " COLLATE " + ".".join(quote(node.string.sval) for node in element.collation)
    return sql


def _none_is_null(names: list[str]) -> str:
    return " AND ".join(f"{name} IS NOT NULL" for name in names)
