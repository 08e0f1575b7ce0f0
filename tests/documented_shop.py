"""A project in which a page of the documentation is played, block by block, as a reader would."""

from __future__ import annotations

import ast
import configparser
import itertools
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conftest import Database
from forked_commands import run_command
from markdown_blocks import Block, Command, commands_of

from alembic_safe.rules.settings import LintSettings, load_lint_settings
from alembic_safe.settings import Settings, load_settings

_DOCUMENTED_URL = re.compile(r"postgresql\+(\w+)://localhost/shop")
"""The database of the pages; a played page has its own in this place."""

_IDENTIFIER = re.compile(r"(?<![0-9a-z])[0-9a-f]{12}(?![0-9a-z])")
_MEASURED = re.compile(r"(?<=pid )\d+|\b\d+\.\d(?= s\b)|(?<=\()\d+ [kMG]B(?=\))")
"""Process identifiers, seconds, and sizes of tables."""
_TEMPLATE_LINES = ('    """Upgrade schema."""\n', '    """Downgrade schema."""\n')
"""Alembic's template has them since 1.14."""


class DocumentedShop:
    """A folder, a database, and the commands `alembic` and `alembic-safe`.

    Args:
        folder: the reader's project.
        database: the reader's database.
    """

    def __init__(self, folder: Path, database: Database) -> None:
        self.folder = folder
        self.database = database
        self.identifiers: dict[str, str] = {}
        """Revision identifiers of the page, and what they are here."""

    def copy(self, folder: Path, database: Database) -> DocumentedShop:
        """Return the same project for another database."""
        shutil.copytree(self.folder, folder)
        other = DocumentedShop(folder, database)
        other.identifiers.update(self.identifiers)
        ini = folder / "alembic.ini"
        ini.write_text(ini.read_text().replace(self.database.url(), database.url()))
        return other

    def play(self, block: Block) -> None:
        """Do what a block says, and compare what it shows."""
        match block.language:
            case "console":
                for command in commands_of(block):
                    self.run(command, block.where)
            case "python":
                self._python(block)
            case "diff":
                self._patch(block)
            case "toml":
                self._toml(block)
            case "ini":
                self._ini(block)
            case "sql":
                self.database.execute(block.text)
            case _:
                raise AssertionError(f"{block.where}: what is to be done with {block.language}?")

    def run(self, command: Command, where: str) -> None:
        """Run a command. It has to fail if its output has a line `FAILED:` or an error that lint
        found, to succeed otherwise, and to print the lines that the page shows, in their order."""
        variables, arguments = _parsed(self._here(command.text))
        status, printed = run_command(arguments, self.folder, {**_inherited(), **variables})
        fails = any(line.startswith("FAILED:") or ": error [" in line for line in command.output)
        told = f"{where}: {command.text}\n{printed}"
        assert (status != 0) == fails, f"it ended with {status}. {told}"
        # A line is wrapped on the page, and Alembic wraps some to the width of the terminal.
        lines = [" ".join(line.split()) for line in printed.splitlines()]
        for wanted in (" ".join(line.split()) for line in command.output):
            while lines and not self._begins(lines, wanted):
                del lines[0]
            assert lines, f"not printed, or not in this order: {wanted!r}. {told}"
            del lines[0]

    def write(self, name: str, source: str) -> None:
        """Put Python definitions into a file: those of the same name are replaced, a class with
        `...` gets what it names in addition to what it has."""
        path = self.folder / name
        here = self._here(source)
        before = path.read_text() if path.exists() else ""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(merged(before, here) if before else here)

    def revision_files(self) -> list[Path]:
        """The revision files of both lines."""
        migrations = self.folder / "migrations"
        return [*migrations.glob("versions/*.py"), *migrations.glob("contracts/*.py")]

    def _python(self, block: Block) -> None:
        name = block.file
        if name is None:
            with _as_a_program_in(self.folder):
                code = compile(self._here(block.text), block.where, "exec")
                exec(code, {"__name__": "documented"})
        elif _IDENTIFIER.search(name) and "down_revision" not in block.body:
            self._compare(block, name)
        else:
            self.write(name, block.body)

    def _compare(self, block: Block, name: str) -> None:
        """Compare a revision file with the parts of it that the page shows between `...`."""
        relative = {str(path.relative_to(self.folder)): path for path in self.revision_files()}
        here = next((path for path in relative if self._same(name, path)), None)
        assert here is not None, f"{block.where}: no such file was generated, only {set(relative)}"
        rest = _without_template_lines(relative[here].read_text())
        for part in _without_template_lines(block.body).split("...\n"):
            place = _mask(rest).find(_mask(part))
            assert place >= 0, f"{block.where}: not so in the file:\n{part}\nIt goes on:\n{rest}"
            shown = rest[place : place + len(part)]
            assert self._same(part, shown), f"{block.where}: another revision:\n{shown}"
            rest = rest[place + len(part) :]

    def _patch(self, block: Block) -> None:
        """Apply a diff; its lines without `+` and `-` have to be there."""
        header, _, text = block.text.partition("\n")
        path = self.folder / header.removeprefix("--- ")
        source = path.read_text()
        for part in text.split("...\n"):
            lines = part.splitlines(keepends=True)
            old = "".join(line[1:] for line in lines if not line.startswith("+"))
            new = "".join(line[1:] for line in lines if not line.startswith("-"))
            assert source.count(old) == 1, f"{block.where}: not once in {path.name}:\n{old}"
            source = source.replace(old, new)
        path.write_text(source)

    def _toml(self, block: Block) -> None:
        path = self.folder / (block.file or "checked.toml")
        path.write_text(self._here(block.body))
        settings = load_settings(keywords={}, x_arguments={}, project_file=path, environment={})
        sets_nothing = settings == Settings() and load_lint_settings(path) == LintSettings()
        assert not sets_nothing, f"{block.where}: it sets nothing"

    def _ini(self, block: Block) -> None:
        """Put the values of a block into `alembic.ini`."""
        path = self.folder / str(block.file)
        whole = configparser.ConfigParser(interpolation=None)
        whole.read_string(path.read_text())
        whole.read_string(self._here(block.body))
        with path.open("w") as file:
            whole.write(file)

    def _here(self, text: str) -> str:
        """Return a text of the page with the revisions and the database of this project."""
        text = _DOCUMENTED_URL.sub(lambda found: self.database.url(found[1]), text)
        return _IDENTIFIER.sub(lambda found: self.identifiers.get(found[0], found[0]), text)

    def _begins(self, lines: list[str], wanted: str) -> bool:
        """Return whether lines begin with a text, which may be several of them."""
        return any(self._same(wanted, " ".join(lines[:count])) for count in range(1, 9))

    def _same(self, shown: str, real: str) -> bool:
        """Return whether two texts are the same but for revision identifiers and measured times;
        an identifier of the page stands for the same revision throughout."""
        if _mask(shown) != _mask(real):
            return False
        pairs = dict(zip(_IDENTIFIER.findall(shown), _IDENTIFIER.findall(real), strict=True))
        if any(self.identifiers.get(name, found) != found for name, found in pairs.items()):
            return False
        self.identifiers.update(pairs)
        return True


