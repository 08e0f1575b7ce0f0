"""A change in all its phases, ready to be run, held up anywhere, and compared with a run that was
not."""

from __future__ import annotations

import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conftest import Database
from hand_written import write_history
from project import Project
from schema import schema_of

from alembic_safe.rehearsal.server import ScratchServer

USERS = 100_000
ORDERS = 10_000

FIRST = {"ALEMBIC_SAFE_RELEASE": "one", "ALEMBIC_SAFE_BATCH_SIZE": "500"}
SECOND = {**FIRST, "ALEMBIC_SAFE_RELEASE": "two"}

_V1 = """\
import sqlalchemy as sa

metadata = sa.MetaData()
sa.Table(
    "users",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("full_name", sa.Text, nullable=False, index=True),
)
sa.Table(
    "orders",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("note", sa.Text),
)
"""

_V2 = """\
import sqlalchemy as sa

import alembic_safe

metadata = sa.MetaData()
sa.Table(
    "users",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column(
        "display_name",
        sa.Text,
        nullable=False,
        index=True,
        info=alembic_safe.renamed_from("full_name"),
    ),
)
sa.Table(
    "orders",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("note", sa.Text, nullable=False, info=alembic_safe.filled_with("'none'")),
)
"""

IN_SCAN, IN_USERS, IN_ORDERS = 7, 8, 9
"""Advisory locks: who holds one holds up the scan of a constraint, or the update of a row that
comes late in its table."""

_FILL = f"""
    INSERT INTO users SELECT n, 'user ' || n FROM generate_series(1, {USERS}) AS n;
    INSERT INTO orders SELECT n FROM generate_series(1, {ORDERS}) AS n;
    CREATE FUNCTION passes(id int) RETURNS boolean LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock_shared({IN_SCAN});
        RETURN true;
    END $$;
    CREATE FUNCTION passes() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock_shared(TG_ARGV[0]::int);
        RETURN NEW;
    END $$;
    CREATE TRIGGER passes BEFORE UPDATE ON users FOR EACH ROW
        WHEN (OLD.id = {USERS} * 9 / 10) EXECUTE FUNCTION passes({IN_USERS});
    CREATE TRIGGER passes BEFORE UPDATE ON orders FOR EACH ROW
        WHEN (OLD.id = {ORDERS} * 9 / 10) EXECUTE FUNCTION passes({IN_ORDERS});
"""

_CHECKED = """
op.create_check_constraint_not_valid("orders_pass", "orders", "passes(id)")
op.validate_constraint("orders_pass", "orders")
"""

_ROWS = f"""
    SELECT (SELECT count(*) FILTER (WHERE display_name = 'user ' || id) FROM users) = {USERS}
       AND (SELECT count(*) FILTER (WHERE note = 'none') FROM orders) = {ORDERS}
"""


class Story:
    """The revisions of a change, and databases to copy. It is told once without an interruption.

    Args:
        server: where its databases are.
        folder: an empty folder.
    """

    def __init__(self, server: ScratchServer, folder: Path) -> None:
        self.server = server
        name = f"story_{uuid.uuid4().hex[:12]}"
        self.before = Database(server, f"{name}_before")
        self.between = Database(server, f"{name}_between")
        self._folder = folder

    def __enter__(self) -> Story:
        self.server.create_database(self.before.name)
        project = Project(self._folder / "first", self.before.url())
        self.migrations = project.migrations
        project.models(_V1)
        project.run("revision", "--autogenerate", "-m", "first")
        project.run("upgrade", "head")
        self.before.execute(_FILL)
        project.models(_V2)
        project.run("revision", "--autogenerate", "-m", "second")
        marks = 'phase = "migrate"\ntransactional = False'
        write_history(project, "checked", project.head(), upgrade=_CHECKED, marks=marks)
        self.server.execute(f"CREATE DATABASE {self.between.name} TEMPLATE {self.before.name}")
        project.connect_to(self.between.url())
        project.run("upgrade", "head", env=FIRST)
        # As the first release may do until it is gone.
        self.between.execute("UPDATE orders SET note = NULL")
        self.schema_between = schema_of(self.between)
        with self.copy(self._folder / "after", self.between) as (project, database):
            project.run("upgrade", "head", env=SECOND)
            assert is_complete(database)
            self.schema_after = schema_of(database)
        return self

    def __exit__(self, *_error: object) -> None:
        for database in (self.before, self.between):
            self.server.drop_database(database.name)

    @contextmanager
    def copy(self, folder: Path, database: Database) -> Iterator[tuple[Project, Database]]:
        """A project of its own, and a copy of a database that is gone afterwards."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        self.server.execute(f"CREATE DATABASE {name} TEMPLATE {database.name}")
        try:
            copied = Database(self.server, name)
            project = Project(folder, copied.url())
            shutil.copytree(self.migrations, project.migrations, dirs_exist_ok=True)
            yield project, copied
        finally:
            self.server.drop_database(name)

    def phase_of(self, revision: str) -> str:
        """The phase of a revision."""
        (path,) = self.migrations.rglob(f"{revision}*.py")
        (phase,) = re.findall(r'^phase = "(.*)"$', path.read_text(), re.MULTILINE)
        return str(phase)


def is_complete(database: Database) -> bool:
    """Return whether every row is there, with what it should have after the change."""
    return database.execute(_ROWS) == [(True,)]
