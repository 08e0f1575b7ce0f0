"""What can hang on a column that is renamed: `users.full_name`, which becomes `display_name`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from alembic_safe import renamed_from

TABLES = """
CREATE TABLE people (name text PRIMARY KEY, age int, UNIQUE (name, age));
CREATE TABLE users (id int PRIMARY KEY, full_name {type}, age int);
INSERT INTO people SELECT 'name ' || i, i FROM generate_series(1, 50) AS i;
INSERT INTO users SELECT i, 'name ' || i, i FROM generate_series(1, 50) AS i;
"""


@dataclass(frozen=True)
class Case:
    """Something that hangs on `users.full_name`.

    Args:
        sql: what creates it.
        parts: what the new models have of it: constraints and indexes of the table.
        column: what the new models say about the column, beside its name.
        own: what the models rename or change beside the column, for the twin.
        server: the oldest PostgreSQL that has it.
        type: the column's type.
        hidden: names that `include_object` keeps from autogenerate.
        not_restored: what the way back leaves otherwise than it was.
    """

    sql: str = ""
    parts: tuple[Any, ...] = ()
    column: Mapping[str, Any] = field(default_factory=dict)
    own: str = ""
    server: int = 13
    type: str = "text"
    hidden: tuple[str, ...] = ()
    not_restored: str = ""

    def models(self) -> sa.MetaData:
        """The models after the rename."""
        metadata = sa.MetaData()
        sa.Table(
            "people",
            metadata,
            sa.Column("name", sa.Text, primary_key=True),
            sa.Column("age", sa.Integer),
            sa.UniqueConstraint("name", "age"),
        )
        kind, *constraints = self.column.get("args", (sa.Text,))
        keywords = {name: value for name, value in self.column.items() if name != "args"}
        sa.Table(
            "users",
            metadata,
            sa.Column("id", sa.Integer, primary_key=True),
            sa.Column("age", sa.Integer),
            sa.Column(
                "display_name", kind, *constraints, info=renamed_from("full_name"), **keywords
            ),
            *(part() if callable(part) else part._copy() for part in self.parts),
        )
        return metadata

    def is_visible(self, _object: object, name: str | None, *_more: object) -> bool:
        """`include_object`."""
        return name not in self.hidden


NEW: Any = sa.column("display_name")
AGE: Any = sa.column("age")


def index(name: str, *parts: Any, **options: Any) -> Any:
    """An index of the new models, made anew each time: it belongs to one table."""
    return lambda: sa.Index(name, *(parts or ("display_name",)), **options)


def unique(name: str | None, *columns: str, **options: Any) -> Any:
    return lambda: sa.UniqueConstraint(*(columns or ("display_name",)), name=name, **options)


def key(name: str | None, **options: Any) -> Any:
    return lambda: sa.ForeignKeyConstraint(["display_name"], ["people.name"], name, **options)


INDEXES = {
    "with the same name": Case("CREATE INDEX ix ON users (full_name)", (index("ix"),)),
    "with a new name": Case(
        "CREATE INDEX ix_full_name ON users (full_name)",
        (index("ix_display_name"),),
        own="ALTER INDEX ix_full_name RENAME TO ix_display_name",
    ),
    "unique": Case("CREATE UNIQUE INDEX ix ON users (full_name)", (index("ix", unique=True),)),
    "unique with a new name": Case(
        "CREATE UNIQUE INDEX ux ON users (full_name)",
        (index("ux_new", unique=True),),
        own="ALTER INDEX ux RENAME TO ux_new",
    ),
    "of an expression": Case(
        "CREATE INDEX ix ON users (lower(full_name))", (index("ix", sa.func.lower(NEW)),)
    ),
    "of an expression that the models do not know": Case(
        "CREATE INDEX ix ON users ((full_name || ' full_name'), age)", hidden=("ix",)
    ),
    "partial": Case(
        "CREATE INDEX ix ON users (full_name) WHERE age > 17",
        (index("ix", postgresql_where=AGE > 17),),
    ),
    "partial on the column": Case(
        "CREATE INDEX ix ON users (age) WHERE full_name <> 'full_name'", hidden=("ix",)
    ),
    "of several columns": Case(
        "CREATE INDEX ix ON users (age, full_name, id)", (index("ix", "age", "display_name", "id"),)
    ),
    "descending": Case(
        "CREATE INDEX ix ON users (full_name DESC NULLS LAST)",
        (index("ix", NEW.desc().nulls_last()),),
    ),
    "with an operator class": Case(
        "CREATE INDEX ix ON users (full_name text_pattern_ops)",
        (index("ix", postgresql_ops={"display_name": "text_pattern_ops"}),),
    ),
    "with another method, a collation and parameters": Case(
        'CREATE INDEX ix ON users USING btree (full_name COLLATE "C") WITH (fillfactor = 70)',
        hidden=("ix",),
    ),
    "including another column": Case(
        "CREATE INDEX ix ON users (full_name) INCLUDE (age)",
        (index("ix", postgresql_include=["age"]),),
    ),
    "including the column": Case(
        "CREATE INDEX ix ON users (age) INCLUDE (full_name)",
        (index("ix", "age", postgresql_include=["display_name"]),),
    ),
    "with nulls not distinct": Case(
        "CREATE UNIQUE INDEX ix ON users (full_name) NULLS NOT DISTINCT",
        (index("ix", unique=True, postgresql_nulls_not_distinct=True),),
        server=15,
    ),
    "that the models do not know": Case(
        "CREATE INDEX ix ON users (full_name); CREATE UNIQUE INDEX secret ON users (full_name, id)",
        (index("ix"),),
        hidden=("secret",),
    ),
    "that the models do not know beside a new one": Case(
        "CREATE INDEX secret ON users (full_name)",
        (index("ix_new"),),
        own="CREATE INDEX ix_new ON users (display_name)",
        hidden=("secret",),
    ),
    "that changes under its name": Case(
        "CREATE INDEX ix ON users (full_name)",
        (index("ix", "display_name", "age"), index("aa")),
        own="DROP INDEX ix; CREATE INDEX ix ON users (display_name, age);"
        " CREATE INDEX aa ON users (display_name)",
    ),
    "that takes the name of another": Case(
        "CREATE INDEX ix_a ON users (full_name); CREATE INDEX ix_c ON users (full_name, age)",
        (index("ix_a", "display_name", "age"), index("ix_b")),
        own="ALTER INDEX ix_a RENAME TO ix_b; ALTER INDEX ix_c RENAME TO ix_a",
    ),
    "that the models drop": Case("CREATE INDEX ix ON users (full_name)", (), own="DROP INDEX ix"),
    "with a comment and a statistics target": Case(
        "CREATE INDEX ix ON users (lower(full_name)); COMMENT ON INDEX ix IS 'it''s :fast, 100%';"
        " ALTER INDEX ix ALTER COLUMN 1 SET STATISTICS 77",
        hidden=("ix",),
    ),
}

CONSTRAINTS = {
    "unique": Case("ALTER TABLE users ADD CONSTRAINT uq UNIQUE (full_name)", (unique("uq"),)),
    "unique with a new name": Case(
        "ALTER TABLE users ADD CONSTRAINT uq UNIQUE (full_name)",
        (unique("uq_new"),),
        own="ALTER TABLE users RENAME CONSTRAINT uq TO uq_new",
    ),
    "unique without a name": Case(
        "ALTER TABLE users ADD UNIQUE (full_name)",
        (unique(None),),
        own="ALTER TABLE users RENAME CONSTRAINT users_full_name_key TO users_display_name_key",
    ),
    "unique and deferrable": Case(
        "ALTER TABLE users ADD CONSTRAINT uq UNIQUE (full_name) DEFERRABLE INITIALLY DEFERRED",
        (unique("uq", deferrable=True, initially="DEFERRED"),),
    ),
    "unique over several columns": Case(
        "ALTER TABLE users ADD CONSTRAINT uq UNIQUE (age, full_name) DEFERRABLE",
        (unique("uq", "age", "display_name", deferrable=True),),
    ),
    "unique with nulls not distinct": Case(
        "ALTER TABLE users ADD CONSTRAINT uq UNIQUE NULLS NOT DISTINCT (full_name)",
        (unique("uq", postgresql_nulls_not_distinct=True),),
        server=15,
    ),
    "unique with a comment": Case(
        "ALTER TABLE users ADD CONSTRAINT uq UNIQUE (full_name);"
        " COMMENT ON CONSTRAINT uq ON users IS 'one each'",
        (unique("uq"),),
    ),
    "unique that the models drop": Case(
        "ALTER TABLE users ADD CONSTRAINT uq UNIQUE (full_name)",
        own="ALTER TABLE users DROP CONSTRAINT uq",
    ),
    "check": Case("ALTER TABLE users ADD CONSTRAINT ck CHECK (length(full_name) > 2)"),
    "check over two columns": Case(
        "ALTER TABLE users ADD CONSTRAINT ck CHECK (full_name <> 'full_name' OR age > 1)"
    ),
    "check that is not valid": Case(
        "ALTER TABLE users ADD CONSTRAINT ck CHECK (length(full_name) > 2) NOT VALID"
    ),
    "check with a comment": Case(
        "ALTER TABLE users ADD CONSTRAINT ck CHECK (full_name <> '');"
        " COMMENT ON CONSTRAINT ck ON users IS 'say something'"
    ),
    "foreign key": Case(
        "ALTER TABLE users ADD CONSTRAINT fk FOREIGN KEY (full_name) REFERENCES people",
        (key("fk"),),
    ),
    "foreign key with a new name": Case(
        "ALTER TABLE users ADD CONSTRAINT fk FOREIGN KEY (full_name) REFERENCES people",
        (key("fk_new"),),
        own="ALTER TABLE users RENAME CONSTRAINT fk TO fk_new",
    ),
    "foreign key without a name": Case(
        "ALTER TABLE users ADD FOREIGN KEY (full_name) REFERENCES people",
        (key(None),),
        own="ALTER TABLE users RENAME CONSTRAINT users_full_name_fkey TO users_display_name_fkey",
    ),
    "foreign key with actions": Case(
        "ALTER TABLE users ADD CONSTRAINT fk FOREIGN KEY (full_name) REFERENCES people"
        " ON UPDATE CASCADE ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED",
        (
            key(
                "fk",
                onupdate="CASCADE",
                ondelete="SET NULL",
                deferrable=True,
                initially="DEFERRED",
            ),
        ),
    ),
    "foreign key that is not valid": Case(
        "ALTER TABLE users ADD CONSTRAINT fk FOREIGN KEY (full_name) REFERENCES people"
        " ON DELETE CASCADE NOT VALID",
        hidden=("fk",),
    ),
    "foreign key over two columns": Case(
        "ALTER TABLE users ADD CONSTRAINT fk FOREIGN KEY (full_name, age)"
        " REFERENCES people (name, age) MATCH FULL",
        hidden=("fk",),
    ),
    "foreign key that sets the column to NULL": Case(
        "ALTER TABLE users ADD CONSTRAINT fk FOREIGN KEY (full_name, age)"
        " REFERENCES people (name, age) ON DELETE SET NULL (full_name)",
        hidden=("fk",),
        server=15,
    ),
    "foreign key that the models drop": Case(
        "ALTER TABLE users ADD CONSTRAINT fk FOREIGN KEY (full_name) REFERENCES people",
        own="ALTER TABLE users DROP CONSTRAINT fk",
    ),
}

SET_NOT_NULL = "ALTER TABLE users ALTER full_name SET NOT NULL"
COLUMNS = {
    "nothing": Case(),
    "NOT NULL": Case(SET_NOT_NULL, column={"nullable": False}),
    "NOT NULL that the models drop": Case(
        SET_NOT_NULL,
        own="ALTER TABLE users ALTER display_name DROP NOT NULL",
        not_restored="ALTER TABLE users ALTER full_name DROP NOT NULL",
    ),
    "NOT NULL that the models add": Case(
        column={"nullable": False}, own="ALTER TABLE users ALTER display_name SET NOT NULL"
    ),
    "a default": Case(
        "ALTER TABLE users ALTER full_name SET DEFAULT 'no''name: 100%'",
        column={"server_default": "no'name: 100%"},
    ),
    "a default that the models do not know": Case(
        "ALTER TABLE users ALTER full_name SET DEFAULT upper('none')"
    ),
    "NOT NULL and a default": Case(
        f"{SET_NOT_NULL}; ALTER TABLE users ALTER full_name SET DEFAULT ''",
        column={"nullable": False, "server_default": ""},
    ),
    "a comment": Case(
        "COMMENT ON COLUMN users.full_name IS 'it''s :a \"name\"'",
        column={"comment": 'it\'s :a "name"'},
    ),
    "a comment that changes": Case(
        "COMMENT ON COLUMN users.full_name IS 'old'",
        column={"comment": "new"},
        own="COMMENT ON COLUMN users.display_name IS 'new'",
    ),
    "grants": Case(
        "GRANT SELECT, UPDATE (full_name) ON users TO PUBLIC;"
        " GRANT SELECT (full_name), INSERT (full_name) ON users TO pg_monitor WITH GRANT OPTION"
    ),
    "a statistics target": Case("ALTER TABLE users ALTER full_name SET STATISTICS 7"),
    "storage and options": Case(
        "ALTER TABLE users ALTER full_name SET STORAGE EXTERNAL;"
        " ALTER TABLE users ALTER full_name SET (n_distinct = -0.5)"
    ),
    "compression": Case("ALTER TABLE users ALTER full_name SET COMPRESSION pglz", server=14),
    "a length": Case(type="varchar(40)", column={"args": (sa.String(40),)}),
    "a collation": Case(type='text COLLATE "C"', column={"args": (sa.Text(collation="C"),)}),
    "a collation that the models do not know": Case(type='text COLLATE "C"'),
    "everything": Case(
        "CREATE INDEX ix ON users (full_name);"
        " CREATE UNIQUE INDEX ux ON users (lower(full_name), age) WHERE full_name <> '';"
        " ALTER TABLE users ADD CONSTRAINT uq UNIQUE (full_name);"
        " ALTER TABLE users ADD CONSTRAINT ck CHECK (full_name <> '' AND age > 0);"
        " ALTER TABLE users ADD CONSTRAINT fk FOREIGN KEY (full_name) REFERENCES people;"
        f" {SET_NOT_NULL}; ALTER TABLE users ALTER full_name SET DEFAULT 'name 1';"
        " GRANT SELECT (full_name) ON users TO PUBLIC",
        (index("ix"), unique("uq"), key("fk")),
        column={"nullable": False, "server_default": "name 1"},
        hidden=("ux",),
    ),
}

CASES = {
    f"{group} {name}": case
    for group, cases in {
        "index": INDEXES,
        "constraint": CONSTRAINTS,
        "column with": COLUMNS,
    }.items()
    for name, case in cases.items()
}
