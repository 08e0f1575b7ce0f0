"""Running lint: revisions and SQL files in, a report out."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from alembic.config import Config
from alembic.script import ScriptDirectory

from alembic_safe.lint.allowing import Allowing, not_judged_lines
from alembic_safe.lint.changed_files import changed_since
from alembic_safe.lint.database import Database, read_database_at, read_own_database
from alembic_safe.lint.judging import Judged, RevisionJudge, judge_file
from alembic_safe.lint.ranges import (
    Revisions,
    in_files,
    in_ranges,
    revisions_of,
    to_downgrade,
    to_upgrade,
)
from alembic_safe.lint.recording import Recording, record
from alembic_safe.lint.report import ALLOW_UNUSED, OWN_CODES, SHARED_TRANSACTION, Located, Report
from alembic_safe.postgres.effects import World
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.rules.catalogue import CODES, RULES
from alembic_safe.rules.custom import load_rules
from alembic_safe.rules.finding import Finding, Severity
from alembic_safe.rules.settings import Ignored, LintSettings, load_lint_settings
from alembic_safe.rules.sources import Extent, Sources
from alembic_safe.rules.weights import Weights
from alembic_safe.settings import project_file

OWN_DATABASE = ""
"""For `Request.database`: the database of the Alembic environment."""


@dataclass(frozen=True)
class Request:
    """What is to be judged, and how.

    Args:
        ranges: of revisions, as `ranges.in_ranges` reads them.
        files: revision files of the environment, and `.sql` files. With neither ranges nor files,
            all revisions after the baseline.
        since: a git reference; only files that changed since then are judged.
        downgrades: whether downgrades are judged too.
        database: a URL, or `OWN_DATABASE`: its catalog and sizes are used, and revisions that it
            has are not judged. None is none.
        postgres: the major version of the server; None is that of the database, or the setting.
        single_transaction: whether `.sql` files are run in one transaction each.
    """

    ranges: Sequence[str] = ()
    files: Sequence[Path] = ()
    since: str | None = None
    downgrades: bool = False
    database: str | None = None
    postgres: int | None = None
    single_transaction: bool = False

    @property
    def sql_files(self) -> list[Path]:
        """Files that are not revisions."""
        return [file for file in self.files if file.suffix == ".sql"]

    @property
    def revision_files(self) -> list[Path]:
        """Files that are revisions."""
        return [file for file in self.files if file.suffix != ".sql"]

    @property
    def has_revisions(self) -> bool:
        """Whether revisions are judged: always, but where only SQL files were named."""
        return bool(self.ranges or self.revision_files) or not self.sql_files

    @property
    def is_one_change(self) -> bool:
        """Whether what is judged is not released yet: it was just written, or is not applied. A
        range may be anything."""
        return bool(self.files or self.since) or self.database is not None

    @property
    def is_whole(self) -> bool:
        """Whether all is judged that ever is."""
        return not (self.ranges or self.files or self.since) and self.database is None


def lint_revisions(
    config: Config, request: Request = Request(), settings: LintSettings | None = None
) -> Report:
    """Judge revision files and SQL files. Nothing is sent to a database but queries of its
    catalog, and these only where one is asked for.

    Args:
        config: Alembic's configuration.
        request: what is to be judged; all revisions after the baseline by default.
        settings: by default those of the `pyproject.toml` beside Alembic's configuration, or in a
            folder above it.

    Raises:
        InvalidRevision, NotARevision, EnvironmentFailed, GitFailed, CannotConnect, OtherDatabase,
            SettingError: as they say.
    """
    if settings is None:
        settings = load_lint_settings(project_file(config.config_file_name))

    sources = Sources()
    found: list[Located] = []
    revisions = files = Judged(request.postgres or settings.postgres)
    if request.has_revisions:
        revisions = _judge_revisions(config, request, settings, sources)
    if request.sql_files:
        files = _judge_files(config, request, settings, sources)
    allowing = Allowing(settings.ignore)
    for located in (*revisions.found, *files.found):
        found.append(allowing.decide(located, sources[located.path]))
    if request.database is None:
        # With a catalog less is found, which says nothing of their use without it.
        has_own_rules = revisions.has_own_rules or files.has_own_rules
        codes = frozenset() if has_own_rules else CODES | OWN_CODES
        for source in sources.read():
            if not source.allowances:
                continue
            skipped = not_judged_lines(source, judges_downgrades=request.downgrades)
            found += allowing.useless(source, codes, skipped)
    if request.is_whole:
        found += [_unused(ignored, config) for ignored in allowing.unused_ignored()]
    shown = {path: _shown(path) for path in {located.path for located in found}}
    return Report(
        found=tuple(replace(located, path=shown[located.path]) for located in found),
        revisions=revisions.subjects,
        files=files.subjects,
        statements=revisions.statements + files.statements,
        postgres=(revisions if request.has_revisions else files).postgres,
    )


def _judge_revisions(
    config: Config, request: Request, settings: LintSettings, sources: Sources
) -> Judged:
    history = ScriptDirectory.from_config(config)
    revisions = revisions_of(history)
    named = _named(revisions, request, settings)
    upgrades = to_upgrade(revisions, named)
    downgrades = to_downgrade(revisions, upgrades, named) if request.downgrades else []
    recordings = record(config, history, upgrades, downgrades) if upgrades else []
    database = None
    if request.database is not None and recordings:
        database = _database(config, request.database, history, recordings[0].version_table)
        named -= database.applied
    judged = Judged(_version(request, settings, database), subjects=len(named))
    for recording in recordings:
        rules = load_rules(recording.rules)
        judged.has_own_rules |= len(rules) > len(RULES)
        judge = RevisionJudge(
            named=named,
            applied=database.applied if database is not None else frozenset(),
            judges_downgrades=request.downgrades,
            is_one_change=request.is_one_change,
            sources=sources,
            rules=rules,
            weights=Weights(settings, knows_sizes=database is not None),
        )
        if database is not None:
            judged.add(judge.judge(recording, database.world))
        else:
            judged.add(_from_history(judge, recording, judged.postgres))
        judged.found += _shared_transaction(recording, named, Path(history.dir))
    return judged


def _from_history(judge: RevisionJudge, recording: Recording, version: int) -> Judged:
    """Judge with the schema that the history makes.

    A history that names what it never made began with a database that was there before it: then
    only what it made is known.
    """
    judged = judge.judge(recording, World(version, complete=True))
    return judge.judge(recording, World(version)) if judged.misses else judged


def _judge_files(
    config: Config, request: Request, settings: LintSettings, sources: Sources
) -> Judged:
    files = request.sql_files
    if request.since is not None:
        changed = changed_since(request.since, Path.cwd())
        files = [file for file in files if file.resolve() in changed]
    database = None
    if request.database is not None:
        history = ScriptDirectory.from_config(config) if request.database == OWN_DATABASE else None
        database = _database(config, request.database, history, None)
    rules = load_rules()
    judged = Judged(
        _version(request, settings, database),
        subjects=len(files),
        has_own_rules=len(rules) > len(RULES),
    )
    for file in files:
        judged.add(
            judge_file(
                sources.sql(file),
                database.world if database is not None else World(judged.postgres),
                rules,
                Weights(settings, knows_sizes=database is not None),
                single_transaction=request.single_transaction,
            )
        )
    return judged


def _named(revisions: Revisions, request: Request, settings: LintSettings) -> set[str]:
    """Return the revisions to judge, of both lines."""
    named = set()
    if request.ranges or not request.revision_files:
        named |= in_ranges(revisions, request.ranges, settings.start_after)
    if request.revision_files:
        named |= in_files(revisions, request.revision_files)
    if request.since is not None:
        changed = changed_since(request.since, Path(revisions.history.dir))
        named &= {name for path, name in revisions.paths.items() if path in changed}
    return named


def _database(
    config: Config,
    url: str,
    history: ScriptDirectory | None,
    version_table: QualifiedName | None,
) -> Database:
    if url == OWN_DATABASE and history is not None:
        return read_own_database(config, history)
    return read_database_at(url, history, version_table)


def _version(request: Request, settings: LintSettings, database: Database | None) -> int:
    """Return the server's major version, and tell the database's world."""
    if request.postgres is None:
        return database.world.version if database is not None else settings.postgres
    if database is not None:
        database.world.version = request.postgres
    return request.postgres


def _shared_transaction(
    recording: Recording, named: Collection[str], folder: Path
) -> Iterator[Located]:
    count = sum(step.is_upgrade and step.revision in named for step in recording.steps)
    if count > 1 and not recording.transaction_per_migration:
        finding = Finding(
            SHARED_TRANSACTION,
            Severity.WARNING,
            "all revisions of an upgrade run in one transaction, so that each keeps its locks "
            "until the last one has ended",
            advice="call alembic_safe.run_migrations(context) in env.py, or give "
            "transaction_per_migration=True to context.configure()",
        )
        yield Located(finding, folder / "env.py", Extent(0, 0), 0)


def _unused(ignored: Ignored, config: Config) -> Located:
    path = project_file(config.config_file_name) or Path("pyproject.toml")
    message = f"the settings ignore {ignored.code} ({ignored.reason}), and there is no such finding"
    return Located(Finding(ALLOW_UNUSED, Severity.WARNING, message), path, Extent(0, 0), 0)


def _shown(path: Path) -> Path:
    """Return a path relative to the current folder, where it is below it."""
    absolute = path.absolute()
    here = Path.cwd()
    return absolute.relative_to(here) if absolute.is_relative_to(here) else absolute
