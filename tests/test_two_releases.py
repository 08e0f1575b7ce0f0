"""The two-release harness: clean where nothing is wrong, and it finds what is planted."""

from __future__ import annotations

import datetime as dt
import enum
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from random import Random

import pytest
import sqlalchemy as sa
from conftest import Database
from sqlalchemy.dialects import postgresql

from alembic_safe.rehearsal.releases import Pairing, Release
from alembic_safe.rehearsal.two_releases import TwoReleases
from alembic_safe.rehearsal.values import (
    UnsupportedTypeError,
    Value,
    differences,
    same_value,
    values_for,
)

RENAMED = {"users": {"full_name": "display_name"}}

SYNC = """
CREATE FUNCTION sync() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    IF NEW.display_name IS NOT NULL THEN NEW.full_name := NEW.display_name;
    ELSE NEW.display_name := NEW.full_name; END IF;
  ELSIF NEW.display_name IS DISTINCT FROM OLD.display_name THEN
    NEW.full_name := NEW.display_name;
  ELSE NEW.display_name := NEW.full_name; END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER zz_sync BEFORE INSERT OR UPDATE ON users FOR EACH ROW
WHEN (NEW.full_name IS DISTINCT FROM NEW.display_name) EXECUTE FUNCTION sync();
"""


class Color(enum.Enum):
    RED = "red"
    GREEN = "green"


def shop(
    name_column: str, *, with_fk: bool = True, note_nullable: bool = True, extra: bool = False
) -> sa.MetaData:
    """The models of a small shop."""
    metadata = sa.MetaData()
    sa.Table(
        "users",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column(name_column, sa.String(80)),
        sa.Column("email", sa.Text, nullable=False, unique=True),
        sa.Column("active", sa.Boolean, nullable=False, server_default=sa.true()),
    )
    sa.Table(
        "orders",
        metadata,
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("user_id", sa.ForeignKey("users.id") if with_fk else sa.Integer, nullable=False),
        sa.Column("note", sa.Text, nullable=note_nullable),
        sa.Column("total", sa.Numeric(10, 2), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.now()),
        sa.Column("details", postgresql.JSONB),
        sa.Column("color", sa.Enum(Color, name="color")),
    )
    if extra:
        sa.Table(
            "tags", metadata, sa.Column("id", sa.Uuid, primary_key=True), sa.Column("t", sa.Text)
        )
    return metadata


OLD = Release("v1", shop("full_name", with_fk=False))
NEW = Release("v2", shop("display_name", note_nullable=False, extra=True))


@pytest.fixture
def renaming(database: Database) -> Database:
    """A database in the middle of renaming users.full_name to display_name, before contract."""
    engine = sa.create_engine(database.url())
    shop("full_name", extra=True).create_all(engine)
    engine.dispose()
    database.execute("ALTER TABLE users ADD COLUMN display_name varchar(80)")
    database.execute(SYNC)
    return database


@pytest.fixture
def both(renaming: Database) -> Iterator[TwoReleases]:
    """The harness with both releases; nothing runs yet."""
    with TwoReleases(OLD, NEW, renaming.url(), RENAMED, seed=7) as harness:
        yield harness


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class TestWhereNothingIsWrong:
    def test_two_clients_of_each_release_see_nothing(self, both: TwoReleases) -> None:
        both.start("old", clients=2)
        both.start("new", clients=2)
        wait_for(lambda: both.observations().queries > 1500)
        both.stop()
        seen = both.observations()
        seen.assert_clean()
        assert {"insert", "update", "upsert", "delete", "select", "browse", "commit"} <= set(
            seen.longest_by_kind
        )
        assert set(seen.by_release) == {"v1", "v2"}
        assert both.check_rows("old") == []
        assert both.check_rows("new") == []

    def test_each_release_sees_what_the_other_wrote(
        self, both: TwoReleases, renaming: Database
    ) -> None:
        assert both.cross_check() == []
        assert renaming.execute("SELECT count(*) FROM users") == [(0,)]

    def test_one_release_runs_alone_after_contract(
        self, both: TwoReleases, renaming: Database
    ) -> None:
        both.start("old")
        both.start("new")
        wait_for(lambda: both.observations().queries > 300)
        both.stop("old")
        renaming.execute("DROP TRIGGER zz_sync ON users")
        renaming.execute("ALTER TABLE users DROP COLUMN full_name")
        renaming.execute("UPDATE orders SET note = '' WHERE note IS NULL")
        before = both.observations().queries
        wait_for(lambda: both.observations().queries > before + 200)
        both.stop()
        both.observations().assert_clean()
        assert both.check_rows("new") == []

    def test_clients_keep_to_the_tables_that_are_there(
        self, both: TwoReleases, renaming: Database
    ) -> None:
        renaming.execute("DROP TABLE tags")
        both.start("new", tables=["users", "orders"])
        wait_for(lambda: both.observations().queries > 100)
        both.stop()
        both.observations().assert_clean()
        assert both.cross_check(["users", "orders"]) == []

    def test_nothing_runs_in_a_pause(self, both: TwoReleases) -> None:
        both.start("old")
        wait_for(lambda: both.observations().queries > 10)
        both.pause()
        before = both.observations().queries
        time.sleep(0.2)
        assert both.observations().queries == before
        both.resume()
        wait_for(lambda: both.observations().queries > before)

    def test_rows_that_were_there_are_referenced_and_never_deleted(
        self, both: TwoReleases, renaming: Database
    ) -> None:
        renaming.execute("INSERT INTO users (email) SELECT n::text FROM generate_series(1, 50) n")
        both.start("old", tables=["orders"])
        both.start("new")
        wait_for(lambda: both.observations().queries > 500)
        both.stop()
        both.observations().assert_clean()
        assert renaming.execute("SELECT count(*) FROM users WHERE length(email) < 3") == [(50,)]
        assert renaming.execute("SELECT count(*) > 0 FROM orders WHERE user_id <= 50") == [(True,)]


