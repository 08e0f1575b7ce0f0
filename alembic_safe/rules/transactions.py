"""Statements that fail where they stand, or that must not share a transaction with others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from alembic_safe.postgres.effects import Effects
from alembic_safe.postgres.effects.world import Relation
from alembic_safe.rules.finding import Finding, Rule, Severity, Surroundings, only_for
from alembic_safe.rules.fixes import indexes, rows
from alembic_safe.rules.reading import (
    column_reference,
    has_columns,
    has_limit,
    shown,
    strings,
    table_of,
    tables_among,
    words,
)

_IN_TRANSACTION = "25001"
_UNSAFE_ENUM_VALUE = "55P04"
_OF_ROWS = ("22", "23")
"""Classes of errors that rows cause: values that do not fit, NULLs, duplicates, what a check
refuses."""


@only_for(needs="errors")
def concurrently_in_transaction(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """A statement stands in a transaction and cannot run in one.

    `CREATE INDEX CONCURRENTLY`, `DROP INDEX CONCURRENTLY`, `VACUUM` and others commit as they go,
    so PostgreSQL refuses them in a transaction, which Alembic opens for each revision. Our
    operations leave it by themselves; `op.get_context().autocommit_block()` does it for others.
    """
    for error in effects.errors:
        if error.sqlstate == _IN_TRANSACTION:
            yield Finding(
                "concurrently-in-transaction",
                Severity.ERROR,
                f"fails: {error.message}",
                fix=indexes.outside_transaction(effects, surroundings),
            )


@only_for(needs="errors")
def enum_value_too_early(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """A new enum value is used in the transaction that adds it.

    PostgreSQL refuses that until the transaction is committed. Add the value in a revision of its
    own, before.
    """
    for error in effects.errors:
        if error.sqlstate == _UNSAFE_ENUM_VALUE:
            yield Finding(
                "enum-value-too-early",
                Severity.ERROR,
                f"fails: {error.message}",
                advice="add the value in a revision of its own, before",
            )


@only_for(needs="errors")
def certain_error(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """The server will refuse the statement.

    What it refers to is not there, or is there already, or PostgreSQL has no such form for this
    kind of table or in this version.
    """
    known = (_IN_TRANSACTION, _UNSAFE_ENUM_VALUE)
    for error in effects.errors:
        if error.certain and error.sqlstate not in known:
            yield Finding("certain-error", Severity.ERROR, f"fails: {error.message}")


@only_for(needs="errors")
def possible_error(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """The server may refuse the statement, depending on what is not known here.

    Errors that rows cause, duplicates in a unique index for example, are no findings of their own:
    whatever checks rows can find one that does not fit, and then changes nothing.
    """
    known = (_IN_TRANSACTION, _UNSAFE_ENUM_VALUE)
    for error in effects.errors:
        is_other = error.sqlstate not in known and not error.sqlstate.startswith(_OF_ROWS)
        if not error.certain and is_other:
            yield Finding("possible-error", Severity.WARNING, f"may fail: {error.message}")


@only_for("transaction_stmt")
def transaction_in_text(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """COMMIT, ROLLBACK or BEGIN in the text of a revision that is a transaction already.

    It ends the transaction that Alembic opened: what was done is committed without the version
    that goes with it, and cannot be run again. Leave such words out; where statements have to
    commit one by one, put them into `op.get_context().autocommit_block()`.
    """
    is_whole = _transaction_kind(effects) in ("BEGIN", "START", "COMMIT", "ROLLBACK", "PREPARE")
    if is_whole and effects.details["is_others"]:
        yield Finding(
            "transaction-in-text",
            Severity.ERROR,
            f"{effects.command} interferes with the transaction of the revision, which then is"
            " neither done nor undone as a whole",
            advice="leave it out, or use `with op.get_context().autocommit_block():` for statements"
            " that have to commit one by one",
        )


def transaction_left_open(
    seen: Sequence[Effects], surroundings: Surroundings
) -> Iterator[tuple[Effects, Finding]]:
    """A text opens a transaction and does not end it.

    Nothing of it stays when the connection closes, and its locks are kept until then.
    """
    block = surroundings.world.transaction
    begun = [each for each in seen if _transaction_kind(each) in ("BEGIN", "START")]
    if block is not None and block.begun_by_text and begun:
        yield (
            begun[-1],
            Finding(
                "transaction-left-open",
                Severity.ERROR,
                "opens a transaction that nothing commits, so that nothing of it stays",
            ),
        )


def _transaction_kind(effects: Effects) -> str:
    """Return `BEGIN`, `ROLLBACK`, `ROLLBACK_TO`, ...; empty for other statements."""
    if effects.node_name != "transaction_stmt":
        return ""
    from postgast import pg_query_pb2 as grammar

    name = str(grammar.TransactionStmtKind.Name(effects.node.kind))
    return name.removeprefix("TRANS_STMT_")


_USUAL_KEY = "id"
"""What is taken for a key where the table is not known."""

_ROW_WORK = frozenset({"update_stmt", "delete_stmt", "insert_stmt", "merge_stmt", "copy_stmt"})


@only_for("update_stmt", "delete_stmt", "insert_stmt", "merge_stmt", "copy_stmt")
def backfill_beside_ddl(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """Rows are written while the transaction keeps a lock that blocks reads or writes.

    The lock of an ALTER TABLE lasts until the commit, and so does everything that waits behind it:
    for as long as the rows take. Fill them in a revision of its own, with `op.backfill`, which
    commits batch by batch.
    """
    held = [name for name, mode in effects.held.items() if mode.blocks_reads_or_writes]
    if not held or effects.node_name not in _ROW_WORK or not _writes_many(effects, surroundings):
        return
    names = words([shown(name, effects, surroundings.world) for name in held])
    yield Finding(
        "backfill-beside-ddl",
        Severity.ERROR if _is_whole(effects) else Severity.WARNING,
        f"reads or writes of {names} wait while rows are written, because an earlier statement of"
        " the transaction keeps its lock",
        held[0],
        rows.in_batches(effects, surroundings),
        "" if effects.node_name == "update_stmt" else "put it into a revision of its own",
        others=tables_among(
            [*held, table_of(effects, surroundings.world)], effects, surroundings.world
        ),
    )


@only_for("update_stmt", "delete_stmt")
def unbatched_update(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """Rows of a table that is in use are changed in one transaction, however many there are.

    Every other write to one of them waits until the commit, the dead rows cannot be cleaned up
    before, and a standby falls behind. `op.backfill` commits batch by batch, goes on where it was
    stopped, and slows down for others. An UPDATE or DELETE of rows that are chosen by a unique
    key, or by a sub-query with LIMIT, is not reported.
    """
    if effects.node_name not in ("update_stmt", "delete_stmt") or effects.unknown:
        return
    table = table_of(effects, surroundings.world)
    if table not in effects.locks or any(True for _ in backfill_beside_ddl(effects, surroundings)):
        return
    is_whole = _is_whole(effects)
    if not _writes_many(effects, surroundings) or (is_whole and effects.node_name == "delete_stmt"):
        return
    which = "all rows" if is_whole else "the rows, however many there are,"
    yield Finding(
        "unbatched-update",
        Severity.ERROR if is_whole else Severity.WARNING,
        f"{which} of {shown(table, effects, surroundings.world)} are locked against other"
        " writes until the transaction ends",
        table,
        rows.in_batches(effects, surroundings),
    )


def not_understood(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """A statement cannot be read, so that nothing is known of what it does.

    SQL that is put together in a DO block or a function, `psql` commands, kinds of statements that
    are not known. It counts as unsafe. Write out what it does, or say with
    `alembic_safe.assured("...")` why it is safe.
    """
    if effects.unknown:
        yield Finding(
            "not-understood",
            Severity.ERROR,
            f"what it does cannot be known: {'; '.join(effects.unknown)}",
            advice="write out the statements that it runs, or say why it is safe with"
            ' alembic_safe.assured("...")',
        )


def _writes_many(effects: Effects, surroundings: Surroundings) -> bool:
    """Return whether the number of rows that are written is not bounded by the statement."""
    node = effects.node
    if effects.node_name == "copy_stmt":
        return bool(node.is_from)
    if effects.node_name == "merge_stmt":
        return True
    if effects.node_name == "insert_stmt":
        select = node.select_stmt.select_stmt
        return node.HasField("select_stmt") and not (
            select.values_lists or select.limit_count.WhichOneof("node")
        )
    if not node.HasField("where_clause"):
        return True
    table = surroundings.world.find(table_of(effects, surroundings.world))
    return not _is_bounded(node.where_clause, table)


def _is_whole(effects: Effects) -> bool:
    is_change = effects.node_name in ("update_stmt", "delete_stmt")
    return is_change and not effects.node.HasField("where_clause")


def _is_bounded(condition: Any, table: Relation | None) -> bool:
    """Return whether a WHERE chooses rows by the values of a unique key, or by a LIMIT."""
    from postgast import pg_query_pb2 as grammar

    conditions = [condition]
    chosen: set[str | None] = set()
    for each in conditions:
        kind = each.WhichOneof("node")
        if kind == "bool_expr" and each.bool_expr.boolop == grammar.AND_EXPR:
            conditions += each.bool_expr.args
        elif kind == "a_expr" and strings(each.a_expr.name) == ["="]:
            sides = each.a_expr.lexpr, each.a_expr.rexpr
            columns = [column_reference(side) for side in sides]
            if sum(has_columns(side) for side in sides) == 1:
                chosen |= {column for column in columns if column is not None}
        if has_limit(each):
            return True
    keys = table.indexes.values() if table is not None else ()
    if (table is None or not table.complete) and _USUAL_KEY in chosen:
        return True
    return any(
        index.is_unique and not index.is_partial and set(index.columns) <= chosen for index in keys
    )


TRANSACTIONS: tuple[Rule, ...] = (
    not_understood,
    concurrently_in_transaction,
    enum_value_too_early,
    certain_error,
    possible_error,
    transaction_in_text,
    backfill_beside_ddl,
    unbatched_update,
)
