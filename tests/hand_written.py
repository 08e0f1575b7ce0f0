"""Revision files as a person writes them, to the letter, for tests of what runs them."""

from __future__ import annotations

import textwrap
from pathlib import Path

from project import Project

_REVISION = '''\
"""{doc}"""
from alembic import op
import sqlalchemy as sa

{marks}
revision = {revision!r}
down_revision = {after!r}
branch_labels = None
depends_on = {depends_on!r}


def upgrade():
{upgrade}


def downgrade():
{downgrade}
'''


def write_history(
    project: Project,
    revision: str,
    after: str | tuple[str, ...] | None = None,
    *,
    upgrade: str = "pass",
    downgrade: str = "pass",
    marks: str = "",
) -> Path:
    """Write a revision of the history.

    Args:
        project: where.
        revision: its identifier; the file is named after it.
        after: the revision before it.
        upgrade: the body of `upgrade()`.
        downgrade: the body of `downgrade()`.
        marks: lines of the module, such as `phase = "expand"`.
    """
    path = project.migrations / "versions" / f"{revision}.py"
    path.write_text(_source(revision, after, None, upgrade, downgrade, marks))
    return path


def write_contract(
    project: Project,
    revision: str,
    completes: str,
    depends_on: str | tuple[str, ...] | None = None,
    *,
    upgrade: str = "pass",
    downgrade: str = "pass",
) -> Path:
    """Write a contract revision, with a base of its own as all of them have.

    Args:
        project: where.
        revision: its identifier; the file is named after it.
        completes: the revision of the history that it completes.
        depends_on: the contract revisions that it builds on.
        upgrade: the body of `upgrade()`.
        downgrade: the body of `downgrade()`.
    """
    marks = f'phase = "contract"\ntransactional = False\ncompletes = "{completes}"'
    folder = project.migrations / "contracts"
    folder.mkdir(exist_ok=True)
    path = folder / f"{revision}.py"
    path.write_text(_source(revision, None, depends_on, upgrade, downgrade, marks))
    return path


def _source(
    revision: str,
    after: str | tuple[str, ...] | None,
    depends_on: str | tuple[str, ...] | None,
    upgrade: str,
    downgrade: str,
    marks: str,
) -> str:
    return _REVISION.format(
        doc=f"what {revision} does",
        marks=marks,
        revision=revision,
        after=after,
        depends_on=depends_on,
        upgrade=_body(upgrade),
        downgrade=_body(downgrade),
    )


def _body(source: str) -> str:
    return textwrap.indent(textwrap.dedent(source).strip("\n"), "    ")