@contextmanager
def _as_a_program_in(folder: Path) -> Iterator[None]:
    """Run in a folder, with its modules, and leave nothing of them behind."""
    before, path, modules = Path.cwd(), list(sys.path), set(sys.modules)
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
        sys.path[:] = path
        for name in set(sys.modules) - modules:
            file = getattr(sys.modules[name], "__file__", None)
            if file is not None and Path(file).is_relative_to(folder):
                del sys.modules[name]


def merged(before: str, source: str) -> str:
    """Return a module with the definitions of another in place of its own.

    Args:
        before: the module.
        source: imports, assignments, functions and classes.
    """
    module, addition = ast.parse(before), ast.parse(source)
    for node in addition.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            is_future = isinstance(node, ast.ImportFrom) and node.module == "__future__"
            if not is_future:
                module.body.insert(_imports_begin(module), node)
            continue
        names = _names_of(node)
        same = next((n for n, old in enumerate(module.body) if _names_of(old) == names), None)
        if same is None:
            module.body.append(node)
        else:
            module.body[same] = _combined(module.body[same], node)
    return ast.unparse(module) + "\n"


def _imports_begin(module: ast.Module) -> int:
    for place, node in enumerate(module.body):
        if isinstance(node, ast.Import):
            return place
        if isinstance(node, ast.ImportFrom) and node.module != "__future__":
            return place
    return 0


def _names_of(node: ast.stmt) -> tuple[str, ...]:
    match node:
        case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
            return (node.name,)
        case ast.AnnAssign():
            return (ast.unparse(node.target),)
        case ast.Assign():
            return tuple(ast.unparse(target) for target in node.targets)
        case _:
            return (ast.unparse(node),)


def _combined(old: ast.stmt, new: ast.stmt) -> ast.stmt:
    if not isinstance(old, ast.ClassDef) or not isinstance(new, ast.ClassDef):
        return new
    given = [node for node in new.body if ast.unparse(node) != "..."]
    if len(given) == len(new.body):
        return new
    names = {_names_of(node) for node in given}
    new.body = [*(node for node in old.body if _names_of(node) not in names), *given]
    return new


def _mask(text: str) -> str:
    # As long as an identifier, so that places in the masked text are places in the text.
    return _MEASURED.sub("N", _IDENTIFIER.sub("<revision-->", text))


def _without_template_lines(text: str) -> str:
    for line in _TEMPLATE_LINES:
        text = text.replace(line, "")
    return text


def _parsed(command: str) -> tuple[dict[str, str], list[str]]:
    """Return the variables in front of a command, and the command."""
    words = shlex.split(command)
    variables = list(itertools.takewhile(re.compile(r"[A-Z_]+=").match, words))
    return dict(word.split("=", 1) for word in variables), words[len(variables) :]


def _inherited() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if "ALEMBIC" not in name}
