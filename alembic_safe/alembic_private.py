"""The names of Alembic that are not public and that this package cannot do without.

`tests/test_alembic_private.py` fails when one of them changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext
    from alembic.operations import ops
    from alembic.runtime.migration import MigrationContext


def command_of(context: MigrationContext) -> str:
    """Return the name of the `alembic.command` function that is running, or "".

    Alembic hands the environment a function and does not say for which command. The function is
    defined inside of the command's, which its qualified name tells.
    """
    function = context.opts.get("fn")
    if getattr(function, "__module__", None) != "alembic.command":
        return ""
    return str(getattr(function, "__qualname__", "")).partition(".")[0]


def in_external_transaction(context: MigrationContext) -> bool:
    """Return whether the connection was in a transaction when the context was configured.

    Alembic then begins no transaction and commits none, and says nothing.
    """
    return context._in_external_transaction


def rendered_body(
    operations: ops.UpgradeOps | ops.DowngradeOps, autogen_context: AutogenContext
) -> str:
    """Return the body of an `upgrade()` or `downgrade()`, indented as a template takes it.

    The public `render_python_code` makes a context of its own: with a migration context it fails
    for want of metadata, and without one the user's `render_item` does not see the dialect.
    """
    from alembic.autogenerate import render

    return render._indent(render._render_cmd_body(operations, autogen_context))
