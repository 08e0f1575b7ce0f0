"""Facts about PostgreSQL. Nothing here knows Alembic."""
