"""A report as annotations of GitHub, by its workflow commands."""

from __future__ import annotations

from alembic_safe.lint.formats.text import summary
from alembic_safe.lint.report import Located, Report


def github(report: Report) -> str:
    """Return one workflow command for each finding, and the summary as a notice.

    Source: GitHub documentation, Workflow commands for GitHub Actions, Setting an error message.
    """
    lines = [_annotation(located) for located in report.findings]
    lines.append(f"::notice title=alembic-safe lint::{_value(summary(report))}")
    return "".join(f"{line}\n" for line in lines)


def _annotation(located: Located) -> str:
    finding = located.finding
    properties = {
        "file": located.path.as_posix(),
        "line": str(max(located.line, 1)),
        "endLine": str(max(located.extent.last, located.line, 1)),
        "title": finding.code,
    }
    given = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
    return f"::{finding.severity.value} {given}::{_value(located.explanation)}"


def _value(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _value(text).replace(":", "%3A").replace(",", "%2C")
