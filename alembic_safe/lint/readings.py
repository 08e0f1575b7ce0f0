"""The connection that a revision gets where there is none: it takes statements, and has no rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine.mock import MockConnection
from sqlalchemy.exc import NoResultFound

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext

MOST_READINGS = 1000
"""A revision that waits for a row would wait for ever."""


class ReadingConnection(MockConnection):
    """What `op.get_bind()` returns while revisions are recorded.

    Alembic's own has None for a result, so that a revision that reads ends at its first query.
    Here it goes on as if every table were empty, and the reading is noted: what a revision does
    with rows cannot be known without them.

    Args:
        context: the migration context to which statements go.
        note: told of each reading, in words.
    """

    def __init__(self, context: MigrationContext, note: Callable[[str], None]) -> None:
        super().__init__(context.dialect, self._write)
        self._context = context
        self._note = note
        self._readings = 0

    def scalar(self, statement: Any, *_parameters: Any, **_options: Any) -> None:
        """Take a statement of which the first value is wanted."""
        self._write(statement).scalar()

    def scalars(self, statement: Any, *_parameters: Any, **_options: Any) -> NoRows:
        """Take a statement of which the first column is wanted."""
        return self._write(statement).scalars()

    def exec_driver_sql(self, statement: str, *_parameters: Any, **_options: Any) -> NoRows:
        """Take a text that is not SQLAlchemy's."""
        self._context.impl.static_output(f"{statement};")
        return NoRows(self._noted)

    def _write(self, statement: Any, *_parameters: Any) -> NoRows:
        self._context.impl.execute(statement)
        return NoRows(self._noted)

    def _noted(self, what: str) -> None:
        self._readings += 1
        if self._readings > MOST_READINGS:
            raise RuntimeError("it goes on asking for rows, and there are none")
        self._note(what)


class NoRows:
    """The result of a query on an empty table."""

    rowcount = 0

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note

    def _no_rows(self, *_arguments: Any, **_keywords: Any) -> list[Any]:
        self._note("it reads rows")
        return []

    def _no_row(self, *_arguments: Any, **_keywords: Any) -> None:
        self._note("it reads a row")

    def _itself(self, *_arguments: Any, **_keywords: Any) -> NoRows:
        return self

    def _missing(self, *_arguments: Any, **_keywords: Any) -> Any:
        self._note("it reads a row")
        raise NoResultFound("there are no rows to read")

    all = fetchall = fetchmany = partitions = _no_rows
    fetchone = first = one_or_none = scalar = scalar_one_or_none = _no_row
    one = scalar_one = _missing
    scalars = mappings = tuples = columns = unique = yield_per = execution_options = _itself

    def __iter__(self) -> Iterator[Any]:
        self._note("it reads rows")
        return iter(())

    def close(self) -> None:
        """Do what a result has to be able to do."""
