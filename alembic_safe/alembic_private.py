"""The names of Alembic that are not public and that this package cannot do without.

`tests/test_alembic_private.py` fails when one of them changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext
    from alembic.operations import ops
    from alembic.runtime.environment import EnvironmentContext
    from alembic.runtime.migration import MigrationContext
    from alembic.script import Script


def command_function() -> Callable[..., Any] | None:
    """Return the function through which the running command does its work; None where no
    environment runs.

    `context.configure(fn=...)` replaces it, and there is no public way to ask for it before.
    """
    from alembic import context

    environment = getattr(context, "_proxy", None)
    return environment.context_opts.get("fn") if environment is not None else None


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


def after_scripts(context: MigrationContext, write: Callable[[], None]) -> None:
    """Have `write` called once Alembic has written the revision files of this command, if it
    has: it may refuse a `--head`, `--rev-id` or `--depends-on`, or what a second database needs.

    Where no command is behind the context, it is called at once.
    """
    revision_context = context.opts.get("revision_context")
    if revision_context is None:
        write()
        return
    generate = revision_context.generate_scripts

    def generate_and_write() -> Iterator[Script | None]:
        yield from generate()
        write()

    revision_context.generate_scripts = generate_and_write


def rendered_body(
    operations: ops.UpgradeOps | ops.DowngradeOps, autogen_context: AutogenContext
) -> str:
    """Return the body of an `upgrade()` or `downgrade()`, indented as a template takes it.

    The public `render_python_code` makes a context of its own: with a migration context it fails
    for want of metadata, and without one the user's `render_item` does not see the dialect.
    """
    from alembic.autogenerate import render

    return render._indent(render._render_cmd_body(operations, autogen_context))


def configure_through(environment: EnvironmentContext, configure: Callable[..., None]) -> None:
    """Have `context.configure()` of `env.py` call a function of ours.

    Alembic passes the functions of `alembic.context` on for its own class only, so that a subclass
    with another `configure` is not asked.
    """
    environment.configure = configure  # type: ignore[method-assign]


def set_connection(context: MigrationContext, connection: Any) -> None:
    """Give a context in offline mode something to which revisions can send statements."""
    context.connection = context.impl.connection = connection


def write_no_versions(context: MigrationContext) -> None:
    """Leave the statements about the version table out of what offline mode writes.

    Alembic compiles one for each step, which takes a tenth of the time of a script.
    """
    execute = context.impl._exec

    def execute_others(construct: Any, *arguments: Any, **options: Any) -> Any:
        if getattr(construct, "table", None) is context._version:
            return None
        return execute(construct, *arguments, **options)

    context.impl._exec = execute_others  # type: ignore[method-assign]
