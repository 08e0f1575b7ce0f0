"""The shop's Alembic environment: Alembic's own template, and two lines for alembic_safe."""

from __future__ import annotations

import importlib
import os
from logging.config import fileConfig

from alembic import context
from sqlalchemy import engine_from_config, pool

import alembic_safe

config = context.config
if config.config_file_name is not None:
    fileConfig(config.config_file_name)

# A percent sign would begin an interpolation in an ini file.
config.set_main_option("sqlalchemy.url", os.environ["SHOP_DATABASE_URL"].replace("%", "%%"))

# An application has one set of models. The shop has that of each release, to play a deploy.
models = importlib.import_module(os.environ.get("SHOP_MODELS", "models_v2"))
target_metadata = models.Base.metadata


def run_migrations_offline() -> None:
    """Write the SQL of the migrations (`--sql`)."""
    context.configure(
        url=config.get_main_option("sqlalchemy.url"),
        target_metadata=target_metadata,
        literal_binds=True,
        dialect_opts={"paramstyle": "named"},
        **alembic_safe.configure(),
    )
    alembic_safe.run_migrations(context)


def run_migrations_online() -> None:
    """Run the migrations on the database."""
    connectable = engine_from_config(
        config.get_section(config.config_ini_section, {}),
        prefix="sqlalchemy.",
        poolclass=pool.NullPool,
    )
    with connectable.connect() as connection:
        context.configure(
            connection=connection,
            target_metadata=target_metadata,
            **alembic_safe.configure(),
        )
        alembic_safe.run_migrations(context)


if context.is_offline_mode():
    run_migrations_offline()
else:
    run_migrations_online()
