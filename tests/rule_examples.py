"""For each rule what it reports and what to write instead: the documentation shows the same."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

from alembic_safe.phases import Phase
from alembic_safe.postgres.effects import World, begin, effects_of
from alembic_safe.rules.finding import Surroundings
from alembic_safe.rules.judge import Judge, Judgement

SHOP = """
CREATE TABLE users (
    id bigint PRIMARY KEY, email text NOT NULL, name text);
CREATE TABLE orders (
    id bigint PRIMARY KEY, user_id bigint, note text, status varchar(20), code text NOT NULL,
    quantity int NOT NULL DEFAULT 1, total numeric(10, 2), placed timestamptz);
CREATE INDEX ix_orders_placed ON orders (placed);
"""
"""What there is before each example."""

ROWS = """
INSERT INTO users SELECT i, 'user' || i || '@example.org' FROM generate_series(1, 20) AS i;
INSERT INTO orders (id, user_id, note, code, total, placed)
    SELECT i, i % 20 + 1, 'note ' || i, 'code' || i, i, '2026-01-01'
    FROM generate_series(1, 50) AS i;
"""

MEASUREMENTS = """
CREATE TABLE measurements (day date NOT NULL, value int) PARTITION BY RANGE (day);
CREATE TABLE measurements_2025 PARTITION OF measurements
    FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
