"""What a revision file says about itself, also after a person has edited it into nonsense."""

from __future__ import annotations

import ast
from pathlib import Path
from types import ModuleType

import pytest
from hand_written import write_contract, write_history
from project import Project

from alembic_safe.errors import InvalidRevision
from alembic_safe.phases import Marks, Phase, read_marks


def module(source: str) -> ModuleType:
    made = ModuleType("revision")
    exec(source, made.__dict__)
    return made


def marks(source: str) -> Marks:
    return read_marks(module(source), "versions/r1.py")


def test_a_file_that_says_nothing_is_a_plain_alembic_revision() -> None:
    assert marks("") == Marks(phase=None, transactional=True)


@pytest.mark.parametrize(
    "written",
    [
        Marks(),
        Marks(Phase.EXPAND),
        Marks(Phase.MIGRATE, transactional=False),
        Marks(Phase.CONTRACT, transactional=False, completes="3f2a9c0d11e7"),
        Marks(Phase.EXPAND, needs_contract=("c1",)),
        Marks(Phase.CONTRACT, completes="r1", touches=("column users.full_name",)),
        Marks(Phase.CONTRACT, touches=tuple(f"column a_long_table_name.c{n}" for n in range(9))),
        Marks(Phase.CONTRACT, touches=('column "it\'s" \\.name',)),
    ],
)
def test_what_is_written_is_what_is_read(written: Marks) -> None:
    source = written.source()
    assert marks(source) == written
    assert all(len(line) <= 100 for line in source.splitlines())


def test_marks_are_constants_that_any_program_can_read() -> None:
    source = Marks(Phase.CONTRACT, False, "r1", ("c1",), ("column a.b",)).source()
    for node in ast.parse(source).body:
        assert isinstance(node, ast.Assign)
        ast.literal_eval(node.value)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ('phase = "expnad"', "phase is 'expnad'; it can be 'expand', 'migrate', 'contract'"),
        ('phase = ["expand"]', "phase is ['expand']"),
        ('transactional = "no"', "transactional is 'no'; it can be True or False"),
        ("transactional = None", "transactional is None"),
        ("completes = 7", "completes is 7; it has to be a revision"),
        ('completes = ("a", "b")', "completes is ('a', 'b')"),
        ("needs_contract = 7", "needs_contract is 7; it has to be a name or a tuple of names"),
        ("needs_contract = ('a', 7)", "needs_contract is ('a', 7)"),
        ("touches = None", "touches is None"),
    ],
)
def test_a_value_nobody_would_write_is_named_with_its_file(source: str, told: str) -> None:
    with pytest.raises(InvalidRevision) as caught:
        marks(source)
    assert told in str(caught.value)
    assert "versions/r1.py" in str(caught.value)
    assert "Nothing was applied" in str(caught.value)


def test_one_name_may_stand_without_a_tuple() -> None:
    assert marks('needs_contract = "c1"\ntouches = ["a", "b"]') == Marks(
        needs_contract=("c1",), touches=("a", "b")
    )


def _edit(path: Path, old: str, new: str) -> None:
    source = path.read_text()
    assert old in source
    path.write_text(source.replace(old, new))


def _refused(project: Project, path: Path, *told: str) -> None:
    """`upgrade head` ends with one message that names the file, before it applies anything."""
    done = project.run("upgrade", "head", check=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert str(path) in done.stderr
    for part in told:
        assert part in done.stderr
    assert "Nothing was applied" in done.stderr
    assert "Running upgrade" not in done.stderr


def _first_and(project: Project, **second: str) -> Path:
    write_history(project, "r1")
    return write_history(project, "r2", "r1", **second)


def test_upgrade_names_the_file_with_an_impossible_phase(alembic_project: Project) -> None:
    path = _first_and(alembic_project, marks='phase = "soon"')
    _refused(alembic_project, path, "phase is 'soon'")


def test_upgrade_names_the_file_that_python_cannot_read(alembic_project: Project) -> None:
    path = _first_and(alembic_project)
    _edit(path, "def upgrade():", "def upgrade(:")
    _refused(alembic_project, path, "SyntaxError")


def test_upgrade_names_the_file_that_fails_when_it_is_loaded(alembic_project: Project) -> None:
    path = _first_and(alembic_project)
    _edit(path, "import sqlalchemy as sa", "import sqlalchemy as sa\nwhen = today()")
    _refused(alembic_project, path, "NameError", "today")


def test_upgrade_names_the_file_without_an_upgrade(alembic_project: Project) -> None:
    path = _first_and(alembic_project)
    _edit(path, "def upgrade():", "def upgrad():")
    _refused(alembic_project, path, "upgrade")


def test_upgrade_names_the_revision_that_needs_a_contract_nobody_has(
    alembic_project: Project,
) -> None:
    path = _first_and(alembic_project, marks='needs_contract = "c9"')
    _refused(alembic_project, path, "c9")


def test_upgrade_names_the_contract_file_that_completes_nothing_known(
    alembic_project: Project,
) -> None:
    write_history(alembic_project, "r1")
    path = write_contract(alembic_project, "c1", completes="gone")
    _refused(alembic_project, path, "it completes gone")


@pytest.mark.parametrize("line", ['phase = "contract"', 'completes = "r1"'])
def test_upgrade_names_the_contract_file_that_lost_its_marks(
    alembic_project: Project, line: str
) -> None:
    write_history(alembic_project, "r1")
    path = write_contract(alembic_project, "c1", completes="r1")
    _edit(path, line, "")
    _refused(alembic_project, path, 'needs phase = "contract" and completes')


def test_upgrade_names_the_contract_file_that_python_cannot_read(
    alembic_project: Project,
) -> None:
    write_history(alembic_project, "r1")
    path = write_contract(alembic_project, "c1", completes="r1")
    _edit(path, "def upgrade():", "def upgrade(:")
    _refused(alembic_project, path, "SyntaxError")
