"""Names of any kind in what `revision --autogenerate` writes: of tables, of schemas, of files."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from conftest import Database
from environments import replace_in_env
from in_process import Environment
from project import Project
from revision_files import docs, our_calls, unformatted

NOW = ("-x", "contract=now")

ODD = """\
import sqlalchemy as sa
import alembic_safe

metadata = sa.MetaData()
sa.Table(
    'Größe "of" the: 100%', metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column({name}),
    sa.Column("Add\\\\ress", {address}),
    sa.Index({index}),
    sa.UniqueConstraint({unique}),
    schema="Sche ma",
)
sa.Table("order", metadata, sa.Column("user", sa.Integer, primary_key=True), {key})
"""
LONG = "x" * 60


def test_names_of_any_kind_go_there_and_back(
    alembic_project: Project, database: Database, tmp_path: Path
) -> None:
    database.execute('CREATE SCHEMA "Sche ma"')
    replace_in_env(
        alembic_project,
        "target_metadata=target_metadata,",
        "target_metadata=target_metadata, include_schemas=True,",
    )
    old = {
        "name": '"it\'s Name", sa.Text, nullable=False, server_default="a\'b :c 10%"',
        "address": "sa.Text",
        "index": f"'ix {LONG}', \"it's Name\"",
        "unique": "\"it's Name\", 'id', name='uq \"1\"'",
        "key": "",
    }
    new = {
        "name": f"'{LONG}', sa.Text, nullable=False, server_default=\"a'b :c 10%\", "
        'info=alembic_safe.renamed_from("it\'s Name")',
        "address": "sa.Text, nullable=False, default='50% :off'",
        "index": f"'ix {LONG}', '{LONG}'",
        "unique": f"'{LONG}', 'id', name='uq \"1\"'",
        "key": "sa.Column('a:b', sa.Text, nullable=False, "
        "info=alembic_safe.filled_with(\"' :x 100%'\"))",
    }
    alembic_project.models(ODD.format(**old))
    alembic_project.run("revision", "--autogenerate", "-m", "one")
    alembic_project.run("upgrade", "head")
    table = '"Sche ma"."Größe ""of"" the: 100%"'
    database.execute(f"INSERT INTO {table} VALUES (1, 'x', NULL), (2, 'y', 'z')")
    database.execute('INSERT INTO "order" VALUES (1)')
    alembic_project.models(ODD.format(**new))
    alembic_project.run("revision", "--autogenerate", "-m", "two")
    assert unformatted(our_calls(alembic_project), tmp_path) == ""

    alembic_project.run(*NOW, "upgrade", "head")
    alembic_project.run("check")
    assert database.execute(f'SELECT id, "{LONG}", "Add\\ress" FROM {table} ORDER BY id') == [
        (1, "x", "50% :off"),
        (2, "y", "z"),
    ]
    assert database.execute('SELECT * FROM "order"') == [(1, " :x 100%")]
    alembic_project.run("downgrade", "-2")
    assert database.execute(f'SELECT id, "it\'s Name" FROM {table} ORDER BY id') == [
        (1, "x"),
        (2, "y"),
    ]
    database.execute(f"INSERT INTO {table} (id) VALUES (3)")
    assert database.execute(f'SELECT "it\'s Name" FROM {table} WHERE id = 3') == [("a'b :c 10%",)]


def test_tables_of_two_schemas_are_kept_apart(alembic_project: Project, database: Database) -> None:
    models = """\
import sqlalchemy as sa
import alembic_safe

metadata = sa.MetaData()
for schema, kind in (("a", {a}), ("b", {b})):
    sa.Table(
        "users", metadata, sa.Column("id", sa.Integer, primary_key=True), kind, schema=schema
    )
"""
    database.execute("CREATE SCHEMA a; CREATE SCHEMA b")
    replace_in_env(
        alembic_project,
        "target_metadata=target_metadata,",
        "target_metadata=target_metadata, include_schemas=True,",
    )
    same = 'sa.Column("name", sa.Text, index=True)'
    alembic_project.models(models.format(a=same, b=same))
    alembic_project.run("revision", "--autogenerate", "-m", "one")
    alembic_project.run("upgrade", "head")
    changed = 'sa.Column("title", sa.Text, index=True, info=alembic_safe.renamed_from("name"))'
    alembic_project.models(
        models.format(a=changed, b='sa.Column("name", sa.Text, index=True, nullable=False)')
    )
    alembic_project.run("revision", "--autogenerate", "-m", "two")
    titles = sorted(doc.splitlines()[0] for doc in docs(alembic_project.contracts()))
    assert titles == ["contract a.users: two", "contract b.users: two"]
    alembic_project.run(*NOW, "upgrade", "head")
    assert "No new upgrade operations" in alembic_project.run("check").stdout


@pytest.mark.parametrize(
    "message",
    ['say "hello"', 'three """ of them', "back\\slash \\N{x}", "ends in \\", 'ends in "', "100%"],
)
def test_a_message_of_any_kind_is_the_docstring(
    message: str, database: Database, tmp_path: Path
) -> None:
    database.execute("CREATE TABLE users (id int PRIMARY KEY, name text)")
    env = Environment(tmp_path, database.url(), tables("users"))
    env.autogenerate(message)
    for doc in docs(env.files()):
        assert doc.partition(": ")[2].startswith(message.replace('"""', "'''"))
    env.upgrade("head", "contract=now")
    env.check()


def test_file_names_differ_without_the_identifier(database: Database, tmp_path: Path) -> None:
    names = [f"the_orders_of_the_customers_of_the_shop_in_{place}" for place in ("town", "city")]
    for name in names:
        database.execute(f"CREATE TABLE {name} (id int PRIMARY KEY, name text)")
    env = Environment(tmp_path, database.url(), tables(*names))
    env.main_options["file_template"] = "%%(slug)s"
    env.autogenerate("many")
    assert sorted(path.name for path in env.files()) == [
        "contract_2_the_orders_of_the_customers_.py",
        "contract_the_orders_of_the_customers_of_.py",
        "expand_many_nothing_to_do_the_contract_.py",
    ]
    env.upgrade("head", "contract=now")
    env.check()


def tables(*names: str) -> sa.MetaData:
    metadata = sa.MetaData()
    for name in names:
        sa.Table(
            name,
            metadata,
            sa.Column("id", sa.Integer, primary_key=True),
            sa.Column("name", sa.Text, nullable=False),
        )
    return metadata
