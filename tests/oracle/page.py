"""Writes docs/effects.md from what servers of each version did, `measured.json`.

In the folder `tests`: python -m oracle.page
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby

from alembic_safe.postgres.locks import LockMode
from oracle.recorded import VERSIONS, Answer, measured
from oracle.statements import FOLDER, Case, cases
from oracle.truth import Truth

PAGE = FOLDER.parent.parent / "docs" / "effects.md"

HEAD = """\
# What statements do

What each statement does to running traffic, by the version of the server: which locks it takes,
whether it writes or reads a table from end to end, which indexes it builds.
`alembic_safe.postgres.effects` says it for any SQL text, and lint and guard decide by it.

Nothing here is believed: every row is measured. A test runs the statement on real servers of each
version and reads, from inside its transaction, `pg_locks`, the files of tables and indexes, and how
many rows were read. Then it asks the engine, and compares:

- **with the catalog** of the server the engine has to say exactly what the server does;
- **from history**, the statements since the empty database, it may be more careful, never less;
- **from the file alone**, with nothing known of the tables, it takes the worse case and says what
  it assumed. It is never more optimistic than the server.

How to read the tables:

- *Locks* are those that the transaction holds on relations that were there before, from
  `ROW SHARE` on. From `SHARE` on, writes wait; `ACCESS EXCLUSIVE` stops reads too. They are held
  until the transaction ends.
- *Work* is what takes longer the larger the table: **writes anew** (every row), **reads** (every
  row), **builds** and **rebuilds** (an index). A table that is written anew gets new indexes too;
  that is not repeated. What only changes the catalog has nothing there.
- Where versions differ, each is named; otherwise a row holds for 13 to 18.
- A statement outside a transaction block, `CONCURRENTLY`, has the locks on tables; its short last
  locks on its own index are left out.
- Where *after* stands, that was committed before. Statements with `;` between them are one
  transaction.

The tables that the statements name are in
[`fixture.sql`](../tests/oracle/fixture.sql), and the statements in
[`tests/oracle/cases`](../tests/oracle/cases/add_column.sql).

This page is written by `tests/oracle/page.py`.
"""

EXPLAINED = {
    "Add a column": """\
A default that is not volatile is kept in the catalog and given to old rows when they are read; a
volatile one has to be computed for each row. What counts is the expression after the planner has
simplified it, so a volatile function in SQL that is a constant is one. A domain with a constraint
has to be checked in each row, even where every value is NULL, so the table is written anew. The
rows that are there can break a `CHECK` of the new column, so they are read; a foreign key of a
column without a default is satisfied by NULL, and nothing is read.""",
    "Defaults and NOT NULL": """\
`SET NOT NULL` reads the table unless a constraint proves that there are no NULLs: a valid `CHECK`
that was committed before, and that is not dropped by the same `ALTER TABLE`. A check that is
`NOT VALID` proves nothing. PostgreSQL 18 has `NOT NULL ... NOT VALID` constraints: adding one reads
nothing, `VALIDATE` reads while the application writes; `SET NOT NULL` over one that is not
validated reads under `ACCESS EXCLUSIVE`.""",
    "Checks and foreign keys": """\
`NOT VALID` reads nothing; `VALIDATE` reads under `SHARE UPDATE EXCLUSIVE`, which nobody waits for,
but only in a transaction that holds nothing stronger: behind `ADD ... NOT VALID` in the same
transaction it reads under the lock of that. Foreign keys lock both tables, also when they, or a
table that has one, are dropped.""",
    "Change the type of a column": """\
Nothing is written anew where every old value is a value of the new type, bit by bit: `varchar`
that gets longer or becomes `text`, `numeric` with more digits in front, `timestamp` with more
precision, `cidr` to `inet`. But what hangs on the column is made again: a valid `CHECK` is checked
again, so the table is read, also where the column only gets longer; an index on an expression or
with a predicate is built again, and one on the plain column only if its operator class or collation
changes. A foreign key is made again as well, with the lock on its other table.
`timestamp` and `timestamptz` are the same bits only in a session in UTC.""",
    "Options of tables": """\
Most storage parameters take `SHARE UPDATE EXCLUSIVE`. `SET LOGGED`, `SET UNLOGGED`,
`SET ACCESS METHOD` and `SET TABLESPACE` write the table anew unless it is so already.""",
    "Indexes": """\
`CREATE INDEX` blocks writes while it reads; `CONCURRENTLY` blocks nobody, cannot be in a
transaction block and is not there for partitioned tables. `REINDEX` looks harmless with its `SHARE`
on the table, but it has `ACCESS EXCLUSIVE` on the index, and the planner of every query opens each
index of its tables, so reads wait as well.""",
    "Partitions": """\