class TestPlantedFaults:
    def test_a_missing_trigger(self, both: TwoReleases, renaming: Database) -> None:
        renaming.execute("DROP TRIGGER zz_sync ON users")
        found = both.cross_check()
        assert any("insert of v1 read by v2, full_name (read as display_name)" in t for t in found)
        assert any("insert of v2 read by v1, display_name (read as full_name)" in t for t in found)

    def test_a_trigger_that_forgets_updates(self, both: TwoReleases, renaming: Database) -> None:
        renaming.execute("DROP TRIGGER zz_sync ON users")
        renaming.execute(
            "CREATE TRIGGER zz_sync BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION sync()"
        )
        found = both.cross_check()
        assert found
        assert all("update of" in text or "upsert" in text for text in found)

    def test_a_locked_table(self, both: TwoReleases, renaming: Database) -> None:
        both.start("old")
        wait_for(lambda: both.observations().queries > 50)
        both.reset_worst()
        with renaming.connect() as connection, connection.transaction():
            connection.execute("LOCK TABLE users")
            time.sleep(1.2)
            # Seen while the clients still wait.
            assert both.observations().longest_ms > 700
        wait_for(lambda: both.observations().longest_ms > 0)
        both.stop()
        seen = both.observations()
        seen.assert_clean()
        assert 700 < seen.longest_ms < 5000
        both.reset_worst()
        assert both.observations().longest_ms == 0
        assert both.observations().longest_ever_ms == seen.longest_ever_ms

    def test_a_dropped_column(self, both: TwoReleases, renaming: Database) -> None:
        both.start("old")
        both.start("new")
        wait_for(lambda: both.observations().queries > 50)
        renaming.execute("ALTER TABLE users DROP COLUMN full_name CASCADE")
        wait_for(lambda: both.observations().error_count > 0)
        both.stop()
        with pytest.raises(AssertionError, match="UndefinedColumn"):
            both.observations().assert_clean()

    def test_a_row_that_is_lost(self, both: TwoReleases, renaming: Database) -> None:
        both.start("new", tables=["users"])
        wait_for(lambda: renaming.execute("SELECT count(*) > 5 FROM users")[0][0])
        both.pause()
        renaming.execute("DELETE FROM users WHERE id = (SELECT max(id) FROM users)")
        assert any("the row is not there" in text for text in both.check_rows("new"))
        both.stop()
        assert any("the row is lost" in text for text in both.observations().differences)

    def test_an_update_that_is_undone(self, both: TwoReleases, renaming: Database) -> None:
        both.start("old", tables=["users"])
        wait_for(lambda: renaming.execute("SELECT count(*) > 5 FROM users")[0][0])
        both.pause()
        renaming.execute("UPDATE users SET full_name = 'somebody else'")
        both.stop()
        with pytest.raises(AssertionError, match="read 'somebody else'"):
            both.observations().assert_clean()

    def test_a_default_that_the_old_release_does_not_know(
        self, both: TwoReleases, renaming: Database
    ) -> None:
        renaming.execute("ALTER TABLE users ADD COLUMN must_have int NOT NULL")
        assert any("NotNullViolation" in text for text in both.cross_check())

    def test_sessions_that_are_ended(self, both: TwoReleases, renaming: Database) -> None:
        both.start("old")
        wait_for(lambda: both.observations().queries > 50)
        renaming.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        wait_for(lambda: both.observations().error_count > 0)
        before = both.observations().queries
        wait_for(lambda: both.observations().queries > before + 50)  # it comes back
        both.stop()
        assert not both.observations().differences

    def test_a_wait_without_end_is_cancelled(self, both: TwoReleases, renaming: Database) -> None:
        both.start("old")
        wait_for(lambda: both.observations().queries > 50)
        with renaming.connect() as connection, connection.transaction():
            connection.execute("LOCK TABLE users, orders")
            time.sleep(0.3)
            started = time.monotonic()
            both.stop(timeout=0.5)
            assert time.monotonic() - started < 5
        assert any("QueryCanceled" in str(failure) for failure in both.observations().errors)
        assert not [thread for thread in threading.enumerate() if "client of" in thread.name]


