"""On a terminal one line shows what is waited for, and nothing is left of it; elsewhere nothing."""

from __future__ import annotations

import io
import logging
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from conftest import Database
from hand_written import write_history
from patience import reader, wait_for
from project import Project
from waiting import wait_until

from alembic_safe.runtime.blockers import CLIENT, PREPARED, WRAPAROUND, Blocker
from alembic_safe.runtime.wait_line import WaitLine, line_of, terminal

NIGHTLY = Blocker(
    CLIENT, "3/7", 4711, "nightly report", "app", "idle in transaction", 9.0, "RowShareLock", "t"
)


class Screen:
    """What a terminal shows of what was written to it: lines, and the cursor in the last one."""

    def __init__(self, written: str) -> None:
        self.lines = [""]
        column = 0
        for part in re.findall(r"\x1b\[\??\d*[A-Za-z]|\r|\n|[^\x1b\r\n]+|\x1b", written):
            line = self.lines[-1]
            if part == "\n":
                self.lines.append("")
                column = 0
            elif part == "\r":
                column = 0
            elif part == "\x1b[K":
                self.lines[-1] = line[:column]
            elif part in ("\x1b[?7l", "\x1b[?7h"):
                continue
            else:
                assert not part.startswith("\x1b"), f"not expected: {part!r}"
                self.lines[-1] = line[:column] + part + line[column + len(part) :]
                column += len(part)


# What it says.


def test_it_says_who_is_in_the_way_in_short() -> None:
    text = line_of("r2", "outside of the queue for orders", [NIGHTLY], 12.4)
    assert text == (
        "r2: 12 s outside of the queue for orders; in the way: pid 4711 (nightly report, idle in"
        " transaction)"
    )


@pytest.mark.parametrize(
    ("blocker", "named"),
    [
        (
            Blocker(PREPARED, "-1/9", None, "x", "app", "", 1.0, "m", "t"),
            "prepared transaction 'x'",
        ),
        (
            Blocker(WRAPAROUND, "3/7", 7, "", "", "active", 1.0, "m", "t"),
            "pid 7 (autovacuum to prevent wraparound, active)",
        ),
        (Blocker(CLIENT, "3/7", 7, "", "app", "", None, "m", "t"), "pid 7 (no application name)"),
    ],
)
def test_it_names_each_kind(blocker: Blocker, named: str) -> None:
    assert line_of("r2", "x", [blocker], 0.0).endswith(f"; in the way: {named}")


def test_it_names_one_and_counts_the_others() -> None:
    text = line_of("r2", "outside", [NIGHTLY, NIGHTLY, NIGHTLY], 1.0)
    assert text.endswith("(nightly report, idle in transaction) and 2 more")


def test_the_name_of_another_program_does_not_control_the_terminal() -> None:
    blocker = Blocker(CLIENT, "3/7", 1, "a\x1b[2J\nb\u202e", "app", "", 1.0, "m", "t")
    assert line_of("r2", "x", [blocker], 0.0).isprintable()


# Where it is shown.


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "environment", "is_one"),
    [
        (Terminal(), {"TERM": "xterm"}, True),
        (io.StringIO(), {"TERM": "xterm"}, False),
        (Terminal(), {"TERM": "dumb"}, False),
        (Terminal(), {}, False),
        (Terminal(), {"TERM": "xterm", "NO_COLOR": "1"}, False),
        (Terminal(), {"TERM": "xterm", "NO_COLOR": ""}, True),
    ],
)
def test_only_on_a_terminal_that_can(
    stream: io.StringIO, environment: dict[str, str], is_one: bool
) -> None:
    assert terminal(stream, environment) is (stream if is_one else None)


# What it leaves.


@contextmanager
def logging_to(stream: io.StringIO) -> Iterator[logging.Logger]:
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield logging.getLogger("sqlalchemy.engine.test")
    finally:
        root.removeHandler(handler)
        assert handler.filters == []


def test_what_is_logged_meanwhile_stands_above_it_in_whole_lines() -> None:
    stream, now = Terminal(), [0.0]
    line = WaitLine(stream, clock=lambda: now[0])
    with logging_to(stream) as log:
        log.warning("before")
        line.show("r2", "outside of the queue", [NIGHTLY])
        log.warning("first")
        log.warning("second")
        now[0] = 7.0
        line.show("r2", "outside of the queue", [NIGHTLY])
        shown = Screen(stream.getvalue()).lines
        line.hide()
        log.warning("after")
    assert shown[:-1] == ["before", "first", "second"]
    assert shown[-1].startswith("r2: 7 s outside of the queue; in the way: pid 4711")
    assert Screen(stream.getvalue()).lines == ["before", "first", "second", "after", ""]


def test_a_shorter_line_takes_the_place_of_a_longer_one() -> None:
    stream = Terminal()
    line = WaitLine(stream, clock=lambda: 0.0)
    line.show("r2", "outside of the queue for a long name", [NIGHTLY])
    line.show("r2", "in it", [])
    assert Screen(stream.getvalue()).lines == ["r2: 0 s in it"]
    line.hide()
    line.hide()
    assert Screen(stream.getvalue()).lines == [""]


def test_it_is_written_when_it_changes_only() -> None:
    stream = Terminal()
    line = WaitLine(stream, clock=lambda: 0.0)
    line.show("r2", "outside", [])
    written = stream.getvalue()
    line.show("r2", "outside", [])
    assert stream.getvalue() == written
    line.hide()


