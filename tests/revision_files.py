"""Generated revision files, read without running them."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from project import Project

import alembic_safe.operations as safe

OURS = {getattr(safe, name).operation_name for name in safe.__all__ if name != "SafeOperation"}


def functions(path: Path) -> dict[str, list[str]]:
    """The names of the operations that `upgrade` and `downgrade` of a file call."""
    found = {}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            calls = [call for call in ast.walk(node) if isinstance(call, ast.Call)]
            names = [ast.unparse(call.func) for call in calls]
            found[node.name] = [name[3:] for name in names if name.startswith("op.")]
    return found


def marks(path: Path) -> dict[str, object]:
    """What a file says about itself."""
    found = {}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = ast.literal_eval(node.value)
    return found


def docs(paths: Sequence[Path]) -> list[str]:
    return [ast.get_docstring(ast.parse(path.read_text())) or "" for path in paths]


def our_calls(project: Project) -> list[str]:
    """The calls of this package's operations, as they stand in the files."""
    found = []
    for path in [*project.versions(), *project.contracts()]:
        source = path.read_text()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and ast.unparse(node.func).removeprefix("op.") in OURS:
                found.append("    " + (ast.get_source_segment(source, node) or ""))
    assert found
    return found


def unformatted(calls: Sequence[str], folder: Path) -> str:
    """Return what `ruff format` would change."""
    file = folder / "calls.py"
    file.write_text("def upgrade():\n" + "\n".join(calls) + "\n")
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--isolated", "--diff", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout
