"""Every exception that the package raises.

Each says what happened, to which object, and what to do next. All of them are Alembic
`CommandError`s, so Alembic's command line prints them as one message and exits with a status
that is not 0.
"""

from __future__ import annotations

from collections.abc import Sequence

from alembic.util import CommandError


class SafetyError(CommandError):
    """Base of all errors of this package."""


class SettingError(SafetyError):
    """A setting is unknown or has a value that is not allowed."""

    def __init__(self, key: str, source: str, allowed: str) -> None:
        super().__init__(f"Setting {key!r} from {source}: {allowed}.")
        self.key = key
        self.source = source


class CannotConnect(SafetyError):
    """The database could not be reached."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(
            f"Cannot connect to {url}: {reason} "
            "Check that the server runs and that the URL of your Alembic environment names it, "
            "then run the same command again. Nothing was changed."
        )


class UnsupportedServer(SafetyError):
    """The server cannot be migrated by this package."""


class SessionShared(SafetyError):
    """The connection does not keep a session of the server: a proxy shares it among clients."""

    def __init__(self, proof: str) -> None:
        super().__init__(
            "The connection goes through a proxy that shares the server's sessions among clients: "
            f"{proof}. A run has its upgrade lock and its timeouts in a session; here it would "
            "lose them, and others would get them. Point the URL of your Alembic environment to "
            "the server itself, or to a pool that keeps sessions (PgBouncer: pool_mode = session),"
            " then run the same command again. Nothing was changed."
        )


class MissingPrivilege(SafetyError):
    """The database role may not do what a statement needs."""

    def __init__(self, where: str, server_message: str) -> None:
        super().__init__(
            f"{where}: the database role lacks a right: {server_message}. Run the migration as "
            "the owner of the tables, or grant the right, then run the same command again."
        )


class ExternalTransaction(SafetyError):
    """`context.configure()` was given a connection with an open transaction."""

    def __init__(self) -> None:
        super().__init__(
            "The connection was already in a transaction when context.configure() was called; "
            "revisions would not commit one by one. In env.py use `engine.connect()` in place of "
            "`engine.begin()`, and call `connection.commit()` after statements that you run "
            "before context.configure()."
        )


class InvalidRevision(SafetyError):
    """A revision file cannot be used as it is."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(
            f"Revision file {path}: {reason}. Correct the file, then run the same command again. "
            "Nothing was applied."
        )


class LockNotAcquired(SafetyError):
    """A lock could not be had within the deadline."""

    def __init__(
        self, *, table: str, revision: str, waited: float, blockers: Sequence[str], state: str
    ) -> None:
        who = "; ".join(blockers) or "none of the sessions that are there now"
        super().__init__(
            f"Revision {revision}: no lock on {table} within {waited:.1f} s (setting "
            f"lock_deadline). In the way: {who}. {state} End or wait for these transactions, "
            "then run the same command again."
        )
        self.table = table
        self.revision = revision


class UpgradeRunning(SafetyError):
    """Another session is migrating this database."""


class HalfApplied(SafetyError):
    """A revision committed a part of its work and then failed."""

    def __init__(self, revision: str, path: str, reason: str) -> None:
        super().__init__(
            f"Revision {revision} committed a part of its work and then failed: {reason}. It is "
            f"not run again by itself, because {path} was not written to be run twice. Undo or "
            "complete its first part by hand, then run the same command again."
        )


class Interrupted(SafetyError):
    """Ctrl-C."""

    def __init__(self, where: str) -> None:
        super().__init__(
            f"Interrupted in {where}. What was committed stays; run the same command again to "
            "continue."
        )


class VerificationFailed(SafetyError):
    """Data or catalog are not in the state that the next step needs."""


class ObjectDiffers(SafetyError):
    """An object of the wanted name exists and is not the wanted one."""

    def __init__(self, object_name: str, table: str) -> None:
        super().__init__(
            f"{object_name} on {table} exists already with another definition. Drop or rename it, "
            "then run the same command again."
        )


class StatementFailed(SafetyError):
    """The server refused a statement because of the data or the schema."""


class UnsafeStatement(SafetyError):
    """The guard stopped a statement before it was sent.

    Args:
        revision: the revision that it stands in.
        statement: its text, shortened.
        codes: of the rules that found something.
        problems: what they found, each as a sentence without a full stop.
        fix: the safe sequence, several lines; empty where there is none.
        state: a sentence about what is committed and what is not.
    """

    def __init__(
        self,
        *,
        revision: str,
        statement: str,
        codes: Sequence[str],
        problems: Sequence[str],
        fix: str,
        state: str,
    ) -> None:
        found = "; ".join(
            f"{problem} [{code}]" for code, problem in zip(codes, problems, strict=True)
        )
        safe = f"\nSafe instead:\n{fix}\n" if fix else " "
        comment = f"# alembic-safe: allow {', '.join(dict.fromkeys(codes))} -- why"
        super().__init__(
            f"Revision {revision} was stopped at this statement: {statement}. It is not safe: "
            f"{found}.{safe}Write the safe sequence, or, if you know that it is safe here, put the "
            f'statement into `with alembic_safe.assured("why"):`, or write `{comment}` above it, '
            f"or let everything through with the setting guard (-x guard=warn). {state}"
        )
        self.revision = revision
        self.statement = statement
        self.codes = tuple(codes)


