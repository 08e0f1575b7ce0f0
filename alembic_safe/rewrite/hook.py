"""The hook: what autogenerate found goes in, a safe sequence of revisions comes out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from alembic.operations import MigrateOperation, ops

from alembic_safe.errors import CannotRewrite
from alembic_safe.postgres.catalog import Catalog
from alembic_safe.postgres.catalog_queries import read_catalog
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.rewrite.plan import arrange
from alembic_safe.rewrite.recipes import Surroundings, plans_for
from alembic_safe.rewrite.recipes.surroundings import CompileSQL
from alembic_safe.rewrite.renames import Ask, RenameColumnOp, take_renames
from alembic_safe.rewrite.revisions import write_sequence
from alembic_safe.settings import Settings

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext


def rewrite_revisions(options: dict[str, Any], settings: Settings) -> None:
    """Have the revisions of this command rewritten, after the user's own hook has seen them.

    Args:
        options: the options of the command's migration context; changed in place.
        settings: `rename` is read.
    """
    earlier = options.get("process_revision_directives")

    def hook(
        context: MigrationContext, revision: Any, directives: list[ops.MigrationScript]
    ) -> None:
        if earlier is not None:
            earlier(context, revision, directives)
        rewrite(context, directives, settings, ask=_ask if _at_a_terminal() else None)

    options["process_revision_directives"] = hook


def rewrite(
    context: MigrationContext,
    directives: list[ops.MigrationScript],
    settings: Settings,
    ask: Ask | None,
) -> None:
    """Replace the directive that autogenerate made by those of the sequence; the contract
    revisions' files are written after Alembic's own.

    Raises:
        CannotRewrite, RenameError, ValueNeeded: a change has no safe sequence as it stands; no
            file was written.
    """
    if not directives:
        return
    script = _only_script(directives)
    found = list(_flat(script.upgrade_ops_list[0].ops))
    if not found:
        return
    connection = context.connection
    if connection is None:
        raise CannotRewrite("Autogenerate needs a database connection. No file was written.")
    catalog = read_catalog(connection, {table for table in map(_table_of, found) if table})
    existing = {
        name: frozenset(column.name for column in info.columns)
        for name, info in catalog.tables.items()
    }
    operations = take_renames(found, existing, settings.rename, ask)
    for operation in operations:
        if isinstance(operation, RenameColumnOp):
            _refuse_other_type(context, operation)
    surroundings = _surroundings(context, operations, catalog)
    plans = plans_for(operations, surroundings)
    directives[:] = write_sequence(context, script, arrange(plans)) if plans else []


def hide_own_tables(options: dict[str, Any], names: frozenset[str]) -> None:
    """Keep this package's tables out of what autogenerate and `check` compare.

    Args:
        options: the options of the command's migration context; changed in place.
        names: the tables.
    """
    earlier = options.get("include_name")

    def include_name(name: str | None, kind: str, parents: Any) -> bool:
        if kind == "table" and name in names:
            return False
        return earlier is None or bool(earlier(name, kind, parents))

    options["include_name"] = include_name


def _only_script(directives: Sequence[ops.MigrationScript]) -> ops.MigrationScript:
    if len(directives) > 1 or len(directives[0].upgrade_ops_list) > 1:
        raise CannotRewrite(
            "This environment compares several databases in one command, and a sequence of "
            "revisions can only be written for one. Give each database an environment of its own. "
            "No file was written."
        )
    return directives[0]


def _refuse_other_type(context: MigrationContext, rename: RenameColumnOp) -> None:
    """Raise for a rename that changes the type too: the trigger copies values as they are, and
    compares them by their bytes, so that every write would fail."""
    old, new = rename.old, rename.new
    if isinstance(old.type, sa.types.NullType) or not context.impl.compare_type(old, new):
        return
    types = [column.type.compile(dialect=context.dialect) for column in (old, new)]
    raise CannotRewrite(
        f"Cannot rename {rename.table}.{old.name} to {new.name} and change its type from "
        f"{types[0]} to {types[1]} at once. Rename it with the type that it has, and change the "
        "type when the old column is gone. No file was written."
    )


def _flat(operations: Sequence[MigrateOperation]) -> Iterator[MigrateOperation]:
    for operation in operations:
        if isinstance(operation, ops.OpContainer):
            yield from _flat(operation.ops)
        else:
            yield operation


def _table_of(operation: MigrateOperation) -> QualifiedName | None:
    if isinstance(operation, ops.CreateForeignKeyOp):
        return QualifiedName(operation.source_table, operation.kw.get("source_schema"))
    name = getattr(operation, "table_name", None)
    return QualifiedName(name, getattr(operation, "schema", None)) if name else None


def _surroundings(
    context: MigrationContext, operations: Sequence[MigrateOperation], catalog: Catalog
) -> Surroundings:
    new_columns = {
        (QualifiedName(op.table_name, op.schema), op.column.name)
        for op in operations
        if isinstance(op, ops.AddColumnOp)
    }
    renamed = {(op.table, op.new.name) for op in operations if isinstance(op, RenameColumnOp)}
    return Surroundings(
        catalog=catalog,
        model_column=_model_columns(context.opts.get("target_metadata")),
        new_tables=_tables(operations, ops.CreateTableOp),
        dropped_tables=_tables(operations, ops.DropTableOp),
        new_columns=frozenset(new_columns | renamed),
        dropped_columns=tuple(_dropped_columns(operations)),
        compile_sql=sql_compiler(context.dialect),
        renamed_columns=frozenset(renamed),
        default_schema=context.dialect.default_schema_name or "public",
    )


def _dropped_columns(
    operations: Sequence[MigrateOperation],
) -> Iterator[tuple[QualifiedName, str]]:
    for operation in operations:
        if isinstance(operation, RenameColumnOp):
            yield operation.table, operation.old.name
        elif isinstance(operation, ops.DropColumnOp):
            yield QualifiedName(operation.table_name, operation.schema), operation.column_name


def _tables(
    operations: Sequence[MigrateOperation], kind: type[ops.CreateTableOp] | type[ops.DropTableOp]
) -> frozenset[QualifiedName]:
    return frozenset(
        QualifiedName(op.table_name, op.schema) for op in operations if isinstance(op, kind)
    )


def _model_columns(
    metadata: sa.MetaData | Sequence[sa.MetaData] | None,
) -> Callable[[QualifiedName, str], sa.Column[object] | None]:
    collections = [metadata] if isinstance(metadata, sa.MetaData) else list(metadata or ())

    def find(name: QualifiedName, column: str) -> sa.Column[object] | None:
        for collection in collections:
            for table in collection.tables.values():
                if table.name == name.name and table.schema == name.schema:
                    return next((c for c in table.columns if c.name == column), None)
        return None

    return find


def sql_compiler(dialect: sa.Dialect) -> CompileSQL:
    """Return what writes a SQLAlchemy expression or statement as SQL, with its values in it.

    Args:
        dialect: of the database.
    """
    has_format_parameters = dialect.paramstyle in ("format", "pyformat")

    def compile_sql(element: sa.ClauseElement) -> str:
        arguments = {} if isinstance(element, sa.schema.DDLElement) else {"literal_binds": True}
        sql = str(element.compile(dialect=dialect, compile_kwargs=arguments))
        # SQLAlchemy doubles each % for such a driver, which never gets to see this text as one
        # with parameters.
        return sql.replace("%%", "%") if has_format_parameters else sql

    return compile_sql


def _at_a_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _ask(question: str) -> bool:
    # input() would write the question to stderr, which may go into a file.
    print(f"{question} [y/N] ", end="", flush=True)
    return input().strip().lower() in ("y", "yes")
