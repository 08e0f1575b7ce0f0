"""Texts that an expression always gives: literals, `||`, `format`, `quote_ident` and their kin."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from alembic_safe.postgres.effects.handlers.names import strings
from alembic_safe.postgres.effects.parsing import parse
from alembic_safe.postgres.identifiers import literal, readable

MAX_TEXT = 1024 * 1024
"""Longer texts are not computed: nested calls of `format` can double a text each time."""

_TEXT_TYPES = frozenset({"text", "varchar", "name", "bpchar"})

_SPECIFIER = re.compile(r"%(?:(\d+)\$)?(-)?(\d+)?([sIL%])")


class NotConstant(ValueError):
    """What the expression gives is only known when it is run."""


def constant_text(expression: str, variables: Mapping[str, str]) -> str:
    """Return the text that an SQL expression gives.

    Args:
        expression: as PL/pgSQL has it, without SELECT.
        variables: the values of variables that are known.

    Raises:
        NotConstant: it depends on what is not known.
    """
    return _value(_only_target(expression), variables)


def constant_texts(expression: str, variables: Mapping[str, str]) -> list[str]:
    """Return the texts of an array expression, `ARRAY['a', 'b']`.

    Raises:
        NotConstant: they depend on what is not known.
    """
    node = _only_target(expression)
    while node.WhichOneof("node") == "type_cast":
        node = node.type_cast.arg
    if node.WhichOneof("node") == "a_array_expr":
        return [_value(element, variables) for element in node.a_array_expr.elements]
    text = _value(node, variables)
    if re.fullmatch(r"\{[\w, ]*\}", text):
        return [part.strip() for part in text[1:-1].split(",") if part.strip()]
    raise NotConstant


def _only_target(expression: str) -> Any:
    statements = parse(f"SELECT {expression}")
    if len(statements) != 1 or statements[0].node_name != "select_stmt":
        raise NotConstant
    select = statements[0].node
    if len(select.target_list) != 1 or select.from_clause:
        raise NotConstant
    return select.target_list[0].res_target.val


def _value(node: Any, variables: Mapping[str, str]) -> str:
    text = _computed(node, variables)
    if len(text) > MAX_TEXT:
        raise NotConstant
    return text


def _computed(node: Any, variables: Mapping[str, str]) -> str:
    kind = node.WhichOneof("node")
    if kind == "a_const" and node.a_const.WhichOneof("val") == "sval":
        return str(node.a_const.sval.sval)
    if kind == "a_const" and node.a_const.WhichOneof("val") == "ival":
        return str(node.a_const.ival.ival)
    if kind == "type_cast" and strings(node.type_cast.type_name.names)[-1] in _TEXT_TYPES:
        if node.type_cast.type_name.typmods:
            raise NotConstant
        return _value(node.type_cast.arg, variables)
    if kind == "column_ref" and len(node.column_ref.fields) == 1:
        name = node.column_ref.fields[0].string.sval
        if name in variables:
            return variables[name]
    if kind == "a_expr" and strings(node.a_expr.name) == ["||"]:
        return _value(node.a_expr.lexpr, variables) + _value(node.a_expr.rexpr, variables)
    if kind == "func_call":
        name = strings(node.func_call.funcname)
        arguments = [_value(argument, variables) for argument in node.func_call.args]
        return _called(name[-1], arguments)
    raise NotConstant


def _called(name: str, arguments: list[str]) -> str:
    if name == "format" and arguments:
        return _formatted(arguments[0], arguments[1:])
    if name in ("quote_ident", "quote_literal") and len(arguments) == 1:
        return readable(arguments[0]) if name == "quote_ident" else literal(arguments[0])
    if name in ("concat", "textcat"):
        return "".join(arguments)
    if name in ("lower", "upper") and len(arguments) == 1 and arguments[0].isascii():
        return arguments[0].lower() if name == "lower" else arguments[0].upper()
    raise NotConstant


def _formatted(pattern: str, arguments: list[str]) -> str:
    """Return what `format()` gives (PostgreSQL documentation, 9.4.1)."""
    position = 0

    def replaced(match: re.Match[str]) -> str:
        nonlocal position
        number, left, width, kind = match.groups()
        if kind == "%":
            return "%"
        position = int(number) if number else position + 1
        if not 1 <= position <= len(arguments):
            raise NotConstant
        value = arguments[position - 1]
        shown = value if kind == "s" else readable(value) if kind == "I" else literal(value)
        if width is None:
            return shown
        if int(width) > MAX_TEXT:
            raise NotConstant
        return shown.ljust(int(width)) if left else shown.rjust(int(width))

    result = _SPECIFIER.sub(replaced, pattern)
    if "%" in _SPECIFIER.sub("", pattern):
        raise NotConstant
    return result
