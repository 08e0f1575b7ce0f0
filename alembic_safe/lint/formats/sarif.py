"""A report in SARIF 2.1.0 (OASIS), which code review pages and editors read."""

from __future__ import annotations

import inspect
import json
from importlib.metadata import version
from typing import Any
from urllib.parse import quote

from alembic_safe.lint.report import Located, Report, fingerprints
from alembic_safe.rules.catalogue import REVISION_RULES, RULES
from alembic_safe.rules.finding import code_of

SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)


def sarif(report: Report) -> str:
    """Return the report as a SARIF log with one run; what is let through is suppressed in it."""
    found = list(report.found)
    codes = sorted({located.finding.code for located in found})
    results = [
        _result(located, codes.index(located.finding.code), fingerprint)
        for located, fingerprint in zip(found, fingerprints(found), strict=True)
    ]
    rules = [{"id": code, **_description(code)} for code in codes]
    driver = {"name": "alembic-safe", "version": version("alembic-safe"), "rules": rules}
    document = {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
        ],
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _description(code: str) -> dict[str, Any]:
    """Return what a rule says of itself; nothing for a rule of the user's own."""
    texts = {code_of(rule): inspect.getdoc(rule) or "" for rule in (*RULES, *REVISION_RULES)}
    first, _, rest = texts.get(code, "").partition("\n")
    if not first:
        return {}
    return {"shortDescription": {"text": first}, "help": {"text": rest.strip() or first}}


def _result(located: Located, rule_index: int, fingerprint: str) -> dict[str, Any]:
    path = located.path.as_posix()
    artifact: dict[str, Any] = {"uri": quote(path)}
    if not located.path.is_absolute():
        artifact["uriBaseId"] = "%SRCROOT%"
    first = max(located.line, 1)
    region = {"startLine": first, "endLine": max(located.extent.last, first)}
    result: dict[str, Any] = {
        "ruleId": located.finding.code,
        "ruleIndex": rule_index,
        "level": located.finding.severity.value,
        "message": {"text": located.explanation},
        "locations": [{"physicalLocation": {"artifactLocation": artifact, "region": region}}],
        "partialFingerprints": {"alembicSafe/v1": fingerprint},
    }
    if located.allowed:
        result["suppressions"] = [{"kind": "inSource", "justification": located.allowed}]
    return result
