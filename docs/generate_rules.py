"""Write docs/rules.md from the docstrings of the rules and the examples of their tests.

    PYTHONPATH=tests python docs/generate_rules.py

A test fails while the page is not what this writes.
"""

from __future__ import annotations

import inspect
import textwrap
from pathlib import Path

from rule_examples import EXAMPLES, SHOP, Example, judged_example

from alembic_safe.rules import (
    column_types,
    compatibility,
    data_loss,
    locking,
    partitioning,
    rebuilding,
    schema_design,
    transactions,
    waiting,
)
from alembic_safe.rules.catalogue import documented_rules
from alembic_safe.rules.finding import Finding, Severity

PAGE = Path(__file__).with_name("rules.md")

HEAD = f"""\
# Rules

What lint and guard report, why, and what to do instead. `error`: it stops traffic, breaks the
release that is running, loses data, or fails. `warning`: it may, or it will hurt later.

What is new in the same revision, a table or a column on which nobody can be waiting, is not
reported. Locks, rewrites and scans are those that [PostgreSQL takes](how-it-is-tested.md), by
version, and by the catalog where one is known; where it is not, the worse case is taken and the
message says what was assumed. Rules of your own: [Custom rules](custom-rules.md). The rules of
other tools beside these: [Compared](compare.md).

This page is written by `docs/generate_rules.py` from the docstrings and the examples of the tests:
each statement is judged by them, and each sequence that is shown instead is executed on real
servers and judged as well. There is a shop in all of them:

```sql
{SHOP.strip()}
```

"""

FAMILIES = {
    locking: "Work while others wait",
    rebuilding: "What is built again as a whole",
    partitioning: "Partitions",
    waiting: "Locks that are waited for",
    compatibility: "What the running release cannot use any more",
    data_loss: "Data that is lost",
    transactions: "Where a statement stands",
    column_types: "Types that hurt later",
    schema_design: "Keys, names and the rest that hurts later",
}
"""The modules of `alembic_safe.rules`, in the order of the page."""


def page() -> str:
    """Return the whole page."""
    by_family = {
        title: [rule for rule in documented_rules().items() if inspect.getmodule(rule[1]) is module]
        for module, title in FAMILIES.items()
    }
    parts = [HEAD, "| rule | | what |\n|---|---|---|\n"]
    for rules in by_family.values():
        for code, rule in rules:
            parts.append(f"| [{code}](#{code}) | {_severities(code)} | {_first_line(rule)} |\n")
    for title, rules in by_family.items():
        parts.append(f"\n## {title}\n")
        parts += [_described(code, rule) for code, rule in rules]
    return "".join(parts)


def _described(code: str, rule: object) -> str:
    parts = [f"\n### {code}\n", f"{_severities(code).capitalize()}. {_first_line(rule)}\n"]
    *paragraphs, source = "", *(inspect.getdoc(rule) or "").split("\n\n")[1:]
    parts += [_paragraph(each) for each in (*paragraphs, source) if each]
    examples = EXAMPLES[code]
    if examples:
        parts += _shown(code, examples[0])
    return "\n".join(parts)


def _shown(code: str, example: Example) -> list[str]:
    parts = []
    if example.before:
        parts += ["Where there is\n", _block("sql", example.before.strip())]
    parts += [f"Reported{_where(example)}:\n", _block("sql", example.bad + ";")]
    finding = _findings(code, example)[0]
    parts.append(_paragraph(f"{finding.code}: {finding.message}."))
    fix = finding.fix
    when = "In addition" if fix is not None and fix.is_addition else "Instead"
    if fix is not None and fix.phase is not None:
        when += f", in a {fix.phase.value} revision"
    if fix is not None and fix.operations:
        parts += [f"{when}:\n", _block("python", fix.operations)]
    if fix is not None and fix.sql:
        parts += [f"{'Or in' if fix.operations else when + ', in'} SQL:\n", _block("sql", fix.sql)]
    elif example.good:
        parts += ["Not reported:\n", _block("sql", example.good + ";")]
    if finding.advice:
        parts.append(_paragraph(f"What to do: {finding.advice}."))
    return parts


def _where(example: Example) -> str:
    said = []
    if not example.in_transaction:
        said.append("outside of a transaction")
    if not example.has_runner:
        said.append("in an environment without `alembic_safe.run_migrations`")
    return ", " + ", ".join(said) if said else ""


def _severities(code: str) -> str:
    found = {finding.severity for example in EXAMPLES[code] for finding in _findings(code, example)}
    return " or ".join(each.value for each in Severity if each in found) or "warning"


def _findings(code: str, example: Example) -> list[Finding]:
    return [
        finding
        for judgement in judged_example(example)
        for finding in judgement.findings
        if finding.code == code
    ]


def _first_line(rule: object) -> str:
    return (inspect.getdoc(rule) or "").split("\n\n")[0].replace("\n", " ")


def _paragraph(text: str) -> str:
    return (
        textwrap.fill(" ".join(text.split()), 100, break_long_words=False, break_on_hyphens=False)
        + "\n"
    )


def _block(language: str, text: str) -> str:
    return f"```{language}\n{text}\n```\n"


if __name__ == "__main__":
    PAGE.write_text(page())
