"""The shop: a folder with its Alembic environment, a database, and what was sold."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import models_v1
import models_v2
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from alembic_safe.rehearsal.releases import Release
from alembic_safe.rehearsal.server import ScratchServer

V1 = Release("v1", models_v1.Base.metadata)
V2 = Release("v2", models_v2.Base.metadata)

SAME = {"users": {"full_name": "display_name"}}
"""The columns that the two releases call differently."""

FIRST_REVISION = "0001"

_HERE = Path(__file__).resolve().parent
_ENVIRONMENT = (
    "alembic.ini",
    "env.py",
    "script.py.mako",
    "models_v1.py",
    "models_v2.py",
    "versions/0001_the_shop.py",
)


class CommandFailed(Exception):
    """An `alembic` command ended with another exit status than 0."""


@dataclass(frozen=True)
class Size:
    """How many rows each table gets."""

    users: int
    products: int
    orders: int
    items: int


@dataclass(frozen=True)
class Shop:
    """A shop that can be migrated.

    Args:
        folder: an empty folder; `open` puts a copy of the Alembic environment there, so that
            the revisions that it writes do not end up in the source tree.
        server: where the database is.
        database: its name.
        tell: gets each line that a command prints.
    """

    folder: Path
    server: ScratchServer
    database: str = "shop"
    tell: Callable[[str], None] = print

    @property
    def url(self) -> str:
        """The SQLAlchemy URL of the database."""
        return self.server.url(self.database)

    def open(self) -> None:
        """Copy the Alembic environment, with the first revision and no other."""
        for name in _ENVIRONMENT:
            target = self.folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(_HERE / name, target)

    def alembic(
        self, *arguments: str, release: str | None = None, models: str = "models_v2"
    ) -> list[str]:
        """Run `alembic ARGUMENTS` in the folder, as a deploy does; return what it printed.

        Args:
            arguments: the command and its arguments.
            release: the release that is being deployed.
            models: the models of that release.

        Raises:
            CommandFailed: the exit status was not 0.
        """
        # Settings of the caller's own Alembic projects are not meant for this one.
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("ALEMBIC_")
        }
        environment |= {"SHOP_DATABASE_URL": self.url, "SHOP_MODELS": models}
        if release is not None:
            environment["ALEMBIC_SAFE_RELEASE"] = release
        lines: list[str] = []
        with subprocess.Popen(
            [sys.executable, "-m", "alembic", *arguments],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    lines.append(line.rstrip())
                    self.tell(lines[-1])
            except BaseException:  # Ctrl-C: do not wait for its end
                process.terminate()
                raise
        if process.returncode != 0:
            raise CommandFailed(
                f"`alembic {shlex.join(arguments)}` ended with exit status {process.returncode}"
            )
        return lines

    def revision_files(self) -> list[Path]:
        """The revision files but the first: those of the history, then the contract line."""
        found = [*self.folder.glob("versions/*.py"), *self.folder.glob("contracts/*.py")]
        return sorted(
            (file for file in found if not file.name.startswith(FIRST_REVISION)),
            key=lambda file: (file.parent.name != "versions", file.stat().st_mtime_ns),
        )

    def fill(self, size: Size) -> None:
        """Sell: rows for all tables of v1, every third order without a note."""
        for statement in _FILL:
            self._execute(statement, size)
        self._execute("VACUUM (ANALYZE)")

    def sold(self, size: Size, *, name_column: str) -> list[tuple[object, ...]]:
        """Return for each table how many of the rows that `fill` made are there, and a checksum.

        Args:
            size: what `fill` was given.
            name_column: what the column `full_name` of `users` is called now.
        """
        return self._execute(_SOLD.replace("{name}", name_column), size)

    def differences(self, release: Release) -> list[str]:
        """Return what differs between a release's models and the database.

        `alembic check` tells the same of the release that the head of the history is for.
        """
        engine = sa.create_engine(self.url)
        with engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"include_name": _is_ours})
            found = compare_metadata(context, release.metadata)
        engine.dispose()
        return [str(difference) for difference in found]

    def tables(self) -> list[str]:
        """The application's tables, without those of Alembic and alembic_safe."""
        engine = sa.create_engine(self.url)
        names = [name for name in sa.inspect(engine).get_table_names() if _is_ours(name)]
        engine.dispose()
        return names

    def _execute(self, sql: str, size: Size | None = None) -> list[tuple[object, ...]]:
        parameters = asdict(size) if size is not None else None
        return self.server.execute(sql, parameters, database=self.database)


_FILL = (
    """
    INSERT INTO users (email, full_name)
    SELECT 'user' || n || '@example.org', 'User ' || n
      FROM generate_series(1, %(users)s) AS n
    """,
    """
    INSERT INTO products (title, price)
    SELECT 'Product ' || n, n / 10.0 FROM generate_series(1, %(products)s) AS n
    """,
    """
    INSERT INTO orders (user_id, total, note, created_at)
    SELECT 1 + n %% %(users)s, n %% 1000 + 0.99,
           CASE WHEN n %% 3 > 0 THEN 'note ' || n END, now() - n * interval '1 minute'
      FROM generate_series(1, %(orders)s) AS n
    """,
    """
    INSERT INTO order_items (order_id, product_id, quantity)
    SELECT 1 + n %% %(orders)s, 1 + n %% %(products)s, 1 + n %% 5
      FROM generate_series(1, %(items)s) AS n
    """,
)

# The clients change and delete rows of their own only: these must stay as they are, but that
# a note that was missing becomes the empty text.
_SOLD = """
    SELECT 'users', count(*), sum(hashtextextended(concat_ws('|', id, email, {name}), 0))
      FROM users WHERE id <= %(users)s
    UNION ALL
    SELECT 'orders', count(*), sum(hashtextextended(
               concat_ws('|', id, user_id, total, coalesce(note, ''), created_at), 0))
      FROM orders WHERE id <= %(orders)s
    UNION ALL
    SELECT 'order_items', count(*), sum(hashtextextended(
               concat_ws('|', id, order_id, product_id, quantity), 0))
      FROM order_items WHERE id <= %(items)s
     ORDER BY 1
"""


def _is_ours(name: str | None, *_details: object) -> bool:
    # Alembic's and alembic_safe's own tables are no part of the models.
    return name is None or not name.startswith("alembic_")
