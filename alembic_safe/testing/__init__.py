"""Tests to import into a module of your own tests.

    from alembic_safe.testing import (
        test_models_equal_head,
        test_revisions_are_safe,
        test_sequences_pass_the_two_release_check,
        test_upgrade_and_downgrade_round_trip,
    )

They need no configuration where `alembic.ini` or `pyproject.toml` lies in pytest's root folder and
`env.py` takes its database from `sqlalchemy.url`. Fixtures of these names, in the module or in a
`conftest.py`, change what they work with: `alembic_safe_config`, `alembic_safe_server`,
`alembic_safe_use`, `alembic_safe_start_after`, `alembic_safe_values` (docs/testing.md).

This is the only module of the package that needs pytest.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from alembic.util import CommandError

from alembic_safe.lint.formats.text import text as report_text
from alembic_safe.lint.run import lint_revisions
from alembic_safe.rules.settings import load_lint_settings
from alembic_safe.settings import project_file
from alembic_safe.testing.models import check_models
from alembic_safe.testing.round_trip import check_round_trip
from alembic_safe.testing.subject import Subject
from alembic_safe.testing.two_release_check import check_sequences

__all__ = [
    "test_models_equal_head",
    "test_revisions_are_safe",
    "test_sequences_pass_the_two_release_check",
    "test_upgrade_and_downgrade_round_trip",
]


def test_revisions_are_safe(request: pytest.FixtureRequest) -> None:
    """Every revision after the baseline passes `alembic-safe lint`. No server is needed."""
    with _told_without_traceback():
        subject = Subject(request)
        config = subject.config()
        settings = load_lint_settings(project_file(config.config_file_name))
        with subject.in_its_folder():
            report = lint_revisions(
                config, settings=replace(settings, start_after=subject.start_after())
            )
        if not report.is_clean():
            pytest.fail(f"not every revision is safe:\n\n{report_text(report)}", pytrace=False)


def test_upgrade_and_downgrade_round_trip(request: pytest.FixtureRequest) -> None:
    """Up to head, down to the baseline and up again: the schema is what it was, both times."""
    with _told_without_traceback():
        subject = Subject(request)
        check_round_trip(subject.new_database, subject.start_after())


def test_models_equal_head(request: pytest.FixtureRequest) -> None:
    """`alembic check` finds nothing at head, once contract revisions are applied too."""
    with _told_without_traceback():
        check_models(Subject(request).new_database())


def test_sequences_pass_the_two_release_check(request: pytest.FixtureRequest) -> None:
    """While a generated sequence runs, clients of the release before it and of the one after it
    work in its tables: no query fails, and each reads what the other wrote."""
    with _told_without_traceback():
        subject = Subject(request)
        if not check_sequences(subject.new_database, subject.start_after(), subject.values()):
            pytest.skip("no revision after the baseline was generated as a part of a sequence")


@contextmanager
def _told_without_traceback() -> Iterator[None]:
    # Messages of these errors say it all; what is no fault of a revision keeps its traceback.
    try:
        yield
    except (AssertionError, CommandError) as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None
