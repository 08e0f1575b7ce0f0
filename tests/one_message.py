"""How a command fails: with one message, and never with a Python traceback."""

from __future__ import annotations

import re
import subprocess


def failure(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one message with which a command failed; fail the test if it did not, or said
    more or less than that."""
    said = f"{done.stdout}\n{done.stderr}"
    assert done.returncode != 0, said
    assert "Traceback" not in said, said
    messages: list[str] = re.findall(r"^\s*FAILED: (.*)$", said, re.MULTILINE)
    assert len(messages) == 1, said
    # Alembic writes it a second time, as the log has it.
    logged = re.findall(r"^ERROR +\[[\w.]+\] (.*)$", said, re.MULTILINE)
    assert logged in ([], messages), said
    return messages[0]
