"""Files that changed since a git reference."""

from __future__ import annotations

import subprocess
from pathlib import Path

from alembic_safe.errors import GitFailed


def changed_since(reference: str, folder: Path) -> frozenset[Path]:
    """Return the files that differ from where the work left a branch, and those git does not know.

    Deleted files are left out. What is ignored stays ignored.

    Args:
        reference: a branch, tag or commit; what matters is the last commit that it has in common
            with HEAD, so that later commits of that branch do not count.
        folder: a folder of the working tree.

    Raises:
        GitFailed: there is no git, no working tree, or no such reference.
    """
    if reference.startswith("-"):
        raise GitFailed(reference, "a reference does not begin with a hyphen")
    top = Path(_git(folder, reference, "rev-parse", "--show-toplevel").rstrip("\n"))
    base = _git(folder, reference, "merge-base", reference, "HEAD").strip()
    changed = _git(top, reference, "diff", "--name-only", "--diff-filter=d", "-z", base)
    unknown = _git(top, reference, "ls-files", "--others", "--exclude-standard", "-z")
    return frozenset((top / name).resolve() for name in (changed + unknown).split("\0") if name)


def _git(folder: Path, reference: str, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    except OSError as error:
        raise GitFailed(reference, f"git does not run: {error}") from error
    if done.returncode != 0:
        reason = " ".join(done.stderr.split()) or f"git {arguments[0]} found nothing"
        raise GitFailed(reference, reason)
    return done.stdout
