"""Recipes for constraints, without a server: foreign keys that go, unique constraints that come and
go. That they do what they say is in `test_constraint_sequences`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.operations import ops
from snapshot import ORDERS, USERS, Written, plan_of, sources, surroundings, table, written

from alembic_safe import filled_with
from alembic_safe.errors import CannotRewrite
from alembic_safe.phases import Phase
from alembic_safe.postgres.catalog import (
    ColumnInfo,
    ConstraintInfo,
    ForeignKeyInfo,
    IndexInfo,
    TableInfo,
)
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.rewrite.plan import arrange
from alembic_safe.rewrite.recipes import plans_for
from alembic_safe.rewrite.renames import RenameColumnOp

PUBLIC_USERS = QualifiedName("users", "public")


def foreign_key(
    definition: str = "FOREIGN KEY (user_id) REFERENCES users(id)", **facts: Any
) -> Any:
    """The foreign key `fk` of `orders`, as the database has it."""
    return ConstraintInfo(
        "fk",
        "f",
        definition,
        key_columns=("user_id",),
        referenced_table=PUBLIC_USERS,
        referenced_columns=("id",),
        **facts,
    )


def drop_of_key(**options: Any) -> ops.DropConstraintOp:
    """What autogenerate finds for `fk`."""
    reverse = ops.CreateForeignKeyOp("fk", "orders", "users", ["user_id"], ["id"], **options)
    return ops.DropConstraintOp("fk", "orders", "foreignkey", _reverse=reverse)


def orders(constraint: ConstraintInfo, **facts: Any) -> TableInfo:
    return table(ORDERS, constraints=(constraint,), **facts)


class TestDropForeignKey:
    def test_goes_at_once_and_comes_back_without_blocking(self) -> None:
        plan = plan_of(drop_of_key(), surroundings(orders(foreign_key())))
        assert written(plan) == [
            (
                "expand",
                ['op.drop_constraint_if_exists("fk", "orders")'],
                [
                    'op.create_foreign_key_not_valid("fk", "orders", "users", '
                    'local_cols=["user_id"], remote_cols=["id"])',
                    'op.validate_constraint("fk", "orders")',
                ],
            )
        ]
        assert plan[0].locks == {ORDERS, USERS}
        assert set(plan[0].touches) == {"constraint fk", "column orders.user_id"}

    def test_each_of_its_statements_commits_by_itself(self) -> None:
        plans = plans_for(
            [ops.AddColumnOp("orders", sa.Column("note", sa.Text)), drop_of_key()],
            surroundings(orders(foreign_key())),
        )
        alone, together = arrange(plans).history
        assert [step.says.split()[0] for step in alone.steps] == ["Drops"]
        assert (alone.transactional, together.transactional) == (False, True)

    @pytest.mark.parametrize(
        "options",
        [
            "MATCH FULL ON UPDATE CASCADE ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED",
            "ON DELETE SET NULL (user_id)",
            "NOT ENFORCED",
        ],
    )
    def test_comes_back_with_all_that_it_says(self, options: str) -> None:
        definition = f'FOREIGN KEY ("REFERENCES (a)") REFERENCES public."users)"(id) {options}'
        (step,) = plan_of(drop_of_key(), surroundings(orders(foreign_key(definition))))
        assert f'options="{options}"' in sources(step.downgrade)[0]

    def test_that_is_not_valid_comes_back_so(self) -> None:
        definition = "FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE NOT VALID"
        key = foreign_key(definition, is_validated=False)
        (step,) = plan_of(drop_of_key(), surroundings(orders(key)))
        (back,) = sources(step.downgrade)
        assert 'options="ON DELETE CASCADE"' in back

    def test_names_the_schema_where_the_models_do(self) -> None:
        (step,) = plan_of(
            drop_of_key(referent_schema="public"), surroundings(orders(foreign_key()))
        )
        assert 'referent_schema="public"' in sources(step.downgrade)[0]
        assert step.locks == {ORDERS, PUBLIC_USERS}

    @pytest.mark.parametrize("action", ["ON DELETE CASCADE", "ON UPDATE SET NULL"])
    def test_that_writes_rows_tells_that_nobody_may_rely_on_it(self, action: str) -> None:
        definition = f"FOREIGN KEY (user_id) REFERENCES users(id) {action}"
        (step,) = plan_of(drop_of_key(), surroundings(orders(foreign_key(definition))))
        assert step.requires == f"no release relies on what fk does: {definition}."

    def test_of_a_partitioned_table_is_refused_below_18(self) -> None:
        parts = orders(foreign_key(), kind="p")
        with pytest.raises(
            CannotRewrite, match=r"fk on orders: .* brought back NOT VALID\. Drop it in a revision"
        ):
            plan_of(drop_of_key(), surroundings(parts, version=17))
        assert plan_of(drop_of_key(), surroundings(parts, version=18))[0].phase is Phase.EXPAND

    def test_of_a_partition_goes_with_that_of_the_whole(self) -> None:
        part = QualifiedName("orders_1")
        drop = ops.DropConstraintOp("fk", "orders_1", "foreignkey")
        snapshot = surroundings(
            orders(foreign_key(), kind="p"),
            table(part, constraints=(foreign_key(inherited=True),)),
        )
        (plan,) = plans_for([drop, drop_of_key()], snapshot)
        assert sources(plan[0].upgrade) == ['op.drop_constraint_if_exists("fk", "orders")']

    def test_that_comes_from_a_parent_table_is_refused(self) -> None:
        with pytest.raises(CannotRewrite, match=r"fk of orders comes from .* Drop it there"):
            plan_of(drop_of_key(), surroundings(orders(foreign_key(inherited=True))))

    def test_with_a_period_is_refused(self) -> None:
        definition = "FOREIGN KEY (user_id, PERIOD at) REFERENCES users(id, PERIOD at)"
        with pytest.raises(CannotRewrite, match=r"PERIOD at.* revision written by hand"):
            plan_of(drop_of_key(), surroundings(orders(foreign_key(definition))))


class TestChangeForeignKey:
    """Autogenerate shows a key with other options as one that is dropped and one that is added."""

    def plans(self, old: str = "", name: str = "fk", **options: Any) -> list[Written]:
        create = ops.CreateForeignKeyOp(name, "orders", "users", ["user_id"], ["id"], **options)
        definition = f"FOREIGN KEY (user_id) REFERENCES users(id) {old}".strip()
        snapshot = surroundings(orders(foreign_key(definition)))
        (plan,) = plans_for([drop_of_key(), create], snapshot)
        return written(plan)

    def test_the_new_one_stands_before_the_old_one_goes(self) -> None:
        assert self.plans(ondelete="RESTRICT") == [
            (
                "migrate",
                [
                    'op.create_foreign_key_not_valid("alembic_safe_new_fk", "orders", "users", '
                    'local_cols=["user_id"], remote_cols=["id"], options="ON DELETE RESTRICT")',
                    'op.validate_constraint("alembic_safe_new_fk", "orders")',
                    'op.drop_constraint_if_exists("fk", "orders")',
                    'op.rename_constraint("alembic_safe_new_fk", "fk", table_name="orders")',
                ],
                [
                    'op.rename_constraint("fk", "alembic_safe_new_fk", table_name="orders")',
                    'op.create_foreign_key_not_valid("fk", "orders", "users", '
                    'local_cols=["user_id"], remote_cols=["id"])',
                    'op.validate_constraint("fk", "orders")',
                    'op.drop_constraint_if_exists("alembic_safe_new_fk", "orders")',
                ],
            )
        ]

    def test_with_another_name_needs_no_passing_one(self) -> None:
        ((_, up, down),) = self.plans(name="fk2", ondelete="CASCADE")
        assert [call.partition(",")[0] for call in (*up, *down)] == [
            'op.create_foreign_key_not_valid("fk2"',
            'op.validate_constraint("fk2"',
            'op.drop_constraint_if_exists("fk"',
            'op.create_foreign_key_not_valid("fk"',
            'op.validate_constraint("fk"',
            'op.drop_constraint_if_exists("fk2"',
        ]

    @pytest.mark.parametrize(
        ("old", "new", "phase"),
        [
            ("ON DELETE CASCADE", {}, "contract"),
            ("ON UPDATE SET NULL", {}, "contract"),
            ("DEFERRABLE INITIALLY DEFERRED", {}, "contract"),
            ("ON DELETE RESTRICT", {}, "migrate"),
            ("MATCH FULL", {}, "migrate"),
            ("", {"ondelete": "CASCADE"}, "contract"),
            ("ON DELETE RESTRICT", {"onupdate": "SET NULL"}, "contract"),
            ("", {"match": "FULL"}, "contract"),
            ("", {"deferrable": True, "initially": "DEFERRED"}, "migrate"),
        ],
    )
    def test_waits_where_the_old_release_may_notice_it(
        self, old: str, new: dict[str, Any], phase: str
    ) -> None:
        assert [step[0] for step in self.plans(old, **new)] == [phase]

    def test_that_was_not_enforced_waits_and_checks_the_rows(self) -> None:
        create = ops.CreateForeignKeyOp("fk", "orders", "users", ["user_id"], ["id"])
        old = foreign_key(
            "FOREIGN KEY (user_id) REFERENCES users(id) NOT ENFORCED", is_validated=False
        )
        (plan,) = plans_for([drop_of_key(), create], surroundings(orders(old)))
        ((phase, up, down),) = written(plan)
        assert phase == "contract"
        assert up[1] == 'op.validate_constraint("alembic_safe_new_fk", "orders")'
        assert 'options="NOT ENFORCED"' in down[1]
        assert "validate" not in down[2]

    def test_to_another_table_is_another_key(self) -> None:
        create = ops.CreateForeignKeyOp("fk", "orders", "people", ["user_id"], ["id"])
        plans = plans_for([drop_of_key(), create], surroundings(orders(foreign_key())))
        phases = [step.phase for plan in plans for step in plan]
        assert phases == [Phase.EXPAND, Phase.CONTRACT]

    @pytest.mark.parametrize(
        ("reflected", "wanted", "steps"),
        [
            (None, None, ["contract"]),
            (None, "public", ["contract"]),
            ("public", None, ["contract"]),
            ("archive", None, ["expand", "contract"]),
            (None, "archive", ["expand", "contract"]),
        ],
    )
    def test_to_a_table_of_that_name_in_another_schema_is_another_key(
        self, reflected: str | None, wanted: str | None, steps: list[str]
    ) -> None:
        create = ops.CreateForeignKeyOp(
            "fk", "orders", "users", ["user_id"], ["id"], ondelete="CASCADE", referent_schema=wanted
        )
        old = replace(foreign_key(), referenced_table=QualifiedName("users", reflected or "public"))
        drop = drop_of_key(referent_schema=reflected)
        plans = plans_for([drop, create], surroundings(orders(old)))
        assert [step.phase.value for plan in plans for step in plan] == steps

    def test_keeps_the_unique_constraint_that_it_relies_on(self) -> None:
        create = ops.CreateForeignKeyOp("fk", "orders", "users", ["user_id"], ["id"], ondelete="X")
        reference = ForeignKeyInfo(
            "fk", QualifiedName("orders", "public"), frozenset({"id"}), index="uq"
        )
        snapshot = surroundings(users(referenced_by=(reference,)), orders(foreign_key()))
        with pytest.raises(CannotRewrite, match="foreign key fk of"):
            plans_for([DROP_UNIQUE, drop_of_key(), create], snapshot)


def unique(**facts: Any) -> ConstraintInfo:
    """The constraint `uq` of `users`, as the database has it."""
    return ConstraintInfo("uq", "u", "UNIQUE (name)", key_columns=("name",), index="uq", **facts)


def own_index(tail: str = "", **facts: Any) -> IndexInfo:
    definition = f"CREATE UNIQUE INDEX uq ON public.users USING btree (name){tail}"
    return IndexInfo("uq", definition, is_unique=True, constraint="uq", **facts)


def users(
    constraint: ConstraintInfo | None = None, index: IndexInfo | None = None, **facts: Any
) -> TableInfo:
    return table(
        USERS, constraints=(constraint or unique(),), indexes=(index or own_index(),), **facts
    )


DROP_UNIQUE = ops.DropConstraintOp("uq", "users", "unique")


class TestDropUniqueConstraint:
    def test_goes_at_once_and_comes_back_by_an_index_built_beside_the_traffic(self) -> None:
        plan = plan_of(DROP_UNIQUE, surroundings(users()))
        assert written(plan) == [
            (
                "expand",
                ['op.drop_constraint_if_exists("uq", "users")'],
                [
                    'op.create_index_concurrently("uq", "users", unique=True, '
                    'definition="USING btree (name)")',
                    'op.add_unique_constraint_using_index("uq", "users", index_name="uq")',
                ],
            )
        ]
        assert plan[0].commits_alone
        assert plan[0].requires == "no release names uq or its columns in ON CONFLICT."

    def test_comes_back_with_all_that_it_says(self) -> None:
        index = own_index(
            " INCLUDE (id) NULLS NOT DISTINCT WITH (fillfactor='70')",
            tablespace="fast disk",
            statistics_targets=((1, 7),),
        )
        constraint = unique(deferrable=True, initially_deferred=True, comment="one each")
        (step,) = plan_of(DROP_UNIQUE, surroundings(users(constraint, index)))
        build, make, *details = sources(step.downgrade)
        assert (
            "USING btree (name) INCLUDE (id) NULLS NOT DISTINCT WITH (fillfactor='70')"
            ' TABLESPACE \\"fast disk\\"'
        ) in build
        assert 'options="DEFERRABLE INITIALLY DEFERRED"' in make
        assert ["SET STATISTICS 7" in details[0], "one each" in details[1]] == [True, True]

    REFERENCE = ForeignKeyInfo(
        "fk", QualifiedName("orders", "public"), frozenset({"name"}), index="uq"
    )

    @pytest.mark.parametrize(
        ("column", "definition", "phases"),
        [
            (ColumnInfo("name", "text"), "UNIQUE (name)", ["contract", "contract"]),
            (ColumnInfo("name", "text", default="''"), "UNIQUE (name)", ["expand", "contract"]),
            (
                ColumnInfo("name", "text"),
                "UNIQUE NULLS NOT DISTINCT (name)",
                ["expand", "contract"],
            ),
        ],
    )
    def test_goes_with_its_columns_where_the_new_release_leaves_them_null(
        self, column: ColumnInfo, definition: str, phases: list[str]
    ) -> None:
        constraint = replace(unique(), definition=definition)
        info = table(USERS, column, constraints=(constraint,), indexes=(own_index(),))
        plans = plans_for([ops.DropColumnOp("users", "name"), DROP_UNIQUE], surroundings(info))
        assert [step.phase.value for plan in plans for step in plan] == phases

    def test_that_a_foreign_key_relies_on_is_refused_by_its_name(self) -> None:
        info = users(referenced_by=(self.REFERENCE,))
        with pytest.raises(CannotRewrite, match=r"foreign key fk of public\.orders relies on it"):
            plan_of(DROP_UNIQUE, surroundings(info))

    def test_is_refused_for_a_unique_index_too(self) -> None:
        index = IndexInfo("uq", "CREATE UNIQUE INDEX uq ON users (name)", is_unique=True)
        info = table(USERS, indexes=(index,), referenced_by=(self.REFERENCE,))
        with pytest.raises(CannotRewrite, match=r"foreign key fk of public\.orders relies on it"):
            plan_of(ops.DropIndexOp("uq", "users"), surroundings(info))

    def test_goes_after_the_foreign_key_that_goes_with_it(self) -> None:
        snapshot = surroundings(users(referenced_by=(self.REFERENCE,)), orders(foreign_key()))
        plans = plans_for([DROP_UNIQUE, drop_of_key()], snapshot)
        (revision,) = arrange(plans).history
        assert sources(revision.upgrade) == [
            'op.drop_constraint_if_exists("fk", "orders")',
            'op.drop_constraint_if_exists("uq", "users")',
        ]
        way_back = [source.partition("(")[0] for source in sources(revision.downgrade)]
        assert way_back == [
            "op.create_index_concurrently",
            "op.add_unique_constraint_using_index",
            "op.create_foreign_key_not_valid",
            "op.validate_constraint",
        ]

    @pytest.mark.parametrize("gone", [ORDERS, QualifiedName("orders", "public")])
    def test_goes_where_the_table_of_the_foreign_key_goes_too(self, gone: QualifiedName) -> None:
        snapshot = surroundings(users(referenced_by=(self.REFERENCE,)), dropped_tables=[gone])
        assert plan_of(DROP_UNIQUE, snapshot)[0].phase is Phase.EXPAND

    def test_that_rows_are_replicated_by_is_refused(self) -> None:
        info = users(index=own_index(is_replica_identity=True))
        with pytest.raises(CannotRewrite, match="replica identity"):
            plan_of(DROP_UNIQUE, surroundings(info))

    def test_without_overlaps_is_refused(self) -> None:
        info = users(index=own_index(is_exclusion=True))
        with pytest.raises(CannotRewrite, match="no way back that does not block"):
            plan_of(DROP_UNIQUE, surroundings(info))

    def test_of_a_partitioned_table_is_refused(self) -> None:
        with pytest.raises(CannotRewrite, match="Constraint uq on users: the table is partitioned"):
            plan_of(DROP_UNIQUE, surroundings(users(kind="p")))


def add_unique(
    name: str | None = "uq", *columns: str, **options: Any
) -> ops.CreateUniqueConstraintOp:
    return ops.CreateUniqueConstraintOp(name, "users", list(columns or ("name",)), **options)


class TestChangeUniqueConstraint:
    """Autogenerate shows one with another name or other columns as one that is dropped and one
    that is added: the table must not be without in between."""

    def written(
        self,
        create: ops.CreateUniqueConstraintOp | ops.CreateIndexOp,
        constraint: ConstraintInfo | None = None,
    ) -> list[Written]:
        plans = plans_for([DROP_UNIQUE, create], surroundings(users(constraint)))
        return [step for plan in plans for step in written(plan)]

    def test_that_gets_another_name_is_renamed(self) -> None:
        assert self.written(add_unique("users_name_key")) == [
            (
                "contract",
                ['op.rename_constraint("uq", "users_name_key", table_name="users")'],
                ['op.rename_constraint("users_name_key", "uq", table_name="users")'],
            )
        ]

    def test_that_is_renamed_keeps_the_foreign_keys_that_rely_on_it(self) -> None:
        reference = ForeignKeyInfo(
            "fk", QualifiedName("orders", "public"), frozenset({"name"}), index="uq"
        )
        snapshot = surroundings(users(referenced_by=(reference,)))
        ((step,),) = plans_for([DROP_UNIQUE, add_unique("new")], snapshot)
        assert step.says == "Renames unique constraint uq of users to new."
        assert step.requires == "no release names uq in ON CONFLICT ON CONSTRAINT."

    def test_of_more_columns_takes_its_place_before_the_new_release_comes(self) -> None:
        assert self.written(add_unique("uq", "name", "id")) == [
            (
                "migrate",
                [
                    'op.create_index_concurrently("alembic_safe_new_uq", "users", '
                    '["name", "id"], unique=True)',
                    'op.add_unique_constraint_using_index("alembic_safe_new_uq", "users", '
                    'index_name="alembic_safe_new_uq")',
                    'op.drop_constraint_if_exists("uq", "users")',
                    'op.rename_constraint("alembic_safe_new_uq", "uq", table_name="users")',
                ],
                [
                    'op.rename_constraint("uq", "alembic_safe_new_uq", table_name="users")',
                    'op.create_index_concurrently("uq", "users", unique=True, '
                    'definition="USING btree (name)")',
                    'op.add_unique_constraint_using_index("uq", "users", index_name="uq")',
                    'op.drop_constraint_if_exists("alembic_safe_new_uq", "users")',
                ],
            )
        ]

    def test_of_fewer_columns_waits_and_the_old_one_stays_so_long(self) -> None:
        old = ConstraintInfo(
            "uq", "u", "UNIQUE (name, id)", frozenset({"name", "id"}), ("name", "id"), index="uq"
        )
        ((phase, up, _),) = self.written(add_unique("new"), old)
        assert phase == "contract"
        assert [call.partition(",")[0] for call in up] == [
            'op.create_index_concurrently("new"',
            'op.add_unique_constraint_using_index("new"',
            'op.drop_constraint_if_exists("uq"',
        ]

    def test_that_becomes_an_index_is_there_until_the_index_is(self) -> None:
        ((phase, up, down),) = self.written(ops.CreateIndexOp("uq", "users", ["name"], unique=True))
        assert phase == "migrate"
        assert [call.partition("(")[0] for call in up] == [
            "op.create_index_concurrently",
            "op.drop_constraint_if_exists",
            "op.rename_index",
        ]
        assert [call.partition("(")[0] for call in down] == [
            "op.rename_index",
            "op.create_index_concurrently",
            "op.add_unique_constraint_using_index",
            "op.drop_index_concurrently",
        ]

    @pytest.mark.parametrize(
        ("old", "options", "phase"),
        [
            ({}, {"postgresql_nulls_not_distinct": True}, "contract"),
            ({"deferrable": True}, {}, "contract"),
            ({}, {"deferrable": True}, "migrate"),
            ({"deferrable": True}, {"deferrable": True, "initially": "DEFERRED"}, "migrate"),
            ({}, {"postgresql_include": ["id"]}, "migrate"),
        ],
    )
    def test_waits_where_it_refuses_more_than_before(
        self, old: dict[str, Any], options: dict[str, Any], phase: str
    ) -> None:
        ((found, up, _),) = self.written(add_unique("new", **options), unique(**old))
        assert found == phase
        assert up[0].startswith("op.create_index_concurrently")

    @pytest.mark.parametrize(
        "create",
        [
            add_unique("uq", "id"),
            ops.CreateIndexOp("ix", "users", ["name"]),
            ops.CreateIndexOp("ix", "users", [sa.text("lower(name)")], unique=True),
            ops.CreateIndexOp(
                "ix", "users", ["name"], unique=True, postgresql_where=sa.text("id > 1")
            ),
        ],
    )
    def test_has_nothing_to_do_with_what_refuses_other_rows(
        self, create: ops.CreateUniqueConstraintOp | ops.CreateIndexOp
    ) -> None:
        drop, *_ = self.written(create)
        assert drop[:2] == ("expand", ['op.drop_constraint_if_exists("uq", "users")'])

    @pytest.mark.parametrize(
        "create",
        [
            add_unique("uq", "title", "id"),
            ops.CreateIndexOp("ix", "users", ["title"], unique=True),
        ],
    )
    def test_together_with_a_rename_of_its_column_is_refused(
        self, create: ops.MigrateOperation
    ) -> None:
        rename = RenameColumnOp(USERS, sa.Column("name", sa.Text), sa.Column("title", sa.Text))
        info = users(replace(unique(), columns=frozenset({"name"})))
        with pytest.raises(CannotRewrite, match="uq of users uses name, which is renamed, and ch"):
            plans_for([rename, DROP_UNIQUE, create], surroundings(info))

    def test_of_several_is_paired_with_its_like(self) -> None:
        wider, same = add_unique("wider", "name", "id"), add_unique("same")
        plans = plans_for([DROP_UNIQUE, wider, same], surroundings(users()))
        assert [step.phase.value for plan in plans for step in plan] == ["contract", "contract"]
        assert sources(plans[1][0].upgrade) == [
            'op.rename_constraint("uq", "same", table_name="users")'
        ]


class TestAddUniqueConstraint:
    def test_waits_because_the_old_release_may_write_duplicates(self) -> None:
        plan = plan_of(add_unique())
        assert written(plan) == [
            (
                "contract",
                [
                    'op.create_index_concurrently("uq", "users", ["name"], unique=True)',
                    'op.add_unique_constraint_using_index("uq", "users", index_name="uq")',
                ],
                ['op.drop_constraint_if_exists("uq", "users")'],
            )
        ]
        assert plan[0].requires == "users has no duplicates in the columns of uq."
        assert plan[0].touches == (
            "constraint uq",
            "index uq",
            "column users.name",
            "unique users(name)",
        )

    def test_under_a_name_that_the_server_would_cut_is_refused(self) -> None:
        with pytest.raises(CannotRewrite, match=r"n{64} is longer than the 63 bytes"):
            plan_of(add_unique("n" * 64))

    def test_of_columns_that_the_old_release_does_not_know_need_not_wait(self) -> None:
        new = [(USERS, "name")]
        assert plan_of(add_unique(), surroundings(new_columns=new))[0].phase is Phase.MIGRATE
        both = plan_of(add_unique("uq", "name", "id"), surroundings(new_columns=new))
        assert both[0].phase is Phase.CONTRACT

    @pytest.mark.parametrize(
        ("column", "phase"),
        [
            (sa.Column("code", sa.Text), "migrate"),
            (sa.Column("code", sa.Text, server_default="x"), "contract"),
            (sa.Column("code", sa.Text, nullable=False, default="x"), "contract"),
            (sa.Column("code", sa.Text, default="x"), "migrate"),
            (sa.Column("code", sa.Text, nullable=False, info=filled_with("id::text")), "migrate"),
        ],
    )
    def test_of_a_new_column_waits_where_the_server_fills_what_the_old_release_writes(
        self, column: sa.Column[Any], phase: str
    ) -> None:
        model = sa.Table("users", sa.MetaData(), column)
        snapshot = surroundings(new_columns=[(USERS, "code")], models=[model])
        index = ops.CreateIndexOp("ux", "users", ["code"], unique=True)
        found = [
            plan_of(each, snapshot)[0].phase.value for each in (add_unique("u", "code"), index)
        ]
        assert found == [phase, phase]

    @pytest.mark.parametrize(
        "create",
        [
            add_unique("u", "code", postgresql_nulls_not_distinct=True),
            ops.CreateIndexOp(
                "u", "users", ["code"], unique=True, postgresql_nulls_not_distinct=True
            ),
            ops.CreateIndexOp("u", "users", [sa.func.coalesce(sa.column("code"), "")], unique=True),
        ],
    )
    def test_of_a_new_column_waits_where_nulls_are_duplicates(
        self, create: ops.MigrateOperation
    ) -> None:
        (step,) = plan_of(create, surroundings(new_columns=[(USERS, "code")]))
        assert step.phase is Phase.CONTRACT

    def test_of_a_renamed_column_waits_because_the_trigger_writes_it(self) -> None:
        snapshot = surroundings(new_columns=[(USERS, "name")], renamed_columns=[(USERS, "name")])
        assert plan_of(add_unique(), snapshot)[0].phase is Phase.CONTRACT
        index = ops.CreateIndexOp("ux", "users", ["name"], unique=True)
        assert plan_of(index, snapshot)[0].phase is Phase.CONTRACT

    def test_keeps_what_the_models_say(self) -> None:
        model = sa.Table(
            "users",
            sa.MetaData(),
            sa.Column("id", sa.Integer),
            sa.Column("name", sa.Text),
            sa.UniqueConstraint(
                "name",
                name="uq",
                deferrable=True,
                initially="DEFERRED",
                postgresql_nulls_not_distinct=True,
            ),
        )
        (constraint,) = (c for c in model.constraints if isinstance(c, sa.UniqueConstraint))
        operation = ops.AddConstraintOp.from_constraint(constraint)
        (step,) = plan_of(operation)
        build, make = sources(step.upgrade)
        assert 'unique=True, definition="(name) NULLS NOT DISTINCT"' in build
        assert 'options="DEFERRABLE INITIALLY DEFERRED"' in make

    def test_without_a_name_gets_the_one_of_the_server(self) -> None:
        plan = plan_of(add_unique(None, "name", "id"))
        assert '"users_name_id_key"' in sources(plan[0].upgrade)[1]

    def test_of_a_partitioned_table_is_refused(self) -> None:
        with pytest.raises(CannotRewrite, match="Constraint uq on users: the table is partitioned"):
            plan_of(add_unique(), surroundings(table(kind="p")))


def test_a_foreign_key_of_a_renamed_column_waits_because_the_trigger_writes_it() -> None:
    new = [(ORDERS, "user_id")]
    key = ops.CreateForeignKeyOp("fk", "orders", "users", ["user_id"], ["id"])
    phases = [step.phase for step in plan_of(key, surroundings(new_columns=new))]
    assert phases == [Phase.EXPAND, Phase.MIGRATE]
    (step,) = plan_of(key, surroundings(new_columns=new, renamed_columns=new))
    assert step.phase is Phase.CONTRACT


class TestForeignKeyToWhatBecomesUnique:
    KEY = ops.CreateForeignKeyOp("fk", "orders", "users", ["user_name"], ["name"])

    @pytest.mark.parametrize(
        "unique_one", [add_unique(), ops.CreateIndexOp("ux", "users", ["name"], unique=True)]
    )
    def test_comes_after_it(self, unique_one: ops.MigrateOperation) -> None:
        snapshot = surroundings(new_columns=[(ORDERS, "user_name")])
        sequence = arrange(plans_for([self.KEY, unique_one], snapshot))
        first, second = sequence.contracts
        assert [step.table for step in (*first.steps, *second.steps)] == [USERS, ORDERS]
        assert set(first.touches) & second.follows == {"unique users(name)"}

    def test_has_nothing_to_do_with_another_one_to_the_same_columns(self) -> None:
        other = ops.CreateForeignKeyOp("fk2", "items", "users", ["user_name"], ["name"])
        items = table(QualifiedName("items"))
        sequence = arrange(plans_for([self.KEY, other], surroundings(items, table(ORDERS))))
        first, second = sequence.contracts
        assert first.follows & set(second.touches) == second.follows & set(first.touches) == set()

    @pytest.mark.parametrize(
        "options",
        [{"postgresql_where": sa.text("name <> ''")}, {"postgresql_ops": {"name": "text_pattern"}}],
    )
    def test_is_not_one_to_what_an_index_of_some_rows_makes_unique(
        self, options: dict[str, Any]
    ) -> None:
        snapshot = surroundings(new_columns=[(ORDERS, "user_name")])
        index = ops.CreateIndexOp("ux", "users", ["name"], unique=True, **options)
        plans = plans_for([self.KEY, index], snapshot)
        assert [step.phase.value for step in plans[1]] == ["expand", "migrate"]
