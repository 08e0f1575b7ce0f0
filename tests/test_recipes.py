"""Recipes for indexes, foreign keys and tables, without a server; and what has no recipe."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from alembic.operations import MigrateOperation, ops
from snapshot import ORDERS, USERS, one_line, sources, surroundings, table, written
from sqlalchemy.dialects import postgresql

from alembic_safe.errors import CannotRewrite
from alembic_safe.phases import Phase
from alembic_safe.postgres.catalog import IndexInfo
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.rewrite.comments import CommentOp
from alembic_safe.rewrite.plan import Step
from alembic_safe.rewrite.recipes import Surroundings, plans_for

MODEL = sa.Table(
    "users",
    sa.MetaData(),
    sa.Column("id", sa.Integer),
    sa.Column("name", sa.Text),
    sa.Column("age", sa.Integer),
    sa.Column("tags", postgresql.ARRAY(sa.Text)),
)

NOT_EXAMINED = (
    "Not examined by alembic-safe: this may block queries, rewrite the table or break the release "
    "that is running."
)


def plan_of(operation: MigrateOperation, snapshot: Surroundings | None = None) -> tuple[Step, ...]:
    """The plan of a diff of one operation."""
    (plan,) = plans_for([operation], snapshot or surroundings())
    return plan


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

    def test_of_a_partitioned_table_is_refused(self) -> None:
        with pytest.raises(CannotRewrite, match="index ix on users: the table is partitioned"):
            plan_of(ops.CreateIndexOp("ix", "users", ["name"]), surroundings(table(kind="p")))

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

    def test_of_a_partitioned_table_is_refused(self) -> None:
        with pytest.raises(CannotRewrite, match="partitioned"):
            plan_of(ops.DropIndexOp("ix", "users"), surroundings(table(kind="p")))

    def test_that_rows_are_replicated_by_is_refused(self) -> None:
        own = IndexInfo("ix", self.OWN.definition, is_unique=True, is_replica_identity=True)
        with pytest.raises(CannotRewrite, match="replica identity"):
            plan_of(ops.DropIndexOp("ix", "users"), surroundings(table(indexes=(own,))))

    def test_of_a_table_that_goes_too_is_left_to_it(self) -> None:
        drop = ops.DropIndexOp("ix", "users", _reverse=ops.CreateIndexOp("ix", "users", ["name"]))
        (step,) = plan_of(drop, surroundings(dropped_tables=[USERS]))
        assert step.phase is Phase.EXPAND
        assert step.upgrade[1] is drop


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

    def test_touches_what_it_refers_to(self) -> None:
        # A contract revision may be what makes the referenced column unique.
        (step,) = plan_of(key(["user_name"], remote=["name"]))
        assert "column users.name" in step.touches

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
            ops.CreateUniqueConstraintOp("uq", "users", ["name"]),
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
            (ops.CreateUniqueConstraintOp("uq", "users", ["name"]), {"constraint uq"}),
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
