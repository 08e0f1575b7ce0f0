"""Recipes for indexes, without a server: created, dropped, changed."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from alembic.operations import ops
from snapshot import ORDERS, USERS, Written, plan_of, sources, surroundings, table, written
from sqlalchemy.dialects import postgresql

from alembic_safe.errors import CannotRewrite
from alembic_safe.phases import Phase
from alembic_safe.postgres.catalog import IndexInfo
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.rewrite.recipes import plans_for

MODEL = sa.Table(
    "users",
    sa.MetaData(),
    sa.Column("id", sa.Integer),
    sa.Column("name", sa.Text),
    sa.Column("age", sa.Integer),
    sa.Column("tags", postgresql.ARRAY(sa.Text)),
)


def index(*parts: Any, name: str = "ix", **options: Any) -> ops.CreateIndexOp:
    """An index that the models have and the database lacks."""
    operation = ops.CreateIndexOp.from_index(sa.Index(name, *parts, _table=MODEL, **options))
    assert isinstance(operation, ops.CreateIndexOp)
    return operation


class TestCreateIndex:
    def test_is_built_beside_the_traffic(self) -> None:
        plan = plan_of(ops.CreateIndexOp("ix", "users", ["name", "id"]))
        assert written(plan) == [
            (
                "migrate",
                ['op.create_index_concurrently("ix", "users", ["name", "id"])'],
                ['op.drop_index_concurrently("ix", "users")'],
            )
        ]
        assert plan[0].locks == frozenset()
        assert plan[0].touches == ("index ix", "column users.name", "column users.id")

    def test_keeps_its_schema(self) -> None:
        users = QualifiedName("users", "shop")
        plan = plan_of(
            ops.CreateIndexOp("ix", "users", ["name"], schema="shop"), surroundings(table(users))
        )
        (_, up, down) = written(plan)[0]
        assert up == ['op.create_index_concurrently("ix", "users", ["name"], schema="shop")']
        assert down == ['op.drop_index_concurrently("ix", "users", schema="shop")']
        assert plan[0].touches == ("index ix", "column shop.users.name")

    @pytest.mark.parametrize(
        ("operation", "definition"),
        [
            (index(sa.func.lower(MODEL.c.name)), "(lower(name))"),
            (index(MODEL.c.name.desc().nulls_last()), "(name DESC NULLS LAST)"),
            (index("name", postgresql_where=MODEL.c.age > 17), "(name) WHERE age > 17"),
            (index("tags", postgresql_using="gin"), "USING gin (tags)"),
            (index("name", postgresql_include=["age"]), "(name) INCLUDE (age)"),
            (
                index("name", postgresql_ops={"name": "text_pattern_ops"}),
                "(name text_pattern_ops)",
            ),
            (index("name", postgresql_with={"fillfactor": 70}), "(name) WITH (fillfactor = 70)"),
            (
                index(sa.text("(age % 2)"), postgresql_where=sa.text("name LIKE 'a%'")),
                "((age % 2)) WHERE name LIKE 'a%'",
            ),
        ],
    )
    def test_keeps_what_is_more_than_columns(
        self, operation: ops.CreateIndexOp, definition: str
    ) -> None:
        (step,) = plan_of(operation)
        assert step.phase is Phase.MIGRATE
        assert getattr(step.upgrade[0], "definition", None) == definition

    def test_ignores_options_that_say_how_it_is_built(self) -> None:
        (step,) = plan_of(index("name", postgresql_concurrently=True))
        assert sources(step.upgrade) == ['op.create_index_concurrently("ix", "users", ["name"])']

    def test_that_is_unique_waits_for_the_old_release_to_be_gone(self) -> None:
        plan = plan_of(ops.CreateIndexOp("ux", "users", ["name"], unique=True))
        assert written(plan) == [
            (
                "contract",
                ['op.create_index_concurrently("ux", "users", ["name"], unique=True)'],
                ['op.drop_index_concurrently("ux", "users")'],
            )
        ]
        assert plan[0].requires == "users has no duplicates in the columns of ux."

    @pytest.mark.parametrize(
        ("columns", "phase"),
        [(["name"], Phase.MIGRATE), (["name", "id"], Phase.CONTRACT)],
    )
    def test_that_is_unique_and_new_to_the_old_release_need_not_wait(
        self, columns: list[str], phase: Phase
    ) -> None:
        snapshot = surroundings(new_columns=[(USERS, "name"), (ORDERS, "id")])
        (step,) = plan_of(ops.CreateIndexOp("ux", "users", columns, unique=True), snapshot)
        assert step.phase is phase

    def test_that_is_unique_over_an_expression_without_columns_waits(self) -> None:
        (step,) = plan_of(index(sa.text("lower(name)"), unique=True))
        assert step.phase is Phase.CONTRACT

    def test_on_a_new_table_goes_with_its_table(self) -> None:
        plan = plan_of(
            ops.CreateIndexOp("ux", "users", ["name"], unique=True),
            surroundings(table(ORDERS), new_tables=[USERS]),
        )
        assert written(plan) == [
            ("expand", ["op.create_index('ux', 'users', ['name'], unique=True)"], [])
        ]

    def test_of_a_partitioned_table_is_built_partition_by_partition(self) -> None:
        plan = plan_of(ops.CreateIndexOp("ix", "users", ["name"]), surroundings(table(kind="p")))
        assert written(plan) == [
            (
                "migrate",
                ['op.create_partitioned_index("ix", "users", ["name"])'],
                ['op.drop_partitioned_index("ix", "users")'],
            )
        ]

    def test_that_is_unique_without_the_partition_key_is_refused(self) -> None:
        info = table(kind="p", partition_key_columns=frozenset({"id"}))
        unique = ops.CreateIndexOp("ux", "users", ["name"], unique=True)
        with pytest.raises(CannotRewrite, match="lacks id, by which the table is partitioned"):
            plan_of(unique, surroundings(info))
        (step,) = plan_of(
            ops.CreateIndexOp("ux", "users", ["name", "id"], unique=True), surroundings(info)
        )
        assert step.phase is Phase.CONTRACT

    def test_on_a_table_that_is_not_there_is_refused(self) -> None:
        with pytest.raises(CannotRewrite, match="the database has no such table"):
            plan_of(ops.CreateIndexOp("ix", "lost", ["name"]))


class TestDropIndex:
    OWN = IndexInfo(
        "ix",
        "CREATE UNIQUE INDEX ix ON public.users USING btree (lower(name)) WHERE (id > 0)",
        columns=frozenset({"name", "id"}),
        is_unique=True,
    )

    def test_waits_and_comes_back_by_the_definition_in_the_catalog(self) -> None:
        plan = plan_of(ops.DropIndexOp("ix", "users"), surroundings(table(indexes=(self.OWN,))))
        assert written(plan) == [
            (
                "contract",
                ['op.drop_index_concurrently("ix", "users")'],
                [
                    'op.create_index_concurrently("ix", "users", unique=True, '
                    'definition="USING btree (lower(name)) WHERE (id > 0)")'
                ],
            )
        ]
        assert plan[0].touches == ("index ix",)

    def test_of_a_partitioned_table_goes_with_those_of_its_partitions(self) -> None:
        definition = "CREATE INDEX ix ON ONLY public.users USING btree (lower(name))"
        own = IndexInfo("ix", definition, columns=frozenset({"name"}))
        plan = plan_of(
            ops.DropIndexOp("ix", "users"), surroundings(table(kind="p", indexes=(own,)))
        )
        assert written(plan) == [
            (
                "contract",
                ['op.drop_partitioned_index("ix", "users")'],
                [
                    'op.create_partitioned_index("ix", "users", '
                    'definition="USING btree (lower(name))")'
                ],
            )
        ]
        assert plan[0].locks == {USERS}

    def test_that_rows_are_replicated_by_is_refused(self) -> None:
        own = IndexInfo("ix", self.OWN.definition, is_unique=True, is_replica_identity=True)
        with pytest.raises(CannotRewrite, match="replica identity"):
            plan_of(ops.DropIndexOp("ix", "users"), surroundings(table(indexes=(own,))))

    def test_of_a_column_that_goes_too_is_left_to_it(self) -> None:
        info = table(indexes=(self.OWN,))
        assert (
            plan_of(
                ops.DropIndexOp("ix", "users"),
                surroundings(info, dropped_columns=[(USERS, "name")]),
            )
            == ()
        )

    def test_of_a_table_that_goes_too_is_left_to_it(self) -> None:
        drop = ops.DropIndexOp("ix", "users", _reverse=ops.CreateIndexOp("ix", "users", ["name"]))
        (step,) = plan_of(drop, surroundings(dropped_tables=[USERS]))
        assert step.phase is Phase.EXPAND
        assert step.upgrade[1] is drop


class TestChangeIndex:
    OLD = IndexInfo("ix", "CREATE INDEX ix ON public.users USING btree (name)", frozenset({"name"}))

    def plans(self, *, unique: bool = False) -> list[Written]:
        drop = ops.DropIndexOp("ix", "users")
        create = ops.CreateIndexOp("ix", "users", ["name", "id"], unique=unique)
        (plan,) = plans_for([drop, create], surroundings(table(indexes=(self.OLD,))))
        return written(plan)

    def test_under_its_name_is_built_under_another_and_takes_it(self) -> None:
        assert self.plans() == [
            (
                "migrate",
                ['op.create_index_concurrently("alembic_safe_new_ix", "users", ["name", "id"])'],
                ['op.drop_index_concurrently("alembic_safe_new_ix", "users")'],
            ),
            (
                "contract",
                [
                    'op.drop_index_concurrently("ix", "users")',
                    'op.rename_index("alembic_safe_new_ix", "ix", table_name="users")',
                ],
                [
                    'op.rename_index("ix", "alembic_safe_new_ix", table_name="users")',
                    'op.create_index_concurrently("ix", "users", definition="USING btree (name)")',
                ],
            ),
        ]

    def test_that_becomes_unique_waits(self) -> None:
        assert [phase for phase, _, _ in self.plans(unique=True)] == ["contract", "contract"]

    def test_of_another_table_is_another_index(self) -> None:
        drop, create = ops.DropIndexOp("ix", "users"), ops.CreateIndexOp("ix", "orders", ["id"])
        plans = plans_for([drop, create], surroundings())
        assert [step.phase for plan in plans for step in plan] == [Phase.CONTRACT, Phase.MIGRATE]
