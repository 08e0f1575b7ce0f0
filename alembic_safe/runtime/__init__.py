"""`alembic upgrade` and its kin: which revisions run, and how they take their locks."""
