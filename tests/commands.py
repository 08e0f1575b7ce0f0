"""Commands that run beside each other, in processes of their own, and what they say meanwhile."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from patience import wait_for
from project import Project


class Running:
    """A command that was started, and what it has said so far.

    Args:
        process: its process, with pipes for what it says.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._lines: list[str] = []
        self._readers = [
            threading.Thread(target=self._lines.extend, args=(stream,))
            for stream in (process.stdout, process.stderr)
        ]
        for reader in self._readers:
            reader.start()

    def wait(self) -> int:
        """Wait for its end and return its exit status."""
        code = self.process.wait(timeout=60)
        for reader in self._readers:
            reader.join()
        return code

    def kill(self) -> None:
        """End it without a chance to do anything about it."""
        self.process.kill()
        self.wait()

    def said(self) -> str:
        """All that it has said."""
        return "".join(self._lines)

    def says(self, text: str) -> bool:
        """Return whether it has said this."""
        return text in self.said()

    def wait_until_it_says(self, text: str) -> None:
        """Return when it has said this; fail the test if it ends without."""
        wait_for(lambda: self.says(text) or self.process.poll() is not None)
        if not self.says(text):
            self.wait()
        assert self.says(text), self.said()


@contextmanager
def running(
    project: Project, *args: str, env: Mapping[str, str] | None = None
) -> Iterator[Running]:
    """Start `alembic ARGS`, or `alembic-safe contract`; it does not outlive the block."""
    start = project.popen_safe if args[0] == "contract" else project.popen
    command = Running(start(*args, env=env))
    try:
        yield command
    finally:
        command.kill()
