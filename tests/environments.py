"""Other ways in which users write `env.py`."""

from __future__ import annotations

from project import ENV, Project

_ONLINE = "def run_migrations_online():"

_ASYNC_ONLINE = """\
def do_run_migrations(connection):
    context.configure(
        connection=connection,
        target_metadata=target_metadata,
        **alembic_safe.configure(),
    )
    alembic_safe.run_migrations(context)


async def run_async_migrations():
    engine = async_engine_from_config(
        config.get_section(config.config_ini_section, {}),
        prefix="sqlalchemy.",
        poolclass=pool.NullPool,
    )
    async with engine.connect() as connection:
        await connection.run_sync(do_run_migrations)
    await engine.dispose()


def run_migrations_online():
    asyncio.run(run_async_migrations())


if context.is_offline_mode():
"""

ASYNC_ENV = (
    "import asyncio\n"
    + ENV[: ENV.index(_ONLINE)]
    + _ASYNC_ONLINE
    + ENV.partition("if context.is_offline_mode():\n")[2]
).replace(
    "import alembic_safe\n",
    "from sqlalchemy.ext.asyncio import async_engine_from_config\n\nimport alembic_safe\n",
    1,
)
"""As Alembic's template `async` has it."""


def replace_in_env(project: Project, old: str, new: str) -> None:
    """Change the text of the project's `env.py`; `old` has to be there."""
    path = project.migrations / "env.py"
    source = path.read_text()
    if old not in source:
        raise AssertionError(f"env.py has no {old!r}")
    path.write_text(source.replace(old, new))


def use_driver(project: Project, url: str) -> None:
    """Connect through another driver, with the `env.py` that it needs."""
    project.connect_to(url)
    if "+asyncpg" in url:
        (project.migrations / "env.py").write_text(ASYNC_ENV)
