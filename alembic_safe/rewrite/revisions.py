"""A sequence of revisions as files: directives for the history, files for the contract line."""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alembic import util
from alembic.autogenerate.api import AutogenContext
from alembic.operations import ops
from alembic.script import ScriptDirectory

from alembic_safe.alembic_private import after_scripts, rendered_body
from alembic_safe.errors import CannotRewrite
from alembic_safe.lines import (
    Line,
    LineName,
    Revision,
    contract_revisions,
    contract_scripts,
    contract_table,
    contracts_path,
)
from alembic_safe.phases import Marks, Phase
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.python_source import LINE_LENGTH
from alembic_safe.rewrite.comments import body
from alembic_safe.rewrite.plan import RevisionDraft, RevisionSequence

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext

_NOTES = {
    Phase.EXPAND: "Phase: expand. The release that is running keeps working.",
    Phase.MIGRATE: (
        "Phase: migrate. The tables are read and written meanwhile. Each operation commits by "
        "itself; after a crash the same command continues."
    ),
    Phase.CONTRACT: (
        "Phase: contract; it completes {completes}. `alembic upgrade` holds it back until the "
        "release that needs the old schema is gone. Each operation commits by itself; after a "
        "crash the same command continues."
    ),
}


def write_sequence(
    context: MigrationContext, script: ops.MigrationScript, sequence: RevisionSequence
) -> list[ops.MigrationScript]:
    """Return the directives for the history, and have the contract revisions' files written
    after theirs.

    Everything is rendered before the first file is written, so that an operation that cannot be
    rendered leaves nothing behind.

    Args:
        context: the migration context of the command.
        script: the directive that autogenerate made: its identifier, head and message.
        sequence: what to write.
    """
    history = context.script
    if history is None:
        raise TypeError("the migration context has no script directory")
    _check_template(history)
    known = _known_contracts(context, history)
    directives: list[ops.MigrationScript] = []
    for draft in sequence.history:
        directives.append(_directive(script, directives, draft))
    for directive, draft in zip(directives, sequence.history, strict=True):
        imports = AutogenContext(context, autogenerate=False)
        rendered_body(directive.upgrade_ops_list[0], imports)
        rendered_body(directive.downgrade_ops_list[0], imports)
        marks = _history_marks(draft, known)
        directive.imports.add(_set_apart(marks, directive.imports | imports.imports))
    completes = str(directives[-1].rev_id)
    # Without the identifier in their names, two files may have the same one.
    are_numbered = "%(rev)s" not in history.file_template
    files = []
    for number, draft in enumerate(sequence.contracts, start=1):
        numbered = replace(draft, number=number if are_numbered else 1)
        file = _contract_file(context, script, numbered, completes, known)
        files.append(file)
        known = (*known, Revision(file.revision, touches=draft.touches))
    if files:
        after_scripts(context, functools.partial(_write, files, history, script))
    return directives


def _write(
    files: Sequence[_ContractFile], history: ScriptDirectory, script: ops.MigrationScript
) -> None:
    contracts_path(history).mkdir(exist_ok=True)
    scripts = contract_scripts(history)
    for file in files:
        file.write(scripts, script)


def _check_template(history: ScriptDirectory) -> None:
    """Refuse a template that would leave the marks out."""
    path = Path(history.dir) / "script.py.mako"
    if "imports" not in path.read_text(encoding="utf-8"):
        raise CannotRewrite(
            f"{path} has no place for the phase of a revision: add a line "
            '${imports if imports else ""} below its imports, as Alembic\'s own template has, '
            "then run the same command again. No file was written."
        )


def _directive(
    script: ops.MigrationScript,
    earlier: Sequence[ops.MigrationScript],
    draft: RevisionDraft,
) -> ops.MigrationScript:
    is_first = not earlier
    return ops.MigrationScript(
        rev_id=script.rev_id if is_first else util.rev_id(),
        message=_message(draft, _title(draft, script.message), ""),
        upgrade_ops=ops.UpgradeOps(
            body(draft.upgrade), upgrade_token=script.upgrade_ops_list[0].upgrade_token
        ),
        downgrade_ops=ops.DowngradeOps(
            body(draft.downgrade), downgrade_token=script.downgrade_ops_list[0].downgrade_token
        ),
        head=script.head if is_first else str(earlier[-1].rev_id),
        splice=script.splice if is_first else False,
        branch_label=script.branch_label if is_first else None,
        depends_on=script.depends_on if is_first else None,
        version_path=script.version_path,
        # The default is one set that all scripts share.
        imports=set(script.imports),
    )


