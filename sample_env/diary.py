"""The diary of a deploy: what each step did, what the application felt, what was promised."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from alembic_safe.rehearsal.two_releases import TwoReleases
from alembic_safe.settings import Settings

_SHOWN = 10
"""Of a promise that was broken, so many examples are printed."""


@dataclass(frozen=True)
class Step:
    """A step of the deploy, and what the clients felt while it ran.

    Args:
        what: the command, or what else happened.
        seconds: how long it took.
        releases: whose clients were at work.
        queries: how many queries of theirs ended.
        longest_ms: the longest of them, in milliseconds.
        errors: how many failed, or read something else than was written.
    """

    what: str
    seconds: float
    releases: str
    queries: int
    longest_ms: float
    errors: int


class Diary:
    """Writes down the steps and the promises.

    Args:
        clients: the clients whose queries are watched.
    """

    def __init__(self, clients: TwoReleases) -> None:
        self.steps: list[Step] = []
        self.promises: dict[str, list[str]] = {}
        self._clients = clients

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Watch what the clients feel during a `with` block."""
        before = self._clients.observations()
        self._clients.reset_worst()
        began = time.monotonic()
        try:
            yield
        finally:
            seconds = time.monotonic() - began
            seen = self._clients.observations()
            wrong = seen.error_count + seen.difference_count
            self.steps.append(
                Step(
                    what,
                    seconds,
                    " ".join(sorted(seen.by_release)),
                    seen.queries,
                    seen.longest_ms,
                    wrong - before.error_count - before.difference_count,
                )
            )

    def promise(self, promise: str, problems: Sequence[str] = ()) -> None:
        """Note that a promise was looked at, and what broke it, if anything did."""
        self.promises.setdefault(promise, []).extend(problems)

    @property
    def kept_all(self) -> bool:
        """Whether no promise was broken."""
        return not any(self.promises.values())

    def print(self, console: Console) -> None:
        """Print the table of the steps, and below it the promises."""
        table = Table(title="What ran, and what the application felt", title_justify="left")
        table.add_column("step", overflow="fold")
        for heading in ("seconds", "clients", "queries", "longest ms", "errors"):
            table.add_column(heading, justify="right", no_wrap=True)
        for number, step in enumerate(self.steps, 1):
            felt = ["-", "-", "-", "-"]
            if step.releases:
                felt = [step.releases, f"{step.queries:,}", f"{step.longest_ms:.0f}"]
                felt.append(f"[red]{step.errors}[/red]" if step.errors else "0")
            table.add_row(f"{number}. {step.what}", f"{step.seconds:.1f}", *felt)
        console.print(table)
        for promise, problems in self.promises.items():
            if problems:
                console.print(f"[red]BROKEN[/red]  {promise}")
                for problem in problems[:_SHOWN]:
                    console.print(f"        {problem}", markup=False)
                if len(problems) > _SHOWN:
                    console.print(f"        and {len(problems) - _SHOWN} more")
            else:
                console.print(f"[green]kept[/green]    {promise}")
        queries = sum(step.queries for step in self.steps)
        longest = self._clients.observations().longest_ever_ms
        allowed = Settings().lock_timeout * 1000
        console.print(
            f"Longest wait of any of {queries:,} client queries: {longest:.0f} ms "
            f"(an attempt to take a lock may last {allowed:.0f} ms)"
        )