def test_a_terminal_that_is_gone_stops_nothing() -> None:
    stream = Terminal()
    line = WaitLine(stream)
    stream.close()
    line.show("r2", "outside", [])
    line.show("r2", "outside", [NIGHTLY])
    line.hide()


def test_a_terminal_that_somebody_has_stopped_is_not_waited_for() -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as stream:
        line = WaitLine(stream)
        termios.tcflow(theirs, termios.TCOOFF)
        # One that waits for it would stay here for ever.
        line.show("r2", "stopped", [])
        termios.tcflow(theirs, termios.TCOON)
        line.show("r2", "going on", [])
        line.hide()
    written = os.read(ours, 4096).decode()
    os.close(ours)
    assert "stopped" not in written
    assert "going on" in written


# An upgrade.

ADD = 'op.execute("ALTER TABLE orders ADD note text")'
OUTSIDE = {"ALEMBIC_SAFE_OLD_TRANSACTION": "0", "ALEMBIC_SAFE_LOCK_DEADLINE": "10min"}


@pytest.fixture
def project(alembic_project: Project, database: Database) -> Project:
    database.execute("CREATE TABLE orders (id int)")
    database.execute("INSERT INTO orders VALUES (1)")
    write_history(alembic_project, "r1")
    write_history(alembic_project, "r2", "r1", upgrade=ADD)
    return alembic_project


class OnTerminal:
    """`alembic upgrade head`, with a terminal for standard error."""

    def __init__(self, project: Project, **environment: str) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "alembic", "upgrade", "head"],
            cwd=project.folder,
            env={**project._environment(environment), "TERM": "xterm", **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=theirs,
        )
        os.close(theirs)
        self.written = ""
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while True:
            try:
                read = os.read(self._ours, 4096)
            except OSError:  # The other end is closed.
                return
            self.written += read.decode()

    def last_line(self) -> str:
        return Screen(self.written).lines[-1]

    def lines_at_the_end(self) -> list[str]:
        self.process.communicate(timeout=60)
        self._thread.join()
        os.close(self._ours)
        return Screen(self.written).lines


@contextmanager
def on_terminal(project: Project, **environment: str) -> Iterator[OnTerminal]:
    running = OnTerminal(project, **environment)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.wait()


def test_who_waits_outside_is_shown_and_nothing_stays(project: Project, database: Database) -> None:
    with reader(database) as busy, on_terminal(project, **OUTSIDE) as running:
        shown = "outside of the queue for orders; in the way: pid"
        wait_for(lambda: shown in running.last_line())
        # It counts.
        wait_for(lambda: running.last_line().startswith("r2: 2 s "))
        busy.execute("COMMIT")
        lines = running.lines_at_the_end()
    assert running.process.returncode == 0
    assert lines[-1] == ""
    assert all(line.startswith(("INFO ", "WARNI")) for line in lines[:-1]), lines
    assert any("not queueing for the lock on orders" in line for line in lines)


def test_who_waits_in_the_queue_is_shown(project: Project, database: Database) -> None:
    tries = {"ALEMBIC_SAFE_RETRY_CAP": "50ms", "ALEMBIC_SAFE_OLD_TRANSACTION": "1h"}
    with reader(database) as busy, on_terminal(project, **tries) as running:
        shown = "in the queue for its lock, 0 behind; in the way: pid"
        wait_for(lambda: shown in running.last_line())
        wait_until(database, "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted")
        busy.execute("COMMIT")
        lines = running.lines_at_the_end()
    assert running.process.returncode == 0
    assert lines[-1] == ""
    assert all(line.startswith(("INFO ", "WARNI")) for line in lines[:-1]), lines


@pytest.mark.parametrize("how", [signal.SIGINT, None])
def test_nothing_stays_where_it_fails(
    project: Project, database: Database, how: signal.Signals | None
) -> None:
    deadline = "2s" if how is None else "10min"
    env = {**OUTSIDE, "ALEMBIC_SAFE_LOCK_DEADLINE": deadline}
    with reader(database), on_terminal(project, **env) as running:
        wait_for(lambda: "outside of the queue for orders" in running.last_line())
        if how is not None:
            running.process.send_signal(how)
        lines = running.lines_at_the_end()
    assert running.process.returncode != 0
    assert lines[-1] == ""
    assert all(line.startswith(("INFO ", "WARNI", "ERROR", "FAILED")) for line in lines[:-1]), lines


def test_no_color_means_log_lines_alone(project: Project, database: Database) -> None:
    with reader(database) as busy, on_terminal(project, **OUTSIDE, NO_COLOR="1") as running:
        wait_for(lambda: "not queueing" in running.written)
        busy.execute("COMMIT")
        running.lines_at_the_end()
    assert "\x1b" not in running.written


def test_in_a_pipe_there_are_log_lines_alone(project: Project, database: Database) -> None:
    env = {**OUTSIDE, "TERM": "xterm", "ALEMBIC_SAFE_LOCK_DEADLINE": "1s"}
    with reader(database):
        failed = project.run("upgrade", "head", env=env, check=False)
    assert "not queueing" in failed.stderr
    assert "\x1b" not in failed.stderr
    assert "\r" not in failed.stderr
