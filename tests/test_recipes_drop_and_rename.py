"""Recipes that drop or rename a column, without a server: what they do, and what stops them."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from alembic.operations import ops
from snapshot import ORDERS, USERS, plan_of, sources, surroundings, table, written

from alembic_safe.errors import CannotRewrite
from alembic_safe.phases import Phase
from alembic_safe.postgres.catalog import (
    ColumnInfo,
    ConstraintInfo,
    Dependent,
    ForeignKeyInfo,
    IndexInfo,
    TableInfo,
)
from alembic_safe.rewrite.plan import Plan, arrange
from alembic_safe.rewrite.recipes import plans_for
from alembic_safe.rewrite.renames import RenameColumnOp

ID = ColumnInfo("id", "integer", not_null=True)
NAME = ColumnInfo("name", "text")


def with_column(column: ColumnInfo = NAME, **facts: Any) -> TableInfo:
    return table(USERS, ID, column, **facts)


IN_THE_WAY = [
    ({"dependents": (Dependent("view", "public.v", frozenset({"name"})),)}, "view public.v"),
    (
        {"dependents": (Dependent("generated column", "users.up", frozenset({"name"})),)},
        "generated column users.up",
    ),
    ({"dependents": (Dependent("policy", "p on users", frozenset({"name"})),)}, "policy p on"),
    ({"dependents": (Dependent("trigger", "t on users", frozenset({"name"})),)}, "trigger t on"),
    ({"dependents": (Dependent("publication", "pub", frozenset({"name"})),)}, "publication pub"),
    ({"dependents": (Dependent("statistics", "s", frozenset({"name"})),)}, "statistics s"),
    ({"dependents": (Dependent("function", "f()", frozenset({"name"})),)}, r"function f\(\)"),
    (
        {"referenced_by": (ForeignKeyInfo("fk", ORDERS, frozenset({"name"})),)},
        "foreign key fk of orders",
    ),
    (
        {"constraints": (ConstraintInfo("pk", "p", "PRIMARY KEY (name)", frozenset({"name"})),)},
        "primary key pk",
    ),
    (
        {"constraints": (ConstraintInfo("ex", "x", "EXCLUDE ...", frozenset({"name"})),)},
        "exclusion constraint ex",
    ),
    ({"partition_key_columns": frozenset({"name"}), "kind": "p"}, "the partition key"),
    ({"has_inheritance_children": True}, "tables that inherit from it"),
    (
        {
            "indexes": (
                IndexInfo(
                    "ux",
                    "CREATE UNIQUE INDEX ux ON public.users USING btree (name)",
                    columns=frozenset({"name"}),
                    is_unique=True,
                    is_replica_identity=True,
                ),
            )
        },
        "replica identity.* ux|ux.*replica identity",
    ),
]


class TestDropColumn:
    @staticmethod
    def plan(info: TableInfo, column: str = "name") -> Plan:
        reflected: sa.Column[Any] = sa.Column(column, sa.TEXT)
        drop = ops.DropColumnOp.from_column_and_tablename(
            info.name.schema, info.name.name, reflected
        )
        return plan_of(drop, surroundings(info))

    def test_waits_for_the_old_release_to_be_gone(self) -> None:
        plan = self.plan(with_column())
        assert written(plan) == [
            (
                "contract",
                ['op.drop_column_if_exists("users", "name")'],
                ['op.add_column_if_not_exists("users", "name", "text")'],
            )
        ]
        assert "the data is gone" in plan[0].says
        assert plan[0].requires == "no release reads or writes users.name."

    def test_comes_back_with_its_type_collation_and_default(self) -> None:
        column = ColumnInfo(
            "name", "character varying(9)", default="'x'::text", collation='pg_catalog."C"'
        )
        (step,) = self.plan(with_column(column))
        assert sources(step.downgrade) == [
            'op.add_column_if_not_exists("users", "name", '
            "'character varying(9) COLLATE pg_catalog.\"C\"', server_default=\"'x'::text\")"
        ]

    def test_takes_its_indexes_first_and_brings_them_back_last(self) -> None:
        indexes = tuple(
            IndexInfo(
                name,
                f"CREATE INDEX {name} ON public.users USING btree (id, name)",
                columns=frozenset({"id", "name"}),
                constraint=constraint,
            )
            for name, constraint in (("a", None), ("b", None), ("uq", "uq"))
        )
        (step,) = self.plan(with_column(indexes=indexes))
        assert sources(step.upgrade) == [
            'op.drop_index_concurrently("a", "users")',
            'op.drop_index_concurrently("b", "users")',
            'op.drop_column_if_exists("users", "name")',
        ]
        assert [call.split("(")[0] for call in sources(step.downgrade)] == [
            "op.add_column_if_not_exists",
            "op.create_index_concurrently",
            "op.create_index_concurrently",
        ]
        assert 'definition="USING btree (id, name)"' in sources(step.downgrade)[1]

    def test_says_which_constraints_it_takes_along(self) -> None:
        check = ConstraintInfo("ck", "c", "CHECK ((id > length(name)))", frozenset({"id", "name"}))
        (step,) = self.plan(with_column(constraints=(check,)))
        assert "Constraint ck goes with it for good." in step.says

    def test_beside_another_of_the_same_index_brings_it_back_when_both_are_there(self) -> None:
        index = IndexInfo(
            "ix",
            "CREATE INDEX ix ON public.users USING btree (id, name)",
            frozenset({"id", "name"}),
        )
        dropped = [
            ops.DropColumnOp.from_column_and_tablename(None, "users", sa.Column(name, sa.TEXT))
            for name in ("name", "id")
        ]
        snapshot = surroundings(
            table(USERS, ColumnInfo("id", "integer"), NAME, indexes=(index,)),
            dropped_columns=[(USERS, "name"), (USERS, "id")],
        )
        (draft,) = arrange(plans_for(dropped, snapshot)).contracts
        back = [call.split("(")[0] for call in sources(draft.downgrade)]
        assert back == [
            "op.add_column_if_not_exists",
            "op.add_column_if_not_exists",
            "op.create_index_concurrently",
        ]

    def test_that_is_not_null_can_be_left_out_by_the_new_release_first(self) -> None:
        first, last = self.plan(with_column(ColumnInfo("name", "text", not_null=True)))
        assert sources(first.upgrade) == [
            "op.alter_column('users', 'name', existing_type=sa.TEXT(), nullable=True)"
        ]
        assert (first.phase, set(first.locks), last.phase) == (
            Phase.EXPAND,
            {USERS},
            Phase.CONTRACT,
        )
        assert all(call.startswith("# ") for call in sources(first.downgrade))

    @pytest.mark.parametrize(
        "column",
        [
            ColumnInfo("name", "text", not_null=True, default="''::text"),
            ColumnInfo("name", "integer", not_null=True, identity="a"),
        ],
    )
    def test_that_the_server_fills_need_not_be_loosened(self, column: ColumnInfo) -> None:
        assert [step.phase for step in self.plan(with_column(column))] == [Phase.CONTRACT]

    @pytest.mark.parametrize("kind", ["sequence", "identity sequence"])
    def test_takes_its_own_sequence_along(self, kind: str) -> None:
        own = Dependent(kind, "public.users_name_seq", frozenset({"name"}))
        assert [step.phase for step in self.plan(with_column(dependents=(own,)))] == [
            Phase.CONTRACT
        ]

    @pytest.mark.parametrize(("facts", "named"), IN_THE_WAY)
    def test_is_refused_while_something_hangs_on_it(
        self, facts: dict[str, Any], named: str
    ) -> None:
        with pytest.raises(CannotRewrite, match=named) as error:
            self.plan(with_column(**facts))
        assert "users" in str(error.value)
        assert "No file was written" in str(error.value)

    def test_names_everything_that_is_in_the_way(self) -> None:
        dependents = tuple(Dependent("view", f"v{n}", frozenset({"name"})) for n in range(3))
        with pytest.raises(CannotRewrite, match="view v0, view v1, view v2"):
            self.plan(with_column(dependents=dependents))

    def test_is_not_stopped_by_what_hangs_on_another_column(self) -> None:
        info = with_column(
            dependents=(Dependent("view", "v", frozenset({"id"})),),
            constraints=(ConstraintInfo("pk", "p", "PRIMARY KEY (id)", frozenset({"id"})),),
        )
        assert len(self.plan(info)) == 1

    def test_of_a_parent_table_is_refused(self) -> None:
        column = ColumnInfo("name", "text", inherited=True)
        with pytest.raises(CannotRewrite, match="a parent table that has the column"):
            self.plan(with_column(column))

    def test_that_is_not_there_is_refused(self) -> None:
        with pytest.raises(CannotRewrite, match=r"drop users\.lost"):
            self.plan(with_column(), "lost")


class TestRenameColumn:
    @staticmethod
    def plan(info: TableInfo, new: sa.Column[Any] | None = None, old: str = "name") -> Plan:
        new = sa.Column("title", sa.Text) if new is None else new
        rename = RenameColumnOp(USERS, sa.Column(old, sa.TEXT), new)
        return plan_of(rename, surroundings(info))

    def test_is_expand_migrate_and_contract(self) -> None:
        assert written(self.plan(with_column())) == [
            (
                "expand",
                [
                    "op.add_column('users', sa.Column('title', sa.Text(), nullable=True))",
                    'op.create_sync_trigger("users", source="name", target="title")',
                ],
                [
                    'op.drop_sync_trigger("users", source="name", target="title")',
                    "op.drop_column('users', 'title')",
                ],
            ),
            (
                "migrate",
                [
                    'op.backfill("users", values={"title": "name"}, '
                    'where="title IS NULL AND name IS NOT NULL")'
                ],
                [],
            ),
            (
                "contract",
                [
                    'op.verify_sync("users", source="name", target="title")',
                    'op.drop_synced_column("users", source="name", target="title")',
                ],
                [
                    'op.add_column_if_not_exists("users", "name", "text")',
                    'op.create_sync_trigger("users", source="title", target="name")',
                    'op.backfill("users", values={"name": "title"}, '
                    'where="name IS NULL AND title IS NOT NULL")',
                ],
            ),
        ]

    def test_touches_both_names(self) -> None:
        expand, _, contract = self.plan(with_column())
        assert {"column users.name", "column users.title"} == set(expand.touches)
        assert set(expand.touches) <= set(contract.touches)

    @pytest.mark.parametrize(("facts", "named"), IN_THE_WAY)
    def test_is_refused_while_something_hangs_on_the_column(
        self, facts: dict[str, Any], named: str
    ) -> None:
        with pytest.raises(CannotRewrite, match=named) as error:
            self.plan(with_column(**facts))
        assert "No file was written" in str(error.value)

    @pytest.mark.parametrize("kind", ["sequence", "identity sequence"])
    def test_is_refused_with_a_sequence_too(self, kind: str) -> None:
        own = Dependent(kind, "public.users_name_seq", frozenset({"name"}))
        with pytest.raises(CannotRewrite, match=r"rename users\.name to title.*users_name_seq"):
            self.plan(with_column(dependents=(own,)))

    @pytest.mark.parametrize(
        "column",
        [
            ColumnInfo("name", "integer", identity="a", not_null=True),
            ColumnInfo("name", "text", generated="s", default="lower(x)"),
        ],
    )
    def test_of_a_column_that_computes_its_values_is_refused(self, column: ColumnInfo) -> None:
        with pytest.raises(CannotRewrite, match="computes its values"):
            self.plan(with_column(column))

    @pytest.mark.parametrize(
        "facts",
        [
            {"indexes": (IndexInfo("both", "CREATE INDEX ...", frozenset({"name", "city"})),)},
            {
                "constraints": (
                    ConstraintInfo("both", "c", "CHECK (...)", frozenset({"name", "city"})),
                )
            },
        ],
    )
    def test_of_two_columns_under_one_index_or_constraint_is_refused(
        self, facts: dict[str, Any]
    ) -> None:
        info = table(USERS, ID, NAME, ColumnInfo("city", "text"), **facts)
        renames = [
            RenameColumnOp(USERS, sa.Column(old, sa.TEXT), sa.Column(new, sa.Text))
            for old, new in (("name", "title"), ("city", "town"))
        ]
        with pytest.raises(CannotRewrite, match="both of users uses name and city"):
            plans_for(renames, surroundings(info))

    def test_of_a_column_that_is_not_there_is_refused(self) -> None:
        with pytest.raises(CannotRewrite, match="users has no column lost"):
            self.plan(with_column(), old="lost")
