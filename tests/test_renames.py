"""Which pairs of an added and a dropped column are taken for a rename: by hint, never by guess."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.operations import MigrateOperation, ops

from alembic_safe import filled_with, renamed_from
from alembic_safe.errors import RenameError
from alembic_safe.hints import FILLED_WITH, RENAMED_FROM, hint
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.rewrite.renames import Ask, RenameColumnOp, take_renames

USERS = QualifiedName("users")


def added(
    name: str,
    was: str | None = None,
    *,
    table: QualifiedName = USERS,
    kind: sa.types.TypeEngine[Any] | None = None,
) -> ops.AddColumnOp:
    """A column that the models have and the database lacks."""
    column: sa.Column[Any] = sa.Column(
        name, kind or sa.Text(), info=renamed_from(was) if was is not None else {}
    )
    return ops.AddColumnOp(table.name, column, schema=table.schema)


def dropped(
    name: str, *, table: QualifiedName = USERS, kind: sa.types.TypeEngine[Any] | None = None
) -> ops.DropColumnOp:
    """A column that the database has and the models lack, as autogenerate reflects it."""
    column: sa.Column[Any] = sa.Column(name, kind or sa.TEXT())
    return ops.DropColumnOp.from_column_and_tablename(table.schema, table.name, column)


def taken(
    *found: MigrateOperation,
    existing: tuple[str, ...] = ("id", "full_name"),
    asked_for: tuple[str, ...] = (),
    ask: Ask | None = None,
    table: QualifiedName = USERS,
) -> list[MigrateOperation]:
    return take_renames(list(found), {table: frozenset(existing)}, asked_for, ask)


def names(operation: MigrateOperation) -> tuple[str, str, str]:
    """A rename as (table, old, new)."""
    assert isinstance(operation, RenameColumnOp)
    return str(operation.table), operation.old.name, operation.new.name


def never(question: str) -> bool:
    raise AssertionError(f"asked: {question}")


def answering(answer: bool, asked: list[str]) -> Callable[[str], bool]:
    def ask(question: str) -> bool:
        asked.append(question)
        return answer

    return ask


class TestHint:
    def test_makes_a_rename_in_the_place_of_the_added_column(self) -> None:
        before = ops.DropIndexOp("ix", "users")
        after = ops.CreateTableOp("t", [sa.Column("id", sa.Integer)])
        operations = taken(
            before, added("display_name", "full_name"), dropped("full_name"), after, ask=never
        )
        assert [operations[0], operations[2]] == [before, after]
        assert names(operations[1]) == ("users", "full_name", "display_name")
        assert len(operations) == 3

    def test_keeps_the_models_column_and_the_reflected_one(self) -> None:
        add, drop = added("display_name", "full_name", kind=sa.String(9)), dropped("full_name")
        (rename,) = taken(add, drop)
        assert isinstance(rename, RenameColumnOp)
        assert rename.new is add.column
        assert isinstance(rename.old.type, sa.TEXT)

    def test_works_wherever_the_dropped_column_stands(self) -> None:
        (rename,) = taken(dropped("full_name"), added("display_name", "full_name"))
        assert names(rename) == ("users", "full_name", "display_name")

    def test_is_ignored_once_the_column_is_renamed(self) -> None:
        assert taken(existing=("id", "display_name")) == []
        other = added("age")
        assert taken(other, existing=("id", "display_name")) == [other]

    def test_is_ignored_in_a_table_that_is_created(self) -> None:
        create = ops.CreateTableOp("users", [sa.Column("a", sa.Text, info=renamed_from("b"))])
        assert take_renames([create], {}, (), None) == [create]

    def test_that_names_nothing_is_refused_with_the_columns_that_are_there(self) -> None:
        with pytest.raises(RenameError, match=r"users\.display_name was users\.ful_name") as error:
            taken(added("display_name", "ful_name"), dropped("full_name"))
        assert "it has: full_name, id" in str(error.value)
        assert "No file was written" in str(error.value)

    def test_to_a_column_that_the_model_still_has_is_refused(self) -> None:
        with pytest.raises(RenameError, match="the model still has full_name"):
            taken(added("display_name", "full_name"))

    def test_to_a_dropped_column_of_another_table_is_refused(self) -> None:
        elsewhere = dropped("full_name", table=QualifiedName("people"))
        with pytest.raises(RenameError, match=r"users\.full_name"):
            taken(added("display_name", "full_name"), elsewhere, existing=("id",))

    def test_of_two_columns_for_one_is_refused(self) -> None:
        with pytest.raises(RenameError, match=r"users\.full_name.*display_name.*nick") as error:
            taken(
                added("display_name", "full_name"), added("nick", "full_name"), dropped("full_name")
            )
        assert "No file was written" in str(error.value)

    def test_beside_another_rename_of_the_same_table(self) -> None:
        operations = taken(
            added("b", "a"), added("d", "c"), dropped("a"), dropped("c"), existing=("a", "c")
        )
        assert [names(operation) for operation in operations] == [
            ("users", "a", "b"),
            ("users", "c", "d"),
        ]

    @pytest.mark.parametrize(
        ("table", "old", "new"),
        [
            (QualifiedName("users", "shop"), "full_name", "display_name"),
            (QualifiedName('U"sers', 'sh"op'), 'Full "Name"', "Größe 漢字"),
            (QualifiedName("a.b", "c.d"), "e.f", "g:h"),
        ],
    )
    def test_with_any_names(self, table: QualifiedName, old: str, new: str) -> None:
        (rename,) = taken(
            added(new, old, table=table), dropped(old, table=table), existing=(old,), table=table
        )
        assert isinstance(rename, RenameColumnOp)
        assert (rename.table, rename.old.name, rename.new.name) == (table, old, new)

    def test_does_not_reach_into_another_schema(self) -> None:
        with pytest.raises(RenameError, match=r"a\.users"):
            taken(
                added("n", "o", table=QualifiedName("users", "a")),
                dropped("o", table=QualifiedName("users", "b")),
            )


class TestCommandLine:
    def test_names_a_rename(self) -> None:
        (rename,) = taken(
            added("display_name"),
            dropped("full_name"),
            asked_for=("users.full_name:display_name",),
            ask=never,
        )
        assert names(rename) == ("users", "full_name", "display_name")

    def test_names_a_table_in_a_schema(self) -> None:
        table = QualifiedName("users", "shop")
        (rename,) = taken(
            added("display_name", table=table),
            dropped("full_name", table=table),
            asked_for=("shop.users.full_name:display_name",),
            table=table,
        )
        assert names(rename) == ("shop.users", "full_name", "display_name")

    def test_wins_over_the_model(self) -> None:
        operations = taken(
            added("display_name", "full_name"),
            dropped("full_name"),
            dropped("nick"),
            asked_for=("users.nick:display_name",),
            existing=("full_name", "nick"),
        )
        assert names(operations[0]) == ("users", "nick", "display_name")
        assert isinstance(operations[1], ops.DropColumnOp)

    def test_with_a_new_name_that_the_models_do_not_add_is_refused(self) -> None:
        with pytest.raises(RenameError, match="the models add no column dispay_name to users"):
            taken(
                added("display_name"),
                dropped("full_name"),
                asked_for=("users.full_name:dispay_name",),
            )

    def test_with_an_old_name_that_is_not_there_is_refused(self) -> None:
        with pytest.raises(RenameError, match=r"-x rename=users\.fullname:display_name says"):
            taken(
                added("display_name"),
                dropped("full_name"),
                asked_for=("users.fullname:display_name",),
            )

    def test_of_a_column_that_a_hint_takes_too_is_refused(self) -> None:
        with pytest.raises(RenameError, match="nick"):
            taken(
                added("display_name", "full_name"),
                added("nick"),
                dropped("full_name"),
                asked_for=("users.full_name:nick",),
            )


class TestQuestion:
    def test_answered_with_yes_makes_a_rename(self) -> None:
        asked: list[str] = []
        (rename,) = taken(added("display_name"), dropped("full_name"), ask=answering(True, asked))
        assert names(rename) == ("users", "full_name", "display_name")
        assert asked == ["Is users.display_name the column users.full_name, renamed?"]

    def test_answered_with_no_leaves_both_columns(self) -> None:
        add, drop, asked = added("display_name"), dropped("full_name"), list[str]()
        assert taken(add, drop, ask=answering(False, asked)) == [add, drop]
        assert len(asked) == 1

    def test_is_never_asked_without_a_terminal(self) -> None:
        add, drop = added("display_name"), dropped("full_name")
        assert taken(add, drop, ask=None) == [add, drop]

    def test_is_not_asked_for_types_that_do_not_look_alike(self) -> None:
        add, drop = added("age", kind=sa.Integer()), dropped("full_name")
        assert taken(add, drop, ask=never) == [add, drop]

    def test_is_asked_for_types_that_differ_in_length_only(self) -> None:
        asked: list[str] = []
        taken(added("n", kind=sa.String(9)), dropped("o"), ask=answering(True, asked))
        assert len(asked) == 1

    def test_is_not_asked_across_tables(self) -> None:
        add, drop = added("display_name"), dropped("full_name", table=QualifiedName("people"))
        assert taken(add, drop, ask=never) == [add, drop]

    def test_is_not_asked_about_what_a_hint_tells(self) -> None:
        asked: list[str] = []
        operations = taken(
            added("display_name", "full_name"),
            added("city"),
            dropped("full_name"),
            dropped("town"),
            existing=("full_name", "town"),
            ask=answering(True, asked),
        )
        assert asked == ["Is users.city the column users.town, renamed?"]
        assert [names(operation)[1:] for operation in operations] == [
            ("full_name", "display_name"),
            ("town", "city"),
        ]

    def test_is_not_repeated_for_a_column_that_is_taken(self) -> None:
        asked: list[str] = []
        operations = taken(
            added("a"), added("b"), dropped("x"), dropped("y"), ask=answering(True, asked)
        )
        assert asked == [
            "Is users.a the column users.x, renamed?",
            "Is users.b the column users.y, renamed?",
        ]
        assert [names(operation)[1:] for operation in operations] == [("x", "a"), ("y", "b")]


class TestTableHint:
    @staticmethod
    def created(was: str, schema: str | None = None) -> ops.CreateTableOp:
        return ops.CreateTableOp(
            "people", [sa.Column("id", sa.Integer)], schema=schema, info=renamed_from(was)
        )

    def test_is_refused_while_the_old_table_goes(self) -> None:
        with pytest.raises(RenameError, match="table people was users"):
            taken(self.created("users"), ops.DropTableOp("users"))

    def test_is_ignored_once_the_old_table_is_gone(self) -> None:
        create, drop = self.created("users"), ops.DropTableOp("other")
        assert taken(create, drop) == [create, drop]

    def test_means_a_table_of_the_same_schema(self) -> None:
        create, drop = self.created("users", "shop"), ops.DropTableOp("users", schema="old")
        assert taken(create, drop) == [create, drop]


class TestInfo:
    def test_hints_combine(self) -> None:
        both = renamed_from("full_name") | filled_with("''")
        assert hint(both, RENAMED_FROM) == "full_name"
        assert hint(both, FILLED_WITH) == "''"

    def test_a_column_without_hints_has_none(self) -> None:
        assert hint({}, RENAMED_FROM) is None
        assert hint({RENAMED_FROM: 3}, RENAMED_FROM) is None

    @pytest.mark.parametrize("value", ["", "  ", None, 7])
    def test_an_empty_hint_is_refused(self, value: object) -> None:
        give_old_name: Callable[[object], object] = renamed_from  # type: ignore[assignment]  # a caller without mypy
        give_value: Callable[[object], object] = filled_with  # type: ignore[assignment]  # a caller without mypy
        with pytest.raises(ValueError, match="renamed_from"):
            give_old_name(value)
        with pytest.raises(ValueError, match="filled_with"):
            give_value(value)
