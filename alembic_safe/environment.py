"""`run_migrations()`: what `env.py` calls, for every command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alembic.util import CommandError

from alembic_safe.alembic_private import command_of
from alembic_safe.configuration import RUNNER_OPTION, settings_of
from alembic_safe.errors import ContextMissing

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext

    from alembic_safe.runtime.runner import Runner

CONTRACT_COMMAND_OPTION = "alembic_safe_contract"
"""Where `alembic-safe contract` leaves its request."""


@dataclass
class ContractRequest:
    """What `alembic-safe contract` asks for.

    Args:
        revisions: contract revisions, or the beginnings of their identifiers; none for all.
        handled: whether `env.py` has passed it on to this package.
    """

    revisions: tuple[str, ...]
    handled: bool = False


_PLAIN_COMMANDS = frozenset({"current", "edit", "history", "merge", "show"})
"""They change nothing in the database, so that there is nothing for the runner to do."""
_COMPARING_COMMANDS = frozenset({"revision", "check"})


def run_migrations(context: Any, **arguments: Any) -> None:
    """Run what Alembic was asked for. Call it in `env.py` in place of
    `with context.begin_transaction(): context.run_migrations()`.

    With a dialect other than PostgreSQL it is the same as that.

    Args:
        context: `alembic.context`, after `context.configure()`.
        arguments: passed to each `upgrade()` and `downgrade()`.

    Raises:
        SafetyError: its subclasses say what happened, where, and what to do next.
    """
    # Alembic sets plugins up in the middle of its own import; by now it is complete.
    from alembic_safe.runtime.failures import one_message
    from alembic_safe.runtime.offline import write_script
    from alembic_safe.runtime.runner import Runner

    migration_context = _configured(context)
    command = command_of(migration_context)
    request = migration_context.opts.get(CONTRACT_COMMAND_OPTION)
    if isinstance(request, ContractRequest):
        request.handled = True
    migration_context.opts[RUNNER_OPTION] = True
    settings = settings_of(migration_context)
    if migration_context.dialect.name != "postgresql":
        _run_plainly(context, arguments)
        return
    environment = migration_context.environment_context
    if environment is None:
        raise ContextMissing
    if migration_context.as_sql and command not in _PLAIN_COMMANDS:
        write_script(environment, migration_context, settings, arguments)
        return
    only_looks = command in _PLAIN_COMMANDS or migration_context.opts.get("dont_mutate", False)
    where = f"alembic {command}" if command else "alembic-safe"
    with one_message(where, on_command_line=environment.config.cmd_opts is not None):
        runner = Runner(environment, migration_context, settings, arguments)
        if only_looks:
            _run_plainly(context, arguments)
        elif command in _COMPARING_COMMANDS:
            _compare(context, runner, command, arguments)
        elif isinstance(request, ContractRequest):
            runner.contract_now(request.revisions)
        else:
            runner.migrate()


def _configured(context: Any) -> MigrationContext:
    try:
        configured: MigrationContext = context.get_context()
    except CommandError:
        raise
    except Exception:
        # Alembic raises no class of its own where there is no context yet.
        raise ContextMissing from None
    return configured


def _compare(context: Any, runner: Runner, command: str, arguments: dict[str, Any]) -> None:
    # Only what generates revisions needs the rewriter and, with it, the SQL parser.
    from alembic_safe.rewrite.hook import hide_own_tables, rewrite_revisions

    revision_context = runner.context.opts.get("revision_context")
    if revision_context is not None and revision_context.command_args["autogenerate"]:
        runner.refuse_pending()
        hide_own_tables(runner.context.opts, runner.own_tables)
        if command == "revision":
            rewrite_revisions(runner.context.opts, runner.settings)
    _run_plainly(context, arguments)


def _run_plainly(context: Any, arguments: dict[str, Any]) -> None:
    with context.begin_transaction():
        context.run_migrations(**arguments)