class TestPairing:
    def test_columns_are_the_same_by_name_or_by_the_given_rename(self) -> None:
        pairing = Pairing(OLD, NEW, RENAMED)
        pairs = pairing.columns("users")
        assert pairs == {
            "id": "id",
            "full_name": "display_name",
            "email": "email",
            "active": "active",
        }
        assert pairing.reversed().columns("users")["display_name"] == "full_name"
        assert pairing.reversed().columns("tags") == {}

    def test_a_foreign_key_of_the_other_release_binds_this_one_too(self) -> None:
        (reference,) = Pairing(OLD, NEW, RENAMED).usage("orders").references
        assert (reference.columns, reference.parent) == (("user_id",), "users")

    def test_null_may_become_a_value_where_the_other_release_forbids_it(self) -> None:
        assert Pairing(OLD, NEW, RENAMED).usage("orders").may_be_filled == {"note"}

    def test_a_type_without_values_names_the_column(self) -> None:
        metadata = sa.MetaData()
        sa.Table(
            "t",
            metadata,
            sa.Column("id", sa.Integer, primary_key=True),
            sa.Column("address", postgresql.INET, nullable=False),
        )
        with pytest.raises(UnsupportedTypeError, match=r"t\.address"):
            Pairing(Release("a", metadata), Release("b", metadata), {}).usage("t")
        given = Release("a", metadata, {"t.address": lambda rng: "10.0.0.1"})
        assert "address" in Pairing(given, given, {}).usage("t").sources


class TestValues:
    @pytest.mark.parametrize(
        ("kind", "python_type"),
        [
            (sa.Integer(), int),
            (sa.SmallInteger(), int),
            (sa.Text(), str),
            (sa.Boolean(), bool),
            (sa.Numeric(6, 2), Decimal),
            (sa.Double(), float),
            (sa.DateTime(), dt.datetime),
            (sa.Date(), dt.date),
            (sa.Time(), dt.time),
            (sa.Interval(), dt.timedelta),
            (postgresql.INTERVAL(), dt.timedelta),
            (sa.JSON(), dict),
            (sa.Uuid(), uuid.UUID),
            (sa.LargeBinary(), bytes),
            (sa.ARRAY(sa.Text), list),
            (sa.Enum(Color), Color),
            (sa.Enum("a", "b", name="ab"), str),
        ],
    )
    def test_fit_the_type(self, kind: sa.types.TypeEngine[Value], python_type: type) -> None:
        source, rng = values_for(kind), Random(1)
        assert all(type(source(rng)) is python_type for _ in range(50))

    def test_fit_the_narrower_of_two_types(self) -> None:
        rng = Random(1)
        longer = values_for(sa.String(100), sa.String(5))
        wider = values_for(sa.BigInteger(), sa.Integer())
        finer = values_for(sa.Numeric(12, 4), sa.Numeric(4, 1))
        for _ in range(100):
            assert len(longer(rng)) <= 5
            assert abs(wider(rng)) < 2**31
            assert abs(number := finer(rng)) < 1000
            assert number == round(number, 1)

    def test_texts_include_the_empty_one_and_unicode(self) -> None:
        source, rng = values_for(sa.Text()), Random(1)
        texts = {source(rng) for _ in range(200)}
        assert "" in texts
        assert any(not text.isascii() for text in texts)

    def test_unique_ones_do_not_repeat(self) -> None:
        for kind in (sa.Text(), sa.Integer(), sa.String(8)):
            source, rng = values_for(kind, unique=True), Random(1)
            assert len({source(rng) for _ in range(500)}) == 500

    def test_are_the_same_across_column_types(self) -> None:
        utc = dt.timezone.utc
        assert same_value(5, Decimal("5.00"))
        assert same_value(Decimal("1.1"), 1.1)
        assert same_value(7, "7")
        assert same_value(dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 1, tzinfo=utc))
        assert same_value(Color.RED, "RED")
        assert not same_value(None, "None")
        assert not same_value("", None)
        assert not same_value("a", "a ")

    def test_differ_in_one_line_for_each_column(self) -> None:
        wrote, read = {"a": 1, "old": "x", "n": None}, {"a": 1, "new": "y", "n": ""}
        pairs = {"a": "a", "old": "new", "n": "n"}
        assert differences(wrote, read, pairs, {"n"}) == ["old (read as new): wrote 'x', read 'y'"]
