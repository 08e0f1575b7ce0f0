"""A project may say itself how long each attempt waits, and when the next one follows."""

from __future__ import annotations

import pytest
from conftest import Database
from hand_written import write_history
from patience import read_until, reader
from project import Project

from alembic_safe.errors import InvalidRetryHook
from alembic_safe.runtime.locking import Patience
from alembic_safe.runtime.retry_hook import load_retry_hook
from alembic_safe.settings import Settings

ALTER = "ALTER TABLE orders ADD note text"


def test_it_gives_the_timeout_and_the_pause_after_it() -> None:
    slept: list[float] = []
    asked = []

    def hook(attempt: int, statement: str) -> tuple[float, float]:
        asked.append((attempt, statement))
        return 0.3 * attempt, 7.0

    patience = Patience(Settings(), slept.append, hook=load_retry_hook(hook))
    assert patience.lock_timeout(2, statement=ALTER) == pytest.approx(0.6)
    assert patience.pause(2, patience.clock())
    assert (asked, slept) == ([(2, ALTER)], [7.0])


def test_the_deadline_stays() -> None:
    hook = load_retry_hook(lambda _attempt, _statement: (1.0, 60.0))
    patience = Patience(Settings(lock_deadline=30.0), hook=hook)
    patience.lock_timeout(1, statement=ALTER)
    assert not patience.pause(1, patience.clock())


@pytest.mark.parametrize("answer", [None, (1.0,), (0.0, 1.0), (1.0, -1.0), ("a", "b"), 5])
def test_an_answer_that_is_none_is_refused(answer: object) -> None:
    hook = load_retry_hook(lambda _attempt, _statement: answer)
    assert hook is not None
    with pytest.raises(InvalidRetryHook, match=r"it returned .*ALTER TABLE orders"):
        hook(1, ALTER)


def test_one_that_fails_is_named() -> None:
    def breaks(_attempt: int, _statement: str) -> tuple[float, float]:
        raise KeyError("nothing")

    hook = load_retry_hook(breaks)
    assert hook is not None
    with pytest.raises(InvalidRetryHook, match=r"breaks .* it failed: KeyError"):
        hook(1, ALTER)


@pytest.mark.parametrize("name", ["nowhere:hook", "os:nothing", "os:name"])
def test_one_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(InvalidRetryHook, match=f"The function {name} of the setting retry"):
        load_retry_hook(name)


HOOK = """
def patient(attempt, statement):
    print(f"asked {attempt} {statement}", flush=True)
    return (0.02 if "orders" in statement else 5.0), 0.01
"""


@pytest.fixture
def project(alembic_project: Project, database: Database) -> Project:
    database.execute("CREATE TABLE orders (id int)")
    database.execute("INSERT INTO orders VALUES (1)")
    (alembic_project.folder / "hooks.py").write_text(HOOK)
    write_history(alembic_project, "r1")
    return alembic_project


@pytest.mark.parametrize(
    ("body", "marks"),
    [
        (f'op.execute("{ALTER}")', ""),
        ('op.add_column_if_not_exists("orders", "note", "text")', "transactional = False"),
    ],
)
def test_an_upgrade_asks_it(project: Project, database: Database, body: str, marks: str) -> None:
    write_history(project, "r2", "r1", upgrade=body, marks=marks)
    env = {"ALEMBIC_SAFE_RETRY": "hooks:patient", "PYTHONPATH": str(project.folder)}
    env |= {"ALEMBIC_SAFE_RETRY_CAP": "50ms", "ALEMBIC_SAFE_OLD_TRANSACTION": "1h"}
    with reader(database) as busy:
        running = project.popen("upgrade", "head", env=env)
        read_until(running, "attempt 3")
        busy.execute("COMMIT")
        told, rest = running.communicate(timeout=60)
    assert running.returncode == 0, rest
    assert "asked 3 ALTER TABLE" in told


def test_a_fault_in_it_ends_the_upgrade_with_its_name(project: Project, database: Database) -> None:
    (project.folder / "hooks.py").write_text("def patient(attempt, statement):\n    return 1 / 0\n")
    write_history(project, "r2", "r1", upgrade=f'op.execute("{ALTER}")')
    env = {"ALEMBIC_SAFE_RETRY": "hooks:patient", "PYTHONPATH": str(project.folder)}
    failed = project.run("upgrade", "head", env=env, check=False)
    assert failed.returncode != 0
    said = "The function hooks:patient of the setting retry: it failed: ZeroDivisionError"
    assert said in failed.stdout
    assert "Traceback" not in failed.stderr
    assert database.execute("SELECT version_num FROM alembic_version") == [("r1",)]
