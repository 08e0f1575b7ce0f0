"""Recipes for foreign keys and tables, without a server; and what has no recipe."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from alembic.operations import MigrateOperation, ops
from snapshot import ORDERS, USERS, one_line, plan_of, sources, surroundings, table, written

from alembic_safe.errors import CannotRewrite
from alembic_safe.phases import Phase
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.rewrite.comments import CommentOp
from alembic_safe.rewrite.recipes import plans_for

MODEL = sa.Table(
    "users",
    sa.MetaData(),
    sa.Column("id", sa.Integer),
    sa.Column("name", sa.Text),
    sa.Column("age", sa.Integer),
)

NOT_EXAMINED = (
    "Not examined by alembic-safe: this may block queries, rewrite the table or break the release "
    "that is running."
)


TO_USERS = (
    'op.create_foreign_key_not_valid("fk", "orders", "users", local_cols=["user_id"], '
    'remote_cols=["id"])'
)


def key(
    local: list[str], referenced: str = "users", name: str | None = "fk", **options: Any
) -> ops.CreateForeignKeyOp:
    """A foreign key of `orders`."""
    remote = options.pop("remote", ["id"])
    return ops.CreateForeignKeyOp(name, "orders", referenced, local, remote, **options)


class TestAddForeignKey:
    def test_waits_because_the_old_release_may_violate_it(self) -> None:
        plan = plan_of(key(["user_id"]))
        assert written(plan) == [
            (
                "contract",
                [
                    TO_USERS,
                    'op.validate_constraint("fk", "orders")',
                ],
                ['op.drop_constraint_if_exists("fk", "orders")'],
            )
        ]
        assert {"constraint fk", "column orders.user_id"} <= set(plan[0].touches)
        assert plan[0].requires == "no release writes rows of orders that users has no row for."

    def test_needs_what_makes_unique_that_to_which_it_refers(self) -> None:
        (step,) = plan_of(key(["user_name"], remote=["name"]))
        assert step.needs == ("unique users(name)",)
        assert step.touches == ("constraint fk", "column orders.user_name")

    def test_of_a_new_column_need_not_wait(self) -> None:
        plan = plan_of(key(["user_id"]), surroundings(new_columns=[(ORDERS, "user_id")]))
        assert written(plan) == [
            (
                "expand",
                [TO_USERS],
                ['op.drop_constraint_if_exists("fk", "orders")'],
            ),
            ("migrate", ['op.validate_constraint("fk", "orders")'], []),
        ]
        assert plan[0].locks == {ORDERS, USERS}

    def test_of_a_new_column_to_a_new_table_locks_one_table(self) -> None:
        snapshot = surroundings(
            table(ORDERS), new_tables=[USERS], new_columns=[(ORDERS, "user_id")]
        )
        assert plan_of(key(["user_id"]), snapshot)[0].locks == {ORDERS}

    def test_of_an_old_and_a_new_column_waits(self) -> None:
        snapshot = surroundings(new_columns=[(ORDERS, "b")])
        (step,) = plan_of(key(["a", "b"], remote=["x", "y"]), snapshot)
        assert step.phase is Phase.CONTRACT

    def test_to_its_own_table_locks_one_table(self) -> None:
        snapshot = surroundings(new_columns=[(ORDERS, "parent_id")])
        plan = plan_of(key(["parent_id"], "orders"), snapshot)
        assert plan[0].locks == {ORDERS}
        assert sources(plan[0].upgrade) == [
            'op.create_foreign_key_not_valid("fk", "orders", "orders", local_cols=["parent_id"], '
            'remote_cols=["id"])'
        ]

    def test_keeps_its_options_and_schemas(self) -> None:
        operation = key(
            ["a", "b"],
            remote=["x", "y"],
            ondelete="SET NULL",
            onupdate="CASCADE",
            deferrable=True,
            initially="DEFERRED",
            match="FULL",
            source_schema="shop",
            referent_schema="people",
        )
        plan = plan_of(operation, surroundings(table(QualifiedName("orders", "shop"))))
        assert sources(plan[0].upgrade) == [
            'op.create_foreign_key_not_valid("fk", "orders", "users", local_cols=["a", "b"], '
            'remote_cols=["x", "y"], options="MATCH FULL ON DELETE SET NULL ON UPDATE CASCADE '
            'DEFERRABLE INITIALLY DEFERRED", source_schema="shop", referent_schema="people")',
            'op.validate_constraint("fk", "orders", schema="shop")',
        ]
        assert sources(plan[0].downgrade) == [
            'op.drop_constraint_if_exists("fk", "orders", schema="shop")'
        ]

    def test_without_a_name_gets_the_one_of_the_server(self) -> None:
        plan = plan_of(key(["a", "b"], name=None, remote=["x", "y"]))
        assert '"orders_a_b_fkey"' in sources(plan[0].upgrade)[0]

    def test_without_a_name_stays_within_63_bytes(self) -> None:
        plan = plan_of(key(["ä" * 30], name=None))
        (name, *_) = vars(plan[0].upgrade[0]).values()
        assert name.startswith("alembic_safe_fkey_orders_ä")
        assert len(name.encode()) <= 63

    def test_of_a_new_table_goes_with_its_table(self) -> None:
        plan = plan_of(key(["user_id"]), surroundings(table(USERS), new_tables=[ORDERS]))
        assert written(plan) == [
            ("expand", ["op.create_foreign_key('fk', 'orders', 'users', ['user_id'], ['id'])"], [])
        ]

    def test_of_a_partitioned_table_is_refused_below_18(self) -> None:
        parts = table(ORDERS, kind="p")
        with pytest.raises(CannotRewrite, match="Foreign key fk on orders: the table is partition"):
            plan_of(key(["user_id"]), surroundings(parts, version=17))
        assert plan_of(key(["user_id"]), surroundings(parts, version=18))[0].phase is Phase.CONTRACT


class TestCreateTable:
    def test_needs_no_recipe(self) -> None:
        create = ops.CreateTableOp("tags", [sa.Column("id", sa.Integer, primary_key=True)])
        (step,) = plan_of(create, surroundings(new_tables=[QualifiedName("tags")]))
        assert (step.phase, step.upgrade) == (Phase.EXPAND, (create,))
        assert [one_line(source) for source in sources(step.downgrade)] == ["op.drop_table('tags')"]
        assert step.locks == frozenset()

    def test_locks_what_its_foreign_keys_refer_to(self) -> None:
        tags = QualifiedName("tags", "shop")
        create = ops.CreateTableOp.from_table(
            sa.Table(
                "tags",
                sa.MetaData(),
                sa.Column("id", sa.Integer, primary_key=True),
                sa.Column("user_id", sa.ForeignKey("users.id")),
                sa.Column("order_id", sa.ForeignKey("shop.orders.id")),
                sa.Column("parent_id", sa.ForeignKey("shop.tags.id")),
                sa.Column("kind_id", sa.ForeignKey("shop.kinds.id")),
                schema="shop",
            )
        )
        snapshot = surroundings(new_tables=[tags, QualifiedName("kinds", "shop")])
        (step,) = plan_of(create, snapshot)
        assert step.locks == {USERS, QualifiedName("orders", "shop")}


class TestWithoutRecipe:
    @pytest.mark.parametrize(
        "operation",
        [
            ops.AlterColumnOp("users", "name", modify_type=sa.Integer(), existing_type=sa.Text()),
            ops.AlterColumnOp(
                "users", "name", modify_server_default="x", existing_server_default="y"
            ),
            ops.CreateTableCommentOp("users", "people"),
            ops.CreateCheckConstraintOp("ck", "users", sa.text("id > 0")),
        ],
    )
    def test_an_operation_passes_unchanged_under_a_comment(
        self, operation: MigrateOperation
    ) -> None:
        (step,) = plan_of(operation)
        assert step.phase is Phase.EXPAND
        assert step.locks == {USERS}
        comment, passed = step.upgrade
        assert passed is operation
        assert " ".join(sources([comment])[0].replace("#", "").split()) == NOT_EXAMINED
        back, reversed_operation = step.downgrade
        assert isinstance(back, CommentOp)
        assert type(reversed_operation) is type(operation.reverse())
        assert "not examined" in step.says

    def test_a_dropped_table_passes_with_its_way_back(self) -> None:
        drop = ops.DropTableOp.from_table(MODEL)
        (step,) = plan_of(drop, surroundings(dropped_tables=[USERS]))
        assert step.upgrade[1] is drop
        assert sources(step.downgrade)[1].startswith("op.create_table('users'")

    def test_an_operation_without_a_way_back_says_so(self) -> None:
        execute = ops.ExecuteSQLOp("UPDATE users SET name = ''")
        (step,) = plan_of(execute)
        assert step.upgrade[1] is execute
        assert ["way back" in source for source in sources(step.downgrade)] == [True]

    def test_on_a_new_table_there_is_nothing_to_examine(self) -> None:
        unique = ops.CreateUniqueConstraintOp("uq", "users", ["name"])
        (step,) = plan_of(unique, surroundings(new_tables=[USERS]))
        assert (step.upgrade, step.downgrade, step.says) == ((unique,), (), "")

    @pytest.mark.parametrize(
        ("operation", "touched"),
        [
            (
                ops.AlterColumnOp("users", "name", modify_type=sa.Integer()),
                {"column users.name"},
            ),
            (
                ops.DropConstraintOp(
                    "uq", "users", _reverse=ops.CreateUniqueConstraintOp("uq", "users", ["name"])
                ),
                {"constraint uq"},
            ),
        ],
    )
    def test_what_it_touches_is_known_to_the_gate(
        self, operation: MigrateOperation, touched: set[str]
    ) -> None:
        # Otherwise it would run before a contract revision on the same column.
        (step,) = plan_of(operation)
        assert touched <= set(step.touches)


def test_plans_keep_the_order_of_the_operations() -> None:
    create = ops.CreateTableOp("tags", [sa.Column("id", sa.Integer)])
    plans = plans_for(
        [ops.CreateIndexOp("a", "users", ["id"]), create, ops.CreateIndexOp("b", "users", ["id"])],
        surroundings(new_tables=[QualifiedName("tags")]),
    )
    assert [plan[0].says.split()[1] for plan in plans] == ["index", "table", "index"]
