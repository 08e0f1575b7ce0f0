"""What hangs on a renamed column and is built again on its new name, by definition."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

from alembic.operations import MigrateOperation, ops

from alembic_safe.errors import CannotRewrite
from alembic_safe.operations import (
    CreateCheckConstraintNotValidOp,
    CreateForeignKeyNotValidOp,
    CreateIndexConcurrentlyOp,
    CreatePartitionedIndexOp,
    DropConstraintIfExistsOp,
    RenameConstraintOp,
    RenameIndexOp,
    ValidateConstraintOp,
)
from alembic_safe.postgres.catalog import ConstraintInfo, IndexInfo, TableInfo
from alembic_safe.postgres.expressions import (
    index_body,
    rename_column_in_constraint,
    rename_column_in_index,
)
from alembic_safe.postgres.identifiers import QualifiedName, derived_name
from alembic_safe.rewrite.recipes.details import constraint_details, index_details
from alembic_safe.rewrite.recipes.foreign_keys import key_by_definition, not_valid_key
from alembic_safe.rewrite.recipes.indexes import concurrently, refuse_partitioned
from alembic_safe.rewrite.recipes.names import default_name
from alembic_safe.rewrite.recipes.surroundings import Surroundings
from alembic_safe.rewrite.recipes.unique_constraints import built_by_definition, unique_columns
from alembic_safe.rewrite.recipes.uniqueness import Uniqueness
from alembic_safe.rewrite.renames import RenameColumnOp

Operations = tuple[MigrateOperation, ...]


@dataclass(frozen=True)
class Carried:
    """The operations for what hangs on the column, by the place where they run.

    An object that keeps its name is built under a passing name, and takes its own when the old
    one has gone with the old column.

    Args:
        build: upgrade of migrate, after the data is there.
        unbuild: downgrade of migrate.
        drop_old_indexes: upgrade of contract, before the old column goes.
        take_names: upgrade of contract, after the old column went.
        give_names_back: downgrade of contract, before the old objects come back.
        build_old: downgrade of contract, after the old column has its data.
        indexes: what has to be valid before contract.
        constraints: what has to be validated before contract.
        touches: names of the objects.
    """

    build: Operations = ()
    unbuild: Operations = ()
    drop_old_indexes: Operations = ()
    take_names: Operations = ()
    give_names_back: Operations = ()
    build_old: Operations = ()
    indexes: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    touches: tuple[str, ...] = ()

    def __add__(self, other: Carried) -> Carried:
        return Carried(
            *(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__)
        )


def carried_over(
    rename: RenameColumnOp,
    info: TableInfo,
    diff: list[MigrateOperation],
    surroundings: Surroundings,
) -> Carried:
    """Return what is carried over. Operations of the diff that only follow from the rename are
    taken out of it: they are part of the sequence now."""
    carrier = _Carrier(rename.table, rename.old.name, rename.new.name, info, diff, surroundings)
    carried = Carried()
    for index in info.indexes_on(rename.old.name):
        if index.constraint is None and index.parent is None:
            carried += carrier.index(index)
    for constraint in info.constraints_on(rename.old.name):
        if constraint.type == "u":
            carried += carrier.unique_constraint(constraint)
        elif constraint.type == "c":
            carried += carrier.check_constraint(constraint)
        elif constraint.type == "f":
            carried += carrier.foreign_key(constraint)
    return carried


_Found = TypeVar(
    "_Found", ops.CreateIndexOp, ops.DropIndexOp, ops.CreateUniqueConstraintOp, ops.DropConstraintOp
)
_Dropped = TypeVar("_Dropped", ops.DropIndexOp, ops.DropConstraintOp)


@dataclass(frozen=True)
class _Carrier:
    table: QualifiedName
    old: str
    new: str
    info: TableInfo
    diff: list[MigrateOperation]
    surroundings: Surroundings

    def index(self, index: IndexInfo) -> Carried:
        old = self._concurrent(index.name, index.is_unique, index_body(index.definition))
        going = Carried(
            drop_old_indexes=(old.reverse(),),
            build_old=(old, *index_details(self.table, index, index.name)),
            touches=(f"index {index.name}",),
        )
        new = self._new_index(index)
        if new is None:
            return going
        keeps_name = new.index_name == index.name
        if keeps_name:
            new.index_name = _passing_name(index.name)
        going = replace(
            going,
            build=(new, *index_details(self.table, index, new.index_name)),
            unbuild=(new.reverse(),),
            indexes=(new.index_name,),
        )
        if not keeps_name:
            return going
        rename = RenameIndexOp(new.index_name, index.name, self.table.name, self.table.schema)
        return replace(going, take_names=(rename,), give_names_back=(rename.reverse(),))

    def _new_index(
        self, index: IndexInfo
    ) -> CreateIndexConcurrentlyOp | CreatePartitionedIndexOp | None:
        """Return the index on the new column: a copy where the models do not know the index, the
        models' own where they do, None where they drop it."""
        if not self._drops(ops.DropIndexOp, "index_name", index.name):
            body = rename_column_in_index(index.definition, self.old, self.new)
            return self._concurrent(index.name, index.is_unique, body)
        created = self._of(ops.CreateIndexOp)
        of_that_name = [operation for operation in created if operation.index_name == index.name]
        for operation in (*of_that_name, *filter(lambda op: self._is_alike(op, index), created)):
            self.diff.remove(operation)
            return concurrently(operation, self.surroundings)
        return None

    def _is_alike(self, operation: ops.CreateIndexOp, index: IndexInfo) -> bool:
        columns = {column.name for column in operation.to_index().columns}
        same_columns = self._as_old(columns) == index.columns
        is_taken = any(other.name == operation.index_name for other in self.info.indexes)
        return same_columns and bool(operation.unique) == index.is_unique and not is_taken

    def unique_constraint(self, constraint: ConstraintInfo) -> Carried:
        created = self._created_unique(constraint)
        if created is None and self._is_dropped_by_models(constraint):
            self._refuse_change(constraint)
            return Carried(touches=(f"constraint {constraint.name}",))
        self._drops(ops.DropConstraintOp, "constraint_name", constraint.name)
        refuse_partitioned(self.table, self.surroundings, f"constraint {constraint.name}")
        final = constraint.name
        if created is not None:
            columns = self._as_new(constraint.key_columns)
            final = str(created.constraint_name or default_name(self.table, columns, "key"))
        built_as = final if final != constraint.name else _passing_name(final)
        own = next(i for i in self.info.indexes if i.constraint == constraint.name)
        new = built_by_definition(
            self.table,
            constraint,
            own,
            built_as,
            rename_column_in_index(own.definition, self.old, self.new),
        )
        # Under the constraint's own name, which is free by then: it is there after a crash, too.
        old = built_by_definition(
            self.table, constraint, own, constraint.name, index_body(own.definition)
        )
        index, key, *_details = new
        carried = Carried(
            build=new,
            unbuild=(key.reverse(), index.reverse()),
            build_old=old,
            indexes=(built_as,),
            constraints=(built_as,),
            touches=(f"constraint {constraint.name}",),
        )
        return self._renamed(carried, built_as, final)

    def _refuse_change(self, constraint: ConstraintInfo) -> None:
        """Raise where another constraint or index takes the place of one that goes: there would be
        none of them until contract."""
        old = Uniqueness.of_constraint(constraint)
        old = replace(old, columns=tuple(self._as_new(old.columns)))
        constraints = map(Uniqueness.of_operation, self._of(ops.CreateUniqueConstraintOp))
        indexes = map(Uniqueness.of_operation, self._of(ops.CreateIndexOp))
        for new in (*constraints, *indexes):
            if new is not None and (new.refuses_all_of(old) or old.refuses_all_of(new)):
                raise CannotRewrite(
                    f"Unique constraint {constraint.name} of {self.table} uses {self.old}, which is"
                    " renamed, and changes its columns or its kind at once. Rename the column with "
                    "the constraint as it is, and change that when the old column is gone. No file "
                    "was written."
                )

    def _renamed(self, carried: Carried, built_as: str, final: str) -> Carried:
        if built_as == final:
            return carried
        rename = RenameConstraintOp(built_as, final, self.table.name, self.table.schema)
        return replace(carried, take_names=(rename,), give_names_back=(rename.reverse(),))

    def check_constraint(self, constraint: ConstraintInfo) -> Carried:
        definition = rename_column_in_constraint(constraint.definition, self.old, self.new)
        passing = _passing_name(constraint.name)
        return self._constraint(
            constraint,
            self._check(passing, definition),
            self._check(constraint.name, constraint.definition),
            passing,
            constraint.name,
        )

    def foreign_key(self, constraint: ConstraintInfo) -> Carried:
        created = self._created_key(constraint)
        if created is None and self._is_dropped_by_models(constraint):
            return Carried(touches=(f"constraint {constraint.name}",))
        self._drops(ops.DropConstraintOp, "constraint_name", constraint.name)
        old = self._key(constraint, constraint.key_columns, constraint.definition)
        if created is not None:
            new = not_valid_key(created, self.table)
        else:
            definition = rename_column_in_constraint(constraint.definition, self.old, self.new)
            new = self._key(constraint, self._as_new(constraint.key_columns), definition)
        final = new.constraint_name
        if final == constraint.name:
            new.constraint_name = _passing_name(final)
        return self._constraint(constraint, new, old, new.constraint_name, final)

    def _constraint(
        self,
        constraint: ConstraintInfo,
        new: CreateCheckConstraintNotValidOp | CreateForeignKeyNotValidOp,
        old: CreateCheckConstraintNotValidOp | CreateForeignKeyNotValidOp,
        built_as: str,
        final: str,
    ) -> Carried:
        table, schema = self.table.name, self.table.schema

        def validated(name: str) -> Operations:
            return (ValidateConstraintOp(name, table, schema),) if constraint.is_validated else ()

        carried = Carried(
            build=(
                new,
                *validated(built_as),
                *constraint_details(self.table, constraint, built_as),
            ),
            unbuild=(DropConstraintIfExistsOp(built_as, table, schema),),
            build_old=(
                old,
                *validated(constraint.name),
                *constraint_details(self.table, constraint, constraint.name),
            ),
            constraints=(built_as,) if constraint.is_validated else (),
            touches=(f"constraint {constraint.name}",),
        )
        return self._renamed(carried, built_as, final)

    def _concurrent(
        self, name: str, unique: bool, body: str
    ) -> CreateIndexConcurrentlyOp | CreatePartitionedIndexOp:
        is_partitioned = self.info.kind == "p"
        kind = CreatePartitionedIndexOp if is_partitioned else CreateIndexConcurrentlyOp
        return kind(name, self.table.name, unique=unique, definition=body, schema=self.table.schema)

    def _check(self, name: str, definition: str) -> CreateCheckConstraintNotValidOp:
        match = re.fullmatch(r"CHECK \((.*)\)(?: NOT VALID)?", definition, re.DOTALL)
        if match is None:
            raise CannotRewrite(
                f"Constraint {name} of {self.table} is {definition!r}, which cannot be carried "
                "over. Drop it first, in a revision of its own. No file was written."
            )
        return CreateCheckConstraintNotValidOp(name, self.table.name, match[1], self.table.schema)

    def _key(
        self, constraint: ConstraintInfo, columns: Iterable[str], definition: str
    ) -> CreateForeignKeyNotValidOp:
        referenced = constraint.referenced_table or self.table
        return key_by_definition(self.table, constraint, referenced, list(columns), definition)

    def _created_unique(self, constraint: ConstraintInfo) -> ops.CreateUniqueConstraintOp | None:
        for operation in self._of(ops.CreateUniqueConstraintOp):
            if unique_columns(operation) == self._as_new(constraint.key_columns):
                self.diff.remove(operation)
                return operation
        return None

    def _created_key(self, constraint: ConstraintInfo) -> ops.CreateForeignKeyOp | None:
        for operation in self.diff:
            if (
                isinstance(operation, ops.CreateForeignKeyOp)
                and operation.source_table == self.table.name
                and operation.kw.get("source_schema") == self.table.schema
                and list(operation.local_cols) == self._as_new(constraint.key_columns)
            ):
                self.diff.remove(operation)
                return operation
        return None

    def _of(self, kind: type[_Found]) -> list[_Found]:
        return [
            operation
            for operation in self.diff
            if isinstance(operation, kind)
            and QualifiedName(operation.table_name or "", operation.schema) == self.table
        ]

    def _is_dropped_by_models(self, constraint: ConstraintInfo) -> bool:
        """Return whether the diff drops a constraint for good. That stays in the diff: the new
        release may violate it at once."""
        drops = self._of(ops.DropConstraintOp)
        return any(operation.constraint_name == constraint.name for operation in drops)

    def _drops(self, kind: type[_Dropped], attribute: str, name: str) -> bool:
        """Return whether the diff drops an object; it is taken out, as the column takes it."""
        for operation in self._of(kind):
            if getattr(operation, attribute) == name:
                self.diff.remove(operation)
                return True
        return False

    def _as_new(self, columns: Iterable[str]) -> list[str]:
        return [self.new if column == self.old else column for column in columns]

    def _as_old(self, columns: Iterable[str]) -> set[str]:
        return {self.old if column == self.new else column for column in columns}


def _passing_name(name: str) -> str:
    return derived_name("alembic_safe_new", name)
