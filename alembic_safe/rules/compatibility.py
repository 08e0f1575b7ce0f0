"""What the release that is still running cannot read or write any more.

During a rollout two releases use one database. Nothing of this is said of contract revisions, for
which the gate waits until the old release is gone, of the way back, or of what is new in the same
revision.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from alembic_safe.postgres.effects import Change, Effects, NameChange
from alembic_safe.postgres.effects.world import Constraint, TypeName
from alembic_safe.rules.finding import Finding, Rule, Severity, Surroundings, only_for
from alembic_safe.rules.reading import (
    is_named,
    subcommands,
    tables_among,
    unless,
    words,
    written,
)

_TABLES = frozenset({"table", "view", "materialized view", "foreign table"})
_OTHERS = frozenset({"type", "domain", "value", "attribute", "function", "sequence"})

_CONTRACT = "do it in a contract revision, which waits until no such release runs"


@only_for(needs="changes")
def rename_column(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """A column is renamed while a release uses its old name.

    Every query of the running release that names it fails from now on. Say in the model that the
    column used to be called otherwise, `info=alembic_safe.renamed_from("...")`:
    `alembic revision --autogenerate` then writes both columns, kept equal by triggers, until the
    old release is gone.
    """
    for change in _changes(effects, surroundings, Change.RENAMED, frozenset({"column"})):
        yield Finding(
            "rename-column",
            Severity.ERROR,
            f"every query of the running release that names {_of(change, surroundings)} fails",
            change.relation,
            advice=f"give {change.new_name} in the model"
            f' info=alembic_safe.renamed_from("{change.name}"), and let'
            " `alembic revision --autogenerate` write the sequence",
        )


@only_for(needs="changes")
def rename_table(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """A table or view is renamed while a release uses its old name.

    Every query of the running release on it fails from now on. A view under the old name, created
    in the same transaction, takes the reads and writes of the old release until it is gone.
    """
    if not effects.in_transaction:
        yield from _renamed_tables(effects, surroundings)


def rename_table_without_view(
    seen: Sequence[Effects], surroundings: Surroundings
) -> Iterator[tuple[Effects, Finding]]:
    """The same in a transaction, whose end has to be seen."""
    for effects in seen:
        if effects.in_transaction:
            for finding in _renamed_tables(effects, surroundings):
                yield effects, finding


def _renamed_tables(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    for change in _changes(effects, surroundings, Change.RENAMED, _TABLES):
        old = surroundings.world.find(change.relation)
        if old is None or old.kind != "v":
            yield Finding(
                "rename-table",
                Severity.ERROR,
                "every query of the running release on"
                f" {written(change.relation, surroundings.world)} fails",
                change.relation,
                advice=f"in the same transaction create a view {change.relation.name} on"
                f" {change.new_name}, and drop it in a contract revision",
            )


@only_for(needs="changes")
def rename_object(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """A type, enum value, function, sequence or schema is renamed while a release uses it.

    The running release names it in casts, in values that it writes, in calls. Add the new one
    beside it, and drop the old one in a contract revision.
    """
    for change in _changes(effects, surroundings, Change.RENAMED, _OTHERS | {"schema"}):
        yield Finding(
            "rename-object",
            Severity.ERROR,
            f"whatever the running release does with {change.kind} {_of(change, surroundings)}"
            " fails",
            advice=f"add {change.new_name} beside it, and drop the old one in a contract revision",
        )


@only_for(needs="changes")
def drop_object(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """A view, type, function, sequence or the like is dropped while a release may use it.

    No rows are lost, but every query of the running release that uses it fails from now on. Drop
    it in a contract revision, which waits.
    """
    for change in _changes(effects, surroundings, Change.DROPPED, _OTHERS | {"view", "extension"}):
        if is_named(effects, change):
            yield Finding(
                "drop-object",
                Severity.ERROR,
                f"every query of the running release that uses {change.kind}"
                f" {_of(change, surroundings)} fails",
                advice=_CONTRACT,
            )


def drop_unique(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """A primary key, unique constraint or unique index is dropped while a release may rely on it.

    `INSERT ... ON CONFLICT (columns)` fails without a unique index on just these columns, and
    duplicates are no longer refused. Other constraints and indexes are not reported: without them
    everything works that worked before.
    """
    if not surroundings.old_release_runs:
        return
    dropped = [
        *effects.details.get("dropped_indexes", ()),
        *effects.details.get("constraints_dropped", ()),
    ]
    for table, gone in dropped:
        after = surroundings.world.find(table)
        kept = (
            {each.columns for each in after.indexes.values() if each.is_unique} if after else set()
        )
        is_unique = gone.type in ("p", "u") if isinstance(gone, Constraint) else gone.is_unique
        if not is_unique or gone.columns in kept or surroundings.world.is_new(gone.born):
            continue
        listed = ", ".join(column or "(expression)" for column in gone.columns)
        yield Finding(
            "drop-unique",
            Severity.WARNING,
            f"INSERT ... ON CONFLICT ({listed}) of the running release on"
            f" {written(table, surroundings.world)} fails, and duplicates are no longer refused",
            table,
            advice=_CONTRACT,
        )


@only_for("alter_table_stmt", needs="changes")
def retype_column(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """A column gets a type that the running release cannot read or write.

    Its queries compare the column with values of the old type, and write such values. A wider type
    of the same family is not reported: a longer `varchar` or `text`, `bigint` for `integer`, more
    digits of a `numeric`.
    """
    for change in _changes(effects, surroundings, Change.RETYPED, frozenset({"column"})):
        retyped = next(
            each
            for each in effects.details["retyped_columns"]
            if (each.table, each.name) == (change.relation, change.name)
        )
        if retyped.old_type is not None and is_wider(retyped.old_type, retyped.new_type):
            continue
        is_known = retyped.old_type is not None
        yield Finding(
            "retype-column",
            Severity.ERROR if is_known else Severity.WARNING,
            f"the running release goes on reading and writing {_of(change, surroundings)} with its"
            f" old type ({change.detail})"
            f"{'' if is_known else ', unless both are read and written alike'}",
            change.relation,
            advice="add a column of the new type, keep the two equal with a trigger, and drop the"
            " old one in a contract revision",
        )


_INTEGERS = ("int2", "int4", "int8")


def is_wider(old: TypeName, new: TypeName) -> bool:
    """Return whether who knows the old type can read and write the new one."""
    if old.is_array != new.is_array or old.schema != new.schema:
        return False
    if old.name in _INTEGERS and new.name in _INTEGERS:
        return _INTEGERS.index(new.name) >= _INTEGERS.index(old.name)
    if (old.name, new.name) in (("float4", "float8"), ("cidr", "inet")):
        return True
    if old.name in ("text", "varchar") and new.name in ("text", "varchar"):
        return not new.modifiers or (bool(old.modifiers) and new.modifiers >= old.modifiers)
    if old.name != new.name:
        return False
    if old.name == "numeric" and old.modifiers and new.modifiers:
        (old_digits, old_scale), (new_digits, new_scale) = _digits(old), _digits(new)
        return new_scale >= old_scale and new_digits - new_scale >= old_digits - old_scale
    return not new.modifiers or (bool(old.modifiers) and new.modifiers >= old.modifiers)


def _digits(numeric: TypeName) -> tuple[int, int]:
    digits, *scale = numeric.modifiers
    return digits, scale[0] if scale else 0


@only_for("alter_table_stmt")
def required_column(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """A column is added that a row has to have, and nothing gives it a value.

    Where the table has rows, the statement fails. Where it has none, the next INSERT of the running
    release does, which does not know the column. Give the column a default in the database, or
    add it without NOT NULL, and make it NOT NULL in a contract revision.
    """
    for added in effects.details.get("added_columns", ()):
        column = added.column
        has_value = column.default or column.identity or column.generated
        if not column.not_null or has_value or added.table not in effects.locks:
            continue
        table = written(added.table, surroundings.world)
        also = ", and otherwise every INSERT of the running release, which does not give the value"
        yield Finding(
            "required-column",
            Severity.ERROR,
            f"fails if {table} has a row, because {column.name} is NOT NULL without a default"
            f"{also if surroundings.old_release_runs else ''}",
            added.table,
            advice="give it a server default, or add it without NOT NULL, fill it, and make it"
            " NOT NULL in a contract revision",
        )


@only_for("alter_table_stmt", needs="changes")
def drop_default(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """A NOT NULL column loses its default while a release may rely on it.

    An INSERT of the running release that leaves the column out fails from now on.
    """
    for change in _tightened(effects, surroundings, "ColumnDefault", "DropIdentity"):
        table = written(change.relation, surroundings.world)
        yield Finding(
            "drop-default",
            Severity.ERROR,
            f"an INSERT of the running release into {table} that leaves {change.name} out fails"
            f"{unless('it may be NULL', change.relation, effects, surroundings.world)}",
            change.relation,
            advice=_CONTRACT,
        )


@only_for("alter_table_stmt", needs="changes")
def tightened_column(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """A column becomes NOT NULL while a release may still write NULL.

    Make it NOT NULL in a contract revision: `alembic revision --autogenerate` writes it there, with
    a last look for rows that the old release wrote. Where a CHECK refuses NULL already, nothing is
    reported.
    """
    tightened = {
        (change.relation, column)
        for change in _tightened(effects, surroundings, "SetNotNull", "AddConstraint")
        for column in _not_null_columns(effects, change)
    }
    for relation, column in sorted(tightened):
        name = f"{written(relation, surroundings.world)}.{column}"
        yield Finding(
            "tightened-column",
            Severity.WARNING,
            f"a write of the running release that leaves {name} NULL fails",
            relation,
            advice=_CONTRACT,
        )


def _not_null_columns(effects: Effects, change: NameChange) -> tuple[str, ...]:
    if change.kind == "column":
        return (str(change.name),)
    added = effects.details.get("constraints_added", ())
    return next((c.columns for _, c in added if c.name == change.name and c.type == "n"), ())


@only_for(needs="changes")
def tightened_table(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """A check, foreign key or unique index refuses rows that a running release may still write.

    NOT VALID makes no difference: it holds for new rows at once. What is on a new column is not
    reported. Add it in a contract revision.
    """
    if not surroundings.old_release_runs:
        return
    for change in effects.changes:
        is_one = change.change is Change.TIGHTENED and change.kind != "column"
        if not is_one or _not_null_columns(effects, change):
            continue
        table = effects.details.get("table", change.relation)
        what = change.name or change.relation.name
        where = (
            "a value of"
            if change.kind in ("type", "domain")
            else "a write of the running release to"
        )
        yield Finding(
            "tightened-table",
            Severity.WARNING,
            f"{where} {written(table, surroundings.world)} is refused where it does not satisfy"
            f" {what}{f' ({change.detail})' if change.detail else ''}",
            table,
            advice=_CONTRACT,
        )


@only_for(needs="changes")
def hidden_object(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """A table or another object is put where the running release does not find it.

    Another schema, or a privilege taken away.
    """
    if not surroundings.old_release_runs:
        return
    hidden = [change for change in effects.changes if change.change is Change.HIDDEN]
    if hidden:
        names = words([_of(change, surroundings) for change in hidden])
        is_revoke = effects.node_name == "grant_stmt"
        yield Finding(
            "hidden-object",
            Severity.WARNING if is_revoke else Severity.ERROR,
            f"the running release may lack the right to use {names}"
            if is_revoke
            else f"every query of the running release on {names} fails unless it finds the new"
            " schema",
            hidden[0].relation,
            advice=_CONTRACT,
            others=tables_among([each.relation for each in hidden], effects, surroundings.world),
        )


@only_for("alter_table_stmt")
def row_security(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """Row security is turned on or off.

    From then on a role that does not own the table sees and writes only what policies allow, and
    nothing where there is none; with FORCE that is true of the owner too. Turned off, everybody
    with a privilege on the table sees all rows.
    """
    if not surroundings.old_release_runs:
        return
    for subcommand in subcommands(effects):
        said = _ROW_SECURITY.get(subcommand.kind)
        if said and effects.locks:
            table = next(iter(effects.locks))
            yield Finding(
                "row-security",
                Severity.WARNING,
                f"{said} of {written(table, surroundings.world)}",
                table,
            )


_ROW_SECURITY = {
    "EnableRowSecurity": "roles other than the owner see only what policies allow",
    "ForceRowSecurity": "the owner, too, sees only what policies allow",
    "DisableRowSecurity": "everybody with a privilege on it sees all rows",
    "NoForceRowSecurity": "the owner sees all rows",
}


def _changes(
    effects: Effects, surroundings: Surroundings, change: Change, kinds: frozenset[str]
) -> list[NameChange]:
    if not surroundings.old_release_runs:
        return []
    return [each for each in effects.changes if each.change is change and each.kind in kinds]


def _tightened(effects: Effects, surroundings: Surroundings, *kinds: str) -> list[NameChange]:
    """Return what subcommands of these kinds refuse from now on, of columns by their names."""
    if not surroundings.old_release_runs:
        return []
    found = [each for each in subcommands(effects) if each.kind in kinds]
    names = {each.name or getattr(each.definition, "colname", "") for each in found}
    is_constraint = any(each.kind == "AddConstraint" for each in found)
    return [
        each
        for each in effects.changes
        if each.change is Change.TIGHTENED
        and (each.name in names if each.kind == "column" else is_constraint)
    ]


def _of(change: NameChange, surroundings: Surroundings) -> str:
    """Return what changes, as a sentence calls it."""
    relation = written(change.relation, surroundings.world)
    return f"{relation}.{change.name}" if change.name else str(relation)


COMPATIBILITY: tuple[Rule, ...] = (
    rename_column,
    rename_table,
    rename_object,
    drop_object,
    drop_unique,
    retype_column,
    required_column,
    drop_default,
    tightened_column,
    tightened_table,
    hidden_object,
    row_security,
)
