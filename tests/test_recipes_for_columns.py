"""Recipes for columns, without a server: NOT NULL, added, dropped, renamed."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.operations import ops
from snapshot import USERS, Written, plan_of, sources, surroundings, table, written
from sqlalchemy.dialects import postgresql

from alembic_safe import filled_with
from alembic_safe.errors import ValueNeeded
from alembic_safe.phases import Phase
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.rewrite.plan import Plan


def called(*_context: object) -> str:
    raise AssertionError("a default of the application was called")


class TestSetNotNull:
    @staticmethod
    def steps(column: sa.Column[Any] | None, schema: str | None = None) -> list[Written]:
        models = []
        if column is not None:
            models.append(sa.Table("users", sa.MetaData(), column, schema=schema))
        change = ops.AlterColumnOp(
            "users", "name", schema=schema, modify_nullable=False, existing_type=sa.Text()
        )
        snapshot = surroundings(table(QualifiedName("users", schema)), models=models)
        return written(plan_of(change, snapshot))

    def test_without_a_value_is_one_contract_revision(self) -> None:
        assert self.steps(sa.Column("name", sa.Text)) == [
            (
                "contract",
                ['op.set_not_null("users", "name")'],
                ['op.drop_not_null("users", "name")'],
            )
        ]

    def test_with_a_value_fills_the_rows_before_and_once_more(self) -> None:
        filling = 'op.backfill("users", values={"name": "id::text"}, where="name IS NULL"'
        assert self.steps(sa.Column("name", sa.Text, info=filled_with("id::text"))) == [
            ("migrate", [f"{filling}, until_none_left=False)"], []),
            (
                "contract",
                [f"{filling})", 'op.set_not_null("users", "name")'],
                ['op.drop_not_null("users", "name")'],
            ),
        ]

    def test_keeps_its_schema(self) -> None:
        steps = self.steps(sa.Column("name", sa.Text, info=filled_with("''")), "shop")
        calls = [call for _, up, down in steps for call in (*up, *down)]
        assert len(calls) == 4
        assert all('schema="shop"' in call for call in calls)

    def test_of_a_column_that_no_model_has_relies_on_the_rows(self) -> None:
        assert [phase for phase, _, _ in self.steps(None)] == ["contract"]

    def test_says_what_has_to_be_true(self) -> None:
        change = ops.AlterColumnOp("users", "name", modify_nullable=False)
        (last,) = plan_of(change)
        assert last.requires == (
            "no release writes users.name as NULL. Rows of users without name stop it."
        )
        assert last.touches == ("column users.name",)

    @pytest.mark.parametrize(
        ("column", "value"),
        [
            (sa.Column("name", sa.Text, default="it's 100%"), "'it''s 100%'"),
            (sa.Column("name", sa.Integer, default=0), "0"),
            (sa.Column("name", sa.Boolean, default=False), "false"),
            (sa.Column("name", sa.Numeric(9, 2), default=Decimal("1.50")), "1.50"),
            (sa.Column("name", sa.Date, default=dt.date(2024, 2, 29)), "'2024-02-29'"),
            (
                sa.Column("name", sa.Uuid, default=uuid.UUID(int=1)),
                "'00000000-0000-0000-0000-000000000001'",
            ),
            (sa.Column("name", sa.Enum("a", "b", name="ab"), default="b"), "'b'"),
            (sa.Column("name", sa.DateTime, default=sa.func.now()), "now()"),
            (sa.Column("name", sa.Text, server_default="x'y"), "'x''y'"),
            (sa.Column("name", sa.Text, server_default=sa.text("upper('x')")), "upper('x')"),
            (sa.Column("name", sa.Text, server_default="s", default="p"), "'s'"),
            (
                sa.Column("name", sa.Text, server_default="s", info=filled_with("lower(email)")),
                "lower(email)",
            ),
        ],
    )
    def test_takes_its_value_from_the_model(self, column: sa.Column[Any], value: str) -> None:
        (_, (filling,), _) = self.steps(column)[0]
        assert filling.startswith("op.backfill(")
        change = ops.AlterColumnOp("users", "name", modify_nullable=False)
        model = sa.Table("users", sa.MetaData(), column._copy())
        first = plan_of(change, surroundings(models=[model]))[0]
        assert vars(first.upgrade[0])["values"] == {"name": value}

    @pytest.mark.parametrize(
        "column",
        [
            sa.Column("name", sa.Text, default=called),
            sa.Column("name", sa.Text, server_default=sa.FetchedValue()),
            sa.Column("name", sa.Integer, default=sa.Sequence("seq")),
        ],
    )
    def test_takes_no_value_that_may_differ_from_row_to_row(self, column: sa.Column[Any]) -> None:
        assert [phase for phase, _, _ in self.steps(column)] == ["contract"]

    @pytest.mark.parametrize("text", ["1) + (2", "1; DROP TABLE users", "'open", "1 -- x"])
    def test_with_a_value_that_is_no_expression_is_refused(self, text: str) -> None:
        with pytest.raises(ValueNeeded, match="filled_with") as error:
            self.steps(sa.Column("name", sa.Text, info=filled_with(text)))
        assert text in str(error.value)
        assert "users.name" in str(error.value)


class TestAlterColumn:
    def test_drop_not_null_is_an_expand(self) -> None:
        change = ops.AlterColumnOp(
            "users",
            "name",
            modify_nullable=True,
            existing_nullable=False,
            existing_type=sa.Text(),
        )
        (step,) = plan_of(change)
        assert step.phase is Phase.EXPAND
        assert step.commits_alone
        assert sources(step.upgrade) == ['op.drop_not_null("users", "name")']
        assert sources(step.downgrade) == ['op.set_not_null("users", "name")']
        assert (set(step.locks), step.touches) == ({USERS}, ("column users.name",))

    @pytest.mark.parametrize("nullable", [True, False])
    def test_nullability_is_split_from_the_rest(self, nullable: bool) -> None:
        change = ops.AlterColumnOp(
            "users",
            "name",
            existing_type=sa.Text(),
            existing_nullable=not nullable,
            modify_nullable=nullable,
            modify_type=sa.String(9),
            modify_comment="new",
            existing_comment="old",
        )
        first, rest = plan_of(change)
        assert first.phase is (Phase.EXPAND if nullable else Phase.CONTRACT)
        assert "String" not in sources(first.upgrade)[-1]
        assert " comment=" not in sources(first.upgrade)[-1]
        assert "Not examined" in sources(rest.upgrade)[0]
        assert "type_=sa.String(length=9)" in sources(rest.upgrade)[1]
        assert "comment='new'" in sources(rest.upgrade)[1]
        assert " nullable=" not in sources(rest.upgrade)[1]
        assert " nullable=" not in sources(rest.downgrade)[1]

    def test_nullability_of_a_model_that_is_renamed_elsewhere_is_left_alone(self) -> None:
        change = ops.AlterColumnOp("users", "name", modify_comment="new", existing_comment="old")
        (step,) = plan_of(change)
        assert step.upgrade[1] is change


class TestAddColumn:
    @staticmethod
    def plan(column: sa.Column[Any], schema: str | None = None) -> Plan:
        name = QualifiedName("users", schema)
        return plan_of(ops.AddColumnOp("users", column, schema=schema), surroundings(table(name)))

    @pytest.mark.parametrize(
        "column",
        [
            sa.Column("c", sa.Text),
            sa.Column("c", sa.Text, default="only the application knows"),
            sa.Column("c", sa.Text, server_default="x"),
            sa.Column("c", sa.Integer, nullable=False, server_default=sa.text("-1::int")),
            sa.Column("c", sa.DateTime, nullable=False, server_default=sa.func.now()),
            sa.Column("c", sa.DateTime, server_default=sa.text("(now() AT TIME ZONE 'utc')")),
        ],
    )
    def test_that_costs_nothing_is_one_statement(self, column: sa.Column[Any]) -> None:
        add = ops.AddColumnOp("users", column)
        (step,) = plan_of(add)
        assert (step.phase, step.upgrade) == (Phase.EXPAND, (add,))
        assert sources(step.downgrade) == ["op.drop_column('users', 'c')"]
        assert (set(step.locks), step.touches) == ({USERS}, ("column users.c",))

    @pytest.mark.parametrize(
        "column",
        [
            sa.Column("c", sa.Uuid, server_default=sa.func.gen_random_uuid()),
            sa.Column("c", sa.DateTime, server_default=sa.text("clock_timestamp()")),
            sa.Column("c", sa.Integer, server_default=sa.text("nextval('s')"), nullable=False),
            sa.Column("c", sa.Integer, sa.Identity()),
            sa.Column("c", sa.Integer, sa.Computed("id * 2")),
            sa.Column("c", sa.Integer, primary_key=True),
            sa.Column("c", postgresql.DOMAIN("positive", sa.Integer)),
        ],
    )
    def test_that_would_rewrite_the_table_is_not_examined(self, column: sa.Column[Any]) -> None:
        add = ops.AddColumnOp("users", column)
        (step,) = plan_of(add)
        assert "Not examined" in sources(step.upgrade)[0]
        assert step.upgrade[1] is add
        assert step.touches == ("column users.c",)

    @pytest.mark.parametrize(
        ("column", "default"),
        [
            (sa.Column("c", sa.Text, nullable=False, default="it's"), "'it''s'"),
            (sa.Column("c", sa.Integer, nullable=False, default=3), "3"),
            (
                sa.Column("c", sa.Text, nullable=False, info=filled_with("'x' :: text")),
                "'x' :: text",
            ),
            (sa.Column("c", sa.DateTime, nullable=False, info=filled_with("now()")), "now()"),
        ],
    )
    def test_that_is_not_null_with_a_constant_gets_it_as_a_passing_default(
        self, column: sa.Column[Any], default: str
    ) -> None:
        first, last = self.plan(column)
        (add,) = first.upgrade
        assert isinstance(add, ops.AddColumnOp)
        assert not add.column.nullable
        assert str(add.column.server_default.arg) == default  # type: ignore[union-attr]  # it has one
        assert (first.phase, set(first.locks)) == (Phase.EXPAND, {USERS})
        assert (last.phase, last.touches) == (Phase.CONTRACT, ("column users.c",))
        (drop,), (restore,) = last.upgrade, last.downgrade
        assert sources([drop])[0].startswith(
            'op.set_server_default("users", "c", server_default=None'
        )
        assert vars(restore)["server_default"] == default

    def test_that_is_not_null_with_an_expression_is_filled_before(self) -> None:
        column = sa.Column(
            "c", sa.Text, nullable=False, info=filled_with("lower(name)"), comment="what"
        )
        filling = 'op.backfill("users", values={"c": "lower(name)"}, where="c IS NULL"'
        assert written(self.plan(column)) == [
            (
                "expand",
                [
                    "op.add_column('users', sa.Column('c', sa.Text(), nullable=True, "
                    "comment='what'))"
                ],
                ["op.drop_column('users', 'c')"],
            ),
            ("migrate", [f"{filling}, until_none_left=False)"], []),
            (
                "contract",
                [f"{filling})", 'op.set_not_null("users", "c")'],
                ['op.drop_not_null("users", "c")'],
            ),
        ]

    def test_keeps_its_schema(self) -> None:
        column = sa.Column("c", sa.Text, nullable=False, info=filled_with("lower(name)"))
        for _, up, down in written(self.plan(column, "shop")):
            assert all("schema=" in call for call in (*up, *down))

    @pytest.mark.parametrize(
        "column",
        [
            sa.Column("c", sa.Text, nullable=False),
            sa.Column("c", sa.Text, nullable=False, default=called),
            sa.Column("c", sa.Text, nullable=False, server_default=sa.FetchedValue()),
        ],
    )
    def test_that_is_not_null_without_a_value_is_refused(self, column: sa.Column[Any]) -> None:
        with pytest.raises(ValueNeeded, match=r"users\.c is new and NOT NULL") as error:
            self.plan(column)
        for way in ("server_default=", "default=", "filled_with", "No file was written"):
            assert way in str(error.value)
