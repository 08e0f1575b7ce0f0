"""A report as JSON, for programs of one's own."""

from __future__ import annotations

import json
from typing import Any

from alembic_safe.lint.report import Located, Report


def plain_json(report: Report) -> str:
    """Return a report as one JSON object."""
    document = {
        "findings": [_finding(located) for located in report.findings],
        "allowed": [_finding(located) for located in report.allowed],
        "summary": {
            "errors": len(report.errors),
            "warnings": len(report.warnings),
            "allowed": len(report.allowed),
            "revisions": report.revisions,
            "files": report.files,
            "statements": report.statements,
            "postgres": report.postgres,
        },
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _finding(located: Located) -> dict[str, Any]:
    finding = located.finding
    fix = finding.fix
    return {
        "code": finding.code,
        "severity": finding.severity.value,
        "message": finding.message,
        "path": located.path.as_posix(),
        "line": located.line or None,
        "last_line": located.extent.last or None,
        "revision": located.revision or None,
        "direction": "upgrade" if located.is_upgrade else "downgrade",
        "table": str(finding.relation) if finding.relation is not None else None,
        "statement": located.sql or None,
        "fix": None
        if fix is None
        else {
            "operations": fix.operations or None,
            "sql": fix.sql or None,
            "phase": fix.phase.value if fix.phase is not None else None,
        },
        "advice": finding.advice or None,
        "docs": located.docs,
        "allowed": located.allowed or None,
    }
