"""What linting costs, as ratios in one run on the same files.

    python benchmarks/lint.py

- statements per second of the effects engine, on one core;
- `alembic-safe lint` over 1,000 revision files, next to `alembic upgrade head --sql`, which runs
  the same files and judges nothing;
- the same next to `squawk` on the SQL of these files, one file for each revision.

Each figure is the median of several runs, the sides in turn, in a process of their own. No
database is needed.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from alembic_safe.postgres.effects import World, effects_of

REVISIONS = 1000
STATEMENTS_WANTED = 5000
"""A second, at least."""
RATIO_WANTED = 1.5

ENV = """\
import alembic_safe
from alembic import context

context.configure(dialect_name="postgresql", **alembic_safe.configure())
alembic_safe.run_migrations(context)
"""

REVISION = """\
import sqlalchemy as sa
from alembic import op

transactional = {transactional}
revision = "r{number:04}"
down_revision = {down!r}


def upgrade():
{body}


def downgrade():
    pass
"""

CREATE = """\
    op.create_table(
        "t{table}",
        sa.Column("id", sa.BigInteger(), sa.Identity(), primary_key=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("state", sa.Integer(), server_default="0"),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()")),
    )
    op.create_index("ix_t{table}_name", "t{table}", ["name"])
"""

COLUMN = """\
    op.add_column("t{table}", sa.Column("c{number}", sa.Text(), nullable=True))
"""

INDEX = """\
    op.create_index_concurrently("ix_t{table}_{number}", "t{table}", ["state", "name"])
"""

CHECK = """\
    op.create_check_constraint_not_valid("ck_{number}", "t{table}", "length(name) < {number} + 1")
    op.validate_constraint("ck_{number}", "t{table}")
"""

ROWS = """\
    op.backfill("t{table}", {{"state": "1"}}, where="state = 0")
    op.execute("INSERT INTO t{table} (name) VALUES ('first')")
"""

CARELESS = """\
    random = sa.text("gen_random_uuid()")
    op.add_column("t{table}", sa.Column("c{number}", sa.Uuid(), server_default=random))
    op.create_index("ix_t{table}_c{number}", "t{table}", ["c{number}"])
    op.alter_column("t{table}", "state", type_=sa.BigInteger(), nullable=False)
    op.execute("UPDATE t{table} SET name = lower(name) WHERE name <> lower(name)")
"""


BODIES = (CREATE, COLUMN, INDEX, COLUMN, CHECK, COLUMN, ROWS, COLUMN, INDEX, CARELESS)


def write_environment(folder: Path) -> None:
    """Write an Alembic environment: of ten revisions one makes a table, eight change it with
    care, and one without."""
    (folder / "migrations" / "versions").mkdir(parents=True)
    (folder / "migrations" / "env.py").write_text(ENV)
    (folder / "alembic.ini").write_text("[alembic]\nscript_location = %(here)s/migrations\n")
    for number in range(REVISIONS):
        body = BODIES[number % len(BODIES)]
        text = REVISION.format(
            number=number,
            down=f"r{number - 1:04}" if number else None,
            transactional=body not in (INDEX, CHECK, ROWS),
            body=body.format(table=number // 10, number=number),
        )
        (folder / "migrations" / "versions" / f"r{number:04}.py").write_text(text)


def write_sql_files(folder: Path) -> list[str]:
    """Write the SQL of each revision into a file of its own, for linters of SQL files."""
    script = run(folder, alembic("upgrade", "head", "--sql")).stdout
    names = []
    for number, part in enumerate(re.split(r"^-- Running upgrade .*$", script, flags=re.M)[1:]):
        names.append(f"r{number:04}.sql")
        (folder / names[-1]).write_text(part)
    return names


def alembic(*arguments: str) -> list[str]:
    """Return a command line of Alembic."""
    return [sys.executable, "-m", "alembic", *arguments]


def lint(*arguments: str) -> list[str]:
    """Return a command line of lint."""
    program = "from alembic_safe.cli import main; main()"
    return [sys.executable, "-c", program, "lint", "--format", "json", *arguments]


def run(folder: Path, command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command; a linter that finds something ends with 1."""
    # Byte code is kept, as it is where programs are installed, but not in this tree.
    variables = {**os.environ, "PYTHONPYCACHEPREFIX": str(folder / "byte_code")}
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(
        command, cwd=folder, env=variables, capture_output=True, text=True, check=False
    )
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{command} ended with {done.returncode}\n{done.stderr}")
    return done


def seconds(folder: Path, command: list[str]) -> float:
    """Run a command; return the seconds it took."""
    began = time.perf_counter()
    run(folder, command)
    return time.perf_counter() - began


def medians(sides: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Run the sides in turn; return the median of each."""
    figures: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, measure in sides.items():
            figures[name].append(measure())
    return {name: statistics.median(values) for name, values in figures.items()}


def statements_per_second(texts: list[str]) -> float:
    """Return how many statements the effects engine reads in a second, with the schema that they
    make."""
    world = World(complete=True)
    effects_of("SELECT 1", world)  # loads the parser
    began = time.perf_counter()
    count = 0
    for text in texts:
        count += len(effects_of(text, world))
        world.settle()
    return count / (time.perf_counter() - began)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    squawk = Path(sysconfig.get_path("scripts")) / "squawk"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_environment(folder)
        names = write_sql_files(folder)
        texts = [(folder / name).read_text() for name in names]
        rate = statistics.median(statements_per_second(texts) for _ in range(rounds))
        sides = {
            "alembic upgrade head --sql": lambda: seconds(
                folder, alembic("upgrade", "head", "--sql")
            ),
            "alembic-safe lint": lambda: seconds(folder, lint()),
            "alembic-safe lint *.sql": lambda: seconds(folder, lint(*names)),
        }
        if squawk.exists():
            sides["squawk *.sql"] = lambda: seconds(folder, [str(squawk), *names])
        report(rate, medians(sides, rounds))


def report(rate: float, figures: dict[str, float]) -> None:
    """Print the rate and the ratios."""
    console = Console(width=110)
    console.print(f"effects of {rate:,.0f} statements a second (wanted: {STATEMENTS_WANTED:,})")
    table = Table(title=f"{REVISIONS:,} revision files (medians)")
    table.add_column("command")
    for heading in ("seconds", "to --sql", "wanted"):
        table.add_column(heading, justify="right")
    base = figures["alembic upgrade head --sql"]
    for name, value in figures.items():
        wanted = f"<= {RATIO_WANTED}" if name == "alembic-safe lint" else ""
        table.add_row(name, f"{value:.2f}", f"{value / base:.2f}", wanted)
    console.print(table)


if __name__ == "__main__":
    main()