`ATTACH PARTITION` reads the new partition unless a valid check of it implies the bound, and the
default partition unless its own checks exclude the bound; it builds the indexes that the new
partition lacks. `CREATE TABLE ... PARTITION OF` takes `ACCESS EXCLUSIVE` on the parent, so the way
that only few wait for is: create it alone, with `LIKE`, then attach it.""",
    "Types, domains, sequences, functions": """\
A constraint of a domain is checked in every table that has a column of it. A value that is added to
an enum cannot be used before it is committed.""",
    "Several statements in one transaction": """\
What a transaction has locked stays locked until it ends, so the work of a later statement is done
under the locks of the earlier ones. What it has created itself nobody can wait for.""",
    "Data": """\
Writing rows takes `ROW EXCLUSIVE`, for which no other reader or writer of rows waits. In a
transaction that has changed a table's definition before, they do.""",
}
"""Why it is so, by family."""

LEFT_OUT = {"Names: quotes, schemas, IF EXISTS"}
"""Families that say something about names, not about statements. Statements that no version accepts
are left out too."""

_LONGEST_LIST = 6


def page() -> str:
    """Return the whole page."""
    parts = [HEAD]
    for family, members in groupby(_shown(), key=lambda case: case.family):
        parts.append(f"## {family}\n")
        if family in EXPLAINED:
            parts.append(f"{EXPLAINED[family]}\n")
        rows = "".join(map(_row, members))
        parts.append(f"| statement | locks | work |\n|---|---|---|\n{rows}")
    return "\n".join(parts)


def _shown() -> Iterator[Case]:
    for case in cases():
        answers = [answer for answer in measured()[case.id].values() if answer is not None]
        is_accepted = any(answer[-1].error is None for answer in answers)
        if is_accepted and case.family not in LEFT_OUT:
            yield case


def _row(case: Case) -> str:
    locks = _by_version(case, _locks)
    work = _by_version(case, _work)
    return f"| {_cell(_statement(case))} | {_cell(locks)} | {_cell(work)} |\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _statement(case: Case) -> str:
    shown = _code(case.sql)
    if case.before:
        shown += f" after {_code(case.before)}"
    return f"{shown}: {case.note}" if case.note else shown


def _code(sql: str) -> str:
    text = " ".join(sql.split()).removesuffix(";")
    # A statement may contain the backquote, never two together.
    return f"`{text}`"


def _by_version(case: Case, told: Callable[[Answer], str]) -> str:
    answers = measured()[case.id]
    grouped = [
        (list(versions), text)
        for text, versions in groupby(VERSIONS, key=lambda version: told(answers[version]))
    ]
    if len(grouped) == 1:
        return grouped[0][1]
    return "<br>".join(f"{_span(versions)}: {text or 'nothing'}" for versions, text in grouped)


def _span(versions: list[int]) -> str:
    return str(versions[0]) if len(versions) == 1 else f"{versions[0]}-{versions[-1]}"


def _locks(answer: Answer) -> str:
    if answer is None or _refusal(answer):
        return "-"
    held: dict[str, LockMode] = {}
    for truth in answer:
        for name, mode in truth.locks.items():
            held[name] = max(mode, held.get(name, LockMode.NONE))
    by_mode: dict[LockMode, list[str]] = {}
    for name, mode in sorted(held.items()):
        by_mode.setdefault(mode, []).append(name)
    return "; ".join(
        f"{mode.sql}: {_list(by_mode[mode])}" for mode in sorted(by_mode, reverse=True)
    )


def _work(answer: Answer) -> str:
    if answer is None:
        return "what comes before is refused"
    parts = [part for truth in answer for part in _work_of(truth)]
    return "; ".join(dict.fromkeys(parts))


def _work_of(truth: Truth) -> Iterator[str]:
    if truth.error is not None:
        sqlstate, message = truth.error
        yield f"fails: {message} ({sqlstate})"
    if truth.rewrites:
        yield f"**writes anew** {_list(list(truth.rewrites))}"
    if truth.scans:
        yield f"**reads** {_list(list(truth.scans))}"
    for table, count in truth.builds.items():
        yield f"**builds** {count} {'index' if count == 1 else 'indexes'} of {table}"
    for names in truth.rebuilds.values():
        yield f"**rebuilds** {_list(list(names))}"


def _refusal(answer: list[Truth]) -> bool:
    return len(answer) == 1 and answer[0].error is not None


def _list(names: list[str]) -> str:
    shown = ", ".join(names[:_LONGEST_LIST])
    more = len(names) - _LONGEST_LIST
    return f"{shown} and {more} more" if more > 0 else shown


if __name__ == "__main__":
    PAGE.write_text(page())
