"""A report as GitLab's code quality artifact."""

from __future__ import annotations

import json

from alembic_safe.lint.report import Report, fingerprints
from alembic_safe.rules.finding import Severity

_SEVERITIES = {Severity.ERROR: "critical", Severity.WARNING: "minor"}


def gitlab(report: Report) -> str:
    """Return the report as a JSON array of issues.

    Source: GitLab documentation, Code Quality, Code Quality report format.
    """
    issues = [
        {
            "description": located.explanation,
            "check_name": located.finding.code,
            "fingerprint": fingerprint,
            "severity": _SEVERITIES[located.finding.severity],
            "location": {
                "path": located.path.as_posix(),
                "lines": {"begin": max(located.line, 1)},
            },
        }
        for located, fingerprint in zip(report.findings, fingerprints(report.findings), strict=True)
    ]
    return json.dumps(issues, indent=2, ensure_ascii=False) + "\n"