def _history_marks(draft: RevisionDraft, known: Iterable[Revision]) -> Marks:
    return Marks(
        phase=draft.phase,
        transactional=draft.transactional,
        needs_contract=_meeting(draft, known),
    )


def _set_apart(marks: Marks, imports: Iterable[str]) -> str:
    """Return the marks with an empty line before them. Alembic sorts the imports that it writes,
    and an empty line would come first, so that beside other imports there is none."""
    return marks.source() if any(imports) else "\n" + marks.source()


@dataclass(frozen=True)
class _ContractFile:
    """A contract revision, rendered."""

    revision: str
    message: str
    depends_on: tuple[str, ...]
    imports: str
    upgrade: str
    downgrade: str
    template_arguments: Mapping[str, Any]

    def write(self, scripts: ScriptDirectory, script: ops.MigrationScript) -> None:
        """Write the file from the user's template."""
        scripts.generate_revision(
            self.revision,
            self.message,
            head="base",
            splice=True,
            version_path=scripts.versions,
            depends_on=list(self.depends_on) or None,
            **{
                **self.template_arguments,
                "imports": self.imports,
                script.upgrade_ops_list[0].upgrade_token: self.upgrade,
                script.downgrade_ops_list[0].downgrade_token: self.downgrade,
            },
        )


def _contract_file(
    context: MigrationContext,
    script: ops.MigrationScript,
    draft: RevisionDraft,
    completes: str,
    known: Iterable[Revision],
) -> _ContractFile:
    marks = Marks(
        phase=Phase.CONTRACT, transactional=False, completes=completes, touches=draft.touches
    )
    title = f"{_phase_and_number(draft)} {draft.steps[0].table}: {script.message or 'changes'}"
    return _ContractFile(
        revision=util.rev_id(),
        message=_message(draft, title, completes),
        depends_on=_meeting(draft, known),
        imports=_set_apart(marks, ()),
        upgrade=_render(context, ops.UpgradeOps(body(draft.upgrade))),
        downgrade=_render(context, ops.DowngradeOps(body(draft.downgrade))),
        template_arguments=context.opts.get("template_args") or {},
    )


def _title(draft: RevisionDraft, message: str | None) -> str:
    return f"{_phase_and_number(draft)}: {message or 'changes'}"


def _phase_and_number(draft: RevisionDraft) -> str:
    """Return the beginning of a title. File names are made of the beginning of the message, so
    that what differs has to stand first."""
    return draft.phase.value if draft.number == 1 else f"{draft.phase.value} {draft.number}"


def _message(draft: RevisionDraft, title: str, completes: str) -> str:
    """Return the docstring: what it does, which phase it is, what must be true before."""
    does = [step.says for step in draft.steps if step.says]
    if not draft.steps:
        does = [
            "Nothing to do: the contract revision that goes with it runs once the release that "
            "comes with this revision is followed by another."
        ]
    requires = [step.requires for step in draft.steps if step.requires]
    paragraphs = [title, *(f"- {sentence}" for sentence in does)]
    paragraphs.append(_NOTES[draft.phase].format(completes=completes))
    paragraphs.append("Before it runs: " + (" Also: ".join(requires) or "nothing is needed."))
    wrapped = [_wrapped(paragraph) for paragraph in paragraphs]
    text = wrapped[0] + "\n\n" + "\n".join(wrapped[1:-2]) + "\n\n" + "\n".join(wrapped[-2:])
    # The text stands between three quotation marks in the template.
    return text.replace("\\", "\\\\").replace('"""', "'''")


def _wrapped(paragraph: str) -> str:
    indent = "  " if paragraph.startswith("- ") else ""
    return textwrap.fill(
        paragraph,
        LINE_LENGTH - 4,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _meeting(draft: RevisionDraft, known: Iterable[Revision]) -> tuple[str, ...]:
    """Return the earlier contract revisions that touch what a draft touches or needs."""
    return tuple(
        contract.revision for contract in known if draft.follows.intersection(contract.touches)
    )


def _known_contracts(context: MigrationContext, history: ScriptDirectory) -> tuple[Revision, ...]:
    if not contracts_path(history).is_dir():
        return ()
    table = contract_table(QualifiedName(context.version_table, context.version_table_schema))
    line = Line(LineName.CONTRACT, contract_scripts(history), table)
    return contract_revisions(line, history)


def _render(context: MigrationContext, operations: ops.UpgradeOps | ops.DowngradeOps) -> str:
    return rendered_body(operations, AutogenContext(context, autogenerate=False))
