"""PL/pgSQL as far as it can be read: the statements of a body, on every way through it.

What a body does is the sum over all ways. A statement that stands under a condition may not be
run, so its errors are not certain, and what it changed in a relation is not known any more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from alembic_safe.postgres.effects.handlers.constant_text import (
    NotConstant,
    constant_text,
    constant_texts,
)
from alembic_safe.postgres.effects.handlers.exceptions import catches
from alembic_safe.postgres.effects.handlers.plpgsql_trees import (
    ASSIGNMENT,
    STATEMENTS,
    constant_variables,
    expressions_in,
    may_leave,
    query_of,
    statements_of,
    variables_written,
)
from alembic_safe.postgres.effects.handlers.transactions import end_transaction
from alembic_safe.postgres.effects.model import Effects
from alembic_safe.postgres.effects.parsing import parse_plpgsql
from alembic_safe.postgres.effects.tally import Tally
from alembic_safe.postgres.effects.world import Function, Relation, Transaction
from alembic_safe.postgres.identifiers import QualifiedName, quote

_RAISES_ERROR = 21
"""`elog_level` of RAISE EXCEPTION."""

_MAX_ROUNDS = 50
"""Rounds of a FOREACH over constants that are followed one by one."""

_ASSIGNED = re.compile(r"[^=:]*:?=(.*)", re.S)
"""`variable := expression`, as the parser gives an assignment."""


class _Caught(Exception):
    """An error that the handler of a block catches for certain."""


@dataclass(frozen=True)
class _Place:
    """Where a statement stands.

    Args:
        certain: whether it is run for certain.
        conditions: what the handlers around it catch; names of conditions or SQLSTATEs.
        variables: values of variables that are known.
    """

    certain: bool = True
    conditions: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)


def run_body(definition: str, body: str, tally: Tally) -> None:
    """Note what a DO statement, or a function with its CREATE FUNCTION, does when it is run.

    Args:
        definition: the statement.
        body: what stands in its quotes.
        tally: where to write.

    Raises:
        Refused: it certainly ends in an error.
    """
    try:
        function = parse_plpgsql(definition, body)
    except ValueError as error:
        tally.unknown(f"its body cannot be read: {error}")
        return
    datums = function.get("datums", ())
    can_commit = tally.world.transaction is None
    with _in_transaction(tally):
        reader = _Body(tally, datums, can_commit)
        place = _Place(variables=constant_variables(function))
        for datum in datums:
            reader.evaluate(expressions_in(datum), place)
        action = function.get("action")
        if action:
            reader.run([action], place)


def run_function_body(function: Function, tally: Tally) -> None:
    """Note what a call of a PL/pgSQL function does, by its body.

    Raises:
        Refused: the body certainly ends in an error.
    """
    arguments = ", ".join(f"{quote(name)} text" for name in function.arguments)
    returns = {"trigger": "trigger", "event_trigger": "event_trigger"}.get(function.returns)
    for result in [returns] if returns else ["text", "void", "SETOF text"]:
        definition = (
            f"CREATE FUNCTION f({arguments if not returns else ''}) RETURNS {result}"
            f" LANGUAGE plpgsql AS {dollar_quoted(function.body)}"
        )
        try:
            parse_plpgsql(definition, function.body)
        except ValueError:
            continue
        run_body(definition, function.body, tally)
        return
    tally.unknown(f"the body of {function.name}() cannot be read")


def dollar_quoted(body: str) -> str:
    """Return a text as a dollar-quoted literal."""
    tag = "$body$"
    while tag in body:
        tag = tag[:-1] + "_$"
    return f"{tag}{body}{tag}"


@contextmanager
def _in_transaction(tally: Tally) -> Any:
    """Make the statements inside stand in a transaction block, as those of a function do."""
    world = tally.world
    if world.transaction is not None:
        yield
        return
    world.transaction = Transaction(mark=len(world.journal))
    try:
        yield
    finally:
        end_transaction(world, keep=True)


class _Body:
    """Runs through a body."""

    def __init__(self, tally: Tally, datums: Iterable[Any], can_commit: bool) -> None:
        self.tally = tally
        self.datums = list(datums)
        self.can_commit = can_commit

    def run(self, statements: Iterable[Mapping[str, Any]], place: _Place) -> None:
        """Run statements one after another."""
        for wrapped in statements:
            for kind, statement in statements_of(wrapped):
                read = getattr(self, f"_{kind}", None)
                if read is None:
                    self.tally.unknown(f"{kind.upper()} is not among the statements understood")
                else:
                    read(statement, place)
                if place.certain and may_leave(statement, kind):
                    place = _Place(False, place.conditions, place.variables)

    # Statements with others inside

    def _block(self, statement: Mapping[str, Any], place: _Place) -> None:
        exceptions = statement.get("exceptions", {}).get("PLpgSQL_exception_block")
        if exceptions is None:
            self.run(statement.get("body", ()), place)
            return
        handlers = [item["PLpgSQL_exception"] for item in exceptions.get("exc_list", ())]
        conditions = [
            condition["PLpgSQL_condition"].get("condname", "others")
            for handler in handlers
            for condition in handler.get("conditions", ())
        ]
        mark = len(self.tally.world.journal)
        inside = _Place(place.certain, (*place.conditions, *conditions), place.variables)
        caught = False
        try:
            self.run(statement.get("body", ()), inside)
        except _Caught:
            self.tally.world.undo(mark)
            caught = True
        actions = [handler.get("action", ()) for handler in handlers]
        if caught and len(actions) == 1:
            self.run(actions[0], place)
        else:
            self._branches(actions, place, or_none=True)

    def _if(self, statement: Mapping[str, Any], place: _Place) -> None:
        self.evaluate([statement["cond"]], place)
        branches = [statement.get("then_body", ())]
        for item in statement.get("elsif_list", ()):
            elsif = item["PLpgSQL_if_elsif"]
            self.evaluate([elsif["cond"]], place)
            branches.append(elsif.get("stmts", ()))
        branches.append(statement.get("else_body", ()))
        self._branches(branches, place)

    def _case(self, statement: Mapping[str, Any], place: _Place) -> None:
        self.evaluate([statement[key] for key in ("t_expr",) if key in statement], place)
        branches = []
        for item in statement.get("case_when_list", ()):
            self.evaluate([item["PLpgSQL_case_when"]["expr"]], place)
            branches.append(item["PLpgSQL_case_when"].get("stmts", ()))
        branches.append(statement.get("else_stmts", ()))
        self._branches(branches, place)

    def _loop(self, statement: Mapping[str, Any], place: _Place) -> None:
        self.evaluate(expressions_in({k: v for k, v in statement.items() if k != "body"}), place)
        self._branches([statement.get("body", ())], place, or_none=True)

    _while = _fori = _forc = _loop

    def _fors(self, statement: Mapping[str, Any], place: _Place) -> None:
        self._static(statement["query"], place)
        self._branches([statement.get("body", ())], place, or_none=True)

    def _dynfors(self, statement: Mapping[str, Any], place: _Place) -> None:
        self._dynexecute(statement, place)
        self._branches([statement.get("body", ())], place, or_none=True)

    def _foreach_a(self, statement: Mapping[str, Any], place: _Place) -> None:
        self.evaluate([statement["expr"]], place)
        name = self._variable(statement.get("varno", -1))
        body = statement.get("body", ())
        try:
            values = constant_texts(query_of(statement["expr"]), place.variables)
        except NotConstant:
            values = []
        is_changed = name in variables_written(body, self.datums)
        if name is None or is_changed or not 0 < len(values) <= _MAX_ROUNDS:
            self._branches([body], place, or_none=True)
            return
        for value in values:
            variables = {**place.variables, name: value}
            self.run(body, _Place(place.certain, place.conditions, variables))

    def _branches(
        self,
        branches: list[Iterable[Mapping[str, Any]]],
        place: _Place,
        *,
        or_none: bool = False,
    ) -> None:
        """Run through statements of which only some are run, or none."""
        world = self.tally.world
        mark = len(world.journal)
        inside = _Place(False, place.conditions, place.variables)
        touched: set[QualifiedName] = set()
        for number, branch in enumerate(branches):
            if number:
                world.undo(mark)
            self.run(branch, inside)
            changes = world.journal[mark:]
            touched |= {key for mapping, key, _ in changes if mapping is world.relations}
        for name in touched:
            relation = world.find(name)
            if relation is not None:
                world.put(Relation(name, relation.kind))

    # Statements with SQL inside

    def _execsql(self, statement: Mapping[str, Any], place: _Place) -> None:
        self._static(statement["sqlstmt"], place)

    def _call(self, statement: Mapping[str, Any], place: _Place) -> None:
        self._static(statement["expr"], place)

    _perform = _call

    def _static(self, expression: Mapping[str, Any], place: _Place) -> None:
        for effects in self.tally.inside(query_of(expression)):
            self._absorb(effects, place)

    def _dynexecute(self, statement: Mapping[str, Any], place: _Place) -> None:
        expression = statement["query"]
        self.evaluate([expression, *statement.get("params", ())], place)
        try:
            text = constant_text(query_of(expression), place.variables)
        except NotConstant:
            self.tally.unknown(f"EXECUTE of a text that is computed: {query_of(expression)}")
            return
        for effects in self.tally.inside(text):
            self._absorb(effects, place)

    def evaluate(self, expressions: Iterable[Mapping[str, Any]], place: _Place) -> None:
        """Run expressions; those that only compute a value leave no trace."""
        for expression in expressions:
            text = query_of(expression)
            mode = expression.get("PLpgSQL_expr", {}).get("parseMode", 2)
            if mode == ASSIGNMENT and (match := _ASSIGNED.fullmatch(text)):
                text = match.group(1)
            for effects in self.tally.inside(text if mode == STATEMENTS else f"SELECT {text}"):
                if _does_something(effects):
                    self._absorb(effects, place)

    def _absorb(self, effects: Effects, place: _Place) -> None:
        caught = [error for error in effects.errors if catches(place.conditions, error.sqlstate)]
        is_caught = bool(caught) and len(caught) == len(effects.errors)
        self.tally.absorb(effects, certain=place.certain, caught=is_caught)
        if is_caught and any(error.certain for error in caught) and place.certain:
            raise _Caught

    def _simple(self, statement: Mapping[str, Any], place: _Place) -> None:
        self.evaluate(expressions_in(statement), place)

    _assign = _return = _return_next = _exit = _getdiag = _assert = _simple
    _fetch = _close = _simple

    def _returnquery_of(self, statement: Mapping[str, Any], place: _Place) -> None:
        if "dynquery" in statement:
            self._dynexecute({**statement, "query": statement["dynquery"]}, place)
        elif "query" in statement:
            self._static(statement["query"], place)

    def _open(self, statement: Mapping[str, Any], place: _Place) -> None:
        if "dynquery" in statement:
            self._dynexecute({**statement, "query": statement["dynquery"]}, place)
        else:
            self._simple(statement, place)

    def _raise(self, statement: Mapping[str, Any], place: _Place) -> None:
        self._simple(statement, place)
        if statement.get("elog_level") == _RAISES_ERROR and place.certain:
            if catches(place.conditions, "P0001"):
                raise _Caught
            self.tally.refuse(statement.get("message", "it raises an exception"), "P0001")

    def _commit(self, statement: Mapping[str, Any], place: _Place) -> None:
        """COMMIT or ROLLBACK, which lets go of the locks."""
        tally = self.tally
        tally.details["ends_transaction"] = True
        block = tally.world.transaction
        if not self.can_commit:
            if place.certain and not catches(place.conditions, "2D000"):
                tally.refuse("invalid transaction termination", "2D000")
            tally.may_fail("invalid transaction termination", "2D000")
        elif block is not None:
            block.locks = {}

    _rollback = _commit

    def _variable(self, number: int) -> str | None:
        if not 0 <= number < len(self.datums):
            return None
        name: str | None = self.datums[number].get("PLpgSQL_var", {}).get("refname")
        return name


def _does_something(effects: Effects) -> bool:
    return bool(
        effects.locks
        or effects.unknown
        or effects.errors
        or effects.scans
        or effects.changes
        or effects.children
    )
