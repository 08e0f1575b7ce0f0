"""What the guard costs: `upgrade` with `guard = "error"` next to `guard = "off"`.

    python benchmarks/guard.py

The database is in use: a revision is applied, and its table has rows. Then 500 revisions each add a
column; or one revision updates 10,000 rows one by one, with parameters or with the values in the
text; or one inserts 100,000 rows in one text. Each figure is the median of several runs, the two
sides in turn, in a process of their own.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

from overhead import REVISION, SAFE, Environment, medians
from rich.console import Console
from rich.table import Table

from alembic_safe.rehearsal.server import ScratchServer

REVISIONS = 500
ROWS = 10_000

FIRST = """\
op.create_table("t", sa.Column("id", sa.BigInteger(), primary_key=True), sa.Column("a", sa.Text()))
"""
ADD_COLUMN = 'op.add_column("t", sa.Column("c{place}", sa.BigInteger()))'
WITH_PARAMETERS = f"""
    update = sa.text("UPDATE t SET a = :a WHERE id = :id")
    for number in range(1, {ROWS} + 1):
        op.get_bind().execute(update, {{"a": "x", "id": number}})
"""
WITH_VALUES = f"""
    for number in range(1, {ROWS} + 1):
        op.execute(f"UPDATE t SET a = 'x' WHERE id = {{number}}")
"""
MANY_ROWS = """
    rows = ", ".join(f"({number}, 'some text')" for number in range(1_000_000, 1_100_000))
    op.execute(f"INSERT INTO t (id, a) VALUES {rows}")
"""

WORK = {
    f"{REVISIONS} revisions that add a column": [ADD_COLUMN] * REVISIONS,
    f"{ROWS} updates with parameters": [WITH_PARAMETERS],
    f"{ROWS} updates with values in the text": [WITH_VALUES],
    "100,000 rows in one text": [MANY_ROWS],
}


def upgrade_seconds(
    server: ScratchServer, folder: Path, name: str, bodies: list[str], guard: str
) -> float:
    """Return the seconds of `upgrade head` on a database that is in use."""
    server.create_database(name)
    environment = Environment(folder / name, server.url(name), SAFE)
    environment.create()
    for number, body in enumerate([FIRST, *bodies]):
        down = repr(f"r{number - 1:04}") if number else None
        text = REVISION.replace("{body}", body.replace("{place}", str(number)))
        text = text.replace("{revision}", f"r{number:04}").replace("{down}", str(down))
        (environment.folder / "versions" / f"r{number:04}.py").write_text(text)
    environment.run("upgrade", "r0000")
    insert = f"INSERT INTO t (id, a) SELECT n, 'a' FROM generate_series(1, {ROWS}) AS n"
    server.execute(f"{insert}; ANALYZE t", database=name)
    seconds = environment.run("-x", f"guard={guard}", "upgrade", "head")
    server.drop_database(name)
    return seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    table = Table(title="upgrade with the guard next to without it (medians)")
    for heading in ("what", "off s", "error s", "ratio"):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    with ScratchServer() as server, tempfile.TemporaryDirectory() as temporary:
        for place, (what, bodies) in enumerate(WORK.items()):
            folder = Path(temporary) / str(place)

            def side(
                guard: str, place: int = place, folder: Path = folder, bodies: list[str] = bodies
            ) -> Callable[[int], float]:
                return lambda number: upgrade_seconds(
                    server, folder, f"w{place}_{guard}_{number}", bodies, guard
                )

            figures = medians({guard: side(guard) for guard in ("off", "error")}, rounds)
            off, error = figures["off"], figures["error"]
            table.add_row(what, f"{off:.2f}", f"{error:.2f}", f"{error / off:.2f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