class GuardUnavailable(SafetyError):
    """The guard is on and cannot work."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"The guard cannot read SQL: {reason}. Install alembic-safe with all that it needs, "
            "or turn the guard off with the setting guard (-x guard=off). Nothing was changed."
        )


class ReasonMissing(SafetyError):
    """`alembic_safe.assured()` was given no reason."""

    def __init__(self) -> None:
        super().__init__(
            "alembic_safe.assured() needs a reason, a text for the people who read it later: "
            'with alembic_safe.assured("30 rows, and nobody reads them"):'
        )


class ContractPending(SafetyError):
    """Contract revisions are held, and the command needs them applied."""


class ContractNeeded(SafetyError):
    """A revision of the history needs a contract revision that is not applied and not due."""


class CannotRewrite(SafetyError):
    """A change has no safe sequence, or not one that this release of the package knows."""


class RenameError(SafetyError):
    """A rename hint does not fit the models and the database."""


class ValueNeeded(SafetyError):
    """A column becomes NOT NULL and no value is known for the rows that lack one."""


class ConnectionLost(SafetyError):
    """The connection ended while a command was running."""

    def __init__(self, where: str, server_message: str) -> None:
        super().__init__(
            f"{where}: the connection to the server was lost: {server_message}. What was not "
            "committed is undone. Run the same command again to continue."
        )


class RunnerMissing(SafetyError):
    """`env.py` does not call `alembic_safe.run_migrations`."""

    def __init__(self) -> None:
        super().__init__(
            "env.py calls alembic_safe.configure() and not alembic_safe.run_migrations(). Call "
            "`alembic_safe.run_migrations(context)` in place of `with context.begin_transaction():"
            " context.run_migrations()`, then run the same command again. Nothing was changed."
        )


class ContextMissing(SafetyError):
    """`env.py` does not call `context.configure`."""

    def __init__(self) -> None:
        super().__init__(
            "env.py calls alembic_safe.run_migrations() before context.configure(). Call "
            "`context.configure(connection=connection, **alembic_safe.configure())` first, then "
            "run the same command again. Nothing was changed."
        )


class RevisionFailed(SafetyError):
    """The Python code of a revision file raised an error."""

    def __init__(self, where: str, place: str, reason: str, state: str) -> None:
        super().__init__(
            f"{where} failed at {place}: {reason}. {state} Correct the file, then run the same "
            "command again. `alembic --raiseerr` shows the whole Python traceback."
        )


class UnknownContract(SafetyError):
    """No contract revision, or more than one, goes by the name that was given."""

    def __init__(self, name: str, known: str) -> None:
        super().__init__(
            f"{name!r} does not name one contract revision. There are: {known}. Give the "
            "identifier, or enough of its beginning. Nothing was applied."
        )


class EnvironmentFailed(SafetyError):
    """`env.py` raised an error in offline mode."""

    def __init__(self, folder: str, reason: str) -> None:
        super().__init__(
            f"env.py in {folder} failed: {reason}. Lint runs it in offline mode, as `alembic "
            "upgrade head --sql` does; see that this command works, then run the same command "
            "again."
        )


class OtherDatabase(SafetyError):
    """The environment's database is not PostgreSQL."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"env.py configures a database of the kind {name!r}. Only statements for PostgreSQL "
            "can be judged; give its dialect or its URL to context.configure()."
        )


class NotARevision(SafetyError):
    """What was to be judged is not a revision."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(
            f"{name!r}: {reason}. Give a revision, a range such as 1a2b:head, a revision file of "
            "this environment, or a .sql file. `alembic history` lists the revisions."
        )


class GitFailed(SafetyError):
    """What changed since a git reference cannot be found out."""

    def __init__(self, reference: str, reason: str) -> None:
        super().__init__(
            f"--since {reference}: {reason.rstrip('.')}. Run in a git working tree that has this "
            "reference; in CI fetch it first, with its history."
        )


class InvalidRule(SafetyError):
    """A rule of the user cannot be loaded, or failed while it judged."""

    def __init__(self, rule: str, reason: str, statement: str | None = None) -> None:
        judged = f" The statement it judged: {statement}." if statement else ""
        super().__init__(
            f"The rule {rule}: {reason}.{judged} A rule is a function of the effects of a "
            "statement and its surroundings that returns findings; correct it, or take it out of "
            "configure(rules=...) or the package that has it."
        )


class InvalidRetryHook(SafetyError):
    """The function of the setting `retry` cannot be loaded, failed, or gave no two durations."""

    def __init__(self, hook: str, reason: str, statement: str | None = None) -> None:
        asked = f" It was asked about: {statement}." if statement else ""
        super().__init__(
            f"The function {hook} of the setting retry: {reason}.{asked} It takes the number of an "
            "attempt and a statement, and returns two numbers of seconds: the lock_timeout of the "
            "attempt, at least 0.001, and the pause after it. Correct it, then run the same "
            "command again."
        )


class CannotTest(SafetyError):
    """The tests of `alembic_safe.testing` lack something that they work with."""
