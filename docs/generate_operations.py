"""Writes docs/operations.md from the docstrings of the operations.

python docs/generate_operations.py
"""

from __future__ import annotations

import inspect
import re
import textwrap
from pathlib import Path
from typing import Any

from alembic.operations import Operations

from alembic_safe import operations
from alembic_safe.operations import SafeOperation

PAGE = Path(__file__).with_name("operations.md")

HEAD = '''\
# Operations

What generated revisions call, as methods of Alembic's `op`, and what you can call in revisions that
you write by hand. `import alembic_safe` in `env.py` registers them.

This page is written by `docs/generate_operations.py` from the docstrings.

Each operation can be run again after a failure: what is done already is skipped. Use them in a
revision with `transactional = False`, where each operation commits by itself. In a revision that is
one transaction, instant ones become part of it; those that cannot run in a transaction commit what
was done before them. Names are as they are in the database, without quotes; expressions are SQL.

```python
# migrations/versions/6a5b4c3d2e1f_find_orders_by_note.py
"""Find orders by their note."""

from alembic import op

phase = "migrate"
transactional = False

revision = "6a5b4c3d2e1f"
down_revision = "5e1f0c3a9d27"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index_concurrently(
        "ix_orders_note", "orders", definition="USING hash (note) WHERE (note IS NOT NULL)"
    )
    op.create_check_constraint_not_valid("ck_orders_note", "orders", "length(note) < 1000")
    op.validate_constraint("ck_orders_note", "orders")


def downgrade() -> None:
    op.drop_constraint_if_exists("ck_orders_note", "orders")
    op.drop_index_concurrently("ix_orders_note", "orders")
```

```console
$ alembic upgrade head
INFO  [alembic.runtime.migration] Running upgrade 5e1f0c3a9d27 -> 6a5b4c3d2e1f,
  Find orders by their note.
$ alembic downgrade -1
```

Errors are explained in [Errors](errors.md).
'''

FAMILIES = {
    "indexes": "Indexes",
    "partitioned_indexes": "Indexes of partitioned tables",
    "constraints": "Constraints",
    "not_null": "NOT NULL",
    "columns": "Columns",
    "sync": "Two columns with one meaning",
    "backfill": "Data",
}
"""The modules of `alembic_safe.operations`, in the order of the page."""

_SECTION = re.compile(r"^(Args|Raises|Source):[ \n]", re.MULTILINE)


def page() -> str:
    """Return the whole page."""
    parts = [HEAD]
    for module, title in FAMILIES.items():
        parts.append(f"## {title}\n")
        parts += [_described(kind) for kind in _operations() if _module_of(kind) == module]
    return "\n".join(parts)


def _operations() -> list[type[SafeOperation]]:
    kinds = [getattr(operations, name) for name in operations.__all__]
    found = [kind for kind in kinds if kind is not SafeOperation]
    unknown = {_module_of(kind) for kind in found} - FAMILIES.keys()
    assert not unknown, f"families without a title: {unknown}"
    return sorted(found, key=lambda kind: inspect.getsourcelines(kind)[1])


def _module_of(kind: type[Any]) -> str:
    return kind.__module__.rpartition(".")[2]


def _described(kind: type[SafeOperation]) -> str:
    name = kind.operation_name
    # Alembic moves the docstring of the class method there.
    method = getattr(Operations, name)
    text = inspect.getdoc(method) or ""
    # re.split returns the title of each section in front of its text.
    says, *sections = _SECTION.split(text)
    titled = dict(zip(sections[::2], sections[1::2], strict=True))
    parts = [f"### op.{name}\n", f"`op.{name}({_arguments(method)})`\n", _paragraphs(says)]
    parts.append("| argument | |\n|---|---|\n" + _rows(titled["Args"], code=True))
    if "Raises" in titled:
        parts.append("| error | |\n|---|---|\n" + _rows(titled["Raises"], code=False))
    if "Source" in titled:
        parts.append(_paragraphs(f"Source: {titled['Source']}"))
    return "\n".join(parts)


def _arguments(method: Any) -> str:
    """Return the arguments of the call in a revision, which lacks the first two."""
    parameters = list(inspect.signature(method).parameters.values())[1:]
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters]
    return str(inspect.Signature(bare))[1:-1]


def _paragraphs(text: str) -> str:
    paragraphs = (" ".join(part.split()) for part in text.strip().split("\n\n"))
    return "\n\n".join(textwrap.fill(part, 100) for part in paragraphs) + "\n"


def _rows(text: str, *, code: bool) -> str:
    """Return the rows of a table from `name: explanation` paragraphs."""
    rows = []
    for entry in re.split(r"\n(?=\S)", textwrap.dedent(text).strip()):
        name, _, explanation = entry.partition(":")
        shown = f"`{name}`" if code else f"[`{name}`](errors.md#{name.lower()})"
        rows.append(f"| {shown} | {' '.join(explanation.split())} |\n")
    return "".join(rows)


if __name__ == "__main__":
    PAGE.write_text(page())