"""


@dataclass(frozen=True)
class Example:
    """What a rule reports.

    Args:
        bad: statements that it reports.
        good: what to do instead, where SQL can show it.
        before: what there is beside the shop.
        version: of the server.
        in_transaction: whether `bad` stands in the transaction of a revision.
        good_in_transaction: the same for `good`.
        phase: of the revision.
        good_phase: of the revision in which `good` stands.
        has_runner: whether `alembic_safe.run_migrations` runs it.
        also: codes of other rules that report other things of the same statements.
    """

    bad: str
    good: str = ""
    before: str = ""
    version: int = 18
    in_transaction: bool = True
    good_in_transaction: bool = False
    phase: Phase | None = None
    good_phase: Phase | None = None
    has_runner: bool = True
    also: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.bad.partition("\n")[0]


def judged(
    sql: str,
    *,
    before: str = SHOP,
    version: int = 18,
    in_transaction: bool = True,
    phase: Phase | None = None,
    has_runner: bool = True,
    is_upgrade: bool = True,
    is_known: bool = True,
) -> list[Judgement]:
    """Return what is said of the statements of one revision.

    Args:
        sql: the statements.
        before: those of all revisions before.
        version: of the server.
        in_transaction: whether the revision is one transaction.
        phase: of the revision.
        has_runner: whether our runner runs it.
        is_upgrade: whether it is the way forward.
        is_known: whether `before` is all there is; without, nothing is known of the database.
    """
    world = World(version=version, complete=is_known)
    if is_known:
        strange = [e for e in effects_of(before, world) if e.unknown or e.errors]
        assert not strange, [(e.sql, e.unknown, e.errors) for e in strange]
    world.settle()
    if in_transaction:
        begin(world)
    judge = Judge(Surroundings(world, phase, is_upgrade, has_runner))
    return [*judge.text(sql), *judge.end_revision()]


def judged_example(example: Example) -> list[Judgement]:
    """Return what is said of the bad statements of an example."""
    return judged(
        example.bad,
        before=SHOP + example.before,
        version=example.version,
        in_transaction=example.in_transaction,
        phase=example.phase,
        has_runner=example.has_runner,
    )


def judged_instead(example: Example) -> list[Judgement]:
    """Return what is said of the good statements of an example."""
    return judged(
        example.good,
        before=SHOP + example.before,
        version=example.version,
        in_transaction=example.good_in_transaction,
        phase=example.good_phase,
        has_runner=example.has_runner,
    )


def codes(judgements: Iterable[Judgement]) -> list[str]:
    """Return the codes of all findings."""
    return [finding.code for finding in chain.from_iterable(j.findings for j in judgements)]


EXAMPLES: dict[str, tuple[Example, ...]] = {
    "not-understood": (
        Example("DO $$ BEGIN EXECUTE 'ALTER TABLE ' || (SELECT 'orders') || ' ADD c int'; END $$"),
    ),
    "concurrently-in-transaction": (
        Example(
            "CREATE INDEX CONCURRENTLY ix_orders_note ON orders (note)",
            "CREATE INDEX CONCURRENTLY ix_orders_note ON orders (note)",
        ),
        Example("DROP INDEX CONCURRENTLY ix_orders_placed"),
        Example("VACUUM orders"),
    ),
    "enum-value-too-early": (
        Example(
            "ALTER TYPE mood ADD VALUE 'glad';\nUPDATE users SET mood = 'glad' WHERE id = 1",
            "ALTER TYPE mood ADD VALUE 'glad'",
            before="CREATE TYPE mood AS ENUM ('sad'); ALTER TABLE users ADD mood mood;",
        ),
    ),
    "certain-error": (
        Example("ALTER TABLE orders ADD COLUMN note text"),
        Example(
            "CREATE INDEX CONCURRENTLY ON measurements (value)",
            before=MEASUREMENTS,
            in_transaction=False,
        ),
    ),
    "possible-error": (Example("DO $$ BEGIN IF now() > '2030-01-01' THEN COMMIT; END IF; END $$"),),
    "transaction-in-text": (
        Example(
            "ALTER TABLE orders ADD COLUMN weight int;\nCOMMIT;\nCREATE INDEX CONCURRENTLY"
            " ix_orders_note ON orders (note)",
            "ALTER TABLE orders ADD COLUMN weight int",
            good_in_transaction=True,
        ),
    ),
    "backfill-beside-ddl": (
        Example(
            "ALTER TABLE orders ADD COLUMN weight int;\nUPDATE orders SET weight = 0",
            "ALTER TABLE orders ADD COLUMN weight int",
            good_in_transaction=True,
        ),
    ),
    "unbatched-update": (
        Example(
            "UPDATE orders SET status = 'open'",
            '-- op.backfill("orders", {"status": "\'open\'"}, where="status IS NULL"), or in'
            " SQL, again and again:\n"
            "UPDATE orders SET status = 'open' WHERE ctid = ANY (ARRAY(\n"
            "    SELECT ctid FROM orders WHERE status IS NULL LIMIT 10000))",
        ),
        Example("UPDATE orders SET status = 'open', note = NULL WHERE status IS NULL"),
        Example(
            "DELETE FROM orders WHERE placed < '2020-01-01'", "DELETE FROM orders WHERE id = 5"
        ),
        Example("UPDATE orders SET note = upper(note)", "UPDATE orders SET note = '' WHERE id = 5"),
    ),
    "index-not-concurrent": (
        Example(
            "CREATE INDEX ix_orders_note ON orders (note)",
            "CREATE INDEX CONCURRENTLY ix_orders_note ON orders (note)",
        ),
        Example(
            'CREATE INDEX "Ix ""1""" ON orders USING gist (lower(note) gist_ops DESC)'.replace(
                " USING gist (lower(note) gist_ops DESC)",
                " (lower(note) text_pattern_ops DESC NULLS LAST, placed) INCLUDE (total)"
                " WITH (fillfactor = 70) WHERE status = 'it''s %s :x'",
            ),
        ),
        Example("CREATE INDEX ON orders (note)"),
        Example("CREATE UNIQUE INDEX uq_orders_code ON orders (code)", also=("tightened-table",)),
        Example(
            'CREATE INDEX ix ON "S ""1""".t (a, "B c")',
            before='CREATE SCHEMA "S ""1"""; CREATE TABLE "S ""1""".t (a int, "B c" text);',
        ),
        Example(
            "CREATE INDEX ix_measurements_value ON measurements (value DESC) WHERE (value > 0)",
            before=MEASUREMENTS
            + 'CREATE TABLE "measurements ""rest""" PARTITION OF measurements DEFAULT PARTITION BY'
            ' LIST (value); CREATE TABLE other PARTITION OF "measurements ""rest""" DEFAULT;',
        ),
    ),
    "set-not-null-scan": (
        Example(
            "ALTER TABLE orders ALTER COLUMN note SET NOT NULL",
            "ALTER TABLE orders ADD CONSTRAINT orders_note_not_null NOT NULL note NOT VALID;\n"
            "ALTER TABLE orders VALIDATE CONSTRAINT orders_note_not_null",
            good_phase=Phase.CONTRACT,
            also=("tightened-column",),
        ),
        Example(
            'ALTER TABLE "S".t ALTER COLUMN "B "" c" SET NOT NULL',
            before='CREATE SCHEMA "S"; CREATE TABLE "S".t (a int, "B "" c" text);',
            version=16,
            also=("tightened-column",),
        ),
    ),
    "add-constraint-validated": (
        Example(
            "ALTER TABLE orders ADD CONSTRAINT ck_total CHECK (total >= 0)",
            "ALTER TABLE orders ADD CONSTRAINT ck_total CHECK (total >= 0) NOT VALID;\n"
            "ALTER TABLE orders VALIDATE CONSTRAINT ck_total",
            good_phase=Phase.CONTRACT,
            also=("tightened-table",),
        ),
        Example(
            "ALTER TABLE orders ADD CONSTRAINT fk_user FOREIGN KEY (user_id) REFERENCES users"
            " (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED;\n"
            "CREATE INDEX CONCURRENTLY ix_orders_user_id ON orders (user_id)".partition(";")[0],
            before="CREATE INDEX ix_orders_user_id ON orders (user_id);",
            also=("tightened-table",),
        ),
        Example(
            "ALTER TABLE orders ADD FOREIGN KEY (user_id) REFERENCES users ON UPDATE SET NULL",
            before="CREATE INDEX ix_orders_user_id ON orders (user_id);",
            also=("tightened-table",),
        ),
        Example("ALTER TABLE orders ADD CHECK (note <> '%s :x')", also=("tightened-table",)),
        Example("ALTER TABLE orders ADD COLUMN weight int DEFAULT 1 CHECK (weight > 0)"),
        Example("ALTER TABLE orders ADD CONSTRAINT nn NOT NULL note", also=("tightened-column",)),
    ),
    "constraint-builds-index": (
        Example(
            "ALTER TABLE orders ADD CONSTRAINT uq_code UNIQUE (code)",
            "CREATE UNIQUE INDEX CONCURRENTLY uq_code ON orders (code);\n"
            "ALTER TABLE orders ADD CONSTRAINT uq_code UNIQUE USING INDEX uq_code",
            good_phase=Phase.CONTRACT,
            also=("tightened-table",),
        ),
        Example(
            "ALTER TABLE orders ADD CONSTRAINT uq_code UNIQUE NULLS NOT DISTINCT (code, note)"
            " INCLUDE (total) WITH (fillfactor = 80) DEFERRABLE INITIALLY DEFERRED",
            also=("tightened-table",),
        ),
        Example("ALTER TABLE orders ADD UNIQUE (code, id)", also=("tightened-table",)),
        Example(
            "ALTER TABLE log ADD CONSTRAINT log_pk PRIMARY KEY (id, at)",
            before="CREATE TABLE log (id bigint, at timestamptz NOT NULL, line text);",
            also=("tightened-table",),
        ),
        Example(
            "ALTER TABLE log ADD PRIMARY KEY (id)",
            before="CREATE TABLE log (id bigint, at timestamptz NOT NULL, line text);",
            version=16,
            also=("tightened-table",),
        ),
    ),
    "primary-key-scan": (
        Example(
            "ALTER TABLE log ADD CONSTRAINT log_pk PRIMARY KEY USING INDEX log_pk",
            before="CREATE TABLE log (id bigint); CREATE UNIQUE INDEX log_pk ON log (id);",
            also=("tightened-table",),
        ),
    ),
    "exclusion-constraint": (
        Example(
            "ALTER TABLE orders ADD CONSTRAINT no_two EXCLUDE (code WITH =)",
            also=("tightened-table",),
        ),
    ),
    "table-rewrite": (
        Example(
            "ALTER TABLE orders ADD COLUMN token uuid DEFAULT gen_random_uuid()",
            "ALTER TABLE orders ADD COLUMN token uuid;\n"
            "ALTER TABLE orders ALTER COLUMN token SET DEFAULT gen_random_uuid()",
            good_in_transaction=True,
        ),
        Example(
            'ALTER TABLE orders ADD COLUMN "T o" varchar(40) COLLATE "C" NOT NULL'
            " DEFAULT md5(random()::text)"
        ),
        Example(
            "ALTER TABLE orders ADD COLUMN number bigserial", version=16, also=("serial-column",)
        ),
        Example("ALTER TABLE orders ADD COLUMN number bigint GENERATED ALWAYS AS IDENTITY"),
        Example("ALTER TABLE orders ADD COLUMN two int GENERATED ALWAYS AS (quantity * 2) STORED"),
        Example("ALTER TABLE orders SET UNLOGGED", also=("set-unlogged",)),
    ),
    "column-type-change": (
        Example("ALTER TABLE orders ALTER COLUMN quantity TYPE bigint"),
        Example(
            "ALTER TABLE orders ALTER COLUMN placed TYPE timestamptz(3)", also=("retype-column",)
        ),
    ),
    "attach-partition-scan": (
        Example(
            "ALTER TABLE measurements ATTACH PARTITION next FOR VALUES FROM ('2026-01-01') TO"
            " ('2027-01-01')",
            before=MEASUREMENTS + "CREATE TABLE next (day date NOT NULL, value int);",
        ),
    ),
    "partition-created-in-place": (
        Example(
            "CREATE TABLE measurements_2026 PARTITION OF measurements\n"
            "    FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')",
            "CREATE TABLE measurements_2026 (LIKE measurements INCLUDING ALL);\n"
            "ALTER TABLE measurements ATTACH PARTITION measurements_2026\n"
            "    FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')",
            before=MEASUREMENTS,
            good_in_transaction=True,
        ),
    ),
    "reindex-not-concurrent": (
        Example(
            "REINDEX INDEX ix_orders_placed",
            "REINDEX INDEX CONCURRENTLY ix_orders_placed",
        ),
        Example("REINDEX TABLE orders"),
    ),
    "vacuum-full": (
        Example("VACUUM FULL orders", "VACUUM orders", in_transaction=False),
        Example("CLUSTER orders USING orders_pkey", in_transaction=False),
    ),
    "refresh-not-concurrent": (
        Example(
            "REFRESH MATERIALIZED VIEW spending",
            "REFRESH MATERIALIZED VIEW CONCURRENTLY spending",
            before="CREATE MATERIALIZED VIEW spending AS SELECT user_id, sum(total) AS spent"
            " FROM orders GROUP BY user_id; CREATE UNIQUE INDEX ON spending (user_id);",
        ),
    ),
    "domain-constraint": (
        Example(
            "ALTER DOMAIN weight ADD CONSTRAINT positive CHECK (VALUE > 0)",
            "ALTER DOMAIN weight ADD CONSTRAINT positive CHECK (VALUE > 0) NOT VALID",
            before="CREATE DOMAIN weight AS int; ALTER TABLE orders ADD weight weight;",
            good_in_transaction=True,
            good_phase=Phase.CONTRACT,
            also=("tightened-table",),
        ),
    ),
    "work-while-locked": (
        Example(
            "ALTER TABLE orders ADD CONSTRAINT ck_total CHECK (total >= 0) NOT VALID;\n"
            "ALTER TABLE orders VALIDATE CONSTRAINT ck_total",
            "ALTER TABLE orders ADD CONSTRAINT ck_total CHECK (total >= 0) NOT VALID;\n"
            "-- in a transaction of its own:\n"
            "ALTER TABLE orders VALIDATE CONSTRAINT ck_total",
            phase=Phase.CONTRACT,
            good_phase=Phase.CONTRACT,
        ),
    ),
    "drop-index-not-concurrent": (
        Example(
            "DROP INDEX ix_orders_placed",
            "DROP INDEX CONCURRENTLY ix_orders_placed",
        ),
        Example(
            'DROP INDEX IF EXISTS ix_orders_placed, "S".ix',
            before='CREATE SCHEMA "S"; CREATE TABLE "S".t (a int); CREATE INDEX ix ON "S".t (a);',
        ),
    ),
    "detach-not-concurrent": (
        Example(
            "ALTER TABLE measurements DETACH PARTITION measurements_2025",
            "ALTER TABLE measurements DETACH PARTITION measurements_2025 CONCURRENTLY",
            before=MEASUREMENTS,
        ),
    ),
    "several-tables-locked": (
        Example(
            "ALTER TABLE orders ADD COLUMN weight int;\nALTER TABLE users ADD COLUMN phone text",
            "ALTER TABLE orders ADD COLUMN weight int",
            good_in_transaction=True,
        ),
    ),
    "lock-table": (
        Example("LOCK TABLE orders"),
        Example(
            "LOCK TABLE users, orders",
            "LOCK TABLE users, orders IN SHARE ROW EXCLUSIVE MODE",
            good_in_transaction=True,
        ),
    ),
    "lock-timeout-missing": (
        Example(
            "ALTER TABLE orders ADD COLUMN weight int",
            "SET lock_timeout = '1s';\nALTER TABLE orders ADD COLUMN weight int",
            has_runner=False,
            good_in_transaction=True,
        ),
    ),
    "rename-column": (Example("ALTER TABLE orders RENAME COLUMN note TO remark"),),
    "rename-table": (
        Example(
            "ALTER TABLE orders RENAME TO purchases",
            "ALTER TABLE orders RENAME TO purchases;\n"
            "CREATE VIEW orders AS SELECT * FROM purchases",
            good_in_transaction=True,
        ),
        Example("ALTER TABLE orders RENAME TO purchases", in_transaction=False),
    ),
    "rename-object": (
        Example(
            "ALTER TYPE mood RENAME VALUE 'sad' TO 'unhappy'",
            before="CREATE TYPE mood AS ENUM ('sad');",
        ),
        Example("ALTER TYPE mood RENAME TO temper", before="CREATE TYPE mood AS ENUM ('sad');"),
        Example("ALTER SEQUENCE numbers RENAME TO ids", before="CREATE SEQUENCE numbers;"),
    ),
    "drop-object": (
        Example(
            "DROP VIEW open_orders", before="CREATE VIEW open_orders AS SELECT id FROM orders;"
        ),
        Example("DROP TYPE mood", before="CREATE TYPE mood AS ENUM ('sad');"),
        Example("DROP SEQUENCE numbers", before="CREATE SEQUENCE numbers;"),
    ),
    "drop-unique": (
        Example(
            "ALTER TABLE users DROP CONSTRAINT uq_email",
            before="ALTER TABLE users ADD CONSTRAINT uq_email UNIQUE (email);",
        ),
    ),
    "retype-column": (
        Example(
            "ALTER TABLE orders ALTER COLUMN note TYPE int USING length(note)",
            "ALTER TABLE orders ALTER COLUMN status TYPE varchar(50)",
            good_in_transaction=True,
            also=("column-type-change",),
        ),
        Example(
            "ALTER TABLE orders ALTER COLUMN status TYPE varchar(10)", also=("column-type-change",)
        ),
    ),
    "required-column": (
        Example(
            "ALTER TABLE orders ADD COLUMN weight int NOT NULL",
            "ALTER TABLE orders ADD COLUMN weight int NOT NULL DEFAULT 0",
            good_in_transaction=True,
        ),
    ),
    "drop-default": (Example("ALTER TABLE orders ALTER COLUMN quantity DROP DEFAULT"),),
    "tightened-column": (
        Example("ALTER TABLE orders ADD CONSTRAINT has_note NOT NULL note NOT VALID"),
    ),
    "tightened-table": (
        Example("ALTER TABLE orders ADD CONSTRAINT ck_total CHECK (total >= 0) NOT VALID"),
        Example(
            "CREATE UNIQUE INDEX CONCURRENTLY uq_orders_code ON orders (code)", in_transaction=False
        ),
        Example(
            "ALTER TABLE orders ADD FOREIGN KEY (user_id) REFERENCES users NOT VALID",
            before="CREATE INDEX ix_orders_user_id ON orders (user_id);",
        ),
    ),
    "hidden-object": (
        Example("ALTER TABLE orders SET SCHEMA archive", before="CREATE SCHEMA archive;"),
        Example("REVOKE INSERT ON orders FROM PUBLIC"),
    ),
    "row-security": (Example("ALTER TABLE orders ENABLE ROW LEVEL SECURITY"),),
    "drop-column": (Example("ALTER TABLE orders DROP COLUMN note"),),
    "drop-table": (Example("DROP TABLE orders"),),
    "drop-schema": (
        Example("DROP SCHEMA archive CASCADE", before="CREATE SCHEMA archive;"),
        Example("DROP DATABASE shop", in_transaction=False),
    ),
    "drop-cascade": (
        Example(
            "DROP TABLE users CASCADE",
            before="CREATE VIEW people AS SELECT id FROM users;",
            also=("drop-table",),
        ),
    ),
    "truncate": (
        Example("TRUNCATE orders", "DELETE FROM orders WHERE id = 5", good_in_transaction=True),
    ),
    "delete-all-rows": (
        Example("DELETE FROM orders", "DELETE FROM orders WHERE id = 5", good_in_transaction=True),
    ),
    "set-unlogged": (Example("ALTER TABLE orders SET UNLOGGED", also=("table-rewrite",)),),
    "foreign-key-without-index": (
        Example(
            "CREATE TABLE parcels (id bigint PRIMARY KEY, order_id bigint REFERENCES orders)",
            "CREATE TABLE parcels (id bigint PRIMARY KEY, order_id bigint REFERENCES orders);\n"
            "CREATE INDEX ON parcels (order_id)",
            good_in_transaction=True,
        ),
        Example(
            "ALTER TABLE orders ADD FOREIGN KEY (user_id) REFERENCES users NOT VALID",
            also=("tightened-table",),
        ),
    ),
    "foreign-key-types-differ": (
        Example(
            "CREATE TABLE parcels (id bigint PRIMARY KEY, order_id int REFERENCES orders);\n"
            "CREATE INDEX ON parcels (order_id)",
            "CREATE TABLE parcels (id bigint PRIMARY KEY, order_id bigint REFERENCES orders);\n"
            "CREATE INDEX ON parcels (order_id)",
            good_in_transaction=True,
        ),
    ),
    "short-primary-key": (
        Example(
            "CREATE TABLE parcels (id int PRIMARY KEY)",
            "CREATE TABLE parcels (id bigint PRIMARY KEY)",
            good_in_transaction=True,
        ),
        Example("CREATE TABLE parcels (id smallint, PRIMARY KEY (id))"),
    ),
    "serial-column": (
        Example(
            "CREATE TABLE parcels (id bigint PRIMARY KEY, number bigserial)",
            "CREATE TABLE parcels (\n"
            "    id bigserial PRIMARY KEY, number bigint GENERATED BY DEFAULT AS IDENTITY)",
            good_in_transaction=True,
        ),
    ),
    "json-column": (
        Example(
            "ALTER TABLE orders ADD COLUMN extra json",
            "ALTER TABLE orders ADD COLUMN extra jsonb",
            good_in_transaction=True,
        ),
    ),
    "timestamp-without-time-zone": (
        Example(
            "ALTER TABLE orders ADD COLUMN paid timestamp",
            "ALTER TABLE orders ADD COLUMN paid timestamptz",
            good_in_transaction=True,
        ),
    ),
    "char-column": (
        Example(
            "ALTER TABLE orders ADD COLUMN currency char(3)",
            "ALTER TABLE orders ADD COLUMN currency varchar(3)",
            good_in_transaction=True,
        ),
    ),
    "money-column": (
        Example(
            "ALTER TABLE orders ADD COLUMN tax money",
            "ALTER TABLE orders ADD COLUMN tax numeric(10, 2)",
            good_in_transaction=True,
        ),
    ),
    "table-without-primary-key": (
        Example(
            "CREATE TABLE parcels (order_id bigint, weight int)",
            "CREATE TABLE parcels (order_id bigint, weight int);\n"
            "ALTER TABLE parcels ADD PRIMARY KEY (order_id)",
            good_in_transaction=True,
        ),
    ),
    "duplicate-index": (
        Example(
            "CREATE INDEX CONCURRENTLY ix_placed ON orders (placed)",
            "CREATE INDEX CONCURRENTLY ix_placed ON orders (placed, status)",
            in_transaction=False,
        ),
    ),
    "name-too-long": (
        Example(
            "ALTER TABLE orders ADD COLUMN"
            " number_of_days_between_the_order_and_the_day_of_its_delivery_abroad int",
            "ALTER TABLE orders ADD COLUMN days_until_delivery_abroad int",
            good_in_transaction=True,
        ),
    ),
    "replica-identity-full": (Example("ALTER TABLE orders REPLICA IDENTITY FULL"),),
    "triggers-disabled": (Example("ALTER TABLE orders DISABLE TRIGGER ALL"),),
    "transaction-left-open": (
        Example(
            "BEGIN;\nALTER TABLE orders ADD COLUMN weight int",
            "BEGIN;\nALTER TABLE orders ADD COLUMN weight int;\nCOMMIT",
            in_transaction=False,
        ),
    ),
}
"""By the rule's code; the first of each is shown in the documentation."""
