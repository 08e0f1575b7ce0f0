"""What alembic-safe costs next to plain Alembic, as ratios in one run on the same server.

    python benchmarks/overhead.py

- `upgrade` over 500 trivial revisions, each of which adds a column, or does nothing. Plain
  Alembic runs them in one transaction unless it is told otherwise; alembic-safe always runs one
  revision in one transaction, so both ways of plain Alembic are measured;
- `revision --autogenerate` on 300 tables with 10 changes;
- `import alembic_safe` next to `import alembic`.

Each figure is the median of several runs, the two sides in turn, in a process of their own.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import alembic
from rich.console import Console
from rich.table import Table

from alembic_safe.rehearsal.server import ScratchServer

REVISIONS = 500
TABLES = 300
CHANGES = 10

ENV = """\
from alembic import context
from sqlalchemy import create_engine
{imports}
import models

with create_engine(context.config.get_main_option("sqlalchemy.url")).connect() as connection:
    context.configure(
        connection=connection,
        target_metadata=models.metadata,
        {options}
    )
    {run}
"""

PLAIN = ENV.format(
    imports="",
    options="",
    run="with context.begin_transaction():\n        context.run_migrations()",
)
PLAIN_TRANSACTION_PER_MIGRATION = ENV.format(
    imports="",
    options="transaction_per_migration=True,",
    run="with context.begin_transaction():\n        context.run_migrations()",
)
SAFE = ENV.format(
    imports="import alembic_safe",
    options="**alembic_safe.configure(),",
    run="alembic_safe.run_migrations(context)",
)

REVISION = """\
import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = {down}


def upgrade():
    {body}


def downgrade():
    pass
"""


@dataclass
class Environment:
    """An Alembic environment in a folder of its own."""

    folder: Path
    url: str
    env: str

    def create(self) -> None:
        """Write its files."""
        template = Path(alembic.__file__).parent / "templates" / "generic" / "script.py.mako"
        (self.folder / "versions").mkdir(parents=True)
        shutil.copy(template, self.folder)
        (self.folder / "env.py").write_text(self.env)
        (self.folder / "models.py").write_text(models(0))
        (self.folder / "alembic.ini").write_text(
            "[alembic]\nscript_location = %(here)s\nprepend_sys_path = %(here)s\n"
            f"sqlalchemy.url = {self.url}\n"
        )

    def run(self, *arguments: str) -> float:
        """Run Alembic's command line; return the seconds it took."""
        return timed([sys.executable, "-m", "alembic", *arguments], self.folder)


def timed(command: list[str], folder: Path) -> float:
    """Run a command; return the seconds it took."""
    began = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True, env=os.environ)
    return time.perf_counter() - began


def models(changes: int) -> str:
    """Return a module with the tables, the first of them changed."""
    lines = ["import sqlalchemy as sa", "metadata = sa.MetaData()"]
    for number in range(TABLES):
        added = 'sa.Column("added", sa.Text), ' if number < changes else ""
        lines.append(
            f'sa.Table("t{number}", metadata, sa.Column("id", sa.Integer, primary_key=True), '
            f'sa.Column("a", sa.Text), {added}sa.Column("b", sa.Integer, index=True))'
        )
    return "\n".join(lines) + "\n"


def upgrade_seconds(server: ScratchServer, folder: Path, env: str, name: str, body: str) -> float:
    """Return the seconds of `upgrade head` over trivial revisions on a fresh database."""
    server.create_database(name)
    server.execute("CREATE TABLE t ()", database=name)
    environment = Environment(folder / name, server.url(name), env)
    environment.create()
    for number in range(REVISIONS):
        down = repr(f"r{number - 1:04}") if number else None
        text = REVISION.format(revision=f"r{number:04}", down=down, body=body.format(number=number))
        (environment.folder / "versions" / f"r{number:04}.py").write_text(text)
    seconds = environment.run("upgrade", "head")
    server.drop_database(name)
    return seconds


def autogenerate_seconds(server: ScratchServer, folder: Path, env: str, name: str) -> float:
    """Return the seconds of `revision --autogenerate` with few changes to many tables."""
    server.create_database(name)
    environment = Environment(folder / name, server.url(name), env)
    environment.create()
    environment.run("revision", "--autogenerate", "-m", "tables")
    environment.run("upgrade", "head")
    (environment.folder / "models.py").write_text(models(CHANGES))
    seconds = environment.run("revision", "--autogenerate", "-m", "changes")
    server.drop_database(name)
    return seconds


def medians(sides: dict[str, Callable[[int], float]], rounds: int) -> dict[str, float]:
    """Run the sides in turn; return the median of each."""
    figures: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name, measure in sides.items():
            figures[name].append(measure(number))
    return {name: statistics.median(values) for name, values in figures.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with ScratchServer() as server, tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        upgrades = {
            what: medians(
                {
                    side: upgrader(server, folder, env, f"{what} {side}", body)
                    for side, env in SIDES.items()
                },
                rounds,
            )
            for what, body in BODIES.items()
        }
        autogenerate = medians(
            {
                "plain": lambda n: autogenerate_seconds(server, folder, PLAIN, f"auto_plain_{n}"),
                "alembic-safe": lambda n: autogenerate_seconds(
                    server, folder, SAFE, f"auto_safe_{n}"
                ),
            },
            rounds,
        )
        imports = medians({name: importer(name, folder) for name in IMPORTS}, rounds * 3)
    report(upgrades, autogenerate, imports)


PER_MIGRATION = "plain, transaction per migration"
SIDES = {"plain": PLAIN, PER_MIGRATION: PLAIN_TRANSACTION_PER_MIGRATION, "alembic-safe": SAFE}
BODIES = {
    "that add a column": 'op.add_column("t", sa.Column("c{number}", sa.Integer()))',
    "that do nothing": "pass",
}


def upgrader(
    server: ScratchServer, folder: Path, env: str, name: str, body: str
) -> Callable[[int], float]:
    """Return what measures one upgrade."""
    database = "".join(letter if letter.isalnum() else "_" for letter in name)
    return lambda number: upgrade_seconds(server, folder, env, f"{database}_{number}", body)


IMPORTS = ("pass", "import alembic", "import alembic_safe")


def importer(statement: str, folder: Path) -> Callable[[int], float]:
    """Return what measures a fresh interpreter that runs one statement."""
    return lambda _number: timed([sys.executable, "-c", statement], folder)


def report(
    upgrades: dict[str, dict[str, float]],
    autogenerate: dict[str, float],
    imports: dict[str, float],
) -> None:
    """Print the ratios."""
    table = Table(title="alembic-safe next to plain Alembic (medians)")
    for heading in ("what", "against", "plain s", "safe s", "ratio", "wanted"):
        table.add_column(heading, justify="left" if heading in ("what", "against") else "right")
    for what, upgrade in upgrades.items():
        for against in ("plain", PER_MIGRATION):
            add(table, f"upgrade, {REVISIONS} revisions {what}", against, upgrade, "1.10")
    add(table, f"autogenerate, {TABLES} tables", "plain", autogenerate, "1.15")
    Console(width=110).print(table)
    for name in IMPORTS[1:]:
        Console().print(f"{name}: {(imports[name] - imports['pass']) * 1000:.0f} ms")


def add(table: Table, what: str, against: str, figures: dict[str, float], wanted: str) -> None:
    """Add a row."""
    plain, safe = figures[against], figures["alembic-safe"]
    table.add_row(
        what, against, f"{plain:.2f}", f"{safe:.2f}", f"{safe / plain:.2f}", f"<= {wanted}"
    )


if __name__ == "__main__":
    main()
