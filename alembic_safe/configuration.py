"""`configure()`: the settings on their way into Alembic's migration context."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from alembic_safe.alembic_private import command_function
from alembic_safe.errors import RunnerMissing
from alembic_safe.settings import Settings, load_settings, project_file

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext

SETTINGS_OPTION = "alembic_safe"

RUNNER_OPTION = "alembic_safe_runner"
"""Set in the options of a migration context that `alembic_safe.run_migrations` has seen."""


def configure(**settings: Any) -> dict[str, Any]:
    """Return keywords for `context.configure()`.

        context.configure(
            connection=connection,
            target_metadata=target_metadata,
            **alembic_safe.configure(lock_timeout="300ms"),
        )

    Hooks such as `process_revision_directives` and `on_version_apply` stay where they are, as
    arguments of `context.configure()`; they may be given here as well and are passed on.

    Args:
        settings: the fields of `alembic_safe.settings.Settings`; durations are seconds, or texts
            such as `500ms`, `2s`, `5min`. `[tool.alembic_safe]` in `pyproject.toml` is read
            before them; `ALEMBIC_SAFE_*` and `-x` win over them.

    Raises:
        SettingError: an unknown key or a value that is not allowed; it names key and source.
    """
    passed_on = {name: settings.pop(name) for name in _PASSED_ON if name in settings}
    function = command_function()
    if function is not None:
        passed_on["fn"] = _by_the_runner(function)
    return {
        **passed_on,
        SETTINGS_OPTION: _load(settings),
        "transaction_per_migration": True,
    }


_PASSED_ON = ("process_revision_directives", "on_version_apply", "include_name", "include_object")


def _by_the_runner(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function of a command, which refuses to run without the runner.

    Alembic's own would apply revisions without lock timeouts, and never a contract revision.
    """

    @functools.wraps(function)
    def steps(heads: Any, context: MigrationContext) -> Any:
        if context.dialect.name == "postgresql" and RUNNER_OPTION not in context.opts:
            raise RunnerMissing
        return function(heads, context)

    return steps


def settings_of(context: MigrationContext) -> Settings:
    """Return the settings that `configure()` left, or those in force without it."""
    settings = context.opts.get(SETTINGS_OPTION)
    return settings if isinstance(settings, Settings) else _load({})


def _load(keywords: dict[str, Any]) -> Settings:
    from alembic import context

    try:
        config = context.config
        x_arguments = context.get_x_argument(as_dictionary=True)
    except (NameError, AttributeError):
        # Outside of an Alembic environment there is no command line to ask.
        return load_settings(keywords=keywords, x_arguments={}, project_file=project_file(None))
    return load_settings(
        keywords=keywords,
        x_arguments={key: str(value) for key, value in x_arguments.items()},
        project_file=project_file(config.config_file_name),
    )
